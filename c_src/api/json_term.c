#include "llm_router/api/json_term.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "llm_router/api/call.h"
#include "llm_router/base/utf8.h"
#include "llm_router/term/writer.h"

struct conversion {
    struct arena *arena;
    struct error *err;
    enum json_term_mode mode;
    uint32_t depth;
    uint32_t values;
};

enum outcome { CONVERTED, LEFT_OUT, FAILED };

/* Each converter takes the term at the cursor and, unless it failed, leaves
 * the cursor behind it: nested terms are walked once, not once a level. */
static enum outcome convert(struct conversion *conversion, struct term *at,
                            struct jv *value);

static enum outcome refuse(struct conversion *conversion, struct term *at,
                           const char *message)
{
    if (conversion->mode == JSON_TERM_LENIENT) {
        *at = term_next(*at);
        return LEFT_OUT;
    }
    error_set(conversion->err, ERR_INVALID_REQUEST, "%s", message);
    return FAILED;
}

static enum outcome fail_in_element(struct conversion *conversion, size_t index)
{
    char path[24];

    snprintf(path, sizeof(path), "[%zu]", index);
    error_in(conversion->err, path);
    return FAILED;
}

static enum outcome fail_in_member(struct conversion *conversion,
                                   struct slice key)
{
    char path[ERROR_PATH_MAX];

    snprintf(path, sizeof(path), "%.*s",
             SLICE_ARG(utf8_cut(key, sizeof(path) - 1)));
    error_in(conversion->err, path);
    return FAILED;
}

static bool clean_text(struct conversion *conversion, struct slice bytes,
                       struct slice *text)
{
    if (!utf8_is_valid(bytes))
        return false;
    *text = utf8_clean(conversion->arena, bytes);
    return true;
}

static enum outcome convert_text(struct conversion *conversion, struct term *at,
                                 struct slice bytes, struct jv *value)
{
    value->type = JV_STRING;
    if (!clean_text(conversion, bytes, &value->as.string))
        return refuse(conversion, at, "text must be UTF-8");
    *at = term_next(*at);
    return CONVERTED;
}

static enum outcome convert_atom(struct conversion *conversion, struct term *at,
                                 struct jv *value)
{
    struct slice name;

    if (term_boolean(*at, &value->as.boolean)) {
        value->type = JV_BOOLEAN;
    } else if (term_is_atom(*at, "nil") || term_is_atom(*at, "null")) {
        value->type = JV_NULL;
    } else {
        term_atom(*at, &name);
        return convert_text(conversion, at, name, value);
    }
    *at = term_next(*at);
    return CONVERTED;
}

static enum outcome convert_number(struct conversion *conversion,
                                   struct term *at, struct jv *value)
{
    if (term_integer(*at, &value->as.integer)) {
        value->type = JV_INTEGER;
    } else if (term_float(*at, &value->as.real) && isfinite(value->as.real)) {
        value->type = JV_REAL;
    } else {
        return refuse(conversion, at, "number out of range");
    }
    *at = term_next(*at);
    return CONVERTED;
}

static int compare_keys(const void *a, const void *b)
{
    const struct slice *left = &(*(struct jv_member *const *)a)->key;
    const struct slice *right = &(*(struct jv_member *const *)b)->key;

    if (left->size != right->size)
        return left->size < right->size ? -1 : 1;
    return left->size > 0 ? memcmp(left->data, right->data, left->size) : 0;
}

/* An atom and a binary of one name; in a keyword list any two. */
static bool keys_are_distinct(struct conversion *conversion,
                              struct jv_member *members, size_t count)
{
    struct arena_mark mark = arena_mark(conversion->arena);
    struct jv_member **sorted =
        arena_array(conversion->arena, count, sizeof(struct jv_member *));
    const struct jv_member *twice = NULL;

    for (size_t i = 0; i < count; i++)
        sorted[i] = &members[i];
    qsort(sorted, count, sizeof(struct jv_member *), compare_keys);
    for (size_t i = 1; i < count && !twice; i++)
        if (slice_equal(sorted[i - 1]->key, sorted[i]->key))
            twice = sorted[i];
    arena_rewind(conversion->arena, mark);
    if (!twice)
        return true;
    error_set(conversion->err, ERR_INVALID_REQUEST, "key given twice");
    fail_in_member(conversion, twice->key);
    return false;
}

static enum outcome convert_key(struct conversion *conversion, struct term *at,
                                struct slice *key)
{
    struct slice bytes;

    if (!term_atom(*at, &bytes) && !term_binary(*at, &bytes))
        return refuse(conversion, at, "keys must be atoms or strings");
    if (!clean_text(conversion, bytes, key))
        return refuse(conversion, at, "keys must be UTF-8");
    *at = term_next(*at);
    if (conversion->mode == JSON_TERM_LENIENT && slice_starts_with(*key, "__"))
        return LEFT_OUT;
    return CONVERTED;
}

/* A charlist where a task has text: to its owner it is text, too. */
static bool convert_task_text(struct conversion *conversion, struct term *at,
                              struct slice key, struct jv *value)
{
    static const char *const texts[] = {"title", "description", "details",
                                        "test_strategy"};
    struct error ignored;
    struct slice text;
    size_t i = 0;

    if (conversion->mode != JSON_TERM_LENIENT || term_kind(*at) == TERM_BINARY)
        return false;
    while (i < sizeof(texts) / sizeof(*texts) && !slice_is(key, texts[i]))
        i++;
    if (i == sizeof(texts) / sizeof(*texts) ||
        !term_text(*at, CALL_TEXT_MAX, conversion->arena, &text, &ignored))
        return false;
    *value = (struct jv){
        .type = JV_STRING,
        .complete = true,
        .as.string = utf8_clean(conversion->arena, text),
    };
    *at = term_next(*at);
    return true;
}

/* Takes key and value at the cursor. */
static enum outcome convert_member(struct conversion *conversion,
                                   struct term *at, struct jv_member *member)
{
    enum outcome outcome = convert_key(conversion, at, &member->key);

    if (outcome == LEFT_OUT)
        *at = term_next(*at);
    if (outcome != CONVERTED ||
        convert_task_text(conversion, at, member->key, &member->value))
        return outcome;
    outcome = convert(conversion, at, &member->value);
    return outcome == FAILED ? fail_in_member(conversion, member->key)
                             : outcome;
}

/* Room for `count` more values; the limit comes before the memory. */
static bool has_room(struct conversion *conversion, uint32_t count)
{
    if (count > JSON_TERM_VALUES_MAX - conversion->values)
        return error_set(conversion->err, ERR_TOO_LARGE, "over %d values",
                         JSON_TERM_VALUES_MAX);
    conversion->values += count;
    return true;
}

/* Elements at the cursor: {Key, Value} pairs where `is_keywords`, else keys
 * and values in turn. */
static enum outcome convert_object(struct conversion *conversion,
                                   struct term *at, uint32_t pairs,
                                   bool is_keywords, struct jv *value)
{
    struct jv_member *members;
    size_t count = 0;

    if (!has_room(conversion, pairs))
        return FAILED;
    members = arena_array(conversion->arena, pairs, sizeof(*members));
    for (uint32_t i = 0; i < pairs; i++) {
        enum outcome outcome;

        if (is_keywords && !term_tuple_of(*at, 2, at))
            outcome = refuse(conversion, at, "must be a {Key, Value} pair");
        else
            outcome = convert_member(conversion, at, &members[count]);
        if (outcome == FAILED)
            return FAILED;
        count += outcome == CONVERTED;
    }
    value->type = JV_OBJECT;
    value->as.object.members = members;
    value->as.object.count = count;
    return keys_are_distinct(conversion, members, count) ? CONVERTED : FAILED;
}

static enum outcome convert_array(struct conversion *conversion,
                                  struct term *at, uint32_t length,
                                  struct jv *value)
{
    struct jv *items;
    size_t count = 0;

    if (!has_room(conversion, length))
        return FAILED;
    items = arena_array(conversion->arena, length, sizeof(*items));
    for (uint32_t i = 0; i < length; i++) {
        enum outcome outcome = convert(conversion, at, &items[count]);

        if (outcome == FAILED)
            return fail_in_element(conversion, i);
        count += outcome == CONVERTED;
    }
    value->type = JV_ARRAY;
    value->as.array.items = items;
    value->as.array.count = count;
    return CONVERTED;
}

/* A list of small integers, packed, or the empty list. */
static enum outcome convert_string(struct conversion *conversion,
                                   struct term *at, struct jv *value)
{
    struct term_list list;
    struct term element;
    struct jv *items;
    size_t count = 0;

    term_list(*at, &list);
    if (!has_room(conversion, list.left))
        return FAILED;
    items = arena_array(conversion->arena, list.left, sizeof(*items));
    while (term_list_next(&list, &element)) {
        items[count] = (struct jv){.type = JV_INTEGER, .complete = true};
        term_integer(element, &items[count++].as.integer);
    }
    value->type = JV_ARRAY;
    value->as.array.items = items;
    value->as.array.count = count;
    *at = term_next(*at);
    return CONVERTED;
}

/* A list is a keyword list by its first element. */
static bool is_keyword(struct term element)
{
    struct term key;

    return term_tuple_of(element, 2, &key) &&
           (term_kind(key) == TERM_ATOM || term_kind(key) == TERM_BINARY);
}

static enum outcome convert_list(struct conversion *conversion, struct term *at,
                                 struct jv *value)
{
    enum outcome outcome;
    uint32_t length;

    if (!term_list_open(*at, &length, at))
        return convert_string(conversion, at, value);
    if (length > 0 && is_keyword(*at))
        outcome = convert_object(conversion, at, length, true, value);
    else
        outcome = convert_array(conversion, at, length, value);
    if (outcome == FAILED)
        return FAILED;
    if (term_kind(*at) != TERM_NIL)
        return refuse(conversion, at, "improper list");
    *at = term_next(*at);
    return outcome;
}

static enum outcome convert_nested(struct conversion *conversion,
                                   struct term *at, struct jv *value)
{
    enum outcome outcome;
    uint32_t pairs;

    if (conversion->depth == JSON_TERM_DEPTH_MAX)
        return refuse(conversion, at, "nested too deep");
    conversion->depth++;
    if (term_map(*at, &pairs, at))
        outcome = convert_object(conversion, at, pairs, false, value);
    else
        outcome = convert_list(conversion, at, value);
    conversion->depth--;
    return outcome;
}

static enum outcome convert(struct conversion *conversion, struct term *at,
                            struct jv *value)
{
    struct slice bytes;

    value->complete = true;
    switch (term_kind(*at)) {
    case TERM_ATOM:
        return convert_atom(conversion, at, value);
    case TERM_INTEGER:
    case TERM_BIG:
    case TERM_FLOAT:
        return convert_number(conversion, at, value);
    case TERM_BINARY:
        term_binary(*at, &bytes);
        return convert_text(conversion, at, bytes, value);
    case TERM_MAP:
    case TERM_LIST:
    case TERM_STRING:
    case TERM_NIL:
        return convert_nested(conversion, at, value);
    case TERM_BITSTRING:
    case TERM_TUPLE:
    case TERM_PID:
    case TERM_PORT:
    case TERM_REFERENCE:
    case TERM_FUN:
        break;
    }
    return refuse(conversion, at, "JSON has no such value");
}

bool json_from_term(struct term term, enum json_term_mode mode,
                    struct arena *arena, struct jv **value, struct error *err)
{
    struct conversion conversion = {.arena = arena, .err = err, .mode = mode};
    struct jv *converted = arena_alloc(arena, sizeof(*converted));

    switch (convert(&conversion, &term, converted)) {
    case CONVERTED:
        break;
    case LEFT_OUT:
        *converted = (struct jv){.type = JV_NULL, .complete = true};
        break;
    case FAILED:
        return false;
    }
    *value = converted;
    return true;
}

static void put_array(struct buf *out, const struct jv *value)
{
    term_put_list(out, value->as.array.count);
    for (size_t i = 0; i < value->as.array.count; i++)
        json_put_term(out, &value->as.array.items[i]);
    term_put_nil(out);
}

static void put_object(struct buf *out, const struct jv *value)
{
    term_put_map(out, value->as.object.count);
    for (size_t i = 0; i < value->as.object.count; i++) {
        const struct jv_member *member = &value->as.object.members[i];

        term_put_binary(out, member->key);
        json_put_term(out, &member->value);
    }
}

void json_put_term(struct buf *out, const struct jv *value)
{
    switch (value->type) {
    case JV_NULL:
        term_put_atom(out, "nil");
        break;
    case JV_BOOLEAN:
        term_put_boolean(out, value->as.boolean);
        break;
    case JV_INTEGER:
        term_put_integer(out, value->as.integer);
        break;
    case JV_REAL:
        term_put_float(out, value->as.real);
        break;
    case JV_STRING:
        term_put_binary(out, value->as.string);
        break;
    case JV_ARRAY:
        put_array(out, value);
        break;
    case JV_OBJECT:
        put_object(out, value);
        break;
    }
}
