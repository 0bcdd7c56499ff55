/* Patterns of node names: who may call.
 *
 * A pattern matches a whole node name. `*` stands for any run of characters,
 * none and the `@` included; everything else for itself, case included:
 * `web*@*.example.com`. Pure. */
#ifndef LLM_ROUTER_CORE_ALLOW_H
#define LLM_ROUTER_CORE_ALLOW_H

#include "llm_router/base/slice.h"

enum { ALLOW_PATTERN_MAX = 255 }; /* bytes, as of a node name */

/* Not empty, not too long, and nothing in it but `*` and what our own node
 * names are made of: letters, digits and `_-.:@`. */
bool allow_pattern_is_valid(struct slice pattern);

/* Is the node matched by one of the patterns? No pattern, no match. The time
 * for one pattern is linear in its size and the name's. */
bool allow_matches(const struct slice *patterns, size_t count,
                   struct slice node);

#endif
