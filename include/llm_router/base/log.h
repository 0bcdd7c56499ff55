/* Log lines on stderr: one line an event, never blocking.
 *
 *     log_line(LOG_WARN, "dist", "peer=%.*s closed: %s", ...);
 *
 * prints `level=warn component=dist peer=... closed: ...`. When stderr is a
 * full pipe the line is dropped and counted. Control characters in the text
 * are escaped, lines are cut at 2 KiB. Never pass a key, a cookie, a prompt or
 * an answer. The level is the one piece of global state of the program. */
#ifndef LLM_ROUTER_BASE_LOG_H
#define LLM_ROUTER_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "llm_router/base/slice.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
bool log_level_parse(struct slice name, enum log_level *level);
uint64_t log_dropped(void);
void log_line(enum log_level level, const char *component, const char *format,
              ...) __attribute__((format(printf, 3, 4)));

#endif
