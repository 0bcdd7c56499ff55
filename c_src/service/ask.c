#include <math.h>
#include <stdio.h>

#include "llm_router/base/log.h"
#include "llm_router/core/quote.h"
#include "service/service_internal.h"

enum {
    /* With a fallback at hand no longer delay is waited for. */
    FALLBACK_DELAY_MS = 2000,
    /* Reserved for the answer when the caller sets no limit. */
    OUTPUT_TOKENS = 1024,
    /* Without a status line for so long a provider is at fault. */
    MUTE_MS = 4000,
};

static const struct candidate *candidate_of(const struct job *job)
{
    return &job->plan.candidates[job->candidate];
}

struct error ask_error(const struct job *job)
{
    return job->last ? *job->last : (struct error){.code = ERR_NONE};
}

/* Most jobs never fail: the room is made when one does. */
static struct error *remember(struct job *job)
{
    if (!job->last)
        job->last = arena_alloc(&job->arena, sizeof(*job->last));
    return job->last;
}

/* What was learnt of an attempt. */

static struct attempt_record *add_record(struct job *job)
{
    struct attempt_record *grown;

    if (job->record_count == job->record_capacity) {
        job->record_capacity = 2 * job->record_capacity + 1;
        grown = arena_array(&job->arena, job->record_capacity, sizeof(*grown));
        if (job->record_count > 0)
            memcpy(grown, job->records, job->record_count * sizeof(*grown));
        job->records = grown;
    }
    return &job->records[job->record_count++];
}

static void record(struct job *job, const struct attempt *attempt,
                   const struct error *error)
{
    *add_record(job) = (struct attempt_record){
        .provider = candidate_of(job)->provider,
        .model = candidate_of(job)->model,
        .key = attempt_key(attempt)->name,
        .error = error ? error->code : ERR_NONE,
        .http_status = error ? error->http_status : 200,
        .duration_ms = (int64_t)(loop_now_ms(&job->service->loop) -
                                 attempt_started_ms(attempt)),
    };
}

/* What the answer, or the failure, cost; NAN: unknown. */
static double account_for(struct job *job, const struct usage *usage,
                          struct slice model)
{
    const struct model *entry = candidate_of(job)->entry;
    struct stats *stats = &job->service->stats;
    double cost = entry ? usage_cost(usage, &entry->prices) : (double)NAN;

    usage_add(&job->usage, usage);
    if (usage->input_tokens > 0)
        stats->input_tokens += (uint64_t)usage->input_tokens;
    if (usage->output_tokens > 0)
        stats->output_tokens += (uint64_t)usage->output_tokens;
    if (!isnan(cost)) {
        stats->cost_usd += cost;
        stats->priced = true;
        job->cost_usd = isnan(job->cost_usd) ? cost : job->cost_usd + cost;
        spending_changed(job->service->spending);
    }
    if (model.size > 0 && !slice_equal(model, job->model))
        job->model = arena_copy(&job->arena, model);
    return cost;
}

static void log_turn(const struct job *job, enum supply_turn turn,
                     enum error_code error)
{
    struct log_field provider =
        log_text("provider", candidate_of(job)->provider);
    struct log_field key = log_text("key", job->grant.key_name);

    switch (turn) {
    case SUPPLY_UNTURNED:
        break;
    case SUPPLY_BENCHED:
        log_event(LOG_WARN, "job", "a key is left alone",
                  LOG_FIELDS(provider, key,
                             log_text("error", slice_of(error_atom(error)))));
        break;
    case SUPPLY_BACK:
        log_event(LOG_INFO, "job", "a key is back", LOG_FIELDS(provider, key));
        break;
    }
}

static void settle(struct job *job, const struct supply_outcome *outcome)
{
    struct service *service = job->service;
    struct supply_clock clock = service_clock(service);

    if (job->grant.key == 0)
        return;
    log_turn(job, supply_settle(service->supply, &job->grant, outcome, &clock),
             outcome->error);
    job->grant.key = 0;
    if (!list_is_empty(&service->lines))
        line_wake(line_of(service, candidate_of(job)->provider));
}

/* Callers that give up on a provider that says nothing are how it is found
 * out: no deadline of ours has passed yet. */
static bool is_mute(const struct job *job)
{
    return job->attempt && !attempt_has_answer(job->attempt) &&
           loop_now_ms(&job->service->loop) -
                   attempt_started_ms(job->attempt) >=
               MUTE_MS;
}

static int64_t used_tokens(const struct usage *usage)
{
    return usage->total_tokens;
}

void ask_abort(struct job *job)
{
    bool mute = is_mute(job);
    const struct usage *usage = &USAGE_UNKNOWN;
    double cost = NAN;

    if (job->attempt) {
        usage = attempt_usage(job->attempt);
        cost = account_for(job, usage, slice_of(NULL));
        record_call(job, job->attempt,
                    &(struct call_end){ERR_CANCELLED, usage, cost});
    }
    settle(job, &(struct supply_outcome){
                    .end = mute ? SUPPLY_FAILED : SUPPLY_BLAMELESS,
                    .error = mute ? ERR_TIMEOUT : ERR_CANCELLED,
                    .retry_after_ms = -1,
                    .tokens = used_tokens(usage),
                    .cost_usd = cost,
                    .latency_ms = -1,
                    .limits = RATE_LIMITS_UNKNOWN,
                });
    attempt_free(job->attempt);
    job->attempt = NULL;
}

static void settle_answer(struct job *job, const struct attempt *attempt,
                          const struct usage *usage, double cost_usd)
{
    settle(job, &(struct supply_outcome){
                    .end = SUPPLY_OK,
                    .error = ERR_NONE,
                    .retry_after_ms = -1,
                    .tokens = used_tokens(usage),
                    .cost_usd = cost_usd,
                    .latency_ms = attempt_latency_ms(attempt),
                    .model = candidate_of(job)->model,
                    .limits = *attempt_limits(attempt),
                });
}

static void settle_failure(struct job *job, const struct attempt *attempt,
                           const struct provider_failure *failure,
                           double cost_usd)
{
    enum supply_end end = failure->bench_key   ? SUPPLY_KEY_BAD
                          : failure->blameless ? SUPPLY_BLAMELESS
                                               : SUPPLY_FAILED;

    settle(job, &(struct supply_outcome){
                    .end = end,
                    .error = failure->error.code,
                    .retry_after_ms = failure->retry.retry_after_ms,
                    .tokens = used_tokens(&failure->usage),
                    .cost_usd = cost_usd,
                    .latency_ms = -1,
                    .model = candidate_of(job)->model,
                    .limits = *attempt_limits(attempt),
                });
}

/* Answers. */

static bool next_candidate(struct job *job)
{
    if (job->candidate + 1 >= job->plan.count || job_left_ms(job) == 0)
        return false;
    job->candidate++;
    job->retries = 0;
    job->model = candidate_of(job)->model;
    return true;
}

/* The answer does not keep to the schema, after repair and a second try of the
 * same model: another one may do better, and begins anew. */
static bool begin_anew(struct job *job, const struct error *err)
{
    if (err->code != ERR_INVALID_OUTPUT || stream_began(job) ||
        !next_candidate(job))
        return false;
    *remember(job) = *err;
    job->dialogue = NULL;
    return true;
}

static void succeed(void *context)
{
    job_succeed(context);
}

static void on_completion(struct job *job, const struct attempt *attempt,
                          const struct completion *completion)
{
    struct service *service = job->service;
    struct error err;

    job_move(job, JOB_VALIDATING);
    notices_job_step(job, TASK_VALIDATING);
    if (job->stream && !stream_send(job, completion->text))
        return;
    switch (dialogue_answer(job->dialogue, completion, &err)) {
    case DIALOGUE_ASK:
        if (stream_began(job)) {
            error_set(&err, ERR_INVALID_OUTPUT,
                      "the streamed answer does not satisfy the schema");
            job_fail(job, &err);
            return;
        }
        job->retries = 0;
        service->stats.turns++;
        /* Embeddings of two models do not compare. */
        if (job->request.operation == OP_EMBED)
            job->plan.count = job->candidate + 1;
        ask(job);
        return;
    case DIALOGUE_DONE:
        if (attempt_is_large(attempt))
            loop_timer_start(&service->loop, &job->backoff, 0, succeed, job);
        else
            job_succeed(job);
        return;
    case DIALOGUE_FAIL:
        if (begin_anew(job, &err)) {
            job->asks_again = true;
            job_go_on(job);
            return;
        }
        job_fail(job, &err);
        return;
    }
}

/* Failures. */

/* A provider may echo the request in its message. */
static void keep_error(struct job *job, const struct error *error)
{
    struct error *last = remember(job);

    *last = *error;
    if (quotes_chat(slice_of(last->message), dialogue_chat(job->dialogue)))
        snprintf(last->message, sizeof(last->message),
                 "the provider said %d and quoted the request",
                 last->http_status);
}

static void give_up(struct job *job)
{
    struct error error = ask_error(job);

    job_fail(job, &error);
}

static void on_backoff_over(void *context)
{
    ask(context);
}

static bool has_fallback(const struct job *job,
                         const struct provider_failure *failure)
{
    return failure->try_next && job->candidate + 1 < job->plan.count;
}

/* A reload took the provider away: this job goes on as it began, uncounted. */
static bool is_gone(const struct job *job, const struct candidate *candidate)
{
    const struct settings *now = job->service->settings;

    return job->settings != now && !settings_provider(now, candidate->provider);
}

/* Milliseconds until the same candidate is asked again; < 0: it is not. */
static int64_t delay_before_retry(struct job *job,
                                  const struct provider_failure *failure)
{
    struct service *service = job->service;
    const struct config *config = &job->settings->config;
    const struct retry_policy policy = {
        .max_retries = (int)config->max_retries,
        .base_delay_ms = 500,
        .max_delay_ms = 8000,
        .max_retry_after_ms = config->max_retry_after_ms,
    };
    const struct config_provider *provider =
        settings_provider(job->settings, candidate_of(job)->provider);
    struct supply_clock clock = service_clock(service);
    int64_t delay =
        retry_delay(&policy, &failure->retry, job->retries,
                    (int64_t)job_left_ms(job), service_chance(service));

    /* Another key has its own limits. */
    if (provider->key_count > 1 && job->retries < policy.max_retries &&
        (failure->bench_key || failure->error.code == ERR_RATE_LIMITED) &&
        supply_is_healthy(service->supply, provider->name, &clock))
        delay = 0;
    if (is_gone(job, candidate_of(job)))
        return delay;
    /* It would be refused there after the delay: it is benched. */
    if (has_fallback(job, failure) &&
        (delay > FALLBACK_DELAY_MS ||
         !supply_is_healthy(service->supply, provider->name, &clock)))
        return -1;
    if (delay >= 0 && !supply_retry(service->supply, provider->name))
        return -1;
    return delay;
}

/* The question is too long for this one: a model that holds more may do. */
static bool next_larger(struct job *job)
{
    const struct model *entry = candidate_of(job)->entry;
    int64_t held = entry ? entry->context_tokens : -1;

    for (size_t i = job->candidate + 1; i < job->plan.count; i++) {
        const struct model *other = job->plan.candidates[i].entry;

        if (!other || held < 0 || other->context_tokens < 0 ||
            other->context_tokens > held) {
            job->candidate = i - 1;
            return next_candidate(job);
        }
    }
    return false;
}

static bool go_elsewhere(struct job *job,
                         const struct provider_failure *failure)
{
    if (failure->try_larger)
        return next_larger(job) || dialogue_shrink(job->dialogue);
    return failure->try_next && next_candidate(job);
}

static void on_failure(struct job *job, const struct provider_failure *failure)
{
    struct service *service = job->service;
    int64_t delay;

    keep_error(job, &failure->error);
    if (stream_began(job)) {
        give_up(job);
        return;
    }
    delay = delay_before_retry(job, failure);
    if (delay >= 0) {
        job_move(job, JOB_BACKOFF);
        job->retries++;
        job->asks_again = true;
        loop_timer_start(&service->loop, &job->backoff, (uint64_t)delay,
                         on_backoff_over, job);
        return;
    }
    if (go_elsewhere(job, failure)) {
        job->asks_again = true;
        ask(job);
        return;
    }
    give_up(job);
}

static void on_progress(void *context, struct attempt *attempt)
{
    struct job *job = context;

    if (job->first_token_ns == 0) {
        job->first_token_ns = loop_now_ns();
        notices_job_step(job, TASK_FIRST_TOKEN);
    }
    stream_send(job, attempt_text(attempt));
}

static void on_done(void *context, struct attempt *attempt,
                    const struct completion *completion,
                    const struct provider_failure *failure)
{
    struct job *job = context;
    double cost;

    /* The attempt owns what it reports; it goes after that was used. */
    job->attempt = NULL;
    record(job, attempt, failure ? &failure->error : NULL);
    if (completion) {
        cost = account_for(job, &completion->usage, completion->model);
        record_call(job, attempt,
                    &(struct call_end){ERR_NONE, &completion->usage, cost});
        settle_answer(job, attempt, &completion->usage, cost);
        on_completion(job, attempt, completion);
    } else {
        cost = account_for(job, &failure->usage, failure->model);
        record_call(
            job, attempt,
            &(struct call_end){failure->error.code, &failure->usage, cost});
        settle_failure(job, attempt, failure, cost);
        on_failure(job, failure);
    }
    attempt_free(attempt);
}

/* Questions. */

static const struct attempt_events plain_events = {NULL, on_done};
static const struct attempt_events stream_events = {on_progress, on_done};

/* The dialect has no words for the question; another one may have. */
static void refuse_question(struct job *job, const struct error *err)
{
    ask_abort(job);
    keep_error(job, err);
    if (next_candidate(job))
        ask(job);
    else
        give_up(job);
}

static void start_clock(struct job *job)
{
    if (job->timeout_ms > 0)
        job->deadline_ms = loop_now_ms(&job->service->loop) + job->timeout_ms;
    job->timeout_ms = 0;
}

static void start_attempt(struct job *job)
{
    struct service *service = job->service;
    const struct config_provider *provider =
        settings_provider(job->settings, candidate_of(job)->provider);
    const struct attempt_request request = {
        .config = &job->settings->config,
        .provider = provider,
        .key = settings_key(provider, job->grant.key_name),
        .candidate = candidate_of(job),
        .chat = dialogue_chat(job->dialogue),
        .request_id = job->request_id,
        .share =
            router_share(job_left_ms(job), job->plan.count - job->candidate),
    };
    struct error err;

    /* A key that a reload added while this job was under way. */
    if (!request.key) {
        error_set(&err, ERR_NO_ROUTE, "the provider's keys have changed");
        refuse_question(job, &err);
        return;
    }
    job->attempt =
        attempt_new(&service->upstream, &request,
                    job->stream ? &stream_events : &plain_events, job, &err);
    if (!job->attempt) {
        refuse_question(job, &err);
        return;
    }
    job->attempts++;
    service->stats.attempts++;
    service->stats.retries += job->asks_again;
    job->asks_again = false;
    job_move(job, JOB_CALLING);
    notices_job_step(job, TASK_CALLING);
}

static struct supply_need need_of(const struct job *job,
                                  const struct candidate *candidate)
{
    int64_t output = job->request.options.max_tokens;
    struct usage estimate = USAGE_UNKNOWN;

    if (output == 0)
        output = job->request.operation == OP_EMBED ? 0 : OUTPUT_TOKENS;
    estimate.input_tokens = job->input_tokens;
    estimate.output_tokens = output;
    return (struct supply_need){
        .provider = candidate->provider,
        .tokens = job->input_tokens + output,
        .cost_usd = candidate->entry
                        ? usage_cost(&estimate, &candidate->entry->prices)
                        : (double)NAN,
        .only = job->plan.count == 1,
    };
}

/* Why no candidate could be had: the one that says most. */
struct refusal {
    enum supply_verdict verdict;
    uint64_t wait_ms; /* the shortest of those that are worth waiting for */
    struct slice provider;
    enum error_code last_error;
};

static bool is_waited_for(const struct job *job, enum supply_verdict verdict,
                          uint64_t wait_ms)
{
    switch (verdict) {
    case SUPPLY_BUSY:
        return true;
    case SUPPLY_LIMITED:
        return wait_ms < job_left_ms(job);
    case SUPPLY_WAITING:
        return wait_ms < job_left_ms(job) &&
               wait_ms <=
                   (uint64_t)job->settings->config.max_retry_after_ms + 1000;
    case SUPPLY_GRANTED:
    case SUPPLY_FAILING:
    case SUPPLY_SPENT:
    case SUPPLY_UNKNOWN:
        break;
    }
    return false;
}

/* The provider is not supplied any more, but this job began with it. */
static void take_uncounted(struct job *job, const struct candidate *candidate)
{
    const struct config_provider *provider =
        settings_provider(job->settings, candidate->provider);

    job->grant = (struct supply_grant){.key_name = provider->keys[0].name};
}

/* Takes the first candidate that can be had, from the current one on. */
static bool take(struct job *job, struct refusal *refusal, bool *wait)
{
    struct service *service = job->service;
    struct supply_clock clock = service_clock(service);

    *wait = false;
    for (size_t i = job->candidate; i < job->plan.count; i++) {
        struct supply_need need = need_of(job, &job->plan.candidates[i]);
        enum supply_verdict verdict =
            supply_take(service->supply, &need, &clock, &job->grant);
        uint64_t wait_ms = job->grant.wait_ms;
        bool waits;

        if (verdict == SUPPLY_UNKNOWN)
            take_uncounted(job, &job->plan.candidates[i]);
        if (verdict == SUPPLY_GRANTED || verdict == SUPPLY_UNKNOWN) {
            if (i != job->candidate)
                job->model = job->plan.candidates[i].model;
            job->candidate = i;
            return true;
        }
        job->grant.key = 0;
        waits = is_waited_for(job, verdict, wait_ms);
        if (i == job->candidate || (waits && !*wait) ||
            (waits == *wait && wait_ms < refusal->wait_ms))
            *refusal = (struct refusal){verdict, wait_ms, need.provider,
                                        job->grant.last_error};
        *wait = *wait || waits;
    }
    return false;
}

static void refuse(struct job *job, const struct refusal *refusal)
{
    struct error err = ask_error(job);

    switch (refusal->verdict) {
    case SUPPLY_SPENT:
        error_set(&err, ERR_BUDGET_EXCEEDED,
                  "the budget of provider %.*s, or of all, is spent",
                  SLICE_ARG(refusal->provider));
        break;
    case SUPPLY_LIMITED:
        error_set(&err, ERR_RATE_LIMITED,
                  "the limit per minute of provider %.*s has room in %llu ms",
                  SLICE_ARG(refusal->provider),
                  (unsigned long long)refusal->wait_ms);
        break;
    case SUPPLY_WAITING:
    case SUPPLY_FAILING:
        if (err.code == ERR_NONE)
            error_set(&err,
                      refusal->last_error == ERR_NONE ? ERR_PROVIDER_ERROR
                                                      : refusal->last_error,
                      "provider %.*s is left alone after failures, for %llu "
                      "ms yet",
                      SLICE_ARG(refusal->provider),
                      (unsigned long long)refusal->wait_ms);
        break;
    case SUPPLY_GRANTED:
    case SUPPLY_BUSY:
    case SUPPLY_UNKNOWN:
        error_set(&err, ERR_NO_ROUTE, "provider %.*s is not configured",
                  SLICE_ARG(refusal->provider));
        break;
    }
    if (refusal->wait_ms > 0 && err.retry_after_ms < 0)
        err.retry_after_ms = (int64_t)refusal->wait_ms;
    job_fail(job, &err);
}

void ask(struct job *job)
{
    struct refusal refusal = {.verdict = SUPPLY_UNKNOWN,
                              .provider = SLICE_LITERAL("")};
    struct error err;
    bool wait;

    if (job_left_ms(job) == 0) {
        error_set(&err, ERR_TIMEOUT, "the deadline passed after %d attempts",
                  job->attempts);
        job_fail(job, &err);
    } else if (take(job, &refusal, &wait)) {
        start_clock(job);
        start_attempt(job);
    } else if (wait) {
        line_wait(line_of(job->service, refusal.provider), job,
                  refusal.wait_ms);
    } else {
        refuse(job, &refusal);
    }
}
