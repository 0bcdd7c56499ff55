/* Against jansson: what it accepts we accept, and both read the same. Against
 * ourselves: written values read back the same, a whole document is the same
 * when partial, and every beginning of it can be read as partial. */
#include <jansson.h>
#include <stdlib.h>

#include "llm_router/base/utf8.h"
#include "llm_router/json/value.h"

static const struct jv_limits LIMITS = {1 << 20, 1024, 1 << 20};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static const struct jv *parse(struct arena *arena, struct slice text,
                              unsigned flags)
{
    struct error err = {.code = ERR_NONE};
    struct jv *value;

    if (jv_parse(arena, text, flags, &LIMITS, NULL, &value, &err))
        return value;
    require(err.code == ERR_BAD_RESPONSE || err.code == ERR_TOO_LARGE);
    return NULL;
}

static bool same(const json_t *theirs, const struct jv *ours)
{
    switch (json_typeof(theirs)) {
    case JSON_OBJECT:
        if (ours->type != JV_OBJECT ||
            json_object_size(theirs) != jv_count(ours))
            return false;
        for (size_t i = 0; i < jv_count(ours); i++) {
            const struct jv_member *member = &ours->as.object.members[i];
            const json_t *value =
                json_object_getn(theirs, member->key.data, member->key.size);

            if (!value || !same(value, &member->value))
                return false;
        }
        return true;
    case JSON_ARRAY:
        if (ours->type != JV_ARRAY || json_array_size(theirs) != jv_count(ours))
            return false;
        for (size_t i = 0; i < jv_count(ours); i++)
            if (!same(json_array_get(theirs, i), jv_at(ours, i)))
                return false;
        return true;
    case JSON_STRING:
        return ours->type == JV_STRING &&
               slice_equal(slice_make(json_string_value(theirs),
                                      json_string_length(theirs)),
                           ours->as.string);
    case JSON_INTEGER:
        return ours->type == JV_INTEGER &&
               json_integer_value(theirs) == ours->as.integer;
    case JSON_REAL:
        return ours->type == JV_REAL &&
               json_real_value(theirs) == ours->as.real;
    case JSON_TRUE:
    case JSON_FALSE:
        return ours->type == JV_BOOLEAN &&
               json_is_true(theirs) == ours->as.boolean;
    case JSON_NULL:
        return ours->type == JV_NULL;
    }
    return false;
}

static void compare_with_jansson(struct slice text, const struct jv *ours)
{
    json_t *theirs = json_loadb(text.data, text.size, JSON_DECODE_ANY, NULL);

    /* jansson takes a NUL for the end of the text. */
    if (theirs && !memchr(text.data, '\0', text.size))
        require(ours && same(theirs, ours));
    json_decref(theirs);
}

static bool is_clean(struct slice text)
{
    return utf8_is_valid(text) && !memchr(text.data, '\0', text.size);
}

static void require_clean(const struct jv *value)
{
    if (value->type == JV_STRING)
        require(is_clean(value->as.string));
    for (size_t i = 0; value->type == JV_ARRAY && i < jv_count(value); i++)
        require_clean(jv_at(value, i));
    for (size_t i = 0; value->type == JV_OBJECT && i < jv_count(value); i++) {
        require(is_clean(value->as.object.members[i].key));
        require_clean(&value->as.object.members[i].value);
    }
}

/* Written and read again; the text is what jansson accepts. */
static void require_round_trip(struct arena *arena, const struct jv *value)
{
    const struct jv *again;
    struct buf out;

    buf_init(&out, 8 << 20);
    jv_put(&out, value);
    require(!out.failed);
    again = parse(arena, buf_slice(&out), JV_STRICT);
    require(again && jv_equal(value, again));
    compare_with_jansson(buf_slice(&out), again);
    buf_release(&out);
}

static bool is_blank(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!strchr(" \t\r\n\xEF\xBB\xBF", text.data[i]))
            return false;
    return true;
}

/* A beginning of a long number alone may overflow where the whole did not. */
static void require_beginning(struct arena *arena, const struct jv *whole,
                              struct slice text)
{
    if (jv_count(whole) > 0 && !is_blank(text))
        require(parse(arena, text, JV_PARTIAL) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_make(data, size);
    const struct jv *strict, *partial, *relaxed;
    struct arena arena;

    arena_init(&arena, 0);
    strict = parse(&arena, text, JV_STRICT);
    partial = parse(&arena, text, JV_PARTIAL);
    relaxed = parse(&arena, text, JV_PARTIAL | JV_TRAILING_COMMA);
    compare_with_jansson(text, strict);
    if (strict) {
        require(partial && partial->complete && jv_equal(strict, partial));
        require(size > 0);
        require_beginning(
            &arena, strict,
            slice_make(data,
                       (data[0] * 31u + data[size / 2] + size * 7u) % size));
    }
    if (partial) {
        require(relaxed && jv_equal(partial, relaxed));
        require_clean(partial);
        require_round_trip(&arena, partial);
    }
    arena_release(&arena);
    return 0;
}
