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

static void tell_whole_request(struct service *service,
                               const struct request *request,
                               const struct origin *origin,
                               const struct error *err)
{
    struct request_event event =
        event_of_call(service, request, origin, REQUEST_START);
    struct arena arena;

    arena_init(&arena, ID_BLOCK);
    if (event.request_id.size == 0)
        event.request_id = service_make_id(service, &arena);
    tell_request(service, &event, origin->connection);
    event.phase = err ? REQUEST_EXCEPTION : REQUEST_STOP;
    event.error = err;
    tell_request(service, &event, origin->connection);
    arena_release(&arena);
}

static void tell_whole_task(struct service *service,
                            const struct request *request, uint64_t connection,
                            const struct error *err)
{
    struct task_update update = {
        .task_id = request->options.task_id,
        .status = TASK_ACCEPTED,
        .operation = request->operation,
        .request_id = request->options.request_id,
        .duration_ms = -1,
    };

    if (!err)
        tell_task(service, &update, connection);
    update.status = err ? TASK_FAILED : TASK_DONE;
    update.error = err ? err->code : ERR_NONE;
    update.duration_ms = 0;
    tell_task(service, &update, connection);
}

void notices_answered(struct service *service, const struct call *call,
                      const struct origin *origin, const struct error *err)
{
    const struct request *request = &call->request;

    if (request->operation == OPERATION_COUNT ||
        !operation_calls_provider(request->operation))
        return;
    if (watchers_want_task(service, request->options.task_id))
        tell_whole_task(service, request, origin->connection, err);
    if (watchers_want_telemetry(service))
        tell_whole_request(service, request, origin, err);
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
