/* The gate before every decoder: is this a whole, well-formed term?
 *
 * `ei_decode_*` and `ei_skip_term` trust every length and recurse on every
 * level: six bytes can crash or hang them. term_check walks the bytes once,
 * iteratively, and proves that every length lies inside the buffer, every tag
 * is one of the external term format, counts are bounded by the bytes that
 * remain, and nesting is bounded. Only bytes that passed are read by
 * term/reader.h. Cost is linear in the bytes, whatever the counts claim. */
#ifndef LLM_ROUTER_TERM_CHECK_H
#define LLM_ROUTER_TERM_CHECK_H

#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"

struct term_limits {
    size_t max_bytes;
    uint32_t max_depth; /* nesting of tuples, lists, maps and funs */
};

/* One term without a version byte, and nothing behind it.
 * ERR_INVALID_REQUEST (malformed, too deep) or ERR_TOO_LARGE. */
bool term_check(struct slice raw, const struct term_limits *limits,
                struct error *err);

/* The same, but more bytes may follow: `*used` is what the term took (a
 * distribution frame holds two terms in a row). */
bool term_check_first(struct slice raw, const struct term_limits *limits,
                      size_t *used, struct error *err);

#endif
