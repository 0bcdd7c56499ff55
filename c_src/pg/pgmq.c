#include "llm_router/pg/pgmq.h"

#include <inttypes.h>
#include <stdio.h>

enum { NUMBER_SIZE = 24 };

static struct slice number_put(char text[NUMBER_SIZE], uint64_t value)
{
    return slice_make(text,
                      (size_t)snprintf(text, NUMBER_SIZE, "%" PRIu64, value));
}

void pgmq_metrics(struct pg *pg, const struct pgmq_names *names, pg_done *done,
                  void *context)
{
    /* Through JSON: the last column is there since 1.5. */
    const struct pg_query query = {
        .sql = "SELECT m.queue_length AS depth,"
               " m.oldest_msg_age_sec AS oldest_s,"
               " to_jsonb(m) ->> 'queue_visible_length' AS visible"
               " FROM pgmq.metrics($1::text) AS m",
        .parameters = {slice_of(names->requests)},
        .count = 1,
        .fixed = true,
    };

    pg_query(pg, &query, done, context);
}

/* A message may be any JSON, null and SQL's null too. Its text is made once:
 * OFFSET 0 keeps the subquery from being put where it is used. */
#define READ(answered)                                                     \
    "SELECT m.msg_id, m.read_ct,"                                          \
    " greatest(0, extract(epoch FROM clock_timestamp() - m.enqueued_at)"   \
    " * 1000)::bigint AS waited_ms,"                                       \
    " octet_length(b.text) AS bytes,"                                      \
    " CASE WHEN octet_length(b.text) <= $4::bigint THEN b.text END"        \
    " AS message, i.request_id" answered                                   \
    " FROM pgmq.read($1::text, $2::integer, $3::integer) AS m,"            \
    " LATERAL (SELECT coalesce(m.message, 'null')::text AS text OFFSET 0)" \
    " AS b,"                                                               \
    " LATERAL (SELECT CASE"                                                \
    " WHEN jsonb_typeof(m.message -> 'request_id') = 'string'"             \
    " AND octet_length(m.message ->> 'request_id') <= 128"                 \
    " THEN m.message ->> 'request_id' END AS request_id OFFSET 0) AS i"    \
    " ORDER BY m.msg_id"

/* CASE: a text that is no UUID must not be cast. */
#define SUCCESS                                               \
    " FROM ai_results AS a WHERE a.status = 'success'"        \
    " AND a.request_id = CASE WHEN i.request_id ~"            \
    " '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$'" \
    " THEN i.request_id::uuid END"
#define ANSWERED                                       \
    ", (SELECT a.result::text" SUCCESS ") AS answered" \
    ", (SELECT encode(a.answer, 'hex')" SUCCESS        \
    " AND m.message -> 'reply_to' IS NOT NULL) AS answer"

void pgmq_read(struct pg *pg, const struct pgmq_names *names,
               const struct pgmq_reading *reading, pg_done *done, void *context)
{
    char seconds[NUMBER_SIZE], count[NUMBER_SIZE], max_bytes[NUMBER_SIZE];
    const struct pg_query query = {
        .sql = reading->answers ? READ(ANSWERED) : READ(""),
        .parameters = {slice_of(names->requests),
                       number_put(seconds, reading->seconds),
                       number_put(count, reading->count),
                       number_put(max_bytes, reading->max_bytes)},
        .count = 4,
        .fixed = true,
    };

    pg_query(pg, &query, done, context);
}

void pgmq_extend(struct pg *pg, const struct pgmq_names *names,
                 struct slice ids, uint32_t seconds, pg_done *done,
                 void *context)
{
    char number[NUMBER_SIZE];
    const struct pg_query query = {
        .sql = "SELECT m.msg_id, m.read_ct FROM"
               " (SELECT value::bigint AS id"
               " FROM jsonb_array_elements_text($2::jsonb) ORDER BY 1) AS i,"
               " pgmq.set_vt($1::text, i.id, $3::integer) AS m",
        .parameters = {slice_of(names->requests), ids,
                       number_put(number, seconds)},
        .count = 3,
        .fixed = true,
    };

    pg_query(pg, &query, done, context);
}

void pgmq_return(struct pg *pg, const struct pgmq_names *names,
                 struct slice ids, pg_done *done, void *context)
{
    const struct pg_query query = {
        .sql = "SELECT m.msg_id, m.read_ct FROM"
               " (SELECT * FROM jsonb_to_recordset($2::jsonb)"
               " AS r(msg_id bigint, seconds integer) ORDER BY 1) AS i,"
               " pgmq.set_vt($1::text, i.msg_id, i.seconds) AS m",
        .parameters = {slice_of(names->requests), ids},
        .count = 2,
        .fixed = true,
    };

    pg_query(pg, &query, done, context);
}

void pgmq_send(struct pg *pg, const struct pgmq_names *names,
               struct slice message, uint32_t delay, pg_done *done,
               void *context)
{
    char number[NUMBER_SIZE];
    const struct pg_query query = {
        .sql = "SELECT s.msg_id FROM"
               " pgmq.send($1::text, $2::jsonb, $3::integer) AS s(msg_id)",
        .parameters = {slice_of(names->requests), message,
                       number_put(number, delay)},
        .count = 3,
        .fixed = true,
    };

    pg_query(pg, &query, done, context);
}

void pgmq_answers(struct pg *pg, struct slice ids, pg_done *done, void *context)
{
    const struct pg_query query = {
        .sql = "SELECT a.request_id, encode(a.answer, 'hex') AS answer"
               " FROM ai_results AS a WHERE a.request_id = ANY(ARRAY("
               "SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb)))"
               " AND a.answer IS NOT NULL",
        .parameters = {ids},
        .count = 1,
        .fixed = true,
    };

    pg_query(pg, &query, done, context);
}
