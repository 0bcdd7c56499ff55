/* How many of something were how long or how large: counts by powers of two.
 *
 * Bucket i holds values up to unit * 2^i, the last one all above. With
 * HISTOGRAM_SECONDS that is from 9.8 us to 11 minutes and has the boundaries
 * that OpenTelemetry's GenAI conventions advise for durations (0.01, 0.02, ...
 * 81.92 s) among its own; with HISTOGRAM_TOKENS those for token counts (1, 4,
 * 16, ...). */
#ifndef LLM_ROUTER_METRICS_HISTOGRAM_H
#define LLM_ROUTER_METRICS_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SECONDS (0.01 / 1024)
#define HISTOGRAM_TOKENS 1.0

enum { HISTOGRAM_BOUNDS = 27, HISTOGRAM_BUCKETS = HISTOGRAM_BOUNDS + 1 };

/* Zero-initialised memory is an empty one. */
struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    double sum;
    double largest;
};

/* Upper end of a bucket; `bucket` < HISTOGRAM_BOUNDS. */
double histogram_bound(double unit, size_t bucket);

/* What is negative or no number counts as 0. */
void histogram_add(struct histogram *histogram, double unit, double value);

/* The value below which that part (0..1) lies, guessed within its bucket, whose
 * bounds are a factor of two apart; never over the largest one. NAN when
 * nothing was added. */
double histogram_quantile(const struct histogram *histogram, double unit,
                          double part);

#endif
