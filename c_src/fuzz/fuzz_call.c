/* A term from a stranger, as a message to the service, as the operation of a
 * GenServer.call, as the arguments of every rpc function and as JSON: what is
 * decoded must be what the rest of the program relies on, and what is answered
 * must be a term; what goes on the queue must be the same question behind it.
 */
#include <math.h>
#include <stdlib.h>

#include "llm_router/api/json_term.h"
#include "llm_router/api/queue_message.h"
#include "llm_router/api/reply.h"
#include "llm_router/base/utf8.h"
#include "llm_router/core/fingerprint.h"
#include "llm_router/term/writer.h"
#include "tests/external.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) \
    do {                   \
        if (!(condition))  \
            abort();       \
    } while (0)

static const struct term_limits LIMITS = {1024 * 1024, 512};

/* What we write may be a little deeper than what we read. */
static const struct term_limits OUT_LIMITS = {64 * 1024 * 1024, 600};

/* {'$gen_call', {<0.1.0>, #Ref<>}, behind which the operation comes */
static const char GEN_CALL[] =
    "\x83\x68\x03\x77\x09$gen_call\x68\x02\x58\x77\x01"
    "a\0\0\0\1\0\0\0\0\0\0\0\4\x5a\0\1\x77\x01"
    "a\0\0\0\4\0\0\0\1";

static void require_term(struct slice bytes)
{
    struct error err;

    REQUIRE(external_check(bytes, &OUT_LIMITS, &err));
}

static void require_raw(struct slice raw)
{
    struct buf out;

    buf_init(&out, OUT_LIMITS.max_bytes);
    term_put_version(&out);
    term_put_raw(&out, raw);
    require_term(buf_slice(&out));
    buf_release(&out);
}

static void require_full_text(struct slice text)
{
    REQUIRE(utf8_is_valid(text));
    REQUIRE(slice_trim(text).size > 0);
}

static void require_name(struct slice name)
{
    REQUIRE(name.size <= REQUEST_ID_MAX);
    for (size_t i = 0; i < name.size; i++)
        REQUIRE(name.data[i] >= ' ' && name.data[i] <= '~');
}

static bool is_in(double value, double least, double most)
{
    return isnan(value) || (value >= least && value <= most);
}

/* Text that goes to providers as JSON as it is. */
static void require_object(struct slice json)
{
    struct arena arena;
    struct error err;
    struct jv *value;

    arena_init(&arena, 0);
    REQUIRE(utf8_is_valid(json));
    REQUIRE(jv_parse(&arena, json, JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &value,
                     &err));
    REQUIRE(value->type == JV_OBJECT);
    arena_release(&arena);
}

static void require_tool_name(struct slice name)
{
    require_name(name);
    REQUIRE(name.size >= 1 && name.size <= 64);
}

static void require_tools(const struct options *options)
{
    bool named = options->tool_choice == TOOL_CHOICE_NAMED;

    REQUIRE(options->tool_count <= REQUEST_TOOLS_MAX);
    for (size_t i = 0; i < options->tool_count; i++) {
        const struct tool *tool = &options->tools[i];

        require_tool_name(tool->name);
        REQUIRE(utf8_is_valid(tool->description));
        if (tool->parameters.size > 0)
            require_object(tool->parameters);
        if (named && slice_equal(tool->name, options->tool_name))
            named = false;
    }
    REQUIRE(!named);
    REQUIRE(options->tool_choice != TOOL_CHOICE_REQUIRED ||
            options->tool_count > 0 || options->mcp_servers);
}

static void require_mcp_servers(const struct options *options)
{
    size_t count = jv_count(options->mcp_servers);

    REQUIRE(options->previous_response_id.size <= REQUEST_RESPONSE_ID_MAX);
    if (options->previous_response_id.size > 0 || options->mcp_servers)
        REQUIRE(options->api_version == API_VERSION_RESPONSES);
    if (options->mcp_servers)
        REQUIRE(count >= 1 && count <= REQUEST_MCP_SERVERS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct jv *server = jv_at(options->mcp_servers, i);

        REQUIRE(server->type == JV_OBJECT);
        REQUIRE(jv_string(jv_find(server, "server_label")).size > 0);
    }
}

static void require_options(const struct options *options)
{
    require_name(options->model);
    require_name(options->provider);
    require_name(options->task_type);
    require_name(options->request_id);
    REQUIRE(options->timeout_ms >= 0);
    REQUIRE(options->timeout_ms <= REQUEST_TIMEOUT_MAX_MS);
    REQUIRE(options->max_tokens >= 0);
    REQUIRE(is_in(options->temperature, 0, 2));
    REQUIRE(is_in(options->top_p, 0, 1));
    REQUIRE(options->next_id >= 1);
    for (size_t i = 0; i < options->existing_count; i++)
        REQUIRE(options->existing[i] >= 1);
    REQUIRE(options->stop_count <= REQUEST_STOPS_MAX);
    for (size_t i = 0; i < options->stop_count; i++)
        REQUIRE(options->stops[i].size > 0 && utf8_is_valid(options->stops[i]));
    REQUIRE(options->language.size <= REQUEST_ID_MAX);
    REQUIRE(utf8_is_valid(options->language));
    require_tools(options);
    require_mcp_servers(options);
    if (options->metadata.size > 0)
        require_raw(options->metadata);
    if (options->to.size > 0)
        require_raw(options->to);
}

static void require_messages(const struct request *request)
{
    for (size_t i = 0; i < request->message_count; i++) {
        const struct message *message = &request->messages[i];

        REQUIRE(message->role <= ROLE_TOOL);
        REQUIRE((message->role == ROLE_TOOL) ==
                (message->tool_call_id.size > 0));
        REQUIRE(message->tool_call_count == 0 ||
                message->role == ROLE_ASSISTANT);
        REQUIRE(utf8_is_valid(message->content));
        if (message->role != ROLE_TOOL && message->tool_call_count == 0)
            require_full_text(message->content);
        for (size_t j = 0; j < message->tool_call_count; j++) {
            REQUIRE(message->tool_calls[j].id.size > 0);
            require_name(message->tool_calls[j].id);
            require_tool_name(message->tool_calls[j].name);
            require_object(message->tool_calls[j].arguments);
        }
    }
}

static void require_given(const struct request *request)
{
    REQUIRE(request->given_count > 0);
    REQUIRE(request->given_count <= CALL_GIVEN_MAX);
    for (size_t i = 0; i < request->given_count; i++) {
        require_full_text(request->given[i].title);
        REQUIRE(!memchr(request->given[i].title.data, '\n',
                        request->given[i].title.size));
        require_object(request->given[i].json);
        if (request->given[i].id.size > 0)
            require_raw(request->given[i].id);
    }
}

static void require_texts(const struct request *request)
{
    REQUIRE(request->text_count > 0);
    REQUIRE(request->text_count <= REQUEST_TEXTS_MAX);
    for (size_t i = 0; i < request->text_count; i++)
        require_full_text(request->texts[i]);
}

/* The message for the queue, which can be read again. */
static void require_message(const struct enqueued *enqueued,
                            struct arena *arena, struct queue_request *queued)
{
    struct error err;
    struct buf message;

    buf_init(&message, OUT_LIMITS.max_bytes);
    queue_request_put(&message, enqueued,
                      slice_of("6f1c1f0e-6c0e-4b0e-9a0e-0f3a5c1d2b3a"), 0);
    REQUIRE(queue_request_decode(buf_slice(&message), arena, queued, &err));
    REQUIRE(slice_equal(queued->agent_id, enqueued->agent_id));
    REQUIRE(slice_equal(queued->notify.name, enqueued->notify_name));
    REQUIRE(slice_equal(queued->notify.node, enqueued->notify_node));
    buf_release(&message);
}

static void require_enqueued(const struct enqueued *enqueued)
{
    struct queue_request queued;
    struct arena arena;

    REQUIRE(enqueued->delay_s >= 0);
    REQUIRE(enqueued->delay_s <= QUEUE_DELAY_MAX_S);
    REQUIRE(enqueued->request_id.size == 0 ||
            queue_id_is_valid(enqueued->request_id));
    arena_init(&arena, 0);
    require_message(enqueued, &arena, &queued);
    arena_release(&arena);
}

/* What the operation cannot do without. */
static void require_arguments(const struct request *request)
{
    switch (request->operation) {
    case OP_GENERATE_TASK:
    case OP_PARSE_PRD:
    case OP_EXPAND_TASK:
    case OP_RESEARCH:
        require_full_text(request->text);
        break;
    case OP_ANALYZE_COMPLEXITY:
        require_given(request);
        break;
    case OP_STREAM:
        REQUIRE(request->options.to.size > 0);
        REQUIRE(request->message_count > 0);
        break;
    case OP_CALL:
    case OP_CALL_WITH_PROMPT:
    case OP_CALL_WITH_SYSTEM:
    case OP_ROUTE:
    case OP_ROUTE_COMPLETION:
        REQUIRE(request->message_count > 0);
        break;
    case OP_EMBED:
        require_texts(request);
        break;
    case OP_CALL_WITH_SCRIPT:
        require_full_text(request->text);
        REQUIRE(request->context.size > 0);
        break;
    case OP_WATCH_TASK:
    case OP_UNWATCH_TASK:
        REQUIRE(request->options.task_id.size > 0);
        REQUIRE(request->options.to.size > 0);
        break;
    case OP_SUBSCRIBE:
    case OP_UNSUBSCRIBE:
        REQUIRE(request->options.to.size > 0);
        break;
    case OP_CANCEL:
        REQUIRE((request->text.size > 0) != (request->reference.size > 0));
        require_name(request->text);
        break;
    case OP_COMPLEXITY_FOR_TASK:
        REQUIRE(request->options.task_type.size > 0);
        break;
    case OP_ENQUEUE:
        require_enqueued(request->enqueued);
        break;
    case OP_AWAIT:
        REQUIRE(request->wait_ms >= 0);
        REQUIRE(request->wait_ms <= REQUEST_TIMEOUT_MAX_MS);
        REQUIRE(queue_id_is_valid(request->text));
        break;
    case OP_RESULT:
        REQUIRE(queue_id_is_valid(request->text));
        break;
    case OP_SELECT_MODEL:
    case OP_AVAILABLE_MODELS:
    case OP_PING:
    case OP_VERSION:
    case OP_HEALTH:
    case OP_STATS:
    case OP_STATUS:
    case OP_MODELS:
    case OP_RELOAD:
    case OP_DRAIN:
    case OPERATION_COUNT:
        REQUIRE(!operation_calls_provider(request->operation));
        break;
    }
}

static void require_fingerprint(const struct request *request)
{
    struct buf bytes;

    buf_init(&bytes, OUT_LIMITS.max_bytes);
    request_fingerprint(request, &bytes);
    REQUIRE(!bytes.failed);
    buf_release(&bytes);
}

static void require_request(const struct request *request)
{
    REQUIRE(request->operation < OPERATION_COUNT);
    require_options(&request->options);
    REQUIRE(request->count >= 0 && request->count <= REQUEST_TASKS_MAX);
    REQUIRE(utf8_is_valid(request->context));
    require_messages(request);
    require_arguments(request);
    require_fingerprint(request);
    if (request->caller_task.size > 0)
        require_raw(request->caller_task);
}

/* With what the request holds, so that a stranger's terms are answered. */
static void put_some_result(struct buf *out, const struct request *request)
{
    static const struct decision decision = {.reason = "route"};
    const struct given_task *given = request->given;
    struct task task = {.id = 1, .title = SLICE_LITERAL("x")};
    struct analysis analysis = {.task = given, .score = 1};
    struct message *last = request->message_count > 0
                               ? &request->messages[request->message_count - 1]
                               : NULL;
    struct result result = {
        .tasks = {&task, 1},
        .analyses = &analysis,
        .analysis_count = given ? 1 : 0,
        .object = request->options.schema,
        .tool_calls = last ? last->tool_calls : NULL,
        .tool_call_count = last ? last->tool_call_count : 0,
    };
    struct account account = {
        .usage = USAGE_UNKNOWN,
        .cost_usd = NAN,
        .decision = &decision,
    };

    reply_put_result(out, request, &result, &account);
}

static void require_answer(const struct call *call)
{
    struct buf value, message;

    buf_init(&value, OUT_LIMITS.max_bytes);
    buf_init(&message, OUT_LIMITS.max_bytes);
    if (call->kind == CALL_REJECTED)
        reply_put_error(&value, &call->error, NULL);
    else
        put_some_result(&value, &call->request);
    require_raw(buf_slice(&value));
    if (call->reply.form != REPLY_RPC) {
        reply_put_head(&message, &call->reply, call->request.operation);
        buf_append_slice(&message, buf_slice(&value));
        require_raw(buf_slice(&message));
    }
    buf_release(&value);
    buf_release(&message);
}

static void require_rejection(const struct error *err)
{
    REQUIRE(err->code == ERR_INVALID_REQUEST ||
            err->code == ERR_UNKNOWN_REQUEST || err->code == ERR_TOO_LARGE);
    REQUIRE(err->message[0] != '\0');
    REQUIRE(utf8_is_valid(slice_of(err->message)));
    REQUIRE(utf8_is_valid(slice_of(err->path)));
}

static void require_call(const struct call *call)
{
    switch (call->kind) {
    case CALL_IGNORED:
        return;
    case CALL_SYSTEM:
        REQUIRE(call->reply.form == REPLY_GEN);
        return;
    case CALL_REQUEST:
        require_request(&call->request);
        break;
    case CALL_REJECTED:
        require_rejection(&call->error);
        break;
    }
    REQUIRE(call->reply.form != REPLY_NONE);
    require_answer(call);
}

static void try_message(struct term message)
{
    struct arena arena;
    struct call call;

    arena_init(&arena, 0);
    call_decode_message(message, &arena, &call);
    require_call(&call);
    arena_release(&arena);
}

static void try_operation(struct term operation)
{
    struct buf message;

    buf_init(&message, OUT_LIMITS.max_bytes);
    buf_append(&message, GEN_CALL, sizeof(GEN_CALL) - 1);
    term_put_raw(&message, term_raw(operation));
    require_term(buf_slice(&message));
    try_message(external_term(buf_slice(&message)));
    buf_release(&message);
}

static bool holds_nul(struct slice text)
{
    return text.size > 0 && memchr(text.data, '\0', text.size);
}

/* Does JSON say all of the question as it was said? NUL is dropped, a task's
 * atoms become strings, and of the numbers inside of JSON 1.0 becomes 1. */
static bool is_said_by_json(const struct request *request)
{
    const struct options *options = &request->options;
    bool said = request->given_count == 0 && request->caller_task.size == 0 &&
                !options->schema && options->tool_count == 0 &&
                !options->mcp_servers && !slice_is(options->model, "auto") &&
                !holds_nul(request->text) && !holds_nul(request->context);

    for (size_t i = 0; i < request->text_count; i++)
        said = said && !holds_nul(request->texts[i]);
    for (size_t i = 0; i < options->stop_count; i++)
        said = said && !holds_nul(options->stops[i]);
    for (size_t i = 0; i < request->message_count; i++)
        said = said && request->messages[i].tool_call_count == 0 &&
               !holds_nul(request->messages[i].content);
    return said;
}

static void require_same(struct request *called, const struct request *queued)
{
    struct buf before, after;

    if (called->options.complexity == COMPLEXITY_UNSET)
        called->options.complexity = queued->options.complexity;
    buf_init(&before, OUT_LIMITS.max_bytes);
    buf_init(&after, OUT_LIMITS.max_bytes);
    request_fingerprint(called, &before);
    request_fingerprint(queued, &after);
    REQUIRE(slice_equal(buf_slice(&before), buf_slice(&after)));
    buf_release(&before);
    buf_release(&after);
}

/* [{Operation, Argument, ...}] */
static bool put_enqueue(struct buf *out, const char *operation,
                        struct term arguments)
{
    struct term_list list;
    struct term argument;

    if (!term_list(arguments, &list) || !list.proper)
        return false;
    term_put_version(out);
    term_put_list(out, 1);
    term_put_tuple(out, list.left + 1);
    term_put_atom(out, operation);
    while (term_list_next(&list, &argument))
        term_put_raw(out, term_raw(argument));
    term_put_nil(out);
    return true;
}

static void require_queued(const char *operation, struct term arguments,
                           const struct enqueued *enqueued, struct arena *arena)
{
    struct slice module = slice_of("llm_router");
    struct queue_request queued;
    struct call called;

    REQUIRE(call_decode_rpc(module, slice_of(operation), arguments, arena,
                            &called));
    REQUIRE(called.kind == CALL_REQUEST);
    require_message(enqueued, arena, &queued);
    require_request(&queued.request);
    if (is_said_by_json(&called.request))
        require_same(&called.request, &queued.request);
}

/* Behind the queue the operation is what it is when it is called. */
static void try_enqueue(const char *operation, struct term arguments)
{
    struct slice module = slice_of("llm_router");
    struct arena arena;
    struct buf enqueue;
    struct call call;

    arena_init(&arena, 0);
    buf_init(&enqueue, OUT_LIMITS.max_bytes);
    if (put_enqueue(&enqueue, operation, arguments)) {
        require_term(buf_slice(&enqueue));
        REQUIRE(call_decode_rpc(module, slice_of("enqueue"),
                                external_term(buf_slice(&enqueue)), &arena,
                                &call));
        require_call(&call);
        if (call.kind == CALL_REQUEST)
            require_queued(operation, arguments, call.request.enqueued, &arena);
    }
    buf_release(&enqueue);
    arena_release(&arena);
}

static void try_function(const char *module, const char *function,
                         struct term arguments)
{
    struct arena arena;
    struct call call;

    arena_init(&arena, 0);
    if (call_decode_rpc(slice_of(module), slice_of(function), arguments, &arena,
                        &call)) {
        REQUIRE(call.kind == CALL_REQUEST || call.kind == CALL_REJECTED);
        require_call(&call);
    }
    arena_release(&arena);
}

static void try_rpc(struct term arguments)
{
    for (int i = 0; i < OPERATION_COUNT; i++) {
        const char *operation = operation_atom((enum operation)i);

        try_function("llm_router", operation, arguments);
        try_enqueue(operation, arguments);
    }
    try_function("Elixir.LLM.Service", "call_with_script", arguments);
    try_function("Elixir.Nexus.LLMRouter", "route", arguments);
}

static void require_json(struct arena *arena, const struct jv *value)
{
    struct error err;
    struct jv *again;
    struct buf out;

    buf_init(&out, OUT_LIMITS.max_bytes);
    jv_put(&out, value);
    REQUIRE(jv_parse(arena, buf_slice(&out), JV_STRICT, &JV_DEFAULT_LIMITS,
                     NULL, &again, &err));
    REQUIRE(jv_equal(value, again));
    buf_clear(&out);
    term_put_version(&out);
    json_put_term(&out, value);
    require_term(buf_slice(&out));
    buf_release(&out);
}

static void try_json(struct term term, enum json_term_mode mode)
{
    struct arena arena;
    struct error err;
    struct jv *value;

    arena_init(&arena, 0);
    error_clear(&err);
    if (json_from_term(term, mode, &arena, &value, &err))
        require_json(&arena, value);
    else
        require_rejection(&err);
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = slice_make(data, size);
    struct error err;
    struct term term;

    if (!external_check(bytes, &LIMITS, &err))
        return 0;
    term = external_term(bytes);
    try_message(term);
    try_operation(term);
    try_rpc(term);
    try_json(term, JSON_TERM_STRICT);
    try_json(term, JSON_TERM_LENIENT);
    return 0;
}
