#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config_internal.h"
#include "llm_router/core/allow.h"

enum { FIELDS_MAX = 64, NUMBER_MAX = 40 };

static const double MONEY_MAX = 1e9;

/* Arguments for "%.*s" that show the beginning of what somebody wrote. */
#define SHOWN(text) (int)((text).size > 40 ? 40 : (text).size), (text).data

const char *text_fault(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7F)
            return "must not have control characters";
    return NULL;
}

static void *at(const struct field *field, void *base)
{
    return (char *)base + field->offset;
}

static const void *lent(const struct field *field, const void *base)
{
    return (const char *)base + field->offset;
}

/* Each setter says what is wrong, in `what`, or stores the value. */

struct complaint {
    char text[160];
};

static bool set_integer(const struct field *field, void *base, int64_t value,
                        struct complaint *what)
{
    if (value < field->least || value > field->most) {
        snprintf(what->text, sizeof(what->text),
                 "%lld is not between %lld and %lld", (long long)value,
                 (long long)field->least, (long long)field->most);
        return false;
    }
    *(int64_t *)at(field, base) = value;
    return true;
}

static bool set_number(const struct field *field, void *base, double value,
                       struct complaint *what)
{
    bool may_be_zero = field->kind == KIND_PRICE;

    if (!(value > 0 || (may_be_zero && value == 0)) || value > MONEY_MAX) {
        snprintf(what->text, sizeof(what->text),
                 "must be %s and at most 1000000000",
                 may_be_zero ? "0 or more" : "more than 0");
        return false;
    }
    *(double *)at(field, base) = value;
    return true;
}

static bool set_text(const struct field *field, struct arena *arena, void *base,
                     struct slice text, struct complaint *what)
{
    const char *fault = field->fault ? field->fault(text) : text_fault(text);

    if (fault) {
        snprintf(what->text, sizeof(what->text), "%s", fault);
        return false;
    }
    *(struct slice *)at(field, base) =
        slice_make(arena_text(arena, text), text.size);
    return true;
}

static bool add_pattern(const struct field *field, struct arena *arena,
                        void *base, struct slice item, struct complaint *what)
{
    struct config_list *list = at(field, base);

    what->text[0] = '\0';
    if (item.size == 0)
        snprintf(what->text, sizeof(what->text), "an entry is empty");
    else if (list->count == CONFIG_LIST_MAX)
        snprintf(what->text, sizeof(what->text), "more than %d entries",
                 CONFIG_LIST_MAX);
    else if (!allow_pattern_is_valid(item))
        snprintf(what->text, sizeof(what->text),
                 "entry %zu is not a pattern of node names: letters, digits, "
                 "_-.:@ and * only",
                 list->count + 1);
    if (what->text[0] != '\0')
        return false;
    list->items[list->count++] = arena_copy(arena, item);
    return true;
}

/* From the environment. */

/* "a, b" as the environment writes a list. */
static bool set_patterns(const struct field *field, struct arena *arena,
                         void *base, struct slice text, struct complaint *what)
{
    ((struct config_list *)at(field, base))->count = 0;
    for (;;) {
        ptrdiff_t comma = slice_find(text, SLICE_LITERAL(","));
        size_t size = comma < 0 ? text.size : (size_t)comma;

        if (!add_pattern(field, arena, base,
                         slice_trim(slice_make(text.data, size)), what))
            return false;
        if (comma < 0)
            return true;
        text = slice_make(text.data + size + 1, text.size - size - 1);
    }
}

static bool parse_number(struct slice text, double *value)
{
    char copy[NUMBER_MAX];
    char *end;

    if (text.size == 0 || text.size >= sizeof(copy))
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    if (strspn(copy, "0123456789.") != text.size) /* no "inf", no "0x" */
        return false;
    *value = strtod(copy, &end);
    return *end == '\0';
}

static bool parse_boolean(struct slice text, bool *value)
{
    *value = slice_is(text, "true");
    return *value || slice_is(text, "false");
}

static bool set_from_text(const struct field *field, struct arena *arena,
                          void *base, struct slice text, struct complaint *what)
{
    int64_t integer;
    double number;

    switch (field->kind) {
    case KIND_INTEGER:
    case KIND_AMOUNT:
        if (slice_to_int64(text, &integer))
            return set_integer(field, base, integer, what);
        snprintf(what->text, sizeof(what->text),
                 "\"%.*s\" is not a whole number", SHOWN(text));
        return false;
    case KIND_POSITIVE:
    case KIND_PRICE:
        if (parse_number(text, &number))
            return set_number(field, base, number, what);
        snprintf(what->text, sizeof(what->text), "\"%.*s\" is not a number",
                 SHOWN(text));
        return false;
    case KIND_BOOLEAN:
        if (parse_boolean(text, at(field, base)))
            return true;
        snprintf(what->text, sizeof(what->text), "must be true or false");
        return false;
    case KIND_TEXT:
        return set_text(field, arena, base, text, what);
    case KIND_PATTERNS:
        return set_patterns(field, arena, base, text, what);
    case KIND_OWN:
        break;
    }
    return true;
}

bool field_from_text(const struct field *field, struct arena *arena, void *base,
                     const char *variable, struct slice text, struct error *err)
{
    struct complaint what;

    return set_from_text(field, arena, base, slice_trim(text), &what) ||
           error_at(err, ERR_INVALID_REQUEST, variable, "%s", what.text);
}

/* From a file. */

static bool read_patterns(const struct field *field, struct arena *arena,
                          void *base, const struct place *place,
                          struct error *err)
{
    struct config_list *list = at(field, base);
    struct complaint what;

    if (!json_is_array(place->value) || json_array_size(place->value) == 0)
        return place_fault(place, err, "must be a list of strings");
    list->count = 0;
    for (size_t i = 0; i < json_array_size(place->value); i++) {
        struct place item = place_element(place, i);

        if (!json_is_string(item.value))
            return place_fault(&item, err, "must be a string");
        if (!add_pattern(field, arena, base,
                         slice_make(json_string_value(item.value),
                                    json_string_length(item.value)),
                         &what))
            return place_fault(&item, err, "%s", what.text);
    }
    return true;
}

/* Only where the kind knows one. */
static bool is_unknown(const struct field *field, void *base,
                       const json_t *value)
{
    if (!json_is_null(value))
        return false;
    if (field->kind == KIND_AMOUNT)
        *(int64_t *)at(field, base) = -1;
    else if (field->kind == KIND_PRICE)
        *(double *)at(field, base) = (double)NAN;
    else
        return false;
    return true;
}

static const char *const wanted[] = {
    [KIND_INTEGER] = "must be a whole number",
    [KIND_AMOUNT] = "must be a whole number, or null when it is unknown",
    [KIND_POSITIVE] = "must be a number",
    [KIND_PRICE] = "must be a number, or null when it is unknown",
    [KIND_BOOLEAN] = "must be true or false",
    [KIND_TEXT] = "must be a string",
};

static bool has_kind(enum kind kind, const json_t *value)
{
    switch (kind) {
    case KIND_INTEGER:
    case KIND_AMOUNT:
        return json_is_integer(value);
    case KIND_POSITIVE:
    case KIND_PRICE:
        return json_is_number(value);
    case KIND_BOOLEAN:
        return json_is_boolean(value);
    case KIND_TEXT:
        return json_is_string(value);
    case KIND_PATTERNS:
    case KIND_OWN:
        break;
    }
    return true;
}

static bool set_from_json(const struct field *field, struct arena *arena,
                          void *base, const json_t *value,
                          struct complaint *what)
{
    switch (field->kind) {
    case KIND_INTEGER:
    case KIND_AMOUNT:
        return set_integer(field, base, json_integer_value(value), what);
    case KIND_POSITIVE:
    case KIND_PRICE:
        return set_number(field, base, json_number_value(value), what);
    case KIND_BOOLEAN:
        *(bool *)at(field, base) = json_is_true(value);
        return true;
    case KIND_TEXT:
        return set_text(
            field, arena, base,
            slice_make(json_string_value(value), json_string_length(value)),
            what);
    case KIND_PATTERNS:
    case KIND_OWN:
        break;
    }
    return true;
}

bool field_read(const struct field *field, struct arena *arena, void *base,
                const struct place *place, struct error *err)
{
    struct complaint what;

    if (field->kind == KIND_OWN)
        return field->read(arena, base, place, err);
    if (field->kind == KIND_PATTERNS)
        return read_patterns(field, arena, base, place, err);
    if (is_unknown(field, base, place->value))
        return true;
    if (!has_kind(field->kind, place->value))
        return place_fault(place, err, "%s", wanted[field->kind]);
    return set_from_json(field, arena, base, place->value, &what) ||
           place_fault(place, err, "%s", what.text);
}

static const struct field *find_field(const struct field *fields, size_t count,
                                      const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(fields[i].name, name))
            return &fields[i];
    return NULL;
}

bool fields_read(const struct field *fields, size_t count, struct arena *arena,
                 void *base, const struct place *place, struct error *err)
{
    const char *names[FIELDS_MAX];
    const char *key;
    json_t *value;

    if (!place_is_object(place, err))
        return false;
    json_object_foreach(place->value, key, value)
    {
        struct place member = place_member(place, key, value);
        const struct field *field = find_field(fields, count, key);

        if (field) {
            if (!field_read(field, arena, base, &member, err))
                return false;
            continue;
        }
        for (size_t i = 0; i < count; i++)
            names[i] = fields[i].name;
        return unknown_key(&member, names, count, err);
    }
    return true;
}

/* The other way. */

static bool same_list(const struct config_list *a, const struct config_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!slice_equal(a->items[i], b->items[i]))
            return false;
    return true;
}

static bool same_number(double a, double b)
{
    return isnan(a) ? isnan(b) : !isnan(b) && !(a < b) && !(a > b);
}

bool field_equal(const struct field *field, const void *a, const void *b)
{
    const void *x = lent(field, a), *y = lent(field, b);

    switch (field->kind) {
    case KIND_INTEGER:
    case KIND_AMOUNT:
        return *(const int64_t *)x == *(const int64_t *)y;
    case KIND_POSITIVE:
    case KIND_PRICE:
        return same_number(*(const double *)x, *(const double *)y);
    case KIND_BOOLEAN:
        return *(const bool *)x == *(const bool *)y;
    case KIND_TEXT:
        return slice_equal(*(const struct slice *)x, *(const struct slice *)y);
    case KIND_PATTERNS:
        return same_list(x, y);
    case KIND_OWN:
        break;
    }
    return true;
}

json_t *slice_json(struct slice text)
{
    return json_stringn(text.data ? text.data : "", text.size);
}

static json_t *list_json(const struct config_list *list)
{
    json_t *array = json_array();

    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, slice_json(list->items[i]));
    return array;
}

/* 12 and not 12.0, as people write it. */
static json_t *number_json(double value)
{
    if (isnan(value))
        return NULL;
    return floor(value) < value ? json_real(value)
                                : json_integer((json_int_t)value);
}

json_t *field_json(const struct field *field, const void *base)
{
    const void *value = lent(field, base);

    switch (field->kind) {
    case KIND_INTEGER:
    case KIND_AMOUNT:
        return json_integer(*(const int64_t *)value);
    case KIND_POSITIVE:
    case KIND_PRICE:
        return number_json(*(const double *)value);
    case KIND_BOOLEAN:
        return json_boolean(*(const bool *)value);
    case KIND_TEXT:
        return slice_json(*(const struct slice *)value);
    case KIND_PATTERNS:
        return list_json(value);
    case KIND_OWN:
        break;
    }
    return NULL;
}
