#include "dialogue_internal.h"

#include "llm_router/base/utf8.h"

enum {
    ECHO_MAX = 64 * 1024, /* bytes of an answer that is sent back */
    BYTES_PER_TOKEN = 4,
    MARGIN_TOKENS = 64, /* of the frame around a chat's messages */
};

static const struct talk *const talks[OPERATION_COUNT] = {
    [OP_GENERATE_TASK] = &planning_talk,
    [OP_PARSE_PRD] = &planning_talk,
    [OP_EXPAND_TASK] = &planning_talk,
    [OP_ANALYZE_COMPLEXITY] = &complexity_talk,
    [OP_RESEARCH] = &research_talk,
    [OP_CALL] = &call_talk,
    [OP_CALL_WITH_PROMPT] = &call_talk,
    [OP_CALL_WITH_SYSTEM] = &call_talk,
    [OP_CALL_WITH_SCRIPT] = &call_talk,
    [OP_ROUTE] = &call_talk,
    [OP_ROUTE_COMPLETION] = &call_talk,
    [OP_STREAM] = &call_talk,
    [OP_EMBED] = &embed_talk,
};

struct dialogue *dialogue_begin(struct arena *arena,
                                const struct request *request,
                                const struct prompts *prompts,
                                const struct dialogue_room *room,
                                struct error *err)
{
    struct dialogue *d = arena_alloc(arena, sizeof(*d));
    const struct options *options = &request->options;

    error_clear(err);
    *d = (struct dialogue){
        .arena = arena,
        .request = request,
        .prompts = prompts,
        .room = *room,
        .talk = talks[request->operation],
        .chat = {.max_tokens = options->max_tokens,
                 .temperature = options->temperature,
                 .top_p = options->top_p,
                 .has_seed = options->has_seed,
                 .seed = options->seed,
                 .effort = options->effort,
                 .api_version = options->api_version,
                 .store = options->store},
    };
    if (!d->talk) {
        error_set(err, ERR_INVALID_REQUEST, "asks no model");
        return NULL;
    }
    return d->talk->begin(d, err) ? d : NULL;
}

const struct chat *dialogue_chat(const struct dialogue *dialogue)
{
    return &dialogue->chat;
}

const struct result *dialogue_result(const struct dialogue *dialogue)
{
    return &dialogue->result;
}

bool dialogue_shrink(struct dialogue *dialogue)
{
    return dialogue->talk->shrink && dialogue->talk->shrink(dialogue);
}

static bool declined(const struct completion *completion, struct error *err)
{
    if (completion->refusal.size > 0 || completion->finish == FINISH_REFUSAL)
        error_set(err, ERR_REFUSED, "the model declined to answer");
    else if (completion->finish == FINISH_CONTENT_FILTER)
        error_set(err, ERR_CONTENT_FILTERED,
                  "the provider's content filter stopped the answer");
    return err->code != ERR_NONE;
}

static enum dialogue_step give_up(struct dialogue *d, const struct error *err)
{
    return d->talk->give_up ? d->talk->give_up(d, err) : DIALOGUE_FAIL;
}

enum dialogue_step dialogue_answer(struct dialogue *dialogue,
                                   const struct completion *completion,
                                   struct error *err)
{
    error_clear(err);
    if (declined(completion, err))
        return give_up(dialogue, err);
    dialogue->result.finish = completion->finish;
    dialogue->result.response_id =
        arena_copy(dialogue->arena, completion->response_id);
    return dialogue->talk->answer(dialogue, completion,
                                  arena_copy(dialogue->arena, completion->text),
                                  err);
}

void talk_ask(struct dialogue *d, struct slice system, struct slice user)
{
    struct message *messages = arena_array(d->arena, 2, sizeof(*messages));
    struct slice language = d->request->options.language;

    if (language.size > 0)
        system = prompt_fill(
            d->arena, SLICE_LITERAL("{{system}}\n{{language}}"),
            (const struct prompt_variable[]){
                {"system", system},
                {"language",
                 prompt_fill(d->arena, d->prompts->language,
                             &(struct prompt_variable){"language", language},
                             1)},
            },
            2);
    messages[0] = (struct message){.role = ROLE_SYSTEM, .content = system};
    messages[1] = (struct message){.role = ROLE_USER, .content = user};
    d->chat.messages = messages;
    d->chat.message_count = d->question_count = 2;
    d->continuations = 0;
    d->repaired = false;
}

void talk_expect(struct dialogue *d, const char *name, struct slice schema)
{
    d->chat.schema = schema;
    d->chat.schema_name = slice_of(name);
    d->chat.schema_strict = true; /* by prompts_check */
}

enum dialogue_step talk_follow_up(struct dialogue *d, size_t keep,
                                  struct slice answer, struct slice question)
{
    struct message *messages =
        arena_array(d->arena, keep + 2, sizeof(*messages));
    size_t count = keep;

    memcpy(messages, d->chat.messages, keep * sizeof(*messages));
    /* Providers refuse empty messages. */
    if (slice_trim(answer).size > 0)
        messages[count++] = (struct message){
            .role = ROLE_ASSISTANT, .content = utf8_cut(answer, ECHO_MAX)};
    messages[count++] =
        (struct message){.role = ROLE_USER, .content = question};
    d->chat.messages = messages;
    d->chat.message_count = count;
    return DIALOGUE_ASK;
}

enum dialogue_step talk_repair(struct dialogue *d, struct slice answer,
                               struct slice fault, const struct error *err)
{
    if (d->repaired)
        return give_up(d, err);
    d->repaired = true;
    warnings_add(&d->result.warnings, d->arena, "asked again: %.*s",
                 SLICE_ARG(fault));
    return talk_follow_up(d, d->chat.message_count, answer,
                          prompt_fill(d->arena, d->prompts->repair,
                                      &(struct prompt_variable){"fault", fault},
                                      1));
}

enum dialogue_step talk_repair_fault(struct dialogue *d, struct slice answer,
                                     const struct error *err)
{
    return talk_repair(d, answer,
                       arena_printf(d->arena, "%s%s%s", err->path,
                                    err->path[0] != '\0' ? ": " : "",
                                    err->message),
                       err);
}

/* The answer's share is what the caller or the model allows, but a quarter of
 * the context at most unless the caller wants more. */
int64_t talk_room(const struct dialogue *d, size_t overhead)
{
    int64_t context = d->room.context_tokens;
    int64_t answer = d->request->options.max_tokens;
    int64_t left;

    if (context < 0)
        return INT64_MAX;
    if (answer == 0)
        answer = context / 4;
    if (d->request->options.max_tokens == 0 && d->room.max_output_tokens >= 0 &&
        d->room.max_output_tokens < answer)
        answer = d->room.max_output_tokens;
    left = context - (int64_t)(overhead / BYTES_PER_TOKEN) - MARGIN_TOKENS;
    return left > answer ? left - answer : 0;
}
