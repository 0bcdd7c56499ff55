/* The statements of the queue: pgmq, the tables beside it, and migrations.
 *
 * Each function is one query, so one transaction. Columns are read by name
 * (pgmq 1.10 inserted one in the middle), arguments are cast (pgmq.send is
 * overloaded), names of queues are parameters. Works with pgmq 1.4 and later,
 * as extension or plain SQL. */
#ifndef LLM_ROUTER_PG_PGMQ_H
#define LLM_ROUTER_PG_PGMQ_H

#include "llm_router/base/buf.h"
#include "llm_router/pg/connection.h"

enum {
    PGMQ_READ_MAX = 100,
    PGMQ_SECONDS_MAX = 86400, /* of a visibility timeout */
};

/* As the configuration checked them. */
struct pgmq_names {
    const char *requests, *results, *dead_letters;
    const char *channel; /* told the id of each stored result; "": none */
};

/* Which of the tables beside the queue can be written. */
struct pgmq_tables {
    bool answers; /* ai_results */
    bool jobs;    /* job_results */
    bool metrics; /* llm_metrics */
};

/* --- looking --- */

/* One row. Booleans: `pgmq` (the functions are there), `requests`, `results`,
 * `dead_letters` (the queues are there), `answers`, `jobs`, `metrics` (the
 * tables can be written: they have the columns, an index on the id, nothing
 * else that must be filled, and SELECT, INSERT and UPDATE are granted). And
 * `faults`: what is wrong with the tables, for the log; null if nothing is.
 * Never fails for what is missing or forbidden. */
void pgmq_probe(struct pg *pg, const struct pgmq_names *names, pg_done *done,
                void *context);

/* One row about the requests: `depth`, `oldest_s` (null: empty), `visible`
 * (null before pgmq 1.5). Counts all that wait: not for every second. */
void pgmq_metrics(struct pg *pg, const struct pgmq_names *names, pg_done *done,
                  void *context);

/* --- taking --- */

struct pgmq_reading {
    uint32_t count;   /* 1..PGMQ_READ_MAX */
    uint32_t seconds; /* visibility timeout */
    size_t max_bytes; /* of a message; larger ones come without their text */
    bool answers;     /* the table is there: look for earlier answers */
};
/* Rows by rising msg_id: `msg_id`, `read_ct`, `waited_ms` (since it was sent,
 * a delay included: pgmq does not keep that), `bytes`, `message` (any JSON;
 * null: over max_bytes), `request_id` (as in the message, if it is a string of
 * at most 128 bytes), `answered` (the result message of that id that is stored
 * as a success), `answer` (its BEAM term in hexadecimal digits, if the message
 * has a `reply_to`). */
void pgmq_read(struct pg *pg, const struct pgmq_names *names,
               const struct pgmq_reading *reading, pg_done *done,
               void *context);

/* Sets the visibility timeout of messages: `ids` is JSON, [1, 2, 3]. A row
 * (`msg_id`, `read_ct`) for each that is still in the queue. */
void pgmq_extend(struct pg *pg, const struct pgmq_names *names,
                 struct slice ids, uint32_t seconds, pg_done *done,
                 void *context);

/* The same with a time for each: [{"msg_id": 1, "seconds": 30}]. */
void pgmq_return(struct pg *pg, const struct pgmq_names *names,
                 struct slice ids, pg_done *done, void *context);

/* --- finishing --- */

/* `items` is a JSON array, an object for each message:
 *
 *   msg_id      of the queue
 *   result      the message for the results queue, an object; what the tables
 *               get is read out of it. A number that an integer column cannot
 *               hold becomes the nearest that it can
 *   answer      the BEAM term as hexadecimal digits, or null
 *   request_id  a UUID, or null: then nothing goes to the tables
 *   input       the request as it came, for job_results; or null
 *   workflow, instance_id, job_id   text or null: then the operation, the
 *               agent_id, the msg_id
 *   dead        the message for the dead letters, or null
 *   again       true: an answer that is stored already; only `result` is sent
 *
 * One transaction: archives them, and of those that were there to archive
 * sends the result and the dead letter, writes the rows, and tells the
 * channel. Returns a row (`msg_id`) for each of those; others were finished by
 * somebody else. Of two results under one id a success stays, of two successes
 * the first.
 *
 * Nothing is done if one item cannot be: a queue is missing, a table refuses a
 * row, or an item is not as above (sqlstate 22...). 40001 and 40P01 (two
 * transactions in each other's way) are worth another try as it is. */
void pgmq_finish(struct pg *pg, const struct pgmq_names *names,
                 const struct pgmq_tables *tables, struct slice items,
                 pg_done *done, void *context);

/* --- asking --- */

/* Puts a message (a JSON object) on the requests, visible after `delay`
 * seconds. One row: `msg_id`. */
void pgmq_send(struct pg *pg, const struct pgmq_names *names,
               struct slice message, uint32_t delay, pg_done *done,
               void *context);

/* Stored answers: `ids` is JSON, ["uuid", ...]. A row (`request_id` in lower
 * case, `answer` in hexadecimal digits) for each that is stored with its term,
 * of failures too. */
void pgmq_answers(struct pg *pg, struct slice ids, pg_done *done,
                  void *context);

/* --- migrations --- */

/* Brings the database up to date: the extension pgmq if its functions are
 * missing; the files of `directory`/sql by their numbers (001_tables.sql), each
 * in a transaction and once, by the table llm_router_migrations; the queues
 * that are missing; the trigger that wakes up who listens. Several at once wait
 * for each other.
 *
 * Tells each step on `tell`; so too what does not stop it: no permission for
 * the trigger, a table of another program that cannot be used. Otherwise
 * ERR_UNREACHABLE, or ERR_INVALID_REQUEST with the file or queue as path.
 * Blocks: for --migrate only. */
bool pgmq_migrate(const char *conninfo, const char *directory,
                  const struct pgmq_names *names,
                  void (*tell)(const char *line), struct error *err);

#endif
