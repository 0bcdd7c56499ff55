/* The last hour, minute by minute, and the latest failures: what the status
 * page and `llm_router status` show.
 *
 * Pure: time comes in, monotonic milliseconds that never go back. About 62 KiB,
 * and 17 more for each provider that was called. */
#ifndef LLM_ROUTER_METRICS_HISTORY_H
#define LLM_ROUTER_METRICS_HISTORY_H

#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"
#include "llm_router/core/request.h"

enum {
    HISTORY_MINUTES = 60,
    HISTORY_PROVIDERS_MAX = 64, /* later ones are not kept */
    HISTORY_FAILURES = 50,
};

struct history;

struct history *history_new(void);
void history_free(struct history *history);

/* A request has ended: ERR_NONE is success, one that was cancelled counts for
 * neither. `overhead_s`: the router's own share; NAN: not measured. */
void history_request(struct history *history, uint64_t now_ms,
                     enum error_code error, double overhead_s);

/* A provider call has ended. */
struct history_call {
    struct slice provider;
    enum error_code error;
    double duration_s;
    double cost_usd; /* NAN: unknown */
};
void history_call(struct history *history, uint64_t now_ms,
                  const struct history_call *call);

/* A request has failed. Texts are copied, and cut. The same failure of the same
 * node again is one with a count, and the latest time and request_id. */
struct request_failure {
    int64_t unix_ms;
    enum operation operation; /* OPERATION_COUNT: none that is known */
    const struct error *error;
    struct slice provider, model, request_id, node; /* empty: none */
    int attempts;
};
void history_failure(struct history *history,
                     const struct request_failure *failure);

/* JSON values: of the minutes, the latest last, and of the failures, the
 * latest first (see docs/operations.md). */
void history_put(const struct history *history, uint64_t now_ms,
                 int64_t unix_ms, struct buf *out);
void history_put_failures(const struct history *history, struct buf *out);

#endif
