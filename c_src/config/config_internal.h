/* Shared by the files of the config layer. */
#ifndef LLM_ROUTER_CONFIG_INTERNAL_H
#define LLM_ROUTER_CONFIG_INTERNAL_H

#include <jansson.h>

#include "llm_router/config/config.h"

/* The "providers" object of the file. */
bool config_providers_from_json(struct config *config, json_t *providers,
                                struct error *err);

/* Switches providers on by their variables, then checks all of them. */
bool config_providers_from_environment(struct config *config,
                                       struct error *err);

json_t *config_providers_json(const struct config *config);

#endif
