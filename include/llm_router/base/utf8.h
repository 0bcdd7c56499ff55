/* UTF-8 as RFC 3629: no surrogates, no overlong forms, at most U+10FFFF. */
#ifndef LLM_ROUTER_BASE_UTF8_H
#define LLM_ROUTER_BASE_UTF8_H

#include "llm_router/base/arena.h"
#include "llm_router/base/slice.h"

/* Length in bytes of the valid character at the front of `text`, 0 if there is
 * none (empty, invalid or cut). */
size_t utf8_char_size(struct slice text);

bool utf8_is_valid(struct slice text);

/* Valid UTF-8 without NUL: bad bytes become U+FFFD, NUL is dropped. Lends
 * `text` itself when it is clean, else a copy in the arena. */
struct slice utf8_clean(struct arena *arena, struct slice text);

/* The longest prefix of at most `max_bytes` that ends at a character. */
struct slice utf8_cut(struct slice text, size_t max_bytes);

/* Characters in valid UTF-8. */
size_t utf8_length(struct slice text);

/* Writes up to 4 bytes and returns how many; 0 for a surrogate or a value
 * over U+10FFFF. */
size_t utf8_encode(uint32_t code_point, char out[4]);

#endif
