/* Which models may answer, and in what order: a choice from tables and from
 * what is known of providers (supply.h). Pure. */
#ifndef LLM_ROUTER_CORE_ROUTER_H
#define LLM_ROUTER_CORE_ROUTER_H

#include "llm_router/base/arena.h"
#include "llm_router/base/error.h"
#include "llm_router/core/catalogue.h"
#include "llm_router/core/supply.h"

/*        enum            name in the configuration */
#define STRATEGIES(X)                                                      \
    X(STRATEGY_ORDERED, "ordered")   /* as written */                      \
    X(STRATEGY_CHEAPEST, "cheapest") /* by input and output price; unknown \
                                        prices last */                     \
    X(STRATEGY_FASTEST, "fastest")   /* by measured latency; unmeasured    \
                                        first, so that it gets measured */ \
    X(STRATEGY_WEIGHTED, "weighted") /* by chance, weight by weight */
enum strategy {
#define X(strategy, name) strategy,
    STRATEGIES(X)
#undef X
        STRATEGY_COUNT
};
const char *strategy_name(enum strategy strategy);
bool strategy_parse(struct slice text, enum strategy *strategy);

struct route_candidate {
    struct slice model; /* "openai/gpt-5-mini", or a bare id */
    double weight;      /* of STRATEGY_WEIGHTED; 1 unless said */
};

/* The candidates of a complexity and task type. The most special route that
 * fits counts: of both, then of the task type alone, then of the complexity,
 * then of neither. A request without a task type has its operation's name as
 * one ("parse_prd"). Of a route 64 candidates are looked at. */
struct route {
    enum complexity complexity; /* COMPLEXITY_UNSET: any */
    struct slice task_type;     /* empty: any */
    enum strategy strategy;
    const struct route_candidate *candidates;
    size_t count;
    const struct candidate *places; /* of each, by route_locate */
};

/* A name under which a provider is also known ("google" for "gemini"). */
struct provider_alias {
    struct slice alias, provider;
};

/* A provider that is configured. */
struct routed_provider {
    struct slice name;
    unsigned apis; /* of OpenAI's those it is known to have: bits of
                      1u << enum model_api */
};

/* What the choice is made from; all borrowed. A provider is usable when it is
 * listed here. */
struct routing {
    const struct catalogue *catalogue;
    const struct routed_provider *providers;
    size_t provider_count;
    const struct route *routes;
    size_t route_count;
    const struct route *embed; /* candidates of embed, or NULL */
    const struct provider_alias *aliases;
    size_t alias_count;
};

struct candidate {
    struct slice provider;
    struct slice model;        /* the id to send */
    const struct model *entry; /* NULL: not in the catalogue */
};

/* Finds out which provider serves each candidate of the route, which is the
 * same for every call: to be called for all routes of `routing`, again when
 * anything of it changed, and before router_plan. The places live in the arena.
 */
void route_locate(struct route *route, const struct routing *routing,
                  struct arena *arena);

enum { PLAN_CANDIDATES_MAX = 8 };

/* Why the candidates are these: for `return => full` and `select_model`. */
struct decision {
    enum complexity complexity;
    struct slice task_type;
    enum strategy strategy;
    const char *reason; /* "model", "provider" or "route" */
    unsigned skipped;   /* candidates left out: not configured, or not able */
};

struct plan {
    struct candidate candidates[PLAN_CANDIDATES_MAX];
    size_t count;
    struct decision decision;
};

/* The complexity of a request that names none: by its task type (architect,
 * code_generation, ... are complex, coder, chat, ... medium, classifier,
 * parser, ... simple; unknown: medium), without one by the operation. */
enum complexity complexity_for(enum operation operation,
                               struct slice task_type);

/* Model ids hold only [A-Za-z0-9._:/@-], at most 128 bytes, and no "..". */
bool model_id_is_valid(struct slice id);

/* What the choice depends on besides the tables. */
struct plan_need {
    enum operation operation;
    const struct options *options;
    int64_t input_tokens;        /* estimate, see estimate_tokens; 0: unknown */
    const struct supply *supply; /* NULL: nothing is known */
    struct supply_clock clock;
    double chance; /* in [0, 1), for STRATEGY_WEIGHTED */
};

/* An explicit model wins: it is the only candidate, whatever the catalogue says
 * that it can do. Its provider is the option's (the id is then taken as it
 * stands), else a configured one (or its alias) before the first slash, else
 * the catalogue's, else the only one there is. An alias of a model becomes the
 * id of its row.
 *
 * Without a model the route gives the candidates (embed has one of its own),
 * whose provider is before the slash or the catalogue's, in the order of its
 * strategy, those with a healthy key before the others. Left
 * out are providers that are not configured, models that lack a capability the
 * request needs (tools when it has some, embedding for embed, those in options;
 * a schema needs none, any model can be asked for JSON) and, when others
 * remain, those whose context does not hold input and max_tokens.
 *
 * An api_version leaves only models, explicit ones too, that can be asked
 * through it: the provider has that API, and the catalogue does not say that
 * the model speaks only the other one. That a server of OpenAI's chat
 * completions has the responses API too is known of OpenAI itself; of others
 * the catalogue says it, model by model.
 *
 * ERR_INVALID_REQUEST for a bad model id, ERR_NO_ROUTE when nothing is left,
 * saying why. Only plan->count candidates are set. */
bool router_plan(const struct routing *routing, const struct plan_need *need,
                 struct plan *plan, struct error *err);

/* How a candidate's share of the time is cut, so that a fallback still gets
 * its turn: silence at most an even share of what is left, though a quarter at
 * least, an answer that comes at most three quarters. Of the last candidate all
 * is the deadline. `candidates_left` counts the one that is asked. */
struct deadline_share {
    uint64_t silence_ms; /* without a first token, or between two */
    uint64_t total_ms;
};
struct deadline_share router_share(uint64_t left_ms, size_t candidates_left);

/* About 4 bytes a token for ASCII and 1 token a character else, rounded up; of
 * a text over 4 MiB judged by its front. */
int64_t estimate_tokens(struct slice text);

#endif
