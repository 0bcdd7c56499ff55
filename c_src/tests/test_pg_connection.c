/* The connection against a real server, and against none. */
#include "llm_router/pg/connection.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "test_certificates.h"
#include "tests/unit.h"

enum {
    PORT = 5432,
    GIVE_UP_MS = 30000,
    RETURN_MS = 5000, /* within which a connection is back */
    ANSWERS_MAX = 5000,
};

static char folder[] = "/tmp/llm_router_pg.XXXXXX"; /* of the server */
static char address[INET_ADDRSTRLEN];               /* it listens on */
static char silent_address[INET_ADDRSTRLEN];        /* nobody answers there */
static char conninfo[200];
static int guard_pipe[2];
static pid_t guard;
static pthread_t main_thread;

/* --- the system's resolver, where a test has it answer --- */

static atomic_bool resolver_hangs;
static atomic_int blocking_lookups; /* by the loop's thread */

static int look_up(const char *name, const char *service,
                   const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *,
                struct addrinfo **);

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(name, service, hints, found);
}

/* "database.test" is the server, "two.test" nobody and then the server,
 * "hanging.test" takes until the test is over. */
int getaddrinfo(const char *name, const char *service,
                const struct addrinfo *hints, struct addrinfo **found)
{
    int status;

    if (name && !(hints->ai_flags & AI_NUMERICHOST) &&
        pthread_equal(pthread_self(), main_thread)) {
        blocking_lookups++;
        return EAI_AGAIN;
    }
    if (name && strcmp(name, "database.test") == 0)
        return look_up(address, service, hints, found);
    if (name && strcmp(name, "two.test") == 0) {
        status = look_up(silent_address, service, hints, found);
        if (status == 0)
            status = look_up(address, service, hints, &(*found)->ai_next);
        return status;
    }
    if (!name || strcmp(name, "hanging.test") != 0)
        return look_up(name, service, hints, found);
    while (resolver_hangs)
        usleep(5000);
    return EAI_AGAIN;
}

/* --- the server --- */

static int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int shell(const char *format, ...)
{
    char command[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    return system(command);
}

static void start_server(void)
{
    assert_int_equal(
        shell("POSTGRES_OPTIONS='-c fsync=off -c listen_addresses=%s' "
              "scripts/postgres start %s >/dev/null",
              address, folder),
        0);
}

static void stop_server(const char *mode)
{
    assert_int_equal(shell("scripts/postgres stop %s %s", folder, mode), 0);
}

/* Stops the server when this program is gone, whatever ended it. */
static void start_guard(void)
{
    char byte;

    assert_int_equal(pipe2(guard_pipe, O_CLOEXEC), 0);
    guard = fork();
    assert_true(guard >= 0);
    if (guard > 0) {
        close(guard_pipe[0]);
        return;
    }
    setpgid(0, 0);
    close(guard_pipe[1]);
    while (read(guard_pipe[0], &byte, 1) != 0)
        continue;
    shell("scripts/postgres stop %s immediate; rm -rf %s", folder, folder);
    _exit(0);
}

/* The addresses are this process's own: other servers may use the port. */
static int begin_all(void **state)
{
    unsigned pid = (unsigned)getpid();

    (void)state;
    main_thread = pthread_self();
    signal(SIGPIPE, SIG_IGN);
    snprintf(address, sizeof(address), "127.%u.%u.1", 1 + (pid >> 8) % 250,
             pid % 256);
    snprintf(silent_address, sizeof(silent_address), "127.%u.%u.2",
             1 + (pid >> 8) % 250, pid % 256);
    assert_non_null(mkdtemp(folder));
    snprintf(conninfo, sizeof(conninfo),
             "host=%s user=postgres dbname=llm_router", folder);
    start_guard();
    start_server();
    return 0;
}

static int end_all(void **state)
{
    (void)state;
    close(guard_pipe[1]);
    return waitpid(guard, NULL, 0) == guard ? 0 : -1;
}

/* Somebody else on the server, who may wait. */
static int64_t ask_server(const char *sql)
{
    PGconn *conn = PQconnectdb(conninfo);
    PGresult *result = PQexec(conn, sql);
    int64_t value = -1;

    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0)
        slice_to_int64(slice_of(PQgetvalue(result, 0, 0)), &value);
    else if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s", PQerrorMessage(conn));
    PQclear(result);
    PQfinish(conn);
    return value;
}

/* The process of the only router's session. */
static pid_t backend(void)
{
    return (pid_t)ask_server("SELECT coalesce(max(pid), 0) FROM "
                             "pg_stat_activity WHERE application_name = "
                             "'test router'");
}

/* Accepts and says nothing. */
static int listen_silently(void)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    inet_pton(AF_INET, silent_address, &place.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(
        bind(listener, (const struct sockaddr *)&place, sizeof(place)), 0);
    assert_int_equal(listen(listener, 16), 0);
    return listener;
}

/* --- what is tested --- */

static struct loop loop;
static struct pg *pg;
static struct loop_timer watchdog;
static int ups, downs;
static char reason[ERROR_MESSAGE_MAX]; /* of the last down */
static char heard[256];                /* "channel=payload;" */
static bool free_in_up, free_in_down, free_in_done, free_in_notified;

/* Of each query, by the order in which they were answered. */
static struct answer {
    size_t number; /* of the query */
    bool good;
    struct pg_failure failure;
    size_t rows;
    int64_t v; /* the column v of the first row */
} answers[ANSWERS_MAX];
static size_t answered, asked;

static void free_now(void)
{
    pg_free(pg);
    pg = NULL;
}

static void on_up(void *context)
{
    assert_ptr_equal(context, &loop);
    assert_true(pg_is_up(pg));
    ups++;
    if (free_in_up)
        free_now();
}

static void on_down(void *context, const struct error *err)
{
    assert_ptr_equal(context, &loop);
    assert_false(pg_is_up(pg));
    assert_int_equal(err->code, ERR_UNREACHABLE);
    snprintf(reason, sizeof(reason), "%s", err->message);
    downs++;
    if (free_in_down)
        free_now();
}

static void on_notified(void *context, struct slice channel,
                        struct slice payload)
{
    size_t size = strlen(heard);

    assert_ptr_equal(context, &loop);
    snprintf(heard + size, sizeof(heard) - size, "%.*s=%.*s;",
             SLICE_ARG(channel), SLICE_ARG(payload));
    if (free_in_notified)
        free_now();
}

static void on_done(void *context, const struct pg_rows *rows,
                    const struct pg_failure *failure)
{
    struct answer *answer = &answers[answered++];

    assert_true((rows == NULL) != (failure == NULL));
    *answer = (struct answer){.number = (size_t)(uintptr_t)context,
                              .good = rows != NULL};
    if (rows) {
        answer->rows = pg_row_count(rows);
        answer->v = pg_integer(rows, 0, "v", -1);
    } else {
        answer->failure = *failure;
    }
    if (free_in_done)
        free_now();
}

static void give_up(void *context)
{
    (void)context;
    fail_msg("nothing happens any more (%s)", reason);
}

static void turn(void)
{
    uv_run(&loop.uv, UV_RUN_NOWAIT);
    usleep(200);
}

#define AWAIT(condition)     \
    do {                     \
        while (!(condition)) \
            turn();          \
    } while (0)

static const struct pg_events events = {on_up, on_down, on_notified};

static const char odd_channel[] = "Odd \"channel\"; 'n\xC3\xA4me'.INSERT";

static struct pg_options options_for(const char *text)
{
    return (struct pg_options){
        .conninfo = text,
        .application_name = "test router",
        .channels = {"plain", odd_channel},
        .channel_count = 2,
        .connect_timeout_ms = 5000,
        .query_timeout_ms = 5000,
    };
}

static void connect_with(const struct pg_options *options)
{
    pg = pg_new(&loop, options, &events, &loop);
}

static void connect_to(const char *text)
{
    const struct pg_options options = options_for(text);

    connect_with(&options);
}

static void connect_up(void)
{
    connect_to(conninfo);
    AWAIT(ups == 1);
}

static void ask_with(const struct pg_query *query)
{
    pg_query(pg, query, on_done, (void *)(uintptr_t)asked++);
}

static void ask(const char *sql)
{
    ask_with(&(struct pg_query){.sql = sql});
}

static const struct answer *answer_to(const char *sql)
{
    size_t before = answered;

    ask(sql);
    AWAIT(answered == before + 1);
    return &answers[before];
}

static int begin(void **state)
{
    (void)state;
    loop_init(&loop);
    loop_timer_start(&loop, &watchdog, GIVE_UP_MS, give_up, NULL);
    ups = downs = 0;
    blocking_lookups = 0;
    answered = asked = 0;
    reason[0] = heard[0] = '\0';
    free_in_up = free_in_down = free_in_done = free_in_notified = false;
    return 0;
}

static int end(void **state)
{
    (void)state;
    resolver_hangs = false;
    free_now();
    loop_timer_stop(&watchdog);
    loop_release(&loop);
    assert_int_equal(blocking_lookups, 0);
    return 0;
}

/* --- queries --- */

static void on_table(void *context, const struct pg_rows *rows,
                     const struct pg_failure *failure)
{
    assert_null(failure);
    assert_int_equal(pg_row_count(rows), 2);
    assert_true(pg_has_column(rows, "name"));
    assert_false(pg_has_column(rows, "other"));
    assert_slice(pg_text(rows, 0, "name"), "Gr\xC3\xBC\xC3\x9F"
                                           "e");
    assert_slice(pg_text(rows, 1, "name"), "");
    assert_non_null(pg_text(rows, 1, "name").data);
    assert_null(pg_text(rows, 1, "number").data);
    assert_null(pg_text(rows, 0, "other").data);
    assert_null(pg_text(rows, 2, "name").data);
    assert_int_equal(pg_integer(rows, 0, "number", 7), -9007199254740993);
    assert_int_equal(pg_integer(rows, 1, "number", 7), 7);
    assert_int_equal(pg_integer(rows, 0, "name", 7), 7);
    assert_true(pg_boolean(rows, 0, "yes"));
    assert_false(pg_boolean(rows, 1, "yes"));
    assert_false(pg_boolean(rows, 0, "other"));
    *(bool *)context = true;
}

static void rows_are_read_by_the_names_of_their_columns(void **state)
{
    const struct pg_query query = {
        .sql = "SELECT * FROM (VALUES (-9007199254740993, "
               "'Gr\xC3\xBC\xC3\x9F"
               "e', true), (NULL, '', false)) "
               "AS t (number, name, yes)"};
    bool seen = false;

    (void)state;
    connect_up();
    pg_query(pg, &query, on_table, &seen);
    AWAIT(seen);
}

static void parameters_may_be_null_empty_and_utf8(void **state)
{
    const struct pg_query query = {
        .sql = "SELECT ($1::text IS NULL AND $2::text = '' AND "
               "length($3::text) = 2 AND $4::bigint = -5)::int AS v",
        .parameters = {slice_of(NULL), slice_of(""),
                       slice_of("\xC3\xA4\xF0\x9F\x99\x82"), slice_of("-5")},
        .count = 4};

    (void)state;
    connect_up();
    ask_with(&query);
    AWAIT(answered == 1);
    assert_true(answers[0].good);
    assert_int_equal(answers[0].v, 1);
}

static void parameters_are_copied_and_may_be_large(void **state)
{
    size_t size = 8 * 1024 * 1024;
    char *text = mem_alloc(size);
    struct pg_query query = {.sql = "SELECT length($1::text) AS v, $1::text",
                             .count = 1};

    (void)state;
    connect_up();
    memset(text, 'x', size);
    query.parameters[0] = slice_make(text, size);
    ask_with(&query);
    mem_free(text);
    AWAIT(answered == 1);
    assert_true(answers[0].good);
    assert_int_equal(answers[0].v, size);
}

static void queries_are_answered_in_their_order(void **state)
{
    (void)state;
    connect_up();
    for (int i = 0; i < 50; i++)
        ask(i % 10 == 3 ? "SELECT pg_sleep(0.01)" : "SELECT 1 AS v");
    assert_int_equal(pg_backlog(pg), 50);
    AWAIT(answered == 50);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(answers[i].number, i);
    assert_int_equal(pg_backlog(pg), 0);
}

static void a_line_of_queries_has_a_maximum(void **state)
{
    (void)state;
    connect_up();
    for (int i = 0; i <= PG_BACKLOG_MAX; i++)
        ask("SELECT 1 AS v");
    AWAIT(answered == PG_BACKLOG_MAX + 1);
    assert_int_equal(answers[0].number, PG_BACKLOG_MAX);
    assert_string_equal(answers[0].failure.sqlstate, "08000");
    for (size_t i = 1; i < answered; i++)
        assert_true(answers[i].good);
}

static void a_refused_query_leaves_the_connection_usable(void **state)
{
    const struct answer *answer;

    (void)state;
    connect_up();
    answer = answer_to("SELECT * FROM nowhere");
    assert_false(answer->good);
    assert_false(answer->failure.unknown);
    assert_string_equal(answer->failure.sqlstate, "42P01");
    assert_string_equal(answer->failure.message,
                        "relation \"nowhere\" does not exist");
    answer = answer_to("SELECT 5 AS v");
    assert_true(answer->good);
    assert_int_equal(answer->v, 5);
    assert_int_equal(downs, 0);
}

static void messages_are_without_the_values_of_a_query(void **state)
{
    const struct pg_query queries[] = {
        {"SELECT $1::bigint", {SLICE_LITERAL("a secret")}, 1, false},
        {"SELECT $1::jsonb", {SLICE_LITERAL("{a secret}")}, 1, false},
        {"SELECT $1::timestamptz", {SLICE_LITERAL("a secret")}, 1, false},
        {"INSERT INTO t SELECT $1 FROM generate_series(1, 2)",
         {SLICE_LITERAL("a secret")},
         1,
         false},
    };

    (void)state;
    connect_up();
    assert_true(answer_to("CREATE TEMPORARY TABLE t (v text UNIQUE)")->good);
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        ask_with(&queries[i]);
        AWAIT(answered == i + 2);
        assert_false(answers[i + 1].good);
        assert_string_not_equal(answers[i + 1].failure.message, "");
        assert_null(strstr(answers[i + 1].failure.message, "secret"));
        assert_null(strchr(answers[i + 1].failure.message, '\n'));
    }
    /* libpq remembers the last failure when the connection ends. */
    assert_false(answer_to("SELECT * FROM a_relation")->good);
    kill(backend(), SIGKILL);
    AWAIT(downs == 1);
    assert_non_null(strstr(reason, "server closed the connection"));
    assert_null(strstr(reason, "relation"));
    AWAIT(ups == 2);
}

static void an_empty_query_and_a_copy_fail_alone(void **state)
{
    const struct answer *answer;

    (void)state;
    connect_up();
    answer = answer_to("");
    assert_false(answer->good);
    assert_false(answer->failure.unknown);
    answer = answer_to("COPY (SELECT 1) TO STDOUT");
    assert_false(answer->good);
    assert_true(answer->failure.unknown);
    AWAIT(ups == 2);
    answer = answer_to("CREATE TEMPORARY TABLE t (v text)");
    assert_true(answer->good);
    assert_int_equal(answer->rows, 0);
    assert_false(answer_to("COPY t FROM STDIN")->good);
    AWAIT(ups == 3);
    assert_true(answer_to("SELECT 1 AS v")->good);
}

/* What the program writes to stderr meanwhile. */
static FILE *diverted;
static int own_stderr;

static void divert_stderr(void)
{
    diverted = tmpfile();
    own_stderr = dup(STDERR_FILENO);
    dup2(fileno(diverted), STDERR_FILENO);
}

static const char *restore_stderr(void)
{
    static char text[4096];
    size_t size;

    fflush(stderr);
    dup2(own_stderr, STDERR_FILENO);
    close(own_stderr);
    rewind(diverted);
    size = fread(text, 1, sizeof(text) - 1, diverted);
    text[size] = '\0';
    fclose(diverted);
    return text;
}

static void notices_are_logged_for_debugging_only(void **state)
{
    const char *notice = "DO $$ BEGIN RAISE WARNING 'by the way'; END $$";
    const char *log;

    (void)state;
    connect_up();
    divert_stderr();
    answer_to(notice);
    log_set_level(LOG_DEBUG);
    answer_to(notice);
    log_set_level(LOG_INFO);
    log = restore_stderr();
    assert_ptr_equal(strchr(log, '\n') + 1, strchr(log, '\0'));
    assert_non_null(strstr(log, " level=debug component=pg msg=notice "
                                "session=\"test router\" "
                                "text=\"by the way\"\n"));
}

static void the_session_is_set_up(void **state)
{
    (void)state;
    connect_up();
    assert_int_equal(
        answer_to("SELECT (current_setting('client_encoding') = 'UTF8' AND "
                  "current_setting('TimeZone') = 'UTC' AND "
                  "current_setting('application_name') = 'test router')::int "
                  "AS v")
            ->v,
        1);
}

static void what_the_text_says_itself_counts(void **state)
{
    char text[300];

    (void)state;
    snprintf(text, sizeof(text), "%s application_name=theirs", conninfo);
    connect_to(text);
    AWAIT(ups == 1);
    assert_int_equal(answer_to("SELECT (current_setting('application_name') = "
                               "'theirs')::int AS v")
                         ->v,
                     1);
}

/* --- notifications --- */

static void notifications_come_while_idle_and_while_a_query_runs(void **state)
{
    (void)state;
    connect_up();
    ask_server("SELECT pg_notify('plain', 'idle')");
    AWAIT(heard[0] != '\0');
    ask("SELECT pg_sleep(60)");
    turn();
    ask_server("SELECT pg_cancel_backend(pid) FROM pg_stat_activity, "
               "pg_notify('plain', '') WHERE application_name = "
               "'test router'");
    AWAIT(answered == 1);
    assert_string_equal(answers[0].failure.sqlstate, "57014");
    AWAIT(strlen(heard) > strlen("plain=idle;"));
    assert_string_equal(heard, "plain=idle;plain=;");
}

static void a_channel_may_have_any_name(void **state)
{
    struct pg_query query = {
        .sql = "SELECT pg_notify($1, 'own') AS v",
        .parameters = {slice_of(odd_channel)},
        .count = 1,
    };
    char expected[100];

    (void)state;
    connect_up();
    ask_with(&query);
    AWAIT(heard[0] != '\0');
    snprintf(expected, sizeof(expected), "%s=own;", odd_channel);
    assert_string_equal(heard, expected);
}

/* --- losing the server --- */

static void a_server_that_is_not_there_is_waited_for(void **state)
{
    (void)state;
    stop_server("fast");
    connect_to(conninfo);
    ask("SELECT 1 AS v");
    AWAIT(downs == 1);
    assert_int_equal(answered, 1);
    assert_false(answers[0].failure.unknown);
    assert_string_equal(answers[0].failure.sqlstate, "08000");
    assert_non_null(strstr(reason, "No such file or directory"));
    start_server();
    AWAIT(ups == 1);
    assert_int_equal(pg_reconnects(pg), 0);
    assert_int_equal(answer_to("SELECT 2 AS v")->v, 2);
    assert_int_equal(downs, 1);
}

/* One query runs, one waits. */
static void assert_lost(void)
{
    AWAIT(answered == 2);
    assert_int_equal(downs, 1);
    assert_int_equal(answers[0].number, 0);
    assert_true(answers[0].failure.unknown);
    assert_string_equal(answers[0].failure.sqlstate, "");
    assert_int_equal(answers[1].number, 1);
    assert_false(answers[1].failure.unknown);
    assert_string_equal(answers[1].failure.sqlstate, "08000");
    assert_string_equal(answers[1].failure.message, reason);
    AWAIT(ups == 2);
    assert_int_equal(pg_reconnects(pg), 1);
    assert_int_equal(answer_to("SELECT 3 AS v")->v, 3);
    assert_int_equal(downs, 1);
}

static void ask_two(void)
{
    connect_up();
    ask("SELECT pg_sleep(60)");
    ask("SELECT 1 AS v");
    AWAIT(ask_server("SELECT count(*) FROM pg_stat_activity WHERE "
                     "application_name = 'test router' AND state = "
                     "'active'") == 1);
}

static void
the_outcome_of_a_query_of_a_terminated_session_is_unknown(void **state)
{
    (void)state;
    ask_two();
    ask_server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
               "application_name = 'test router'");
    assert_lost();
    assert_string_equal(reason,
                        "terminating connection due to administrator command");
}

static void a_backend_that_is_killed_is_replaced(void **state)
{
    (void)state;
    ask_two();
    kill(backend(), SIGKILL);
    assert_lost();
}

static void a_backend_that_hangs_is_replaced_at_the_deadline(void **state)
{
    struct pg_options options = options_for(conninfo);
    pid_t stopped;

    (void)state;
    options.query_timeout_ms = 300;
    connect_with(&options);
    AWAIT(ups == 1);
    stopped = backend();
    kill(stopped, SIGSTOP);
    ask("SELECT 1 AS v");
    ask("SELECT 2 AS v");
    assert_lost();
    assert_string_equal(reason, "no answer to a query in 300 ms");
    kill(stopped, SIGCONT);
}

static void a_statement_ends_before_the_deadline_of_its_query(void **state)
{
    struct pg_options options = options_for(conninfo);

    (void)state;
    options.query_timeout_ms = 1000;
    connect_with(&options);
    AWAIT(ups == 1);
    assert_string_equal(answer_to("SELECT pg_sleep(60)")->failure.sqlstate,
                        "57014");
    assert_int_equal(answer_to("SELECT 7 AS v")->v, 7);
    assert_int_equal(downs, 0);
}

static void an_answer_that_came_while_nobody_looked_is_in_time(void **state)
{
    struct pg_options options = options_for(conninfo);

    (void)state;
    options.query_timeout_ms = 200;
    connect_with(&options);
    AWAIT(ups == 1);
    ask("SELECT 6 AS v");
    uv_run(&loop.uv, UV_RUN_NOWAIT);
    usleep(300000);
    AWAIT(answered == 1);
    assert_int_equal(answers[0].v, 6);
    assert_int_equal(downs, 0);
}

static void an_idle_session_that_ends_says_why(void **state)
{
    (void)state;
    connect_up();
    kill(backend(), SIGTERM);
    AWAIT(downs == 1);
    assert_string_equal(reason,
                        "terminating connection due to administrator command");
    AWAIT(ups == 2);
}

static int lines_with(const char *text, const char *part)
{
    int count = 0;

    for (; (text = strstr(text, part)); text++)
        count++;
    return count;
}

static void a_restart_is_sat_out_without_spinning_or_chatting(void **state)
{
    uint64_t turns, started_ms;
    const char *log;

    (void)state;
    divert_stderr();
    connect_up();
    stop_server("immediate");
    AWAIT(downs == 1);
    turns = loop.turns;
    started_ms = loop_now_ms(&loop);
    while (loop_now_ms(&loop) < started_ms + 1500)
        uv_run(&loop.uv, UV_RUN_ONCE);
    turns = loop.turns - turns;
    start_server();
    uv_update_time(&loop.uv);
    started_ms = loop_now_ms(&loop);
    AWAIT(ups == 2);
    log = restore_stderr();
    assert_true(turns < 60);
    assert_true(loop_now_ms(&loop) - started_ms < RETURN_MS);
    assert_int_equal(downs, 1);
    assert_int_equal(lines_with(log, "msg=\"connection lost\" "), 1);
    assert_int_equal(lines_with(log, "cannot connect"), 0);
    assert_int_equal(lines_with(log, "msg=connected "), 2);
}

/* --- connecting --- */

static void a_server_that_says_nothing_is_given_up(void **state)
{
    struct pg_options options;
    int listener = listen_silently();
    char text[200];

    (void)state;
    snprintf(text, sizeof(text), "host=%s user=postgres", silent_address);
    options = options_for(text);
    options.connect_timeout_ms = 200;
    connect_with(&options);
    AWAIT(downs == 1);
    assert_string_equal(reason, "not connected in 200 ms");
    close(listener);
}

static void a_name_is_resolved_beside_the_loop(void **state)
{
    (void)state;
    connect_to("postgresql://postgres@database.test/llm_router");
    AWAIT(ups == 1);
    assert_int_equal(answer_to("SELECT 4 AS v")->v, 4);
}

static void a_name_from_the_environment_is_resolved_too(void **state)
{
    (void)state;
    setenv("PGHOST", "database.test", 1);
    connect_to("user=postgres dbname=llm_router");
    AWAIT(ups == 1);
    unsetenv("PGHOST");
}

static void an_address_that_hangs_is_not_tried_first_again(void **state)
{
    struct pg_options options =
        options_for("host=two.test user=postgres dbname=llm_router");
    int listener = listen_silently();

    (void)state;
    options.connect_timeout_ms = 300;
    connect_with(&options);
    AWAIT(ups == 1);
    assert_int_equal(downs, 1);
    close(listener);
}

static void of_several_hosts_the_first_that_answers_is_taken(void **state)
{
    char text[300];

    (void)state;
    snprintf(text, sizeof(text),
             "host=/nowhere,nowhere.invalid,%s port=1,2,%d user=postgres "
             "dbname=llm_router",
             folder, PORT);
    connect_to(text);
    AWAIT(ups == 1);
    assert_int_equal(downs, 0);
}

static void an_address_beside_a_name_is_used(void **state)
{
    char text[300];

    (void)state;
    snprintf(text, sizeof(text),
             "host=/nowhere,nowhere.invalid hostaddr=,%s user=postgres "
             "dbname=llm_router",
             address);
    connect_to(text);
    AWAIT(ups == 1);
}

static void ports_that_do_not_fit_the_hosts_are_refused(void **state)
{
    (void)state;
    connect_to("host=a,b,c port=1,2");
    AWAIT(downs == 1);
    assert_non_null(strstr(reason, "3 hosts and 2 ports"));
}

static void a_name_that_hangs_blocks_nothing(void **state)
{
    struct pg_options options = options_for("host=hanging.test");

    (void)state;
    resolver_hangs = true;
    options.connect_timeout_ms = 200;
    connect_with(&options);
    AWAIT(downs == 1);
    assert_string_equal(reason, "not connected in 200 ms");
    assert_true(loop_longest_stall_ms(&loop) < 150);
}

static void a_name_that_nobody_has_is_told(void **state)
{
    (void)state;
    connect_to("host=nowhere.invalid");
    AWAIT(downs == 1);
    assert_non_null(strstr(reason, "nowhere.invalid: "));
}

static void a_refusal_is_told(void **state)
{
    char text[300];

    (void)state;
    snprintf(text, sizeof(text), "host=%s user=postgres dbname=nowhere",
             folder);
    connect_to(text);
    AWAIT(downs == 1);
    assert_non_null(strstr(reason, "database \"nowhere\" does not exist"));
}

/* A file of the server's, as its own. */
static FILE *open_data(const char *name, const char *mode)
{
    char path[100];
    struct stat data;
    FILE *file;

    snprintf(path, sizeof(path), "%s/data", folder);
    assert_int_equal(stat(path, &data), 0);
    snprintf(path, sizeof(path), "%s/data/%s", folder, name);
    file = fopen(path, mode);
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), 0600), 0);
    assert_int_equal(fchown(fileno(file), data.st_uid, data.st_gid), 0);
    return file;
}

/* Of the host database.test, with a certificate that signs itself. */
static void switch_tls_on(void)
{
    struct identity server =
        identity_make(NULL, "database.test", "DNS:database.test", DAY_S);
    FILE *key = open_data("server.key", "w");
    FILE *certificate = open_data("server.crt", "w");

    PEM_write_PrivateKey(key, server.key, NULL, NULL, 0, NULL, NULL);
    PEM_write_X509(certificate, server.certificate);
    fclose(key);
    fclose(certificate);
    identity_free(&server);
    ask_server("ALTER SYSTEM SET ssl = on");
    ask_server("SELECT pg_reload_conf()");
}

static void an_encrypted_connection_carries_large_values(void **state)
{
    struct pg_query query = {
        .sql = "SELECT length($1) * ssl::int AS v, repeat($1, 4) "
               "FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        .count = 1,
    };
    size_t size = 3 * 1024 * 1024;
    char text[200], *value = mem_alloc(size);

    (void)state;
    switch_tls_on();
    snprintf(text, sizeof(text),
             "host=database.test user=postgres dbname=llm_router "
             "sslmode=verify-full sslrootcert=%s/data/server.crt",
             folder);
    connect_to(text);
    AWAIT(ups == 1);
    memset(value, 'x', size);
    query.parameters[0] = slice_make(value, size);
    ask_with(&query);
    mem_free(value);
    AWAIT(answered == 1);
    assert_true(answers[0].good);
    assert_int_equal(answers[0].v, size);
}

static void a_password_is_used_and_a_wrong_one_is_told_without_it(void **state)
{
    FILE *access = open_data("pg_hba.conf", "w");
    char text[200];

    (void)state;
    fputs("host all careful all scram-sha-256\n"
          "local all all trust\nhost all all all trust\n",
          access);
    fclose(access);
    ask_server("SELECT pg_reload_conf()");
    ask_server("CREATE ROLE careful LOGIN PASSWORD 'hunter2'");
    snprintf(text, sizeof(text), "postgresql://careful:hunter2@%s/llm_router",
             address);
    connect_to(text);
    AWAIT(ups == 1);
    free_now();
    snprintf(text, sizeof(text), "postgresql://careful:hunter3@%s/llm_router",
             address);
    connect_to(text);
    AWAIT(downs == 1);
    assert_non_null(strstr(reason, "password authentication failed"));
    assert_null(strstr(reason, "hunter"));
}

/* --- freeing --- */

static int open_descriptors(void)
{
    DIR *list = opendir("/proc/self/fd");
    int count = 0;

    while (readdir(list))
        count++;
    closedir(list);
    return count;
}

static void it_may_be_freed_at_any_time(void **state)
{
    const char *const texts[] = {
        conninfo,
        "postgresql://postgres@database.test/llm_router",
        "host=/nowhere",
        "host=nowhere.invalid",
    };
    int descriptors;

    (void)state;
    connect_up();
    free_now();
    descriptors = open_descriptors();
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        for (int turns = 0; turns < 30; turns++) {
            connect_to(texts[i]);
            ask("SELECT 1 AS v");
            for (int done = 0; done < turns; done++)
                turn();
            ask("SELECT 1 AS v");
            ask("SELECT 2 AS v");
            if (turns % 2)
                uv_run(&loop.uv, UV_RUN_NOWAIT);
            free_now();
        }
    AWAIT(open_descriptors() == descriptors); /* once the resolver is done */
    pg_free(NULL);
}

static void nothing_is_told_after_it_was_freed(void **state)
{
    (void)state;
    connect_up();
    ask("SELECT pg_sleep(60)");
    turn();
    free_now();
    for (int i = 0; i < 10; i++)
        turn();
    assert_int_equal(answered, 0);
    assert_int_equal(downs, 0);
}

static void it_may_be_freed_in_each_of_its_callbacks(void **state)
{
    (void)state;
    free_in_up = true;
    connect_to(conninfo);
    AWAIT(!pg);
    free_in_up = false;
    free_in_down = true;
    connect_to("host=/nowhere");
    AWAIT(!pg);
    free_in_done = true; /* before it is up: the query fails */
    connect_to(conninfo);
    ask("SELECT 1 AS v");
    ask("SELECT 2 AS v");
    AWAIT(!pg);
    assert_int_equal(answered, 1);
    free_in_done = false;
    free_in_down = false;
    ups = 0;
    connect_up();
    free_in_done = true;
    ask("SELECT 1 AS v");
    ask("SELECT 2 AS v");
    AWAIT(!pg);
    assert_int_equal(answered, 2);
    free_in_done = false;
    ups = 0;
    connect_up();
    free_in_notified = true;
    ask("SELECT pg_notify('plain', 'a'), pg_notify('plain', 'b')");
    AWAIT(!pg);
    assert_string_equal(heard, "plain=a;");
}

static void ask_again(void *context, const struct pg_rows *rows,
                      const struct pg_failure *failure)
{
    int *left = context;
    const struct pg_query query = {.sql = "SELECT 1 AS v"};

    assert_non_null(rows);
    assert_null(failure);
    if (--*left > 0)
        pg_query(pg, &query, ask_again, left);
}

static void a_callback_may_ask_again(void **state)
{
    const struct pg_query query = {.sql = "SELECT 1 AS v"};
    int left = 20;

    (void)state;
    connect_up();
    pg_query(pg, &query, ask_again, &left);
    AWAIT(left == 0);
}

/* --- the text --- */

/* More than a message holds. */
#define LONG_8(text) text text text text text text text text
#define LONG LONG_8(LONG_8("12345678"))

static void a_text_that_cannot_be_right_is_refused(void **state)
{
    static const struct {
        const char *text, *part;
    } wrong[] = {
        {"host", "missing \"=\" after \"host\""},
        {"hots=/tmp", "invalid connection option \"hots\""},
        {"password=a secret dbname=x", "missing \"=\" after ... in"},
        {"password=secret hots=/tmp", "invalid connection option"},
        {"password='secret", "unterminated"},
        {"postgresql://user:secret@[::1/db", "]"},
        {"postgresql://user:%zzsecret@host/db", "percent"},
        {"postgresql://user:secret@host/db?what=1", "URI query parameter"},
        {"postgresql://user:%zzsecret" LONG "@host/db", "percent"},
        {"postgresql://user:se/cret@host/db", "%2F"},
        {"postgresql://user:1/secret@host/db", "%2F"},
        {"postgresql://user:secret/db", "%2F"},
        {"postgresql://user:x@secret@host/db", "%40"},
    };
    struct error err;
    bool has_password;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        error_clear(&err);
        assert_false(pg_conninfo_check(wrong[i].text, &has_password, &err));
        assert_int_equal(err.code, ERR_INVALID_REQUEST);
        if (!strstr(err.message, wrong[i].part))
            fail_msg("%s: %s", wrong[i].text, err.message);
        if (strstr(err.message, "secret") || strstr(err.message, "cret"))
            fail_msg("told: %s", err.message);
        assert_null(strchr(err.message, '\n'));
        /* And told as little by a connection that was never checked. */
        connect_to(wrong[i].text);
        downs = 0;
        AWAIT(downs == 1);
        assert_string_equal(reason, err.message);
        free_now();
    }
}

static void a_text_says_whether_it_holds_a_password(void **state)
{
    static const struct {
        const char *text;
        bool has_password;
    } good[] = {
        {"", false},
        {"host=/tmp dbname=x", false},
        {"host=@abstract,b port=1,2", false},
        {"postgresql:///x?host=/tmp", false},
        {"postgresql://user@[::1]:5432,b/x", false},
        {"postgresql://user:secret@host/x", true},
        {"postgresql://user:se%40c%2Fret@host/x", true},
        {"password=secret", true},
        {"postgresql:///x?password=secret", true},
        {"sslpassword=secret", true},
        {"password=''", false},
        {"dbname=a@b", false},
    };
    struct error err;
    bool has_password;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!pg_conninfo_check(good[i].text, &has_password, &err))
            fail_msg("%s: %s", good[i].text, err.message);
        assert_int_equal(has_password, good[i].has_password);
    }
}

/* When what other tests have said again and again is forgotten. */
static struct log_time tomorrow(void)
{
    return (struct log_time){.steady_ms = UINT64_MAX / 2};
}

static void no_message_holds_the_password(void **state)
{
    char texts[4][200];
    const char *log;

    (void)state;
    snprintf(texts[0], 200, "host=%s user=nobody password=hunter2", folder);
    snprintf(texts[1], 200, "postgresql://me:hunter2@%s:1/db", address);
    snprintf(texts[2], 200, "postgresql://me:hunter2@nowhere.invalid/db");
    snprintf(texts[3], 200, "host=/nowhere password='hunter2' sslmode=what");
    log_set_clock(tomorrow);
    divert_stderr();
    for (size_t i = 0; i < 4; i++) {
        connect_to(texts[i]);
        AWAIT(downs == (int)i + 1);
        assert_null(strstr(reason, "hunter2"));
        free_now();
    }
    log = restore_stderr();
    log_set_clock(NULL);
    assert_int_equal(lines_with(log, "msg=\"cannot connect\" "), 4);
    assert_null(strstr(log, "hunter2"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_are_read_by_the_names_of_their_columns),
        TEST(parameters_may_be_null_empty_and_utf8),
        TEST(parameters_are_copied_and_may_be_large),
        TEST(queries_are_answered_in_their_order),
        TEST(a_line_of_queries_has_a_maximum),
        TEST(a_refused_query_leaves_the_connection_usable),
        TEST(messages_are_without_the_values_of_a_query),
        TEST(an_empty_query_and_a_copy_fail_alone),
        TEST(notices_are_logged_for_debugging_only),
        TEST(the_session_is_set_up),
        TEST(what_the_text_says_itself_counts),
        TEST(notifications_come_while_idle_and_while_a_query_runs),
        TEST(a_channel_may_have_any_name),
        TEST(a_server_that_is_not_there_is_waited_for),
        TEST(the_outcome_of_a_query_of_a_terminated_session_is_unknown),
        TEST(a_backend_that_is_killed_is_replaced),
        TEST(a_backend_that_hangs_is_replaced_at_the_deadline),
        TEST(a_statement_ends_before_the_deadline_of_its_query),
        TEST(an_answer_that_came_while_nobody_looked_is_in_time),
        TEST(an_idle_session_that_ends_says_why),
        TEST(a_restart_is_sat_out_without_spinning_or_chatting),
        TEST(a_server_that_says_nothing_is_given_up),
        TEST(a_name_is_resolved_beside_the_loop),
        TEST(a_name_from_the_environment_is_resolved_too),
        TEST(an_address_that_hangs_is_not_tried_first_again),
        TEST(of_several_hosts_the_first_that_answers_is_taken),
        TEST(an_address_beside_a_name_is_used),
        TEST(ports_that_do_not_fit_the_hosts_are_refused),
        TEST(a_name_that_hangs_blocks_nothing),
        TEST(a_name_that_nobody_has_is_told),
        TEST(a_refusal_is_told),
        TEST(an_encrypted_connection_carries_large_values),
        TEST(a_password_is_used_and_a_wrong_one_is_told_without_it),
        TEST(it_may_be_freed_at_any_time),
        TEST(nothing_is_told_after_it_was_freed),
        TEST(it_may_be_freed_in_each_of_its_callbacks),
        TEST(a_callback_may_ask_again),
        TEST(a_text_that_cannot_be_right_is_refused),
        TEST(a_text_says_whether_it_holds_a_password),
        TEST(no_message_holds_the_password),
    };

    return cmocka_run_group_tests(tests, begin_all, end_all);
}
