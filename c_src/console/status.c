#include "console/console_internal.h"

/* Beyond it nothing is counted: what is larger is a fault or an attack. */
#define FIGURE_LIMIT 1e15

static double clamp(double value)
{
    return value < 0 ? 0 : value > FIGURE_LIMIT ? FIGURE_LIMIT : value;
}

bool status_is_number(const struct jv *value)
{
    return value && (value->type == JV_INTEGER || value->type == JV_REAL);
}

double status_number(const struct jv *object, const char *key)
{
    return clamp(jv_number(jv_find(object, key), 0));
}

double status_known(const struct jv *object, const char *key)
{
    const struct jv *value = jv_find(object, key);

    return status_is_number(value) ? clamp(jv_number(value, 0)) : -1;
}

struct slice status_text(const struct jv *object, const char *key)
{
    return jv_string(jv_find(object, key));
}

double status_sum(const struct jv *array)
{
    double total = 0;

    for (size_t i = 0; i < jv_count(array); i++)
        total += clamp(jv_number(jv_at(array, i), 0));
    return clamp(total);
}

double status_known_sum(const struct jv *array)
{
    return status_newest(array) < 0 ? -1 : status_sum(array);
}

double status_newest(const struct jv *array)
{
    for (size_t i = jv_count(array); i > 0; i--)
        if (status_is_number(jv_at(array, i - 1)))
            return clamp(jv_number(jv_at(array, i - 1), 0));
    return -1;
}

const struct jv *status_find_named(const struct jv *array, struct slice name)
{
    for (size_t i = 0; i < jv_count(array); i++)
        if (slice_equal(status_text(jv_at(array, i), "name"), name))
            return jv_at(array, i);
    return NULL;
}

static double fold_in(double before, double value, enum fold fold)
{
    if (before < 0)
        return value;
    if (fold == FOLD_SUM)
        return clamp(before + value);
    return value > before ? value : before;
}

size_t status_bars(const struct jv *array, enum fold fold, size_t columns,
                   double values[BARS_MAX])
{
    size_t all = jv_count(array);
    size_t count = all < BARS_MAX ? all : BARS_MAX;
    size_t bars = count < columns ? count : columns;

    for (size_t i = 0; i < bars; i++)
        values[i] = -1;
    for (size_t i = 0; i < count && bars > 0; i++) {
        const struct jv *value = jv_at(array, all - count + i);
        double *bar = &values[i * bars / count];

        if (status_is_number(value))
            *bar = fold_in(*bar, clamp(jv_number(value, 0)), fold);
    }
    return bars;
}

enum style status_style(struct slice state)
{
    static const struct {
        const char *state;
        enum style style;
    } states[] = {
        {"ok", STYLE_GOOD},       {"up", STYLE_GOOD},
        {"draining", STYLE_WARN}, {"benched", STYLE_BAD},
        {"probing", STYLE_WARN},  {"down", STYLE_BAD},
    };

    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        if (slice_is(state, states[i].state))
            return states[i].style;
    return STYLE_WARN;
}
