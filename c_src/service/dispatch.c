#include "llm_router/base/log.h"
#include "llm_router/term/writer.h"
#include "service/service_internal.h"

void dispatch_refuse(struct service *service, const struct call *call,
                     const struct origin *origin, const struct error *err)
{
    const struct outcome outcome = {&call->request, err, NULL};

    service->stats.failed[err->code]++;
    buf_clear(&service->value);
    reply_put_error(&service->value, err, NULL);
    deliver_outcome(service, &call->reply, origin, &outcome);
    record_refused(service, call, origin, err);
}

static void put_ok(struct service *service)
{
    buf_clear(&service->value);
    term_put_atom(&service->value, "ok");
}

/* Of the queue nothing is taken by a router that drains, though it still takes
 * calls. */
static bool admit(const struct service *service, const struct origin *origin,
                  struct error *err)
{
    if (service->draining && (origin->queued || !service->handing_over))
        return error_set(err, ERR_SHUTTING_DOWN,
                         "this router is shutting down");
    return true;
}

/* Copies what the new taker's reply needs out of the call's own arena. */
static void join(struct service *service, struct job *job,
                 const struct call *call, const struct origin *origin)
{
    const struct reply_address reply =
        reply_address_copy(&job->arena, &call->reply);
    struct taker *taker;

    service->stats.shared++;
    taker = taker_join(service, job, &reply, origin);
    taker->joined_ns = origin->begun ? origin->begun->at_ns : loop_now_ns();
    if (!origin->begun)
        notices_joined(job, taker);
}

static bool is_cacheable(const struct service *service,
                         const struct request *request)
{
    const struct config *config = service->config;
    const struct options *options = &request->options;

    /* The last two: the answer depends on what somebody else keeps. */
    if (config->max_cache_bytes == 0 || request->operation == OP_STREAM ||
        options->previous_response_id.size > 0 || options->mcp_servers)
        return false;
    return options->cache == CACHE_YES ||
           (options->cache == CACHE_DEFAULT && config->cache_by_default);
}

/* An id stands for one question. */
static void refuse_other_question(struct service *service,
                                  const struct call *call,
                                  const struct origin *origin)
{
    struct error err;

    error_at(&err, ERR_INVALID_REQUEST,
             origin->queued ? "request_id" : "opts.request_id",
             "stands for another question, asked a moment ago");
    dispatch_refuse(service, call, origin, &err);
}

static bool is_same(const struct asked *asked, const unsigned char *digest)
{
    return memcmp(asked->digest, digest, DIGEST_SIZE) == 0;
}

/* The same request_id in flight or just answered: no second provider call. */
static bool share_by_id(struct service *service, const struct call *call,
                        const struct origin *origin, const struct asked *asked)
{
    struct slice request_id = call->request.options.request_id;
    struct job *job = map_find(&service->by_request, request_id);
    const struct outcome outcome = {&call->request, NULL, NULL};
    const unsigned char *digest;
    struct slice answer;

    if (job) {
        if (job->stream || !is_same(asked, job->asked.digest))
            refuse_other_question(service, call, origin);
        else
            join(service, job, call, origin);
        return true;
    }
    if (!answers_find(service, request_id, &answer, &digest))
        return false;
    if (!is_same(asked, digest)) {
        refuse_other_question(service, call, origin);
        return true;
    }
    service->stats.shared++;
    buf_clear(&service->value);
    buf_append_slice(&service->value, answer);
    deliver_outcome(service, &call->reply, origin, &outcome);
    record_remembered(service, call, origin, NULL);
    return true;
}

/* The same question was answered not long ago. */
static bool share_by_question(struct service *service, const struct call *call,
                              const struct origin *origin,
                              const struct asked *asked)
{
    const struct cached *cached = cache_find(service, asked->digest);
    struct account account;
    const struct outcome outcome = {&call->request, NULL, &account};

    if (!cached) {
        service->stats.cache_misses++;
        return false;
    }
    service->stats.cache_hits++;
    account = cached->account;
    account.request_id = call->request.options.request_id;
    account.duration_ms = 0;
    buf_clear(&service->value);
    reply_put_result(&service->value, &call->request, cached->result, &account);
    deliver_outcome(service, &call->reply, origin, &outcome);
    record_remembered(service, call, origin, cached);
    return true;
}

static bool share(struct service *service, const struct call *call,
                  const struct origin *origin, struct asked *asked)
{
    bool has_id = call->request.options.request_id.size > 0;

    *asked = (struct asked){.cacheable = is_cacheable(service, &call->request)};
    if (!has_id && !asked->cacheable)
        return false;
    asked_digest(service, &call->request, asked);
    return (has_id && share_by_id(service, call, origin, asked)) ||
           (asked->cacheable &&
            share_by_question(service, call, origin, asked));
}

static void select_model(struct service *service, const struct call *call,
                         const struct origin *origin)
{
    const struct plan_need need = {
        .operation = OP_SELECT_MODEL,
        .options = &call->request.options,
        .supply = service->supply,
        .clock = service_clock(service),
        .chance = service_chance(service),
    };
    struct plan plan;
    struct error err;

    if (!router_plan(&service->settings->routing, &need, &plan, &err)) {
        dispatch_refuse(service, call, origin, &err);
        return;
    }
    reply_put_selection(&service->value, &call->request, &plan);
    deliver(service, &call->reply, origin, OP_SELECT_MODEL);
}

/* All who wait for it get `cancelled`. */
static bool cancel(struct service *service, const struct request *request)
{
    struct job *job = request->reference.size > 0
                          ? stream_find(service, request->reference)
                          : map_find(&service->by_request, request->text);
    struct error err;

    error_set(&err, ERR_CANCELLED, "the request was cancelled");
    if (!job)
        return scripts_fail(service->scripts, request->text, &err);
    job_fail(job, &err);
    return true;
}

static void put_cancelled(struct service *service, const struct call *call)
{
    bool found = cancel(service, &call->request);

    buf_clear(&service->value);
    reply_put_boolean(&service->value, found);
}

static void put_complexity(struct service *service, const struct call *call)
{
    enum complexity complexity =
        complexity_for(OP_CALL, call->request.options.task_type);

    term_put_atom(&service->value, complexity_atom(complexity));
}

static void reload(struct service *service, const struct call *call,
                   const struct origin *origin)
{
    struct error err;

    if (!reload_start(service, &call->reply, origin, &err))
        dispatch_refuse(service, call, origin, &err);
}

/* The answer is on its way before anything closes. */
static void drain(struct service *service, const struct call *call,
                  const struct origin *origin)
{
    put_ok(service);
    deliver(service, &call->reply, origin, OP_DRAIN);
    log_event(
        LOG_INFO, "dispatch", "a node asked to drain",
        LOG_FIELDS(log_text("peer", access_node(service, origin->connection))));
    service->on_drain(service->context);
}

static void watch(struct service *service, const struct call *call,
                  const struct origin *origin)
{
    struct error err;

    if (!watchers_change(service, call, origin, &err))
        dispatch_refuse(service, call, origin, &err);
}

/* The asynchronous half: answered when the database has. */
static void ask_queue(struct service *service, const struct call *call,
                      const struct origin *origin)
{
    bool ok = false;
    struct error err;

    if (!admit(service, origin, &err)) {
        dispatch_refuse(service, call, origin, &err);
        return;
    }
    if (call->request.operation == OP_ENQUEUE)
        ok = queue_enqueue(service, call, origin, &err);
    else if (call->request.operation == OP_AWAIT)
        ok = queue_await(service, call, origin, &err);
    else
        ok = queue_result(service, call, origin, &err);
    if (!ok)
        dispatch_refuse(service, call, origin, &err);
}

/* False: the operation is another one. */
static bool put_info(struct service *service, enum operation operation)
{
    static void (*const put[OPERATION_COUNT])(const struct service *service,
                                              struct buf *out) = {
        [OP_VERSION] = info_put_version,
        [OP_HEALTH] = info_put_health,
        [OP_STATS] = info_put_stats,
        [OP_STATUS] = info_put_status_text,
        [OP_MODELS] = info_put_models,
        [OP_AVAILABLE_MODELS] = info_put_model_names,
    };

    if (!put[operation])
        return false;
    put[operation](service, &service->value);
    return true;
}

/* What asks no provider. Some answer later, or write their answer. */
static void answer_at_once(struct service *service, const struct call *call,
                           const struct origin *origin)
{
    static void (*const answers[OPERATION_COUNT])(
        struct service * service, const struct call *call,
        const struct origin *origin) = {
        [OP_SELECT_MODEL] = select_model, [OP_DRAIN] = drain,
        [OP_WATCH_TASK] = watch,          [OP_UNWATCH_TASK] = watch,
        [OP_SUBSCRIBE] = watch,           [OP_UNSUBSCRIBE] = watch,
        [OP_ENQUEUE] = ask_queue,         [OP_AWAIT] = ask_queue,
        [OP_RESULT] = ask_queue,          [OP_RELOAD] = reload,
    };
    enum operation operation = call->request.operation;

    buf_clear(&service->value);
    if (answers[operation]) {
        answers[operation](service, call, origin);
        return;
    }
    if (!put_info(service, operation)) {
        if (operation == OP_PING)
            reply_put_pong(&service->value);
        else if (operation == OP_CANCEL)
            put_cancelled(service, call);
        else if (operation == OP_COMPLEXITY_FOR_TASK)
            put_complexity(service, call);
    }
    deliver(service, &call->reply, origin, operation);
}

void dispatch_asked(struct service *service, const struct call *call,
                    const struct origin *origin)
{
    struct asked asked;
    struct error err;

    if (share(service, call, origin, &asked))
        return;
    if (!job_start(service, call, origin, &asked, &err))
        dispatch_refuse(service, call, origin, &err);
}

static void submit(struct service *service, const struct call *call,
                   const struct origin *origin)
{
    struct error err;

    service->stats.requests[call->request.operation]++;
    if (!operation_calls_provider(call->request.operation)) {
        answer_at_once(service, call, origin);
        return;
    }
    if (!admit(service, origin, &err)) {
        dispatch_refuse(service, call, origin, &err);
        return;
    }
    if (call->request.operation != OP_CALL_WITH_SCRIPT)
        dispatch_asked(service, call, origin);
    else if (!scripts_start(service, call, origin, &err))
        dispatch_refuse(service, call, origin, &err);
}

/* The arena keeps its first block between calls, so that one that is answered
 * at once allocates nothing; job_start leaves a new, empty one behind. */
struct arena_mark dispatch_open(struct service *service)
{
    arena_bytes(&service->spare, 1);
    return arena_mark(&service->spare);
}

void dispatch_close(struct service *service, struct arena_mark mark)
{
    if (service->spare.newest)
        arena_rewind(&service->spare, mark);
}

static void put_state(struct service *service, const struct call *call)
{
    struct buf *out = &service->value;

    buf_clear(out);
    switch (call->system) {
    case SYSTEM_GET_STATE:
        term_put_tuple(out, 2);
        term_put_atom(out, "ok");
        info_put_stats(service, out);
        break;
    case SYSTEM_GET_STATUS:
        info_put_status(service, out);
        break;
    case SYSTEM_OTHER:
        term_put_tuple(out, 2);
        term_put_atom(out, "error");
        term_put_atom(out, "not_supported");
        break;
    }
}

/* What leave a call needs. Who may not ask a model for anything does not learn
 * either what is wrong with a request. */
static enum operation_class class_of(const struct call *call)
{
    switch (call->kind) {
    case CALL_REQUEST:
        return operation_class(call->request.operation);
    case CALL_REJECTED:
        return CLASS_CALL;
    case CALL_SYSTEM:
        return CLASS_ADMIN;
    case CALL_IGNORED:
        break;
    }
    return CLASS_OPEN;
}

static void handle(struct service *service, const struct call *call,
                   const struct origin *origin)
{
    struct error err;

    if (!access_check(service, origin->connection, class_of(call), &err)) {
        dispatch_refuse(service, call, origin, &err);
        return;
    }
    switch (call->kind) {
    case CALL_REQUEST:
        submit(service, call, origin);
        break;
    case CALL_REJECTED:
        dispatch_refuse(service, call, origin, &call->error);
        break;
    case CALL_SYSTEM:
        put_state(service, call);
        deliver(service, &call->reply, origin, call->request.operation);
        break;
    case CALL_IGNORED:
        service->stats.ignored++;
        break;
    }
}

void dispatch_message(struct service *service,
                      const struct node_message *message)
{
    const struct origin origin = {.connection = message->connection};
    struct arena_mark mark = dispatch_open(service);
    struct call call;

    call_decode_message(message->message, &service->spare, &call);
    if (call.acknowledge.form != REPLY_NONE) {
        put_ok(service);
        deliver(service, &call.acknowledge, &origin, call.request.operation);
    }
    if (call.kind == CALL_IGNORED)
        log_event(LOG_DEBUG, "dispatch", "a stray message was dropped",
                  LOG_FIELDS(log_text("peer", message->peer)));
    handle(service, &call, &origin);
    dispatch_close(service, mark);
}

void dispatch_refused(struct service *service, uint64_t connection,
                      struct slice pid, struct slice tag,
                      const struct error *err)
{
    const struct origin origin = {.connection = connection};
    struct call call = {.kind = CALL_REJECTED,
                        .request.operation = OPERATION_COUNT,
                        .error = *err};

    if (pid.size > 0)
        call.reply = reply_address_gen(pid, tag);
    handle(service, &call, &origin);
}

/* rpc and erpc want a value. A form that names a pid is answered to the pid;
 * the rpc itself returns ok at once. */
static void submit_rpc(struct service *service, const struct node_rpc *rpc,
                       struct call *call)
{
    struct origin origin = {.connection = rpc->connection,
                            .rpc_call = rpc->call};

    if (call->reply.pid.size > 0) {
        put_ok(service);
        if (rpc->call != 0)
            node_rpc_return(service->node, rpc->call,
                            buf_slice(&service->value));
        origin.rpc_call = 0;
    } else {
        call->reply.form = rpc->call != 0 ? REPLY_RPC : REPLY_NONE;
    }
    if (call->reply.form == REPLY_NONE)
        service->stats.ignored++; /* nobody would take the answer */
    else
        handle(service, call, &origin);
}

void dispatch_rpc(struct service *service, const struct node_rpc *rpc)
{
    struct arena_mark mark = dispatch_open(service);
    struct call call;

    if (call_decode_rpc(rpc->module, rpc->function, rpc->arguments,
                        &service->spare, &call))
        submit_rpc(service, rpc, &call);
    else if (rpc->call != 0)
        node_rpc_error(service->node, rpc->call, NODE_RPC_UNDEF,
                       slice_of(NULL));
    dispatch_close(service, mark);
}

/* Who may put something on the queue is the database's to say. */
void dispatch_queued(struct service *service, struct queued *queued,
                     const struct request *request)
{
    const struct origin origin = {.queued = queued};
    const struct call call = {.kind = CALL_REQUEST, .request = *request};

    submit(service, &call, &origin);
}
