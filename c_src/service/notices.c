#include "service/service_internal.h"

enum { ID_BLOCK = 64 };

/* --- tasks --- */

static void tell_task(struct service *service, const struct task_update *update,
                      uint64_t connection)
{
    buf_clear(&service->value);
    notice_put_task_update(&service->value, update);
    watchers_tell_task(service, update->task_id, connection);
    if (update->status != TASK_DONE)
        return;
    buf_clear(&service->value);
    notice_put_task_completed(&service->value, update->task_id);
    watchers_tell_task(service, update->task_id, connection);
}

static bool task_is_watched(const struct job *job)
{
    return watchers_want_task(job->service, job->request.options.task_id);
}

static struct task_update update_of(const struct job *job,
                                    enum task_status status)
{
    bool asks = status == TASK_CALLING || status == TASK_FIRST_TOKEN;

    return (struct task_update){
        .task_id = job->request.options.task_id,
        .status = status,
        .operation = job->request.operation,
        .request_id = job->request_id,
        .provider = status == TASK_ACCEPTED
                        ? slice_of(NULL)
                        : job->plan.candidates[job->candidate].provider,
        .model = status == TASK_ACCEPTED ? slice_of(NULL) : job->model,
        .attempt = asks ? job->attempts : 0,
        .duration_ms = -1,
    };
}

void notices_job_step(const struct job *job, enum task_status status)
{
    struct task_update update;

    if (!task_is_watched(job))
        return;
    update = update_of(job, status);
    tell_task(job->service, &update, job->connection);
}

static void tell_task_end(const struct job *job, const struct account *account,
                          const struct error *err)
{
    struct task_update update;

    if (!task_is_watched(job))
        return;
    update = update_of(job, err ? TASK_FAILED : TASK_DONE);
    update.duration_ms = account->duration_ms;
    update.error = err ? err->code : ERR_NONE;
    tell_task(job->service, &update, job->connection);
}

/* --- telemetry --- */

static void tell_request(struct service *service,
                         const struct request_event *event, uint64_t connection)
{
    buf_clear(&service->value);
    notice_put_request(&service->value, event);
    watchers_tell_telemetry(service, connection);
}

static struct request_event event_of(const struct job *job,
                                     enum request_phase phase)
{
    return (struct request_event){
        .phase = phase,
        .request = &job->request,
        .request_id = job->request_id,
        .caller_node = job->caller_node,
        .queued = job->queued,
        .unix_ns = loop_unix_ns(),
        .first_token_ns = job->first_token_ns > 0
                              ? (int64_t)(job->first_token_ns - job->started_ns)
                              : -1,
        .model = job->plan.candidates[job->candidate].model,
        .provider = job->plan.candidates[job->candidate].provider,
    };
}

void notices_job_began(const struct job *job)
{
    struct request_event event;

    notices_job_step(job, TASK_ACCEPTED);
    if (!watchers_want_telemetry(job->service))
        return;
    event = event_of(job, REQUEST_START);
    tell_request(job->service, &event, job->connection);
}

void notices_job_ended(const struct job *job, const struct account *account,
                       const struct error *err)
{
    struct request_event event;

    tell_task_end(job, account, err);
    if (!watchers_want_telemetry(job->service))
        return;
    event = event_of(job, err ? REQUEST_EXCEPTION : REQUEST_STOP);
    event.duration_ns = (int64_t)(loop_now_ns() - job->started_ns);
    event.account = account;
    event.result = err ? NULL : dialogue_result(job->dialogue);
    event.error = err;
    tell_request(job->service, &event, job->connection);
}

/* --- requests without a job of their own --- */

static struct request_event event_of_call(const struct service *service,
                                          const struct request *request,
                                          const struct origin *origin,
                                          enum request_phase phase)
{
    return (struct request_event){
        .phase = phase,
        .request = request,
        .request_id = request->options.request_id,
        .caller_node = access_node(service, origin->connection),
        .queued = origin->queued != NULL,
        .unix_ns = loop_unix_ns(),
        .first_token_ns = -1,
        .model = request->options.model,
        .provider = request->options.provider,
    };
}

/* By which the two events, and the updates, belong together. */
static struct slice id_of(struct service *service,
                          const struct request *request,
                          const struct origin *origin, struct arena *arena)
{
    if (origin->begun)
        return origin->begun->request_id;
    if (request->options.request_id.size > 0)
        return request->options.request_id;
    return service_make_id(service, arena);
}

static void tell_begin(struct service *service, const struct request *request,
                       const struct origin *origin, struct slice id)
{
    struct request_event event =
        event_of_call(service, request, origin, REQUEST_START);

    event.request_id = id;
    if (watchers_want_telemetry(service))
        tell_request(service, &event, origin->connection);
}

static void tell_end(struct service *service, const struct request *request,
                     const struct origin *origin, struct slice id,
                     const struct error *err)
{
    struct request_event event = event_of_call(
        service, request, origin, err ? REQUEST_EXCEPTION : REQUEST_STOP);

    event.request_id = id;
    event.error = err;
    if (origin->begun)
        event.duration_ns = (int64_t)(loop_now_ns() - origin->begun->at_ns);
    if (watchers_want_telemetry(service))
        tell_request(service, &event, origin->connection);
}

static struct task_update update_of_call(const struct request *request,
                                         struct slice id,
                                         enum task_status status)
{
    return (struct task_update){
        .task_id = request->options.task_id,
        .status = status,
        .operation = request->operation,
        .request_id = id,
        .duration_ms = -1,
    };
}

static void tell_task_begin(struct service *service,
                            const struct request *request, uint64_t connection,
                            struct slice id)
{
    struct task_update update = update_of_call(request, id, TASK_ACCEPTED);

    if (watchers_want_task(service, update.task_id))
        tell_task(service, &update, connection);
}

static void tell_task_over(struct service *service,
                           const struct request *request,
                           const struct origin *origin, struct slice id,
                           const struct error *err)
{
    struct task_update update =
        update_of_call(request, id, err ? TASK_FAILED : TASK_DONE);

    if (!watchers_want_task(service, update.task_id))
        return;
    update.error = err ? err->code : ERR_NONE;
    update.duration_ms = 0;
    if (origin->begun)
        update.duration_ms =
            (int64_t)(loop_now_ms(&service->loop) - origin->begun->at_ms);
    tell_task(service, &update, origin->connection);
}

void notices_begun(struct service *service, const struct call *call,
                   const struct origin *origin)
{
    struct slice id = origin->begun->request_id;

    tell_task_begin(service, &call->request, origin->connection, id);
    tell_begin(service, &call->request, origin, id);
}

void notices_answered(struct service *service, const struct call *call,
                      const struct origin *origin, const struct error *err)
{
    const struct request *request = &call->request;
    struct arena arena;
    struct slice id;

    if (service->topics.count == 0 || request->operation == OPERATION_COUNT ||
        !operation_calls_provider(request->operation))
        return;
    arena_init(&arena, ID_BLOCK);
    id = id_of(service, request, origin, &arena);
    if (!origin->begun && !err)
        tell_task_begin(service, request, origin->connection, id);
    tell_task_over(service, request, origin, id, err);
    if (!origin->begun)
        tell_begin(service, request, origin, id);
    tell_end(service, request, origin, id, err);
    arena_release(&arena);
}

void notices_joined(const struct job *job, const struct taker *taker)
{
    struct service *service = job->service;
    struct request_event event;

    if (!watchers_want_telemetry(service))
        return;
    event =
        event_of_call(service, &job->request, &taker->origin, REQUEST_START);
    tell_request(service, &event, taker->origin.connection);
}

void notices_left(const struct job *job, const struct taker *taker,
                  const struct error *err)
{
    struct service *service = job->service;
    struct request_event event;

    if (taker->joined_ns == 0 || !watchers_want_telemetry(service))
        return;
    event = event_of_call(service, &job->request, &taker->origin,
                          err ? REQUEST_EXCEPTION : REQUEST_STOP);
    event.duration_ns = (int64_t)(loop_now_ns() - taker->joined_ns);
    event.error = err;
    tell_request(service, &event, taker->origin.connection);
}
