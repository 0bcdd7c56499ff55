/* A borrowed run of bytes: the one way text and terms travel in this program.
 *
 * A slice owns nothing. Who made the bytes says how long they live; a slice
 * that must outlive its source is copied into an arena (arena_copy). The bytes
 * are not NUL-terminated. An empty slice may have any data pointer. */
#ifndef LLM_ROUTER_BASE_SLICE_H
#define LLM_ROUTER_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *data;
    size_t size;
};

/* For printf: `"%.*s", SLICE_ARG(s)`. Cuts at INT_MAX bytes. */
#define SLICE_ARG(s) \
    (int)((s).size > INT32_MAX ? INT32_MAX : (s).size), (s).data

/* A slice of a string literal, usable in static tables. */
#define SLICE_LITERAL(text) ((struct slice){(text), sizeof(text) - 1})

static inline struct slice slice_make(const void *data, size_t size)
{
    return (struct slice){data, size};
}

/* `text` is NUL-terminated, or NULL for the empty slice. */
static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, text ? strlen(text) : 0};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || !memcmp(a.data, b.data, a.size));
}

static inline bool slice_is(struct slice a, const char *text)
{
    return slice_equal(a, slice_of(text));
}

bool slice_starts_with(struct slice text, const char *prefix);

/* Same, ASCII letters compared without case (HTTP header names, enums). */
bool slice_is_nocase(struct slice a, const char *text);

/* Offset of the first `needle`, or -1. An empty needle is found at 0. */
ptrdiff_t slice_find(struct slice text, struct slice needle);

/* Without leading and trailing space, tab, CR, LF. */
struct slice slice_trim(struct slice text);

/* A whole decimal number (optional '-'), nothing around it, within int64_t. */
bool slice_to_int64(struct slice text, int64_t *value);

#endif
