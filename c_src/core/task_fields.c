#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "llm_router/base/utf8.h"
#include "task_internal.h"

/* The names under which models write a field; the first is ours. */
enum {
    NAMES_MAX = 4,
    NEEDS_MAX = 1000, /* of one task; there are never more tasks */
};
typedef const char *const field_names[NAMES_MAX];

static field_names TITLE = {"title", "name"};
static field_names PRIORITY = {"priority"};
static field_names HOURS = {"estimated_hours", "estimatedHours"};
static field_names NEEDS = {"dependencies", "dependsOn", "depends_on"};

static const struct {
    field_names names;
    size_t offset; /* of the slice in struct task */
} text_fields[] = {
    {{"description"}, offsetof(struct task, description)},
    {{"details"}, offsetof(struct task, details)},
    {{"test_strategy", "testStrategy"}, offsetof(struct task, test_strategy)},
    {{"source"}, offsetof(struct task, source)},
};

static const struct {
    const char *word;
    enum priority priority;
} priorities[] = {
    {"high", PRIORITY_HIGH},     {"critical", PRIORITY_HIGH},
    {"urgent", PRIORITY_HIGH},   {"p0", PRIORITY_HIGH},
    {"p1", PRIORITY_HIGH},       {"medium", PRIORITY_MEDIUM},
    {"normal", PRIORITY_MEDIUM}, {"moderate", PRIORITY_MEDIUM},
    {"p2", PRIORITY_MEDIUM},     {"low", PRIORITY_LOW},
    {"minor", PRIORITY_LOW},     {"p3", PRIORITY_LOW},
};

#define REPAIRED(r, format, ...) \
    warnings_add((r)->warnings, (r)->arena, "%s" format, (r)->path, __VA_ARGS__)

static const struct jv *find_any(const struct jv *object, field_names names)
{
    for (size_t i = 0; i < NAMES_MAX && names[i]; i++) {
        const struct jv *value = jv_find(object, names[i]);

        if (value && value->type != JV_NULL)
            return value;
    }
    return NULL;
}

static struct slice to_json(struct arena *arena, const struct jv *value)
{
    struct buf buf;
    struct slice text;

    buf_init(&buf, SIZE_MAX);
    jv_put(&buf, value);
    text = arena_copy(arena, buf_slice(&buf));
    buf_release(&buf);
    return text;
}

static bool is_ascii(unsigned char byte)
{
    return byte < 0x80;
}

/* Bytes of the white space or control character at the front, else 0. White
 * space is Unicode's, because callers trim by it. */
static size_t blank_size(struct slice text)
{
    const unsigned char *at = (const unsigned char *)text.data;

    if (is_ascii(at[0]))
        return at[0] <= 0x20 || at[0] == 0x7F;
    if (at[0] == 0xC2 && text.size > 1) /* C1 controls, no-break space */
        return at[1] <= 0xA0 ? 2 : 0;
    if (text.size < 3)
        return 0;
    if ((at[0] == 0xE1 && at[1] == 0x9A && at[2] == 0x80) || /* U+1680 */
        (at[0] == 0xE3 && at[1] == 0x80 && at[2] == 0x80) || /* U+3000 */
        (at[0] == 0xE2 && at[1] == 0x81 && at[2] == 0x9F))   /* U+205F */
        return 3;
    if (at[0] != 0xE2 || at[1] != 0x80)
        return 0;
    /* U+2000 to U+200A, line and paragraph separator, U+202F */
    return at[2] <= 0x8A || at[2] == 0xA8 || at[2] == 0xA9 || at[2] == 0xAF ? 3
                                                                            : 0;
}

/* One line: runs of blanks become a space, none at the ends; at most
 * TASK_TITLE_MAX characters. */
static struct slice fold_title(struct arena *arena, struct slice text,
                               bool *cut)
{
    size_t room = (size_t)TASK_TITLE_MAX * 4;
    char *out = arena_bytes(arena, text.size < room ? text.size : room);
    size_t size = 0, characters = 0, step;
    bool gap = false;

    *cut = false;
    for (; text.size > 0;
         text = slice_make(text.data + step, text.size - step)) {
        step = blank_size(text);
        if (step > 0) {
            gap = size > 0;
            continue;
        }
        step = is_ascii((unsigned char)text.data[0]) ? 1 : utf8_char_size(text);
        characters += gap ? 2 : 1;
        *cut = step == 0 || characters > TASK_TITLE_MAX;
        if (*cut)
            break;
        if (gap)
            out[size++] = ' ';
        for (size_t i = 0; i < step; i++)
            out[size++] = text.data[i];
        gap = false;
    }
    return slice_make(out, size);
}

static bool all_strings(const struct jv *value)
{
    bool all = value->type == JV_ARRAY;

    for (size_t i = 0; all && i < value->as.array.count; i++)
        all = jv_is_string(&value->as.array.items[i]);
    return all;
}

static struct slice join_lines(struct arena *arena, const struct jv *lines)
{
    struct buf buf;
    struct slice text;

    buf_init(&buf, SIZE_MAX);
    for (size_t i = 0; i < lines->as.array.count; i++) {
        if (i > 0)
            buf_append_byte(&buf, '\n');
        buf_append_slice(&buf, lines->as.array.items[i].as.string);
    }
    text = arena_copy(arena, buf_slice(&buf));
    buf_release(&buf);
    return text;
}

/* Text of another type is not lost: lists of lines are joined, all else is
 * kept as JSON. Blank text counts as absent. */
static struct slice read_text(struct reading *r, const struct jv *value,
                              const char *name)
{
    struct slice text;

    if (!value)
        return slice_of(NULL);
    if (jv_is_string(value)) {
        text = value->as.string;
    } else if (all_strings(value)) {
        text = join_lines(r->arena, value);
        REPAIRED(r, ".%s: list of lines joined", name);
    } else {
        text = to_json(r->arena, value);
        REPAIRED(r, ".%s: %s kept as JSON text", name, jv_type_name(value));
    }
    text = slice_trim(text);
    return text.size > 0 ? text : slice_of(NULL);
}

static bool read_title(struct reading *r, const struct jv *object,
                       struct task *task, struct error *err)
{
    const struct jv *value = find_any(object, TITLE);
    char path[sizeof(r->path) + 8];
    bool cut;

    task->title = fold_title(r->arena, jv_string(value), &cut);
    if (task->title.size == 0) {
        snprintf(path, sizeof(path), "%s.title", r->path);
        return error_at(err, ERR_INVALID_OUTPUT, path,
                        "must be a text that is not empty");
    }
    if (cut)
        REPAIRED(r, ".title: cut at %d characters", TASK_TITLE_MAX);
    return true;
}

static void read_priority(struct reading *r, const struct jv *object,
                          struct task *task)
{
    const struct jv *value = find_any(object, PRIORITY);
    struct slice word = slice_trim(jv_string(value));

    task->priority = PRIORITY_MEDIUM;
    if (!value)
        return;
    for (size_t i = 0; i < sizeof(priorities) / sizeof(*priorities); i++) {
        if (!slice_is_nocase(word, priorities[i].word))
            continue;
        task->priority = priorities[i].priority;
        break;
    }
    if (!slice_is(word, priority_atom(task->priority)))
        REPAIRED(r, ".priority: \"%.*s\" read as %s",
                 SLICE_ARG(warning_quote(word)), priority_atom(task->priority));
}

/* "4", "4 h", "4.5 hours". */
static double parse_hours(struct arena *arena, struct slice text)
{
    static const char *const units[] = {"", "h", "hr", "hrs", "hour", "hours"};
    struct error ignored;
    struct jv *value;
    size_t used;

    if (!jv_parse(arena, text, JV_STRICT, &JV_DEFAULT_LIMITS, &used, &value,
                  &ignored))
        return NAN;
    text = slice_trim(slice_make(text.data + used, text.size - used));
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
        if (slice_is_nocase(text, units[i]))
            return jv_number(value, NAN);
    return NAN;
}

static void read_hours(struct reading *r, const struct jv *object,
                       struct task *task)
{
    const struct jv *value = find_any(object, HOURS);
    struct slice text = slice_trim(jv_string(value));

    task->estimated_hours = jv_number(value, NAN);
    if (text.size > 0)
        task->estimated_hours = parse_hours(r->arena, text);
    if (task->estimated_hours < 0)
        task->estimated_hours = NAN;
    if (jv_is_string(value) && !isnan(task->estimated_hours))
        REPAIRED(r, ".%s: text read as a number", HOURS[0]);
    else if (value && isnan(task->estimated_hours))
        REPAIRED(r, ".%s: left out, not a number of hours", HOURS[0]);
}

static struct slice id_from_number(struct arena *arena, int64_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRId64, number);
    return arena_copy(arena, slice_of(text));
}

static struct slice id_from_text(struct arena *arena, struct slice text)
{
    int64_t number;

    text = slice_trim(text);
    return slice_to_int64(text, &number) ? id_from_number(arena, number) : text;
}

/* Empty: not an id. 1, 1.0, "1" and " 01" are one and the same. */
static struct slice read_id(struct arena *arena, const struct jv *value)
{
    int64_t number = jv_integer(value, INT64_MIN);

    if (jv_is_string(value))
        return id_from_text(arena, value->as.string);
    if (number != INT64_MIN)
        return id_from_number(arena, number);
    return value && value->type == JV_REAL ? to_json(arena, value)
                                           : slice_of(NULL);
}

/* For one more that is there. Else that is told, and the rest not looked at. */
static bool has_room(struct reading *r, const struct raw_task *task)
{
    if (task->need_count < NEEDS_MAX)
        return true;
    REPAIRED(r, ".%s: only the first %d are taken", NEEDS[0], NEEDS_MAX);
    return false;
}

/* "1, 2" instead of [1, 2]. */
static void split_needs(struct reading *r, struct slice text,
                        struct raw_task *task)
{
    size_t most = text.size / 2 + 1;

    task->needs = arena_array(r->arena, most < NEEDS_MAX ? most : NEEDS_MAX,
                              sizeof(*task->needs));
    while (text.size > 0 && has_room(r, task)) {
        ptrdiff_t comma = slice_find(text, SLICE_LITERAL(","));
        size_t size = comma < 0 ? text.size : (size_t)comma;
        struct slice id = id_from_text(r->arena, slice_make(text.data, size));

        if (id.size > 0)
            task->needs[task->need_count++] = id;
        size += comma >= 0;
        text = slice_make(text.data + size, text.size - size);
    }
}

static void read_needs(struct reading *r, const struct jv *object,
                       struct raw_task *task)
{
    const struct jv *value = find_any(object, NEEDS);
    bool list = value && value->type == JV_ARRAY;
    size_t count = list ? value->as.array.count : 1;

    if (!value)
        return;
    if (jv_is_string(value)) {
        split_needs(r, value->as.string, task);
        return;
    }
    task->needs = arena_array(r->arena, count < NEEDS_MAX ? count : NEEDS_MAX,
                              sizeof(*task->needs));
    for (size_t i = 0; i < count && has_room(r, task); i++) {
        const struct jv *item = list ? jv_at(value, i) : value;
        struct slice id = read_id(r->arena, item);

        if (id.size > 0)
            task->needs[task->need_count++] = id;
        else
            REPAIRED(r, ".%s: left out one that is %s", NEEDS[0],
                     jv_type_name(item));
    }
}

/* What tasks have at birth, whatever the model says. */
static void read_ignored(struct reading *r, const struct jv *object)
{
    struct slice status = jv_string(jv_find(object, "status"));

    if (status.size > 0 && !slice_is_nocase(status, "pending"))
        REPAIRED(r, ".status: \"%.*s\" left out, new tasks are pending",
                 SLICE_ARG(warning_quote(status)));
    if (jv_count(jv_find(object, "subtasks")) > 0)
        REPAIRED(r, ".%s: left out, tasks begin without", "subtasks");
}

bool task_read(struct reading *r, const struct jv *value, struct raw_task *raw,
               struct error *err)
{
    const struct jv *id = jv_find(value, "id");

    if (value->type != JV_OBJECT)
        return error_at(err, ERR_INVALID_OUTPUT, r->path,
                        "must be an object, not %s", jv_type_name(value));
    if (!read_title(r, value, &raw->task, err))
        return false;
    for (size_t i = 0; i < sizeof(text_fields) / sizeof(*text_fields); i++)
        *(struct slice *)(void *)((char *)&raw->task + text_fields[i].offset) =
            read_text(r, find_any(value, text_fields[i].names),
                      text_fields[i].names[0]);
    read_priority(r, value, &raw->task);
    read_hours(r, value, &raw->task);
    read_needs(r, value, raw);
    read_ignored(r, value);
    raw->id = read_id(r->arena, id);
    raw->id_is_number = !jv_is_string(id);
    return true;
}

bool task_has_title(const struct jv *value)
{
    return jv_is_string(find_any(value, TITLE));
}
