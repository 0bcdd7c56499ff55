/* What is spent, as a file keeps it:
 *
 *     {"overall": {"day": "2026-11-22", "day_usd": 1.5,
 *                  "month": "2026-11", "month_usd": 20},
 *      "keys": [{"provider": "openai", "key": "default", "day": ...}]}
 */
#include <stdio.h>

#include "llm_router/json/value.h"
#include "supply_internal.h"

static const struct jv_limits LIMITS = {
    .max_bytes = 1024 * 1024, .max_depth = 4, .max_values = 100000};

/* Names of a day and its month: "2026-11-22" and "2026-11". */
struct period {
    char day[48];
    char month[32];
};

static struct period period_of(const struct spending *spending)
{
    struct period period;
    int64_t day, month = month_of_day(spending->day, &day);

    snprintf(period.month, sizeof(period.month), "%04d-%02d", (int)(month / 12),
             (int)(month % 12) + 1);
    snprintf(period.day, sizeof(period.day), "%s-%02d", period.month, (int)day);
    return period;
}

static void put_amounts(const struct spending *spending, struct buf *out)
{
    struct period period = period_of(spending);

    buf_printf(out, "\"day\":\"%s\",\"day_usd\":", period.day);
    jv_put_number(out, spending->day_usd);
    buf_printf(out, ",\"month\":\"%s\",\"month_usd\":", period.month);
    jv_put_number(out, spending->month_usd);
    buf_append_byte(out, '}');
}

static void put_key(const struct supply_provider *provider,
                    const struct supply_key *key, struct buf *out)
{
    buf_append_text(out, "{\"provider\":");
    jv_put_string(out, provider->name);
    buf_append_text(out, ",\"key\":");
    jv_put_string(out, key->name);
    buf_append_byte(out, ',');
    put_amounts(&key->spending, out);
}

static bool has_spent(const struct supply_key *key)
{
    return key->spending.day_usd > 0 || key->spending.month_usd > 0;
}

void supply_put_spending(const struct supply *supply, struct buf *out)
{
    const char *comma = "";

    buf_append_text(out, "{\"overall\":{");
    put_amounts(&supply->spending, out);
    buf_append_text(out, ",\"keys\":[");
    LIST_EACH(at, &supply->providers)
    {
        const struct supply_provider *provider =
            LIST_ENTRY(at, struct supply_provider, link);

        LIST_EACH(link, &provider->keys)
        {
            const struct supply_key *key =
                LIST_ENTRY(link, struct supply_key, link);

            if (!has_spent(key))
                continue;
            buf_append_text(out, comma);
            put_key(provider, key, out);
            comma = ",";
        }
    }
    buf_append_text(out, "]}\n");
}

/* More is not money, and sums of it would not stay finite. */
static const double AMOUNT_MAX_USD = 1e15;

static bool is_amount(const struct jv *value)
{
    double usd = jv_number(value, -1);

    return usd >= 0 && usd <= AMOUNT_MAX_USD;
}

static bool are_amounts(const struct jv *row)
{
    return jv_is_string(jv_find(row, "day")) &&
           jv_is_string(jv_find(row, "month")) &&
           is_amount(jv_find(row, "day_usd")) &&
           is_amount(jv_find(row, "month_usd"));
}

static bool is_ours(const struct jv *root)
{
    const struct jv *keys = jv_find(root, "keys");

    if (!are_amounts(jv_find(root, "overall")) || !keys ||
        keys->type != JV_ARRAY)
        return false;
    for (size_t i = 0; i < jv_count(keys); i++) {
        const struct jv *row = jv_at(keys, i);

        if (!are_amounts(row) || !jv_is_string(jv_find(row, "provider")) ||
            !jv_is_string(jv_find(row, "key")))
            return false;
    }
    return true;
}

/* What is of another day or month than now is over, or not to be trusted. */
static void add_amounts(struct spending *spending, const struct jv *row,
                        int64_t unix_s)
{
    struct period now;

    spending_roll(spending, unix_s);
    now = period_of(spending);
    if (slice_is(jv_string(jv_find(row, "day")), now.day))
        spending->day_usd += jv_number(jv_find(row, "day_usd"), 0);
    if (slice_is(jv_string(jv_find(row, "month")), now.month))
        spending->month_usd += jv_number(jv_find(row, "month_usd"), 0);
}

static void add_key(struct supply *supply, const struct jv *row, int64_t unix_s)
{
    LIST_EACH(at, &supply->providers)
    {
        struct supply_provider *provider =
            LIST_ENTRY(at, struct supply_provider, link);

        if (!slice_equal(provider->name, jv_string(jv_find(row, "provider"))))
            continue;
        LIST_EACH(link, &provider->keys)
        {
            struct supply_key *key = LIST_ENTRY(link, struct supply_key, link);

            if (slice_equal(key->name, jv_string(jv_find(row, "key"))))
                add_amounts(&key->spending, row, unix_s);
        }
    }
}

static void add_all(struct supply *supply, const struct jv *root,
                    int64_t unix_s)
{
    const struct jv *keys = jv_find(root, "keys");

    add_amounts(&supply->spending, jv_find(root, "overall"), unix_s);
    for (size_t i = 0; i < jv_count(keys); i++)
        add_key(supply, jv_at(keys, i), unix_s);
}

bool supply_read_spending(struct supply *supply, struct slice json,
                          const struct supply_clock *clock, struct error *err)
{
    struct arena arena;
    struct jv *root;
    bool ours;

    arena_init(&arena, 0);
    ours = jv_parse(&arena, json, JV_STRICT, &LIMITS, NULL, &root, err) &&
           is_ours(root);
    if (ours)
        add_all(supply, root, clock->unix_s);
    else
        error_set(err, ERR_INVALID_REQUEST,
                  "this is not a file of what was spent");
    arena_release(&arena);
    return ours;
}
