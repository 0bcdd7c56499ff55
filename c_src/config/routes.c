#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config_internal.h"

/* A good model of every vendor, for those who configure nothing but keys: what
 * has no key is left out, so that one list does for all. */
static const struct {
    const char *name, *models;
} defaults[] = {
    {"simple", "openai/gpt-5.4-nano, anthropic/claude-haiku-4-5, "
               "gemini/gemini-3.5-flash-lite, mistral/mistral-small-2603, "
               "deepseek/deepseek-v4-flash, xai/grok-4.3, azure/gpt-5.4-nano, "
               "openrouter/openai/gpt-5.4-nano, groq/openai/gpt-oss-20b, "
               "llamacpp/default, ollama/llama3.2"},
    {"medium", "openai/gpt-5.4-mini, anthropic/claude-sonnet-5, "
               "gemini/gemini-3.5-flash, mistral/mistral-medium-3-5, "
               "deepseek/deepseek-v4-flash, xai/grok-4.3, azure/gpt-5.4-mini, "
               "openrouter/openai/gpt-5.4-mini, groq/openai/gpt-oss-120b, "
               "llamacpp/default, ollama/llama3.2"},
    {"complex", "openai/gpt-5.4, anthropic/claude-opus-5, "
                "gemini/gemini-3.1-pro-preview, mistral/mistral-large-2512, "
                "deepseek/deepseek-v4-pro, xai/grok-4.6, azure/gpt-5.4, "
                "openrouter/openai/gpt-5.4, groq/openai/gpt-oss-120b, "
                "llamacpp/default, ollama/llama3.2"},
    {"embed", "openai/text-embedding-3-small, gemini/gemini-embedding-001"},
};

enum { DEFAULT_COUNT = sizeof(defaults) / sizeof(defaults[0]) };

enum { TASK_TYPE_MAX = 64 };

static const char *model_fault(struct slice text)
{
    return model_id_is_valid(text) ? NULL : "is not a model: PROVIDER/MODEL";
}

/* The name of a route. */

static bool task_type_is_valid(struct slice text)
{
    if (text.size == 0 || text.size > TASK_TYPE_MAX)
        return false;
    for (size_t i = 0; i < text.size; i++)
        if (!isalnum((unsigned char)text.data[i]) && text.data[i] != '_' &&
            text.data[i] != '-')
            return false;
    return true;
}

/* "complex", "complex/code_generation" or "*" before a task type. */
static bool parse_name(struct slice name, struct route *route)
{
    const char *slash = memchr(name.data, '/', name.size);
    struct slice complexity = name;

    if (slash) {
        complexity.size = (size_t)(slash - name.data);
        route->task_type =
            slice_make(slash + 1, name.size - complexity.size - 1);
        if (!task_type_is_valid(route->task_type))
            return false;
        if (slice_is(complexity, "*"))
            return true;
    }
    return complexity_parse(complexity, &route->complexity);
}

static struct route *find_or_add(struct config *config,
                                 const struct route *wanted)
{
    for (size_t i = 0; i < config->route_count; i++)
        if (config->routes[i].complexity == wanted->complexity &&
            slice_equal(config->routes[i].task_type, wanted->task_type))
            return &config->routes[i];
    if (config->route_count == CONFIG_ROUTES_MAX)
        return NULL;
    return &config->routes[config->route_count++];
}

/* Puts a route that is whole in its place. */
static bool put_route(struct config *config, const char *name,
                      const struct route *route)
{
    struct route *place;

    if (!strcmp(name, "embed")) {
        place = arena_alloc(&config->arena, sizeof(*place));
        config->embed_route = place;
    } else {
        place = find_or_add(config, route);
    }
    if (!place)
        return false;
    *place = *route;
    place->task_type = arena_copy(&config->arena, route->task_type);
    return true;
}

/* As text: "a, b/c". */

static bool set_from_text(struct config *config, const char *name,
                          const char *variable, struct slice text,
                          struct error *err)
{
    struct route_candidate *candidates =
        arena_array(&config->arena, CONFIG_CANDIDATES_MAX, sizeof(*candidates));
    struct route route = {.candidates = candidates};

    for (;;) {
        ptrdiff_t comma = slice_find(text, SLICE_LITERAL(","));
        size_t size = comma < 0 ? text.size : (size_t)comma;
        struct slice item = slice_trim(slice_make(text.data, size));

        if (!model_id_is_valid(item))
            return error_at(err, ERR_INVALID_REQUEST, variable,
                            "entry %zu is not a model: PROVIDER/MODEL",
                            route.count + 1);
        if (route.count == CONFIG_CANDIDATES_MAX)
            return error_at(err, ERR_INVALID_REQUEST, variable,
                            "more than %d entries", CONFIG_CANDIDATES_MAX);
        candidates[route.count++] =
            (struct route_candidate){arena_copy(&config->arena, item), 1.0};
        if (comma < 0)
            break;
        text = slice_make(text.data + size + 1, text.size - size - 1);
    }
    parse_name(slice_of(name), &route);
    put_route(config, name, &route); /* there is room for these */
    return true;
}

bool config_routes_default(struct config *config, struct error *err)
{
    for (size_t i = 0; i < DEFAULT_COUNT; i++)
        if (!set_from_text(config, defaults[i].name, defaults[i].name,
                           slice_of(defaults[i].models), err))
            return false;
    return true;
}

bool config_routes_from_environment(struct config *config, struct error *err)
{
    static const char *const variables[DEFAULT_COUNT] = {
        "LLM_ROUTER_ROUTES_SIMPLE", "LLM_ROUTER_ROUTES_MEDIUM",
        "LLM_ROUTER_ROUTES_COMPLEX", "LLM_ROUTER_ROUTES_EMBED"};

    for (size_t i = 0; i < DEFAULT_COUNT; i++) {
        const char *value = getenv(variables[i]);

        if (value && value[0] != '\0' &&
            !set_from_text(config, defaults[i].name, variables[i],
                           slice_of(value), err))
            return false;
    }
    return true;
}

/* From the file. */

static const struct field candidate_fields[] = {
    FIELD_CHECKED("model", struct route_candidate, model, model_fault),
    FIELD("weight", KIND_POSITIVE, struct route_candidate, weight),
};

enum { CANDIDATE_FIELDS = sizeof(candidate_fields) / sizeof(struct field) };

/* "provider/model" or {"model": ..., "weight": ...} */
static bool read_candidate(struct arena *arena,
                           struct route_candidate *candidate,
                           const struct place *place, struct error *err)
{
    candidate->weight = 1.0;
    if (json_is_string(place->value))
        return field_read(&candidate_fields[0], arena, candidate, place, err);
    if (!json_is_object(place->value))
        return place_fault(place, err,
                           "must be a model, or an object with one");
    if (!fields_read(candidate_fields, CANDIDATE_FIELDS, arena, candidate,
                     place, err))
        return false;
    return candidate->model.size > 0 ||
           place_fault(place, err, "needs a model");
}

static bool read_candidates(struct arena *arena, void *base,
                            const struct place *place, struct error *err)
{
    struct route *route = base;
    size_t count = json_array_size(place->value);
    struct route_candidate *candidates;

    if (!place_is_array(place, err))
        return false;
    if (count == 0 || count > CONFIG_CANDIDATES_MAX)
        return place_fault(place, err, "must have 1 to %d models",
                           CONFIG_CANDIDATES_MAX);
    candidates = arena_array(arena, count, sizeof(*candidates));
    for (size_t i = 0; i < count; i++) {
        struct place item = place_element(place, i);

        if (!read_candidate(arena, &candidates[i], &item, err))
            return false;
    }
    route->candidates = candidates;
    route->count = count;
    return true;
}

static bool read_strategy(struct arena *arena, void *base,
                          const struct place *place, struct error *err)
{
    struct route *route = base;

    (void)arena;
    return (json_is_string(place->value) &&
            strategy_parse(slice_of(json_string_value(place->value)),
                           &route->strategy)) ||
           place_fault(place, err,
                       "must be \"ordered\", \"cheapest\", \"fastest\" or "
                       "\"weighted\"");
}

static const struct field route_fields[] = {
    FIELD_OWN("strategy", read_strategy),
    FIELD_OWN("candidates", read_candidates),
};

enum { ROUTE_FIELDS = sizeof(route_fields) / sizeof(struct field) };

static bool wrong_name(const struct place *place, struct error *err)
{
    static const char *const names[] = {"simple", "medium", "complex", "embed"};

    if (!strchr(place->key, '/'))
        return unknown_key(place, names, 4, err);
    return place_key_fault(place, err,
                           "must be COMPLEXITY/TASK_TYPE or */TASK_TYPE");
}

static bool read_route(struct config *config, const struct place *place,
                       struct error *err)
{
    struct route route = {.strategy = STRATEGY_ORDERED};
    bool ok;

    if (strcmp(place->key, "embed") != 0 &&
        !parse_name(slice_of(place->key), &route))
        return wrong_name(place, err);
    ok = json_is_array(place->value)
             ? read_candidates(&config->arena, &route, place, err)
             : fields_read(route_fields, ROUTE_FIELDS, &config->arena, &route,
                           place, err);
    if (!ok)
        return false;
    if (route.count == 0)
        return place_fault(place, err, "needs candidates");
    return put_route(config, place->key, &route) ||
           place_fault(place, err, "more than %d routes", CONFIG_ROUTES_MAX);
}

bool config_routes_from_json(struct config *config, const struct place *place,
                             struct error *err)
{
    const char *name;
    json_t *value;

    if (!place_is_object(place, err))
        return false;
    json_object_foreach(place->value, name, value)
    {
        struct place route = place_member(place, name, value);

        if (!read_route(config, &route, err))
            return false;
    }
    return true;
}

const char *config_route_key_name(size_t index)
{
    if (index < DEFAULT_COUNT)
        return defaults[index].name;
    index -= DEFAULT_COUNT;
    if (index < ROUTE_FIELDS)
        return route_fields[index].name;
    index -= ROUTE_FIELDS;
    return index < CANDIDATE_FIELDS ? candidate_fields[index].name : NULL;
}

/* Printing. */

static bool is_plain(const struct route *route)
{
    for (size_t i = 0; i < route->count; i++)
        if (route->candidates[i].weight < 1.0 ||
            route->candidates[i].weight > 1.0)
            return false;
    return true;
}

static json_t *candidates_json(const struct route *route)
{
    json_t *list = json_array();
    bool plain = is_plain(route);

    for (size_t i = 0; i < route->count; i++) {
        const struct route_candidate *candidate = &route->candidates[i];
        json_t *object;

        if (plain) {
            json_array_append_new(list, slice_json(candidate->model));
            continue;
        }
        object = json_object();
        for (size_t k = 0; k < CANDIDATE_FIELDS; k++)
            json_object_set_new(object, candidate_fields[k].name,
                                field_json(&candidate_fields[k], candidate));
        json_array_append_new(list, object);
    }
    return list;
}

static json_t *route_json(const struct route *route)
{
    json_t *object = json_object();

    json_object_set_new(object, "strategy",
                        json_string(strategy_name(route->strategy)));
    json_object_set_new(object, "candidates", candidates_json(route));
    return object;
}

json_t *config_routes_json(const struct config *config)
{
    json_t *all = json_object();
    char name[TASK_TYPE_MAX + 32];

    for (size_t i = 0; i < config->route_count; i++) {
        const struct route *route = &config->routes[i];

        snprintf(name, sizeof(name), "%s%s%.*s",
                 route->complexity == COMPLEXITY_UNSET
                     ? "*"
                     : complexity_atom(route->complexity),
                 route->task_type.size > 0 ? "/" : "",
                 SLICE_ARG(route->task_type));
        json_object_set_new(all, name, route_json(route));
    }
    if (config->embed_route)
        json_object_set_new(all, "embed", route_json(config->embed_route));
    return all;
}
