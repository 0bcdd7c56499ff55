/* The listening socket of the distribution, on all interfaces, at a given port
 * or one that the system chooses (epmd tells it to others).
 *
 * Not a uv_tcp_t: libuv answers a lack of descriptors by accepting and closing
 * in a loop of its own; here accepting rests for a while instead. */
#ifndef LLM_ROUTER_DIST_LISTENER_H
#define LLM_ROUTER_DIST_LISTENER_H

#include "llm_router/base/error.h"
#include "llm_router/dist/handles.h"
#include "llm_router/loop/loop.h"

struct listener {
    struct loop *loop;
    struct handles *handles;
    void (*accepted)(void *context, int fd); /* non-blocking; the callee's */
    void *context;
    int fd;        /* -1: closed */
    uint16_t port; /* 0: the system chooses */
    uv_poll_t poll;
    struct loop_timer rest;
};

/* Set loop, handles, accepted and context before. ERR_UNREACHABLE. */
bool listener_open(struct listener *listener, struct error *err);
void listener_start(struct listener *listener);
void listener_close(struct listener *listener); /* `poll` stays until closed */

#endif
