/* The dialects, each in a file of its own, and what they share. */
#ifndef LLM_ROUTER_PROVIDER_DIALECTS_INTERNAL_H
#define LLM_ROUTER_PROVIDER_DIALECTS_INTERNAL_H

#include "llm_router/provider/provider.h"

extern const struct dialect dialect_openai;

/* Appends "NAME: VALUE" if value is not empty. ERR_INVALID_REQUEST when it has
 * CR, LF or NUL, which would make a header of its own. */
bool request_add_header(struct arena *arena, struct provider_request *request,
                        const char *name, struct slice value,
                        struct error *err);

/* What a status and an error object say. `type` and `code` as the provider
 * wrote them, maybe empty. Fills all of *failure but its retry headers; the
 * message is cleaned, cut and freed of anything that looks like a key. */
void classify(int status, struct slice code, struct slice type,
              struct slice message, struct slice api_key,
              struct provider_failure *failure);

/* retry-after-ms, retry-after and x-should-retry. */
void read_retry_headers(const struct provider_headers *headers, int64_t now_s,
                        struct failure *retry);

#endif
