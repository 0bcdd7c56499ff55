#include "llm_router/core/retry.h"

/* What is taken off at most, so that callers do not come back together. */
static const double JITTER = 0.25;

enum { OVERLOAD_FACTOR = 4 };

static int64_t backoff_ms(const struct retry_policy *policy,
                          const struct failure *failure, int retries,
                          double chance)
{
    int64_t delay = policy->base_delay_ms;

    if (failure->overloaded)
        delay *= OVERLOAD_FACTOR;
    while (retries-- > 0 && delay < policy->max_delay_ms)
        delay *= 2;
    if (delay > policy->max_delay_ms)
        delay = policy->max_delay_ms;
    return delay - (int64_t)((double)delay * JITTER * chance);
}

int64_t retry_delay(const struct retry_policy *policy,
                    const struct failure *failure, int retries, int64_t left_ms,
                    double chance)
{
    bool worth =
        failure->should_retry_said ? failure->should_retry : failure->retryable;
    int64_t delay = failure->retry_after_ms;

    if (!worth || retries >= policy->max_retries)
        return -1;
    if (delay > policy->max_retry_after_ms)
        return -1;
    if (delay < 0)
        delay = backoff_ms(policy, failure, retries, chance);
    return delay < left_ms ? delay : -1;
}

/* A century: longer waits are all the same, and the milliseconds fit. */
static const int64_t LONGEST_S = 3155760000;

struct date {
    int64_t year, month, day, hour, minute, second;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Seconds with up to three decimals used: "120", "1.5". */
static bool parse_seconds(struct slice text, int64_t *ms)
{
    int64_t unit = 1000;
    size_t i = 0;

    *ms = 0;
    for (; i < text.size && is_digit(text.data[i]); i++)
        if (*ms <= LONGEST_S * 1000)
            *ms = *ms * 10 + (text.data[i] - '0') * unit;
    if (i == 0)
        return false;
    if (i < text.size && text.data[i] == '.')
        for (i++; i < text.size && is_digit(text.data[i]); i++)
            *ms += (text.data[i] - '0') * (unit /= 10);
    if (*ms > LONGEST_S * 1000)
        *ms = LONGEST_S * 1000;
    return i == text.size;
}

/* Days from 1970-01-01 in the Gregorian calendar; years begin in March here,
 * so that the leap day is the last one. */
static int64_t days_from(const struct date *date)
{
    int64_t year = date->year - (date->month <= 2);
    int64_t month = (date->month + 9) % 12;

    return year * 365 + year / 4 - year / 100 + year / 400 +
           (month * 153 + 2) / 5 + date->day - 1 - 719468;
}

static bool parse_month(struct slice name, int64_t *month)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    ptrdiff_t at = slice_find(SLICE_LITERAL(names), name);

    *month = at / 3 + 1;
    return name.size == 3 && at >= 0 && at % 3 == 0;
}

/* Cuts the next run up to one of `ends` (skipping empty runs) off the front. */
static struct slice next_word(struct slice *text, const char *ends)
{
    struct slice word;
    size_t size = 0;

    while (text->size > 0 && strchr(ends, *text->data))
        *text = slice_make(text->data + 1, text->size - 1);
    while (size < text->size && !strchr(ends, text->data[size]))
        size++;
    word = slice_make(text->data, size);
    *text = slice_make(text->data + size, text->size - size);
    return word;
}

static bool next_number(struct slice *text, int64_t *number)
{
    return slice_to_int64(next_word(text, " :-"), number) && *number >= 0 &&
           *number <= 9999;
}

static bool next_time(struct slice *text, struct date *date)
{
    return next_number(text, &date->hour) && next_number(text, &date->minute) &&
           next_number(text, &date->second);
}

/* "Sun Nov  6 08:49:37 1994": the obsolete form of asctime(). */
static bool parse_asctime(struct slice text, struct date *date)
{
    return parse_month(next_word(&text, " "), &date->month) &&
           next_number(&text, &date->day) && next_time(&text, date) &&
           next_number(&text, &date->year);
}

/* "06 Nov 1994 08:49:37 GMT", or RFC 850's "06-Nov-94 08:49:37 GMT". A year of
 * two digits is the one that is at most 50 years ahead (RFC 9110, 5.6.7). */
static bool parse_day_first(struct slice text, int64_t now_s, struct date *date)
{
    int64_t this_year = 1970 + now_s / 31556952;
    bool short_year;

    if (!next_number(&text, &date->day) ||
        !parse_month(next_word(&text, " -"), &date->month))
        return false;
    short_year = text.size > 3 && !is_digit(text.data[3]);
    if (!next_number(&text, &date->year) || !next_time(&text, date))
        return false;
    if (short_year) {
        date->year += this_year - this_year % 100;
        if (date->year > this_year + 50)
            date->year -= 100;
    }
    return slice_is(slice_trim(text), "GMT");
}

static bool parse_date(struct slice text, int64_t now_s, struct date *date)
{
    struct slice weekday = next_word(&text, " ");
    bool comma = weekday.size > 3 && weekday.data[weekday.size - 1] == ',';

    if (!(comma ? parse_day_first(text, now_s, date)
                : parse_asctime(text, date)))
        return false;
    return date->day >= 1 && date->day <= 31 && date->hour <= 23 &&
           date->minute <= 59 && date->second <= 60 && date->year >= 1970;
}

int64_t retry_after_parse(struct slice value, int64_t now_s)
{
    struct date date;
    int64_t ms, at_s;

    value = slice_trim(value);
    if (parse_seconds(value, &ms))
        return ms;
    if (!parse_date(value, now_s, &date))
        return -1;
    at_s = ((days_from(&date) * 24 + date.hour) * 60 + date.minute) * 60 +
           date.second;
    if (at_s <= now_s)
        return 0;
    return (at_s - now_s < LONGEST_S ? at_s - now_s : LONGEST_S) * 1000;
}
