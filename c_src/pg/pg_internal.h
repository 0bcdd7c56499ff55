/* Between the parts of a connection: what libpq is told, the addresses of the
 * server, and what results say. */
#ifndef PG_INTERNAL_H
#define PG_INTERNAL_H

#include <libpq-fe.h>

#include "llm_router/base/buf.h"
#include "llm_router/pg/connection.h"

enum { PG_MESSAGE_MAX = sizeof(((struct pg_failure *)NULL)->message) };

/* --- conninfo.c --- */

/* What libpq would connect with: the text, the environment, the service file.
 * PQconninfoFree it; nothing is connected. */
PQconninfoOption *conninfo_effective(const char *conninfo);
const char *conninfo_value(const PQconninfoOption *options,
                           const char *keyword); /* "" when not set */

/* Lists separated by commas, an element for each address, as libpq wants
 * them. */
struct pg_addresses {
    struct buf hosts, hostaddrs, ports;
};

/* Begins to connect; NULL without memory. */
PGconn *conninfo_start(const struct pg_options *options,
                       const struct pg_addresses *addresses);

/* --- addresses.c --- */

/* The hosts of a connection string on their way to addresses. */
struct pg_lookup;

/* `found` comes once, after this returned; unless pg_lookup_is_done is true
 * already, then never. NULL and an error for what cannot be looked up. */
struct pg_lookup *pg_lookup_new(struct loop *loop, const char *conninfo,
                                void (*found)(void *context), void *context,
                                struct error *err);
bool pg_lookup_is_done(const struct pg_lookup *lookup);

/* At any time; NULL is allowed. */
void pg_lookup_free(struct pg_lookup *lookup);

/* Starts with the address number `first`, counted round: whoever could not
 * connect in time tries another one first. False when there is none. The caller
 * releases the addresses in any case. */
bool pg_lookup_addresses(const struct pg_lookup *lookup, size_t first,
                         struct pg_addresses *addresses, struct error *err);
void pg_addresses_release(struct pg_addresses *addresses);

/* --- rows.c --- */

struct pg_rows {
    const PGresult *result;
};

/* One line of valid UTF-8, cut to `size` bytes with the NUL. */
void pg_one_line(char *line, size_t size, const char *text);

bool pg_succeeded(const PGresult *result);
/* The server ends the session with it. */
bool pg_is_fatal(const PGresult *result);
/* The server's answer to a query, a good or a bad one: neither the end of the
 * session, nor an error of libpq's, nor COPY. */
bool pg_is_answer(const PGresult *result);
/* Of a result that is no success. */
void pg_failure_of(const PGresult *result, struct pg_failure *failure);

#endif
