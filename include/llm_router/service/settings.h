/* Everything that is configured, as one value that never changes:
 * configuration, certificates, prompts, catalogue, and the routing made of
 * them.
 *
 * A reload makes a new one; a job keeps the one it began with. */
#ifndef LLM_ROUTER_SERVICE_SETTINGS_H
#define LLM_ROUTER_SERVICE_SETTINGS_H

#include "llm_router/config/assets.h"
#include "llm_router/config/config.h"

struct settings {
    size_t references;
    struct config config;
    struct tls_context *tls; /* NULL: the distribution is not within TLS */
    struct assets assets;    /* in the configuration's arena */
    struct routed_provider providers[CONFIG_PROVIDERS_MAX];
    struct routing routing;
};

/* Reads and checks all of it; the command line is one that
 * config_parse_arguments accepts. `handed` is what came on standard input (NULL
 * or empty: nothing). `previous` (NULL at start) has the secrets of
 * the environment, which are read once. ERR_INVALID_REQUEST with the key, file
 * or variable as path. May be called in another thread than the loop's. */
struct settings *settings_load(int argc, const char *const *argv,
                               const struct handover *handed,
                               const struct settings *previous,
                               struct error *err);
struct settings *settings_keep(struct settings *settings);
void settings_drop(struct settings *settings); /* NULL is allowed */

/* NULL if there is none of that name. */
const struct config_provider *settings_provider(const struct settings *settings,
                                                struct slice name);
const struct config_key *settings_key(const struct config_provider *provider,
                                      struct slice name);

/* Log level, providers, keys and limits take effect. */
void settings_apply(const struct settings *settings, struct supply *supply);

#endif
