/* Schemas and values of strangers: no fault but a named one, and the laws that
 * hold for any schema S: not S is the opposite, allOf, anyOf and oneOf of only
 * S are the same as S.
 *
 * Input: a schema and a value as JSON, separated by 0xFF. */
#include <stdlib.h>

#include "llm_router/base/utf8.h"
#include "llm_router/core/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void require_error(const struct error *err, enum error_code code)
{
    require(err->code == code);
    require(err->message[0] != '\0');
    require(utf8_is_valid(slice_of(err->message)));
    require(utf8_is_valid(slice_of(err->path)));
}

enum verdict { INVALID, VALID, UNDECIDED };

static enum verdict verdict_of(const struct jv *schema, const struct jv *value)
{
    struct error err;

    if (schema_validate(schema, value, &err)) {
        require(err.code == ERR_NONE);
        return VALID;
    }
    require_error(&err, ERR_INVALID_OUTPUT);
    return strstr(err.message, "too much work") ? UNDECIDED : INVALID;
}

/* {keyword: schema} or {keyword: [schema]}. */
static struct jv wrapped(struct jv_member *member, const char *keyword,
                         const struct jv *schema, bool list)
{
    *member = (struct jv_member){.key = slice_of(keyword), .value = *schema};
    if (list) {
        member->value = (struct jv){.type = JV_ARRAY, .complete = true};
        member->value.as.array.items = (struct jv *)(uintptr_t)schema;
        member->value.as.array.count = 1;
    }
    return (struct jv){
        .type = JV_OBJECT,
        .complete = true,
        .as.object = {.members = member, .count = 1},
    };
}

static void require_laws(const struct jv *schema, const struct jv *value)
{
    static const char *const lists[] = {"allOf", "anyOf", "oneOf"};
    enum verdict plain = verdict_of(schema, value), other;
    struct jv_member member;
    struct jv outer = wrapped(&member, "not", schema, false);

    other = verdict_of(&outer, value);
    require(plain == UNDECIDED || other == UNDECIDED || plain != other);
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        outer = wrapped(&member, lists[i], schema, true);
        other = verdict_of(&outer, value);
        require(plain == UNDECIDED || other == UNDECIDED || plain == other);
    }
}

/* References are paths from the top, which the laws wrap. */
static bool has_reference(const struct jv *value)
{
    if (jv_find(value, "$ref"))
        return true;
    for (size_t i = 0; i < jv_count(value); i++)
        if (has_reference(value->type == JV_ARRAY
                              ? jv_at(value, i)
                              : &value->as.object.members[i].value))
            return true;
    return false;
}

static struct jv *parse(struct arena *arena, struct slice text)
{
    struct error err;
    struct jv *value;

    return jv_parse(arena, text, JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &value,
                    &err)
               ? value
               : NULL;
}

/* A strict form is a schema, and strict; a value that loses its nulls loses
 * nothing else. */
static void require_strict_form(struct arena *arena, const struct jv *schema,
                                const struct jv *value)
{
    struct slice text;
    struct jv *strict;
    const struct jv *less = value;
    struct error err;
    bool fits = schema_fit(arena, schema, &less, &err);

    require(jv_count(less) <= jv_count(value));
    require(less == value || !schema_validate(schema, value, &err));
    require(fits || less == value);
    if (!schema_strictify(arena, schema, &text))
        return;
    strict = parse(arena, text);
    require(strict && schema_check(strict, &err) && schema_is_strict(strict));
    verdict_of(strict, value);
}

static void run(struct arena *arena, struct slice schema_text,
                struct slice value_text)
{
    struct jv *schema = parse(arena, schema_text);
    const struct jv *value = parse(arena, value_text);
    struct error err;

    if (!schema || !value)
        return;
    if (!schema_check(schema, &err)) {
        require_error(&err, ERR_INVALID_REQUEST);
        return;
    }
    if (schema_is_strict(schema))
        require(schema->type == JV_OBJECT);
    require_strict_form(arena, schema, value);
    if (has_reference(schema))
        verdict_of(schema, value);
    else
        require_laws(schema, value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, 0xFF, size) : NULL;
    struct arena arena;

    if (!end)
        return 0;
    arena_init(&arena, 0);
    run(&arena, slice_make(data, (size_t)(end - data)),
        slice_make(end + 1, size - (size_t)(end - data) - 1));
    arena_release(&arena);
    return 0;
}
