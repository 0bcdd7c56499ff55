#include <stdio.h>

#include "llm_router/base/utf8.h"
#include "pg/pg_internal.h"

static int find_column(const struct pg_rows *rows, const char *column)
{
    return PQfnumber(rows->result, column);
}

size_t pg_row_count(const struct pg_rows *rows)
{
    return (size_t)PQntuples(rows->result);
}

bool pg_has_column(const struct pg_rows *rows, const char *column)
{
    return find_column(rows, column) >= 0;
}

struct slice pg_text(const struct pg_rows *rows, size_t row, const char *column)
{
    int field = find_column(rows, column);

    if (field < 0 || row >= pg_row_count(rows) ||
        PQgetisnull(rows->result, (int)row, field))
        return slice_of(NULL);
    return slice_make(PQgetvalue(rows->result, (int)row, field),
                      (size_t)PQgetlength(rows->result, (int)row, field));
}

int64_t pg_integer(const struct pg_rows *rows, size_t row, const char *column,
                   int64_t otherwise)
{
    int64_t value;

    return slice_to_int64(pg_text(rows, row, column), &value) ? value
                                                              : otherwise;
}

bool pg_boolean(const struct pg_rows *rows, size_t row, const char *column)
{
    return slice_is(pg_text(rows, row, column), "t");
}

void pg_one_line(char *line, size_t size, const char *text)
{
    struct slice rest = slice_trim(slice_of(text));
    size_t used = 0;

    while (rest.size > 0) {
        size_t step = utf8_char_size(rest);
        bool odd = step == 0;
        bool blank = !odd && (unsigned char)rest.data[0] <= ' ';

        if (odd)
            step = 1;
        if (step >= size - used)
            break;
        if (odd)
            line[used++] = '?';
        else if (!blank)
            memcpy(line + used, rest.data, step), used += step;
        else if (used > 0 && line[used - 1] != ' ')
            line[used++] = ' ';
        rest = slice_make(rest.data + step, rest.size - step);
    }
    line[used] = '\0';
}

bool pg_succeeded(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

bool pg_is_fatal(const PGresult *result)
{
    const char *severity =
        PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    return severity &&
           (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

bool pg_is_answer(const PGresult *result)
{
    return pg_succeeded(result) ||
           PQresultStatus(result) == PGRES_EMPTY_QUERY ||
           (PQresultErrorField(result, PG_DIAG_SQLSTATE) &&
            !pg_is_fatal(result));
}

static const char *message_of(const PGresult *result)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (!message)
        message = PQresultErrorMessage(result);
    if (message[0] != '\0')
        return message;
    return PQresultStatus(result) == PGRES_EMPTY_QUERY
               ? "the query is empty"
               : "neither rows nor an error came";
}

/* The primary message alone: the other parts hold the query and its values. So
 * does the end of those about data (class 22): `invalid input syntax for type
 * integer: "..."`. */
void pg_failure_of(const PGresult *result, struct pg_failure *failure)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    char *value;

    *failure = (struct pg_failure){.unknown = false};
    snprintf(failure->sqlstate, sizeof(failure->sqlstate), "%s",
             sqlstate ? sqlstate : "");
    pg_one_line(failure->message, sizeof(failure->message), message_of(result));
    value = strstr(failure->message, ": \"");
    if (value && strncmp(failure->sqlstate, "22", 2) == 0)
        *value = '\0';
}
