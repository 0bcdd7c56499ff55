/* What a supervising program hands over on standard input (--supervised):
 * lines of JSON objects, so that the cookie and the configuration are in no
 * file, no environment and no command line.
 *
 * The first line comes at once: {"cookie": "...", "config": {...}}, both
 * optional. Later lines: {"config": {...}} is a new configuration,
 * {"stop": true} asks to drain, {"stop": MS} to drain no longer than that. The
 * end of the input means that the supervisor is gone. */
#ifndef LLM_ROUTER_CONFIG_HANDOVER_H
#define LLM_ROUTER_CONFIG_HANDOVER_H

#include "llm_router/base/arena.h"
#include "llm_router/base/error.h"
#include "llm_router/base/line_reader.h"

enum {
    HANDOVER_MAX = 1024 * 1024, /* bytes of a line */
    HANDOVER_WAIT_MS = 5000,    /* for the first one */
};

enum handover_line { HANDOVER_FIRST, HANDOVER_LATER };

struct handover {
    struct slice cookie; /* empty: none, as the next one */
    struct slice config; /* JSON, as the configuration file has it */
    bool stop;
    int64_t drain_ms; /* with `stop`, at most; INT64_MAX: as configured */
};

/* Text in the arena. ERR_INVALID_REQUEST for what is no such line; no message
 * quotes a value. */
bool handover_parse(struct arena *arena, struct slice line,
                    enum handover_line which, struct handover *handover,
                    struct error *err);

/* Waits for the first line, at most `wait_ms`; what came behind it stays in the
 * reader. ERR_INVALID_REQUEST: the descriptor is neither pipe nor socket, the
 * line is too long, too late, or is none. */
bool handover_receive(struct line_reader *input, int fd, int64_t wait_ms,
                      struct arena *arena, struct handover *handover,
                      struct error *err);

/* Reads what is there, once; false: nothing more will come. */
bool handover_read(struct line_reader *input, int fd);

#endif
