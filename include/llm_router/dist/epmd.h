/* The Erlang port mapper: being found, and finding others.
 *
 * epmd forgets a node when the connection it registered by closes, so that
 * connection is kept, and made again when epmd restarts. ERL_EPMD_PORT (4369)
 * and ERL_EPMD_ADDRESS (its first address; epmd always listens on loopback
 * too) are honoured as epmd itself and OTP's tools do. Protocol:
 * erl_dist_protocol, "EPMD Protocol". Nothing here blocks. */
#ifndef LLM_ROUTER_DIST_EPMD_H
#define LLM_ROUTER_DIST_EPMD_H

#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"
#include "llm_router/dist/handles.h"
#include "llm_router/loop/loop.h"

struct epmd_exchange;

struct epmd_events {
    /* Once: `creation` holds for the life of the process, whatever a later
     * epmd says (as OTP's erl_epmd does). */
    void (*registered)(void *context, uint32_t creation);
    /* Once, and only before `registered`. ERR_INVALID_REQUEST: another node
     * has the name; ERR_UNREACHABLE: no epmd. Nothing is tried any more. */
    void (*failed)(void *context, const struct error *err);
};

/* A registration, embedded in its owner. */
struct epmd {
    struct loop *loop;
    struct handles *handles;
    struct slice name; /* before the @; lent */
    uint16_t port;
    const struct epmd_events *events;
    void *context;
    struct epmd_exchange *exchange; /* NULL: waiting to try again */
    struct loop_timer retry;
    uint64_t backoff_ms;
    uint64_t give_up_ms;  /* loop time; no epmd until then: failed */
    uint64_t refusals;    /* in a row: the name is taken */
    bool registered_once; /* tried for ever from then on */
};

/* A name that is taken is tried again for two seconds before it counts: after
 * kill -9 of an earlier life epmd may not have seen its end yet. */
void epmd_register(struct epmd *epmd, uint64_t patience_ms);
void epmd_unregister(struct epmd *epmd); /* may be called at any time */

/* Finds where a node listens: its host by getaddrinfo on the thread pool (IPv4
 * first, as OTP's inet_tcp does), its port from the epmd there. */
struct epmd_lookup;

/* `found` is called once, later, unless the lookup is cancelled; `address` is
 * NULL if it failed, and then err says why: ERR_NO_ROUTE if epmd knows no such
 * node, else ERR_UNREACHABLE. */
struct epmd_lookup *
epmd_lookup_new(struct loop *loop, struct handles *handles, struct slice node,
                uint64_t timeout_ms,
                void (*found)(void *context, const struct sockaddr *address,
                              const struct error *err),
                void *context);
void epmd_lookup_cancel(struct epmd_lookup *lookup);

#endif
