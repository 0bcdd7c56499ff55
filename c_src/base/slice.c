#include "llm_router/base/slice.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool slice_starts_with(struct slice text, const char *prefix)
{
    size_t size = strlen(prefix);

    return text.size >= size && !memcmp(text.data, prefix, size);
}

bool slice_is_nocase(struct slice a, const char *text)
{
    if (a.size != strlen(text))
        return false;
    for (size_t i = 0; i < a.size; i++)
        if (lower(a.data[i]) != lower(text[i]))
            return false;
    return true;
}

ptrdiff_t slice_find(struct slice text, struct slice needle)
{
    const char *found;

    if (needle.size == 0)
        return 0;
    if (needle.size > text.size)
        return -1;
    found = memmem(text.data, text.size, needle.data, needle.size);
    return found ? found - text.data : -1;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice text)
{
    while (text.size > 0 && is_space(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_space(text.data[text.size - 1]))
        text.size--;
    return text;
}

bool slice_to_int64(struct slice text, int64_t *value)
{
    bool negative = text.size > 0 && text.data[0] == '-';
    int64_t sum = 0;

    if (text.size == (negative ? 1u : 0u))
        return false;
    for (size_t i = negative; i < text.size; i++) {
        int digit = text.data[i] - '0';

        if (digit < 0 || digit > 9)
            return false;
        if (__builtin_mul_overflow(sum, (int64_t)10, &sum) ||
            __builtin_sub_overflow(sum, (int64_t)digit, &sum))
            return false;
    }
    /* Summed downwards, because INT64_MIN has no positive counterpart. */
    if (!negative && __builtin_sub_overflow((int64_t)0, sum, &sum))
        return false;
    *value = sum;
    return true;
}
