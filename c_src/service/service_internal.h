/* What the files of the service layer share: the running service, its jobs
 * and those who wait for them. */
#ifndef LLM_ROUTER_SERVICE_INTERNAL_H
#define LLM_ROUTER_SERVICE_INTERNAL_H

#include "llm_router/api/reply.h"
#include "llm_router/base/list.h"
#include "llm_router/base/map.h"
#include "llm_router/config/assets.h"
#include "llm_router/config/config.h"
#include "llm_router/dist/node.h"
#include "llm_router/service/attempt.h"
#include "llm_router/service/stats.h"

struct service {
    const struct config *config;
    const struct assets *assets;
    struct loop loop;
    struct node *node;
    struct upstream upstream;
    struct routing routing;
    struct stats stats;
    uint64_t started_ms;
    uint64_t chance; /* state of the generator behind retry jitter */

    struct list jobs;
    size_t in_flight;
    bool draining;
    void (*on_drain)(void *context); /* somebody called `drain` */
    void (*on_idle)(void *context);  /* draining and the last job is done */
    void *context;                   /* of both */

    struct map callers;    /* struct caller by connection */
    struct map waiting;    /* taker by what its caller would cancel with */
    struct map by_request; /* job by request_id */
    struct list answered;  /* struct answer, oldest first */
    struct map answers;    /* struct answer by request_id */
    size_t answered_bytes;

    struct arena spare; /* decodes a call; a job takes it over */
    struct buf value;   /* scratch: a result term */
    struct buf head;    /* scratch: what comes before it in a message */
};

/* Who asked, as far as the distribution layer is concerned. */
struct origin {
    uint64_t connection;
    uint64_t rpc_call; /* 0: not by rpc */
};

/* Takers (taker.c): who waits for a job. A job without takers is aborted. */

struct job;

struct taker {
    struct list link; /* in job->takers */
    struct job *job;
    struct reply_address reply;
    struct origin origin;
    uint64_t monitor; /* ours on the receiving process; 0: none */
    struct slice key; /* in service->waiting; empty: not there */
};

/* Joins the job; the taker's memory and its reply's text are the job arena's.
 */
void taker_join(struct service *service, struct job *job,
                const struct reply_address *reply, const struct origin *origin);
/* No signal reaches the taker after this. */
void taker_unwatch(struct service *service, struct taker *taker);
/* Leaves the job without an answer. */
void taker_leave(struct service *service, struct taker *taker);

/* Sends `service->value` to where the reply goes. */
void deliver(struct service *service, const struct reply_address *reply,
             const struct origin *origin, enum operation operation);

/* The signals that mean "nobody waits any more" (taker.c). */
void taker_demonitored(struct service *service, uint64_t connection,
                       struct slice reference);
void taker_process_down(struct service *service, uint64_t monitor);
void taker_rpc_abandoned(struct service *service, uint64_t call);

/* Jobs (job.c): one request on its way through the providers. */

enum job_state {
    JOB_NEW,
    JOB_CALLING,
    JOB_BACKOFF,
    JOB_VALIDATING,
    JOB_DONE,
    JOB_CANCELLED,
};

struct job {
    struct list link; /* in service->jobs */
    struct service *service;
    enum job_state state;
    struct arena arena; /* holds the job itself and all below */
    struct request request;
    struct slice request_id; /* the caller's, else one made here */
    struct list takers;
    struct plan plan;
    size_t candidate;
    struct dialogue *dialogue;
    struct attempt *attempt;
    struct loop_timer backoff;
    int attempts;
    int retries; /* of the current question to the current candidate */
    uint64_t started_ms;
    uint64_t deadline_ms;
    struct usage usage;
    double cost_usd;
    struct slice model; /* as the provider named it, else as asked */
};

/* Takes over the call's arena (service->spare) and answers every taker when it
 * is done. False: nothing was started, err says why. */
bool job_start(struct service *service, const struct call *call,
               const struct origin *origin, struct error *err);
/* The last taker left, or the service ends: aborts and frees. */
void job_cancel(struct job *job);
/* Ends with an error for all takers. */
void job_fail(struct job *job, const struct error *err);

/* Recent answers by request_id (answers.c). */
void answers_keep(struct service *service, struct slice request_id,
                  struct slice value);
/* The answer as a raw term, or an empty slice. */
struct slice answers_find(struct service *service, struct slice request_id);
void answers_release(struct service *service);

/* Who may call (access.c): decided by the name of the node at the other end of
 * the connection, when it comes up. */
void access_peer_up(struct service *service, uint64_t connection,
                    struct slice peer);
void access_peer_down(struct service *service, uint64_t connection);
/* False: ERR_FORBIDDEN, and now and then a line in the log. */
bool access_check(struct service *service, uint64_t connection,
                  enum operation_class class, struct error *err);
/* The node's name; empty if it is gone. */
struct slice access_node(const struct service *service, uint64_t connection);
void access_release(struct service *service);

/* dispatch.c: from the node's events to jobs and immediate answers. */
void dispatch_message(struct service *service,
                      const struct node_message *message);
void dispatch_refused(struct service *service, uint64_t connection,
                      struct slice pid, struct slice tag,
                      const struct error *err);
void dispatch_rpc(struct service *service, const struct node_rpc *rpc);

/* info.c: what the operations without a provider answer; each writes a term
 * without version byte to `out`. */
void info_put_version(const struct service *service, struct buf *out);
void info_put_health(const struct service *service, struct buf *out);
void info_put_stats(const struct service *service, struct buf *out);
void info_put_models(const struct service *service, struct buf *out);

#endif
