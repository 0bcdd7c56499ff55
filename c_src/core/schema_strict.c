/* From a caller's schema to one in the strict subset, and from what a model
 * answers to it back to what the caller's schema means. */
#include "schema_internal.h"

enum {
    DEPTH_MAX = 256, /* of values, and of schemas applied to one of them */
    DROP_COST = 100, /* of a schema applied to a value */
    PROPERTIES_MAX = 1000, /* of one object: more are for no provider */
    STRICT_BYTES_MAX = 1024 * 1024, /* of the schema that is written */
};

/* Types by the letter of their JSON values, for schemas that name none. */
static const char *const value_types[] = {
    [JV_NULL] = "null",     [JV_BOOLEAN] = "boolean", [JV_INTEGER] = "integer",
    [JV_REAL] = "number",   [JV_STRING] = "string",   [JV_ARRAY] = "array",
    [JV_OBJECT] = "object",
};

static bool names_have(const struct jv *names, struct slice name)
{
    for (size_t i = 0; i < jv_count(names); i++)
        if (slice_equal(jv_string(jv_at(names, i)), name))
            return true;
    return false;
}

static bool has_type(const struct jv *schema, const char *name)
{
    const struct jv *type = jv_find(schema, "type");

    return slice_is(jv_string(type), name) || names_have(type, slice_of(name));
}

static bool put_schema(struct buf *out, const struct jv *schema);

/* `first` tells whether a comma goes before; always the next one has one. */
static void put_key(struct buf *out, bool *first, struct slice key)
{
    if (!*first)
        buf_append_byte(out, ',');
    *first = false;
    jv_put_string(out, key);
    buf_append_byte(out, ':');
}

static void put_copy(struct buf *out, bool *first, const struct jv *schema,
                     const char *key)
{
    const struct jv *value = jv_find(schema, key);

    if (!value)
        return;
    put_key(out, first, slice_of(key));
    jv_put(out, value);
}

static bool put_list(struct buf *out, const struct jv *list)
{
    bool ok = true;

    buf_append_byte(out, '[');
    for (size_t i = 0; ok && i < jv_count(list); i++) {
        if (i > 0)
            buf_append_byte(out, ',');
        ok = put_schema(out, jv_at(list, i));
    }
    buf_append_byte(out, ']');
    return ok;
}

static bool put_map(struct buf *out, const struct jv *map)
{
    bool first = true, ok = true;

    buf_append_byte(out, '{');
    for (size_t i = 0; ok && i < jv_count(map); i++) {
        put_key(out, &first, map->as.object.members[i].key);
        ok = put_schema(out, &map->as.object.members[i].value);
    }
    buf_append_byte(out, '}');
    return ok;
}

/* A property that may be left out is one that may be null. */
static bool put_property(struct buf *out, const struct jv *schema,
                         bool required)
{
    bool ok;

    if (required || has_type(schema, "null"))
        return put_schema(out, schema);
    buf_append_text(out, "{\"anyOf\":[");
    ok = put_schema(out, schema);
    buf_append_text(out, ",{\"type\":\"null\"}]}");
    return ok;
}

static bool put_properties(struct buf *out, bool *first,
                           const struct jv *schema)
{
    const struct jv *properties = jv_find(schema, "properties");
    const struct jv *others = jv_find(schema, "additionalProperties");
    bool inner = true, ok = true;

    if (jv_count(properties) == 0 || jv_count(properties) > PROPERTIES_MAX ||
        jv_count(jv_find(schema, "required")) > PROPERTIES_MAX ||
        jv_boolean(others, false) || (others && others->type == JV_OBJECT))
        return false; /* its keys are free */
    put_key(out, first, SLICE_LITERAL("properties"));
    buf_append_byte(out, '{');
    for (size_t i = 0; ok && i < jv_count(properties); i++) {
        const struct jv_member *member = &properties->as.object.members[i];

        put_key(out, &inner, member->key);
        ok = put_property(out, &member->value,
                          names_have(jv_find(schema, "required"), member->key));
    }
    buf_append_text(out, "},\"required\":[");
    for (size_t i = 0; i < jv_count(properties); i++) {
        if (i > 0)
            buf_append_byte(out, ',');
        jv_put_string(out, properties->as.object.members[i].key);
    }
    buf_append_text(out, "],\"additionalProperties\":false");
    return ok;
}

/* The type that all values of an enum or a const have; NULL: not one. */
static const char *type_of_values(const struct jv *schema)
{
    const struct jv *values = jv_find(schema, "enum");
    const struct jv *only = jv_find(schema, "const");
    const char *type = only ? value_types[only->type] : NULL;

    for (size_t i = 0; !only && i < jv_count(values); i++) {
        const char *next = value_types[jv_at(values, i)->type];

        if (type && strcmp(type, next) != 0)
            return NULL;
        type = next;
    }
    return type;
}

static bool put_type(struct buf *out, bool *first, const struct jv *schema)
{
    const char *type;

    if (jv_find(schema, "type")) {
        put_copy(out, first, schema, "type");
        return true;
    }
    type = jv_find(schema, "properties") ? "object" : type_of_values(schema);
    if (!type)
        return false;
    put_key(out, first, SLICE_LITERAL("type"));
    jv_put_string(out, slice_of(type));
    return true;
}

/* anyOf and oneOf: exactly one is for schema_validate to see. */
static bool put_alternatives(struct buf *out, bool *first,
                             const struct jv *schema)
{
    const struct jv *any = jv_find(schema, "anyOf");
    const struct jv *one = jv_find(schema, "oneOf");

    if ((any && one) || jv_find(schema, "properties"))
        return false;
    put_key(out, first, SLICE_LITERAL("anyOf"));
    return put_list(out, any ? any : one);
}

static bool put_definitions(struct buf *out, bool *first,
                            const struct jv *schema, const char *key)
{
    if (!jv_find(schema, key))
        return true;
    put_key(out, first, slice_of(key));
    return put_map(out, jv_find(schema, key));
}

static bool put_members(struct buf *out, const struct jv *schema)
{
    bool first = true, ok;
    bool is_object =
        has_type(schema, "object") || jv_find(schema, "properties");
    bool is_array = has_type(schema, "array");

    if (jv_find(schema, "not") || jv_find(schema, "allOf") ||
        (is_array && !jv_find(schema, "items")))
        return false;
    put_copy(out, &first, schema, "title");
    put_copy(out, &first, schema, "description");
    if (jv_find(schema, "anyOf") || jv_find(schema, "oneOf"))
        ok = put_alternatives(out, &first, schema);
    else
        ok = put_type(out, &first, schema);
    put_copy(out, &first, schema, "enum");
    put_copy(out, &first, schema, "const");
    if (ok && is_object)
        ok = put_properties(out, &first, schema);
    if (ok && is_array) {
        put_key(out, &first, SLICE_LITERAL("items"));
        ok = put_schema(out, jv_find(schema, "items"));
    }
    return ok && put_definitions(out, &first, schema, "$defs") &&
           put_definitions(out, &first, schema, "definitions");
}

static bool put_schema(struct buf *out, const struct jv *schema)
{
    const struct jv *reference = jv_find(schema, "$ref");
    bool first = true, ok;

    if (schema->type != JV_OBJECT || out->failed)
        return false;
    buf_append_byte(out, '{');
    if (reference) {
        put_copy(out, &first, schema, "$ref");
        ok = true;
    } else {
        ok = put_members(out, schema);
    }
    buf_append_byte(out, '}');
    return ok;
}

/* A reference beside rules is not to be had in the strict subset, and one into
 * what is written another way leads astray: only to definitions. */
static bool references_are_plain(const struct jv *value)
{
    const struct jv *reference = jv_find(value, "$ref");

    if (jv_is_string(reference) &&
        ((jv_count(value) > 1 && !jv_find(value, "description") &&
          !jv_find(value, "title")) ||
         jv_count(value) > 3 ||
         (!slice_is(reference->as.string, "#") &&
          !slice_starts_with(reference->as.string, "#/$defs/") &&
          !slice_starts_with(reference->as.string, "#/definitions/"))))
        return false;
    for (size_t i = 0; i < jv_count(value); i++)
        if (!references_are_plain(value->type == JV_ARRAY
                                      ? jv_at(value, i)
                                      : &value->as.object.members[i].value))
            return false;
    return true;
}

bool schema_strictify(struct arena *arena, const struct jv *schema,
                      struct slice *strict)
{
    struct arena_mark mark = arena_mark(arena);
    struct slice text;
    struct error ignored;
    struct jv *written;
    struct buf buf;
    bool ok;

    buf_init(&buf, STRICT_BYTES_MAX);
    ok = has_type(schema, "object") && references_are_plain(schema) &&
         put_schema(&buf, schema) && !buf.failed;
    text = arena_keep(arena, &buf);
    ok = ok &&
         jv_parse(arena, text, JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &written,
                  &ignored) &&
         schema_check(written, &ignored) && schema_is_strict(written);
    if (ok)
        *strict = text;
    else
        arena_rewind(arena, mark);
    return ok;
}

/* Nulls being left out; the work is that of a validation, in all. */
struct dropping {
    struct arena *arena;
    struct schema_work *work;
};

static const struct jv *drop(struct dropping *d, const struct jv *schema,
                             const struct jv *value, unsigned depth);

/* The property may be left out and may not be null. */
static bool stands_for_nothing(struct dropping *d, const struct jv *schema,
                               const struct jv *rule,
                               const struct jv_member *member)
{
    return member->value.type == JV_NULL &&
           !schema_names(d->work, jv_find(schema, "required"), member->key) &&
           !schema_takes(d->work, rule, &member->value);
}

static const struct jv *drop_members(struct dropping *d,
                                     const struct jv *schema,
                                     const struct jv *value, unsigned depth)
{
    const struct jv *properties = jv_find(schema, "properties");
    const struct jv *others = jv_find(schema, "additionalProperties");
    struct arena_mark mark = arena_mark(d->arena);
    struct jv *copy = arena_alloc(d->arena, sizeof(*copy));
    struct jv_member *members =
        arena_array(d->arena, jv_count(value), sizeof(*members));
    size_t count = 0;
    bool changed = false;

    for (size_t i = 0; i < jv_count(value); i++) {
        const struct jv_member *member = &value->as.object.members[i];
        const struct jv *rule =
            schema_property(d->work, properties, member->key);
        const struct jv *kept = &member->value;

        if (rule && stands_for_nothing(d, schema, rule, member)) {
            changed = true;
            continue;
        }
        if (rule || others)
            kept = drop(d, rule ? rule : others, kept, depth + 1);
        changed = changed || kept != &member->value;
        members[count++] = (struct jv_member){member->key, *kept};
    }
    if (!changed) {
        arena_rewind(d->arena, mark);
        return value;
    }
    *copy = *value;
    copy->as.object.members = members;
    copy->as.object.count = count;
    return copy;
}

static const struct jv *drop_in_items(struct dropping *d,
                                      const struct jv *items,
                                      const struct jv *value, unsigned depth)
{
    struct arena_mark mark = arena_mark(d->arena);
    struct jv *copy = arena_alloc(d->arena, sizeof(*copy));
    struct jv *elements =
        arena_array(d->arena, jv_count(value), sizeof(*elements));
    bool changed = false;

    for (size_t i = 0; i < jv_count(value); i++) {
        const struct jv *kept = drop(d, items, jv_at(value, i), depth + 1);

        changed = changed || kept != jv_at(value, i);
        elements[i] = *kept;
    }
    if (!changed) {
        arena_rewind(d->arena, mark);
        return value;
    }
    *copy = *value;
    copy->as.array.items = elements;
    return copy;
}

/* As the first alternative has it that then holds. */
static const struct jv *drop_in_any(struct dropping *d,
                                    const struct jv *alternatives,
                                    const struct jv *value, unsigned depth)
{
    for (size_t i = 0; i < jv_count(alternatives); i++) {
        const struct jv *schema = jv_at(alternatives, i);
        const struct jv *kept = drop(d, schema, value, depth + 1);

        if (schema_takes(d->work, schema, kept))
            return kept;
    }
    return value;
}

static const struct jv *drop(struct dropping *d, const struct jv *schema,
                             const struct jv *value, unsigned depth)
{
    const struct jv *reference = jv_find(schema, "$ref");
    const struct jv *all = jv_find(schema, "allOf");
    const struct jv *items = jv_find(schema, "items");
    const struct jv *target = NULL;
    size_t cost = DROP_COST + jv_count(value) * jv_count(schema);

    if (schema->type != JV_OBJECT || depth == DEPTH_MAX ||
        (value->type != JV_OBJECT && value->type != JV_ARRAY) ||
        !schema_spend(d->work, cost))
        return value;
    if (reference)
        target = schema_resolve(d->work, jv_string(reference));
    if (target)
        value = drop(d, target, value, depth + 1);
    for (size_t i = 0; i < jv_count(all); i++)
        value = drop(d, jv_at(all, i), value, depth + 1);
    value = drop_in_any(d, jv_find(schema, "anyOf"), value, depth);
    value = drop_in_any(d, jv_find(schema, "oneOf"), value, depth);
    if (value->type == JV_OBJECT)
        return drop_members(d, schema, value, depth);
    return items ? drop_in_items(d, items, value, depth) : value;
}

static bool has_null(const struct jv *value)
{
    size_t count = jv_count(value);

    for (size_t i = 0; i < count; i++)
        if (has_null(value->type == JV_ARRAY
                         ? &value->as.array.items[i]
                         : &value->as.object.members[i].value))
            return true;
    return value->type == JV_NULL;
}

const struct jv *schema_drop_nulls(struct schema_work *work,
                                   struct arena *arena, const struct jv *value)
{
    struct dropping d = {.work = work, .arena = arena};

    return has_null(value) ? drop(&d, work->root, value, 0) : value;
}
