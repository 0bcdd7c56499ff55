/* Never leaves this layer. */
#ifndef LLM_ROUTER_WEB_INTERNAL_H
#define LLM_ROUTER_WEB_INTERNAL_H

#include <netinet/in.h>

#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"

/* A listening socket that does not block, and where it is. */
struct door {
    int fd;
    uint16_t port;
    bool loopback;
};

/* As web_start's host and port, with its errors. */
bool door_open(struct door *door, const char *host, uint16_t port,
               struct error *err);

/* Whether a Host header, port included or not, names this machine's loopback:
 * localhost, 127.0.0.0/8 or [::1]. */
bool door_names_loopback(struct slice host);

#endif
