#include "llm_router/core/allow.h"

static bool is_pattern_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || (c != '\0' && strchr("_-.:@*", c));
}

bool allow_pattern_is_valid(struct slice pattern)
{
    if (pattern.size == 0 || pattern.size > ALLOW_PATTERN_MAX)
        return false;
    for (size_t i = 0; i < pattern.size; i++)
        if (!is_pattern_character(pattern.data[i]))
            return false;
    return true;
}

static struct slice skip(struct slice text, size_t size)
{
    return slice_make(text.data + size, text.size - size);
}

/* Takes the literal text up to the next star, and the star, off the pattern.
 * False: there was no star. */
static bool take_literal(struct slice *pattern, struct slice *literal)
{
    ptrdiff_t star = slice_find(*pattern, SLICE_LITERAL("*"));

    *literal = *pattern;
    if (star < 0)
        return false;
    literal->size = (size_t)star;
    *pattern = skip(*pattern, literal->size + 1);
    return true;
}

static bool ends_with(struct slice text, struct slice end)
{
    return text.size >= end.size &&
           slice_equal(skip(text, text.size - end.size), end);
}

/* The first literal stands at the start, the last at the end, and each between
 * them as early as it can: a later place never leaves more room for the rest,
 * so nothing is tried twice. */
static bool matches(struct slice pattern, struct slice name)
{
    struct slice literal;
    ptrdiff_t at;

    if (!take_literal(&pattern, &literal))
        return slice_equal(literal, name);
    if (name.size < literal.size ||
        !slice_equal(slice_make(name.data, literal.size), literal))
        return false;
    name = skip(name, literal.size);
    while (take_literal(&pattern, &literal)) {
        at = slice_find(name, literal);
        if (at < 0)
            return false;
        name = skip(name, (size_t)at + literal.size);
    }
    return ends_with(name, literal);
}

bool allow_matches(const struct slice *patterns, size_t count,
                   struct slice node)
{
    for (size_t i = 0; i < count; i++)
        if (matches(patterns[i], node))
            return true;
    return false;
}
