/* From a model's text to one analysis for each task that was asked about. */
#ifndef LLM_ROUTER_CORE_ANALYSIS_H
#define LLM_ROUTER_CORE_ANALYSIS_H

#include "llm_router/core/request.h"
#include "llm_router/core/warnings.h"

enum {
    ANALYSIS_SCORE_MAX = 10,
    ANALYSIS_SUBTASKS_MAX = 100,
};

/* Of one task of analyze_complexity. */
struct analysis {
    const struct given_task *task; /* NULL: not there yet */
    int64_t score;                 /* 1..10 */
    int64_t subtasks;              /* recommended, 0..100 */
    struct slice expansion_prompt; /* data NULL: absent (nil) */
    struct slice reasoning;        /* likewise */
};

/* The analyses of all given tasks, by place, and those that are asked for now.
 * The model knows a task by its place, from 1. */
struct analyses {
    const struct given_task *given;
    struct analysis *all;
    size_t count;
    const size_t *asked; /* places */
    size_t asked_count;
};

/* Takes over each element of the answer that belongs to a task asked for and
 * has a score and a number of subtasks; what is wrong about others is the
 * error, else the first task that has none. True: all that were asked for are
 * there. `*cut`: the answer ended too early.
 *
 * An element belongs to the task of its number and title, else of its title,
 * else of its number, else to the one at its place. */
bool analyses_read(struct arena *arena, struct slice text,
                   struct analyses *analyses, bool *cut,
                   struct warnings *warnings, struct error *err);

#endif
