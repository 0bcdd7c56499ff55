/* Tasks as callers get them: every list made by task_rules.h holds the
 * invariants of docs/calling.md ("Values"). */
#ifndef LLM_ROUTER_CORE_TASK_H
#define LLM_ROUTER_CORE_TASK_H

#include "llm_router/base/slice.h"

enum priority { PRIORITY_HIGH, PRIORITY_MEDIUM, PRIORITY_LOW };
const char *priority_atom(enum priority priority);

enum { TASK_TITLE_MAX = 200 /* characters */ };

struct task {
    int64_t id;
    struct slice title;
    struct slice description;   /* data NULL: absent (nil) */
    struct slice details;       /* likewise */
    struct slice test_strategy; /* likewise */
    struct slice source; /* likewise: the heading of the document it is from,
                            as the model names it (see coverage.h) */
    enum priority priority;
    int64_t *dependencies;
    size_t dependency_count;
    double estimated_hours; /* NAN: absent */
};

struct task_list {
    struct task *tasks;
    size_t count;
};

#endif
