/* The JSON, or the words, in a model's text. */
#ifndef LLM_ROUTER_CORE_ANSWER_H
#define LLM_ROUTER_CORE_ANSWER_H

#include "llm_router/json/value.h"

/* The largest JSON object or array in `text`: all of it, the inside of a code
 * fence, or one in prose. What a reasoning model wrote between <think> and
 * </think> is passed over; trailing commas are accepted. NULL: there is none.
 * `*cut`: the text ended inside the value, which holds what was complete
 * (jv.complete). Text borrows from `text`. Work is linear in its size. */
const struct jv *answer_find_json(struct arena *arena, struct slice text,
                                  bool *cut);

/* The text without what a reasoning model wrote between <think> and </think>,
 * and without a code fence around all of it. Lends. */
struct slice answer_text(struct slice text);

#endif
