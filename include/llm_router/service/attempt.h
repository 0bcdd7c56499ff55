/* One question put to one provider: joins a dialect with a transfer and keeps
 * the two timers that only a dialect's reader can feed (first token, idle).
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
    const struct config *config;
};

struct attempt;

/* Called once, from the loop, unless the attempt was freed first. Both live in
 * the attempt: copy what must outlast attempt_free. `failure` is NULL on
 * success. The callback may free the attempt. */
typedef void attempt_done(void *context, struct attempt *attempt,
                          const struct completion *completion,
                          const struct provider_failure *failure);

/* NULL when the request cannot be built (err). `chat` is borrowed only during
 * the call. `left_ms`: until the caller's deadline. */
struct attempt *attempt_new(const struct upstream *upstream,
                            const struct candidate *candidate,
                            const struct chat *chat, uint64_t left_ms,
                            attempt_done *done, void *context,
                            struct error *err);

/* Aborts the transfer if it still runs. NULL is allowed. */
void attempt_free(struct attempt *attempt);

#endif
