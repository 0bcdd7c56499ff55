/* Keeps our names in `global`, by asking visible peers: we are hidden and run
 * no global_name_server of our own.
 *
 * Each visible peer is asked whom a name means there (clusters may be apart):
 * at once when it comes up, then every second, or every five while it names
 * us. Only where it means nobody is it registered; another holder is never
 * fought, however it came by the name. So of several routers one holds the
 * first name and the others stand by. A registration spreads through the whole
 * cluster: where a node alone does not know a holder that others know, that
 * one is registered again, and we only if that does not help. Questions are
 * generic calls to the peer's `rex` with a reference of ours, so that nothing
 * waits in between (a registration can block on the cluster's global lock). */
#include "dist/node_internal.h"

#include <stdio.h>

#include "llm_router/base/log.h"
#include "llm_router/term/writer.h"

enum {
    ASK_AGAIN_MS = 1000,
    NOBODY_PATIENCE = 10, /* answers, before we take the place of a holder */
    CHECK_MS = 5000,
    SUSPECT_MS = 50, /* whatever the number of suspicious signals */
    REPLY_TIMEOUT_MS = 5000,
};

static const char *const functions[] = {
    [GLOBAL_WHEREIS] = "whereis_name",
    [GLOBAL_REGISTER] = "register_name",
    [GLOBAL_RESTORE] = "register_name",
    [GLOBAL_UNREGISTER] = "unregister_name",
};

static void on_due(void *context);

void global_init(struct node *node)
{
    for (size_t i = 0; i < GLOBAL_NAMES; i++) {
        buf_init(&node->names[i].term, SIZE_MAX);
        buf_init(&node->names[i].pid, SIZE_MAX);
    }
}

void global_release(struct node *node)
{
    for (size_t i = 0; i < GLOBAL_NAMES; i++) {
        buf_release(&node->names[i].term);
        buf_release(&node->names[i].pid);
    }
}

void global_ready(struct node *node)
{
    struct global_name *first = &node->names[0], *second = &node->names[1];
    struct slice name = slice_of(node->options.global_name);

    first->number = SERVICE_NUMBER;
    term_put_atom_slice(&first->term, name);
    snprintf(first->text, sizeof(first->text), "%.*s", SLICE_ARG(name));
    second->number = SECOND_NUMBER;
    term_put_tuple(&second->term, 2);
    term_put_atom_slice(&second->term, name);
    term_put_atom_slice(&second->term, node->self.name);
    snprintf(second->text, sizeof(second->text), "{%.*s,'%.*s'}",
             SLICE_ARG(name), SLICE_ARG(node->self.name));
    for (size_t i = 0; i < GLOBAL_NAMES; i++)
        pid_put(&node->names[i].pid, &node->self, node->names[i].number);
}

static void wait_ms(struct global_view *view, uint64_t delay_ms)
{
    loop_timer_start(view->peer->node->loop, &view->timer, delay_ms, on_due,
                     view);
}

/* With this method the loser of a conflict gets a message, not a kill. */
void global_put_registration(struct buf *out, const struct global_name *name,
                             struct slice pid)
{
    term_put_list(out, 3);
    term_put_raw(out, buf_slice(&name->term));
    term_put_raw(out, pid);
    term_put_tuple(out, 2);
    term_put_atom(out, "global");
    term_put_atom(out, "random_notify_name");
    term_put_nil(out);
}

static void put_name(struct buf *out, const struct global_name *name)
{
    term_put_list(out, 1);
    term_put_raw(out, buf_slice(&name->term));
    term_put_nil(out);
}

/* `pid` is who is to be registered, if anybody is. */
static void request(struct global_view *view, enum global_request request,
                    struct slice pid)
{
    struct peer *peer = view->peer;
    struct buf *arguments = &peer->node->scratch;

    buf_clear(arguments);
    if (pid.size > 0)
        global_put_registration(arguments, view->name, pid);
    else
        put_name(arguments, view->name);
    view->reference =
        rpc_ask(peer, "global", functions[request], buf_slice(arguments));
    if (view->reference == 0)
        return;
    view->request = request;
    wait_ms(view, REPLY_TIMEOUT_MS);
}

static void ask(struct global_view *view, enum global_request question)
{
    request(view, question, slice_of(NULL));
}

void global_ask(struct global_view *view)
{
    view->stale = false;
    ask(view, GLOBAL_WHEREIS);
}

static void set_held(struct global_view *view, bool held)
{
    const struct peer *peer = view->peer;

    if (view->held == held)
        return;
    view->held = held;
    if (held)
        log_event(LOG_INFO, "dist", "global name held",
                  LOG_FIELDS(log_text("name", slice_of(view->name->text)),
                             log_text("peer", peer->name)));
    else if (!peer->node->releasing && !handover_is_on(peer->node))
        log_event(LOG_WARN, "dist", "global name lost",
                  LOG_FIELDS(log_text("name", slice_of(view->name->text)),
                             log_text("peer", peer->name)));
}

bool global_is_held(const struct node *node)
{
    LIST_EACH(link, &node->peer_list)
    {
        if (LIST_ENTRY(link, struct peer, link)->global[0].held)
            return true;
    }
    return false;
}

/* Giving up the names: one peer after the other, each asked again just before
 * it unregisters, so that the name of a successor is not taken away; nor is it
 * if his registration still waits there. */

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
    struct global_view *holder = NULL;

    if (!node->released)
        return;
    LIST_EACH(link, &node->peer_list)
    {
        struct peer *peer = LIST_ENTRY(link, struct peer, link);

        if (peer->state != PEER_UP || !peer->visible)
            continue;
        for (size_t i = 0; i < GLOBAL_NAMES; i++) {
            if (peer->global[i].request != GLOBAL_NONE)
                return; /* its reply comes here */
            if (peer->global[i].held && !(i == 0 && node->handover.registering))
                holder = &peer->global[i];
        }
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

/* Asking again, unless the names are being given up. */
static void next(struct global_view *view, uint64_t delay_ms)
{
    struct node *node = view->peer->node;

    if (node->releasing) {
        loop_timer_stop(&view->timer);
        release_next(node);
    } else {
        wait_ms(view, delay_ms);
        handover_looked(node);
    }
}

static void on_due(void *context)
{
    struct global_view *view = context;

    if (view->request == GLOBAL_NONE) {
        ask(view, GLOBAL_WHEREIS);
        return;
    }
    log_event(
        LOG_WARN, "dist", "global does not answer",
        LOG_FIELDS(log_text("peer", view->peer->name),
                   log_text("function", slice_of(functions[view->request])),
                   log_text("name", slice_of(view->name->text))));
    view->request = GLOBAL_NONE;
    if (view->peer->node->releasing)
        view->held = false; /* nothing more can be done there */
    next(view, ASK_AGAIN_MS);
}

/* A holder that another peer names; it may have died within the last second. */
static struct slice find_holder(const struct global_view *view)
{
    size_t index = (size_t)(view - view->peer->global);

    LIST_EACH(link, &view->peer->node->peer_list)
    {
        const struct peer *peer = LIST_ENTRY(link, struct peer, link);

        if (peer->state == PEER_UP && peer->global[index].holder.size > 0)
            return buf_slice(&peer->global[index].holder);
    }
    return slice_of(NULL);
}

static void on_nobody(struct global_view *view)
{
    struct slice holder = find_holder(view);

    view->nobody++;
    if (handover_is_on(view->peer->node))
        next(view, ASK_AGAIN_MS);
    else if (holder.size == 0 || view->nobody > NOBODY_PATIENCE)
        request(view, GLOBAL_REGISTER, buf_slice(&view->name->pid));
    else if (view->nobody > 1)
        request(view, GLOBAL_RESTORE, holder);
    else
        next(view, ASK_AGAIN_MS);
}

static void on_whereis(struct global_view *view, struct term holder)
{
    struct node *node = view->peer->node;

    set_held(view, pid_number(&node->self, holder) == view->name->number);
    buf_clear(&view->holder);
    if (term_is_atom(holder, "undefined") && !node->releasing) {
        on_nobody(view);
        return;
    }
    view->nobody = 0;
    if (!view->held && term_kind(holder) == TERM_PID)
        term_put_raw(&view->holder, term_raw(holder));
    if (view->held && node->releasing)
        ask(view, GLOBAL_UNREGISTER);
    else
        next(view, view->held ? CHECK_MS : ASK_AGAIN_MS);
}

static struct global_view *find_view(struct peer *peer, uint64_t reference)
{
    for (size_t i = 0; i < GLOBAL_NAMES; i++) {
        if (peer->global[i].request != GLOBAL_NONE &&
            peer->global[i].reference == reference)
            return &peer->global[i];
    }
    return NULL;
}

bool global_reply(struct peer *peer, uint64_t reference, struct term reply)
{
    struct global_view *view = find_view(peer, reference);
    enum global_request request;

    if (!view)
        return false;
    request = view->request;
    view->request = GLOBAL_NONE;
    switch (request) {
    case GLOBAL_WHEREIS:
        on_whereis(view, reply);
        break;
    case GLOBAL_REGISTER:
        set_held(view, term_is_atom(reply, "yes"));
        next(view, view->held ? CHECK_MS : ASK_AGAIN_MS);
        break;
    case GLOBAL_RESTORE:
        next(view, ASK_AGAIN_MS);
        break;
    case GLOBAL_UNREGISTER:
        set_held(view, false);
        next(view, ASK_AGAIN_MS);
        break;
    case GLOBAL_NONE:
        break;
    }
    return true;
}

void global_peer_up(struct peer *peer)
{
    for (size_t i = 0; i < GLOBAL_NAMES; i++) {
        peer->global[i] = (struct global_view){
            .peer = peer,
            .name = &peer->node->names[i],
        };
        buf_init(&peer->global[i].holder, SIZE_MAX);
        if (peer->visible && !peer->node->releasing)
            ask(&peer->global[i], GLOBAL_WHEREIS);
    }
}

void global_peer_down(struct peer *peer)
{
    for (size_t i = 0; i < GLOBAL_NAMES; i++) {
        loop_timer_stop(&peer->global[i].timer);
        buf_release(&peer->global[i].holder);
        peer->global[i] = (struct global_view){.held = false};
    }
    release_next(peer->node);
    handover_peer_down(peer);
}

static void ask_soon(struct global_view *view, uint64_t soon)
{
    if (view->request == GLOBAL_NONE && view->timer.due_ms > soon)
        wait_ms(view, SUSPECT_MS);
}

void global_suspect(struct node *node)
{
    uint64_t soon = loop_now_ms(node->loop) + SUSPECT_MS;

    if (node->releasing)
        return;
    LIST_EACH(link, &node->peer_list)
    {
        struct peer *peer = LIST_ENTRY(link, struct peer, link);

        for (size_t i = 0; i < GLOBAL_NAMES; i++)
            if (peer->state == PEER_UP && peer->visible)
                ask_soon(&peer->global[i], soon);
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
    control_put_payload(out, peer_flags(peer));
    term_put_tuple(out, 2);
    term_put_atom(out, "global_name_conflict");
    term_put_raw(out, term_raw(name));
    peer_send_end(peer);
}

/* Nodes write atoms in several ways: not by comparing bytes. */
static const struct global_name *find_name(const struct node *node,
                                           struct term name)
{
    const char *global_name = node->options.global_name;
    struct term element;
    struct slice node_name;

    if (term_is_atom(name, global_name))
        return &node->names[0];
    if (term_tuple_of(name, 2, &element) &&
        term_is_atom(element, global_name) &&
        term_atom(term_next(element), &node_name) &&
        slice_equal(node_name, node->self.name))
        return &node->names[1];
    return NULL;
}

/* random_notify_name/3 keeps the holder on the node with the smaller name. A
 * pid of an earlier life of this node never wins. */
void global_resolve(struct node *node, struct term arguments, struct buf *out)
{
    const struct global_name *ours_by;
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
    ours_by = find_name(node, name);
    if (pid_number(&node->self, first) == 0) {
        ours = second;
        other = first;
    }
    if (!ours_by || pid_number(&node->self, ours) != ours_by->number ||
        !term_node(other, &other_node) ||
        name_less(other_node, node->self.name)) {
        term_put_raw(out, term_raw(other));
        return;
    }
    if (!slice_equal(other_node, node->self.name))
        tell_loser(node, other, name);
    term_put_raw(out, term_raw(ours));
}
