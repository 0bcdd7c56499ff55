#include <math.h>

#include "supply_internal.h"

/* Of the EWMA: what one outcome weighs, and how long until it weighs half. */
static const double OUTCOME_WEIGHT = 0.2;
static const double HALF_LIFE_MS = 60000;

/* Over half of at least three recent outcomes: 1 - 0.8^3 is 0.488, and 0.45
 * lets the three be some seconds apart. */
static const double HEALTH_FAILING = 0.5;
static const double EVIDENCE = 0.45;

enum {
    BENCH_MIN_MS = 3000,
    BENCH_MAX_MS = 60000,
    BENCH_BAD_KEY_MS = 60000,
    /* A provider that names a longer wait is asked once in between. */
    RETRY_AFTER_MAX_MS = 600000,
    /* How often an only key that was refused is tried all the same. */
    BAD_KEY_PROBE_MS = 1000,
    /* Until it is worth to look whether a probe has ended; and when the next
     * may begin although it has not: an answer can take minutes. */
    PROBE_WAIT_MS = 200,
    PROBE_PATIENCE_MS = 10000,
};

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static double fading(const struct health *health, uint64_t now_ms)
{
    return exp2(-(double)(now_ms - health->changed_ms) / HALF_LIFE_MS);
}

double health_failure_rate(const struct health *health, uint64_t now_ms)
{
    double still = fading(health, now_ms);

    return health->failed * still /
           fmax(health->weight * still, OUTCOME_WEIGHT);
}

/* The start of a bench and its end: nothing else changes `benched`. What was
 * granted before says nothing about the time after it. */
static void move(struct health *health, bool benched)
{
    health->benched = benched;
    health->benches += benched;
    health->bench_ms = BENCH_MIN_MS;
    health->bad = false;
    health->probes = 0;
    health->epoch++;
    if (!benched)
        health->failed = health->weight = 0;
}

static void observe(struct health *health, double failure, uint64_t now_ms)
{
    double keep = fading(health, now_ms) * (1 - OUTCOME_WEIGHT);

    health->failed = health->failed * keep + failure * OUTCOME_WEIGHT;
    health->weight = health->weight * keep + OUTCOME_WEIGHT;
    health->changed_ms = now_ms;
}

static bool is_failing(const struct health *health)
{
    return health->weight >= EVIDENCE &&
           health->failed > HEALTH_FAILING * health->weight;
}

static bool is_probed(const struct health *health, uint64_t now_ms)
{
    return health->probes > 0 && now_ms - health->probed_ms < PROBE_PATIENCE_MS;
}

bool health_is_due(const struct health *health, uint64_t now_ms)
{
    return health->benched && health->until_ms <= now_ms &&
           !is_probed(health, now_ms);
}

/* Is an only key that is benched tried all the same? It is, except that a key
 * that was refused (401) is not asked more often than makes sense. */
static bool is_forced(const struct health *health, uint64_t now_ms,
                      uint64_t *wait_ms)
{
    uint64_t due = health->probed_ms + BAD_KEY_PROBE_MS;

    if (!health->bad)
        return true;
    *wait_ms = now_ms < due ? due - now_ms : PROBE_WAIT_MS;
    return !is_probed(health, now_ms) && now_ms >= due;
}

enum supply_verdict health_gate(const struct health *health, bool only,
                                uint64_t now_ms, uint64_t *wait_ms)
{
    uint64_t told = health->retry_ms > now_ms ? health->retry_ms - now_ms : 0;
    uint64_t bench = health->benched && health->until_ms > now_ms
                         ? health->until_ms - now_ms
                         : 0;

    *wait_ms = only ? told : later(told, bench);
    if (told > 0)
        return SUPPLY_WAITING;
    if (!health->benched || health_is_due(health, now_ms) ||
        (only && is_forced(health, now_ms, wait_ms)))
        return SUPPLY_GRANTED;
    if (*wait_ms == 0)
        *wait_ms = PROBE_WAIT_MS;
    return SUPPLY_FAILING;
}

void health_granted(struct health *health, uint64_t now_ms,
                    struct supply_grant *grant)
{
    grant->probe = health->benched;
    grant->epoch = health->epoch;
    if (!health->benched)
        return;
    health->probes++;
    health->probed_ms = now_ms;
}

/* `least_ms`: what the provider's own words ask for. */
static void bench(struct health *health, uint64_t least_ms, uint64_t now_ms)
{
    if (!health->benched) {
        move(health, true);
        health->probed_ms = now_ms;
    }
    health->until_ms =
        later(health->until_ms, now_ms + later(least_ms, health->bench_ms));
}

static uint64_t retry_after(const struct supply_outcome *outcome)
{
    if (outcome->retry_after_ms <= 0)
        return 0;
    return outcome->retry_after_ms < RETRY_AFTER_MAX_MS
               ? (uint64_t)outcome->retry_after_ms
               : RETRY_AFTER_MAX_MS;
}

static void fail(struct health *health, const struct supply_grant *grant,
                 const struct supply_outcome *outcome, uint64_t now_ms)
{
    bool current = grant->epoch == health->epoch;
    bool probe = current && grant->probe;
    bool bad = outcome->end == SUPPLY_KEY_BAD;
    uint64_t told_ms = retry_after(outcome);

    if (current)
        observe(health, 1, now_ms);
    if (probe && now_ms >= health->until_ms)
        health->bench_ms = health->bench_ms < BENCH_MAX_MS / 2
                               ? health->bench_ms * 2
                               : BENCH_MAX_MS;
    if (!bad)
        health->retry_ms = later(health->retry_ms, now_ms + told_ms);
    if (bad || told_ms > 0 || probe || (current && is_failing(health)))
        bench(health, bad ? later(told_ms, BENCH_BAD_KEY_MS) : told_ms, now_ms);
    if (bad || probe || !health->bad) {
        health->bad = bad;
        health->last_error = outcome->error;
    }
}

void health_settle(struct health *health, const struct supply_grant *grant,
                   const struct supply_outcome *outcome, uint64_t now_ms)
{
    bool current = grant->epoch == health->epoch;

    if (current && grant->probe)
        health->probes--;
    switch (outcome->end) {
    case SUPPLY_BLAMELESS:
        return;
    case SUPPLY_FAILED:
    case SUPPLY_KEY_BAD:
        fail(health, grant, outcome, now_ms);
        return;
    case SUPPLY_OK:
        if (current && grant->probe)
            move(health, false);
        if (current)
            observe(health, 0, now_ms);
        return;
    }
}
