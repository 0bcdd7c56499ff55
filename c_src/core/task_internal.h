/* What the files behind task_rules.h share. */
#ifndef LLM_ROUTER_CORE_TASK_INTERNAL_H
#define LLM_ROUTER_CORE_TASK_INTERNAL_H

#include "llm_router/core/task_rules.h"
#include "llm_router/json/value.h"

/* One element being read; `path` is what its faults and repairs are called. */
struct reading {
    struct arena *arena;
    struct warnings *warnings;
    char path[48];
};

/* False: `value` cannot be a task; the error's path says where. */
bool task_read(struct reading *reading, const struct jv *value,
               struct raw_task *task, struct error *err);

bool task_has_title(const struct jv *value);

/* Who needs whom, as edges of a graph: node i needs to[first[i]] up to
 * to[first[i + 1]]. Targets of `count` and more lie outside. */
struct graph {
    size_t count;
    size_t *first; /* count + 1 */
    size_t *to;
    bool *dropped; /* for each edge */
};

/* Drops edges until no cycle is left; without any one of them there would be
 * none less. Prefers those to later nodes. */
void graph_break_cycles(struct arena *arena, struct graph *graph);

/* The nodes of an acyclic graph, each behind those that it needs, else as
 * early as its place allows. */
void graph_sort(struct arena *arena, const struct graph *graph, size_t *order);

#endif
