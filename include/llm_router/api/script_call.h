/* call_with_script: from what a script made to a call.
 *
 * The script's options hold where the caller gave none. */
#ifndef LLM_ROUTER_API_SCRIPT_CALL_H
#define LLM_ROUTER_API_SCRIPT_CALL_H

#include "llm_router/core/request.h"

/* Fills the messages and options of `request`, which is one of
 * OP_CALL_WITH_SCRIPT as its caller wrote it, and drops its context. `messages`
 * is an array and `options` an object or NULL, both as JSON; what is kept of
 * them is copied into the arena. ERR_SCRIPT_ERROR, with what is wrong and where
 * in the message. */
bool script_call_apply(const struct jv *messages, const struct jv *options,
                       struct arena *arena, struct request *request,
                       struct error *err);

#endif
