/* Shared by the files of the console layer. */
#ifndef LLM_ROUTER_CONSOLE_INTERNAL_H
#define LLM_ROUTER_CONSOLE_INTERNAL_H

#include <termios.h>

#include "llm_router/console/view.h"
#include "llm_router/loop/loop.h"

/* pen.c: text that keeps within its columns. Pure. */

enum style { STYLE_PLAIN, STYLE_TITLE, STYLE_GOOD, STYLE_WARN, STYLE_BAD };

struct pen {
    struct buf *out;
    unsigned flags; /* of view_options */
    size_t width;
    size_t max_lines; /* what comes behind them is dropped */
    size_t column;    /* of this line, from 0 */
    size_t lines;     /* that are finished */
};

enum align { ALIGN_LEFT, ALIGN_RIGHT };

/* Columns that `text` takes, counted up to `max` + 1. */
size_t pen_measure(const struct pen *pen, struct slice text, size_t max);

/* What does not fit in the line, or in the cell, is cut. */
void pen_text(struct pen *pen, struct slice text);
void pen_cell(struct pen *pen, struct slice text, size_t columns,
              enum align align);
void pen_printf(struct pen *pen, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void pen_spaces(struct pen *pen, size_t columns);
void pen_newline(struct pen *pen);

/* From here on; at the end of a line it is plain again. */
void pen_style(struct pen *pen, enum style style);

/* Bars of `count` values from 0 on, one a column; less than 0: a gap. */
void pen_bars(struct pen *pen, const double *values, size_t count);

/* figures.c: numbers as people read them. Pure. Values from strangers: any
 * finite number; what is under 0 counts as 0. */

enum { FIGURE_MAX = 24 };

struct figure {
    char text[FIGURE_MAX];
};

struct figure figure_count(double value);   /* 12,345, 1.2M; 7 columns */
struct figure figure_percent(double share); /* of 1 */
struct figure figure_ms(double ms);         /* 0.42, 12345; 7 columns */
struct figure figure_usd(double usd); /* $0.0012, $12.34; 8 columns; < 0: - */
struct figure figure_bytes(double bytes);          /* 12.3 MiB */
struct figure figure_duration(double duration_ms); /* 12s, 3m 05s, 2h 05m */

/* status.c: reading a status document. Pure. Numbers are within 0 and 1e15;
 * what is missing or of another type is 0 or empty. Any value may be NULL. */

enum { BARS_MAX = 240 };
enum fold { FOLD_SUM, FOLD_MOST };

bool status_is_number(const struct jv *value);
double status_number(const struct jv *object, const char *key);
double status_known(const struct jv *object, const char *key); /* else -1 */
struct slice status_text(const struct jv *object, const char *key);
double status_sum(const struct jv *array);
double status_known_sum(const struct jv *array); /* -1: nothing is known */
double status_newest(const struct jv *array);    /* known; -1: none is */

/* The element of an array of objects whose `name` that is. */
const struct jv *status_find_named(const struct jv *array, struct slice name);

/* The newest BARS_MAX numbers as at most `columns` bars for pen_bars, several
 * in one where there are more; returns how many. */
size_t status_bars(const struct jv *array, enum fold fold, size_t columns,
                   double values[BARS_MAX]);

/* Of the state of a router, a queue or a key. */
enum style status_style(struct slice state);

/* tables.c: the tables of a status document. */

/* So many lines one needs at least, with an empty one and the titles. */
enum { TABLE_LINES_MIN = 3 };

size_t table_provider_rows(const struct jv *status);
size_t table_model_rows(const struct jv *status);
size_t table_error_rows(const struct jv *status);

/* At most so many rows, of a line each. */
void table_put_providers(struct pen *pen, const struct jv *status, size_t rows);
void table_put_models(struct pen *pen, const struct jv *status, size_t rows);
void table_put_errors(struct pen *pen, const struct jv *status, size_t rows);

/* terminal.c: standard output and input, or where they are a terminal. */

struct terminal_events {
    void (*resized)(void *context);
    void (*left)(void *context); /* by a key, or it is gone */
};

struct terminal {
    struct loop *loop;
    const struct terminal_events *events;
    void *context;
    bool full_screen; /* standard output is a terminal that can be drawn on */
    int output, input, resize;
    struct loop_watch keys, resized;
    struct buf pending; /* what it did not take yet */
    struct loop_timer again;
};

/* The flags of view_options for standard output. */
unsigned terminal_flags(void);

/* Of standard output, within the limits of view_options; where it is no
 * terminal, COLUMNS or 120, and 0 rows. */
void terminal_size(size_t *columns, size_t *rows);

/* Takes the screen over, if there is one, until terminal_close, or until a
 * signal kills the process. Once a process. */
void terminal_open(struct terminal *terminal, struct loop *loop,
                   const struct terminal_events *events, void *context);
void terminal_close(struct terminal *terminal);

/* Replaces what the screen shows; elsewhere the lines follow those before. With
 * the last ones still not taken these are dropped: nothing blocks. */
void terminal_show(struct terminal *terminal, struct slice lines);

#endif
