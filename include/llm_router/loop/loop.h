/* The event loop: libuv behind a small face.
 *
 * Adds what the I/O layers share: timers that are embedded in their owners and
 * need no asynchronous close, work deferred to the end of the current turn
 * (batched writes, deferred frees), and the longest stall seen. */
#ifndef LLM_ROUTER_LOOP_LOOP_H
#define LLM_ROUTER_LOOP_LOOP_H

#include <uv.h>

#include "llm_router/base/list.h"

enum { LOOP_SPIN_NS = 25000 };

struct loop_timer;

struct loop {
    uv_loop_t uv;
    uv_timer_t alarm;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t spin; /* while active the loop does not sleep */
    uint64_t spin_until_ns;
    bool expecting;
    struct loop_timer **heap; /* binary, earliest first */
    size_t timer_count, timer_capacity;
    uint64_t pass;         /* how often due timers were run */
    uint64_t armed_for_ms; /* 0: the alarm is off */
    struct list deferred;
    void (*on_turn_end)(void);
    uint64_t turn_started_ns; /* 0: waiting for events */
    uint64_t longest_stall_ns;
    uint64_t turns;
    uv_signal_t signals[3];
    void (*on_signal)(void *context, int signal);
    void *signal_context;
};

void loop_init(struct loop *loop);

/* Aborts with a line when `result`, of a call of libuv, is an error: what it
 * refuses while something is set up, for want of descriptors or memory. */
void loop_check(int result, const char *what);
void loop_run(struct loop *loop); /* until loop_stop */
void loop_stop(struct loop *loop);
void loop_release(struct loop *loop); /* all handles must be closed */

/* From now on SIGTERM, SIGINT and SIGHUP come to the callback, SIGPIPE is
 * ignored. Once per loop. */
void loop_on_signal(struct loop *loop,
                    void (*on_signal)(void *context, int signal),
                    void *context);

/* Called at the end of every turn, behind what was deferred; NULL: nothing is.
 */
void loop_on_turn_end(struct loop *loop, void (*on_turn_end)(void));

/* Monotonic milliseconds, as of the start of this turn. */
uint64_t loop_now_ms(const struct loop *loop);
uint64_t loop_now_ns(void); /* monotonic, as of now: for measurements */
int64_t loop_unix_ns(void);
int64_t loop_unix_ms(void); /* wall clock, for logs and Retry-After dates */

/* Longest time in ms between taking events and waiting again, ever. */
uint64_t loop_longest_stall_ms(const struct loop *loop);

/* A timer lives inside its owner; zero-initialised memory is a stopped timer.
 * Stop it before the owner is freed. Starting a running one moves it. The
 * callback may free the owner. With a delay of 0 it comes in the next turn:
 * sockets are served before. */
struct loop_timer {
    struct loop *loop;
    size_t position; /* in the heap, from 1; 0: not running */
    uint64_t due_ms;
    uint64_t pass; /* the loop's, when it was started */
    void (*on_due)(void *context);
    void *context;
};
void loop_timer_start(struct loop *loop, struct loop_timer *timer,
                      uint64_t delay_ms, void (*on_due)(void *context),
                      void *context);
void loop_timer_stop(struct loop_timer *timer);
bool loop_timer_running(const struct loop_timer *timer);

/* Said when output was sent that may bring the next request at once: before it
 * sleeps the loop then looks for more for LOOP_SPIN_NS, as the BEAM's
 * schedulers do. Waking a sleeping process costs a caller more than a whole
 * ping. */
void loop_expect_more(struct loop *loop);

/* Runs once at the end of the current turn, before the loop waits again.
 * Deferring what is already deferred does nothing. Tasks deferred by tasks run
 * in the same pass. Zero-initialised memory is an idle task. */
struct loop_task {
    struct list link;
    bool queued;
    void (*run)(void *context);
    void *context;
};
void loop_defer(struct loop *loop, struct loop_task *task,
                void (*run)(void *context), void *context);
void loop_task_cancel(struct loop_task *task);

/* Something that may block, such as a file: `run` in a thread of the pool, then
 * `done` on the loop. Both get the context; `run` must touch nothing that the
 * loop's thread uses meanwhile. Cannot be taken back: the context must live
 * until `done`, for which loop_release waits too. */
struct loop_work {
    uv_work_t work;
    void (*run)(void *context);
    void (*done)(void *context);
    void *context;
};
void loop_work_start(struct loop *loop, struct loop_work *work,
                     void (*run)(void *context), void (*done)(void *context),
                     void *context);

/* A descriptor to read: `on_readable` comes as long as there is something, the
 * end included. It no longer blocks, and stays its owner's. The memory must
 * live until loop_release; zero-initialised, it watches nothing. */
struct loop_watch {
    uv_poll_t poll;
    bool watching;
    void (*on_readable)(void *context);
    void *context;
};
void loop_watch_start(struct loop *loop, struct loop_watch *watch, int fd,
                      void (*on_readable)(void *context), void *context);
void loop_watch_stop(struct loop_watch *watch);

#endif
