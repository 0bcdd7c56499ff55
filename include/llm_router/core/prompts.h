/* The texts of priv/prompts and priv/schemas, read once at start (by
 * config/assets) and shared by all requests. */
#ifndef LLM_ROUTER_CORE_PROMPTS_H
#define LLM_ROUTER_CORE_PROMPTS_H

#include "llm_router/base/arena.h"
#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"

/*        field                 file below priv/ */
#define PROMPT_FILES(X)                                                   \
    X(generate_task_system, "prompts/generate_task.system.txt")           \
    X(generate_task_user, "prompts/generate_task.user.txt")               \
    X(parse_prd_system, "prompts/parse_prd.system.txt")                   \
    X(parse_prd_user, "prompts/parse_prd.user.txt")                       \
    X(expand_task_system, "prompts/expand_task.system.txt")               \
    X(expand_task_user, "prompts/expand_task.user.txt")                   \
    X(analyze_complexity_system, "prompts/analyze_complexity.system.txt") \
    X(analyze_complexity_user, "prompts/analyze_complexity.user.txt")     \
    X(research_system, "prompts/research.system.txt")                     \
    X(research_user, "prompts/research.user.txt")                         \
    X(repair, "prompts/repair.txt")                                       \
    X(continuation, "prompts/continuation.txt")                           \
    X(merge, "prompts/merge.txt")                                         \
    X(object, "prompts/object.txt")                                       \
    X(language, "prompts/language.txt")                                   \
    X(task_schema, "schemas/task.json")                                   \
    X(task_list_schema, "schemas/task_list.json")                         \
    X(subtask_list_schema, "schemas/subtask_list.json")                   \
    X(analysis_list_schema, "schemas/analysis_list.json")                 \
    X(research_schema, "schemas/research.json")

struct prompts {
#define X(field, file) struct slice field;
    PROMPT_FILES(X)
#undef X
};

struct prompt_variable {
    const char *name;
    struct slice value;
};

/* Replaces each {{name}} in `text`; values are taken as they are, whatever they
 * hold. A name that is not given stays: prompts_check finds those at start. */
struct slice prompt_fill(struct arena *arena, struct slice text,
                         const struct prompt_variable *variables, size_t count);

/* `text` as it can stand between <tag> and </tag>: a closing tag of that name
 * inside it becomes <\/tag>, which in JSON still means the same. Lends `text`
 * itself when there is none. */
struct slice prompt_quote(struct arena *arena, struct slice text,
                          const char *tag);

/* Every {{name}} is one that this program fills, those that carry what the
 * caller sent are there, and the schemas are in the strict subset (schema.h).
 * ERR_INVALID_REQUEST with the file as path. */
bool prompts_check(const struct prompts *prompts, struct error *err);

#endif
