#include "llm_router/core/router.h"

#include <math.h>
#include <stdio.h>

#include "router_internal.h"

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
    if (id.size == 0 || id.size > MODEL_ID_MAX ||
        slice_find(id, SLICE_LITERAL("..")) >= 0)
        return false;
    for (size_t i = 0; i < id.size; i++)
        if (!is_id_byte(id.data[i]))
            return false;
    return true;
}

static const struct routed_provider *
find_provider(const struct routing *routing, struct slice name)
{
    for (size_t i = 0; i < routing->provider_count; i++)
        if (slice_equal(routing->providers[i].name, name))
            return &routing->providers[i];
    return NULL;
}

static bool is_configured(const struct routing *routing, struct slice provider)
{
    return find_provider(routing, provider) != NULL;
}

static bool is_usable(const void *context, struct slice provider)
{
    return is_configured(context, provider);
}

/* "google" -> "gemini", unless a provider of that name is configured. */
static struct slice resolve_alias(const struct routing *routing,
                                  struct slice name)
{
    if (is_configured(routing, name))
        return name;
    for (size_t i = 0; i < routing->alias_count; i++)
        if (slice_equal(routing->aliases[i].alias, name))
            return routing->aliases[i].provider;
    return name;
}

/* "openai/gpt-5" -> "openai"; empty when there is no slash. */
static struct slice prefix_of(struct slice name)
{
    ptrdiff_t slash = slice_find(name, SLICE_LITERAL("/"));

    return slice_make(name.data, slash > 0 ? (size_t)slash : 0);
}

static struct slice behind(struct slice name, struct slice prefix)
{
    return slice_make(name.data + prefix.size + 1, name.size - prefix.size - 1);
}

/* Which provider serves a model of this name? Not every slash follows a
 * provider: the ids of OpenRouter and of Hugging Face have one of their own,
 * so with the provider named the id is taken as it is. */
static bool locate(const struct routing *routing, struct slice name,
                   struct slice provider, struct candidate *candidate)
{
    struct slice prefix = prefix_of(name);
    struct slice named = resolve_alias(routing, prefix);
    const struct model *entry;

    if (provider.size == 0 && is_configured(routing, named)) {
        provider = named;
        name = behind(name, prefix);
    }
    entry = provider.size > 0
                ? catalogue_find(routing->catalogue, provider, name)
                : catalogue_find_anywhere(routing->catalogue, name, is_usable,
                                          routing);
    if (provider.size == 0 && entry)
        provider = entry->provider;
    else if (provider.size == 0 && routing->provider_count == 1)
        provider = routing->providers[0].name;
    *candidate = (struct candidate){
        .provider = provider,
        .model = entry ? entry->id : name,
        .entry = entry,
    };
    return name.size > 0 && is_configured(routing, provider);
}

/* Routes name models of many vendors and are one file for many installations:
 * "anthropic/claude" in a route is not a model of the one provider that
 * happens to be configured, though as a caller's explicit wish it may be. */
static bool is_of_another(const struct routing *routing,
                          const struct candidate *candidate, struct slice name)
{
    struct slice prefix = prefix_of(name);

    return !candidate->entry && prefix.size > 0 &&
           !is_configured(routing, resolve_alias(routing, prefix));
}

void route_locate(struct route *route, const struct routing *routing,
                  struct arena *arena)
{
    struct candidate *places =
        arena_array(arena, route->count, sizeof(*places));

    for (size_t i = 0; i < route->count; i++) {
        struct slice name = route->candidates[i].model;
        struct candidate place;

        if (locate(routing, name, slice_of(NULL), &place) &&
            !is_of_another(routing, &place, name))
            places[i] = place;
    }
    route->places = places;
}

static bool field_has(const struct field *field,
                      const struct candidate *candidate)
{
    for (size_t i = 0; i < field->count; i++) {
        const struct candidate *other = &field->contenders[i].candidate;

        if (slice_equal(other->model, candidate->model) &&
            slice_equal(other->provider, candidate->provider))
            return true;
    }
    return false;
}

static bool has_tools(const struct options *options)
{
    return options->tool_count > 0 || options->mcp_servers;
}

/* Can it be asked through the API that the caller wants? */
static bool has_api(const struct routing *routing,
                    const struct options *options,
                    const struct candidate *candidate)
{
    const struct model *entry = candidate->entry;
    unsigned apis = find_provider(routing, candidate->provider)->apis;
    bool chat = apis & 1u << API_CHAT, responses = apis & 1u << API_RESPONSES;
    bool only_responses =
        entry &&
        (has_tools(options) ? entry->tools_api : entry->api) == API_RESPONSES;

    switch (options->api_version) {
    case API_VERSION_ANY:
        return true;
    case API_VERSION_CHAT:
        return chat && !only_responses;
    case API_VERSION_RESPONSES:
        return responses || (chat && only_responses);
    }
    return true;
}

static unsigned needed_capabilities(const struct plan_need *need)
{
    unsigned needed = need->options->capabilities;

    if (has_tools(need->options))
        needed |= CAPABILITY_TOOLS;
    if (need->operation == OP_EMBED)
        needed |= CAPABILITY_EMBEDDING;
    return needed;
}

/* A model that is in no catalogue was put into the route by somebody who knows
 * it: it is taken to do what most models of its kind do. */
static bool is_able(const struct model *entry, unsigned needed)
{
    unsigned able = entry ? entry->capabilities
                          : (unsigned)CAPABILITY_TOOLS | CAPABILITY_SCHEMA |
                                CAPABILITY_EMBEDDING;

    return (needed & ~able) == 0;
}

/* The texts of embed are a question each; only their sum is known. */
static bool is_large_enough(const struct model *entry,
                            const struct plan_need *need)
{
    if (!entry || entry->context_tokens <= 0 || need->input_tokens <= 0 ||
        need->operation == OP_EMBED)
        return true;
    return need->input_tokens <=
           entry->context_tokens - need->options->max_tokens;
}

static void collect(const struct routing *routing, const struct plan_need *need,
                    const struct route *route, struct slice provider,
                    struct field *field)
{
    unsigned needed = needed_capabilities(need);

    for (size_t i = 0; i < route->count && field->count < ROUTE_MAX; i++) {
        const struct candidate *candidate = &route->places[i];

        if (candidate->provider.size == 0) {
            field->absent++;
            continue;
        }
        if ((provider.size > 0 &&
             !slice_equal(candidate->provider, provider)) ||
            field_has(field, candidate))
            continue;
        if (!is_able(candidate->entry, needed)) {
            field->unable++;
            continue;
        }
        if (!has_api(routing, need->options, candidate)) {
            field->mute++;
            continue;
        }
        field->contenders[field->count++] = (struct contender){
            .candidate = *candidate,
            .weight = fmax(route->candidates[i].weight, 0),
            .fits = is_large_enough(candidate->entry, need),
            .healthy = true,
        };
    }
}

/* Those that are too small go when a larger one is there; when none is, the
 * provider has the last word. */
static void drop_small(struct field *field)
{
    size_t kept = 0;

    for (size_t i = 0; i < field->count; i++) {
        if (!field->contenders[i].fits)
            continue;
        field->contenders[kept++] = field->contenders[i];
    }
    if (kept == 0 || kept == field->count)
        return;
    field->unable += (unsigned)(field->count - kept);
    field->count = kept;
}

/* -1: the route is not for this call. */
static int specialty(const struct route *route, const struct decision *decision)
{
    bool of_type = route->task_type.size > 0;
    bool of_complexity = route->complexity != COMPLEXITY_UNSET;

    if ((of_type && !slice_equal(route->task_type, decision->task_type)) ||
        (of_complexity && route->complexity != decision->complexity))
        return -1;
    return 2 * of_type + of_complexity;
}

static const struct route *find_route(const struct routing *routing,
                                      enum operation operation,
                                      const struct decision *decision)
{
    const struct route *best = NULL;

    if (operation == OP_EMBED)
        return routing->embed;
    for (size_t i = 0; i < routing->route_count; i++) {
        const struct route *route = &routing->routes[i];

        if (specialty(route, decision) >
            (best ? specialty(best, decision) : -1))
            best = route;
    }
    return best;
}

static void put_capabilities(unsigned bits, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
#define X(capability, bit, name)                                     \
    if ((bits & (bit)) && used < size)                               \
        used += (size_t)snprintf(out + used, size - used, "%s" name, \
                                 used > 0 ? ", " : "");
    CAPABILITIES(X)
#undef X
}

static bool refuse(const struct field *field, const struct plan_need *need,
                   const struct plan *plan, struct slice provider,
                   struct error *err)
{
    const char *kind = need->operation == OP_EMBED
                           ? "embed"
                           : complexity_atom(plan->decision.complexity);
    const char *named = provider.size > 0 ? " named " : "";
    char lacking[64];

    if (field->mute > 0 && field->unable == 0)
        return error_set(err, ERR_NO_ROUTE,
                         "no model for %s calls at a configured provider%s%.*s "
                         "can be asked through the API %s",
                         kind, named, SLICE_ARG(provider),
                         api_version_name(need->options->api_version));
    put_capabilities(needed_capabilities(need), lacking, sizeof(lacking));
    return error_set(err, ERR_NO_ROUTE,
                     "no model for %s calls%s%s at a configured provider%s%.*s",
                     kind, field->unable > 0 ? " can do " : "",
                     field->unable > 0 ? lacking : "", named,
                     SLICE_ARG(provider));
}

static bool plan_route(const struct routing *routing,
                       const struct plan_need *need, struct slice provider,
                       struct plan *plan, struct error *err)
{
    const struct route *route =
        find_route(routing, need->operation, &plan->decision);
    struct field field;

    field.count = 0;
    field.absent = field.unable = field.mute = 0;
    if (route)
        collect(routing, need, route, provider, &field);
    if (field.count == 0)
        return refuse(&field, need, plan, provider, err);
    drop_small(&field);
    field_order(&field, route->strategy, need);
    for (; plan->count < field.count && plan->count < PLAN_CANDIDATES_MAX;
         plan->count++)
        plan->candidates[plan->count] = field.contenders[plan->count].candidate;
    plan->decision.strategy = route->strategy;
    plan->decision.skipped = field.absent + field.unable + field.mute;
    return true;
}

static bool plan_model(const struct routing *routing,
                       const struct options *options, struct slice provider,
                       struct plan *plan, struct error *err)
{
    struct candidate *candidate = &plan->candidates[0];

    if (!model_id_is_valid(options->model))
        return error_at(err, ERR_INVALID_REQUEST, "opts.model",
                        "a model id is 1 to %d of the characters "
                        "A-Z a-z 0-9 . _ : / @ -, without \"..\"",
                        MODEL_ID_MAX);
    if (!locate(routing, options->model, provider, candidate))
        return error_set(err, ERR_NO_ROUTE,
                         "no configured provider is known to serve %.*s: write "
                         "\"provider/model\" or give the option provider",
                         SLICE_ARG(options->model));
    if (!has_api(routing, options, candidate))
        return error_set(err, ERR_NO_ROUTE,
                         "%.*s cannot be asked for %.*s through the API %s",
                         SLICE_ARG(candidate->provider),
                         SLICE_ARG(candidate->model),
                         api_version_name(options->api_version));
    plan->count = 1;
    return true;
}

/* A request without a task type is of the type of its operation. */
static struct decision decide(const struct plan_need *need)
{
    const struct options *options = need->options;
    struct decision decision = {
        .complexity = options->complexity,
        .task_type = options->task_type,
        .reason = options->model.size > 0      ? "model"
                  : options->provider.size > 0 ? "provider"
                                               : "route",
    };

    if (decision.complexity == COMPLEXITY_UNSET)
        decision.complexity =
            complexity_for(need->operation, options->task_type);
    if (decision.task_type.size == 0)
        decision.task_type = slice_of(operation_atom(need->operation));
    return decision;
}

bool router_plan(const struct routing *routing, const struct plan_need *need,
                 struct plan *plan, struct error *err)
{
    const struct options *options = need->options;
    struct slice provider = resolve_alias(routing, options->provider);

    plan->count = 0;
    plan->decision = decide(need);
    if (routing->provider_count == 0)
        return error_set(err, ERR_NO_ROUTE, "no provider is configured");
    if (provider.size > 0 && !is_configured(routing, provider))
        return error_set(err, ERR_NO_ROUTE, "provider %.*s is not configured",
                         SLICE_ARG(provider));
    if (options->model.size > 0)
        return plan_model(routing, options, provider, plan, err);
    return plan_route(routing, need, provider, plan, err);
}

/* While a fallback remains, silence may last an even share of what is left, but
 * a quarter at least: a thinner slice would cut models that are only slow, for
 * the sake of candidates that are hardly ever reached. An answer that comes may
 * take three quarters. */
struct deadline_share router_share(uint64_t left_ms, size_t candidates_left)
{
    size_t parts = candidates_left < 4 ? candidates_left : 4;

    if (candidates_left <= 1)
        return (struct deadline_share){left_ms, left_ms};
    return (struct deadline_share){
        .silence_ms = left_ms / parts,
        .total_ms = left_ms - left_ms / 4,
    };
}

/* What is looked at: more than a million tokens, which is more than models
 * hold. A look at 32 MiB would be 5 ms. */
enum { TOKEN_SAMPLE_BYTES = 4 * 1024 * 1024 };

/* Eight bytes at a time: prompts may be megabytes. A character that is not
 * ASCII has one byte that begins with the bits 11. */
static size_t count_tokens(struct slice text)
{
    static const uint64_t HIGH_BITS = 0x8080808080808080u;
    size_t ascii = text.size, others = 0, i = 0;

    for (; text.size - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
        uint64_t bytes, high;

        memcpy(&bytes, text.data + i, sizeof(bytes));
        high = bytes & HIGH_BITS;
        if (high == 0)
            continue;
        ascii -= (size_t)__builtin_popcountll(high);
        others += (size_t)__builtin_popcountll(high & (bytes << 1));
    }
    for (; i < text.size; i++) {
        ascii -= (text.data[i] & 0x80) != 0;
        others += (text.data[i] & 0xC0) == 0xC0;
    }
    return (ascii + 3) / 4 + others;
}

int64_t estimate_tokens(struct slice text)
{
    if (text.size <= TOKEN_SAMPLE_BYTES)
        return (int64_t)count_tokens(text);
    return (int64_t)(count_tokens(slice_make(text.data, TOKEN_SAMPLE_BYTES)) *
                     text.size / TOKEN_SAMPLE_BYTES);
}
