/* From a model's text to a task list that holds the invariants: repair before
 * rejection, nothing invented.
 *
 * Two steps, so that several answers can be joined in between:
 * tasks_read finds the list in the text and takes over each element that can
 * be a task; tasks_settle makes the invariants true: ids 1..n (from next_id),
 * titles one line of 1..200 characters, dependencies existing, distinct,
 * acyclic and smaller than their task's id (topological order, stable),
 * priority in its enum.
 *
 * Every repair adds one warning that names it. All memory is the arena's. Work
 * is at most n log n in the size of the answer. */
#ifndef LLM_ROUTER_CORE_TASK_RULES_H
#define LLM_ROUTER_CORE_TASK_RULES_H

#include "llm_router/base/arena.h"
#include "llm_router/base/error.h"
#include "llm_router/core/task.h"
#include "llm_router/core/warnings.h"

/* A task as the model wrote it: id and dependencies still the model's. */
struct raw_task {
    struct task task;    /* all but id and dependencies */
    struct slice id;     /* "1", "T-3"; empty if it gave none */
    bool id_is_number;   /* it wrote 1, not "1" */
    struct slice *needs; /* the ids it depends on */
    size_t need_count;
    unsigned part; /* of the answer, when it came in several: 0, 1, ... */
};

struct raw_task_list {
    struct raw_task *tasks;
    size_t count;
    bool cut; /* the text ended before the list did */
    struct warnings warnings;
};

/* What a list looks like when a model does as it is told. */
struct tasks_shape {
    const char *member; /* the array's name: "tasks"; also begins error paths */
    bool single;        /* one task by itself will do */
    size_t max;         /* more elements are refused */
};

/* Finds the JSON by answer_find_json and the list in it: the member, the only
 * array of objects, the whole value, or one of these one level deeper
 * ({"data": ...}). ERR_INVALID_OUTPUT with the path of the first fault
 * ("tasks[2].title") when there is no list, it is over max, an element has no
 * usable title, or the text ends before its first element does. */
bool tasks_read(struct arena *arena, struct slice text,
                const struct tasks_shape *shape, struct raw_task_list *list,
                struct error *err);

/* Appends a later part of one answer. Tasks that repeat a title of `list` are
 * left out. */
void tasks_join(struct arena *arena, struct raw_task_list *list,
                const struct raw_task_list *part);

struct task_numbering {
    int64_t next_id;         /* of the first task: 1, or opts next_id */
    const int64_t *existing; /* ids from next_id on are not taken */
    size_t existing_count;
};

/* Gives the tasks from `from` on the ids that follow by their places, and what
 * they need likewise, so that the question for a later part of a document can
 * name them. What needs nothing that is there is dropped. */
void tasks_number(struct arena *arena, struct raw_task_list *list, size_t from,
                  const struct task_numbering *numbering);

/* The id by which the model knows the task at `index`: its own, or by place. */
struct slice raw_task_id(struct arena *arena, const struct raw_task_list *list,
                         size_t index, int64_t next_id);

/* Warnings of the list and of the settling are added to `warnings`. */
void tasks_settle(struct arena *arena, const struct raw_task_list *list,
                  const struct task_numbering *numbering,
                  struct task_list *tasks, struct warnings *warnings);

#endif
