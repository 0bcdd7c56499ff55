#include <math.h>

#include "llm_router/base/mem.h"
#include "supply_internal.h"

const struct rate_limits RATE_LIMITS_UNKNOWN = {-1, -1, -1, -1};

static const double RETRY_SHARE = 0.2;
static const double RETRIES_MAX = 10;

/* What limit headers say of the time: vendors give the time until all is back,
 * some room is back sooner. */
enum { FULL_MAX_MS = 60000 };

static struct supply_provider *provider_at(struct list *link)
{
    return LIST_ENTRY(link, struct supply_provider, link);
}

static struct supply_key *key_at(struct list *link)
{
    return LIST_ENTRY(link, struct supply_key, link);
}

struct supply *supply_new(uint64_t seed)
{
    struct supply *supply = mem_alloc(sizeof(*supply));

    list_init(&supply->providers);
    supply->budget = (struct budget_limits){NAN, NAN};
    latencies_init(&supply->latencies, seed);
    return supply;
}

static struct slice copy_name(struct slice name)
{
    return slice_make(mem_copy_text(name.data, name.size), name.size);
}

static void free_name(struct slice name)
{
    mem_free((char *)(uintptr_t)name.data);
}

static void free_key(struct supply_key *key)
{
    list_remove(&key->link);
    free_name(key->name);
    mem_free(key);
}

static void free_provider(struct supply_provider *provider)
{
    LIST_EACH(link, &provider->keys)
    free_key(key_at(link));
    list_remove(&provider->link);
    free_name(provider->name);
    mem_free(provider);
}

void supply_free(struct supply *supply)
{
    LIST_EACH(link, &supply->providers)
    free_provider(provider_at(link));
    latencies_release(&supply->latencies);
    mem_free(supply);
}

/* Declared or not. */
static struct supply_provider *find_provider(const struct supply *supply,
                                             struct slice name)
{
    LIST_EACH(link, &supply->providers)
    if (slice_equal(provider_at(link)->name, name))
        return provider_at(link);
    return NULL;
}

static struct supply_key *find_key(const struct supply_provider *provider,
                                   struct slice name)
{
    LIST_EACH(link, &provider->keys)
    if (slice_equal(key_at(link)->name, name))
        return key_at(link);
    return NULL;
}

static struct supply_provider *find_declared(const struct supply *supply,
                                             struct slice name)
{
    struct supply_provider *provider = find_provider(supply, name);

    return provider && provider->declared ? provider : NULL;
}

void supply_declare_begin(struct supply *supply,
                          const struct budget_limits *overall)
{
    supply->budget = *overall;
    LIST_EACH(link, &supply->providers)
    {
        provider_at(link)->declared = false;
        LIST_EACH(key, &provider_at(link)->keys)
        key_at(key)->declared = false;
    }
}

void supply_declare_provider(struct supply *supply, struct slice name,
                             int64_t in_flight)
{
    struct supply_provider *provider = find_provider(supply, name);

    if (!provider) {
        provider = mem_alloc(sizeof(*provider));
        provider->name = copy_name(name);
        provider->id = ++supply->last_id;
        provider->retries = RETRIES_MAX;
        list_init(&provider->keys);
        list_append(&supply->providers, &provider->link);
    }
    provider->declared = true;
    provider->in_flight_limit = in_flight;
}

void supply_declare_key(struct supply *supply, struct slice provider_name,
                        struct slice name, const struct key_limits *limits)
{
    struct supply_provider *provider = find_declared(supply, provider_name);
    struct supply_key *key;

    if (!provider)
        return;
    key = find_key(provider, name);
    if (!key) {
        key = mem_alloc(sizeof(*key));
        key->name = copy_name(name);
        key->id = ++supply->last_id;
        list_append(&provider->keys, &key->link);
    }
    key->declared = true;
    key->budget = limits->budget;
    bucket_limit(&key->requests, limits->requests_per_minute);
    bucket_limit(&key->tokens, limits->tokens_per_minute);
}

/* Frees what is not declared and has nothing in flight. */
static void forget(struct supply_provider *provider)
{
    LIST_EACH(link, &provider->keys)
    if (!key_at(link)->declared && key_at(link)->in_flight == 0)
        free_key(key_at(link));
    if (!provider->declared && provider->in_flight == 0)
        free_provider(provider);
}

void supply_declare_end(struct supply *supply)
{
    LIST_EACH(link, &supply->providers)
    forget(provider_at(link));
}

/* Unknown prices count as nothing. */
static double known(double usd)
{
    return usd > 0 ? usd : 0;
}

static double cost_of(const struct supply_need *need)
{
    return known(need->cost_usd);
}

/* Why a key cannot be had, and when. */
static enum supply_verdict judge(const struct supply_key *key,
                                 const struct supply_need *need,
                                 const struct supply_clock *clock,
                                 uint64_t *wait_ms)
{
    enum supply_verdict verdict =
        health_gate(&key->health, need->only, clock->now_ms, wait_ms);
    uint64_t requests, tokens;

    if (!spending_allows(&key->spending, &key->budget, cost_of(need),
                         clock->unix_s))
        return SUPPLY_SPENT;
    if (verdict != SUPPLY_GRANTED)
        return verdict;
    if (!need->only && key->full_ms > clock->now_ms) {
        *wait_ms = key->full_ms - clock->now_ms;
        return SUPPLY_WAITING;
    }
    requests = bucket_wait_ms(&key->requests, 1, clock->now_ms);
    tokens = bucket_wait_ms(&key->tokens, (double)need->tokens, clock->now_ms);
    *wait_ms = requests > tokens ? requests : tokens;
    return *wait_ms > 0 ? SUPPLY_LIMITED : SUPPLY_GRANTED;
}

/* What is known of the best key so far. */
struct choice {
    enum supply_verdict verdict;
    struct supply_key *key;
    uint64_t wait_ms;
};

static double tokens_room(const struct supply_key *key, uint64_t now_ms)
{
    return key->tokens.per_minute > 0 ? bucket_room(&key->tokens, now_ms)
                                      : INFINITY;
}

/* In what order keys that can be had are taken. One whose probe is due goes
 * first, or it would never be probed while another one is well; those that
 * only an only candidate can have go last. */
static int rank(const struct supply_key *key, uint64_t now_ms)
{
    if (health_is_due(&key->health, now_ms))
        return 0;
    if (key->health.benched)
        return 3;
    return key->full_ms > now_ms ? 2 : 1;
}

static bool is_better_key(const struct supply_key *a,
                          const struct supply_key *b, uint64_t now_ms)
{
    int a_rank = rank(a, now_ms), b_rank = rank(b, now_ms);

    if (a_rank != b_rank)
        return a_rank < b_rank;
    if (a->in_flight != b->in_flight)
        return a->in_flight < b->in_flight;
    return tokens_room(a, now_ms) > tokens_room(b, now_ms);
}

static bool is_better(const struct choice *a, const struct choice *b,
                      uint64_t now_ms)
{
    if (a->verdict == SUPPLY_GRANTED && b->verdict == SUPPLY_GRANTED)
        return is_better_key(a->key, b->key, now_ms);
    if (a->verdict == SUPPLY_GRANTED || b->verdict == SUPPLY_GRANTED)
        return a->verdict == SUPPLY_GRANTED;
    if (a->verdict == SUPPLY_SPENT || b->verdict == SUPPLY_SPENT)
        return a->verdict != SUPPLY_SPENT;
    return a->wait_ms < b->wait_ms;
}

static struct choice choose(const struct supply_provider *provider,
                            const struct supply_need *need,
                            const struct supply_clock *clock)
{
    struct choice best = {.verdict = SUPPLY_UNKNOWN};

    LIST_EACH(link, &provider->keys)
    {
        struct choice choice = {.key = key_at(link)};

        if (!choice.key->declared)
            continue;
        choice.verdict = judge(choice.key, need, clock, &choice.wait_ms);
        if (!best.key || is_better(&choice, &best, clock->now_ms))
            best = choice;
    }
    return best;
}

/* What would come of it, without taking anything. */
static struct choice look(const struct supply *supply,
                          const struct supply_provider *provider,
                          const struct supply_need *need,
                          const struct supply_clock *clock)
{
    struct choice choice;

    if (!spending_allows(&supply->spending, &supply->budget, cost_of(need),
                         clock->unix_s))
        return (struct choice){.verdict = SUPPLY_SPENT};
    choice = choose(provider, need, clock);
    if (choice.verdict == SUPPLY_GRANTED && provider->in_flight_limit > 0 &&
        provider->in_flight >= (uint64_t)provider->in_flight_limit)
        choice.verdict = SUPPLY_BUSY;
    return choice;
}

static void take(struct supply *supply, struct supply_provider *provider,
                 struct supply_key *key, const struct supply_clock *clock,
                 struct supply_grant *grant)
{
    grant->provider = provider->id;
    grant->key = key->id;
    grant->key_name = key->name;
    health_granted(&key->health, clock->now_ms, grant);
    bucket_take(&key->requests, 1, clock->now_ms);
    bucket_take(&key->tokens, (double)grant->tokens, clock->now_ms);
    key->spending.reserved_usd += grant->cost_usd;
    supply->spending.reserved_usd += grant->cost_usd;
    key->in_flight++;
    key->granted++;
    provider->in_flight++;
}

enum supply_verdict supply_take(struct supply *supply,
                                const struct supply_need *need,
                                const struct supply_clock *clock,
                                struct supply_grant *grant)
{
    struct supply_provider *provider = find_declared(supply, need->provider);
    struct choice choice;

    *grant = (struct supply_grant){.tokens = need->tokens,
                                   .cost_usd = cost_of(need)};
    if (!provider)
        return SUPPLY_UNKNOWN;
    choice = look(supply, provider, need, clock);
    if (choice.verdict == SUPPLY_GRANTED) {
        provider->retries = fmin(provider->retries + RETRY_SHARE, RETRIES_MAX);
        take(supply, provider, choice.key, clock, grant);
        return SUPPLY_GRANTED;
    }
    grant->wait_ms = choice.wait_ms;
    if (choice.verdict == SUPPLY_WAITING || choice.verdict == SUPPLY_FAILING)
        grant->last_error = choice.key->health.last_error;
    return choice.verdict;
}

bool supply_retry(struct supply *supply, struct slice name)
{
    struct supply_provider *provider = find_declared(supply, name);
    /* What the retry itself will pay in when it is granted is not its due. */
    double price = 1 + RETRY_SHARE;

    if (!provider || provider->retries < price)
        return false;
    provider->retries -= price;
    return true;
}

static struct supply_provider *provider_of(const struct supply *supply,
                                           const struct supply_grant *grant)
{
    LIST_EACH(link, &supply->providers)
    if (provider_at(link)->id == grant->provider)
        return provider_at(link);
    return NULL;
}

static struct supply_key *key_of(const struct supply_provider *provider,
                                 const struct supply_grant *grant)
{
    LIST_EACH(link, &provider->keys)
    if (key_at(link)->id == grant->key)
        return key_at(link);
    return NULL;
}

static void settle_spending(struct spending *spending,
                            const struct supply_grant *grant, double cost_usd,
                            int64_t unix_s)
{
    spending->reserved_usd = fmax(spending->reserved_usd - grant->cost_usd, 0);
    spending_add(spending, known(cost_usd), unix_s);
}

/* Headers that count nothing left. What is not known of the time is left to
 * the 429 that would come. */
static void note_limits(struct supply_key *key,
                        const struct rate_limits *limits, uint64_t now_ms)
{
    int64_t wait_ms = 0;

    if (limits->requests_left == 0)
        wait_ms = limits->requests_reset_ms;
    if (limits->tokens_left == 0 && limits->tokens_reset_ms > wait_ms)
        wait_ms = limits->tokens_reset_ms;
    if (wait_ms > FULL_MAX_MS)
        wait_ms = FULL_MAX_MS;
    if (wait_ms > 0 && now_ms + (uint64_t)wait_ms > key->full_ms)
        key->full_ms = now_ms + (uint64_t)wait_ms;
}

static void settle_key(struct supply_key *key, const struct supply_grant *grant,
                       const struct supply_outcome *outcome,
                       const struct supply_clock *clock)
{
    key->in_flight--;
    key->failed +=
        outcome->end == SUPPLY_FAILED || outcome->end == SUPPLY_KEY_BAD;
    if (outcome->tokens >= 0)
        bucket_take(&key->tokens, (double)(outcome->tokens - grant->tokens),
                    clock->now_ms);
    settle_spending(&key->spending, grant, outcome->cost_usd, clock->unix_s);
    note_limits(key, &outcome->limits, clock->now_ms);
    health_settle(&key->health, grant, outcome, clock->now_ms);
}

static enum supply_turn turn_of(bool was_benched, bool is_benched)
{
    if (was_benched == is_benched)
        return SUPPLY_UNTURNED;
    return is_benched ? SUPPLY_BENCHED : SUPPLY_BACK;
}

enum supply_turn supply_settle(struct supply *supply,
                               const struct supply_grant *grant,
                               const struct supply_outcome *outcome,
                               const struct supply_clock *clock)
{
    struct supply_provider *provider = provider_of(supply, grant);
    struct supply_key *key = provider ? key_of(provider, grant) : NULL;
    enum supply_turn turn;
    bool was_benched;

    if (!key)
        return SUPPLY_UNTURNED;
    was_benched = key->health.benched;
    settle_spending(&supply->spending, grant, outcome->cost_usd, clock->unix_s);
    settle_key(key, grant, outcome, clock);
    turn = turn_of(was_benched, key->health.benched);
    provider->in_flight--;
    if (outcome->latency_ms >= 0)
        latencies_measure(&supply->latencies, provider->name, outcome->model,
                          outcome->latency_ms, clock->now_ms);
    if (key->declared && provider->declared)
        return turn;
    forget(provider);
    return SUPPLY_UNTURNED;
}

bool supply_is_healthy(const struct supply *supply, struct slice name,
                       const struct supply_clock *clock)
{
    const struct supply_provider *provider = find_declared(supply, name);
    const struct supply_need need = {.provider = name};

    return provider &&
           look(supply, provider, &need, clock).verdict == SUPPLY_GRANTED;
}

double supply_latency_ms(const struct supply *supply, struct slice provider,
                         struct slice model, uint64_t now_ms)
{
    return latencies_find(&supply->latencies, provider, model, now_ms);
}

bool supply_is_spent(const struct supply *supply,
                     const struct supply_clock *clock)
{
    return !spending_allows(&supply->spending, &supply->budget, 0,
                            clock->unix_s);
}

static int64_t room_of(const struct bucket *bucket, uint64_t now_ms)
{
    double room = bucket_room(bucket, now_ms);

    if (bucket->per_minute == 0)
        return -1;
    return room > 0 ? (int64_t)room : 0;
}

static struct supply_key_view view_of(const struct supply_provider *provider,
                                      const struct supply_key *key,
                                      const struct supply_clock *clock)
{
    const struct health *health = &key->health;
    struct spending spending = key->spending;

    spending_roll(&spending, clock->unix_s);
    return (struct supply_key_view){
        .provider = provider->name,
        .key = key->name,
        .state = !health->benched     ? "ok"
                 : health->probes > 0 ? "probing"
                                      : "benched",
        .returns_ms = health->benched && health->until_ms > clock->now_ms
                          ? health->until_ms - clock->now_ms
                          : 0,
        .failure_rate = health_failure_rate(health, clock->now_ms),
        .in_flight = key->in_flight,
        .granted = key->granted,
        .failed = key->failed,
        .benches = health->benches,
        .requests_room = room_of(&key->requests, clock->now_ms),
        .tokens_room = room_of(&key->tokens, clock->now_ms),
        .day_usd = spending.day_usd,
        .month_usd = spending.month_usd,
    };
}

void supply_each_key(const struct supply *supply,
                     const struct supply_clock *clock,
                     void (*visit)(void *context,
                                   const struct supply_key_view *view),
                     void *context)
{
    LIST_EACH(link, &supply->providers)
    LIST_EACH(key, &provider_at(link)->keys)
    {
        struct supply_key_view view =
            view_of(provider_at(link), key_at(key), clock);

        visit(context, &view);
    }
}

void supply_each_model(const struct supply *supply,
                       void (*visit)(void *context,
                                     const struct supply_model_view *view),
                       void *context)
{
    latencies_each(&supply->latencies, visit, context);
}
