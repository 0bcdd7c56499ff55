/* OpenAI responses: https://api.openai.com/v1/responses, which some models
 * need for tools, and callers who go on from an answer that was kept there or
 * let the model call the tools of MCP servers.
 *
 * A stream has named events whose names are repeated as their type; those of
 * no interest here are ignored. It ends with response.completed, .incomplete
 * or .failed, which carry the whole response, as a plain answer does. Unless
 * the caller says so nothing is stored at OpenAI.
 *
 * OpenAI itself calls the tools of MCP servers; what it tells of that is
 * passed over. If a call waits for approval ("require_approval", which is
 * "always" by default) the answer ends there, and nobody here can give it. */
#include "provider/openai_internal.h"

/* The request. */

static void put_text_message(struct buf *body, const struct message *message)
{
    buf_append_text(body, "{\"role\":\"");
    buf_append_text(body, role_name(message->role));
    buf_append_text(body, "\",\"content\":");
    jv_put_string(body, message->content);
    buf_append_byte(body, '}');
}

static void put_call(struct buf *body, const struct tool_call *call)
{
    buf_append_text(body, "{\"type\":\"function_call\",\"call_id\":");
    jv_put_string(body, call->id);
    buf_append_text(body, ",\"name\":");
    jv_put_string(body, call->name);
    buf_append_text(body, ",\"arguments\":");
    jv_put_string(body, call->arguments);
    buf_append_byte(body, '}');
}

static void put_result(struct buf *body, const struct message *message)
{
    buf_append_text(body, "{\"type\":\"function_call_output\",\"call_id\":");
    jv_put_string(body, message->tool_call_id);
    buf_append_text(body, ",\"output\":");
    jv_put_string(body, message->content);
    buf_append_byte(body, '}');
}

static void put_separator(struct buf *body)
{
    if (body->size > 0 && body->data[body->size - 1] != '[')
        buf_append_byte(body, ',');
}

/* A message with calls is several items. */
static void put_items(struct buf *body, const struct message *message)
{
    if (message->role == ROLE_TOOL) {
        put_separator(body);
        put_result(body, message);
        return;
    }
    if (message->content.size > 0 || message->tool_call_count == 0) {
        put_separator(body);
        put_text_message(body, message);
    }
    for (size_t i = 0; i < message->tool_call_count; i++) {
        put_separator(body);
        put_call(body, &message->tool_calls[i]);
    }
}

/* Here a tool is strict unless it says that it is not, and has parameters. */
static void put_tool(struct buf *body, const struct tool *tool)
{
    buf_append_text(body, "{\"type\":\"function\",\"name\":");
    jv_put_string(body, tool->name);
    if (tool->description.size > 0) {
        buf_append_text(body, ",\"description\":");
        jv_put_string(body, tool->description);
    }
    buf_append_text(body, ",\"parameters\":");
    if (tool->parameters.size > 0)
        buf_append_slice(body, tool->parameters);
    else
        buf_append_text(body, "{\"type\":\"object\",\"properties\":{}}");
    buf_append_text(body,
                    tool->strict ? ",\"strict\":true}" : ",\"strict\":false}");
}

static void put_named_choice(struct buf *body, struct slice name)
{
    buf_append_text(body, ",\"tool_choice\":{\"type\":\"function\",\"name\":");
    jv_put_string(body, name);
    buf_append_byte(body, '}');
}

/* As the caller gave it, but for its type, which may be left out. */
static void put_mcp_server(struct buf *body, const struct jv *server)
{
    buf_append_text(body, "{\"type\":\"mcp\"");
    for (size_t i = 0; i < jv_count(server); i++) {
        const struct jv_member *member = &server->as.object.members[i];

        if (slice_is(member->key, "type"))
            continue;
        buf_append_byte(body, ',');
        jv_put_string(body, member->key);
        buf_append_byte(body, ':');
        jv_put(body, &member->value);
    }
    buf_append_byte(body, '}');
}

static void put_tools(struct buf *body, const struct chat *chat)
{
    const char *choice = openai_tool_choice(chat->tool_choice);

    if (!chat_has_tools(chat))
        return;
    buf_append_text(body, ",\"tools\":[");
    for (size_t i = 0; i < chat->tool_count; i++) {
        put_separator(body);
        put_tool(body, &chat->tools[i]);
    }
    for (size_t i = 0; i < jv_count(chat->mcp_servers); i++) {
        put_separator(body);
        put_mcp_server(body, jv_at(chat->mcp_servers, i));
    }
    buf_append_byte(body, ']');
    if (chat->tool_choice == TOOL_CHOICE_NAMED)
        put_named_choice(body, chat->tool_name);
    else if (choice)
        buf_printf(body, ",\"tool_choice\":\"%s\"", choice);
}

static void put_structured(const struct question *question, struct buf *body)
{
    const struct chat *chat = question->chat;

    switch (question_structured(question->candidate, chat)) {
    case STRUCTURED_SCHEMA:
        buf_append_text(
            body, ",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":");
        jv_put_string(body, chat->schema_name);
        buf_append_text(body, ",\"schema\":");
        buf_append_slice(body, chat->schema);
        buf_append_text(body, chat->schema_strict ? ",\"strict\":true}}"
                                                  : ",\"strict\":false}}");
        break;
    case STRUCTURED_TOOL:
        buf_append_text(body, ",\"tools\":[");
        put_tool(body, &(struct tool){.name = chat->schema_name,
                                      .parameters = chat->schema,
                                      .strict = chat->schema_strict});
        buf_append_byte(body, ']');
        put_named_choice(body, chat->schema_name);
        break;
    case STRUCTURED_JSON:
        buf_append_text(body,
                        ",\"text\":{\"format\":{\"type\":\"json_object\"}}");
        break;
    case STRUCTURED_PROMPT:
        break;
    }
}

/* There is no seed, which is only ever a wish. */
void responses_put_chat(const struct question *question, struct buf *body)
{
    const struct chat *chat = question->chat;
    enum effort effort = question_effort(question);

    buf_append_text(body, "{\"model\":");
    jv_put_string(body, question->candidate->model);
    buf_append_text(body, ",\"input\":[");
    for (size_t i = 0; i < chat->message_count; i++)
        put_items(body, &chat->messages[i]);
    buf_append_byte(body, ']');
    if (chat->previous_response_id.size > 0) {
        buf_append_text(body, ",\"previous_response_id\":");
        jv_put_string(body, chat->previous_response_id);
    }
    put_count_member(body, "max_output_tokens", chat->max_tokens);
    openai_put_sampling(question, body);
    if (effort != EFFORT_UNSET)
        buf_printf(body, ",\"reasoning\":{\"effort\":\"%s\"}",
                   effort_name(effort));
    put_tools(body, chat);
    put_structured(question, body);
    buf_append_text(body, chat->store == STORE_YES ? ",\"store\":true"
                                                   : ",\"store\":false");
    buf_append_text(body, ",\"stream\":true}");
}

bool responses_check(const struct question *question, struct error *err)
{
    return question->chat->stop_count == 0 ||
           error_set(err, ERR_INVALID_REQUEST,
                     "OpenAI's responses API has no stop sequences");
}

static bool address(const struct question *question, struct arena *arena,
                    struct provider_request *request, struct error *err)
{
    return responses_check(question, err) &&
           request_set_url(arena, request, question->endpoint->base_url,
                           "/responses", err) &&
           openai_add_headers(question, arena, request, err);
}

/* The answer. */

static void read_usage(struct reader *reader, const struct jv *counts)
{
    const struct jv *input = jv_find(counts, "input_tokens_details");
    const struct jv *output = jv_find(counts, "output_tokens_details");
    struct usage usage = USAGE_UNKNOWN;

    if (!counts || counts->type != JV_OBJECT)
        return;
    usage.input_tokens = count_find(counts, "input_tokens");
    usage.output_tokens = count_find(counts, "output_tokens");
    usage.total_tokens = count_sum(usage.input_tokens, usage.output_tokens);
    usage.cached_tokens =
        count_find_part(input, "cached_tokens", usage.input_tokens);
    usage.cache_write_tokens =
        count_find_part(input, "cache_write_tokens", usage.input_tokens);
    usage.reasoning_tokens =
        count_find_part(output, "reasoning_tokens", usage.output_tokens);
    *reader_usage(reader) = usage;
}

static bool is_type(const struct jv *object, const char *type)
{
    return slice_is(jv_string(jv_find(object, "type")), type);
}

static void read_call(struct reader *reader, int64_t key, const struct jv *item)
{
    reader_call(reader, key, jv_string(jv_find(item, "call_id")),
                jv_string(jv_find(item, "name")));
    reader_set_arguments(reader, key, jv_find(item, "arguments"));
}

static void read_message(struct reader *reader, const struct jv *item)
{
    const struct jv *content = jv_find(item, "content");

    for (size_t i = 0; i < jv_count(content); i++) {
        const struct jv *part = jv_at(content, i);

        reader_add_text(reader, jv_string(jv_find(part, "text")));
        reader_add_refusal(reader, jv_string(jv_find(part, "refusal")));
    }
}

/* What deltas brought is not read again. */
static void read_output(struct reader *reader, const struct jv *output)
{
    struct responses_state *state = reader_state(reader);

    for (size_t i = 0; i < jv_count(output); i++) {
        const struct jv *item = jv_at(output, i);

        if (is_type(item, "mcp_approval_request"))
            state->wants_approval = true;
        else if (state->has_output)
            continue;
        else if (is_type(item, "function_call"))
            read_call(reader, (int64_t)i, item);
        else if (is_type(item, "message"))
            read_message(reader, item);
    }
}

static bool read_end(struct reader *reader, const struct jv *response,
                     struct slice status)
{
    struct slice reason =
        jv_string(jv_find(jv_find(response, "incomplete_details"), "reason"));
    const struct responses_state *state = reader_state(reader);

    if (slice_is(status, "failed"))
        return reader_fail_told(reader, response);
    if (state->wants_approval)
        return reader_fail_request(
            reader, "opts.mcp_servers",
            "the call of a tool waits for approval, which cannot be given "
            "here: require_approval must be never for it");
    if (slice_is(status, "completed"))
        reader_finish(reader, FINISH_STOP);
    else if (!slice_is(status, "incomplete"))
        return reader_fail_bad(reader, "the response is not completed");
    else if (slice_is(reason, "content_filter"))
        reader_finish(reader, FINISH_CONTENT_FILTER);
    else /* whatever the limit was, the answer is not all there */
        reader_finish(reader, FINISH_LENGTH);
    return true;
}

static bool read_response(struct reader *reader, const struct jv *response,
                          struct slice status)
{
    reader_set_model(reader, jv_string(jv_find(response, "model")));
    reader_set_response_id(reader, jv_string(jv_find(response, "id")));
    read_usage(reader, jv_find(response, "usage"));
    read_output(reader, jv_find(response, "output"));
    return read_end(reader, response, status);
}

bool responses_read_document(struct reader *reader, const struct jv *response)
{
    return read_response(reader, response,
                         jv_string(jv_find(response, "status")));
}

enum event {
    EVENT_TEXT,
    EVENT_REFUSAL,
    EVENT_ITEM,
    EVENT_ARGUMENTS,
    EVENT_THOUGHT,
    EVENT_END,
    EVENT_OTHER,
};

static enum event find_event(struct slice type)
{
    static const struct {
        const char *type;
        enum event event;
    } events[] = {
        {"response.output_text.delta", EVENT_TEXT},
        {"response.refusal.delta", EVENT_REFUSAL},
        {"response.output_item.added", EVENT_ITEM},
        {"response.output_item.done", EVENT_ITEM},
        {"response.function_call_arguments.delta", EVENT_ARGUMENTS},
        {"response.completed", EVENT_END},
        {"response.incomplete", EVENT_END},
        {"response.failed", EVENT_END},
    };

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
        if (slice_is(type, events[i].type))
            return events[i].event;
    return slice_starts_with(type, "response.reasoning") ||
                   slice_starts_with(type, "response.mcp_")
               ? EVENT_THOUGHT
               : EVENT_OTHER;
}

static void read_item(struct reader *reader, int64_t index,
                      const struct jv *item)
{
    struct responses_state *state = reader_state(reader);

    reader_note_progress(reader);
    if (is_type(item, "mcp_approval_request"))
        state->wants_approval = true;
    if (!is_type(item, "function_call"))
        return;
    state->has_output = true;
    read_call(reader, index, item);
}

bool responses_read_event(struct reader *reader, struct slice name,
                          const struct jv *event)
{
    struct slice type = jv_string(jv_find(event, "type"));
    struct slice delta = jv_string(jv_find(event, "delta"));
    int64_t index = jv_integer(jv_find(event, "output_index"), 0);
    struct responses_state *state = reader_state(reader);

    if (type.size == 0)
        type = name;
    switch (find_event(type)) {
    case EVENT_TEXT:
        state->has_output = true;
        reader_add_text(reader, delta);
        return true;
    case EVENT_REFUSAL:
        state->has_output = true;
        reader_add_refusal(reader, delta);
        return true;
    case EVENT_ITEM:
        read_item(reader, index, jv_find(event, "item"));
        return true;
    case EVENT_ARGUMENTS:
        reader_add_arguments(reader, index, delta);
        return true;
    case EVENT_THOUGHT:
        reader_note_progress(reader);
        return true;
    case EVENT_END:
        reader_stop(reader);
        return read_response(reader, jv_find(event, "response"),
                             slice_make(type.data + strlen("response."),
                                        type.size - strlen("response.")));
    case EVENT_OTHER:
        return true;
    }
    return true;
}

const struct dialect dialect_openai_responses = {
    .name = "openai_responses",
    .stream = STREAM_EVENTS,
    .state_size = sizeof(struct responses_state),
    .client_id = "X-Client-Request-Id: ",
    .answer_ids = {"x-request-id"},
    .address = address,
    .put_chat = responses_put_chat,
    .read_event = responses_read_event,
    .read_document = responses_read_document,
    .read_limits = read_openai_limits,
};
