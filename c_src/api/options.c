#include "api/decode_internal.h"

#include <math.h>

#include "llm_router/api/json_term.h"
#include "llm_router/core/router.h"
#include "llm_router/core/schema.h"

enum {
    TASKS = 1u << OP_GENERATE_TASK | 1u << OP_PARSE_PRD | 1u << OP_EXPAND_TASK,
    CALLS =
        1u << OP_CALL | 1u << OP_CALL_WITH_PROMPT | 1u << OP_CALL_WITH_SYSTEM,
    PROVIDER = TASKS | CALLS,
    ALL = PROVIDER | 1u << OP_SELECT_MODEL,
};

static struct options *options_of(struct decoder *decoder)
{
    return &decoder->request->options;
}

static bool decode_model(struct decoder *decoder, const char *path,
                         struct term value)
{
    struct slice *model = &options_of(decoder)->model;

    return decode_name(decoder, path, value, model) &&
           (model_id_is_valid(*model) ||
            error_at(decoder->err, ERR_INVALID_REQUEST, path,
                     "model ids hold only letters, digits and ._:/@-"));
}

static bool decode_provider(struct decoder *decoder, const char *path,
                            struct term value)
{
    return decode_name(decoder, path, value, &options_of(decoder)->provider);
}

bool decode_task_type(struct decoder *decoder, const char *path,
                      struct term value)
{
    return decode_name(decoder, path, value, &options_of(decoder)->task_type);
}

static bool decode_request_id(struct decoder *decoder, const char *path,
                              struct term value)
{
    return decode_name(decoder, path, value, &options_of(decoder)->request_id);
}

static bool decode_complexity(struct decoder *decoder, const char *path,
                              struct term value)
{
    struct slice name;

    return decode_name(decoder, path, value, &name) &&
           (complexity_parse(name, &options_of(decoder)->complexity) ||
            error_at(decoder->err, ERR_INVALID_REQUEST, path,
                     "must be simple, medium or complex"));
}

static bool decode_timeout(struct decoder *decoder, const char *path,
                           struct term value)
{
    int64_t *timeout = &options_of(decoder)->timeout_ms;

    if (term_is_atom(value, "infinity")) {
        *timeout = REQUEST_TIMEOUT_MAX_MS;
        return true;
    }
    return decode_integer(decoder, path, value,
                          (struct range){1, REQUEST_TIMEOUT_MAX_MS}, timeout);
}

static bool decode_max_tokens(struct decoder *decoder, const char *path,
                              struct term value)
{
    return decode_integer(decoder, path, value, (struct range){1, INT32_MAX},
                          &options_of(decoder)->max_tokens);
}

static bool decode_temperature(struct decoder *decoder, const char *path,
                               struct term value)
{
    enum term_kind kind = term_kind(value);
    double temperature;

    if (kind != TERM_FLOAT && kind != TERM_INTEGER)
        return refuse_kind(decoder, path, "a number", value);
    if (!term_float(value, &temperature) ||
        !(temperature >= 0 && temperature <= 2))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be a number from 0 to 2");
    options_of(decoder)->temperature = temperature;
    return true;
}

static bool decode_schema(struct decoder *decoder, const char *path,
                          struct term value)
{
    struct term kept;
    struct jv *schema;

    if (term_kind(value) != TERM_MAP)
        return refuse_kind(decoder, path, "a JSON Schema as a map", value);
    kept = term_from_raw(arena_copy(decoder->arena, term_raw(value)));
    if (!json_from_term(kept, JSON_TERM_STRICT, decoder->arena, &schema,
                        decoder->err) ||
        !schema_check(schema, decoder->err))
        return error_in(decoder->err, path);
    if (!slice_is(jv_string(jv_find(schema, "type")), "object"))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must have the type object at its top");
    options_of(decoder)->schema = schema;
    return true;
}

static bool decode_keys(struct decoder *decoder, const char *path,
                        struct term value)
{
    bool strings;

    if (!decode_either(decoder, path, value,
                       (struct alternatives){"atoms", "strings"}, &strings))
        return false;
    options_of(decoder)->keys = strings ? KEYS_STRINGS : KEYS_ATOMS;
    return true;
}

static bool decode_return(struct decoder *decoder, const char *path,
                          struct term value)
{
    return decode_either(decoder, path, value,
                         (struct alternatives){"value", "full"},
                         &options_of(decoder)->full);
}

static bool decode_count(struct decoder *decoder, const char *path,
                         struct term value)
{
    return decode_either(decoder, path, value,
                         (struct alternatives){"exact", "about"},
                         &options_of(decoder)->about);
}

/* Ids stay far from the end of int64_t, so that counting on is safe. */
static const struct range ids = {1, INT32_MAX};

static bool decode_next_id(struct decoder *decoder, const char *path,
                           struct term value)
{
    return decode_integer(decoder, path, value, ids,
                          &options_of(decoder)->next_id);
}

static bool decode_existing(struct decoder *decoder, const char *path,
                            struct term value)
{
    struct options *options = options_of(decoder);
    struct term_list list;
    struct term element;
    int64_t *existing;

    if (!term_list(value, &list) || !list.proper)
        return refuse_kind(decoder, path, "a proper list of ids", value);
    if (list.left > CALL_EXISTING_MAX)
        return error_at(decoder->err, ERR_TOO_LARGE, path,
                        "%u ids, at most %d are taken", list.left,
                        CALL_EXISTING_MAX);
    existing = arena_array(decoder->arena, list.left, sizeof(*existing));
    while (term_list_next(&list, &element))
        if (!decode_integer(decoder, path, element, ids,
                            &existing[options->existing_count++]))
            return false;
    options->existing = existing;
    return true;
}

bool decode_task_count(struct decoder *decoder, const char *path,
                       struct term value)
{
    return decode_integer(decoder, path, value,
                          (struct range){0, REQUEST_TASKS_MAX},
                          &decoder->request->count);
}

static bool decode_context(struct decoder *decoder, const char *path,
                           struct term value)
{
    return decode_text(decoder, path, value, &decoder->request->context);
}

/* What the contract has and this version has not: refused by name. */
static bool refuse_option(struct decoder *decoder, const char *path,
                          struct term value)
{
    (void)value;
    return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                    "not supported by this version");
}

static const struct option {
    const char *name;
    unsigned operations; /* a bit for each that takes it */
    decode_function *decode;
} table[] = {
    {"model", ALL, decode_model},
    {"provider", ALL, decode_provider},
    {"complexity", ALL, decode_complexity},
    {"task_type", ALL, decode_task_type},
    {"timeout", ALL, decode_timeout},
    {"max_tokens", ALL, decode_max_tokens},
    {"temperature", ALL, decode_temperature},
    {"request_id", ALL, decode_request_id},
    {"keys", ALL, decode_keys},
    {"return", PROVIDER, decode_return},
    {"schema", CALLS, decode_schema},
    {"num", 1u << OP_EXPAND_TASK, decode_task_count},
    {"context", 1u << OP_EXPAND_TASK, decode_context},
    {"count", 1u << OP_PARSE_PRD | 1u << OP_EXPAND_TASK, decode_count},
    {"next_id", TASKS, decode_next_id},
    {"existing", TASKS, decode_existing},
    {"top_p", ALL, refuse_option},
    {"stop", ALL, refuse_option},
    {"seed", ALL, refuse_option},
    {"tools", ALL, refuse_option},
    {"tool_choice", ALL, refuse_option},
    {"capabilities", ALL, refuse_option},
    {"task_id", ALL, refuse_option},
    {"language", ALL, refuse_option},
    {"cache", ALL, refuse_option},
    {"metadata", ALL, refuse_option},
    {"to", ALL, refuse_option},
};

enum { OPTION_COUNT = sizeof(table) / sizeof(*table) };

static bool decode_option(struct decoder *decoder, const struct option *option,
                          struct term value)
{
    enum operation operation = decoder->request->operation;

    if ((option->operations >> operation & 1) == 0)
        return error_at(decoder->err, ERR_INVALID_REQUEST, option->name,
                        "not an option of %s", operation_atom(operation));
    return option->decode(decoder, option->name, value);
}

bool decode_options(struct decoder *decoder, const char *path,
                    struct term value)
{
    enum operation operation = decoder->request->operation;
    struct field fields[OPTION_COUNT];

    for (size_t i = 0; i < OPTION_COUNT; i++)
        fields[i] = (struct field){
            .name = table[i].name,
            .hidden = (table[i].operations >> operation & 1) == 0 ||
                      table[i].decode == refuse_option,
        };
    if (!decode_fields(decoder, value, fields, OPTION_COUNT))
        return error_in(decoder->err, path);
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (fields[i].given &&
            !decode_option(decoder, &table[i], fields[i].value))
            return error_in(decoder->err, path);
    return true;
}
