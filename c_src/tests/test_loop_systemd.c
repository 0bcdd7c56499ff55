/* What a service manager is told, by a socket that stands in for its own. */
#include "tests/unit.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/loop/systemd.h"

enum { SOON_MS = 5000 };

static char directory[] = "/tmp/llm_router_systemd_XXXXXX";
static char path[64];
static struct loop loop;
static struct systemd systemd;
static int manager;
static char message[2 * SYSTEMD_MESSAGE_MAX];

static int open_manager(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, name, strlen(name) + 1);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, size), 0);
    return fd;
}

/* A loop, and a manager that has said where it is. */
static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    snprintf(path, sizeof(path), "%s/notify", directory);
    manager = open_manager(path);
    setenv("NOTIFY_SOCKET", path, 1);
    loop_init(&loop);
    systemd = (struct systemd){.state = SYSTEMD_SILENT};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    systemd_stop(&systemd);
    loop_release(&loop);
    close(manager);
    unlink(path);
    return 0;
}

/* The next message; "" when there is none. */
static const char *told(void)
{
    ssize_t size = recv(manager, message, sizeof(message) - 1, MSG_DONTWAIT);

    message[size < 0 ? 0 : size] = '\0';
    return message;
}

static void stop(void *context)
{
    (void)context;
    loop_stop(&loop);
}

static void run_for(uint64_t ms)
{
    struct loop_timer end = {0};

    loop_timer_start(&loop, &end, ms, stop, NULL);
    loop_run(&loop);
}

/* Runs the loop until there is a message. */
static const char *told_soon(void)
{
    struct pollfd there = {.fd = manager, .events = POLLIN};

    for (int ms = 0; ms < SOON_MS && poll(&there, 1, 0) == 0; ms += 5)
        run_for(5);
    return told();
}

static void a_life_is_told_step_by_step(void **state)
{
    (void)state;
    systemd_start(&systemd, &loop);
    assert_string_equal(told(), "");
    systemd_ready(&systemd, "ready as r@host");
    assert_string_equal(told(), "READY=1\nSTATUS=ready as r@host");
    systemd_stopping(&systemd, 33000, "draining");
    assert_string_equal(told(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=33000000\n"
                                "STATUS=draining");
    systemd_stopping(&systemd, 1, "draining");
    assert_string_equal(told(), "");
}

static void a_reload_tells_when_it_began_and_that_it_ended(void **state)
{
    unsigned long long before_us = loop_now_ns() / 1000, said_us = 0;
    int end = 0;

    (void)state;
    systemd_start(&systemd, &loop);
    systemd_ready(&systemd, "");
    told();
    systemd_reloading(&systemd);
    sscanf(told(),
           "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reading the "
           "configuration%n",
           &said_us, &end);
    assert_int_equal(strlen(message), end);
    assert_true(said_us >= before_us && said_us <= loop_now_ns() / 1000);
    systemd_reloaded(&systemd, "taken over");
    assert_string_equal(told(), "READY=1\nSTATUS=taken over");
}

static void a_reload_before_it_is_ready_makes_nobody_believe_it(void **state)
{
    (void)state;
    systemd_start(&systemd, &loop);
    systemd_reloading(&systemd);
    systemd_reloaded(&systemd, "taken over");
    assert_string_equal(told(), "");
    systemd_reloading(&systemd);
    systemd_ready(&systemd, "ready");
    assert_string_equal(told(), "READY=1\nSTATUS=ready");
    systemd_reloaded(&systemd, "taken over");
    assert_string_equal(told(), "");
}

static void a_reload_that_ends_while_it_stops_is_not_told(void **state)
{
    (void)state;
    systemd_start(&systemd, &loop);
    systemd_ready(&systemd, "");
    systemd_reloading(&systemd);
    systemd_stopping(&systemd, 0, "");
    while (told()[0])
        continue;
    systemd_reloaded(&systemd, "taken over");
    systemd_reloading(&systemd);
    systemd_ready(&systemd, "");
    assert_string_equal(told(), "");
}

static void a_socket_may_have_an_abstract_name(void **state)
{
    char name[64];

    (void)state;
    snprintf(name, sizeof(name), "@llm_router_test_%d", (int)getpid());
    close(manager);
    manager = open_manager(name);
    setenv("NOTIFY_SOCKET", name, 1);
    systemd_start(&systemd, &loop);
    systemd_ready(&systemd, "ready");
    assert_string_equal(told(), "READY=1\nSTATUS=ready");
}

static void no_child_sees_the_variables(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "1000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    systemd_start(&systemd, &loop);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
}

static void without_a_manager_nothing_is_told(void **state)
{
    static const char *const names[] = {NULL,           "",      "@", "/",
                                        "vsock:2:1234", "notify"};
    char too_long[200] = "/";

    (void)state;
    memset(too_long + 1, 'x', sizeof(too_long) - 2);
    for (size_t i = 0; i <= sizeof(names) / sizeof(names[0]); i++) {
        const char *name = i == 0 ? too_long : names[i - 1];

        if (name)
            setenv("NOTIFY_SOCKET", name, 1);
        systemd_start(&systemd, &loop);
        assert_int_equal(systemd.state, SYSTEMD_SILENT);
        systemd_ready(&systemd, "ready");
        systemd_stopping(&systemd, 0, "");
        systemd_stop(&systemd);
    }
    assert_string_equal(told(), "");
}

static void a_manager_that_has_gone_is_survived(void **state)
{
    (void)state;
    systemd_start(&systemd, &loop);
    unlink(path);
    systemd_ready(&systemd, "ready");
    assert_false(loop_timer_running(&systemd.again));
}

/* Fills the manager's socket by another one. */
static int fill(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sent = 0;

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    while (sendto(fd, "STATUS=", 7, 0, (const struct sockaddr *)&address,
                  sizeof(address)) == 7)
        sent++;
    close(fd);
    return sent;
}

static void what_the_socket_has_no_room_for_is_sent_later(void **state)
{
    int others;

    (void)state;
    systemd_start(&systemd, &loop);
    others = fill();
    assert_true(others > 0);
    systemd_ready(&systemd, "ready");
    run_for(10);
    for (int i = 0; i < others; i++)
        assert_string_equal(told(), "STATUS=");
    assert_string_equal(told(), "");
    assert_string_equal(told_soon(), "READY=1\nSTATUS=ready");
    run_for(250);
    assert_string_equal(told(), "");
}

static void what_is_no_longer_so_is_not_sent_later(void **state)
{
    int others;

    (void)state;
    systemd_start(&systemd, &loop);
    others = fill();
    systemd_ready(&systemd, "ready");
    systemd_stopping(&systemd, 1, "draining");
    for (int i = 0; i < others; i++)
        told();
    assert_string_equal(
        told_soon(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=1000\nSTATUS=draining");
    run_for(250);
    assert_string_equal(told(), "");
}

static void the_watchdog_hears_twice_in_its_time(void **state)
{
    uint64_t begin_ms;

    (void)state;
    setenv("WATCHDOG_USEC", "100000", 1);
    snprintf(message, sizeof(message), "%d", (int)getpid());
    setenv("WATCHDOG_PID", message, 1);
    systemd_start(&systemd, &loop);
    assert_string_equal(told(), "WATCHDOG=1");
    begin_ms = loop_now_ns() / 1000000;
    for (int i = 0; i < 4; i++)
        assert_string_equal(told_soon(), "WATCHDOG=1");
    assert_true(loop_now_ns() / 1000000 - begin_ms >= 4 * 50 - 5);
    assert_int_equal(systemd.watchdog_ms, 50);
}

static void the_watchdog_of_another_process_hears_nothing(void **state)
{
    static const char *const others[][2] = {
        {"100000", "1"}, {"100000", "x"}, {"x", NULL},
        {"0", NULL},     {"-5", NULL},    {"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        setenv("NOTIFY_SOCKET", path, 1);
        setenv("WATCHDOG_USEC", others[i][0], 1);
        if (others[i][1])
            setenv("WATCHDOG_PID", others[i][1], 1);
        systemd_start(&systemd, &loop);
        assert_false(loop_timer_running(&systemd.watchdog));
        systemd_stop(&systemd);
    }
    assert_string_equal(told(), "");
}

static void a_status_is_one_line_of_valid_text(void **state)
{
    char long_status[3000];

    (void)state;
    systemd_start(&systemd, &loop);
    systemd_ready(&systemd, "a\nREADY=0\t\xff\x1b Gr\xc3\xbc\xc3\x9f");
    assert_string_equal(told(),
                        "READY=1\nSTATUS=a?READY=0??? Gr\xc3\xbc\xc3\x9f");
    memset(long_status, 0, sizeof(long_status));
    long_status[0] = 'x'; /* so that the limit is inside a character */
    for (size_t i = 1; i + 2 < sizeof(long_status); i += 2)
        memcpy(long_status + i, "\xc3\xbc", 2);
    systemd_stopping(&systemd, UINT64_MAX / 1000, long_status);
    told();
    assert_true(strlen(message) < SYSTEMD_MESSAGE_MAX);
    assert_memory_equal(message + strlen(message) - 2, "\xc3\xbc", 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_life_is_told_step_by_step),
        TEST(a_reload_tells_when_it_began_and_that_it_ended),
        TEST(a_reload_before_it_is_ready_makes_nobody_believe_it),
        TEST(a_reload_that_ends_while_it_stops_is_not_told),
        TEST(a_socket_may_have_an_abstract_name),
        TEST(no_child_sees_the_variables),
        TEST(without_a_manager_nothing_is_told),
        TEST(a_manager_that_has_gone_is_survived),
        TEST(what_the_socket_has_no_room_for_is_sent_later),
        TEST(what_is_no_longer_so_is_not_sent_later),
        TEST(the_watchdog_hears_twice_in_its_time),
        TEST(the_watchdog_of_another_process_hears_nothing),
        TEST(a_status_is_one_line_of_valid_text),
    };
    int failed;

    if (!mkdtemp(directory))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}
