#include "tests/unit.h"

#include <stdlib.h>
#include <unistd.h>

#include "llm_router/base/mem.h"
#include "llm_router/loop/loop.h"

enum { TIMERS = 500 };

static struct loop loop;
static struct loop_timer timers[TIMERS];
static uint64_t last_due;
static int fired;

static void on_due(void *context)
{
    const struct loop_timer *timer = context;

    assert_true(timer->due_ms >= last_due);
    assert_true(loop_now_ms(&loop) >= timer->due_ms);
    assert_false(loop_timer_running(timer));
    last_due = timer->due_ms;
    fired++;
}

static void stop(void *context)
{
    (void)context;
    loop_stop(&loop);
}

static void timers_fire_once_and_in_order_of_their_time(void **state)
{
    struct loop_timer end = {0};

    (void)state;
    loop_init(&loop);
    srand(1);
    for (int i = 0; i < TIMERS; i++)
        loop_timer_start(&loop, &timers[i], (uint64_t)(rand() % 40), on_due,
                         &timers[i]);
    for (int i = 0; i < TIMERS; i += 5)
        loop_timer_stop(&timers[i]);
    for (int i = 1; i < TIMERS; i += 5)
        loop_timer_start(&loop, &timers[i], (uint64_t)(rand() % 40), on_due,
                         &timers[i]);
    loop_timer_start(&loop, &end, 60, stop, NULL);
    loop_run(&loop);
    assert_int_equal(fired, TIMERS - TIMERS / 5);
    loop_release(&loop);
}

static struct {
    struct loop_timer timer;
    int runs;
    uint64_t turns[3];
} again;

static void run_again(void *context)
{
    again.turns[again.runs++] = loop.turns;
    if (again.runs == 3)
        loop_stop(&loop);
    else
        loop_timer_start(&loop, &again.timer, 0, run_again, context);
}

static void a_timer_started_by_a_timer_waits_for_the_next_turn(void **state)
{
    (void)state;
    loop_init(&loop);
    loop_timer_start(&loop, &again.timer, 0, run_again, NULL);
    loop_run(&loop);
    assert_true(again.turns[1] > again.turns[0]);
    assert_true(again.turns[2] > again.turns[1]);
    loop_release(&loop);
}

struct owner {
    struct loop_timer timer;
    struct loop_task task;
    int *runs;
};

static void free_owner(void *context)
{
    struct owner *owner = context;

    ++*owner->runs;
    mem_free(owner);
}

static void a_callback_may_free_its_owner(void **state)
{
    int runs = 0;
    struct owner *by_timer = mem_alloc(sizeof(*by_timer));
    struct owner *by_task = mem_alloc(sizeof(*by_task));
    struct loop_timer end = {0};

    (void)state;
    loop_init(&loop);
    by_timer->runs = by_task->runs = &runs;
    loop_timer_start(&loop, &by_timer->timer, 1, free_owner, by_timer);
    loop_defer(&loop, &by_task->task, free_owner, by_task);
    loop_defer(&loop, &by_task->task, free_owner, by_task);
    loop_timer_start(&loop, &end, 20, stop, NULL);
    loop_run(&loop);
    assert_int_equal(runs, 2);
    loop_release(&loop);
}

static void block(void *context)
{
    (void)context;
    usleep(80000);
}

static void a_stall_is_seen_and_waiting_is_none(void **state)
{
    struct loop_timer timer = {0}, end = {0};

    (void)state;
    loop_init(&loop);
    loop_timer_start(&loop, &end, 100, stop, NULL);
    loop_run(&loop);
    assert_true(loop_longest_stall_ms(&loop) < 60);
    loop_timer_start(&loop, &timer, 1, block, NULL);
    loop_timer_start(&loop, &end, 150, stop, NULL);
    loop_run(&loop);
    assert_true(loop_longest_stall_ms(&loop) >= 75);
    loop_release(&loop);
}

static int signal_seen;

static void on_signal(void *context, int signal)
{
    (void)context;
    signal_seen = signal;
    loop_stop(&loop);
}

static void signals_come_to_the_callback(void **state)
{
    (void)state;
    loop_init(&loop);
    loop_on_signal(&loop, on_signal, NULL);
    raise(SIGPIPE);
    raise(SIGTERM);
    loop_run(&loop);
    assert_int_equal(signal_seen, SIGTERM);
    loop_release(&loop);
}

struct watched {
    struct loop_watch watch;
    int fd;
    char seen[16];
    size_t size;
};

static void on_readable(void *context)
{
    struct watched *watched = context;
    ssize_t size = read(watched->fd, watched->seen + watched->size, 1);

    if (size > 0) {
        watched->size += (size_t)size;
        return;
    }
    assert_int_equal(size, 0);
    loop_watch_stop(&watched->watch);
    loop_stop(&loop);
}

static void
a_watch_tells_as_long_as_there_is_something_and_of_the_end(void **state)
{
    struct watched watched = {.size = 0}, idle = {.size = 0};
    int ends[2];

    (void)state;
    loop_init(&loop);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    close(ends[1]);
    watched.fd = ends[0];
    loop_watch_start(&loop, &watched.watch, watched.fd, on_readable, &watched);
    loop_run(&loop);
    assert_string_equal(watched.seen, "abc");
    loop_watch_stop(&watched.watch);
    loop_watch_stop(&idle.watch);
    loop_release(&loop);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_once_and_in_order_of_their_time),
        cmocka_unit_test(a_timer_started_by_a_timer_waits_for_the_next_turn),
        cmocka_unit_test(a_callback_may_free_its_owner),
        cmocka_unit_test(a_stall_is_seen_and_waiting_is_none),
        cmocka_unit_test(signals_come_to_the_callback),
        cmocka_unit_test(
            a_watch_tells_as_long_as_there_is_something_and_of_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
