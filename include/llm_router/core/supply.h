/* What is known of providers, keys and models while the program runs: health,
 * limits, money and speed. The router chooses by it, every attempt is granted
 * by it and settled with it. Pure: time comes in.
 *
 * A quota domain is a provider and one of its keys: its health, its requests
 * and tokens per minute and its budget are its own. In-flight limits are the
 * provider's. Latency is a model's.
 *
 * Health: an EWMA of failures, in which the last minute counts most. A key is
 * benched when its provider says so (401, 402, 403, no credit; 429 or 5xx with
 * a Retry-After) or when over half of at least three recent outcomes failed.
 * The bench lasts max(the old one, Retry-After, 3 s), for a refused key 60 s,
 * and doubles up to 60 s while probes fail. After it one attempt at a time is a
 * probe (half-open; another one after 10 s, should it take that long): success
 * opens the key again, a cancelled one leaves its place to the next. What was
 * granted before a bench began or ended does not count for the time after it,
 * except for the provider's own words. A Retry-After counts for 10 minutes at
 * most, a "nothing left" of its limit headers for 1 minute.
 *
 * An only candidate is not refused for failures, nor for limit headers, but for
 * a Retry-After, and for a refused key: that one is tried once a second, and
 * the others get SUPPLY_FAILING with last_error ERR_UNAUTHORIZED or
 * ERR_QUOTA_EXCEEDED. When error_retryable(last_error) is false nobody should
 * wait for wait_ms: answer with that error.
 *
 * Retries: each first attempt at a provider pays 0.2 into its retry budget (at
 * most 10, which it begins with), each retry takes 1: a failing provider gets
 * at most 20 % more.
 *
 * All is bounded: providers and keys by the configuration, models by 1,000
 * (the longest not measured is forgotten). Taking and settling allocate nothing
 * but for a new model. */
#ifndef LLM_ROUTER_CORE_SUPPLY_H
#define LLM_ROUTER_CORE_SUPPLY_H

#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"
#include "llm_router/core/usage.h"

struct supply;

/* Money may be spent up to each; NAN: no limit. Days and months are UTC. */
struct budget_limits {
    double day_usd;
    double month_usd;
};

struct key_limits {
    int64_t requests_per_minute; /* 0: no limit */
    int64_t tokens_per_minute;   /* 0: no limit; input and output */
    struct budget_limits budget;
};

/* `seed` of the maps. */
struct supply *supply_new(uint64_t seed);
void supply_free(struct supply *supply);

/* The configuration, at start and at each reload: declare everything between
 * begin and end, a provider before its keys. What had the same name keeps its
 * state; what is not declared any more is forgotten once nothing of it is in
 * flight. Names are copied. */
void supply_declare_begin(struct supply *supply,
                          const struct budget_limits *overall);
void supply_declare_provider(struct supply *supply, struct slice provider,
                             int64_t in_flight); /* 0: no limit */
void supply_declare_key(struct supply *supply, struct slice provider,
                        struct slice key, const struct key_limits *limits);
void supply_declare_end(struct supply *supply);

struct supply_clock {
    uint64_t now_ms; /* monotonic */
    int64_t unix_s;
};

/* What an attempt needs. */
struct supply_need {
    struct slice provider;
    int64_t tokens;  /* estimate: input and the output that is reserved; over a
                        minute's worth it is granted when nothing is used */
    double cost_usd; /* estimate, reserved until it is settled; NAN: unknown,
                        counts as 0 */
    bool only;       /* there is no other candidate */
};

enum supply_verdict {
    SUPPLY_GRANTED,
    SUPPLY_BUSY,    /* the provider's in-flight limit: wait for a release */
    SUPPLY_LIMITED, /* requests or tokens per minute: room in wait_ms */
    SUPPLY_WAITING, /* told to wait (Retry-After): over in wait_ms */
    SUPPLY_FAILING, /* benched for failures: probed in wait_ms */
    SUPPLY_SPENT,   /* a budget of every key, or the overall one, is used up
                       or reserved */
    SUPPLY_UNKNOWN, /* no such provider is declared */
};

/* Granted: to be settled exactly once. Refused: why, and until when. */
struct supply_grant {
    uint64_t provider, key; /* ids, never used twice; 0: none */
    struct slice key_name;  /* borrowed until the next declaration */
    bool probe;
    uint64_t epoch; /* of the key's health */
    int64_t tokens;
    double cost_usd;
    uint64_t wait_ms;           /* of LIMITED, WAITING, FAILING */
    enum error_code last_error; /* of FAILING and WAITING: why it is benched */
};

/* Takes, among the provider's keys that have room, one whose bench is over and
 * waits for its probe, else the one with least in flight, then with most tokens
 * left. Refused: the verdict of the key that will be back first. */
enum supply_verdict supply_take(struct supply *supply,
                                const struct supply_need *need,
                                const struct supply_clock *clock,
                                struct supply_grant *grant);

/* What a provider says of our limits; < 0: it does not. */
struct rate_limits {
    int64_t requests_left, requests_reset_ms;
    int64_t tokens_left, tokens_reset_ms;
};
extern const struct rate_limits RATE_LIMITS_UNKNOWN;

enum supply_end {
    SUPPLY_OK,
    SUPPLY_FAILED,    /* its fault: 5xx, 429, timeouts, connections, nonsense */
    SUPPLY_KEY_BAD,   /* 401, 402, 403, no credit: benched for 60 s at least */
    SUPPLY_BLAMELESS, /* the request's fault (400, too long), or cancelled */
};

struct supply_outcome {
    enum supply_end end;
    enum error_code error;  /* ERR_NONE when OK */
    int64_t retry_after_ms; /* < 0: none given */
    int64_t tokens;         /* really used; < 0: unknown, the estimate stays */
    double cost_usd;        /* NAN: unknown, counts as 0 */
    int64_t latency_ms;     /* to the first token; < 0: none came */
    struct slice model;     /* whose latency it is: the candidate's */
    struct rate_limits limits;
};

/* What became of the key by that; its name is there still if it turned. */
enum supply_turn {
    SUPPLY_UNTURNED,
    SUPPLY_BENCHED, /* it was not before */
    SUPPLY_BACK,    /* it was benched, and is no longer */
};

enum supply_turn supply_settle(struct supply *supply,
                               const struct supply_grant *grant,
                               const struct supply_outcome *outcome,
                               const struct supply_clock *clock);

/* May a failed question be put to the provider again? Takes from its retry
 * budget when true. */
bool supply_retry(struct supply *supply, struct slice provider);

/* For the router: is there a key that could be granted now (probes included),
 * and how fast is the model? NAN: not measured within 10 minutes. */
bool supply_is_healthy(const struct supply *supply, struct slice provider,
                       const struct supply_clock *clock);
double supply_latency_ms(const struct supply *supply, struct slice provider,
                         struct slice model, uint64_t now_ms);

/* Is the overall budget used up? */
bool supply_is_spent(const struct supply *supply,
                     const struct supply_clock *clock);

/* What is spent, as JSON text, for a file that outlives the program: amounts
 * by day and month, provider and key. Reading, after the declarations and
 * before the first grant, adds nothing that is not of today or this month, nor
 * of keys that are not declared; ERR_INVALID_REQUEST for a text that is not
 * ours, of which then nothing is taken. */
void supply_put_spending(const struct supply *supply, struct buf *out);
bool supply_read_spending(struct supply *supply, struct slice json,
                          const struct supply_clock *clock, struct error *err);

/* For `stats`. Slices borrowed during the visit. */
struct supply_key_view {
    struct slice provider, key;
    const char *state;   /* "ok", "benched", "probing" */
    uint64_t returns_ms; /* until the bench ends; 0: not benched */
    double failure_rate; /* EWMA, 0..1 */
    uint64_t in_flight, granted, failed, benches;
    int64_t requests_room, tokens_room; /* left now; < 0: no limit */
    double day_usd, month_usd;          /* spent */
};
void supply_each_key(const struct supply *supply,
                     const struct supply_clock *clock,
                     void (*visit)(void *context,
                                   const struct supply_key_view *view),
                     void *context);
struct supply_model_view {
    struct slice provider, model;
    double latency_ms;
    uint64_t measured;
};
void supply_each_model(const struct supply *supply,
                       void (*visit)(void *context,
                                     const struct supply_model_view *view),
                       void *context);

#endif
