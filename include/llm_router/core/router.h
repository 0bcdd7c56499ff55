/* Which model answers: a pure choice from tables. */
#ifndef LLM_ROUTER_CORE_ROUTER_H
#define LLM_ROUTER_CORE_ROUTER_H

#include "llm_router/base/arena.h"
#include "llm_router/base/error.h"
#include "llm_router/core/request.h"
#include "llm_router/core/usage.h"

/* One row of the catalogue (priv/models.json) or of the configuration. */
struct model {
    struct slice provider; /* "openai" */
    struct slice id;       /* "gpt-5-mini" */
    struct prices prices;
    int64_t context_tokens;    /* < 0: unknown */
    int64_t max_output_tokens; /* < 0: unknown */
    bool json_schema; /* takes response_format json_schema; unknown: true */
    bool sampling;    /* takes temperature; unknown: true */
};

struct catalogue {
    const struct model *models;
    size_t count;
};

const struct model *catalogue_find(const struct catalogue *catalogue,
                                   struct slice provider, struct slice id);

/* The candidates of one complexity, best first: "openai/gpt-5-mini" or a bare
 * model id. */
struct route {
    enum complexity complexity;
    const struct slice *candidates;
    size_t count;
};

/* What the choice is made from; all borrowed. A provider is usable when it is
 * listed here. */
struct routing {
    const struct catalogue *catalogue;
    const struct slice *providers; /* names of the configured ones */
    size_t provider_count;
    const struct route *routes;
    size_t route_count;
};

struct candidate {
    struct slice provider;
    struct slice model;
    const struct model *entry; /* NULL: not in the catalogue */
};

enum { PLAN_CANDIDATES_MAX = 8 };

struct plan {
    struct candidate candidates[PLAN_CANDIDATES_MAX];
    size_t count;
    enum complexity complexity;
};

/* The complexity of a request that names none: by its task type (architect,
 * code_generation, ... are complex, coder, chat, ... medium, classifier,
 * parser, ... simple; unknown: medium), without one by the operation. */
enum complexity complexity_for(enum operation operation,
                               struct slice task_type);

/* Model ids hold only [A-Za-z0-9._:/@-], at most 128 bytes. */
bool model_id_is_valid(struct slice id);

/* An explicit model wins. Its provider is the option's (the id is then taken
 * as it stands), else a configured one before the first slash, else the
 * catalogue's, else the only one there is. Without a model the route of the
 * complexity gives the candidates. ERR_INVALID_REQUEST for a bad model id,
 * ERR_NO_ROUTE when no configured provider can serve it. */
bool router_plan(const struct routing *routing, enum operation operation,
                 const struct options *options, struct plan *plan,
                 struct error *err);

#endif
