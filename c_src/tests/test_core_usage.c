#include "llm_router/core/usage.h"

#include <math.h>

#include "unit.h"

static const struct prices PRICES = {
    .input = 2,
    .output = 10,
    .cache_read = 0.5,
    .cache_write = 2.5,
    .cache_write_1h = NAN,
    .long_over = 200000,
    .long_input = 4,
    .long_output = 15,
};

static void assert_near(double actual, double expected)
{
    if (fabs(actual - expected) > 1e-12)
        fail_msg("%.15g is not %.15g", actual, expected);
}

static struct usage usage_of(int64_t input, int64_t output)
{
    struct usage usage = USAGE_UNKNOWN;

    usage.input_tokens = input;
    usage.output_tokens = output;
    return usage;
}

static void cached_and_written_tokens_have_their_own_prices(void **state)
{
    struct usage usage = usage_of(1000, 100);

    (void)state;
    usage.cached_tokens = 600;
    usage.cache_write_tokens = 300;
    usage.reasoning_tokens = 80; /* already in the output */
    assert_near(usage_cost(&usage, &PRICES),
                (100 * 2 + 600 * 0.5 + 300 * 2.5 + 100 * 10) / 1e6);
}

static void a_missing_cache_price_charges_the_full_input_price(void **state)
{
    struct prices prices = PRICES;
    struct usage usage = usage_of(1000, 0);

    (void)state;
    prices.cache_read = prices.cache_write = NAN;
    usage.cached_tokens = 600;
    usage.cache_write_tokens = 300;
    assert_near(usage_cost(&usage, &prices), 1000 * 2 / 1e6);
}

static void over_the_limit_the_whole_request_costs_the_long_price(void **state)
{
    struct usage at = usage_of(200000, 10), over = usage_of(200001, 10);

    (void)state;
    assert_near(usage_cost(&at, &PRICES), (200000 * 2.0 + 10 * 10) / 1e6);
    assert_near(usage_cost(&over, &PRICES), (200001 * 4.0 + 10 * 15) / 1e6);
    over.cached_tokens = 100000;
    assert_near(usage_cost(&over, &PRICES), (200001 * 4.0 + 10 * 15) / 1e6);
}

static void what_is_unknown_is_never_free(void **state)
{
    struct usage known = usage_of(10, 10), input = usage_of(10, -1),
                 output = usage_of(-1, 10), over = usage_of(300000, 1);
    struct prices prices = PRICES;

    (void)state;
    assert_true(isnan(usage_cost(&known, &PRICES_UNKNOWN)));
    assert_true(isnan(usage_cost(&input, &PRICES)));
    assert_true(isnan(usage_cost(&output, &PRICES)));
    assert_true(isnan(usage_cost(&USAGE_UNKNOWN, &PRICES)));
    prices.long_output = NAN;
    assert_true(isnan(usage_cost(&over, &prices)));
    prices.output = NAN;
    assert_true(isnan(usage_cost(&known, &prices)));
}

static void
a_provider_that_counts_more_cached_than_sent_is_not_believed(void **state)
{
    struct usage usage = usage_of(100, 0);

    (void)state;
    usage.cached_tokens = 1000;
    usage.cache_write_tokens = 1000;
    assert_near(usage_cost(&usage, &PRICES), 100 * 0.5 / 1e6);
}

static void what_was_not_used_needs_no_price(void **state)
{
    struct prices prices = PRICES_UNKNOWN;
    struct usage usage = usage_of(1000, 0);

    (void)state;
    prices.input = 0.02; /* text-embedding-3-small */
    assert_near(usage_cost(&usage, &prices), 1000 * 0.02 / 1e6);
}

/* A row of priv/models.json, an answer, and the vendor's formula. */
static void each_vendor_is_billed_by_its_formula(void **state)
{
    static const struct {
        const char *model;
        struct prices prices;
        struct usage usage;
        double usd;
    } rows[] = {
        {"gpt-6-sol: cached and written tokens are part of the prompt",
         {2, 10, 0.2, 2.5, NAN, 272000, 4, 15},
         {10000, 500, 10500, 6000, 3000, -1, 400},
         (1000 * 2 + 6000 * 0.2 + 3000 * 2.5 + 500 * 10) / 1e6},
        {"gpt-6-sol over 272000: all at the long price",
         {2, 10, 0.2, 2.5, NAN, 272000, 4, 15},
         {300000, 500, 300500, -1, -1, -1, -1},
         (300000.0 * 4 + 500 * 15) / 1e6},
        {"claude-opus-5: 100 + 2000 read + 1000 for 5 min + 500 for 1 h",
         {5, 25, 0.5, 6.25, NAN, -1, NAN, NAN},
         {3600, 200, 3800, 2000, 1500, 500, -1},
         (100 * 5 + 2000 * 0.5 + 1000 * 6.25 + 500 * 10 + 200 * 25) / 1e6},
        {"claude-opus-5 without the split: all written at the 5 min price",
         {5, 25, 0.5, 6.25, NAN, -1, NAN, NAN},
         {3600, 200, 3800, 2000, 1500, -1, -1},
         (100 * 5 + 2000 * 0.5 + 1500 * 6.25 + 200 * 25) / 1e6},
        {"gemini-2.5-pro: thoughts are output",
         {1.25, 10, 0.125, NAN, NAN, 200000, 2.5, 15},
         {5000, 1200, 6200, 4000, -1, -1, 900},
         (1000 * 1.25 + 4000 * 0.125 + 1200 * 10) / 1e6},
        {"grok-4.6 from 200000 on",
         {2, 6, 0.5, NAN, NAN, 199999, 4, 12},
         {200000, 100, 200100, -1, -1, -1, -1},
         (200000.0 * 4 + 100 * 12) / 1e6},
        {"deepseek-v4-flash",
         {0.22, 0.66, 0.007, NAN, NAN, -1, NAN, NAN},
         {1000, 100, 1100, 800, -1, -1, -1},
         (200 * 0.22 + 800 * 0.007 + 100 * 0.66) / 1e6},
        {"claude-sonnet-5-5: no cache prices are known",
         {2, 10, NAN, NAN, NAN, -1, NAN, NAN},
         {1000, 100, 1100, 400, 500, 200, -1},
         (100 * 2 + 400 * 2 + 300 * 2 + 200 * 4 + 100 * 10) / 1e6},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_near(usage_cost(&rows[i].usage, &rows[i].prices), rows[i].usd);
}

static void a_known_price_of_an_hour_counts(void **state)
{
    struct prices prices = PRICES;
    struct usage usage = usage_of(1000, 0);

    (void)state;
    usage.cache_write_tokens = 1000;
    usage.cache_write_1h_tokens = 5000; /* more than were written */
    prices.cache_write_1h = 3;
    assert_near(usage_cost(&usage, &prices), 1000 * 3 / 1e6);
}

static void sums_keep_what_is_known(void **state)
{
    struct usage total = USAGE_UNKNOWN, more = usage_of(5, -1);

    (void)state;
    usage_add(&total, &more);
    assert_int_equal(total.input_tokens, 5);
    assert_int_equal(total.output_tokens, -1);
    more = usage_of(7, 3);
    more.cache_write_1h_tokens = 4;
    usage_add(&total, &more);
    usage_add(&total, &USAGE_UNKNOWN);
    assert_int_equal(total.input_tokens, 12);
    assert_int_equal(total.output_tokens, 3);
    assert_int_equal(total.cache_write_1h_tokens, 4);
    more = usage_of(INT64_MAX, 0);
    usage_add(&total, &more);
    assert_int_equal(total.input_tokens, INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cached_and_written_tokens_have_their_own_prices),
        cmocka_unit_test(a_missing_cache_price_charges_the_full_input_price),
        cmocka_unit_test(over_the_limit_the_whole_request_costs_the_long_price),
        cmocka_unit_test(what_is_unknown_is_never_free),
        cmocka_unit_test(
            a_provider_that_counts_more_cached_than_sent_is_not_believed),
        cmocka_unit_test(what_was_not_used_needs_no_price),
        cmocka_unit_test(each_vendor_is_billed_by_its_formula),
        cmocka_unit_test(a_known_price_of_an_hour_counts),
        cmocka_unit_test(sums_keep_what_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
