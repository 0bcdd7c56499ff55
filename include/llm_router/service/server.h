/* The whole program behind main: node, provider calls and what joins them. */
#ifndef LLM_ROUTER_SERVICE_SERVER_H
#define LLM_ROUTER_SERVICE_SERVER_H

#include "llm_router/config/assets.h"
#include "llm_router/config/config.h"

enum exit_code {
    EXIT_CLEAN = 0,
    EXIT_CONFIGURATION = 1,
    EXIT_USAGE = 2,
    EXIT_CANNOT_START = 3, /* name taken, no epmd */
};

/* Are the configured dialects ones that this program has, and can the
 * certificates be used? ERR_INVALID_REQUEST with the key or file as path. */
bool server_check(const struct config *config, struct error *err);

/* Runs until a signal or a fatal start-up error; both structs are borrowed.
 * Prints `ready NODE` on stdout when it can be called. SIGTERM, SIGINT and the
 * operation `drain` drain: the global name is given up, calls in flight are
 * answered within timeouts.drain_ms, new ones get shutting_down; a second
 * signal ends at once. */
enum exit_code server_run(const struct config *config,
                          const struct assets *assets);

#endif
