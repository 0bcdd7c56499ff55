/* Signals between the processes of peers and ours. */
#include "dist/node_internal.h"

#include "llm_router/base/mem.h"
#include "llm_router/term/writer.h"

enum {
    MONITORS_MAX = 1 << 17, /* of one peer: a waiting call has one */
    HEAD_MAX = 4096,        /* of a refused message: its caller and tag */
};

enum target {
    TARGET_NOBODY,
    TARGET_SERVICE,
    TARGET_NODE,
    TARGET_REX,
    TARGET_KERNEL, /* net_kernel */
    TARGET_CALL,
};

/* A process that node_monitor watches; on the list of its peer, or of those
 * whose peer was not there. */
struct watch {
    struct list link;
    struct peer *peer; /* NULL: lost */
    uint64_t number;
    size_t pid_size;
    char pid[];
};

static const struct slice atom_noproc = SLICE_LITERAL("\x77\x06"
                                                      "noproc");
static const struct slice atom_yes = SLICE_LITERAL("\x77\x03"
                                                   "yes");

static enum target name_target(const struct node *node, struct term name)
{
    for (size_t i = 0; i < node->options.name_count; i++) {
        if (term_is_atom(name, node->options.names[i]))
            return TARGET_SERVICE;
    }
    if (term_is_atom(name, "rex"))
        return TARGET_REX;
    return term_is_atom(name, "net_kernel") ? TARGET_KERNEL : TARGET_NOBODY;
}

/* `*call` is set for TARGET_CALL. A reference (an alias) is nobody's: this
 * node makes none. */
static enum target target_of(const struct node *node, struct term to,
                             struct call **call)
{
    uint64_t number;

    if (term_kind(to) == TERM_ATOM)
        return name_target(node, to);
    number = pid_number(&node->self, to);
    if (is_service(number))
        return TARGET_SERVICE;
    if (number == NODE_NUMBER)
        return TARGET_NODE;
    *call = rpc_find_call(node, number);
    return *call ? TARGET_CALL : TARGET_NOBODY;
}

/* Generic calls: gen.erl. */

/* [alias | Ref] */
static bool read_alias(struct term tag, struct term *reference)
{
    struct term_list list;
    struct term head;

    if (!term_list(tag, &list) || list.proper || list.left != 1 ||
        !term_list_next(&list, &head) || !term_is_atom(head, "alias"))
        return false;
    *reference = term_next(head);
    return term_kind(*reference) == TERM_REFERENCE;
}

/* Ref, [alias | Ref], [[alias | Ref] | _] or {Ref, Node}. */
static void read_tag(struct term tag, struct gen_call *call)
{
    struct term_list list;
    struct term head, reference;

    if (read_alias(tag, &reference) ||
        (term_list(tag, &list) && term_list_next(&list, &head) &&
         read_alias(head, &reference))) {
        call->alias = call->reference = term_raw(reference);
        return;
    }
    if (!term_tuple_of(tag, 2, &reference))
        reference = tag;
    if (term_kind(reference) == TERM_REFERENCE)
        call->reference = term_raw(reference);
}

bool gen_call_read(struct term message, struct gen_call *call)
{
    struct term element, pid, tag;

    *call = (struct gen_call){.pid = {NULL, 0}};
    if (!term_tuple_of(message, 3, &element) ||
        !term_is_atom(element, "$gen_call"))
        return false;
    element = term_next(element);
    if (!term_tuple_of(element, 2, &pid) || term_kind(pid) != TERM_PID)
        return false;
    tag = term_next(pid);
    call->pid = term_raw(pid);
    call->tag = term_raw(tag);
    call->request = term_next(element);
    read_tag(tag, call);
    return true;
}

struct buf *reply_begin(struct node *node, struct slice pid, struct slice alias,
                        struct peer **peer)
{
    struct buf *out;

    *peer = node_peer_of(node, pid);
    out = *peer ? peer_send_begin(*peer) : NULL;
    if (!out)
        return NULL;
    if (alias.size > 0)
        control_put_send_alias(out, peer_flags(*peer),
                               buf_slice(&node->own_pid), alias);
    else
        control_put_send(out, pid);
    control_put_payload(out, peer_flags(*peer));
    return out;
}

void gen_call_reply(struct node *node, const struct gen_call *call,
                    struct slice value)
{
    struct peer *peer;
    struct buf *out = reply_begin(node, call->pid, call->alias, &peer);

    if (!out)
        return;
    term_put_tuple(out, 2);
    term_put_raw(out, call->tag);
    term_put_raw(out, value);
    peer_send_end(peer);
}

/* Messages. */

/* The term at the front of `bytes`, which move behind it. */
static bool take_term(struct slice *bytes, struct slice *raw)
{
    const struct term_limits limits = {.max_bytes = HEAD_MAX, .max_depth = 8};
    struct error err;
    size_t used;

    if (!term_check_first(*bytes, &limits, &used, &err))
        return false;
    *raw = slice_make(bytes->data, used);
    *bytes = slice_make(bytes->data + used, bytes->size - used);
    return true;
}

static bool take_tuple(struct slice *bytes, char arity)
{
    if (bytes->size < 2 || bytes->data[0] != 'h' || bytes->data[1] != arity)
        return false;
    *bytes = slice_make(bytes->data + 2, bytes->size - 2);
    return true;
}

/* Whom to tell that a `$gen_call` was refused: its head may be sound. */
static void read_head(struct slice payload, struct slice *pid,
                      struct slice *tag)
{
    struct slice head = {payload.data,
                         payload.size < HEAD_MAX ? payload.size : HEAD_MAX};
    struct slice atom, first, second;

    if (!take_tuple(&head, 3) || !take_term(&head, &atom) ||
        !term_is_atom(term_from_raw(atom), "$gen_call") ||
        !take_tuple(&head, 2) || !take_term(&head, &first) ||
        term_kind(term_from_raw(first)) != TERM_PID ||
        !take_term(&head, &second))
        return;
    *pid = first;
    *tag = second;
}

static void refuse(struct peer *peer, struct slice payload,
                   const struct error *err)
{
    struct slice pid = slice_of(NULL), tag = slice_of(NULL);

    read_head(payload, &pid, &tag);
    peer->node->events->refused(peer->node->context, peer->id, pid, tag, err);
}

/* rex is called as a server is, with {badrpc, system_limit} as an answer. */
static void refuse_rex(struct node *node, struct slice payload)
{
    static const struct slice badrpc =
        SLICE_LITERAL("h\2w\6badrpcw\14system_limit");
    struct slice pid = slice_of(NULL), tag = slice_of(NULL);
    struct gen_call call;

    read_head(payload, &pid, &tag);
    if (pid.size == 0) {
        node->dropped_signals++;
        return;
    }
    call = (struct gen_call){.pid = pid, .tag = tag};
    read_tag(term_from_raw(tag), &call);
    gen_call_reply(node, &call, badrpc);
}

static bool is_conflict(struct term message)
{
    struct term element;

    return term_tuple_of(message, 2, &element) &&
           term_is_atom(element, "global_name_conflict");
}

static void tell_service(struct peer *peer, const struct control *control)
{
    struct node *node = peer->node;
    const struct node_message message = {
        .connection = peer->id,
        .peer = peer->name,
        .from = control->from.at ? term_raw(control->from) : slice_of(NULL),
        .message = term_from_raw(control->payload),
    };

    if (is_conflict(message.message))
        global_suspect(node);
    else
        node->events->message(node->context, &message);
}

static void tell_kernel(struct node *node, struct term message)
{
    struct gen_call call;
    struct term element;

    if (gen_call_read(message, &call) &&
        term_tuple_of(call.request, 2, &element) &&
        term_is_atom(element, "is_auth"))
        gen_call_reply(node, &call, atom_yes);
    else
        node->dropped_signals++;
}

/* {Ref, Reply}: answers to what global.c, handover.c and cluster.c asked. */
static void tell_node(struct peer *peer, struct term message)
{
    struct node *node = peer->node;
    struct term reference;
    uint64_t number;

    if (peer->visible && term_tuple_of(message, 2, &reference)) {
        number = reference_number(&node->self, reference);
        if (global_reply(peer, number, term_next(reference)) ||
            handover_reply(peer, number, term_next(reference)) ||
            cluster_reply(node, number, term_next(reference)))
            return;
    }
    node->dropped_signals++;
}

static void deliver(struct peer *peer, const struct control *control)
{
    struct node *node = peer->node;
    struct call *call;
    enum target target = target_of(node, control->to, &call);
    struct term message = term_from_raw(control->payload);
    struct error err;

    if (target == TARGET_NOBODY || target == TARGET_CALL) {
        node->dropped_signals++;
        return;
    }
    if (!term_check(control->payload, &node->limits, &err)) {
        if (target == TARGET_SERVICE)
            refuse(peer, control->payload, &err);
        else if (target == TARGET_REX)
            refuse_rex(node, control->payload);
        else
            node->dropped_signals++;
        return;
    }
    if (target == TARGET_SERVICE)
        tell_service(peer, control);
    else if (target == TARGET_NODE)
        tell_node(peer, message);
    else if (target == TARGET_REX)
        rpc_rex(peer, message);
    else
        tell_kernel(node, message);
}

/* Monitors. */

struct monitor *process_find_monitor(const struct peer *peer,
                                     struct slice reference)
{
    return map_find(&peer->monitors, reference);
}

struct monitor *process_add_monitor(struct peer *peer,
                                    enum monitor_target target,
                                    struct slice reference,
                                    struct slice watcher)
{
    struct monitor *monitor;
    char *bytes;

    if (peer->monitors.count >= MONITORS_MAX) {
        connection_close(peer->connection, "too many monitors");
        return NULL;
    }
    monitor = map_find(&peer->monitors, reference);
    if (monitor)
        process_drop_monitor(peer, monitor);
    monitor = mem_alloc(sizeof(*monitor) + reference.size + watcher.size);
    bytes = (char *)(monitor + 1);
    memcpy(bytes, reference.data, reference.size);
    memcpy(bytes + reference.size, watcher.data, watcher.size);
    monitor->target = target;
    monitor->reference = slice_make(bytes, reference.size);
    monitor->watcher = slice_make(bytes + reference.size, watcher.size);
    list_init(&monitor->of_call);
    list_append(&peer->monitor_list, &monitor->of_peer);
    map_put(&peer->monitors, monitor->reference, monitor);
    return monitor;
}

void process_drop_monitor(struct peer *peer, struct monitor *monitor)
{
    struct node *node = peer->node;

    map_remove(&peer->monitors, monitor->reference);
    list_remove(&monitor->of_peer);
    list_remove(&monitor->of_call);
    if (monitor->target == MONITOR_SERVICE)
        node->events->demonitored(node->context, peer->id, monitor->reference);
    else if (monitor->call)
        rpc_demonitored(node, monitor);
    mem_free(monitor);
}

static void send_noproc(struct peer *peer, const struct control *control)
{
    struct buf *out = peer_send_begin(peer);

    if (!out)
        return;
    control_put_monitor_exit(out, peer_flags(peer), term_raw(control->to),
                             term_raw(control->from),
                             term_raw(control->reference));
    term_put_raw(out, atom_noproc);
    peer_send_end(peer);
}

static void on_monitor(struct peer *peer, const struct control *control)
{
    struct slice reference = term_raw(control->reference);
    struct slice watcher = term_raw(control->from);
    struct monitor *monitor;
    struct call *call;

    switch (target_of(peer->node, control->to, &call)) {
    case TARGET_NOBODY:
        send_noproc(peer, control);
        break;
    case TARGET_SERVICE:
        process_add_monitor(peer, MONITOR_SERVICE, reference, watcher);
        break;
    case TARGET_REX:
        process_add_monitor(peer, MONITOR_REX, reference, watcher);
        break;
    case TARGET_CALL:
        monitor = process_add_monitor(peer, MONITOR_CALL, reference, watcher);
        if (monitor)
            rpc_add_monitor(call, monitor);
        break;
    case TARGET_NODE: /* these live as long as the connection */
    case TARGET_KERNEL:
        break;
    }
}

static void on_demonitor(struct peer *peer, const struct control *control)
{
    struct monitor *monitor =
        process_find_monitor(peer, term_raw(control->reference));

    if (monitor)
        process_drop_monitor(peer, monitor);
}

/* Links need no record: we break none but by the connection's end. */

static void on_link(struct peer *peer, const struct control *control)
{
    struct call *call;
    struct buf *out;

    if (target_of(peer->node, control->to, &call) != TARGET_NOBODY)
        return;
    out = peer_send_begin(peer);
    if (!out)
        return;
    control_put_exit(out, peer_flags(peer), term_raw(control->to),
                     term_raw(control->from));
    term_put_raw(out, atom_noproc);
    peer_send_end(peer);
}

/* The acknowledgement comes before any other signal to that process. */
static void on_unlink(struct peer *peer, const struct control *control)
{
    struct buf *out = peer_send_begin(peer);

    if (!out)
        return;
    control_put_unlink_ack(out, term_raw(control->id), term_raw(control->to),
                           term_raw(control->from));
    peer_send_end(peer);
}

/* The service traps exits. `global` kills who loses a name conflict. */
static void on_exit_signal(struct peer *peer, const struct control *control)
{
    struct node *node = peer->node;
    struct term reason;
    struct call *call;
    enum target target = target_of(node, control->to, &call);

    if (target == TARGET_CALL)
        rpc_exit(node, call, control);
    else if (target == TARGET_SERVICE && control->kind == CONTROL_EXIT2 &&
             control_reason(control, &node->limits, &reason) &&
             term_is_atom(reason, "kill"))
        global_suspect(node);
}

/* Watches. */

static void watch_free(struct node *node, struct watch *watch)
{
    list_remove(&watch->link);
    map_remove(&node->watches, MAP_KEY(watch->number));
    mem_free(watch);
}

static void watch_down(struct node *node, struct watch *watch)
{
    uint64_t number = watch->number;

    watch_free(node, watch);
    node->events->process_down(node->context, number);
}

static void all_down(struct node *node, struct list *watches)
{
    while (!list_is_empty(watches))
        watch_down(node, LIST_ENTRY(watches->next, struct watch, link));
}

static void on_monitor_exit(struct peer *peer, const struct control *control)
{
    struct node *node = peer->node;
    uint64_t number = reference_number(&node->self, control->reference);
    struct watch *watch = map_find(&node->watches, MAP_KEY(number));

    if (watch && watch->peer == peer)
        watch_down(node, watch);
}

static void tell_lost(void *context)
{
    struct node *node = context;

    all_down(node, &node->lost_watches);
}

static void put_watch(struct node *node, struct watch *watch,
                      void (*put)(struct buf *out, struct slice from,
                                  struct slice to, struct slice reference))
{
    struct buf *out = watch->peer ? peer_send_begin(watch->peer) : NULL;

    if (!out)
        return;
    buf_clear(&node->scratch);
    reference_put(&node->scratch, &node->self, watch->number);
    put(out, buf_slice(&node->service_pid),
        slice_make(watch->pid, watch->pid_size), buf_slice(&node->scratch));
    peer_send_end(watch->peer);
}

uint64_t node_monitor(struct node *node, struct slice pid)
{
    struct watch *watch = mem_alloc(sizeof(*watch) + pid.size);

    watch->peer = node_peer_of(node, pid);
    watch->number = ++node->last_number;
    watch->pid_size = pid.size;
    memcpy(watch->pid, pid.data, pid.size);
    map_put(&node->watches, MAP_KEY(watch->number), watch);
    if (watch->peer) {
        list_append(&watch->peer->watches, &watch->link);
        put_watch(node, watch, control_put_monitor);
    } else {
        list_append(&node->lost_watches, &watch->link);
        loop_defer(node->loop, &node->tell_lost, tell_lost, node);
    }
    return watch->number;
}

void node_demonitor(struct node *node, uint64_t monitor)
{
    struct watch *watch = map_find(&node->watches, MAP_KEY(monitor));

    if (!watch)
        return;
    put_watch(node, watch, control_put_demonitor);
    watch_free(node, watch);
}

bool node_is_monitored(const struct node *node, uint64_t connection,
                       struct slice reference)
{
    const struct peer *peer = map_find(&node->connected, MAP_KEY(connection));
    const struct monitor *monitor =
        peer ? process_find_monitor(peer, reference) : NULL;

    return monitor && monitor->target == MONITOR_SERVICE;
}

/* All signals. */

void process_signal(struct peer *peer, struct slice body)
{
    struct node *node = peer->node;
    struct control control;
    struct error err;

    if (!control_decode(body, control_form(peer_flags(peer)), &node->limits,
                        &control, &err)) {
        connection_close(peer->connection, err.message);
        return;
    }
    switch (control.kind) {
    case CONTROL_SEND:
    case CONTROL_SEND_NAME:
    case CONTROL_SEND_ALIAS:
        deliver(peer, &control);
        break;
    case CONTROL_LINK:
        on_link(peer, &control);
        break;
    case CONTROL_UNLINK:
        on_unlink(peer, &control);
        break;
    case CONTROL_EXIT:
    case CONTROL_EXIT2:
        on_exit_signal(peer, &control);
        break;
    case CONTROL_MONITOR:
        on_monitor(peer, &control);
        break;
    case CONTROL_DEMONITOR:
        on_demonitor(peer, &control);
        break;
    case CONTROL_MONITOR_EXIT:
        on_monitor_exit(peer, &control);
        break;
    case CONTROL_SPAWN:
        rpc_spawn(peer, &control);
        break;
    case CONTROL_IGNORED:
        node->dropped_signals++;
        break;
    }
}

/* Of a signal that is not taken only the control message and perhaps the
 * beginning of the payload are there. */
void process_refused(struct peer *peer, struct slice body,
                     const struct error *why)
{
    struct node *node = peer->node;
    enum target target = TARGET_NOBODY;
    struct control control;
    struct call *call;
    struct error err;

    if (!control_decode(body, control_form(peer_flags(peer)), &node->limits,
                        &control, &err))
        control.kind = CONTROL_IGNORED;
    if (control.kind == CONTROL_SEND || control.kind == CONTROL_SEND_NAME)
        target = target_of(node, control.to, &call);
    if (control.kind == CONTROL_SPAWN)
        rpc_refused(peer, &control);
    else if (target == TARGET_SERVICE)
        refuse(peer, control.payload, why);
    else if (target == TARGET_REX)
        refuse_rex(node, control.payload);
    else
        node->dropped_signals++;
}

void process_peer_up(struct peer *peer)
{
    map_init(&peer->monitors, peer->node->peers.seed);
    list_init(&peer->monitor_list);
    list_init(&peer->calls);
    list_init(&peer->watches);
}

void process_peer_down(struct peer *peer)
{
    rpc_peer_down(peer);
    all_down(peer->node, &peer->watches);
    while (!list_is_empty(&peer->monitor_list))
        process_drop_monitor(
            peer, LIST_ENTRY(peer->monitor_list.next, struct monitor, of_peer));
    map_release(&peer->monitors);
}

void process_release(struct node *node)
{
    loop_task_cancel(&node->tell_lost);
    LIST_EACH(link, &node->lost_watches)
    watch_free(node, LIST_ENTRY(link, struct watch, link));
}
