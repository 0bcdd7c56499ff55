/* The commands `status` and `top`: a running router's figures in a terminal.
 *
 * Each is a node of its own for as long as it runs, which asks the router
 * config->target for the operation `status` and shows what it says. Complaints
 * go to stderr, one line each. The configuration has its cookie. */
#ifndef LLM_ROUTER_CONSOLE_CONSOLE_H
#define LLM_ROUTER_CONSOLE_CONSOLE_H

#include "llm_router/config/config.h"

/* How they exit; 1 and 2 as the router itself. */
enum console_exit {
    CONSOLE_OK = 0,
    CONSOLE_CONFIGURATION = 1, /* TLS files */
    CONSOLE_NO_ANSWER = 3,     /* or none that is a status */
    CONSOLE_NOT_READY = 4,     /* of status: it answered, and takes no calls */
};

/* Prints the status once: for people, or with config->as_json as it came. */
enum console_exit console_status(const struct config *config);

/* Shows it every config->interval_ms until a key or a signal ends it: on the
 * whole screen of a terminal, elsewhere one below the other. Goes on when the
 * router goes away, once it has answered. */
enum console_exit console_top(const struct config *config);

#endif
