/* SHA-256, to know a question again without keeping it. */
#ifndef LLM_ROUTER_BASE_DIGEST_H
#define LLM_ROUTER_BASE_DIGEST_H

#include "llm_router/base/slice.h"

enum { DIGEST_SIZE = 32 };

void digest_sha256(struct slice bytes, unsigned char digest[DIGEST_SIZE]);

#endif
