/* The command line, scalar keys, the cookie, and the documentation. */
#include "tests/test_config_files.h"

#include <math.h>

static bool parse(int argc, const char *const *argv)
{
    enum command command;

    return config_parse_arguments(&config, argc, argv, &command, &err);
}

static void defaults_and_one_key_are_enough(void **state)
{
    (void)state;
    assert_true(load());
    assert_int_equal(config.provider_count, 1);
    assert_slice(config.providers[0].base_url, "https://api.openai.com/v1");
    assert_slice(config.providers[0].keys[0].secret, "sk-test");
    assert_int_equal(config.idle_timeout_ms, 30000);
    assert_int_equal(config.max_queued, 10000);
    assert_true(isnan(config.budget.day_usd));
    assert_int_equal(config.state_file.size, 0);
    assert_int_equal(config.route_count, 3);
    assert_slice(config.routes[1].candidates[0].model, "openai/gpt-5.4-mini");
    assert_slice(config.embed_route->candidates[0].model,
                 "openai/text-embedding-3-small");
}

static void without_a_provider_there_is_no_start(void **state)
{
    (void)state;
    setenv("OPENAI_API_KEY", "", 1);
    assert_false(load());
    assert_string_equal(err.path, "providers");
}

static void the_environment_wins_over_the_file(void **state)
{
    (void)state;
    setenv("LLM_ROUTER_RETRY_MAX", "7", 1);
    assert_true(load_json("{\"retry\": {\"max\": 3},"
                          " \"timeouts\": {\"idle_ms\": 123},"
                          " \"cache\": {\"default\": true}}"));
    assert_int_equal(config.max_retries, 7);
    assert_int_equal(config.idle_timeout_ms, 123);
    assert_true(config.cache_by_default);
}

static void everybody_may_call_unless_a_list_says_who(void **state)
{
    (void)state;
    assert_true(load());
    assert_int_equal(config.may_call.count, 1);
    assert_slice(config.may_call.items[0], "*");
    assert_int_equal(config.may_admin.count, 1);
    assert_slice(config.may_admin.items[0], "*");
    setenv("LLM_ROUTER_ALLOW_ADMIN", " ops@host , *@10.0.0.* ", 1);
    assert_true(load_json("{\"allow\": {\"call\": [\"web*@*\"],"
                          " \"admin\": [\"web1@host\"]}}"));
    assert_int_equal(config.may_call.count, 1);
    assert_slice(config.may_call.items[0], "web*@*");
    assert_int_equal(config.may_admin.count, 2);
    assert_slice(config.may_admin.items[0], "ops@host");
    assert_slice(config.may_admin.items[1], "*@10.0.0.*");
}

static void a_wrong_pattern_names_its_key(void **state)
{
    static const char *const bad[] = {
        "[\"\"]", "[\"a b@c\"]", "[\"web?@*\"]", "[\"*\", \"a\\n\"]",
        "[]",     "\"*\"",       "[3]"};
    char json[200];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(json, sizeof(json), "{\"allow\": {\"admin\": %s}}", bad[i]);
        assert_false(load_json(json));
        assert_memory_equal(err.path, "allow.admin", 11);
    }
    config.file = NULL;
    setenv("LLM_ROUTER_ALLOW_CALL", "web@*, we b@*", 1);
    assert_false(load());
    assert_string_equal(err.path, "LLM_ROUTER_ALLOW_CALL");
    assert_non_null(strstr(err.message, "entry 2"));
    setenv("LLM_ROUTER_ALLOW_CALL", "web@*,", 1);
    assert_false(load());
    assert_string_equal(err.message, "an entry is empty");
}

static void lists_are_as_long_as_their_key_says(void **state)
{
    char text[2 * (CONFIG_LIST_MAX + 1)];

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = i % 2 == 0 ? 'a' : ',';
    text[2 * CONFIG_LIST_MAX - 1] = '\0';
    setenv("LLM_ROUTER_ALLOW_CALL", text, 1);
    assert_true(load());
    assert_int_equal(config.may_call.count, CONFIG_LIST_MAX);
    text[2 * CONFIG_LIST_MAX - 1] = ',';
    text[2 * CONFIG_LIST_MAX + 1] = '\0';
    setenv("LLM_ROUTER_ALLOW_CALL", text, 1);
    assert_false(load());
    assert_string_equal(err.message, "more than 64 entries");
}

static void the_cookie_comes_from_where_erl_looks(void **state)
{
    (void)state;
    assert_true(config_find_cookie(&config, &err)); /* none */
    assert_int_equal(config.cookie.size, 0);
    assert_true(config_load_cookie(&config, &err)); /* made */
    assert_int_equal(config.cookie.size, 20);
    write_file(".erlang.cookie", "SECRET\n", 0400);
    assert_true(config_load_cookie(&config, &err));
    assert_slice(config.cookie, "SECRET");
    setenv("RELEASE_COOKIE", "fromenv", 1);
    assert_true(config_load_cookie(&config, &err));
    assert_slice(config.cookie, "fromenv");
    config.cookie_file = write_file("cookie", "fromfile", 0600);
    assert_true(config_load_cookie(&config, &err));
    assert_slice(config.cookie, "fromfile");
}

static void a_cookie_file_that_others_can_read_is_refused(void **state)
{
    (void)state;
    config.cookie_file = write_file("cookie", "open", 0640);
    assert_false(config_load_cookie(&config, &err));
    assert_string_equal(err.path, path);
    config.cookie_file = write_file("cookie", "", 0600);
    assert_false(config_load_cookie(&config, &err));
    config.cookie_file = write_file("cookie",
                                    "a\x01"
                                    "b",
                                    0600);
    assert_false(config_load_cookie(&config, &err));
    config.cookie_file = "/nonexistent/cookie";
    assert_false(config_load_cookie(&config, &err));
    config.cookie_file = directory;
    assert_false(config_load_cookie(&config, &err));
}

static void names_are_completed_as_erl_does(void **state)
{
    char host[256];
    char expected[300];

    (void)state;
    gethostname(host, sizeof(host));
    host[strcspn(host, ".")] = '\0';
    snprintf(expected, sizeof(expected), "llm_router@%s", host);
    assert_true(parse(1, (const char *const[]){"llm_router"}));
    assert_string_equal(config.node_name, expected);
    assert_true(parse(3, (const char *const[]){"x", "--name", "a@b.c"}));
    assert_string_equal(config.node_name, "a@b.c");
    assert_true(parse(3, (const char *const[]){"x", "--sname", "a@b"}));
    assert_string_equal(config.node_name, "a@b");
}

static void wrong_usage_names_the_option(void **state)
{
    static const struct {
        const char *argv[6];
        int argc;
        const char *named;
    } rows[] = {
        {{"x", "--nmae", "a"}, 3, "--nmae"},
        {{"x", "--config"}, 2, "--config"},
        {{"x", "--name", "a@b.c", "--sname", "a"}, 5, "--sname"},
        {{"x", "--sname", "a@b.c"}, 3, "--sname"},
        {{"x", "--name", "a@b"}, 3, "--name"},
        {{"x", "--sname", "@b"}, 3, "--sname"},
        {{"x", "--connect", "justaname"}, 3, "--connect"},
        {{"x", "--connect", "a@b/../c"}, 3, "--connect"},
        {{"x", "extra"}, 2, "extra"},
        {{"x", "--tls-key"}, 2, "--tls-key"},
        {{"x", "--tls-key", "a"}, 3, "--tls-key"},
        {{"x", "--tls-dist"}, 2, "--tls-cert"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(parse(rows[i].argc, rows[i].argv));
        assert_string_equal(err.path, rows[i].named);
    }
}

static void tls_wants_all_its_files(void **state)
{
    static const char *const argv[] = {"x",        "--tls-dist", "--tls-cert",
                                       "c.pem",    "--tls-key",  "k.pem",
                                       "--tls-ca", "a.pem"};

    (void)state;
    assert_false(parse(6, argv));
    assert_string_equal(err.path, "--tls-ca");
    assert_true(parse(8, argv));
    assert_true(config.tls_dist);
    assert_string_equal(config.tls_cert, "c.pem");
    assert_string_equal(config.tls_key, "k.pem");
    assert_string_equal(config.tls_ca, "a.pem");
}

static void money_and_booleans_come_from_the_environment_too(void **state)
{
    static const char *const bad[] = {"0", "-1",         "1e3",  "inf",
                                      "x", "2000000000", "1.2.3"};

    (void)state;
    setenv("LLM_ROUTER_BUDGET_USD_PER_DAY", "12.50", 1);
    setenv("LLM_ROUTER_CACHE_DEFAULT", "true", 1);
    assert_true(load());
    assert_true(config.budget.day_usd > 12.4 && config.budget.day_usd < 12.6);
    assert_true(isnan(config.budget.month_usd));
    assert_true(config.cache_by_default);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        setenv("LLM_ROUTER_BUDGET_USD_PER_DAY", bad[i], 1);
        assert_false(load());
        assert_string_equal(err.path, "LLM_ROUTER_BUDGET_USD_PER_DAY");
    }
    unsetenv("LLM_ROUTER_BUDGET_USD_PER_DAY");
    setenv("LLM_ROUTER_CACHE_DEFAULT", "yes", 1);
    assert_false(load());
    assert_string_equal(err.path, "LLM_ROUTER_CACHE_DEFAULT");
}

static void what_is_spent_is_kept_where_the_system_keeps_state(void **state)
{
    char expected[300];

    (void)state;
    setenv("LLM_ROUTER_BUDGET_USD_PER_MONTH", "5", 1);
    assert_true(load());
    snprintf(expected, sizeof(expected),
             "%s/.local/state/llm_router/spending.json", directory);
    assert_slice(config.state_file, expected);
    setenv("XDG_STATE_HOME", "/var/state", 1);
    assert_true(load());
    assert_slice(config.state_file, "/var/state/llm_router/spending.json");
    setenv("STATE_DIRECTORY", "/var/lib/llm_router:/var/lib/other", 1);
    assert_true(load());
    assert_slice(config.state_file, "/var/lib/llm_router/spending.json");
    setenv("LLM_ROUTER_STATE_FILE", "/srv/spent.json", 1);
    assert_true(load());
    assert_slice(config.state_file, "/srv/spent.json");
}

static void a_log_level_names_what_is_unknown(void **state)
{
    (void)state;
    setenv("LLM_ROUTER_LOG_LEVEL", "loud", 1);
    assert_false(load());
    assert_string_equal(err.path, "LLM_ROUTER_LOG_LEVEL");
    assert_non_null(strstr(err.message, "'loud'"));
    setenv("LLM_ROUTER_LOG_LEVEL", "info,dits=debug", 1);
    assert_false(load());
    assert_non_null(strstr(err.message, "'dits'"));
    setenv("LLM_ROUTER_LOG_LEVEL", "warn,dist=debug", 1);
    assert_true(load());
}

static void a_log_format_is_one_of_two(void **state)
{
    (void)state;
    setenv("LLM_ROUTER_LOG_FORMAT", "xml", 1);
    assert_false(load());
    assert_string_equal(err.path, "LLM_ROUTER_LOG_FORMAT");
    setenv("LLM_ROUTER_LOG_FORMAT", "json", 1);
    assert_true(load());
    assert_slice(config.log_format, "json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_and_one_key_are_enough),
        TEST(without_a_provider_there_is_no_start),
        TEST(the_environment_wins_over_the_file),
        TEST(everybody_may_call_unless_a_list_says_who),
        TEST(a_wrong_pattern_names_its_key),
        TEST(lists_are_as_long_as_their_key_says),
        TEST(the_cookie_comes_from_where_erl_looks),
        TEST(a_cookie_file_that_others_can_read_is_refused),
        TEST(names_are_completed_as_erl_does),
        TEST(wrong_usage_names_the_option),
        TEST(tls_wants_all_its_files),
        TEST(money_and_booleans_come_from_the_environment_too),
        TEST(what_is_spent_is_kept_where_the_system_keeps_state),
        TEST(a_log_level_names_what_is_unknown),
        TEST(a_log_format_is_one_of_two),
    };

    RUN(tests);
}
