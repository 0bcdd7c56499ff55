#include "llm_router/metrics/histogram.h"

#include <math.h>

double histogram_bound(double unit, size_t bucket)
{
    return ldexp(unit, (int)bucket);
}

static size_t bucket_of(double unit, double value)
{
    int exponent;
    double fraction = frexp(value / unit, &exponent);

    /* 2^k is 0.5 * 2^(k+1), and belongs to bucket k. */
    if (fraction == 0.5)
        exponent--;
    if (exponent <= 0)
        return 0;
    return exponent < HISTOGRAM_BOUNDS ? (size_t)exponent : HISTOGRAM_BOUNDS;
}

void histogram_add(struct histogram *histogram, double unit, double value)
{
    if (!(value > 0))
        value = 0;
    histogram
        ->counts[isinf(value) ? HISTOGRAM_BOUNDS : bucket_of(unit, value)]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->largest)
        histogram->largest = value;
}

double histogram_quantile(const struct histogram *histogram, double unit,
                          double part)
{
    double wanted = part * (double)histogram->count, below = 0;

    if (histogram->count == 0)
        return (double)NAN;
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        double here = (double)histogram->counts[i];

        if (here > 0 && below + here >= wanted) {
            double low = i > 0 ? histogram_bound(unit, i - 1) : 0;
            double high = fmin(histogram_bound(unit, i), histogram->largest);

            return low + (high - low) * (wanted - below) / here;
        }
        below += here;
    }
    return histogram->largest;
}
