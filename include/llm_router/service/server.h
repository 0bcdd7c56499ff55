/* The whole program behind main: node, provider calls and what joins them. */
#ifndef LLM_ROUTER_SERVICE_SERVER_H
#define LLM_ROUTER_SERVICE_SERVER_H

#include "llm_router/service/settings.h"

enum exit_code {
    EXIT_CLEAN = 0,
    EXIT_CONFIGURATION = 1,
    EXIT_USAGE = 2,
    EXIT_CANNOT_START = 3, /* name taken, no epmd */
};

/* Runs until a signal or a fatal start-up error. The settings, with which it
 * begins, must outlive it; argc and argv are for reloads. Prints `ready NODE`
 * on stdout when it can be called. SIGTERM, SIGINT and the operation `drain`
 * drain: the global name is handed over to another router if there is one, and
 * given up; calls in flight are answered within timeouts.drain_ms, new ones get
 * shutting_down from then on; a second signal ends at once.
 * SIGHUP and the operation `reload` read the configuration again.
 *
 * `supervisor` (NULL: there is none) holds what came on standard input behind
 * the first line; lent. When that input ends, so does the program, within 2 s,
 * however much is in flight. */
enum exit_code server_run(struct settings *settings, int argc,
                          const char *const *argv,
                          struct line_reader *supervisor);

#endif
