/* What a supervisor hands over: its lines, the wait for the first one, and the
 * configuration and cookie that come of it. */
#include "tests/test_config_files.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "llm_router/base/log.h"
#include "llm_router/config/handover.h"

static struct handover handed;

static bool parse(const char *line, enum handover_line which)
{
    return handover_parse(&config.arena, slice_of(line), which, &handed, &err);
}

/* Lines. */

static void the_first_line_has_cookie_and_configuration(void **state)
{
    (void)state;
    assert_true(parse("{\"cookie\": \"abc\", \"config\": {\"retry\": "
                      "{\"max\": 1}}}",
                      HANDOVER_FIRST));
    assert_slice(handed.cookie, "abc");
    assert_slice(handed.config, "{\"retry\":{\"max\":1}}");
    assert_false(handed.stop);
    assert_true(parse("{}", HANDOVER_FIRST));
    assert_int_equal(handed.cookie.size + handed.config.size, 0);
}

static void a_later_line_has_a_configuration_or_a_stop(void **state)
{
    (void)state;
    assert_true(parse("{\"config\": {}}", HANDOVER_LATER));
    assert_slice(handed.config, "{}");
    assert_false(handed.stop);
    assert_true(parse("{\"stop\": true}", HANDOVER_LATER));
    assert_true(handed.stop && handed.drain_ms == INT64_MAX);
    assert_true(parse("{\"stop\": 1500}", HANDOVER_LATER));
    assert_true(handed.stop && handed.drain_ms == 1500);
}

static void a_wrong_line_is_refused_and_not_quoted(void **state)
{
    static const struct {
        const char *line;
        enum handover_line which;
        const char *says;
    } rows[] = {
        {"", HANDOVER_FIRST, "line 1, column 0"},
        {"[]", HANDOVER_FIRST, "must be an object"},
        {"{\"cookie\": s3cr3t}", HANDOVER_FIRST, "line 1, column"},
        {"{\"cookie\": \"s3cr3t", HANDOVER_FIRST, "line 1, column"},
        {"{\"cookie\": \"a\", \"cookie\": \"s3cr3t\"}", HANDOVER_FIRST,
         "duplicate"},
        {"{\"cookie\": [\"s3cr3t\"]}", HANDOVER_FIRST,
         "standard input: cookie: must be a text"},
        {"{\"cookie\": \"\"}", HANDOVER_FIRST, "cookie: must not be empty"},
        {"{\"cokie\": \"s3cr3t\"}", HANDOVER_FIRST,
         "standard input: cokie: there is no such key; did you mean "
         "\"cookie\"?"},
        {"{\"config\": \"s3cr3t\"}", HANDOVER_FIRST,
         "config: must be an object"},
        {"{\"stop\": true}", HANDOVER_FIRST, "stop: there is no such key"},
        {"{\"cookie\": \"s3cr3t\"}", HANDOVER_LATER,
         "cookie: there is no such key"},
        {"{\"stop\": false}", HANDOVER_LATER, "stop: must be true or"},
        {"{\"stop\": -1}", HANDOVER_LATER, "stop: must be true or"},
        {"{\"stop\": 1.5}", HANDOVER_LATER, "stop: must be true or"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(parse(rows[i].line, rows[i].which));
        assert_int_equal(err.code, ERR_INVALID_REQUEST);
        if (!strstr(err.message, rows[i].says))
            fail_msg("\"%s\" is not in \"%s\"", rows[i].says, err.message);
        assert_null(strstr(err.message, "s3cr3t"));
        assert_null(strstr(err.path, "s3cr3t"));
    }
}

/* The wait. */

static struct line_reader input;

static bool receive(int fd, int64_t wait_ms)
{
    bool ok;

    line_reader_release(&input);
    line_reader_init(&input, 64);
    ok = handover_receive(&input, fd, wait_ms, &config.arena, &handed, &err);
    close(fd);
    return ok;
}

/* The reading end of a pipe with this in it, that will have no more. */
static int pipe_with(const char *text)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, strlen(text)), strlen(text));
    close(ends[1]);
    return ends[0];
}

static void what_comes_behind_the_first_line_is_kept(void **state)
{
    struct slice next;

    (void)state;
    assert_true(
        receive(pipe_with("{\"cookie\":\"abc\"}\n{\"stop\":true}\n{"), 1000));
    assert_slice(handed.cookie, "abc");
    assert_int_equal(line_reader_next(&input, &next), LINE_WHOLE);
    assert_slice(next, "{\"stop\":true}");
    line_reader_release(&input);
}

static void *write_slowly(void *fd)
{
    static const char *const parts[] = {"{\"cookie\"", ":\"ab", "c\"}\n"};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        usleep(20000);
        if (write(*(int *)fd, parts[i], strlen(parts[i])) < 0)
            return fd;
    }
    return NULL;
}

static void a_line_that_comes_in_pieces_is_waited_for(void **state)
{
    pthread_t writer;
    void *failed;
    int ends[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_slowly, &ends[1]), 0);
    assert_true(receive(ends[0], 20000));
    assert_int_equal(pthread_join(writer, &failed), 0);
    assert_null(failed);
    assert_slice(handed.cookie, "abc");
    close(ends[1]);
    line_reader_release(&input);
}

static void no_line_is_an_error_that_says_why(void **state)
{
    char line[100];
    int ends[2];

    (void)state;
    assert_false(receive(open("/dev/null", O_RDONLY), 1000));
    assert_non_null(strstr(err.message, "needs a pipe"));
    assert_false(
        receive(open(write_file("key", "{}\n", 0600), O_RDONLY), 1000));
    assert_non_null(strstr(err.message, "needs a pipe"));
    assert_false(receive(pipe_with("{}"), 1000));
    assert_non_null(strstr(err.message, "ended before"));
    memset(line, 'a', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    assert_false(receive(pipe_with(line), 1000));
    assert_non_null(strstr(err.message, "longer than 64 bytes"));
    assert_int_equal(pipe(ends), 0);
    assert_false(receive(ends[0], 30));
    assert_non_null(strstr(err.message, "within 30 ms"));
    assert_string_equal(err.path, "standard input");
    close(ends[1]);
    line_reader_release(&input);
}

/* What becomes of it. */

static bool load_handed(const char *json, const struct config *previous)
{
    const struct handover handover = {.cookie = SLICE_LITERAL("abc"),
                                      .config = slice_of(json)};

    config_release(&config);
    config_init(&config);
    config_hand_over(&config, &handover);
    return config_load(&config, previous, &err);
}

static void
a_configuration_that_is_handed_over_stands_for_the_file(void **state)
{
    (void)state;
    setenv("LLM_ROUTER_RETRY_MAX", "7", 1);
    assert_true(load_handed(
        "{\"retry\": {\"max\": 3}, \"timeouts\": {\"idle_ms\": 123}}", NULL));
    assert_int_equal(config.max_retries, 7);
    assert_int_equal(config.idle_timeout_ms, 123);
}

static void its_faults_name_the_key_and_no_line(void **state)
{
    (void)state;
    assert_false(load_handed("{\"limits\": {\"in_flight\": 0}}", NULL));
    assert_string_equal(err.path, "limits.in_flight");
    assert_string_equal(err.message, "config: limits.in_flight: 0 is not "
                                     "between 1 and 1000000");
    assert_false(load_handed("{\"limts\": {}}", NULL));
    assert_string_equal(err.message, "config: limts: there is no such key; did "
                                     "you mean \"limits\"?");
}

static void it_excludes_a_file(void **state)
{
    const struct handover handover = {.config = SLICE_LITERAL("{}")};

    (void)state;
    config_hand_over(&config, &handover);
    config.file = write_file("config.json", "{}", 0600);
    assert_false(config_load(&config, NULL, &err));
    assert_string_equal(err.path, "--config");
}

static void a_cookie_that_is_handed_over_goes_before_all_others(void **state)
{
    struct buf out;

    (void)state;
    setenv("RELEASE_COOKIE", "variable", 1);
    assert_true(load_handed("", NULL));
    config.cookie_file = write_file("cookie", "file", 0600);
    assert_true(config_load_cookie(&config, &err));
    assert_slice(config.cookie, "abc");
    buf_init(&out, 1 << 20);
    config_put(&config, &out);
    assert_int_equal(slice_find(buf_slice(&out), slice_of("abc")), -1);
    buf_release(&out);
    /* The variable that is not used is hidden as if it were. */
    config_hide_secrets(&config);
    assert_string_equal(getenv("RELEASE_COOKIE"), "");
    config.handed.cookie = SLICE_LITERAL("a\nb");
    assert_false(config_load_cookie(&config, &err));
    assert_string_equal(err.path, "standard input");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_line_has_cookie_and_configuration),
        TEST(a_later_line_has_a_configuration_or_a_stop),
        TEST(a_wrong_line_is_refused_and_not_quoted),
        TEST(what_comes_behind_the_first_line_is_kept),
        TEST(a_line_that_comes_in_pieces_is_waited_for),
        TEST(no_line_is_an_error_that_says_why),
        TEST(a_configuration_that_is_handed_over_stands_for_the_file),
        TEST(its_faults_name_the_key_and_no_line),
        TEST(it_excludes_a_file),
        TEST(a_cookie_that_is_handed_over_goes_before_all_others),
    };

    log_set_level(LOG_ERROR);
    RUN(tests);
}
