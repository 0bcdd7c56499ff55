#include <math.h>

#include "supply_internal.h"

enum { DAY_S = 86400 };

/* The last day of year 9999: a clock that is wrong writes no longer names. */
static const int64_t LAST_DAY = 2932896;

/* The Gregorian calendar counted in years that begin with March, so that the
 * leap day is a year's last. */
int64_t month_of_day(int64_t day, int64_t *day_of_month)
{
    enum { DAYS_TO_1970 = 719468, DAYS_OF_400_YEARS = 146097 };
    int64_t days = day + DAYS_TO_1970; /* since 1 March of year 0 */
    int64_t era = days / DAYS_OF_400_YEARS;
    int64_t of_era = days % DAYS_OF_400_YEARS;
    int64_t year =
        (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153; /* 0: March */

    *day_of_month = of_year - (153 * month + 2) / 5 + 1;
    return (era * 400 + year) * 12 + month + 2;
}

void spending_roll(struct spending *spending, int64_t unix_s)
{
    int64_t day = unix_s > 0 ? unix_s / DAY_S : 0, ignored, month;

    if (day > LAST_DAY)
        day = LAST_DAY;
    if (day <= spending->day)
        return;
    month = month_of_day(day, &ignored);
    if (month > spending->month)
        spending->month_usd = 0;
    spending->day_usd = 0;
    spending->day = day;
    spending->month = month;
}

void spending_add(struct spending *spending, double usd, int64_t unix_s)
{
    spending_roll(spending, unix_s);
    spending->day_usd += usd;
    spending->month_usd += usd;
}

static bool fits(double spent_usd, double usd, double limit_usd)
{
    return isnan(limit_usd) ||
           (spent_usd < limit_usd && usd <= limit_usd - spent_usd);
}

bool spending_allows(const struct spending *spending,
                     const struct budget_limits *limits, double usd,
                     int64_t unix_s)
{
    struct spending now = *spending;

    spending_roll(&now, unix_s);
    usd += now.reserved_usd;
    return fits(now.day_usd, usd, limits->day_usd) &&
           fits(now.month_usd, usd, limits->month_usd);
}
