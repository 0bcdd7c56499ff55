#include "llm_router/core/fingerprint.h"

#include <math.h>

/* Every value has a fixed size or its length before it, and everything is
 * always written, so that no two questions have the same bytes. */
static void put_integer(struct buf *out, int64_t value)
{
    buf_append(out, &value, sizeof(value));
}

static void put_count(struct buf *out, size_t count)
{
    put_integer(out, (int64_t)count);
}

static void put_text(struct buf *out, struct slice text)
{
    put_count(out, text.size);
    buf_append_slice(out, text);
}

/* 0.0 and -0.0 are one number, and so are all NANs. */
static void put_number(struct buf *out, double value)
{
    double canonical = isnan(value) ? (double)NAN : value + 0.0;

    buf_append(out, &canonical, sizeof(canonical));
}

static void put_texts(struct buf *out, const struct slice *texts, size_t count)
{
    put_count(out, count);
    for (size_t i = 0; i < count; i++)
        put_text(out, texts[i]);
}

/* JSON text is never empty and holds no NUL. */
static void put_json(struct buf *out, const struct jv *value)
{
    if (value)
        jv_put(out, value);
    buf_append_byte(out, '\0');
}

static void put_messages(struct buf *out, const struct request *request)
{
    put_count(out, request->message_count);
    for (size_t i = 0; i < request->message_count; i++) {
        const struct message *message = &request->messages[i];

        put_integer(out, message->role);
        put_text(out, message->content);
        put_text(out, message->tool_call_id);
        put_count(out, message->tool_call_count);
        for (size_t j = 0; j < message->tool_call_count; j++) {
            put_text(out, message->tool_calls[j].id);
            put_text(out, message->tool_calls[j].name);
            put_text(out, message->tool_calls[j].arguments);
        }
    }
}

static void put_given(struct buf *out, const struct request *request)
{
    put_count(out, request->given_count);
    for (size_t i = 0; i < request->given_count; i++) {
        put_text(out, request->given[i].id);
        put_text(out, request->given[i].title);
        put_text(out, request->given[i].json);
    }
}

static void put_tools(struct buf *out, const struct options *options)
{
    put_count(out, options->tool_count);
    for (size_t i = 0; i < options->tool_count; i++) {
        const struct tool *tool = &options->tools[i];

        put_text(out, tool->name);
        put_text(out, tool->description);
        put_text(out, tool->parameters);
        put_integer(out, tool->strict);
    }
    put_integer(out, options->tool_choice);
    put_text(out, options->tool_name);
}

static void put_options(struct buf *out, const struct options *options)
{
    put_text(out, options->model);
    put_text(out, options->provider);
    put_text(out, options->task_type);
    put_integer(out, options->complexity);
    put_integer(out, options->max_tokens);
    put_number(out, options->temperature);
    put_number(out, options->top_p);
    put_texts(out, options->stops, options->stop_count);
    put_integer(out, options->has_seed);
    put_integer(out, options->seed);
    put_integer(out, options->effort);
    put_tools(out, options);
    put_integer(out, options->capabilities);
    put_text(out, options->language);
    put_json(out, options->schema);
    put_integer(out, options->api_version);
    put_text(out, options->previous_response_id);
    put_integer(out, options->store);
    put_json(out, options->mcp_servers);
    put_integer(out, options->about);
    put_integer(out, options->next_id);
    put_count(out, options->existing_count);
    for (size_t i = 0; i < options->existing_count; i++)
        put_integer(out, options->existing[i]);
}

void request_fingerprint(const struct request *request, struct buf *out)
{
    put_integer(out, request->operation);
    put_options(out, &request->options);
    put_text(out, request->text);
    put_text(out, request->context);
    put_texts(out, request->texts, request->text_count);
    put_given(out, request);
    put_integer(out, request->count);
    put_messages(out, request);
    put_text(out, request->caller_task);
}
