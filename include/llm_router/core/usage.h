/* Tokens and money. -1 and NAN mean unknown; unknown is never 0. */
#ifndef LLM_ROUTER_CORE_USAGE_H
#define LLM_ROUTER_CORE_USAGE_H

#include <stdbool.h>
#include <stdint.h>

struct usage {
    int64_t input_tokens;  /* with cached and cache-write tokens */
    int64_t output_tokens; /* with reasoning tokens */
    int64_t total_tokens;
    int64_t cached_tokens;
    int64_t cache_write_tokens;    /* of both life times */
    int64_t cache_write_1h_tokens; /* of them, those kept for an hour */
    int64_t reasoning_tokens;
};

/* USD per million tokens; NAN where the catalogue has none. */
struct prices {
    double input;
    double output;
    double cache_read;
    double cache_write;
    double cache_write_1h; /* NAN: twice the input price */
    int64_t long_over;     /* input tokens; < 0: no long tier */
    double long_input;
    double long_output;
};

extern const struct usage USAGE_UNKNOWN;
extern const struct prices PRICES_UNKNOWN;

/* Sums where both are known; a known one wins over an unknown one. */
void usage_add(struct usage *total, const struct usage *more);

/* USD; NAN when price or usage is unknown. A missing cache price charges the
 * full input price; what was not used costs nothing even at an unknown price.
 * Over long_over the whole request is billed at the long prices, cached tokens
 * too. */
double usage_cost(const struct usage *usage, const struct prices *prices);

#endif
