#include "llm_router/core/router.h"

#include <math.h>
#include <stdio.h>

#include "unit.h"

#define TEXT(text) SLICE_LITERAL(text)

static const struct slice OLD_NAMES[] = {TEXT("gpt-old")};

/* Prices and contexts are far apart, so that each test sees which counts. */
static const struct model MODELS[] = {
    {.provider = TEXT("openai"),
     .id = TEXT("gpt-small"),
     .prices = {.input = 1, .output = 2},
     .context_tokens = 1000,
     .capabilities = CAPABILITY_TOOLS},
    {.provider = TEXT("openai"),
     .id = TEXT("gpt-large"),
     .aliases = OLD_NAMES,
     .alias_count = 1,
     .prices = {.input = 0.5, .output = 3},
     .context_tokens = 100000,
     .capabilities = CAPABILITY_TOOLS | CAPABILITY_VISION},
    {.provider = TEXT("anthropic"),
     .id = TEXT("claude"),
     .prices = {.input = 0.9, .output = 1},
     .context_tokens = -1},
    {.provider = TEXT("cloud"),
     .id = TEXT("shared"),
     .prices = {.input = NAN, .output = NAN},
     .capabilities = CAPABILITY_TOOLS},
    {.provider = TEXT("openai"),
     .id = TEXT("shared"),
     .prices = {.input = 0, .output = NAN},
     .capabilities = CAPABILITY_TOOLS},
    {.provider = TEXT("openai"),
     .id = TEXT("embed-1"),
     .prices = {.input = 2, .output = NAN},
     .context_tokens = 10,
     .capabilities = CAPABILITY_EMBEDDING},
    {.provider = TEXT("cloud"),
     .id = TEXT("embed-2"),
     .prices = {.input = 1, .output = NAN},
     .capabilities = CAPABILITY_EMBEDDING},
};
static struct catalogue CATALOGUE = {.models = MODELS, .count = 7};

static const struct route_candidate SIMPLE[] = {{TEXT("openai/gpt-small"), 1}};
static const struct route_candidate MEDIUM[] = {{TEXT("anthropic/claude"), 1},
                                                {TEXT("gpt-small"), 1},
                                                {TEXT("openai/gpt-small"), 1},
                                                {TEXT("local/own"), 1},
                                                {TEXT(""), 1}};
static const struct route ROUTES[] = {
    {.complexity = COMPLEXITY_SIMPLE, .candidates = SIMPLE, .count = 1},
    {.complexity = COMPLEXITY_MEDIUM, .candidates = MEDIUM, .count = 5},
};

enum { CHAT = 1u << API_CHAT, BOTH_APIS = CHAT | 1u << API_RESPONSES };

static const struct routed_provider OPENAI[] = {{TEXT("openai"), BOTH_APIS}};
static const struct routed_provider BOTH[] = {{TEXT("openai"), BOTH_APIS},
                                              {TEXT("local"), CHAT}};
static const struct routed_provider ALL[] = {{TEXT("openai"), BOTH_APIS},
                                             {TEXT("anthropic"), 0},
                                             {TEXT("cloud"), CHAT},
                                             {TEXT("local"), CHAT}};
static const struct provider_alias ALIASES[] = {
    {TEXT("azure"), TEXT("cloud")}, {TEXT("claude-inc"), TEXT("anthropic")}};

static const struct routing ONE = {.catalogue = &CATALOGUE,
                                   .providers = OPENAI,
                                   .provider_count = 1,
                                   .routes = ROUTES,
                                   .route_count = 2,
                                   .aliases = ALIASES,
                                   .alias_count = 2};
static const struct routing TWO = {.catalogue = &CATALOGUE,
                                   .providers = BOTH,
                                   .provider_count = 2,
                                   .routes = ROUTES,
                                   .route_count = 2};
static const struct routing NONE = {
    .catalogue = &CATALOGUE, .routes = ROUTES, .route_count = 2};

static int set_up(void **state)
{
    (void)state;
    catalogue_index(&CATALOGUE, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    catalogue_release(&CATALOGUE);
    return 0;
}

enum { ROUTES_MAX = 8 };

/* router_plan with the places of the routes as they are now. */
static bool plan_located(const struct routing *routing,
                         const struct plan_need *need, struct plan *plan,
                         struct error *err)
{
    struct routing located = *routing;
    struct route routes[ROUTES_MAX], embed;
    struct arena arena;
    bool planned;

    assert_true(routing->route_count <= ROUTES_MAX);
    arena_init(&arena, 0);
    for (size_t i = 0; i < routing->route_count; i++) {
        routes[i] = routing->routes[i];
        route_locate(&routes[i], routing, &arena);
    }
    located.routes = routes;
    if (routing->embed) {
        embed = *routing->embed;
        route_locate(&embed, routing, &arena);
        located.embed = &embed;
    }
    planned = router_plan(&located, need, plan, err);
    arena_release(&arena);
    return planned;
}

static bool plan_it(const struct routing *routing,
                    const struct options *options, struct plan *plan,
                    struct error *err)
{
    const struct plan_need need = {.operation = OP_CALL, .options = options};

    return plan_located(routing, &need, plan, err);
}

static struct options explicit(const char *model, const char *provider)
{
    return (struct options){.model = slice_of(model),
                            .provider = slice_of(provider)};
}

static void assert_candidate(const struct candidate *candidate,
                             const char *provider, const char *model)
{
    assert_slice(candidate->provider, provider);
    assert_slice(candidate->model, model);
}

static void assert_planned(const struct routing *routing,
                           struct options options, const char *provider,
                           const char *model)
{
    struct plan plan;
    struct error err;

    if (!plan_it(routing, &options, &plan, &err))
        fail_msg("%s", err.message);
    assert_int_equal(plan.count, 1);
    assert_candidate(&plan.candidates[0], provider, model);
    assert_ptr_equal(
        plan.candidates[0].entry,
        catalogue_find(&CATALOGUE, slice_of(provider), slice_of(model)));
}

static void assert_refused(const struct routing *routing,
                           struct options options, enum error_code code)
{
    struct plan plan;
    struct error err;

    assert_false(plan_it(routing, &options, &plan, &err));
    assert_int_equal(err.code, code);
}

static void
the_complexity_follows_from_the_task_type_or_the_operation(void **state)
{
    (void)state;
    assert_int_equal(complexity_for(OP_CALL, slice_of("architect")),
                     COMPLEXITY_COMPLEX);
    assert_int_equal(complexity_for(OP_CALL, slice_of("qa")),
                     COMPLEXITY_COMPLEX);
    assert_int_equal(complexity_for(OP_CALL, slice_of("pseudocode")),
                     COMPLEXITY_MEDIUM);
    assert_int_equal(complexity_for(OP_CALL, slice_of("web_search")),
                     COMPLEXITY_SIMPLE);
    assert_int_equal(complexity_for(OP_CALL, slice_of("no such type")),
                     COMPLEXITY_MEDIUM);
    assert_int_equal(complexity_for(OP_CALL, slice_of("")), COMPLEXITY_MEDIUM);
    assert_int_equal(complexity_for(OP_PARSE_PRD, slice_of("")),
                     COMPLEXITY_COMPLEX);
    assert_int_equal(complexity_for(OP_EXPAND_TASK, slice_of("")),
                     COMPLEXITY_MEDIUM);
    assert_int_equal(complexity_for(OP_PARSE_PRD, slice_of("parser")),
                     COMPLEXITY_SIMPLE);
}

static void a_route_gives_each_candidate_that_can_be_called_once(void **state)
{
    struct options options = {.complexity = COMPLEXITY_MEDIUM};
    struct plan plan;
    struct error err;

    (void)state;
    assert_true(plan_it(&TWO, &options, &plan, &err));
    assert_int_equal(plan.decision.complexity, COMPLEXITY_MEDIUM);
    assert_int_equal(plan.count, 2);
    assert_candidate(&plan.candidates[0], "openai", "gpt-small");
    assert_ptr_equal(plan.candidates[0].entry, &MODELS[0]);
    assert_candidate(&plan.candidates[1], "local", "own");
    assert_null(plan.candidates[1].entry);
}

static void a_provider_narrows_the_route(void **state)
{
    struct options options = explicit("", "local");

    (void)state;
    assert_planned(&TWO, options, "local", "own");
    options.complexity = COMPLEXITY_SIMPLE;
    assert_refused(&TWO, options, ERR_NO_ROUTE);
}

static void without_a_route_or_provider_there_is_no_route(void **state)
{
    struct options options = {.complexity = COMPLEXITY_COMPLEX};

    (void)state;
    assert_refused(&ONE, options, ERR_NO_ROUTE);
    assert_refused(&NONE, explicit("gpt-small", ""), ERR_NO_ROUTE);
    assert_refused(&ONE, explicit("", "anthropic"), ERR_NO_ROUTE);
    assert_refused(&ONE, explicit("claude", "anthropic"), ERR_NO_ROUTE);
}

static void an_explicit_model_is_found_by_its_prefix(void **state)
{
    (void)state;
    assert_planned(&TWO, explicit("openai/gpt-large", ""), "openai",
                   "gpt-large");
    assert_planned(&TWO, explicit("local/llama3:8b", ""), "local", "llama3:8b");
    assert_refused(&TWO, explicit("openai/", ""), ERR_NO_ROUTE);
}

static void an_explicit_model_is_found_in_the_catalogue(void **state)
{
    (void)state;
    assert_planned(&TWO, explicit("gpt-large", ""), "openai", "gpt-large");
    assert_planned(&TWO, explicit("shared", ""), "openai", "shared");
    assert_refused(&ONE, explicit("claude", ""), ERR_NO_ROUTE);
    assert_refused(&TWO, explicit("unheard-of", ""), ERR_NO_ROUTE);
}

static void a_named_provider_serves_any_model_id_as_it_stands(void **state)
{
    (void)state;
    assert_planned(&TWO, explicit("claude", "local"), "local", "claude");
    assert_planned(&TWO, explicit("openai/gpt-large", "openai"), "openai",
                   "openai/gpt-large");
}

static void the_only_provider_serves_what_the_catalogue_has_not(void **state)
{
    (void)state;
    assert_planned(&ONE, explicit("unheard-of", ""), "openai", "unheard-of");
    assert_planned(&ONE, explicit("meta-llama/llama-4", ""), "openai",
                   "meta-llama/llama-4");
}

static void a_model_id_is_plain_and_short(void **state)
{
    char id[130];

    (void)state;
    memset(id, 'x', sizeof(id));
    assert_true(model_id_is_valid(slice_make(id, 128)));
    assert_false(model_id_is_valid(slice_make(id, 129)));
    assert_false(model_id_is_valid(slice_of("")));
    assert_false(model_id_is_valid(slice_of("models/../keys")));
    assert_true(model_id_is_valid(slice_of("azAZ09.1:2@3_/-")));
    assert_false(model_id_is_valid(slice_of("gpt 5")));
    assert_false(model_id_is_valid(slice_of("gpt\r\n5")));
    assert_false(model_id_is_valid(slice_of("gpt?x=1")));
    assert_false(model_id_is_valid(slice_make("a\0b", 3)));
    assert_false(model_id_is_valid(slice_of("g\xC3\xA4")));
    assert_refused(&ONE, explicit("gpt 5", ""), ERR_INVALID_REQUEST);
}

/* A route of everything, through all providers. */
static const struct route_candidate EVERYTHING[] = {
    {TEXT("gpt-small"), 1},    {TEXT("gpt-large"), 2}, {TEXT("claude"), 3},
    {TEXT("cloud/shared"), 0}, {TEXT("local/own"), 4},
};

struct bed {
    struct route route;
    struct routing routing;
    struct options options;
    struct plan_need need;
};

/* Not copied: the parts point to each other. */
static void open_bed(struct bed *bed, enum strategy strategy)
{
    *bed = (struct bed){
        .route = {.strategy = strategy, .candidates = EVERYTHING, .count = 5},
        .routing = {.catalogue = &CATALOGUE,
                    .providers = ALL,
                    .provider_count = 4,
                    .routes = &bed->route,
                    .route_count = 1,
                    .aliases = ALIASES,
                    .alias_count = 2},
        .need = {.operation = OP_CALL, .options = &bed->options},
    };
}

/* The plan's model ids, each with a space behind it. */
static void assert_order(const struct bed *bed, const char *expected)
{
    struct plan plan;
    struct error err;
    char order[200] = "";

    if (!plan_located(&bed->routing, &bed->need, &plan, &err))
        fail_msg("%s", err.message);
    for (size_t i = 0; i < plan.count; i++)
        snprintf(order + strlen(order), sizeof(order) - strlen(order), "%.*s ",
                 SLICE_ARG(plan.candidates[i].model));
    assert_string_equal(order, expected);
    assert_int_equal(plan.decision.strategy, bed->route.strategy);
}

static void assert_no_route(const struct bed *bed, const char *message)
{
    struct plan plan;
    struct error err;

    assert_false(plan_located(&bed->routing, &bed->need, &plan, &err));
    assert_int_equal(err.code, ERR_NO_ROUTE);
    assert_string_equal(err.message, message);
}

static unsigned skipped(const struct bed *bed)
{
    struct plan plan;
    struct error err;

    assert_true(plan_located(&bed->routing, &bed->need, &plan, &err));
    return plan.decision.skipped;
}

static void the_ordered_strategy_keeps_what_is_written(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    assert_order(&bed, "gpt-small gpt-large claude shared own ");
    assert_int_equal(skipped(&bed), 0);
}

static void the_cheapest_is_by_a_call_of_three_parts_input(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_CHEAPEST);
    /* 1.25, 1.125, 0.925, unknown, unknown. */
    assert_order(&bed, "claude gpt-large gpt-small shared own ");
}

static struct supply *open_supply(void)
{
    struct supply *supply = supply_new(1);
    const struct budget_limits none = {NAN, NAN};
    const struct key_limits limits = {.budget = none};

    supply_declare_begin(supply, &none);
    for (size_t i = 0; i < sizeof(ALL) / sizeof(*ALL); i++) {
        supply_declare_provider(supply, ALL[i].name, 0);
        supply_declare_key(supply, ALL[i].name, TEXT("default"), &limits);
    }
    supply_declare_end(supply);
    return supply;
}

static void report(struct supply *supply, const char *provider,
                   const char *model, int64_t latency_ms)
{
    const struct supply_need need = {.provider = slice_of(provider)};
    const struct supply_clock clock = {1000, 1795348800};
    struct supply_grant grant;

    assert_int_equal(supply_take(supply, &need, &clock, &grant),
                     SUPPLY_GRANTED);
    supply_settle(supply, &grant,
                  &(struct supply_outcome){
                      .end = latency_ms < 0 ? SUPPLY_KEY_BAD : SUPPLY_OK,
                      .error = latency_ms < 0 ? ERR_UNAUTHORIZED : ERR_NONE,
                      .retry_after_ms = -1,
                      .tokens = -1,
                      .cost_usd = NAN,
                      .latency_ms = latency_ms,
                      .model = slice_of(model),
                      .limits = RATE_LIMITS_UNKNOWN,
                  },
                  &clock);
}

static void
the_fastest_is_by_measured_latency_after_the_unmeasured(void **state)
{
    struct supply *supply = open_supply();
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_FASTEST);
    bed.need.clock = (struct supply_clock){1000, 1795348800};
    assert_order(&bed, "gpt-small gpt-large claude shared own ");
    bed.need.supply = supply;
    report(supply, "openai", "gpt-small", 300);
    report(supply, "openai", "gpt-large", 100);
    report(supply, "anthropic", "claude", 200);
    assert_order(&bed, "shared own gpt-large claude gpt-small ");
    supply_free(supply);
}

static void those_with_a_healthy_key_go_before_the_others(void **state)
{
    struct supply *supply = open_supply();
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    bed.need.clock = (struct supply_clock){1000, 1795348800};
    bed.need.supply = supply;
    report(supply, "openai", "", -1);
    assert_order(&bed, "claude shared own gpt-small gpt-large ");
    report(supply, "cloud", "", -1);
    assert_order(&bed, "claude own gpt-small gpt-large shared ");
    bed.need.clock.now_ms += 60000;
    assert_order(&bed, "gpt-small gpt-large claude shared own ");
    supply_free(supply);
}

static void weights_are_chances_to_be_first(void **state)
{
    int first[5] = {0};
    struct bed bed;
    struct plan plan;
    struct error err;

    (void)state;
    open_bed(&bed, STRATEGY_WEIGHTED);
    for (int i = 0; i < 1000; i++) {
        bed.need.chance = (i + 0.5) / 1000;
        assert_true(plan_located(&bed.routing, &bed.need, &plan, &err));
        assert_int_equal(plan.count, 5);
        /* Without a chance: the last resort. */
        assert_candidate(&plan.candidates[4], "cloud", "shared");
        for (size_t k = 0; k < 5; k++) {
            struct slice name = EVERYTHING[k].model;
            struct slice model = plan.candidates[0].model;

            first[k] += slice_find(name, model) >= 0;
        }
    }
    assert_int_equal(first[0], 100);
    assert_int_equal(first[1], 200);
    assert_int_equal(first[2], 300);
    assert_int_equal(first[3], 0);
    assert_int_equal(first[4], 400);
}

static void the_rest_of_a_weighted_order_is_drawn_by_weight_too(void **state)
{
    int second = 0, drawn = 0;
    struct bed bed;
    struct plan plan;
    struct error err;

    (void)state;
    open_bed(&bed, STRATEGY_WEIGHTED);
    for (int i = 0; i < 10000; i++) {
        bed.need.chance = (i + 0.5) / 10000;
        assert_true(plan_located(&bed.routing, &bed.need, &plan, &err));
        if (!slice_is(plan.candidates[0].model, "own"))
            continue;
        drawn++;
        second += slice_is(plan.candidates[1].model, "claude");
    }
    /* Of the weights 1, 2 and 3 that are left. */
    assert_in_range(second, drawn / 2 - 2, drawn / 2 + 2);
}

static void weights_that_are_none_leave_the_order_as_written(void **state)
{
    static const struct route_candidate weightless[] = {
        {TEXT("claude"), -1}, {TEXT("gpt-small"), NAN}, {TEXT("local/own"), 0}};
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_WEIGHTED);
    bed.route.candidates = weightless;
    bed.route.count = 3;
    bed.need.chance = 0.99;
    assert_order(&bed, "claude gpt-small own ");
}

static void what_lacks_a_capability_is_left_out(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    bed.options.tool_count = 1;
    assert_order(&bed, "gpt-small gpt-large shared own ");
    assert_int_equal(skipped(&bed), 1);
    bed.options.capabilities = CAPABILITY_VISION;
    assert_order(&bed, "gpt-large ");
    assert_int_equal(skipped(&bed), 4);
    bed.options.capabilities = CAPABILITY_REASONING | CAPABILITY_VISION;
    assert_no_route(&bed, "no model for medium calls can do tools, vision, "
                          "reasoning at a configured provider");
}

static void a_schema_needs_no_capability(void **state)
{
    const struct jv schema = {.type = JV_OBJECT};
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    bed.options.schema = &schema;
    assert_order(&bed, "gpt-small gpt-large claude shared own ");
}

static void what_is_too_small_goes_when_a_larger_one_is_there(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    bed.need.input_tokens = 1000;
    assert_order(&bed, "gpt-small gpt-large claude shared own ");
    bed.need.input_tokens = 1001;
    assert_order(&bed, "gpt-large claude shared own ");
    assert_int_equal(skipped(&bed), 1);
    bed.need.input_tokens = 600;
    bed.options.max_tokens = 401;
    assert_order(&bed, "gpt-large claude shared own ");
    bed.route.count = 1;
    assert_order(&bed, "gpt-small ");
}

static void embed_has_a_route_of_its_own(void **state)
{
    static const struct route_candidate candidates[] = {
        {TEXT("gpt-small"), 1},
        {TEXT("openai/embed-1"), 1},
        {TEXT("local/own"), 1},
        {TEXT("cloud/embed-2"), 1}};
    struct route embed = {.candidates = candidates, .count = 4};
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    bed.need.operation = OP_EMBED;
    assert_no_route(&bed, "no model for embed calls at a configured provider");
    bed.routing.embed = &embed;
    bed.need.input_tokens = 1000; /* of all texts */
    assert_order(&bed, "embed-1 own embed-2 ");
    bed.route.strategy = embed.strategy = STRATEGY_CHEAPEST;
    assert_order(&bed, "embed-2 embed-1 own ");
    embed.count = 1;
    assert_no_route(&bed, "no model for embed calls can do embedding at a "
                          "configured provider");
}

static void the_most_special_route_counts(void **state)
{
    static const struct route_candidate names[] = {{TEXT("local/any"), 1},
                                                   {TEXT("local/medium"), 1},
                                                   {TEXT("local/qa"), 1},
                                                   {TEXT("local/both"), 1},
                                                   {TEXT("local/call"), 1}};
    struct route routes[] = {
        {.candidates = &names[0], .count = 1},
        {.complexity = COMPLEXITY_MEDIUM, .candidates = &names[1], .count = 1},
        {.task_type = TEXT("qa"), .candidates = &names[2], .count = 1},
        {.complexity = COMPLEXITY_MEDIUM,
         .task_type = TEXT("qa"),
         .candidates = &names[3],
         .count = 1},
        {.task_type = TEXT("call"), .candidates = &names[4], .count = 1},
    };
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    bed.routing.routes = routes;
    bed.routing.route_count = 4;
    bed.options.complexity = COMPLEXITY_MEDIUM;
    bed.options.task_type = TEXT("qa");
    assert_order(&bed, "both ");
    bed.options.complexity = COMPLEXITY_SIMPLE;
    assert_order(&bed, "qa ");
    bed.options.task_type = TEXT("chat");
    assert_order(&bed, "any ");
    bed.options.complexity = COMPLEXITY_MEDIUM;
    assert_order(&bed, "medium ");
    bed.options.task_type = TEXT("");
    assert_order(&bed, "medium ");
    bed.routing.route_count = 5;
    assert_order(&bed, "call ");
}

static void an_alias_of_a_model_becomes_its_id(void **state)
{
    struct bed bed;

    (void)state;
    assert_planned(&TWO, explicit("gpt-old", ""), "openai", "gpt-large");
    assert_planned(&TWO, explicit("openai/gpt-old", ""), "openai", "gpt-large");
    assert_planned(&TWO, explicit("gpt-old", "openai"), "openai", "gpt-large");
    assert_planned(&TWO, explicit("gpt-old", "local"), "local", "gpt-old");
    open_bed(&bed, STRATEGY_ORDERED);
    bed.route.candidates = (const struct route_candidate[]){
        {TEXT("gpt-old"), 1}, {TEXT("openai/gpt-large"), 1}};
    bed.route.count = 2;
    assert_order(&bed, "gpt-large ");
}

static void a_provider_is_known_by_its_alias(void **state)
{
    static const struct routed_provider shadow[] = {{.name = TEXT("azure")},
                                                    {.name = TEXT("cloud")}};
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    assert_planned(&bed.routing, explicit("azure/shared", ""), "cloud",
                   "shared");
    assert_planned(&bed.routing, explicit("shared", "azure"), "cloud",
                   "shared");
    assert_refused(&ONE, explicit("shared", "azure"), ERR_NO_ROUTE);
    /* A configured provider of that name is no alias. */
    bed.routing.providers = shadow;
    bed.routing.provider_count = 2;
    assert_planned(&bed.routing, explicit("azure/shared", ""), "azure",
                   "shared");
}

/* A route for many installations must not become a question for a model that
 * the only provider here has not. */
static void a_route_does_not_ask_one_vendor_for_anothers_model(void **state)
{
    static const struct route_candidate vendors[] = {
        {TEXT("anthropic/claude"), 1},   {TEXT("anthropic/new"), 1},
        {TEXT("claude-inc/newer"), 1},   {TEXT("claude"), 1},
        {TEXT("meta-llama/llama-4"), 1}, {TEXT("gpt-small"), 1}};
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    bed.route.candidates = vendors;
    bed.route.count = 6;
    bed.routing.provider_count = 1;
    assert_order(&bed, "gpt-small ");
    assert_int_equal(skipped(&bed), 5);
}

static void an_explicit_model_is_the_only_candidate(void **state)
{
    struct bed bed;
    struct plan plan;
    struct error err;

    (void)state;
    open_bed(&bed, STRATEGY_CHEAPEST);
    bed.options = explicit("claude", "");
    bed.options.capabilities = CAPABILITY_VISION;
    assert_true(plan_located(&bed.routing, &bed.need, &plan, &err));
    assert_int_equal(plan.count, 1);
    assert_candidate(&plan.candidates[0], "anthropic", "claude");
    assert_string_equal(plan.decision.reason, "model");
    assert_int_equal(plan.decision.strategy, STRATEGY_ORDERED);
}

static void an_api_version_leaves_those_that_can_be_asked_so(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    bed.options.api_version = API_VERSION_RESPONSES;
    assert_order(&bed, "gpt-small gpt-large ");
    assert_int_equal(skipped(&bed), 3);
    bed.options.api_version = API_VERSION_CHAT;
    assert_order(&bed, "gpt-small gpt-large shared own ");
    assert_int_equal(skipped(&bed), 1);
    bed.options.provider = TEXT("local");
    assert_order(&bed, "own ");
    bed.options.api_version = API_VERSION_RESPONSES;
    assert_no_route(&bed, "no model for medium calls at a configured provider "
                          "named local can be asked through the API responses");
    bed.options = (struct options){.api_version = API_VERSION_CHAT,
                                   .complexity = COMPLEXITY_SIMPLE,
                                   .provider = TEXT("anthropic")};
    assert_no_route(&bed, "no model for simple calls at a configured provider "
                          "named anthropic can be asked through the API "
                          "chat_completions");
}

/* It knows more of a model than a provider's dialect tells: a server of chat
 * completions may have the other API too, and a model no other. */
static void the_catalogue_says_what_else_a_model_speaks(void **state)
{
    static const struct model models[] = {
        {.provider = TEXT("openai"), .id = TEXT("pro"), .api = API_RESPONSES},
        {.provider = TEXT("cloud"),
         .id = TEXT("apt"),
         .capabilities = CAPABILITY_TOOLS,
         .tools_api = API_RESPONSES},
    };
    static const struct route_candidate both[] = {{TEXT("openai/pro"), 1},
                                                  {TEXT("cloud/apt"), 1}};
    struct catalogue catalogue = {.models = models, .count = 2};
    const struct jv servers = {.type = JV_ARRAY};
    struct bed bed;

    (void)state;
    open_bed(&bed, STRATEGY_ORDERED);
    catalogue_index(&catalogue, 1);
    bed.routing.catalogue = &catalogue;
    bed.route.candidates = both;
    bed.route.count = 2;
    bed.options.api_version = API_VERSION_RESPONSES;
    assert_order(&bed, "pro ");
    bed.options.api_version = API_VERSION_CHAT;
    assert_order(&bed, "apt ");
    bed.options.tool_count = 1;
    assert_no_route(&bed, "no model for medium calls can do tools at a "
                          "configured provider");
    bed.options.tool_count = 0;
    bed.options.mcp_servers = &servers;
    bed.options.api_version = API_VERSION_RESPONSES;
    assert_order(&bed, "apt "); /* the other one has no tools */
    catalogue_release(&catalogue);
}

static void an_explicit_model_must_have_the_api_too(void **state)
{
    struct options options = explicit("gpt-small", "");
    struct plan plan;
    struct error err;

    (void)state;
    options.api_version = API_VERSION_RESPONSES;
    assert_planned(&TWO, options, "openai", "gpt-small");
    options = explicit("own", "local");
    options.api_version = API_VERSION_CHAT;
    assert_planned(&TWO, options, "local", "own");
    options.api_version = API_VERSION_RESPONSES;
    assert_false(plan_it(&TWO, &options, &plan, &err));
    assert_int_equal(err.code, ERR_NO_ROUTE);
    assert_int_equal(plan.count, 0);
    assert_string_equal(
        err.message, "local cannot be asked for own through the API responses");
}

static void the_decision_says_why(void **state)
{
    struct options options = explicit("", "openai");
    struct plan plan;
    struct error err;

    (void)state;
    assert_true(plan_it(&TWO, &options, &plan, &err));
    assert_string_equal(plan.decision.reason, "provider");
    assert_slice(plan.decision.task_type, "call");
    /* anthropic/claude and the empty name. */
    assert_int_equal(plan.decision.skipped, 2);
    options = (struct options){.task_type = TEXT("web_search")};
    assert_true(plan_it(&TWO, &options, &plan, &err));
    assert_string_equal(plan.decision.reason, "route");
    assert_slice(plan.decision.task_type, "web_search");
    assert_int_equal(plan.decision.complexity, COMPLEXITY_SIMPLE);
}

static void assert_share(uint64_t left_ms, size_t candidates_left,
                         uint64_t silence_ms, uint64_t total_ms)
{
    struct deadline_share share = router_share(left_ms, candidates_left);

    assert_int_equal(share.silence_ms, silence_ms);
    assert_int_equal(share.total_ms, total_ms);
}

static void a_fallback_gets_its_turn(void **state)
{
    (void)state;
    assert_share(60000, 1, 60000, 60000);
    assert_share(60000, 0, 60000, 60000);
    assert_share(60000, 2, 30000, 45000);
    assert_share(60000, 3, 20000, 45000);
    assert_share(60000, 4, 15000, 45000);
    assert_share(60000, 8, 15000, 45000);
    assert_share(0, 2, 0, 0);
}

static void the_last_of_many_silent_candidates_still_has_time(void **state)
{
    uint64_t left = 60000;

    (void)state;
    for (size_t candidates = PLAN_CANDIDATES_MAX; candidates > 1; candidates--)
        left -= router_share(left, candidates).silence_ms;
    assert_in_range(left, 4000, 60000);
}

static void tokens_are_estimated_by_bytes_and_characters(void **state)
{
    (void)state;
    assert_int_equal(estimate_tokens(slice_of("")), 0);
    assert_int_equal(estimate_tokens(slice_of("a")), 1);
    assert_int_equal(estimate_tokens(slice_of("abcd")), 1);
    assert_int_equal(estimate_tokens(slice_of("abcde")), 2);
    assert_int_equal(estimate_tokens(slice_of("0123456789abcdef0")), 5);
    /* Ten umlauts; the word for Japan with ASCII around it. */
    assert_int_equal(
        estimate_tokens(slice_of("\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4"
                                 "\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4")),
        10);
    assert_int_equal(estimate_tokens(slice_of(
                         "in \xE6\x97\xA5\xE6\x9C\xAC! \xF0\x9F\x98\x80")),
                     2 + 3);
}

static void every_strategy_has_its_name(void **state)
{
    enum strategy strategy;

    (void)state;
    for (int i = STRATEGY_ORDERED; i <= STRATEGY_WEIGHTED; i++) {
        assert_true(strategy_parse(slice_of(strategy_name((enum strategy)i)),
                                   &strategy));
        assert_int_equal(strategy, i);
    }
    assert_false(strategy_parse(slice_of("best"), &strategy));
}

static void a_plan_has_room_for_no_more_than_it_says(void **state)
{
    struct route_candidate names[PLAN_CANDIDATES_MAX + 2];
    struct route route = {.complexity = COMPLEXITY_SIMPLE,
                          .candidates = names,
                          .count = PLAN_CANDIDATES_MAX + 2};
    struct routing routing = {.catalogue = &CATALOGUE,
                              .providers = OPENAI,
                              .provider_count = 1,
                              .routes = &route,
                              .route_count = 1};
    struct options options = {.complexity = COMPLEXITY_SIMPLE};
    struct plan plan;
    struct error err;

    (void)state;
    for (size_t i = 0; i < route.count; i++)
        names[i].model = slice_make(&"abcdefghijkl"[i], 1);
    assert_true(plan_it(&routing, &options, &plan, &err));
    assert_int_equal(plan.count, PLAN_CANDIDATES_MAX);
    assert_candidate(&plan.candidates[PLAN_CANDIDATES_MAX - 1], "openai", "h");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            the_complexity_follows_from_the_task_type_or_the_operation),
        cmocka_unit_test(a_route_gives_each_candidate_that_can_be_called_once),
        cmocka_unit_test(a_provider_narrows_the_route),
        cmocka_unit_test(without_a_route_or_provider_there_is_no_route),
        cmocka_unit_test(an_explicit_model_is_found_by_its_prefix),
        cmocka_unit_test(an_explicit_model_is_found_in_the_catalogue),
        cmocka_unit_test(a_named_provider_serves_any_model_id_as_it_stands),
        cmocka_unit_test(the_only_provider_serves_what_the_catalogue_has_not),
        cmocka_unit_test(a_model_id_is_plain_and_short),
        cmocka_unit_test(the_ordered_strategy_keeps_what_is_written),
        cmocka_unit_test(the_cheapest_is_by_a_call_of_three_parts_input),
        cmocka_unit_test(
            the_fastest_is_by_measured_latency_after_the_unmeasured),
        cmocka_unit_test(those_with_a_healthy_key_go_before_the_others),
        cmocka_unit_test(weights_are_chances_to_be_first),
        cmocka_unit_test(the_rest_of_a_weighted_order_is_drawn_by_weight_too),
        cmocka_unit_test(weights_that_are_none_leave_the_order_as_written),
        cmocka_unit_test(what_lacks_a_capability_is_left_out),
        cmocka_unit_test(a_schema_needs_no_capability),
        cmocka_unit_test(what_is_too_small_goes_when_a_larger_one_is_there),
        cmocka_unit_test(embed_has_a_route_of_its_own),
        cmocka_unit_test(the_most_special_route_counts),
        cmocka_unit_test(an_alias_of_a_model_becomes_its_id),
        cmocka_unit_test(a_provider_is_known_by_its_alias),
        cmocka_unit_test(a_route_does_not_ask_one_vendor_for_anothers_model),
        cmocka_unit_test(an_explicit_model_is_the_only_candidate),
        cmocka_unit_test(an_api_version_leaves_those_that_can_be_asked_so),
        cmocka_unit_test(the_catalogue_says_what_else_a_model_speaks),
        cmocka_unit_test(an_explicit_model_must_have_the_api_too),
        cmocka_unit_test(the_decision_says_why),
        cmocka_unit_test(a_fallback_gets_its_turn),
        cmocka_unit_test(the_last_of_many_silent_candidates_still_has_time),
        cmocka_unit_test(tokens_are_estimated_by_bytes_and_characters),
        cmocka_unit_test(every_strategy_has_its_name),
        cmocka_unit_test(a_plan_has_room_for_no_more_than_it_says),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
