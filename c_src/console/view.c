#include "llm_router/console/view.h"

#include <stdio.h>

#include "console/console_internal.h"

enum {
    PLOT_HEIGHT_MIN = 16, /* lines of a screen that has room for plots */
    LABEL_COLUMNS = 9,    /* before the bars */
    SUMMARY_COLUMNS = 11, /* and behind */
    LEAST_BARS = 10,
};

struct view {
    struct pen pen;
    const struct jv *status;
    size_t height; /* 0: no limit */
};

bool view_parse(struct arena *arena, struct slice json,
                const struct jv **status, struct error *err)
{
    static const struct jv_limits limits = {
        .max_bytes = 16 * 1024 * 1024, .max_depth = 32, .max_values = 500000};
    struct jv *value;

    if (!jv_parse(arena, json, JV_STRICT, &limits, NULL, &value, err))
        return false;
    if (!jv_is_string(jv_find(value, "node")) ||
        !jv_is_string(jv_find(value, "state")))
        return error_set(err, ERR_BAD_RESPONSE, "not the status of a router");
    *status = value;
    return true;
}

bool view_is_ready(const struct jv *status)
{
    return slice_is(status_text(status, "state"), "ok") &&
           jv_boolean(jv_find(status, "ready"), false);
}

/* Facts stand in a row, and in the next where they do not fit. */

static void begin_fact(struct view *view, size_t columns)
{
    struct pen *pen = &view->pen;

    if (pen->column > 0 && pen->column + 2 + columns > pen->width)
        pen_newline(pen);
    if (pen->column > 0)
        pen_spaces(pen, 2);
}

static void put_fact(struct view *view, enum style style, const char *what,
                     struct figure figure)
{
    begin_fact(view, strlen(what) + 1 + strlen(figure.text));
    pen_printf(&view->pen, "%s ", what);
    pen_style(&view->pen, style);
    pen_text(&view->pen, slice_of(figure.text));
    pen_style(&view->pen, STYLE_PLAIN);
}

static void put_word(struct view *view, enum style style, struct slice word)
{
    begin_fact(view, pen_measure(&view->pen, word, view->pen.width));
    pen_style(&view->pen, style);
    pen_text(&view->pen, word);
    pen_style(&view->pen, STYLE_PLAIN);
}

static void put_identity(struct view *view)
{
    const struct jv *status = view->status;
    struct slice state = status_text(status, "state");
    bool held = jv_boolean(jv_find(status, "holds_global_name"), false);

    put_word(view, STYLE_TITLE, status_text(status, "node"));
    put_word(view, STYLE_PLAIN, status_text(status, "version"));
    put_word(view, status_style(state), state);
    if (!jv_boolean(jv_find(status, "ready"), false))
        put_word(view, STYLE_BAD, SLICE_LITERAL("not ready"));
    put_fact(view, STYLE_PLAIN, "up",
             figure_duration(status_number(status, "uptime_ms")));
    put_word(view, STYLE_PLAIN,
             held ? SLICE_LITERAL("holds the global name")
                  : SLICE_LITERAL("stands by"));
    put_fact(view, STYLE_PLAIN, "nodes",
             figure_count(status_number(status, "peers")));
    pen_newline(&view->pen);
}

static void put_count(struct view *view, const struct jv *object,
                      const char *key, const char *what, enum style if_any)
{
    double value = status_number(object, key);

    put_fact(view, value > 0 ? if_any : STYLE_PLAIN, what, figure_count(value));
}

/* Two numbers that belong together. */
static void put_pair(struct view *view, const char *what, struct figure first,
                     const char *between, struct figure second)
{
    char text[80];

    snprintf(text, sizeof(text), "%s %s %s %s", what, first.text, between,
             second.text);
    put_word(view, STYLE_PLAIN, slice_of(text));
}

static void put_facts(struct view *view)
{
    const struct jv *status = view->status;
    const struct jv *tokens = jv_find(status, "tokens");

    put_count(view, status, "requests", "requests", STYLE_PLAIN);
    put_count(view, status, "succeeded", "ok", STYLE_PLAIN);
    put_count(view, status, "failed", "failed", STYLE_BAD);
    put_count(view, status, "cancelled", "cancelled", STYLE_PLAIN);
    put_count(view, status, "retries", "retries", STYLE_PLAIN);
    put_pair(view, "in flight",
             figure_count(status_number(status, "in_flight")), "of",
             figure_count(status_number(status, "slots")));
    put_count(view, status, "waiting", "waiting", STYLE_WARN);
    put_pair(view, "tokens in/out",
             figure_count(status_number(tokens, "input")), "/",
             figure_count(status_number(tokens, "output")));
    put_fact(view, STYLE_PLAIN, "cost",
             figure_usd(status_known(status, "cost_usd")));
    put_fact(view, STYLE_PLAIN, "memory",
             figure_bytes(status_number(status, "resident_bytes")));
    put_fact(view, STYLE_PLAIN, "cpu",
             figure_duration(status_number(status, "cpu_ms")));
    put_count(view, status, "open_descriptors", "fds", STYLE_PLAIN);
    put_fact(view, STYLE_PLAIN, "longest stall ms",
             figure_ms(status_number(status, "longest_stall_ms")));
    if (status_number(status, "log_lines_dropped") > 0)
        put_count(view, status, "log_lines_dropped", "log lines lost",
                  STYLE_BAD);
    pen_newline(&view->pen);
}

static void put_queue(struct view *view)
{
    const struct jv *queue = jv_find(view->status, "queue");
    const struct jv *oldest = jv_find(queue, "oldest_age_s");
    struct slice state = status_text(queue, "state");

    if (jv_count(queue) == 0)
        return;
    put_word(view, STYLE_PLAIN, SLICE_LITERAL("queue"));
    put_word(view, status_style(state), state);
    if (status_is_number(jv_find(queue, "depth")))
        put_count(view, queue, "depth", "depth", STYLE_PLAIN);
    if (status_is_number(oldest))
        put_fact(view, STYLE_PLAIN, "oldest",
                 figure_duration(status_number(queue, "oldest_age_s") * 1000));
    put_count(view, queue, "in_flight", "in flight", STYLE_PLAIN);
    put_count(view, queue, "dead", "dead letters", STYLE_BAD);
    pen_newline(&view->pen);
}

/* Plots. */

static void put_plot(struct view *view, const char *label,
                     const struct jv *array, enum fold fold)
{
    struct pen *pen = &view->pen;
    size_t around = LABEL_COLUMNS + SUMMARY_COLUMNS;
    double bars[BARS_MAX];

    pen_cell(pen, slice_of(label), LABEL_COLUMNS, ALIGN_LEFT);
    if (pen->width >= around + LEAST_BARS)
        pen_bars(pen, bars,
                 status_bars(array, fold, pen->width - around, bars));
    pen_spaces(pen, 1);
    if (fold == FOLD_SUM)
        pen_printf(pen, "%s", figure_count(status_sum(array)).text);
    else if (status_newest(array) >= 0)
        pen_printf(pen, "%s ms", figure_ms(status_newest(array)).text);
    pen_newline(pen);
}

static void put_plots(struct view *view)
{
    const struct jv *history = jv_find(view->status, "history");
    const struct jv *requests = jv_find(history, "requests");
    const struct jv *overhead = jv_find(history, "overhead_ms");
    double steps = (double)jv_count(jv_find(requests, "ok"));
    double span_ms = steps * status_number(history, "step_s") * 1000;

    if (steps == 0 || (view->height > 0 && view->height < PLOT_HEIGHT_MIN))
        return;
    pen_newline(&view->pen);
    pen_style(&view->pen, STYLE_TITLE);
    pen_printf(&view->pen, "LAST %s", figure_duration(span_ms).text);
    pen_newline(&view->pen);
    put_plot(view, "requests", jv_find(requests, "ok"), FOLD_SUM);
    put_plot(view, "failed", jv_find(requests, "failed"), FOLD_SUM);
    put_plot(view, "own p99", jv_find(overhead, "p99"), FOLD_MOST);
}

/* Layout. */

/* In the order in which they get room. */
static const struct table {
    size_t (*count)(const struct jv *status); /* its rows */
    void (*put)(struct pen *pen, const struct jv *status, size_t rows);
    size_t usual_rows; /* where the height has no limit */
} tables[] = {
    {table_provider_rows, table_put_providers, 200},
    {table_error_rows, table_put_errors, 10},
    {table_model_rows, table_put_models, 30},
};

enum { TABLES = sizeof(tables) / sizeof(tables[0]) };

/* Gives `room` lines to the tables: a first row to each, then what is left in
 * turn. */
static void share(size_t room, const size_t wanted[TABLES], size_t rows[TABLES])
{
    bool gave = true;

    for (size_t i = 0; i < TABLES; i++) {
        rows[i] = wanted[i] > 0 && room >= TABLE_LINES_MIN;
        room -= rows[i] * TABLE_LINES_MIN;
    }
    while (gave) {
        gave = false;
        for (size_t i = 0; i < TABLES && room > 0; i++) {
            if (rows[i] == 0 || rows[i] >= wanted[i])
                continue;
            rows[i]++;
            room--;
            gave = true;
        }
    }
}

static void put_tables(struct view *view)
{
    size_t wanted[TABLES], rows[TABLES];

    for (size_t i = 0; i < TABLES; i++) {
        wanted[i] = tables[i].count(view->status);
        if (view->height == 0 && wanted[i] > tables[i].usual_rows)
            wanted[i] = tables[i].usual_rows;
        rows[i] = wanted[i];
    }
    if (view->height > 0)
        share(view->height - view->pen.lines, wanted, rows);
    for (size_t i = 0; i < TABLES; i++)
        if (rows[i] > 0)
            tables[i].put(&view->pen, view->status, rows[i]);
}

static void put_notice(struct view *view, struct slice notice)
{
    pen_style(&view->pen, STYLE_BAD);
    pen_text(&view->pen, notice);
    pen_newline(&view->pen);
}

void view_put(const struct jv *status, const struct view_options *options,
              struct buf *out)
{
    struct view view = {
        .pen = {.out = out,
                .flags = options->flags,
                .width = options->width,
                .max_lines = options->height > 0 ? options->height : SIZE_MAX},
        .status = status,
        .height = options->height,
    };

    if (options->notice.size > 0)
        put_notice(&view, options->notice);
    put_identity(&view);
    put_facts(&view);
    put_queue(&view);
    put_plots(&view);
    put_tables(&view);
}
