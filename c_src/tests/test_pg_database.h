/* Databases for tests: a private server, and for each test a database of its
 * own, copied from one that was prepared. */
#ifndef LLM_ROUTER_TESTS_PG_DATABASE_H
#define LLM_ROUTER_TESTS_PG_DATABASE_H

#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "llm_router/base/buf.h"
#include "llm_router/base/log.h"
#include "llm_router/pg/pgmq.h"

enum { DEADLINE_MS = 30000, QUERY_TIMEOUT_MS = 20000 };

#define ID_A "aaaaaaaa-0000-4000-8000-00000000000a"
#define ID_B "bbbbbbbb-0000-4000-8000-00000000000b"

static const struct pgmq_names names = {"ai_requests", "ai_results",
                                        "ai_requests_dlq", "llm_results"};

static char server[] = "/tmp/llm_router_pgmq_XXXXXX";
static char conninfo[200];
static struct loop loop;
static struct pg *pg;
static struct loop_timer deadline;
static bool is_up;
static unsigned test_number;
static char heard[256]; /* "channel=payload " of each notification */

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

static void tell_nobody(const char *line)
{
    (void)line;
}

static void use_database(const char *name, const char *user)
{
    snprintf(conninfo, sizeof(conninfo), "host=%s user=%s dbname=%s", server,
             user, name);
}

/* Databases to copy: `bare` has nothing, `queued` pgmq, `migrated` all. */
static int start_server(void)
{
    struct error err;

    log_set_level(LOG_WARN);
    snprintf(server, sizeof(server), "/tmp/llm_router_pgmq_XXXXXX");
    if (!mkdtemp(server) ||
        shell("POSTGRES_OPTIONS='-c fsync=off' scripts/postgres start %s"
              " >/dev/null && scripts/postgres pgmq %s &&"
              " scripts/postgres psql %s -q -c 'CREATE ROLE stranger LOGIN'"
              " -c 'CREATE DATABASE bare TEMPLATE template0' &&"
              " scripts/postgres psql %s -q -d postgres"
              " -c 'CREATE DATABASE queued TEMPLATE llm_router'"
              " -c 'CREATE DATABASE migrated TEMPLATE llm_router'",
              server, server, server, server) != 0)
        return -1;
    use_database("migrated", "postgres");
    if (pgmq_migrate(conninfo, "priv", &names, tell_nobody, &err))
        return 0;
    fprintf(stderr, "%s: %s\n", err.path, err.message);
    return -1;
}

/* pgmq itself if it can be had, and the stand-in of version 1.4. */
static int start_with_pgmq(void **state)
{
    (void)state;
    return start_server();
}

static int start_with_standin(void **state)
{
    (void)state;
    setenv("LLM_ROUTER_PGMQ", "standin", 1);
    return start_server();
}

static int stop_server(void **state)
{
    (void)state;
    return shell("scripts/postgres stop %s immediate; rm -rf %s", server,
                 server);
}

/* --- a connection --- */

static void too_late(void *context)
{
    (void)context;
    fail_msg("nothing came in %d ms", DEADLINE_MS);
}

static void until_stopped(void)
{
    loop_timer_start(&loop, &deadline, DEADLINE_MS, too_late, NULL);
    loop_run(&loop);
    loop_timer_stop(&deadline);
}

static void on_up(void *context)
{
    (void)context;
    is_up = true;
    loop_stop(&loop);
}

static void on_down(void *context, const struct error *err)
{
    (void)context;
    fail_msg("the connection is down: %s", err->message);
}

static void on_notified(void *context, struct slice channel,
                        struct slice payload)
{
    size_t size = strlen(heard);

    (void)context;
    snprintf(heard + size, sizeof(heard) - size, "%.*s=%.*s ",
             SLICE_ARG(channel), SLICE_ARG(payload));
}

static struct pg *connection_new(void)
{
    static const struct pg_events events = {on_up, on_down, on_notified};
    static struct pg_options options;
    struct pg *fresh;

    options = (struct pg_options){
        .conninfo = conninfo,
        .application_name = "test",
        .channels = {"llm_results", "pgmq_ai_requests"},
        .channel_count = 2,
        .connect_timeout_ms = DEADLINE_MS,
        .query_timeout_ms = QUERY_TIMEOUT_MS,
    };
    is_up = false;
    fresh = pg_new(&loop, &options, &events, NULL);
    while (!is_up)
        until_stopped();
    return fresh;
}

static void connect_to(const char *database)
{
    use_database(database, "postgres");
    loop_init(&loop);
    heard[0] = '\0';
    pg = connection_new();
}

static void copy_of(const char *template)
{
    char name[32];

    snprintf(name, sizeof(name), "test_%u", ++test_number);
    assert_int_equal(shell("scripts/postgres psql %s -q -d postgres"
                           " -c 'CREATE DATABASE %s TEMPLATE %s'",
                           server, name, template),
                     0);
    connect_to(name);
}

static int begin_migrated(void **state)
{
    (void)state;
    copy_of("migrated");
    return 0;
}

static int begin_queued(void **state)
{
    (void)state;
    copy_of("queued");
    return 0;
}

static int begin_bare(void **state)
{
    (void)state;
    copy_of("bare");
    return 0;
}

static int end(void **state)
{
    (void)state;
    pg_free(pg);
    loop_release(&loop);
    return 0;
}

/* --- queries --- */

/* What came of the query: a line for each row with the wanted columns, "|"
 * between them and "-" for null; or the error. */
static struct {
    const char *columns[9]; /* wanted; NULL behind them */
    char text[4096];
    char sqlstate[6];
    unsigned ended, failed;
} got;

static void on_done(void *context, const struct pg_rows *rows,
                    const struct pg_failure *failure)
{
    struct buf text;

    (void)context;
    buf_init(&text, sizeof(got.text) - 1);
    got.ended++;
    got.failed += failure != NULL;
    snprintf(got.sqlstate, sizeof(got.sqlstate), "%s",
             failure ? failure->sqlstate : "");
    if (failure)
        buf_append_text(&text, failure->message);
    for (size_t row = 0; rows && row < pg_row_count(rows); row++)
        for (size_t i = 0; got.columns[i]; i++) {
            struct slice value = pg_text(rows, row, got.columns[i]);

            assert_true(pg_has_column(rows, got.columns[i]));
            buf_append_slice(&text, value.data ? value : slice_of("-"));
            buf_append_byte(&text, got.columns[i + 1] ? '|' : '\n');
        }
    snprintf(got.text, sizeof(got.text), "%.*s", SLICE_ARG(buf_slice(&text)));
    buf_release(&text);
    loop_stop(&loop);
}

#define WANT(...) \
    memcpy(got.columns, ((const char *[9]){__VA_ARGS__}), sizeof(got.columns))

static void wait_for(unsigned queries)
{
    got.ended = got.failed = 0;
    while (got.ended < queries)
        until_stopped();
}

/* Of the query that was just begun. */
static void assert_rows(const char *expected)
{
    wait_for(1);
    assert_string_equal(got.text, expected);
    assert_string_equal(got.sqlstate, "");
}

/* The column v of a query. */
static void query_sql(const char *sql)
{
    const struct pg_query query = {.sql = sql};

    WANT("v");
    pg_query(pg, &query, on_done, NULL);
    wait_for(1);
}

static void assert_sql(const char *sql, const char *expected)
{
    query_sql(sql);
    assert_string_equal(got.text, expected);
    assert_string_equal(got.sqlstate, "");
}

static void run_sql(const char *sql)
{
    const struct pg_query query = {.sql = sql};

    WANT(NULL);
    pg_query(pg, &query, on_done, NULL);
    assert_rows("");
}

#endif
