#include <math.h>

#include "supply_internal.h"

static const double MINUTE_MS = 60000;

/* What sums of fractions may be off by. */
static const double ROUNDING_MS = 1e-6;

void bucket_limit(struct bucket *bucket, int64_t per_minute)
{
    if (bucket->per_minute == 0)
        bucket->level = (double)per_minute;
    bucket->per_minute = per_minute;
}

double bucket_room(const struct bucket *bucket, uint64_t now_ms)
{
    double per_ms = (double)bucket->per_minute / MINUTE_MS;

    return fmin(bucket->level + per_ms * (double)(now_ms - bucket->filled_ms),
                (double)bucket->per_minute);
}

uint64_t bucket_wait_ms(const struct bucket *bucket, double amount,
                        uint64_t now_ms)
{
    double full = (double)bucket->per_minute;
    double lack;

    if (bucket->per_minute == 0)
        return 0;
    lack = fmin(amount, full) - bucket_room(bucket, now_ms);
    lack = ceil(lack / full * MINUTE_MS - ROUNDING_MS);
    return lack > 0 ? (uint64_t)lack : 0;
}

void bucket_take(struct bucket *bucket, double amount, uint64_t now_ms)
{
    if (bucket->per_minute == 0)
        return;
    bucket->level =
        fmin(bucket_room(bucket, now_ms) - amount, (double)bucket->per_minute);
    bucket->filled_ms = now_ms;
}
