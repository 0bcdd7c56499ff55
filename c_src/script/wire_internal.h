/* The worker's half of what is said between it and its parent. */
#ifndef LLM_ROUTER_SCRIPT_WIRE_INTERNAL_H
#define LLM_ROUTER_SCRIPT_WIRE_INTERNAL_H

#include "llm_router/script/worker.h"

/* A frame is what was appended between the two; the first gives its start. End
 * is false when it has become too large. */
size_t script_begin_frame(struct buf *out);
bool script_end_frame(struct buf *out, size_t start);

/* Text is borrowed from `json`. The context comes apart from the request, as a
 * value; NULL: nil. */
bool script_read_request(struct arena *arena, struct slice json,
                         struct script_request *request,
                         const struct jv **context, struct script_fault *fault);

void script_put_fault(struct buf *out, const struct script_fault *fault);

#endif
