/* Remote procedure calls: spawn requests (erpc and, since OTP 23, rpc) and the
 * server `rex` (block_call, C nodes).
 *
 * An erpc call is a process that exits with its result: the caller's monitor
 * brings it home (erpc.erl, execute_call/4). So every monitor on a call gets
 * its result as the reason. Each spawn request must be answered, or callers
 * wait for ever, and `global`'s resolver with them. */
#include "dist/node_internal.h"

#include "llm_router/base/mem.h"
#include "llm_router/term/writer.h"

enum { CALLS_MAX = 1 << 17 }; /* at once */

enum call_form {
    CALL_ERPC,  /* a process that exits with {Res, return, Value} */
    CALL_PLAIN, /* a process that exits with `normal` */
    CALL_GEN,   /* a `$gen_call` to rex */
    CALL_REX,   /* {From, {call, ...}} to rex: the form of C nodes */
};

struct call {
    struct list link; /* in the peer's calls */
    struct peer *peer;
    uint64_t number;
    enum call_form form;
    bool linked;           /* spawn_link */
    struct monitor *owner; /* of who waits for the answer; may be NULL */
    struct list monitors;
    /* Copies behind the struct: */
    struct slice self;             /* raw pid of the call */
    struct slice pid, tag, alias;  /* who waits; tag of CALL_ERPC: its Res */
    struct slice module, function; /* raw */
    uint32_t arity;
};

/* Module:Function(Arguments...), the arguments checked. */
struct invocation {
    struct slice module, function;
    struct term module_term,
        function_term; /* to echo: an old atom is Latin-1 */
    struct term arguments;
    bool proper; /* nobody sees arguments that are not */
    uint32_t arity;
};

struct outcome {
    bool returned;
    struct slice value;     /* raw: the value or the reason */
    struct slice arguments; /* raw; empty: only their number is known */
};

static const struct slice atom_undef = SLICE_LITERAL("\x77\x05"
                                                     "undef");
static const struct slice atom_badarg = SLICE_LITERAL("\x77\x06"
                                                      "badarg");
static const struct slice atom_killed = SLICE_LITERAL("\x77\x06"
                                                      "killed");
static const struct slice atom_system_limit = SLICE_LITERAL("\x77\x0c"
                                                            "system_limit");

struct call *rpc_find_call(const struct node *node, uint64_t number)
{
    return map_find(&node->calls, MAP_KEY(number));
}

static struct slice keep(char **at, struct slice bytes)
{
    struct slice kept = {*at, bytes.size};

    if (bytes.size > 0)
        memcpy(*at, bytes.data, bytes.size);
    *at += bytes.size;
    return kept;
}

static struct call *call_new(struct peer *peer, enum call_form form,
                             const struct gen_call *caller,
                             const struct invocation *invocation)
{
    struct node *node = peer->node;
    struct slice module = term_raw(invocation->module_term);
    struct slice function = term_raw(invocation->function_term);
    struct slice self;
    struct call *call;
    char *bytes;

    buf_clear(&node->scratch);
    pid_put(&node->scratch, &node->self, ++node->last_number);
    self = buf_slice(&node->scratch);
    call = mem_alloc(sizeof(*call) + self.size + caller->pid.size +
                     caller->tag.size + caller->alias.size + module.size +
                     function.size);
    bytes = (char *)(call + 1);
    call->peer = peer;
    call->number = node->last_number;
    call->form = form;
    call->self = keep(&bytes, self);
    call->pid = keep(&bytes, caller->pid);
    call->tag = keep(&bytes, caller->tag);
    call->alias = keep(&bytes, caller->alias);
    call->module = keep(&bytes, module);
    call->function = keep(&bytes, function);
    call->arity = invocation->arity;
    list_init(&call->monitors);
    list_append(&peer->calls, &call->link);
    map_put(&node->calls, MAP_KEY(call->number), call);
    return call;
}

/* Monitors on the call's process go with it; one on rex stays. */
static void call_free(struct call *call)
{
    struct peer *peer = call->peer;

    LIST_EACH(link, &call->monitors)
    {
        struct monitor *monitor = LIST_ENTRY(link, struct monitor, of_call);

        list_remove(&monitor->of_call);
        monitor->call = NULL;
        if (monitor->target == MONITOR_CALL)
            process_drop_monitor(peer, monitor);
    }
    list_remove(&call->link);
    map_remove(&peer->node->calls, MAP_KEY(call->number));
    mem_free(call);
}

static void abandon(struct node *node, struct call *call)
{
    uint64_t number = call->number;

    call_free(call);
    node->events->rpc_abandoned(node->context, number);
}

void rpc_add_monitor(struct call *call, struct monitor *monitor)
{
    monitor->call = call;
    list_append(&call->monitors, &monitor->of_call);
}

void rpc_demonitored(struct node *node, struct monitor *monitor)
{
    if (monitor->call->owner == monitor)
        abandon(node, monitor->call);
}

void rpc_peer_down(struct peer *peer)
{
    while (!list_is_empty(&peer->calls))
        abandon(peer->node, LIST_ENTRY(peer->calls.next, struct call, link));
}

/* Results. */

/* undef's or another error's stack: [{M, F, Args | Arity, []}]. */
static void put_stack(struct buf *out, const struct call *call,
                      const struct outcome *outcome)
{
    term_put_list(out, 1);
    term_put_tuple(out, 4);
    term_put_raw(out, call->module);
    term_put_raw(out, call->function);
    if (outcome->arguments.size > 0)
        term_put_raw(out, outcome->arguments);
    else
        term_put_integer(out, call->arity);
    term_put_nil(out);
    term_put_nil(out);
}

static void put_fault(struct buf *out, const struct call *call,
                      const struct outcome *outcome)
{
    term_put_tuple(out, 2);
    term_put_raw(out, outcome->value);
    put_stack(out, call, outcome);
}

/* The reason the process of a call exits with. */
static void put_reason(struct buf *out, const struct call *call,
                       const struct outcome *outcome)
{
    if (call->form == CALL_PLAIN) {
        if (outcome->returned)
            term_put_atom(out, "normal");
        else
            put_fault(out, call, outcome);
        return;
    }
    term_put_tuple(out, outcome->returned ? 3 : 4);
    term_put_raw(out, call->tag);
    term_put_atom(out, outcome->returned ? "return" : "error");
    term_put_raw(out, outcome->value);
    if (!outcome->returned)
        put_stack(out, call, outcome);
}

/* What rex replies: {Tag, Value} or {rex, Value}. */
static void put_reply(struct buf *out, const struct call *call,
                      const struct outcome *outcome)
{
    term_put_tuple(out, 2);
    if (call->form == CALL_GEN)
        term_put_raw(out, call->tag);
    else
        term_put_atom(out, "rex");
    if (outcome->returned) {
        term_put_raw(out, outcome->value);
        return;
    }
    term_put_tuple(out, 2);
    term_put_atom(out, "badrpc");
    term_put_tuple(out, 2);
    term_put_atom(out, "EXIT");
    put_fault(out, call, outcome);
}

static void send_reply(struct node *node, const struct call *call,
                       const struct outcome *outcome)
{
    struct peer *peer;
    struct buf *out = reply_begin(node, call->pid, call->alias, &peer);

    if (!out)
        return;
    put_reply(out, call, outcome);
    peer_send_end(peer);
}

/* To every monitor, and along the link. `put` writes the reason. */
static void send_exit(const struct call *call,
                      void (*put)(struct buf *out, const struct call *call,
                                  const struct outcome *outcome),
                      const struct outcome *outcome)
{
    struct peer *peer = call->peer;
    struct buf *out;

    LIST_EACH(link, &call->monitors)
    {
        const struct monitor *monitor =
            LIST_ENTRY(link, struct monitor, of_call);

        out = peer_send_begin(peer);
        if (!out)
            return;
        control_put_monitor_exit(out, peer_flags(peer), call->self,
                                 monitor->watcher, monitor->reference);
        put(out, call, outcome);
        peer_send_end(peer);
    }
    if (!call->linked || !(out = peer_send_begin(peer)))
        return;
    control_put_exit(out, peer_flags(peer), call->self, call->pid);
    put(out, call, outcome);
    peer_send_end(peer);
}

static void put_value(struct buf *out, const struct call *call,
                      const struct outcome *outcome)
{
    (void)call;
    term_put_raw(out, outcome->value);
}

static void finish(struct node *node, struct call *call,
                   const struct outcome *outcome)
{
    if (call->form == CALL_GEN || call->form == CALL_REX)
        send_reply(node, call, outcome);
    else
        send_exit(call, put_reason, outcome);
    call_free(call);
}

bool node_rpc_return(struct node *node, uint64_t call, struct slice value)
{
    const struct outcome outcome = {.returned = true, .value = value};
    struct call *found = rpc_find_call(node, call);

    if (!found)
        return true;
    if (!peer_has_room(found->peer, value.size))
        return false;
    finish(node, found, &outcome);
    return true;
}

void node_rpc_error(struct node *node, uint64_t call, enum node_rpc_class class,
                    struct slice reason)
{
    bool undef = class == NODE_RPC_UNDEF;
    const struct outcome outcome = {
        .value = undef ? atom_undef : reason,
        .arguments = undef && call == node->running ? node->running_args
                                                    : slice_of(NULL),
    };
    struct call *found = rpc_find_call(node, call);

    if (found)
        finish(node, found, &outcome);
}

/* Somebody exits the process of a call. */
void rpc_exit(struct node *node, struct call *call,
              const struct control *control)
{
    struct outcome outcome = {.value = atom_killed};
    struct term reason;

    if (control_reason(control, &node->limits, &reason)) {
        if (term_is_atom(reason, "normal"))
            return;
        if (control->kind == CONTROL_EXIT || !term_is_atom(reason, "kill"))
            outcome.value = term_raw(reason);
    }
    send_exit(call, put_value, &outcome);
    abandon(node, call);
}

/* What any node answers itself. */
static bool run_system(struct node *node, uint64_t call,
                       const struct invocation *invocation)
{
    system_function *function = system_function_find(
        invocation->module, invocation->function, invocation->arity);
    struct buf value;

    if (!function)
        return false;
    buf_init(&value, node->limits.max_bytes);
    if (function(node, invocation->arguments, &value))
        node_rpc_return(node, call, buf_slice(&value));
    else
        node_rpc_error(node, call, NODE_RPC_EXCEPTION, atom_badarg);
    buf_release(&value);
    return true;
}

/* `call` is 0 for a cast. */
static void run(struct peer *peer, uint64_t call,
                const struct invocation *invocation)
{
    struct node *node = peer->node;
    const struct node_rpc rpc = {
        .connection = peer->id,
        .peer = peer->name,
        .call = call,
        .module = invocation->module,
        .function = invocation->function,
        .arguments = invocation->arguments,
        .arity = invocation->arity,
    };

    node->running = call;
    node->running_args = term_raw(invocation->arguments);
    if (!invocation->proper)
        node_rpc_error(node, call, NODE_RPC_EXCEPTION, atom_badarg);
    else if (!run_system(node, call, invocation))
        node->events->rpc(node->context, &rpc);
    node->running = 0;
    node->running_args = slice_of(NULL);
}

static bool read_arguments(struct term arguments, struct invocation *invocation)
{
    struct term_list list;

    if (!term_list(arguments, &list))
        return false;
    invocation->arguments = arguments;
    invocation->proper = list.proper;
    invocation->arity = list.left;
    return true;
}

/* Module, function and arguments, in a row. */
static bool read_invocation(struct term module, struct invocation *invocation)
{
    struct term function = term_next(module);

    invocation->module_term = module;
    invocation->function_term = function;
    return term_atom(module, &invocation->module) &&
           term_atom(function, &invocation->function) &&
           read_arguments(term_next(function), invocation);
}

/* Spawn requests. */

struct spawn {
    bool is_cast, monitored, linked;
    enum call_form form;
    struct gen_call caller;
    struct invocation invocation;
};

static void read_options(const struct control *control, struct spawn *spawn)
{
    struct term_list list;
    struct term option, name;

    term_list(control->options, &list);
    while (term_list_next(&list, &option)) {
        if (!term_tuple_of(option, 2, &name))
            name = option;
        spawn->monitored |= term_is_atom(name, "monitor");
        spawn->linked |= term_is_atom(name, "link");
    }
    spawn->is_cast = !spawn->monitored && !spawn->linked;
}

static bool is_erpc(const struct invocation *invocation, const char *function,
                    uint32_t arity)
{
    return invocation->arity == arity && slice_is(invocation->module, "erpc") &&
           slice_is(invocation->function, function);
}

/* {Module, Function, Arity} and the argument list, checked before. What erpc
 * is to execute is among its own arguments: execute_call(Res, M, F, A) and
 * execute_cast(M, F, A). */
static bool read_spawn(const struct control *control, struct spawn *spawn)
{
    struct term arguments = term_from_raw(control->payload), element;
    struct invocation *invocation = &spawn->invocation;
    struct term_list list;

    *spawn = (struct spawn){.form = CALL_PLAIN};
    read_options(control, spawn);
    spawn->caller.pid = term_raw(control->from);
    term_tuple_of(control->function, 3, &element);
    invocation->module_term = element;
    invocation->function_term = term_next(element);
    term_atom(element, &invocation->module);
    term_atom(invocation->function_term, &invocation->function);
    if (!term_list(arguments, &list) || !read_arguments(arguments, invocation))
        return false;
    if (is_erpc(invocation, "execute_call", 4)) {
        term_list_next(&list, &element);
        spawn->form = CALL_ERPC;
        spawn->caller.tag = term_raw(element);
        return term_list_next(&list, &element) &&
               read_invocation(element, invocation);
    }
    if (is_erpc(invocation, "execute_cast", 3))
        return term_list_next(&list, &element) &&
               read_invocation(element, invocation);
    return true;
}

static void send_spawn_reply(struct peer *peer, const struct control *control,
                             int flags, struct slice result)
{
    struct buf *out = peer_send_begin(peer);

    if (!out)
        return;
    control_put_spawn_reply(out, term_raw(control->reference),
                            term_raw(control->from), flags, result);
    peer_send_end(peer);
}

/* A process that nobody waits for: done as soon as it began. */
static void spawn_cast(struct peer *peer, const struct control *control,
                       const struct spawn *spawn)
{
    struct node *node = peer->node;

    buf_clear(&node->scratch);
    pid_put(&node->scratch, &node->self, ++node->last_number);
    send_spawn_reply(peer, control, 0, buf_slice(&node->scratch));
    run(peer, 0, &spawn->invocation);
}

static void spawn_call(struct peer *peer, const struct control *control,
                       const struct spawn *spawn)
{
    struct call *call =
        call_new(peer, spawn->form, &spawn->caller, &spawn->invocation);

    call->linked = spawn->linked;
    if (spawn->monitored) {
        call->owner = process_add_monitor(peer, MONITOR_CALL,
                                          term_raw(control->reference),
                                          spawn->caller.pid);
        if (!call->owner) {
            call_free(call);
            return;
        }
        rpc_add_monitor(call, call->owner);
    }
    send_spawn_reply(peer, control,
                     (spawn->monitored ? SPAWN_MONITORED : 0) |
                         (spawn->linked ? SPAWN_LINKED : 0),
                     call->self);
    run(peer, call->number, &spawn->invocation);
}

void rpc_refused(struct peer *peer, const struct control *control)
{
    send_spawn_reply(peer, control, 0, atom_system_limit);
}

void rpc_spawn(struct peer *peer, const struct control *control)
{
    struct node *node = peer->node;
    struct spawn spawn;
    struct error err;

    if (!term_check(control->payload, &node->limits, &err) ||
        node->calls.count >= CALLS_MAX)
        rpc_refused(peer, control);
    else if (!read_spawn(control, &spawn))
        send_spawn_reply(peer, control, 0, atom_badarg);
    else if (spawn.is_cast)
        spawn_cast(peer, control, &spawn);
    else
        spawn_call(peer, control, &spawn);
}

/* The server `rex` (rpc.erl). */

/* {Kind, Module, Function, Arguments, GroupLeader} */
static bool read_request(struct term request, const char *kind,
                         struct invocation *invocation)
{
    struct term element;

    return term_tuple_of(request, 5, &element) && term_is_atom(element, kind) &&
           read_invocation(term_next(element), invocation);
}

static void rex_call(struct peer *peer, enum call_form form,
                     const struct gen_call *caller,
                     const struct invocation *invocation)
{
    struct call *call;
    struct monitor *monitor;

    if (peer->node->calls.count >= CALLS_MAX) {
        peer->node->dropped_signals++;
        return;
    }
    call = call_new(peer, form, caller, invocation);
    monitor = caller->reference.size > 0
                  ? process_find_monitor(peer, caller->reference)
                  : NULL;
    if (monitor && monitor->target == MONITOR_REX && !monitor->call) {
        rpc_add_monitor(call, monitor);
        call->owner = monitor;
    }
    run(peer, call->number, invocation);
}

uint64_t rpc_ask(struct peer *peer, const char *module, const char *function,
                 struct slice arguments)
{
    struct node *node = peer->node;
    struct slice own = buf_slice(&node->own_pid);
    struct buf *out = peer_send_begin(peer);
    uint64_t reference = ++node->last_number;

    if (!out)
        return 0;
    control_put_send_name(out, own, slice_of("rex"));
    control_put_payload(out, peer_flags(peer));
    term_put_tuple(out, 3);
    term_put_atom(out, "$gen_call");
    term_put_tuple(out, 2);
    term_put_raw(out, own);
    reference_put(out, &node->self, reference);
    term_put_tuple(out, 5);
    term_put_atom(out, "call");
    term_put_atom(out, module);
    term_put_atom(out, function);
    term_put_raw(out, arguments);
    term_put_atom(out, "user");
    return peer_send_end(peer) ? reference : 0;
}

/* Nodes that come up ask each other whether they know erpc. */
static void reply_features(struct node *node, struct slice pid)
{
    struct peer *peer = node_peer_of(node, pid);
    struct buf *out = peer ? peer_send_begin(peer) : NULL;

    if (!out)
        return;
    control_put_send(out, pid);
    control_put_payload(out, peer_flags(peer));
    term_put_tuple(out, 3);
    term_put_atom(out, "features_reply");
    term_put_atom_slice(out, node->self.name);
    term_put_list(out, 1);
    term_put_atom(out, "erpc");
    term_put_nil(out);
    peer_send_end(peer);
}

/* {From, Request} or {'$gen_cast', Request}. */
static bool rex_message(struct peer *peer, struct term message)
{
    struct gen_call caller = {.alias = {NULL, 0}};
    struct invocation invocation;
    struct term from, request;

    if (!term_tuple_of(message, 2, &from))
        return false;
    request = term_next(from);
    if (term_is_atom(from, "$gen_cast")) {
        if (!read_request(request, "cast", &invocation))
            return false;
        run(peer, 0, &invocation);
        return true;
    }
    if (term_kind(from) != TERM_PID)
        return false;
    caller.pid = term_raw(from);
    if (read_request(request, "call", &invocation))
        rex_call(peer, CALL_REX, &caller, &invocation);
    else if (term_is_atom(request, "features_request"))
        reply_features(peer->node, caller.pid);
    else
        return false;
    return true;
}

void rpc_rex(struct peer *peer, struct term message)
{
    struct invocation invocation;
    struct gen_call caller;

    if (gen_call_read(message, &caller) &&
        (read_request(caller.request, "call", &invocation) ||
         read_request(caller.request, "block_call", &invocation)))
        rex_call(peer, CALL_GEN, &caller, &invocation);
    else if (!rex_message(peer, message))
        peer->node->dropped_signals++;
}
