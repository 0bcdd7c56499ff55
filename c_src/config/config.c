#include "llm_router/config/config.h"

#include <ctype.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/config_internal.h"
#include "llm_router/config/files.h"
#include "llm_router/core/allow.h"
#include "llm_router/core/router.h"

enum { FILE_MAX = 1024 * 1024, CA_FILE_MAX = 16 * 1024 * 1024 };

enum kind { KIND_INTEGER, KIND_TEXT, KIND_LIST, KIND_PATTERNS };

struct key {
    const char *section;
    const char *name;
    enum kind kind;
    size_t offset;
    int64_t least, most; /* of a list: how many entries */
    const char *value;   /* the default, as the environment would give it */
};

#define INTEGER(section, name, field, least, most, value)                   \
    {                                                                       \
        section, name, KIND_INTEGER, offsetof(struct config, field), least, \
            most, value                                                     \
    }
#define TEXT(section, name, field, value)                                     \
    {                                                                         \
        section, name, KIND_TEXT, offsetof(struct config, field), 0, 0, value \
    }
#define ROUTE(section, name, field, value)                           \
    {                                                                \
        section, name, KIND_LIST, offsetof(struct config, field), 1, \
            PLAN_CANDIDATES_MAX, value                               \
    }
#define PATTERNS(section, name, field, value)                            \
    {                                                                    \
        section, name, KIND_PATTERNS, offsetof(struct config, field), 1, \
            CONFIG_LIST_MAX, value                                       \
    }

enum { HOUR_MS = 3600000, MIB = 1024 * 1024 };

/* Every key; docs/configuration.md explains each (test_config.c compares). */
static const struct key keys[] = {
    ROUTE("routes", "simple", simple, "openai/gpt-5.4-nano"),
    ROUTE("routes", "medium", medium, "openai/gpt-5.4-mini"),
    ROUTE("routes", "complex", complex, "openai/gpt-5.4"),
    PATTERNS("allow", "call", may_call, "*"),
    PATTERNS("allow", "admin", may_admin, "*"),
    INTEGER("timeouts", "connect_ms", connect_timeout_ms, 1, HOUR_MS, "10000"),
    INTEGER("timeouts", "headers_ms", headers_timeout_ms, 1, HOUR_MS, "60000"),
    INTEGER("timeouts", "first_token_ms", first_token_timeout_ms, 1, HOUR_MS,
            "120000"),
    INTEGER("timeouts", "idle_ms", idle_timeout_ms, 1, HOUR_MS, "30000"),
    INTEGER("timeouts", "request_ms", request_timeout_ms, 1, HOUR_MS, "300000"),
    INTEGER("timeouts", "drain_ms", drain_timeout_ms, 0, HOUR_MS, "30000"),
    INTEGER("timeouts", "startup_ms", startup_timeout_ms, 0, HOUR_MS, "5000"),
    INTEGER("node", "port", port, 0, 65535, "0"),
    INTEGER("node", "tick_time_ms", tick_time_ms, 1000, HOUR_MS, "60000"),
    INTEGER("limits", "in_flight", max_in_flight, 1, 1000000, "20000"),
    INTEGER("limits", "frame_bytes", max_frame_bytes, 65536, 1024 * MIB,
            "67108864"),
    INTEGER("limits", "send_queue_bytes", max_send_queue_bytes, 65536,
            1024 * MIB, "268435456"),
    INTEGER("limits", "handshakes", max_handshakes, 1, 10000, "256"),
    INTEGER("limits", "connections_per_host", max_connections_per_host, 0,
            100000, "0"),
    INTEGER("retry", "max", max_retries, 0, 10, "2"),
    INTEGER("retry", "max_retry_after_ms", max_retry_after_ms, 0, HOUR_MS,
            "60000"),
    TEXT("tls", "ca_file", ca_file, ""),
    TEXT("log", "level", log_level, "info"),
};

enum { KEY_COUNT = sizeof(keys) / sizeof(keys[0]) };

static const char *key_path(struct config *config, const struct key *key)
{
    return arena_printf(&config->arena, "%s.%s", key->section, key->name).data;
}

static const char *key_variable(struct config *config, const struct key *key)
{
    char *name = arena_text(&config->arena,
                            arena_printf(&config->arena, "LLM_ROUTER_%s_%s",
                                         key->section, key->name));

    for (char *c = name; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    return name;
}

static void *field(struct config *config, const struct key *key)
{
    return (char *)config + key->offset;
}

static bool set_integer(struct config *config, const struct key *key,
                        const char *path, int64_t value, struct error *err)
{
    if (value < key->least || value > key->most)
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "%lld is not between %lld and %lld", (long long)value,
                        (long long)key->least, (long long)key->most);
    *(int64_t *)field(config, key) = value;
    return true;
}

static bool add_item(struct config *config, const struct key *key,
                     const char *path, struct slice item, struct error *err)
{
    struct config_list *list = field(config, key);

    if (item.size == 0)
        return error_at(err, ERR_INVALID_REQUEST, path, "an entry is empty");
    if (list->count == (size_t)key->most)
        return error_at(err, ERR_INVALID_REQUEST, path, "more than %d entries",
                        (int)key->most);
    if (key->kind == KIND_PATTERNS && !allow_pattern_is_valid(item))
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "entry %zu is not a pattern of node names: letters, "
                        "digits, _-.:@ and * only",
                        list->count + 1);
    list->items[list->count++] = item;
    return true;
}

/* "a, b" as the environment writes a list. */
static bool set_list(struct config *config, const struct key *key,
                     const char *path, struct slice text, struct error *err)
{
    struct config_list *list = field(config, key);

    list->count = 0;
    for (;;) {
        ptrdiff_t comma = slice_find(text, SLICE_LITERAL(","));
        size_t size = comma < 0 ? text.size : (size_t)comma;
        struct slice item = slice_trim(slice_make(text.data, size));

        if (!add_item(config, key, path, arena_copy(&config->arena, item), err))
            return false;
        if (comma < 0)
            return true;
        text = slice_make(text.data + size + 1, text.size - size - 1);
    }
}

static bool set_from_text(struct config *config, const struct key *key,
                          const char *path, struct slice text,
                          struct error *err)
{
    int64_t value;

    switch (key->kind) {
    case KIND_INTEGER:
        if (!slice_to_int64(slice_trim(text), &value))
            return error_at(err, ERR_INVALID_REQUEST, path,
                            "\"%.*s\" is not a whole number", SLICE_ARG(text));
        return set_integer(config, key, path, value, err);
    case KIND_LIST:
    case KIND_PATTERNS:
        return set_list(config, key, path, text, err);
    case KIND_TEXT:
        *(struct slice *)field(config, key) =
            slice_of(arena_text(&config->arena, text));
        return true;
    }
    return true;
}

static bool load_variables(struct config *config, struct error *err)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const char *variable = key_variable(config, &keys[i]);
        const char *value = getenv(variable);

        if (value && value[0] != '\0' &&
            !set_from_text(config, &keys[i], variable, slice_of(value), err))
            return false;
    }
    return true;
}

/* The file. */

static struct slice json_text(struct config *config, const json_t *value)
{
    return slice_of(
        arena_text(&config->arena, slice_of(json_string_value(value))));
}

static bool set_from_json(struct config *config, const struct key *key,
                          const json_t *value, struct error *err)
{
    const char *path = key_path(config, key);
    struct config_list *list;

    switch (key->kind) {
    case KIND_INTEGER:
        if (!json_is_integer(value))
            return error_at(err, ERR_INVALID_REQUEST, path,
                            "must be a whole number");
        return set_integer(config, key, path, json_integer_value(value), err);
    case KIND_TEXT:
        if (!json_is_string(value))
            return error_at(err, ERR_INVALID_REQUEST, path, "must be a string");
        *(struct slice *)field(config, key) = json_text(config, value);
        return true;
    case KIND_LIST:
    case KIND_PATTERNS:
        break;
    }
    if (!json_is_array(value) || json_array_size(value) == 0)
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "must be a list of strings");
    list = field(config, key);
    list->count = 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);

        if (!json_is_string(item))
            return error_at(err, ERR_INVALID_REQUEST, path,
                            "must be a list of strings");
        if (!add_item(config, key, path, json_text(config, item), err))
            return false;
    }
    return true;
}

static const struct key *find_key(const char *section, const char *name,
                                  bool *section_known)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(keys[i].section, section) != 0)
            continue;
        *section_known = true;
        if (name && !strcmp(keys[i].name, name))
            return &keys[i];
    }
    return NULL;
}

static bool load_section(struct config *config, const char *section,
                         json_t *values, struct error *err)
{
    bool known = false;
    const char *name;
    json_t *value;

    find_key(section, NULL, &known);
    if (!known)
        return error_at(err, ERR_INVALID_REQUEST, section,
                        "there is no such key");
    if (!json_is_object(values))
        return error_at(err, ERR_INVALID_REQUEST, section, "must be an object");
    json_object_foreach(values, name, value)
    {
        const struct key *key = find_key(section, name, &known);

        if (!key) {
            error_at(err, ERR_INVALID_REQUEST, name, "there is no such key");
            return error_in(err, section);
        }
        if (!set_from_json(config, key, value, err))
            return false;
    }
    return true;
}

static bool load_json(struct config *config, json_t *root, struct error *err)
{
    const char *section;
    json_t *values;

    if (!json_is_object(root))
        return error_set(err, ERR_INVALID_REQUEST, "must be a JSON object");
    json_object_foreach(root, section, values)
    {
        bool ok = !strcmp(section, "providers")
                      ? config_providers_from_json(config, values, err)
                      : load_section(config, section, values, err);

        if (!ok)
            return false;
    }
    return true;
}

/* "timeouts.idle_ms" -> "llm_router.json: timeouts.idle_ms". */
static bool at_file(struct error *err, const char *file)
{
    char key[ERROR_PATH_MAX];

    memcpy(key, err->path, sizeof(key));
    snprintf(err->path, sizeof(err->path), "%.60s: %.50s", file, key);
    return false;
}

static bool load_file(struct config *config, struct error *err)
{
    struct slice text;
    json_error_t where;
    json_t *root;
    bool ok;

    if (!config->file)
        return true;
    if (!file_read(&config->arena, config->file, FILE_MAX, FILE_ANY, &text,
                   err))
        return false;
    root = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return error_at(err, ERR_INVALID_REQUEST, config->file,
                        "line %d, column %d: %s", where.line, where.column,
                        where.text);
    ok = load_json(config, root, err);
    json_decref(root);
    return ok || at_file(err, config->file);
}

/* priv/ is where the program is, unless the environment says otherwise. */
static const char *find_priv_dir(struct config *config)
{
    const char *variable = getenv("LLM_ROUTER_PRIV_DIR");
    char path[4096];
    ssize_t size;
    char *slash;

    if (variable && variable[0] != '\0')
        return variable;
    size = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (size <= 0)
        return ".";
    path[size] = '\0';
    slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    return arena_text(&config->arena, slice_of(path));
}

/* Read and forgotten: the HTTP layer reads it again, but says so too late. */
static bool check_ca_file(const struct config *config, struct error *err)
{
    struct arena arena;
    struct slice text;
    bool ok;

    if (config->ca_file.size == 0)
        return true;
    arena_init(&arena, 0);
    ok = file_read(&arena, config->ca_file.data, CA_FILE_MAX, FILE_ANY, &text,
                   err);
    arena_release(&arena);
    return ok;
}

bool config_load(struct config *config, struct error *err)
{
    config->priv_dir = find_priv_dir(config);
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (!set_from_text(config, &keys[i], keys[i].name,
                           slice_of(keys[i].value), err))
            return false;
    return load_file(config, err) && load_variables(config, err) &&
           check_ca_file(config, err) &&
           config_providers_from_environment(config, err);
}

bool config_key(size_t index, const char **section, const char **name,
                const char **value)
{
    if (index >= KEY_COUNT)
        return false;
    *section = keys[index].section;
    *name = keys[index].name;
    *value = keys[index].value;
    return true;
}

void config_init(struct config *config)
{
    *config = (struct config){.peer_count = 0};
    arena_init(&config->arena, 0);
}

void config_release(struct config *config)
{
    arena_release(&config->arena);
}

/* Printing. */

static json_t *text_json(struct slice text)
{
    return json_stringn(text.data ? text.data : "", text.size);
}

static json_t *key_json(struct config *config, const struct key *key)
{
    const struct config_list *list = field(config, key);
    json_t *array;

    switch (key->kind) {
    case KIND_INTEGER:
        return json_integer(*(int64_t *)field(config, key));
    case KIND_TEXT:
        return text_json(*(struct slice *)field(config, key));
    case KIND_LIST:
    case KIND_PATTERNS:
        break;
    }
    array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, text_json(list->items[i]));
    return array;
}

static json_t *section_of(json_t *root, const char *name)
{
    json_t *section = json_object_get(root, name);

    if (section)
        return section;
    section = json_object();
    json_object_set_new(root, name, section);
    return section;
}

void config_print(const struct config *config)
{
    json_t *root = json_object();
    struct config copy = *config; /* field() lends what can be written */

    json_object_set_new(root, "providers", config_providers_json(config));
    for (size_t i = 0; i < KEY_COUNT; i++)
        json_object_set_new(section_of(root, keys[i].section), keys[i].name,
                            key_json(&copy, &keys[i]));
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}
