#include "llm_router/api/reply.h"

#include <math.h>

#include "llm_router/api/json_term.h"
#include "llm_router/term/writer.h"

/* A name of the fixed set: a key, or a value such as `pending`. */
static void put_name(struct buf *out, enum key_style style, const char *name)
{
    if (style == KEYS_STRINGS)
        term_put_text(out, name);
    else
        term_put_atom(out, name);
}

static void put_optional(struct buf *out, struct slice text, bool known)
{
    if (known)
        term_put_binary(out, text);
    else
        term_put_atom(out, "nil");
}

static void put_tokens(struct buf *out, int64_t tokens)
{
    if (tokens >= 0)
        term_put_integer(out, tokens);
    else
        term_put_atom(out, "nil");
}

static void put_money(struct buf *out, double amount)
{
    if (isfinite(amount))
        term_put_float(out, amount);
    else
        term_put_atom(out, "nil");
}

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

static void put_text_field(struct buf *out, enum key_style style,
                           const char *name, struct slice text)
{
    put_name(out, style, name);
    put_optional(out, text, text.data != NULL);
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

static void put_usage(struct buf *out, enum key_style style,
                      const struct usage *usage)
{
    term_put_map(out, 5);
    put_name(out, style, "input_tokens");
    put_tokens(out, usage->input_tokens);
    put_name(out, style, "output_tokens");
    put_tokens(out, usage->output_tokens);
    put_name(out, style, "total_tokens");
    put_tokens(out, usage->total_tokens);
    put_name(out, style, "cached_tokens");
    put_tokens(out, usage->cached_tokens);
    put_name(out, style, "reasoning_tokens");
    put_tokens(out, usage->reasoning_tokens);
}

/* What Response and return => full have in common. */
enum { ACCOUNT_PAIRS = 7 };

static void put_account(struct buf *out, enum key_style style,
                        const struct account *account)
{
    put_name(out, style, "model");
    put_optional(out, account->model, account->model.size > 0);
    put_name(out, style, "provider");
    put_optional(out, account->provider, account->provider.size > 0);
    put_name(out, style, "request_id");
    put_optional(out, account->request_id, account->request_id.size > 0);
    put_name(out, style, "usage");
    put_usage(out, style, &account->usage);
    put_name(out, style, "cost_usd");
    put_money(out, account->cost_usd);
    put_name(out, style, "duration_ms");
    term_put_integer(out, account->duration_ms);
    put_name(out, style, "attempts");
    term_put_integer(out, account->attempts);
}

static void put_response(struct buf *out, const struct request *request,
                         const struct result *result,
                         const struct account *account)
{
    enum key_style style = request->options.keys;
    bool has_object = request->options.schema != NULL;

    term_put_map(out, ACCOUNT_PAIRS + (has_object ? 7 : 6));
    put_text_field(out, style, "text", result->text);
    put_text_field(out, style, "content", result->text);
    if (has_object) {
        put_name(out, style, "object");
        if (result->object)
            json_put_term(out, result->object);
        else
            term_put_atom(out, "nil");
    }
    put_name(out, style, "tool_calls");
    term_put_nil(out);
    put_name(out, style, "finish_reason");
    put_name(out, style, finish_reason_atom(result->finish));
    put_name(out, style, "tokens_used");
    put_tokens(out, account->usage.total_tokens);
    put_name(out, style, "cost_cents");
    put_money(out, account->cost_usd * 100);
    put_account(out, style, account);
}

static void put_value(struct buf *out, const struct request *request,
                      const struct result *result,
                      const struct account *account)
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
    case OP_CALL:
    case OP_CALL_WITH_PROMPT:
    case OP_CALL_WITH_SYSTEM:
        put_response(out, request, result, account);
        break;
    case OP_SELECT_MODEL:
    case OP_PING:
    case OP_VERSION:
    case OP_HEALTH:
    case OP_STATS:
    case OP_MODELS:
    case OP_DRAIN:
    case OPERATION_COUNT:
        term_put_atom(out, "nil");
        break;
    }
}

static void put_warnings(struct buf *out, const struct warnings *warnings)
{
    term_put_list(out, warnings->count);
    for (size_t i = 0; i < warnings->count; i++)
        term_put_binary(out, warnings->texts[i]);
    term_put_nil(out);
}

static void put_ok(struct buf *out)
{
    term_put_tuple(out, 2);
    term_put_atom(out, "ok");
}

void reply_put_result(struct buf *out, const struct request *request,
                      const struct result *result,
                      const struct account *account)
{
    enum key_style style = request->options.keys;

    put_ok(out);
    if (!request->options.full) {
        put_value(out, request, result, account);
        return;
    }
    term_put_map(out, ACCOUNT_PAIRS + 2);
    put_name(out, style, "result");
    put_value(out, request, result, account);
    put_name(out, style, "warnings");
    put_warnings(out, &result->warnings);
    put_account(out, style, account);
}

/* One pair of an error's details, left out when it is not known. */
struct detail {
    const char *name;
    enum { DETAIL_UNKNOWN, DETAIL_TEXT, DETAIL_INTEGER, DETAIL_FLOAT } kind;
    struct slice text;
    int64_t integer;
    double number;
};

static struct detail text_detail(const char *name, struct slice text)
{
    return (struct detail){
        .name = name,
        .kind = text.size > 0 ? DETAIL_TEXT : DETAIL_UNKNOWN,
        .text = text,
    };
}

static struct detail integer_detail(const char *name, int64_t value, bool known)
{
    return (struct detail){
        .name = name,
        .kind = known ? DETAIL_INTEGER : DETAIL_UNKNOWN,
        .integer = value,
    };
}

static void put_detail(struct buf *out, const struct detail *detail)
{
    if (detail->kind != DETAIL_UNKNOWN)
        term_put_atom(out, detail->name);
    switch (detail->kind) {
    case DETAIL_UNKNOWN:
        break;
    case DETAIL_TEXT:
        term_put_binary(out, detail->text);
        break;
    case DETAIL_INTEGER:
        term_put_integer(out, detail->integer);
        break;
    case DETAIL_FLOAT:
        term_put_float(out, detail->number);
        break;
    }
}

void reply_put_error(struct buf *out, const struct error *err,
                     const struct account *account)
{
    static const struct account nobody = {.cost_usd = NAN};
    const struct account *by = account ? account : &nobody;
    bool counted = err->code == ERR_TASK_COUNT;
    const struct detail details[] = {
        text_detail("path", slice_of(err->path)),
        text_detail("provider", by->provider),
        text_detail("model", by->model),
        integer_detail("http_status", err->http_status, err->http_status > 0),
        integer_detail("retry_after_ms", err->retry_after_ms,
                       err->retry_after_ms >= 0),
        integer_detail("attempts", by->attempts, by->attempts > 0),
        integer_detail("wanted", err->wanted, counted),
        integer_detail("got", err->got, counted),
        {.name = "cost_usd",
         .kind = isfinite(by->cost_usd) ? DETAIL_FLOAT : DETAIL_UNKNOWN,
         .number = by->cost_usd},
    };
    size_t count = sizeof(details) / sizeof(*details);
    size_t known = 0;

    for (size_t i = 0; i < count; i++)
        known += details[i].kind != DETAIL_UNKNOWN;
    term_put_tuple(out, 2);
    term_put_atom(out, "error");
    term_put_tuple(out, 2);
    term_put_atom(out, error_atom(err->code));
    term_put_map(out, known + 1);
    term_put_atom(out, "message");
    term_put_text(out, err->message);
    for (size_t i = 0; i < count; i++)
        put_detail(out, &details[i]);
}

void reply_put_pong(struct buf *out)
{
    term_put_atom(out, "pong");
}

void reply_put_selection(struct buf *out, const struct request *request,
                         struct slice model, struct slice provider)
{
    enum key_style style = request->options.keys;

    put_ok(out);
    term_put_map(out, 2);
    put_name(out, style, "model");
    term_put_binary(out, model);
    put_name(out, style, "provider");
    term_put_binary(out, provider);
}

void reply_put_head(struct buf *out, const struct reply_address *reply,
                    enum operation operation)
{
    switch (reply->form) {
    case REPLY_GEN:
        term_put_tuple(out, 2);
        term_put_raw(out, reply->tag);
        break;
    case REPLY_PRD:
        term_put_tuple(out, 2);
        term_put_atom(out, "prd_response");
        break;
    case REPLY_NAMED:
        term_put_tuple(out, 3);
        term_put_atom(out, "llm_result");
        term_put_atom(out, operation_atom(operation));
        break;
    case REPLY_RESPONSE:
        term_put_tuple(out, 3);
        term_put_atom(out, "llm_response");
        term_put_raw(out, reply->tag);
        break;
    case REPLY_NONE:
    case REPLY_RPC:
        break;
    }
}
