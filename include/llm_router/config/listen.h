/* Where a server listens: "9464", "HOST:9464", "[::1]:9464". */
#ifndef LLM_ROUTER_CONFIG_LISTEN_H
#define LLM_ROUTER_CONFIG_LISTEN_H

#include "llm_router/base/slice.h"

enum { LISTEN_HOST_MAX = 46 }; /* an IPv6 address, with the NUL */

struct listen_address {
    char host[LISTEN_HOST_MAX]; /* numeric, or "localhost" */
    uint16_t port;              /* 0: the system chooses */
};

/* A port alone is one of 127.0.0.1. NULL, or what is wrong with the text. */
const char *listen_parse(struct slice text, struct listen_address *address);

#endif
