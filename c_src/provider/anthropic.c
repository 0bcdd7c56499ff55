/* Anthropic Messages: https://api.anthropic.com/v1/messages.
 *
 * Two versions are alive, by the date in the header anthropic-version. The
 * newer one refuses temperature and top_p even at their defaults.
 *
 * There are no embeddings, and no seed: it is but a wish for the same answer
 * again, and is dropped. */

#include <math.h>
#include <time.h>

#include "provider/dialects_internal.h"
#include "provider/turns_internal.h"

/* The request. */

static const char VERSION[] = "2023-06-01";

/* max_tokens must be sent. The longest answers of today's models are more than
 * anybody waits for, and rate limits reserve what is asked for. */
enum { ANSWER_TOKENS = 8192, ANSWER_TOKENS_MAX = 32000 };

static struct slice version_of(const struct question *question)
{
    struct slice version = question->endpoint->api_version;

    return version.size > 0 ? version : slice_of(VERSION);
}

static bool address(const struct question *question, struct arena *arena,
                    struct provider_request *request, struct error *err)
{
    const struct endpoint *endpoint = question->endpoint;

    return request_set_url(arena, request, endpoint->base_url,
                           url_ends_with(endpoint->base_url, "/v1")
                               ? "/messages"
                               : "/v1/messages",
                           err) &&
           request_add_json_headers(arena, request, err) &&
           request_add_header(arena, request, "x-api-key: ", endpoint->api_key,
                              err) &&
           request_add_header(arena, request,
                              "anthropic-version: ", version_of(question), err);
}

/* Ids come from other vendors too, after a fallback; here they hold only these
 * characters. */
static void put_id(struct buf *body, struct slice id)
{
    buf_append_byte(body, '"');
    for (size_t i = 0; i < id.size; i++) {
        char c = id.data[i];
        bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       (c >= '0' && c <= '9') || c == '-';

        buf_append_byte(body, allowed ? c : '_');
    }
    buf_append_byte(body, '"');
}

static void put_calls(struct buf *body, const struct message *message)
{
    for (size_t i = 0; i < message->tool_call_count; i++) {
        const struct tool_call *call = &message->tool_calls[i];

        buf_append_text(body, i > 0 || message->content.size > 0
                                  ? ",{\"type\":\"tool_use\",\"id\":"
                                  : "{\"type\":\"tool_use\",\"id\":");
        put_id(body, call->id);
        buf_append_text(body, ",\"name\":");
        jv_put_string(body, call->name);
        buf_append_text(body, ",\"input\":");
        buf_append_slice(body, call->arguments);
        buf_append_byte(body, '}');
    }
}

/* Blocks of text must not be empty. */
static void put_blocks(struct buf *body, const struct chat *chat,
                       const struct message *message)
{
    (void)chat;
    if (message->role == ROLE_TOOL) {
        buf_append_text(body, "{\"type\":\"tool_result\",\"tool_use_id\":");
        put_id(body, message->tool_call_id);
        buf_append_text(body, ",\"content\":");
        jv_put_string(body, message->content);
        buf_append_byte(body, '}');
        return;
    }
    if (message->content.size > 0) {
        buf_append_text(body, "{\"type\":\"text\",\"text\":");
        jv_put_string(body, message->content);
        buf_append_byte(body, '}');
    }
    put_calls(body, message);
}

/* The first turn must be the user's; a full stop says the least. */
static const struct turn_words words = {
    .user = "user",
    .assistant = "assistant",
    .parts = "content",
    .opening = "{\"role\":\"user\",\"content\":"
               "[{\"type\":\"text\",\"text\":\".\"}]}",
    .put_parts = put_blocks,
};

static int64_t answer_tokens(const struct question *question)
{
    const struct model *known = question->candidate->entry;

    if (question->chat->max_tokens > 0)
        return question->chat->max_tokens;
    if (!known || known->max_output_tokens <= 0)
        return ANSWER_TOKENS;
    return known->max_output_tokens < ANSWER_TOKENS_MAX
               ? known->max_output_tokens
               : ANSWER_TOKENS_MAX;
}

/* Models of late refuse both at once, where they take any. */
static void put_sampling(struct buf *body, const struct question *question)
{
    const struct chat *chat = question->chat;

    if (!slice_is(version_of(question), VERSION) || !question_samples(question))
        return;
    put_number_member(body, "temperature", chat->temperature);
    if (isnan(chat->temperature))
        put_number_member(body, "top_p", chat->top_p);
}

/* "none" is no effort here but another switch. */
static void put_output(struct buf *body, const struct question *question)
{
    enum effort effort = question_effort(question);
    bool schema = question->chat->schema_strict &&
                  question_structured(question->candidate, question->chat) ==
                      STRUCTURED_SCHEMA;

    if (effort == EFFORT_NONE)
        buf_append_text(body, ",\"thinking\":{\"type\":\"disabled\"}");
    if (effort <= EFFORT_NONE && !schema)
        return;
    buf_append_text(body, ",\"output_config\":{");
    if (effort > EFFORT_NONE) {
        if (effort == EFFORT_MINIMAL)
            effort = EFFORT_LOW;
        buf_append_text(body, "\"effort\":\"");
        buf_append_text(body, effort_name(effort));
        buf_append_text(body, schema ? "\"," : "\"");
    }
    if (schema) {
        buf_append_text(body, "\"format\":{\"type\":\"json_schema\","
                              "\"schema\":");
        buf_append_slice(body, question->chat->schema);
        buf_append_byte(body, '}');
    }
    buf_append_byte(body, '}');
}

static void put_tool(struct buf *body, const struct tool *tool)
{
    buf_append_text(body, "{\"name\":");
    jv_put_string(body, tool->name);
    if (tool->description.size > 0) {
        buf_append_text(body, ",\"description\":");
        jv_put_string(body, tool->description);
    }
    buf_append_text(body, ",\"input_schema\":");
    buf_append_slice(body, tool->parameters.size > 0
                               ? tool->parameters
                               : SLICE_LITERAL("{\"type\":\"object\"}"));
    buf_append_text(body, tool->strict ? ",\"strict\":true}" : "}");
}

static void put_choice(struct buf *body, enum tool_choice choice,
                       struct slice name)
{
    static const char *const types[] = {
        [TOOL_CHOICE_AUTO] = "auto",
        [TOOL_CHOICE_NONE] = "none",
        [TOOL_CHOICE_REQUIRED] = "any",
        [TOOL_CHOICE_NAMED] = "tool",
    };

    if (choice == TOOL_CHOICE_UNSET)
        return;
    buf_append_text(body, ",\"tool_choice\":{\"type\":\"");
    buf_append_text(body, types[choice]);
    buf_append_byte(body, '"');
    if (choice == TOOL_CHOICE_NAMED) {
        buf_append_text(body, ",\"name\":");
        jv_put_string(body, name);
    }
    buf_append_byte(body, '}');
}

static void put_tools(struct buf *body, const struct question *question)
{
    struct tool_offer offer;

    question_tools(question, &offer);
    if (offer.count == 0)
        return;
    for (size_t i = 0; i < offer.count; i++) {
        buf_append_text(body, i > 0 ? "," : ",\"tools\":[");
        put_tool(body, &offer.tools[i]);
    }
    buf_append_byte(body, ']');
    put_choice(body, offer.choice, offer.choice_name);
}

static void put_chat(const struct question *question, struct buf *body)
{
    const struct chat *chat = question->chat;

    buf_append_text(body, "{\"model\":");
    jv_put_string(body, question->candidate->model);
    put_count_member(body, "max_tokens", answer_tokens(question));
    if (turns_have_system(chat)) {
        buf_append_text(body, ",\"system\":");
        put_system_parts(body, chat, &words);
    }
    buf_append_text(body, ",\"messages\":");
    put_turns(body, chat, &words);
    put_sampling(body, question);
    put_texts_member(body, "stop_sequences", chat->stops, chat->stop_count);
    put_tools(body, question);
    put_output(body, question);
    buf_append_text(body, ",\"stream\":true}");
}

/* The answer. */

/* What was said of usage so far: the end of a stream repeats only some of what
 * its beginning said, and the last word on each counts. */
struct state {
    bool counted;
    int64_t input, output, read, written, written_1h, thinking;
    bool in_call; /* in a block that is the call of a tool of ours: */
    int64_t call; /* its index */
};

static void count(int64_t *so_far, const struct jv *counts, const char *key)
{
    int64_t tokens = count_find(counts, key);

    if (tokens >= 0)
        *so_far = tokens;
}

static void begin_counting(struct state *state)
{
    if (state->counted)
        return;
    state->counted = true;
    state->input = state->output = state->read = -1;
    state->written = state->written_1h = state->thinking = -1;
}

static int64_t known(int64_t tokens)
{
    return tokens >= 0 ? tokens : 0;
}

/* The vendor's input leaves out what is read from and written to the cache. */
static void read_usage(struct reader *reader, const struct jv *counts)
{
    struct state *state = reader_state(reader);
    struct usage *usage = reader_usage(reader);

    if (!counts || counts->type != JV_OBJECT)
        return;
    begin_counting(state);
    count(&state->input, counts, "input_tokens");
    count(&state->output, counts, "output_tokens");
    count(&state->read, counts, "cache_read_input_tokens");
    count(&state->written, counts, "cache_creation_input_tokens");
    count(&state->written_1h, jv_find(counts, "cache_creation"),
          "ephemeral_1h_input_tokens");
    count(&state->thinking, jv_find(counts, "output_tokens_details"),
          "thinking_tokens");
    usage->input_tokens = state->input < 0 ? -1
                                           : state->input + known(state->read) +
                                                 known(state->written);
    usage->cached_tokens = state->input < 0 ? -1 : state->read;
    usage->cache_write_tokens = state->input < 0 ? -1 : state->written;
    usage->cache_write_1h_tokens =
        state->written_1h <= usage->cache_write_tokens ? state->written_1h : -1;
    usage->output_tokens = state->output;
    usage->reasoning_tokens =
        state->thinking <= state->output ? state->thinking : -1;
    usage->total_tokens = count_sum(usage->input_tokens, usage->output_tokens);
}

/* pause_turn comes only with tools that the vendor runs itself: the turn goes
 * on when it is sent back, which is what is done with an answer that was cut
 * for its length. */
static const struct finish_word finishes[] = {
    {"max_tokens", FINISH_LENGTH},
    {"model_context_window_exceeded", FINISH_LENGTH},
    {"pause_turn", FINISH_LENGTH},
    {"tool_use", FINISH_TOOL_CALLS},
    {"refusal", FINISH_REFUSAL},
};

/* `where`: the message, or the delta at its end. */
static void read_stop(struct reader *reader, const struct jv *where)
{
    struct slice reason = jv_string(jv_find(where, "stop_reason"));
    const struct jv *details = jv_find(where, "stop_details");
    enum finish_reason finish =
        finish_find(finishes, sizeof(finishes) / sizeof(finishes[0]), reason);

    if (reason.size == 0)
        return;
    if (finish == FINISH_REFUSAL)
        reader_add_refusal(reader, jv_string(jv_find(details, "explanation")));
    reader_finish(reader, finish);
}

static void begin_block(struct reader *reader, const struct jv *event)
{
    struct state *state = reader_state(reader);
    const struct jv *block = jv_find(event, "content_block");
    struct slice type = jv_string(jv_find(block, "type"));

    state->in_call = slice_is(type, "tool_use");
    if (state->in_call) {
        state->call = jv_integer(jv_find(event, "index"), 0);
        reader_call(reader, state->call, jv_string(jv_find(block, "id")),
                    jv_string(jv_find(block, "name")));
    } else if (slice_is(type, "text")) {
        reader_add_text(reader, jv_string(jv_find(block, "text")));
    } else {
        reader_note_progress(reader);
    }
}

static void read_delta(struct reader *reader, const struct jv *event)
{
    const struct state *state = reader_state(reader);
    const struct jv *delta = jv_find(event, "delta");
    struct slice type = jv_string(jv_find(delta, "type"));

    if (slice_is(type, "text_delta"))
        reader_add_text(reader, jv_string(jv_find(delta, "text")));
    else if (state->in_call && slice_is(type, "input_json_delta"))
        reader_add_arguments(reader, state->call,
                             jv_string(jv_find(delta, "partial_json")));
    else
        reader_note_progress(reader);
}

static bool read_event(struct reader *reader, struct slice name,
                       const struct jv *event)
{
    struct slice type = jv_string(jv_find(event, "type"));
    const struct jv *message = jv_find(event, "message");

    (void)name; /* says the same as the type */
    if (slice_is(type, "content_block_delta")) {
        read_delta(reader, event);
    } else if (slice_is(type, "content_block_start")) {
        begin_block(reader, event);
    } else if (slice_is(type, "message_start")) {
        reader_set_model(reader, jv_string(jv_find(message, "model")));
        read_usage(reader, jv_find(message, "usage"));
    } else if (slice_is(type, "message_delta")) {
        read_usage(reader, jv_find(event, "usage"));
        read_stop(reader, jv_find(event, "delta"));
    } else if (slice_is(type, "message_stop")) {
        reader_stop(reader);
    }
    return true;
}

static bool read_document(struct reader *reader, const struct jv *document)
{
    const struct jv *content = jv_find(document, "content");

    if (!content || content->type != JV_ARRAY)
        return reader_fail_bad(reader, "the answer has no content");
    reader_set_model(reader, jv_string(jv_find(document, "model")));
    read_usage(reader, jv_find(document, "usage"));
    for (size_t i = 0; i < jv_count(content); i++) {
        const struct jv *block = jv_at(content, i);
        struct slice type = jv_string(jv_find(block, "type"));

        if (slice_is(type, "text")) {
            reader_add_text(reader, jv_string(jv_find(block, "text")));
        } else if (slice_is(type, "tool_use")) {
            reader_call(reader, (int64_t)i, jv_string(jv_find(block, "id")),
                        jv_string(jv_find(block, "name")));
            reader_set_arguments(reader, (int64_t)i, jv_find(block, "input"));
        }
    }
    read_stop(reader, document);
    return true;
}

/* Limits. */

static bool take_number(struct slice *text, size_t digits, int *number)
{
    *number = 0;
    if (text->size < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (text->data[i] < '0' || text->data[i] > '9')
            return false;
        *number = *number * 10 + (text->data[i] - '0');
    }
    *text = slice_make(text->data + digits, text->size - digits);
    return true;
}

static bool take_byte(struct slice *text, char byte)
{
    if (text->size == 0 || text->data[0] != byte)
        return false;
    *text = slice_make(text->data + 1, text->size - 1);
    return true;
}

/* RFC 3339 in UTC, as sent here: "2026-11-22T18:30:00Z". Milliseconds from
 * now, at least 0; -1: it is not that. */
static int64_t until_ms(struct slice time, int64_t now_s)
{
    struct tm date = {.tm_isdst = 0};
    int64_t at_s;

    if (!take_number(&time, 4, &date.tm_year) || !take_byte(&time, '-') ||
        !take_number(&time, 2, &date.tm_mon) || !take_byte(&time, '-') ||
        !take_number(&time, 2, &date.tm_mday) || !take_byte(&time, 'T') ||
        !take_number(&time, 2, &date.tm_hour) || !take_byte(&time, ':') ||
        !take_number(&time, 2, &date.tm_min) || !take_byte(&time, ':') ||
        !take_number(&time, 2, &date.tm_sec) || time.size == 0 ||
        time.data[time.size - 1] != 'Z')
        return -1;
    date.tm_year -= 1900;
    date.tm_mon -= 1;
    at_s = (int64_t)timegm(&date);
    return at_s > now_s ? (at_s - now_s) * 1000 : 0;
}

static void read_limit(const struct provider_headers *headers, int64_t now_s,
                       const char *const names[2], int64_t *left,
                       int64_t *reset_ms)
{
    int64_t value;

    if (!slice_to_int64(headers->find(headers->context, names[0]), &value) ||
        value < 0)
        return;
    *left = value;
    *reset_ms = until_ms(headers->find(headers->context, names[1]), now_s);
}

/* Those of "tokens" are the tightest of the limits that hold. */
static void read_limits(struct rate_limits *limits,
                        const struct provider_headers *headers, int64_t now_s)
{
    static const char *const requests[] = {
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset"};
    static const char *const tokens[] = {"anthropic-ratelimit-tokens-remaining",
                                         "anthropic-ratelimit-tokens-reset"};

    read_limit(headers, now_s, requests, &limits->requests_left,
               &limits->requests_reset_ms);
    read_limit(headers, now_s, tokens, &limits->tokens_left,
               &limits->tokens_reset_ms);
}

const struct dialect dialect_anthropic = {
    .name = "anthropic",
    .stream = STREAM_EVENTS,
    .state_size = sizeof(struct state),
    .answer_ids = {"request-id"},
    .address = address,
    .put_chat = put_chat,
    .read_event = read_event,
    .read_document = read_document,
    .read_limits = read_limits,
};
