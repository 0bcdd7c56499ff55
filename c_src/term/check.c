#include "llm_router/term/check.h"

#include <ei.h>
#include <math.h>
#include <stdlib.h>

#include "llm_router/base/utf8.h"
#include "term/shape_internal.h"

enum {
    ATOM_CHARACTERS = 255,
    REFERENCE_WORDS = 5, /* 3 before OTP 24 */
    FLOAT_TEXT = 31,     /* bytes of a FLOAT_EXT behind its tag */
    FUN_HEAD = 30,       /* bytes of a NEW_FUN_EXT before its module */
};

/* A container whose elements are being walked. */
struct frame {
    uint32_t left;    /* elements still to come, with the present one */
    uint32_t fun_end; /* offset at which a fun says it ends; 0: not a fun */
};

struct walk {
    const char *start, *at, *end;
    uint32_t depth, max_depth;
    struct frame frames[TERM_DEPTH_LIMIT];
};

static const char *check_atom(const char *atom)
{
    struct slice name = term_atom_name(atom);
    bool latin1 = *atom == ERL_ATOM_EXT || *atom == ERL_SMALL_ATOM_EXT;

    if (!latin1 && !utf8_is_valid(name))
        return "an atom that is not UTF-8";
    if (name.size > ATOM_CHARACTERS &&
        (latin1 || utf8_length(name) > ATOM_CHARACTERS))
        return "an atom that is too long";
    return NULL;
}

/* ei reads this one by sscanf: without its NUL that runs on. */
static bool is_float_text(const char *text)
{
    char *end;

    return memchr(text, '\0', FLOAT_TEXT) != NULL && *text != '\0' &&
           text[strspn(text, "+-.eE0123456789")] == '\0' &&
           isfinite(strtod(text, &end)) && *end == '\0';
}

/* All bits of the exponent set: infinite or not a number. */
static bool is_finite_bits(const char *bits)
{
    return (term_load16(bits) & 0x7FF0) != 0x7FF0;
}

/* A shape says where things end, this whether they make sense. */
static const char *check_content(const char *at)
{
    const char *atom = term_atom_at(at);

    switch (*at) {
    case ERL_FLOAT_EXT:
        return is_float_text(at + 1) ? NULL : "a malformed float";
    case NEW_FLOAT_EXT:
        return is_finite_bits(at + 1) ? NULL : "a float that is not finite";
    case ERL_BIT_BINARY_EXT:
        if (at[5] < 0 || at[5] > 8 ||
            (at[5] == 0) != (term_load32(at + 1) == 0))
            return "a malformed bitstring";
        return NULL;
    case ERL_LIST_EXT:
        return term_load32(at + 1) > 0 ? NULL : "a list without elements";
    case ERL_NEW_REFERENCE_EXT:
    case ERL_NEWER_REFERENCE_EXT:
        if (term_load16(at + 1) == 0 || term_load16(at + 1) > REFERENCE_WORDS)
            return "a reference of a wrong size";
        return check_atom(atom);
    default:
        return atom ? check_atom(atom) : NULL;
    }
}

/* Are the terms at `at` of these kinds, one letter each: a(tom), i(nteger),
 * b(yte), p(id)? Their contents are checked when the walk comes to them. */
static bool begins_with(const char *at, const char *end, const char *kinds)
{
    struct term_shape shape;

    for (; *kinds != '\0'; kinds++) {
        bool fits;

        if (term_shape(at, end, &shape) != NULL)
            return false;
        switch (*kinds) {
        case 'a':
            fits = term_atom_at(at) == at;
            break;
        case 'i':
            fits = *at == ERL_SMALL_INTEGER_EXT || *at == ERL_INTEGER_EXT;
            break;
        case 'b':
            fits = *at == ERL_SMALL_INTEGER_EXT;
            break;
        default:
            fits = *at == ERL_PID_EXT || *at == ERL_NEW_PID_EXT;
        }
        if (!fits)
            return false;
        at += shape.size;
    }
    return true;
}

static const char *check_fun(const struct walk *walk, uint32_t *fun_end)
{
    size_t left = (size_t)(walk->end - walk->at);
    uint32_t size;

    if (*walk->at == ERL_EXPORT_EXT)
        return begins_with(walk->at + 1, walk->end, "aab")
                   ? NULL
                   : "a malformed external fun";
    size = term_load32(walk->at + 1); /* counts itself, not the tag */
    if (size > left - 1 || !begins_with(walk->at + FUN_HEAD, walk->end, "aiip"))
        return "a malformed fun";
    *fun_end = (uint32_t)(walk->at - walk->start) + 1 + size;
    return NULL;
}

/* The elements of the container at walk->at are next. */
static const char *go_in(struct walk *walk, uint32_t children)
{
    struct frame *frame;

    if (walk->depth >= walk->max_depth)
        return "nested too deeply";
    frame = &walk->frames[walk->depth++];
    *frame = (struct frame){.left = children};
    if (*walk->at == ERL_NEW_FUN_EXT || *walk->at == ERL_EXPORT_EXT)
        return check_fun(walk, &frame->fun_end);
    return NULL;
}

/* A term is over, and with it every container that it was the last of. */
static const char *go_out(struct walk *walk)
{
    while (walk->depth > 0 && --walk->frames[walk->depth - 1].left == 0) {
        uint32_t fun_end = walk->frames[--walk->depth].fun_end;

        if (fun_end != 0 && fun_end != (size_t)(walk->at - walk->start))
            return "a fun of another size than it says";
    }
    return NULL;
}

static const char *walk_term(struct walk *walk)
{
    const char *fault;

    do {
        struct term_shape shape;

        fault = term_shape(walk->at, walk->end, &shape);
        if (!fault)
            fault = check_content(walk->at);
        if (!fault && shape.children > 0)
            fault = go_in(walk, shape.children);
        if (fault)
            return fault;
        walk->at += shape.size;
        if (shape.children == 0)
            fault = go_out(walk);
    } while (!fault && walk->depth > 0);
    return fault;
}

bool term_check_first(struct slice raw, const struct term_limits *limits,
                      size_t *used, struct error *err)
{
    struct walk walk;
    const char *fault;

    /* ei counts in int, and the frames in uint32_t. */
    if (raw.size > INT32_MAX)
        return error_set(err, ERR_TOO_LARGE, "a term of %zu bytes", raw.size);
    walk.start = walk.at = raw.data;
    walk.end = raw.data + raw.size;
    walk.depth = 0;
    walk.max_depth = limits->max_depth < TERM_DEPTH_LIMIT ? limits->max_depth
                                                          : TERM_DEPTH_LIMIT;
    fault = walk_term(&walk);
    *used = (size_t)(walk.at - walk.start);
    if (fault)
        return error_set(err, ERR_INVALID_REQUEST,
                         "malformed term: %s at byte %zu", fault, *used);
    if (*used > limits->max_bytes)
        return error_set(err, ERR_TOO_LARGE, "a term of %zu bytes, limit %zu",
                         *used, limits->max_bytes);
    return true;
}

bool term_check(struct slice raw, const struct term_limits *limits,
                struct error *err)
{
    size_t used;

    if (raw.size > limits->max_bytes)
        return error_set(err, ERR_TOO_LARGE, "a term of %zu bytes, limit %zu",
                         raw.size, limits->max_bytes);
    if (!term_check_first(raw, limits, &used, err))
        return false;
    if (used < raw.size)
        return error_set(err, ERR_INVALID_REQUEST,
                         "malformed term: %zu bytes behind it",
                         raw.size - used);
    return true;
}
