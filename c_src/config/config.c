#include "llm_router/config/config.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/config_internal.h"
#include "llm_router/base/log.h"
#include "llm_router/config/files.h"
#include "llm_router/config/listen.h"

enum {
    FILE_MAX = 1024 * 1024,
    CA_FILE_MAX = 16 * 1024 * 1024,
    PRINTED_MAX = 16 * 1024 * 1024,
};

struct key {
    const char *section;
    struct field field;
    const char *value;    /* the default, as the environment would give it */
    const char *at_start; /* its path, when it is read at start only */
    const char *variable; /* a shorter name in the environment, or NULL */
};

#define KEY(section_, name_, kind_, member, value_)         \
    {                                                       \
        .section = (section_), .value = (value_),           \
        .field = FIELD(name_, kind_, struct config, member) \
    }
#define INTEGER(section_, name_, member, least_, most_, value_)          \
    {                                                                    \
        .section = (section_), .value = (value_),                        \
        .field = FIELD_RANGE(name_, KIND_INTEGER, struct config, member, \
                             least_, most_)                              \
    }
#define INTEGER_AT_START(section_, name_, member, least_, most_, value_) \
    {                                                                    \
        .section = (section_), .value = (value_),                        \
        .at_start = section_ "." name_,                                  \
        .field = FIELD_RANGE(name_, KIND_INTEGER, struct config, member, \
                             least_, most_)                              \
    }

#define QUEUE_NAME(name_, member, value_)                                      \
    {                                                                          \
        .section = "queue", .value = (value_), .at_start = "queue." name_,     \
        .field = FIELD_CHECKED(name_, struct config, member, queue_name_fault) \
    }

enum {
    HOUR_MS = 3600000,
    DAY_S = 86400,
    MIB = 1024 * 1024,
    QUEUE_NAME_MAX = 47, /* pgmq cuts longer ones */
    CHANNEL_MAX = 63,
};

/* What is unknown is named; until the thread's next fault. */
static const char *log_level_fault(struct slice text)
{
    static _Thread_local struct error err;
    struct log_levels levels;

    return log_levels_parse(text, &levels, &err) ? NULL : err.message;
}

static const char *log_format_fault(struct slice text)
{
    enum log_format format;

    return log_format_parse(text, &format) ? NULL : "must be logfmt or json";
}

/* pgmq folds capitals, so that the name would be another one. */
static const char *queue_name_fault(struct slice text)
{
    if (text.size > QUEUE_NAME_MAX)
        return "must have at most 47 characters";
    for (size_t i = 0; i < text.size; i++)
        if (!islower((unsigned char)text.data[i]) && text.data[i] != '_' &&
            (i == 0 || !isdigit((unsigned char)text.data[i])))
            return "must be of a to z, 0 to 9 and _, and not begin with a "
                   "digit";
    return NULL;
}

static const char *script_path_fault(struct slice text)
{
    size_t folders = 1;

    for (size_t i = 0; i < text.size; i++) {
        folders += text.data[i] == ':';
        if ((i == 0 || text.data[i - 1] == ':') && text.data[i] != '/')
            return "must be absolute folders with ':' between them";
    }
    return folders <= CONFIG_SCRIPT_FOLDERS_MAX
               ? NULL
               : "must have at most 16 folders";
}

/* PostgreSQL refuses longer ones, and with them the whole statement. */
static const char *channel_fault(struct slice text)
{
    return text.size <= CHANNEL_MAX ? NULL : "must have at most 63 bytes";
}

static const char *http_listen_fault(struct slice text)
{
    struct listen_address address;

    return text.size == 0 ? NULL : listen_parse(text, &address);
}

/* Every scalar key; docs/configuration.md explains each (a test compares). */
static const struct key keys[] = {
    KEY("allow", "call", KIND_PATTERNS, may_call, "*"),
    KEY("allow", "admin", KIND_PATTERNS, may_admin, "*"),
    INTEGER("timeouts", "connect_ms", connect_timeout_ms, 1, HOUR_MS, "10000"),
    INTEGER("timeouts", "headers_ms", headers_timeout_ms, 1, HOUR_MS, "60000"),
    INTEGER("timeouts", "first_token_ms", first_token_timeout_ms, 1, HOUR_MS,
            "120000"),
    INTEGER("timeouts", "idle_ms", idle_timeout_ms, 1, HOUR_MS, "30000"),
    INTEGER("timeouts", "request_ms", request_timeout_ms, 1, HOUR_MS, "300000"),
    INTEGER("timeouts", "drain_ms", drain_timeout_ms, 0, HOUR_MS, "30000"),
    INTEGER("timeouts", "startup_ms", startup_timeout_ms, 0, HOUR_MS, "5000"),
    INTEGER_AT_START("node", "port", port, 0, 65535, "0"),
    INTEGER_AT_START("node", "tick_time_ms", tick_time_ms, 1000, HOUR_MS,
                     "60000"),
    INTEGER("limits", "in_flight", max_in_flight, 1, 1000000, "20000"),
    INTEGER("limits", "in_flight_per_node", max_in_flight_per_node, 0, 1000000,
            "0"),
    INTEGER("limits", "queued", max_queued, 0, 1000000, "10000"),
    INTEGER("limits", "watchers", max_watchers, 0, 10000000, "100000"),
    INTEGER("limits", "stream_buffer_bytes", max_stream_bytes, 4096, 1024 * MIB,
            "1048576"),
    INTEGER_AT_START("limits", "frame_bytes", max_frame_bytes, 65536,
                     1024 * MIB, "67108864"),
    INTEGER_AT_START("limits", "send_queue_bytes", max_send_queue_bytes, 65536,
                     1024 * MIB, "268435456"),
    INTEGER_AT_START("limits", "handshakes", max_handshakes, 1, 10000, "256"),
    INTEGER_AT_START("limits", "connections_per_host", max_connections_per_host,
                     0, 100000, "0"),
    KEY("budget", "usd_per_day", KIND_POSITIVE, budget.day_usd, ""),
    KEY("budget", "usd_per_month", KIND_POSITIVE, budget.month_usd, ""),
    KEY("state", "file", KIND_TEXT, state_file, ""),
    INTEGER("cache", "max_bytes", max_cache_bytes, 0, 1024LL * 1024 * MIB, "0"),
    INTEGER("cache", "age_ms", cache_age_ms, 1, 24LL * 30 * HOUR_MS, "300000"),
    KEY("cache", "default", KIND_BOOLEAN, cache_by_default, "false"),
    INTEGER("retry", "max", max_retries, 0, 10, "2"),
    INTEGER("retry", "max_retry_after_ms", max_retry_after_ms, 0, HOUR_MS,
            "60000"),
    KEY("catalogue", "file", KIND_TEXT, catalogue_file, ""),
    KEY("prompts", "directory", KIND_TEXT, prompts_dir, ""),
    {.section = "scripts",
     .field =
         FIELD_CHECKED("path", struct config, script_path, script_path_fault),
     .value = ""},
    INTEGER("scripts", "time_ms", script_time_ms, 1, 60000, "1000"),
    INTEGER("scripts", "memory_bytes", script_memory_bytes, 65536, 64 * MIB,
            "8388608"),
    INTEGER("scripts", "instructions", script_instructions, 1000,
            1000LL * 1000 * 1000, "10000000"),
    {.section = "queue",
     .field = FIELD("database", KIND_TEXT, struct config, database_key),
     .value = "",
     .at_start = "queue.database"},
    QUEUE_NAME("requests", requests_queue, "ai_requests"),
    QUEUE_NAME("results", results_queue, "ai_results"),
    QUEUE_NAME("dead_letters", dead_letter_queue, ""),
    {.section = "queue",
     .field = FIELD_CHECKED("notify_channel", struct config, notify_channel,
                            channel_fault),
     .value = "llm_router_results",
     .at_start = "queue.notify_channel"},
    INTEGER("queue", "in_flight", queue_in_flight, 0, 10000, "64"),
    INTEGER("queue", "batch", queue_batch, 1, 100, "10"),
    INTEGER("queue", "message_bytes", max_message_bytes, 1024, 32 * MIB,
            "8388608"),
    {.section = "queue",
     .field = FIELD_RANGE("visibility_timeout_s", KIND_INTEGER, struct config,
                          visibility_timeout_s, 3, DAY_S),
     .value = "60",
     .variable = "LLM_ROUTER_VISIBILITY_TIMEOUT"},
    INTEGER("queue", "max_reads", max_reads, 1, 1000, "5"),
    INTEGER("queue", "backoff_s", backoff_s, 0, DAY_S, "15"),
    INTEGER("queue", "max_backoff_s", max_backoff_s, 0, DAY_S, "300"),
    INTEGER("queue", "poll_ms", poll_ms, 10, HOUR_MS, "1000"),
    INTEGER("queue", "max_poll_ms", max_poll_ms, 10, HOUR_MS, "5000"),
    INTEGER_AT_START("queue", "query_timeout_ms", query_timeout_ms, 100,
                     HOUR_MS, "10000"),
    KEY("queue", "store_answers", KIND_BOOLEAN, store_answers, "true"),
    KEY("queue", "store_jobs", KIND_BOOLEAN, store_jobs, "true"),
    KEY("queue", "store_metrics", KIND_BOOLEAN, store_metrics, "true"),
    {.section = "tls",
     .field = FIELD("ca_file", KIND_TEXT, struct config, ca_file),
     .value = "",
     .at_start = "tls.ca_file"},
    {.section = "http",
     .field =
         FIELD_CHECKED("listen", struct config, http_listen, http_listen_fault),
     .value = "",
     .at_start = "http.listen"},
    {.section = "log",
     .field = FIELD_CHECKED("level", struct config, log_level, log_level_fault),
     .value = "info"},
    {.section = "log",
     .field =
         FIELD_CHECKED("format", struct config, log_format, log_format_fault),
     .value = "logfmt"},
    KEY("core", "dump", KIND_BOOLEAN, core_dump, "false"),
};

enum { KEY_COUNT = sizeof(keys) / sizeof(keys[0]) };

static bool is_default_unset(const struct key *key)
{
    return key->field.kind == KIND_POSITIVE && key->value[0] == '\0';
}

static bool set_defaults(struct config *config, struct error *err)
{
    config->budget = (struct budget_limits){(double)NAN, (double)NAN};
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (!is_default_unset(&keys[i]) &&
            !field_from_text(&keys[i].field, &config->arena, config,
                             keys[i].field.name, slice_of(keys[i].value), err))
            return false;
    return config_routes_default(config, err);
}

/* The environment. */

static const char *key_variable(struct config *config, const struct key *key)
{
    char *name = arena_text(&config->arena,
                            arena_printf(&config->arena, "LLM_ROUTER_%s_%s",
                                         key->section, key->field.name));

    for (char *c = name; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    return name;
}

static bool load_variable(struct config *config, const struct key *key,
                          const char *variable, struct error *err)
{
    const char *value = variable ? getenv(variable) : NULL;

    return !value || value[0] == '\0' ||
           field_from_text(&key->field, &config->arena, config, variable,
                           slice_of(value), err);
}

static bool load_variables(struct config *config, struct error *err)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (!load_variable(config, &keys[i], keys[i].variable, err) ||
            !load_variable(config, &keys[i], key_variable(config, &keys[i]),
                           err))
            return false;
    return true;
}

/* The file, or what was handed over in its place. */

static bool load_section(struct config *config, const struct place *place,
                         struct error *err)
{
    const char *sections[KEY_COUNT + 2] = {"providers", "routes"};
    struct field fields[KEY_COUNT];
    size_t count = 0;

    for (size_t i = 0; i < KEY_COUNT; i++) {
        sections[i + 2] = keys[i].section;
        if (!strcmp(keys[i].section, place->key))
            fields[count++] = keys[i].field;
    }
    if (count == 0)
        return unknown_key(place, sections, KEY_COUNT + 2, err);
    return fields_read(fields, count, &config->arena, config, place, err);
}

static bool load_root(struct config *config, const struct place *root,
                      struct error *err)
{
    const char *section;
    json_t *value;

    if (!place_is_object(root, err))
        return false;
    json_object_foreach(root->value, section, value)
    {
        struct place place = place_member(root, section, value);
        bool ok = !strcmp(section, "providers")
                      ? config_providers_from_json(config, &place, err)
                  : !strcmp(section, "routes")
                      ? config_routes_from_json(config, &place, err)
                      : load_section(config, &place, err);

        if (!ok)
            return false;
    }
    return true;
}

static bool load_file(struct config *config, struct error *err)
{
    struct slice handed = config->handed.config;
    struct document document;
    struct place root;
    bool ok;

    if (!config->file && handed.size == 0)
        return true;
    if (config->file && handed.size > 0)
        return error_at(err, ERR_INVALID_REQUEST, "--config",
                        "cannot be given with a configuration on standard "
                        "input");
    ok = config->file ? document_read(&document, &config->arena, config->file,
                                      FILE_MAX, err)
                      : document_parse(&document, "config", handed, err);
    if (!ok)
        return false;
    root = place_root(&document);
    ok = load_root(config, &root, err);
    document_release(&document);
    return ok;
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

static bool has_budget(const struct config *config)
{
    const struct budget_limits *all = &config->budget;

    if (!isnan(all->day_usd) || !isnan(all->month_usd))
        return true;
    for (size_t i = 0; i < config->provider_count; i++) {
        for (size_t k = 0; k < config->providers[i].key_count; k++) {
            all = &config->providers[i].keys[k].limits.budget;
            if (!isnan(all->day_usd) || !isnan(all->month_usd))
                return true;
        }
    }
    return false;
}

/* The service manager's folder when there is one (the first of several); else
 * the user's, but only for what is worth keeping. */
static void choose_state_file(struct config *config)
{
    const char *given = getenv("STATE_DIRECTORY");
    const char *base = getenv("XDG_STATE_HOME");

    if (config->state_file.size > 0)
        return;
    if (given && given[0] != '\0')
        config->state_file = arena_printf(&config->arena, "%.*s/spending.json",
                                          (int)strcspn(given, ":"), given);
    else if (!has_budget(config))
        return;
    else if (base && base[0] == '/')
        config->state_file =
            arena_printf(&config->arena, "%s/llm_router/spending.json", base);
    else
        config->state_file = arena_printf(
            &config->arena, "%s/.local/state/llm_router/spending.json",
            config_home_directory());
}

/* What the router writes must not be what it reads. */
static bool name_queues(struct config *config, struct error *err)
{
    struct slice requests = config->requests_queue;

    if (requests.size == 0 || config->results_queue.size == 0)
        return error_at(err, ERR_INVALID_REQUEST,
                        requests.size == 0 ? "queue.requests" : "queue.results",
                        "must not be empty");
    if (slice_equal(requests, config->results_queue) ||
        slice_equal(requests, config->dead_letter_queue))
        return error_at(err, ERR_INVALID_REQUEST, "queue.requests",
                        "must be another queue than the results and the dead "
                        "letters");
    if (config->dead_letter_queue.size > 0)
        return true;
    if (requests.size > QUEUE_NAME_MAX - 4)
        return error_at(err, ERR_INVALID_REQUEST, "queue.dead_letters",
                        "must be given: %s_dlq is too long", requests.data);
    config->dead_letter_queue =
        arena_printf(&config->arena, "%s_dlq", requests.data);
    return true;
}

/* A connection string may hold a password. */
static bool load_database(struct config *config, struct error *err)
{
    struct slice url;

    if (!config_load_secret(config, "LLM_ROUTER_DATABASE_URL", &url, err))
        return false;
    config->database = url.size > 0 ? url : config->database_key;
    config->database = slice_make(arena_text(&config->arena, config->database),
                                  config->database.size);
    return name_queues(config, err);
}

bool config_load(struct config *config, const struct config *previous,
                 struct error *err)
{
    static const struct provider_alias aliases[] = {
        {SLICE_LITERAL("google"), SLICE_LITERAL("gemini")},
        {SLICE_LITERAL("x-ai"), SLICE_LITERAL("xai")},
    };

    config->priv_dir = find_priv_dir(config);
    config->aliases = aliases;
    config->alias_count = sizeof(aliases) / sizeof(aliases[0]);
    if (previous)
        config_take_secrets(config, previous);
    if (!set_defaults(config, err) || !load_file(config, err) ||
        !load_variables(config, err) ||
        !config_routes_from_environment(config, err) ||
        !check_ca_file(config, err) || !load_database(config, err) ||
        !config_providers_from_environment(config, err))
        return false;
    if (config->http_option)
        config->http_listen = slice_of(config->http_option);
    choose_state_file(config);
    return true;
}

/* A reload. */

static bool same_peers(const struct config *a, const struct config *b)
{
    if (a->peer_count != b->peer_count)
        return false;
    for (size_t i = 0; i < a->peer_count; i++)
        if (strcmp(a->peers[i], b->peers[i]) != 0)
            return false;
    return true;
}

const char *config_needs_restart(const struct config *old,
                                 const struct config *new)
{
    if (strcmp(old->node_name, new->node_name) != 0)
        return "--name";
    if (!same_peers(old, new))
        return "--connect";
    if (old->tls_dist != new->tls_dist)
        return "--tls-dist";
    if (!slice_equal(old->database, new->database))
        return "LLM_ROUTER_DATABASE_URL";
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (keys[i].at_start && !field_equal(&keys[i].field, old, new))
            return keys[i].at_start;
    return NULL;
}

bool config_key(size_t index, struct config_key_view *view)
{
    static const struct {
        const char *section;
        const char *(*name)(size_t index);
    } others[] = {
        {"providers.NAME", config_provider_key_name},
        {"providers.NAME.keys", config_key_key_name},
        {"routes", config_route_key_name},
        {"models", catalogue_key_name},
    };

    if (index < KEY_COUNT) {
        *view = (struct config_key_view){
            keys[index].section, keys[index].field.name, keys[index].value};
        return true;
    }
    index -= KEY_COUNT;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        for (size_t k = 0; others[i].name(k); k++)
            if (index-- == 0) {
                *view = (struct config_key_view){others[i].section,
                                                 others[i].name(k), NULL};
                return true;
            }
    }
    return false;
}

void config_init(struct config *config)
{
    *config = (struct config){.peer_count = 0};
    arena_init(&config->arena, 0);
}

void config_hand_over(struct config *config, const struct handover *handed)
{
    config->handed = (struct handover){
        .cookie = arena_copy(&config->arena, handed->cookie),
        .config = arena_copy(&config->arena, handed->config),
    };
}

void config_release(struct config *config)
{
    arena_release(&config->arena);
}

/* Printing. */

static json_t *section_of(json_t *root, const char *name)
{
    json_t *section = json_object_get(root, name);

    if (section)
        return section;
    section = json_object();
    json_object_set_new(root, name, section);
    return section;
}

static int append(const char *bytes, size_t size, void *out)
{
    buf_append(out, bytes, size);
    return 0;
}

void config_put(const struct config *config, struct buf *out)
{
    json_t *root = json_object();

    json_object_set_new(root, "providers", config_providers_json(config));
    json_object_set_new(root, "routes", config_routes_json(config));
    for (size_t i = 0; i < KEY_COUNT; i++) {
        json_t *value = field_json(&keys[i].field, config);

        if (value)
            json_object_set_new(section_of(root, keys[i].section),
                                keys[i].field.name, value);
    }
    json_dump_callback(root, append, out, JSON_INDENT(2));
    buf_append_byte(out, '\n');
    json_decref(root);
}

void config_print(const struct config *config)
{
    struct buf out;

    buf_init(&out, PRINTED_MAX);
    config_put(config, &out);
    fwrite(out.data, 1, out.size, stdout);
    buf_release(&out);
}
