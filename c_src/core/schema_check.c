#include <stdio.h>

#include "llm_router/base/utf8.h"
#include "schema_internal.h"

enum {
    DEPTH_MAX = 64,       /* of schemas in schemas */
    HOPS_MAX = 64,        /* schemas that apply to one and the same value */
    FUEL = 200000,        /* steps along such chains, in all */
    KEYWORDS_MAX = 10000, /* and subschemas, in the whole schema */
    STRICT_DEPTH = 10,    /* what OpenAI takes */
    TYPES_MAX = 7,        /* each once */
};

static const struct keyword keywords[] = {
    {"type", KEYWORD_TYPE, true},
    {"properties", KEYWORD_SCHEMA_MAP, true},
    {"required", KEYWORD_NAMES, true},
    {"additionalProperties", KEYWORD_SCHEMA, true},
    {"items", KEYWORD_SCHEMA, true},
    {"enum", KEYWORD_VALUES, true},
    {"const", KEYWORD_ANY, true},
    {"anyOf", KEYWORD_SCHEMA_LIST, true},
    {"oneOf", KEYWORD_SCHEMA_LIST, false},
    {"allOf", KEYWORD_SCHEMA_LIST, false},
    {"not", KEYWORD_SCHEMA, false},
    {"$ref", KEYWORD_REFERENCE, true},
    {"$defs", KEYWORD_SCHEMA_MAP, true},
    {"definitions", KEYWORD_SCHEMA_MAP, true},
    {"minimum", KEYWORD_NUMBER, false},
    {"maximum", KEYWORD_NUMBER, false},
    {"exclusiveMinimum", KEYWORD_NUMBER, false},
    {"exclusiveMaximum", KEYWORD_NUMBER, false},
    {"multipleOf", KEYWORD_POSITIVE, false},
    {"minLength", KEYWORD_COUNT, false},
    {"maxLength", KEYWORD_COUNT, false},
    {"minItems", KEYWORD_COUNT, false},
    {"maxItems", KEYWORD_COUNT, false},
    {"minProperties", KEYWORD_COUNT, false},
    {"maxProperties", KEYWORD_COUNT, false},
    {"uniqueItems", KEYWORD_BOOLEAN, false},
    {"title", KEYWORD_ANY, true},
    {"description", KEYWORD_ANY, true},
    {"default", KEYWORD_ANY, false},
    {"examples", KEYWORD_ANY, false},
    {"format", KEYWORD_ANY, false},
    {"$schema", KEYWORD_ANY, false},
    {"$id", KEYWORD_ANY, false},
    {"$comment", KEYWORD_ANY, false},
    {"deprecated", KEYWORD_ANY, false},
    {"readOnly", KEYWORD_ANY, false},
    {"writeOnly", KEYWORD_ANY, false},
    {"propertyOrdering", KEYWORD_ANY, false},
};

struct check {
    struct schema_work work;
    struct error *err;
    unsigned fuel;
    size_t left; /* of KEYWORDS_MAX */
};

const struct keyword *schema_keyword(struct slice name)
{
    for (size_t i = 0; i < sizeof(keywords) / sizeof(*keywords); i++)
        if (slice_is(name, keywords[i].name))
            return &keywords[i];
    return NULL;
}

const struct jv *schema_member(const struct jv *object, struct slice key)
{
    if (!object || object->type != JV_OBJECT)
        return NULL;
    for (size_t i = 0; i < object->as.object.count; i++)
        if (slice_equal(object->as.object.members[i].key, key))
            return &object->as.object.members[i].value;
    return NULL;
}

bool schema_in(struct error *err, struct slice parent)
{
    char name[ERROR_PATH_MAX];

    parent = utf8_cut(parent, sizeof(name) - 1);
    snprintf(name, sizeof(name), "%.*s", SLICE_ARG(parent));
    return error_in(err, name);
}

bool schema_at(struct error *err, size_t index)
{
    char name[32];

    snprintf(name, sizeof(name), "[%zu]", index);
    return error_in(err, name);
}

/* Is `token` of a JSON pointer (RFC 6901) the key? ~1 is a slash, ~0 a
 * tilde. */
static bool token_is(struct slice token, struct slice key)
{
    size_t at = 0;

    for (size_t i = 0; i < key.size; i++, at++) {
        char c;

        if (at >= token.size)
            return false;
        c = token.data[at];
        if (c == '~' && at + 1 < token.size)
            c = token.data[++at] == '1' ? '/' : '~';
        if (c != key.data[i])
            return false;
    }
    return at == token.size;
}

static const struct jv *step(struct schema_work *work, const struct jv *value,
                             struct slice token)
{
    int64_t index;

    if (value->type == JV_ARRAY && slice_to_int64(token, &index) && index >= 0)
        return jv_at(value, (size_t)index);
    if (slice_find(token, SLICE_LITERAL("~")) < 0)
        return schema_property(work, value, token);
    if (!schema_spend(work, jv_count(value)))
        return NULL;
    for (size_t i = 0; value->type == JV_OBJECT && i < value->as.object.count;
         i++)
        if (token_is(token, value->as.object.members[i].key))
            return &value->as.object.members[i].value;
    return NULL;
}

/* Only places where a schema stands, because only those are checked. */
const struct jv *schema_resolve(struct schema_work *work,
                                struct slice reference)
{
    const struct jv *at = work->root;
    bool in_schema = true; /* else in a list or map of them */

    if (!slice_starts_with(reference, "#"))
        return NULL;
    reference = slice_make(reference.data + 1, reference.size - 1);
    while (at && reference.size > 0) {
        struct slice token = {reference.data + 1, 0};
        const struct keyword *keyword;

        if (*reference.data != '/')
            return NULL;
        while (token.size + 1 < reference.size && token.data[token.size] != '/')
            token.size++;
        reference = slice_make(token.data + token.size,
                               reference.size - token.size - 1);
        keyword = in_schema ? schema_keyword(token) : NULL;
        if (in_schema && (!keyword || (keyword->kind != KEYWORD_SCHEMA &&
                                       keyword->kind != KEYWORD_SCHEMA_LIST &&
                                       keyword->kind != KEYWORD_SCHEMA_MAP)))
            return NULL;
        in_schema = !keyword || keyword->kind == KEYWORD_SCHEMA;
        at = step(work, at, token);
    }
    return in_schema ? at : NULL;
}

static bool refuse(struct check *check, const char *what)
{
    return error_set(check->err, ERR_INVALID_REQUEST, "%s", what);
}

static bool check_schema(struct check *check, struct jv *schema,
                         unsigned depth);

static bool check_map(struct check *check, struct jv *map, unsigned depth)
{
    if (map->type != JV_OBJECT)
        return refuse(check, "must be an object of schemas");
    for (size_t i = 0; i < map->as.object.count; i++)
        if (!check_schema(check, &map->as.object.members[i].value, depth))
            return schema_in(check->err, map->as.object.members[i].key);
    return true;
}

static bool check_list(struct check *check, struct jv *list, unsigned depth)
{
    if (list->type != JV_ARRAY || list->as.array.count == 0)
        return refuse(check, "must be a non-empty array of schemas");
    for (size_t i = 0; i < list->as.array.count; i++)
        if (!check_schema(check, &list->as.array.items[i], depth))
            return schema_at(check->err, i);
    return true;
}

static void name_null(struct jv *type)
{
    if (type->type == JV_NULL)
        *type = (struct jv){.type = JV_STRING,
                            .complete = true,
                            .as.string = SLICE_LITERAL("null")};
}

static bool check_types(struct check *check, struct jv *type)
{
    bool ok;

    name_null(type);
    for (size_t i = 0; type->type == JV_ARRAY && i < type->as.array.count; i++)
        name_null(&type->as.array.items[i]);
    ok = type->type == JV_STRING
             ? schema_type_exists(type->as.string)
             : jv_count(type) > 0 && jv_count(type) <= TYPES_MAX;
    for (size_t i = 0; ok && i < jv_count(type); i++)
        ok = schema_type_exists(jv_string(jv_at(type, i)));
    return ok || refuse(check, "must be null, boolean, integer, number, "
                               "string, array or object, or a list of these");
}

static bool check_names(struct check *check, const struct jv *names)
{
    bool ok = names->type == JV_ARRAY;

    for (size_t i = 0; ok && i < names->as.array.count; i++)
        ok = jv_is_string(&names->as.array.items[i]);
    return ok || refuse(check, "must be an array of strings");
}

/* Every schema that applies to the same value as this one: does the chain
 * end? {"$ref": "#"} at the top, for one, does not. */
static bool ends(struct check *check, const struct jv *schema, unsigned hops)
{
    static const char *const lists[] = {"anyOf", "oneOf", "allOf"};
    const struct jv *reference = jv_find(schema, "$ref");
    const struct jv *negated = jv_find(schema, "not");

    if (hops == HOPS_MAX || check->fuel == 0)
        return refuse(check, "refers to itself without end");
    check->fuel--;
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        const struct jv *list = jv_find(schema, lists[i]);

        for (size_t j = 0; j < jv_count(list); j++)
            if (!ends(check, jv_at(list, j), hops + 1))
                return false;
    }
    if (negated && !ends(check, negated, hops + 1))
        return false;
    if (!jv_is_string(reference))
        return true;
    reference = schema_resolve(&check->work, reference->as.string);
    if (check->work.exhausted)
        return refuse(check, "too much work to find what it points to");
    return !reference || ends(check, reference, hops + 1);
}

static bool check_reference(struct check *check, const struct jv *reference)
{
    const struct jv *target =
        schema_resolve(&check->work, jv_string(reference));

    if (check->work.exhausted)
        return refuse(check, "too much work to find what it points to");
    if (!jv_is_string(reference) || !target)
        return refuse(check, "must point to a schema in this document, such "
                             "as \"#/$defs/name\"");
    return ends(check, target, 0);
}

static bool check_keyword(struct check *check, const struct keyword *keyword,
                          struct jv *value, unsigned depth)
{
    switch (keyword->kind) {
    case KEYWORD_ANY:
        return true;
    case KEYWORD_TYPE:
        return check_types(check, value);
    case KEYWORD_SCHEMA:
        return check_schema(check, value, depth);
    case KEYWORD_SCHEMA_LIST:
        return check_list(check, value, depth);
    case KEYWORD_SCHEMA_MAP:
        return check_map(check, value, depth);
    case KEYWORD_VALUES:
        return (value->type == JV_ARRAY && value->as.array.count > 0) ||
               refuse(check, "must be a non-empty array");
    case KEYWORD_NAMES:
        return check_names(check, value);
    case KEYWORD_REFERENCE:
        return check_reference(check, value);
    case KEYWORD_NUMBER:
        return schema_has_type(value, SLICE_LITERAL("number")) ||
               refuse(check, "must be a number");
    case KEYWORD_POSITIVE:
        return jv_number(value, 0) > 0 ||
               refuse(check, "must be a number over 0");
    case KEYWORD_COUNT:
        return jv_integer(value, -1) >= 0 ||
               refuse(check, "must be an integer, 0 or more");
    case KEYWORD_BOOLEAN:
        return value->type == JV_BOOLEAN || refuse(check, "must be a boolean");
    }
    return false;
}

static bool check_schema(struct check *check, struct jv *schema, unsigned depth)
{
    if (schema->type == JV_BOOLEAN)
        return true;
    if (schema->type != JV_OBJECT)
        return refuse(check, "must be a schema: an object or a boolean");
    if (depth == DEPTH_MAX)
        return refuse(check, "nested too deeply");
    if (schema->as.object.count >= check->left)
        return refuse(check, "the schema is too large");
    check->left -= schema->as.object.count + 1;
    for (size_t i = 0; i < schema->as.object.count; i++) {
        struct jv_member *member = &schema->as.object.members[i];
        const struct keyword *keyword = schema_keyword(member->key);

        if (keyword ? check_keyword(check, keyword, &member->value, depth + 1)
                    : refuse(check, "this keyword is not supported"))
            continue;
        return schema_in(check->err, member->key);
    }
    return true;
}

bool schema_check(struct jv *schema, struct error *err)
{
    struct check check = {.err = err, .fuel = FUEL, .left = KEYWORDS_MAX};
    bool ok;

    schema_work_init(&check.work, schema);
    ok = check_schema(&check, schema, 0);
    schema_work_release(&check.work);
    return ok;
}

static bool names_contain(const struct jv *names, struct slice name)
{
    for (size_t i = 0; i < jv_count(names); i++)
        if (slice_equal(jv_string(jv_at(names, i)), name))
            return true;
    return false;
}

/* Every property required and no others: for each schema of an object. */
static bool is_closed(struct schema_work *work, const struct jv *schema)
{
    const struct jv *properties = jv_find(schema, "properties");
    const struct jv *required = jv_find(schema, "required");

    if (jv_boolean(jv_find(schema, "additionalProperties"), true))
        return false;
    for (size_t i = 0; i < jv_count(properties); i++)
        if (!schema_names(work, required, properties->as.object.members[i].key))
            return false;
    return true;
}

static bool is_strict(struct schema_work *work, const struct jv *schema,
                      unsigned depth);

static bool members_are_strict(struct schema_work *work, const struct jv *value,
                               enum keyword_kind kind, unsigned depth)
{
    switch (kind) {
    case KEYWORD_SCHEMA:
        return value->type == JV_BOOLEAN || is_strict(work, value, depth);
    case KEYWORD_SCHEMA_LIST:
        for (size_t i = 0; i < value->as.array.count; i++)
            if (!is_strict(work, &value->as.array.items[i], depth))
                return false;
        return true;
    case KEYWORD_SCHEMA_MAP:
        for (size_t i = 0; i < value->as.object.count; i++)
            if (!is_strict(work, &value->as.object.members[i].value, depth))
                return false;
        return true;
    case KEYWORD_ANY:
    case KEYWORD_TYPE:
    case KEYWORD_VALUES:
    case KEYWORD_NAMES:
    case KEYWORD_REFERENCE:
    case KEYWORD_NUMBER:
    case KEYWORD_POSITIVE:
    case KEYWORD_COUNT:
    case KEYWORD_BOOLEAN:
        return true;
    }
    return false;
}

static bool may_be(const struct jv *schema, const char *type)
{
    const struct jv *types = jv_find(schema, "type");

    return slice_is(jv_string(types), type) ||
           names_contain(types, slice_of(type));
}

static bool is_strict(struct schema_work *work, const struct jv *schema,
                      unsigned depth)
{
    if (schema->type != JV_OBJECT || depth == STRICT_DEPTH)
        return false;
    if (jv_find(schema, "$ref"))
        return schema->as.object.count == 1;
    if ((!jv_find(schema, "type") && !jv_find(schema, "anyOf")) ||
        (may_be(schema, "object") && !is_closed(work, schema)) ||
        (may_be(schema, "array") && !jv_find(schema, "items")))
        return false;
    for (size_t i = 0; i < schema->as.object.count; i++) {
        const struct jv_member *member = &schema->as.object.members[i];
        const struct keyword *keyword = schema_keyword(member->key);

        if (!keyword || !keyword->strict ||
            !members_are_strict(work, &member->value, keyword->kind, depth + 1))
            return false;
    }
    return true;
}

bool schema_is_strict(const struct jv *schema)
{
    struct schema_work work;
    bool strict;

    schema_work_init(&work, schema);
    strict = slice_is(jv_string(jv_find(schema, "type")), "object") &&
             is_strict(&work, schema, 0) && !work.exhausted;
    schema_work_release(&work);
    return strict;
}
