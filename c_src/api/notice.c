#include "llm_router/api/notice.h"

#include <math.h>

#include "llm_router/term/writer.h"

/* One pair of a map; a table of them is written without those that are not
 * known. */
struct pair {
    const char *key;
    enum {
        PAIR_UNKNOWN,
        PAIR_ATOM,
        PAIR_TEXT,
        PAIR_TEXTS, /* a list of one text */
        PAIR_INTEGER,
        PAIR_FLOAT,
        PAIR_EMPTY_LIST,
    } kind;
    struct slice text;
    int64_t integer;
    double number;
};

static struct pair atom_pair(const char *key, const char *atom)
{
    return (struct pair){.key = key, .kind = PAIR_ATOM, .text = slice_of(atom)};
}

static struct pair text_pair(const char *key, struct slice text)
{
    return (struct pair){
        .key = key,
        .kind = text.size > 0 ? PAIR_TEXT : PAIR_UNKNOWN,
        .text = text,
    };
}

/* Counts and times are never negative: unknown. */
static struct pair integer_pair(const char *key, int64_t value)
{
    return (struct pair){
        .key = key,
        .kind = value >= 0 ? PAIR_INTEGER : PAIR_UNKNOWN,
        .integer = value,
    };
}

static struct pair unknown_pair(void)
{
    return (struct pair){.kind = PAIR_UNKNOWN};
}

static void put_pair(struct buf *out, const struct pair *pair)
{
    term_put_atom(out, pair->key);
    switch (pair->kind) {
    case PAIR_UNKNOWN:
        break;
    case PAIR_ATOM:
        term_put_atom_slice(out, pair->text);
        break;
    case PAIR_TEXT:
        term_put_binary(out, pair->text);
        break;
    case PAIR_TEXTS:
        term_put_list(out, 1);
        term_put_binary(out, pair->text);
        term_put_nil(out);
        break;
    case PAIR_INTEGER:
        term_put_integer(out, pair->integer);
        break;
    case PAIR_FLOAT:
        term_put_float(out, pair->number);
        break;
    case PAIR_EMPTY_LIST:
        term_put_nil(out);
        break;
    }
}

static void put_pairs(struct buf *out, const struct pair *pairs, size_t count)
{
    size_t known = 0;

    for (size_t i = 0; i < count; i++)
        known += pairs[i].kind != PAIR_UNKNOWN;
    term_put_map(out, known);
    for (size_t i = 0; i < count; i++)
        if (pairs[i].kind != PAIR_UNKNOWN)
            put_pair(out, &pairs[i]);
}

#define PUT_PAIRS(out, pairs) \
    put_pairs(out, pairs, sizeof(pairs) / sizeof((pairs)[0]))

/* --- tasks --- */

static const char *status_atom(enum task_status status)
{
    static const char *const atoms[] = {
        [TASK_ACCEPTED] = "accepted",
        [TASK_CALLING] = "calling_provider",
        [TASK_FIRST_TOKEN] = "first_token",
        [TASK_VALIDATING] = "validating",
        [TASK_DONE] = "done",
        [TASK_FAILED] = "failed",
    };

    return atoms[status];
}

void notice_put_task_update(struct buf *out, const struct task_update *update)
{
    const struct pair pairs[] = {
        atom_pair("status", status_atom(update->status)),
        atom_pair("operation", operation_atom(update->operation)),
        text_pair("request_id", update->request_id),
        text_pair("provider", update->provider),
        text_pair("model", update->model),
        integer_pair("attempt", update->attempt > 0 ? update->attempt : -1),
        integer_pair("duration_ms", update->duration_ms),
        update->status == TASK_FAILED
            ? atom_pair("error", error_atom(update->error))
            : unknown_pair(),
    };

    term_put_tuple(out, 3);
    term_put_atom(out, "task_update");
    term_put_raw(out, update->task_id);
    PUT_PAIRS(out, pairs);
}

void notice_put_task_completed(struct buf *out, struct slice task_id)
{
    term_put_tuple(out, 2);
    term_put_atom(out, "task_completed");
    term_put_raw(out, task_id);
}

/* --- telemetry --- */

static void put_event_name(struct buf *out, enum request_phase phase)
{
    static const char *const atoms[] = {
        [REQUEST_START] = "start",
        [REQUEST_STOP] = "stop",
        [REQUEST_EXCEPTION] = "exception",
    };

    term_put_list(out, 3);
    term_put_atom(out, "llm_router");
    term_put_atom(out, "request");
    term_put_atom(out, atoms[phase]);
    term_put_nil(out);
}

static void put_measurements(struct buf *out, const struct request_event *event)
{
    const struct account *account = event->account;
    const struct usage *usage = account ? &account->usage : &USAGE_UNKNOWN;
    double cost_usd = account ? account->cost_usd : (double)NAN;
    const struct pair start[] = {integer_pair("system_time", event->unix_ns)};
    const struct pair end[] = {
        integer_pair("duration", event->duration_ns),
        integer_pair("attempts", account ? account->attempts : 0),
        integer_pair("input_tokens", usage->input_tokens),
        integer_pair("output_tokens", usage->output_tokens),
        integer_pair("total_tokens", usage->total_tokens),
        integer_pair("time_to_first_token", event->first_token_ns),
        {.key = "cost_usd",
         .kind = isfinite(cost_usd) ? PAIR_FLOAT : PAIR_UNKNOWN,
         .number = cost_usd},
    };

    if (event->phase == REQUEST_START)
        PUT_PAIRS(out, start);
    else
        PUT_PAIRS(out, end);
}

static const char *mode_of(const struct request_event *event)
{
    if (event->queued)
        return "queue";
    return event->request->operation == OP_STREAM ? "stream" : "call";
}

static struct pair node_pair(struct slice node)
{
    if (node.size == 0)
        return atom_pair("caller_node", "nil");
    return (struct pair){.key = "caller_node", .kind = PAIR_ATOM, .text = node};
}

static struct pair finish_pair(const struct result *result)
{
    if (!result)
        return unknown_pair();
    return (struct pair){
        .key = "gen_ai.response.finish_reasons",
        .kind = PAIR_TEXTS,
        .text = slice_of(finish_reason_atom(result->finish)),
    };
}

/* OpenTelemetry knows chat and embeddings; all else here is chat too. */
static const char *otel_operation(enum operation operation)
{
    return operation == OP_EMBED ? "embeddings" : "chat";
}

static void put_metadata(struct buf *out, const struct request_event *event)
{
    const struct request *request = event->request;
    const struct account *account = event->account;
    const struct error *error = event->error;
    struct slice none = slice_of(NULL);
    const struct pair pairs[] = {
        atom_pair("operation", operation_atom(request->operation)),
        text_pair("request_id", event->request_id),
        node_pair(event->caller_node),
        atom_pair("mode", mode_of(event)),
        text_pair("gen_ai.operation.name",
                  slice_of(otel_operation(request->operation))),
        text_pair("gen_ai.request.model", event->model),
        text_pair("gen_ai.provider.name", event->provider),
        text_pair("gen_ai.response.model", account ? account->model : none),
        finish_pair(event->result),
        integer_pair("gen_ai.usage.input_tokens",
                     account ? account->usage.input_tokens : -1),
        integer_pair("gen_ai.usage.output_tokens",
                     account ? account->usage.output_tokens : -1),
        error ? atom_pair("kind", "error") : unknown_pair(),
        error ? atom_pair("reason", error_atom(error->code)) : unknown_pair(),
        text_pair("error.type",
                  error ? slice_of(error_atom(error->code)) : none),
        integer_pair("http.response.status_code",
                     error && error->http_status > 0 ? error->http_status : -1),
        error ? (struct pair){.key = "stacktrace", .kind = PAIR_EMPTY_LIST}
              : unknown_pair(),
    };

    PUT_PAIRS(out, pairs);
}

void notice_put_request(struct buf *out, const struct request_event *event)
{
    term_put_tuple(out, 4);
    term_put_atom(out, "llm_router_telemetry");
    put_event_name(out, event->phase);
    put_measurements(out, event);
    put_metadata(out, event);
}
