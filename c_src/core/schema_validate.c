#include <float.h>
#include <math.h>

#include "llm_router/base/utf8.h"
#include "schema_internal.h"

enum {
    DEPTH_MAX = 256, /* of values, and of schemas applied to one of them */
    APPLY_COST = 20, /* of a schema, for each of its keywords */
    MEMBER_COST = 10,
    REFERENCE_COST = 60,
    BYTES_A_STEP = 16,
};

struct validation {
    struct schema_work *work;
    struct error *err; /* NULL: all that matters is whether there is a fault */
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

#define FAULT(v, ...) \
    ((v)->err ? error_set((v)->err, ERR_INVALID_OUTPUT, __VA_ARGS__) : false)

/* The fault of what needed work, which may have been the want of it. */
#define FAULT_UNLESS_TIRED(v, ...) \
    ((v)->work->exhausted ? give_up(v) : FAULT(v, __VA_ARGS__))

static bool give_up(struct validation *v)
{
    return FAULT(v, "too much work to check against the schema");
}

static bool spend(struct validation *v, size_t fuel)
{
    return schema_spend(v->work, fuel) || give_up(v);
}

static bool in_member(struct validation *v, struct slice key)
{
    return v->err ? schema_in(v->err, key) : false;
}

static bool apply(struct validation *v, const struct jv *schema,
                  const struct jv *value, unsigned depth);

static bool check_type(struct validation *v, const struct schema_rules *rules,
                       const struct jv *value)
{
    const struct jv *type = rules->type;

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

static bool check_values(struct validation *v, const struct schema_rules *rules,
                         const struct jv *value)
{
    const struct jv *allowed = rules->allowed;
    const struct jv *only = rules->only;

    if (only && !schema_equal(v->work, only, value))
        return FAULT_UNLESS_TIRED(v, "must be the schema's constant");
    if (allowed && !schema_contains(v->work, allowed, value))
        return FAULT_UNLESS_TIRED(
            v, "must be one of the %zu values of the schema's enum",
            jv_count(allowed));
    return true;
}

/* Decimal fractions are not exact in binary: 0.3 is a multiple of 0.1. */
static bool is_multiple(double number, double unit)
{
    double quotient = number / unit;

    return fabs(quotient - round(quotient)) <= 2 * DBL_EPSILON * fabs(quotient);
}

static bool check_number(struct validation *v, const struct schema_rules *rules,
                         const struct jv *value)
{
    double number = jv_number(value, NAN);
    double low = jv_number(rules->minimum, -INFINITY);
    double high = jv_number(rules->maximum, INFINITY);
    double over = jv_number(rules->exclusive_minimum, -INFINITY);
    double below = jv_number(rules->exclusive_maximum, INFINITY);
    const struct jv *unit = rules->multiple_of;

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

/* Characters are counted where it matters how many there are. */
static bool check_string(struct validation *v, const struct schema_rules *rules,
                         const struct jv *value)
{
    const struct jv *low = rules->min_length;
    const struct jv *high = rules->max_length;

    if (value->type != JV_STRING || (!low && !high))
        return true;
    return spend(v, value->as.string.size / BYTES_A_STEP) &&
           check_size(v, utf8_length(value->as.string), low, high,
                      "characters");
}

static bool check_array(struct validation *v, const struct schema_rules *rules,
                        const struct jv *value, unsigned depth)
{
    const struct jv *items = rules->items;

    if (value->type != JV_ARRAY)
        return true;
    if (!check_size(v, value->as.array.count, rules->min_items,
                    rules->max_items, "elements"))
        return false;
    for (size_t i = 0; items && i < value->as.array.count; i++)
        if (!apply(v, items, &value->as.array.items[i], depth + 1))
            return v->err ? schema_at(v->err, i) : false;
    return !jv_boolean(rules->unique_items, false) ||
           schema_all_differ(v->work, value) ||
           FAULT_UNLESS_TIRED(v, "must not have the same element twice");
}

static bool check_required(struct validation *v, const struct jv *required,
                           const struct jv *value)
{
    const struct jv *missing;

    if (schema_has_names(v->work, required, value))
        return true;
    missing = v->err ? schema_missing(v->work, required, value) : NULL;
    if (!missing || v->work->exhausted)
        return give_up(v);
    FAULT(v, "is required");
    return in_member(v, missing->as.string);
}

static bool check_member(struct validation *v, const struct schema_rules *rules,
                         const struct jv_member *member, unsigned depth)
{
    const struct jv *properties = rules->properties;
    const struct jv *rule;

    if (!spend(v, MEMBER_COST))
        return false;
    rule = schema_property(v->work, properties, member->key);
    if (v->work->exhausted)
        return give_up(v);
    if (!rule)
        rule = rules->additional_properties;
    if (!rule)
        return true;
    if (rule->type == JV_BOOLEAN && !rule->as.boolean)
        return FAULT(v, "the schema has no such property");
    return apply(v, rule, &member->value, depth + 1);
}

static bool check_object(struct validation *v, const struct schema_rules *rules,
                         const struct jv *value, unsigned depth)
{
    if (value->type != JV_OBJECT)
        return true;
    if (!check_required(v, rules->required, value) ||
        !check_size(v, value->as.object.count, rules->min_properties,
                    rules->max_properties, "properties"))
        return false;
    for (size_t i = 0; i < value->as.object.count; i++)
        if (!check_member(v, rules, &value->as.object.members[i], depth))
            return in_member(v, value->as.object.members[i].key);
    return true;
}

/* How many of `schemas` hold. */
static size_t count_matches(struct validation *v, const struct jv *schemas,
                            const struct jv *value, unsigned depth)
{
    struct validation quiet = {.work = v->work};
    size_t matches = 0;

    for (size_t i = 0; i < jv_count(schemas); i++)
        matches += apply(&quiet, jv_at(schemas, i), value, depth + 1);
    return matches;
}

/* None of them holds: of the faults the one that lies deepest is told, as it is
 * in the alternative that was meant. Most values have no fault, and most
 * alternatives are not the one: so it is asked for only now. */
static bool tell_deepest(struct validation *v, const struct jv *schemas,
                         const struct jv *value, unsigned depth)
{
    struct error deepest;

    if (!v->err)
        return false;
    error_clear(&deepest);
    for (size_t i = 0; i < jv_count(schemas); i++) {
        apply(v, jv_at(schemas, i), value, depth + 1);
        if (v->work->exhausted)
            return give_up(v);
        if (i == 0 || strlen(v->err->path) > strlen(deepest.path))
            deepest = *v->err;
    }
    *v->err = deepest;
    return deepest.path[0] != '\0';
}

static bool check_any(struct validation *v, const struct jv *schemas,
                      const struct jv *value, unsigned depth)
{
    if (!schemas || count_matches(v, schemas, value, depth) > 0)
        return true;
    if (tell_deepest(v, schemas, value, depth))
        return false;
    return FAULT_UNLESS_TIRED(v, "must match one of the %zu alternatives",
                              jv_count(schemas));
}

static bool check_one(struct validation *v, const struct jv *schemas,
                      const struct jv *value, unsigned depth)
{
    size_t matches = schemas ? count_matches(v, schemas, value, depth) : 1;

    if (matches == 1)
        return true;
    if (matches == 0 && tell_deepest(v, schemas, value, depth))
        return false;
    return FAULT_UNLESS_TIRED(
        v, "must match exactly one of the %zu alternatives, not %zu",
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
    struct validation quiet = {.work = v->work};

    if (!schema || !apply(&quiet, schema, value, depth + 1))
        return true;
    return FAULT(v, "must not match the schema's \"not\"");
}

static bool check_reference(struct validation *v, const struct jv *reference,
                            const struct jv *value, unsigned depth)
{
    const struct jv *target;

    if (!reference)
        return true;
    if (!spend(v, REFERENCE_COST + jv_string(reference).size / BYTES_A_STEP))
        return false;
    target = schema_resolve(v->work, jv_string(reference));
    return target ? apply(v, target, value, depth + 1) : give_up(v);
}

static bool apply(struct validation *v, const struct jv *schema,
                  const struct jv *value, unsigned depth)
{
    struct schema_rules rules;

    if (schema->type == JV_BOOLEAN)
        return schema->as.boolean || FAULT(v, "nothing is allowed here");
    if (!spend(v, depth < DEPTH_MAX ? APPLY_COST * (jv_count(schema) + 1)
                                    : SIZE_MAX))
        return false;
    rules = schema_rules(v->work, schema);
    return check_type(v, &rules, value) && check_values(v, &rules, value) &&
           check_number(v, &rules, value) && check_string(v, &rules, value) &&
           check_array(v, &rules, value, depth) &&
           check_object(v, &rules, value, depth) &&
           check_any(v, rules.any, value, depth) &&
           check_one(v, rules.one, value, depth) &&
           check_all(v, rules.all, value, depth) &&
           check_not(v, rules.negated, value, depth) &&
           check_reference(v, rules.reference, value, depth);
}

bool schema_takes(struct schema_work *work, const struct jv *schema,
                  const struct jv *value)
{
    struct validation v = {.work = work};

    return apply(&v, schema, value, 0) && !work->exhausted;
}

static bool validate(struct schema_work *work, const struct jv *value,
                     struct error *err)
{
    struct validation v = {.work = work, .err = err};

    error_clear(err);
    return apply(&v, work->root, value, 0) && (!work->exhausted || give_up(&v));
}

bool schema_validate(const struct jv *schema, const struct jv *value,
                     struct error *err)
{
    struct schema_work work;
    bool ok;

    schema_work_init(&work, schema);
    ok = validate(&work, value, err);
    schema_work_release(&work);
    return ok;
}

bool schema_fit(struct arena *arena, const struct jv *schema,
                const struct jv **value, struct error *err)
{
    struct schema_work work;
    const struct jv *less;
    bool ok;

    schema_work_init(&work, schema);
    ok = validate(&work, *value, err);
    if (!ok) {
        less = schema_drop_nulls(&work, arena, *value);
        ok = less != *value && validate(&work, less, err);
        if (ok)
            *value = less;
    }
    schema_work_release(&work);
    return ok;
}
