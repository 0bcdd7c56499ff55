#include "llm_router/core/chat.h"

static const char *const finish_reasons[] = {
    [FINISH_STOP] = "stop",
    [FINISH_LENGTH] = "length",
    [FINISH_TOOL_CALLS] = "tool_calls",
    [FINISH_CONTENT_FILTER] = "content_filter",
    [FINISH_REFUSAL] = "refusal",
};

const char *finish_reason_atom(enum finish_reason reason)
{
    return finish_reasons[reason];
}
