#include <ei.h>

#include "term/shape_internal.h"

/* Tags that ei.h does not name. */
enum {
    COMPRESSED_EXT = 'P',
    ATOM_CACHE_REF_EXT = 'R',
    LOCAL_EXT = 'y',
};

/* "External Term Format" in the ERTS User's Guide. */
struct layout {
    uint8_t fixed;      /* bytes up to what is counted, or to the node's name;
                           0: the tag is not accepted */
    uint8_t count_at;   /* offset of the count */
    uint8_t count_size; /* its bytes; 0: nothing is counted */
    uint8_t unit_bytes; /* own bytes for each one counted */
    uint8_t unit_terms; /* children for each one counted */
    uint8_t terms;      /* children besides */
    uint8_t after_node; /* bytes behind the node's name; 0: it has no node */
};

static const struct layout LAYOUTS[256] = {
    [ERL_SMALL_INTEGER_EXT] = {.fixed = 2},
    [ERL_INTEGER_EXT] = {.fixed = 5},
    [ERL_SMALL_BIG_EXT] = {3, 1, 1, 1, 0, 0, 0},
    [ERL_LARGE_BIG_EXT] = {6, 1, 4, 1, 0, 0, 0},
    [ERL_FLOAT_EXT] = {.fixed = 32},
    [NEW_FLOAT_EXT] = {.fixed = 9},
    [ERL_SMALL_ATOM_EXT] = {2, 1, 1, 1, 0, 0, 0},
    [ERL_ATOM_EXT] = {3, 1, 2, 1, 0, 0, 0},
    [ERL_SMALL_ATOM_UTF8_EXT] = {2, 1, 1, 1, 0, 0, 0},
    [ERL_ATOM_UTF8_EXT] = {3, 1, 2, 1, 0, 0, 0},
    [ERL_BINARY_EXT] = {5, 1, 4, 1, 0, 0, 0},
    [ERL_BIT_BINARY_EXT] = {6, 1, 4, 1, 0, 0, 0},
    [ERL_STRING_EXT] = {3, 1, 2, 1, 0, 0, 0},
    [ERL_NIL_EXT] = {.fixed = 1},
    [ERL_LIST_EXT] = {5, 1, 4, 0, 1, 1, 0},
    [ERL_SMALL_TUPLE_EXT] = {2, 1, 1, 0, 1, 0, 0},
    [ERL_LARGE_TUPLE_EXT] = {5, 1, 4, 0, 1, 0, 0},
    [ERL_MAP_EXT] = {5, 1, 4, 0, 2, 0, 0},
    [ERL_NEW_FUN_EXT] = {30, 26, 4, 0, 1, 4, 0},
    [ERL_EXPORT_EXT] = {.fixed = 1, .terms = 3},
    [ERL_PID_EXT] = {.fixed = 1, .after_node = 9},
    [ERL_NEW_PID_EXT] = {.fixed = 1, .after_node = 12},
    [ERL_PORT_EXT] = {.fixed = 1, .after_node = 5},
    [ERL_NEW_PORT_EXT] = {.fixed = 1, .after_node = 8},
    [ERL_V4_PORT_EXT] = {.fixed = 1, .after_node = 12},
    [ERL_REFERENCE_EXT] = {.fixed = 1, .after_node = 5},
    [ERL_NEW_REFERENCE_EXT] = {3, 1, 2, 4, 0, 0, 1},
    [ERL_NEWER_REFERENCE_EXT] = {3, 1, 2, 4, 0, 0, 4},
};

static const char CUT[] = "a term is cut short";

uint16_t term_load16(const char *at)
{
    const unsigned char *bytes = (const unsigned char *)at;

    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

uint32_t term_load32(const char *at)
{
    return (uint32_t)term_load16(at) << 16 | term_load16(at + 2);
}

static uint32_t load_count(const struct layout *layout, const char *at)
{
    switch (layout->count_size) {
    case 0:
        return 0;
    case 1:
        return (unsigned char)at[layout->count_at];
    case 2:
        return term_load16(at + layout->count_at);
    default:
        return term_load32(at + layout->count_at);
    }
}

static const char *refusal(char tag)
{
    switch (tag) {
    case COMPRESSED_EXT:
        return "a compressed term";
    case ATOM_CACHE_REF_EXT:
        return "an atom cache reference without its cache";
    case LOCAL_EXT:
        return "a node-local term of another node";
    default:
        return "an unknown tag";
    }
}

static bool is_atom(char tag)
{
    return tag == ERL_SMALL_ATOM_UTF8_EXT || tag == ERL_ATOM_UTF8_EXT ||
           tag == ERL_SMALL_ATOM_EXT || tag == ERL_ATOM_EXT;
}

/* All bytes of a node's name, tag and length included; 0: no atom in there. */
static size_t node_size(const char *at, const char *end)
{
    size_t left = (size_t)(end - at), size;
    const struct layout *layout;

    if (left == 0 || !is_atom(*at))
        return 0;
    layout = &LAYOUTS[(unsigned char)*at];
    if (left < layout->fixed)
        return 0;
    size = layout->fixed + load_count(layout, at);
    return size <= left ? size : 0;
}

const char *term_shape(const char *at, const char *end,
                       struct term_shape *shape)
{
    size_t left = (size_t)(end - at);
    const struct layout *layout;
    uint64_t size, children, count;

    if (left == 0)
        return CUT;
    layout = &LAYOUTS[(unsigned char)*at];
    if (layout->fixed == 0)
        return refusal(*at);
    if (left < layout->fixed)
        return CUT;
    count = load_count(layout, at);
    size = layout->fixed + count * layout->unit_bytes;
    if (layout->after_node > 0) {
        size_t node = node_size(at + layout->fixed, end);

        if (node == 0)
            return "a node without a name";
        size += node + layout->after_node;
    }
    if (size > left)
        return CUT;
    children = layout->terms + count * layout->unit_terms;
    if (children > left - size || children > UINT32_MAX)
        return "more elements than bytes";
    *shape = (struct term_shape){(size_t)size, (uint32_t)children};
    return NULL;
}

const char *term_atom_at(const char *at)
{
    const struct layout *layout = &LAYOUTS[(unsigned char)*at];

    if (layout->after_node > 0)
        return at + layout->fixed;
    return is_atom(*at) ? at : NULL;
}

struct slice term_atom_name(const char *atom)
{
    const struct layout *layout = &LAYOUTS[(unsigned char)*atom];

    return slice_make(atom + layout->fixed, load_count(layout, atom));
}
