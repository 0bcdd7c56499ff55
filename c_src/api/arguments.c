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

static bool refuse_field(struct decoder *decoder, struct slice name,
                         const struct field *fields, size_t count)
{
    char shown[SHOWN_NAME_MAX + 1];
    char known[ERROR_MESSAGE_MAX] = "";
    size_t size = 0;

    for (size_t i = 0; i < count && size < sizeof(known); i++)
        if (!fields[i].hidden)
            size += (size_t)snprintf(known + size, sizeof(known) - size, "%s%s",
                                     size > 0 ? ", " : "", fields[i].name);
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
