/* The parts that supply.c joins. Each is embedded and changed only by its own
 * functions; none allocates but the latencies. */
#ifndef LLM_ROUTER_CORE_SUPPLY_INTERNAL_H
#define LLM_ROUTER_CORE_SUPPLY_INTERNAL_H

#include "llm_router/base/list.h"
#include "llm_router/base/map.h"
#include "llm_router/core/supply.h"

/* Is a key any good? All zero is a healthy one. */
struct health {
    double failed; /* EWMA of failures, not yet divided by `weight` */
    double weight; /* EWMA of outcomes: 0 none yet, towards 1 */
    uint64_t changed_ms;
    bool benched;
    bool bad; /* of a bench: the key is refused, waiting does not help */
    uint64_t bench_ms;
    uint64_t until_ms;  /* the bench ends */
    uint64_t retry_ms;  /* a Retry-After ends */
    uint64_t probes;    /* in flight */
    uint64_t probed_ms; /* the last one began, or the bench */
    uint64_t epoch;     /* benches begun and ended */
    uint64_t benches;
    enum error_code last_error;
};

/* May an attempt go to the key? SUPPLY_GRANTED, or SUPPLY_WAITING or
 * SUPPLY_FAILING with the time until it is worth to ask again. */
enum supply_verdict health_gate(const struct health *health, bool only,
                                uint64_t now_ms, uint64_t *wait_ms);

/* Is its bench over, and would the next attempt be its probe? */
bool health_is_due(const struct health *health, uint64_t now_ms);
void health_granted(struct health *health, uint64_t now_ms,
                    struct supply_grant *grant);
void health_settle(struct health *health, const struct supply_grant *grant,
                   const struct supply_outcome *outcome, uint64_t now_ms);
double health_failure_rate(const struct health *health, uint64_t now_ms);

/* So much a minute, with a burst of a minute's worth. */
struct bucket {
    int64_t per_minute; /* 0: no limit */
    double level;       /* below 0: more was used than was estimated */
    uint64_t filled_ms;
};

/* A new limit keeps the level as far as it holds it. */
void bucket_limit(struct bucket *bucket, int64_t per_minute);
double bucket_room(const struct bucket *bucket, uint64_t now_ms);

/* Until `amount` can be taken; more than a full bucket needs a full one. */
uint64_t bucket_wait_ms(const struct bucket *bucket, double amount,
                        uint64_t now_ms);
void bucket_take(struct bucket *bucket, double amount, uint64_t now_ms);

/* Money of a UTC day and month. Periods only go forward: a clock set back does
 * not give a spent budget again. */
struct spending {
    int64_t day;   /* since 1970 */
    int64_t month; /* since January of year 0 */
    double day_usd;
    double month_usd;
    double reserved_usd; /* estimates of what is in flight */
};

int64_t month_of_day(int64_t day, int64_t *day_of_month); /* from 1 */
void spending_roll(struct spending *spending, int64_t unix_s);
void spending_add(struct spending *spending, double usd, int64_t unix_s);
bool spending_allows(const struct spending *spending,
                     const struct budget_limits *limits, double usd,
                     int64_t unix_s);

/* Measured latencies of models, a bounded number of them. */
struct latencies {
    struct map models; /* latency by provider and model */
    struct list ages;  /* of them, the longest not measured first */
};

void latencies_init(struct latencies *latencies, uint64_t seed);
void latencies_release(struct latencies *latencies);
void latencies_measure(struct latencies *latencies, struct slice provider,
                       struct slice model, int64_t latency_ms, uint64_t now_ms);
double latencies_find(const struct latencies *latencies, struct slice provider,
                      struct slice model, uint64_t now_ms);
void latencies_each(const struct latencies *latencies,
                    void (*visit)(void *context,
                                  const struct supply_model_view *view),
                    void *context);

struct supply_key {
    struct list link;
    struct slice name; /* owned */
    uint64_t id;
    bool declared;
    uint64_t in_flight, granted, failed;
    uint64_t full_ms; /* its provider counts no room left until then */
    struct health health;
    struct bucket requests, tokens;
    struct budget_limits budget;
    struct spending spending;
};

struct supply_provider {
    struct list link;
    struct slice name; /* owned */
    uint64_t id;
    bool declared;
    int64_t in_flight_limit; /* 0: none */
    uint64_t in_flight;
    double retries; /* that it may still get */
    struct list keys;
};

/* Providers and keys are as few as the configuration has: lists, scanned. */
struct supply {
    struct list providers;
    uint64_t last_id;
    struct budget_limits budget;
    struct spending spending;
    struct latencies latencies;
};

#endif
