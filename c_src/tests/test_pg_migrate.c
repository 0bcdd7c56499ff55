#include "tests/test_pg_database.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char told[2048];
static struct error fault;
static char database[32]; /* of the test */

static void tell(const char *line)
{
    size_t size = strlen(told);

    snprintf(told + size, sizeof(told) - size, "%s\n", line);
}

static bool migrate_as(const char *user, const char *directory)
{
    told[0] = '\0';
    snprintf(database, sizeof(database), "test_%u", test_number);
    use_database(database, user);
    return pgmq_migrate(conninfo, directory, &names, tell, &fault);
}

static void migrate(const char *expected)
{
    if (!migrate_as("postgres", "priv"))
        fail_msg("%s: %s", fault.path, fault.message);
    assert_string_equal(told, expected);
}

static void assert_probed(const char *expected)
{
    WANT("answers", "jobs", "metrics", "faults");
    pgmq_probe(pg, &names, on_done, NULL);
    assert_rows(expected);
}

static void tables_queues_and_trigger_are_made(void **state)
{
    (void)state;
    migrate("001_tables.sql: loaded\n"
            "002_wake.sql: loaded\n"
            "queue ai_requests: created\n"
            "queue ai_results: created\n"
            "queue ai_requests_dlq: created\n"
            "queue ai_requests: wakes up who listens\n");
    assert_probed("t|t|t|-\n");
    assert_sql("SELECT version || name AS v FROM llm_router_migrations"
               " WHERE applied_at <= now() ORDER BY version",
               "1001_tables.sql\n2002_wake.sql\n");
    WANT("msg_id");
    pgmq_send(pg, &names, slice_of("{}"), 0, on_done, NULL);
    assert_rows("1\n");
    assert_sql("SELECT 1 AS v", "1\n");
    assert_string_equal(heard, "pgmq_ai_requests= ");
}

static void a_second_time_nothing_changes(void **state)
{
    (void)state;
    run_sql("CREATE TABLE before AS SELECT oid FROM pg_trigger"
            " UNION ALL SELECT oid FROM pg_class");
    migrate("001_tables.sql: was loaded before\n"
            "002_wake.sql: was loaded before\n"
            "queue ai_requests: is there\n"
            "queue ai_results: is there\n"
            "queue ai_requests_dlq: is there\n"
            "queue ai_requests: wakes up who listens\n");
    assert_sql("SELECT count(*) AS v FROM before WHERE NOT EXISTS"
               " (SELECT FROM pg_trigger t WHERE t.oid = before.oid)"
               " AND NOT EXISTS"
               " (SELECT FROM pg_class c WHERE c.oid = before.oid)",
               "0\n");
}

static void several_at_once_wait_for_each_other(void **state)
{
    enum { SEVERAL = 4 };
    pid_t children[SEVERAL];

    (void)state;
    run_sql("SELECT pg_advisory_lock("
            "hashtextextended('llm_router_migrations', 0))");
    for (int i = 0; i < SEVERAL; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit(migrate_as("postgres", "priv") ? 0 : 1);
    }
    for (int tries = 0; strcmp(got.text, "4\n") != 0; tries++) {
        assert_true(tries < 500);
        usleep(20000);
        query_sql("SELECT count(*) AS v FROM pg_locks"
                  " WHERE locktype = 'advisory' AND NOT granted");
    }
    assert_sql("SELECT count(*) AS v FROM pg_class"
               " WHERE relname = 'llm_router_migrations'",
               "0\n");
    run_sql("SELECT pg_advisory_unlock_all()");
    for (int i = 0; i < SEVERAL; i++) {
        int status;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    assert_probed("t|t|t|-\n");
    assert_sql("SELECT count(*) AS v FROM llm_router_migrations", "2\n");
}

static void the_files_can_be_loaded_by_hand(void **state)
{
    (void)state;
    migrate_as("postgres", "nowhere");
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            shell("scripts/postgres psql %s -q -d %s"
                  " -c 'SET client_min_messages = error'"
                  " -f priv/sql/001_tables.sql"
                  " -f priv/sql/002_wake.sql"
                  " -c \"SELECT pgmq.create('ai_requests')\""
                  " -c \"SELECT llm_router_watch('ai_requests')\" >/dev/null",
                  server, database),
            0);
    assert_probed("t|t|t|-\n");
    migrate("001_tables.sql: loaded\n"
            "002_wake.sql: loaded\n"
            "queue ai_requests: is there\n"
            "queue ai_results: created\n"
            "queue ai_requests_dlq: created\n"
            "queue ai_requests: wakes up who listens\n");
}

static void a_trigger_that_was_switched_off_is_made_anew(void **state)
{
    (void)state;
    run_sql("ALTER TABLE pgmq.q_ai_requests DISABLE TRIGGER llm_router_wake");
    assert_true(migrate_as("postgres", "priv"));
    run_sql("SELECT pgmq.send('ai_requests'::text, '{}'::jsonb)");
    assert_sql("SELECT 1 AS v", "1\n");
    assert_string_equal(heard, "pgmq_ai_requests= ");
}

static void tables_of_another_program_get_what_they_lack(void **state)
{
    (void)state;
    run_sql("CREATE TABLE ai_results (id bigserial PRIMARY KEY,"
            " request_id uuid NOT NULL, response text, model text,"
            " tokens_used bigint, cost_cents numeric(12, 4))");
    run_sql("CREATE TABLE job_results (id uuid PRIMARY KEY,"
            " workflow varchar NOT NULL DEFAULT '', status text)");
    run_sql("INSERT INTO ai_results (request_id, response)"
            " VALUES ('" ID_A "', 'kept')");
    WANT("answers");
    pgmq_probe(pg, &names, on_done, NULL);
    assert_rows("f\n");
    assert_true(migrate_as("postgres", "priv"));
    assert_non_null(strstr(told, "nothing will be stored in:"
                                 " job_results workflow may not be null\n"));
    assert_probed("t|f|t|job_results workflow may not be null\n");
    assert_sql("SELECT response AS v FROM ai_results", "kept\n");
    run_sql("SELECT pgmq.send('ai_requests'::text, '{}'::jsonb)");
    WANT("msg_id");
    pgmq_finish(pg, &names, &(struct pgmq_tables){.answers = true},
                slice_of("[{\"msg_id\": 1, \"request_id\": \"" ID_A "\","
                         " \"result\": {\"status\": \"success\","
                         " \"response\": \"new\"}}]"),
                on_done, NULL);
    assert_rows("1\n");
    assert_sql("SELECT id || response AS v FROM ai_results", "1new\n");
}

static void without_pgmq_it_says_what_to_do(void **state)
{
    (void)state;
    assert_false(migrate_as("stranger", "priv"));
    assert_int_equal(fault.code, ERR_INVALID_REQUEST);
    assert_non_null(strstr(fault.message, "pgmq 1.4 or later is not in"));
    assert_non_null(strstr(fault.message, "CREATE EXTENSION pgmq"));
    assert_string_equal(told, "");
    assert_sql("SELECT count(*) AS v FROM pg_class"
               " WHERE relname = 'llm_router_migrations'",
               "0\n");
}

static void the_extension_is_created_where_it_can_be_had(void **state)
{
    bool can_be_had;

    (void)state;
    query_sql("SELECT count(*) AS v FROM pg_available_extensions"
              " WHERE name = 'pgmq'");
    can_be_had = !strcmp(got.text, "1\n");
    assert_int_equal(migrate_as("postgres", "priv"), can_be_had);
    assert_probed(can_be_had
                      ? "t|t|t|-\n"
                      : "f|f|f|ai_results is missing, job_results is missing,"
                        " llm_metrics is missing\n");
}

static void who_does_not_own_the_queue_gets_no_trigger(void **state)
{
    (void)state;
    run_sql("SELECT pgmq.create('ai_requests')");
    run_sql("SELECT pgmq.create('ai_results')");
    run_sql("SELECT pgmq.create('ai_requests_dlq')");
    run_sql("GRANT USAGE ON SCHEMA pgmq TO stranger");
    run_sql("GRANT CREATE ON SCHEMA public TO stranger");
    assert_true(migrate_as("stranger", "priv"));
    assert_non_null(strstr(told, "\nqueue ai_requests: is polled, nothing wakes"
                                 " up who listens: "));
}

static void write_file(const char *name, const char *text)
{
    char path[300];
    FILE *file;

    snprintf(path, sizeof(path), "%s/priv/sql/%s", server, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_bad_file_is_named_and_leaves_nothing(void **state)
{
    char directory[200];

    (void)state;
    shell("mkdir -p %s/priv/sql", server);
    snprintf(directory, sizeof(directory), "%s/priv", server);
    assert_false(migrate_as("postgres", directory));
    assert_non_null(strstr(fault.path, "/priv/sql"));
    assert_string_equal(fault.message, "has no file 001_*.sql");
    write_file("001_good.sql", "CREATE TABLE IF NOT EXISTS good ();");
    write_file("002_bad.sql", "CREATE TABLE bad (); CREATE TABLE bad ();");
    write_file("003_old.sql~", "of an editor");
    write_file("004_unreached.sql", "after a gap");
    assert_false(migrate_as("postgres", directory));
    assert_int_equal(fault.code, ERR_INVALID_REQUEST);
    assert_non_null(strstr(fault.path, "/priv/sql/002_bad.sql"));
    assert_string_equal(fault.message, "relation \"bad\" already exists");
    write_file("002_bad.sql", "CREATE TABLE bad ();"
                              " DROP TABLE llm_router_migrations;");
    assert_false(migrate_as("postgres", directory));
    assert_sql("SELECT relname AS v FROM pg_class WHERE relname IN"
               " ('good', 'bad', 'llm_router_migrations') ORDER BY 1",
               "good\nllm_router_migrations\n");
    write_file("002_bad.sql", "CREATE TABLE bad ();");
    assert_true(migrate_as("postgres", directory));
    assert_sql("SELECT name AS v FROM llm_router_migrations ORDER BY version",
               "001_good.sql\n002_bad.sql\n");
}

static void a_queue_that_cannot_be_made_is_named(void **state)
{
    static const char name[] =
        "a_name_of_more_characters_than_a_queue_may_have";
    struct pgmq_names long_names = names;
    char results[64];

    (void)state;
    snprintf(results, sizeof(results), "%s_", name);
    long_names.results = results;
    migrate_as("postgres", "nowhere");
    assert_false(pgmq_migrate(conninfo, "priv", &long_names, tell, &fault));
    assert_int_equal(fault.code, ERR_INVALID_REQUEST);
    assert_string_equal(fault.path, results);
}

static void a_server_that_is_not_there_is_unreachable(void **state)
{
    (void)state;
    assert_false(pgmq_migrate("host=/nowhere password=secret", "priv", &names,
                              tell, &fault));
    assert_int_equal(fault.code, ERR_UNREACHABLE);
    assert_non_null(strstr(fault.message, "/nowhere"));
    assert_null(strchr(fault.message, '\n'));
    assert_null(strstr(fault.message, "secret"));
}

#define QUEUED(test) cmocka_unit_test_setup_teardown(test, begin_queued, end)
#define MIGRATED(test) \
    cmocka_unit_test_setup_teardown(test, begin_migrated, end)
#define BARE(test) cmocka_unit_test_setup_teardown(test, begin_bare, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUED(tables_queues_and_trigger_are_made),
        MIGRATED(a_second_time_nothing_changes),
        QUEUED(several_at_once_wait_for_each_other),
        QUEUED(the_files_can_be_loaded_by_hand),
        MIGRATED(a_trigger_that_was_switched_off_is_made_anew),
        QUEUED(tables_of_another_program_get_what_they_lack),
        BARE(without_pgmq_it_says_what_to_do),
        BARE(the_extension_is_created_where_it_can_be_had),
        QUEUED(who_does_not_own_the_queue_gets_no_trigger),
        QUEUED(a_bad_file_is_named_and_leaves_nothing),
        QUEUED(a_queue_that_cannot_be_made_is_named),
        cmocka_unit_test(a_server_that_is_not_there_is_unreachable),
    };
    int failed = cmocka_run_group_tests_name("pgmq", tests, start_with_pgmq,
                                             stop_server);

    return failed + cmocka_run_group_tests_name(
                        "the stand-in", tests, start_with_standin, stop_server);
}
