/* Keeps our name in `global`, by asking visible peers: we are hidden and run
 * no global_name_server of our own.
 *
 * Each visible peer is asked whom the name means there (clusters may be
 * apart): at once when it comes up, then every second, or every five while it
 * names us. Only where it means nobody is it registered; another holder is
 * never fought, however it came by the name. Questions are generic calls to
 * the peer's `rex` with a reference of ours, so that nothing waits in between
 * (a registration can block on the cluster's global lock). */
#include "dist/node_internal.h"

#include "llm_router/base/log.h"
#include "llm_router/term/writer.h"

enum {
    ASK_AGAIN_MS = 1000,
    CHECK_MS = 5000,
    SUSPECT_MS = 50, /* whatever the number of suspicious signals */
    REPLY_TIMEOUT_MS = 5000,
};

static const char *const functions[] = {
    [GLOBAL_WHEREIS] = "whereis_name",
    [GLOBAL_REGISTER] = "register_name",
    [GLOBAL_UNREGISTER] = "unregister_name",
};

static void on_due(void *context);

static void wait_ms(struct peer *peer, uint64_t delay_ms)
{
    loop_timer_start(peer->node->loop, &peer->global.timer, delay_ms, on_due,
                     peer);
}

/* With this method the loser of a conflict gets a message, not a kill. */
static void put_arguments(struct buf *out, const struct node *node,
                          enum global_request request)
{
    bool registers = request == GLOBAL_REGISTER;

    term_put_list(out, registers ? 3 : 1);
    term_put_atom(out, node->options.global_name);
    if (registers) {
        term_put_raw(out, buf_slice(&node->service_pid));
        term_put_tuple(out, 2);
        term_put_atom(out, "global");
        term_put_atom(out, "random_notify_name");
    }
    term_put_nil(out);
}

/* {'$gen_call', {Pid, Ref}, {call, global, Function, Arguments, user}} */
static void ask(struct peer *peer, enum global_request request)
{
    struct node *node = peer->node;
    struct slice own = buf_slice(&node->own_pid);
    struct buf *out = peer_send_begin(peer);

    if (!out)
        return;
    peer->global.request = request;
    peer->global.reference = ++node->last_number;
    control_put_send_name(out, own, "rex");
    term_put_version(out);
    term_put_tuple(out, 3);
    term_put_atom(out, "$gen_call");
    term_put_tuple(out, 2);
    term_put_raw(out, own);
    reference_put(out, &node->self, peer->global.reference);
    term_put_tuple(out, 5);
    term_put_atom(out, "call");
    term_put_atom(out, "global");
    term_put_atom(out, functions[request]);
    put_arguments(out, node, request);
    term_put_atom(out, "user");
    peer_send_end(peer);
    wait_ms(peer, REPLY_TIMEOUT_MS);
}

static void set_held(struct peer *peer, bool held)
{
    if (peer->global.held == held)
        return;
    peer->global.held = held;
    if (held)
        log_line(LOG_INFO, "dist", "global name %s: held, by %.*s",
                 peer->node->options.global_name, SLICE_ARG(peer->name));
    else if (!peer->node->releasing)
        log_line(LOG_WARN, "dist", "global name %s: lost, by %.*s",
                 peer->node->options.global_name, SLICE_ARG(peer->name));
}

/* Giving up the name: one peer after the other, each asked again just before
 * it unregisters, so that the name of a successor is not taken away. */

static void on_released(void *context)
{
    struct node *node = context;
    void (*released)(void *) = node->released;

    node->released = NULL;
    if (released)
        released(node->released_context);
}

static void release_next(struct node *node)
{
    struct peer *holder = NULL;

    if (!node->released)
        return;
    LIST_EACH(link, &node->peer_list)
    {
        struct peer *peer = LIST_ENTRY(link, struct peer, link);

        if (peer->state != PEER_UP || !peer->visible)
            continue;
        if (peer->global.request != GLOBAL_NONE)
            return; /* its reply comes here */
        if (peer->global.held)
            holder = peer;
    }
    if (holder)
        ask(holder, GLOBAL_WHEREIS);
    else
        loop_timer_start(node->loop, &node->release_limit, 0, on_released,
                         node);
}

void node_release_name(struct node *node, uint64_t timeout_ms,
                       void (*done)(void *context), void *context)
{
    node->releasing = true;
    node->released = done;
    node->released_context = context;
    loop_timer_start(node->loop, &node->release_limit, timeout_ms, on_released,
                     node);
    release_next(node);
}

/* Asking again, unless the name is being given up. */
static void next(struct peer *peer, uint64_t delay_ms)
{
    if (peer->node->releasing) {
        loop_timer_stop(&peer->global.timer);
        release_next(peer->node);
    } else {
        wait_ms(peer, delay_ms);
    }
}

static void on_due(void *context)
{
    struct peer *peer = context;
    struct global_view *view = &peer->global;

    if (view->request == GLOBAL_NONE) {
        ask(peer, GLOBAL_WHEREIS);
        return;
    }
    log_line(LOG_WARN, "dist", "peer=%.*s global:%s/1 is not answered",
             SLICE_ARG(peer->name), functions[view->request]);
    view->request = GLOBAL_NONE;
    if (peer->node->releasing)
        view->held = false; /* nothing more can be done there */
    next(peer, ASK_AGAIN_MS);
}

static void on_whereis(struct peer *peer, struct term holder)
{
    struct node *node = peer->node;

    set_held(peer, pid_number(&node->self, holder) == SERVICE_NUMBER);
    if (peer->global.held && node->releasing)
        ask(peer, GLOBAL_UNREGISTER);
    else if (peer->global.held)
        next(peer, CHECK_MS);
    else if (term_is_atom(holder, "undefined") && !node->releasing)
        ask(peer, GLOBAL_REGISTER);
    else
        next(peer, ASK_AGAIN_MS);
}

void global_reply(struct peer *peer, struct term message)
{
    struct global_view *view = &peer->global;
    enum global_request request = view->request;
    struct term reference, reply;

    if (!peer->visible || request == GLOBAL_NONE ||
        !term_tuple_of(message, 2, &reference) ||
        reference_number(&peer->node->self, reference) != view->reference) {
        peer->node->dropped_signals++;
        return;
    }
    reply = term_next(reference);
    view->request = GLOBAL_NONE;
    switch (request) {
    case GLOBAL_WHEREIS:
        on_whereis(peer, reply);
        break;
    case GLOBAL_REGISTER:
        set_held(peer, term_is_atom(reply, "yes"));
        next(peer, view->held ? CHECK_MS : ASK_AGAIN_MS);
        break;
    case GLOBAL_UNREGISTER:
        set_held(peer, false);
        next(peer, ASK_AGAIN_MS);
        break;
    case GLOBAL_NONE:
        break;
    }
}

void global_peer_up(struct peer *peer)
{
    peer->global = (struct global_view){.held = false};
    if (peer->visible && !peer->node->releasing)
        ask(peer, GLOBAL_WHEREIS);
}

void global_peer_down(struct peer *peer)
{
    loop_timer_stop(&peer->global.timer);
    peer->global = (struct global_view){.held = false};
    release_next(peer->node);
}

void global_suspect(struct node *node)
{
    uint64_t soon = loop_now_ms(node->loop) + SUSPECT_MS;

    if (node->releasing)
        return;
    LIST_EACH(link, &node->peer_list)
    {
        struct peer *peer = LIST_ENTRY(link, struct peer, link);

        if (peer->state == PEER_UP && peer->visible &&
            peer->global.request == GLOBAL_NONE &&
            peer->global.timer.due_ms > soon)
            wait_ms(peer, SUSPECT_MS);
    }
}

/* Conflicts: two clusters meet, and both know the name. The one of them whose
 * holder we are asks us to run the method that we registered with. */

/* The order of atoms. */
static bool name_less(struct slice a, struct slice b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);

    return order != 0 ? order < 0 : a.size < b.size;
}

static void tell_loser(struct node *node, struct term loser, struct term name)
{
    struct peer *peer = node_peer_of(node, term_raw(loser));
    struct buf *out = peer ? peer_send_begin(peer) : NULL;

    if (!out)
        return;
    control_put_send(out, term_raw(loser));
    term_put_version(out);
    term_put_tuple(out, 2);
    term_put_atom(out, "global_name_conflict");
    term_put_raw(out, term_raw(name));
    peer_send_end(peer);
}

/* random_notify_name/3 keeps the holder on the node with the smaller name. A
 * pid of an earlier life of this node never wins. */
void global_resolve(struct node *node, struct term arguments, struct buf *out)
{
    struct term_list list;
    struct term method, name, first, second, ours, other;
    struct slice other_node;

    term_list(arguments, &list);
    term_list_next(&list, &method);
    term_list_next(&list, &name);
    term_list_next(&list, &first);
    term_list_next(&list, &second);
    ours = first;
    other = second;
    if (pid_number(&node->self, first) != SERVICE_NUMBER) {
        ours = second;
        other = first;
    }
    if (!term_is_atom(name, node->options.global_name) ||
        pid_number(&node->self, ours) != SERVICE_NUMBER ||
        !term_node(other, &other_node) ||
        name_less(other_node, node->self.name)) {
        term_put_raw(out, term_raw(other));
        return;
    }
    if (!slice_equal(other_node, node->self.name))
        tell_loser(node, other, name);
    term_put_raw(out, term_raw(ours));
}
