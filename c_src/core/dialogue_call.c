/* Calls with the caller's own messages, and texts to embed. */
#include "dialogue_internal.h"

#include <math.h>
#include <stdio.h>

#include "llm_router/core/answer.h"
#include "llm_router/core/schema.h"

enum { SCHEMA_MAX = 1024 * 1024 /* bytes of a caller's schema */ };

/* What the caller's messages do not say: the schema and the language. Empty
 * when there is nothing to add. */
static struct slice instructions(const struct dialogue *d, struct slice schema)
{
    struct slice language = d->request->options.language;
    bool both = schema.size > 0 && language.size > 0;

    if (schema.size > 0)
        schema = prompt_fill(d->arena, d->prompts->object,
                             &(struct prompt_variable){"schema", schema}, 1);
    if (language.size > 0)
        language =
            prompt_fill(d->arena, d->prompts->language,
                        &(struct prompt_variable){"language", language}, 1);
    if (!both)
        return schema.size > 0 ? schema : language;
    return prompt_fill(d->arena, SLICE_LITERAL("{{language}}\n{{schema}}"),
                       (const struct prompt_variable[]){{"language", language},
                                                        {"schema", schema}},
                       2);
}

/* Into the caller's own system message, as many models take only one. */
static void instruct(struct dialogue *d, struct slice instruction)
{
    const struct request *request = d->request;
    size_t has_system = request->messages[0].role == ROLE_SYSTEM;
    size_t count = request->message_count + 1 - has_system;
    struct message *messages = arena_array(d->arena, count, sizeof(*messages));

    if (has_system)
        instruction = prompt_fill(
            d->arena, SLICE_LITERAL("{{system}}\n\n{{instruction}}"),
            (const struct prompt_variable[]){
                {"system", request->messages[0].content},
                {"instruction", instruction}},
            2);
    messages[0] = (struct message){.role = ROLE_SYSTEM, .content = instruction};
    for (size_t i = 1; i < count; i++)
        messages[i] = request->messages[i - 1 + has_system];
    d->chat.messages = messages;
    d->chat.message_count = count;
}

/* The schema goes out in its strict form where it has one; the prompt shows it
 * as the caller wrote it, with the limits that it then must keep. */
static bool expect_schema(struct dialogue *d, struct slice *written,
                          struct error *err)
{
    const struct jv *schema = d->request->options.schema;
    struct buf buf;

    buf_init(&buf, SCHEMA_MAX);
    jv_put(&buf, schema);
    if (buf.failed) {
        buf_release(&buf);
        return error_at(err, ERR_TOO_LARGE, "opts.schema",
                        "over %d bytes as JSON", SCHEMA_MAX);
    }
    *written = arena_keep(d->arena, &buf);
    d->chat.schema = *written;
    d->chat.schema_name = SLICE_LITERAL("answer");
    d->chat.schema_strict = schema_is_strict(schema) ||
                            schema_strictify(d->arena, schema, &d->chat.schema);
    return true;
}

/* What a tool says is the answer to a call that was made before, here or in
 * the answer that is gone on from. */
static bool check_answers(const struct request *request, struct error *err)
{
    bool asked = request->options.previous_response_id.size > 0;
    char path[48];

    for (size_t i = 0; i < request->message_count && !asked; i++) {
        asked = request->messages[i].tool_call_count > 0;
        if (request->messages[i].role != ROLE_TOOL)
            continue;
        snprintf(path, sizeof(path), "messages[%zu].tool_call_id", i);
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "no message before it has tool calls");
    }
    return true;
}

static bool begin_call(struct dialogue *d, struct error *err)
{
    const struct request *request = d->request;
    const struct options *options = &request->options;
    struct slice schema = slice_of(NULL), instruction;

    if (request->message_count == 0)
        return error_at(err, ERR_INVALID_REQUEST, "messages",
                        "must not be empty");
    if (!check_answers(request, err))
        return false;
    if (options->schema && !expect_schema(d, &schema, err))
        return false;
    d->chat.messages = request->messages;
    d->chat.message_count = request->message_count;
    d->chat.stops = options->stops;
    d->chat.stop_count = options->stop_count;
    d->chat.tools = options->tools;
    d->chat.tool_count = options->tool_count;
    d->chat.tool_choice = options->tool_choice;
    d->chat.tool_name = options->tool_name;
    d->chat.previous_response_id = options->previous_response_id;
    d->chat.mcp_servers = options->mcp_servers;
    instruction = instructions(d, schema);
    if (instruction.size > 0)
        instruct(d, instruction);
    d->question_count = d->chat.message_count;
    /* What was streamed cannot be taken back. */
    d->repaired = request->operation == OP_STREAM;
    return true;
}

static void take_tool_calls(struct dialogue *d,
                            const struct completion *completion)
{
    size_t count = completion->tool_call_count;
    struct tool_call *calls = arena_array(d->arena, count, sizeof(*calls));

    for (size_t i = 0; i < count; i++) {
        const struct tool_call *call = &completion->tool_calls[i];

        calls[i] = (struct tool_call){
            .id = arena_copy(d->arena, call->id),
            .name = arena_copy(d->arena, call->name),
            .arguments = arena_copy(d->arena, call->arguments),
        };
    }
    d->result.tool_calls = calls;
    d->result.tool_call_count = count;
    d->result.finish = FINISH_TOOL_CALLS;
}

/* As it came, or without the nulls that stand for what is left out. */
static bool take_object(struct dialogue *d, const struct jv *object,
                        struct error *err)
{
    const struct jv *schema = d->request->options.schema;
    const struct jv *whole = object;

    if (!schema_fit(d->arena, schema, &whole, err))
        return false;
    if (whole != object && !d->chat.schema_strict)
        warnings_add(&d->result.warnings, d->arena,
                     "null left out where a property is optional");
    d->result.object = whole;
    return true;
}

static enum dialogue_step answer_object(struct dialogue *d, struct slice answer,
                                        struct error *err)
{
    bool cut;
    const struct jv *object = answer_find_json(d->arena, answer, &cut);

    if (!object)
        error_set(err, ERR_INVALID_OUTPUT, "the answer holds no JSON");
    else if (cut)
        error_set(err, ERR_INVALID_OUTPUT, "the JSON of the answer is cut");
    else if (take_object(d, object, err))
        return DIALOGUE_DONE;
    return talk_repair_fault(d, answer, err);
}

/* Calls of tools come before the object: the caller is to answer them. */
static enum dialogue_step answer_call(struct dialogue *d,
                                      const struct completion *completion,
                                      struct slice answer, struct error *err)
{
    d->result.text = answer;
    if (completion->tool_call_count > 0) {
        take_tool_calls(d, completion);
        return DIALOGUE_DONE;
    }
    return d->request->options.schema ? answer_object(d, answer, err)
                                      : DIALOGUE_DONE;
}

const struct talk call_talk = {.begin = begin_call, .answer = answer_call};

/* Gemini takes 100 texts at once, OpenAI 300,000 tokens; and what comes back is
 * to fit into one answer. */
enum { BATCH_TEXTS = 100, BATCH_BYTES = 512 * 1024 };

/* The texts from `start` on that go into one question: one at least. */
static size_t batch_size(const struct request *request, size_t start)
{
    size_t bytes = 0, end = start;

    while (end < request->text_count && end - start < BATCH_TEXTS) {
        size_t size = request->texts[end].size;

        if (end > start && size > BATCH_BYTES - bytes)
            break;
        bytes += size < BATCH_BYTES ? size : BATCH_BYTES;
        end++;
    }
    return end - start;
}

static void ask_batch(struct dialogue *d)
{
    size_t start = d->result.embedding_count;

    d->chat.inputs = d->request->texts + start;
    d->chat.input_count = batch_size(d->request, start);
}

static bool begin_embed(struct dialogue *d, struct error *err)
{
    size_t count = d->request->text_count;

    if (count == 0)
        return error_at(err, ERR_INVALID_REQUEST, "texts", "must not be empty");
    d->chat = (struct chat){.temperature = NAN, .top_p = NAN};
    d->embeddings = arena_array(d->arena, count, sizeof(*d->embeddings));
    d->result.embeddings = d->embeddings;
    ask_batch(d);
    return true;
}

static struct embedding copy_embedding(struct arena *arena,
                                       const struct embedding *embedding)
{
    size_t count = embedding->count;
    struct embedding copy = {
        .values = arena_array(arena, count, sizeof(*copy.values)),
        .count = count,
    };

    if (count > 0)
        memcpy(copy.values, embedding->values, count * sizeof(*copy.values));
    return copy;
}

static enum dialogue_step answer_embed(struct dialogue *d,
                                       const struct completion *completion,
                                       struct slice answer, struct error *err)
{
    size_t count = completion->embedding_count;

    (void)answer;
    if (count != d->chat.input_count) {
        error_set(err, ERR_BAD_RESPONSE,
                  "the provider gave %zu embeddings for %zu texts", count,
                  d->chat.input_count);
        return DIALOGUE_FAIL;
    }
    for (size_t i = 0; i < count; i++)
        d->embeddings[d->result.embedding_count++] =
            copy_embedding(d->arena, &completion->embeddings[i]);
    if (d->result.embedding_count == d->request->text_count)
        return DIALOGUE_DONE;
    ask_batch(d);
    return DIALOGUE_ASK;
}

const struct talk embed_talk = {.begin = begin_embed, .answer = answer_embed};
