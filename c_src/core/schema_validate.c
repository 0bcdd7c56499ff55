#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "llm_router/base/mem.h"
#include "llm_router/base/utf8.h"
#include "schema_internal.h"

enum {
    DEPTH_MAX = 256, /* of values, and of schemas applied to one of them */
    APPLY_COST = 20, /* of a schema, for each of its keywords */
};

struct validation {
    const struct jv *root;
    struct error *err;
    size_t fuel;
    bool exhausted; /* final: `not` must not turn it into success */
};

static const struct {
    const char *name;
    enum jv_type type;
} types[] = {
    {"null", JV_NULL},     {"boolean", JV_BOOLEAN}, {"integer", JV_INTEGER},
    {"number", JV_REAL},   {"string", JV_STRING},   {"array", JV_ARRAY},
    {"object", JV_OBJECT},
};

bool schema_type_exists(struct slice type)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
        if (slice_is(type, types[i].name))
            return true;
    return false;
}

static bool is_whole(double number)
{
    return floor(number) == number;
}

bool schema_has_type(const struct jv *value, struct slice type)
{
    if (slice_is(type, "number"))
        return value->type == JV_INTEGER || value->type == JV_REAL;
    if (slice_is(type, "integer") && value->type == JV_REAL)
        return is_whole(value->as.real);
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
        if (slice_is(type, types[i].name))
            return value->type == types[i].type;
    return false;
}

#define FAULT(v, ...) error_set((v)->err, ERR_INVALID_OUTPUT, __VA_ARGS__)

static bool spend(struct validation *v, size_t fuel)
{
    if (v->exhausted || fuel > v->fuel) {
        v->exhausted = true;
        return FAULT(v, "too much work to check against the schema");
    }
    v->fuel -= fuel;
    return true;
}

static bool apply(struct validation *v, const struct jv *schema,
                  const struct jv *value, unsigned depth);

static bool check_type(struct validation *v, const struct jv *schema,
                       const struct jv *value)
{
    const struct jv *type = jv_find(schema, "type");

    if (!type)
        return true;
    if (type->type == JV_STRING)
        return schema_has_type(value, type->as.string) ||
               FAULT(v, "must be of type %.*s, not %s",
                     SLICE_ARG(type->as.string), jv_type_name(value));
    for (size_t i = 0; i < jv_count(type); i++)
        if (schema_has_type(value, jv_string(jv_at(type, i))))
            return true;
    return FAULT(v, "must not be of type %s", jv_type_name(value));
}

static bool check_values(struct validation *v, const struct jv *schema,
                         const struct jv *value)
{
    const struct jv *allowed = jv_find(schema, "enum");
    const struct jv *only = jv_find(schema, "const");

    if (only && !jv_equal(only, value))
        return FAULT(v, "must be the schema's constant");
    if (!allowed)
        return true;
    if (!spend(v, jv_count(allowed)))
        return false;
    for (size_t i = 0; i < jv_count(allowed); i++)
        if (jv_equal(jv_at(allowed, i), value))
            return true;
    return FAULT(v, "must be one of the %zu values of the schema's enum",
                 jv_count(allowed));
}

/* Decimal fractions are not exact in binary: 0.3 is a multiple of 0.1. */
static bool is_multiple(double number, double unit)
{
    double quotient = number / unit;

    return fabs(quotient - round(quotient)) <= 2 * DBL_EPSILON * fabs(quotient);
}

static bool check_number(struct validation *v, const struct jv *schema,
                         const struct jv *value)
{
    double number = jv_number(value, NAN);
    double low = jv_number(jv_find(schema, "minimum"), -INFINITY);
    double high = jv_number(jv_find(schema, "maximum"), INFINITY);
    double over = jv_number(jv_find(schema, "exclusiveMinimum"), -INFINITY);
    double below = jv_number(jv_find(schema, "exclusiveMaximum"), INFINITY);
    const struct jv *unit = jv_find(schema, "multipleOf");

    if (isnan(number))
        return true;
    if (number < low)
        return FAULT(v, "must be %g or more", low);
    if (number > high)
        return FAULT(v, "must be %g or less", high);
    if (number <= over)
        return FAULT(v, "must be more than %g", over);
    if (number >= below)
        return FAULT(v, "must be less than %g", below);
    if (unit && !is_multiple(number, jv_number(unit, 1)))
        return FAULT(v, "must be a multiple of %g", jv_number(unit, 1));
    return true;
}

/* One rule for characters, elements and properties. */
static bool check_size(struct validation *v, size_t size, const struct jv *low,
                       const struct jv *high, const char *what)
{
    if (low && size < (uint64_t)jv_integer(low, 0))
        return FAULT(v, "must have at least %lld %s, has %zu",
                     (long long)jv_integer(low, 0), what, size);
    if (high && size > (uint64_t)jv_integer(high, 0))
        return FAULT(v, "must have at most %lld %s, has %zu",
                     (long long)jv_integer(high, 0), what, size);
    return true;
}

static bool check_string(struct validation *v, const struct jv *schema,
                         const struct jv *value)
{
    return value->type != JV_STRING ||
           check_size(v, utf8_length(value->as.string),
                      jv_find(schema, "minLength"),
                      jv_find(schema, "maxLength"), "characters");
}

/* Equal values have equal hashes: the members of an object are summed, as
 * they have no order, and numbers hashed as doubles, as 1 equals 1.0. */
static uint64_t hash_bytes(const void *data, size_t size, uint64_t seed)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        seed = (seed ^ bytes[i]) * 0x100000001B3u;
    return seed;
}

static uint64_t hash_value(const struct jv *value)
{
    uint64_t sum = (uint64_t)value->type + 0xCBF29CE484222325u;
    double number = jv_number(value, 0) + 0.0; /* -0.0 becomes 0.0 */

    switch (value->type) {
    case JV_NULL:
        break;
    case JV_BOOLEAN:
        sum += value->as.boolean;
        break;
    case JV_INTEGER:
    case JV_REAL:
        return hash_bytes(&number, sizeof(number), 1);
    case JV_STRING:
        return hash_bytes(value->as.string.data, value->as.string.size, sum);
    case JV_ARRAY:
        for (size_t i = 0; i < value->as.array.count; i++) {
            uint64_t item = hash_value(&value->as.array.items[i]);

            sum = hash_bytes(&item, sizeof(item), sum);
        }
        break;
    case JV_OBJECT:
        for (size_t i = 0; i < value->as.object.count; i++) {
            const struct jv_member *member = &value->as.object.members[i];

            sum += hash_bytes(member->key.data, member->key.size,
                              hash_value(&member->value));
        }
        break;
    }
    return sum;
}

struct hashed {
    uint64_t hash;
    const struct jv *value;
};

static int compare_hashes(const void *left, const void *right)
{
    const struct hashed *a = left, *b = right;

    return a->hash < b->hash ? -1 : a->hash > b->hash;
}

static bool all_differ(struct validation *v, const struct hashed *items,
                       size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t j = i; j > 0 && items[j - 1].hash == items[i].hash; j--) {
            if (!spend(v, 1))
                return false;
            if (jv_equal(items[j - 1].value, items[i].value))
                return FAULT(v, "must not have the same element twice");
        }
    return true;
}

static bool check_unique(struct validation *v, const struct jv *array)
{
    size_t count = array->as.array.count;
    struct hashed *items;
    bool ok;

    if (count < 2)
        return true;
    items = mem_alloc(count * sizeof(*items));
    for (size_t i = 0; i < count; i++)
        items[i] = (struct hashed){hash_value(&array->as.array.items[i]),
                                   &array->as.array.items[i]};
    qsort(items, count, sizeof(*items), compare_hashes);
    ok = all_differ(v, items, count);
    mem_free(items);
    return ok;
}

static bool check_array(struct validation *v, const struct jv *schema,
                        const struct jv *value, unsigned depth)
{
    const struct jv *items = jv_find(schema, "items");

    if (value->type != JV_ARRAY)
        return true;
    if (!check_size(v, value->as.array.count, jv_find(schema, "minItems"),
                    jv_find(schema, "maxItems"), "elements"))
        return false;
    for (size_t i = 0; items && i < value->as.array.count; i++)
        if (!apply(v, items, &value->as.array.items[i], depth + 1))
            return schema_at(v->err, i);
    return !jv_boolean(jv_find(schema, "uniqueItems"), false) ||
           check_unique(v, value);
}

static bool check_required(struct validation *v, const struct jv *required,
                           const struct jv *value)
{
    for (size_t i = 0; i < jv_count(required); i++) {
        struct slice name = jv_string(jv_at(required, i));

        if (!spend(v, value->as.object.count))
            return false;
        if (schema_member(value, name))
            continue;
        FAULT(v, "is required");
        return schema_in(v->err, name);
    }
    return true;
}

static bool check_member(struct validation *v, const struct jv *schema,
                         const struct jv_member *member, unsigned depth)
{
    const struct jv *properties = jv_find(schema, "properties");
    const struct jv *rule;

    if (!spend(v, jv_count(properties)))
        return false;
    rule = schema_member(properties, member->key);
    if (!rule)
        rule = jv_find(schema, "additionalProperties");
    if (!rule)
        return true;
    if (rule->type == JV_BOOLEAN && !rule->as.boolean)
        return FAULT(v, "the schema has no such property");
    return apply(v, rule, &member->value, depth + 1);
}

static bool check_object(struct validation *v, const struct jv *schema,
                         const struct jv *value, unsigned depth)
{
    if (value->type != JV_OBJECT)
        return true;
    if (!check_required(v, jv_find(schema, "required"), value) ||
        !check_size(v, value->as.object.count, jv_find(schema, "minProperties"),
                    jv_find(schema, "maxProperties"), "properties"))
        return false;
    for (size_t i = 0; i < value->as.object.count; i++)
        if (!check_member(v, schema, &value->as.object.members[i], depth))
            return schema_in(v->err, value->as.object.members[i].key);
    return true;
}

/* How many of `schemas` hold; of the faults the one that lies deepest stays,
 * as it is in the alternative that was meant. */
static size_t count_matches(struct validation *v, const struct jv *schemas,
                            const struct jv *value, unsigned depth)
{
    struct error deepest;
    size_t matches = 0;

    error_clear(&deepest);
    for (size_t i = 0; i < jv_count(schemas); i++) {
        if (apply(v, jv_at(schemas, i), value, depth + 1))
            matches++;
        else if (deepest.code == ERR_NONE ||
                 strlen(v->err->path) > strlen(deepest.path))
            deepest = *v->err;
        if (v->exhausted)
            return 0;
    }
    *v->err = deepest;
    return matches;
}

static bool check_any(struct validation *v, const struct jv *schemas,
                      const struct jv *value, unsigned depth)
{
    if (!schemas || count_matches(v, schemas, value, depth) > 0)
        return true;
    if (v->exhausted || v->err->path[0] != '\0')
        return false;
    return FAULT(v, "must match one of the %zu alternatives",
                 jv_count(schemas));
}

static bool check_one(struct validation *v, const struct jv *schemas,
                      const struct jv *value, unsigned depth)
{
    size_t matches = schemas ? count_matches(v, schemas, value, depth) : 1;

    if (matches == 1)
        return true;
    if (v->exhausted || (matches == 0 && v->err->path[0] != '\0'))
        return false;
    return FAULT(v, "must match exactly one of the %zu alternatives, not %zu",
                 jv_count(schemas), matches);
}

static bool check_all(struct validation *v, const struct jv *schemas,
                      const struct jv *value, unsigned depth)
{
    for (size_t i = 0; i < jv_count(schemas); i++)
        if (!apply(v, jv_at(schemas, i), value, depth + 1))
            return false;
    return true;
}

static bool check_not(struct validation *v, const struct jv *schema,
                      const struct jv *value, unsigned depth)
{
    if (!schema)
        return true;
    if (apply(v, schema, value, depth + 1))
        return FAULT(v, "must not match the schema's \"not\"");
    return !v->exhausted;
}

static bool check_reference(struct validation *v, const struct jv *reference,
                            const struct jv *value, unsigned depth)
{
    if (!reference)
        return true;
    return spend(v, jv_count(jv_find(v->root, "$defs")) +
                        jv_count(jv_find(v->root, "definitions"))) &&
           apply(v, schema_resolve(v->root, jv_string(reference)), value,
                 depth + 1);
}

static bool apply(struct validation *v, const struct jv *schema,
                  const struct jv *value, unsigned depth)
{
    if (schema->type == JV_BOOLEAN)
        return schema->as.boolean || FAULT(v, "nothing is allowed here");
    if (!spend(v, depth < DEPTH_MAX ? APPLY_COST * (jv_count(schema) + 1)
                                    : SIZE_MAX))
        return false;
    return check_type(v, schema, value) && check_values(v, schema, value) &&
           check_number(v, schema, value) && check_string(v, schema, value) &&
           check_array(v, schema, value, depth) &&
           check_object(v, schema, value, depth) &&
           check_any(v, jv_find(schema, "anyOf"), value, depth) &&
           check_one(v, jv_find(schema, "oneOf"), value, depth) &&
           check_all(v, jv_find(schema, "allOf"), value, depth) &&
           check_not(v, jv_find(schema, "not"), value, depth) &&
           check_reference(v, jv_find(schema, "$ref"), value, depth);
}

bool schema_takes(const struct jv *root, const struct jv *schema,
                  const struct jv *value, size_t *fuel)
{
    struct error ignored;
    struct validation v = {.root = root, .err = &ignored, .fuel = *fuel};
    bool ok = apply(&v, schema, value, 0);

    *fuel = v.exhausted ? 0 : v.fuel;
    return ok;
}

bool schema_validate(const struct jv *schema, const struct jv *value,
                     struct error *err)
{
    struct validation v = {.root = schema, .err = err, .fuel = SCHEMA_FUEL};

    if (!apply(&v, schema, value, 0))
        return false;
    error_clear(err); /* of alternatives that did not match */
    return true;
}
