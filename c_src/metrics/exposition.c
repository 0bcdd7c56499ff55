#include "llm_router/metrics/exposition.h"

#include <math.h>
#include <stdio.h>

#include "llm_router/base/utf8.h"
#include "llm_router/json/value.h"

enum { LABEL_BYTES_MAX = 256 };

void exposition_begin(struct buf *out, const struct family *family)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help,
               family->name, family->type);
}

static void put_escaped(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];

        if (c == '"' || c == '\\')
            buf_append_byte(out, '\\');
        if (c == '\n')
            buf_append_text(out, "\\n");
        else
            buf_append_byte(out, c);
    }
}

static void put_label(struct buf *out, const char *name, struct slice value)
{
    struct arena arena;

    arena_init(&arena, 0);
    value = utf8_cut(utf8_clean(&arena, value), LABEL_BYTES_MAX);
    buf_printf(out, "%s=\"", name);
    put_escaped(out, value);
    buf_append_byte(out, '"');
    arena_release(&arena);
}

/* `bound` (NULL: none) is the label `le` of a bucket. */
static void put_labels(struct buf *out, const struct label *labels,
                       size_t label_count, const char *bound)
{
    char before = '{';

    for (size_t i = 0; i < label_count; i++) {
        if (labels[i].value.size == 0)
            continue;
        buf_append_byte(out, before);
        before = ',';
        put_label(out, labels[i].name, labels[i].value);
    }
    if (bound) {
        buf_append_byte(out, before);
        before = ',';
        buf_printf(out, "le=\"%s\"", bound);
    }
    if (before == ',')
        buf_append_byte(out, '}');
}

static void put_number(struct buf *out, double value)
{
    buf_append_byte(out, ' ');
    if (isfinite(value))
        jv_put_number(out, value);
    else
        buf_append_text(out, isnan(value) ? "NaN"
                             : value > 0  ? "+Inf"
                                          : "-Inf");
    buf_append_byte(out, '\n');
}

void exposition_value(struct buf *out, const struct family *family,
                      const struct label *labels, size_t label_count,
                      double value)
{
    buf_append_text(out, family->name);
    put_labels(out, labels, label_count, NULL);
    put_number(out, value);
}

/* What `bound` stands for is in buckets up to it: they are cumulative. */
static void put_bucket(struct buf *out, const struct family *family,
                       const struct label *labels, size_t label_count,
                       const char *bound, uint64_t count)
{
    buf_printf(out, "%s_bucket", family->name);
    put_labels(out, labels, label_count, bound);
    put_number(out, (double)count);
}

void exposition_histogram(struct buf *out, const struct family *family,
                          const struct label *labels, size_t label_count,
                          const struct boundaries *boundaries,
                          const struct histogram *histogram)
{
    uint64_t below = 0;
    char bound[32];

    for (size_t i = 0; i <= boundaries->last; i++) {
        below += histogram->counts[i];
        if (i < boundaries->first ||
            (i - boundaries->first) % boundaries->step != 0)
            continue;
        snprintf(bound, sizeof(bound), "%.9g",
                 histogram_bound(boundaries->unit, i));
        put_bucket(out, family, labels, label_count, bound, below);
    }
    put_bucket(out, family, labels, label_count, "+Inf", histogram->count);
    buf_printf(out, "%s_sum", family->name);
    put_labels(out, labels, label_count, NULL);
    put_number(out, histogram->sum);
    buf_printf(out, "%s_count", family->name);
    put_labels(out, labels, label_count, NULL);
    put_number(out, (double)histogram->count);
}
