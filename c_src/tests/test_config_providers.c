/* Providers: their variables, the file, keys and addresses. */
#include "tests/test_config_files.h"

#include <math.h>

#include "llm_router/base/log.h"

static void a_base_url_must_be_one(void **state)
{
    static const char *const bad[] = {
        "ftp://x",        "api.openai.com",      "https://",
        "https://a b/v1", "https://u:p@host/v1", "https://host/v1?key=1"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("OPENAI_BASE_URL", bad[i], 1);
        assert_false(load());
        assert_string_equal(err.path, "OPENAI_BASE_URL");
    }
    setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1/", 1);
    assert_true(load());
    assert_slice(config.providers[0].base_url, "http://127.0.0.1:11434/v1");
    assert_true(config.providers[0].plain_http);
}

static void a_key_file_is_trimmed_and_must_be_private(void **state)
{
    (void)state;
    setenv("OPENAI_API_KEY", "", 1);
    setenv("OPENAI_API_KEY_FILE", write_file("key", "sk-file\r\n", 0600), 1);
    assert_true(load());
    assert_slice(config.providers[0].keys[0].secret, "sk-file");
    chmod(path, 0644);
    assert_false(load());
    assert_string_equal(err.path, path);
    assert_null(strstr(err.message, "sk-file"));
}

static void an_empty_key_file_is_no_key(void **state)
{
    (void)state;
    setenv("OPENAI_API_KEY", "", 1);
    setenv("OPENAI_API_KEY_FILE", write_file("key", "\n", 0600), 1);
    assert_false(load());
    assert_string_equal(err.path, "providers");
}

static void a_key_cannot_inject_a_header(void **state)
{
    (void)state;
    setenv("OPENAI_API_KEY", "sk-a\r\nX-Evil: 1", 1);
    assert_false(load());
    assert_null(strstr(err.message, "sk-a"));
}

static void
every_known_provider_is_switched_on_by_its_own_variables(void **state)
{
    static const struct {
        const char *variable, *value, *provider, *dialect, *url;
    } rows[] = {
        {"ANTHROPIC_API_KEY", "k", "anthropic", "anthropic",
         "https://api.anthropic.com"},
        {"ANTHROPIC_BASE_URL", "http://127.0.0.1:9", "anthropic", "anthropic",
         "http://127.0.0.1:9"},
        {"GEMINI_API_KEY", "k", "gemini", "gemini",
         "https://generativelanguage.googleapis.com"},
        {"GOOGLE_API_KEY", "k", "gemini", "gemini",
         "https://generativelanguage.googleapis.com"},
        {"OLLAMA_HOST", "127.0.0.1", "ollama", "ollama",
         "http://127.0.0.1:11434"},
        {"OLLAMA_HOST", "box:99", "ollama", "ollama", "http://box:99"},
        {"OLLAMA_HOST", ":99", "ollama", "ollama", "http://127.0.0.1:99"},
        {"OLLAMA_HOST", "[::1]", "ollama", "ollama", "http://[::1]:11434"},
        {"OLLAMA_HOST", "[::1]:99", "ollama", "ollama", "http://[::1]:99"},
        {"OLLAMA_HOST", "https://box/ollama/", "ollama", "ollama",
         "https://box/ollama"},
        {"OPENROUTER_API_KEY", "k", "openrouter", "openai",
         "https://openrouter.ai/api/v1"},
        {"GROQ_API_KEY", "k", "groq", "openai",
         "https://api.groq.com/openai/v1"},
        {"MISTRAL_API_KEY", "k", "mistral", "openai",
         "https://api.mistral.ai/v1"},
        {"DEEPSEEK_API_KEY", "k", "deepseek", "openai",
         "https://api.deepseek.com/v1"},
        {"XAI_API_KEY", "k", "xai", "openai", "https://api.x.ai/v1"},
        {"VLLM_BASE_URL", "http://gpu:8000/v1", "vllm", "openai",
         "http://gpu:8000/v1"},
        {"LLAMACPP_BASE_URL", "http://127.0.0.1:8080/v1", "llamacpp", "openai",
         "http://127.0.0.1:8080/v1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        clear_environment();
        setenv(rows[i].variable, rows[i].value, 1);
        if (!load())
            fail_msg("%s: %s %s", rows[i].variable, err.path, err.message);
        assert_int_equal(config.provider_count, 1);
        assert_slice(config.providers[0].name, rows[i].provider);
        assert_slice(config.providers[0].dialect, rows[i].dialect);
        assert_slice(config.providers[0].base_url, rows[i].url);
        assert_int_equal(config.providers[0].key_count, 1);
        assert_slice(config.providers[0].keys[0].name, "default");
    }
}

static void azure_needs_its_endpoint_and_takes_its_version(void **state)
{
    (void)state;
    setenv("AZURE_OPENAI_API_KEY", "k", 1);
    assert_true(load());
    assert_int_equal(config.provider_count, 1); /* the other one, openai */
    setenv("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com/", 1);
    setenv("OPENAI_API_VERSION", "2024-10-21", 1);
    assert_true(load());
    assert_int_equal(config.provider_count, 2);
    assert_slice(config.providers[1].dialect, "azure");
    assert_slice(config.providers[1].base_url, "https://me.openai.azure.com");
    assert_slice(config.providers[1].api_version, "2024-10-21");
}

static void a_provider_of_the_file_has_keys_with_limits(void **state)
{
    const struct config_provider *provider;

    (void)state;
    write_file("key", "sk-file\n", 0600);
    setenv("XAI_API_KEY", "sk-two", 1);
    assert_true(chdir(directory) == 0);
    assert_true(load_json(
        "{\"providers\": {\"team\": {\"base_url\": \"https://h/v1\","
        " \"organization\": \"o\", \"in_flight\": 3, \"keys\": ["
        " {\"name\": \"a\", \"file\": \"key\", \"requests_per_minute\": 5},"
        " {\"name\": \"b\", \"env\": \"XAI_API_KEY\","
        "  \"tokens_per_minute\": 6, \"budget_usd_per_month\": 0.5},"
        " {\"name\": \"c\", \"env\": \"NO_SUCH_VARIABLE\"}]}}}"));
    provider = &config.providers[0];
    assert_slice(provider->name, "team");
    assert_slice(provider->dialect, "openai");
    assert_int_equal(provider->in_flight, 3);
    assert_int_equal(provider->key_count, 2); /* an empty key is none */
    assert_slice(provider->keys[0].name, "a");
    assert_slice(provider->keys[0].secret, "sk-file");
    assert_int_equal(provider->keys[0].limits.requests_per_minute, 5);
    assert_true(isnan(provider->keys[0].limits.budget.month_usd));
    assert_slice(provider->keys[1].secret, "sk-two");
    assert_int_equal(provider->keys[1].limits.tokens_per_minute, 6);
    assert_true(provider->keys[1].limits.budget.month_usd > 0.4);
    assert_int_equal(provider->keys[1].limits.requests_per_minute, 0);
    assert_true(config.state_file.size > 0); /* there is a budget */
}

static void one_key_needs_no_list(void **state)
{
    (void)state;
    assert_true(load_json("{\"providers\": {\"openai\": "
                          "{\"requests_per_minute\": 7}, "
                          "\"b\": {\"base_url\": \"https://h\", "
                          "\"api_key_env\": \"OPENAI_API_KEY\", "
                          "\"tokens_per_minute\": 8}}}"));
    assert_int_equal(config.provider_count, 2);
    assert_slice(config.providers[0].keys[0].secret, "sk-test");
    assert_int_equal(config.providers[0].keys[0].limits.requests_per_minute, 7);
    assert_slice(config.providers[1].keys[0].secret, "sk-test");
    assert_int_equal(config.providers[1].keys[0].limits.tokens_per_minute, 8);
}

static void keys_of_the_file_win_over_the_providers_own_variable(void **state)
{
    (void)state;
    setenv("XAI_API_KEY", "from-elsewhere", 1);
    assert_true(load_json("{\"providers\": {\"openai\": "
                          "{\"api_key_env\": \"XAI_API_KEY\"}}}"));
    assert_slice(config.providers[0].keys[0].secret, "from-elsewhere");
    assert_true(load_json("{\"providers\": {\"openai\": "
                          "{\"api_key_env\": \"NOT_SET\"}}}"));
    assert_slice(config.providers[0].keys[0].secret, "sk-test");
}

static void another_name_of_a_provider_is_the_provider(void **state)
{
    (void)state;
    setenv("GEMINI_API_KEY", "g", 1);
    assert_true(load_json("{\"providers\": {\"google\": {\"in_flight\": 4}}}"));
    assert_slice(config.providers[0].name, "gemini");
    assert_int_equal(config.providers[0].in_flight, 4);
    assert_slice(config.providers[0].keys[0].secret, "g");
}

static void a_wrong_provider_is_named(void **state)
{
    static const struct {
        const char *json, *key, *says;
    } rows[] = {
        {"{\"x\": {\"url\": \"a\"}}", "providers.x.url",
         "there is no such key"},
        {"{\"x\": {\"base_ulr\": \"a\"}}", "providers.x.base_ulr",
         "did you mean \"base_url\"?"},
        {"{\"x\": {\"base_url\": 3}}", "providers.x.base_url",
         "must be a string"},
        {"{\"x\": {\"base_url\": \"ftp://x\"}}", "providers.x.base_url",
         "must begin with https://"},
        {"{\"x\": {}}", "providers.x", "needs a base_url"},
        {"{\"x/y\": {\"base_url\": \"https://h\"}}", "providers.x/y",
         "letters, digits"},
        {"{\"x\": 3}", "providers.x", "must be an object"},
        {"{\"openai\": {\"dialect\": \"klingon\"}}", "providers.openai.dialect",
         "must be \"openai\""},
        {"{\"openai\": {\"api_key\": \"sk-oops\"}}", "providers.openai.api_key",
         "does not belong into this file"},
        {"{\"openai\": {\"keys\": [{\"api_key\": \"sk-oops\"}]}}",
         "providers.openai.keys[0].api_key", "does not belong into this file"},
        {"{\"openai\": {\"project\": \"a\\r\\nX-Evil: 1\"}}",
         "providers.openai.project", "control characters"},
        {"{\"openai\": {\"keys\": []}}", "providers.openai.keys", "1 to 32"},
        {"{\"openai\": {\"keys\": [{}]}}", "providers.openai.keys[0]",
         "either \"env\" or \"file\""},
        {"{\"openai\": {\"keys\": [{\"env\": \"A\", \"file\": \"b\"}]}}",
         "providers.openai.keys[0]", "either \"env\" or \"file\""},
        {"{\"openai\": {\"keys\": [{\"env\": \"A\"}, {\"env\": \"B\"}]}}",
         "providers.openai.keys[0]", "needs a name"},
        {"{\"openai\": {\"keys\": [{\"env\": \"OPENAI_API_KEY\", \"name\": "
         "\"a\"}, {\"env\": \"OPENAI_API_KEY\", \"name\": \"a\"}]}}",
         "providers.openai.keys[1]", "two keys of that name"},
        {"{\"openai\": {\"keys\": [{\"env\": \"A\"}], "
         "\"requests_per_minute\": 1}}",
         "providers.openai.requests_per_minute", "entries of \"keys\""},
        {"{\"openai\": {\"keys\": [{\"file\": \"/nonexistent\"}]}}",
         "providers.openai.keys[0]", "/nonexistent: cannot be read"},
        {"{\"openai\": {\"api_key_env\": \"A\", \"api_key_file\": \"b\"}}",
         "providers.openai", "exclude each other"},
        {"{\"openai\": {\"requests_per_minute\": 0}}",
         "providers.openai.requests_per_minute", "is not between 1"},
    };
    char json[300];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(json, sizeof(json), "{\"providers\": %s}", rows[i].json);
        if (load_json(json))
            fail_msg("accepted: %s", json);
        assert_string_equal(err.path, rows[i].key);
        if (!strstr(err.message, rows[i].says))
            fail_msg("\"%s\" is not in \"%s\"", rows[i].says, err.message);
        assert_non_null(strstr(err.message, "line 1, column "));
        assert_null(strstr(err.message, "sk-oops"));
    }
}

static void a_key_cannot_inject_a_header_from_a_file(void **state)
{
    (void)state;
    write_file("key", "sk-a\r\nX-Evil: 1", 0600);
    assert_true(chdir(directory) == 0);
    assert_false(load_json(
        "{\"providers\": {\"openai\": {\"api_key_file\": \"key\"}}}"));
    assert_null(strstr(err.message, "sk-a"));
    assert_non_null(strstr(err.message, "control character"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_base_url_must_be_one),
        TEST(a_key_file_is_trimmed_and_must_be_private),
        TEST(an_empty_key_file_is_no_key),
        TEST(a_key_cannot_inject_a_header),
        TEST(every_known_provider_is_switched_on_by_its_own_variables),
        TEST(azure_needs_its_endpoint_and_takes_its_version),
        TEST(a_provider_of_the_file_has_keys_with_limits),
        TEST(one_key_needs_no_list),
        TEST(keys_of_the_file_win_over_the_providers_own_variable),
        TEST(another_name_of_a_provider_is_the_provider),
        TEST(a_wrong_provider_is_named),
        TEST(a_key_cannot_inject_a_header_from_a_file),
    };

    log_set_level(LOG_ERROR);
    RUN(tests);
}
