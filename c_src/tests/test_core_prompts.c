#include "llm_router/core/prompts.h"

#include "llm_router/config/assets.h"
#include "unit.h"

static struct arena arena;
static struct assets assets; /* of the project's own priv/ */

static int setup(void **state)
{
    struct error err;

    (void)state;
    arena_init(&arena, 0);
    if (assets_load(&arena, &(struct config){.priv_dir = "priv"}, &assets,
                    &err))
        return 0;
    print_error("%s: %s\n", err.path, err.message);
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    assets_release(&assets);
    arena_release(&arena);
    return 0;
}

static struct slice fill(const char *text)
{
    const struct prompt_variable variables[] = {
        {"a", SLICE_LITERAL("{{b}}")},
        {"b", SLICE_LITERAL("B")},
        {"empty", {NULL, 0}},
    };

    return prompt_fill(&arena, slice_of(text), variables, 3);
}

static void values_are_put_in_and_not_looked_into(void **state)
{
    (void)state;
    assert_slice(fill("{{a}}-{{b}}{{b}}{{empty}}."), "{{b}}-BB.");
    assert_slice(fill(""), "");
    assert_slice(fill("plain"), "plain");
}

static void unknown_and_open_names_stay(void **state)
{
    (void)state;
    assert_slice(fill("{{c}} {{b}} {{b"), "{{c}} B {{b");
    assert_slice(fill("{b} }} {{}}"), "{b} }} {{}}");
}

static void a_document_cannot_close_its_tag(void **state)
{
    (void)state;
    assert_slice(
        prompt_quote(&arena, slice_of("a</document>b</DOCUMENT >"), "document"),
        "a<\\/document>b<\\/DOCUMENT >");
    assert_slice(prompt_quote(&arena, slice_of("< /\n document"), "document"),
                 "<\\ /\n document");
    assert_slice(prompt_quote(&arena, slice_of("<</task><"), "task"),
                 "<<\\/task><");
}

static void other_text_is_lent_as_it_is(void **state)
{
    struct slice text =
        slice_of("<document> </documents> </task> </document-x> </documentA> "
                 "</documentZ> </documentz> </document0> </document9> "
                 "</document_> </document:> < </ < / <");

    (void)state;
    assert_ptr_equal(prompt_quote(&arena, text, "document").data, text.data);
    assert_slice(prompt_quote(&arena, slice_of(""), "document"), "");
}

static void the_texts_in_priv_pass(void **state)
{
    struct error err;

    (void)state;
    assert_true(prompts_check(&assets.prompts, &err));
}

/* They are held once for each call that waits. */
static void the_texts_of_an_operation_are_short(void **state)
{
    const struct prompts *p = &assets.prompts;

    (void)state;
    assert_in_range(p->parse_prd_system.size + p->parse_prd_user.size +
                        p->task_list_schema.size,
                    1000, 2500);
    assert_in_range(p->expand_task_system.size + p->expand_task_user.size +
                        p->subtask_list_schema.size,
                    1000, 2500);
    assert_in_range(p->generate_task_system.size + p->generate_task_user.size +
                        p->task_schema.size,
                    1000, 2500);
    assert_in_range(p->analyze_complexity_system.size +
                        p->analyze_complexity_user.size +
                        p->analysis_list_schema.size,
                    1000, 2500);
    assert_in_range(p->research_system.size + p->research_user.size +
                        p->research_schema.size,
                    1000, 2500);
}

static void assert_bad(const struct prompts *prompts, const char *file,
                       const char *word)
{
    struct error err;

    assert_false(prompts_check(prompts, &err));
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    assert_string_equal(err.path, file);
    if (!strstr(err.message, word))
        fail_msg("%s is not in: %s", word, err.message);
}

static void a_name_that_means_nothing_is_found_at_start(void **state)
{
    struct prompts prompts = assets.prompts;

    (void)state;
    prompts.parse_prd_user = slice_of("{{document}} {{count}} {{documnet}}");
    assert_bad(&prompts, "prompts/parse_prd.user.txt", "{{documnet}}");
    prompts = assets.prompts;
    prompts.parse_prd_system = slice_of("{{count}}");
    assert_bad(&prompts, "prompts/parse_prd.system.txt", "{{count}}");
}

/* Each text with one of its names taken out. */
static void a_text_that_would_lose_the_callers_is_found_at_start(void **state)
{
    struct prompts prompts = assets.prompts;
    const struct {
        struct slice *text;
        const char *file;
        const char *rest; /* what stays */
        const char *lost;
    } cases[] = {
        {&prompts.generate_task_user, "generate_task.user", "", "request"},
        {&prompts.parse_prd_user, "parse_prd.user", "{{count}}", "document"},
        {&prompts.parse_prd_user, "parse_prd.user", "{{document}}", "count"},
        {&prompts.expand_task_user, "expand_task.user", "{{context}}{{count}}",
         "task"},
        {&prompts.expand_task_user, "expand_task.user", "{{task}}{{count}}",
         "context"},
        {&prompts.expand_task_user, "expand_task.user", "{{task}}{{context}}",
         "count"},
        {&prompts.repair, "repair", "Again!", "fault"},
        {&prompts.continuation, "continuation", "{{count}}", "done"},
        {&prompts.continuation, "continuation", "{{done}}", "count"},
        {&prompts.object, "object", "JSON!", "schema"},
        {&prompts.analyze_complexity_user, "analyze_complexity.user",
         "{{count}}", "tasks"},
        {&prompts.analyze_complexity_user, "analyze_complexity.user",
         "{{tasks}}", "count"},
        {&prompts.research_user, "research.user", "{{context}}", "topic"},
        {&prompts.research_user, "research.user", "{{topic}}", "context"},
        {&prompts.merge, "merge", "{{count}}", "tasks"},
        {&prompts.merge, "merge", "{{tasks}}", "count"},
        {&prompts.language, "language", "Deutsch!", "language"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct slice kept = *cases[i].text;

        *cases[i].text = slice_of(cases[i].rest);
        assert_bad(
            &prompts,
            arena_printf(&arena, "prompts/%s.txt", cases[i].file).data,
            arena_printf(&arena, "must have {{%s}}", cases[i].lost).data);
        *cases[i].text = kept;
    }
}

static void what_exists_and_the_next_id_may_be_left_out(void **state)
{
    struct prompts prompts = assets.prompts;
    struct error err;

    (void)state;
    prompts.generate_task_user = slice_of("{{request}}");
    prompts.parse_prd_user = slice_of("{{document}}{{count}}");
    prompts.expand_task_user = slice_of("{{task}}{{context}}{{count}}");
    prompts.continuation = slice_of("{{done}}{{count}}");
    prompts.merge = slice_of("{{tasks}}{{count}}");
    assert_true(prompts_check(&prompts, &err));
}

static void a_schema_must_be_one_and_strict(void **state)
{
    struct prompts prompts = assets.prompts;

    (void)state;
    prompts.task_schema = slice_of("{");
    assert_bad(&prompts, "schemas/task.json", "JSON");
    prompts.task_schema = slice_of("{\"type\":\"object\"}");
    assert_bad(&prompts, "schemas/task.json", "strict");
    prompts = assets.prompts;
    prompts.task_list_schema = slice_of("{\"typ\":\"object\"}");
    assert_bad(&prompts, "schemas/task_list.json.typ", "not supported");
}

static void the_catalogue_knows_the_default_models(void **state)
{
    const struct model *model = catalogue_find(
        &assets.catalogue, slice_of("openai"), slice_of("gpt-5.4-mini"));

    (void)state;
    assert_non_null(model);
    assert_true(model->prices.input > 0);
    assert_true(model->sampling);
    model = catalogue_find(&assets.catalogue, slice_of("openai"),
                           slice_of("gpt-5-mini"));
    assert_non_null(model);
    assert_false(model->sampling);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_put_in_and_not_looked_into),
        cmocka_unit_test(unknown_and_open_names_stay),
        cmocka_unit_test(a_document_cannot_close_its_tag),
        cmocka_unit_test(other_text_is_lent_as_it_is),
        cmocka_unit_test(the_texts_in_priv_pass),
        cmocka_unit_test(the_texts_of_an_operation_are_short),
        cmocka_unit_test(a_name_that_means_nothing_is_found_at_start),
        cmocka_unit_test(a_text_that_would_lose_the_callers_is_found_at_start),
        cmocka_unit_test(what_exists_and_the_next_id_may_be_left_out),
        cmocka_unit_test(a_schema_must_be_one_and_strict),
        cmocka_unit_test(the_catalogue_knows_the_default_models),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
