#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "llm_router/config/config.h"
#include "llm_router/config/files.h"

static char directory[] = "/tmp/llm_router_config_XXXXXX";
static char path[256];
static struct config config;
static struct error err;

static const char *write_file(const char *name, const char *text, mode_t mode)
{
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    unlink(path);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    chmod(path, mode);
    return path;
}

static void remove_directory(void)
{
    static const char *const names[] = {"config.json", "key", "cookie",
                                        ".erlang.cookie"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

static int set_up(void **state)
{
    static const char *const cleared[] = {
        "OPENAI_API_KEY",        "OPENAI_API_KEY_FILE",
        "OPENAI_BASE_URL",       "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",     "RELEASE_COOKIE",
        "XDG_CONFIG_HOME",       "CREDENTIALS_DIRECTORY",
        "LLM_ROUTER_LOG_LEVEL",  "LLM_ROUTER_RETRY_MAX",
        "LLM_ROUTER_ALLOW_CALL", "LLM_ROUTER_ALLOW_ADMIN"};

    (void)state;
    for (size_t i = 0; i < sizeof(cleared) / sizeof(cleared[0]); i++)
        unsetenv(cleared[i]);
    setenv("OPENAI_API_KEY", "sk-test", 1);
    setenv("HOME", directory, 1);
    config_init(&config);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_release(&config);
    return 0;
}

static bool load_json(const char *json)
{
    config.file = write_file("config.json", json, 0600);
    return config_load(&config, &err);
}

static bool parse(int argc, const char *const *argv)
{
    enum command command;

    return config_parse_arguments(&config, argc, argv, &command, &err);
}

static void defaults_and_one_key_are_enough(void **state)
{
    (void)state;
    assert_true(config_load(&config, &err));
    assert_int_equal(config.provider_count, 1);
    assert_slice(config.providers[0].base_url, "https://api.openai.com/v1");
    assert_slice(config.providers[0].api_key, "sk-test");
    assert_int_equal(config.idle_timeout_ms, 30000);
    assert_int_equal(config.medium.count, 1);
}

static void without_a_provider_there_is_no_start(void **state)
{
    (void)state;
    setenv("OPENAI_API_KEY", "", 1);
    assert_false(config_load(&config, &err));
    assert_string_equal(err.path, "providers");
}

static void the_environment_wins_over_the_file(void **state)
{
    (void)state;
    setenv("LLM_ROUTER_RETRY_MAX", "7", 1);
    assert_true(load_json("{\"retry\": {\"max\": 3},"
                          " \"timeouts\": {\"idle_ms\": 123},"
                          " \"routes\": {\"simple\": [\"a\", \"b/c\"]}}"));
    assert_int_equal(config.max_retries, 7);
    assert_int_equal(config.idle_timeout_ms, 123);
    assert_int_equal(config.simple.count, 2);
    assert_slice(config.simple.items[1], "b/c");
}

static void a_wrong_key_is_named_with_its_file(void **state)
{
    static const struct {
        const char *json, *named;
    } rows[] = {
        {"{\"timeouts\": {\"idel_ms\": 1}}", "timeouts.idel_ms"},
        {"{\"timeout\": {}}", "timeout"},
        {"{\"timeouts\": {\"idle_ms\": \"1\"}}", "timeouts.idle_ms"},
        {"{\"timeouts\": {\"idle_ms\": 0}}", "timeouts.idle_ms"},
        {"{\"timeouts\": 3}", "timeouts"},
        {"{\"routes\": {\"simple\": []}}", "routes.simple"},
        {"{\"providers\": {\"x\": {\"url\": \"a\"}}}", "providers.x.url"},
        {"{\"providers\": {\"x\": {\"base_url\": 3}}}", "providers.x.base_url"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(load_json(rows[i].json));
        assert_non_null(strstr(err.path, "config.json: "));
        assert_string_equal(strstr(err.path, ": ") + 2, rows[i].named);
    }
}

static void everybody_may_call_unless_a_list_says_who(void **state)
{
    (void)state;
    assert_true(config_load(&config, &err));
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
        assert_non_null(strstr(err.path, "config.json: allow.admin"));
    }
    config.file = NULL;
    setenv("LLM_ROUTER_ALLOW_CALL", "web@*, we b@*", 1);
    assert_false(config_load(&config, &err));
    assert_string_equal(err.path, "LLM_ROUTER_ALLOW_CALL");
    assert_non_null(strstr(err.message, "entry 2"));
    setenv("LLM_ROUTER_ALLOW_CALL", "web@*,", 1);
    assert_false(config_load(&config, &err));
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
    assert_true(config_load(&config, &err));
    assert_int_equal(config.may_call.count, CONFIG_LIST_MAX);
    text[2 * CONFIG_LIST_MAX - 1] = ',';
    text[2 * CONFIG_LIST_MAX + 1] = '\0';
    setenv("LLM_ROUTER_ALLOW_CALL", text, 1);
    assert_false(config_load(&config, &err));
    assert_string_equal(err.message, "more than 64 entries");
    assert_false(load_json("{\"routes\": {\"simple\": [\"1\", \"2\", \"3\","
                           " \"4\", \"5\", \"6\", \"7\", \"8\", \"9\"]}}"));
    assert_non_null(strstr(err.path, "routes.simple"));
}

static void a_syntax_error_names_line_and_column(void **state)
{
    (void)state;
    assert_false(load_json("{\n  \"retry\": {,}\n}"));
    assert_non_null(strstr(err.message, "line 2, column"));
    assert_non_null(strstr(err.path, "config.json"));
}

static void a_base_url_must_be_one(void **state)
{
    static const char *const bad[] = {
        "ftp://x",        "api.openai.com",      "https://",
        "https://a b/v1", "https://u:p@host/v1", "https://host/v1?key=1"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("OPENAI_BASE_URL", bad[i], 1);
        assert_false(config_load(&config, &err));
        assert_string_equal(err.path, "providers.openai.base_url");
    }
    setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1/", 1);
    assert_true(config_load(&config, &err));
    assert_slice(config.providers[0].base_url, "http://127.0.0.1:11434/v1");
    assert_true(config.providers[0].plain_http);
}

static void a_key_file_is_trimmed_and_must_be_private(void **state)
{
    (void)state;
    setenv("OPENAI_API_KEY", "", 1);
    setenv("OPENAI_API_KEY_FILE", write_file("key", "sk-file\r\n", 0600), 1);
    assert_true(config_load(&config, &err));
    assert_slice(config.providers[0].api_key, "sk-file");
    chmod(path, 0644);
    assert_false(config_load(&config, &err));
    assert_string_equal(err.path, path);
    assert_null(strstr(err.message, "sk-file"));
}

static void an_empty_key_file_is_no_key(void **state)
{
    (void)state;
    setenv("OPENAI_API_KEY", "", 1);
    setenv("OPENAI_API_KEY_FILE", write_file("key", "\n", 0600), 1);
    assert_false(config_load(&config, &err));
    assert_string_equal(err.path, "providers");
}

static void a_key_cannot_inject_a_header(void **state)
{
    (void)state;
    setenv("OPENAI_API_KEY", "sk-a\r\nX-Evil: 1", 1);
    assert_false(config_load(&config, &err));
    assert_null(strstr(err.message, "sk-a"));
}

static void the_cookie_comes_from_where_erl_looks(void **state)
{
    (void)state;
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

/* Runs from the project's folder, as make does. */
static void every_key_is_documented_with_its_default(void **state)
{
    const char *section, *name, *value;
    struct slice docs;
    char row[200];

    (void)state;
    assert_true(file_read(&config.arena, "docs/configuration.md", 1 << 20,
                          FILE_ANY, &docs, &err));
    for (size_t i = 0; config_key(i, &section, &name, &value); i++) {
        bool is_text = value[strspn(value, "0123456789")] != '\0';

        snprintf(row, sizeof(row), "| `%s.%s` | %s%s%s |", section, name,
                 is_text ? "`" : "", value[0] ? value : "system bundle",
                 is_text ? "`" : "");
        if (slice_find(docs, slice_of(row)) < 0)
            fail_msg("docs/configuration.md has no row %s", row);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    int failed;
    const struct CMUnitTest tests[] = {
        TEST(defaults_and_one_key_are_enough),
        TEST(without_a_provider_there_is_no_start),
        TEST(the_environment_wins_over_the_file),
        TEST(a_wrong_key_is_named_with_its_file),
        TEST(everybody_may_call_unless_a_list_says_who),
        TEST(a_wrong_pattern_names_its_key),
        TEST(lists_are_as_long_as_their_key_says),
        TEST(a_syntax_error_names_line_and_column),
        TEST(a_base_url_must_be_one),
        TEST(a_key_file_is_trimmed_and_must_be_private),
        TEST(an_empty_key_file_is_no_key),
        TEST(a_key_cannot_inject_a_header),
        TEST(the_cookie_comes_from_where_erl_looks),
        TEST(a_cookie_file_that_others_can_read_is_refused),
        TEST(names_are_completed_as_erl_does),
        TEST(wrong_usage_names_the_option),
        TEST(tls_wants_all_its_files),
        TEST(every_key_is_documented_with_its_default),
    };

    if (!mkdtemp(directory))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_directory();
    return failed;
}
