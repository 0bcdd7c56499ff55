/* A caller's functions: those that a request offers to the model, and the calls
 * of them that its messages hold. */
#include "api/decode_internal.h"

#include "llm_router/api/json_term.h"
#include "llm_router/core/schema.h"

enum { TOOL_NAME_MAX = 64 };

static bool is_missing(struct decoder *decoder, const struct field *field)
{
    if (!field->given)
        error_at(decoder->err, ERR_INVALID_REQUEST, field->name, "is missing");
    return !field->given;
}

/* What all providers take. */
static bool decode_tool_name(struct decoder *decoder, const char *path,
                             struct term value, struct slice *name)
{
    static const char known[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz0123456789_-";
    bool good;

    if (!decode_name(decoder, path, value, name))
        return false;
    good = name->size <= TOOL_NAME_MAX;
    for (size_t i = 0; i < name->size && good; i++)
        good = memchr(known, name->data[i], sizeof(known) - 1) != NULL;
    return good ||
           error_at(decoder->err, ERR_INVALID_REQUEST, path,
                    "must be 1 to %d letters, digits, _ and -", TOOL_NAME_MAX);
}

/* An empty map means no parameters, as no map does. */
static bool decode_parameters(struct decoder *decoder,
                              const struct field *field, struct tool *tool)
{
    struct arena_mark mark = arena_mark(decoder->arena);
    struct jv *schema;

    if (!field->given)
        return true;
    if (term_kind(field->value) != TERM_MAP)
        return refuse_kind(decoder, field->name, "a JSON Schema as a map",
                           field->value);
    if (!json_from_term(field->value, JSON_TERM_STRICT, decoder->arena, &schema,
                        decoder->err) ||
        !schema_check(schema, decoder->err))
        return error_in(decoder->err, field->name);
    if (jv_count(schema) == 0)
        return true;
    if (!slice_is(jv_string(jv_find(schema, "type")), "object"))
        return error_at(decoder->err, ERR_INVALID_REQUEST, field->name,
                        "must have the type object at its top");
    tool->strict = schema_is_strict(schema);
    return keep_json(decoder, mark, schema, &tool->parameters) ||
           error_in(decoder->err, field->name);
}

/* Who does not say gets the strict mode where the parameters allow it. */
static bool decode_strict(struct decoder *decoder, const struct field *field,
                          struct tool *tool)
{
    bool possible = tool->strict;

    if (!field->given)
        return true;
    if (!decode_boolean(decoder, field->name, field->value, &tool->strict))
        return false;
    return possible || !tool->strict ||
           error_at(decoder->err, ERR_INVALID_REQUEST, field->name,
                    "strict parameters require every property, allow no "
                    "others and have no limits");
}

/* #{name, description, parameters, strict} */
static bool decode_function_map(struct decoder *decoder, struct term value,
                                struct tool *tool)
{
    enum { NAME, DESCRIPTION, PARAMETERS, STRICT, FIELD_COUNT };
    struct field fields[FIELD_COUNT] = {
        [NAME] = {.name = "name"},
        [DESCRIPTION] = {.name = "description"},
        [PARAMETERS] = {.name = "parameters"},
        [STRICT] = {.name = "strict"},
    };

    if (!decode_fields(decoder, value, fields, FIELD_COUNT) ||
        is_missing(decoder, &fields[NAME]) ||
        !decode_tool_name(decoder, "name", fields[NAME].value, &tool->name))
        return false;
    if (fields[DESCRIPTION].given &&
        !decode_text(decoder, "description", fields[DESCRIPTION].value,
                     &tool->description))
        return false;
    return decode_parameters(decoder, &fields[PARAMETERS], tool) &&
           decode_strict(decoder, &fields[STRICT], tool);
}

/* The frame of #{type => function, function => Function}. */
static bool open_nested(struct decoder *decoder, const struct field *type,
                        const struct field *function)
{
    struct slice name;

    if (type->given && !decode_name(decoder, type->name, type->value, &name))
        return false;
    if (type->given && !slice_is(name, "function"))
        return error_at(decoder->err, ERR_INVALID_REQUEST, type->name,
                        "must be function");
    return !is_missing(decoder, function);
}

static bool is_nested(struct term value)
{
    struct term function;
    bool is_string;

    return find_member(value, "function", &function, &is_string);
}

/* A function's map, or OpenAI's #{type => function, function => Map}. */
static bool decode_tool(struct decoder *decoder, struct term value,
                        struct tool *tool)
{
    struct field fields[] = {{.name = "type"}, {.name = "function"}};

    if (!is_nested(value))
        return decode_function_map(decoder, value, tool);
    return decode_fields(decoder, value, fields, 2) &&
           open_nested(decoder, &fields[0], &fields[1]) &&
           (decode_function_map(decoder, fields[1].value, tool) ||
            error_in(decoder->err, "function"));
}

static const struct tool *find_tool(const struct options *options,
                                    struct slice name)
{
    for (size_t i = 0; i < options->tool_count; i++)
        if (slice_equal(options->tools[i].name, name))
            return &options->tools[i];
    return NULL;
}

bool decode_tools(struct decoder *decoder, const char *path, struct term value)
{
    struct options *options = &decoder->request->options;
    struct term_list list;
    struct term element;
    struct tool *tools;

    if (!open_list(decoder, path, value, REQUEST_TOOLS_MAX, &list))
        return false;
    tools = arena_array(decoder->arena, list.left, sizeof(*tools));
    options->tools = tools;
    for (; term_list_next(&list, &element); options->tool_count++) {
        struct tool *tool = &tools[options->tool_count];

        if (!decode_tool(decoder, element, tool))
            return error_in_element(decoder, path, options->tool_count);
        if (find_tool(options, tool->name)) {
            error_at(decoder->err, ERR_INVALID_REQUEST, "name",
                     "another tool has this name");
            return error_in_element(decoder, path, options->tool_count);
        }
    }
    return true;
}

/* A word, the name of a tool as text, or {tool, Name}. */
bool decode_tool_choice(struct decoder *decoder, const char *path,
                        struct term value)
{
    static const struct {
        const char *word;
        enum tool_choice choice;
    } words[] = {
        {"auto", TOOL_CHOICE_AUTO},
        {"none", TOOL_CHOICE_NONE},
        {"required", TOOL_CHOICE_REQUIRED},
        {"any", TOOL_CHOICE_REQUIRED}, /* Anthropic's word for it */
    };
    struct options *options = &decoder->request->options;
    struct term name = value, first;
    bool is_pair =
        term_tuple_of(value, 2, &first) && term_is_atom(first, "tool");

    if (is_pair)
        name = term_next(first);
    if (!decode_name(decoder, path, name, &options->tool_name))
        return false;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words) && !is_pair; i++) {
        if (!slice_is(options->tool_name, words[i].word))
            continue;
        options->tool_choice = words[i].choice;
        options->tool_name = slice_of(NULL);
        return true;
    }
    options->tool_choice = TOOL_CHOICE_NAMED;
    return is_pair || term_kind(value) != TERM_ATOM ||
           error_at(decoder->err, ERR_INVALID_REQUEST, path,
                    "must be auto, none, required, any, {tool, Name} or the "
                    "name of a tool as a string");
}

bool check_tool_choice(struct decoder *decoder, const char *path)
{
    const struct options *options = &decoder->request->options;

    if (options->tool_choice == TOOL_CHOICE_REQUIRED &&
        options->tool_count == 0 && !options->mcp_servers)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "there are no tools to choose from");
    if (options->tool_choice == TOOL_CHOICE_NAMED &&
        !find_tool(options, options->tool_name))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "no tool has this name");
    return true;
}

/* A map, or JSON as text, as OpenAI has it. Written anew either way: a text
 * that our reader takes may still have what JSON forbids. */
static bool decode_call_arguments(struct decoder *decoder, const char *path,
                                  struct term value, struct slice *arguments)
{
    struct arena_mark mark = arena_mark(decoder->arena);
    struct slice text;
    struct error why;
    struct jv *object;

    if (term_kind(value) == TERM_MAP) {
        if (!json_from_term(value, JSON_TERM_STRICT, decoder->arena, &object,
                            decoder->err))
            return error_in(decoder->err, path);
    } else if (!decode_text(decoder, path, value, &text)) {
        return false;
    } else if (!jv_parse(decoder->arena, text, JV_STRICT, &JV_DEFAULT_LIMITS,
                         NULL, &object, &why) ||
               object->type != JV_OBJECT) {
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be a map, or a JSON object as text");
    }
    return keep_json(decoder, mark, object, arguments) ||
           error_in(decoder->err, path);
}

static bool decode_called(struct decoder *decoder, const struct field *name,
                          const struct field *arguments, struct tool_call *call)
{
    return !is_missing(decoder, name) && !is_missing(decoder, arguments) &&
           decode_tool_name(decoder, name->name, name->value, &call->name) &&
           decode_call_arguments(decoder, arguments->name, arguments->value,
                                 &call->arguments);
}

static bool decode_call_id(struct decoder *decoder, const struct field *id,
                           struct tool_call *call)
{
    return !is_missing(decoder, id) &&
           decode_name(decoder, id->name, id->value, &call->id);
}

/* #{id, name, arguments}, as our answers have it. */
static bool decode_flat_call(struct decoder *decoder, struct term value,
                             struct tool_call *call)
{
    struct field fields[] = {
        {.name = "id"}, {.name = "name"}, {.name = "arguments"}};

    return decode_fields(decoder, value, fields, 3) &&
           decode_call_id(decoder, &fields[0], call) &&
           decode_called(decoder, &fields[1], &fields[2], call);
}

/* #{id, type => function, function => #{name, arguments}}, as OpenAI has it. */
static bool decode_nested_call(struct decoder *decoder, struct term value,
                               struct tool_call *call)
{
    struct field fields[] = {
        {.name = "id"}, {.name = "type"}, {.name = "function"}};
    struct field inner[] = {{.name = "name"}, {.name = "arguments"}};

    if (!decode_fields(decoder, value, fields, 3) ||
        !decode_call_id(decoder, &fields[0], call) ||
        !open_nested(decoder, &fields[1], &fields[2]))
        return false;
    return (decode_fields(decoder, fields[2].value, inner, 2) &&
            decode_called(decoder, &inner[0], &inner[1], call)) ||
           error_in(decoder->err, "function");
}

bool decode_tool_calls(struct decoder *decoder, const char *path,
                       struct term value, struct message *message)
{
    struct term_list list;
    struct term element;
    struct tool_call *calls;

    if (!open_list(decoder, path, value, REQUEST_TOOLS_MAX, &list))
        return false;
    calls = arena_array(decoder->arena, list.left, sizeof(*calls));
    message->tool_calls = calls;
    for (; term_list_next(&list, &element); message->tool_call_count++) {
        struct tool_call *call = &calls[message->tool_call_count];
        bool decoded = is_nested(element)
                           ? decode_nested_call(decoder, element, call)
                           : decode_flat_call(decoder, element, call);

        if (!decoded)
            return error_in_element(decoder, path, message->tool_call_count);
    }
    return true;
}
