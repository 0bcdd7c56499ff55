/* An operation, as it was decoded, as a message of the queue. */
#include "api/queue_internal.h"

static void put_prompt(struct buf *out, const struct request *request)
{
    put_text(out, "prompt", request->text);
}

static void put_document(struct buf *out, const struct request *request)
{
    put_text(out, "content", request->text);
    put_key(out, "num_tasks");
    buf_printf(out, "%d", (int)request->count);
}

static void put_task(struct buf *out, const struct request *request)
{
    if (request->caller_task.size == 0) {
        put_text(out, "task", request->text);
        return;
    }
    put_key(out, "task");
    buf_append_slice(out, request->text);
}

static void put_tasks(struct buf *out, const struct request *request)
{
    put_key(out, "tasks");
    for (size_t i = 0; i < request->given_count; i++) {
        buf_append_byte(out, i == 0 ? '[' : ',');
        buf_append_slice(out, request->given[i].json);
    }
    buf_append_byte(out, ']');
}

static void put_topic(struct buf *out, const struct request *request)
{
    put_text(out, "topic", request->text);
    put_text(out, "context", request->context);
}

static void put_texts(struct buf *out, const struct request *request)
{
    put_key(out, "texts");
    for (size_t i = 0; i < request->text_count; i++) {
        buf_append_byte(out, i == 0 ? '[' : ',');
        put_clean_text(out, request->texts[i]);
    }
    buf_append_byte(out, ']');
}

/* The argument that is either. */
static void put_choice(struct buf *out, const struct request *request)
{
    const struct options *options = &request->options;

    if (options->complexity != COMPLEXITY_UNSET)
        put_text(out, "complexity",
                 slice_of(complexity_atom(options->complexity)));
    if (options->model.size > 0)
        put_text(out, "model", options->model);
}

static void put_tool_call(struct buf *out, const struct tool_call *call)
{
    buf_append_byte(out, '{');
    put_text(out, "id", call->id);
    put_text(out, "name", call->name);
    put_key(out, "arguments");
    buf_append_slice(out, call->arguments);
    buf_append_byte(out, '}');
}

static void put_message(struct buf *out, const struct message *message)
{
    buf_append_byte(out, '{');
    put_text(out, "role", slice_of(role_name(message->role)));
    put_text(out, "content", message->content);
    if (message->tool_call_id.size > 0)
        put_text(out, "tool_call_id", message->tool_call_id);
    if (message->tool_call_count > 0)
        put_key(out, "tool_calls");
    for (size_t i = 0; i < message->tool_call_count; i++) {
        buf_append_byte(out, i == 0 ? '[' : ',');
        put_tool_call(out, &message->tool_calls[i]);
    }
    if (message->tool_call_count > 0)
        buf_append_byte(out, ']');
    buf_append_byte(out, '}');
}

static void put_messages(struct buf *out, const struct request *request)
{
    for (size_t i = 0; i < request->message_count; i++) {
        buf_append_byte(out, i == 0 ? '[' : ',');
        put_message(out, &request->messages[i]);
    }
    buf_append_byte(out, ']');
}

static void put_call(struct buf *out, const struct request *request)
{
    put_choice(out, request);
    put_key(out, "messages");
    put_messages(out, request);
}

static void put_call_with_prompt(struct buf *out, const struct request *request)
{
    put_choice(out, request);
    put_text(out, "prompt", request->messages[0].content);
}

static void put_call_with_system(struct buf *out, const struct request *request)
{
    put_choice(out, request);
    put_text(out, "system", request->messages[0].content);
    put_text(out, "user", request->messages[1].content);
}

static void put_call_with_script(struct buf *out, const struct request *request)
{
    put_text(out, "script", request->text);
    put_key(out, "context");
    buf_append_slice(out, request->context);
}

/* What else is in the map are options. */
static void put_routed(struct buf *out, const struct request *request)
{
    put_key(out, "request");
    buf_append_byte(out, '{');
    put_key(out, "messages");
    put_messages(out, request);
    buf_append_byte(out, '}');
}

static void (*const arguments[OPERATION_COUNT])(struct buf *out,
                                                const struct request *) = {
    [OP_GENERATE_TASK] = put_prompt,
    [OP_PARSE_PRD] = put_document,
    [OP_EXPAND_TASK] = put_task,
    [OP_ANALYZE_COMPLEXITY] = put_tasks,
    [OP_RESEARCH] = put_topic,
    [OP_CALL] = put_call,
    [OP_CALL_WITH_PROMPT] = put_call_with_prompt,
    [OP_CALL_WITH_SYSTEM] = put_call_with_system,
    [OP_CALL_WITH_SCRIPT] = put_call_with_script,
    [OP_ROUTE] = put_routed,
    [OP_ROUTE_COMPLETION] = put_routed,
    [OP_EMBED] = put_texts,
};

void put_operation(struct buf *out, const struct request *request)
{
    put_text(out, "operation", slice_of(operation_atom(request->operation)));
    arguments[request->operation](out, request);
}

void queue_request_put(struct buf *out, const struct enqueued *enqueued,
                       struct slice request_id, int64_t unix_ms)
{
    buf_append_byte(out, '{');
    put_text(out, "request_id", request_id);
    buf_append_byte(out, ',');
    buf_append_slice(out, enqueued->members);
    if (enqueued->agent_id.size > 0)
        put_text(out, "agent_id", enqueued->agent_id);
    if (enqueued->notify_name.size > 0) {
        put_key(out, "reply_to");
        buf_append_byte(out, '{');
        put_text(out, "name", enqueued->notify_name);
        put_text(out, "node", enqueued->notify_node);
        buf_append_byte(out, '}');
    }
    put_key(out, "timestamp");
    put_time(out, unix_ms);
    buf_append_byte(out, '}');
}
