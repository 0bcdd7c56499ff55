/* What the files of this layer share. */
#ifndef LLM_ROUTER_JSON_INTERNAL_H
#define LLM_ROUTER_JSON_INTERNAL_H

#include "llm_router/json/value.h"

enum { JV_DEPTH_LIMIT = 1024 }; /* bounds the recursion of the reader */

/* The clean text of a string's bytes between its quotes: lent when nothing had
 * to change, else in the arena. `cut`: the closing quote is missing, so a half
 * character or escape at the end is dropped. */
struct slice json_text(struct arena *arena, struct slice raw, bool cut);

/* Bytes at the front of `text` that stand in a JSON string as they are: no
 * quote, backslash or control character. */
size_t json_plain_run(struct slice text);

/* The same, ASCII only: what such a run and a quote behind it make is clean. */
size_t json_ascii_run(struct slice text);

void json_put_integer(struct buf *out, int64_t value);

/* Sorts by key, members of one key by their place in the object. */
void json_sort_members(const struct jv_member **members, size_t count);

#endif
