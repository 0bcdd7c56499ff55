/* Log lines on stderr: one line an event, never blocking, never allocating.
 *
 *     log_event(LOG_WARN, "dist", "connection closed",
 *               LOG_FIELDS(log_text("peer", peer), log_count("connection", id),
 *                          log_text("reason", slice_of(err->message))));
 *
 * prints
 *
 *     time=2026-11-23T03:34:56.789Z level=warn component=dist
 *         msg="connection closed" peer=a@b connection=3 reason=silent
 *
 * in one line, or the same as a JSON object. What a stranger wrote is a field,
 * never part of the message: whatever bytes it has, it forges neither a field
 * nor a line, and the line is valid UTF-8. Never log a key, a cookie, a prompt
 * or an answer.
 *
 * Levels, format, limits and the lines that wait are the program's one piece
 * of global state; all functions may be called from any thread. */
#ifndef LLM_ROUTER_BASE_LOG_H
#define LLM_ROUTER_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* Who speaks: the only list of components. A line of any other is a defect
 * (a test compares the sources). */
#define LOG_COMPONENTS(X) \
    X("abort")            \
    X("access")           \
    X("config")           \
    X("dispatch")         \
    X("dist")             \
    X("http")             \
    X("job")              \
    X("log")              \
    X("loop")             \
    X("mem")              \
    X("parent")           \
    X("pg")               \
    X("queue")            \
    X("reload")           \
    X("scripts")          \
    X("server")           \
    X("spending")         \
    X("systemd")          \
    X("web")

enum {
#define X(name) +1
    LOG_COMPONENT_COUNT = 0 LOG_COMPONENTS(X),
#undef X
    LOG_LINE_MAX = 4096,    /* bytes, with the newline: PIPE_BUF */
    LOG_MESSAGE_MAX = 1024, /* of a message as written; longer ones are cut */
    LOG_VALUE_MAX = 384,    /* of a field's value, likewise */
};

/* What is logged. */

enum log_kind {
    LOG_KIND_TEXT,
    LOG_KIND_INTEGER,
    LOG_KIND_REAL,
};

struct log_field {
    const char *key; /* a literal: a to z and _; not time, level, component,
                        msg, suppressed */
    enum log_kind kind;
    union {
        struct slice text; /* any bytes; the only kind that is cut */
        int64_t integer;
        double real; /* six digits; not finite: null */
    };
};

static inline struct log_field log_text(const char *key, struct slice text)
{
    return (struct log_field){key, LOG_KIND_TEXT, {.text = text}};
}

static inline struct log_field log_integer(const char *key, int64_t integer)
{
    return (struct log_field){key, LOG_KIND_INTEGER, {.integer = integer}};
}

/* Over INT64_MAX it is INT64_MAX: parsers of JSON take no more. */
static inline struct log_field log_count(const char *key, uint64_t count)
{
    return log_integer(key, count > INT64_MAX ? INT64_MAX : (int64_t)count);
}

static inline struct log_field log_real(const char *key, double real)
{
    return (struct log_field){key, LOG_KIND_REAL, {.real = real}};
}

/* The last two arguments of log_event. */
#define LOG_FIELDS(...)                      \
    (const struct log_field[]){__VA_ARGS__}, \
        sizeof((struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field)

/* `message` is a literal without a full stop: by its address it also names the
 * call site, of which LOG_BURST lines pass and then LOG_PER_SECOND a second.
 * The others are counted in the field `suppressed` of the next one that
 * passes. Lines of level debug are not limited: who asks for them wants all.
 * A field for which the line has no room is left out. */
void log_event(enum log_level level, const char *component, const char *message,
               const struct log_field *fields, size_t count);

/* The same, never limited: for what is logged once for each request. */
void log_record(enum log_level level, const char *component,
                const char *message, const struct log_field *fields,
                size_t count);

/* The same as log_event without fields, with the format as its call site. */
void log_line(enum log_level level, const char *component, const char *format,
              ...) __attribute__((format(printf, 3, 4)));

/* Whether such a line would be written, when its fields are dear. */
bool log_enabled(enum log_level level, const char *component);

enum { LOG_BURST = 50, LOG_PER_SECOND = 5 };

/* Says what was suppressed or dropped and not told yet. To be called every
 * second or so, that it is told also when no further line of that kind comes.
 */
void log_tell(void);

/* What is set. */

/* Of every component; `info` at first. */
struct log_levels {
    unsigned char of[LOG_COMPONENT_COUNT]; /* enum log_level */
};

/* "info" or "info,dist=debug,job=warn": a level for all and others for some.
 * On failure the message names what is unknown. */
bool log_levels_parse(struct slice text, struct log_levels *levels,
                      struct error *err);
void log_set_levels(const struct log_levels *levels);
void log_set_level(enum log_level level); /* of all components */

/* "logfmt" or "json". */
bool log_format_parse(struct slice name, enum log_format *format);

/* LOG_LOGFMT at first. Each line has its time, but when stderr is the journal's
 * (JOURNAL_STREAM says so): then it begins with its priority, "<4>", which the
 * journal takes off, and the journal knows the time. */
void log_set_format(enum log_format format);

/* Writing. A line goes out at once. Between log_batch_start and log_batch_end
 * those of level info and debug wait for log_flush, for the next line of level
 * warn or error, or until LOG_LINE_MAX bytes are there; at exit() they are
 * written. What stderr does not take at once is kept, up to LOG_LINE_MAX bytes,
 * and tried again; further lines are dropped and counted. */
void log_batch_start(void);
void log_batch_end(void);
void log_flush(void);
uint64_t log_dropped(void);

/* For tests: the clocks, NULL for the system's. */
struct log_time {
    int64_t unix_ms;
    uint64_t steady_ms;
};
void log_set_clock(struct log_time (*now)(void));

#endif
