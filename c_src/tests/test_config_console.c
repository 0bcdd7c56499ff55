/* The command lines of `status` and `top`. */
#include "unit.h"

#include <stdio.h>
#include <unistd.h>

#include "llm_router/config/config.h"

enum { ARGUMENTS_MAX = 12 };

static struct config config;
static enum command command;
static struct error err;

static int set_up(void **state)
{
    (void)state;
    config_init(&config);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_release(&config);
    return 0;
}

/* Words with a space between them. */
static bool parse(const char *line)
{
    static char words[256];
    const char *arguments[ARGUMENTS_MAX] = {"llm_router"};
    int count = 1;

    snprintf(words, sizeof(words), "%s", line);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
        arguments[count++] = word;
    return config_parse_arguments(&config, count, arguments, &command, &err);
}

static const char *host_of(const char *node)
{
    return strchr(node, '@') + 1;
}

static void a_console_asks_the_router_of_this_host(void **state)
{
    char own[64];

    (void)state;
    assert_true(parse("status"));
    assert_int_equal(command, COMMAND_STATUS);
    snprintf(own, sizeof(own), "llm_router_console_%d@", (int)getpid());
    assert_memory_equal(config.node_name, own, strlen(own));
    assert_memory_equal(config.target, "llm_router@", 11);
    assert_string_equal(host_of(config.target), host_of(config.node_name));
    assert_null(strchr(config.target, '.'));
}

static void a_node_without_host_is_on_this_host(void **state)
{
    (void)state;
    assert_true(parse("top --node other"));
    assert_int_equal(command, COMMAND_TOP);
    assert_memory_equal(config.target, "other@", 6);
    assert_string_equal(host_of(config.target), host_of(config.node_name));
}

static void a_full_name_of_the_router_makes_one_for_the_console(void **state)
{
    (void)state;
    assert_true(parse("status --node r@db1.prod.example.com"));
    assert_string_equal(config.target, "r@db1.prod.example.com");
    assert_non_null(strchr(host_of(config.node_name), '.'));
    assert_true(parse("status --node r@::1"));
    assert_non_null(strchr(host_of(config.node_name), '.'));
}

static void a_console_may_be_named(void **state)
{
    (void)state;
    assert_true(parse("status --sname me"));
    assert_memory_equal(config.node_name, "me@", 3);
    assert_memory_equal(config.target, "llm_router@", 11);
}

static void a_full_name_of_the_console_is_on_the_routers_host(void **state)
{
    (void)state;
    assert_true(parse("status --name me@ops.example.com"));
    assert_string_equal(config.node_name, "me@ops.example.com");
    assert_string_equal(config.target, "llm_router@ops.example.com");
}

static void its_own_options_have_defaults_and_limits(void **state)
{
    (void)state;
    assert_true(parse("top"));
    assert_int_equal(config.interval_ms, 2000);
    assert_false(config.as_json);
    assert_true(parse("top --interval 3600"));
    assert_int_equal(config.interval_ms, 3600000);
    assert_false(parse("top --interval 3601"));
    assert_string_equal(err.path, "--interval");
    assert_true(parse("status --json"));
    assert_true(config.as_json);
}

static void options_of_one_command_are_none_of_another(void **state)
{
    static const char *const lines[] = {"status --connect a@b",
                                        "status --config f",
                                        "status --interval 1",
                                        "status --migrate",
                                        "top --json",
                                        "top --supervised",
                                        "--node a",
                                        "--interval 1",
                                        "--sname status top",
                                        "status --nonsense"};

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (parse(lines[i]))
            fail_msg("\"%s\" was taken", lines[i]);
        assert_int_equal(err.code, ERR_INVALID_REQUEST);
    }
    assert_true(parse("status --help"));
    assert_int_equal(command, COMMAND_HELP);
}

static void a_value_may_be_called_like_a_command(void **state)
{
    (void)state;
    assert_true(parse("--sname status"));
    assert_int_equal(command, COMMAND_RUN);
    assert_true(parse("top --node top"));
    assert_int_equal(command, COMMAND_TOP);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_console_asks_the_router_of_this_host),
        TEST(a_node_without_host_is_on_this_host),
        TEST(a_full_name_of_the_router_makes_one_for_the_console),
        TEST(a_console_may_be_named),
        TEST(a_full_name_of_the_console_is_on_the_routers_host),
        TEST(its_own_options_have_defaults_and_limits),
        TEST(options_of_one_command_are_none_of_another),
        TEST(a_value_may_be_called_like_a_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
