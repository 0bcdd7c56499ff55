#include "llm_router/loop/loop.h"

#include <signal.h>
#include <stdlib.h>

#include "llm_router/base/abort.h"
#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"

enum { SIGNALS = sizeof(((struct loop *)NULL)->signals) / sizeof(uv_signal_t) };

void loop_check(int result, const char *what)
{
    if (result == 0)
        return;
    log_line(LOG_ERROR, "loop", "%s: %s", what, uv_strerror(result));
    abort_said();
}

/* The heap: position 1 is the root, the parent of n is n / 2. */

static void place(struct loop *loop, size_t position, struct loop_timer *timer)
{
    loop->heap[position] = timer;
    timer->position = position;
}

static void sift_up(struct loop *loop, size_t position)
{
    struct loop_timer *timer = loop->heap[position];

    while (position > 1 && loop->heap[position / 2]->due_ms > timer->due_ms) {
        place(loop, position, loop->heap[position / 2]);
        position /= 2;
    }
    place(loop, position, timer);
}

static void sift_down(struct loop *loop, size_t position)
{
    struct loop_timer *timer = loop->heap[position];

    for (;;) {
        size_t child = position * 2;

        if (child > loop->timer_count)
            break;
        if (child < loop->timer_count &&
            loop->heap[child + 1]->due_ms < loop->heap[child]->due_ms)
            child++;
        if (loop->heap[child]->due_ms >= timer->due_ms)
            break;
        place(loop, position, loop->heap[child]);
        position = child;
    }
    place(loop, position, timer);
}

static void heap_add(struct loop *loop, struct loop_timer *timer)
{
    if (loop->timer_count + 1 >= loop->timer_capacity) {
        loop->timer_capacity =
            loop->timer_capacity > 0 ? loop->timer_capacity * 2 : 64;
        loop->heap = mem_realloc(loop->heap, loop->timer_capacity *
                                                 sizeof(struct loop_timer *));
    }
    place(loop, ++loop->timer_count, timer);
    sift_up(loop, loop->timer_count);
}

static void heap_remove(struct loop *loop, struct loop_timer *timer)
{
    size_t position = timer->position;
    struct loop_timer *last = loop->heap[loop->timer_count--];

    timer->position = 0;
    if (last == timer)
        return;
    place(loop, position, last);
    sift_up(loop, position);
    sift_down(loop, last->position);
}

/* One that is started meanwhile comes in the next turn, due or not. */
static void run_due(struct loop *loop)
{
    uint64_t now = uv_now(&loop->uv);
    uint64_t pass = ++loop->pass;

    while (loop->timer_count > 0 && loop->heap[1]->due_ms <= now &&
           loop->heap[1]->pass != pass) {
        struct loop_timer *timer = loop->heap[1];

        heap_remove(loop, timer);
        timer->on_due(timer->context);
    }
}

static void on_alarm(uv_timer_t *alarm)
{
    struct loop *loop = alarm->data;

    loop->armed_for_ms = 0;
    run_due(loop);
}

/* Armed once per turn, just before the loop waits: timers that start and stop
 * within a turn cost nothing. An alarm that is early is left alone. */
static void arm(struct loop *loop)
{
    uint64_t due, now = uv_now(&loop->uv);

    if (loop->timer_count == 0)
        return;
    due = loop->heap[1]->due_ms;
    if (loop->armed_for_ms != 0 && loop->armed_for_ms <= due)
        return;
    loop->armed_for_ms = due;
    uv_timer_start(&loop->alarm, on_alarm, due > now ? due - now : 0, 0);
}

static void run_deferred(struct loop *loop)
{
    while (!list_is_empty(&loop->deferred)) {
        struct loop_task *task =
            LIST_ENTRY(loop->deferred.next, struct loop_task, link);

        loop_task_cancel(task);
        task->run(task->context);
    }
}

/* An active idle handle makes libuv poll without waiting. */
static void on_spin(uv_idle_t *spin)
{
    (void)spin;
}

static void sleep_or_spin(struct loop *loop, uint64_t now_ns)
{
    if (loop->expecting)
        loop->spin_until_ns = now_ns + LOOP_SPIN_NS;
    loop->expecting = false;
    if (now_ns < loop->spin_until_ns)
        uv_idle_start(&loop->spin, on_spin);
    else
        uv_idle_stop(&loop->spin);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct loop *loop = prepare->data;
    uint64_t now_ns;

    run_deferred(loop);
    if (loop->on_turn_end)
        loop->on_turn_end();
    arm(loop);
    now_ns = uv_hrtime();
    sleep_or_spin(loop, now_ns);
    loop->turns++;
    if (loop->turn_started_ns != 0 &&
        now_ns - loop->turn_started_ns > loop->longest_stall_ns)
        loop->longest_stall_ns = now_ns - loop->turn_started_ns;
}

/* libuv runs check callbacks after those of the sockets, so the turn began
 * when the last wait ended; that moment is the loop's own "now". */
static void on_check(uv_check_t *check)
{
    struct loop *loop = check->data;

    loop->turn_started_ns = uv_now(&loop->uv) * 1000000u;
}

void loop_init(struct loop *loop)
{
    *loop = (struct loop){.turns = 0};
    list_init(&loop->deferred);
    uv_replace_allocator(mem_alloc_raw, mem_realloc, mem_alloc_many, mem_free);
    loop_check(uv_loop_init(&loop->uv), "uv_loop_init");
    loop_check(uv_timer_init(&loop->uv, &loop->alarm), "uv_timer_init");
    loop_check(uv_prepare_init(&loop->uv, &loop->prepare), "uv_prepare_init");
    loop_check(uv_idle_init(&loop->uv, &loop->spin), "uv_idle_init");
    loop_check(uv_check_init(&loop->uv, &loop->check), "uv_check_init");
    loop->alarm.data = loop->prepare.data = loop->check.data = loop;
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_check_start(&loop->check, on_check);
}

void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

/* From here on nobody takes signals: another one that tells it to end would
 * kill a process that is ending well. */
static void block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void loop_release(struct loop *loop)
{
    if (loop->on_signal)
        block_signals();
    uv_close((uv_handle_t *)&loop->alarm, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_close((uv_handle_t *)&loop->spin, NULL);
    for (size_t i = 0; loop->on_signal && i < SIGNALS; i++)
        uv_close((uv_handle_t *)&loop->signals[i], NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    loop_check(uv_loop_close(&loop->uv), "uv_loop_close");
    mem_free(loop->heap);
}

static void on_uv_signal(uv_signal_t *handle, int signal)
{
    struct loop *loop = handle->data;

    loop->on_signal(loop->signal_context, signal);
}

void loop_on_turn_end(struct loop *loop, void (*on_turn_end)(void))
{
    loop->on_turn_end = on_turn_end;
}

void loop_on_signal(struct loop *loop,
                    void (*on_signal)(void *context, int signal), void *context)
{
    static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

    signal(SIGPIPE, SIG_IGN);
    loop->on_signal = on_signal;
    loop->signal_context = context;
    for (size_t i = 0; i < SIGNALS; i++) {
        loop_check(uv_signal_init(&loop->uv, &loop->signals[i]),
                   "uv_signal_init");
        loop->signals[i].data = loop;
        loop_check(uv_signal_start(&loop->signals[i], on_uv_signal, numbers[i]),
                   "uv_signal_start");
    }
}

void loop_expect_more(struct loop *loop)
{
    loop->expecting = true;
}

uint64_t loop_now_ms(const struct loop *loop)
{
    return uv_now(&loop->uv);
}

uint64_t loop_now_ns(void)
{
    return uv_hrtime();
}

int64_t loop_unix_ns(void)
{
    uv_timeval64_t now;

    if (uv_gettimeofday(&now) != 0)
        return 0;
    return (now.tv_sec * 1000000 + now.tv_usec) * 1000;
}

int64_t loop_unix_ms(void)
{
    return loop_unix_ns() / 1000000;
}

uint64_t loop_longest_stall_ms(const struct loop *loop)
{
    return loop->longest_stall_ns / 1000000u;
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer,
                      uint64_t delay_ms, void (*on_due)(void *context),
                      void *context)
{
    loop_timer_stop(timer);
    timer->loop = loop;
    timer->due_ms = uv_now(&loop->uv) + delay_ms;
    timer->pass = loop->pass;
    timer->on_due = on_due;
    timer->context = context;
    heap_add(loop, timer);
}

void loop_timer_stop(struct loop_timer *timer)
{
    if (timer->position != 0)
        heap_remove(timer->loop, timer);
}

bool loop_timer_running(const struct loop_timer *timer)
{
    return timer->position != 0;
}

void loop_defer(struct loop *loop, struct loop_task *task,
                void (*run)(void *context), void *context)
{
    task->run = run;
    task->context = context;
    if (task->queued)
        return;
    task->queued = true;
    list_append(&loop->deferred, &task->link);
}

void loop_task_cancel(struct loop_task *task)
{
    if (!task->queued)
        return;
    task->queued = false;
    list_remove(&task->link);
}

static void on_work(uv_work_t *handle)
{
    struct loop_work *work = handle->data;

    work->run(work->context);
}

static void on_worked(uv_work_t *handle, int status)
{
    struct loop_work *work = handle->data;

    (void)status; /* never cancelled */
    work->done(work->context);
}

void loop_work_start(struct loop *loop, struct loop_work *work,
                     void (*run)(void *context), void (*done)(void *context),
                     void *context)
{
    work->work.data = work;
    work->run = run;
    work->done = done;
    work->context = context;
    uv_queue_work(&loop->uv, &work->work, on_work, on_worked);
}

/* An error is read like an end. */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct loop_watch *watch = poll->data;

    (void)status;
    (void)events;
    watch->on_readable(watch->context);
}

void loop_watch_start(struct loop *loop, struct loop_watch *watch, int fd,
                      void (*on_readable)(void *context), void *context)
{
    loop_check(uv_poll_init(&loop->uv, &watch->poll, fd), "uv_poll_init");
    watch->poll.data = watch;
    watch->watching = true;
    watch->on_readable = on_readable;
    watch->context = context;
    loop_check(uv_poll_start(&watch->poll, UV_READABLE, on_poll),
               "uv_poll_start");
}

void loop_watch_stop(struct loop_watch *watch)
{
    if (watch->watching)
        uv_close((uv_handle_t *)&watch->poll, NULL);
    watch->watching = false;
}
