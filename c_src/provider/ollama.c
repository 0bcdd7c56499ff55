/* Ollama's own API: http://127.0.0.1:11434/api/chat, a JSON value on each
 * line.
 *
 * Left to itself Ollama cuts what does not fit into its context, from the
 * beginning, and says nothing: it is told to refuse instead, and to make the
 * context as large as the catalogue says the model's is. */

#include <inttypes.h>

#include "provider/dialects_internal.h"
#include "provider/turns_internal.h"

/* The request. */

static bool must_call(const struct chat *chat)
{
    return chat->tool_choice == TOOL_CHOICE_REQUIRED ||
           chat->tool_choice == TOOL_CHOICE_NAMED;
}

static bool address(const struct question *question, struct arena *arena,
                    struct provider_request *request, struct error *err)
{
    const struct endpoint *endpoint = question->endpoint;

    if (must_call(question->chat))
        return error_at(err, ERR_INVALID_REQUEST, "opts.tool_choice",
                        "Ollama cannot be made to call a tool");
    return turns_check_answers(question->chat, err) &&
           request_set_url(
               arena, request, endpoint->base_url,
               question_embeds(question) ? "/api/embed" : "/api/chat", err) &&
           request_add_json_headers(arena, request, err) &&
           request_add_header(arena, request, "Authorization: Bearer ",
                              endpoint->api_key, err);
}

static void put_calls(struct buf *body, const struct message *message)
{
    for (size_t i = 0; i < message->tool_call_count; i++) {
        const struct tool_call *call = &message->tool_calls[i];

        buf_append_text(body,
                        i > 0 ? ",{\"id\":" : ",\"tool_calls\":[{\"id\":");
        jv_put_string(body, call->id);
        buf_append_text(body, ",\"function\":{\"name\":");
        jv_put_string(body, call->name);
        buf_append_text(body, ",\"arguments\":");
        buf_append_slice(body, call->arguments);
        buf_append_text(body, "}}");
    }
    if (message->tool_call_count > 0)
        buf_append_byte(body, ']');
}

static void put_message(struct buf *body, const struct chat *chat,
                        const struct message *message)
{
    buf_append_text(body, "{\"role\":\"");
    buf_append_text(body, role_name(message->role));
    buf_append_text(body, "\",\"content\":");
    jv_put_string(body, message->content);
    if (message->role == ROLE_TOOL) {
        buf_append_text(body, ",\"tool_name\":");
        jv_put_string(body, answered_tool(chat, message));
        buf_append_text(body, ",\"tool_call_id\":");
        jv_put_string(body, message->tool_call_id);
    }
    put_calls(body, message);
    buf_append_byte(body, '}');
}

static void put_messages(struct buf *body, const struct chat *chat)
{
    buf_append_text(body, ",\"messages\":[");
    for (size_t i = 0; i < chat->message_count; i++) {
        if (i > 0)
            buf_append_byte(body, ',');
        put_message(body, chat, &chat->messages[i]);
    }
    buf_append_byte(body, ']');
}

static void put_tool(struct buf *body, const struct tool *tool)
{
    buf_append_text(body, "{\"type\":\"function\",\"function\":{\"name\":");
    jv_put_string(body, tool->name);
    buf_append_text(body, ",\"description\":");
    jv_put_string(body, tool->description);
    buf_append_text(body, ",\"parameters\":");
    buf_append_slice(body, tool->parameters.size > 0
                               ? tool->parameters
                               : SLICE_LITERAL("{\"type\":\"object\","
                                               "\"properties\":{}}"));
    buf_append_text(body, "}}");
}

static void put_tools(struct buf *body, const struct chat *chat)
{
    if (chat->tool_count == 0 || chat->tool_choice == TOOL_CHOICE_NONE)
        return;
    for (size_t i = 0; i < chat->tool_count; i++) {
        buf_append_text(body, i > 0 ? "," : ",\"tools\":[");
        put_tool(body, &chat->tools[i]);
    }
    buf_append_byte(body, ']');
}

/* A format leaves a model no way to call a tool: with tools the schema is only
 * in the prompt. */
static void put_format(struct buf *body, const struct question *question)
{
    const struct chat *chat = question->chat;
    enum structured_mode mode = question_structured(question->candidate, chat);

    if (chat->tool_count > 0)
        return;
    if (mode == STRUCTURED_SCHEMA) {
        buf_append_text(body, ",\"format\":");
        buf_append_slice(body, chat->schema);
    } else if (mode == STRUCTURED_JSON) {
        buf_append_text(body, ",\"format\":\"json\"");
    }
}

/* Some models take only these three words, others any of them as a yes. */
static void put_thinking(struct buf *body, enum effort effort)
{
    static const char *const levels[] = {
        [EFFORT_NONE] = "false",    [EFFORT_MINIMAL] = "\"low\"",
        [EFFORT_LOW] = "\"low\"",   [EFFORT_MEDIUM] = "\"medium\"",
        [EFFORT_HIGH] = "\"high\"", [EFFORT_XHIGH] = "\"high\"",
        [EFFORT_MAX] = "\"high\"",
    };

    if (effort == EFFORT_UNSET)
        return;
    buf_append_text(body, ",\"think\":");
    buf_append_text(body, levels[effort]);
}

static void put_options(struct buf *body, const struct question *question)
{
    const struct chat *chat = question->chat;
    const struct model *known = question->candidate->entry;
    size_t start;

    buf_append_text(body, ",\"options\":{");
    start = body->size;
    if (known && known->context_tokens > 0)
        put_count_member(body, "num_ctx", known->context_tokens);
    put_count_member(body, "num_predict", chat->max_tokens);
    if (question_samples(question)) {
        put_number_member(body, "temperature", chat->temperature);
        put_number_member(body, "top_p", chat->top_p);
    }
    put_texts_member(body, "stop", chat->stops, chat->stop_count);
    if (chat->has_seed)
        buf_printf(body, ",\"seed\":%" PRId64, chat->seed);
    /* Every member brings its comma; the first needs none. */
    if (body->size > start)
        body->data[start] = ' ';
    buf_append_byte(body, '}');
}

static void put_chat(const struct question *question, struct buf *body)
{
    buf_append_text(body, "{\"model\":");
    jv_put_string(body, question->candidate->model);
    put_messages(body, question->chat);
    put_tools(body, question->chat);
    put_format(body, question);
    put_thinking(body, question_effort(question));
    put_options(body, question);
    buf_append_text(body, ",\"truncate\":false,\"shift\":false,"
                          "\"stream\":true}");
}

static void put_embedding(const struct question *question, struct buf *body)
{
    buf_append_text(body, "{\"model\":");
    jv_put_string(body, question->candidate->model);
    put_texts_member(body, "input", question->chat->inputs,
                     question->chat->input_count);
    buf_append_text(body, ",\"truncate\":false}");
}

/* The answer. */

struct state {
    int64_t calls; /* so far; each comes whole */
};

static void read_calls(struct reader *reader, const struct jv *calls)
{
    struct state *state = reader_state(reader);

    for (size_t i = 0; i < jv_count(calls); i++) {
        const struct jv *call = jv_at(calls, i);
        const struct jv *function = jv_find(call, "function");
        int64_t key = state->calls++;

        reader_call(reader, key, jv_string(jv_find(call, "id")),
                    jv_string(jv_find(function, "name")));
        reader_set_arguments(reader, key, jv_find(function, "arguments"));
    }
}

static void read_usage(struct reader *reader, const struct jv *counts)
{
    struct usage *usage = reader_usage(reader);

    usage->input_tokens = count_find(counts, "prompt_eval_count");
    usage->output_tokens = count_find(counts, "eval_count");
    usage->total_tokens = count_sum(usage->input_tokens, usage->output_tokens);
}

static void read_end(struct reader *reader, const struct jv *line)
{
    static const struct finish_word finishes[] = {{"length", FINISH_LENGTH}};

    read_usage(reader, line);
    reader_finish(reader, finish_find(finishes, 1,
                                      jv_string(jv_find(line, "done_reason"))));
    reader_stop(reader);
}

static bool read_event(struct reader *reader, struct slice name,
                       const struct jv *line)
{
    const struct jv *message = jv_find(line, "message");

    (void)name; /* lines have none */
    reader_set_model(reader, jv_string(jv_find(line, "model")));
    reader_add_text(reader, jv_string(jv_find(message, "content")));
    if (jv_string(jv_find(message, "thinking")).size > 0)
        reader_note_progress(reader);
    read_calls(reader, jv_find(message, "tool_calls"));
    if (jv_boolean(jv_find(line, "done"), false))
        read_end(reader, line);
    return true;
}

static bool read_embeddings(struct reader *reader, const struct jv *document)
{
    const struct jv *list = jv_find(document, "embeddings");

    reader_set_model(reader, jv_string(jv_find(document, "model")));
    read_usage(reader, document);
    for (size_t i = 0; i < jv_count(list); i++)
        if (!reader_add_embedding(reader, (int64_t)i, jv_at(list, i)))
            return false;
    return true;
}

const struct dialect dialect_ollama = {
    .name = "ollama",
    .stream = STREAM_LINES,
    .state_size = sizeof(struct state),
    .address = address,
    .put_chat = put_chat,
    .put_embedding = put_embedding,
    .read_event = read_event,
    .read_embeddings = read_embeddings,
};
