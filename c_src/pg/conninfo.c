#include <stdio.h>

#include "pg/pg_internal.h"

const char *conninfo_value(const PQconninfoOption *options, const char *keyword)
{
    for (; options && options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val ? options->val : "";
    return "";
}

/* libpq quotes what it could not read; that may be a part of a password with a
 * space in it, or the whole URL. Its own single marks stay. */
static void hide_quoted(char *message)
{
    char *first = strchr(message, '"'), *last = strrchr(message, '"');

    while (first && last - first > 2 && first[2] == '"' &&
           strchr("=:/[]", first[1]))
        first = strchr(first + 3, '"');
    if (!first || last - first < 2)
        return;
    memcpy(first, "...", 3);
    memmove(first + 3, last + 1, strlen(last));
}

/* An unescaped @ or / in a password moves the rest of it into the host, the
 * port or the name of the database, which messages do show. */
static bool url_is_plausible(const char *conninfo,
                             const PQconninfoOption *options)
{
    const char *port = conninfo_value(options, "port");

    return !strstr(conninfo, "://") ||
           (!strchr(conninfo_value(options, "host"), '@') &&
            !strchr(conninfo_value(options, "dbname"), '@') &&
            port[strspn(port, "0123456789,")] == '\0');
}

bool pg_conninfo_check(const char *conninfo, bool *has_password,
                       struct error *err)
{
    char *fault = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &fault);
    char message[PG_MESSAGE_MAX];
    bool fine;

    *has_password = conninfo_value(options, "password")[0] != '\0' ||
                    conninfo_value(options, "sslpassword")[0] != '\0';
    if (!options) {
        if (fault && (strstr(conninfo, "pass") || strchr(conninfo, '@')))
            hide_quoted(fault);
        pg_one_line(message, sizeof(message), fault ? fault : "out of memory");
        PQfreemem(fault);
        return error_set(err, ERR_INVALID_REQUEST, "%s", message);
    }
    fine = url_is_plausible(conninfo, options);
    PQconninfoFree(options);
    return fine ||
           error_set(
               err, ERR_INVALID_REQUEST,
               "host, port or database are odd: in a password %%, @ and / "
               "are written %%25, %%40 and %%2F");
}

/* libpq tells what it would use only of a connection, and only after it has
 * looked up the names, which blocks. One that is refused before that, for an
 * sslmode that does not exist, tells as well. */
PQconninfoOption *conninfo_effective(const char *conninfo)
{
    const char *const keywords[] = {"dbname", "sslmode", NULL};
    const char *const values[] = {conninfo, "none", NULL};
    PGconn *conn = PQconnectStartParams(keywords, values, 1);
    PQconninfoOption *options = PQconninfo(conn);

    PQfinish(conn);
    return options;
}

/* What comes before `dbname` gives way to the text in it, what comes after it
 * does not; empty values count as not there. GSS is off because libpq asks its
 * servers without regard to the loop. */
PGconn *conninfo_start(const struct pg_options *options,
                       const struct pg_addresses *addresses)
{
    char patience_ms[24];
    const char *const pairs[][2] = {
        {"fallback_application_name", options->application_name},
        {"gssencmode", "disable"},
        {"keepalives_idle", "30"},
        {"keepalives_interval", "10"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", patience_ms},
        {"dbname", options->conninfo},
        {"host", addresses->hosts.data},
        {"hostaddr", addresses->hostaddrs.data},
        {"port", addresses->ports.data},
        {"client_encoding", "UTF8"},
    };
    enum { PAIRS = sizeof(pairs) / sizeof(pairs[0]) };
    const char *keywords[PAIRS + 1], *values[PAIRS + 1];

    snprintf(patience_ms, sizeof(patience_ms), "%llu",
             (unsigned long long)options->query_timeout_ms);
    for (size_t i = 0; i < PAIRS; i++) {
        keywords[i] = pairs[i][0];
        values[i] = pairs[i][1];
    }
    keywords[PAIRS] = values[PAIRS] = NULL;
    return PQconnectStartParams(keywords, values, 1);
}
