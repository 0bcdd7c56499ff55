/* One question put to one provider: joins a dialect with a transfer and keeps
 * the two timers that only a reader can feed (first token, idle).
 *
 * connect, headers and total are the transfer's (http.h). */
#ifndef LLM_ROUTER_SERVICE_ATTEMPT_H
#define LLM_ROUTER_SERVICE_ATTEMPT_H

#include "llm_router/config/config.h"
#include "llm_router/http/http.h"
#include "llm_router/provider/provider.h"

/* What attempts need and jobs share; borrowed. */
struct upstream {
    struct loop *loop;
    struct http *http;
};

/* Borrowed while the attempt lives. */
struct attempt_request {
    const struct config *config; /* the timers */
    const struct config_provider *provider;
    const struct config_key *key;
    const struct candidate *candidate;
    const struct chat *chat;
    struct slice request_id;
    struct deadline_share share;
};

struct attempt;

/* From the loop, unless the attempt was freed first. A callback may free the
 * attempt. */
struct attempt_events {
    /* The answer's text grew, see attempt_text. May be NULL. */
    void (*progress)(void *context, struct attempt *attempt);
    /* Once. Both live in the attempt: copy what must outlast attempt_free.
     * `failure` is NULL on success. */
    void (*done)(void *context, struct attempt *attempt,
                 const struct completion *completion,
                 const struct provider_failure *failure);
};

/* NULL when the request cannot be built (err). */
struct attempt *attempt_new(const struct upstream *upstream,
                            const struct attempt_request *request,
                            const struct attempt_events *events, void *context,
                            struct error *err);

/* Aborts the transfer if it still runs. NULL is allowed. */
void attempt_free(struct attempt *attempt);

/* The answer's text so far; only grows, and moves. */
struct slice attempt_text(const struct attempt *attempt);

/* No more is read from the provider until attempt_resume; only the total time
 * limit goes on. */
void attempt_pause(struct attempt *attempt);
void attempt_resume(struct attempt *attempt);

/* Has the status line come? */
bool attempt_has_answer(const struct attempt *attempt);

/* Is what came so much that to take it in is enough for one turn of the loop?
 */
bool attempt_is_large(const struct attempt *attempt);

/* What an answer took that was read and not yet told of; else unknown. */
const struct usage *attempt_usage(const struct attempt *attempt);

/* What the provider said of our limits, and how long the first token took;
 * < 0: none came. */
const struct rate_limits *attempt_limits(const struct attempt *attempt);
int64_t attempt_latency_ms(const struct attempt *attempt);
uint64_t attempt_started_ms(const struct attempt *attempt);
uint64_t attempt_started_ns(const struct attempt *attempt); /* loop_now_ns */
const struct config_key *attempt_key(const struct attempt *attempt);

#endif
