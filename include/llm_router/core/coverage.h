/* Which heading of a document each task came from, and which headings none
 * came from.
 *
 * A model names the heading of each task; the name is believed only when the
 * document has it. Else the task's own words decide, when enough of them are
 * in one section; else it has no source. */
#ifndef LLM_ROUTER_CORE_COVERAGE_H
#define LLM_ROUTER_CORE_COVERAGE_H

#include "llm_router/core/headings.h"
#include "llm_router/core/task.h"
#include "llm_router/core/warnings.h"

/* Where in a document something stands. */
struct heading {
    struct slice text; /* without its marks; empty: before the first heading */
    int64_t line;      /* from 1 */
    bool covered;      /* some task came of it, or of a heading below it */
};

/* What parse_prd made of which part of the document. */
struct coverage {
    const struct heading *headings;
    size_t count;          /* 0: the document has no headings */
    const size_t *sources; /* index of a heading, for each task of the list;
                              SOURCE_NONE: not known */
};
#define SOURCE_NONE SIZE_MAX

/* Reads task->source; a name that the document does not have, or not so, gives
 * a warning. All in the arena. */
void coverage_trace(struct arena *arena, const struct outline *outline,
                    const struct task_list *tasks, struct coverage *coverage,
                    struct warnings *warnings);

#endif
