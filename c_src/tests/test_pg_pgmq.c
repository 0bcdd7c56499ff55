#include "tests/test_pg_database.h"

#include "llm_router/base/mem.h"

enum { RACERS = 8, LARGE = 10 << 20 };

#define SUCCESS                                                              \
    "{\"request_id\": \"" ID_A "\", \"agent_id\": \"agent\","                \
    " \"operation\": \"call\", \"status\": \"success\","                     \
    " \"response\": \"2, 3\", \"result\": null, \"model\": \"m\","           \
    " \"provider\": \"p\", \"usage\": {\"prompt_tokens\": 14,"               \
    " \"completion_tokens\": 9, \"total_tokens\": 23}, \"tokens_used\": 23," \
    " \"cost\": 0.25, \"cost_cents\": 25.4, \"latency_ms\": 812,"            \
    " \"attempts\": 1, \"complexity\": \"simple\", \"task_type\": \"t\","    \
    " \"error\": null, \"timestamp\": \"2026-01-31T09:30:00.123Z\"}"
#define FAILURE                                                      \
    "{\"request_id\": \"" ID_A "\", \"status\": \"failed\","         \
    " \"operation\": \"call\", \"response\": null, \"usage\": null," \
    " \"tokens_used\": null, \"cost\": 0.0, \"cost_cents\": 0.0,"    \
    " \"error\": {\"code\": \"timeout\", \"message\": \"too late\"}}"

/* An item of ID_A. */
#define ITEM(msg_id, result, more)                     \
    "{\"msg_id\": " msg_id ", \"request_id\": \"" ID_A \
    "\", \"result\": " result more "}"

static const struct pgmq_tables all_tables = {true, true, true};
static const struct pgmq_tables no_tables;

static void assert_refused(const char *sqlstate)
{
    wait_for(1);
    assert_string_equal(got.sqlstate, sqlstate);
}

static void begin_send(const char *message)
{
    WANT("msg_id");
    pgmq_send(pg, &names, slice_of(message), 0, on_done, NULL);
}

static void send_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        begin_send("{\"request_id\": \"" ID_A "\"}");
        wait_for(1);
    }
}

static void begin_finish(const struct pgmq_tables *tables, const char *items)
{
    WANT("msg_id");
    pgmq_finish(pg, &names, tables, slice_of(items), on_done, NULL);
}

static void finish(const char *items, const char *expected)
{
    begin_finish(&all_tables, items);
    assert_rows(expected);
}

static void begin_read(size_t max_bytes, bool answers)
{
    const struct pgmq_reading reading = {10, 60, max_bytes, answers};

    pgmq_read(pg, &names, &reading, on_done, NULL);
}

#define COUNT(relation) "SELECT count(*) AS v FROM " relation

/* --- looking --- */

static const char *const probe_columns[] = {
    "pgmq",    "requests", "results", "dead_letters", "answers", "jobs",
    "metrics", "faults",   NULL};

static void begin_probe(void)
{
    memcpy(got.columns, probe_columns, sizeof(probe_columns));
    pgmq_probe(pg, &names, on_done, NULL);
}

static void a_database_that_has_all_is_probed_as_such(void **state)
{
    (void)state;
    begin_probe();
    assert_rows("t|t|t|t|t|t|t|-\n");
}

static void what_an_empty_database_lacks_is_probed(void **state)
{
    (void)state;
    begin_probe();
    assert_rows("f|f|f|f|f|f|f|ai_results is missing,"
                " job_results is missing, llm_metrics is missing\n");
}

static void what_is_forbidden_is_probed_without_an_error(void **state)
{
    (void)state;
    run_sql("REVOKE ALL ON SCHEMA pgmq FROM public");
    run_sql("GRANT SELECT, INSERT ON llm_metrics TO stranger");
    run_sql("GRANT SELECT, INSERT, UPDATE ON job_results TO stranger");
    run_sql("SET ROLE stranger");
    begin_probe();
    assert_rows("t|t|t|t|f|t|f|ai_results INSERT is not granted,"
                " ai_results SELECT is not granted,"
                " ai_results UPDATE is not granted,"
                " llm_metrics UPDATE is not granted\n");
}

static void
a_table_that_would_refuse_the_rows_is_probed_as_missing(void **state)
{
    (void)state;
    run_sql("ALTER TABLE ai_results DROP CONSTRAINT ai_results_pkey");
    run_sql("CREATE UNIQUE INDEX ON ai_results (request_id)"
            " WHERE status = 'success'");
    run_sql("ALTER TABLE ai_results ALTER response TYPE varchar(255)");
    run_sql("ALTER TABLE job_results ALTER status SET NOT NULL");
    run_sql("ALTER TABLE job_results ADD serial bigserial NOT NULL");
    run_sql("ALTER TABLE llm_metrics ADD tenant integer NOT NULL");
    run_sql("ALTER TABLE llm_metrics ALTER model SET NOT NULL");
    begin_probe();
    assert_rows("t|t|t|t|f|t|f|ai_results request_id is not unique,"
                " ai_results response has another type,"
                " llm_metrics model may not be null,"
                " llm_metrics tenant may not be null\n");
}

static void a_table_out_of_reach_is_probed_as_missing(void **state)
{
    (void)state;
    run_sql("CREATE SCHEMA aside");
    run_sql("ALTER TABLE job_results SET SCHEMA aside");
    begin_probe();
    assert_rows("t|t|t|t|t|f|t|job_results is missing\n");
}

static void metrics_count_what_waits(void **state)
{
    (void)state;
    WANT("depth", "oldest_s");
    pgmq_metrics(pg, &names, on_done, NULL);
    assert_rows("0|-\n");
    send_many(3);
    run_sql("UPDATE pgmq.q_ai_requests"
            " SET enqueued_at = now() - '90 seconds'::interval"
            " WHERE msg_id = 2");
    WANT("depth");
    pgmq_metrics(pg, &names, on_done, NULL);
    assert_rows("3\n");
    WANT("oldest_s");
    pgmq_metrics(pg, &names, on_done, NULL);
    wait_for(1);
    assert_in_range(atol(got.text), 90, 120);
    WANT("visible");
    pgmq_metrics(pg, &names, on_done, NULL);
    wait_for(1);
    assert_true(!strcmp(got.text, "3\n") || !strcmp(got.text, "-\n"));
}

/* --- taking --- */

static void what_was_sent_is_read_once_in_order(void **state)
{
    (void)state;
    begin_send("{\"request_id\": \"" ID_A "\", \"n\": 1}");
    assert_rows("1\n");
    begin_send("{\"n\": 2}");
    assert_rows("2\n");
    run_sql("UPDATE pgmq.q_ai_requests SET enqueued_at = enqueued_at"
            " WHERE msg_id = 1");
    WANT("msg_id", "read_ct", "request_id", "message", "bytes");
    begin_read(62, true);
    assert_rows("1|1|" ID_A "|{\"n\": 1, \"request_id\": \"" ID_A "\"}|62\n"
                "2|1|-|{\"n\": 2}|8\n");
    begin_read(1000, true);
    assert_rows("");
}

static void a_message_with_a_delay_is_read_later(void **state)
{
    (void)state;
    WANT("msg_id");
    pgmq_send(pg, &names, slice_of("{}"), 3600, on_done, NULL);
    assert_rows("1\n");
    begin_read(1000, true);
    assert_rows("");
}

static void what_is_not_json_is_not_sent(void **state)
{
    (void)state;
    begin_send("{\"a\": \"\\u0000\"}");
    assert_refused("22P05");
    begin_send("{");
    assert_refused("22P02");
    assert_sql(COUNT("pgmq.q_ai_requests"), "0\n");
}

static void messages_that_are_no_requests_are_read_all_the_same(void **state)
{
    static const char *const messages[] = {"\"text\"",
                                           "[1]",
                                           "null",
                                           "7",
                                           "{\"request_id\": 7}",
                                           "{\"request_id\": \"no UUID\"}",
                                           "{\"request_id\": null}"};

    (void)state;
    for (size_t i = 0; i < sizeof(messages) / sizeof(*messages); i++) {
        begin_send(messages[i]);
        wait_for(1);
    }
    run_sql("INSERT INTO pgmq.q_ai_requests (vt, message)"
            " VALUES (now(), NULL),"
            " (now(), jsonb_build_object('request_id', repeat('a', 129)))");
    WANT("msg_id", "message", "request_id", "answered");
    begin_read(100, true);
    assert_rows("1|\"text\"|-|-\n"
                "2|[1]|-|-\n"
                "3|null|-|-\n"
                "4|7|-|-\n"
                "5|{\"request_id\": 7}|-|-\n"
                "6|{\"request_id\": \"no UUID\"}|no UUID|-\n"
                "7|{\"request_id\": null}|-|-\n"
                "8|null|-|-\n"
                "9|-|-|-\n");
}

static void a_message_that_is_too_large_comes_without_its_text(void **state)
{
    char *message = mem_alloc(LARGE + 100);

    (void)state;
    snprintf(message, LARGE + 100,
             "{\"request_id\": \"" ID_A "\", \"a\": \"%0*d\"}", LARGE, 0);
    begin_send(message);
    assert_rows("1\n");
    mem_free(message);
    WANT("msg_id", "bytes", "message", "request_id");
    begin_read(LARGE, false);
    assert_rows("1|10485823|-|" ID_A "\n");
}

static void the_wait_is_since_it_was_sent(void **state)
{
    (void)state;
    send_many(2);
    run_sql("UPDATE pgmq.q_ai_requests"
            " SET enqueued_at = now() + '1 hour'::interval WHERE msg_id = 1");
    run_sql("UPDATE pgmq.q_ai_requests"
            " SET enqueued_at = now() - '1 hour'::interval WHERE msg_id = 2");
    WANT("waited_ms");
    begin_read(1000, false);
    wait_for(1);
    assert_memory_equal(got.text, "0\n", 2);
    assert_in_range(atol(got.text + 2), 3600000, 3630000);
}

static void every_read_counts(void **state)
{
    (void)state;
    send_many(1);
    for (int i = 1; i <= 3; i++) {
        char expected[16];

        WANT("read_ct");
        begin_read(1000, false);
        snprintf(expected, sizeof(expected), "%d\n", i);
        assert_rows(expected);
        WANT("msg_id");
        pgmq_return(pg, &names, slice_of("[{\"msg_id\": 1, \"seconds\": 0}]"),
                    on_done, NULL);
        assert_rows("1\n");
    }
}

static void
what_is_extended_stays_away_and_what_is_lost_is_not_told(void **state)
{
    (void)state;
    send_many(3);
    WANT("msg_id");
    begin_read(1000, false);
    assert_rows("1\n2\n3\n");
    run_sql("UPDATE pgmq.q_ai_requests SET vt = now() - '1 second'::interval");
    run_sql("SELECT pgmq.archive('ai_requests'::text, 2::bigint)");
    WANT("msg_id", "read_ct");
    pgmq_extend(pg, &names, slice_of("[3, 2, 1, 99]"), 100, on_done, NULL);
    assert_rows("1|1\n3|1\n");
    assert_sql("SELECT bool_and(vt > now() + '90 seconds'::interval) AS v"
               " FROM pgmq.q_ai_requests",
               "t\n");
    pgmq_extend(pg, &names, slice_of("[]"), 100, on_done, NULL);
    assert_rows("");
}

static void each_message_is_returned_after_its_own_time(void **state)
{
    (void)state;
    send_many(3);
    begin_read(1000, false);
    wait_for(1);
    WANT("msg_id", "read_ct");
    pgmq_return(pg, &names,
                slice_of("[{\"msg_id\": 3, \"seconds\": 0},"
                         " {\"msg_id\": 1, \"seconds\": 500},"
                         " {\"msg_id\": 4, \"seconds\": 0}]"),
                on_done, NULL);
    assert_rows("1|1\n3|1\n");
    assert_sql("SELECT round(extract(epoch FROM vt - now()) / 100) AS v"
               " FROM pgmq.q_ai_requests ORDER BY msg_id",
               "5\n1\n0\n");
    WANT("msg_id");
    begin_read(1000, false);
    assert_rows("3\n");
}

/* --- finishing --- */

static void a_finished_message_is_stored_everywhere(void **state)
{
    (void)state;
    send_many(2);
    finish("[" ITEM("2", SUCCESS,
                    ", \"answer\": \"8301\", \"input\": {\"a\": [1]},"
                    " \"workflow\": \"w\", \"instance_id\": \"i\","
                    " \"job_id\": \"j\", \"dead\": null") "]",
           "2\n");
    assert_sql("SELECT msg_id AS v FROM pgmq.a_ai_requests", "2\n");
    assert_sql("SELECT msg_id AS v FROM pgmq.q_ai_requests", "1\n");
    assert_sql("SELECT message = '" SUCCESS "' AS v FROM pgmq.q_ai_results",
               "t\n");
    assert_sql(COUNT("pgmq.q_ai_requests_dlq"), "0\n");
    assert_sql("SELECT concat_ws('|', request_id, agent_id, status, response,"
               " result = '" SUCCESS "', answer, model, provider, tokens_used,"
               " cost_cents, error IS NULL, processed_at <= now()) AS v"
               " FROM ai_results",
               ID_A "|agent|success|2, 3|t|\\x8301|m|p|23|25.4|t|t\n");
    assert_sql("SELECT concat_ws('|', id, workflow, instance_id, job_id,"
               " status, input, output = '" SUCCESS "', error IS NULL,"
               " tokens_used, cost_cents, duration_ms, inserted_at <= now(),"
               " updated_at <= now(), completed_at <= now()) AS v"
               " FROM job_results",
               ID_A "|w|i|j|success|{\"a\": [1]}|t|t|23|25|812|t|t|t\n");
    assert_sql("SELECT concat_ws('|', request_id, agent_id, complexity,"
               " task_type, model, prompt_tokens, completion_tokens, tokens,"
               " cost, latency_ms, timestamp <= now()) AS v FROM llm_metrics",
               ID_A "|agent|simple|t|m|14|9|23|0.25|812|t\n");
    assert_string_equal(heard, "pgmq_ai_requests= pgmq_ai_requests= "
                               "llm_results=" ID_A " ");
}

static void a_job_without_names_gets_those_of_the_result(void **state)
{
    (void)state;
    send_many(1);
    finish("[" ITEM("1", SUCCESS, ", \"workflow\": null") "]", "1\n");
    assert_sql("SELECT concat_ws('|', workflow, instance_id, job_id,"
               " input IS NULL) AS v FROM job_results",
               "call|agent|1|t\n");
}

static void a_failure_is_stored_and_buried(void **state)
{
    (void)state;
    send_many(2);
    finish(
        "[" ITEM(
            "1", FAILURE,
            ", \"dead\": {\"read_ct\": 5}") ","
                                            " {\"msg_id\": 2, \"request_id\": "
                                            "null, \"result\": {\"status\":"
                                            " \"failed\"}, \"dead\": "
                                            "{\"message\": \"no object\"}}]",
        "1\n2\n");
    assert_sql("SELECT message AS v FROM pgmq.q_ai_requests_dlq"
               " ORDER BY msg_id",
               "{\"read_ct\": 5}\n{\"message\": \"no object\"}\n");
    assert_sql(COUNT("pgmq.q_ai_results"), "2\n");
    assert_sql("SELECT concat_ws('|', status, error, cost_cents,"
               " answer IS NULL) AS v FROM ai_results",
               "failed|too late|0.0|t\n");
    assert_sql("SELECT concat_ws('|', status, error, tokens_used, cost_cents)"
               " AS v FROM job_results",
               "failed|too late|0\n");
    assert_sql(COUNT("llm_metrics"), "1\n");
    assert_string_equal(heard, "pgmq_ai_requests= pgmq_ai_requests= "
                               "llm_results=" ID_A " ");
}

static void what_somebody_else_archived_is_not_sent(void **state)
{
    (void)state;
    send_many(2);
    run_sql("SELECT pgmq.archive('ai_requests'::text, 1::bigint)");
    finish("[" ITEM("1", SUCCESS, ", \"dead\": {}") "]", "");
    finish("[]", "");
    assert_sql(COUNT("pgmq.q_ai_results"), "0\n");
    assert_sql(COUNT("pgmq.q_ai_requests_dlq"), "0\n");
    assert_sql(COUNT("ai_results"), "0\n");
    assert_sql(COUNT("job_results"), "0\n");
    assert_sql(COUNT("llm_metrics"), "0\n");
    finish("[" ITEM("1", SUCCESS, "") ", " ITEM("2", SUCCESS, "") "]", "2\n");
    assert_sql(COUNT("pgmq.q_ai_results"), "1\n");
    assert_sql("SELECT job_id AS v FROM job_results", "2\n");
    assert_string_equal(heard, "pgmq_ai_requests= pgmq_ai_requests= "
                               "llm_results=" ID_A " ");
}

static void of_racing_finishers_one_sends(void **state)
{
    struct pg *racers[RACERS];

    (void)state;
    send_many(2);
    for (size_t i = 0; i < RACERS; i++)
        racers[i] = connection_new();
    WANT("msg_id");
    for (size_t i = 0; i < RACERS; i++)
        pgmq_finish(racers[i], &names, &all_tables,
                    slice_of("[" ITEM("1", SUCCESS, "") "]"), on_done, NULL);
    wait_for(RACERS);
    for (size_t i = 0; i < RACERS; i++)
        pg_free(racers[i]);
    assert_sql(COUNT("pgmq.q_ai_results"), "1\n");
    assert_sql(COUNT("llm_metrics"), "1\n");
    assert_sql(COUNT("pgmq.a_ai_requests"), "1\n");
}

/* In the one order and in the other: that must not be a deadlock. */
static void two_ids_that_many_finish_are_stored_once(void **state)
{
    struct pg *racers[RACERS];
    char items[300];

    (void)state;
    send_many(2 * RACERS);
    for (size_t i = 0; i < RACERS; i++)
        racers[i] = connection_new();
    WANT("msg_id");
    for (size_t i = 0; i < RACERS; i++) {
        snprintf(items, sizeof(items),
                 "[{\"msg_id\": %zu, \"request_id\": \"%s\","
                 " \"result\": {\"status\": \"success\"}},"
                 " {\"msg_id\": %zu, \"request_id\": \"%s\","
                 " \"result\": {\"status\": \"success\"}}]",
                 2 * i + 1, i % 2 ? ID_A : ID_B, 2 * i + 2,
                 i % 2 ? ID_B : ID_A);
        pgmq_finish(racers[i], &names, &all_tables, slice_of(items), on_done,
                    NULL);
    }
    wait_for(RACERS);
    assert_int_equal(got.failed, 0);
    for (size_t i = 0; i < RACERS; i++)
        pg_free(racers[i]);
    assert_sql("SELECT request_id AS v FROM ai_results ORDER BY 1",
               ID_A "\n" ID_B "\n");
    assert_sql(COUNT("pgmq.q_ai_results"), "16\n");
    assert_sql(COUNT("llm_metrics"), "16\n");
}

static void one_bad_item_and_nothing_is_done(void **state)
{
    static const struct {
        const char *item, *sqlstate;
    } bad[] = {
        {"{\"msg_id\": 2, \"request_id\": \"no UUID\", \"result\": {}}",
         "22P02"},
        {ITEM("2", "\"text\"", ""), "22023"},
        {ITEM("2", "{\"response\": \"\\u0000\"}", ""), "22P05"},
        {ITEM("2", "{\"tokens_used\": \"many\"}", ""), "22P02"},
        {"{\"msg_id\": 2, \"request_id\": \"" ID_B "\","
         " \"result\": {\"status\": \"odd\"}}",
         "23514"},
        {"{\"msg_id\": 2, \"request_id\": \"" ID_B "\","
         " \"result\": {}, \"answer\": \"8\"}",
         "22023"},
    };
    char items[1200];

    (void)state;
    send_many(2);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        snprintf(items, sizeof(items), "[%s, %s]", ITEM("1", FAILURE, ""),
                 bad[i].item);
        begin_finish(&all_tables, items);
        assert_refused(bad[i].sqlstate);
    }
    assert_sql(COUNT("pgmq.q_ai_requests"), "2\n");
    assert_sql(COUNT("pgmq.q_ai_results"), "0\n");
    assert_sql(COUNT("ai_results"), "0\n");
    assert_string_equal(heard, "pgmq_ai_requests= pgmq_ai_requests= ");
}

static void without_a_results_queue_the_message_stays(void **state)
{
    (void)state;
    send_many(1);
    run_sql("DROP TABLE pgmq.q_ai_results");
    begin_finish(&all_tables, "[" ITEM("1", SUCCESS, "") "]");
    assert_refused("42P01");
    assert_sql(COUNT("pgmq.q_ai_requests"), "1\n");
    assert_sql(COUNT("ai_results"), "0\n");
}

static void two_results_of_one_id_in_one_call_keep_the_success(void **state)
{
    (void)state;
    send_many(3);
    finish("[" ITEM("1", FAILURE, "") ", " ITEM(
               "2", SUCCESS, "") ","
                                 " " ITEM("3", FAILURE, "") "]",
           "1\n2\n3\n");
    assert_sql("SELECT status AS v FROM ai_results", "success\n");
    assert_sql("SELECT status || job_id AS v FROM job_results", "success2\n");
    assert_sql("SELECT message ->> 'status' AS v FROM pgmq.q_ai_results"
               " ORDER BY msg_id",
               "failed\nsuccess\nfailed\n");
    assert_sql(COUNT("llm_metrics"), "3\n");
}

static void a_success_may_follow_a_failure_and_then_stays(void **state)
{
    (void)state;
    send_many(4);
    finish("[" ITEM("1", FAILURE, "") "]", "1\n");
    assert_sql("SELECT status AS v FROM ai_results", "failed\n");
    finish("[" ITEM("2", SUCCESS, ", \"answer\": \"8302\"") "]", "2\n");
    finish("[" ITEM("3", FAILURE, "") "]", "3\n");
    finish("[" ITEM("4", SUCCESS, ", \"answer\": \"8304\"") "]", "4\n");
    assert_sql("SELECT concat_ws('|', status, error, tokens_used, answer)"
               " AS v FROM ai_results",
               "success|23|\\x8302\n");
    assert_sql("SELECT concat_ws('|', status, error, tokens_used, job_id)"
               " AS v FROM job_results",
               "success|23|2\n");
    assert_sql(COUNT("pgmq.q_ai_results"), "4\n");
}

static void an_answer_that_is_sent_again_is_not_stored_again(void **state)
{
    (void)state;
    send_many(1);
    finish("[" ITEM("1", SUCCESS, ", \"again\": true") "]", "1\n");
    assert_sql(COUNT("pgmq.q_ai_results"), "1\n");
    assert_sql(COUNT("pgmq.a_ai_requests"), "1\n");
    assert_sql(COUNT("ai_results"), "0\n");
    assert_sql(COUNT("job_results"), "0\n");
    assert_sql(COUNT("llm_metrics"), "0\n");
    assert_string_equal(heard, "pgmq_ai_requests= llm_results=" ID_A " ");
}

static void numbers_that_do_not_fit_become_the_nearest(void **state)
{
    (void)state;
    send_many(1);
    finish("[" ITEM("1",
                    "{\"status\": \"success\", \"tokens_used\": 1e30,"
                    " \"usage\": {\"prompt_tokens\": -5,"
                    " \"completion_tokens\": 2147483648.5},"
                    " \"cost\": 1e-9, \"cost_cents\": 9e99,"
                    " \"latency_ms\": 2147483647}",
                    "") "]",
           "1\n");
    assert_sql("SELECT concat_ws('|', tokens_used, cost_cents, duration_ms)"
               " AS v FROM job_results",
               "2147483647|2147483647|2147483647\n");
    assert_sql("SELECT concat_ws('|', prompt_tokens, completion_tokens, cost)"
               " AS v FROM llm_metrics",
               "0|2147483647|1e-09\n");
}

static void what_is_not_there_is_left_out(void **state)
{
    (void)state;
    run_sql("SELECT pgmq.create('ai_requests')");
    run_sql("SELECT pgmq.create('ai_results')");
    run_sql("SELECT pgmq.create('ai_requests_dlq')");
    send_many(1);
    begin_finish(&no_tables, "[" ITEM("1", FAILURE,
                                      ", \"dead\": {}, \"answer\": \"\"") "]");
    assert_rows("1\n");
    assert_sql(COUNT("pgmq.q_ai_results"), "1\n");
    assert_sql(COUNT("pgmq.q_ai_requests_dlq"), "1\n");
    send_many(1);
    begin_read(1000, false);
    WANT("msg_id");
    assert_rows("2\n");
}

static void each_table_is_written_by_itself(void **state)
{
    static const char *const tables[] = {"llm_metrics", "job_results",
                                         "ai_results"};
    char items[1000], expected[16], count[100];

    (void)state;
    send_many(8);
    for (int i = 0; i < 8; i++) {
        const struct pgmq_tables some = {i & 4, i & 2, i & 1};

        run_sql("TRUNCATE ai_results, job_results, llm_metrics");
        snprintf(items, sizeof(items),
                 "[{\"msg_id\": %d, \"request_id\":"
                 " \"" ID_A "\", \"result\": %s}]",
                 i + 1, SUCCESS);
        snprintf(expected, sizeof(expected), "%d\n", i + 1);
        begin_finish(&some, items);
        assert_rows(expected);
        for (int table = 0; table < 3; table++) {
            snprintf(count, sizeof(count), COUNT("%s"), tables[table]);
            assert_sql(count, i & 1 << table ? "1\n" : "0\n");
        }
    }
}

static void nobody_is_told_without_a_channel(void **state)
{
    struct pgmq_names silent = names;

    (void)state;
    silent.channel = "";
    send_many(1);
    WANT("msg_id");
    pgmq_finish(pg, &silent, &all_tables,
                slice_of("[" ITEM("1", SUCCESS, "") "]"), on_done, NULL);
    assert_rows("1\n");
    assert_sql(COUNT("pgmq.q_ai_results"), "1\n");
    assert_string_equal(heard, "pgmq_ai_requests= ");
}

/* --- asking --- */

static void an_earlier_answer_comes_with_the_request(void **state)
{
    (void)state;
    run_sql("INSERT INTO ai_results (request_id, status, result) VALUES"
            " ('" ID_A "', 'success', '{\"stored\": 1}'),"
            " ('" ID_B "', 'failed', '{\"stored\": 2}'),"
            " ('cccccccc-0000-4000-8000-00000000000c', 'success', NULL)");
    begin_send("{\"request_id\": \"AAAAAAAA-0000-4000-8000-00000000000A\"}");
    wait_for(1);
    begin_send("{\"request_id\": \"" ID_B "\"}");
    wait_for(1);
    begin_send("{\"request_id\": \"cccccccc-0000-4000-8000-00000000000c\"}");
    wait_for(1);
    begin_send("{\"request_id\": \"{" ID_A "}\"}");
    wait_for(1);
    begin_send("{\"request_id\": \"" ID_A "\\n\"}");
    wait_for(1);
    WANT("msg_id", "answered");
    begin_read(1000, true);
    assert_rows("1|{\"stored\": 1}\n2|-\n3|-\n4|-\n5|-\n");
}

static void stored_answers_are_found_by_their_ids(void **state)
{
    (void)state;
    run_sql("INSERT INTO ai_results (request_id, status, answer) VALUES"
            " ('" ID_A "', 'success', '\\x8361'),"
            " ('" ID_B "', 'failed', '\\x'),"
            " ('cccccccc-0000-4000-8000-00000000000c', 'success', NULL)");
    WANT("request_id", "answer");
    pgmq_answers(pg,
                 slice_of("[\"AAAAAAAA-0000-4000-8000-00000000000A\","
                          " \"cccccccc-0000-4000-8000-00000000000c\","
                          " \"dddddddd-0000-4000-8000-00000000000d\"]"),
                 on_done, NULL);
    assert_rows(ID_A "|8361\n");
    pgmq_answers(pg, slice_of("[\"" ID_B "\"]"), on_done, NULL);
    assert_rows(ID_B "|\n");
    pgmq_answers(pg, slice_of("[]"), on_done, NULL);
    assert_rows("");
}

#define MIGRATED(test) \
    cmocka_unit_test_setup_teardown(test, begin_migrated, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIGRATED(a_database_that_has_all_is_probed_as_such),
        cmocka_unit_test_setup_teardown(what_an_empty_database_lacks_is_probed,
                                        begin_bare, end),
        MIGRATED(what_is_forbidden_is_probed_without_an_error),
        MIGRATED(a_table_that_would_refuse_the_rows_is_probed_as_missing),
        MIGRATED(a_table_out_of_reach_is_probed_as_missing),
        MIGRATED(metrics_count_what_waits),
        MIGRATED(what_was_sent_is_read_once_in_order),
        MIGRATED(a_message_with_a_delay_is_read_later),
        MIGRATED(what_is_not_json_is_not_sent),
        MIGRATED(messages_that_are_no_requests_are_read_all_the_same),
        MIGRATED(a_message_that_is_too_large_comes_without_its_text),
        MIGRATED(the_wait_is_since_it_was_sent),
        MIGRATED(every_read_counts),
        MIGRATED(what_is_extended_stays_away_and_what_is_lost_is_not_told),
        MIGRATED(each_message_is_returned_after_its_own_time),
        MIGRATED(a_finished_message_is_stored_everywhere),
        MIGRATED(a_job_without_names_gets_those_of_the_result),
        MIGRATED(a_failure_is_stored_and_buried),
        MIGRATED(what_somebody_else_archived_is_not_sent),
        MIGRATED(of_racing_finishers_one_sends),
        MIGRATED(two_ids_that_many_finish_are_stored_once),
        MIGRATED(one_bad_item_and_nothing_is_done),
        MIGRATED(without_a_results_queue_the_message_stays),
        MIGRATED(two_results_of_one_id_in_one_call_keep_the_success),
        MIGRATED(a_success_may_follow_a_failure_and_then_stays),
        MIGRATED(an_answer_that_is_sent_again_is_not_stored_again),
        MIGRATED(numbers_that_do_not_fit_become_the_nearest),
        MIGRATED(each_table_is_written_by_itself),
        MIGRATED(nobody_is_told_without_a_channel),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_left_out,
                                        begin_queued, end),
        MIGRATED(an_earlier_answer_comes_with_the_request),
        MIGRATED(stored_answers_are_found_by_their_ids),
    };
    int failed = cmocka_run_group_tests_name("pgmq", tests, start_with_pgmq,
                                             stop_server);

    return failed + cmocka_run_group_tests_name(
                        "the stand-in", tests, start_with_standin, stop_server);
}
