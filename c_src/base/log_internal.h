/* How a line looks. Pure. */
#ifndef LLM_ROUTER_LOG_INTERNAL_H
#define LLM_ROUTER_LOG_INTERNAL_H

#include "llm_router/base/log.h"

enum log_stamp {
    LOG_STAMP_TIME,     /* time=2026-11-23T03:34:56.789Z, in UTC */
    LOG_STAMP_PRIORITY, /* "<4>" before the line, as sd-daemon(3) says */
};

struct log_entry {
    enum log_format format;
    enum log_stamp stamp;
    int64_t unix_ms;
    enum log_level level;
    const char *component;
    struct slice message;
    uint64_t suppressed; /* 0: not said */
    const struct log_field *fields;
    size_t field_count;
};

/* Writes the line with its newline, returns its size. */
size_t log_entry_write(const struct log_entry *entry, char out[LOG_LINE_MAX]);

const char *log_level_name(enum log_level level);

#endif
