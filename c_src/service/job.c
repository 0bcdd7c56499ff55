#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "llm_router/base/log.h"
#include "llm_router/core/quote.h"
#include "service/service_internal.h"

enum {
    REQUEST_ID_SIZE = 16,    /* of the ids made here */
    VALUE_KEEP = 256 * 1024, /* of the memory that answers are written to */
    LARGE_TEXT = 1024 * 1024,
};

/* The edges of the state machine; anything else is a defect. */
static const unsigned edges[] = {
    [JOB_NEW] = 1u << JOB_CALLING | 1u << JOB_DONE | 1u << JOB_CANCELLED,
    [JOB_CALLING] = 1u << JOB_VALIDATING | 1u << JOB_BACKOFF |
                    1u << JOB_CALLING | 1u << JOB_DONE | 1u << JOB_CANCELLED,
    [JOB_BACKOFF] = 1u << JOB_CALLING | 1u << JOB_DONE | 1u << JOB_CANCELLED,
    [JOB_VALIDATING] = 1u << JOB_CALLING | 1u << JOB_DONE | 1u << JOB_CANCELLED,
    [JOB_DONE] = 0,
    [JOB_CANCELLED] = 0,
};

static void job_move(struct job *job, enum job_state state)
{
    if (!(edges[job->state] & 1u << state)) {
        log_line(LOG_ERROR, "job", "bad move from state %d to %d", job->state,
                 state);
        abort();
    }
    job->state = state;
}

static void ask(struct job *job);

static uint64_t left_ms(const struct job *job)
{
    uint64_t now = loop_now_ms(&job->service->loop);

    return job->deadline_ms > now ? job->deadline_ms - now : 0;
}

static struct account account_of(const struct job *job)
{
    return (struct account){
        .model = job->model,
        .provider = job->plan.candidates[job->candidate].provider,
        .request_id = job->request_id,
        .usage = job->usage,
        .cost_usd = job->cost_usd,
        .duration_ms =
            (int64_t)(loop_now_ms(&job->service->loop) - job->started_ms),
        .attempts = job->attempts,
    };
}

/* xorshift64*: jitter and ids need spread, not secrecy. */
static uint64_t next_random(struct service *service)
{
    service->chance ^= service->chance >> 12;
    service->chance ^= service->chance << 25;
    service->chance ^= service->chance >> 27;
    return service->chance * 0x2545F4914F6CDD1Du;
}

/* In [0, 1). */
static double next_chance(struct service *service)
{
    return (double)(next_random(service) >> 11) * 0x1p-53;
}

/* A caller that gave no request_id finds its call in the log by this one. */
static struct slice make_request_id(struct service *service,
                                    struct arena *arena)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t number = next_random(service);
    char *id = arena_bytes(arena, REQUEST_ID_SIZE);

    for (size_t i = 0; i < REQUEST_ID_SIZE; i++, number >>= 4)
        id[i] = digits[number & 15];
    return slice_make(id, REQUEST_ID_SIZE);
}

/* Frees everything; the job must have left all tables but its own list. */
static void job_free(struct job *job)
{
    struct service *service = job->service;
    struct arena arena = job->arena;

    loop_timer_stop(&job->backoff);
    attempt_free(job->attempt);
    list_remove(&job->link);
    if (job->request.options.request_id.size > 0)
        map_remove(&service->by_request, job->request.options.request_id);
    arena_release(&arena);
    service->in_flight--;
    if (service->in_flight == 0 && service->draining && service->on_idle)
        service->on_idle(service->context);
}

void job_cancel(struct job *job)
{
    job_move(job, JOB_CANCELLED);
    job->service->stats.cancelled++;
    job_free(job);
}

static void answer_takers(struct job *job)
{
    struct service *service = job->service;

    /* First out of the tables: sending may close a connection, and then the
     * takers behind it would be told to leave. */
    LIST_EACH(link, &job->takers)
    taker_unwatch(service, LIST_ENTRY(link, struct taker, link));
    LIST_EACH(link, &job->takers)
    {
        const struct taker *taker = LIST_ENTRY(link, struct taker, link);

        deliver(service, &taker->reply, &taker->origin, job->request.operation);
    }
    buf_shrink(&service->value, VALUE_KEEP);
}

void job_fail(struct job *job, const struct error *err)
{
    struct service *service = job->service;
    struct account account = account_of(job);

    job_move(job, JOB_DONE);
    service->stats.failed[err->code]++;
    log_line(LOG_INFO, "job",
             "request=%.*s op=%s model=%.*s attempts=%d ms=%lld error=%s %s",
             SLICE_ARG(job->request_id), operation_atom(job->request.operation),
             SLICE_ARG(job->model), job->attempts,
             (long long)account.duration_ms, error_atom(err->code),
             err->message);
    buf_clear(&service->value);
    reply_put_error(&service->value, err, &account);
    answer_takers(job);
    job_free(job);
}

static void succeed(void *context)
{
    struct job *job = context;
    struct service *service = job->service;
    struct account account = account_of(job);
    struct slice request_id = job->request.options.request_id;
    struct error err;

    buf_clear(&service->value);
    reply_put_result(&service->value, &job->request,
                     dialogue_result(job->dialogue), &account);
    if (service->value.failed) {
        error_set(&err, ERR_TOO_LARGE, "the answer is over %zu bytes",
                  service->value.max);
        job_fail(job, &err);
        return;
    }
    job_move(job, JOB_DONE);
    service->stats.succeeded++;
    log_line(LOG_DEBUG, "job",
             "request=%.*s op=%s model=%.*s attempts=%d ms=%lld ok",
             SLICE_ARG(job->request_id), operation_atom(job->request.operation),
             SLICE_ARG(job->model), job->attempts,
             (long long)account.duration_ms);
    if (request_id.size > 0)
        answers_keep(service, request_id, buf_slice(&service->value));
    answer_takers(job);
    job_free(job);
}

static void account_for(struct job *job, const struct completion *completion)
{
    const struct candidate *candidate = &job->plan.candidates[job->candidate];
    struct stats *stats = &job->service->stats;
    double cost = candidate->entry ? usage_cost(&completion->usage,
                                                &candidate->entry->prices)
                                   : (double)NAN;

    usage_add(&job->usage, &completion->usage);
    if (completion->usage.input_tokens > 0)
        stats->input_tokens += (uint64_t)completion->usage.input_tokens;
    if (completion->usage.output_tokens > 0)
        stats->output_tokens += (uint64_t)completion->usage.output_tokens;
    if (!isnan(cost)) {
        stats->cost_usd += cost;
        job->cost_usd = isnan(job->cost_usd) ? cost : job->cost_usd + cost;
    }
    if (completion->model.size > 0 &&
        !slice_equal(completion->model, job->model))
        job->model = arena_copy(&job->arena, completion->model);
}

static void on_completion(struct job *job, const struct completion *completion)
{
    struct error err;

    job_move(job, JOB_VALIDATING);
    account_for(job, completion);
    switch (dialogue_answer(job->dialogue, completion, &err)) {
    case DIALOGUE_ASK:
        job->retries = 0;
        job->service->stats.turns++;
        ask(job);
        return;
    case DIALOGUE_DONE:
        /* To take a large answer in was enough for one turn of the loop. */
        if (completion->text.size > LARGE_TEXT)
            loop_timer_start(&job->service->loop, &job->backoff, 0, succeed,
                             job);
        else
            succeed(job);
        return;
    case DIALOGUE_FAIL:
        job_fail(job, &err);
        return;
    }
}

static void on_backoff_over(void *context)
{
    ask(context);
}

static bool next_candidate(struct job *job,
                           const struct provider_failure *failure)
{
    if (!failure->try_next || job->candidate + 1 >= job->plan.count ||
        left_ms(job) == 0)
        return false;
    job->candidate++;
    job->retries = 0;
    job->model = job->plan.candidates[job->candidate].model;
    return true;
}

/* A provider may echo the request in its message. */
static void give_up(struct job *job, const struct provider_failure *failure)
{
    struct error error = failure->error;

    if (quotes_chat(slice_of(error.message), dialogue_chat(job->dialogue)))
        snprintf(error.message, sizeof(error.message),
                 "the provider said %d and quoted the request",
                 error.http_status);
    job_fail(job, &error);
}

static void on_failure(struct job *job, const struct provider_failure *failure)
{
    const struct config *config = job->service->config;
    const struct retry_policy policy = {
        .max_retries = (int)config->max_retries,
        .base_delay_ms = 500,
        .max_delay_ms = 8000,
        .max_retry_after_ms = config->max_retry_after_ms,
    };
    int64_t delay =
        retry_delay(&policy, &failure->retry, job->retries,
                    (int64_t)left_ms(job), next_chance(job->service));

    if (delay >= 0) {
        job_move(job, JOB_BACKOFF);
        job->retries++;
        job->service->stats.retries++;
        loop_timer_start(&job->service->loop, &job->backoff, (uint64_t)delay,
                         on_backoff_over, job);
        return;
    }
    if (next_candidate(job, failure)) {
        job->service->stats.retries++;
        ask(job);
        return;
    }
    give_up(job, failure);
}

static void on_attempt_done(void *context, struct attempt *attempt,
                            const struct completion *completion,
                            const struct provider_failure *failure)
{
    struct job *job = context;

    /* The attempt owns what it reports; it goes after that was used. */
    job->attempt = NULL;
    if (completion) {
        on_completion(job, completion);
        attempt_free(attempt);
        return;
    }
    on_failure(job, failure);
    attempt_free(attempt);
}

static void ask(struct job *job)
{
    const struct chat *chat = dialogue_chat(job->dialogue);
    struct error err;

    if (left_ms(job) == 0) {
        error_set(&err, ERR_TIMEOUT, "the deadline passed after %d attempts",
                  job->attempts);
        job_fail(job, &err);
        return;
    }
    job->attempt = attempt_new(&job->service->upstream,
                               &job->plan.candidates[job->candidate], chat,
                               left_ms(job), on_attempt_done, job, &err);
    if (!job->attempt) {
        job_fail(job, &err);
        return;
    }
    job->attempts++;
    job->service->stats.attempts++;
    job_move(job, JOB_CALLING);
}

/* The job lives in its own arena, which is the one the call was decoded into.
 */
static struct job *job_new(struct service *service, const struct call *call)
{
    struct arena arena = service->spare;
    struct job *job = arena_alloc(&arena, sizeof(*job));
    int64_t timeout_ms = call->request.options.timeout_ms;

    arena_init(&service->spare, 0);
    if (timeout_ms == 0)
        timeout_ms = service->config->request_timeout_ms;
    *job = (struct job){
        .service = service,
        .state = JOB_NEW,
        .arena = arena,
        .request = call->request,
        .usage = USAGE_UNKNOWN,
        .cost_usd = NAN,
        .started_ms = loop_now_ms(&service->loop),
    };
    job->deadline_ms = job->started_ms + (uint64_t)timeout_ms;
    list_init(&job->takers);
    list_init(&job->link);
    list_append(&service->jobs, &job->link);
    service->in_flight++;
    job->request_id = call->request.options.request_id;
    if (job->request_id.size > 0)
        map_put(&service->by_request, job->request_id, job);
    else
        job->request_id = make_request_id(service, &job->arena);
    return job;
}

static size_t text_size(const struct request *request)
{
    size_t size = request->text.size + request->context.size;

    for (size_t i = 0; i < request->message_count; i++)
        size += request->messages[i].content.size;
    return size;
}

static void begin(void *context)
{
    struct job *job = context;
    struct error err;

    job->dialogue = dialogue_begin(&job->arena, &job->request,
                                   &job->service->assets->prompts, &err);
    if (job->dialogue)
        ask(job);
    else
        job_fail(job, &err);
}

bool job_start(struct service *service, const struct call *call,
               const struct origin *origin, struct error *err)
{
    struct plan plan;
    struct job *job;

    if (!router_plan(&service->routing, call->request.operation,
                     &call->request.options, &plan, err))
        return false;
    job = job_new(service, call);
    job->plan = plan;
    job->model = plan.candidates[0].model;
    taker_join(service, job, &call->reply, origin);
    /* To read a large text was enough for one turn of the loop. */
    if (text_size(&job->request) > LARGE_TEXT)
        loop_timer_start(&service->loop, &job->backoff, 0, begin, job);
    else
        begin(job);
    return true;
}
