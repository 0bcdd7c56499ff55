/* What processes are told that asked to be: the progress of a task, and the
 * beginning and end of requests. Terms without version byte; never a prompt, an
 * answer or the caller's metadata. */
#ifndef LLM_ROUTER_API_NOTICE_H
#define LLM_ROUTER_API_NOTICE_H

#include "llm_router/api/reply.h"

enum task_status {
    TASK_ACCEPTED,
    TASK_CALLING, /* a provider is asked; again with each attempt */
    TASK_FIRST_TOKEN,
    TASK_VALIDATING,
    TASK_DONE,
    TASK_FAILED,
};

/* {task_update, Id, #{status, operation, request_id, ...}} */
struct task_update {
    struct slice task_id; /* raw */
    enum task_status status;
    enum operation operation;
    struct slice request_id;
    struct slice provider, model; /* empty: unknown */
    int attempt;                  /* 0: none yet */
    int64_t duration_ms;          /* < 0: not ended */
    enum error_code error;        /* of TASK_FAILED */
};
void notice_put_task_update(struct buf *out, const struct task_update *update);

/* {task_completed, Id}: behind the update with TASK_DONE. */
void notice_put_task_completed(struct buf *out, struct slice task_id);

enum request_phase { REQUEST_START, REQUEST_STOP, REQUEST_EXCEPTION };

/* {llm_router_telemetry, [llm_router, request, Phase], Measurements, Metadata}
 * by the conventions of telemetry's spans, with the attribute names of
 * OpenTelemetry's GenAI conventions. Times are nanoseconds. */
struct request_event {
    enum request_phase phase;
    const struct request *request;
    struct slice request_id;
    struct slice caller_node; /* empty: none, or it is gone */
    bool queued;              /* a message of the queue */
    int64_t unix_ns;          /* of a start */
    int64_t duration_ns;      /* of an end */
    int64_t first_token_ns;   /* since the start, of streams; < 0: none came */
    struct slice model, provider;  /* that are asked; empty: unknown */
    const struct account *account; /* of an end; NULL: nothing is known */
    const struct result *result;   /* of a stop; NULL: unknown */
    const struct error *error;     /* of an exception */
};
void notice_put_request(struct buf *out, const struct request_event *event);

#endif
