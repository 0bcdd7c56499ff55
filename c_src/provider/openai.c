/* OpenAI chat completions: https://api.openai.com/v1/chat/completions and the
 * many servers that speak the same (vLLM, llama.cpp, Ollama's /v1,
 * OpenRouter, ...).
 *
 * Always asks for a stream, but takes what comes: a stream, a whole answer, an
 * error in either. Of several choices the first is read. */

#include <math.h>

#include "llm_router/provider/sse.h"
#include "provider/dialects_internal.h"

enum {
    REQUEST_BODY_MAX = 64 * 1024 * 1024,
    ERROR_BODY_MAX = 64 * 1024,
    EVENT_MAX = PROVIDER_ANSWER_MAX,
    MODEL_NAME_MAX = 128,
    /* Tokens above this are a broken counter. */
    TOKENS_MAX = 1000000000,
};

/* The request. */

/* OpenAI's reasoning models refuse max_tokens, and many compatible servers do
 * not know its successor. */
static const char *max_tokens_key(struct slice base_url)
{
    return slice_starts_with(base_url, "https://api.openai.com/")
               ? "max_completion_tokens"
               : "max_tokens";
}

static void put_messages(struct buf *body, const struct chat *chat)
{
    buf_append_text(body, ",\"messages\":[");
    for (size_t i = 0; i < chat->message_count; i++) {
        const struct message *message = &chat->messages[i];

        buf_append_text(body, i > 0 ? ",{\"role\":\"" : "{\"role\":\"");
        buf_append_text(body, role_name(message->role));
        buf_append_text(body, "\",\"content\":");
        jv_put_string(body, message->content);
        buf_append_byte(body, '}');
    }
    buf_append_byte(body, ']');
}

static void put_schema(struct buf *body, const struct chat *chat)
{
    buf_append_text(body, ",\"response_format\":{\"type\":\"json_schema\","
                          "\"json_schema\":{\"name\":");
    jv_put_string(body, chat->schema_name);
    buf_append_text(body, ",\"schema\":");
    buf_append_slice(body, chat->schema);
    buf_append_text(body, chat->schema_strict ? ",\"strict\":true}}"
                                              : ",\"strict\":false}}");
}

static void put_body(struct buf *body, const struct endpoint *endpoint,
                     const struct candidate *candidate, const struct chat *chat)
{
    const struct model *known = candidate->entry;

    buf_append_text(body, "{\"model\":");
    jv_put_string(body, candidate->model);
    put_messages(body, chat);
    if (chat->max_tokens > 0)
        buf_printf(body, ",\"%s\":%lld", max_tokens_key(endpoint->base_url),
                   (long long)chat->max_tokens);
    if (!isnan(chat->temperature) && (!known || known->sampling)) {
        buf_append_text(body, ",\"temperature\":");
        jv_put_number(body, chat->temperature);
    }
    if (chat->schema.size > 0 && (!known || known->json_schema))
        put_schema(body, chat);
    buf_append_text(body, ",\"stream\":true,"
                          "\"stream_options\":{\"include_usage\":true}}");
}

static bool put_headers(struct arena *arena, struct provider_request *request,
                        const struct endpoint *endpoint, struct error *err)
{
    return request_add_header(arena, request, "Content-Type: ",
                              SLICE_LITERAL("application/json"), err) &&
           request_add_header(
               arena, request,
               "Accept: ", SLICE_LITERAL("text/event-stream, application/json"),
               err) &&
           request_add_header(arena, request, "Authorization: Bearer ",
                              endpoint->api_key, err) &&
           request_add_header(arena, request,
                              "OpenAI-Organization: ", endpoint->organization,
                              err) &&
           request_add_header(arena, request,
                              "OpenAI-Project: ", endpoint->project, err);
}

/* About what put_body writes, so that the buffer seldom moves. */
static size_t estimate_body(const struct chat *chat)
{
    size_t size = 512 + chat->schema.size;

    for (size_t i = 0; i < chat->message_count; i++)
        size += 64 + chat->messages[i].content.size / 8 * 9;
    return size < REQUEST_BODY_MAX ? size : REQUEST_BODY_MAX;
}

static bool build(const struct endpoint *endpoint,
                  const struct candidate *candidate, const struct chat *chat,
                  struct arena *arena, struct provider_request *request,
                  struct error *err)
{
    struct buf body;
    bool fits;

    *request = (struct provider_request){.header_count = 0};
    if (!request_set_url(arena, request, endpoint->base_url,
                         "/chat/completions", err) ||
        !put_headers(arena, request, endpoint, err))
        return false;
    buf_init(&body, REQUEST_BODY_MAX);
    buf_reserve(&body, estimate_body(chat));
    put_body(&body, endpoint, candidate, chat);
    fits = !body.failed;
    if (fits)
        request->body = arena_keep(arena, &body);
    buf_release(&body);
    return fits || error_set(err, ERR_TOO_LARGE, "the request is over %d bytes",
                             REQUEST_BODY_MAX);
}

/* The answer. */

enum { FIRST_TEXT = 1024 /* bytes: most answers fit */ };

struct reader {
    struct arena *arena;
    struct slice api_key;
    struct failure advice;
    int status;
    enum { UNDECIDED, STREAM, DOCUMENT } form;
    bool said_stream; /* by its content type */
    bool finished;    /* a finish reason was seen */
    bool ended;       /* the rest does not matter */
    enum finish_reason finish;
    enum provider_progress progress; /* of this feed */
    struct provider_failure *failure;
    struct sse_parser sse;
    struct arena scratch; /* of the event in hand; empty between feeds */
    struct buf document;  /* the whole body, unless a stream */
    struct buf text;
    struct buf refusal;
    struct slice model;
    struct usage usage;
};

static bool is_good(const struct reader *reader)
{
    return reader->status >= 200 && reader->status <= 299;
}

/* "text/event-stream; charset=utf-8" */
static bool is_stream_type(struct slice type)
{
    ptrdiff_t end = slice_find(type, SLICE_LITERAL(";"));

    if (end >= 0)
        type.size = (size_t)end;
    return slice_is_nocase(slice_trim(type), "text/event-stream");
}

static struct reader *reader_new(struct arena *arena, int status,
                                 const struct provider_headers *headers,
                                 struct slice api_key, int64_t now_s)
{
    struct reader *reader = arena_alloc(arena, sizeof(*reader));

    reader->arena = arena;
    arena_init(&reader->scratch, 0);
    reader->api_key = api_key;
    reader->advice = failure_advice(headers, now_s);
    reader->status = status;
    reader->said_stream =
        is_stream_type(headers->find(headers->context, "content-type"));
    reader->form = is_good(reader) ? UNDECIDED : DOCUMENT;
    reader->usage = USAGE_UNKNOWN;
    sse_init(&reader->sse, EVENT_MAX);
    buf_init(&reader->document,
             is_good(reader) ? PROVIDER_ANSWER_MAX : ERROR_BODY_MAX);
    buf_init(&reader->text, PROVIDER_ANSWER_MAX);
    buf_init(&reader->refusal, ERROR_BODY_MAX);
    return reader;
}

static void reader_free(struct reader *reader)
{
    sse_release(&reader->sse);
    buf_release(&reader->document);
    buf_release(&reader->text);
    buf_release(&reader->refusal);
}

/* Each returns false for `return fail_...(...)`. */

static bool fail(struct reader *reader, const struct provider_failure *failure)
{
    reader->failure = arena_alloc(reader->arena, sizeof(*failure));
    *reader->failure = *failure;
    return false;
}

static bool fail_bad(struct reader *reader, const char *reason)
{
    struct provider_failure failure;

    failure_bad_response(&failure, reader->status, reason);
    return fail(reader, &failure);
}

static bool fail_large(struct reader *reader)
{
    struct provider_failure failure = {.retry.retry_after_ms = -1,
                                       .try_next = true};

    error_set(&failure.error, ERR_TOO_LARGE, "the answer is over %d bytes",
              PROVIDER_ANSWER_MAX);
    failure.error.http_status = reader->status;
    return fail(reader, &failure);
}

static bool fail_told(struct reader *reader, const struct jv *document)
{
    struct fault fault = {
        .status = reader->status,
        .api_key = reader->api_key,
        .advice = reader->advice,
    };
    struct provider_failure failure;

    fault_read(&fault, document);
    failure_from_fault(&failure, &fault);
    return fail(reader, &failure);
}

static void read_model(struct reader *reader, const struct jv *answer)
{
    struct slice model;

    if (reader->model.size > 0)
        return;
    model = jv_string(jv_find(answer, "model"));
    if (model.size <= MODEL_NAME_MAX)
        reader->model = arena_copy(reader->arena, model);
}

static int64_t read_tokens(const struct jv *counts, const char *key)
{
    int64_t tokens = jv_integer(jv_find(counts, key), -1);

    return tokens >= 0 && tokens <= TOKENS_MAX ? tokens : -1;
}

/* A part cannot be more than its whole. */
static int64_t read_part(const struct jv *counts, const char *key,
                         int64_t whole)
{
    int64_t tokens = read_tokens(counts, key);

    return tokens <= whole ? tokens : -1;
}

/* Optional, and the last one seen counts. */
static void read_usage(struct reader *reader, const struct jv *counts)
{
    const struct jv *input, *output;
    struct usage usage;

    if (!counts || counts->type != JV_OBJECT)
        return;
    input = jv_find(counts, "prompt_tokens_details");
    output = jv_find(counts, "completion_tokens_details");
    usage.input_tokens = read_tokens(counts, "prompt_tokens");
    usage.output_tokens = read_tokens(counts, "completion_tokens");
    usage.total_tokens = usage.input_tokens >= 0 && usage.output_tokens >= 0
                             ? usage.input_tokens + usage.output_tokens
                             : read_tokens(counts, "total_tokens");
    usage.cached_tokens = read_part(input, "cached_tokens", usage.input_tokens);
    usage.cache_write_tokens =
        read_part(input, "cache_write_tokens", usage.input_tokens);
    usage.reasoning_tokens =
        read_part(output, "reasoning_tokens", usage.output_tokens);
    reader->usage = usage;
}

/* Reasons of our own words; others mean that the model stopped by itself. */
static bool read_finish(struct reader *reader, struct slice reason)
{
    static const struct {
        const char *name;
        enum finish_reason finish;
    } reasons[] = {
        {"length", FINISH_LENGTH},
        {"tool_calls", FINISH_TOOL_CALLS},
        {"function_call", FINISH_TOOL_CALLS},
        {"content_filter", FINISH_CONTENT_FILTER},
    };

    if (reason.size == 0)
        return true;
    /* OpenRouter and DeepSeek: the model was interrupted. */
    if (slice_is(reason, "error") ||
        slice_is(reason, "insufficient_system_resource"))
        return fail_bad(reader, "the provider interrupted the answer");
    reader->finished = true;
    reader->progress = PROGRESS_USEFUL;
    reader->finish = FINISH_STOP;
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (slice_is(reason, reasons[i].name))
            reader->finish = reasons[i].finish;
    return true;
}

static void add_text(struct reader *reader, struct buf *to, struct slice text)
{
    if (text.size == 0)
        return;
    if (to->capacity == 0)
        buf_reserve(to, FIRST_TEXT);
    buf_append_slice(to, text);
    reader->progress = PROGRESS_USEFUL;
}

/* A string, null, or a list of parts of which those of text count. */
static void read_content(struct reader *reader, const struct jv *content)
{
    if (!content || content->type != JV_ARRAY) {
        add_text(reader, &reader->text, jv_string(content));
        return;
    }
    for (size_t i = 0; i < jv_count(content); i++)
        add_text(reader, &reader->text,
                 jv_string(jv_find(jv_at(content, i), "text")));
}

/* What is no answer yet shows that one is coming. */
static bool is_thinking(const struct jv *message)
{
    return jv_string(jv_find(message, "reasoning_content")).size > 0 ||
           jv_string(jv_find(message, "reasoning")).size > 0 ||
           jv_count(jv_find(message, "tool_calls")) > 0;
}

static bool read_choice(struct reader *reader, const struct jv *choice)
{
    const struct jv *message = jv_find(choice, "delta");

    if (!message)
        message = jv_find(choice, "message");
    read_content(reader, jv_find(message, "content"));
    add_text(reader, &reader->refusal, jv_string(jv_find(message, "refusal")));
    if (reader->progress != PROGRESS_USEFUL && is_thinking(message))
        reader->progress = PROGRESS_USEFUL;
    if (reader->text.failed || reader->refusal.failed)
        return fail_large(reader);
    return read_finish(reader, jv_string(jv_find(choice, "finish_reason")));
}

static bool is_error(const struct jv *document)
{
    const struct jv *error = jv_find(document, "error");

    return (error && error->type != JV_NULL) ||
           slice_is(jv_string(jv_find(document, "object")), "error");
}

/* One object: a chunk of a stream or the whole answer. */
static bool read_answer(struct reader *reader, const struct jv *answer)
{
    const struct jv *choices = jv_find(answer, "choices");

    if (is_error(answer))
        return fail_told(reader, answer);
    read_model(reader, answer);
    read_usage(reader, jv_find(answer, "usage"));
    for (size_t i = 0; i < jv_count(choices); i++) {
        const struct jv *choice = jv_at(choices, i);

        if (jv_integer(jv_find(choice, "index"), 0) == 0 &&
            !read_choice(reader, choice))
            return false;
    }
    return true;
}

static bool on_event(void *context, const struct sse_event *event)
{
    struct reader *reader = context;
    struct arena_mark mark;
    struct jv *chunk;
    struct error err;
    bool ok;

    if (slice_is(slice_trim(event->data), "[DONE]")) {
        reader->ended = true;
        return false;
    }
    arena_bytes(&reader->scratch, 1); /* rewinding keeps the first block */
    mark = arena_mark(&reader->scratch);
    if (!jv_parse(&reader->scratch, event->data, JV_STRICT, &JV_DEFAULT_LIMITS,
                  NULL, &chunk, &err))
        ok = fail_bad(reader, "an event of the stream is not JSON");
    else if (slice_is(event->event, "error"))
        ok = fail_told(reader, chunk);
    else
        ok = read_answer(reader, chunk);
    arena_rewind(&reader->scratch, mark);
    return ok;
}

static bool is_blank(char c)
{
    /* The last three make a byte order mark. */
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\xEF' ||
           c == '\xBB' || c == '\xBF';
}

static size_t blank_size(struct slice bytes)
{
    size_t size = 0;

    while (size < bytes.size && is_blank(bytes.data[size]))
        size++;
    return size;
}

/* By what the body begins with: servers send streams as text/plain, and whole
 * answers as streams. What is neither is kept as a document that will not
 * parse. */
static void decide(struct reader *reader, char first)
{
    bool document = first == '{' || first == '[' || first == '<';
    bool field = first != '\0' && strchr(":deir", first);

    reader->form =
        !document && (reader->said_stream || field) ? STREAM : DOCUMENT;
}

static void feed_document(struct reader *reader, struct slice bytes)
{
    if (blank_size(bytes) < bytes.size)
        reader->progress = PROGRESS_USEFUL;
    if (!is_good(reader) &&
        bytes.size > reader->document.max - reader->document.size) {
        /* Enough of an error was seen. */
        bytes.size = reader->document.max - reader->document.size;
        reader->ended = true;
    }
    buf_append_slice(&reader->document, bytes);
    if (reader->document.failed)
        fail_large(reader);
}

static enum provider_progress feed(struct reader *reader, struct slice bytes)
{
    reader->progress = PROGRESS_NONE;
    if (!reader->failure && !reader->ended && reader->form == UNDECIDED) {
        size_t blank = blank_size(bytes);

        bytes = slice_make(bytes.data + blank, bytes.size - blank);
        if (bytes.size > 0)
            decide(reader, bytes.data[0]);
    }
    if (!reader->failure && !reader->ended && bytes.size > 0) {
        if (reader->form == DOCUMENT)
            feed_document(reader, bytes);
        else if (!sse_feed(&reader->sse, bytes, on_event, reader) &&
                 !reader->ended && !reader->failure)
            fail_large(reader);
        arena_release(&reader->scratch);
    }
    if (reader->failure)
        return PROGRESS_FAILED;
    return reader->ended ? PROGRESS_END : reader->progress;
}

/* An answer that came in one piece; its own end stands for a finish reason. */
static bool read_document(struct reader *reader, const struct jv *document,
                          bool whole)
{
    if (!is_good(reader))
        return fail_told(reader, document);
    if (!document && !whole)
        return fail_bad(reader, "the answer was cut");
    if (!document)
        return fail_bad(reader,
                        slice_starts_with(buf_slice(&reader->document), "<")
                            ? "HTML instead of JSON"
                            : "the answer is not JSON");
    if (!read_answer(reader, document))
        return false;
    if (jv_count(jv_find(document, "choices")) == 0)
        return fail_bad(reader, "the answer has no choices");
    reader->finished = true;
    return true;
}

static bool parse_document(struct reader *reader, bool whole)
{
    struct jv *document = NULL;
    struct arena scratch;
    struct error err;
    bool ok;

    arena_init(&scratch, 0);
    if (!jv_parse(&scratch, buf_slice(&reader->document), JV_STRICT,
                  &JV_DEFAULT_LIMITS, NULL, &document, &err))
        document = NULL;
    ok = read_document(reader, document, whole);
    arena_release(&scratch);
    return ok;
}

static bool check_end(struct reader *reader, bool whole)
{
    if (reader->failure)
        return false;
    if (reader->form == DOCUMENT && !parse_document(reader, whole))
        return false;
    if (reader->form == UNDECIDED)
        return fail_bad(reader, "the answer is empty");
    if (!reader->finished)
        return fail_bad(reader, whole ? "the stream ended without a finish "
                                        "reason"
                                      : "the stream was cut");
    if (reader->finish == FINISH_STOP && reader->text.size == 0 &&
        reader->refusal.size == 0)
        return fail_bad(reader, "the answer has no text");
    return true;
}

static bool end(struct reader *reader, bool whole,
                struct completion *completion, struct provider_failure *failure)
{
    if (!check_end(reader, whole)) {
        *failure = *reader->failure;
        return false;
    }
    *completion = (struct completion){
        .text = arena_keep(reader->arena, &reader->text),
        .refusal = arena_keep(reader->arena, &reader->refusal),
        .model = reader->model,
        .finish = reader->finish,
        .usage = reader->usage,
    };
    if (completion->refusal.size > 0)
        completion->finish = FINISH_REFUSAL;
    return true;
}

const struct dialect dialect_openai = {
    .name = "openai",
    .build = build,
    .reader_new = reader_new,
    .feed = feed,
    .end = end,
    .reader_free = reader_free,
};
