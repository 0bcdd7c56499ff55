/* Documentation and example say what the tables in the code say. Runs from the
 * project's folder, as make does. */
#include "tests/test_config_files.h"

#include "llm_router/base/log.h"
#include "llm_router/config/assets.h"

static struct slice docs(const char *file)
{
    struct slice text;

    assert_true(file_read(&config.arena, file, 1 << 20, FILE_ANY, &text, &err));
    return text;
}

/* From a heading to the next one. */
static struct slice section_of(struct slice text, const char *heading)
{
    ptrdiff_t at = slice_find(text, slice_of(heading));
    ptrdiff_t end;

    if (at < 0)
        fail_msg("there is no heading %s", heading);
    text = slice_make(text.data + at + strlen(heading),
                      text.size - (size_t)at - strlen(heading));
    end = slice_find(text, SLICE_LITERAL("\n#"));
    return end < 0 ? text : slice_make(text.data, (size_t)end);
}

static bool has_row(struct slice text, const char *name, const char *rest)
{
    char row[300];

    snprintf(row, sizeof(row), "\n| `%s` |%s", name, rest);
    return slice_find(text, slice_of(row)) >= 0;
}

static size_t rows_of(struct slice text)
{
    size_t count = 0;
    ptrdiff_t at;

    while ((at = slice_find(text, SLICE_LITERAL("\n| `"))) >= 0) {
        text = slice_make(text.data + at + 1, text.size - (size_t)at - 1);
        count++;
    }
    return count;
}

static void every_key_is_documented_with_its_default(void **state)
{
    struct slice text = section_of(docs("docs/configuration.md"), "## Keys\n");
    struct config_key_view key;
    size_t count = 0;
    char name[100], value[100];

    (void)state;
    for (size_t i = 0; config_key(i, &key); i++) {
        bool is_number;

        if (!key.value)
            continue;
        count++;
        is_number = key.value[strspn(key.value, "0123456789")] == '\0';
        snprintf(name, sizeof(name), "%s.%s", key.section, key.name);
        snprintf(value, sizeof(value), is_number ? " %s |" : " `%s` |",
                 key.value);
        if (!has_row(text, name, key.value[0] ? value : " "))
            fail_msg("no row of %s with %s", name, value);
    }
    assert_int_equal(rows_of(text), count); /* and no other is promised */
}

static void every_key_of_the_other_tables_is_documented(void **state)
{
    static const struct {
        const char *section, *file, *heading;
    } places[] = {
        {"providers.NAME", "docs/configuration.md", "### In a provider\n"},
        {"providers.NAME.keys", "docs/configuration.md",
         "### In an entry of `keys`\n"},
        {"routes", "docs/configuration.md", "## Routes\n"},
        {"models", "docs/providers.md", "### In a row\n"},
    };
    struct config_key_view key;

    (void)state;
    for (size_t p = 0; p < sizeof(places) / sizeof(*places); p++) {
        struct slice text = section_of(docs(places[p].file), places[p].heading);
        size_t count = 0;

        for (size_t i = 0; config_key(i, &key); i++) {
            if (key.value || strcmp(key.section, places[p].section) != 0)
                continue;
            count++;
            if (!has_row(text, key.name, ""))
                fail_msg("%s has no row of %s", places[p].section, key.name);
        }
        assert_true(count > 0);
        assert_true(rows_of(text) >= count);
    }
}

static void every_variable_of_a_provider_is_documented(void **state)
{
    struct slice text = docs("docs/configuration.md");
    const char *provider, *variable;
    char quoted[100];

    (void)state;
    for (size_t i = 0; config_provider_variable(i, &provider, &variable); i++) {
        snprintf(quoted, sizeof(quoted), "`%s`", variable);
        if (slice_find(text, slice_of(quoted)) < 0)
            fail_msg("%s is not documented", variable);
        snprintf(quoted, sizeof(quoted), "| `%s` |", provider);
        if (slice_find(text, slice_of(quoted)) < 0)
            fail_msg("%s is not documented", provider);
    }
}

static void the_example_is_valid_and_has_every_section(void **state)
{
    struct slice text = docs("priv/config.example.json");
    struct config_key_view key;
    struct assets assets;
    char section[100];

    (void)state;
    for (size_t i = 0; config_key(i, &key); i++) {
        if (!strcmp(key.section, "models")) /* of another file */
            continue;
        snprintf(section, sizeof(section),
                 "\"%.*s\": ", (int)strcspn(key.section, "."), key.section);
        if (slice_find(text, slice_of(section)) < 0)
            fail_msg("the example has no %s", section);
        if (!key.value)
            continue;
        snprintf(section, sizeof(section), "\"%s\": ", key.name);
        if (slice_find(text, slice_of(section)) < 0)
            fail_msg("the example has no %s.%s", key.section, key.name);
    }
    setenv("ANTHROPIC_API_KEY", "k", 1);
    config.file = "priv/config.example.json";
    if (!config_load(&config, NULL, &err))
        fail_msg("%s", err.message);
    assert_true(config.provider_count >= 3);
    config.priv_dir = "priv";
    config.catalogue_file = slice_of(NULL);
    config.prompts_dir = slice_of(NULL);
    assert_true(assets_load(&config.arena, &config, &assets, &err));
    assets_release(&assets);
}

static void the_example_of_a_catalogue_is_valid(void **state)
{
    struct slice text =
        section_of(docs("docs/providers.md"), "### Your own rows\n");
    ptrdiff_t begin = slice_find(text, SLICE_LITERAL("```json\n"));
    struct assets assets;

    (void)state;
    assert_true(begin >= 0);
    text = slice_make(text.data + begin + 8, text.size - (size_t)begin - 8);
    text.size = (size_t)slice_find(text, SLICE_LITERAL("```"));
    setenv("LLM_ROUTER_CATALOGUE_FILE",
           write_file("models.json", arena_text(&config.arena, text), 0600), 1);
    assert_true(load());
    config.priv_dir = "priv";
    if (!assets_load(&config.arena, &config, &assets, &err))
        fail_msg("%s", err.message);
    assets_release(&assets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_key_is_documented_with_its_default),
        TEST(every_key_of_the_other_tables_is_documented),
        TEST(every_variable_of_a_provider_is_documented),
        TEST(the_example_is_valid_and_has_every_section),
        TEST(the_example_of_a_catalogue_is_valid),
    };

    log_set_level(LOG_ERROR);
    RUN(tests);
}
