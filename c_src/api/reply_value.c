#include "api/reply_internal.h"

#include <math.h>

#include "llm_router/api/json_term.h"

/* A whole number of hours is an integer: 4, not 4.0. */
static void put_hours(struct buf *out, double hours)
{
    if (!isfinite(hours))
        term_put_atom(out, "nil");
    else if (trunc(hours) == hours && fabs(hours) < 1e15)
        term_put_integer(out, (int64_t)hours);
    else
        term_put_float(out, hours);
}

static void put_dependencies(struct buf *out, const struct task *task)
{
    term_put_list(out, task->dependency_count);
    for (size_t i = 0; i < task->dependency_count; i++)
        term_put_integer(out, task->dependencies[i]);
    term_put_nil(out);
}

static void put_task(struct buf *out, enum key_style style,
                     const struct task *task)
{
    term_put_map(out, 10);
    put_name(out, style, "id");
    term_put_integer(out, task->id);
    put_text_field(out, style, "title", task->title);
    put_text_field(out, style, "description", task->description);
    put_text_field(out, style, "details", task->details);
    put_text_field(out, style, "test_strategy", task->test_strategy);
    put_name(out, style, "priority");
    put_name(out, style, priority_atom(task->priority));
    put_name(out, style, "status");
    put_name(out, style, "pending");
    put_name(out, style, "dependencies");
    put_dependencies(out, task);
    put_name(out, style, "subtasks");
    term_put_nil(out);
    put_name(out, style, "estimated_hours");
    put_hours(out, task->estimated_hours);
}

static void put_tasks(struct buf *out, enum key_style style,
                      const struct task_list *list)
{
    term_put_list(out, list->count);
    for (size_t i = 0; i < list->count; i++)
        put_task(out, style, &list->tasks[i]);
    term_put_nil(out);
}

static bool is_subtasks(struct term key)
{
    struct slice name;

    return term_is_atom(key, "subtasks") ||
           (term_binary(key, &name) && slice_is(name, "subtasks"));
}

/* The pairs of the caller's map but its subtasks, one run of raw bytes each;
 * counts them when `out` is NULL. */
static size_t put_own_pairs(struct buf *out, struct term map)
{
    struct term key, value;
    size_t kept = 0;
    uint32_t pairs;

    if (!term_map(map, &pairs, &key))
        return 0;
    for (; pairs > 0; pairs--) {
        value = term_next(key);
        if (!is_subtasks(key)) {
            kept++;
            if (out) {
                term_put_raw(out, term_raw(key));
                term_put_raw(out, term_raw(value));
            }
        }
        if (pairs > 1)
            key = term_next(value);
    }
    return kept;
}

static void put_expanded(struct buf *out, const struct request *request,
                         const struct task_list *subtasks)
{
    enum key_style style = request->options.keys;

    if (style == KEYS_DEFAULT && request->caller_task_strings)
        style = KEYS_STRINGS;
    if (request->caller_task.size > 0) {
        struct term task = term_from_raw(request->caller_task);

        term_put_map(out, put_own_pairs(NULL, task) + 1);
        put_own_pairs(out, task);
    } else {
        term_put_map(out, 2);
        put_text_field(out, style, "title", request->text);
    }
    put_name(out, style, "subtasks");
    put_tasks(out, style, subtasks);
}

/* A map; what is no JSON object after all is given as the model wrote it. */
static void put_arguments(struct buf *out, struct slice json)
{
    struct arena arena;
    struct error err;
    struct jv *object;

    arena_init(&arena, 0);
    if (jv_parse(&arena, json, JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &object,
                 &err))
        json_put_term(out, object);
    else
        term_put_binary(out, json);
    arena_release(&arena);
}

static void put_tool_calls(struct buf *out, enum key_style style,
                           const struct result *result)
{
    put_name(out, style, "tool_calls");
    term_put_list(out, result->tool_call_count);
    for (size_t i = 0; i < result->tool_call_count; i++) {
        const struct tool_call *call = &result->tool_calls[i];

        term_put_map(out, 3);
        put_text_field(out, style, "id", call->id);
        put_text_field(out, style, "name", call->name);
        put_name(out, style, "arguments");
        put_arguments(out, call->arguments);
    }
    term_put_nil(out);
}

static void put_response(struct buf *out, const struct request *request,
                         const struct result *result,
                         const struct account *account)
{
    enum key_style style = request->options.keys;
    bool has_object = request->options.schema != NULL;
    bool has_script = request->operation == OP_CALL_WITH_SCRIPT;

    term_put_map(out, account_pairs(request) + 7 + has_object + has_script);
    put_name(out, style, "text");
    term_put_binary(out, result->text);
    put_name(out, style, "content");
    term_put_binary(out, result->text);
    if (has_object) {
        put_name(out, style, "object");
        if (result->object)
            json_put_term(out, result->object);
        else
            term_put_atom(out, "nil");
    }
    if (has_script)
        put_text_field(out, style, "script", request->text);
    put_tool_calls(out, style, result);
    put_name(out, style, "finish_reason");
    put_name(out, style, finish_reason_atom(result->finish));
    put_name(out, style, "response_id");
    put_optional(out, result->response_id, result->response_id.size > 0);
    put_name(out, style, "tokens_used");
    put_tokens(out, account->usage.total_tokens);
    put_name(out, style, "cost_cents");
    put_money(out, account->cost_usd * 100);
    put_account(out, request, account);
}

static void put_analysis(struct buf *out, enum key_style style,
                         const struct analysis *analysis)
{
    const struct given_task *task = analysis->task;

    term_put_map(out, 6);
    put_name(out, style, "task_id");
    if (task->id.size > 0)
        term_put_raw(out, task->id);
    else
        term_put_atom(out, "nil");
    put_text_field(out, style, "task_title", task->title);
    put_name(out, style, "complexity_score");
    term_put_integer(out, analysis->score);
    put_name(out, style, "recommended_subtasks");
    term_put_integer(out, analysis->subtasks);
    put_text_field(out, style, "expansion_prompt", analysis->expansion_prompt);
    put_text_field(out, style, "reasoning", analysis->reasoning);
}

static void put_analyses(struct buf *out, enum key_style style,
                         const struct result *result)
{
    term_put_list(out, result->analysis_count);
    for (size_t i = 0; i < result->analysis_count; i++)
        put_analysis(out, style, &result->analyses[i]);
    term_put_nil(out);
}

static void put_research(struct buf *out, enum key_style style,
                         const struct result *result)
{
    term_put_map(out, 2);
    put_name(out, style, "findings");
    term_put_binary(out, result->text);
    put_name(out, style, "sources");
    term_put_list(out, result->source_count);
    for (size_t i = 0; i < result->source_count; i++)
        term_put_binary(out, result->sources[i]);
    term_put_nil(out);
}

static void put_embedding(struct buf *out, const struct embedding *embedding)
{
    term_put_list(out, embedding->count);
    for (size_t i = 0; i < embedding->count; i++)
        term_put_float(out, embedding->values[i]);
    term_put_nil(out);
}

static void put_embeddings(struct buf *out, enum key_style style,
                           const struct result *result,
                           const struct account *account)
{
    term_put_map(out, 3);
    put_name(out, style, "embeddings");
    term_put_list(out, result->embedding_count);
    for (size_t i = 0; i < result->embedding_count; i++)
        put_embedding(out, &result->embeddings[i]);
    term_put_nil(out);
    put_name(out, style, "model");
    put_optional(out, account->model, account->model.size > 0);
    put_name(out, style, "usage");
    put_usage(out, style, &account->usage);
}

void put_value(struct buf *out, const struct request *request,
               const struct result *result, const struct account *account)
{
    enum key_style style = request->options.keys;

    switch (request->operation) {
    case OP_GENERATE_TASK:
        put_task(out, style, &result->tasks.tasks[0]);
        break;
    case OP_PARSE_PRD:
        put_tasks(out, style, &result->tasks);
        break;
    case OP_EXPAND_TASK:
        put_expanded(out, request, &result->tasks);
        break;
    case OP_ANALYZE_COMPLEXITY:
        put_analyses(out, style, result);
        break;
    case OP_RESEARCH:
        put_research(out, style, result);
        break;
    case OP_CALL:
    case OP_CALL_WITH_PROMPT:
    case OP_CALL_WITH_SYSTEM:
    case OP_CALL_WITH_SCRIPT:
    case OP_ROUTE:
    case OP_ROUTE_COMPLETION:
    case OP_STREAM:
        put_response(out, request, result, account);
        break;
    case OP_EMBED:
        put_embeddings(out, style, result, account);
        break;
    case OP_CANCEL:
    case OP_WATCH_TASK:
    case OP_UNWATCH_TASK:
    case OP_SUBSCRIBE:
    case OP_UNSUBSCRIBE:
    case OP_ENQUEUE:
    case OP_AWAIT:
    case OP_RESULT:
    case OP_SELECT_MODEL:
    case OP_AVAILABLE_MODELS:
    case OP_COMPLEXITY_FOR_TASK:
    case OP_PING:
    case OP_VERSION:
    case OP_HEALTH:
    case OP_STATS:
    case OP_STATUS:
    case OP_MODELS:
    case OP_RELOAD:
    case OP_DRAIN:
    case OPERATION_COUNT:
        term_put_atom(out, "nil");
        break;
    }
}
