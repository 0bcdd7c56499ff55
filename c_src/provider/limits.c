#include "provider/dialects_internal.h"

enum { DURATION_MAX_S = 31 * 24 * 3600 };

/* Of a second; "ms" before "m" and "s". */
static const struct {
    const char *unit;
    double ms;
} units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
};

/* Digits with an optional fraction, taken off the front; -1: none. */
static double take_number(struct slice *text)
{
    double value = 0, scale = 1;
    size_t digits = 0, at = 0;
    bool fraction = false;

    for (; at < text->size; at++) {
        char c = text->data[at];

        if (c == '.' && !fraction) {
            fraction = true;
            continue;
        }
        if (c < '0' || c > '9')
            break;
        digits++;
        if (fraction)
            scale /= 10;
        value = fraction ? value + (c - '0') * scale : value * 10 + (c - '0');
        if (value > DURATION_MAX_S * 1000.0)
            return -1;
    }
    *text = slice_make(text->data + at, text->size - at);
    return digits > 0 ? value : -1;
}

static double take_unit(struct slice *text)
{
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (slice_starts_with(*text, units[i].unit)) {
            size_t size = strlen(units[i].unit);

            *text = slice_make(text->data + size, text->size - size);
            return units[i].ms;
        }
    }
    return -1;
}

int64_t duration_ms(struct slice text)
{
    double ms;

    text = slice_trim(text);
    ms = take_number(&text);
    if (ms >= 0)
        ms *= text.size > 0 ? take_unit(&text) : 1000;
    while (ms >= 0 && text.size > 0) {
        double number = take_number(&text);
        double unit = take_unit(&text);

        if (number < 0 || unit < 0)
            return -1;
        ms += number * unit;
    }
    if (ms < 0)
        return -1;
    return ms <= DURATION_MAX_S * 1000.0 ? (int64_t)ms : -1;
}

static void read_limit(const struct provider_headers *headers,
                       const char *left_name, const char *reset_name,
                       int64_t *left, int64_t *reset_ms)
{
    int64_t number;

    if (!slice_to_int64(headers->find(headers->context, left_name), &number) ||
        number < 0)
        return;
    *reset_ms = duration_ms(headers->find(headers->context, reset_name));
    /* Azure: nothing left until now means that it does not know. */
    if (number > 0 || *reset_ms > 0)
        *left = number;
}

void read_openai_limits(struct rate_limits *limits,
                        const struct provider_headers *headers, int64_t now_s)
{
    (void)now_s;
    read_limit(headers, "x-ratelimit-remaining-requests",
               "x-ratelimit-reset-requests", &limits->requests_left,
               &limits->requests_reset_ms);
    read_limit(headers, "x-ratelimit-remaining-tokens",
               "x-ratelimit-reset-tokens", &limits->tokens_left,
               &limits->tokens_reset_ms);
}
