/* What priv/ holds: prompts, schemas and the model catalogue. */
#ifndef LLM_ROUTER_CONFIG_ASSETS_H
#define LLM_ROUTER_CONFIG_ASSETS_H

#include "llm_router/core/prompts.h"
#include "llm_router/core/router.h"

struct assets {
    struct prompts prompts;
    struct catalogue catalogue;
};

/* All text and rows in the arena. ERR_INVALID_REQUEST with the file (and the
 * key in it) as path. */
bool assets_load(struct arena *arena, const char *priv_dir,
                 struct assets *assets, struct error *err);

#endif
