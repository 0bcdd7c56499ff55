/* priv/ and what the user puts in its place. */
#include "tests/test_config_files.h"

#include <math.h>

#include "llm_router/base/log.h"
#include "llm_router/config/assets.h"

static struct assets assets;

static bool load_assets(void)
{
    if (!load())
        return false;
    config.priv_dir = "priv";
    return assets_load(&config.arena, &config, &assets, &err);
}

static bool load_catalogue(const char *json)
{
    setenv("LLM_ROUTER_CATALOGUE_FILE", write_file("models.json", json, 0600),
           1);
    return load_assets();
}

static const struct model *find(const char *provider, const char *id)
{
    return catalogue_find(&assets.catalogue, slice_of(provider), slice_of(id));
}

static void assert_price(double actual, double expected)
{
    if (!(fabs(actual - expected) < 1e-9))
        fail_msg("%f is not %f", actual, expected);
}

static void the_catalogue_has_every_default_model_and_vendor(void **state)
{
    static const char *const unlisted[] = {"azure", "openrouter", "groq",
                                           "ollama", "llamacpp"};

    (void)state;
    assert_true(load_assets());
    for (size_t i = 0; i < config.route_count; i++) {
        for (size_t k = 0; k < config.routes[i].count; k++) {
            struct slice name = config.routes[i].candidates[k].model;
            size_t slash = (size_t)slice_find(name, SLICE_LITERAL("/"));
            struct slice vendor = slice_make(name.data, slash);
            bool listed = true;

            for (size_t u = 0; u < sizeof(unlisted) / sizeof(*unlisted); u++)
                listed = listed && !slice_is(vendor, unlisted[u]);
            if (listed && !catalogue_find(&assets.catalogue, vendor,
                                          slice_make(name.data + slash + 1,
                                                     name.size - slash - 1)))
                fail_msg("%.*s is not in the catalogue", SLICE_ARG(name));
        }
    }
    assert_int_equal(find("openai", "text-embedding-3-small")->capabilities,
                     CAPABILITY_EMBEDDING);
    assert_non_null(find("gemini", "gemini-embedding-001"));
    assert_null(find("google", "gemini-2.5-pro"));
    assets_release(&assets);
}

static void quirks_are_data(void **state)
{
    const struct model *model;

    (void)state;
    assert_true(load_assets());
    model = find("openai", "gpt-6.1-sol");
    assert_int_equal(model->tools_api, API_RESPONSES);
    assert_false(model->sampling);
    assert_false(model->efforts & 1u << EFFORT_NONE);
    assert_false(model->efforts & 1u << EFFORT_MINIMAL);
    assert_true(model->efforts & 1u << EFFORT_XHIGH);
    model = find("openai", "gpt-6-luna");
    assert_int_equal(model->tools_api, API_CHAT);
    assert_int_equal(model->tools_effort, EFFORT_NONE);
    model = find("openai", "gpt-4.1"); /* known to take none */
    assert_int_equal(model->efforts, 1u << EFFORT_UNSET);
    model = find("gemini", "gemini-3.1-pro-preview");
    assert_int_equal(model->prices.long_over, 200000);
    assert_price(model->prices.long_output, 18);
    model = find("anthropic", "claude-haiku-5-5");
    assert_true(isnan(model->prices.cache_read)); /* unknown is not 0 */
    assert_int_equal(find("openai", "gpt-6.2-sol")->context_tokens, -1);
    assets_release(&assets);
}

static void historic_names_find_a_current_model(void **state)
{
    static const struct {
        const char *provider, *alias, *id;
    } rows[] = {
        {"gemini", "gemini-2.0-flash-exp", "gemini-2.5-flash"},
        {"anthropic", "claude-3-5-sonnet-20241022", "claude-sonnet-5"},
        {"openai", "gpt-5-codex", "gpt-5"},
        {"openai", "gpt-4o", "gpt-4o"},
    };

    (void)state;
    assert_true(load_assets());
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_non_null(find(rows[i].provider, rows[i].alias));
        assert_slice(find(rows[i].provider, rows[i].alias)->id, rows[i].id);
    }
    assets_release(&assets);
}

static void a_row_of_the_users_overrides_member_by_member(void **state)
{
    const struct model *model;
    size_t count;

    (void)state;
    assert_true(load_assets());
    count = assets.catalogue.count;
    assets_release(&assets);
    assert_true(load_catalogue(
        "{\"models\": ["
        "{\"provider\": \"openai\", \"id\": \"gpt-5\", \"in\": 9,"
        " \"cache_read\": null},"
        "{\"provider\": \"google\", \"id\": \"gemini-2.5-pro\", \"out\": 1},"
        "{\"provider\": \"local\", \"id\": \"qwen/3:8b\", \"in\": 0, \"out\": "
        "0, \"context\": 32768, \"structured\": \"json\", \"aliases\": "
        "[\"qwen\"], \"capabilities\": [\"tools\"], \"sampling\": true}]}"));
    assert_int_equal(assets.catalogue.count, count + 1);
    model = find("openai", "gpt-5");
    assert_price(model->prices.input, 9);
    assert_price(model->prices.output, 10); /* kept */
    assert_true(isnan(model->prices.cache_read));
    assert_false(model->sampling);                            /* kept */
    assert_slice(find("openai", "gpt-5-codex")->id, "gpt-5"); /* kept */
    assert_price(find("gemini", "gemini-2.5-pro")->prices.output, 1);
    model = find("local", "qwen");
    assert_slice(model->id, "qwen/3:8b");
    assert_price(model->prices.input, 0);
    assert_int_equal(model->max_output_tokens, -1);
    assert_int_equal(model->structured, STRUCTURED_JSON);
    assert_int_equal(model->capabilities, CAPABILITY_TOOLS);
    assets_release(&assets);
}

static void a_wrong_row_is_named_with_line_and_column(void **state)
{
    static const struct {
        const char *row, *key, *says;
    } rows[] = {
        {"\"in\": \"3\"", "models[0].in", "must be a number, or null"},
        {"\"in\": -1", "models[0].in", "must be 0 or more"},
        {"\"inn\": 1", "models[0].inn", "did you mean \"in\"?"},
        {"\"context\": 1.5", "models[0].context", "must be a whole number"},
        {"\"context\": -2", "models[0].context", "is not between 0"},
        {"\"structured\": \"xml\"", "models[0].structured",
         "must be \"schema\""},
        {"\"structured\": null", "models[0].structured", "must be \"schema\""},
        {"\"api\": \"rest\"", "models[0].api", "must be \"chat\""},
        {"\"tools_api\": 1", "models[0].tools_api", "must be \"chat\""},
        {"\"tools_effort\": \"lots\"", "models[0].tools_effort",
         "must be \"none\""},
        {"\"efforts\": [\"low\", \"lots\"]", "models[0].efforts[1]",
         "must be \"none\""},
        {"\"efforts\": \"low\"", "models[0].efforts", "must be a list"},
        {"\"capabilities\": [\"magic\"]", "models[0].capabilities[0]",
         "must be \"tools\""},
        {"\"aliases\": [\"a b\"]", "models[0].aliases[0]",
         "is not a model's id"},
        {"\"sampling\": 1", "models[0].sampling", "must be true or false"},
        {"\"id\": \"a/../b\"", "models[0].id", "is not a model's id"},
        {"\"provider\": \"\"", "models[0].provider", "is not a provider's"},
    };
    char json[300];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        bool has_id = strstr(rows[i].row, "\"id\"") != NULL;
        bool has_provider = strstr(rows[i].row, "\"provider\"") != NULL;

        snprintf(json, sizeof(json), "{\"models\": [\n{%s%s%s}]}",
                 has_provider ? "" : "\"provider\": \"p\", ",
                 has_id ? "" : "\"id\": \"m\", ", rows[i].row);
        if (load_catalogue(json))
            fail_msg("accepted: %s", json);
        assert_string_equal(err.path, rows[i].key);
        assert_memory_equal(err.message, path, strlen(path));
        if (!strstr(err.message, rows[i].says) ||
            !strstr(err.message, ": line 2, column "))
            fail_msg("\"%s\" is not in \"%s\"", rows[i].says, err.message);
    }
    assert_false(load_catalogue("{\"models\": [{\"provider\": \"p\"}]}"));
    assert_non_null(strstr(err.message, "needs a provider and an id"));
    assert_false(
        load_catalogue("{\"models\": [{\"provider\": \"p\", \"id\": \"m\"},"
                       "{\"provider\": \"p\", \"id\": \"m\"}]}"));
    assert_non_null(strstr(err.message, "two rows of p/m"));
    assert_false(load_catalogue("{\"model\": []}"));
    assert_non_null(strstr(err.message, "did you mean \"models\"?"));
    assert_false(load_catalogue("[]"));
}

static void a_prompt_of_the_users_stands_for_the_one_of_priv(void **state)
{
    (void)state;
    setenv("LLM_ROUTER_PROMPTS_DIRECTORY", directory, 1);
    write_file("object.txt", "Nothing but {{schema}}.\n", 0600);
    write_file("objekt.txt", "nobody reads this", 0600);
    assert_true(load_assets());
    assert_slice(assets.prompts.object, "Nothing but {{schema}}.");
    assert_true(assets.prompts.repair.size > 0);
    assets_release(&assets);
    write_file("object.txt", "Nothing but {{schemer}}.\n", 0600);
    assert_false(load_assets());
    assert_non_null(strstr(err.message, "{{schemer}}"));
    setenv("LLM_ROUTER_PROMPTS_DIRECTORY", "/nonexistent", 1);
    assert_false(load_assets());
    assert_string_equal(err.path, "/nonexistent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_catalogue_has_every_default_model_and_vendor),
        TEST(quirks_are_data),
        TEST(historic_names_find_a_current_model),
        TEST(a_row_of_the_users_overrides_member_by_member),
        TEST(a_wrong_row_is_named_with_line_and_column),
        TEST(a_prompt_of_the_users_stands_for_the_one_of_priv),
    };

    log_set_level(LOG_ERROR);
    RUN(tests);
}
