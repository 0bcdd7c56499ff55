#include "api/decode_internal.h"

#include <math.h>

#include "llm_router/api/json_term.h"
#include "llm_router/base/utf8.h"
#include "llm_router/core/router.h"
#include "llm_router/core/schema.h"

enum { METADATA_MAX = 64 * 1024 };

/* Which operations take an option: a bit for each. */
enum {
    ROUTED = 1u << OP_ROUTE | 1u << OP_ROUTE_COMPLETION,
    CALLS = 1u << OP_CALL | 1u << OP_CALL_WITH_PROMPT |
            1u << OP_CALL_WITH_SYSTEM | 1u << OP_CALL_WITH_SCRIPT |
            1u << OP_STREAM | ROUTED,
    TASKS = 1u << OP_GENERATE_TASK | 1u << OP_PARSE_PRD | 1u << OP_EXPAND_TASK,
    WRITING = TASKS | CALLS | 1u << OP_ANALYZE_COMPLEXITY | 1u << OP_RESEARCH,
    PROVIDER = WRITING | 1u << OP_EMBED,
    CHOICE = WRITING | 1u << OP_SELECT_MODEL,
    ALL = PROVIDER | CHOICE,
    WATCHING = 1u << OP_WATCH_TASK | 1u << OP_UNWATCH_TASK |
               1u << OP_SUBSCRIBE | 1u << OP_UNSUBSCRIBE,
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

bool is_infinity(struct term value)
{
    struct slice text;

    return term_is_atom(value, "infinity") ||
           (term_binary(value, &text) && slice_is(text, "infinity"));
}

static bool decode_timeout(struct decoder *decoder, const char *path,
                           struct term value)
{
    int64_t *timeout = &options_of(decoder)->timeout_ms;

    if (is_infinity(value)) {
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
    return decode_number(decoder, path, value, (struct interval){0, 2},
                         &options_of(decoder)->temperature);
}

static bool decode_top_p(struct decoder *decoder, const char *path,
                         struct term value)
{
    return decode_number(decoder, path, value, (struct interval){0, 1},
                         &options_of(decoder)->top_p);
}

/* White space may be a stop, as a line break often is. */
static bool decode_stop(struct decoder *decoder, const char *path,
                        struct term value)
{
    struct texts stops;

    if (!decode_texts(decoder, path, value, REQUEST_STOPS_MAX, &stops))
        return false;
    for (size_t i = 0; i < stops.count; i++) {
        if (stops.items[i].size > 0)
            continue;
        error_set(decoder->err, ERR_INVALID_REQUEST, "must not be empty");
        return error_in_element(decoder, path, i);
    }
    options_of(decoder)->stops = stops.items;
    options_of(decoder)->stop_count = stops.count;
    return true;
}

static bool decode_seed(struct decoder *decoder, const char *path,
                        struct term value)
{
    options_of(decoder)->has_seed = true;
    return decode_integer(decoder, path, value,
                          (struct range){INT64_MIN, INT64_MAX},
                          &options_of(decoder)->seed);
}

static bool decode_effort(struct decoder *decoder, const char *path,
                          struct term value)
{
    struct slice name;

    return decode_name(decoder, path, value, &name) &&
           (effort_parse(name, &options_of(decoder)->effort) ||
            error_at(decoder->err, ERR_INVALID_REQUEST, path,
                     "must be none, minimal, low, medium, high, xhigh or max"));
}

static bool decode_capability(struct decoder *decoder, struct term value)
{
    struct slice name;
    unsigned bit = 0;

    if (!decode_name(decoder, "", value, &name))
        return false;
    if (!capability_parse(name, &bit))
        return error_set(decoder->err, ERR_INVALID_REQUEST,
                         "must be tools, schema, vision, reasoning or "
                         "embedding");
    options_of(decoder)->capabilities |= bit;
    return true;
}

static bool decode_capabilities(struct decoder *decoder, const char *path,
                                struct term value)
{
    enum { CAPABILITIES_MAX = 32 };
    struct term_list list;
    struct term element;

    if (!open_list(decoder, path, value, CAPABILITIES_MAX, &list))
        return false;
    for (size_t i = 0; term_list_next(&list, &element); i++)
        if (!decode_capability(decoder, element))
            return error_in_element(decoder, path, i);
    return true;
}

static bool is_one_line(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 127)
            return false;
    return true;
}

/* A code or a name in any script. It goes into a prompt. */
static bool decode_language(struct decoder *decoder, const char *path,
                            struct term value)
{
    struct slice text;

    if (!term_atom(value, &text) && !decode_text(decoder, path, value, &text))
        return false;
    text = slice_trim(text);
    if (text.size == 0 || text.size > REQUEST_ID_MAX || !is_one_line(text) ||
        !utf8_is_valid(text))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be one line of 1 to %d bytes", REQUEST_ID_MAX);
    options_of(decoder)->language = arena_copy(decoder->arena, text);
    return true;
}

static bool decode_cache(struct decoder *decoder, const char *path,
                         struct term value)
{
    bool cache;

    if (!decode_boolean(decoder, path, value, &cache))
        return false;
    options_of(decoder)->cache = cache ? CACHE_YES : CACHE_NO;
    return true;
}

static bool decode_metadata(struct decoder *decoder, const char *path,
                            struct term value)
{
    struct slice raw = term_raw(value);

    if (raw.size > METADATA_MAX)
        return error_at(decoder->err, ERR_TOO_LARGE, path,
                        "%zu bytes, at most %d are taken", raw.size,
                        METADATA_MAX);
    options_of(decoder)->metadata = arena_copy(decoder->arena, raw);
    return true;
}

static bool decode_to(struct decoder *decoder, const char *path,
                      struct term value)
{
    if (term_kind(value) != TERM_PID)
        return refuse_kind(decoder, path, "a pid", value);
    options_of(decoder)->to = arena_copy(decoder->arena, term_raw(value));
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

    if (!open_list(decoder, path, value, CALL_EXISTING_MAX, &list))
        return false;
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

static const struct option {
    const char *name;
    unsigned operations;
    decode_function *decode;
} table[] = {
    {"messages", ROUTED, decode_messages},
    {"model", ALL, decode_model},
    {"provider", ALL, decode_provider},
    {"complexity", CHOICE, decode_complexity},
    {"task_type", CHOICE, decode_task_type},
    {"timeout", ALL, decode_timeout},
    {"max_tokens", CHOICE, decode_max_tokens},
    {"temperature", CHOICE, decode_temperature},
    {"top_p", CHOICE, decode_top_p},
    {"seed", CHOICE, decode_seed},
    {"effort", CHOICE, decode_effort},
    {"capabilities", ALL, decode_capabilities},
    {"request_id", ALL, decode_request_id},
    {"keys", ALL, decode_keys},
    {"return", ALL, decode_return},
    {"language", WRITING, decode_language},
    {"cache", PROVIDER, decode_cache},
    {"metadata", PROVIDER, decode_metadata},
    {"schema", CALLS, decode_schema},
    {"stop", CALLS, decode_stop},
    {"tools", CALLS | 1u << OP_SELECT_MODEL, decode_tools},
    {"tool_choice", CALLS, decode_tool_choice},
    {"to", 1u << OP_STREAM | WATCHING, decode_to},
    {"scope", 1u << OP_SUBSCRIBE, decode_scope},
    {"num", 1u << OP_EXPAND_TASK, decode_task_count},
    {"context", 1u << OP_EXPAND_TASK, decode_context},
    {"count", 1u << OP_PARSE_PRD | 1u << OP_EXPAND_TASK, decode_count},
    {"next_id", TASKS, decode_next_id},
    {"existing", TASKS, decode_existing},
    {"api_version", CHOICE, decode_api_version},
    {"store", WRITING, decode_store},
    {"previous_response_id", CALLS, decode_previous_response_id},
    {"mcp_servers", CALLS, decode_mcp_servers},
    {"task_id", PROVIDER, decode_task_id},
};

enum { OPTION_COUNT = sizeof(table) / sizeof(*table) };

_Static_assert((int)OPTION_COUNT <= 64, "a bit of given_options for each");

static bool decode_option(struct decoder *decoder, const struct option *option,
                          struct term value)
{
    enum operation operation = decoder->request->operation;

    if ((option->operations >> operation & 1) == 0)
        return error_at(decoder->err, ERR_INVALID_REQUEST, option->name,
                        "not an option of %s", operation_atom(operation));
    return option->decode(decoder, option->name, value);
}

static bool open_options(struct decoder *decoder, const char *path,
                         struct term value, struct field fields[OPTION_COUNT])
{
    enum operation operation = decoder->request->operation;

    for (size_t i = 0; i < OPTION_COUNT; i++)
        fields[i] = (struct field){
            .name = table[i].name,
            .hidden = (table[i].operations >> operation & 1) == 0,
        };
    return decode_fields(decoder, value, fields, OPTION_COUNT) ||
           error_in(decoder->err, path);
}

/* Leaves out those whose bit is in `except`. */
static bool decode_some(struct decoder *decoder, const char *path,
                        struct term value, uint64_t except)
{
    struct field fields[OPTION_COUNT];

    if (!open_options(decoder, path, value, fields))
        return false;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        uint64_t bit = UINT64_C(1) << i;

        if (!fields[i].given || (except & bit))
            continue;
        if (!decode_option(decoder, &table[i], fields[i].value))
            return error_in(decoder->err, path);
        decoder->request->given_options |= bit;
    }
    return (check_tool_choice(decoder, "tool_choice") &&
            check_api_version(decoder, "api_version")) ||
           error_in(decoder->err, path);
}

bool decode_options(struct decoder *decoder, const char *path,
                    struct term value)
{
    return decode_some(decoder, path, value, 0);
}

bool decode_further_options(struct decoder *decoder, const char *path,
                            struct term value)
{
    return decode_some(decoder, path, value, decoder->request->given_options);
}

static bool put_option(struct decoder *decoder, const struct field *field,
                       struct buf *out)
{
    struct arena_mark mark = arena_mark(decoder->arena);
    struct jv *json;
    bool converted = json_from_term(field->value, JSON_TERM_STRICT,
                                    decoder->arena, &json, decoder->err);

    jv_put_string(out, slice_of(field->name));
    buf_append_byte(out, ':');
    if (converted)
        jv_put(out, json);
    arena_rewind(decoder->arena, mark);
    return converted || error_in(decoder->err, field->name);
}

bool put_options(struct decoder *decoder, const char *path, struct term value,
                 struct buf *out)
{
    struct field fields[OPTION_COUNT];
    size_t start = out->size;

    if (!open_options(decoder, path, value, fields))
        return false;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (!fields[i].given || table[i].decode == decode_messages)
            continue;
        if (out->size > start)
            buf_append_byte(out, ',');
        if (!put_option(decoder, &fields[i], out))
            return error_in(decoder->err, path);
    }
    return true;
}
