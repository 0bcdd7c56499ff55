/* The configuration file: what is wrong is named with its place; routes; what
 * is printed can be read again. */
#include "tests/test_config_files.h"

#include <sys/prctl.h>

#include "llm_router/base/log.h"

static void a_wrong_key_is_named_with_file_line_and_column(void **state)
{
    static const struct {
        const char *json, *key, *says;
    } rows[] = {
        {"{\"timeouts\": {\n \"idel_ms\": 1}}", "timeouts.idel_ms",
         "line 2, column 2: timeouts.idel_ms: there is no such key; did you "
         "mean \"idle_ms\"?"},
        {"{\"timeout\": {}}", "timeout",
         "line 1, column 2: timeout: there is no such key; did you mean "
         "\"timeouts\"?"},
        {"{\"flux_capacitor\": {}}", "flux_capacitor",
         "line 1, column 2: flux_capacitor: there is no such key"},
        {"{\"timeouts\": {\"idle_ms\": \"1\"}}", "timeouts.idle_ms",
         "line 1, column 26: timeouts.idle_ms: must be a whole number"},
        {"{\n \"limits\": {\n  \"in_flight\": 0}}", "limits.in_flight",
         "line 3, column 16: limits.in_flight: 0 is not between 1 and "
         "1000000"},
        {"{\"timeouts\": 3}", "timeouts",
         "line 1, column 14: timeouts: must be an object"},
        {"{\"cache\": {\"default\": 1}}", "cache.default",
         "column 23: cache.default: must be true or false"},
        {"{\"budget\": {\"usd_per_day\": 0}}", "budget.usd_per_day",
         "column 28: budget.usd_per_day: must be more than 0 and at most"},
        {"{\"budget\": {\"usd_per_day\": null}}", "budget.usd_per_day",
         "must be a number"},
        {"{\"tls\": {\"ca_file\": \"a\\nb\"}}", "tls.ca_file",
         "must not have control characters"},
        {"{\"log\": {\"level\": \"loud\"}}", "log.level",
         "'loud' is not error, warn, info or debug"},
        {"{\"a\\nb\": 1}", "a?b", "a?b: there is no such key"},
        {"{\"allow\": {\"call\": [\"*\",\n\"a b\"]}}", "allow.call[1]",
         "line 2, column 1: allow.call[1]: entry 2 is not a pattern"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(load_json(rows[i].json));
        assert_string_equal(err.path, rows[i].key);
        assert_memory_equal(err.message, path, strlen(path));
        if (!strstr(err.message, rows[i].says))
            fail_msg("\"%s\" is not in \"%s\"", rows[i].says, err.message);
    }
}

static void a_long_path_shows_its_end(void **state)
{
    char name[200], json[300];

    (void)state;
    memset(name, 'k', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    snprintf(json, sizeof(json), "{\"%s\": 1}", name);
    assert_false(load_json(json));
    assert_non_null(strstr(err.message, "config.json: line 1, column 2: kkk"));
    assert_non_null(strstr(err.message, "there is no such key"));
}

static void a_syntax_error_names_line_and_column(void **state)
{
    (void)state;
    assert_false(load_json("{\n  \"retry\": {,}\n}"));
    assert_non_null(strstr(err.message, "line 2, column"));
    assert_string_equal(err.path, path);
    assert_false(load_json("{\"retry\": {\"max\": 1, \"max\": 2}}"));
    assert_non_null(strstr(err.message, "line 1, column"));
    assert_false(load_json("{\"api_key\" \"s3cr3t\"}"));
    assert_non_null(strstr(err.message, "line 1, column"));
    assert_null(strstr(err.message, "s3cr3t"));
    assert_false(load_json("[]"));
    assert_non_null(strstr(err.message, "must be an object"));
}

/* Routes. */

static void routes_are_lists_or_objects_with_a_strategy(void **state)
{
    const struct route *route;

    (void)state;
    assert_true(load_json(
        "{\"routes\": {\"simple\": [\"a\", \"b/c\"],"
        " \"complex/code_generation\": {\"strategy\": \"weighted\","
        "  \"candidates\": [{\"model\": \"a/b\", \"weight\": 2.5}, \"c/d\"]},"
        " \"*/qa\": {\"strategy\": \"cheapest\", \"candidates\": [\"e\"]},"
        " \"embed\": [\"x/y\"]}}"));
    assert_int_equal(config.route_count, 5);
    assert_int_equal(config.routes[0].count, 2);
    assert_slice(config.routes[0].candidates[1].model, "b/c");
    assert_int_equal(config.routes[0].strategy, STRATEGY_ORDERED);
    route = &config.routes[3];
    assert_int_equal(route->complexity, COMPLEXITY_COMPLEX);
    assert_slice(route->task_type, "code_generation");
    assert_int_equal(route->strategy, STRATEGY_WEIGHTED);
    assert_true(route->candidates[0].weight > 2.4);
    assert_true(route->candidates[1].weight > 0.9 &&
                route->candidates[1].weight < 1.1);
    route = &config.routes[4];
    assert_int_equal(route->complexity, COMPLEXITY_UNSET);
    assert_slice(route->task_type, "qa");
    assert_int_equal(route->strategy, STRATEGY_CHEAPEST);
    assert_int_equal(config.embed_route->count, 1);
}

static void a_route_of_the_environment_replaces_one_of_the_file(void **state)
{
    (void)state;
    setenv("LLM_ROUTER_ROUTES_SIMPLE", " p/q , r", 1);
    assert_true(load_json("{\"routes\": {\"simple\": {\"strategy\": "
                          "\"fastest\", \"candidates\": [\"a\"]}}}"));
    assert_int_equal(config.routes[0].count, 2);
    assert_slice(config.routes[0].candidates[0].model, "p/q");
    assert_int_equal(config.routes[0].strategy, STRATEGY_ORDERED);
    setenv("LLM_ROUTER_ROUTES_SIMPLE", "p/q,,r", 1);
    assert_false(load());
    assert_string_equal(err.path, "LLM_ROUTER_ROUTES_SIMPLE");
    assert_non_null(strstr(err.message, "entry 2"));
}

static void a_wrong_route_is_named(void **state)
{
    static const struct {
        const char *json, *key, *says;
    } rows[] = {
        {"{\"simple\": []}", "routes.simple", "1 to 32 models"},
        {"{\"simple\": 1}", "routes.simple", "must be an object"},
        {"{\"smiple\": [\"a\"]}", "routes.smiple", "did you mean \"simple\"?"},
        {"{\"simple/a b\": [\"a\"]}", "routes.simple/a b",
         "COMPLEXITY/TASK_TYPE"},
        {"{\"hard/qa\": [\"a\"]}", "routes.hard/qa", "COMPLEXITY/TASK_TYPE"},
        {"{\"simple\": [\"a b\"]}", "routes.simple[0]", "is not a model"},
        {"{\"simple\": [\"a/../b\"]}", "routes.simple[0]", "is not a model"},
        {"{\"simple\": [\"a\", 3]}", "routes.simple[1]", "must be a model"},
        {"{\"simple\": {\"strategy\": \"fastest\"}}", "routes.simple",
         "needs candidates"},
        {"{\"simple\": {\"strategy\": \"best\", \"candidates\": [\"a\"]}}",
         "routes.simple.strategy", "must be \"ordered\""},
        {"{\"simple\": {\"candidates\": [{\"weight\": 1}]}}",
         "routes.simple.candidates[0]", "needs a model"},
        {"{\"simple\": {\"candidates\": [{\"model\": \"a\", \"weight\": 0}]}}",
         "routes.simple.candidates[0].weight", "more than 0"},
        {"{\"simple\": {\"candidate\": [\"a\"]}}", "routes.simple.candidate",
         "did you mean \"candidates\"?"},
    };
    char json[200];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(json, sizeof(json), "{\"routes\": %s}", rows[i].json);
        assert_false(load_json(json));
        assert_string_equal(err.path, rows[i].key);
        if (!strstr(err.message, rows[i].says))
            fail_msg("\"%s\" is not in \"%s\"", rows[i].says, err.message);
    }
}

/* Printing and reloading. */

static void
what_is_printed_is_a_configuration_that_prints_the_same(void **state)
{
    static const char json[] =
        "{\"providers\": {\"openai\": {\"keys\": ["
        "   {\"name\": \"one\", \"env\": \"OPENAI_API_KEY\","
        "    \"requests_per_minute\": 60, \"budget_usd_per_day\": 1.5},"
        "   {\"name\": \"two\", \"env\": \"XAI_API_KEY\"}], \"in_flight\": 9},"
        "  \"local\": {\"base_url\": \"http://127.0.0.1:1/v1/\","
        "   \"tokens_per_minute\": 5}},"
        " \"routes\": {\"*/qa\": {\"strategy\": \"weighted\", \"candidates\":"
        "   [{\"model\": \"a\", \"weight\": 2}, \"b\"]}},"
        " \"limits\": {\"queued\": 5}, \"budget\": {\"usd_per_month\": 7},"
        " \"core\": {\"dump\": true}, \"log\": {\"level\": \"error\"}}";
    struct buf first, second;

    (void)state;
    setenv("XAI_API_KEY", "xai-secret", 1);
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    assert_true(load_json(json));
    config_put(&config, &first);
    buf_append_byte(&first, '\0');
    assert_null(strstr(first.data, "sk-test"));
    assert_null(strstr(first.data, "xai-secret"));
    assert_non_null(strstr(first.data, "\"***\""));
    if (!load_json(first.data))
        fail_msg("%s", err.message);
    config_put(&config, &second);
    buf_append_byte(&second, '\0');
    assert_string_equal(first.data, second.data);
    assert_int_equal(config.providers[0].key_count, 2);
    assert_int_equal(config.providers[0].keys[0].limits.requests_per_minute,
                     60);
    buf_release(&first);
    buf_release(&second);
}

static void only_what_is_read_at_start_needs_one(void **state)
{
    struct config other;

    (void)state;
    config_init(&other);
    assert_true(load());
    assert_true(config_load(&other, NULL, &err));
    config.node_name = other.node_name = "llm_router@host";
    assert_null(config_needs_restart(&config, &other));
    other.max_in_flight = 5;
    other.idle_timeout_ms = 5;
    assert_null(config_needs_restart(&config, &other));
    other.port = 4000;
    assert_string_equal(config_needs_restart(&config, &other), "node.port");
    other.port = config.port;
    other.ca_file = slice_of("other.pem");
    assert_string_equal(config_needs_restart(&config, &other), "tls.ca_file");
    config_release(&other);
}

/* What the kernel shows of this process. */
static bool environment_shows(const char *text)
{
    static char shown[1 << 20];
    FILE *file = fopen("/proc/self/environ", "r");
    size_t size;

    assert_non_null(file);
    size = fread(shown, 1, sizeof(shown), file);
    fclose(file);
    return slice_find(slice_make(shown, size), slice_of(text)) >= 0;
}

/* main() has put the canary into the block that exec made. */
static void secrets_are_hidden_and_a_reload_still_has_them(void **state)
{
    struct config next;

    (void)state;
    assert_true(environment_shows("sk-canary-4711"));
    assert_true(load_json("{\"core\": {\"dump\": true}, \"providers\": "
                          "{\"other\": {\"base_url\": \"https://h/v1\","
                          " \"api_key_env\": \"CANARY_KEY\"}}}"));
    setenv("RELEASE_COOKIE", "oatmeal", 1);
    assert_true(config_load_cookie(&config, &err));
    config_hide_secrets(&config);
    assert_false(environment_shows("sk-canary-4711"));
    assert_string_equal(getenv("OPENAI_API_KEY"), "");
    assert_string_equal(getenv("RELEASE_COOKIE"), "");
    config_init(&next);
    next.file = config.file;
    assert_true(config_load(&next, &config, &err));
    assert_int_equal(next.provider_count, 2);
    config_release(&config); /* the next one has copies */
    config = next;
    assert_slice(config.providers[0].keys[0].secret, "sk-canary-4711");
    assert_slice(config.providers[1].keys[0].secret, "sk-test");
    assert_true(config_load_cookie(&config, &err));
    assert_slice(config.cookie, "oatmeal");
}

static void a_variable_that_is_not_needed_is_hidden_too(void **state)
{
    (void)state;
    setenv("GEMINI_API_KEY", "g-first", 1);
    setenv("GOOGLE_API_KEY", "g-second", 1);
    assert_true(load_json("{\"core\": {\"dump\": true}}"));
    config_hide_secrets(&config);
    assert_string_equal(getenv("GEMINI_API_KEY"), "");
    assert_string_equal(getenv("GOOGLE_API_KEY"), "");
}

static void no_core_file_is_written_unless_the_key_says_so(void **state)
{
    (void)state;
    assert_true(load_json("{\"core\": {\"dump\": true}}"));
    config_hide_secrets(&config);
    assert_int_equal(prctl(PR_GET_DUMPABLE, 0L, 0L, 0L, 0L), 1);
    setenv("OPENAI_API_KEY", "sk-test", 1); /* it was wiped */
    assert_true(load());
    config_hide_secrets(&config);
    assert_int_equal(prctl(PR_GET_DUMPABLE, 0L, 0L, 0L, 0L), 0);
    prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_wrong_key_is_named_with_file_line_and_column),
        TEST(a_long_path_shows_its_end),
        TEST(a_syntax_error_names_line_and_column),
        TEST(routes_are_lists_or_objects_with_a_strategy),
        TEST(a_route_of_the_environment_replaces_one_of_the_file),
        TEST(a_wrong_route_is_named),
        TEST(what_is_printed_is_a_configuration_that_prints_the_same),
        TEST(only_what_is_read_at_start_needs_one),
        TEST(secrets_are_hidden_and_a_reload_still_has_them),
        TEST(a_variable_that_is_not_needed_is_hidden_too),
        TEST(no_core_file_is_written_unless_the_key_says_so),
    };

    (void)argc;
    if (!getenv("CANARY_KEY")) {
        setenv("CANARY_KEY", "sk-canary-4711", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    log_set_level(LOG_ERROR);
    RUN(tests);
}
