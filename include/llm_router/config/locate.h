/* Where in a JSON text a key or value stands: what an error message about it
 * needs, and jansson does not keep. Pure.
 *
 * The text is known to be valid JSON without duplicate keys; of any other text
 * the answer means nothing, but nothing outside it is read. */
#ifndef LLM_ROUTER_CONFIG_LOCATE_H
#define LLM_ROUTER_CONFIG_LOCATE_H

#include "llm_router/base/slice.h"

/* One step down: into the member `key` of an object, or, with NULL as key,
 * into the element `index` of an array. */
struct locate_step {
    const char *key; /* UTF-8, as it is after its escapes are read */
    size_t index;
};

enum locate_target { LOCATE_VALUE, LOCATE_KEY /* of the last step */ };

struct location {
    size_t offset;
    size_t line;   /* from 1 */
    size_t column; /* from 1, in characters */
};

/* False: there is no such value. */
bool locate(struct slice json, const struct locate_step *steps, size_t count,
            enum locate_target target, struct location *location);

#endif
