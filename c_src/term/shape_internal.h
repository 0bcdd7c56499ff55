/* How the bytes of a term are laid out: what check and reader share. */
#ifndef LLM_ROUTER_TERM_SHAPE_INTERNAL_H
#define LLM_ROUTER_TERM_SHAPE_INTERNAL_H

#include "llm_router/base/slice.h"

enum {
    TERM_VERSION = 131,
    TERM_DEPTH_LIMIT = 1024, /* term_check lets nothing deeper pass */
};

/* A term is `size` bytes of its own, then `children` terms: the elements of a
 * tuple; those of a list and its tail; keys and values of a map in turn; of a
 * fun module, old index, old unique, pid and the free variables; of an
 * external fun module, function, arity. Atoms inside pids, ports and
 * references are own bytes. */
struct term_shape {
    size_t size;
    uint32_t children;
};

/* The shape of the term at `at`. Own bytes all lie before `end`, and there are
 * at least as many bytes behind them as children. NULL, or else what is wrong.
 * Says nothing about the contents. */
const char *term_shape(const char *at, const char *end,
                       struct term_shape *shape);

/* The atom at `at`, or the one that names the node of the pid, port or
 * reference there; NULL for any other term. It must have a shape. */
const char *term_atom_at(const char *at);
struct slice term_atom_name(const char *atom);

uint16_t term_load16(const char *at);
uint32_t term_load32(const char *at);

#endif
