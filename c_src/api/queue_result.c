/* What became of a request, for the results queue and the dead letters. */
#include <inttypes.h>
#include <math.h>

#include "api/queue_internal.h"
#include "llm_router/api/json_term.h"

/* Maps and lists so deep in a value are written piece by piece: a result may
 * hold more values than json_from_term takes at once (embeddings do). The rows
 * of `return => full` for embed are at this depth. */
enum { PIECES_DEPTH = 3 };

/* What is not known is null. */
static void put_optional(struct buf *out, const char *name, struct slice text)
{
    put_key(out, name);
    if (text.size > 0)
        put_clean_text(out, text);
    else
        buf_append_text(out, "null");
}

static void put_integer(struct buf *out, const char *name, int64_t value)
{
    put_key(out, name);
    buf_printf(out, "%" PRId64, value);
}

static void put_tokens(struct buf *out, int64_t tokens)
{
    if (tokens >= 0)
        buf_printf(out, "%" PRId64, tokens);
    else
        buf_append_text(out, "null");
}

/* With a point and without an exponent, for readers to whom 0 is no float.
 * Twelve digits: a token costs 1e-9 USD and more. */
static void put_money(struct buf *out, const char *name, double amount)
{
    put_key(out, name);
    if (!isfinite(amount)) {
        buf_append_text(out, "0.0");
        return;
    }
    buf_printf(out, "%.12f", amount);
    while (!out->failed && out->data[out->size - 1] == '0' &&
           out->data[out->size - 2] != '.')
        out->size--;
}

static void put_error(struct buf *out, const struct error *err)
{
    put_key(out, "error");
    if (!err) {
        buf_append_text(out, "null");
        return;
    }
    buf_append_byte(out, '{');
    put_text(out, "code", slice_of(error_atom(err->code)));
    put_text(out, "message", slice_of(err->message));
    if (err->path[0] != '\0')
        put_text(out, "path", slice_of(err->path));
    if (err->http_status > 0)
        put_integer(out, "http_status", err->http_status);
    if (err->provider_request_id[0] != '\0')
        put_text(out, "provider_request_id",
                 slice_of(err->provider_request_id));
    if (err->retry_after_ms >= 0)
        put_integer(out, "retry_after_ms", err->retry_after_ms);
    if (err->code == ERR_TASK_COUNT) {
        put_integer(out, "wanted", err->wanted);
        put_integer(out, "got", err->got);
    }
    buf_append_byte(out, '}');
}

/* --- the value, out of the term that a caller on the BEAM would get --- */

/* The value of {ok, Value}. */
static bool open_value(struct slice raw, struct term *value)
{
    struct term ok;

    if (raw.size == 0 || !term_tuple_of(term_from_raw(raw), 2, &ok) ||
        !term_is_atom(ok, "ok"))
        return false;
    *value = term_next(ok);
    return true;
}

static void put_piece(struct buf *out, struct term term)
{
    struct arena arena;
    struct error ignored;
    struct jv *json;

    arena_init(&arena, 0);
    if (json_from_term(term, JSON_TERM_STRICT, &arena, &json, &ignored))
        jv_put(out, json);
    else
        buf_append_text(out, "null");
    arena_release(&arena);
}

static void put_term(struct buf *out, struct term term, int depth);

/* Keys that are no names are left out. */
static void put_map(struct buf *out, struct term key, uint32_t pairs, int depth)
{
    const char *comma = "";

    buf_append_byte(out, '{');
    for (; pairs > 0; pairs--) {
        struct term value = term_next(key);
        struct slice name;

        if (term_atom(key, &name) || term_binary(key, &name)) {
            buf_append_text(out, comma);
            put_clean_text(out, name);
            buf_append_byte(out, ':');
            put_term(out, value, depth + 1);
            comma = ",";
        }
        if (pairs > 1)
            key = term_next(value);
    }
    buf_append_byte(out, '}');
}

static void put_list(struct buf *out, struct term element, uint32_t length,
                     int depth)
{
    buf_append_byte(out, '[');
    for (; length > 0; length--) {
        put_term(out, element, depth + 1);
        element = term_next(element);
        if (length > 1)
            buf_append_byte(out, ',');
    }
    buf_append_byte(out, ']');
}

static void put_term(struct buf *out, struct term term, int depth)
{
    struct term first;
    uint32_t count;

    if (depth < PIECES_DEPTH && term_map(term, &count, &first))
        put_map(out, first, count, depth);
    else if (depth < PIECES_DEPTH && term_list_open(term, &count, &first) &&
             term_kind(first) != TERM_TUPLE)
        put_list(out, first, count, depth);
    else
        put_piece(out, term);
}

static bool find_text(const struct request *request, struct term value,
                      const char *key, struct slice *text)
{
    bool is_string;

    if (request->options.full &&
        !find_member(value, "result", &value, &is_string))
        return false;
    return find_member(value, key, &value, &is_string) &&
           term_binary(value, text);
}

/* Of a chat and of research the text that a reader wants. */
static bool find_response(const struct request *request, struct term value,
                          struct slice *text)
{
    if (request->operation == OP_RESEARCH)
        return find_text(request, value, "findings", text);
    return request->message_count > 0 &&
           find_text(request, value, "text", text);
}

/* Is the text of the response all that there is to the answer? */
static bool is_text_alone(const struct request *request)
{
    const struct options *options = &request->options;

    return request->message_count > 0 && !options->schema &&
           options->tool_count == 0 && !options->full;
}

static void put_answer(struct buf *out, const struct queue_result *result)
{
    const struct request *request = &result->queued->request;
    struct slice text, id = slice_of(NULL);
    struct term value;
    bool known = !result->err && open_value(result->value, &value);

    put_key(out, "response");
    if (known && find_response(request, value, &text))
        put_clean_text(out, text);
    else
        buf_append_text(out, "null");
    if (known && request->message_count > 0 &&
        !find_text(request, value, "response_id", &id))
        id = slice_of(NULL);
    put_optional(out, "response_id", id);
    put_key(out, "result");
    if (known && !is_text_alone(request))
        put_term(out, value, 0);
    else
        buf_append_text(out, "null");
}

/* --- the messages --- */

static const char *status_of(const struct error *err)
{
    if (!err)
        return "success";
    return err->code == ERR_TIMEOUT ? "timeout" : "failed";
}

static void put_account(struct buf *out, const struct account *account)
{
    const struct usage *usage = &account->usage;

    put_optional(out, "model", account->model);
    put_optional(out, "provider", account->provider);
    put_key(out, "usage");
    buf_append_byte(out, '{');
    put_key(out, "prompt_tokens");
    put_tokens(out, usage->input_tokens);
    put_key(out, "completion_tokens");
    put_tokens(out, usage->output_tokens);
    put_key(out, "total_tokens");
    put_tokens(out, usage->total_tokens);
    buf_append_byte(out, '}');
    put_key(out, "tokens_used");
    put_tokens(out, usage->total_tokens);
    put_money(out, "cost", account->cost_usd);
    put_money(out, "cost_cents", account->cost_usd * 100);
    put_integer(out, "latency_ms", account->duration_ms);
    put_integer(out, "attempts", account->attempts);
}

/* What the router decided on, else what was asked for. */
static void put_complexity(struct buf *out, const struct request *request,
                           const struct account *account)
{
    enum complexity complexity = request->options.complexity;

    if (account->decision && account->decision->complexity != COMPLEXITY_UNSET)
        complexity = account->decision->complexity;
    put_optional(out, "complexity",
                 complexity == COMPLEXITY_UNSET
                     ? slice_of(NULL)
                     : slice_of(complexity_atom(complexity)));
}

void queue_result_put(struct buf *out, const struct queue_result *result)
{
    const struct account nobody = {.usage = USAGE_UNKNOWN, .cost_usd = NAN};
    const struct account *account = result->account ? result->account : &nobody;
    const struct queue_request *queued = result->queued;
    enum operation operation = queued->request.operation;

    buf_append_byte(out, '{');
    put_text(out, "status", slice_of(status_of(result->err)));
    put_optional(out, "request_id", queued->request_id);
    put_optional(out, "agent_id", queued->agent_id);
    put_optional(out, "operation",
                 slice_of(operation < OPERATION_COUNT
                              ? operation_atom(operation)
                              : NULL));
    put_answer(out, result);
    put_account(out, account);
    put_complexity(out, &queued->request, account);
    put_optional(out, "task_type", queued->request.options.task_type);
    put_error(out, result->err);
    put_key(out, "timestamp");
    put_time(out, result->unix_ms);
    buf_append_byte(out, '}');
}

void queue_dead_letter_put(struct buf *out,
                           const struct queue_dead_letter *letter)
{
    buf_append_byte(out, '{');
    put_key(out, "message");
    if (letter->json.size > 0)
        buf_append_slice(out, letter->json);
    else
        buf_append_text(out, "null");
    put_error(out, letter->err);
    put_integer(out, "read_ct", letter->read_count);
    put_integer(out, "msg_id", letter->msg_id);
    put_key(out, "dead_at");
    put_time(out, letter->unix_ms);
    buf_append_byte(out, '}');
}
