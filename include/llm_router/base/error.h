/* An error as a value: what a caller sees, filled where the fault is known.
 *
 *     if (n > max)
 *         return error_set(err, ERR_TOO_LARGE, "%zu bytes, limit %zu", n, max);
 *
 * The table below is the only list of error codes: it gives the enum, the atom
 * a BEAM caller matches on, and whether the same call may succeed later.
 * Messages never hold a key, a prompt or an answer. */
#ifndef LLM_ROUTER_BASE_ERROR_H
#define LLM_ROUTER_BASE_ERROR_H

#include <stdbool.h>
#include <stdint.h>

/*        enum             atom                retryable */
#define ERROR_CODES(X)                                 \
    X(ERR_INVALID_REQUEST, "invalid_request", false)   \
    X(ERR_UNKNOWN_REQUEST, "unknown_request", false)   \
    X(ERR_FORBIDDEN, "forbidden", false)               \
    X(ERR_TOO_LARGE, "too_large", false)               \
    X(ERR_NO_ROUTE, "no_route", false)                 \
    X(ERR_OVERLOADED, "overloaded", true)              \
    X(ERR_BUDGET_EXCEEDED, "budget_exceeded", false)   \
    X(ERR_TIMEOUT, "timeout", true)                    \
    X(ERR_UNREACHABLE, "unreachable", true)            \
    X(ERR_RATE_LIMITED, "rate_limited", true)          \
    X(ERR_QUOTA_EXCEEDED, "quota_exceeded", false)     \
    X(ERR_UNAUTHORIZED, "unauthorized", false)         \
    X(ERR_PROVIDER_ERROR, "provider_error", true)      \
    X(ERR_REFUSED, "refused", false)                   \
    X(ERR_CONTENT_FILTERED, "content_filtered", false) \
    X(ERR_BAD_RESPONSE, "bad_response", true)          \
    X(ERR_INVALID_OUTPUT, "invalid_output", true)      \
    X(ERR_TASK_COUNT, "task_count", true)              \
    X(ERR_SCRIPT_ERROR, "script_error", false)         \
    X(ERR_CANCELLED, "cancelled", false)               \
    X(ERR_SHUTTING_DOWN, "shutting_down", true)

enum error_code {
    ERR_NONE = 0,
#define X(code, atom, retryable) code,
    ERROR_CODES(X)
#undef X
};

enum {
    ERROR_MESSAGE_MAX = 240, /* bytes, with the NUL */
    ERROR_PATH_MAX = 120,
    ERROR_PROVIDER_ID_MAX = 80, /* longer ones are none */
};

struct error {
    enum error_code code;
    char message[ERROR_MESSAGE_MAX]; /* UTF-8, cut at a character */
    char path[ERROR_PATH_MAX];       /* "opts.timeout", "messages[2]", or "" */
    /* By which the provider knows its answer; visible ASCII, or "". */
    char provider_request_id[ERROR_PROVIDER_ID_MAX];
    int http_status;        /* 0: no answer, or not from HTTP */
    int64_t retry_after_ms; /* < 0: the provider named none */
    int wanted, got;        /* of ERR_TASK_COUNT */
    int line;               /* of ERR_SCRIPT_ERROR; 0: unknown */
};

/* Sets code and message and clears the rest. Always false, for
 * `return error_set(...)`. */
bool error_set(struct error *err, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with a path: error_at(err, code, "opts.timeout", "must be ..."). */
bool error_at(struct error *err, enum error_code code, const char *path,
              const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Puts `parent` before the path: "[2].content" in "messages" becomes
 * "messages[2].content", "timeout" in "opts" becomes "opts.timeout".
 * Always false. */
bool error_in(struct error *err, const char *parent);

void error_clear(struct error *err);

/* "PATH: MESSAGE" for people, without the path where the message has it. */
enum { ERROR_TEXT_MAX = ERROR_PATH_MAX + ERROR_MESSAGE_MAX + 2 };
void error_describe(const struct error *err, char text[ERROR_TEXT_MAX]);

const char *error_atom(enum error_code code); /* "invalid_request" */
bool error_retryable(enum error_code code);

#endif
