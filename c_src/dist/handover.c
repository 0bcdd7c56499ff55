/* Hands the first global name over, so that callers find a router that takes
 * their calls at any moment while this one ends.
 *
 * Every router has a name of its own, {NAME, 'node@host'}. A visible peer that
 * names us is asked for all names it knows; the routers among them are looked
 * up and asked through it, one after the other, whether they are well: it is
 * the peer that must be able to reach them. Who is well is registered in our
 * place, which `global` does at all nodes of the peer's cluster without a
 * moment between. He is asked once more then: had he begun to end meanwhile he
 * did not know yet that the name is his. Then all peers are asked whom they
 * name, for clusters may be apart, until none names us that knows of anybody
 * else. */
#include "dist/node_internal.h"

#include "llm_router/base/log.h"
#include "llm_router/term/writer.h"

enum {
    ANSWER_MS = 500, /* of a peer, and of another router */
    /* For calls that are under way to us, and for those who look again whom the
     * name means every second (llm_router_attachment.erl). */
    GRACE_MS = 1500,
    NAMES_MAX = 65536, /* bytes, of the routers' own names */
};

static void look(struct node *node);
static void ask_next(struct node *node);

void handover_init(struct node *node)
{
    buf_init(&node->handover.names, NAMES_MAX);
    buf_init(&node->handover.successor, SIZE_MAX);
}

void handover_release(struct node *node)
{
    buf_release(&node->handover.names);
    buf_release(&node->handover.successor);
}

void handover_stop(struct node *node)
{
    node->handover.step = HANDOVER_OFF;
    node->handover.done = NULL;
    loop_timer_stop(&node->handover.answer);
    loop_timer_stop(&node->handover.end);
}

bool handover_is_on(const struct node *node)
{
    return node->handover.step != HANDOVER_OFF;
}

static void on_end(void *context)
{
    struct node *node = context;
    void (*done)(void *) = node->handover.done;

    node->handover.done = NULL;
    if (done)
        done(node->handover.context);
}

/* Whoever has the name may be giving it to us at this moment, too, when we are
 * not the one who gave it to him. */
static bool another_is_named(const struct node *node)
{
    LIST_EACH(link, &node->peer_list)
    {
        const struct peer *peer = LIST_ENTRY(link, struct peer, link);

        if (peer->state == PEER_UP && peer->global[0].holder.size > 0)
            return true;
    }
    return false;
}

/* A registration that is not answered stays under way. */
static void settle(void *context)
{
    struct node *node = context;
    struct handover *handover = &node->handover;
    uint64_t grace_ms = another_is_named(node) ? GRACE_MS : 0;

    handover->registering = handover->step == HANDOVER_REGISTER;
    handover->step = HANDOVER_SETTLED;
    loop_timer_stop(&handover->answer);
    loop_timer_start(node->loop, &handover->end, grace_ms, on_end, node);
}

/* One peer. */

/* It knows nobody who would take the name, or does not answer. */
static void give_up_peer(struct node *node)
{
    loop_timer_stop(&node->handover.answer);
    node->handover.view->tried = true;
    node->handover.step = HANDOVER_LOOK;
    look(node);
}

static void on_no_answer(void *context)
{
    struct node *node = context;
    enum handover_step step = node->handover.step;

    node->handover.reference = 0;
    if (step == HANDOVER_NAMES)
        give_up_peer(node);
    else
        ask_next(node);
}

/* The arguments are in the node's scratch. */
static void ask(struct node *node, enum handover_step step, const char *module,
                const char *function)
{
    struct handover *handover = &node->handover;

    handover->step = step;
    handover->reference = rpc_ask(handover->view->peer, module, function,
                                  buf_slice(&node->scratch));
    if (step == HANDOVER_REGISTER)
        loop_timer_stop(&handover->answer); /* a lock may be waited for */
    else
        loop_timer_start(node->loop, &handover->answer, ANSWER_MS, on_no_answer,
                         node);
}

static void ask_names(struct node *node, struct global_view *view)
{
    node->handover.view = view;
    buf_clear(&node->scratch);
    term_put_nil(&node->scratch);
    ask(node, HANDOVER_NAMES, "global", "registered_names");
}

/* All are asked whom they name; the first that names us is dealt with. */
static void look(struct node *node)
{
    bool waits = false;

    LIST_EACH(link, &node->peer_list)
    {
        struct peer *peer = LIST_ENTRY(link, struct peer, link);
        struct global_view *view = &peer->global[0];

        if (peer->state != PEER_UP || !peer->visible)
            continue;
        if (view->request != GLOBAL_NONE) {
            waits = true;
        } else if (view->stale) {
            global_ask(view);
            waits = true;
        } else if (view->held && !view->tried) {
            ask_names(node, view);
            return;
        }
    }
    if (!waits)
        settle(node);
}

void handover_looked(struct node *node)
{
    if (node->handover.step == HANDOVER_LOOK)
        look(node);
}

static void look_anew(struct node *node)
{
    LIST_EACH(link, &node->peer_list)
    LIST_ENTRY(link, struct peer, link)->global[0].stale = true;
    node->handover.step = HANDOVER_LOOK;
    look(node);
}

/* {NAME, Node} of another node. */
static bool is_router(const struct node *node, struct term name)
{
    struct term element;
    struct slice other;

    return term_tuple_of(name, 2, &element) &&
           term_is_atom(element, node->options.global_name) &&
           term_atom(term_next(element), &other) &&
           !slice_equal(other, node->self.name);
}

static void keep_routers(struct node *node, struct term names)
{
    struct handover *handover = &node->handover;
    struct term_list list;
    struct term name;

    buf_clear(&handover->names);
    handover->next_name = 0;
    if (!term_list(names, &list))
        return;
    while (term_list_next(&list, &name))
        if (is_router(node, name))
            buf_append_slice(&handover->names, term_raw(name));
}

static void ask_next(struct node *node)
{
    struct handover *handover = &node->handover;
    struct slice names = buf_slice(&handover->names), name;

    if (handover->next_name == names.size) {
        give_up_peer(node);
        return;
    }
    name = term_raw(term_from_raw(slice_make(
        names.data + handover->next_name, names.size - handover->next_name)));
    handover->next_name += name.size;
    buf_clear(&node->scratch);
    term_put_list(&node->scratch, 1);
    term_put_raw(&node->scratch, name);
    term_put_nil(&node->scratch);
    ask(node, HANDOVER_WHEREIS, "global", "whereis_name");
}

/* `global` takes one name for a pid: a router's own name is that of its second
 * one, and this name is for its first. */
static bool put_successor(struct node *node, struct term second)
{
    struct pid pid;
    struct identity other;

    if (!pid_read(second, &pid) || pid.id != SECOND_NUMBER || pid.serial != 0)
        return false;
    other = (struct identity){pid.node, pid.creation};
    buf_clear(&node->handover.successor);
    pid_put(&node->handover.successor, &other, SERVICE_NUMBER);
    return true;
}

/* gen_server:call(Pid, Question, Timeout) */
static void ask_successor(struct node *node, enum handover_step step)
{
    struct buf *out = &node->scratch;

    buf_clear(out);
    term_put_list(out, 3);
    term_put_raw(out, buf_slice(&node->handover.successor));
    term_put_raw(out, node->handover.how.question);
    term_put_integer(out, ANSWER_MS);
    term_put_nil(out);
    ask(node, step, "gen_server", "call");
}

static void register_successor(struct node *node)
{
    buf_clear(&node->scratch);
    global_put_registration(&node->scratch, &node->names[0],
                            buf_slice(&node->handover.successor));
    ask(node, HANDOVER_REGISTER, "global", "re_register_name");
}

static void on_given(struct node *node)
{
    struct slice successor = slice_of(NULL);

    term_node(term_from_raw(buf_slice(&node->handover.successor)), &successor);
    log_event(LOG_INFO, "dist", "global name handed over",
              LOG_FIELDS(log_text("name", slice_of(node->names[0].text)),
                         log_text("to", successor)));
    look_anew(node);
}

bool handover_reply(struct peer *peer, uint64_t reference, struct term reply)
{
    struct node *node = peer->node;
    struct handover *handover = &node->handover;

    if (reference == 0 || reference != handover->reference ||
        handover->view != &peer->global[0])
        return false;
    handover->reference = 0;
    switch (handover->step) {
    case HANDOVER_NAMES:
        keep_routers(node, reply);
        ask_next(node);
        break;
    case HANDOVER_WHEREIS:
        if (put_successor(node, reply))
            ask_successor(node, HANDOVER_QUESTION);
        else
            ask_next(node);
        break;
    case HANDOVER_QUESTION:
    case HANDOVER_AGAIN:
        if (!handover->how.is_well(reply))
            ask_next(node);
        else if (handover->step == HANDOVER_QUESTION)
            register_successor(node);
        else
            on_given(node);
        break;
    case HANDOVER_REGISTER:
        if (term_is_atom(reply, "yes"))
            ask_successor(node, HANDOVER_AGAIN);
        else
            give_up_peer(node);
        break;
    case HANDOVER_OFF:
    case HANDOVER_LOOK:
    case HANDOVER_SETTLED:
        break;
    }
    return true;
}

void handover_peer_down(struct peer *peer)
{
    struct handover *handover = &peer->node->handover;

    if (handover->view == &peer->global[0] && handover->step > HANDOVER_LOOK &&
        handover->step < HANDOVER_SETTLED) {
        loop_timer_stop(&handover->answer);
        handover->step = HANDOVER_LOOK;
    }
    handover_looked(peer->node);
}

void node_hand_over_name(struct node *node, const struct node_handover *how,
                         uint64_t timeout_ms, void (*done)(void *context),
                         void *context)
{
    node->handover.how = *how;
    node->handover.done = done;
    node->handover.context = context;
    loop_timer_start(node->loop, &node->handover.end, timeout_ms, settle, node);
    look_anew(node);
}
