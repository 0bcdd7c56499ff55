#include "llm_router/core/task.h"

static const char *const priorities[] = {
    [PRIORITY_HIGH] = "high",
    [PRIORITY_MEDIUM] = "medium",
    [PRIORITY_LOW] = "low",
};

const char *priority_atom(enum priority priority)
{
    return priorities[priority];
}
