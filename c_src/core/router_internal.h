/* What router.c and router_order.c share. */
#ifndef LLM_ROUTER_CORE_ROUTER_INTERNAL_H
#define LLM_ROUTER_CORE_ROUTER_INTERNAL_H

#include "llm_router/core/router.h"

enum { ROUTE_MAX = 64 }; /* candidates of a route that are looked at */

/* A candidate of a route, with what its place depends on. */
struct contender {
    struct candidate candidate;
    double weight;
    bool fits; /* its context is large enough, or unknown */
    bool healthy;
    double score; /* by the strategy; the lowest goes first */
};

struct field {
    struct contender contenders[ROUTE_MAX];
    size_t count;
    unsigned absent; /* at no configured provider */
    unsigned unable; /* without a capability that is needed */
    unsigned mute;   /* without the API that is wanted */
};

/* The healthy ones before the others, each by the strategy. Stable: what the
 * strategy does not decide stays as it is written. */
void field_order(struct field *field, enum strategy strategy,
                 const struct plan_need *need);

#endif
