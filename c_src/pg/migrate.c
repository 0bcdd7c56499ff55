#include <dirent.h>
#include <libpq-fe.h>
#include <stdio.h>

#include "llm_router/base/arena.h"
#include "llm_router/config/files.h"
#include "llm_router/pg/pgmq.h"
#include "pg/pgmq_internal.h"

#define CONNECT_TIMEOUT_S "10"

enum {
    FILE_BYTES_MAX = 1 << 20,
    FILE_NAME_SIZE = 64,
    LINE_SIZE = 512,
};

struct migration {
    PGconn *connection;
    const struct pgmq_names *names;
    void (*tell)(const char *line);
};

__attribute__((format(printf, 2, 3))) static void say(const struct migration *m,
                                                      const char *format, ...)
{
    char line[LINE_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    m->tell(line);
}

/* "is there already, skipping": no news, and libpq would print it. */
static void ignore_notice(void *context, const char *message)
{
    (void)context;
    (void)message;
}

static int first_line(const char *text)
{
    return (int)strcspn(text, "\n");
}

/* --- statements --- */

/* `values` of $1.., NULL behind them. The result is the caller's. */
static PGresult *ask(const struct migration *m, const char *sql,
                     const char *const *values)
{
    int count = 0;

    while (values[count])
        count++;
    return PQexecParams(m->connection, sql, count, NULL, values, NULL, NULL, 0);
}

static bool fault_set(const struct migration *m, const PGresult *result,
                      struct error *err)
{
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (!text)
        text = PQerrorMessage(m->connection);
    return error_set(err,
                     PQstatus(m->connection) == CONNECTION_OK
                         ? ERR_INVALID_REQUEST
                         : ERR_UNREACHABLE,
                     "%.*s", first_line(text), text);
}

/* Takes the result. */
static bool succeeded(const struct migration *m, PGresult *result,
                      struct error *err)
{
    ExecStatusType status = PQresultStatus(result);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;

    if (!ok)
        fault_set(m, result, err);
    PQclear(result);
    return ok;
}

static bool run(const struct migration *m, const char *sql, struct error *err)
{
    return succeeded(m, PQexec(m->connection, sql), err);
}

static bool run_with(const struct migration *m, const char *sql,
                     const char *value, struct error *err)
{
    return succeeded(m, ask(m, sql, (const char *[]){value, NULL}), err);
}

/* The row of pgmq_probe; NULL: `err` says why. */
static PGresult *probe(const struct migration *m, struct error *err)
{
    const char *const values[] = {m->names->requests, m->names->results,
                                  m->names->dead_letters, NULL};
    PGresult *result = ask(m, PGMQ_PROBE, values);

    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        return result;
    fault_set(m, result, err);
    PQclear(result);
    return NULL;
}

/* "": null. Lent by the result. */
static const char *probed(const PGresult *result, const char *column)
{
    return PQgetvalue(result, 0, PQfnumber(result, column));
}

static bool is_there(const PGresult *result, const char *column)
{
    return probed(result, column)[0] == 't';
}

/* --- steps --- */

static bool pgmq_is_there(const struct migration *m, bool *there,
                          struct error *err)
{
    PGresult *result = probe(m, err);

    if (!result)
        return false;
    *there = is_there(result, "pgmq");
    PQclear(result);
    return true;
}

static bool make_pgmq(const struct migration *m, struct error *err)
{
    struct error reason;
    bool there;

    if (!pgmq_is_there(m, &there, err))
        return false;
    if (there)
        return true;
    if (!run(m, "CREATE EXTENSION IF NOT EXISTS pgmq", &reason))
        return error_set(
            err, reason.code,
            "pgmq 1.4 or later is not in the database (%s): CREATE "
            "EXTENSION pgmq, or load its SQL",
            reason.message);
    if (!pgmq_is_there(m, &there, err))
        return false;
    if (!there)
        return error_set(err, ERR_INVALID_REQUEST,
                         "pgmq is older than 1.4: ALTER EXTENSION pgmq UPDATE");
    say(m, "extension pgmq: created");
    return true;
}

/* A file's number is the first three characters of its name. What fails is
 * rolled back by the end of the connection. */
static bool load_text(const struct migration *m, const char *sql,
                      const char *name, struct error *err)
{
    return run(m, "BEGIN", err) && run(m, sql, err) &&
           run_with(m,
                    "INSERT INTO llm_router_migrations (version, name)"
                    " VALUES (left($1::text, 3)::integer, $1::text)"
                    " ON CONFLICT DO NOTHING",
                    name, err) &&
           run(m, "COMMIT", err);
}

static bool load_file(const struct migration *m, const char *folder,
                      const char *name, struct error *err)
{
    struct arena arena;
    struct slice path, text;
    bool ok;

    arena_init(&arena, 0);
    path = arena_printf(&arena, "%s/%s", folder, name);
    ok = file_read(&arena, path.data, FILE_BYTES_MAX, FILE_ANY, &text, err) &&
         (load_text(m, text.data, name, err) || error_in(err, path.data));
    arena_release(&arena);
    if (ok)
        say(m, "%s: loaded", name);
    return ok;
}

/* Somebody dropped them, or restored the database without them. */
static bool lacks_tables(const struct migration *m)
{
    struct error ignored;
    PGresult *found = probe(m, &ignored);
    bool lacks = found && probed(found, "faults")[0] != '\0';

    PQclear(found);
    return lacks;
}

static bool load_once(const struct migration *m, const char *folder,
                      const char *name, struct error *err)
{
    PGresult *result = ask(m,
                           "SELECT FROM llm_router_migrations"
                           " WHERE version = left($1::text, 3)::integer",
                           (const char *[]){name, NULL});
    bool loaded = PQntuples(result) > 0;

    if (!succeeded(m, result, err))
        return false;
    if (!loaded || lacks_tables(m))
        return load_file(m, folder, name, err);
    say(m, "%s: was loaded before", name);
    return true;
}

static bool is_file_of(const char *name, unsigned number)
{
    char prefix[16];
    size_t size = strlen(name);

    snprintf(prefix, sizeof(prefix), "%03u_", number);
    return size < FILE_NAME_SIZE && slice_starts_with(slice_of(name), prefix) &&
           !strcmp(name + size - 4, ".sql");
}

static bool find_file(const char *folder, unsigned number,
                      char name[FILE_NAME_SIZE])
{
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    bool found = false;

    if (!directory)
        return false;
    while (!found && (entry = readdir(directory))) {
        found = is_file_of(entry->d_name, number);
        if (found)
            memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
    }
    closedir(directory);
    return found;
}

static bool load_files(const struct migration *m, const char *folder,
                       struct error *err)
{
    char name[FILE_NAME_SIZE];
    unsigned number = 1;

    if (!find_file(folder, number, name))
        return error_at(err, ERR_INVALID_REQUEST, folder,
                        "has no file 001_*.sql");
    if (!run(m,
             "CREATE TABLE IF NOT EXISTS llm_router_migrations ("
             "version integer PRIMARY KEY, name text NOT NULL,"
             " applied_at timestamptz NOT NULL DEFAULT now())",
             err))
        return false;
    do {
        if (!load_once(m, folder, name, err))
            return false;
    } while (find_file(folder, ++number, name));
    return true;
}

static bool make_queue(const struct migration *m, const char *name, bool there,
                       struct error *err)
{
    if (!there && !run_with(m, "SELECT pgmq.create($1::text)", name, err))
        return error_in(err, name);
    say(m, "queue %s: %s", name, there ? "is there" : "created");
    return true;
}

static bool make_queues(const struct migration *m, struct error *err)
{
    const struct pgmq_names *names = m->names;
    PGresult *found = probe(m, err);
    bool ok;

    if (!found)
        return false;
    ok = make_queue(m, names->requests, is_there(found, "requests"), err) &&
         make_queue(m, names->results, is_there(found, "results"), err) &&
         make_queue(m, names->dead_letters, is_there(found, "dead_letters"),
                    err);
    PQclear(found);
    return ok;
}

/* Without the trigger it works, only later: by polling. */
static void watch(const struct migration *m)
{
    struct error err;

    if (run_with(m, "SELECT llm_router_watch($1::text)", m->names->requests,
                 &err))
        say(m, "queue %s: wakes up who listens", m->names->requests);
    else
        say(m, "queue %s: is polled, nothing wakes up who listens: %s",
            m->names->requests, err.message);
}

static bool judge_tables(const struct migration *m, struct error *err)
{
    PGresult *found = probe(m, err);

    if (!found)
        return false;
    if (probed(found, "faults")[0] != '\0')
        say(m, "nothing will be stored in: %s", probed(found, "faults"));
    PQclear(found);
    return true;
}

static bool migrate(const struct migration *m, const char *directory,
                    struct error *err)
{
    struct arena arena;
    bool ok;

    arena_init(&arena, 0);
    /* Held until the connection ends. */
    ok = run(m,
             "SELECT pg_advisory_lock("
             "hashtextextended('llm_router_migrations', 0))",
             err) &&
         make_pgmq(m, err) &&
         load_files(m, arena_printf(&arena, "%s/sql", directory).data, err) &&
         make_queues(m, err);
    arena_release(&arena);
    if (!ok)
        return false;
    watch(m);
    return judge_tables(m, err);
}

bool pgmq_migrate(const char *conninfo, const char *directory,
                  const struct pgmq_names *names,
                  void (*tell)(const char *line), struct error *err)
{
    /* What comes later goes first: so the user's text has the last word. */
    const char *const keywords[] = {"fallback_application_name",
                                    "connect_timeout", "dbname", NULL};
    const char *const values[] = {"llm_router", CONNECT_TIMEOUT_S, conninfo,
                                  NULL};
    struct migration m = {
        .connection = PQconnectdbParams(keywords, values, 1),
        .names = names,
        .tell = tell,
    };
    bool ok;

    PQsetNoticeProcessor(m.connection, ignore_notice, NULL);
    if (PQstatus(m.connection) == CONNECTION_OK)
        ok = migrate(&m, directory, err);
    else
        ok = error_set(err, ERR_UNREACHABLE, "%.*s",
                       first_line(PQerrorMessage(m.connection)),
                       PQerrorMessage(m.connection));
    PQfinish(m.connection);
    return ok;
}
