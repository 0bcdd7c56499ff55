#include "llm_router/core/retry.h"

#include "unit.h"

static const struct retry_policy POLICY = {
    .max_retries = 2,
    .base_delay_ms = 500,
    .max_delay_ms = 8000,
    .max_retry_after_ms = 60000,
};

enum { LONG_MS = 1000000 };

/* 1994-11-06 08:49:37 UTC, the example of RFC 9110. */
static const int64_t EXAMPLE_S = 784111777;

static struct failure failure(bool retryable)
{
    return (struct failure){.retryable = retryable, .retry_after_ms = -1};
}

static int64_t parse(const char *text, int64_t now_s)
{
    return retry_after_parse(slice_of(text), now_s);
}

static void the_delay_doubles_up_to_its_maximum(void **state)
{
    struct retry_policy policy = POLICY;
    struct failure failed = failure(true);

    (void)state;
    policy.max_retries = 100;
    assert_int_equal(retry_delay(&policy, &failed, 0, LONG_MS, 0), 500);
    assert_int_equal(retry_delay(&policy, &failed, 1, LONG_MS, 0), 1000);
    assert_int_equal(retry_delay(&policy, &failed, 3, LONG_MS, 0), 4000);
    assert_int_equal(retry_delay(&policy, &failed, 4, LONG_MS, 0), 8000);
    assert_int_equal(retry_delay(&policy, &failed, 99, LONG_MS, 0), 8000);
}

static void chance_takes_off_up_to_a_quarter(void **state)
{
    struct failure failed = failure(true);

    (void)state;
    assert_int_equal(retry_delay(&POLICY, &failed, 1, LONG_MS, 0.5), 875);
    assert_in_range(retry_delay(&POLICY, &failed, 1, LONG_MS, 0.999), 750, 760);
}

static void an_overloaded_provider_gets_more_time(void **state)
{
    struct failure failed = failure(true);

    (void)state;
    failed.overloaded = true;
    assert_int_equal(retry_delay(&POLICY, &failed, 0, LONG_MS, 0), 2000);
    assert_int_equal(retry_delay(&POLICY, &failed, 1, LONG_MS, 0), 4000);
    assert_int_equal(retry_delay(&POLICY, &failed, 1, LONG_MS, 0.5), 3500);
    failed.retry_after_ms = 100;
    assert_int_equal(retry_delay(&POLICY, &failed, 0, LONG_MS, 0), 100);
}

static void retries_end(void **state)
{
    struct failure failed = failure(true);

    (void)state;
    assert_int_equal(retry_delay(&POLICY, &failed, 2, LONG_MS, 0), -1);
    failed = failure(false);
    assert_int_equal(retry_delay(&POLICY, &failed, 0, LONG_MS, 0), -1);
}

static void the_providers_word_wins_over_the_class(void **state)
{
    struct failure failed = failure(false);

    (void)state;
    failed.should_retry_said = true;
    failed.should_retry = true;
    assert_int_equal(retry_delay(&POLICY, &failed, 0, LONG_MS, 0), 500);
    failed.retryable = true;
    failed.should_retry = false;
    assert_int_equal(retry_delay(&POLICY, &failed, 0, LONG_MS, 0), -1);
}

static void retry_after_is_obeyed_up_to_its_cap(void **state)
{
    struct failure failed = failure(true);

    (void)state;
    failed.retry_after_ms = 1234;
    assert_int_equal(retry_delay(&POLICY, &failed, 1, LONG_MS, 0.9), 1234);
    failed.retry_after_ms = 0;
    assert_int_equal(retry_delay(&POLICY, &failed, 1, LONG_MS, 0.9), 0);
    failed.retry_after_ms = 60000;
    assert_int_equal(retry_delay(&POLICY, &failed, 1, LONG_MS, 0), 60000);
    failed.retry_after_ms = 60001;
    assert_int_equal(retry_delay(&POLICY, &failed, 1, LONG_MS, 0), -1);
}

static void nothing_is_tried_after_the_deadline(void **state)
{
    struct failure failed = failure(true);

    (void)state;
    assert_int_equal(retry_delay(&POLICY, &failed, 0, 501, 0), 500);
    assert_int_equal(retry_delay(&POLICY, &failed, 0, 500, 0), -1);
    assert_int_equal(retry_delay(&POLICY, &failed, 0, 0, 0), -1);
}

static void retry_after_may_be_seconds(void **state)
{
    (void)state;
    assert_int_equal(parse("120", 0), 120000);
    assert_int_equal(parse(" 1.5 ", 0), 1500);
    assert_int_equal(parse("0.0204999", 0), 20);
    assert_int_equal(parse("0", 0), 0);
    assert_int_equal(parse("99999999999999999999999999", 0), 3155760000000);
}

static void retry_after_may_be_any_date_of_http(void **state)
{
    (void)state;
    assert_int_equal(parse("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE_S - 7),
                     7000);
    assert_int_equal(parse("Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE_S - 7),
                     7000);
    assert_int_equal(parse("Sun Nov  6 08:49:37 1994", EXAMPLE_S - 7), 7000);
    assert_int_equal(parse("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE_S + 7), 0);
    assert_int_equal(parse("Thu, 29 Feb 2024 23:59:59 GMT", 1709251198), 1000);
    assert_int_equal(parse("Sun, 01 Jan 1995 00:00:00 GMT", 788918399), 1000);
    assert_int_equal(parse("Sat, 31 Dec 1994 23:59:60 GMT", 788918399), 1000);
    assert_int_equal(parse("Fri, 31 Dec 9999 23:59:59 GMT", EXAMPLE_S),
                     3155760000000);
}

static void a_short_year_is_the_near_one(void **state)
{
    (void)state;
    /* 2026-11-22; 20-Nov-30 lies ahead, 20-Nov-94 lies behind. */
    assert_int_equal(parse("Wednesday, 20-Nov-30 00:00:00 GMT", 1795305600),
                     (int64_t)(1921363200 - 1795305600) * 1000);
    assert_int_equal(parse("Sunday, 20-Nov-94 00:00:00 GMT", 1795305600), 0);
}

static void other_texts_are_no_retry_after(void **state)
{
    static const char *const texts[] = {
        "",
        "-1",
        "1.5s",
        "soon",
        "1e3",
        "nan",
        "inf",
        "0x10",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Now 1994 08:49:37 GMT",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov x 08:49:37 GMT",
        "Sun, x Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT",
        "Sun, 06 Nov 99999999999 08:49:37 GMT",
        "Sun Nov",
        ",",
        "Sun, anF 1994",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (parse(texts[i], EXAMPLE_S) != -1)
            fail_msg("taken: %s", texts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_delay_doubles_up_to_its_maximum),
        cmocka_unit_test(chance_takes_off_up_to_a_quarter),
        cmocka_unit_test(an_overloaded_provider_gets_more_time),
        cmocka_unit_test(retries_end),
        cmocka_unit_test(the_providers_word_wins_over_the_class),
        cmocka_unit_test(retry_after_is_obeyed_up_to_its_cap),
        cmocka_unit_test(nothing_is_tried_after_the_deadline),
        cmocka_unit_test(retry_after_may_be_seconds),
        cmocka_unit_test(retry_after_may_be_any_date_of_http),
        cmocka_unit_test(a_short_year_is_the_near_one),
        cmocka_unit_test(other_texts_are_no_retry_after),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
