/* The dialects, each in a file of its own, and what they share. */
#ifndef LLM_ROUTER_PROVIDER_DIALECTS_INTERNAL_H
#define LLM_ROUTER_PROVIDER_DIALECTS_INTERNAL_H

#include "llm_router/json/value.h"
#include "llm_router/provider/provider.h"

extern const struct dialect dialect_openai;

/* Sets the address to base_url and `path`. ERR_INVALID_REQUEST when the base
 * has spaces or control characters. */
bool request_set_url(struct arena *arena, struct provider_request *request,
                     struct slice base_url, const char *path,
                     struct error *err);

/* Appends `start` ("NAME: ", or "NAME: SCHEME ") and value if value is not
 * empty. ERR_INVALID_REQUEST when value has a control character: CR and LF
 * would make a header of its own, NUL would cut it. */
bool request_add_header(struct arena *arena, struct provider_request *request,
                        const char *start, struct slice value,
                        struct error *err);

/* What is known of an answer that is an error or holds one. */
struct fault {
    int status;            /* of HTTP; 2xx for an error inside an answer */
    struct slice code;     /* "rate_limit_exceeded", or empty */
    struct slice type;     /* "invalid_request_error", or empty */
    int64_t number;        /* a numeric code, which means a status; or 0 */
    struct slice message;  /* the provider's own words, or empty */
    struct slice api_key;  /* to be cut out of them */
    struct failure advice; /* of the headers */
};

/* retry-after-ms, retry-after and x-should-retry; the rest is left clear. */
struct failure failure_advice(const struct provider_headers *headers,
                              int64_t now_s);

/* Reads the shapes in use: {"error":{message,type,code}}, {"error":"..."},
 * {"message","type","code"}, {"detail":...}. `document` may be NULL. */
void fault_read(struct fault *fault, const struct jv *document);

/* Classifies by code, type, number and status. */
void failure_from_fault(struct provider_failure *failure,
                        const struct fault *fault);

/* The provider's format was not kept; another attempt may do better. */
void failure_bad_response(struct provider_failure *failure, int status,
                          const char *reason);

/* `text` without control characters, with `secret` and what looks like a key
 * replaced, cut at a character to `size` bytes with the NUL. */
void redact(struct slice text, struct slice secret, char *out, size_t size);

#endif
