/* Google Gemini:
 * https://generativelanguage.googleapis.com/v1beta/models/ID:METHOD.
 *
 * The key goes into a header, never into the address. A stream is a series of
 * whole answers, each with the parts that are new; servers between us and
 * Google may send them as one JSON array. */

#include <inttypes.h>

#include "provider/dialects_internal.h"
#include "provider/turns_internal.h"

/* The request. */

/* Tuned models are named with their collection. Sets `id` to what is behind
 * it. */
static const char *collection_of(struct slice model, struct slice *id)
{
    static const char *const names[] = {"models/", "tunedModels/"};

    *id = model;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t size = strlen(names[i]);

        if (slice_starts_with(model, names[i])) {
            *id = slice_make(model.data + size, model.size - size);
            return names[i];
        }
    }
    return names[0];
}

/* "/v1beta/models/ID:METHOD". The id is one segment, whatever is in it. */
static const char *path_of(const struct question *question, struct arena *arena)
{
    struct slice base = question->endpoint->base_url, id;
    const char *collection = collection_of(question->candidate->model, &id);
    bool has_version =
        url_ends_with(base, "/v1beta") || url_ends_with(base, "/v1");

    return arena_printf(arena, "%s/%s%s%s", has_version ? "" : "/v1beta",
                        collection, url_escape(arena, id),
                        question_embeds(question)
                            ? ":batchEmbedContents"
                            : ":streamGenerateContent?alt=sse")
        .data;
}

static bool address(const struct question *question, struct arena *arena,
                    struct provider_request *request, struct error *err)
{
    const struct endpoint *endpoint = question->endpoint;

    return turns_check_answers(question->chat, err) &&
           request_set_url(arena, request, endpoint->base_url,
                           path_of(question, arena), err) &&
           request_add_json_headers(arena, request, err) &&
           request_add_header(arena, request,
                              "x-goog-api-key: ", endpoint->api_key, err);
}

/* Models of late want back the signature of the thoughts that led to a call,
 * which is of no use to a caller and would not outlive a fallback. This is
 * Google's documented stand-in for calls from elsewhere; it belongs to the
 * first one of a turn. */
static const char SIGNATURE[] =
    ",\"thoughtSignature\":\"skip_thought_signature_validator\"}";

static void put_calls(struct buf *body, const struct message *message)
{
    for (size_t i = 0; i < message->tool_call_count; i++) {
        const struct tool_call *call = &message->tool_calls[i];

        if (i > 0 || message->content.size > 0)
            buf_append_byte(body, ',');
        buf_append_text(body, "{\"functionCall\":{\"id\":");
        jv_put_string(body, call->id);
        buf_append_text(body, ",\"name\":");
        jv_put_string(body, call->name);
        buf_append_text(body, ",\"args\":");
        buf_append_slice(body, call->arguments);
        buf_append_byte(body, '}');
        buf_append_text(body, i == 0 ? SIGNATURE : "}");
    }
}

static void put_answer(struct buf *body, const struct chat *chat,
                       const struct message *message)
{
    buf_append_text(body, "{\"functionResponse\":{\"id\":");
    jv_put_string(body, message->tool_call_id);
    buf_append_text(body, ",\"name\":");
    jv_put_string(body, answered_tool(chat, message));
    buf_append_text(body, ",\"response\":{\"output\":");
    jv_put_string(body, message->content);
    buf_append_text(body, "}}}");
}

static void put_parts(struct buf *body, const struct chat *chat,
                      const struct message *message)
{
    if (message->role == ROLE_TOOL) {
        put_answer(body, chat, message);
        return;
    }
    if (message->content.size > 0) {
        buf_append_text(body, "{\"text\":");
        jv_put_string(body, message->content);
        buf_append_byte(body, '}');
    }
    put_calls(body, message);
}

static const struct turn_words words = {
    .user = "user",
    .assistant = "model",
    .parts = "parts",
    .put_parts = put_parts,
};

static void put_tool(struct buf *body, const struct tool *tool)
{
    buf_append_text(body, "{\"name\":");
    jv_put_string(body, tool->name);
    if (tool->description.size > 0) {
        buf_append_text(body, ",\"description\":");
        jv_put_string(body, tool->description);
    }
    if (tool->parameters.size > 0) {
        buf_append_text(body, ",\"parametersJsonSchema\":");
        buf_append_slice(body, tool->parameters);
    }
    buf_append_byte(body, '}');
}

static void put_choice(struct buf *body, enum tool_choice choice,
                       struct slice name)
{
    static const char *const modes[] = {
        [TOOL_CHOICE_AUTO] = "AUTO",
        [TOOL_CHOICE_NONE] = "NONE",
        [TOOL_CHOICE_REQUIRED] = "ANY",
        [TOOL_CHOICE_NAMED] = "ANY",
    };

    if (choice == TOOL_CHOICE_UNSET)
        return;
    buf_append_text(body, ",\"toolConfig\":{\"functionCallingConfig\":"
                          "{\"mode\":\"");
    buf_append_text(body, modes[choice]);
    buf_append_byte(body, '"');
    if (choice == TOOL_CHOICE_NAMED) {
        buf_append_text(body, ",\"allowedFunctionNames\":[");
        jv_put_string(body, name);
        buf_append_byte(body, ']');
    }
    buf_append_text(body, "}}");
}

static void put_tools(struct buf *body, const struct question *question)
{
    struct tool_offer offer;

    question_tools(question, &offer);
    if (offer.count == 0)
        return;
    for (size_t i = 0; i < offer.count; i++) {
        buf_append_text(
            body, i > 0 ? "," : ",\"tools\":[{\"functionDeclarations\":[");
        put_tool(body, &offer.tools[i]);
    }
    buf_append_text(body, "]}]");
    put_choice(body, offer.choice, offer.choice_name);
}

/* Thoughts are asked for where there are some, because without them a model
 * that thinks is silent for minutes. */
static void put_thinking(struct buf *body, enum effort effort)
{
    static const char *const levels[] = {
        [EFFORT_MINIMAL] = "MINIMAL", [EFFORT_LOW] = "LOW",
        [EFFORT_MEDIUM] = "MEDIUM",   [EFFORT_HIGH] = "HIGH",
        [EFFORT_XHIGH] = "HIGH",      [EFFORT_MAX] = "HIGH",
    };

    if (effort == EFFORT_UNSET)
        return;
    buf_append_text(body, ",\"thinkingConfig\":{");
    if (effort == EFFORT_NONE) {
        buf_append_text(body, "\"thinkingBudget\":0}");
        return;
    }
    buf_append_text(body, "\"thinkingLevel\":\"");
    buf_append_text(body, levels[effort]);
    buf_append_text(body, "\",\"includeThoughts\":true}");
}

/* Models refuse JSON as the answer's type beside tools: then the schema is
 * only in the prompt. */
static void put_schema(struct buf *body, const struct question *question)
{
    const struct chat *chat = question->chat;
    enum structured_mode mode = question_structured(question->candidate, chat);

    if (chat->tool_count > 0 ||
        (mode != STRUCTURED_SCHEMA && mode != STRUCTURED_JSON))
        return;
    buf_append_text(body, ",\"responseMimeType\":\"application/json\"");
    if (mode == STRUCTURED_SCHEMA) {
        buf_append_text(body, ",\"responseJsonSchema\":");
        buf_append_slice(body, chat->schema);
    }
}

static void put_config(struct buf *body, const struct question *question)
{
    const struct chat *chat = question->chat;

    buf_append_text(body, ",\"generationConfig\":{\"candidateCount\":1");
    put_count_member(body, "maxOutputTokens", chat->max_tokens);
    if (question_samples(question)) {
        put_number_member(body, "temperature", chat->temperature);
        put_number_member(body, "topP", chat->top_p);
    }
    put_texts_member(body, "stopSequences", chat->stops, chat->stop_count);
    if (chat->has_seed)
        buf_printf(body, ",\"seed\":%" PRId64, chat->seed);
    put_thinking(body, question_effort(question));
    put_schema(body, question);
    buf_append_byte(body, '}');
}

static void put_chat(const struct question *question, struct buf *body)
{
    const struct chat *chat = question->chat;

    buf_append_text(body, "{\"contents\":");
    put_turns(body, chat, &words);
    if (turns_have_system(chat)) {
        buf_append_text(body, ",\"systemInstruction\":{\"parts\":");
        put_system_parts(body, chat, &words);
        buf_append_byte(body, '}');
    }
    put_tools(body, question);
    put_config(body, question);
    buf_append_byte(body, '}');
}

static void put_embedding(const struct question *question, struct buf *body)
{
    const struct chat *chat = question->chat;
    struct slice id;
    const char *collection = collection_of(question->candidate->model, &id);

    for (size_t i = 0; i < chat->input_count; i++) {
        buf_append_text(body, i > 0 ? ",{\"model\":\""
                                    : "{\"requests\":[{\"model\":\"");
        buf_append_text(body, collection);
        buf_append_slice(body, id); /* its characters need no escape */
        buf_append_text(body, "\",\"content\":{\"parts\":[{\"text\":");
        jv_put_string(body, chat->inputs[i]);
        buf_append_text(body, "}]}}");
    }
    buf_append_text(body, "]}");
}

/* The answer. */

struct state {
    int64_t calls; /* so far; each comes whole, and in order */
};

/* The format leaves out what is 0. */
static int64_t count_of(const struct jv *counts, const char *key)
{
    return jv_find(counts, key) ? count_find(counts, key) : 0;
}

static void read_usage(struct reader *reader, const struct jv *counts)
{
    struct usage *usage = reader_usage(reader);
    int64_t prompt = count_find(counts, "promptTokenCount");
    int64_t thoughts = count_of(counts, "thoughtsTokenCount");

    if (prompt < 0)
        return;
    usage->input_tokens =
        count_sum(prompt, count_of(counts, "toolUsePromptTokenCount"));
    usage->cached_tokens = count_of(counts, "cachedContentTokenCount");
    if (usage->cached_tokens > usage->input_tokens)
        usage->cached_tokens = -1;
    usage->output_tokens =
        count_sum(count_of(counts, "candidatesTokenCount"), thoughts);
    usage->reasoning_tokens = usage->output_tokens < 0 ? -1 : thoughts;
    usage->total_tokens = count_sum(usage->input_tokens, usage->output_tokens);
}

/* Calls without an id are answered by their name and order. */
static void read_call(struct reader *reader, const struct jv *call)
{
    struct state *state = reader_state(reader);
    int64_t key = state->calls++;

    reader_call(reader, key, jv_string(jv_find(call, "id")),
                jv_string(jv_find(call, "name")));
    reader_set_arguments(reader, key, jv_find(call, "args"));
}

static void read_part(struct reader *reader, const struct jv *part)
{
    struct slice text = jv_string(jv_find(part, "text"));
    const struct jv *call = jv_find(part, "functionCall");

    if (call)
        read_call(reader, call);
    else if (!jv_boolean(jv_find(part, "thought"), false))
        reader_add_text(reader, text);
    else if (text.size > 0)
        reader_note_progress(reader);
}

static const struct finish_word finishes[] = {
    {"MAX_TOKENS", FINISH_LENGTH},
    {"CONTINUATION", FINISH_LENGTH},
    {"SAFETY", FINISH_CONTENT_FILTER},
    {"RECITATION", FINISH_CONTENT_FILTER},
    {"LANGUAGE", FINISH_CONTENT_FILTER},
    {"BLOCKLIST", FINISH_CONTENT_FILTER},
    {"PROHIBITED_CONTENT", FINISH_CONTENT_FILTER},
    {"SPII", FINISH_CONTENT_FILTER},
    {"MODEL_ARMOR", FINISH_CONTENT_FILTER},
    {"IMAGE_SAFETY", FINISH_CONTENT_FILTER},
    {"IMAGE_PROHIBITED_CONTENT", FINISH_CONTENT_FILTER},
    {"IMAGE_RECITATION", FINISH_CONTENT_FILTER},
};

/* The model wrote a call that is none; the next try is often better. */
static bool is_broken_call(struct slice reason)
{
    static const char *const reasons[] = {
        "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"};

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (slice_is(reason, reasons[i]))
            return true;
    return false;
}

static bool read_finish(struct reader *reader, struct slice reason)
{
    if (reason.size == 0 || slice_is(reason, "FINISH_REASON_UNSPECIFIED"))
        return true;
    if (is_broken_call(reason))
        return reader_fail_bad(reader, "the model's tool call is malformed");
    reader_finish(
        reader,
        finish_find(finishes, sizeof(finishes) / sizeof(finishes[0]), reason));
    return true;
}

static bool read_candidate(struct reader *reader, const struct jv *candidate)
{
    const struct jv *parts = jv_find(jv_find(candidate, "content"), "parts");

    for (size_t i = 0; i < jv_count(parts); i++)
        read_part(reader, jv_at(parts, i));
    return read_finish(reader, jv_string(jv_find(candidate, "finishReason")));
}

/* A prompt that is blocked has no candidates. */
static void read_block(struct reader *reader, const struct jv *feedback)
{
    struct slice reason = jv_string(jv_find(feedback, "blockReason"));

    if (reason.size > 0 && !slice_is(reason, "BLOCK_REASON_UNSPECIFIED"))
        reader_finish(reader, FINISH_CONTENT_FILTER);
}

static bool read_answer(struct reader *reader, const struct jv *answer)
{
    const struct jv *candidates = jv_find(answer, "candidates");

    reader_set_model(reader, jv_string(jv_find(answer, "modelVersion")));
    read_usage(reader, jv_find(answer, "usageMetadata"));
    read_block(reader, jv_find(answer, "promptFeedback"));
    for (size_t i = 0; i < jv_count(candidates); i++) {
        const struct jv *candidate = jv_at(candidates, i);

        if (jv_integer(jv_find(candidate, "index"), 0) == 0 &&
            !read_candidate(reader, candidate))
            return false;
    }
    return true;
}

static bool read_event(struct reader *reader, struct slice name,
                       const struct jv *event)
{
    (void)name; /* events have none */
    return read_answer(reader, event);
}

static bool has_answer(const struct jv *document)
{
    return jv_count(jv_find(document, "candidates")) > 0 ||
           jv_find(document, "promptFeedback");
}

static bool read_document(struct reader *reader, const struct jv *document)
{
    if (document->type == JV_ARRAY)
        return reader_read_list(reader, document);
    if (!has_answer(document))
        return reader_fail_bad(reader, "the answer has no candidates");
    return read_answer(reader, document);
}

static bool read_embeddings(struct reader *reader, const struct jv *document)
{
    const struct jv *list = jv_find(document, "embeddings");

    read_usage(reader, jv_find(document, "usageMetadata"));
    for (size_t i = 0; i < jv_count(list); i++)
        if (!reader_add_embedding(reader, (int64_t)i,
                                  jv_find(jv_at(list, i), "values")))
            return false;
    return true;
}

const struct dialect dialect_gemini = {
    .name = "gemini",
    .stream = STREAM_EVENTS,
    .state_size = sizeof(struct state),
    .address = address,
    .put_chat = put_chat,
    .put_embedding = put_embedding,
    .read_event = read_event,
    .read_document = read_document,
    .read_embeddings = read_embeddings,
};
