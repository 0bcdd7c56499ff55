#include <math.h>

#include "router_internal.h"

static const char *const strategies[] = {
#define X(strategy, name) [strategy] = name,
    STRATEGIES(X)
#undef X
};

const char *strategy_name(enum strategy strategy)
{
    return strategies[strategy];
}

bool strategy_parse(struct slice text, enum strategy *strategy)
{
    for (size_t i = 0; i < sizeof(strategies) / sizeof(*strategies); i++) {
        if (!slice_is(text, strategies[i]))
            continue;
        *strategy = (enum strategy)i;
        return true;
    }
    return false;
}

/* What a typical call is billed: three times as much input as output. */
static const double INPUT_SHARE = 0.75;

static double price_of(const struct model *entry, enum operation operation)
{
    double price = NAN;

    if (entry && operation == OP_EMBED)
        price = entry->prices.input;
    else if (entry)
        price = INPUT_SHARE * entry->prices.input +
                (1 - INPUT_SHARE) * entry->prices.output;
    return isnan(price) ? INFINITY : price;
}

static double latency_of(const struct candidate *candidate,
                         const struct plan_need *need)
{
    double latency =
        need->supply ? supply_latency_ms(need->supply, candidate->provider,
                                         candidate->model, need->clock.now_ms)
                     : NAN;

    return isnan(latency) ? -1 : latency;
}

static const double UNDRAWN = -1;

/* The one of those not drawn yet at which `chance` points; *chance becomes
 * where within its weight that was, which is a new chance. */
static struct contender *draw(struct field *field, double *chance)
{
    struct contender *drawn = NULL;
    double total = 0, at;

    for (size_t i = 0; i < field->count; i++)
        if (field->contenders[i].score == UNDRAWN)
            total += field->contenders[i].weight;
    at = *chance * total;
    for (size_t i = 0; i < field->count; i++) {
        if (field->contenders[i].score != UNDRAWN)
            continue;
        drawn = &field->contenders[i];
        if (at < drawn->weight || total <= 0)
            break;
        at -= drawn->weight;
    }
    if (drawn->weight > 0)
        *chance = at / drawn->weight;
    return drawn;
}

static void score_by_chance(struct field *field, double chance)
{
    for (size_t i = 0; i < field->count; i++)
        field->contenders[i].score = UNDRAWN;
    for (size_t i = 0; i < field->count; i++)
        draw(field, &chance)->score = (double)i;
}

static void score(struct field *field, enum strategy strategy,
                  const struct plan_need *need)
{
    if (strategy == STRATEGY_WEIGHTED)
        score_by_chance(field, need->chance);
    for (size_t i = 0; i < field->count; i++) {
        struct contender *contender = &field->contenders[i];

        if (strategy == STRATEGY_CHEAPEST)
            contender->score =
                price_of(contender->candidate.entry, need->operation);
        if (strategy == STRATEGY_FASTEST)
            contender->score = latency_of(&contender->candidate, need);
        contender->healthy =
            !need->supply ||
            supply_is_healthy(need->supply, contender->candidate.provider,
                              &need->clock);
    }
}

static bool goes_before(const struct contender *a, const struct contender *b)
{
    return a->healthy != b->healthy ? a->healthy : a->score < b->score;
}

static void sort(struct field *field)
{
    for (size_t i = 1; i < field->count; i++) {
        struct contender moved = field->contenders[i];
        size_t to = i;

        for (; to > 0 && goes_before(&moved, &field->contenders[to - 1]); to--)
            field->contenders[to] = field->contenders[to - 1];
        field->contenders[to] = moved;
    }
}

void field_order(struct field *field, enum strategy strategy,
                 const struct plan_need *need)
{
    if (field->count < 2)
        return;
    score(field, strategy, need);
    sort(field);
}
