/* What priv/ holds: prompts, schemas and the model catalogue. */
#ifndef LLM_ROUTER_CONFIG_ASSETS_H
#define LLM_ROUTER_CONFIG_ASSETS_H

#include "llm_router/config/config.h"
#include "llm_router/core/prompts.h"
#include "llm_router/core/router.h"

struct assets {
    struct prompts prompts;
    struct catalogue catalogue;
    struct slice status_page; /* HTML; empty: not there, and no HTTP */
};

/* All text and rows in the arena. Where the configuration names folders of the
 * user's own, a prompt there stands for the one of priv/, and a row of the
 * user's catalogue for the row of that provider and id (a new one is added; a
 * member that it leaves out keeps the value of the row it replaces).
 * ERR_INVALID_REQUEST as config_load says; a prompt's path is its name below
 * priv/. Released before the arena. */
bool assets_load(struct arena *arena, const struct config *config,
                 struct assets *assets, struct error *err);
void assets_release(struct assets *assets);

#endif
