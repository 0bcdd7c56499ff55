#include "llm_router/core/router.h"

#include <math.h>

#include "unit.h"

static const struct model MODELS[] = {
    {.provider = SLICE_LITERAL("openai"), .id = SLICE_LITERAL("gpt-small")},
    {.provider = SLICE_LITERAL("openai"), .id = SLICE_LITERAL("gpt-large")},
    {.provider = SLICE_LITERAL("anthropic"), .id = SLICE_LITERAL("claude")},
    {.provider = SLICE_LITERAL("cloud"), .id = SLICE_LITERAL("shared")},
    {.provider = SLICE_LITERAL("openai"), .id = SLICE_LITERAL("shared")},
};
static const struct catalogue CATALOGUE = {MODELS, 5};

static const struct slice SIMPLE[] = {SLICE_LITERAL("openai/gpt-small")};
static const struct slice MEDIUM[] = {
    SLICE_LITERAL("anthropic/claude"), SLICE_LITERAL("gpt-small"),
    SLICE_LITERAL("openai/gpt-small"), SLICE_LITERAL("local/own"),
    SLICE_LITERAL("")};
static const struct route ROUTES[] = {
    {COMPLEXITY_SIMPLE, SIMPLE, 1},
    {COMPLEXITY_MEDIUM, MEDIUM, 5},
};

static const struct slice OPENAI[] = {SLICE_LITERAL("openai")};
static const struct slice BOTH[] = {SLICE_LITERAL("openai"),
                                    SLICE_LITERAL("local")};

static const struct routing ONE = {&CATALOGUE, OPENAI, 1, ROUTES, 2};
static const struct routing TWO = {&CATALOGUE, BOTH, 2, ROUTES, 2};
static const struct routing NONE = {&CATALOGUE, NULL, 0, ROUTES, 2};

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

    if (!router_plan(routing, OP_CALL, &options, &plan, &err))
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

    assert_false(router_plan(routing, OP_CALL, &options, &plan, &err));
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
    assert_true(router_plan(&TWO, OP_CALL, &options, &plan, &err));
    assert_int_equal(plan.complexity, COMPLEXITY_MEDIUM);
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
    assert_true(model_id_is_valid(slice_of("azAZ09.1:2@3_/-")));
    assert_false(model_id_is_valid(slice_of("gpt 5")));
    assert_false(model_id_is_valid(slice_of("gpt\r\n5")));
    assert_false(model_id_is_valid(slice_of("gpt?x=1")));
    assert_false(model_id_is_valid(slice_make("a\0b", 3)));
    assert_false(model_id_is_valid(slice_of("g\xC3\xA4")));
    assert_refused(&ONE, explicit("gpt 5", ""), ERR_INVALID_REQUEST);
}

static void a_plan_has_room_for_no_more_than_it_says(void **state)
{
    struct slice names[PLAN_CANDIDATES_MAX + 2];
    struct route route = {COMPLEXITY_SIMPLE, names, PLAN_CANDIDATES_MAX + 2};
    struct routing routing = {&CATALOGUE, OPENAI, 1, &route, 1};
    struct options options = {.complexity = COMPLEXITY_SIMPLE};
    struct plan plan;
    struct error err;

    (void)state;
    for (size_t i = 0; i < route.count; i++)
        names[i] = slice_make(&"abcdefghijkl"[i], 1);
    assert_true(router_plan(&routing, OP_CALL, &options, &plan, &err));
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
        cmocka_unit_test(a_plan_has_room_for_no_more_than_it_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
