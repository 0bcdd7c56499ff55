#include <ctype.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config_internal.h"
#include "llm_router/base/log.h"

enum { NAME_MAX_BYTES = 64, HIDDEN_MAX = 2 };

/* The providers that their own environment variables switch on. Of two
 * variables the first that is set counts. */
static const struct known {
    const char *name;
    const char *dialect;
    const char *key_variables[HIDDEN_MAX];
    const char *url_variables[HIDDEN_MAX];
    const char *organization_variable;
    const char *project_variable;
    const char *version_variable;
    const char *base_url; /* NULL: must be given */
} known[] = {
    {"openai",
     "openai",
     {"OPENAI_API_KEY"},
     {"OPENAI_BASE_URL"},
     "OPENAI_ORG_ID",
     "OPENAI_PROJECT_ID",
     NULL,
     "https://api.openai.com/v1"},
    {"anthropic",
     "anthropic",
     {"ANTHROPIC_API_KEY"},
     {"ANTHROPIC_BASE_URL"},
     NULL,
     NULL,
     NULL,
     "https://api.anthropic.com"},
    {"gemini",
     "gemini",
     {"GEMINI_API_KEY", "GOOGLE_API_KEY"},
     {"GEMINI_BASE_URL"},
     NULL,
     NULL,
     NULL,
     "https://generativelanguage.googleapis.com"},
    {"mistral",
     "openai",
     {"MISTRAL_API_KEY"},
     {"MISTRAL_BASE_URL"},
     NULL,
     NULL,
     NULL,
     "https://api.mistral.ai/v1"},
    {"deepseek",
     "openai",
     {"DEEPSEEK_API_KEY"},
     {"DEEPSEEK_BASE_URL"},
     NULL,
     NULL,
     NULL,
     "https://api.deepseek.com/v1"},
    {"xai",
     "openai",
     {"XAI_API_KEY"},
     {"XAI_BASE_URL"},
     NULL,
     NULL,
     NULL,
     "https://api.x.ai/v1"},
    {"azure",
     "azure",
     {"AZURE_OPENAI_API_KEY"},
     {"AZURE_OPENAI_ENDPOINT"},
     NULL,
     NULL,
     "OPENAI_API_VERSION",
     NULL},
    {"openrouter",
     "openai",
     {"OPENROUTER_API_KEY"},
     {"OPENROUTER_BASE_URL"},
     NULL,
     NULL,
     NULL,
     "https://openrouter.ai/api/v1"},
    {"groq",
     "openai",
     {"GROQ_API_KEY"},
     {"GROQ_BASE_URL"},
     NULL,
     NULL,
     NULL,
     "https://api.groq.com/openai/v1"},
    {"ollama",
     "ollama",
     {NULL},
     {"OLLAMA_HOST", "OLLAMA_BASE_URL"},
     NULL,
     NULL,
     NULL,
     NULL},
    {"vllm",
     "openai",
     {"VLLM_API_KEY"},
     {"VLLM_BASE_URL"},
     NULL,
     NULL,
     NULL,
     NULL},
    {"llamacpp",
     "openai",
     {"LLAMA_API_KEY"},
     {"LLAMACPP_BASE_URL"},
     NULL,
     NULL,
     NULL,
     NULL},
};

enum { KNOWN_COUNT = sizeof(known) / sizeof(known[0]) };

static const struct known *find_known(struct slice name)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (slice_is(name, known[i].name))
            return &known[i];
    return NULL;
}

bool provider_is_known(struct slice name)
{
    return find_known(name) != NULL;
}

struct slice config_real_provider(const struct config *config,
                                  struct slice name)
{
    for (size_t i = 0; i < config->alias_count; i++)
        if (slice_equal(config->aliases[i].alias, name))
            return config->aliases[i].provider;
    return name;
}

struct config_provider *provider_find_or_add(struct config *config,
                                             struct slice name)
{
    struct config_provider *provider;

    for (size_t i = 0; i < config->provider_count; i++)
        if (slice_equal(config->providers[i].name, name))
            return &config->providers[i];
    if (config->provider_count == CONFIG_PROVIDERS_MAX)
        return NULL;
    provider = &config->providers[config->provider_count++];
    *provider =
        (struct config_provider){.name = arena_copy(&config->arena, name)};
    return provider;
}

const struct key_limits NO_LIMITS = {.budget = {(double)NAN, (double)NAN}};

/* What may be wrong with texts. */

const char *provider_name_fault(struct slice text)
{
    if (text.size == 0 || text.size > NAME_MAX_BYTES)
        return "must be 1 to 64 letters, digits, _ - and .";
    for (size_t i = 0; i < text.size; i++)
        if (!isalnum((unsigned char)text.data[i]) &&
            !memchr("_-.", text.data[i], 3))
            return "must be 1 to 64 letters, digits, _ - and .";
    return NULL;
}

/* What goes into a header. */
const char *header_fault(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] <= ' ' || text.data[i] > '~')
            return "must be without spaces, control characters and letters "
                   "that are not ASCII";
    return NULL;
}

const char *url_fault(struct slice url)
{
    struct slice rest = url;

    if (slice_starts_with(url, "https://"))
        rest = slice_make(url.data + 8, url.size - 8);
    else if (slice_starts_with(url, "http://"))
        rest = slice_make(url.data + 7, url.size - 7);
    else
        return "must begin with https:// or http://";
    if (rest.size == 0 || rest.data[0] == '/' || header_fault(rest) ||
        memchr(rest.data, '?', rest.size) || memchr(rest.data, '#', rest.size))
        return "is not a base URL such as https://HOST/v1";
    if (memchr(rest.data, '@', rest.size))
        return "must not hold credentials";
    return NULL;
}

const char *dialect_fault(struct slice text)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (slice_is(text, known[i].dialect))
            return NULL;
    return "must be \"openai\", \"anthropic\", \"gemini\", \"azure\" or "
           "\"ollama\"";
}

/* From the environment. */

static struct slice variable(struct config *config, const char *name)
{
    const char *value = name ? getenv(name) : NULL;

    return arena_copy(&config->arena, slice_trim(slice_of(value)));
}

static bool set_header(struct config *config, const char *name,
                       struct slice *text, struct error *err)
{
    struct slice value = variable(config, name);

    if (value.size == 0)
        return true;
    if (header_fault(value))
        return error_at(err, ERR_INVALID_REQUEST, name, "%s",
                        header_fault(value));
    *text = value;
    return true;
}

/* "HOST", "HOST:PORT" or a URL, as Ollama's own program reads it. */
static struct slice ollama_url(struct config *config, struct slice host)
{
    const char *last = host.data + host.size;
    bool has_port;

    if (slice_find(host, SLICE_LITERAL("://")) >= 0)
        return host;
    while (last > host.data && isdigit((unsigned char)last[-1]))
        last--;
    has_port = last > host.data && last[-1] == ':' &&
               memchr(host.data, ':', host.size) == last - 1;
    has_port = has_port ||
               (last > host.data + 1 && last[-1] == ':' && last[-2] == ']');
    return arena_printf(&config->arena, "http://%s%.*s%s",
                        last - 1 == host.data && has_port ? "127.0.0.1" : "",
                        SLICE_ARG(host), has_port ? "" : ":11434");
}

static bool find_url(struct config *config, const struct known *row,
                     struct slice *url, struct error *err)
{
    for (size_t i = 0; i < HIDDEN_MAX && row->url_variables[i]; i++) {
        const char *name = row->url_variables[i];

        *url = variable(config, name);
        if (url->size == 0)
            continue;
        if (!strcmp(name, "OLLAMA_HOST"))
            *url = ollama_url(config, *url);
        return !url_fault(*url) ||
               error_at(err, ERR_INVALID_REQUEST, name, "%s", url_fault(*url));
    }
    return true;
}

static bool find_secret(struct config *config, const struct known *row,
                        struct config_key *key, struct error *err)
{
    for (size_t i = 0; i < HIDDEN_MAX && row->key_variables[i]; i++) {
        const char *name = row->key_variables[i];

        if (key->secret.size > 0) {
            config_secret_variable(config, name); /* unused, but hidden */
            continue;
        }
        if (!config_load_secret(config, name, &key->secret, err))
            return false;
        if (key->secret.size == 0)
            continue;
        key->env = slice_of(name);
        if (header_fault(key->secret))
            return error_at(err, ERR_INVALID_REQUEST, name,
                            "the key has a space or a control character");
    }
    return true;
}

bool provider_has_secret(const struct config_provider *provider)
{
    for (size_t i = 0; i < provider->key_count; i++)
        if (provider->keys[i].secret.size > 0)
            return true;
    return false;
}

/* The keys that the file names win: it says where each comes from. */
static void give_key(struct config *config, struct config_provider *provider,
                     const struct config_key *found)
{
    struct config_key *key;

    if (provider_has_secret(provider))
        return;
    key = arena_alloc(&config->arena, sizeof(*key));
    *key = *found;
    if (provider->key_count > 0)
        key->limits = provider->keys[0].limits;
    provider->keys = key;
    provider->key_count = 1;
}

static bool switch_on(struct config *config, const struct known *row,
                      struct error *err)
{
    struct config_key key = {.name = SLICE_LITERAL("default"),
                             .limits = NO_LIMITS};
    struct slice url = {NULL, 0}, name = slice_of(row->name);
    struct config_provider *provider = NULL;

    if (!find_secret(config, row, &key, err) ||
        !find_url(config, row, &url, err))
        return false;
    for (size_t i = 0; i < config->provider_count; i++)
        if (slice_equal(config->providers[i].name, name))
            provider = &config->providers[i];
    if (!provider && key.secret.size == 0 && url.size == 0)
        return true;
    provider = provider_find_or_add(config, name);
    if (!provider)
        return error_set(err, ERR_INVALID_REQUEST, "more than %d providers",
                         CONFIG_PROVIDERS_MAX);
    give_key(config, provider, &key);
    if (url.size > 0)
        provider->base_url = url;
    return set_header(config, row->organization_variable,
                      &provider->organization, err) &&
           set_header(config, row->project_variable, &provider->project, err) &&
           set_header(config, row->version_variable, &provider->api_version,
                      err);
}

static bool is_loopback(struct slice url)
{
    const char *host = url.data + strlen("http://");
    size_t size = url.size - strlen("http://");
    struct slice name;

    if (slice_starts_with(slice_make(host, size), "[::1]"))
        return true;
    name = slice_make(host, 0);
    while (name.size < size && !memchr(":/", host[name.size], 2))
        name.size++;
    if (slice_is(name, "localhost"))
        return true;
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] != '.' && !isdigit((unsigned char)name.data[i]))
            return false;
    return slice_starts_with(name, "127.");
}

/* False: it cannot be used, and the log says why. */
static bool complete(struct config_provider *provider)
{
    const struct known *row = find_known(provider->name);
    bool has_url = provider->base_url.size > 0;

    if (!has_url && !(provider_has_secret(provider) && row->base_url)) {
        const char *missing =
            provider_has_secret(provider) ? "base_url" : "key";

        log_event(LOG_WARN, "config", "a provider is not used",
                  LOG_FIELDS(log_text("provider", provider->name),
                             log_text("missing", slice_of(missing))));
        return false;
    }
    if (!has_url)
        provider->base_url = slice_of(row->base_url);
    if (provider->dialect.size == 0)
        provider->dialect = slice_of(row ? row->dialect : "openai");
    while (provider->base_url.data[provider->base_url.size - 1] == '/')
        provider->base_url.size--;
    provider->plain_http = slice_starts_with(provider->base_url, "http://");
    if (provider->plain_http && provider_has_secret(provider) &&
        !is_loopback(provider->base_url))
        log_event(LOG_WARN, "config", "the key goes over plain http",
                  LOG_FIELDS(log_text("provider", provider->name)));
    return true;
}

bool config_providers_from_environment(struct config *config, struct error *err)
{
    static const struct config_key none = {.name = SLICE_LITERAL("default"),
                                           .limits.budget = {NAN, NAN}};
    size_t count = 0;

    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (!switch_on(config, &known[i], err))
            return false;
    for (size_t i = 0; i < config->provider_count; i++) {
        struct config_provider *provider = &config->providers[i];

        give_key(config, provider, &none);
        if (complete(provider))
            config->providers[count++] = *provider;
    }
    config->provider_count = count;
    return count > 0 || config->no_providers ||
           error_at(err, ERR_INVALID_REQUEST, "providers",
                    "no provider is configured: set OPENAI_API_KEY, "
                    "ANTHROPIC_API_KEY, GEMINI_API_KEY, OLLAMA_HOST or "
                    "another provider's variable, or use --config");
}

bool config_provider_variable(size_t index, const char **provider,
                              const char **name)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        const struct known *row = &known[i];
        const char *const variables[] = {
            row->key_variables[0],      row->key_variables[1],
            row->url_variables[0],      row->url_variables[1],
            row->organization_variable, row->project_variable,
            row->version_variable};

        for (size_t k = 0; k < sizeof(variables) / sizeof(*variables); k++) {
            if (!variables[k] || index-- > 0)
                continue;
            *provider = row->name;
            *name = variables[k];
            return true;
        }
    }
    return false;
}
