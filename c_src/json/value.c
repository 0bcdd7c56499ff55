#include "llm_router/json/value.h"

#include <stdlib.h>

#include "llm_router/base/mem.h"
#include "json/json_internal.h"

const struct jv *jv_find_key(const struct jv *object, struct slice key)
{
    if (!object || object->type != JV_OBJECT)
        return NULL;
    for (size_t i = 0; i < object->as.object.count; i++)
        if (slice_equal(object->as.object.members[i].key, key))
            return &object->as.object.members[i].value;
    return NULL;
}

bool jv_is_string(const struct jv *value)
{
    return value && value->type == JV_STRING;
}

struct slice jv_string(const struct jv *value)
{
    return jv_is_string(value) ? value->as.string : slice_of("");
}

/* Both bounds are powers of two, so the doubles are exact. */
static bool real_to_integer(double real, int64_t *integer)
{
    if (!(real >= -0x1p63 && real < 0x1p63))
        return false;
    *integer = (int64_t)real;
    return (double)*integer == real;
}

int64_t jv_integer(const struct jv *value, int64_t otherwise)
{
    int64_t integer;

    if (value && value->type == JV_INTEGER)
        return value->as.integer;
    if (value && value->type == JV_REAL &&
        real_to_integer(value->as.real, &integer))
        return integer;
    return otherwise;
}

double jv_number(const struct jv *value, double otherwise)
{
    if (value && value->type == JV_REAL)
        return value->as.real;
    if (value && value->type == JV_INTEGER)
        return (double)value->as.integer;
    return otherwise;
}

bool jv_boolean(const struct jv *value, bool otherwise)
{
    return value && value->type == JV_BOOLEAN ? value->as.boolean : otherwise;
}

size_t jv_count(const struct jv *value)
{
    if (value && value->type == JV_ARRAY)
        return value->as.array.count;
    if (value && value->type == JV_OBJECT)
        return value->as.object.count;
    return 0;
}

const struct jv *jv_at(const struct jv *array, size_t index)
{
    if (!array || array->type != JV_ARRAY || index >= array->as.array.count)
        return NULL;
    return &array->as.array.items[index];
}

const char *jv_type_name(const struct jv *value)
{
    static const char *const NAMES[] = {
        [JV_NULL] = "null",       [JV_BOOLEAN] = "boolean",
        [JV_INTEGER] = "integer", [JV_REAL] = "number",
        [JV_STRING] = "string",   [JV_ARRAY] = "array",
        [JV_OBJECT] = "object",
    };

    return value ? NAMES[value->type] : "nothing";
}

static int compare_members(const void *left, const void *right)
{
    const struct jv_member *a = *(const struct jv_member *const *)left;
    const struct jv_member *b = *(const struct jv_member *const *)right;
    int order = 0;

    if (a->key.size != b->key.size)
        return a->key.size < b->key.size ? -1 : 1;
    if (a->key.size > 0)
        order = memcmp(a->key.data, b->key.data, a->key.size);
    if (order != 0)
        return order;
    return a < b ? -1 : a > b;
}

void json_sort_members(const struct jv_member **members, size_t count)
{
    qsort(members, count, sizeof(*members), compare_members);
}

static const struct jv_member **sorted_members(const struct jv *object)
{
    size_t count = object->as.object.count;
    const struct jv_member **sorted = mem_alloc(count * sizeof(*sorted));

    for (size_t i = 0; i < count; i++)
        sorted[i] = &object->as.object.members[i];
    json_sort_members(sorted, count);
    return sorted;
}

static bool members_equal(const struct jv_member *a, const struct jv_member *b)
{
    return slice_equal(a->key, b->key) && jv_equal(&a->value, &b->value);
}

/* Members have no order in JSON. */
static bool objects_equal(const struct jv *a, const struct jv *b)
{
    const struct jv_member **left, **right;
    size_t count = a->as.object.count;
    size_t same = 0;

    if (b->as.object.count != count)
        return false;
    left = sorted_members(a);
    right = sorted_members(b);
    while (same < count && members_equal(left[same], right[same]))
        same++;
    mem_free(left);
    mem_free(right);
    return same == count;
}

static bool arrays_equal(const struct jv *a, const struct jv *b)
{
    if (a->as.array.count != b->as.array.count)
        return false;
    for (size_t i = 0; i < a->as.array.count; i++)
        if (!jv_equal(&a->as.array.items[i], &b->as.array.items[i]))
            return false;
    return true;
}

/* Exact: 2^53 + 1 does not equal the double nearest to it. */
static bool numbers_equal(const struct jv *a, const struct jv *b)
{
    int64_t integer;

    if (a->type == JV_REAL && b->type == JV_REAL)
        return a->as.real == b->as.real;
    if (a->type == JV_REAL)
        return numbers_equal(b, a);
    if (b->type == JV_INTEGER)
        return a->as.integer == b->as.integer;
    return real_to_integer(b->as.real, &integer) && integer == a->as.integer;
}

static bool is_number(const struct jv *value)
{
    return value->type == JV_INTEGER || value->type == JV_REAL;
}

bool jv_equal(const struct jv *a, const struct jv *b)
{
    if (!a || !b)
        return a == b;
    if (is_number(a) && is_number(b))
        return numbers_equal(a, b);
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case JV_NULL:
    case JV_INTEGER:
    case JV_REAL:
        return true;
    case JV_BOOLEAN:
        return a->as.boolean == b->as.boolean;
    case JV_STRING:
        return slice_equal(a->as.string, b->as.string);
    case JV_ARRAY:
        return arrays_equal(a, b);
    case JV_OBJECT:
        return objects_equal(a, b);
    }
    return false;
}
