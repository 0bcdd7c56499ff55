#include <math.h>
#include <stdlib.h>

#include "llm_router/base/abort.h"
#include "llm_router/base/log.h"
#include "service/service_internal.h"

enum {
    REQUEST_ID_SIZE = 16,    /* of the ids made here */
    VALUE_KEEP = 256 * 1024, /* of the memory that answers are written to */
    LARGE_TEXT = 1024 * 1024,
};

/* The edges of the state machine; anything else is a defect. */
static const unsigned edges[] = {
    [JOB_NEW] = 1u << JOB_QUEUED | 1u << JOB_CALLING | 1u << JOB_DONE |
                1u << JOB_CANCELLED,
    [JOB_QUEUED] = 1u << JOB_QUEUED | 1u << JOB_CALLING | 1u << JOB_DONE |
                   1u << JOB_CANCELLED,
    [JOB_CALLING] = 1u << JOB_VALIDATING | 1u << JOB_BACKOFF |
                    1u << JOB_CALLING | 1u << JOB_QUEUED | 1u << JOB_DONE |
                    1u << JOB_CANCELLED,
    [JOB_BACKOFF] = 1u << JOB_CALLING | 1u << JOB_QUEUED | 1u << JOB_DONE |
                    1u << JOB_CANCELLED,
    [JOB_VALIDATING] = 1u << JOB_CALLING | 1u << JOB_QUEUED | 1u << JOB_DONE |
                       1u << JOB_CANCELLED,
    [JOB_DONE] = 0,
    [JOB_CANCELLED] = 0,
};

static enum time_share share_of(enum job_state state)
{
    switch (state) {
    case JOB_QUEUED:
    case JOB_BACKOFF:
        return SHARE_WAITING;
    case JOB_CALLING:
        return SHARE_PROVIDER;
    case JOB_NEW:
    case JOB_VALIDATING:
    case JOB_DONE:
    case JOB_CANCELLED:
        break;
    }
    return SHARE_OWN;
}

void job_move(struct job *job, enum job_state state)
{
    uint64_t now = loop_now_ns();

    if (!(edges[job->state] & 1u << state)) {
        log_line(LOG_ERROR, "job", "bad move from state %d to %d", job->state,
                 state);
        abort_said();
    }
    job->spent_ns[share_of(job->state)] += now - job->since_ns;
    job->since_ns = now;
    job->state = state;
}

uint64_t job_left_ms(const struct job *job)
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
        .decision = &job->plan.decision,
        .records = job->records,
        .record_count = job->record_count,
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

double service_chance(struct service *service)
{
    return (double)(next_random(service) >> 11) * 0x1p-53;
}

struct supply_clock service_clock(const struct service *service)
{
    return (struct supply_clock){loop_now_ms(&service->loop),
                                 loop_unix_ms() / 1000};
}

struct slice service_make_id(struct service *service, struct arena *arena)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t number = next_random(service);
    char *id = arena_bytes(arena, REQUEST_ID_SIZE);

    for (size_t i = 0; i < REQUEST_ID_SIZE; i++, number >>= 4)
        id[i] = digits[number & 15];
    return slice_make(id, REQUEST_ID_SIZE);
}

/* Frees everything; the job's takers must have left. */
static void job_free(struct job *job)
{
    struct service *service = job->service;
    struct slice request_id = job->request.options.request_id;
    struct arena arena = job->arena;

    loop_timer_stop(&job->backoff);
    line_leave(job);
    ask_abort(job);
    stream_close(job);
    slot_give(job);
    list_remove(&job->link);
    if (request_id.size > 0 &&
        map_find(&service->by_request, request_id) == job)
        map_remove(&service->by_request, request_id);
    settings_drop(job->settings);
    arena_release(&arena);
    memory_request_ends(service);
    service_check_idle(service);
}

void service_check_idle(struct service *service)
{
    if (service->in_flight == 0 && service->draining && service->on_idle &&
        queue_is_idle(service->queue))
        service->on_idle(service->context);
}

void job_cancel(struct job *job)
{
    struct account account = account_of(job);
    struct error err;

    job_move(job, JOB_CANCELLED);
    job->service->stats.cancelled++;
    error_set(&err, ERR_CANCELLED, "nobody waits any more");
    record_job(job, &account, &err);
    LIST_EACH(link, &job->takers)
    taker_unwatch(job->service, LIST_ENTRY(link, struct taker, link));
    job_free(job);
}

static void answer_takers(struct job *job, const struct account *account,
                          const struct error *err)
{
    struct service *service = job->service;
    const struct outcome outcome = {&job->request, err, account};

    /* First out of the tables: sending may close a connection, and then the
     * takers behind it would be told to leave. */
    LIST_EACH(link, &job->takers)
    taker_unwatch(service, LIST_ENTRY(link, struct taker, link));
    LIST_EACH(link, &job->takers)
    {
        const struct taker *taker = LIST_ENTRY(link, struct taker, link);

        deliver_outcome(service, &taker->reply, &taker->origin, &outcome);
    }
    if (job->stream)
        stream_deliver(job);
    record_job(job, account, err);
    LIST_EACH(link, &job->takers)
    record_left(job, LIST_ENTRY(link, struct taker, link), err);
    buf_shrink(&service->value, VALUE_KEEP);
}

void job_fail(struct job *job, const struct error *err)
{
    struct service *service = job->service;
    struct account account = account_of(job);

    job_move(job, JOB_DONE);
    service->stats.failed[err->code]++;
    buf_clear(&service->value);
    if (job->stream)
        reply_put_stream_error(&service->value, stream_reference(job), err,
                               &account);
    else
        reply_put_error(&service->value, err, &account);
    answer_takers(job, &account, err);
    job_free(job);
}

void job_succeed(struct job *job)
{
    struct service *service = job->service;
    struct account account = account_of(job);
    struct error err;

    buf_clear(&service->value);
    if (job->stream)
        reply_put_stream_done(&service->value, stream_reference(job),
                              &job->request, dialogue_result(job->dialogue),
                              &account);
    else
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
    service->stats.fallbacks += job->candidate > 0;
    if (job->request.options.request_id.size > 0 && !job->stream)
        answers_keep(service, job, buf_slice(&service->value));
    answer_takers(job, &account, NULL);
    if (job->asked.cacheable)
        cache_keep(job, &account);
    job_free(job);
}

static size_t text_size(const struct request *request)
{
    size_t size = request->text.size + request->context.size;

    for (size_t i = 0; i < request->message_count; i++)
        size += request->messages[i].content.size;
    for (size_t i = 0; i < request->text_count; i++)
        size += request->texts[i].size;
    for (size_t i = 0; i < request->given_count; i++)
        size += request->given[i].json.size;
    return size;
}

static int64_t input_tokens(const struct request *request)
{
    int64_t tokens =
        estimate_tokens(request->text) + estimate_tokens(request->context);

    for (size_t i = 0; i < request->message_count; i++)
        tokens += estimate_tokens(request->messages[i].content);
    for (size_t i = 0; i < request->text_count; i++)
        tokens += estimate_tokens(request->texts[i]);
    for (size_t i = 0; i < request->given_count; i++)
        tokens += estimate_tokens(request->given[i].json);
    return tokens;
}

/* The job lives in its own arena, which is the one the call was decoded into.
 */
static struct job *job_new(struct service *service, const struct call *call,
                           const struct begun *begun)
{
    struct arena arena = service->spare;
    struct job *job = arena_alloc(&arena, sizeof(*job));
    int64_t timeout_ms = call->request.options.timeout_ms;

    arena_init(&service->spare, CALL_BLOCK);
    if (timeout_ms == 0)
        timeout_ms = service->config->request_timeout_ms;
    *job = (struct job){
        .service = service,
        .settings = settings_keep(service->settings),
        .state = JOB_NEW,
        .arena = arena,
        .request = call->request,
        .usage = USAGE_UNKNOWN,
        .cost_usd = NAN,
        .started_ms = begun ? begun->at_ms : loop_now_ms(&service->loop),
        .started_ns = begun ? begun->at_ns : loop_now_ns(),
    };
    job->since_ns = loop_now_ns(); /* a script's time is nobody's share */
    job->deadline_ms = job->started_ms + (uint64_t)timeout_ms;
    list_init(&job->takers);
    list_init(&job->link);
    list_append(&service->jobs, &job->link);
    memory_request_begins(service);
    job->request_id = call->request.options.request_id;
    if (job->request_id.size > 0)
        map_put(&service->by_request, job->request_id, job);
    else if (begun)
        job->request_id = begun->request_id;
    else
        job->request_id = service_make_id(service, &job->arena);
    return job;
}

static bool begin(struct job *job, struct error *err)
{
    const struct model *entry = job->plan.candidates[job->candidate].entry;
    const struct dialogue_room room = {
        .context_tokens = entry ? entry->context_tokens : -1,
        .max_output_tokens = entry ? entry->max_output_tokens : -1,
    };

    job->dialogue = dialogue_begin(&job->arena, &job->request,
                                   &job->settings->assets.prompts, &room, err);
    return job->dialogue != NULL;
}

void job_go_on(struct job *job)
{
    struct error err;

    if (!slot_take(job))
        line_wait(&job->service->admission, job, 0);
    else if (!job->dialogue && !begin(job, &err))
        job_fail(job, &err);
    else
        ask(job);
}

static void go_on(void *context)
{
    job_go_on(context);
}

static bool plan(struct service *service, const struct call *call,
                 int64_t tokens, struct plan *plan, struct error *err)
{
    const struct plan_need need = {
        .operation = call->request.operation,
        .options = &call->request.options,
        .input_tokens = tokens,
        .supply = service->supply,
        .clock = service_clock(service),
        .chance = service_chance(service),
    };

    return router_plan(&service->settings->routing, &need, plan, err);
}

static void count_decision(struct stats *stats, const struct request *request,
                           const struct decision *decision)
{
    if (request->options.model.size > 0)
        stats->explicit_models++;
    else
        stats->strategies[decision->strategy]++;
}

static void add_taker(struct service *service, struct job *job,
                      const struct call *call, const struct origin *origin)
{
    /* The receiver of a stream is watched, and gets messages of its own. */
    const struct reply_address receiver = {
        .form = REPLY_NONE,
        .pid = call->request.options.to,
    };

    if (call->request.operation == OP_STREAM) {
        stream_open(job);
        taker_join(service, job, &receiver,
                   &(struct origin){.connection = origin->connection});
    } else {
        taker_join(service, job, &call->reply, origin);
    }
}

bool job_start(struct service *service, const struct call *call,
               const struct origin *origin, const struct asked *asked,
               struct error *err)
{
    int64_t tokens = input_tokens(&call->request);
    struct plan plan_made;
    struct job *job;

    if (!plan(service, call, tokens, &plan_made, err))
        return false;
    count_decision(&service->stats, &call->request, &plan_made.decision);
    job = job_new(service, call, origin->begun);
    job->plan = plan_made;
    job->model = plan_made.candidates[0].model;
    job->input_tokens = tokens;
    job->connection = origin->connection;
    job->caller_node =
        arena_copy(&job->arena, access_node(service, origin->connection));
    job->queued = origin->queued != NULL;
    job->asked = *asked;
    if (job->queued) { /* who waits in the queue may as well wait here */
        job->timeout_ms = job->deadline_ms - job->started_ms;
        job->deadline_ms = job->started_ms + REQUEST_TIMEOUT_MAX_MS;
    }
    add_taker(service, job, call, origin);
    if (!origin->begun)
        notices_job_began(job);
    if (job->stream) {
        buf_clear(&service->value);
        reply_put_stream(&service->value, stream_reference(job));
        deliver(service, &call->reply, origin, OP_STREAM);
    }
    /* To read a large text was enough for one turn of the loop. */
    if (job->stream || text_size(&job->request) > LARGE_TEXT)
        loop_timer_start(&service->loop, &job->backoff, 0, go_on, job);
    else
        job_go_on(job);
    return true;
}
