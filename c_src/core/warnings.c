#include "llm_router/core/warnings.h"

#include <stdarg.h>
#include <stdio.h>

#include "llm_router/base/utf8.h"

enum { TEXT_MAX = 512, FIRST_CAPACITY = 8 };

static bool is_full(struct warnings *warnings)
{
    if (warnings->count < WARNINGS_MAX)
        return false;
    warnings->texts[WARNINGS_MAX - 1] =
        SLICE_LITERAL("further warnings are left out");
    return true;
}

static void add(struct warnings *warnings, struct arena *arena,
                struct slice text)
{
    struct slice *grown;

    if (is_full(warnings))
        return;
    if (warnings->count == warnings->capacity) {
        warnings->capacity =
            warnings->capacity > 0 ? warnings->capacity * 2 : FIRST_CAPACITY;
        grown = arena_array(arena, warnings->capacity, sizeof(*grown));
        if (warnings->count > 0)
            memcpy(grown, warnings->texts, warnings->count * sizeof(*grown));
        warnings->texts = grown;
    }
    warnings->texts[warnings->count++] = text;
}

void warnings_add(struct warnings *warnings, struct arena *arena,
                  const char *format, ...)
{
    char text[TEXT_MAX];
    struct slice whole;
    va_list arguments;

    if (is_full(warnings))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    whole = slice_of(text);
    add(warnings, arena, arena_copy(arena, utf8_cut(whole, whole.size)));
}

void warnings_append(struct warnings *warnings, struct arena *arena,
                     const struct warnings *more)
{
    for (size_t i = 0; i < more->count; i++)
        add(warnings, arena, more->texts[i]);
}

struct slice warning_quote(struct slice text)
{
    return utf8_cut(text, WARNING_QUOTE);
}
