#include "llm_router/core/prompts.h"

#include "llm_router/core/schema.h"

/* What may stand in each file as {{name}}; a user's own text must not lose
 * what the caller sent. */
static const struct {
    const char *file;
    const char *name;
    bool required;
} placeholders[] = {
    {"prompts/generate_task.user.txt", "request", true},
    {"prompts/generate_task.user.txt", "existing", false},
    {"prompts/parse_prd.user.txt", "document", true},
    {"prompts/parse_prd.user.txt", "count", true},
    {"prompts/parse_prd.user.txt", "existing", false},
    {"prompts/expand_task.user.txt", "task", true},
    {"prompts/expand_task.user.txt", "context", true},
    {"prompts/expand_task.user.txt", "count", true},
    {"prompts/expand_task.user.txt", "existing", false},
    {"prompts/analyze_complexity.user.txt", "tasks", true},
    {"prompts/analyze_complexity.user.txt", "count", true},
    {"prompts/research.user.txt", "topic", true},
    {"prompts/research.user.txt", "context", true},
    {"prompts/repair.txt", "fault", true},
    {"prompts/continuation.txt", "done", true},
    {"prompts/continuation.txt", "count", true},
    {"prompts/continuation.txt", "next", false},
    {"prompts/merge.txt", "tasks", true},
    {"prompts/merge.txt", "count", true},
    {"prompts/merge.txt", "existing", false},
    {"prompts/object.txt", "schema", true},
    {"prompts/language.txt", "language", true},
};

enum { PLACEHOLDER_COUNT = sizeof(placeholders) / sizeof(*placeholders) };

/* Text split at its first {{name}}. */
struct split {
    struct slice before, name, after;
};

static struct slice slice_from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

static bool split_at_placeholder(struct slice text, struct split *split)
{
    ptrdiff_t open = slice_find(text, SLICE_LITERAL("{{"));
    ptrdiff_t close;

    if (open < 0)
        return false;
    split->before = slice_make(text.data, (size_t)open);
    text = slice_from(text, (size_t)open + 2);
    close = slice_find(text, SLICE_LITERAL("}}"));
    if (close < 0)
        return false;
    split->name = slice_make(text.data, (size_t)close);
    split->after = slice_from(text, (size_t)close + 2);
    return true;
}

static const struct slice *find_value(const struct prompt_variable *variables,
                                      size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_is(name, variables[i].name))
            return &variables[i].value;
    return NULL;
}

static void put(char *out, size_t *size, struct slice text)
{
    if (out && text.size > 0)
        memcpy(out + *size, text.data, text.size);
    *size += text.size;
}

/* Bytes of the filled text; written to `out` unless that is NULL. Values are
 * not looked into: a document that holds {{count}} keeps it. */
static size_t fill(char *out, struct slice text,
                   const struct prompt_variable *variables, size_t count)
{
    struct split split;
    size_t size = 0;

    while (split_at_placeholder(text, &split)) {
        const struct slice *value = find_value(variables, count, split.name);

        put(out, &size, split.before);
        put(out, &size,
            value ? *value
                  : slice_make(split.name.data - 2, split.name.size + 4));
        text = split.after;
    }
    put(out, &size, text);
    return size;
}

struct slice prompt_fill(struct arena *arena, struct slice text,
                         const struct prompt_variable *variables, size_t count)
{
    size_t size = fill(NULL, text, variables, count);
    char *out = arena_bytes(arena, size);

    fill(out, text, variables, count);
    return slice_make(out, size);
}

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '_' || c == ':';
}

static struct slice skip_spaces(struct slice text)
{
    while (text.size > 0 && strchr(" \t\r\n", *text.data) && *text.data)
        text = slice_from(text, 1);
    return text;
}

/* Does `text` begin with a closing tag, as generously as a model reads it
 * ("< / Document")? */
static bool is_closing(struct slice text, const char *tag)
{
    size_t size = 0;

    text = skip_spaces(slice_from(text, 1));
    if (text.size == 0 || *text.data != '/')
        return false;
    text = skip_spaces(slice_from(text, 1));
    while (size < text.size && is_name_byte(text.data[size]))
        size++;
    return slice_is_nocase(slice_make(text.data, size), tag);
}

/* Offset behind the "<" of the next closing tag, or `text.size`. */
static size_t next_closing(struct slice text, size_t from, const char *tag)
{
    while (from < text.size) {
        struct slice rest = slice_from(text, from);
        const char *open = memchr(rest.data, '<', rest.size);

        if (!open)
            return text.size;
        from = (size_t)(open - text.data);
        if (is_closing(slice_from(text, from), tag))
            return from + 1;
        from++;
    }
    return text.size;
}

struct slice prompt_quote(struct arena *arena, struct slice text,
                          const char *tag)
{
    size_t count = 0, size = 0, done = 0, next;
    char *out;

    for (next = next_closing(text, 0, tag); next < text.size;
         next = next_closing(text, next, tag))
        count++;
    if (count == 0)
        return text;
    out = arena_bytes(arena, text.size + count);
    for (next = next_closing(text, 0, tag); next < text.size;
         next = next_closing(text, next, tag)) {
        put(out, &size, slice_make(text.data + done, next - done));
        put(out, &size, SLICE_LITERAL("\\"));
        done = next;
    }
    put(out, &size, slice_from(text, done));
    return slice_make(out, size);
}

static bool is_placeholder(const char *file, struct slice name)
{
    for (size_t i = 0; i < PLACEHOLDER_COUNT; i++)
        if (!strcmp(placeholders[i].file, file) &&
            slice_is(name, placeholders[i].name))
            return true;
    return false;
}

static bool has_placeholder(struct slice text, const char *name)
{
    struct split split;

    for (; split_at_placeholder(text, &split); text = split.after)
        if (slice_is(split.name, name))
            return true;
    return false;
}

static bool check_placeholders(const char *file, struct slice text,
                               struct error *err)
{
    struct slice rest = text;
    struct split split;

    for (; split_at_placeholder(rest, &split); rest = split.after)
        if (!is_placeholder(file, split.name))
            return error_at(err, ERR_INVALID_REQUEST, file,
                            "{{%.*s}} stands for nothing here",
                            SLICE_ARG(split.name));
    for (size_t i = 0; i < PLACEHOLDER_COUNT; i++)
        if (placeholders[i].required && !strcmp(placeholders[i].file, file) &&
            !has_placeholder(text, placeholders[i].name))
            return error_at(err, ERR_INVALID_REQUEST, file,
                            "must have {{%s}} in it", placeholders[i].name);
    return true;
}

static bool check_schema(const char *file, struct slice text, struct error *err)
{
    struct arena arena;
    struct jv *schema;
    bool ok;

    arena_init(&arena, 0);
    ok = jv_parse(&arena, text, JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &schema,
                  err);
    if (ok && !schema_check(schema, err))
        ok = false;
    else if (ok && !schema_is_strict(schema))
        ok = error_set(err, ERR_INVALID_REQUEST,
                       "must be in the strict subset: every property "
                       "required, additionalProperties false");
    arena_release(&arena);
    if (ok)
        return true;
    err->code = ERR_INVALID_REQUEST;
    return error_in(err, file);
}

bool prompts_check(const struct prompts *prompts, struct error *err)
{
    const struct {
        const char *file;
        struct slice text;
    } files[] = {
#define X(field, file) {file, prompts->field},
        PROMPT_FILES(X)
#undef X
    };

    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        bool is_schema = slice_starts_with(slice_of(files[i].file), "schemas/");

        if (!(is_schema ? check_schema : check_placeholders)(
                files[i].file, files[i].text, err))
            return false;
    }
    return true;
}
