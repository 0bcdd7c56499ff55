/* abort.h: the last line of a program that ends itself. */
#include "tests/unit.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "llm_router/base/abort.h"

/* Runs `end` in a child that watches; what it wrote to stderr is left in
 * `text`. */
static void ends(void (*end)(void), char *text, size_t room)
{
    int pipes[2], status;
    ssize_t size;
    pid_t child;

    assert_int_equal(pipe(pipes), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        abort_watch();
        end();
        _exit(0);
    }
    close(pipes[1]);
    size = read(pipes[0], text, room - 1);
    assert_true(size >= 0);
    text[size] = '\0';
    close(pipes[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void library_gives_up(void)
{
    errno = ENOSPC;
    abort();
}

static void a_library_that_aborts_has_a_line(void **state)
{
    char text[512];

    (void)state;
    ends(library_gives_up, text, sizeof(text));
    assert_non_null(strstr(text, "level=error component=abort "));
    assert_non_null(strstr(text, "No space left on device"));
}

static void an_abort_that_was_explained_has_no_other_line(void **state)
{
    char text[512];

    (void)state;
    ends(abort_said, text, sizeof(text));
    assert_string_equal(text, "");
}

static void signalled(void)
{
    pid_t self = getpid();

    if (fork() == 0) {
        kill(self, SIGABRT);
        _exit(0);
    }
    for (;;)
        pause();
}

static void a_signal_from_outside_ends_it_without_a_line(void **state)
{
    char text[512];

    (void)state;
    ends(signalled, text, sizeof(text));
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_library_that_aborts_has_a_line),
        cmocka_unit_test(an_abort_that_was_explained_has_no_other_line),
        cmocka_unit_test(a_signal_from_outside_ends_it_without_a_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
