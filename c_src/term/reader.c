#include "llm_router/term/reader.h"

#include <ei.h>
#include <float.h>
#include <math.h>

#include "term/shape_internal.h"

static const uint8_t KINDS[256] = {
    [ERL_SMALL_INTEGER_EXT] = TERM_INTEGER,
    [ERL_INTEGER_EXT] = TERM_INTEGER,
    [ERL_SMALL_BIG_EXT] = TERM_BIG,
    [ERL_LARGE_BIG_EXT] = TERM_BIG,
    [ERL_FLOAT_EXT] = TERM_FLOAT,
    [NEW_FLOAT_EXT] = TERM_FLOAT,
    [ERL_SMALL_ATOM_EXT] = TERM_ATOM,
    [ERL_ATOM_EXT] = TERM_ATOM,
    [ERL_SMALL_ATOM_UTF8_EXT] = TERM_ATOM,
    [ERL_ATOM_UTF8_EXT] = TERM_ATOM,
    [ERL_BINARY_EXT] = TERM_BINARY,
    [ERL_BIT_BINARY_EXT] = TERM_BITSTRING,
    [ERL_SMALL_TUPLE_EXT] = TERM_TUPLE,
    [ERL_LARGE_TUPLE_EXT] = TERM_TUPLE,
    [ERL_NIL_EXT] = TERM_NIL,
    [ERL_LIST_EXT] = TERM_LIST,
    [ERL_STRING_EXT] = TERM_STRING,
    [ERL_MAP_EXT] = TERM_MAP,
    [ERL_PID_EXT] = TERM_PID,
    [ERL_NEW_PID_EXT] = TERM_PID,
    [ERL_PORT_EXT] = TERM_PORT,
    [ERL_NEW_PORT_EXT] = TERM_PORT,
    [ERL_V4_PORT_EXT] = TERM_PORT,
    [ERL_REFERENCE_EXT] = TERM_REFERENCE,
    [ERL_NEW_REFERENCE_EXT] = TERM_REFERENCE,
    [ERL_NEWER_REFERENCE_EXT] = TERM_REFERENCE,
    [ERL_NEW_FUN_EXT] = TERM_FUN,
    [ERL_EXPORT_EXT] = TERM_FUN,
};

static const char *const NAMES[] = {
    [TERM_INTEGER] = "integer", [TERM_BIG] = "big integer",
    [TERM_FLOAT] = "float",     [TERM_ATOM] = "atom",
    [TERM_BINARY] = "binary",   [TERM_BITSTRING] = "bitstring",
    [TERM_TUPLE] = "tuple",     [TERM_NIL] = "empty list",
    [TERM_LIST] = "list",       [TERM_STRING] = "list",
    [TERM_MAP] = "map",         [TERM_PID] = "pid",
    [TERM_PORT] = "port",       [TERM_REFERENCE] = "reference",
    [TERM_FUN] = "function",
};

struct term term_from_raw(struct slice raw)
{
    return (struct term){raw.data, raw.data + raw.size};
}

static struct term term_at(struct term term, int offset)
{
    return (struct term){term.at + offset, term.end};
}

enum term_kind term_kind(struct term term)
{
    enum term_kind kind = KINDS[(unsigned char)*term.at];
    int64_t value;

    return kind == TERM_BIG && term_integer(term, &value) ? TERM_INTEGER : kind;
}

const char *term_kind_name(struct term term)
{
    return NAMES[term_kind(term)];
}

/* Over `count` terms in a row and all that is in them. */
static struct term skip(struct term term, uint64_t count)
{
    while (count > 0) {
        struct term_shape shape;

        /* Cannot be on checked bytes; others must not run on. */
        if (term_shape(term.at, term.end, &shape) != NULL)
            return (struct term){term.end, term.end};
        term.at += shape.size;
        count += shape.children;
        count--;
    }
    return term;
}

struct term term_next(struct term term)
{
    return skip(term, 1);
}

struct slice term_raw(struct term term)
{
    return slice_make(term.at, (size_t)(term_next(term).at - term.at));
}

bool term_integer(struct term term, int64_t *value)
{
    EI_LONGLONG decoded;
    int index = 0;

    if (ei_decode_longlong(term.at, &index, &decoded) != 0)
        return false;
    *value = decoded;
    return true;
}

/* The nearest double: the eight highest bytes are more than its 53 bits, and
 * the lowest bit of them stands for all that is below. */
static bool big_to_double(struct term term, double *value)
{
    bool small = *term.at == ERL_SMALL_BIG_EXT;
    const char *digits = term.at + (small ? 3 : 6);
    size_t count = small ? (unsigned char)term.at[1] : term_load32(term.at + 1);
    uint64_t high = 0;
    size_t low = 0;
    double size;

    while (count > 0 && digits[count - 1] == 0)
        count--;
    for (size_t i = 0; i < 8 && count > 0; i++)
        high = high << 8 | (unsigned char)digits[--count];
    if (count > DBL_MAX_EXP / 8)
        return false;
    while (low < count && digits[low] == 0)
        low++;
    size = ldexp((double)(high | (low < count)), (int)(8 * count));
    if (!isfinite(size))
        return false;
    *value = digits[-1] ? -size : size;
    return true;
}

bool term_float(struct term term, double *value)
{
    int index = 0;
    int64_t integer;

    if (ei_decode_double(term.at, &index, value) == 0)
        return true;
    if (term_integer(term, &integer)) {
        *value = (double)integer;
        return true;
    }
    return term_kind(term) == TERM_BIG && big_to_double(term, value);
}

bool term_binary(struct term term, struct slice *bytes)
{
    if (*term.at != ERL_BINARY_EXT)
        return false;
    *bytes = slice_make(term.at + 5, term_load32(term.at + 1));
    return true;
}

bool term_atom(struct term term, struct slice *name)
{
    if (term_atom_at(term.at) != term.at)
        return false;
    *name = term_atom_name(term.at);
    return true;
}

bool term_is_atom(struct term term, const char *name)
{
    struct slice atom;

    return term_atom(term, &atom) && slice_is(atom, name);
}

bool term_boolean(struct term term, bool *value)
{
    if (!term_is_atom(term, "true") && !term_is_atom(term, "false"))
        return false;
    *value = term_is_atom(term, "true");
    return true;
}

bool term_node(struct term term, struct slice *node)
{
    const char *atom = term_atom_at(term.at);

    if (!atom || atom == term.at)
        return false;
    *node = term_atom_name(atom);
    return true;
}

static bool read_count(struct term term, uint32_t *count, struct term *first,
                       int (*decode)(const char *, int *, int *))
{
    int index = 0, decoded;

    if (decode(term.at, &index, &decoded) != 0)
        return false;
    *count = (uint32_t)decoded;
    if (first)
        *first = term_at(term, index);
    return true;
}

bool term_tuple(struct term term, uint32_t *arity, struct term *first)
{
    return read_count(term, arity, first, ei_decode_tuple_header);
}

bool term_tuple_of(struct term term, uint32_t arity, struct term *first)
{
    struct term elements;
    uint32_t count;

    if (!term_tuple(term, &count, &elements) || count != arity)
        return false;
    if (first)
        *first = elements;
    return true;
}

bool term_map(struct term term, uint32_t *pairs, struct term *first)
{
    return read_count(term, pairs, first, ei_decode_map_header);
}

bool term_map_find(struct term map, const char *atom_key, struct term *value)
{
    struct term key;
    uint32_t pairs;

    if (!term_map(map, &pairs, &key))
        return false;
    for (; pairs > 0; pairs--) {
        if (term_is_atom(key, atom_key)) {
            *value = term_next(key);
            return true;
        }
        key = skip(key, 2);
    }
    return false;
}

bool term_list(struct term term, struct term_list *list)
{
    *list = (struct term_list){.next = term, .proper = true};
    switch (*term.at) {
    case ERL_NIL_EXT:
        return true;
    case ERL_STRING_EXT:
        list->is_string = true;
        list->left = term_load16(term.at + 1);
        list->next = term_at(term, 3);
        return true;
    case ERL_LIST_EXT:
        list->left = term_load32(term.at + 1);
        list->next = term_at(term, 5);
        list->proper = *skip(list->next, list->left).at == ERL_NIL_EXT;
        return true;
    default:
        return false;
    }
}

bool term_list_next(struct term_list *list, struct term *element)
{
    if (list->left == 0)
        return false;
    list->left--;
    *element = list->next;
    if (list->is_string) {
        list->scratch[0] = ERL_SMALL_INTEGER_EXT;
        list->scratch[1] = *list->next.at++;
        *element =
            (struct term){list->scratch, list->scratch + sizeof(list->scratch)};
    } else if (list->left > 0) {
        list->next = term_next(list->next);
    }
    return true;
}

bool term_list_open(struct term term, uint32_t *length, struct term *first)
{
    if (*term.at != ERL_LIST_EXT)
        return false;
    *length = term_load32(term.at + 1);
    *first = term_at(term, 5);
    return true;
}
