#include <stdio.h>

#include "console/console_internal.h"
#include "llm_router/base/utf8.h"

struct column {
    const char *title;
    size_t columns;
    enum align align;
};

static void put_titles(struct pen *pen, const struct column *columns,
                       size_t count)
{
    pen_newline(pen);
    pen_style(pen, STYLE_TITLE);
    for (size_t i = 0; i < count; i++)
        pen_cell(pen, slice_of(columns[i].title), columns[i].columns,
                 columns[i].align);
    pen_newline(pen);
}

/* A text that fills its column does not touch the next. */
static void put_column(struct pen *pen, const struct column *column,
                       struct slice value)
{
    size_t gap = column->align == ALIGN_LEFT ? 1 : 0;

    pen_cell(pen, value, column->columns - gap, column->align);
    pen_spaces(pen, gap);
}

static void put_figure(struct pen *pen, const struct column *column,
                       struct figure figure)
{
    put_column(pen, column, slice_of(figure.text));
}

static void put_ms(struct pen *pen, const struct column *column, double ms)
{
    if (ms < 0)
        put_column(pen, column, SLICE_LITERAL("-"));
    else
        put_figure(pen, column, figure_ms(ms));
}

/* Providers, over the span of the history, and their keys. */

enum {
    PROVIDER_NAME,
    PROVIDER_STATE,
    PROVIDER_CALLS,
    PROVIDER_FAILED,
    PROVIDER_P50,
    PROVIDER_P99,
    PROVIDER_COST,
    PROVIDER_BARS,
    PROVIDER_COLUMNS
};

static const struct column provider_columns[PROVIDER_COLUMNS] = {
    {"PROVIDER", 13, ALIGN_LEFT}, {"STATE", 9, ALIGN_LEFT},
    {"CALLS", 7, ALIGN_RIGHT},    {"FAILED", 7, ALIGN_RIGHT},
    {"P50 MS", 8, ALIGN_RIGHT},   {"P99 MS", 8, ALIGN_RIGHT},
    {"COST", 9, ALIGN_RIGHT},     {"  HISTORY", 9, ALIGN_LEFT},
};

static bool is_ok(const struct jv *key)
{
    return slice_is(status_text(key, "state"), "ok");
}

/* A key with something to say has a line of its own. */
static bool has_line(const struct jv *keys, size_t index)
{
    return jv_count(keys) > 1 || !is_ok(jv_at(keys, index));
}

size_t table_provider_rows(const struct jv *status)
{
    const struct jv *providers = jv_find(status, "providers");
    size_t rows = 0;

    for (size_t i = 0; i < jv_count(providers); i++) {
        const struct jv *keys = jv_find(jv_at(providers, i), "keys");

        rows++;
        for (size_t k = 0; k < jv_count(keys); k++)
            rows += has_line(keys, k);
    }
    return rows;
}

static void put_state(struct pen *pen, const struct jv *keys)
{
    const struct column *column = &provider_columns[PROVIDER_STATE];
    size_t count = jv_count(keys), ok = 0;
    char some[48];

    for (size_t i = 0; i < count; i++)
        ok += is_ok(jv_at(keys, i));
    if (count == 1) {
        pen_style(pen, status_style(status_text(jv_at(keys, 0), "state")));
        put_column(pen, column, status_text(jv_at(keys, 0), "state"));
    } else {
        snprintf(some, sizeof(some), "%zu/%zu ok", ok, count);
        pen_style(pen, ok == count ? STYLE_GOOD
                       : ok > 0    ? STYLE_WARN
                                   : STYLE_BAD);
        put_column(pen, column, slice_of(some));
    }
    pen_style(pen, STYLE_PLAIN);
}

/* In the rest of the line. */
static void put_bars(struct pen *pen, const struct jv *array)
{
    const size_t gap = 2;
    size_t left = pen->width - pen->column;
    double values[BARS_MAX];

    if (jv_count(array) == 0 || left <= gap)
        return;
    pen_spaces(pen, gap);
    pen_bars(pen, values, status_bars(array, FOLD_SUM, left - gap, values));
}

static void put_provider(struct pen *pen, const struct jv *provider,
                         const struct jv *past)
{
    const struct column *columns = provider_columns;
    const struct jv *calls = jv_find(past, "calls");
    double made = status_sum(calls);
    double failed = status_sum(jv_find(past, "failed"));

    put_column(pen, &columns[PROVIDER_NAME], status_text(provider, "name"));
    put_state(pen, jv_find(provider, "keys"));
    put_figure(pen, &columns[PROVIDER_CALLS], figure_count(made));
    pen_style(pen, failed > 0 ? STYLE_BAD : STYLE_PLAIN);
    put_figure(pen, &columns[PROVIDER_FAILED],
               figure_percent(made > 0 ? failed / made : 0));
    pen_style(pen, STYLE_PLAIN);
    put_ms(pen, &columns[PROVIDER_P50], status_newest(jv_find(past, "p50_ms")));
    put_ms(pen, &columns[PROVIDER_P99], status_newest(jv_find(past, "p99_ms")));
    put_figure(pen, &columns[PROVIDER_COST],
               figure_usd(status_known_sum(jv_find(past, "cost_usd"))));
    put_bars(pen, calls);
    pen_newline(pen);
}

static void put_key_money(struct pen *pen, const struct jv *key,
                          const char *name, const char *what)
{
    double usd = status_known(key, name);

    if (usd >= 0)
        pen_printf(pen, "  %s %s", what, figure_usd(usd).text);
}

/* What matters most comes first: the line may be cut. */
static void put_key_figures(struct pen *pen, const struct jv *key)
{
    double rate = status_known(key, "failure_rate");

    pen_printf(pen, "in flight %s",
               figure_count(status_number(key, "in_flight")).text);
    if (rate >= 0)
        pen_printf(pen, "  failing %s", figure_percent(rate).text);
    put_key_money(pen, key, "day_usd", "today");
    put_key_money(pen, key, "month_usd", "month");
    pen_printf(pen, "  calls %s",
               figure_count(status_number(key, "granted")).text);
    pen_printf(pen, "  failed %s",
               figure_count(status_number(key, "failed")).text);
    pen_printf(pen, "  benched %s times",
               figure_count(status_number(key, "benches")).text);
}

static void put_key(struct pen *pen, const struct jv *key)
{
    struct slice state = status_text(key, "state");
    double returns_ms = status_number(key, "returns_ms");

    pen_spaces(pen, 2);
    pen_cell(pen, status_text(key, "name"), 10, ALIGN_LEFT);
    pen_spaces(pen, 1);
    pen_style(pen, status_style(state));
    pen_cell(pen, state, 8, ALIGN_LEFT);
    pen_style(pen, STYLE_PLAIN);
    pen_spaces(pen, 1);
    if (!is_ok(key) && returns_ms > 0)
        pen_printf(pen, "for %s  ", figure_duration(returns_ms).text);
    put_key_figures(pen, key);
    pen_newline(pen);
}

void table_put_providers(struct pen *pen, const struct jv *status, size_t rows)
{
    const struct jv *providers = jv_find(status, "providers");
    const struct jv *past = jv_find(jv_find(status, "history"), "providers");

    put_titles(pen, provider_columns, PROVIDER_COLUMNS);
    for (size_t i = 0; i < jv_count(providers) && rows > 0; i++) {
        const struct jv *provider = jv_at(providers, i);
        const struct jv *keys = jv_find(provider, "keys");

        put_provider(pen, provider,
                     status_find_named(past, status_text(provider, "name")));
        rows--;
        for (size_t k = 0; k < jv_count(keys) && rows > 0; k++) {
            if (!has_line(keys, k))
                continue;
            put_key(pen, jv_at(keys, k));
            rows--;
        }
    }
}

/* "provider/model" in one cell; what is unknown is left out. */
static void put_origin(struct pen *pen, const struct column *column,
                       const struct jv *object)
{
    struct slice provider = status_text(object, "provider");
    struct slice model = status_text(object, "model");
    struct buf both;

    buf_init(&both, SIZE_MAX);
    buf_append_slice(&both, utf8_cut(provider, VIEW_WIDTH_MAX));
    if (provider.size > 0 && model.size > 0)
        buf_append_byte(&both, '/');
    buf_append_slice(&both, utf8_cut(model, VIEW_WIDTH_MAX));
    put_column(pen, column, buf_slice(&both));
    buf_release(&both);
}

/* Models, since the router began. */

enum {
    MODEL_NAME,
    MODEL_REQUESTS,
    MODEL_FAILED,
    MODEL_P50,
    MODEL_P99,
    MODEL_INPUT,
    MODEL_OUTPUT,
    MODEL_COST,
    MODEL_COLUMNS
};

static const struct column model_columns[MODEL_COLUMNS] = {
    {"MODEL", 21, ALIGN_LEFT},  {"CALLS", 8, ALIGN_RIGHT},
    {"FAILED", 8, ALIGN_RIGHT}, {"P50 MS", 8, ALIGN_RIGHT},
    {"P99 MS", 8, ALIGN_RIGHT}, {"TOKENS IN", 10, ALIGN_RIGHT},
    {"OUT", 8, ALIGN_RIGHT},    {"COST", 9, ALIGN_RIGHT},
};

size_t table_model_rows(const struct jv *status)
{
    return jv_count(jv_find(status, "models"));
}

static void put_model(struct pen *pen, const struct jv *model)
{
    const struct column *columns = model_columns;

    put_origin(pen, &columns[MODEL_NAME], model);
    put_figure(pen, &columns[MODEL_REQUESTS],
               figure_count(status_number(model, "requests")));
    put_figure(pen, &columns[MODEL_FAILED],
               figure_count(status_number(model, "failed")));
    put_ms(pen, &columns[MODEL_P50], status_known(model, "p50_ms"));
    put_ms(pen, &columns[MODEL_P99], status_known(model, "p99_ms"));
    put_figure(pen, &columns[MODEL_INPUT],
               figure_count(status_number(model, "input_tokens")));
    put_figure(pen, &columns[MODEL_OUTPUT],
               figure_count(status_number(model, "output_tokens")));
    put_figure(pen, &columns[MODEL_COST],
               figure_usd(status_known(model, "cost_usd")));
    pen_newline(pen);
}

void table_put_models(struct pen *pen, const struct jv *status, size_t rows)
{
    const struct jv *models = jv_find(status, "models");

    put_titles(pen, model_columns, MODEL_COLUMNS);
    for (size_t i = 0; i < jv_count(models) && i < rows; i++)
        put_model(pen, jv_at(models, i));
}

/* Errors, newest first. */

enum { ERROR_AGE, ERROR_CODE, ERROR_ORIGIN, ERROR_MESSAGE, ERROR_COLUMNS };

static const struct column error_columns[ERROR_COLUMNS] = {
    {"AGO", 8, ALIGN_LEFT},
    {"ERROR", 15, ALIGN_LEFT},
    {"MODEL", 18, ALIGN_LEFT},
    {"OPERATION, CALLER, MESSAGE", 26, ALIGN_LEFT},
};

size_t table_error_rows(const struct jv *status)
{
    return jv_count(jv_find(status, "errors"));
}

static void put_times(struct pen *pen, double count)
{
    char times[32];

    if (!(count > 1))
        return;
    snprintf(times, sizeof(times), "%.0f times: ", count);
    pen_text(pen, slice_of(times));
}

static void put_error(struct pen *pen, const struct jv *error, double now_ms)
{
    const struct column *columns = error_columns;
    struct slice node = status_text(error, "node");

    put_figure(pen, &columns[ERROR_AGE],
               figure_duration(now_ms - status_number(error, "at_ms")));
    pen_style(pen, STYLE_BAD);
    put_column(pen, &columns[ERROR_CODE], status_text(error, "code"));
    pen_style(pen, STYLE_PLAIN);
    put_origin(pen, &columns[ERROR_ORIGIN], error);
    pen_text(pen, status_text(error, "operation"));
    if (node.size > 0) {
        pen_text(pen, SLICE_LITERAL(" "));
        pen_text(pen, node);
    }
    pen_text(pen, SLICE_LITERAL(": "));
    put_times(pen, status_number(error, "count"));
    pen_text(pen, status_text(error, "message"));
    pen_newline(pen);
}

void table_put_errors(struct pen *pen, const struct jv *status, size_t rows)
{
    const struct jv *errors = jv_find(status, "errors");
    double now_ms = status_number(status, "now_ms");

    put_titles(pen, error_columns, ERROR_COLUMNS);
    for (size_t i = 0; i < jv_count(errors) && i < rows; i++)
        put_error(pen, jv_at(errors, i), now_ms);
}
