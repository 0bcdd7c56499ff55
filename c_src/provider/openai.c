/* OpenAI chat completions, as OpenAI and the many compatible servers speak it
 * (vLLM, llama.cpp, Ollama's /v1, OpenRouter, ...). */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "llm_router/base/utf8.h"
#include "llm_router/provider/sse.h"
#include "provider/dialects_internal.h"

enum {
    BODY_MAX = 64 * 1024 * 1024,
    ERROR_BODY_MAX = 64 * 1024,
    EVENT_MAX = 8 * 1024 * 1024,
    MODEL_MAX = 128,
};

/* The request. */

static bool is_openai_itself(const struct endpoint *endpoint)
{
    return slice_starts_with(endpoint->base_url, "https://api.openai.com");
}

static void put_messages(struct buf *out, const struct chat *chat)
{
    buf_append_text(out, ",\"messages\":[");
    for (size_t i = 0; i < chat->message_count; i++) {
        const struct message *message = &chat->messages[i];

        buf_printf(out, "%s{\"role\":\"%s\",\"content\":", i > 0 ? "," : "",
                   role_name(message->role));
        jv_put_string(out, message->content);
        buf_append_byte(out, '}');
    }
    buf_append_byte(out, ']');
}

static void put_schema(struct buf *out, const struct chat *chat)
{
    buf_append_text(out, ",\"response_format\":{\"type\":\"json_schema\","
                         "\"json_schema\":{\"name\":");
    jv_put_string(out, chat->schema_name);
    buf_printf(out, ",\"strict\":%s,\"schema\":",
               chat->schema_strict ? "true" : "false");
    buf_append_slice(out, chat->schema);
    buf_append_text(out, "}}");
}

/* OpenAI's reasoning models refuse `max_tokens`, most other servers know only
 * that one. */
static void put_limits(struct buf *out, const struct endpoint *endpoint,
                       const struct candidate *candidate,
                       const struct chat *chat)
{
    if (chat->max_tokens > 0)
        buf_printf(out, ",\"%s\":%lld",
                   is_openai_itself(endpoint) ? "max_completion_tokens"
                                              : "max_tokens",
                   (long long)chat->max_tokens);
    if (!isnan(chat->temperature) &&
        (!candidate->entry || candidate->entry->sampling)) {
        buf_append_text(out, ",\"temperature\":");
        jv_put_number(out, chat->temperature);
    }
}

static void put_body(struct buf *out, const struct endpoint *endpoint,
                     const struct candidate *candidate, const struct chat *chat)
{
    buf_append_text(out, "{\"model\":");
    jv_put_string(out, candidate->model);
    put_messages(out, chat);
    put_limits(out, endpoint, candidate, chat);
    if (chat->schema.size > 0 &&
        (!candidate->entry || candidate->entry->json_schema))
        put_schema(out, chat);
    buf_append_text(out, ",\"stream\":true,"
                         "\"stream_options\":{\"include_usage\":true}}");
}

static bool put_headers(const struct endpoint *endpoint, struct arena *arena,
                        struct provider_request *request, struct error *err)
{
    struct slice bearer = slice_of(NULL);

    if (endpoint->api_key.size > 0)
        bearer =
            arena_printf(arena, "Bearer %.*s", SLICE_ARG(endpoint->api_key));
    return request_add_header(arena, request, "Content-Type",
                              SLICE_LITERAL("application/json"), err) &&
           request_add_header(
               arena, request, "Accept",
               SLICE_LITERAL("text/event-stream, application/json"), err) &&
           request_add_header(arena, request, "Authorization", bearer, err) &&
           request_add_header(arena, request, "OpenAI-Organization",
                              endpoint->organization, err) &&
           request_add_header(arena, request, "OpenAI-Project",
                              endpoint->project, err);
}

static bool build(const struct endpoint *endpoint,
                  const struct candidate *candidate, const struct chat *chat,
                  struct arena *arena, struct provider_request *request,
                  struct error *err)
{
    struct buf body;

    *request = (struct provider_request){
        .url = arena_printf(arena, "%.*s/chat/completions",
                            SLICE_ARG(endpoint->base_url))
                   .data,
    };
    if (!put_headers(endpoint, arena, request, err))
        return false;
    buf_init(&body, BODY_MAX);
    put_body(&body, endpoint, candidate, chat);
    if (body.failed) {
        buf_release(&body);
        return error_set(err, ERR_TOO_LARGE, "the request is over %d bytes",
                         BODY_MAX);
    }
    request->body = arena_copy(arena, buf_slice(&body));
    buf_release(&body);
    return true;
}

/* The answer. */

enum mode {
    MODE_UNKNOWN, /* nothing but white space came yet */
    MODE_STREAM,
    MODE_WHOLE, /* one JSON document, or an error body */
};

struct reader {
    struct arena *arena;
    int status;
    enum mode mode;
    bool useful;   /* in the current feed */
    bool chosen;   /* a first choice was there */
    bool finished; /* a finish reason was seen: the terminal event */
    bool done;     /* [DONE] was seen */
    bool failed;
    struct slice api_key;
    struct failure retry; /* what the headers said */
    struct sse_parser sse;
    struct buf body;
    struct buf text;
    struct buf refusal;
    char model[MODEL_MAX];
    size_t model_size;
    enum finish_reason finish;
    struct usage usage;
    struct provider_failure failure;
};

static struct reader *reader_new(struct arena *arena, int status,
                                 const struct provider_headers *headers,
                                 struct slice api_key, int64_t now_s)
{
    struct reader *reader = arena_alloc(arena, sizeof(*reader));

    reader->arena = arena;
    reader->status = status;
    reader->api_key = api_key;
    reader->usage = USAGE_UNKNOWN;
    read_retry_headers(headers, now_s, &reader->retry);
    sse_init(&reader->sse, EVENT_MAX);
    buf_init(&reader->text, PROVIDER_ANSWER_MAX);
    buf_init(&reader->refusal, ERROR_BODY_MAX);
    buf_init(&reader->body, PROVIDER_ANSWER_MAX);
    if (status < 200 || status > 299) {
        reader->mode = MODE_WHOLE;
        buf_init(&reader->body, ERROR_BODY_MAX);
    }
    return reader;
}

static void reader_free(struct reader *reader)
{
    sse_release(&reader->sse);
    buf_release(&reader->body);
    buf_release(&reader->text);
    buf_release(&reader->refusal);
}

/* The provider's format was not kept; another attempt may do better. */
__attribute__((format(printf, 2, 3))) static bool
fail_format(struct reader *reader, const char *format, ...)
{
    char words[ERROR_MESSAGE_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    reader->failed = true;
    reader->failure = (struct provider_failure){
        .retry = {.retryable = true, .retry_after_ms = -1},
        .try_next = true,
    };
    error_set(&reader->failure.error, ERR_BAD_RESPONSE, "%s", words);
    reader->failure.error.http_status = reader->status;
    return false;
}

static void add_retry_headers(struct reader *reader)
{
    bool retryable = reader->failure.retry.retryable;

    reader->failure.retry = reader->retry;
    reader->failure.retry.retryable = retryable;
    reader->failure.error.retry_after_ms = reader->retry.retry_after_ms;
}

/* {"error": {...}}, or vLLM's flat {"object": "error", "message": ...}. */
static const struct jv *find_error(const struct jv *root)
{
    const struct jv *error = jv_find(root, "error");

    if (error && error->type != JV_NULL)
        return error;
    return slice_is(jv_string(jv_find(root, "object")), "error") ? root : NULL;
}

static bool fail_named(struct reader *reader, const struct jv *error)
{
    struct slice message = jv_is_string(error)
                               ? jv_string(error)
                               : jv_string(jv_find(error, "message"));

    reader->failed = true;
    classify(reader->status, jv_string(jv_find(error, "code")),
             jv_string(jv_find(error, "type")), message, reader->api_key,
             &reader->failure);
    add_retry_headers(reader);
    return false;
}

static int64_t count_of(const struct jv *object, const char *key)
{
    int64_t count = jv_integer(jv_find(object, key), -1);

    return count < 0 ? -1 : count;
}

/* The last one seen wins; nonsense becomes unknown. */
static void take_usage(struct reader *reader, const struct jv *usage)
{
    const struct jv *prompt, *completion;

    if (!usage || usage->type != JV_OBJECT)
        return;
    prompt = jv_find(usage, "prompt_tokens_details");
    completion = jv_find(usage, "completion_tokens_details");
    reader->usage = (struct usage){
        .input_tokens = count_of(usage, "prompt_tokens"),
        .output_tokens = count_of(usage, "completion_tokens"),
        .total_tokens = count_of(usage, "total_tokens"),
        .cached_tokens = count_of(prompt, "cached_tokens"),
        .cache_write_tokens = count_of(prompt, "cache_write_tokens"),
        .reasoning_tokens = count_of(completion, "reasoning_tokens"),
    };
}

static void take_model(struct reader *reader, const struct jv *root)
{
    struct slice model = jv_string(jv_find(root, "model"));

    if (reader->model_size > 0 || !model_id_is_valid(model))
        return;
    model = utf8_cut(model, sizeof(reader->model));
    memcpy(reader->model, model.data, model.size);
    reader->model_size = model.size;
}

static const struct {
    const char *name;
    enum finish_reason reason;
} finish_reasons[] = {
    {"stop", FINISH_STOP},
    {"length", FINISH_LENGTH},
    {"tool_calls", FINISH_TOOL_CALLS},
    {"function_call", FINISH_TOOL_CALLS},
    {"content_filter", FINISH_CONTENT_FILTER},
};

/* An unknown reason is an end like any other. */
static void take_finish(struct reader *reader, const struct jv *choice)
{
    struct slice name = jv_string(jv_find(choice, "finish_reason"));

    if (name.size == 0)
        return;
    reader->finished = true;
    reader->useful = true;
    reader->finish = FINISH_STOP;
    for (size_t i = 0; i < sizeof(finish_reasons) / sizeof(finish_reasons[0]);
         i++)
        if (slice_is(name, finish_reasons[i].name))
            reader->finish = finish_reasons[i].reason;
}

static bool take_text(struct reader *reader, const struct jv *text,
                      struct buf *out)
{
    struct slice part = jv_string(text);

    if (part.size == 0)
        return true;
    reader->useful = true;
    buf_append_slice(out, part);
    if (!out->failed)
        return true;
    reader->failed = true;
    reader->failure = (struct provider_failure){.retry = {.retry_after_ms = -1},
                                                .try_next = true};
    return error_set(&reader->failure.error, ERR_TOO_LARGE,
                     "the answer is over %zu bytes", out->max);
}

static bool is_there(const struct jv *object, const char *key)
{
    const struct jv *value = jv_find(object, key);

    return value && (jv_string(value).size > 0 || jv_count(value) > 0);
}

/* `message` is a delta of a stream or the message of a whole answer; content
 * may also be a list of parts. */
static bool take_message(struct reader *reader, const struct jv *message)
{
    const struct jv *content = jv_find(message, "content");

    if (is_there(message, "reasoning_content") ||
        is_there(message, "reasoning") || is_there(message, "tool_calls"))
        reader->useful = true;
    for (size_t i = 0;
         content && content->type == JV_ARRAY && i < jv_count(content); i++)
        if (!take_text(reader, jv_find(jv_at(content, i), "text"),
                       &reader->text))
            return false;
    return take_text(reader, content, &reader->text) &&
           take_text(reader, jv_find(message, "refusal"), &reader->refusal);
}

/* One chunk of a stream, or a whole answer: the first choice counts. */
static bool take_document(struct reader *reader, const struct jv *root)
{
    const struct jv *choices = jv_find(root, "choices");
    const struct jv *error = find_error(root);

    if (error)
        return fail_named(reader, error);
    if (!root || root->type != JV_OBJECT)
        return fail_format(reader, "the answer is not a JSON object");
    take_usage(reader, jv_find(root, "usage"));
    take_model(reader, root);
    for (size_t i = 0; i < jv_count(choices); i++) {
        const struct jv *choice = jv_at(choices, i);
        const struct jv *delta = jv_find(choice, "delta");

        if (jv_integer(jv_find(choice, "index"), 0) != 0)
            continue;
        if (!take_message(reader, delta ? delta : jv_find(choice, "message")))
            return false;
        reader->chosen = true;
        take_finish(reader, choice);
    }
    return true;
}

static bool take_json(struct reader *reader, struct slice text)
{
    struct arena_mark mark = arena_mark(reader->arena);
    struct error err;
    struct jv *root;
    bool ok;

    if (jv_parse(reader->arena, text, JV_STRICT, &JV_DEFAULT_LIMITS, NULL,
                 &root, &err))
        ok = take_document(reader, root);
    else
        ok = fail_format(reader, "not JSON: %s", err.message);
    arena_rewind(reader->arena, mark);
    return ok;
}

static bool on_event(void *context, const struct sse_event *event)
{
    struct reader *reader = context;

    if (slice_is(slice_trim(event->data), "[DONE]")) {
        reader->done = true;
        return false;
    }
    return take_json(reader, event->data);
}

/* Servers mix the forms whatever the content type says: look at the text. */
static void choose_mode(struct reader *reader, struct slice bytes)
{
    struct slice text;

    if (slice_starts_with(bytes, "\xEF\xBB\xBF"))
        bytes = slice_make(bytes.data + 3, bytes.size - 3);
    text = slice_trim(bytes);
    if (text.size == 0)
        return;
    if (text.data[0] == '<')
        fail_format(reader, "the provider sent HTML or XML");
    reader->mode = text.data[0] == '{' ? MODE_WHOLE : MODE_STREAM;
}

static enum provider_progress feed(struct reader *reader, struct slice bytes)
{
    if (reader->failed)
        return PROGRESS_FAILED;
    if (reader->done)
        return PROGRESS_END;
    if (reader->mode == MODE_UNKNOWN)
        choose_mode(reader, bytes);
    if (reader->failed)
        return PROGRESS_FAILED;
    if (reader->mode != MODE_STREAM) {
        buf_append_slice(&reader->body, bytes);
        return bytes.size > 0 ? PROGRESS_USEFUL : PROGRESS_NONE;
    }
    reader->useful = false;
    if (!sse_feed(&reader->sse, bytes, on_event, reader) && !reader->done &&
        !reader->failed)
        fail_format(reader, "an event is over %d bytes", EVENT_MAX);
    if (reader->failed)
        return PROGRESS_FAILED;
    if (reader->done)
        return PROGRESS_END;
    return reader->useful ? PROGRESS_USEFUL : PROGRESS_NONE;
}

/* A status that is not 2xx, with whatever body came. */
static bool fail_status(struct reader *reader)
{
    struct error err;
    struct jv *root = NULL;
    const struct jv *error = NULL;

    if (jv_parse(reader->arena, buf_slice(&reader->body), JV_STRICT,
                 &JV_DEFAULT_LIMITS, NULL, &root, &err))
        error = find_error(root);
    return fail_named(reader, error);
}

static bool check_end(struct reader *reader, bool whole)
{
    if (reader->failed)
        return false;
    if (reader->status < 200 || reader->status > 299)
        return fail_status(reader);
    if (reader->mode == MODE_UNKNOWN)
        return fail_format(reader, "the answer is empty");
    if (reader->mode == MODE_WHOLE) {
        if (!whole)
            return fail_format(reader, "the connection was cut");
        if (!take_json(reader, buf_slice(&reader->body)))
            return false;
        if (!reader->chosen)
            return fail_format(reader, "the answer has no choices");
        reader->finished = true; /* it ended by being whole */
    }
    if (!reader->finished)
        return fail_format(reader, whole ? "the stream ended without its end"
                                         : "the connection was cut");
    return true;
}

static bool end(struct reader *reader, bool whole,
                struct completion *completion, struct provider_failure *failure)
{
    if (!check_end(reader, whole)) {
        *failure = reader->failure;
        return false;
    }
    *completion = (struct completion){
        .text = utf8_clean(reader->arena, buf_slice(&reader->text)),
        .refusal = utf8_clean(reader->arena, buf_slice(&reader->refusal)),
        .model = arena_copy(reader->arena,
                            slice_make(reader->model, reader->model_size)),
        .finish = reader->refusal.size > 0 ? FINISH_REFUSAL : reader->finish,
        .usage = reader->usage,
    };
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
