#include "llm_router/core/catalogue.h"

#include "unit.h"

static const struct slice OLD_NAMES[] = {SLICE_LITERAL("gpt-old"),
                                         SLICE_LITERAL("gpt-4")};
static const struct slice SHADOWED[] = {SLICE_LITERAL("gpt-large")};

static const struct model MODELS[] = {
    {.provider = SLICE_LITERAL("openai"),
     .id = SLICE_LITERAL("gpt-small"),
     .aliases = SHADOWED,
     .alias_count = 1},
    {.provider = SLICE_LITERAL("openai"),
     .id = SLICE_LITERAL("gpt-large"),
     .aliases = OLD_NAMES,
     .alias_count = 2},
    {.provider = SLICE_LITERAL("azure"),
     .id = SLICE_LITERAL("gpt-large"),
     .aliases = OLD_NAMES,
     .alias_count = 1},
    {.provider = SLICE_LITERAL("openai"), .id = SLICE_LITERAL("gpt-large")},
};

static int set_up(void **state)
{
    static struct catalogue catalogue;

    catalogue = (struct catalogue){.models = MODELS, .count = 4};
    catalogue_index(&catalogue, 1);
    *state = &catalogue;
    return 0;
}

static int tear_down(void **state)
{
    catalogue_release(*state);
    return 0;
}

static const struct model *find(const struct catalogue *catalogue,
                                const char *provider, const char *id)
{
    return catalogue_find(catalogue, slice_of(provider), slice_of(id));
}

static bool is_provider(const void *context, struct slice provider)
{
    return slice_is(provider, context);
}

static const struct model *find_at(const struct catalogue *catalogue,
                                   const char *id, const char *usable)
{
    return catalogue_find_anywhere(catalogue, slice_of(id), is_provider,
                                   usable);
}

static void a_model_is_found_by_its_id_and_its_aliases(void **state)
{
    assert_ptr_equal(find(*state, "openai", "gpt-small"), &MODELS[0]);
    assert_ptr_equal(find(*state, "openai", "gpt-old"), &MODELS[1]);
    assert_ptr_equal(find(*state, "openai", "gpt-4"), &MODELS[1]);
    assert_ptr_equal(find(*state, "azure", "gpt-old"), &MODELS[2]);
    assert_null(find(*state, "azure", "gpt-4"));
    assert_null(find(*state, "azure", "gpt-small"));
    assert_null(find(*state, "", "gpt-small"));
    assert_null(find(*state, "openai", ""));
}

static void an_id_has_its_name_before_an_alias_and_the_first_row(void **state)
{
    assert_ptr_equal(find(*state, "openai", "gpt-large"), &MODELS[1]);
}

static void a_bare_name_means_the_first_row_that_can_be_used(void **state)
{
    assert_ptr_equal(find_at(*state, "gpt-large", "openai"), &MODELS[1]);
    assert_ptr_equal(find_at(*state, "gpt-large", "azure"), &MODELS[2]);
    assert_ptr_equal(find_at(*state, "gpt-old", "azure"), &MODELS[2]);
    assert_ptr_equal(find_at(*state, "gpt-4", "azure"), &MODELS[1]);
    assert_ptr_equal(find_at(*state, "gpt-large", "nobody"), &MODELS[1]);
    assert_null(find_at(*state, "unheard-of", "openai"));
}

static void a_name_too_long_for_any_row_is_found_nowhere(void **state)
{
    char text[300];

    memset(text, 'x', sizeof(text));
    for (size_t size = 120; size < sizeof(text); size++)
        assert_null(catalogue_find(*state, slice_make(text, size),
                                   slice_make(text, 128)));
}

static void a_row_with_too_long_a_name_does_no_harm(void **state)
{
    static char text[300];
    struct model model = {.provider = slice_make(text, sizeof(text)),
                          .id = SLICE_LITERAL("small")};
    struct catalogue catalogue = {.models = &model, .count = 1};

    (void)state;
    memset(text, 'x', sizeof(text));
    catalogue_index(&catalogue, 1);
    assert_null(catalogue_find(&catalogue, model.provider, model.id));
    assert_ptr_equal(find_at(&catalogue, "small", "nobody"), &model);
    catalogue_release(&catalogue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_found_by_its_id_and_its_aliases),
        cmocka_unit_test(an_id_has_its_name_before_an_alias_and_the_first_row),
        cmocka_unit_test(a_bare_name_means_the_first_row_that_can_be_used),
        cmocka_unit_test(a_name_too_long_for_any_row_is_found_nowhere),
        cmocka_unit_test(a_row_with_too_long_a_name_does_no_harm),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
