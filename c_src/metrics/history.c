#include "llm_router/metrics/history.h"

#include <inttypes.h>
#include <math.h>

#include "llm_router/base/mem.h"
#include "llm_router/base/utf8.h"
#include "llm_router/json/value.h"
#include "llm_router/metrics/histogram.h"

enum { MINUTE_MS = 60000, TEXT_MAX = 128 };

/* One of the last minutes, of the router or of a provider. */
struct minute {
    uint64_t number; /* since the clock began; another one: nothing happened */
    uint64_t failed;
    uint64_t succeeded;
    double cost_usd;
    bool priced; /* of one call at least the cost is known */
    struct histogram times;
};

struct series {
    struct slice provider; /* text behind it */
    struct minute minutes[HISTORY_MINUTES];
};

struct kept_failure {
    uint64_t order; /* of the latest of them; 1: the first ever */
    uint64_t count; /* how often it happened; 0: no failure is here */
    int64_t unix_ms;
    enum operation operation;
    enum error_code code;
    int attempts;
    char message[ERROR_MESSAGE_MAX], path[ERROR_PATH_MAX];
    char provider[TEXT_MAX], model[TEXT_MAX], request_id[TEXT_MAX + 1];
    char node[TEXT_MAX];
};

struct history {
    struct series router;
    struct series *providers[HISTORY_PROVIDERS_MAX];
    size_t provider_count;
    struct kept_failure failures[HISTORY_FAILURES];
    uint64_t failure_count; /* ever */
};

struct history *history_new(void)
{
    return mem_alloc(sizeof(struct history));
}

void history_free(struct history *history)
{
    if (!history)
        return;
    for (size_t i = 0; i < history->provider_count; i++)
        mem_free(history->providers[i]);
    mem_free(history);
}

/* Keeping. */

static struct minute *minute_of(struct series *series, uint64_t now_ms)
{
    uint64_t number = now_ms / MINUTE_MS;
    struct minute *minute = &series->minutes[number % HISTORY_MINUTES];

    if (minute->number != number)
        *minute = (struct minute){.number = number};
    return minute;
}

void history_request(struct history *history, uint64_t now_ms,
                     enum error_code error, double overhead_s)
{
    struct minute *minute = minute_of(&history->router, now_ms);

    if (error == ERR_NONE)
        minute->succeeded++;
    else if (error != ERR_CANCELLED)
        minute->failed++;
    if (!isnan(overhead_s))
        histogram_add(&minute->times, HISTOGRAM_SECONDS, overhead_s);
}

static struct series *series_of(struct history *history, struct slice provider)
{
    struct series *series;

    for (size_t i = 0; i < history->provider_count; i++)
        if (slice_equal(history->providers[i]->provider, provider))
            return history->providers[i];
    if (history->provider_count == HISTORY_PROVIDERS_MAX)
        return NULL;
    series = mem_alloc(sizeof(*series) + provider.size);
    if (provider.size > 0)
        memcpy(series + 1, provider.data, provider.size);
    series->provider = slice_make(series + 1, provider.size);
    history->providers[history->provider_count++] = series;
    return series;
}

void history_call(struct history *history, uint64_t now_ms,
                  const struct history_call *call)
{
    struct series *series = series_of(history, call->provider);
    struct minute *minute;

    if (!series)
        return;
    minute = minute_of(series, now_ms);
    if (call->error == ERR_NONE) {
        minute->succeeded++;
        histogram_add(&minute->times, HISTOGRAM_SECONDS, call->duration_s);
    } else {
        minute->failed++;
    }
    if (!isnan(call->cost_usd)) {
        minute->cost_usd += call->cost_usd;
        minute->priced = true;
    }
}

static void keep(char *out, size_t room, struct slice text)
{
    struct arena arena;

    arena_init(&arena, 0);
    text = utf8_cut(utf8_clean(&arena, text), room - 1);
    if (text.size > 0)
        memcpy(out, text.data, text.size);
    out[text.size] = '\0';
    arena_release(&arena);
}

#define KEEP(field, text) keep(field, sizeof(field), text)

static bool is_same(const struct kept_failure *a, const struct kept_failure *b)
{
    return a->code == b->code && a->operation == b->operation &&
           !strcmp(a->message, b->message) && !strcmp(a->path, b->path) &&
           !strcmp(a->provider, b->provider) && !strcmp(a->model, b->model) &&
           !strcmp(a->node, b->node);
}

/* One that fails again and again takes one place, not everybody's. */
static struct kept_failure *place_of(struct history *history,
                                     const struct kept_failure *made)
{
    struct kept_failure *oldest = &history->failures[0];

    for (size_t i = 0; i < HISTORY_FAILURES; i++) {
        struct kept_failure *kept = &history->failures[i];

        if (kept->count > 0 && is_same(kept, made))
            return kept;
        if (kept->order < oldest->order)
            oldest = kept;
    }
    oldest->count = 0;
    return oldest;
}

void history_failure(struct history *history,
                     const struct request_failure *failure)
{
    struct kept_failure made = {
        .unix_ms = failure->unix_ms,
        .operation = failure->operation,
        .code = failure->error->code,
        .attempts = failure->attempts,
    };
    struct kept_failure *kept;

    KEEP(made.message, slice_of(failure->error->message));
    KEEP(made.path, slice_of(failure->error->path));
    KEEP(made.provider, failure->provider);
    KEEP(made.model, failure->model);
    KEEP(made.request_id, failure->request_id);
    KEEP(made.node, failure->node);
    kept = place_of(history, &made);
    made.count = kept->count + 1;
    made.order = ++history->failure_count;
    *kept = made;
}

/* Showing. */

static const struct minute *minute_at(const struct series *series,
                                      uint64_t number)
{
    static const struct minute nothing;
    const struct minute *minute = &series->minutes[number % HISTORY_MINUTES];

    return minute->number == number ? minute : &nothing;
}

static double succeeded(const struct minute *minute)
{
    return (double)minute->succeeded;
}

static double failed(const struct minute *minute)
{
    return (double)minute->failed;
}

static double called(const struct minute *minute)
{
    return (double)(minute->succeeded + minute->failed);
}

static double cost(const struct minute *minute)
{
    return minute->priced ? minute->cost_usd : (double)NAN;
}

static double median_ms(const struct minute *minute)
{
    return 1000 * histogram_quantile(&minute->times, HISTOGRAM_SECONDS, 0.5);
}

static double slowest_ms(const struct minute *minute)
{
    return 1000 * histogram_quantile(&minute->times, HISTOGRAM_SECONDS, 0.99);
}

/* "name":[...] of the last hour; NAN becomes null. */
struct column {
    const char *name;
    double (*value)(const struct minute *minute);
};

static void put_column(struct buf *out, const struct column *column,
                       const struct series *series, uint64_t newest)
{
    buf_printf(out, "\"%s\":[", column->name);
    for (uint64_t i = HISTORY_MINUTES; i-- > 0;) {
        /* The clock may be younger than an hour. */
        double value = newest >= i
                           ? column->value(minute_at(series, newest - i))
                           : column->value(&(struct minute){.number = 0});

        if (isnan(value))
            buf_append_text(out, "null");
        else
            buf_printf(out, "%.6g", value);
        if (i > 0)
            buf_append_byte(out, ',');
    }
    buf_append_byte(out, ']');
}

static void put_columns(struct buf *out, const struct column *columns,
                        size_t count, const struct series *series,
                        uint64_t newest)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_append_byte(out, ',');
        put_column(out, &columns[i], series, newest);
    }
}

#define PUT_COLUMNS(out, columns, series, newest)                             \
    put_columns(out, columns, sizeof(columns) / sizeof((columns)[0]), series, \
                newest)

static void put_providers(const struct history *history, uint64_t newest,
                          struct buf *out)
{
    static const struct column columns[] = {{"calls", called},
                                            {"failed", failed},
                                            {"p50_ms", median_ms},
                                            {"p99_ms", slowest_ms},
                                            {"cost_usd", cost}};

    buf_append_text(out, "\"providers\":[");
    for (size_t i = 0; i < history->provider_count; i++) {
        const struct series *series = history->providers[i];

        buf_append_text(out, i > 0 ? ",{\"name\":" : "{\"name\":");
        jv_put_string(out, series->provider);
        buf_append_byte(out, ',');
        PUT_COLUMNS(out, columns, series, newest);
        buf_append_byte(out, '}');
    }
    buf_append_byte(out, ']');
}

void history_put(const struct history *history, uint64_t now_ms,
                 int64_t unix_ms, struct buf *out)
{
    static const struct column counts[] = {{"ok", succeeded},
                                           {"failed", failed}};
    static const struct column times[] = {{"p50", median_ms},
                                          {"p99", slowest_ms}};
    uint64_t newest = now_ms / MINUTE_MS;
    int64_t until_ms = unix_ms + (int64_t)(MINUTE_MS - now_ms % MINUTE_MS);

    buf_printf(out,
               "{\"step_s\":%d,\"steps\":%d,\"until_ms\":%" PRId64
               ",\"requests\":{",
               MINUTE_MS / 1000, HISTORY_MINUTES, until_ms);
    PUT_COLUMNS(out, counts, &history->router, newest);
    buf_append_text(out, "},\"overhead_ms\":{");
    PUT_COLUMNS(out, times, &history->router, newest);
    buf_append_text(out, "},");
    put_providers(history, newest, out);
    buf_append_byte(out, '}');
}

static void put_text(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    if (text[0] == '\0')
        buf_append_text(out, "null");
    else
        jv_put_string(out, slice_of(text));
}

static void put_failure(struct buf *out, const struct kept_failure *failure)
{
    buf_printf(out,
               "{\"at_ms\":%" PRId64 ",\"count\":%" PRIu64
               ",\"code\":\"%s\",\"attempts\":%d",
               failure->unix_ms, failure->count, error_atom(failure->code),
               failure->attempts);
    put_text(out, "operation",
             failure->operation < OPERATION_COUNT
                 ? operation_atom(failure->operation)
                 : "");
    put_text(out, "message", failure->message);
    put_text(out, "path", failure->path);
    put_text(out, "provider", failure->provider);
    put_text(out, "model", failure->model);
    put_text(out, "request_id", failure->request_id);
    put_text(out, "node", failure->node);
    buf_append_byte(out, '}');
}

/* The latest one before that; NULL: there is none. */
static const struct kept_failure *failure_before(const struct history *history,
                                                 uint64_t order)
{
    const struct kept_failure *latest = NULL;

    for (size_t i = 0; i < HISTORY_FAILURES; i++) {
        const struct kept_failure *kept = &history->failures[i];

        if (kept->count > 0 && kept->order < order &&
            (!latest || kept->order > latest->order))
            latest = kept;
    }
    return latest;
}

void history_put_failures(const struct history *history, struct buf *out)
{
    const struct kept_failure *failure = failure_before(history, UINT64_MAX);

    buf_append_byte(out, '[');
    while (failure) {
        put_failure(out, failure);
        failure = failure_before(history, failure->order);
        if (failure)
            buf_append_byte(out, ',');
    }
    buf_append_byte(out, ']');
}
