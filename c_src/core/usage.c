#include "llm_router/core/usage.h"

#include <math.h>

const struct usage USAGE_UNKNOWN = {-1, -1, -1, -1, -1, -1, -1};

const struct prices PRICES_UNKNOWN = {
    .input = NAN,
    .output = NAN,
    .cache_read = NAN,
    .cache_write = NAN,
    .cache_write_1h = NAN,
    .long_over = -1,
    .long_input = NAN,
    .long_output = NAN,
};

static void add(int64_t *total, int64_t more)
{
    if (more < 0)
        return;
    if (*total < 0)
        *total = more;
    else if (__builtin_add_overflow(*total, more, total))
        *total = INT64_MAX;
}

void usage_add(struct usage *total, const struct usage *more)
{
    add(&total->input_tokens, more->input_tokens);
    add(&total->output_tokens, more->output_tokens);
    add(&total->total_tokens, more->total_tokens);
    add(&total->cached_tokens, more->cached_tokens);
    add(&total->cache_write_tokens, more->cache_write_tokens);
    add(&total->cache_write_1h_tokens, more->cache_write_1h_tokens);
    add(&total->reasoning_tokens, more->reasoning_tokens);
}

/* Takes up to `part` tokens out of *rest; unknown is none of them. */
static double take(int64_t *rest, int64_t part)
{
    if (part < 0)
        part = 0;
    if (part > *rest)
        part = *rest;
    *rest -= part;
    return (double)part;
}

static double or_full(double price, double full)
{
    return isnan(price) ? full : price;
}

/* The catalogue has no cache prices for the long tier: there the full input
 * price counts, so that a cost is never reported too low. */
static struct prices tier(const struct prices *prices, int64_t input_tokens)
{
    if (prices->long_over < 0 || input_tokens <= prices->long_over)
        return *prices;
    return (struct prices){
        .input = prices->long_input,
        .output = prices->long_output,
        .cache_read = NAN,
        .cache_write = NAN,
        .cache_write_1h = NAN,
    };
}

/* What was not used costs nothing, even at an unknown price: embeddings have
 * no price for output. */
static double charge(double tokens, double price)
{
    return tokens > 0 ? tokens * price : 0;
}

double usage_cost(const struct usage *usage, const struct prices *prices)
{
    struct prices at = tier(prices, usage->input_tokens);
    int64_t plain = usage->input_tokens;
    int64_t written;
    double cached, written_1h;

    if (plain < 0 || usage->output_tokens < 0)
        return NAN;
    cached = take(&plain, usage->cached_tokens);
    written = (int64_t)take(&plain, usage->cache_write_tokens);
    written_1h = take(&written, usage->cache_write_1h_tokens);
    return (charge((double)plain, at.input) +
            charge(cached, or_full(at.cache_read, at.input)) +
            charge((double)written, or_full(at.cache_write, at.input)) +
            charge(written_1h, or_full(at.cache_write_1h, 2 * at.input)) +
            charge((double)usage->output_tokens, at.output)) /
           1e6;
}
