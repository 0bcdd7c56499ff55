/* Terms as term_to_binary/1 writes them, with a version byte. */
#ifndef LLM_ROUTER_TESTS_EXTERNAL_H
#define LLM_ROUTER_TESTS_EXTERNAL_H

#include "llm_router/term/check.h"
#include "llm_router/term/reader.h"

static inline struct slice external_raw(struct slice external)
{
    return slice_make(external.data + 1, external.size - 1);
}

static inline bool external_check(struct slice external,
                                  const struct term_limits *limits,
                                  struct error *err)
{
    if (external.size == 0 || (unsigned char)*external.data != 131)
        return error_set(err, ERR_INVALID_REQUEST, "not an external term");
    return term_check(external_raw(external), limits, err);
}

static inline struct term external_term(struct slice checked)
{
    return term_from_raw(external_raw(checked));
}

#endif
