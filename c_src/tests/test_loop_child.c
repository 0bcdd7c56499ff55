#include "tests/unit.h"

#include <dirent.h>
#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "llm_router/base/buf.h"
#include "llm_router/base/mem.h"
#include "llm_router/loop/child.h"

enum { LIMIT_MS = 20000, UNSENT_MAX = 4 << 20 };

static struct {
    struct loop loop;
    struct loop_timer deadline;
    struct child *child;
    struct buf output;
    int ended, status, signal;
    bool free_at_output;
    size_t wanted; /* of output, to stop the loop; 0: its end does */
} bed;

static void on_deadline(void *context)
{
    (void)context;
    fail_msg("the child was too slow");
}

static void on_output(void *context, struct slice bytes)
{
    assert_ptr_equal(context, &bed);
    buf_append_slice(&bed.output, bytes);
    if (bed.free_at_output) {
        child_free(bed.child);
        bed.child = NULL;
        loop_stop(&bed.loop);
    } else if (bed.wanted > 0 && bed.output.size >= bed.wanted) {
        loop_stop(&bed.loop);
    }
}

static void on_ended(void *context, int status, int signal)
{
    assert_ptr_equal(context, &bed);
    bed.ended++;
    bed.status = status;
    bed.signal = signal;
    loop_stop(&bed.loop);
}

static const struct child_events EVENTS = {on_output, on_ended};

static void on_signal(void *context, int signal)
{
    (void)context;
    (void)signal;
}

static int set_up(void **state)
{
    (void)state;
    memset(&bed, 0, sizeof(bed));
    loop_init(&bed.loop);
    loop_on_signal(&bed.loop, on_signal, NULL);
    buf_init(&bed.output, 32 << 20);
    loop_timer_start(&bed.loop, &bed.deadline, LIMIT_MS, on_deadline, NULL);
    return 0;
}

/* Whatever a test left: nothing is a zombie after the loop has gone. */
static int tear_down(void **state)
{
    (void)state;
    child_free(bed.child);
    loop_timer_stop(&bed.deadline);
    loop_release(&bed.loop);
    buf_release(&bed.output);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    return 0;
}

static void start(const char *program, const char *const *arguments)
{
    static const char *const environment[] = {"GIVEN=value", NULL};
    const struct child_options options = {program, arguments, environment,
                                          UNSENT_MAX};
    struct error err;

    bed.child = child_start(&bed.loop, &options, &EVENTS, &bed, &err);
    if (!bed.child)
        fail_msg("%s", err.message);
}

static void start_shell(const char *command)
{
    const char *const arguments[] = {"sh", "-c", command, NULL};

    start("/bin/sh", arguments);
}

static void start_cat(void)
{
    static const char *const arguments[] = {"cat", NULL};

    start("/bin/cat", arguments);
}

static void run_shell(const char *command)
{
    start_shell(command);
    loop_run(&bed.loop);
    assert_int_equal(bed.ended, 1);
}

static void its_output_and_its_status_are_told(void **state)
{
    (void)state;
    run_shell("echo hello; exit 3");
    assert_slice(buf_slice(&bed.output), "hello\n");
    assert_int_equal(bed.status, 3);
    assert_int_equal(bed.signal, 0);
    assert_false(child_write(bed.child, SLICE_LITERAL("x")));
    child_kill(bed.child); /* nothing happens */
}

static void all_output_is_told_before_its_end(void **state)
{
    (void)state;
    run_shell("head -c 3000000 /dev/zero");
    assert_int_equal(bed.output.size, 3000000);
}

static void output_after_its_end_is_told_before_it(void **state)
{
    (void)state;
    run_shell("(sleep 0.2; echo late) & echo early");
    assert_slice(buf_slice(&bed.output), "early\nlate\n");
}

static void what_is_written_comes_to_it(void **state)
{
    char *bytes = mem_alloc(1 << 20);

    (void)state;
    start_cat();
    for (int i = 0; i < 4; i++)
        assert_true(child_write(bed.child, slice_make(bytes, 1 << 20)));
    mem_free(bytes);
    assert_true(child_write(bed.child, SLICE_LITERAL("")));
    bed.wanted = 4 << 20;
    loop_run(&bed.loop);
    assert_int_equal(bed.output.size, 4 << 20);
    assert_true(child_pid(bed.child) > 0);
}

static void what_it_does_not_read_is_limited(void **state)
{
    char *bytes = mem_alloc(UNSENT_MAX + 1);
    int accepted = 0;

    (void)state;
    start_shell("exec sleep 60");
    assert_false(child_write(bed.child, slice_make(bytes, UNSENT_MAX + 1)));
    while (accepted < 20 && child_write(bed.child, slice_make(bytes, 1 << 20)))
        accepted++;
    assert_in_range(accepted, 4, 5); /* the pipe holds some */
    mem_free(bytes);
}

static void a_kill_ends_it(void **state)
{
    (void)state;
    start_shell("trap '' TERM INT; echo up; while :; do sleep 0.1; done");
    bed.wanted = 3;
    loop_run(&bed.loop);
    child_kill(bed.child);
    bed.wanted = 0;
    while (bed.ended == 0)
        loop_run(&bed.loop);
    assert_int_equal(bed.signal, SIGKILL);
}

static void it_may_be_freed_in_an_event_and_is_killed(void **state)
{
    pid_t pid;

    (void)state;
    bed.free_at_output = true;
    start_shell("echo $$; exec sleep 600");
    loop_run(&bed.loop);
    assert_null(bed.child);
    assert_int_equal(bed.ended, 0);
    buf_append_byte(&bed.output, '\0');
    pid = (pid_t)strtol(bed.output.data, NULL, 10);
    for (int i = 0; i < LIMIT_MS && kill(pid, 0) == 0; i++) {
        uv_run(&bed.loop.uv, UV_RUN_NOWAIT);
        usleep(1000);
    }
    assert_int_equal(kill(pid, 0), -1);
}

static void it_may_be_freed_at_once(void **state)
{
    (void)state;
    start_cat();
    assert_true(child_write(bed.child, SLICE_LITERAL("x")));
    child_free(bed.child);
    bed.child = NULL;
    child_free(NULL);
}

static void writing_to_one_that_closed_its_input_is_harmless(void **state)
{
    (void)state;
    start_shell("exec 0<&-; echo closed; exec sleep 60");
    bed.wanted = 7;
    loop_run(&bed.loop);
    for (int i = 0; i < LIMIT_MS && child_write(bed.child, SLICE_LITERAL("x"));
         i++) {
        uv_run(&bed.loop.uv, UV_RUN_NOWAIT);
        usleep(1000);
    }
    assert_false(child_write(bed.child, SLICE_LITERAL("x")));
    assert_int_equal(bed.ended, 0);
}

static void a_program_that_is_not_there_is_an_error(void **state)
{
    static const char *const none[] = {NULL};
    static const char *const arguments[] = {"nothing", NULL};
    const struct child_options options = {"/nonexistent/program", arguments,
                                          none, 100};
    struct error err;

    (void)state;
    assert_null(child_start(&bed.loop, &options, &EVENTS, &bed, &err));
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_string_equal(err.message,
                        "/nonexistent/program cannot be started: no such file "
                        "or directory");
}

static void it_has_the_environment_it_is_given(void **state)
{
    static const char *const arguments[] = {"env", NULL};

    (void)state;
    setenv("LLM_ROUTER_TEST_SECRET", "secret", 1);
    start("/usr/bin/env", arguments);
    loop_run(&bed.loop);
    assert_slice(buf_slice(&bed.output), "GIVEN=value\n");
}

/* The set that follows `name` in /proc/self/status. Without 32 and 33, which
 * the C library keeps to itself: who started us may have them ignored. */
static unsigned long long signals_of(const char *name)
{
    const unsigned long long library = 3ull << 31;
    const char *line;

    buf_append_byte(&bed.output, '\0');
    line = strstr(bed.output.data, name);
    assert_non_null(line);
    bed.output.size--;
    return strtoull(line + strlen(name), NULL, 16) & ~library;
}

static void no_signal_is_blocked_or_ignored_in_it(void **state)
{
    sigset_t blocked, before;

    (void)state;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    run_shell("exec grep -E 'SigBlk|SigIgn' /proc/self/status");
    sigprocmask(SIG_SETMASK, &before, NULL);
    assert_int_equal(signals_of("SigBlk:"), 0);
    assert_int_equal(signals_of("SigIgn:"), 0);
}

/* Sockets, epoll and pipes of the loop, and of another child. */
static void no_descriptor_of_the_loop_is_open_in_it(void **state)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct child *first;

    (void)state;
    start_cat();
    first = bed.child;
    run_shell("exec ls /proc/self/fd/");
    assert_true(listener > STDERR_FILENO);
    close(listener);
    child_free(first);
    /* The three, and the folder that ls reads. */
    assert_slice(buf_slice(&bed.output), "0\n1\n2\n3\n");
}

static int count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void nothing_is_left_of_many_children(void **state)
{
    int before = 0;

    (void)state;
    for (int i = 0; i < 30; i++) {
        bed.ended = 0;
        run_shell("echo x");
        child_free(bed.child);
        bed.child = NULL;
        uv_run(&bed.loop.uv, UV_RUN_NOWAIT);
        if (i == 0)
            before = count_descriptors();
    }
    assert_int_equal(count_descriptors(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(its_output_and_its_status_are_told),
        TEST(all_output_is_told_before_its_end),
        TEST(output_after_its_end_is_told_before_it),
        TEST(what_is_written_comes_to_it),
        TEST(what_it_does_not_read_is_limited),
        TEST(a_kill_ends_it),
        TEST(it_may_be_freed_in_an_event_and_is_killed),
        TEST(it_may_be_freed_at_once),
        TEST(writing_to_one_that_closed_its_input_is_harmless),
        TEST(a_program_that_is_not_there_is_an_error),
        TEST(it_has_the_environment_it_is_given),
        TEST(no_signal_is_blocked_or_ignored_in_it),
        TEST(no_descriptor_of_the_loop_is_open_in_it),
        TEST(nothing_is_left_of_many_children),
    };

    /* What the caller of the tests left open is no leak of ours. */
    syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
