/* The frames, and the worker behind them, in a process of its own as in life.
 */
#include "tests/unit.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "llm_router/base/mem.h"
#include "llm_router/script/worker.h"

static struct {
    char folder[64], file[96];
    struct slice paths[1];
    struct arena arena;
    struct buf request;
    pid_t pid;
    int to, from; /* the worker */
} bed;

static void start_worker(void)
{
    int to[2], from[2];

    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    bed.pid = fork();
    assert_true(bed.pid >= 0);
    if (bed.pid == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        close(to[0]);
        close(to[1]);
        close(from[0]);
        close(from[1]);
        _exit(script_worker_main());
    }
    close(to[0]);
    close(from[1]);
    bed.to = to[1];
    bed.from = from[0];
}

static void write_script(const char *text)
{
    FILE *file = fopen(bed.file, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(bed.folder, sizeof(bed.folder), "/tmp/test_script_worker.XXXXXX");
    assert_non_null(mkdtemp(bed.folder));
    snprintf(bed.file, sizeof(bed.file), "%s/test.lua", bed.folder);
    bed.paths[0] = slice_of(bed.folder);
    arena_init(&bed.arena, 0);
    buf_init(&bed.request, SCRIPT_FRAME_HEADER + SCRIPT_FRAME_MAX);
    start_worker();
    return 0;
}

/* Its exit status, or minus the signal that ended it. */
static int end_of_worker(void)
{
    int status;

    assert_int_equal(waitpid(bed.pid, &status, 0), bed.pid);
    bed.pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int tear_down(void **state)
{
    (void)state;
    close(bed.to);
    close(bed.from);
    if (bed.pid != 0)
        assert_int_equal(end_of_worker(), 0);
    unlink(bed.file);
    rmdir(bed.folder);
    arena_release(&bed.arena);
    buf_release(&bed.request);
    return 0;
}

static void send_bytes(struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t sent = write(bed.to, bytes.data, bytes.size);

        assert_true(sent > 0);
        bytes = slice_make(bytes.data + sent, bytes.size - (size_t)sent);
    }
}

static void put_request(const char *path, const char *context)
{
    const struct script_request request = {
        .path = slice_of(path),
        .folders = {bed.paths, 1},
        .limits = {8 << 20, 1000000, 20000},
        .context = slice_of(context),
    };
    struct error err;

    assert_true(script_put_request(&bed.request, &request, &err));
}

static bool read_bytes(char *out, size_t size)
{
    while (size > 0) {
        ssize_t got = read(bed.from, out, size);

        if (got <= 0)
            return false;
        out += got;
        size -= (size_t)got;
    }
    return true;
}

static struct script_answer receive(void)
{
    struct script_answer answer;
    char header[SCRIPT_FRAME_HEADER], *bytes;
    struct slice text;
    struct error err;
    size_t size = 0;

    assert_true(read_bytes(header, sizeof(header)));
    for (size_t i = 0; i < sizeof(header); i++)
        size = size << 8 | (unsigned char)header[i];
    bytes = arena_bytes(&bed.arena, sizeof(header) + size);
    memcpy(bytes, header, sizeof(header));
    assert_true(read_bytes(bytes + sizeof(header), size));
    assert_int_equal(
        script_next_frame(slice_make(bytes, sizeof(header) + size), &text),
        SCRIPT_FRAME_WHOLE);
    if (!script_read_answer(&bed.arena, text, &answer, &err))
        fail_msg("%s", err.message);
    return answer;
}

static struct script_answer ask(const char *path, const char *context)
{
    buf_clear(&bed.request);
    put_request(path, context);
    send_bytes(buf_slice(&bed.request));
    return receive();
}

static struct slice first_content(const struct script_answer *answer)
{
    assert_non_null(answer->messages);
    return jv_string(jv_find(jv_at(answer->messages, 0), "content"));
}

static void a_script_is_run_with_its_context(void **state)
{
    struct script_answer answer;

    (void)state;
    write_script("options.model = 'm' return 'Hello ' .. context.name");
    answer = ask("test.lua", "{\"name\":\"Ada\"}");
    assert_slice(first_content(&answer), "Hello Ada");
    assert_slice(jv_string(jv_find(answer.options, "model")), "m");
    write_script("system 'changed' return 'x'");
    answer = ask(bed.file, NULL);
    assert_slice(first_content(&answer), "changed");
    assert_int_equal(jv_count(answer.messages), 2);
}

static void faults_come_with_their_line(void **state)
{
    struct script_answer answer;

    (void)state;
    write_script("\n\nerror 'boom'");
    answer = ask("test.lua", NULL);
    assert_null(answer.messages);
    assert_string_equal(answer.fault.message, "boom");
    assert_int_equal(answer.fault.line, 3);
    answer = ask("none.lua", NULL);
    assert_string_equal(answer.fault.message,
                        "none.lua: there is no such script");
    assert_int_equal(answer.fault.line, 0);
    write_script("return ('x'):rep(1 << 24)");
    answer = ask("test.lua", NULL);
    assert_string_equal(answer.fault.message,
                        "more than 8388608 bytes of memory");
    write_script("while true do end");
    answer = ask("test.lua", NULL);
    assert_string_equal(answer.fault.message, "more than 1000000 instructions");
    write_script("return 'still there'");
    answer = ask("test.lua", NULL);
    assert_slice(first_content(&answer), "still there");
}

static void requests_are_answered_in_their_order(void **state)
{
    (void)state;
    write_script("return tostring(context)");
    buf_clear(&bed.request);
    for (int i = 0; i < 50; i++) {
        char number[16];

        snprintf(number, sizeof(number), "%d", i);
        put_request("test.lua", number);
    }
    for (size_t i = 0; i < bed.request.size; i += 7)
        send_bytes(slice_make(bed.request.data + i, bed.request.size - i < 7
                                                        ? bed.request.size - i
                                                        : 7));
    for (int i = 0; i < 50; i++) {
        struct script_answer answer = receive();
        char number[16];

        snprintf(number, sizeof(number), "%d", i);
        assert_slice(first_content(&answer), number);
    }
}

static void large_contexts_and_answers_pass(void **state)
{
    const size_t size = 1500000;
    char *context = mem_alloc(size + 3);
    struct script_answer answer;

    (void)state;
    memset(context, 'x', size + 2);
    context[0] = context[size + 1] = '"';
    write_script("return context .. context");
    answer = ask("test.lua", context);
    assert_int_equal(first_content(&answer).size, 2 * size);
    mem_free(context);
}

static void it_ends_with_its_input(void **state)
{
    (void)state;
    close(bed.to);
    bed.to = -1;
    assert_int_equal(end_of_worker(), 0);
}

static void it_ends_at_a_wrong_frame(void **state)
{
    (void)state;
    send_bytes(SLICE_LITERAL("\xff\xff\xff\xff{}"));
    assert_int_equal(end_of_worker(), 0);
}

static void what_is_no_request_is_answered_by_a_fault(void **state)
{
    struct script_answer answer;

    (void)state;
    send_bytes(SLICE_LITERAL("\0\0\0\2{]"));
    answer = receive();
    assert_non_null(strstr(answer.fault.message, "the context cannot be read"));
    send_bytes(SLICE_LITERAL("\0\0\0\2{}"));
    answer = receive();
    assert_string_equal(answer.fault.message, "the request has no folders");
    send_bytes(SLICE_LITERAL("\0\0\0\0"));
    answer = receive();
    assert_null(answer.messages);
}

static void signals_of_the_terminal_do_not_end_it(void **state)
{
    struct script_answer answer;

    (void)state;
    write_script("return 'x'");
    answer = ask("test.lua", NULL);
    kill(bed.pid, SIGINT);
    kill(bed.pid, SIGTERM);
    kill(bed.pid, SIGHUP);
    answer = ask("test.lua", NULL);
    assert_slice(first_content(&answer), "x");
}

/* A library function that never meets a limit: why there is a worker. */
static void only_a_kill_ends_a_pattern_that_explodes(void **state)
{
    struct pollfd answered = {.events = POLLIN};

    (void)state;
    answered.fd = bed.from;
    write_script("return ('a'):rep(40):find(('a-'):rep(30) .. 'b') or 'no'");
    buf_clear(&bed.request);
    put_request("test.lua", NULL);
    send_bytes(buf_slice(&bed.request));
    assert_int_equal(poll(&answered, 1, 300), 0);
    kill(bed.pid, SIGKILL);
    assert_int_equal(end_of_worker(), -SIGKILL);
}

static void it_keeps_no_descriptor_of_its_parent(void **state)
{
    int leaked = dup(STDERR_FILENO), to = bed.to, from = bed.from;
    struct script_answer answer;
    char name[64], target[64];
    pid_t first = bed.pid;

    (void)state;
    start_worker(); /* with the descriptors of the first, and one more */
    write_script("return 'x'");
    answer = ask("test.lua", NULL);
    assert_slice(first_content(&answer), "x");
    for (int fd = STDERR_FILENO + 1; fd < 64; fd++) {
        snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)bed.pid, fd);
        assert_int_equal(readlink(name, target, sizeof(target)), -1);
        assert_true(errno == ENOENT || errno == EACCES);
    }
    close(leaked);
    close(bed.to);
    close(bed.from);
    assert_int_equal(end_of_worker(), 0);
    bed.pid = first;
    bed.to = to;
    bed.from = from;
}

static rlim_t limit_of(enum __rlimit_resource resource)
{
    struct rlimit limit;

    assert_int_equal(prlimit(bed.pid, resource, NULL, &limit), 0);
    assert_int_equal(limit.rlim_cur, limit.rlim_max);
    return limit.rlim_cur;
}

static void it_gives_up_what_it_does_not_need(void **state)
{
    struct script_answer answer;
    char name[64], text[4096];
    FILE *status;
    size_t size;

    (void)state;
    write_script("return 'x'");
    answer = ask("test.lua", NULL);
    assert_slice(first_content(&answer), "x");
    assert_int_equal(limit_of(RLIMIT_CORE), 0);
    assert_int_equal(limit_of(RLIMIT_FSIZE), 0);
    snprintf(name, sizeof(name), "/proc/%d/status", (int)bed.pid);
    status = fopen(name, "r");
    assert_non_null(status);
    size = fread(text, 1, sizeof(text) - 1, status);
    text[size] = '\0';
    fclose(status);
    assert_non_null(strstr(text, "NoNewPrivs:\t1"));
}

static void frames_come_in_any_pieces(void **state)
{
    static const char bytes[] = "\0\0\0\5hello\0\0\0\0";
    struct slice text;

    (void)state;
    for (size_t size = 0; size < 9; size++)
        assert_int_equal(script_next_frame(slice_make(bytes, size), &text),
                         SCRIPT_FRAME_PART);
    assert_int_equal(script_next_frame(slice_make(bytes, 11), &text),
                     SCRIPT_FRAME_WHOLE);
    assert_slice(text, "hello");
    assert_int_equal(script_next_frame(slice_make(bytes + 9, 4), &text),
                     SCRIPT_FRAME_WHOLE);
    assert_int_equal(text.size, 0);
    assert_int_equal(script_next_frame(SLICE_LITERAL("\2\0\0\0"), &text),
                     SCRIPT_FRAME_PART);
    assert_int_equal(script_next_frame(SLICE_LITERAL("\2\0\0\1"), &text),
                     SCRIPT_FRAME_WRONG);
}

static void a_request_over_the_limit_is_too_large(void **state)
{
    struct script_request request = {.path = SLICE_LITERAL("x.lua"),
                                     .folders = {bed.paths, 1}};
    char *context = mem_alloc(SCRIPT_FRAME_MAX);
    struct error err;

    (void)state;
    memset(context, '1', SCRIPT_FRAME_MAX);
    request.context = slice_make(context, SCRIPT_FRAME_MAX);
    assert_false(script_put_request(&bed.request, &request, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    mem_free(context);
}

static void what_is_no_answer_is_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        "[]",
        "{}",
        "{\"messages\":[]}",
        "{\"messages\":[],\"options\":{}}",
        "{\"messages\":[{\"role\":\"user\"}],\"options\":{}}",
        "{\"messages\":[{\"role\":\"user\",\"content\":1}],\"options\":{}}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"options\":[]}",
        "{\"messages\":[1],\"options\":{}}",
        "{\"error\":{}}",
        "{\"error\":\"x\"}",
        "{\"error\":{\"message\":1}}",
    };
    struct script_answer answer;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        err.code = ERR_NONE;
        if (script_read_answer(&bed.arena, slice_of(wrong[i]), &answer, &err))
            fail_msg("%s", wrong[i]);
        assert_int_equal(err.code, ERR_BAD_RESPONSE);
    }
    assert_true(script_read_answer(
        &bed.arena,
        SLICE_LITERAL("{\"error\":{\"message\":\"m\",\"line\":99999999999}}"),
        &answer, &err));
    assert_int_equal(answer.fault.line, 0);
    assert_string_equal(answer.fault.message, "m");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_script_is_run_with_its_context),
        TEST(faults_come_with_their_line),
        TEST(requests_are_answered_in_their_order),
        TEST(large_contexts_and_answers_pass),
        TEST(it_ends_with_its_input),
        TEST(it_ends_at_a_wrong_frame),
        TEST(what_is_no_request_is_answered_by_a_fault),
        TEST(signals_of_the_terminal_do_not_end_it),
        TEST(only_a_kill_ends_a_pattern_that_explodes),
        TEST(it_keeps_no_descriptor_of_its_parent),
        TEST(it_gives_up_what_it_does_not_need),
        TEST(frames_come_in_any_pieces),
        TEST(a_request_over_the_limit_is_too_large),
        TEST(what_is_no_answer_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
