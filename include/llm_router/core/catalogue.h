/* The models that are known: what they cost, hold and refuse.
 *
 * Rows are data (priv/models.json, then the user's file), so that a new model,
 * price or quirk is no change to the program. */
#ifndef LLM_ROUTER_CORE_CATALOGUE_H
#define LLM_ROUTER_CORE_CATALOGUE_H

#include "llm_router/base/map.h"
#include "llm_router/core/request.h"
#include "llm_router/core/usage.h"

/* How a model is made to keep to a schema, best first. Whatever the mode, the
 * answer is checked here. */
enum structured_mode {
    STRUCTURED_SCHEMA, /* the dialect's own schema mode */
    STRUCTURED_TOOL,   /* a forced call of a tool whose input is the schema */
    STRUCTURED_JSON,   /* JSON mode; the schema is only in the prompt */
    STRUCTURED_PROMPT, /* nothing but the prompt */
};

/* OpenAI has two APIs; some models speak only one, or with tools only one. */
enum model_api { API_CHAT, API_RESPONSES };

struct model {
    struct slice provider;       /* "openai" */
    struct slice id;             /* "gpt-5-mini" */
    const struct slice *aliases; /* historic and short names of this row */
    size_t alias_count;
    struct prices prices;
    int64_t context_tokens;          /* < 0: unknown */
    int64_t max_output_tokens;       /* < 0: unknown */
    enum structured_mode structured; /* unknown: STRUCTURED_SCHEMA */
    enum model_api api;
    enum model_api tools_api; /* for calls with tools */
    enum effort tools_effort; /* to be sent with tools; EFFORT_UNSET: none */
    unsigned efforts;         /* bit 1u << effort of each one accepted; 0:
                                 unknown, what the caller asks is sent */
    unsigned capabilities;    /* bits; unknown: tools and schema */
    bool sampling;            /* takes temperature and top_p; unknown: true */
};

struct catalogue {
    const struct model *models;
    size_t count;
    struct map by_name; /* model by "provider/id" and "provider/alias" */
    struct map by_id;   /* first model by id or alias alone */
};

/* Fills the maps from models and count, both set by the caller. Of two rows
 * with one name the first has it, an id before an alias. */
void catalogue_index(struct catalogue *catalogue, uint64_t seed);
void catalogue_release(struct catalogue *catalogue); /* the maps */

/* By id or alias; NULL when it is not there, or when provider and id are over
 * 255 bytes together. */
const struct model *catalogue_find(const struct catalogue *catalogue,
                                   struct slice provider, struct slice id);

/* The row of an id or alias whose provider nobody named: the first one in the
 * file for which `is_usable` holds, else the first of all, else NULL. */
const struct model *catalogue_find_anywhere(
    const struct catalogue *catalogue, struct slice id,
    bool (*is_usable)(const void *context, struct slice provider),
    const void *context);

#endif
