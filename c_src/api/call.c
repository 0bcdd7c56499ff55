#include "llm_router/api/call.h"

#include "api/decode_internal.h"

static void call_init(struct call *call)
{
    *call = (struct call){
        .kind = CALL_IGNORED,
        .request = request_blank(),
    };
    call->request.operation = OPERATION_COUNT;
    error_clear(&call->error);
}

static struct slice keep(struct arena *arena, struct term term)
{
    return arena_copy(arena, term_raw(term));
}

/* The reference of [alias | Reference]. */
static bool find_alias(struct term tag, struct slice *reference)
{
    struct term alias, tail;
    uint32_t length;

    if (!term_list_open(tag, &length, &alias) || length != 1 ||
        !term_is_atom(alias, "alias"))
        return false;
    tail = term_next(alias);
    if (term_kind(tail) != TERM_REFERENCE)
        return false;
    *reference = term_raw(tail);
    return true;
}

struct reply_address reply_address_gen(struct slice pid, struct slice tag)
{
    struct reply_address reply = {.form = REPLY_GEN, .pid = pid, .tag = tag};
    struct term term = term_from_raw(tag);
    struct term head;
    uint32_t length;

    if (term_kind(term) == TERM_REFERENCE)
        reply.reference = tag;
    else if (find_alias(term, &reply.alias) ||
             (term_list_open(term, &length, &head) &&
              find_alias(head, &reply.alias)))
        reply.reference = reply.alias;
    return reply;
}

/* Takes {Pid, Tag} at the cursor, with as few walks as can be: this is on the
 * path of every call. */
static bool decode_from(struct term *at, struct arena *arena,
                        struct reply_address *reply)
{
    struct term pid, tag;
    struct slice raw;
    size_t pid_size;

    if (!term_tuple_of(*at, 2, &pid) || term_kind(pid) != TERM_PID)
        return false;
    tag = term_next(pid);
    *at = term_next(tag);
    raw = arena_copy(arena, slice_make(pid.at, (size_t)(at->at - pid.at)));
    pid_size = (size_t)(tag.at - pid.at);
    *reply =
        reply_address_gen(slice_make(raw.data, pid_size),
                          slice_make(raw.data + pid_size, raw.size - pid_size));
    return true;
}

static bool needs_receiver(enum operation operation)
{
    static const unsigned operations =
        1u << OP_STREAM | 1u << OP_WATCH_TASK | 1u << OP_UNWATCH_TASK |
        1u << OP_SUBSCRIBE | 1u << OP_UNSUBSCRIBE;

    return (operations >> operation & 1) != 0;
}

/* Who gets a stream: whom the caller names, else the process that is answered.
 * A tag without a reference is not that of the caller, but of a process that
 * collects answers for it. */
static bool find_receiver(struct call *call)
{
    struct slice *to = &call->request.options.to;
    bool is_caller =
        call->reply.form == REPLY_RESPONSE || call->reply.reference.size > 0;

    if (to->size == 0 && is_caller)
        *to = call->reply.pid;
    return to->size > 0 ||
           error_at(&call->error, ERR_INVALID_REQUEST, "opts.to",
                    "is missing: this form of call does not tell who calls");
}

static void finish(struct call *call, bool decoded)
{
    if (decoded && needs_receiver(call->request.operation))
        decoded = find_receiver(call);
    call->kind = decoded ? CALL_REQUEST : CALL_REJECTED;
}

/* A plain operation, which names no taker of its own. */
static void decode_operation(const struct invocation *invocation,
                             struct arena *arena, struct call *call)
{
    struct decoder decoder = {arena, &call->request, &call->error};
    enum operation operation;

    if (operation_find(invocation->name, &operation))
        finish(call, decode_request(&decoder, operation, invocation->arguments,
                                    invocation->count));
    else
        finish(call, refuse_unknown(invocation, &call->error));
}

/* {llm_request, Pid, Ref, Op} */
static bool decode_llm_request(const struct invocation *invocation,
                               struct arena *arena, struct call *call)
{
    const struct term *arguments = invocation->arguments;
    struct invocation op;

    if (!slice_is(invocation->name, "llm_request") || invocation->count != 3 ||
        term_kind(arguments[0]) != TERM_PID)
        return false;
    call->reply = (struct reply_address){
        .form = REPLY_RESPONSE,
        .pid = keep(arena, arguments[0]),
        .tag = keep(arena, arguments[1]),
    };
    invocation_of_term(&op, arguments[2]);
    decode_operation(&op, arena, call);
    return true;
}

/* {prd_request, Pid, From, Content, NumTasks} */
static bool decode_prd_request(const struct invocation *invocation,
                               struct arena *arena, struct call *call)
{
    struct decoder decoder = {arena, &call->request, &call->error};
    const struct term *arguments = invocation->arguments;

    if (!slice_is(invocation->name, "prd_request") || invocation->count != 4 ||
        term_kind(arguments[0]) != TERM_PID)
        return false;
    call->reply = (struct reply_address){
        .form = REPLY_PRD,
        .pid = keep(arena, arguments[0]),
    };
    finish(call, decode_request(&decoder, OP_PARSE_PRD, arguments + 2, 2));
    return true;
}

/* {generate_task, Prompt, Pid}, {generate_task, Prompt, Pid, Ref}, ... */
static bool decode_named(const struct invocation *invocation,
                         struct arena *arena, struct call *call)
{
    struct decoder decoder = {arena, &call->request, &call->error};
    struct slice pid, reference;
    enum operation operation;
    uint32_t taker;

    if (!operation_find(invocation->name, &operation) ||
        !invocation_taker(invocation, operation, &pid, &reference))
        return false;
    call->reply = (struct reply_address){
        .form = reference.size > 0 ? REPLY_RESPONSE : REPLY_NAMED,
        .pid = arena_copy(arena, pid),
        .tag = arena_copy(arena, reference),
    };
    taker = reference.size > 0 ? 2 : 1;
    finish(call, decode_request(&decoder, operation, invocation->arguments,
                                invocation->count - taker));
    return true;
}

/* A form that names the pid that takes the result. False, and nothing done, if
 * it is none. */
static bool decode_taken(const struct invocation *invocation,
                         struct arena *arena, struct call *call)
{
    return invocation->count > 0 &&
           (decode_named(invocation, arena, call) ||
            decode_llm_request(invocation, arena, call) ||
            decode_prd_request(invocation, arena, call));
}

static void decode_gen_call(struct term at, struct arena *arena,
                            struct call *call)
{
    struct invocation invocation;
    struct reply_address caller;

    if (!decode_from(&at, arena, &caller))
        return;
    invocation_of_term(&invocation, at);
    if (decode_taken(&invocation, arena, call)) {
        call->acknowledge = caller;
        return;
    }
    call->reply = caller;
    decode_operation(&invocation, arena, call);
}

/* A cast or a bare message: only with a pid to answer. */
static void decode_unasked(struct term term, struct arena *arena,
                           struct call *call)
{
    struct invocation invocation;

    invocation_of_term(&invocation, term);
    decode_taken(&invocation, arena, call);
}

static void decode_system(struct term at, struct arena *arena,
                          struct call *call)
{
    if (!decode_from(&at, arena, &call->reply))
        return;
    call->kind = CALL_SYSTEM;
    if (term_is_atom(at, "get_state"))
        call->system = SYSTEM_GET_STATE;
    else if (term_is_atom(at, "get_status"))
        call->system = SYSTEM_GET_STATUS;
    else
        call->system = SYSTEM_OTHER;
}

void call_decode_message(struct term message, struct arena *arena,
                         struct call *call)
{
    struct term first;
    uint32_t arity;

    call_init(call);
    if (!term_tuple(message, &arity, &first) || arity < 2)
        return;
    if (arity == 3 && term_is_atom(first, "$gen_call"))
        decode_gen_call(term_next(first), arena, call);
    else if (arity == 3 && term_is_atom(first, "system"))
        decode_system(term_next(first), arena, call);
    else if (arity == 2 && term_is_atom(first, "$gen_cast"))
        decode_unasked(term_next(first), arena, call);
    else
        decode_unasked(message, arena, call);
}

static bool is_service_module(struct slice module)
{
    return slice_is(module, "Elixir.LLMRouter.Server") ||
           slice_is(module, "llm_router");
}

/* Modules of programs that were there before this one, for their callers. */
static const struct export
{
    const char *module, *function;
    uint32_t least, most; /* arguments */
}
exports[] = {
    {"Elixir.LLM.Service", "call", 2, 3},
    {"Elixir.LLM.Service", "call_with_prompt", 2, 3},
    {"Elixir.LLM.Service", "call_with_system", 3, 4},
    {"Elixir.LLM.Service", "call_with_script", 2, 3},
    {"Elixir.LLM.Service", "get_available_models", 0, 0},
    {"Elixir.LLM.Service", "determine_complexity_for_task", 1, 1},
    {"Elixir.Nexus.LLMRouter", "route", 1, 1},
    {"Elixir.Nexus.LLMRouter", "select_model", 2, 2},
    {"gleam_router", "route_completion", 1, 1},
};

static bool is_exported(struct slice module,
                        const struct invocation *invocation)
{
    enum operation operation;

    if (is_service_module(module))
        return operation_find(invocation->name, &operation) &&
               operation_has_arity(operation, invocation->count);
    for (size_t i = 0; i < sizeof(exports) / sizeof(*exports); i++)
        if (slice_is(module, exports[i].module) &&
            slice_is(invocation->name, exports[i].function))
            return invocation->count >= exports[i].least &&
                   invocation->count <= exports[i].most;
    return false;
}

bool call_decode_rpc(struct slice module, struct slice function,
                     struct term arguments, struct arena *arena,
                     struct call *call)
{
    struct invocation invocation;

    call_init(call);
    if (!invocation_of_list(&invocation, function, arguments) ||
        !is_exported(module, &invocation))
        return false;
    if (decode_named(&invocation, arena, call))
        return true;
    call->reply.form = REPLY_RPC;
    decode_operation(&invocation, arena, call);
    return true;
}
