/* A connection to PostgreSQL that is kept up: libpq on the loop.
 *
 * Nothing here blocks: names are resolved by the loop's threads and handed to
 * libpq as `hostaddr`, the rest is PQconnectPoll and PQsendQueryParams. A
 * connection that is lost, or whose server does not answer a query in time, is
 * made anew after a pause (100 ms, doubled up to 2 s, with jitter), for ever.
 * The session has client_encoding UTF8, TimeZone UTC, the application name,
 * tcp_user_timeout of the query's deadline, and a statement_timeout a little
 * shorter than that: a query that takes too long is mostly refused (57014).
 *
 * It logs that it is connected, lost, or cannot connect; the last two at most
 * once a minute.
 *
 * Queries wait in a line and are sent one at a time. A query without BEGIN is
 * a transaction of its own. */
#ifndef LLM_ROUTER_PG_CONNECTION_H
#define LLM_ROUTER_PG_CONNECTION_H

#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"
#include "llm_router/loop/loop.h"

enum { PG_PARAMETERS_MAX = 8, PG_CHANNELS_MAX = 4, PG_BACKLOG_MAX = 4096 };

struct pg;

/* All text is borrowed and must outlive the connection. */
struct pg_options {
    const char *conninfo; /* "host=... dbname=..." or a URL */
    const char *application_name;
    const char *channels[PG_CHANNELS_MAX]; /* to LISTEN on; any text */
    size_t channel_count;
    uint64_t connect_timeout_ms;
    uint64_t query_timeout_ms; /* from sending a query to its end */
};

struct pg_events {
    /* Connected, and listening on the channels. */
    void (*up)(void *context);
    /* After each `up`, and once when the first attempts fail; then every
     * minute at most while it cannot be reached. No password is in it. */
    void (*down)(void *context, const struct error *err);
    /* NOTIFY, of others or our own. May be NULL. */
    void (*notified)(void *context, struct slice channel, struct slice payload);
};

/* Checks the text without connecting; ERR_INVALID_REQUEST says what is wrong.
 * `*has_password`: the text holds one. */
bool pg_conninfo_check(const char *conninfo, bool *has_password,
                       struct error *err);

/* Begins to connect. Never NULL. */
struct pg *pg_new(struct loop *loop, const struct pg_options *options,
                  const struct pg_events *events, void *context);

/* At any time, also in its own callbacks; no callback comes after it, not of
 * queries either. Handles close in the next turns of the loop. NULL is
 * allowed. */
void pg_free(struct pg *pg);

bool pg_is_up(const struct pg *pg);
/* Queries that wait or run. */
size_t pg_backlog(const struct pg *pg);

/* Why a query failed. */
struct pg_failure {
    /* The connection was lost, or the deadline passed, while it ran: whether
     * it was carried out is not known. */
    bool unknown;
    char sqlstate[6];  /* of the server's refusal; "" otherwise */
    char message[240]; /* UTF-8, one line, without the query and its values */
};

struct pg_rows; /* lent during the callback */

/* Is it the connection's fault, which is made anew then? */
static inline bool pg_is_lost(const struct pg_failure *failure)
{
    return failure->unknown || strncmp(failure->sqlstate, "08", 2) == 0;
}

/* Once for each query; `rows` is NULL on failure, `failure` on success. May
 * call pg_query and pg_free. */
typedef void pg_done(void *context, const struct pg_rows *rows,
                     const struct pg_failure *failure);

/* `sql` has parameters $1.. and is borrowed until the callback; parameters are
 * text and copied; data NULL is the SQL null. Without a NUL. A query that
 * waits when the connection is lost, that comes while it is down, or when
 * PG_BACKLOG_MAX are there, fails at the end of this turn with `unknown` false
 * and sqlstate "08000"; whoever asks again in that callback goes round for
 * ever. */
struct pg_query {
    const char *sql;
    struct slice parameters[PG_PARAMETERS_MAX];
    size_t count;
    /* The text of `sql` never changes: it is planned once for a connection, and
     * known again by its address. */
    bool fixed;
};
void pg_query(struct pg *pg, const struct pg_query *query, pg_done *done,
              void *context);

/* Rows are read by the names of their columns. */
size_t pg_row_count(const struct pg_rows *rows);
bool pg_has_column(const struct pg_rows *rows, const char *column);
/* Empty with data NULL: null, or no such column. Lends. */
struct slice pg_text(const struct pg_rows *rows, size_t row,
                     const char *column);
int64_t pg_integer(const struct pg_rows *rows, size_t row, const char *column,
                   int64_t otherwise);
bool pg_boolean(const struct pg_rows *rows, size_t row, const char *column);

/* Times it connected again after the first time. */
uint64_t pg_reconnects(const struct pg *pg);

#endif
