/* Counters of the service, as `stats` shows them. */
#ifndef LLM_ROUTER_SERVICE_STATS_H
#define LLM_ROUTER_SERVICE_STATS_H

#include "llm_router/base/error.h"
#include "llm_router/core/router.h"

enum { ERROR_CODE_COUNT = ERR_SHUTTING_DOWN + 1 };

struct stats {
    uint64_t requests[OPERATION_COUNT];
    uint64_t succeeded;
    uint64_t failed[ERROR_CODE_COUNT];
    uint64_t cancelled; /* nobody waited any more */
    /* What /metrics has as llm_router_requests_total: those answered out of
     * memory or with another one too, and nothing that asks no provider. */
    struct {
        uint64_t ok, failed, cancelled;
    } ended;
    uint64_t attempts;        /* HTTP requests sent to providers */
    uint64_t retries;         /* of them, after a failure */
    uint64_t turns;           /* of them, repairs and continuations */
    uint64_t shared;          /* answered by another call's request_id */
    uint64_t explicit_models; /* requests that named their model */
    uint64_t strategies[STRATEGY_COUNT]; /* the others, by their route's */
    uint64_t fallbacks; /* answered by another than the first candidate */
    uint64_t cache_hits, cache_misses; /* of those that may be cached */
    uint64_t pauses; /* streams that waited for a slow receiver */
    uint64_t reloads, reloads_failed;
    uint64_t ignored;                  /* stray messages dropped */
    uint64_t notices, notices_dropped; /* to those who watch */
    uint64_t scripts;                  /* run for call_with_script */
    uint64_t undeliverable; /* answers whose taker could not be reached */
    uint64_t input_tokens, output_tokens;
    double cost_usd; /* of the attempts whose price is known */
    bool priced;     /* of one at least it is */
};

#endif
