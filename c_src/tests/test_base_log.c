/* What becomes of lines: levels, limits, batches, a stderr that takes none. */
#include "tests/test_log_lines.h"
#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"

enum { PIPE_BYTES = 65536, HOUR_MS = 3600000 };

static int own_stderr, ends[2]; /* [0] is where stderr comes out */
static char text[2 * PIPE_BYTES];
static struct log_time now;

static struct log_time test_clock(void)
{
    return now;
}

static void divert(int fd)
{
    assert_return_code(dup2(fd, STDERR_FILENO), errno);
}

/* An hour later than the test before: all call sites are fresh. */
static int begin(void **state)
{
    (void)state;
    now.unix_ms = 1000000000000 + 6 * HOUR_MS;
    now.steady_ms += HOUR_MS;
    own_stderr = dup(STDERR_FILENO);
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0 ||
        fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES) < PIPE_BYTES)
        return -1;
    divert(ends[1]);
    log_set_clock(test_clock);
    return 0;
}

static int end(void **state)
{
    (void)state;
    log_batch_end();
    unsetenv("JOURNAL_STREAM");
    log_set_format(LOG_LOGFMT);
    log_set_level(LOG_INFO);
    divert(own_stderr);
    close(own_stderr);
    close(ends[0]);
    close(ends[1]);
    log_set_clock(NULL);
    return 0;
}

/* All that came since the last time. */
static const char *said(void)
{
    size_t size = 0;
    ssize_t got;

    while ((got = read(ends[0], text + size, sizeof(text) - 1 - size)) > 0)
        size += (size_t)got;
    text[size] = '\0';
    return text;
}

static size_t lines_of(const char *all)
{
    size_t count = 0;

    for (; *all; all++)
        count += *all == '\n';
    return count;
}

/* Every one is whole. */
static void are_lines(const char *all)
{
    static struct pairs pairs;

    while (*all) {
        const char *newline = strchr(all, '\n');

        assert_non_null(newline);
        assert_true(
            read_logfmt(slice_make(all, (size_t)(newline - all) + 1), &pairs));
        all = newline + 1;
    }
}

static void set_levels(const char *spec)
{
    struct log_levels levels;
    struct error err;

    assert_true(log_levels_parse(slice_of(spec), &levels, &err));
    log_set_levels(&levels);
}

/* Levels. */

static void a_component_has_a_level_of_its_own(void **state)
{
    (void)state;
    set_levels("warn, dist=debug,job=error");
    assert_true(log_enabled(LOG_DEBUG, "dist"));
    assert_true(log_enabled(LOG_ERROR, "job"));
    assert_false(log_enabled(LOG_WARN, "job"));
    assert_true(log_enabled(LOG_WARN, "http"));
    assert_false(log_enabled(LOG_INFO, "http"));
    log_line(LOG_DEBUG, "dist", "one %d", 1);
    log_line(LOG_WARN, "job", "two");
    log_event(LOG_INFO, "http", "three", NULL, 0);
    log_record(LOG_INFO, "http", "four", NULL, 0);
    said();
    assert_int_equal(lines_of(text), 1);
    assert_non_null(strstr(text, "level=debug component=dist msg=\"one 1\"\n"));
}

/* The component of the call behind `at`, which ends with '"'; NULL: that is no
 * call. */
static const char *component_of(const char *at)
{
    const char *quote = strchr(at, '"');

    return quote && quote < at + strcspn(at, ";{") ? quote + 1 : NULL;
}

static size_t check_components(const char *file, const char *source)
{
    static const char *const calls[] = {"log_line(", "log_event(",
                                        "log_record(", "log_enabled("};
    struct log_levels levels;
    struct error err;
    size_t count = 0;

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        for (const char *at = source; (at = strstr(at, calls[i])); at++) {
            const char *name = component_of(at);
            char spec[64];

            if (!name)
                continue;
            count++;
            snprintf(spec, sizeof(spec), "%.*s=info", (int)strcspn(name, "\""),
                     name);
            if (!log_levels_parse(slice_of(spec), &levels, &err))
                fail_msg("%s: %s", file, err.message);
        }
    }
    return count;
}

/* NUL-terminated, until the next one. */
static const char *read_file(const char *path)
{
    static char content[1 << 18];
    FILE *file = fopen(path, "r");

    if (!file)
        fail_msg("%s cannot be read: run from the project's root", path);
    content[fread(content, 1, sizeof(content) - 1, file)] = '\0';
    fclose(file);
    return content;
}

static void every_component_is_documented(void **state)
{
    static const char *const names[] = {
#define X(name) "`" name "`",
        LOG_COMPONENTS(X)
#undef X
    };
    const char *manual = strstr(read_file("docs/operations.md"), "## Logs");

    (void)state;
    assert_non_null(manual);
    for (size_t i = 0; i < LOG_COMPONENT_COUNT; i++)
        if (!strstr(manual, names[i]))
            fail_msg("docs/operations.md does not name %s", names[i]);
}

static void every_component_of_the_sources_is_in_the_table(void **state)
{
    size_t count = 0;
    glob_t files;

    (void)state;
    assert_int_equal(glob("c_src/*/*.c", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++)
        if (!strstr(files.gl_pathv[i], "/tests/"))
            count += check_components(files.gl_pathv[i],
                                      read_file(files.gl_pathv[i]));
    globfree(&files);
    assert_true(count > 40);
}

static void the_last_word_about_a_component_counts(void **state)
{
    (void)state;
    set_levels("dist=debug,error");
    assert_false(log_enabled(LOG_WARN, "dist"));
    set_levels("debug");
    assert_true(log_enabled(LOG_DEBUG, "dist"));
    set_levels("dist=warn");
    assert_false(log_enabled(LOG_INFO, "dist"));
    assert_true(log_enabled(LOG_INFO, "http"));
}

static void what_is_unknown_is_named(void **state)
{
    static const char *const wrong[][2] = {
        {"loud", "'loud' is not"},
        {"", "'' is not"},
        {"info,", "'' is not"},
        {"info,dits=debug", "component 'dits'"},
        {"dist=", "'' is not"},
        {"=info", "component ''"},
        {"dist=debug=info", "'debug=info' is not"},
    };
    struct log_levels levels;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(log_levels_parse(slice_of(wrong[i][0]), &levels, &err));
        assert_int_equal(err.code, ERR_INVALID_REQUEST);
        assert_non_null(strstr(err.message, wrong[i][1]));
    }
}

static void a_format_has_one_of_two_names(void **state)
{
    enum log_format format;

    (void)state;
    assert_true(log_format_parse(SLICE_LITERAL("json"), &format));
    assert_int_equal(format, LOG_JSON);
    assert_true(log_format_parse(SLICE_LITERAL("logfmt"), &format));
    assert_int_equal(format, LOG_LOGFMT);
    assert_false(log_format_parse(SLICE_LITERAL("JSON"), &format));
}

static void the_format_can_change_between_lines(void **state)
{
    static struct pairs pairs;

    (void)state;
    log_set_format(LOG_JSON);
    log_event(LOG_INFO, "dist", "hello",
              LOG_FIELDS(log_text("peer", SLICE_LITERAL("a@b"))));
    assert_true(read_json(slice_of(said()), &pairs));
    assert_slice(value_of(&pairs, "peer"), "a@b");
    log_set_format(LOG_LOGFMT);
    log_line(LOG_INFO, "dist", "hello");
    assert_true(read_logfmt(slice_of(said()), &pairs));
}

/* As the service manager says it: where that stream is. */
static void set_journal(ino_t inode)
{
    struct stat status;
    char stream[64];

    assert_return_code(fstat(ends[1], &status), errno);
    snprintf(stream, sizeof(stream), "%llu:%llu",
             (unsigned long long)status.st_dev,
             (unsigned long long)(inode ? inode : status.st_ino));
    setenv("JOURNAL_STREAM", stream, 1);
    log_set_format(LOG_LOGFMT);
}

static void a_line_for_the_journal_begins_with_its_priority(void **state)
{
    (void)state;
    set_journal(0);
    log_line(LOG_INFO, "dist", "hello");
    assert_string_equal(said(), "<6>level=info component=dist msg=hello\n");
}

/* Of the service manager's, but stderr was turned somewhere else. */
static void another_stream_is_not_the_journal(void **state)
{
    static struct pairs pairs;

    (void)state;
    set_journal(1);
    log_line(LOG_INFO, "dist", "hello");
    assert_true(read_logfmt(slice_of(said()), &pairs));
    assert_slice(value_of(&pairs, "time"), "2001-09-09T07:46:40.000Z");
}

/* What comes again and again. */

static void flood(size_t count)
{
    for (size_t i = 0; i < count; i++)
        log_event(LOG_ERROR, "dist", "again", LOG_FIELDS(log_count("i", i)));
}

static void a_burst_passes_and_then_a_few_a_second(void **state)
{
    (void)state;
    flood(1000);
    assert_int_equal(lines_of(said()), LOG_BURST);
    assert_null(strstr(text, "suppressed"));
    now.steady_ms += 1000;
    flood(1000);
    assert_int_equal(lines_of(said()), LOG_PER_SECOND);
    assert_non_null(strstr(text, "msg=again suppressed=950 i=0\n"));
    now.steady_ms += HOUR_MS;
    flood(1000);
    assert_int_equal(lines_of(said()), LOG_BURST);
}

static void one_flood_does_not_silence_others(void **state)
{
    (void)state;
    flood(1000);
    said();
    log_line(LOG_INFO, "dist", "something else");
    assert_int_equal(lines_of(said()), 1);
}

static void what_was_suppressed_is_told_when_nothing_more_comes(void **state)
{
    (void)state;
    flood(LOG_BURST + 3);
    said();
    log_tell();
    assert_non_null(
        strstr(said(), "level=error component=dist msg=again suppressed=3\n"));
    log_tell();
    assert_string_equal(said(), "");
}

static void lines_for_debugging_and_of_requests_have_no_limit(void **state)
{
    (void)state;
    log_set_level(LOG_DEBUG);
    for (size_t i = 0; i < 200; i++)
        log_line(LOG_DEBUG, "dist", "frame");
    assert_int_equal(lines_of(said()), 200);
    for (size_t i = 0; i < 200; i++)
        log_record(LOG_INFO, "job", "answered", NULL, 0);
    assert_int_equal(lines_of(said()), 200);
}

static void a_clock_that_stands_still_or_goes_back_is_no_harm(void **state)
{
    (void)state;
    flood(LOG_BURST);
    said();
    now.steady_ms -= 5000;
    flood(10);
    assert_string_equal(said(), "");
}

/* Only as many call sites as there is room for; any further is not limited. */
static void a_great_many_call_sites_are_no_harm(void **state)
{
    static char sites[300][8];

    (void)state;
    for (size_t i = 0; i < 300; i++) {
        snprintf(sites[i], sizeof(sites[i]), "n%zu", i);
        log_event(LOG_INFO, "dist", sites[i], NULL, 0);
    }
    assert_int_equal(lines_of(said()), 300);
}

/* Batches. */

static void a_batch_waits_for_its_end(void **state)
{
    (void)state;
    log_batch_start();
    log_record(LOG_INFO, "job", "one", NULL, 0);
    log_record(LOG_INFO, "job", "two", NULL, 0);
    assert_string_equal(said(), "");
    log_flush();
    assert_int_equal(lines_of(said()), 2);
    log_flush();
    assert_string_equal(said(), "");
}

static void a_warning_goes_out_at_once_behind_what_waits(void **state)
{
    const char *first, *second;

    (void)state;
    log_batch_start();
    log_record(LOG_INFO, "job", "one", NULL, 0);
    log_line(LOG_WARN, "job", "two");
    said();
    first = strstr(text, "msg=one");
    second = strstr(text, "msg=two");
    assert_true(first && second && first < second);
}

static void a_full_batch_is_written_in_pieces_a_pipe_takes_whole(void **state)
{
    size_t lines = 0;

    (void)state;
    log_batch_start();
    for (size_t i = 0; i < 1000; i++) {
        ssize_t got;

        log_record(LOG_INFO, "job", "answered",
                   LOG_FIELDS(log_count("number", i)));
        got = read(ends[0], text, sizeof(text) - 1);
        if (got <= 0)
            continue;
        text[got] = '\0';
        assert_in_range(got, LOG_LINE_MAX - 128, LOG_LINE_MAX);
        are_lines(text);
        lines += lines_of(text);
    }
    log_flush();
    assert_int_equal(lines + lines_of(said()), 1000);
}

static void without_batches_every_line_goes_out_at_once(void **state)
{
    (void)state;
    log_batch_start();
    log_line(LOG_INFO, "job", "one");
    log_batch_end();
    assert_int_equal(lines_of(said()), 1);
    log_line(LOG_INFO, "job", "two");
    assert_int_equal(lines_of(said()), 1);
}

/* In a process of its own, with half a batch. */
static void says_all_before(void (*last)(void))
{
    pid_t child;
    int status;

    fflush(stdout);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        log_batch_start();
        log_record(LOG_INFO, "job", "before", NULL, 0);
        last();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_non_null(strstr(said(), "msg=before\n"));
}

/* It polls writable as long as it takes one byte. In a process of its own, for
 * the terminal stays open. Exit status 0: it was not held up. */
static void log_to(const char *terminal)
{
    divert(open(terminal, O_RDWR | O_NOCTTY));
    alarm(10);
    log_batch_start();
    for (size_t i = 0; i < 10000; i++)
        log_record(LOG_INFO, "job", "answered",
                   LOG_FIELDS(log_count("number", i)));
    _exit(log_dropped() == 0 || fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK);
}

static void a_terminal_that_nobody_reads_holds_nobody_up(void **state)
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    int status;
    pid_t child;

    (void)state;
    assert_return_code(grantpt(terminal), errno);
    assert_return_code(unlockpt(terminal), errno);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        log_to(ptsname(terminal));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(terminal);
}

static void leave(void)
{
    exit(0);
}

static void nothing_is_lost_at_the_exit(void **state)
{
    (void)state;
    says_all_before(leave);
}

static void run_out_of_memory(void)
{
    mem_alloc_many(SIZE_MAX, 2);
}

static void nothing_is_lost_when_there_is_no_memory(void **state)
{
    (void)state;
    says_all_before(run_out_of_memory);
    assert_non_null(
        strstr(text, "level=error component=mem msg=\"no memory\" bytes="));
}

/* A stderr that takes nothing. */

static void a_full_pipe_loses_lines_but_never_a_part_of_one(void **state)
{
    uint64_t before = log_dropped();
    size_t written, dropped;

    (void)state;
    log_batch_start();
    for (size_t i = 0; i < 2000; i++)
        log_record(LOG_INFO, "job", "a line that says next to nothing", NULL,
                   0);
    log_flush();
    dropped = (size_t)(log_dropped() - before);
    assert_true(dropped > 0);
    written = lines_of(said());
    are_lines(text);
    log_flush();
    written += lines_of(said());
    are_lines(text);
    assert_int_equal(written + dropped, 2000);
}

static void what_was_dropped_is_told_when_there_is_room(void **state)
{
    uint64_t before = log_dropped();
    char expected[64];

    (void)state;
    log_tell();
    while (log_dropped() < before + 100)
        log_record(LOG_INFO, "job", "a line", NULL, 0);
    log_tell();
    said();
    assert_null(strstr(text, "dropped="));
    log_tell();
    snprintf(expected, sizeof(expected), "msg=\"lines were lost\" count=%d\n",
             100);
    assert_non_null(strstr(said(), expected));
    are_lines(text);
    log_tell();
    assert_string_equal(said(), "");
}

static void a_reader_that_is_gone_is_no_harm(void **state)
{
    uint64_t before = log_dropped();

    (void)state;
    close(ends[0]);
    log_line(LOG_WARN, "job", "to nobody");
    assert_int_equal(log_dropped(), before + 1);
    ends[0] = dup(ends[1]);
    log_tell();
}

static void a_closed_stderr_is_no_harm(void **state)
{
    uint64_t before = log_dropped();

    (void)state;
    close(STDERR_FILENO);
    log_line(LOG_WARN, "job", "to nobody");
    assert_int_equal(log_dropped(), before + 1);
    divert(ends[1]);
    log_tell();
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;

    assert_return_code(getrlimit(RLIMIT_FSIZE, &limit), errno);
    limit.rlim_cur = bytes;
    assert_return_code(setrlimit(RLIMIT_FSIZE, &limit), errno);
}

/* A file that may grow no more is a disk that is full: the kernel takes a part
 * of what it gets. */
static void a_torn_line_does_not_tear_the_next_one(void **state)
{
    FILE *file = tmpfile();
    uint64_t before = log_dropped();
    size_t size;

    (void)state;
    divert(fileno(file));
    log_line(LOG_WARN, "job", "the first");
    size = (size_t)lseek(fileno(file), 0, SEEK_END);
    assert_int_equal(log_dropped(), before);
    limit_files(size + 20);
    log_line(LOG_WARN, "job", "the second");
    log_line(LOG_WARN, "job", "the third");
    limit_files(RLIM_INFINITY);
    log_line(LOG_WARN, "job", "the fourth");
    size = (size_t)lseek(fileno(file), 0, SEEK_END);
    assert_int_equal(pread(fileno(file), text, size, 0), (ssize_t)size);
    text[size] = '\0';
    assert_int_equal(log_dropped(), before + 2);
    assert_int_equal(lines_of(text), 3);
    are_lines(strchr(strchr(text, '\n') + 1, '\n') + 1);
    assert_non_null(strstr(text, "msg=\"the fourth\"\n"));
    fclose(file);
    log_tell();
}

/* The kernel took whole lines only: nothing is torn. */
static void a_part_that_ends_with_a_line_leaves_whole_lines(void **state)
{
    FILE *file = tmpfile();
    uint64_t before = log_dropped();
    size_t size;

    (void)state;
    divert(fileno(file));
    log_batch_start();
    log_line(LOG_INFO, "job", "a line");
    log_flush();
    size = (size_t)lseek(fileno(file), 0, SEEK_END);
    limit_files(2 * size);
    log_line(LOG_INFO, "job", "a line");
    log_line(LOG_INFO, "job", "a line");
    log_flush();
    log_flush();
    assert_int_equal(log_dropped(), before + 1);
    limit_files(RLIM_INFINITY);
    log_line(LOG_INFO, "job", "a line");
    log_flush();
    size = (size_t)lseek(fileno(file), 0, SEEK_END);
    assert_int_equal(pread(fileno(file), text, size, 0), (ssize_t)size);
    text[size] = '\0';
    assert_int_equal(lines_of(text), 3);
    are_lines(text);
    fclose(file);
    log_tell();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_component_has_a_level_of_its_own),
        cmocka_unit_test(every_component_of_the_sources_is_in_the_table),
        cmocka_unit_test(every_component_is_documented),
        TEST(the_last_word_about_a_component_counts),
        TEST(what_is_unknown_is_named),
        TEST(a_format_has_one_of_two_names),
        TEST(the_format_can_change_between_lines),
        TEST(a_line_for_the_journal_begins_with_its_priority),
        TEST(another_stream_is_not_the_journal),
        TEST(a_burst_passes_and_then_a_few_a_second),
        TEST(one_flood_does_not_silence_others),
        TEST(what_was_suppressed_is_told_when_nothing_more_comes),
        TEST(lines_for_debugging_and_of_requests_have_no_limit),
        TEST(a_clock_that_stands_still_or_goes_back_is_no_harm),
        TEST(a_batch_waits_for_its_end),
        TEST(a_warning_goes_out_at_once_behind_what_waits),
        TEST(a_full_batch_is_written_in_pieces_a_pipe_takes_whole),
        TEST(without_batches_every_line_goes_out_at_once),
        TEST(a_terminal_that_nobody_reads_holds_nobody_up),
        TEST(nothing_is_lost_at_the_exit),
        TEST(nothing_is_lost_when_there_is_no_memory),
        TEST(a_full_pipe_loses_lines_but_never_a_part_of_one),
        TEST(what_was_dropped_is_told_when_there_is_room),
        TEST(a_reader_that_is_gone_is_no_harm),
        TEST(a_closed_stderr_is_no_harm),
        TEST(a_torn_line_does_not_tear_the_next_one),
        TEST(a_part_that_ends_with_a_line_leaves_whole_lines),
        TEST(a_great_many_call_sites_are_no_harm),
    };

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
