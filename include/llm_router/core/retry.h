/* May a failed attempt be tried again, and when? Pure: time and chance come in.
 *
 * Order of the delay: the provider's retry-after (capped), else
 * min(0.5 s * 2^n, 8 s) with up to 25 % taken off by chance. A provider that
 * says it is overloaded gets four times the delay, up to the same maximum:
 * coming back soon is what keeps it so. */
#ifndef LLM_ROUTER_CORE_RETRY_H
#define LLM_ROUTER_CORE_RETRY_H

#include "llm_router/base/slice.h"

struct retry_policy {
    int max_retries;            /* transport and provider failures; 2 */
    int64_t base_delay_ms;      /* 500 */
    int64_t max_delay_ms;       /* 8000 */
    int64_t max_retry_after_ms; /* longer ones are not waited for; 60000 */
};

struct failure {
    bool retryable;         /* by class, see provider.h */
    bool should_retry_said; /* the provider sent x-should-retry */
    bool should_retry;
    bool overloaded;        /* 503 and 529 that say so, not a plain 5xx */
    int64_t retry_after_ms; /* < 0: none given */
};

/* `retries` already made; `left_ms` until the deadline; `chance` in [0, 1).
 * Milliseconds to wait, or -1: do not. */
int64_t retry_delay(const struct retry_policy *policy,
                    const struct failure *failure, int retries, int64_t left_ms,
                    double chance);

/* "120", "1.5" or an HTTP date (RFC 9110) -> ms from `now_s` (Unix time);
 * -1 when it is none of these. */
int64_t retry_after_parse(struct slice value, int64_t now_s);

#endif
