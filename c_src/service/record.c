/* The end of requests and of provider calls: counted, logged, told. */
#include <math.h>
#include <stdio.h>

#include "llm_router/base/log.h"
#include "service/service_internal.h"

enum { FIELDS_MAX = 20 };

/* How a request ended; what is empty, NULL or NAN is not known. */
struct ending {
    enum operation operation;
    const char *outcome; /* "ok", "cached", "shared" or an error's atom */
    const struct error *err;
    struct slice request_id;
    struct slice node;            /* of the caller */
    struct slice provider, model; /* as asked */
    bool chosen; /* these two by a plan: not only what the caller wrote */
    bool queued;
    int attempts;
    const struct account *account;
    double duration_s, waiting_s, overhead_s;
};

const char *record_words(const struct error *err)
{
    return err->code == ERR_SCRIPT_ERROR
               ? "what the script said is its caller's alone"
               : err->message;
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* --- the log line --- */

struct fields {
    struct log_field list[FIELDS_MAX];
    size_t count;
};

static void add_text(struct fields *fields, const char *key, struct slice text)
{
    if (text.size > 0)
        fields->list[fields->count++] = log_text(key, text);
}

static void add_known(struct fields *fields, const char *key, int64_t value)
{
    if (value >= 0)
        fields->list[fields->count++] = log_integer(key, value);
}

static void add_account(struct fields *fields, const struct account *account)
{
    if (account->cached) /* was in the line of who paid */
        return;
    add_known(fields, "input_tokens", account->usage.input_tokens);
    add_known(fields, "output_tokens", account->usage.output_tokens);
    if (!isnan(account->cost_usd))
        fields->list[fields->count++] = log_real("cost_usd", account->cost_usd);
}

static void add_error(struct fields *fields, const struct error *err)
{
    if (err->http_status > 0)
        add_known(fields, "http_status", err->http_status);
    add_text(fields, "provider_request_id", slice_of(err->provider_request_id));
    add_text(fields, "path", slice_of(err->path));
    if (err->line > 0)
        add_known(fields, "line", err->line);
    add_text(fields, "error", slice_of(record_words(err)));
}

static void add_ending(struct fields *fields, const struct ending *ending)
{
    add_text(fields, "request_id", ending->request_id);
    add_text(fields, "node",
             ending->queued ? SLICE_LITERAL("pgmq") : ending->node);
    if (ending->operation != OPERATION_COUNT)
        add_text(fields, "operation",
                 slice_of(operation_atom(ending->operation)));
    add_text(fields, "provider", ending->provider);
    add_text(fields, "model",
             ending->account && ending->account->model.size > 0
                 ? ending->account->model
                 : ending->model);
    add_known(fields, "attempts", ending->attempts);
    if (!isnan(ending->duration_s))
        fields->list[fields->count++] =
            log_real("ms", 1000 * ending->duration_s);
    if (ending->account)
        add_account(fields, ending->account);
    add_text(fields, "outcome", slice_of(ending->outcome));
    if (ending->err)
        add_error(fields, ending->err);
}

/* Who may not call is told of by access.c, now and then. */
static enum log_level level_of(const struct ending *ending)
{
    return ending->err && ending->err->code == ERR_FORBIDDEN ? LOG_DEBUG
                                                             : LOG_INFO;
}

static void log_ending(const struct ending *ending)
{
    struct fields fields = {.count = 0};
    enum log_level level = level_of(ending);

    if (!log_enabled(level, "job"))
        return;
    add_ending(&fields, ending);
    /* A flood of requests that are refused is to be none of lines. */
    if (ending->err && ending->attempts == 0)
        log_event(level, "job", "request", fields.list, fields.count);
    else
        log_record(level, "job", "request", fields.list, fields.count);
}

/* --- counting --- */

static void keep_failure(struct service *service, const struct ending *ending)
{
    struct error told = *ending->err;
    const struct request_failure failure = {
        .unix_ms = loop_unix_ms(),
        .operation = ending->operation,
        .error = &told,
        /* Of what callers wrote each word would be another failure. */
        .provider = ending->chosen ? ending->provider : slice_of(NULL),
        .model = ending->chosen ? ending->model : slice_of(NULL),
        .request_id = ending->request_id,
        .node = ending->node,
        .attempts = ending->attempts,
    };

    snprintf(told.message, sizeof(told.message), "%s",
             record_words(ending->err));
    history_failure(service->history, &failure);
}

static void count_end(struct stats *stats, enum error_code code)
{
    if (code == ERR_NONE)
        stats->ended.ok++;
    else if (code == ERR_CANCELLED)
        stats->ended.cancelled++;
    else
        stats->ended.failed++;
}

static void record(struct service *service, const struct ending *ending)
{
    const struct request_meter meter = {
        .operation = ending->operation,
        .outcome = ending->outcome,
        .provider = ending->chosen ? ending->provider : slice_of(NULL),
        .model = ending->chosen ? ending->model : slice_of(NULL),
        .duration_s = ending->duration_s,
        .waiting_s = ending->waiting_s,
        .overhead_s = ending->overhead_s,
    };
    enum error_code code = ending->err ? ending->err->code : ERR_NONE;

    log_ending(ending);
    /* Of what asks no provider only refusals come here: no part of anything. */
    if (ending->operation != OPERATION_COUNT &&
        !operation_calls_provider(ending->operation))
        return;
    count_end(&service->stats, code);
    meters_request(service->meters, &meter);
    history_request(service->history, loop_now_ms(&service->loop), code,
                    ending->overhead_s);
    if (code != ERR_NONE && code != ERR_CANCELLED)
        keep_failure(service, ending);
}

static const char *outcome_of(const struct error *err, const char *otherwise)
{
    return err ? error_atom(err->code) : otherwise;
}

/* --- requests --- */

void record_job(const struct job *job, const struct account *account,
                const struct error *err)
{
    struct service *service = job->service;
    uint64_t now = loop_now_ns();
    const struct candidate *asked = &job->plan.candidates[job->candidate];
    const struct ending ending = {
        .operation = job->request.operation,
        .outcome = outcome_of(err, "ok"),
        .err = err,
        .request_id = job->request_id,
        .node = job->caller_node,
        .provider = asked->provider,
        .model = asked->model,
        .chosen = true,
        .queued = job->queued,
        .attempts = job->attempts,
        .account = account,
        .duration_s = seconds(now - job->started_ns),
        .waiting_s = seconds(job->spent_ns[SHARE_WAITING]),
        .overhead_s = seconds(job->spent_ns[SHARE_OWN] + (now - job->since_ns)),
    };

    record(service, &ending);
    notices_job_ended(job, account, err);
}

/* Without a job of its own nothing is measured: it would be a time of a few
 * microseconds. */
static struct ending ending_without_job(const struct service *service,
                                        const struct request *request,
                                        const struct origin *origin)
{
    return (struct ending){
        .operation = request->operation,
        .request_id = origin->begun ? origin->begun->request_id
                                    : request->options.request_id,
        .node = access_node(service, origin->connection),
        .provider = request->options.provider,
        .model = request->options.model,
        .queued = origin->queued != NULL,
        .duration_s = NAN,
        .waiting_s = NAN,
        .overhead_s = NAN,
    };
}

void record_refused(struct service *service, const struct call *call,
                    const struct origin *origin, const struct error *err)
{
    struct ending ending = ending_without_job(service, &call->request, origin);

    /* The fault may be in one of these: anything may be there, a prompt too. */
    if (call->kind == CALL_REJECTED)
        ending.request_id = ending.provider = ending.model = slice_of(NULL);
    ending.outcome = error_atom(err->code);
    ending.err = err;
    record(service, &ending);
    notices_answered(service, call, origin, err);
}

void record_remembered(struct service *service, const struct call *call,
                       const struct origin *origin, const struct cached *cached)
{
    struct ending ending = ending_without_job(service, &call->request, origin);

    ending.outcome = cached ? "cached" : "shared";
    if (cached) {
        ending.account = &cached->account;
        ending.provider = cached->provider;
        ending.model = cached->model;
        ending.chosen = true;
    }
    record(service, &ending);
    notices_answered(service, call, origin, NULL);
}

void record_left(const struct job *job, const struct taker *taker,
                 const struct error *err)
{
    struct service *service = job->service;
    const struct candidate *asked = &job->plan.candidates[job->candidate];
    struct ending ending;

    if (taker->joined_ns == 0)
        return;
    ending = ending_without_job(service, &job->request, &taker->origin);
    ending.request_id = job->request_id;
    ending.provider = asked->provider;
    ending.model = asked->model;
    ending.chosen = true;
    ending.outcome = outcome_of(err, "shared");
    ending.err = err;
    record(service, &ending);
    notices_left(job, taker, err);
}

/* --- provider calls --- */

void record_call(const struct job *job, const struct attempt *attempt,
                 const struct call_end *end)
{
    struct service *service = job->service;
    const struct candidate *asked = &job->plan.candidates[job->candidate];
    /* The body of an error page comes early, too. */
    int64_t first_ms =
        end->error == ERR_NONE ? attempt_latency_ms(attempt) : -1;
    double duration_s = seconds(loop_now_ns() - attempt_started_ns(attempt));
    const struct call_meter meter = {
        .operation = job->request.operation,
        .provider = asked->provider,
        .model = asked->model,
        .error = end->error,
        .duration_s = duration_s,
        .first_token_s = first_ms < 0 ? (double)NAN : (double)first_ms / 1000,
        .usage = end->usage,
        .cost_usd = end->cost_usd,
    };
    const struct history_call call = {
        .provider = asked->provider,
        .error = end->error,
        .duration_s = duration_s,
        .cost_usd = end->cost_usd,
    };

    meters_call(service->meters, &meter);
    if (end->error != ERR_CANCELLED)
        history_call(service->history, loop_now_ms(&service->loop), &call);
}
