/* The peers of a node: who is connected or is to be, dialling them, and sending
 * them messages. */
#include "dist/node_internal.h"

#include <sys/random.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/term/writer.h"

enum {
    CONTROL_ROOM = 4096, /* bytes of a control message, and more */
    DIALS_MAX = 32,      /* on demand, at once: callers name the nodes */
    DIAL_TIMEOUT_MS = 7000,
    REDIAL_FIRST_MS = 100,
    REDIAL_MAX_MS = 2000,
    /* Of nodes that --connect does not name: */
    WANTED_FIRST_MS = 500,
    WANTED_MAX_MS = 5000,
    PEERS_MAX = 10000,
};

uint64_t node_random(void)
{
    uint64_t number = 0;

    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        number = uv_hrtime();
    return number;
}

struct peer *node_find_peer(const struct node *node, struct slice name)
{
    return map_find(&node->peers, name);
}

struct peer *node_peer_of(const struct node *node, struct slice raw)
{
    struct slice name;
    struct peer *peer;

    if (!term_node(term_from_raw(raw), &name))
        return NULL;
    peer = node_find_peer(node, name);
    return peer && peer->state == PEER_UP ? peer : NULL;
}

struct buf *peer_send_begin(struct peer *peer)
{
    return connection_send_begin(peer->connection);
}

bool peer_send_end(struct peer *peer)
{
    return connection_send_end(peer->connection, OUTBOX_ANY_ORDER);
}

uint64_t peer_flags(const struct peer *peer)
{
    return connection_flags(peer->connection);
}

struct peer *peer_new(struct node *node, struct slice name)
{
    struct peer *peer = mem_alloc(sizeof(*peer));

    peer->node = node;
    peer->name = slice_make(mem_copy_text(name.data, name.size), name.size);
    buf_init(&peer->queue, node->options.max_send_queue_bytes);
    list_append(&node->peer_list, &peer->link);
    map_put(&node->peers, peer->name, peer);
    return peer;
}

void peer_free(struct peer *peer)
{
    map_remove(&peer->node->peers, peer->name);
    list_remove(&peer->link);
    loop_timer_stop(&peer->timer);
    buf_release(&peer->queue);
    mem_free((char *)peer->name.data);
    mem_free(peer);
}

static bool is_dialling(const struct peer *peer)
{
    return peer->state == PEER_LOOKUP || peer->state == PEER_DIALLED ||
           peer->state == PEER_AWAITED;
}

void peer_move(struct peer *peer, enum peer_state state)
{
    struct node *node = peer->node;
    bool was_dialling = is_dialling(peer);

    node->up_count -= peer->state == PEER_UP;
    peer->state = state;
    node->up_count += state == PEER_UP;
    if (!peer->on_demand)
        return;
    node->dials -= was_dialling;
    node->dials += is_dialling(peer);
}

bool peer_has_room(const struct peer *peer, size_t size)
{
    return size <= FRAME_PART_SIZE ||
           size + CONTROL_ROOM <= connection_room(peer->connection);
}

/* Messages. */

/* What the messages to one process of a peer have in common. */
static uint64_t receiver_of(struct slice pid)
{
    struct pid parts;

    if (!pid_read(term_from_raw(pid), &parts))
        return OUTBOX_ANY_ORDER;
    return ((uint64_t)parts.serial << 32 | parts.id) + 1;
}

/* To a pid, or to the name of a process: an atom. */
static void put_receiver(struct peer *peer, struct slice to, struct buf *out)
{
    struct slice name;

    if (term_atom(term_from_raw(to), &name))
        control_put_send_name(out, buf_slice(&peer->node->service_pid), name);
    else
        control_put_send(out, to);
}

static bool send_message(struct peer *peer, struct slice to, struct slice head,
                         struct slice rest)
{
    struct buf *out = peer_has_room(peer, head.size + rest.size)
                          ? peer_send_begin(peer)
                          : NULL;

    if (!out)
        return false;
    put_receiver(peer, to, out);
    control_put_payload(out, peer_flags(peer));
    buf_append_slice(out, head);
    buf_append_slice(out, rest);
    return connection_send_end(peer->connection, receiver_of(to));
}

/* In peer->queue, before receiver and payload. */
struct queued_message {
    size_t to_size, payload_size;
};

static void drop_queued(struct peer *peer)
{
    peer->queued = 0;
    buf_shrink(&peer->queue, 0);
}

void peer_send_queued(struct peer *peer)
{
    const char *at = peer->queue.data;

    for (size_t i = 0; i < peer->queued; i++) {
        struct queued_message message;
        const char *to = at + sizeof(message);

        memcpy(&message, at, sizeof(message));
        at = to + message.to_size + message.payload_size;
        send_message(peer, slice_make(to, message.to_size),
                     slice_make(to + message.to_size, message.payload_size),
                     slice_of(NULL));
    }
    drop_queued(peer);
}

/* Dialling. */

/* Peers that came back do not all call at the same moment. */
static void redial_later(struct peer *peer)
{
    uint64_t pause = peer->keep ? REDIAL_FIRST_MS : WANTED_FIRST_MS;
    uint64_t longest = peer->keep ? REDIAL_MAX_MS : WANTED_MAX_MS;

    for (unsigned i = 0; i < peer->failures && pause < longest; i++)
        pause *= 2;
    if (pause > longest)
        pause = longest;
    pause = pause / 2 + node_random() % (pause / 2 + 1);
    loop_timer_start(peer->node->loop, &peer->timer, pause, peer_dial, peer);
}

/* An idle peer is dialled again, or no longer needed. */
void peer_settle(struct peer *peer)
{
    bool wanted =
        peer->keep || loop_now_ms(peer->node->loop) < peer->wanted_until_ms;

    if (peer->state != PEER_IDLE)
        return;
    if (wanted && !peer->node->closing)
        redial_later(peer);
    else if (!wanted)
        peer_free(peer);
}

void peer_dial_failed(struct peer *peer, const char *why)
{
    bool gone = !peer->keep && !peer->on_demand && peer->wanted_until_ms == 0;

    if (peer->failures++ == 0 && !gone)
        log_event(LOG_WARN, "dist", "a peer cannot be reached",
                  LOG_FIELDS(log_text("peer", peer->name),
                             log_text("reason", slice_of(why))));
    peer->node->dropped_signals += peer->queued;
    drop_queued(peer);
    peer_move(peer, PEER_IDLE);
    peer_settle(peer);
}

static void on_awaited_long(void *context)
{
    peer_dial_failed(context, "its own call to us never came");
}

void peer_await(struct peer *peer)
{
    peer_move(peer, PEER_AWAITED);
    loop_timer_start(peer->node->loop, &peer->timer,
                     peer->node->options.handshake_timeout_ms, on_awaited_long,
                     peer);
}

static void on_found(void *context, const struct sockaddr *address,
                     const struct error *err)
{
    struct peer *peer = context;

    peer->lookup = NULL;
    if (!address && err->code == ERR_NO_ROUTE)
        peer->wanted_until_ms = 0; /* it ended, and was not cut off */
    if (!address) {
        peer_dial_failed(peer, err->message);
        return;
    }
    peer_move(peer, PEER_DIALLED);
    peer->connection =
        connection_dial(&peer->node->group, address, peer->name, peer);
}

void peer_dial(void *context)
{
    struct peer *peer = context;

    loop_timer_stop(&peer->timer);
    peer_move(peer, PEER_LOOKUP);
    peer->lookup = epmd_lookup_new(peer->node->loop, &peer->node->handles,
                                   peer->name, DIAL_TIMEOUT_MS, on_found, peer);
}

void peer_stop_dialling(struct peer *peer, const char *why)
{
    loop_timer_stop(&peer->timer);
    if (peer->lookup)
        epmd_lookup_cancel(peer->lookup);
    peer->lookup = NULL;
    if (peer->state == PEER_DIALLED) {
        peer->connection->owner = NULL;
        connection_close(peer->connection, why);
        peer->connection = NULL;
    }
}

void node_want_peer(struct node *node, struct slice name, uint64_t duration_ms)
{
    uint64_t until = loop_now_ms(node->loop) + duration_ms;
    struct peer *peer = node_find_peer(node, name);

    if (node->closing)
        return;
    if (peer) {
        if (peer->state != PEER_UP && until > peer->wanted_until_ms)
            peer->wanted_until_ms = until;
        return;
    }
    if (node->peers.count >= PEERS_MAX || !handshake_name_ok(name) ||
        slice_equal(name, node->self.name))
        return;
    peer = peer_new(node, name);
    peer->wanted_until_ms = until;
    peer_dial(peer);
}

/* Sending. */

/* To a node that is not connected: dialled, the message waits. */
static bool send_later(struct node *node, struct slice name, struct slice to,
                       struct slice head, struct slice rest)
{
    struct peer *peer = node_find_peer(node, name);
    const struct queued_message message = {to.size, head.size + rest.size};

    if (node->closing || node->self.creation == 0)
        return false;
    if (!peer) {
        if (node->dials >= DIALS_MAX || !handshake_name_ok(name) ||
            slice_equal(name, node->self.name))
            return false;
        peer = peer_new(node, name);
        peer->on_demand = true;
    }
    if (!buf_reserve(&peer->queue,
                     sizeof(message) + to.size + message.payload_size)) {
        peer->queue.failed = false;
        peer_settle(peer);
        return false;
    }
    buf_append(&peer->queue, &message, sizeof(message));
    buf_append_slice(&peer->queue, to);
    buf_append_slice(&peer->queue, head);
    buf_append_slice(&peer->queue, rest);
    peer->queued++;
    if (peer->state == PEER_IDLE)
        peer_dial(peer);
    return true;
}

bool node_send(struct node *node, struct slice pid, struct slice head,
               struct slice rest)
{
    struct peer *peer = node_peer_of(node, pid);
    struct slice name;

    if (peer)
        return send_message(peer, pid, head, rest);
    return term_node(term_from_raw(pid), &name) &&
           send_later(node, name, pid, head, rest);
}

bool node_send_name(struct node *node, struct slice peer_name,
                    struct slice name, struct slice message)
{
    struct peer *peer = node_find_peer(node, peer_name);
    const struct slice nothing = slice_of(NULL);
    struct buf to;
    bool ok;

    buf_init(&to, SIZE_MAX);
    term_put_atom_slice(&to, name);
    ok = peer && peer->state == PEER_UP
             ? send_message(peer, buf_slice(&to), message, nothing)
             : send_later(node, peer_name, buf_slice(&to), message, nothing);
    buf_release(&to);
    return ok;
}

bool node_send_alias(struct node *node, struct slice reference,
                     struct slice head, struct slice rest)
{
    struct peer *peer = node_peer_of(node, reference);
    struct buf *out = peer && peer_has_room(peer, head.size + rest.size)
                          ? peer_send_begin(peer)
                          : NULL;

    if (!out)
        return false;
    control_put_send_alias(out, peer_flags(peer), buf_slice(&node->service_pid),
                           reference);
    control_put_payload(out, peer_flags(peer));
    buf_append_slice(out, head);
    buf_append_slice(out, rest);
    return peer_send_end(peer);
}
