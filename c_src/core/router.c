#include "llm_router/core/router.h"

enum { MODEL_ID_MAX = 128 };

static const struct {
    const char *task_type;
    enum complexity complexity;
} task_types[] = {
    {"architect", COMPLEXITY_COMPLEX},
    {"code_generation", COMPLEXITY_COMPLEX},
    {"pattern_analyzer", COMPLEXITY_COMPLEX},
    {"refactoring", COMPLEXITY_COMPLEX},
    {"code_analysis", COMPLEXITY_COMPLEX},
    {"qa", COMPLEXITY_COMPLEX},
    {"parse_prd", COMPLEXITY_COMPLEX},
    {"coder", COMPLEXITY_MEDIUM},
    {"decomposition", COMPLEXITY_MEDIUM},
    {"planning", COMPLEXITY_MEDIUM},
    {"pseudocode", COMPLEXITY_MEDIUM},
    {"chat", COMPLEXITY_MEDIUM},
    {"generate_task", COMPLEXITY_MEDIUM},
    {"expand_task", COMPLEXITY_MEDIUM},
    {"research", COMPLEXITY_MEDIUM},
    {"classifier", COMPLEXITY_SIMPLE},
    {"parser", COMPLEXITY_SIMPLE},
    {"simple_chat", COMPLEXITY_SIMPLE},
    {"web_search", COMPLEXITY_SIMPLE},
};

enum complexity complexity_for(enum operation operation, struct slice task_type)
{
    if (task_type.size == 0)
        task_type = slice_of(operation_atom(operation));
    for (size_t i = 0; i < sizeof(task_types) / sizeof(*task_types); i++)
        if (slice_is(task_type, task_types[i].task_type))
            return task_types[i].complexity;
    return COMPLEXITY_MEDIUM;
}

static bool is_id_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || (c != '\0' && strchr("._:/@-", c));
}

bool model_id_is_valid(struct slice id)
{
    if (id.size == 0 || id.size > MODEL_ID_MAX)
        return false;
    for (size_t i = 0; i < id.size; i++)
        if (!is_id_byte(id.data[i]))
            return false;
    return true;
}

const struct model *catalogue_find(const struct catalogue *catalogue,
                                   struct slice provider, struct slice id)
{
    for (size_t i = 0; i < catalogue->count; i++)
        if (slice_equal(catalogue->models[i].id, id) &&
            slice_equal(catalogue->models[i].provider, provider))
            return &catalogue->models[i];
    return NULL;
}

static bool is_configured(const struct routing *routing, struct slice provider)
{
    for (size_t i = 0; i < routing->provider_count; i++)
        if (slice_equal(routing->providers[i], provider))
            return true;
    return false;
}

/* The row of a model whose provider nobody named; one that can be called
 * comes first. */
static const struct model *find_anywhere(const struct routing *routing,
                                         struct slice id)
{
    const struct model *known = NULL;

    for (size_t i = 0; i < routing->catalogue->count; i++) {
        const struct model *model = &routing->catalogue->models[i];

        if (!slice_equal(model->id, id))
            continue;
        if (is_configured(routing, model->provider))
            return model;
        known = model;
    }
    return known;
}

/* "openai/gpt-5" -> "openai"; empty when there is no slash. */
static struct slice prefix_of(struct slice name)
{
    ptrdiff_t slash = slice_find(name, SLICE_LITERAL("/"));

    return slice_make(name.data, slash > 0 ? (size_t)slash : 0);
}

/* Which provider serves a model of this name? Not every slash follows a
 * provider: the ids of OpenRouter and of Hugging Face have one of their own,
 * so with the provider named the id is taken as it is. */
static bool locate(const struct routing *routing, struct slice name,
                   struct slice provider, struct candidate *candidate)
{
    struct slice prefix = prefix_of(name);

    if (provider.size == 0 && is_configured(routing, prefix)) {
        provider = prefix;
        name = slice_make(name.data + prefix.size + 1,
                          name.size - prefix.size - 1);
    }
    *candidate = (struct candidate){
        .provider = provider,
        .model = name,
        .entry = provider.size > 0
                     ? catalogue_find(routing->catalogue, provider, name)
                     : find_anywhere(routing, name),
    };
    if (provider.size == 0 && candidate->entry)
        candidate->provider = candidate->entry->provider;
    else if (provider.size == 0 && routing->provider_count == 1)
        candidate->provider = routing->providers[0];
    return name.size > 0 && is_configured(routing, candidate->provider);
}

static bool plan_has(const struct plan *plan, const struct candidate *candidate)
{
    for (size_t i = 0; i < plan->count; i++)
        if (slice_equal(plan->candidates[i].model, candidate->model) &&
            slice_equal(plan->candidates[i].provider, candidate->provider))
            return true;
    return false;
}

static const struct route *find_route(const struct routing *routing,
                                      enum complexity complexity)
{
    for (size_t i = 0; i < routing->route_count; i++)
        if (routing->routes[i].complexity == complexity)
            return &routing->routes[i];
    return NULL;
}

static bool plan_route(const struct routing *routing, struct slice provider,
                       struct plan *plan, struct error *err)
{
    const struct route *route = find_route(routing, plan->complexity);
    struct candidate candidate;

    for (size_t i = 0; route && i < route->count; i++) {
        if (plan->count == PLAN_CANDIDATES_MAX)
            break;
        if (!locate(routing, route->candidates[i], slice_of(NULL),
                    &candidate) ||
            (provider.size > 0 && !slice_equal(candidate.provider, provider)) ||
            plan_has(plan, &candidate))
            continue;
        plan->candidates[plan->count++] = candidate;
    }
    if (plan->count > 0)
        return true;
    return error_set(err, ERR_NO_ROUTE,
                     "no model for %s calls at a configured provider%s%.*s",
                     complexity_atom(plan->complexity),
                     provider.size > 0 ? " named " : "", SLICE_ARG(provider));
}

static bool plan_model(const struct routing *routing,
                       const struct options *options, struct plan *plan,
                       struct error *err)
{
    if (!model_id_is_valid(options->model))
        return error_at(err, ERR_INVALID_REQUEST, "opts.model",
                        "a model id is 1 to %d of the characters "
                        "A-Z a-z 0-9 . _ : / @ -",
                        MODEL_ID_MAX);
    plan->count = 1;
    if (locate(routing, options->model, options->provider,
               &plan->candidates[0]))
        return true;
    return error_set(err, ERR_NO_ROUTE,
                     "no configured provider is known to serve %.*s: write "
                     "\"provider/model\" or give the option provider",
                     SLICE_ARG(options->model));
}

bool router_plan(const struct routing *routing, enum operation operation,
                 const struct options *options, struct plan *plan,
                 struct error *err)
{
    *plan = (struct plan){.complexity = options->complexity};
    if (plan->complexity == COMPLEXITY_UNSET)
        plan->complexity = complexity_for(operation, options->task_type);
    if (routing->provider_count == 0)
        return error_set(err, ERR_NO_ROUTE, "no provider is configured");
    if (options->provider.size > 0 &&
        !is_configured(routing, options->provider))
        return error_set(err, ERR_NO_ROUTE, "provider %.*s is not configured",
                         SLICE_ARG(options->provider));
    if (options->model.size > 0)
        return plan_model(routing, options, plan, err);
    return plan_route(routing, options->provider, plan, err);
}
