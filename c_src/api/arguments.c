#include "api/decode_internal.h"

#include <stdio.h>

#include "llm_router/base/utf8.h"

enum { NAME_MAX_BYTES = REQUEST_ID_MAX };

/* An option that is not given, in Elixir's and in Erlang's word. */
static bool is_absent(struct term term)
{
    return term_is_atom(term, "nil") || term_is_atom(term, "undefined");
}

bool refuse_kind(struct decoder *decoder, const char *path, const char *wanted,
                 struct term value)
{
    return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                    "must be %s, got %s", wanted, term_kind_name(value));
}

/* Text that term_text lends from the message itself has to be copied. */
static bool lies_in(struct slice text, struct term term)
{
    uintptr_t at = (uintptr_t)text.data;

    return at >= (uintptr_t)term.at && at < (uintptr_t)term.end;
}

bool decode_text(struct decoder *decoder, const char *path, struct term value,
                 struct slice *text)
{
    if (!term_text(value, CALL_TEXT_MAX, decoder->arena, text, decoder->err))
        return error_in(decoder->err, path);
    if (lies_in(*text, value))
        *text = arena_copy(decoder->arena, *text);
    return true;
}

bool decode_full_text(struct decoder *decoder, const char *path,
                      struct term value, struct slice *text)
{
    if (!decode_text(decoder, path, value, text))
        return false;
    if (slice_trim(*text).size == 0)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must not be empty");
    return true;
}

static bool is_printable(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < ' ' || text.data[i] > '~')
            return false;
    return true;
}

static bool is_name(struct slice text)
{
    return text.size > 0 && text.size <= NAME_MAX_BYTES && is_printable(text);
}

bool decode_name(struct decoder *decoder, const char *path, struct term value,
                 struct slice *name)
{
    struct slice text = slice_of(NULL);

    if (!term_atom(value, &text) &&
        !term_text(value, NAME_MAX_BYTES, decoder->arena, &text,
                   decoder->err) &&
        decoder->err->code != ERR_TOO_LARGE)
        return error_in(decoder->err, path);
    if (!is_name(text))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be 1 to %d printable ASCII characters",
                        NAME_MAX_BYTES);
    *name = arena_copy(decoder->arena, text);
    return true;
}

bool decode_integer(struct decoder *decoder, const char *path,
                    struct term value, struct range range, int64_t *integer)
{
    enum term_kind kind = term_kind(value);
    int64_t got;

    if (kind != TERM_INTEGER && kind != TERM_BIG)
        return refuse_kind(decoder, path, "an integer", value);
    if (!term_integer(value, &got) || got < range.least || got > range.most)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be an integer from %lld to %lld",
                        (long long)range.least, (long long)range.most);
    *integer = got;
    return true;
}

bool decode_number(struct decoder *decoder, const char *path, struct term value,
                   struct interval interval, double *number)
{
    enum term_kind kind = term_kind(value);
    double got;

    if (kind != TERM_FLOAT && kind != TERM_INTEGER)
        return refuse_kind(decoder, path, "a number", value);
    if (!term_float(value, &got) ||
        !(got >= interval.least && got <= interval.most))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be a number from %g to %g", interval.least,
                        interval.most);
    *number = got;
    return true;
}

bool decode_boolean(struct decoder *decoder, const char *path,
                    struct term value, bool *boolean)
{
    return term_boolean(value, boolean) ||
           refuse_kind(decoder, path, "true or false", value);
}

bool open_list(struct decoder *decoder, const char *path, struct term value,
               uint32_t max, struct term_list *list)
{
    if (!term_list(value, list))
        return refuse_kind(decoder, path, "a list", value);
    if (!list->proper)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be a proper list");
    if (list->left > max)
        return error_at(decoder->err, ERR_TOO_LARGE, path,
                        "%u elements, at most %u are taken", list->left, max);
    return true;
}

bool error_in_element(struct decoder *decoder, const char *path, size_t index)
{
    char element[24];

    snprintf(element, sizeof(element), "[%zu]", index);
    error_in(decoder->err, element);
    return error_in(decoder->err, path);
}

static bool begins_with_text(struct term value)
{
    struct term first;
    uint32_t length;

    return term_list_open(value, &length, &first) && length > 0 &&
           term_kind(first) != TERM_INTEGER;
}

static bool decode_text_list(struct decoder *decoder, const char *path,
                             struct term_list *list, struct texts *texts)
{
    struct slice *items =
        arena_array(decoder->arena, list->left, sizeof(*items));
    struct term element;
    size_t total = 0;

    texts->items = items;
    for (texts->count = 0; term_list_next(list, &element); texts->count++) {
        struct slice *item = &items[texts->count];

        if (!decode_text(decoder, "", element, item))
            return error_in_element(decoder, path, texts->count);
        if (item->size > CALL_TEXT_MAX - total)
            return error_at(decoder->err, ERR_TOO_LARGE, path,
                            "over %d bytes of text", CALL_TEXT_MAX);
        total += item->size;
    }
    return true;
}

bool decode_texts(struct decoder *decoder, const char *path, struct term value,
                  uint32_t max, struct texts *texts)
{
    struct term_list list;
    struct slice *text;

    if (begins_with_text(value) || term_kind(value) == TERM_NIL)
        return open_list(decoder, path, value, max, &list) &&
               decode_text_list(decoder, path, &list, texts);
    text = arena_alloc(decoder->arena, sizeof(*text));
    *texts = (struct texts){text, 1};
    return decode_text(decoder, path, value, text);
}

bool find_member(struct term map, const char *name, struct term *value,
                 bool *is_string)
{
    struct slice key_name;
    struct term key;
    uint32_t pairs;

    *is_string = false;
    if (term_map_find(map, name, value))
        return true;
    if (!term_map(map, &pairs, &key))
        return false;
    for (; pairs > 0; pairs--) {
        *value = term_next(key);
        if (term_binary(key, &key_name) && slice_is(key_name, name)) {
            *is_string = true;
            return true;
        }
        if (pairs > 1)
            key = term_next(*value);
    }
    return false;
}

bool keep_json(struct decoder *decoder, struct arena_mark mark,
               const struct jv *value, struct slice *text)
{
    struct buf json;
    bool fits;

    buf_init(&json, CALL_TEXT_MAX);
    jv_put(&json, value);
    fits = !json.failed;
    arena_rewind(decoder->arena, mark);
    if (fits)
        *text = arena_keep(decoder->arena, &json);
    buf_release(&json);
    return fits || error_set(decoder->err, ERR_TOO_LARGE,
                             "over %d bytes as JSON", CALL_TEXT_MAX);
}

bool decode_either(struct decoder *decoder, const char *path, struct term value,
                   struct alternatives names, bool *second)
{
    struct slice name;

    if (!decode_name(decoder, path, value, &name))
        return false;
    *second = slice_is(name, names.second);
    if (!*second && !slice_is(name, names.first))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be %s or %s", names.first, names.second);
    return true;
}

const char *shown_name(struct slice name, char text[SHOWN_NAME_MAX + 1])
{
    if (name.size == 0 || name.size > SHOWN_NAME_MAX || !is_printable(name))
        return "?";
    snprintf(text, SHOWN_NAME_MAX + 1, "%.*s", SLICE_ARG(name));
    return text;
}

/* "a, b, c", or "a, b, ..." when there is no room. */
static void list_fields(const struct field *fields, size_t count, char *out,
                        size_t room)
{
    static const char more[] = ", ...";
    size_t size = 0;

    out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (fields[i].hidden)
            continue;
        if (room - size < strlen(fields[i].name) + 2 * sizeof(more)) {
            snprintf(out + size, room - size, "%s", more);
            return;
        }
        size += (size_t)snprintf(out + size, room - size, "%s%s",
                                 size > 0 ? ", " : "", fields[i].name);
    }
}

static bool refuse_field(struct decoder *decoder, struct slice name,
                         const struct field *fields, size_t count)
{
    char shown[SHOWN_NAME_MAX + 1];
    char known[ERROR_MESSAGE_MAX - sizeof("not known here; known: ") + 1];

    list_fields(fields, count, known, sizeof(known));
    return error_at(decoder->err, ERR_INVALID_REQUEST, shown_name(name, shown),
                    "not known here; known: %s", known);
}

struct field_set {
    struct field *fields;
    size_t count;
    bool in_map;
};

static bool take_field(struct decoder *decoder, const struct field_set *set,
                       struct term key, struct term value)
{
    struct field *field = set->fields;
    const struct field *end = set->fields + set->count;
    struct slice name;

    if (!term_atom(key, &name) && !term_binary(key, &name))
        return error_set(decoder->err, ERR_INVALID_REQUEST,
                         "keys must be atoms or strings, got %s",
                         term_kind_name(key));
    while (field < end && !slice_is(name, field->name))
        field++;
    if (field == end)
        return refuse_field(decoder, name, set->fields, set->count);
    if (field->seen && set->in_map)
        return error_at(decoder->err, ERR_INVALID_REQUEST, field->name,
                        "given as an atom and as a string");
    if (field->seen)
        return true;
    field->seen = true;
    field->given = !is_absent(value);
    field->value = value;
    return true;
}

static bool take_map(struct decoder *decoder, const struct field_set *set,
                     struct term map)
{
    struct term key;
    uint32_t pairs;

    if (!term_map(map, &pairs, &key))
        return refuse_kind(decoder, "", "a map or a keyword list", map);
    while (pairs-- > 0) {
        struct term value = term_next(key);

        if (!take_field(decoder, set, key, value))
            return false;
        if (pairs > 0)
            key = term_next(value);
    }
    return true;
}

static bool take_keywords(struct decoder *decoder, const struct field_set *set,
                          struct term_list *list)
{
    struct term element, key;

    while (term_list_next(list, &element)) {
        if (!term_tuple_of(element, 2, &key))
            return refuse_kind(decoder, "", "a list of {Key, Value} pairs",
                               element);
        if (!take_field(decoder, set, key, term_next(key)))
            return false;
    }
    return list->proper || error_set(decoder->err, ERR_INVALID_REQUEST,
                                     "must be a proper list");
}

bool decode_fields(struct decoder *decoder, struct term value,
                   struct field *fields, size_t count)
{
    struct field_set set = {fields, count, term_kind(value) == TERM_MAP};
    struct term_list list;

    if (!set.in_map && term_list(value, &list))
        return take_keywords(decoder, &set, &list);
    return take_map(decoder, &set, value);
}
