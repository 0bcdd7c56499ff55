/* What makes two requests the same question: for the check that one request_id
 * stands for one question, and for the cache.
 *
 * Everything that may change the answer is in it: the operation, its texts,
 * messages, counts and schema, and the options that choose a model or go to
 * it. Not in it: request_id, timeout, keys, return, metadata, to and cache. */
#ifndef LLM_ROUTER_CORE_FINGERPRINT_H
#define LLM_ROUTER_CORE_FINGERPRINT_H

#include "llm_router/base/buf.h"
#include "llm_router/core/request.h"

/* Appends bytes that are equal just when the questions are. Means nothing if
 * `out` failed. For this machine only: not to be stored. */
void request_fingerprint(const struct request *request, struct buf *out);

#endif
