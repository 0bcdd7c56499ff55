/* Configurations for tests: a folder of their own and a clean environment. */
#ifndef LLM_ROUTER_TESTS_CONFIG_FILES_H
#define LLM_ROUTER_TESTS_CONFIG_FILES_H

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

static const char *const file_names[] = {
    "config.json",    "key",         "key2",       "cookie",
    ".erlang.cookie", "models.json", "object.txt", "objekt.txt"};

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

static void remove_files(void)
{
    for (size_t i = 0; i < sizeof(file_names) / sizeof(*file_names); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, file_names[i]);
        unlink(path);
    }
}

static void clear_environment(void)
{
    static const char *const others[] = {"RELEASE_COOKIE", "XDG_CONFIG_HOME",
                                         "CREDENTIALS_DIRECTORY",
                                         "XDG_STATE_HOME", "STATE_DIRECTORY"};
    const char *provider, *variable;
    struct config_key_view key;
    char name[100];

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        unsetenv(others[i]);
    for (size_t i = 0; config_provider_variable(i, &provider, &variable); i++) {
        snprintf(name, sizeof(name), "%s_FILE", variable);
        unsetenv(variable);
        unsetenv(name);
    }
    for (size_t i = 0; config_key(i, &key); i++) {
        snprintf(name, sizeof(name), "LLM_ROUTER_%s_%s", key.section, key.name);
        for (char *c = name; *c; c++)
            *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
        unsetenv(name);
    }
}

static int set_up(void **state)
{
    (void)state;
    clear_environment();
    setenv("OPENAI_API_KEY", "sk-test", 1);
    setenv("HOME", directory, 1);
    config_init(&config);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_release(&config);
    remove_files();
    return 0;
}

__attribute__((unused)) static bool load(void)
{
    config_release(&config);
    config_init(&config);
    return config_load(&config, NULL, &err);
}

__attribute__((unused)) static bool load_json(const char *json)
{
    config_release(&config);
    config_init(&config);
    config.file = write_file("config.json", json, 0600);
    return config_load(&config, NULL, &err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#define RUN(tests)                                          \
    do {                                                    \
        int failed;                                         \
                                                            \
        if (!mkdtemp(directory))                            \
            return 1;                                       \
        failed = cmocka_run_group_tests(tests, NULL, NULL); \
        rmdir(directory);                                   \
        return failed;                                      \
    } while (0)

#endif
