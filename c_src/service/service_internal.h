/* What the files of the service layer share: the running service, its jobs
 * and those who wait for them. */
#ifndef LLM_ROUTER_SERVICE_INTERNAL_H
#define LLM_ROUTER_SERVICE_INTERNAL_H

#include "llm_router/api/notice.h"
#include "llm_router/api/reply.h"
#include "llm_router/base/digest.h"
#include "llm_router/base/list.h"
#include "llm_router/base/map.h"
#include "llm_router/core/fair_queue.h"
#include "llm_router/dist/node.h"
#include "llm_router/loop/systemd.h"
#include "llm_router/metrics/history.h"
#include "llm_router/metrics/meters.h"
#include "llm_router/service/attempt.h"
#include "llm_router/service/settings.h"
#include "llm_router/service/stats.h"

/* Jobs that wait for the same thing: a slot of this router, or room at a
 * provider (waiting.c). */
struct line {
    struct list link; /* in service->lines */
    struct service *service;
    struct slice provider; /* empty: the router's own slots */
    struct fair_queue queue;
    struct loop_timer timer; /* room in a rate limit, the end of a bench */
    struct loop_task wake;
};

/* The first block of a call's arena: with its header it is 3.25 KiB, which
 * holds the job of an ordinary call and its prompt. */
enum { CALL_BLOCK = 3328 - 48 };

/* When memory was wanted (memory.c). */
struct memory {
    struct loop_timer timer;
    size_t most;       /* requests at a time since memory was given back */
    size_t lately;     /* the same since the timer came last */
    uint64_t busy_ms;  /* when they were more than half of `most` */
    uint64_t close_ms; /* when unused connections are closed; 0: never */
    bool closed;       /* some, since then */
};

struct service {
    struct settings *settings;
    const struct config *config;   /* of the settings */
    const struct config *at_start; /* of those it began with */
    int argc;
    const char *const *argv; /* for a reload */
    struct reload *reload;   /* one that is under way, or NULL */
    struct loop loop;
    struct systemd systemd;
    struct node *node;
    struct upstream upstream;
    struct supply *supply;
    struct spending *spending;
    struct queue *queue; /* NULL: there is none */
    struct stats stats;
    struct meters *meters;
    struct history *history;
    struct web *web;   /* NULL: no HTTP */
    struct buf policy; /* of the status page */
    bool ready;        /* the node can be called */
    uint64_t started_ms;
    int64_t started_unix_ms;
    uint64_t seed;   /* of maps whose keys strangers choose */
    uint64_t chance; /* state of the generator behind retry jitter */

    struct list jobs;
    size_t in_flight; /* jobs, those that wait included: memory.c counts */
    struct memory memory;
    size_t calling; /* jobs that hold a slot */
    size_t waiting; /* jobs in a line */
    struct line admission;
    struct list lines;  /* one for each provider that somebody waited for */
    struct list paused; /* streams whose receiver is slow */
    bool draining;
    bool handing_over;               /* draining, and calls are still taken */
    void (*on_drain)(void *context); /* somebody called `drain` */
    void (*on_idle)(void *context);  /* draining and the last job is done */
    void *context;                   /* of both */

    struct map topics;  /* struct topic by what is watched */
    struct map watches; /* struct watch by topic and process */
    struct list told;   /* struct topic that have notices to send */
    size_t notice_count;
    struct loop_task notify;       /* sends them at the end of this turn */
    struct loop_timer notify_more; /* those that are left, in the next */
    bool notifying;                /* it does so now */
    struct list gone;              /* struct watch: who was lost by that */
    struct scripts *scripts;

    struct map callers;      /* struct caller by connection */
    struct map takers;       /* taker by what its caller would cancel with */
    struct map by_request;   /* job by request_id */
    struct map by_reference; /* stream's job by the reference's id */
    struct list answered;    /* struct answer, oldest first */
    struct map answers;      /* struct answer by request_id */
    size_t answered_bytes;
    struct list cached; /* struct cached, oldest first */
    struct map cache;   /* struct cached by digest */
    size_t cached_bytes;

    struct arena spare; /* decodes a call; a job takes it over */
    struct buf value;   /* scratch: a result term */
    struct buf head;    /* scratch: what comes before it in a message */
    struct buf asked;   /* scratch: what a digest is made of */
};

/* A request that is under way, but no job yet: its script runs. */
struct begun {
    struct slice request_id;
    uint64_t at_ms, at_ns;
};

/* Who asked: a BEAM process, or a message of the queue. */
struct origin {
    uint64_t connection;
    uint64_t rpc_call;         /* 0: not by rpc */
    struct queued *queued;     /* NULL: not out of the queue */
    const struct begun *begun; /* NULL: it begins now. Not kept */
};

/* A request is under way; it is no more. What requests leave behind goes back
 * to the system when there are fewer of them (memory.c). */
void memory_request_begins(struct service *service);
void memory_request_ends(struct service *service);

/* Takers (taker.c): who waits for something. A job without takers is aborted.
 */

struct job;

struct taker {
    struct list link; /* in job->takers */
    struct job *job;  /* NULL: it waits for something else */
    struct reply_address reply;
    struct origin origin;
    uint64_t monitor;   /* ours on the receiving process; 0: none */
    struct slice key;   /* in service->takers; empty: not there */
    uint64_t joined_ns; /* a job that was there; 0: it made the job */
    void (*gone)(struct service *service, struct taker *taker);
};

/* Joins the job; the taker's memory and its reply's text are the job arena's.
 */
struct taker *taker_join(struct service *service, struct job *job,
                         const struct reply_address *reply,
                         const struct origin *origin);
/* Watches a taker whose reply and origin are filled: `gone` is called when it
 * waits no more. What is kept of it is in the arena. */
void taker_watch(struct service *service, struct taker *taker,
                 struct arena *arena);
/* No signal reaches the taker after this. */
void taker_unwatch(struct service *service, struct taker *taker);
/* Leaves the job without an answer. */
void taker_leave(struct service *service, struct taker *taker);

/* Copies an address that must outlive its call. */
struct reply_address reply_address_copy(struct arena *arena,
                                        const struct reply_address *reply);

/* Sends `service->value` to where the reply goes. */
void deliver(struct service *service, const struct reply_address *reply,
             const struct origin *origin, enum operation operation);

/* What became of a request that asks a provider. */
struct outcome {
    const struct request *request;
    const struct error *err;       /* NULL: success */
    const struct account *account; /* NULL: nothing is known */
};
/* The same for the end of a request, which may be one of the queue. */
void deliver_outcome(struct service *service, const struct reply_address *reply,
                     const struct origin *origin,
                     const struct outcome *outcome);

/* The signals that mean "nobody waits any more" (taker.c). */
void taker_demonitored(struct service *service, uint64_t connection,
                       struct slice reference);
void taker_process_down(struct service *service, uint64_t monitor);
void taker_rpc_abandoned(struct service *service, uint64_t call);

/* Jobs (job.c): one request on its way through the providers. */

enum job_state {
    JOB_NEW,
    JOB_QUEUED, /* in a line */
    JOB_CALLING,
    JOB_BACKOFF,
    JOB_VALIDATING,
    JOB_DONE,
    JOB_CANCELLED,
};

/* What a job's time goes to, by its state. */
enum time_share { SHARE_OWN, SHARE_WAITING, SHARE_PROVIDER, SHARE_COUNT };

/* What is known of a question by which its answer may be shared. */
struct asked {
    bool known; /* the digest was made */
    bool cacheable;
    unsigned char digest[DIGEST_SIZE];
};

struct job {
    struct list link; /* in service->jobs */
    struct service *service;
    struct settings *settings; /* those it began with */
    enum job_state state;
    struct arena arena; /* holds the job itself and all below */
    struct request request;
    struct slice request_id;  /* the caller's, else one made here */
    uint64_t connection;      /* of the first caller */
    struct slice caller_node; /* of it; empty: of the queue */
    bool queued;
    struct asked asked;
    bool has_slot;
    struct list takers;
    struct plan plan;
    size_t candidate;
    struct dialogue *dialogue;
    struct attempt *attempt;
    struct supply_grant grant; /* of the attempt; key 0: none */
    struct loop_timer backoff; /* in a line: until the deadline */
    struct line *line;
    struct fair_entry place;   /* in the line */
    struct line *was_first_in; /* it was taken out to try again */
    struct error *last;        /* of the latest attempt that failed; or NULL */
    int attempts;
    int retries;     /* of the current question to the current candidate */
    bool asks_again; /* the next attempt follows one that failed */
    uint64_t started_ms;
    uint64_t started_ns, first_token_ns; /* loop_now_ns; 0: not yet */
    uint64_t since_ns;                   /* it is in its state */
    uint64_t spent_ns[SHARE_COUNT];      /* in the states before */
    uint64_t deadline_ms;
    uint64_t timeout_ms; /* it begins with the first attempt; 0: it has begun */
    int64_t input_tokens; /* estimate */
    struct usage usage;
    double cost_usd;
    struct slice model; /* as the provider named it, else as asked */
    struct attempt_record *records;
    size_t record_count, record_capacity;
    struct stream *stream; /* of the operation `stream`; else NULL */
};

/* Takes over the call's arena (service->spare) and answers every taker when it
 * is done. False: nothing was started, err says why. */
bool job_start(struct service *service, const struct call *call,
               const struct origin *origin, const struct asked *asked,
               struct error *err);
/* The last taker left, or the service ends: aborts and frees. */
void job_cancel(struct job *job);
/* Ends with an error, or with what the dialogue made, for all takers. */
void job_fail(struct job *job, const struct error *err);
void job_succeed(struct job *job);
void job_move(struct job *job, enum job_state state);
uint64_t job_left_ms(const struct job *job);
/* Goes on where it waited: in a line, or before its first question. */
void job_go_on(struct job *job);

/* In [0, 1). */
double service_chance(struct service *service);
/* By which a request without a request_id is known. */
struct slice service_make_id(struct service *service, struct arena *arena);
struct supply_clock service_clock(const struct service *service);

/* Questions (ask.c): which candidate and key is asked, and what a failure
 * leads to. */

/* What the latest failed attempt was told, or an error of ERR_NONE. */
struct error ask_error(const struct job *job);
/* Puts the dialogue's question to the next candidate that can be had, waits
 * for one, or fails. */
void ask(struct job *job);
/* Aborts the attempt, if there is one. */
void ask_abort(struct job *job);

/* Waiting for room (waiting.c). */

void line_init(struct service *service, struct line *line,
               struct slice provider);
void line_release(struct line *line);
struct line *line_of(struct service *service, struct slice provider);
/* The job leaves its slot and waits: until line_wake, or `wait_ms` if that is
 * over 0. It may be refused (ERR_OVERLOADED), which ends it or another one. */
void line_wait(struct line *line, struct job *job, uint64_t wait_ms);
void line_leave(struct job *job);
/* Room may be there: those who wait try again, at the end of this turn. */
void line_wake(struct line *line);
/* A new configuration may have made room. */
void lines_changed(struct service *service);
/* True: the job holds a slot now (or held one). */
bool slot_take(struct job *job);
void slot_give(struct job *job);

/* Streams (stream.c): answers that go to a process while they come. */

/* Makes the reference by which the receiver knows it. */
void stream_open(struct job *job);
struct slice stream_reference(const struct job *job);
/* Sends what is new of the text; reads no more while too much of it waits.
 * False: the receiver's node went, and the job with it. */
bool stream_send(struct job *job, struct slice text);
/* Has the receiver got a part already? Then there is no second attempt. */
bool stream_began(const struct job *job);
/* Sends `service->value`; the job's takers must not be watched any more. */
void stream_deliver(struct job *job);
void stream_close(struct job *job);
void stream_drained(struct service *service, uint64_t connection);
/* NULL if there is none of that (raw) reference. */
struct job *stream_find(struct service *service, struct slice reference);

/* Recent answers by request_id (answers.c). */

/* The digest of what is asked, whoever asks. */
void asked_digest(struct service *service, const struct request *request,
                  struct asked *asked);
void answers_keep(struct service *service, const struct job *job,
                  struct slice value);
/* The answer as a raw term and the digest of its question; false: none. */
bool answers_find(struct service *service, struct slice request_id,
                  struct slice *value, const unsigned char **digest);
void answers_release(struct service *service);

/* Answers by their question (cache.c). */
struct cached {
    struct list link; /* in service->cached */
    unsigned char digest[DIGEST_SIZE];
    struct arena arena; /* the job's, with the result in it */
    const struct result *result;
    struct account account;
    struct slice provider, model; /* as asked */
    uint64_t at_ms;
};
const struct cached *cache_find(struct service *service,
                                const unsigned char digest[DIGEST_SIZE]);
/* Takes the job's arena over when the answer is kept: true. */
bool cache_keep(struct job *job, const struct account *account);
void cache_release(struct service *service);

/* Processes that want to be told (watchers.c), each watched itself: who is gone
 * is forgotten. */

/* {watch_task, ...}, {subscribe, ...} and their opposites: the answer is ok.
 * False: err. */
bool watchers_change(struct service *service, const struct call *call,
                     const struct origin *origin, struct error *err);
/* Does anybody watch the task, or all tasks? Or wants to hear of requests? */
bool watchers_want_task(const struct service *service, struct slice task_id);
bool watchers_want_telemetry(const struct service *service);
/* Sends `service->value` to them at the end of this turn, because sending may
 * end jobs. `connection`: whose request it is about. */
void watchers_tell_task(struct service *service, struct slice task_id,
                        uint64_t connection);
void watchers_tell_telemetry(struct service *service, uint64_t connection);
void watchers_release(struct service *service);

/* What they are told (notices.c). All do nothing when nobody wants to know. */

/* A job began, is at another step, ends (`err` NULL: well). */
void notices_job_began(const struct job *job);
void notices_job_step(const struct job *job, enum task_status status);
void notices_job_ended(const struct job *job, const struct account *account,
                       const struct error *err);
/* A request that begins with a script. */
void notices_begun(struct service *service, const struct call *call,
                   const struct origin *origin);
/* A request that became no job: it was refused, or answered from memory. */
void notices_answered(struct service *service, const struct call *call,
                      const struct origin *origin, const struct error *err);
/* A taker that joined a job is a request of its own. */
void notices_joined(const struct job *job, const struct taker *taker);
void notices_left(const struct job *job, const struct taker *taker,
                  const struct error *err);

/* The end of requests and provider calls (record.c): counted, measured, logged,
 * told to who watches. Once for each. */

/* `err` NULL: well; ERR_CANCELLED: nobody waits any more. */
void record_job(const struct job *job, const struct account *account,
                const struct error *err);
/* Requests that became no job: refused, or answered from memory (`cached`
 * NULL: by their request_id). */
void record_refused(struct service *service, const struct call *call,
                    const struct origin *origin, const struct error *err);
void record_remembered(struct service *service, const struct call *call,
                       const struct origin *origin,
                       const struct cached *cached);
/* A taker that had joined a job gets its answer, or leaves. */
void record_left(const struct job *job, const struct taker *taker,
                 const struct error *err);

/* ERR_CANCELLED: it was aborted. */
struct call_end {
    enum error_code error;
    const struct usage *usage;
    double cost_usd; /* NAN: unknown */
};
void record_call(const struct job *job, const struct attempt *attempt,
                 const struct call_end *end);
/* The message as the log and the status document may have it: what a script
 * says may be of what its caller gave it, a prompt for instance. */
const char *record_words(const struct error *err);

/* call_with_script (scripts.c): the script makes the messages, in a process of
 * its own; then the request goes on as any other. */
struct scripts *scripts_new(struct service *service);
/* Takes over the call's arena (service->spare). False: err. */
bool scripts_start(struct service *service, const struct call *call,
                   const struct origin *origin, struct error *err);
/* How many wait for their script. */
size_t scripts_waiting(const struct scripts *scripts);
/* Answers the request of that id, or all that there are, with the error. False:
 * there is none. */
bool scripts_fail(struct scripts *scripts, struct slice request_id,
                  const struct error *err);
void scripts_fail_all(struct scripts *scripts, const struct error *err);
void scripts_free(struct scripts *scripts);

/* What is spent, in a file (spending.c). */
struct spending *spending_new(struct service *service);
/* Saved a little later, by the thread pool. */
void spending_changed(struct spending *spending);
void spending_free(struct spending *spending); /* saves at once */

/* A new configuration (reload.c): read by the thread pool, then taken over as a
 * whole or not at all. */
/* The asker gets ok or an error; with the form REPLY_NONE nobody does. False:
 * one is under way. */
bool reload_start(struct service *service, const struct reply_address *reply,
                  const struct origin *origin, struct error *err);
/* For nobody; while one is under way, once more behind it. */
void reload_unasked(struct service *service);
/* For nobody, with another handed over configuration (JSON). None is under
 * way. */
void reload_replace(struct service *service, struct slice config);
void reload_release(struct service *service);

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
/* The lists were changed by a reload. */
void access_changed(struct service *service);
/* Counts the calls of one node; false: it has as many as it may. */
bool access_take_slot(struct service *service, uint64_t connection);
void access_give_slot(struct service *service, uint64_t connection);
void access_release(struct service *service);

/* The PostgreSQL queue (queue*.c). */

struct queue_counters {
    uint64_t read, done, failed, dead, returned, lost, stored_before;
    uint64_t enqueued, notices;
};

/* NULL: none is configured. */
struct queue *queue_new(struct service *service);
/* The node can be called: from now on messages are taken. */
void queue_open(struct queue *queue);
/* A new configuration was taken over. */
void queue_changed(struct queue *queue);
/* No more is read; what was not begun goes back. */
void queue_drain(struct queue *queue);
/* No more calls are taken: who awaits is told. */
void queue_refuse(struct queue *queue);
/* Is nothing held, stored or given back any more? NULL is allowed. */
bool queue_is_idle(const struct queue *queue);
void queue_free(struct queue *queue);
void queue_put_stats(const struct queue *queue, struct buf *out);
const char *queue_state(const struct queue *queue); /* up, down, off */

/* The message's request has ended; `service->value` is {ok, Value} or {error,
 * Reason}. */
void queued_answered(struct queued *queued, const struct outcome *outcome);
/* A job took its request (the taker is the job's), or will not answer it. */
void queued_joined(struct queued *queued, struct taker *taker);
void queued_left(struct queued *queued);

/* {enqueue, ...}, {await, ...}, {result, ...}: answered later, or at once with
 * an error. False: err. */
bool queue_enqueue(struct service *service, const struct call *call,
                   const struct origin *origin, struct error *err);
bool queue_await(struct service *service, const struct call *call,
                 const struct origin *origin, struct error *err);
bool queue_result(struct service *service, const struct call *call,
                  const struct origin *origin, struct error *err);

/* Draining, nothing is in flight, and the queue has nothing left: tells
 * on_idle. */
void service_check_idle(struct service *service);

/* dispatch.c: from the node's events to jobs and immediate answers. */
void dispatch_message(struct service *service,
                      const struct node_message *message);
void dispatch_refused(struct service *service, uint64_t connection,
                      struct slice pid, struct slice tag,
                      const struct error *err);
void dispatch_rpc(struct service *service, const struct node_rpc *rpc);

/* A request that is complete goes to a provider, or is answered from memory;
 * service->spare holds it. */
void dispatch_asked(struct service *service, const struct call *call,
                    const struct origin *origin);
void dispatch_refuse(struct service *service, const struct call *call,
                     const struct origin *origin, const struct error *err);

/* A request of the queue. What was decoded lies in service->spare, and what it
 * takes from there is given back to `mark`. */
struct arena_mark dispatch_open(struct service *service);
void dispatch_queued(struct service *service, struct queued *queued,
                     const struct request *request);
void dispatch_close(struct service *service, struct arena_mark mark);

/* What is measured when somebody asks (figures.c). */

struct queue_figures {
    bool up;
    int64_t depth, oldest_s, lag_ms; /* < 0: not known */
    uint64_t in_flight, unstored, awaited, reconnects;
    struct queue_counters counters;
};
void queue_figures(const struct queue *queue, struct queue_figures *figures);

struct figures {
    uint64_t uptime_ms;
    uint64_t resident_bytes, cpu_us;
    uint64_t open_descriptors, descriptor_limit;
    uint64_t longest_stall_ms;
    struct node_stats node;
    struct http_stats http;
    struct queue_figures queue; /* zeros: there is none */
};
void figures_take(const struct service *service, struct figures *figures);

/* /metrics, /status.json, and the HTTP server that has them (pages.c). False:
 * it cannot listen. */
void metrics_put(const struct service *service, struct buf *out);
void status_put(const struct service *service, struct buf *out);
bool pages_start(struct service *service, struct error *err);

/* Can it be called, and is it to be? */
bool service_is_ready(const struct service *service);

/* info.c: what the operations without a provider answer; each writes a term
 * without version byte to `out`. */
struct slice info_version(void);
void info_put_version(const struct service *service, struct buf *out);
void info_put_health(const struct service *service, struct buf *out);
void info_put_stats(const struct service *service, struct buf *out);
void info_put_status_text(const struct service *service, struct buf *out);
void info_put_status(const struct service *service, struct buf *out);
void info_put_models(const struct service *service, struct buf *out);
void info_put_model_names(const struct service *service, struct buf *out);

#endif
