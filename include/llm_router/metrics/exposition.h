/* Prometheus' text format, version 0.0.4.
 *
 * A family is begun once, then all its samples follow. Names and help are
 * literals of the program; label values may be anybody's text. */
#ifndef LLM_ROUTER_METRICS_EXPOSITION_H
#define LLM_ROUTER_METRICS_EXPOSITION_H

#include "llm_router/base/buf.h"
#include "llm_router/metrics/histogram.h"

#define EXPOSITION_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct family {
    const char *name;
    const char *type; /* "counter", "gauge", "histogram" */
    const char *help; /* one line */
};

struct label {
    const char *name;
    struct slice value; /* empty: the label is left out */
};

/* Which of a histogram's boundaries are shown: from `first` to `last`, every
 * `step`-th. */
struct boundaries {
    double unit;
    size_t first, last, step;
};

void exposition_begin(struct buf *out, const struct family *family);
void exposition_value(struct buf *out, const struct family *family,
                      const struct label *labels, size_t label_count,
                      double value);
void exposition_histogram(struct buf *out, const struct family *family,
                          const struct label *labels, size_t label_count,
                          const struct boundaries *boundaries,
                          const struct histogram *histogram);

#endif
