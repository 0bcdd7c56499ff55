/* Reads terms that passed term_check. A struct term is a cursor: it points at
 * the tag byte of one term inside the checked bytes, owns nothing and is
 * passed by value. Every function is total on checked bytes; a function that
 * asks for another kind than is there returns false and writes nothing.
 *
 * Stepping over a term (term_next, term_raw, term_list) costs the length of
 * what is inside it, so a walk through n bytes nested d deep costs n * d: keep
 * the limits of term_check small where strangers choose the nesting. */
#ifndef LLM_ROUTER_TERM_READER_H
#define LLM_ROUTER_TERM_READER_H

#include "llm_router/base/arena.h"
#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"

struct term {
    const char *at;  /* the tag */
    const char *end; /* of the checked bytes */
};

enum term_kind {
    TERM_INTEGER, /* fits int64_t */
    TERM_BIG,     /* does not */
    TERM_FLOAT,
    TERM_ATOM,
    TERM_BINARY,
    TERM_BITSTRING, /* not a whole number of bytes */
    TERM_TUPLE,
    TERM_NIL,
    TERM_LIST,   /* LIST_EXT: one or more elements and a tail */
    TERM_STRING, /* STRING_EXT: a list of small integers, as BEAM packs them */
    TERM_MAP,
    TERM_PID,
    TERM_PORT,
    TERM_REFERENCE,
    TERM_FUN,
};

/* The first term of checked bytes, without a version byte. */
struct term term_from_raw(struct slice raw);

enum term_kind term_kind(struct term term);
const char *term_kind_name(struct term term); /* "binary", for messages */

/* The bytes of this whole term, without a version byte: to echo or store. */
struct slice term_raw(struct term term);

/* The term behind this one. Only for elements that are known to follow. */
struct term term_next(struct term term);

bool term_integer(struct term term, int64_t *value);

/* Integers convert, to the nearest; false for one over the largest double. */
bool term_float(struct term term, double *value);
bool term_binary(struct term term, struct slice *bytes);

/* The atom's name as it is on the wire (UTF-8 from OTP 26; Latin-1 for the two
 * old tags, which equals no ASCII name if it has other characters). */
bool term_atom(struct term term, struct slice *name);
bool term_is_atom(struct term term, const char *name);
bool term_boolean(struct term term, bool *value);

/* Elements follow each other: *first, term_next(*first), ... `first` may be
 * NULL. arity 0 leaves *first pointing behind the tuple. */
bool term_tuple(struct term term, uint32_t *arity, struct term *first);

/* The same for a tuple of just this arity. */
bool term_tuple_of(struct term term, uint32_t arity, struct term *first);

/* Key, value, key, value, ... in wire order. BEAM sends each key once; that is
 * not checked. term_map_find gives the first. */
bool term_map(struct term term, uint32_t *pairs, struct term *first);
bool term_map_find(struct term map, const char *atom_key, struct term *value);

/* Iterates nil, list and string alike:
 *
 *     struct term_list list;
 *     if (!term_list(term, &list)) ...
 *     while (term_list_next(&list, &element)) ...
 *     if (!list.proper) ...
 *
 * Elements of a TERM_STRING are delivered as integers from `scratch` inside
 * the iterator: valid until the next call. `proper` is known from the start
 * (any tail but [] is improper). `left` counts the elements still to come. */
struct term_list {
    struct term next;
    uint32_t left;
    bool proper;
    bool is_string;
    char scratch[2];
};
bool term_list(struct term term, struct term_list *list);
bool term_list_next(struct term_list *list, struct term *element);

/* TERM_LIST only, and without walking it: elements follow each other from
 * *first, and behind the last comes the tail (TERM_NIL in a proper list). For
 * nested walks, whose cost term_list would multiply by the depth. */
bool term_list_open(struct term term, uint32_t *length, struct term *first);

/* Text as the contract has it: a binary, a charlist or iodata/chardata.
 * Binaries are UTF-8; integers in lists are code points, as in
 * unicode:characters_to_binary/1. The result is valid UTF-8 (NUL allowed) and
 * lends a binary's own bytes or lives in the arena. ERR_INVALID_REQUEST says
 * what is wrong (kind, improper list, byte offset of bad UTF-8);
 * ERR_TOO_LARGE over max_bytes. */
bool term_text(struct term term, size_t max_bytes, struct arena *arena,
               struct slice *text, struct error *err);

/* Node name inside a pid, port or reference. */
bool term_node(struct term term, struct slice *node);

#endif
