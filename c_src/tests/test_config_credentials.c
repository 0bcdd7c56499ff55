/* Keys and the cookie from where systemd puts credentials. */
#include "tests/test_config_files.h"

static char credentials[64];

static void credential(const char *name, const char *text, mode_t mode)
{
    char file[128];

    snprintf(file, sizeof(file), "credentials/%s", name);
    write_file(file, text, mode);
}

static int set_up_credentials(void **state)
{
    set_up(state);
    unsetenv("OPENAI_API_KEY");
    snprintf(credentials, sizeof(credentials), "%s/credentials", directory);
    assert_int_equal(mkdir(credentials, 0700), 0);
    return setenv("CREDENTIALS_DIRECTORY", credentials, 1);
}

static int tear_down_credentials(void **state)
{
    static const char *const names[] = {
        "OPENAI_API_KEY", "llm_router_OPENAI_API_KEY", "RELEASE_COOKIE",
        "llm_router_RELEASE_COOKIE", "cookie"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", credentials, names[i]);
        unlink(path);
    }
    rmdir(credentials);
    return tear_down(state);
}

static void a_key_has_the_name_of_its_variable(void **state)
{
    (void)state;
    credential("OPENAI_API_KEY", "sk-one\n", 0400);
    assert_true(load());
    assert_int_equal(config.provider_count, 1);
    assert_slice(config.providers[0].keys[0].secret, "sk-one");
}

static void a_key_of_a_folder_of_credentials_has_a_prefix(void **state)
{
    (void)state;
    credential("llm_router_OPENAI_API_KEY", "sk-two\n", 0400);
    assert_true(load());
    assert_slice(config.providers[0].keys[0].secret, "sk-two");
    credential("OPENAI_API_KEY", "sk-one\n", 0400);
    assert_true(load());
    assert_slice(config.providers[0].keys[0].secret, "sk-one");
}

static void the_cookie_may_be_a_credential(void **state)
{
    (void)state;
    write_file(".erlang.cookie", "HOME", 0400);
    credential("llm_router_RELEASE_COOKIE", "FOLDER\n", 0400);
    assert_true(config_load_cookie(&config, &err));
    assert_slice(config.cookie, "FOLDER");
    credential("RELEASE_COOKIE", "NAMED", 0400);
    assert_true(config_load_cookie(&config, &err));
    assert_slice(config.cookie, "NAMED");
    setenv("RELEASE_COOKIE", "VARIABLE", 1);
    assert_true(config_load_cookie(&config, &err));
    assert_slice(config.cookie, "VARIABLE");
}

static void an_empty_cookie_is_a_fault(void **state)
{
    (void)state;
    credential("RELEASE_COOKIE", "\n", 0400);
    assert_false(config_load_cookie(&config, &err));
    assert_string_equal(err.message, "the cookie is empty");
}

/* On a file system that has access control lists systemd leaves a file to its
 * own user and lets the service in by a list, whose mask is shown in the place
 * of the group's rights. */
static void a_credential_may_look_open_to_its_group(void **state)
{
    (void)state;
    credential("OPENAI_API_KEY", "sk-one\n", 0440);
    assert_true(load());
    credential("cookie", "NAMED", 0440);
    config.cookie_file = path;
    assert_true(config_load_cookie(&config, &err));
    credential("OPENAI_API_KEY", "sk-one\n", 0444);
    assert_false(load());
    assert_string_equal(err.path, path);
}

static void a_file_beside_the_credentials_may_not(void **state)
{
    (void)state;
    config.cookie_file = write_file("cookie", "BESIDE", 0440);
    assert_false(config_load_cookie(&config, &err));
    /* whose name only begins as theirs does */
    snprintf(credentials, sizeof(credentials), "%s/coo", directory);
    setenv("CREDENTIALS_DIRECTORY", credentials, 1);
    assert_false(config_load_cookie(&config, &err));
    setenv("CREDENTIALS_DIRECTORY", "", 1);
    assert_false(config_load_cookie(&config, &err));
    snprintf(credentials, sizeof(credentials), "%s/credentials", directory);
}

static void without_credentials_there_are_none(void **state)
{
    (void)state;
    assert_false(load());
    setenv("CREDENTIALS_DIRECTORY", "/nonexistent", 1);
    assert_false(load());
    setenv("CREDENTIALS_DIRECTORY", "", 1);
    assert_false(load());
}

#undef TEST
#define TEST(name)                                            \
    cmocka_unit_test_setup_teardown(name, set_up_credentials, \
                                    tear_down_credentials)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_key_has_the_name_of_its_variable),
        TEST(a_key_of_a_folder_of_credentials_has_a_prefix),
        TEST(the_cookie_may_be_a_credential),
        TEST(an_empty_cookie_is_a_fault),
        TEST(a_credential_may_look_open_to_its_group),
        TEST(a_file_beside_the_credentials_may_not),
        TEST(without_credentials_there_are_none),
    };

    RUN(tests);
}
