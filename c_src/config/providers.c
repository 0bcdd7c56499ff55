#include <stdio.h>
#include <stdlib.h>

#include "config/config_internal.h"
#include "llm_router/base/log.h"
#include "llm_router/config/files.h"

enum { SECRET_MAX = 4096 };

/* The providers that their own environment variables switch on. */
static const struct {
    const char *name;
    const char *dialect;
    const char *key_variable;
    const char *url_variable;
    const char *organization_variable;
    const char *project_variable;
    const char *base_url;
} known[] = {
    {"openai", "openai", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID",
     "OPENAI_PROJECT_ID", "https://api.openai.com/v1"},
};

static struct config_provider *find_or_add(struct config *config,
                                           struct slice name)
{
    for (size_t i = 0; i < config->provider_count; i++)
        if (slice_equal(config->providers[i].name, name))
            return &config->providers[i];
    if (config->provider_count == CONFIG_PROVIDERS_MAX)
        return NULL;
    config->providers[config->provider_count].name =
        arena_copy(&config->arena, name);
    return &config->providers[config->provider_count++];
}

static struct slice variable(struct config *config, const char *name)
{
    const char *value = getenv(name);

    return arena_copy(&config->arena, slice_trim(slice_of(value)));
}

/* A secret: the variable, the file that NAME_FILE names, or the service
 * manager's credential of that name. Empty means not configured. */
static bool load_secret(struct config *config, const char *name,
                        struct slice *secret, struct error *err)
{
    const char *file =
        getenv(arena_printf(&config->arena, "%s_FILE", name).data);
    const char *directory = getenv("CREDENTIALS_DIRECTORY");

    *secret = variable(config, name);
    if (secret->size > 0)
        return true;
    if ((!file || file[0] == '\0') && directory) {
        file = arena_printf(&config->arena, "%s/%s", directory, name).data;
        if (!file_exists(file))
            return true;
    }
    if (!file || file[0] == '\0')
        return true;
    if (!file_read(&config->arena, file, SECRET_MAX, FILE_OWNER_ONLY, secret,
                   err))
        return false;
    *secret = slice_trim(*secret);
    return true;
}

/* From the file. */

struct provider_key {
    const char *name;
    size_t offset; /* of a slice in struct config_provider */
};

static const struct provider_key provider_keys[] = {
    {"dialect", offsetof(struct config_provider, dialect)},
    {"base_url", offsetof(struct config_provider, base_url)},
    {"organization", offsetof(struct config_provider, organization)},
    {"project", offsetof(struct config_provider, project)},
};

static bool load_key_file(struct config *config,
                          struct config_provider *provider, const char *path,
                          struct error *err)
{
    if (!file_read(&config->arena, path, SECRET_MAX, FILE_OWNER_ONLY,
                   &provider->api_key, err))
        return false;
    provider->api_key = slice_trim(provider->api_key);
    return true;
}

static bool set_provider_key(struct config *config,
                             struct config_provider *provider, const char *key,
                             const json_t *value, struct error *err)
{
    if (!json_is_string(value))
        return error_at(err, ERR_INVALID_REQUEST, key, "must be a string");
    if (!strcmp(key, "api_key_file"))
        return load_key_file(config, provider, json_string_value(value), err);
    if (!strcmp(key, "api_key_env"))
        return load_secret(config, json_string_value(value), &provider->api_key,
                           err);
    for (size_t i = 0; i < sizeof(provider_keys) / sizeof(provider_keys[0]);
         i++) {
        if (strcmp(provider_keys[i].name, key) != 0)
            continue;
        *(struct slice *)(void *)((char *)provider + provider_keys[i].offset) =
            arena_copy(&config->arena, slice_make(json_string_value(value),
                                                  json_string_length(value)));
        return true;
    }
    return error_at(err, ERR_INVALID_REQUEST, key, "there is no such key");
}

static bool load_provider(struct config *config, const char *name,
                          json_t *values, struct error *err)
{
    struct config_provider *provider = find_or_add(config, slice_of(name));
    const char *key;
    json_t *value;

    if (!provider)
        return error_set(err, ERR_INVALID_REQUEST, "more than %d providers",
                         CONFIG_PROVIDERS_MAX);
    if (!json_is_object(values))
        return error_set(err, ERR_INVALID_REQUEST, "must be an object");
    json_object_foreach(values, key, value)
    {
        if (!set_provider_key(config, provider, key, value, err))
            return false;
    }
    return true;
}

bool config_providers_from_json(struct config *config, json_t *providers,
                                struct error *err)
{
    const char *name;
    json_t *values;

    if (!json_is_object(providers))
        return error_at(err, ERR_INVALID_REQUEST, "providers",
                        "must be an object");
    json_object_foreach(providers, name, values)
    {
        if (load_provider(config, name, values, err))
            continue;
        error_in(err, name);
        return error_in(err, "providers");
    }
    return true;
}

/* Checks. */

static bool has_control(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] <= ' ' || text.data[i] == 0x7F)
            return true;
    return false;
}

static bool check_url(struct config_provider *provider, const char *path,
                      struct error *err)
{
    struct slice *url = &provider->base_url;
    size_t scheme;

    while (url->size > 0 && url->data[url->size - 1] == '/')
        url->size--;
    provider->plain_http = slice_starts_with(*url, "http://");
    scheme = strlen(provider->plain_http ? "http://" : "https://");
    if (!provider->plain_http && !slice_starts_with(*url, "https://"))
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "must begin with https:// or http://");
    if (url->size == scheme || has_control(*url) ||
        memchr(url->data, '?', url->size) || memchr(url->data, '#', url->size))
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "is not a base URL such as https://HOST/v1");
    if (memchr(url->data, '@', url->size))
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "must not hold credentials");
    return true;
}

static bool check_provider(struct config *config,
                           struct config_provider *provider, struct error *err)
{
    const char *path = arena_printf(&config->arena, "providers.%.*s",
                                    SLICE_ARG(provider->name))
                           .data;

    if (!check_url(provider, "base_url", err))
        return error_in(err, path);
    if (has_control(provider->api_key) || has_control(provider->organization) ||
        has_control(provider->project))
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "the key, organization or project has a space or a "
                        "control character");
    if (provider->plain_http && provider->api_key.size > 0 &&
        !slice_starts_with(provider->base_url, "http://127.") &&
        !slice_starts_with(provider->base_url, "http://localhost"))
        log_line(LOG_WARN, "config",
                 "provider=%.*s the key goes over plain http",
                 SLICE_ARG(provider->name));
    return true;
}

static bool switch_on(struct config *config, size_t row, struct error *err)
{
    struct slice key, url = variable(config, known[row].url_variable);
    struct config_provider *provider;

    if (!load_secret(config, known[row].key_variable, &key, err))
        return false;
    if (key.size == 0 && url.size == 0)
        return true;
    provider = find_or_add(config, slice_of(known[row].name));
    if (!provider)
        return error_set(err, ERR_INVALID_REQUEST, "more than %d providers",
                         CONFIG_PROVIDERS_MAX);
    if (key.size > 0)
        provider->api_key = key;
    if (url.size > 0)
        provider->base_url = url;
    provider->organization = variable(config, known[row].organization_variable);
    provider->project = variable(config, known[row].project_variable);
    return true;
}

static void fill_defaults(struct config_provider *provider)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!slice_is(provider->name, known[i].name))
            continue;
        if (provider->base_url.size == 0)
            provider->base_url = slice_of(known[i].base_url);
        if (provider->dialect.size == 0)
            provider->dialect = slice_of(known[i].dialect);
    }
    if (provider->dialect.size == 0)
        provider->dialect = SLICE_LITERAL("openai");
}

bool config_providers_from_environment(struct config *config, struct error *err)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (!switch_on(config, i, err))
            return false;
    if (config->provider_count == 0)
        return error_at(err, ERR_INVALID_REQUEST, "providers",
                        "no provider is configured: set OPENAI_API_KEY or "
                        "OPENAI_BASE_URL, or use --config");
    for (size_t i = 0; i < config->provider_count; i++) {
        fill_defaults(&config->providers[i]);
        if (!check_provider(config, &config->providers[i], err))
            return false;
    }
    return true;
}

json_t *config_providers_json(const struct config *config)
{
    json_t *all = json_object();

    for (size_t i = 0; i < config->provider_count; i++) {
        const struct config_provider *provider = &config->providers[i];
        json_t *one = json_object();

        for (size_t k = 0; k < sizeof(provider_keys) / sizeof(provider_keys[0]);
             k++) {
            struct slice text =
                *(const struct slice *)(const void *)((const char *)provider +
                                                      provider_keys[k].offset);

            if (text.size > 0)
                json_object_set_new(one, provider_keys[k].name,
                                    json_stringn(text.data, text.size));
        }
        if (provider->api_key.size > 0)
            json_object_set_new(one, "api_key", json_string("***"));
        json_object_setn_new(all, provider->name.data, provider->name.size,
                             one);
    }
    return all;
}
