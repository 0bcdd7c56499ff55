#include "llm_router/core/supply.h"

#include <math.h>
#include <stdio.h>

#include "unit.h"

/* 2026-11-22 12:00:00 UTC, a Sunday. */
static const int64_t NOON = 1795348800;
enum { HOUR_S = 3600, DAY_S = 86400 };

static const struct budget_limits NO_BUDGET = {NAN, NAN};
static const struct key_limits NO_LIMITS = {.budget = {NAN, NAN}};

struct bed {
    struct supply *supply;
    struct supply_clock clock;
};

static struct bed open_bed(void)
{
    struct bed bed = {supply_new(1), {1000, NOON}};

    return bed;
}

static void close_bed(struct bed *bed)
{
    supply_free(bed->supply);
}

static void pass(struct bed *bed, uint64_t ms)
{
    bed->clock.now_ms += ms;
    bed->clock.unix_s = NOON + (int64_t)((bed->clock.now_ms - 1000) / 1000);
}

/* Provider "p" with these keys ("ab": keys a and b), all with `limits`. */
static void declare(struct bed *bed, const char *keys, int64_t in_flight,
                    const struct key_limits *limits)
{
    supply_declare_begin(bed->supply, &NO_BUDGET);
    supply_declare_provider(bed->supply, slice_of("p"), in_flight);
    for (; *keys; keys++)
        supply_declare_key(bed->supply, slice_of("p"), slice_make(keys, 1),
                           limits);
    supply_declare_end(bed->supply);
}

static struct bed open_with(const char *keys, const struct key_limits *limits)
{
    struct bed bed = open_bed();

    declare(&bed, keys, 0, limits);
    return bed;
}

static struct supply_need need_of(int64_t tokens, double cost_usd)
{
    return (struct supply_need){
        .provider = slice_of("p"), .tokens = tokens, .cost_usd = cost_usd};
}

static enum supply_verdict take(struct bed *bed, struct supply_grant *grant)
{
    struct supply_need need = need_of(100, NAN);

    return supply_take(bed->supply, &need, &bed->clock, grant);
}

static enum supply_verdict take_only(struct bed *bed,
                                     struct supply_grant *grant)
{
    struct supply_need need = need_of(100, NAN);

    need.only = true;
    return supply_take(bed->supply, &need, &bed->clock, grant);
}

static struct supply_outcome outcome(enum supply_end end)
{
    return (struct supply_outcome){
        .end = end,
        .error = end == SUPPLY_FAILED    ? ERR_PROVIDER_ERROR
                 : end == SUPPLY_KEY_BAD ? ERR_UNAUTHORIZED
                                         : ERR_NONE,
        .retry_after_ms = -1,
        .tokens = -1,
        .cost_usd = NAN,
        .latency_ms = -1,
        .limits = RATE_LIMITS_UNKNOWN,
    };
}

static void settle(struct bed *bed, const struct supply_grant *grant,
                   enum supply_end end)
{
    struct supply_outcome how = outcome(end);

    supply_settle(bed->supply, grant, &how, &bed->clock);
}

static void settle_after(struct bed *bed, const struct supply_grant *grant,
                         int64_t retry_after_ms)
{
    struct supply_outcome how = outcome(SUPPLY_FAILED);

    how.error = ERR_RATE_LIMITED;
    how.retry_after_ms = retry_after_ms;
    supply_settle(bed->supply, grant, &how, &bed->clock);
}

/* A whole attempt; false when it was refused. */
static bool attempt(struct bed *bed, enum supply_end end)
{
    struct supply_grant grant;

    if (take(bed, &grant) != SUPPLY_GRANTED)
        return false;
    settle(bed, &grant, end);
    return true;
}

static void attempts(struct bed *bed, int count, enum supply_end end)
{
    while (count-- > 0)
        assert_true(attempt(bed, end));
}

static void assert_granted(struct bed *bed, const char *key)
{
    struct supply_grant grant;

    assert_int_equal(take(bed, &grant), SUPPLY_GRANTED);
    assert_slice(grant.key_name, key);
    settle(bed, &grant, SUPPLY_BLAMELESS);
}

static void assert_refused(struct bed *bed, enum supply_verdict verdict,
                           uint64_t wait_ms)
{
    struct supply_grant grant;

    assert_int_equal(take(bed, &grant), verdict);
    assert_int_equal(grant.wait_ms, wait_ms);
    assert_int_equal(grant.key, 0);
}

static bool is_healthy(const struct bed *bed)
{
    return supply_is_healthy(bed->supply, slice_of("p"), &bed->clock);
}

static void keep_view(void *context, const struct supply_key_view *view)
{
    *(struct supply_key_view *)context = *view;
}

/* Of the last key. */
static struct supply_key_view view(const struct bed *bed)
{
    struct supply_key_view kept = {.state = NULL};

    supply_each_key(bed->supply, &bed->clock, keep_view, &kept);
    return kept;
}

static void who_is_not_declared_is_unknown(void **state)
{
    struct bed bed = open_with("", &NO_LIMITS);
    struct supply_need other = {.provider = SLICE_LITERAL("other")};
    struct supply_grant grant;

    (void)state;
    assert_refused(&bed, SUPPLY_UNKNOWN, 0);
    assert_int_equal(supply_take(bed.supply, &other, &bed.clock, &grant),
                     SUPPLY_UNKNOWN);
    assert_false(supply_retry(bed.supply, other.provider));
    assert_false(supply_is_healthy(bed.supply, slice_of("other"), &bed.clock));
    supply_declare_key(bed.supply, slice_of("other"), slice_of("a"),
                       &NO_LIMITS);
    assert_null(view(&bed).state);
    close_bed(&bed);
}

/* Health */

static void three_failures_in_a_row_bench_a_new_key(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);

    (void)state;
    attempts(&bed, 2, SUPPLY_FAILED);
    assert_true(is_healthy(&bed));
    attempts(&bed, 1, SUPPLY_FAILED);
    assert_false(is_healthy(&bed));
    assert_refused(&bed, SUPPLY_FAILING, 3000);
    assert_string_equal(view(&bed).state, "benched");
    assert_int_equal(view(&bed).returns_ms, 3000);
    assert_int_equal(view(&bed).benches, 1);
    assert_int_equal(view(&bed).failed, 3);
    assert_true(view(&bed).failure_rate > 0.99);
    close_bed(&bed);
}

static void a_key_that_mostly_answers_is_not_benched(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);

    (void)state;
    for (int i = 0; i < 100; i++) {
        attempts(&bed, 1, i % 3 == 2 ? SUPPLY_FAILED : SUPPLY_OK);
        pass(&bed, 20);
    }
    assert_int_equal(view(&bed).benches, 0);
    assert_true(view(&bed).failure_rate > 0.2);
    assert_true(view(&bed).failure_rate < 0.5);
    close_bed(&bed);
}

static void old_failures_are_forgotten(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);

    (void)state;
    for (int i = 0; i < 20; i++) {
        attempts(&bed, 2, SUPPLY_FAILED);
        pass(&bed, 600000);
    }
    assert_int_equal(view(&bed).benches, 0);
    assert_true(view(&bed).failure_rate < 0.01);
    close_bed(&bed);
}

static void blameless_ends_are_no_failures(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);

    (void)state;
    attempts(&bed, 50, SUPPLY_BLAMELESS);
    assert_int_equal(view(&bed).failed, 0);
    assert_int_equal(view(&bed).granted, 50);
    assert_true(is_healthy(&bed));
    close_bed(&bed);
}

static void after_the_bench_one_attempt_at_a_time_is_a_probe(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant probe;

    (void)state;
    attempts(&bed, 3, SUPPLY_FAILED);
    pass(&bed, 2999);
    assert_refused(&bed, SUPPLY_FAILING, 1);
    pass(&bed, 1);
    assert_true(is_healthy(&bed));
    assert_int_equal(take(&bed, &probe), SUPPLY_GRANTED);
    assert_true(probe.probe);
    assert_false(is_healthy(&bed));
    assert_refused(&bed, SUPPLY_FAILING, 200);
    assert_string_equal(view(&bed).state, "probing");
    settle(&bed, &probe, SUPPLY_OK);
    assert_string_equal(view(&bed).state, "ok");
    assert_int_equal(take(&bed, &probe), SUPPLY_GRANTED);
    assert_false(probe.probe);
    assert_true(is_healthy(&bed));
    settle(&bed, &probe, SUPPLY_OK);
    close_bed(&bed);
}

static void the_bench_doubles_while_probes_fail(void **state)
{
    static const uint64_t lengths[] = {3000,  6000,  12000, 24000,
                                       48000, 60000, 60000};
    struct bed bed = open_with("a", &NO_LIMITS);

    (void)state;
    attempts(&bed, 3, SUPPLY_FAILED);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        assert_refused(&bed, SUPPLY_FAILING, lengths[i]);
        pass(&bed, lengths[i]);
        attempts(&bed, 1, SUPPLY_FAILED);
    }
    pass(&bed, 60000);
    attempts(&bed, 1, SUPPLY_OK);
    attempts(&bed, 2, SUPPLY_FAILED);
    assert_refused(&bed, SUPPLY_FAILING, 3000);
    close_bed(&bed);
}

static void a_cancelled_probe_leaves_its_place_to_the_next(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant probe;

    (void)state;
    attempts(&bed, 3, SUPPLY_FAILED);
    pass(&bed, 3000);
    assert_int_equal(take(&bed, &probe), SUPPLY_GRANTED);
    settle(&bed, &probe, SUPPLY_BLAMELESS);
    assert_int_equal(take(&bed, &probe), SUPPLY_GRANTED);
    assert_true(probe.probe);
    settle(&bed, &probe, SUPPLY_OK);
    assert_true(is_healthy(&bed));
    close_bed(&bed);
}

static void a_probe_that_takes_long_does_not_keep_others_out(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant slow, probe;

    (void)state;
    attempts(&bed, 3, SUPPLY_FAILED);
    pass(&bed, 3000);
    assert_int_equal(take(&bed, &slow), SUPPLY_GRANTED);
    pass(&bed, 9999);
    assert_refused(&bed, SUPPLY_FAILING, 200);
    pass(&bed, 1);
    assert_int_equal(take(&bed, &probe), SUPPLY_GRANTED);
    assert_true(probe.probe);
    settle(&bed, &probe, SUPPLY_OK);
    settle(&bed, &slow, SUPPLY_FAILED);
    assert_true(is_healthy(&bed));
    close_bed(&bed);
}

static void what_began_before_a_bench_does_not_end_or_lengthen_it(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant early[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        take(&bed, &early[i]);
    attempts(&bed, 3, SUPPLY_FAILED);
    pass(&bed, 1000);
    settle(&bed, &early[0], SUPPLY_FAILED);
    settle(&bed, &early[1], SUPPLY_OK);
    assert_refused(&bed, SUPPLY_FAILING, 2000);
    pass(&bed, 2000);
    attempts(&bed, 1, SUPPLY_OK);
    settle(&bed, &early[2], SUPPLY_FAILED);
    settle(&bed, &early[3], SUPPLY_FAILED);
    assert_int_equal(view(&bed).in_flight, 0);
    assert_true(view(&bed).failure_rate < 0.01);
    close_bed(&bed);
}

static void an_only_candidate_is_never_refused_for_failures(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant grant, other;

    (void)state;
    attempts(&bed, 3, SUPPLY_FAILED);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(take_only(&bed, &grant), SUPPLY_GRANTED);
        assert_true(grant.probe);
        assert_int_equal(take_only(&bed, &other), SUPPLY_GRANTED);
        settle(&bed, &grant, SUPPLY_FAILED);
        settle(&bed, &other, SUPPLY_FAILED);
        pass(&bed, 100);
    }
    /* What fails now fails for those who have a choice, too. */
    assert_refused(&bed, SUPPLY_FAILING, 2900);
    take_only(&bed, &grant);
    settle(&bed, &grant, SUPPLY_OK);
    assert_granted(&bed, "a");
    close_bed(&bed);
}

static void a_retry_after_counts_even_for_an_only_candidate(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant grant;

    (void)state;
    take(&bed, &grant);
    settle_after(&bed, &grant, 1000);
    assert_int_equal(take_only(&bed, &grant), SUPPLY_WAITING);
    assert_int_equal(grant.wait_ms, 1000);
    assert_int_equal(grant.last_error, ERR_RATE_LIMITED);
    assert_refused(&bed, SUPPLY_WAITING, 3000);
    pass(&bed, 1000);
    assert_refused(&bed, SUPPLY_FAILING, 2000);
    assert_int_equal(take_only(&bed, &grant), SUPPLY_GRANTED);
    settle(&bed, &grant, SUPPLY_OK);
    assert_granted(&bed, "a");
    close_bed(&bed);
}

static void the_longest_retry_after_counts_up_to_ten_minutes(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant grants[3], refused;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        take(&bed, &grants[i]);
    settle_after(&bed, &grants[0], 20000);
    settle_after(&bed, &grants[1], 5000);
    assert_refused(&bed, SUPPLY_WAITING, 20000);
    assert_int_equal(take_only(&bed, &refused), SUPPLY_WAITING);
    assert_int_equal(refused.wait_ms, 20000);
    settle_after(&bed, &grants[2], INT64_MAX);
    assert_refused(&bed, SUPPLY_WAITING, 600000);
    close_bed(&bed);
}

static void a_retry_after_of_nothing_is_a_plain_failure(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant grant;

    (void)state;
    take(&bed, &grant);
    settle_after(&bed, &grant, 0);
    assert_granted(&bed, "a");
    close_bed(&bed);
}

static void a_refused_key_is_benched_for_a_minute(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant early, grant;

    (void)state;
    take(&bed, &early);
    attempts(&bed, 1, SUPPLY_KEY_BAD);
    settle(&bed, &early, SUPPLY_FAILED);
    assert_refused(&bed, SUPPLY_FAILING, 60000);
    take(&bed, &grant);
    assert_int_equal(grant.last_error, ERR_UNAUTHORIZED);
    pass(&bed, 60000);
    attempts(&bed, 1, SUPPLY_OK);
    assert_granted(&bed, "a");
    close_bed(&bed);
}

static void an_only_key_that_is_refused_is_tried_once_a_second(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant grant;
    int tried = 0;

    (void)state;
    attempts(&bed, 1, SUPPLY_KEY_BAD);
    for (int i = 0; i < 100; i++, pass(&bed, 100)) {
        if (take_only(&bed, &grant) == SUPPLY_GRANTED) {
            settle(&bed, &grant, SUPPLY_KEY_BAD);
            tried++;
            continue;
        }
        assert_int_equal(grant.last_error, ERR_UNAUTHORIZED);
        assert_in_range(grant.wait_ms, 1, 1000);
    }
    assert_int_equal(tried, 9);
    assert_refused(&bed, SUPPLY_FAILING, 59000);
    assert_int_equal(take_only(&bed, &grant), SUPPLY_GRANTED);
    assert_int_equal(take_only(&bed, &(struct supply_grant){0}),
                     SUPPLY_FAILING);
    settle(&bed, &grant, SUPPLY_OK);
    assert_granted(&bed, "a");
    close_bed(&bed);
}

static void a_refused_key_is_not_waited_for_whatever_it_says(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_outcome how = outcome(SUPPLY_KEY_BAD);
    struct supply_grant grant;

    (void)state;
    take(&bed, &grant);
    how.error = ERR_QUOTA_EXCEEDED;
    how.retry_after_ms = 90000;
    supply_settle(bed.supply, &grant, &how, &bed.clock);
    assert_refused(&bed, SUPPLY_FAILING, 90000);
    assert_int_equal(take_only(&bed, &grant), SUPPLY_FAILING);
    assert_int_equal(grant.wait_ms, 1000);
    assert_int_equal(grant.last_error, ERR_QUOTA_EXCEEDED);
    close_bed(&bed);
}

static void a_turn_is_told_once(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_outcome bad = outcome(SUPPLY_KEY_BAD);
    struct supply_outcome good = outcome(SUPPLY_OK);
    struct supply_grant first, second;

    (void)state;
    take(&bed, &first);
    take(&bed, &second);
    assert_int_equal(supply_settle(bed.supply, &first, &bad, &bed.clock),
                     SUPPLY_BENCHED);
    assert_int_equal(supply_settle(bed.supply, &second, &bad, &bed.clock),
                     SUPPLY_UNTURNED);
    bed.clock.now_ms += 60000;
    take(&bed, &first);
    assert_int_equal(supply_settle(bed.supply, &first, &good, &bed.clock),
                     SUPPLY_BACK);
    take(&bed, &first);
    assert_int_equal(supply_settle(bed.supply, &first, &good, &bed.clock),
                     SUPPLY_UNTURNED);
    /* One that is declared no more may be gone. */
    take(&bed, &first);
    supply_declare_begin(bed.supply, &(struct budget_limits){NAN, NAN});
    assert_int_equal(supply_settle(bed.supply, &first, &bad, &bed.clock),
                     SUPPLY_UNTURNED);
    close_bed(&bed);
}

/* Several keys */

static void the_least_used_key_is_taken(void **state)
{
    struct key_limits limits = {.tokens_per_minute = 1000,
                                .budget = {NAN, NAN}};
    struct bed bed = open_with("abc", &limits);
    struct supply_grant grants[4];

    (void)state;
    for (size_t i = 0; i < 3; i++)
        take(&bed, &grants[i]);
    assert_slice(grants[0].key_name, "a");
    assert_slice(grants[1].key_name, "b");
    assert_slice(grants[2].key_name, "c");
    settle(&bed, &grants[1], SUPPLY_OK);
    take(&bed, &grants[3]);
    assert_slice(grants[3].key_name, "b");
    settle(&bed, &grants[3], SUPPLY_OK);
    settle(&bed, &grants[0], SUPPLY_OK);
    settle(&bed, &grants[2], SUPPLY_OK);
    /* All idle, b used most tokens. */
    take(&bed, &grants[0]);
    assert_slice(grants[0].key_name, "a");
    settle(&bed, &grants[0], SUPPLY_OK);
    take(&bed, &grants[0]);
    assert_slice(grants[0].key_name, "c");
    settle(&bed, &grants[0], SUPPLY_OK);
    close_bed(&bed);
}

static void a_key_told_to_wait_does_not_stop_the_others(void **state)
{
    struct bed bed = open_with("ab", &NO_LIMITS);
    struct supply_grant grant;

    (void)state;
    take(&bed, &grant);
    assert_slice(grant.key_name, "a");
    settle_after(&bed, &grant, 5000);
    for (int i = 0; i < 5; i++)
        assert_granted(&bed, "b");
    take(&bed, &grant);
    settle_after(&bed, &grant, 9000);
    assert_refused(&bed, SUPPLY_WAITING, 5000);
    /* The one that is back gets a probe although the other one is told to
     * wait; then, open again, it serves alone. */
    pass(&bed, 5000);
    take(&bed, &grant);
    assert_true(grant.probe);
    assert_slice(grant.key_name, "a");
    settle(&bed, &grant, SUPPLY_OK);
    assert_granted(&bed, "a");
    close_bed(&bed);
}

static void a_benched_key_is_probed_while_another_one_is_well(void **state)
{
    struct bed bed = open_with("ab", &NO_LIMITS);
    struct supply_grant grant;

    (void)state;
    take(&bed, &grant);
    attempts(&bed, 1, SUPPLY_KEY_BAD);
    settle(&bed, &grant, SUPPLY_OK);
    assert_granted(&bed, "a");
    pass(&bed, 60000);
    assert_int_equal(take(&bed, &grant), SUPPLY_GRANTED);
    assert_slice(grant.key_name, "b");
    assert_true(grant.probe);
    assert_granted(&bed, "a");
    settle(&bed, &grant, SUPPLY_OK);
    close_bed(&bed);
}

static void an_only_candidate_takes_the_key_that_is_well(void **state)
{
    struct bed bed = open_with("ab", &NO_LIMITS);
    struct supply_grant grant;

    (void)state;
    attempts(&bed, 3, SUPPLY_FAILED);
    assert_int_equal(take_only(&bed, &grant), SUPPLY_GRANTED);
    assert_slice(grant.key_name, "b");
    assert_false(grant.probe);
    settle(&bed, &grant, SUPPLY_OK);
    close_bed(&bed);
}

static void a_key_without_room_by_its_headers_waits_for_the_reset(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_outcome how = outcome(SUPPLY_OK);
    struct supply_grant grant;

    (void)state;
    take(&bed, &grant);
    how.limits = (struct rate_limits){0, 4000, 100, 9000};
    supply_settle(bed.supply, &grant, &how, &bed.clock);
    assert_refused(&bed, SUPPLY_WAITING, 4000);
    assert_int_equal(take_only(&bed, &grant), SUPPLY_GRANTED);
    how.limits = (struct rate_limits){7, 1, 0, 3600000};
    supply_settle(bed.supply, &grant, &how, &bed.clock);
    assert_refused(&bed, SUPPLY_WAITING, 60000);
    pass(&bed, 60000);
    take(&bed, &grant);
    how.limits = (struct rate_limits){0, -1, 0, -1};
    supply_settle(bed.supply, &grant, &how, &bed.clock);
    assert_granted(&bed, "a");
    close_bed(&bed);
}

/* Limits */

static void requests_per_minute_are_a_burst_and_then_a_rate(void **state)
{
    struct key_limits limits = {.requests_per_minute = 60,
                                .budget = {NAN, NAN}};
    struct bed bed = open_with("a", &limits);

    (void)state;
    attempts(&bed, 60, SUPPLY_OK);
    assert_refused(&bed, SUPPLY_LIMITED, 1000);
    pass(&bed, 999);
    assert_refused(&bed, SUPPLY_LIMITED, 1);
    pass(&bed, 1);
    attempts(&bed, 1, SUPPLY_OK);
    assert_refused(&bed, SUPPLY_LIMITED, 1000);
    pass(&bed, 3600000);
    assert_int_equal(view(&bed).requests_room, 60);
    attempts(&bed, 60, SUPPLY_OK);
    assert_refused(&bed, SUPPLY_LIMITED, 1000);
    close_bed(&bed);
}

static void settle_tokens(struct bed *bed, const struct supply_grant *grant,
                          int64_t tokens)
{
    struct supply_outcome how = outcome(SUPPLY_OK);

    how.tokens = tokens;
    supply_settle(bed->supply, grant, &how, &bed->clock);
}

static void tokens_are_settled_with_what_was_really_used(void **state)
{
    struct key_limits limits = {.tokens_per_minute = 6000,
                                .budget = {NAN, NAN}};
    struct bed bed = open_with("a", &limits);
    struct supply_need need = need_of(6000, NAN);
    struct supply_grant grant;

    (void)state;
    assert_int_equal(supply_take(bed.supply, &need, &bed.clock, &grant),
                     SUPPLY_GRANTED);
    assert_refused(&bed, SUPPLY_LIMITED, 1000);
    settle_tokens(&bed, &grant, 5000);
    assert_int_equal(view(&bed).tokens_room, 1000);
    assert_int_equal(take(&bed, &grant), SUPPLY_GRANTED);
    /* More than was estimated is a debt. */
    settle_tokens(&bed, &grant, 4000);
    assert_int_equal(view(&bed).tokens_room, 0);
    assert_false(is_healthy(&bed));
    assert_refused(&bed, SUPPLY_LIMITED, 31000);
    pass(&bed, 31000);
    assert_int_equal(take(&bed, &grant), SUPPLY_GRANTED);
    settle_tokens(&bed, &grant, -1);
    assert_int_equal(view(&bed).tokens_room, 0);
    close_bed(&bed);
}

static void a_call_larger_than_a_minutes_worth_needs_a_full_bucket(void **state)
{
    struct key_limits limits = {.tokens_per_minute = 6000,
                                .budget = {NAN, NAN}};
    struct bed bed = open_with("a", &limits);
    struct supply_need need = need_of(9000, NAN);
    struct supply_grant grant;

    (void)state;
    assert_int_equal(supply_take(bed.supply, &need, &bed.clock, &grant),
                     SUPPLY_GRANTED);
    settle_tokens(&bed, &grant, -1);
    assert_int_equal(supply_take(bed.supply, &need, &bed.clock, &grant),
                     SUPPLY_LIMITED);
    assert_int_equal(grant.wait_ms, 90000);
    pass(&bed, 90000);
    assert_int_equal(supply_take(bed.supply, &need, &bed.clock, &grant),
                     SUPPLY_GRANTED);
    settle_tokens(&bed, &grant, 1);
    close_bed(&bed);
}

static void a_provider_has_no_more_in_flight_than_it_may(void **state)
{
    struct bed bed = open_bed();
    struct supply_grant one, two;

    (void)state;
    declare(&bed, "ab", 2, &NO_LIMITS);
    take(&bed, &one);
    take(&bed, &two);
    assert_refused(&bed, SUPPLY_BUSY, 0);
    assert_false(is_healthy(&bed));
    settle(&bed, &one, SUPPLY_OK);
    assert_granted(&bed, "a");
    settle(&bed, &two, SUPPLY_OK);
    close_bed(&bed);
}

static void
waiting_for_a_release_is_not_told_of_a_benched_provider(void **state)
{
    struct bed bed = open_bed();
    struct supply_grant hung;

    (void)state;
    declare(&bed, "a", 1, &NO_LIMITS);
    attempts(&bed, 3, SUPPLY_FAILED);
    pass(&bed, 3000);
    take(&bed, &hung);
    assert_refused(&bed, SUPPLY_FAILING, 200);
    settle(&bed, &hung, SUPPLY_FAILED);
    close_bed(&bed);
}

/* Money */

static enum supply_verdict spend(struct bed *bed, double estimate, double real)
{
    struct supply_need need = need_of(0, estimate);
    struct supply_outcome how = outcome(SUPPLY_OK);
    struct supply_grant grant;
    enum supply_verdict verdict =
        supply_take(bed->supply, &need, &bed->clock, &grant);

    how.cost_usd = real;
    if (verdict == SUPPLY_GRANTED)
        supply_settle(bed->supply, &grant, &how, &bed->clock);
    return verdict;
}

static void a_budget_counts_what_was_really_spent(void **state)
{
    struct key_limits limits = {.budget = {1, NAN}};
    struct bed bed = open_with("a", &limits);

    (void)state;
    assert_int_equal(spend(&bed, 0.9, 0.25), SUPPLY_GRANTED);
    assert_int_equal(spend(&bed, 0.8, 0), SUPPLY_SPENT);
    assert_int_equal(spend(&bed, 0.75, 0.5), SUPPLY_GRANTED);
    assert_int_equal(spend(&bed, NAN, NAN), SUPPLY_GRANTED);
    assert_int_equal(spend(&bed, 0.1, 0.5), SUPPLY_GRANTED);
    assert_int_equal(spend(&bed, NAN, 0), SUPPLY_SPENT);
    assert_true(view(&bed).day_usd == 1.25);
    assert_false(is_healthy(&bed));
    close_bed(&bed);
}

static void estimates_of_what_is_in_flight_are_reserved(void **state)
{
    struct key_limits limits = {.budget = {1, NAN}};
    struct bed bed = open_with("a", &limits);
    struct supply_need need = need_of(0, 0.75);
    struct supply_grant grant;

    (void)state;
    supply_take(bed.supply, &need, &bed.clock, &grant);
    assert_int_equal(spend(&bed, 0.5, 0), SUPPLY_SPENT);
    settle(&bed, &grant, SUPPLY_BLAMELESS);
    assert_int_equal(spend(&bed, 0.5, 0), SUPPLY_GRANTED);
    close_bed(&bed);
}

static void a_spent_key_leaves_the_work_to_the_others(void **state)
{
    struct key_limits limits = {.budget = {1, NAN}};
    struct bed bed = open_with("ab", &limits);
    struct supply_grant grant;

    (void)state;
    assert_int_equal(spend(&bed, 1, 1), SUPPLY_GRANTED);
    take(&bed, &grant);
    assert_slice(grant.key_name, "b");
    settle_after(&bed, &grant, 7000);
    /* b will be back, a not. */
    assert_refused(&bed, SUPPLY_WAITING, 7000);
    pass(&bed, 7000);
    assert_int_equal(spend(&bed, 1, 1), SUPPLY_GRANTED);
    assert_refused(&bed, SUPPLY_SPENT, 0);
    close_bed(&bed);
}

static void the_overall_budget_is_for_all_keys(void **state)
{
    struct budget_limits overall = {1, NAN};
    struct bed bed = open_bed();

    (void)state;
    supply_declare_begin(bed.supply, &overall);
    supply_declare_provider(bed.supply, slice_of("p"), 0);
    supply_declare_key(bed.supply, slice_of("p"), slice_of("a"), &NO_LIMITS);
    supply_declare_key(bed.supply, slice_of("p"), slice_of("b"), &NO_LIMITS);
    supply_declare_end(bed.supply);
    assert_int_equal(spend(&bed, 0.5, 0.5), SUPPLY_GRANTED);
    assert_false(supply_is_spent(bed.supply, &bed.clock));
    assert_int_equal(spend(&bed, 0.5, 0.5), SUPPLY_GRANTED);
    assert_true(supply_is_spent(bed.supply, &bed.clock));
    assert_int_equal(spend(&bed, 0.1, 0), SUPPLY_SPENT);
    bed.clock.unix_s += DAY_S;
    assert_false(supply_is_spent(bed.supply, &bed.clock));
    assert_int_equal(spend(&bed, 0.1, 0), SUPPLY_GRANTED);
    close_bed(&bed);
}

static void days_and_months_begin_at_midnight_utc(void **state)
{
    struct key_limits limits = {.budget = {1, 3}};
    struct bed bed = open_with("a", &limits);

    (void)state;
    for (int day = 0; day < 3; day++) {
        assert_int_equal(spend(&bed, 1, 1), SUPPLY_GRANTED);
        bed.clock.unix_s = NOON + day * DAY_S + 12 * HOUR_S - 1;
        assert_int_equal(spend(&bed, 1, 1), SUPPLY_SPENT);
        bed.clock.unix_s++;
    }
    /* The month's budget is used up, until the 1st of December. */
    assert_int_equal(spend(&bed, 1, 1), SUPPLY_SPENT);
    bed.clock.unix_s = NOON + 8 * DAY_S + 12 * HOUR_S - 1;
    assert_int_equal(spend(&bed, 1, 1), SUPPLY_SPENT);
    bed.clock.unix_s++;
    assert_int_equal(spend(&bed, 1, 1), SUPPLY_GRANTED);
    assert_true(view(&bed).month_usd == 1);
    close_bed(&bed);
}

static void a_clock_set_back_does_not_give_money_twice(void **state)
{
    struct key_limits limits = {.budget = {1, NAN}};
    struct bed bed = open_with("a", &limits);

    (void)state;
    assert_int_equal(spend(&bed, 1, 1), SUPPLY_GRANTED);
    bed.clock.unix_s -= 40 * DAY_S;
    assert_int_equal(spend(&bed, 1, 1), SUPPLY_SPENT);
    bed.clock.unix_s = INT64_MIN;
    assert_int_equal(spend(&bed, 1, 1), SUPPLY_SPENT);
    close_bed(&bed);
}

static struct slice spending(const struct bed *bed, struct buf *out)
{
    buf_clear(out);
    supply_put_spending(bed->supply, out);
    assert_false(out->failed);
    return buf_slice(out);
}

static bool read_spending(struct bed *bed, struct slice text)
{
    struct error err;

    if (supply_read_spending(bed->supply, text, &bed->clock, &err))
        return true;
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    return false;
}

static void what_is_spent_outlives_the_program(void **state)
{
    struct key_limits limits = {.budget = {1, 10}};
    struct bed old = open_with("\"", &limits), new = open_with("\"", &limits);
    struct buf text;

    (void)state;
    buf_init(&text, 10000);
    spend(&old, 0, 0.1);
    spend(&old, 0, 0.2);
    assert_true(read_spending(&new, spending(&old, &text)));
    assert_true(view(&new).day_usd == view(&old).day_usd);
    assert_true(view(&new).month_usd == view(&old).month_usd);
    assert_int_equal(spend(&new, 0.9, 0), SUPPLY_SPENT);
    buf_release(&text);
    close_bed(&old);
    close_bed(&new);
}

static void what_was_spent_on_another_day_is_not_read(void **state)
{
    static const char file[] =
        "{\"overall\":{\"day\":\"2026-11-21\",\"day_usd\":3,"
        "\"month\":\"2026-10\",\"month_usd\":4},"
        "\"keys\":[{\"provider\":\"p\",\"key\":\"a\",\"day\":\"2026-11-23\","
        "\"day_usd\":5,\"month\":\"2026-11\",\"month_usd\":6},"
        "{\"provider\":\"p\",\"key\":\"b\",\"day\":\"2026-11-22\","
        "\"day_usd\":7,\"month\":\"2026-11\",\"month_usd\":8}]}";
    struct bed bed = open_with("a", &NO_LIMITS);
    struct buf text;

    (void)state;
    buf_init(&text, 10000);
    assert_true(read_spending(&bed, slice_of(file)));
    assert_slice(spending(&bed, &text),
                 "{\"overall\":{\"day\":\"2026-11-22\",\"day_usd\":0,"
                 "\"month\":\"2026-11\",\"month_usd\":0},"
                 "\"keys\":[{\"provider\":\"p\",\"key\":\"a\","
                 "\"day\":\"2026-11-22\",\"day_usd\":0,"
                 "\"month\":\"2026-11\",\"month_usd\":6}]}\n");
    buf_release(&text);
    close_bed(&bed);
}

static void the_calendar_knows_leap_years_and_year_ends(void **state)
{
    static const struct {
        int64_t unix_s;
        const char *day, *month;
    } dates[] = {
        {0, "1970-01-01", "1970-01"},
        {951782399, "2000-02-28", "2000-02"},
        {951782400, "2000-02-29", "2000-02"},
        {951868800, "2000-03-01", "2000-03"},
        {1709164800, "2024-02-29", "2024-02"},
        {1767225599, "2025-12-31", "2025-12"},
        {1767225600, "2026-01-01", "2026-01"},
        {4107542399, "2100-02-28", "2100-02"},
        {4107542400, "2100-03-01", "2100-03"},
        {INT64_MAX, "9999-12-31", "9999-12"},
    };
    struct buf text;

    (void)state;
    buf_init(&text, 1000);
    for (size_t i = 0; i < sizeof(dates) / sizeof(*dates); i++) {
        struct bed bed = open_bed();
        char expected[200];

        bed.clock.unix_s = dates[i].unix_s;
        declare(&bed, "a", 0, &NO_LIMITS);
        spend(&bed, 0, 0.5);
        snprintf(expected, sizeof(expected),
                 "{\"overall\":{\"day\":\"%s\",\"day_usd\":0.5,"
                 "\"month\":\"%s\",\"month_usd\":0.5},\"keys\":",
                 dates[i].day, dates[i].month);
        assert_slice(slice_make(spending(&bed, &text).data, strlen(expected)),
                     expected);
        close_bed(&bed);
    }
    buf_release(&text);
}

static void a_text_that_is_not_ours_is_refused_as_a_whole(void **state)
{
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"overall\":{\"day\":\"2026-11-22\",\"day_usd\":1,"
        "\"month\":\"2026-11\",\"month_usd\":1}}",
        "{\"overall\":{\"day\":\"2026-11-22\",\"day_usd\":1,"
        "\"month\":\"2026-11\",\"month_usd\":1},\"keys\":{}}",
        "{\"overall\":{\"day\":\"2026-11-22\",\"day_usd\":1,"
        "\"month\":\"2026-11\",\"month_usd\":1},\"keys\":[]} x",
        "{\"overall\":{\"day\":\"2026-11-22\",\"day_usd\":-1,"
        "\"month\":\"2026-11\",\"month_usd\":1},\"keys\":[]}",
        "{\"overall\":{\"day\":\"2026-11-22\",\"day_usd\":2e15,"
        "\"month\":\"2026-11\",\"month_usd\":1},\"keys\":[]}",
        "{\"overall\":{\"day\":\"2026-11-22\",\"day_usd\":\"1\","
        "\"month\":\"2026-11\",\"month_usd\":1},\"keys\":[]}",
        "{\"overall\":{\"day\":20261122,\"day_usd\":1,"
        "\"month\":\"2026-11\",\"month_usd\":1},\"keys\":[]}",
        "{\"overall\":{\"day\":\"2026-11-22\",\"day_usd\":1,"
        "\"month\":\"2026-11\",\"month_usd\":1},\"keys\":[{\"provider\":\"p\","
        "\"day\":\"2026-11-22\",\"day_usd\":1,\"month\":\"2026-11\","
        "\"month_usd\":1}]}",
    };
    struct budget_limits overall = {1, 1};
    struct bed bed = open_with("a", &NO_LIMITS);

    (void)state;
    supply_declare_begin(bed.supply, &overall);
    supply_declare_end(bed.supply);
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (read_spending(&bed, slice_of(texts[i])))
            fail_msg("taken: %s", texts[i]);
    assert_false(supply_is_spent(bed.supply, &bed.clock));
    close_bed(&bed);
}

/* Retries, latency, reload */

static void retries_add_a_fifth_at_most(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    int attempted = 0, retried = 0;

    (void)state;
    while (supply_retry(bed.supply, slice_of("p")))
        attempts(&bed, 1, SUPPLY_OK);
    for (; attempted < 1000; attempted++) {
        attempts(&bed, 1, SUPPLY_OK);
        if (!supply_retry(bed.supply, slice_of("p")))
            continue;
        attempts(&bed, 1, SUPPLY_OK);
        retried++;
    }
    assert_in_range(retried, 195, 200);
    close_bed(&bed);
}

static void at_most_ten_retries_are_saved_up(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    int retried = 0;

    (void)state;
    attempts(&bed, 1000, SUPPLY_OK);
    while (supply_retry(bed.supply, slice_of("p"))) {
        attempts(&bed, 1, SUPPLY_OK);
        retried++;
    }
    assert_in_range(retried, 9, 10);
    close_bed(&bed);
}

static void measure(struct bed *bed, const char *model, int64_t latency_ms)
{
    struct supply_outcome how = outcome(SUPPLY_OK);
    struct supply_grant grant;

    how.latency_ms = latency_ms;
    how.model = slice_of(model);
    assert_int_equal(take(bed, &grant), SUPPLY_GRANTED);
    supply_settle(bed->supply, &grant, &how, &bed->clock);
}

static double latency(const struct bed *bed, const char *model)
{
    return supply_latency_ms(bed->supply, slice_of("p"), slice_of(model),
                             bed->clock.now_ms);
}

static void latency_follows_what_is_measured(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);

    (void)state;
    assert_true(isnan(latency(&bed, "m")));
    measure(&bed, "m", -1);
    measure(&bed, "", 100);
    assert_true(isnan(latency(&bed, "m")));
    measure(&bed, "m", 100);
    assert_true(latency(&bed, "m") == 100);
    measure(&bed, "m", 200);
    assert_true(fabs(latency(&bed, "m") - 120) < 0.001);
    assert_true(isnan(latency(&bed, "other")));
    close_bed(&bed);
}

static void an_old_latency_is_measured_again(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);

    (void)state;
    measure(&bed, "m", 100);
    pass(&bed, 600000);
    assert_true(latency(&bed, "m") == 100);
    pass(&bed, 1);
    assert_true(isnan(latency(&bed, "m")));
    measure(&bed, "m", 300);
    assert_true(latency(&bed, "m") == 300);
    close_bed(&bed);
}

struct model_count {
    int models;
    uint64_t most_measured;
};

static void count_model(void *context, const struct supply_model_view *model)
{
    struct model_count *count = context;

    assert_slice(model->provider, "p");
    assert_true(model->latency_ms >= 0);
    count->models++;
    if (model->measured > count->most_measured)
        count->most_measured = model->measured;
}

static void the_model_not_measured_for_longest_is_forgotten(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct model_count count = {0};
    char name[300];

    (void)state;
    measure(&bed, "first", 1);
    measure(&bed, "kept", 2);
    for (int i = 0; i < 1010; i++) {
        snprintf(name, sizeof(name), "model-%d", i);
        measure(&bed, name, i);
        measure(&bed, "kept", 2);
    }
    supply_each_model(bed.supply, count_model, &count);
    assert_int_equal(count.models, 1000);
    assert_int_equal(count.most_measured, 1011);
    assert_true(isnan(latency(&bed, "first")));
    assert_true(latency(&bed, "kept") == 2);
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    measure(&bed, name, 1);
    assert_true(isnan(latency(&bed, name)));
    close_bed(&bed);
}

static void a_reload_keeps_the_state_of_what_keeps_its_name(void **state)
{
    struct key_limits limits = {.requests_per_minute = 2, .budget = {NAN, NAN}};
    struct bed bed = open_with("ab", &limits);

    (void)state;
    assert_true(attempt(&bed, SUPPLY_KEY_BAD));
    declare(&bed, "ba", 0, &limits);
    assert_granted(&bed, "b");
    declare(&bed, "ba", 0, &limits);
    assert_granted(&bed, "b");
    assert_refused(&bed, SUPPLY_LIMITED, 30000);
    declare(&bed, "a", 0, &limits);
    assert_refused(&bed, SUPPLY_FAILING, 60000);
    declare(&bed, "ab", 0, &limits);
    assert_granted(&bed, "b");
    close_bed(&bed);
}

static void a_reload_may_lower_a_budget_below_what_is_spent(void **state)
{
    struct key_limits limits = {.budget = {5, NAN}};
    struct bed bed = open_with("a", &limits);

    (void)state;
    assert_int_equal(spend(&bed, 1, 3), SUPPLY_GRANTED);
    limits.budget.day_usd = 2;
    declare(&bed, "a", 0, &limits);
    assert_refused(&bed, SUPPLY_SPENT, 0);
    close_bed(&bed);
}

static void a_lower_limit_of_a_reload_counts_at_once(void **state)
{
    struct key_limits limits = {.requests_per_minute = 1000,
                                .budget = {NAN, NAN}};
    struct bed bed = open_with("a", &limits);

    (void)state;
    limits.requests_per_minute = 2;
    declare(&bed, "a", 0, &limits);
    attempts(&bed, 2, SUPPLY_OK);
    assert_refused(&bed, SUPPLY_LIMITED, 30000);
    limits.requests_per_minute = 0;
    declare(&bed, "a", 0, &limits);
    attempts(&bed, 100, SUPPLY_OK);
    assert_int_equal(view(&bed).requests_room, -1);
    close_bed(&bed);
}

static void grants_outlive_their_key_without_harm(void **state)
{
    struct budget_limits overall = {1, NAN};
    struct bed bed = open_with("ab", &NO_LIMITS);
    struct supply_outcome how = outcome(SUPPLY_OK);
    struct supply_grant a, b;

    (void)state;
    take(&bed, &a);
    take(&bed, &b);
    declare(&bed, "b", 0, &NO_LIMITS);
    assert_granted(&bed, "b");
    settle(&bed, &a, SUPPLY_OK);
    settle(&bed, &a, SUPPLY_OK);
    supply_declare_begin(bed.supply, &overall);
    supply_declare_end(bed.supply);
    assert_refused(&bed, SUPPLY_UNKNOWN, 0);
    how.cost_usd = 2;
    supply_settle(bed.supply, &b, &how, &bed.clock);
    assert_true(supply_is_spent(bed.supply, &bed.clock));
    assert_null(view(&bed).state);
    close_bed(&bed);
}

static void what_is_declared_again_in_time_has_kept_its_state(void **state)
{
    struct bed bed = open_with("a", &NO_LIMITS);
    struct supply_grant grant;

    (void)state;
    take(&bed, &grant);
    assert_true(attempt(&bed, SUPPLY_KEY_BAD));
    declare(&bed, "", 0, &NO_LIMITS);
    assert_refused(&bed, SUPPLY_UNKNOWN, 0);
    declare(&bed, "a", 0, &NO_LIMITS);
    assert_refused(&bed, SUPPLY_FAILING, 60000);
    settle(&bed, &grant, SUPPLY_OK);
    assert_int_equal(view(&bed).in_flight, 0);
    close_bed(&bed);
}

/* Whole calls as the service makes them: candidates in turn, retries while
 * the budget allows. The provider "bad" answers in `latency_ms`. */
enum { CALLS_PER_SECOND = 50, FLIGHTS_MAX = 2000 };

struct flight {
    struct supply_grant grant;
    uint64_t ends_ms;
    int retries;
};

struct simulation {
    struct bed bed;
    uint64_t latency_ms;
    struct flight flights[FLIGHTS_MAX];
    size_t flight_count;
    int bad_calls, good_calls;
};

static bool take_from(struct simulation *simulation, const char *provider,
                      struct supply_grant *grant)
{
    struct supply_need need = {.provider = slice_of(provider),
                               .tokens = 100,
                               .cost_usd = NAN,
                               .only = !strcmp(provider, "good")};

    return supply_take(simulation->bed.supply, &need, &simulation->bed.clock,
                       grant) == SUPPLY_GRANTED;
}

static void fall_back(struct simulation *simulation)
{
    struct supply_grant grant;

    assert_true(take_from(simulation, "good", &grant));
    settle(&simulation->bed, &grant, SUPPLY_OK);
    simulation->good_calls++;
}

static void ask_bad(struct simulation *simulation, int retries)
{
    struct flight flight = {.ends_ms = simulation->bed.clock.now_ms +
                                       simulation->latency_ms,
                            .retries = retries};

    if (!take_from(simulation, "bad", &flight.grant)) {
        fall_back(simulation);
        return;
    }
    simulation->bad_calls++;
    assert_true(simulation->flight_count < FLIGHTS_MAX);
    simulation->flights[simulation->flight_count++] = flight;
}

static void land(struct simulation *simulation)
{
    size_t kept = 0, count = simulation->flight_count;
    struct flight landed[FLIGHTS_MAX];
    size_t landed_count = 0;

    for (size_t i = 0; i < count; i++) {
        struct flight *flight = &simulation->flights[i];

        if (flight->ends_ms <= simulation->bed.clock.now_ms)
            landed[landed_count++] = *flight;
        else
            simulation->flights[kept++] = *flight;
    }
    simulation->flight_count = kept;
    for (size_t i = 0; i < landed_count; i++) {
        settle(&simulation->bed, &landed[i].grant, SUPPLY_FAILED);
        if (landed[i].retries < 2 &&
            supply_retry(simulation->bed.supply, slice_of("bad")))
            ask_bad(simulation, landed[i].retries + 1);
        else
            fall_back(simulation);
    }
}

static void fly(struct simulation *simulation, int seconds)
{
    for (int i = 0; i < seconds * CALLS_PER_SECOND; i++) {
        ask_bad(simulation, 0);
        for (int ms = 0; ms < 1000 / CALLS_PER_SECOND; ms++) {
            land(simulation);
            pass(&simulation->bed, 1);
        }
    }
}

/* Provider calls per call of a minute that begins after `seconds`. */
static double load_after(int seconds, uint64_t latency_ms)
{
    static struct simulation simulation;
    static const char *const providers[] = {"bad", "good"};
    double calls = 60 * CALLS_PER_SECOND;

    simulation =
        (struct simulation){.bed = open_bed(), .latency_ms = latency_ms};
    supply_declare_begin(simulation.bed.supply, &NO_BUDGET);
    for (size_t i = 0; i < 2; i++) {
        supply_declare_provider(simulation.bed.supply, slice_of(providers[i]),
                                0);
        supply_declare_key(simulation.bed.supply, slice_of(providers[i]),
                           slice_of("default"), &NO_LIMITS);
    }
    supply_declare_end(simulation.bed.supply);
    fly(&simulation, seconds);
    simulation.bad_calls = simulation.good_calls = 0;
    fly(&simulation, 60);
    close_bed(&simulation.bed);
    assert_in_range(simulation.good_calls, calls - 5, calls + 5);
    return (simulation.bad_calls + simulation.good_calls) / calls;
}

static void a_dead_provider_costs_a_fifth_more_calls_at_most(void **state)
{
    (void)state;
    assert_true(load_after(10, 1) <= 1.01);
    assert_true(load_after(10, 300) <= 1.01);
    /* One that is silent until the time is over. */
    assert_true(load_after(10, 5000) <= 1.05);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_not_declared_is_unknown),
        cmocka_unit_test(three_failures_in_a_row_bench_a_new_key),
        cmocka_unit_test(a_key_that_mostly_answers_is_not_benched),
        cmocka_unit_test(old_failures_are_forgotten),
        cmocka_unit_test(blameless_ends_are_no_failures),
        cmocka_unit_test(after_the_bench_one_attempt_at_a_time_is_a_probe),
        cmocka_unit_test(the_bench_doubles_while_probes_fail),
        cmocka_unit_test(a_cancelled_probe_leaves_its_place_to_the_next),
        cmocka_unit_test(a_probe_that_takes_long_does_not_keep_others_out),
        cmocka_unit_test(what_began_before_a_bench_does_not_end_or_lengthen_it),
        cmocka_unit_test(an_only_candidate_is_never_refused_for_failures),
        cmocka_unit_test(a_retry_after_counts_even_for_an_only_candidate),
        cmocka_unit_test(the_longest_retry_after_counts_up_to_ten_minutes),
        cmocka_unit_test(a_retry_after_of_nothing_is_a_plain_failure),
        cmocka_unit_test(a_refused_key_is_benched_for_a_minute),
        cmocka_unit_test(an_only_key_that_is_refused_is_tried_once_a_second),
        cmocka_unit_test(a_refused_key_is_not_waited_for_whatever_it_says),
        cmocka_unit_test(a_turn_is_told_once),
        cmocka_unit_test(the_least_used_key_is_taken),
        cmocka_unit_test(a_key_told_to_wait_does_not_stop_the_others),
        cmocka_unit_test(a_benched_key_is_probed_while_another_one_is_well),
        cmocka_unit_test(an_only_candidate_takes_the_key_that_is_well),
        cmocka_unit_test(a_key_without_room_by_its_headers_waits_for_the_reset),
        cmocka_unit_test(requests_per_minute_are_a_burst_and_then_a_rate),
        cmocka_unit_test(tokens_are_settled_with_what_was_really_used),
        cmocka_unit_test(
            a_call_larger_than_a_minutes_worth_needs_a_full_bucket),
        cmocka_unit_test(a_provider_has_no_more_in_flight_than_it_may),
        cmocka_unit_test(
            waiting_for_a_release_is_not_told_of_a_benched_provider),
        cmocka_unit_test(a_budget_counts_what_was_really_spent),
        cmocka_unit_test(estimates_of_what_is_in_flight_are_reserved),
        cmocka_unit_test(a_spent_key_leaves_the_work_to_the_others),
        cmocka_unit_test(the_overall_budget_is_for_all_keys),
        cmocka_unit_test(days_and_months_begin_at_midnight_utc),
        cmocka_unit_test(a_clock_set_back_does_not_give_money_twice),
        cmocka_unit_test(what_is_spent_outlives_the_program),
        cmocka_unit_test(what_was_spent_on_another_day_is_not_read),
        cmocka_unit_test(the_calendar_knows_leap_years_and_year_ends),
        cmocka_unit_test(a_text_that_is_not_ours_is_refused_as_a_whole),
        cmocka_unit_test(retries_add_a_fifth_at_most),
        cmocka_unit_test(at_most_ten_retries_are_saved_up),
        cmocka_unit_test(latency_follows_what_is_measured),
        cmocka_unit_test(an_old_latency_is_measured_again),
        cmocka_unit_test(the_model_not_measured_for_longest_is_forgotten),
        cmocka_unit_test(a_reload_keeps_the_state_of_what_keeps_its_name),
        cmocka_unit_test(a_reload_may_lower_a_budget_below_what_is_spent),
        cmocka_unit_test(a_lower_limit_of_a_reload_counts_at_once),
        cmocka_unit_test(grants_outlive_their_key_without_harm),
        cmocka_unit_test(what_is_declared_again_in_time_has_kept_its_state),
        cmocka_unit_test(a_dead_provider_costs_a_fifth_more_calls_at_most),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
