/* The state of the operations that give tasks, and their questions. */
#ifndef LLM_ROUTER_CORE_PLANNING_INTERNAL_H
#define LLM_ROUTER_CORE_PLANNING_INTERNAL_H

#include "dialogue_internal.h"

/* A task operation: what it is called in prompts, answers and paths. */
struct task_operation {
    enum operation operation;
    const char *tag;  /* encloses the caller's text, and is its {{name}} */
    const char *noun; /* "exactly 5 tasks" */
    struct tasks_shape shape;
    const char *schema_name;
    size_t system, user, schema; /* offsets in struct prompts */
};

struct planning {
    const struct task_operation *operation;
    struct task_numbering numbering;
    struct outline outline; /* of a document that is read in parts */
    struct slice *parts;    /* the text by itself when it is read at once */
    size_t part, part_count;
    size_t wanted; /* of the question; 0: the model decides */
    bool merging;  /* the question is to make fewer of the tasks */
    struct raw_task_list before; /* of the parts before this one */
    struct raw_task_list kept;   /* and what was complete of a cut answer */
    struct raw_task_list spare;  /* of the wrong length */
};

struct slice planning_prompt(const struct dialogue *d, size_t offset);

/* About the part at hand, from what is set in the planning. */
void planning_ask_part(struct dialogue *d);

/* To make `wanted` tasks of a list. */
void planning_ask_merge(struct dialogue *d, const struct raw_task_list *list);

/* What is said behind an answer that was cut; `kept` is complete. */
struct slice planning_continuation(struct dialogue *d);

#endif
