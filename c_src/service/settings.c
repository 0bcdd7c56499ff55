#include "llm_router/service/settings.h"

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/dist/tls.h"
#include "llm_router/pg/connection.h"
#include "llm_router/provider/provider.h"

#include <stdio.h>
#include <stdlib.h>

static bool check_dialects(const struct config *config, struct error *err)
{
    for (size_t i = 0; i < config->provider_count; i++) {
        const struct config_provider *provider = &config->providers[i];
        char path[ERROR_PATH_MAX];

        if (dialect_find(provider->dialect))
            continue;
        snprintf(path, sizeof(path), "providers.%.*s.dialect",
                 SLICE_ARG(provider->name));
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "there is no dialect \"%.*s\"",
                        SLICE_ARG(provider->dialect));
    }
    return true;
}

static bool load_tls(struct settings *settings, struct error *err)
{
    const struct config *config = &settings->config;
    const struct tls_files files = {
        .certificate = config->tls_cert,
        .key = config->tls_key,
        .authorities = config->tls_ca,
    };

    if (!config->tls_dist)
        return true;
    settings->tls = tls_context_new(&files, err);
    return settings->tls != NULL;
}

/* What is in the file is shown by --print-config. */
static bool check_database(const struct config *config, struct error *err)
{
    bool has_password;

    if (config->database_key.size > 0) {
        if (!pg_conninfo_check(config->database_key.data, &has_password, err))
            return error_in(err, "queue.database");
        if (has_password)
            return error_at(err, ERR_INVALID_REQUEST, "queue.database",
                            "a password belongs in LLM_ROUTER_DATABASE_URL, "
                            "or a file that PGPASSFILE names");
    }
    if (config->database.size > 0 &&
        !pg_conninfo_check(config->database.data, &has_password, err))
        return error_in(err, "LLM_ROUTER_DATABASE_URL");
    return true;
}

static bool check(const struct config *config, struct error *err)
{
    return check_dialects(config, err) && check_database(config, err);
}

static void make_routing(struct settings *settings)
{
    struct config *config = &settings->config;

    for (size_t i = 0; i < config->provider_count; i++) {
        const struct config_provider *provider = &config->providers[i];

        settings->providers[i] = (struct routed_provider){
            .name = provider->name,
            .apis = dialect_apis(dialect_find(provider->dialect),
                                 provider->name, provider->base_url),
        };
    }
    settings->routing = (struct routing){
        .catalogue = &settings->assets.catalogue,
        .providers = settings->providers,
        .provider_count = config->provider_count,
        .routes = config->routes,
        .route_count = config->route_count,
        .embed = config->embed_route,
        .aliases = config->aliases,
        .alias_count = config->alias_count,
    };
    for (size_t i = 0; i < config->route_count; i++)
        route_locate(&config->routes[i], &settings->routing, &config->arena);
    if (config->embed_route)
        route_locate(config->embed_route, &settings->routing, &config->arena);
}

/* The supervisor reads the lines, and reads logfmt. */
static void set_log_format(const struct config *config, struct slice name)
{
    enum log_format format = LOG_LOGFMT;

    if (!config->supervised)
        log_format_parse(name, &format);
    log_set_format(format);
}

static void apply_log(const struct config *config)
{
    struct log_levels levels;
    struct error err;

    if (log_levels_parse(config->log_level, &levels, &err))
        log_set_levels(&levels);
    set_log_format(config, config->log_format);
}

/* What is odd about the first configuration is logged before its own format is
 * known. */
static bool load(struct settings *settings, const struct settings *previous,
                 struct error *err)
{
    struct config *config = &settings->config;

    if (!previous)
        set_log_format(config, slice_of(getenv("LLM_ROUTER_LOG_FORMAT")));
    return config_load(config, previous ? &previous->config : NULL, err) &&
           check(config, err) &&
           assets_load(&config->arena, config, &settings->assets, err) &&
           load_tls(settings, err);
}

struct settings *settings_load(int argc, const char *const *argv,
                               const struct handover *handed,
                               const struct settings *previous,
                               struct error *err)
{
    struct settings *settings = mem_alloc(sizeof(*settings));
    enum command command;

    settings->references = 1;
    config_init(&settings->config);
    if (handed)
        config_hand_over(&settings->config, handed);
    if (!config_parse_arguments(&settings->config, argc, argv, &command, err) ||
        !load(settings, previous, err)) {
        settings_drop(settings);
        return NULL;
    }
    make_routing(settings);
    return settings;
}

struct settings *settings_keep(struct settings *settings)
{
    settings->references++;
    return settings;
}

void settings_drop(struct settings *settings)
{
    if (!settings || --settings->references > 0)
        return;
    tls_context_free(settings->tls);
    assets_release(&settings->assets);
    config_release(&settings->config);
    mem_free(settings);
}

const struct config_provider *settings_provider(const struct settings *settings,
                                                struct slice name)
{
    const struct config *config = &settings->config;

    for (size_t i = 0; i < config->provider_count; i++)
        if (slice_equal(config->providers[i].name, name))
            return &config->providers[i];
    return NULL;
}

const struct config_key *settings_key(const struct config_provider *provider,
                                      struct slice name)
{
    for (size_t i = 0; i < provider->key_count; i++)
        if (slice_equal(provider->keys[i].name, name))
            return &provider->keys[i];
    return NULL;
}

void settings_apply(const struct settings *settings, struct supply *supply)
{
    const struct config *config = &settings->config;

    apply_log(config);
    supply_declare_begin(supply, &config->budget);
    for (size_t i = 0; i < config->provider_count; i++) {
        const struct config_provider *provider = &config->providers[i];

        supply_declare_provider(supply, provider->name, provider->in_flight);
        for (size_t k = 0; k < provider->key_count; k++)
            supply_declare_key(supply, provider->name, provider->keys[k].name,
                               &provider->keys[k].limits);
    }
    supply_declare_end(supply);
}
