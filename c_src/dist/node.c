/* A node: its life, and what happens to its connections. */
#include "dist/node_internal.h"

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/term/writer.h"

enum {
    MAX_DEPTH = 512,  /* of a message */
    LOST_MS = 600000, /* how long a node that is lost is dialled */
    CLOSE_CHECK_MS = 5,
    LOG_WINDOW_MS = 10000, /* refused connections: so many lines in it */
    LOG_LINES = 10,
};

/* Events of connections. */

/* With its own handshake under way, its call will do. */
static bool on_dialled(void *context, struct connection *connection)
{
    struct node *node = context;

    return !connection_group_expects(&node->group, connection_peer(connection));
}

/* Simultaneous calls: the greater name's call wins (net_kernel.erl,
 * accept_pending). Ours counts only once our name is sent. */
static enum handshake_status on_named(void *context,
                                      struct connection *connection)
{
    struct node *node = context;
    struct slice name = connection_peer(connection);
    struct slice self = node->self.name;
    const struct peer *peer = node_find_peer(node, name);
    size_t common = name.size < self.size ? name.size : self.size;
    int order = memcmp(self.data, name.data, common);

    if (node->closing || slice_equal(name, self))
        return HANDSHAKE_NOT_ALLOWED;
    if (peer && peer->state == PEER_UP)
        return HANDSHAKE_ALIVE;
    if (!peer || peer->state != PEER_DIALLED ||
        peer->connection->state != CONNECTION_HANDSHAKE)
        return HANDSHAKE_OK;
    return order > 0 || (order == 0 && self.size > name.size)
               ? HANDSHAKE_NOK
               : HANDSHAKE_OK_SIMULTANEOUS;
}

/* All that depends on the connection ends; the peer stays. */
static void peer_lost(struct peer *peer)
{
    struct node *node = peer->node;
    uint64_t id = peer->id;

    peer_move(peer, PEER_IDLE);
    peer->on_demand = false;
    if (peer->visible)
        peer->wanted_until_ms = loop_now_ms(node->loop) + LOST_MS;
    map_remove(&node->connected, MAP_KEY(id));
    process_peer_down(peer);
    global_peer_down(peer);
    peer->connection = NULL;
    node->events->peer_down(node->context, id, peer->name);
}

static void on_up(void *context, struct connection *connection)
{
    struct node *node = context;
    struct peer *peer = connection->owner;

    if (!peer)
        peer = node_find_peer(node, connection_peer(connection));
    if (!peer)
        peer = peer_new(node, connection_peer(connection));
    if (peer->state == PEER_UP) {
        peer->connection->owner = NULL;
        connection_close(peer->connection, "replaced by a new connection");
        peer_lost(peer);
    }
    if (peer->connection != connection)
        peer_stop_dialling(peer, "its own call came first");
    connection->owner = peer;
    peer->connection = connection;
    peer->id = ++node->last_number;
    peer->visible = connection->handshake.peer_flags & HANDSHAKE_FLAG_PUBLISHED;
    peer->failures = 0;
    peer->wanted_until_ms = 0;
    loop_timer_stop(&peer->timer);
    peer_move(peer, PEER_UP);
    process_peer_up(peer);
    map_put(&node->connected, MAP_KEY(peer->id), peer);
    peer_send_queued(peer);
    node->events->peer_up(node->context, peer->id, peer->name);
    global_peer_up(peer);
    if (peer->visible)
        cluster_peer_up(node);
}

static void on_frame(void *context, struct connection *connection,
                     struct slice body)
{
    (void)context;
    process_signal(connection->owner, body);
}

static void on_refused(void *context, struct connection *connection,
                       struct slice body, const struct error *why)
{
    (void)context;
    process_refused(connection->owner, body, why);
}

static void on_silent(void *context, struct connection *connection)
{
    const struct peer *peer = connection->owner;

    (void)context;
    if (peer && peer->failures == 0)
        log_event(LOG_WARN, "dist",
                  "a peer does not answer in TLS yet: is it a node without?",
                  LOG_FIELDS(log_text("peer", peer->name)));
}

/* A flood of them must not become a flood of lines. */
static void log_refused(struct node *node, const struct connection *connection)
{
    struct slice name = connection_peer(connection);
    struct slice who = name.size > 0 ? name : slice_of(connection->address);
    uint64_t now = loop_now_ms(node->loop);

    if (now - node->log_window_ms >= LOG_WINDOW_MS) {
        if (node->unlogged > 0)
            log_event(LOG_WARN, "dist", "more connections refused",
                      LOG_FIELDS(log_count("count", node->unlogged)));
        node->log_window_ms = now;
        node->logged = node->unlogged = 0;
    }
    if (node->logged >= LOG_LINES) {
        node->unlogged++;
        return;
    }
    node->logged++;
    log_event(LOG_WARN, "dist", "handshake refused",
              LOG_FIELDS(log_text("peer", who),
                         log_text("reason", slice_of(connection->reason))));
}

static void on_drained(void *context, struct connection *connection)
{
    const struct node *node = context;
    const struct peer *peer = connection->owner;

    if (peer && peer->state == PEER_UP && node->events->peer_drained)
        node->events->peer_drained(node->context, peer->id);
}

static void on_closed(void *context, struct connection *connection)
{
    struct node *node = context;
    struct peer *peer = connection->owner;

    if (!peer) {
        if (connection->accepted && !connection->yielded && !node->closing)
            log_refused(node, connection);
        return;
    }
    if (peer->state == PEER_UP) {
        node->closed_peers++;
        log_event(LOG_INFO, "dist", "connection closed",
                  LOG_FIELDS(log_text("peer", peer->name),
                             log_text("reason", slice_of(connection->reason))));
        peer_lost(peer);
        peer_settle(peer);
        return;
    }
    peer->connection = NULL;
    if (!connection->yielded) {
        peer_dial_failed(peer, connection->reason);
        return;
    }
    peer_await(peer);
}

static const struct connection_events connection_events = {
    .dialled = on_dialled,
    .named = on_named,
    .silent = on_silent,
    .up = on_up,
    .frame = on_frame,
    .refused = on_refused,
    .drained = on_drained,
    .closed = on_closed,
};

/* Life and death. */

static void on_registered(void *context, uint32_t creation)
{
    struct node *node = context;

    node->self.creation = creation > 0 ? creation : 1;
    pid_put(&node->service_pid, &node->self, SERVICE_NUMBER);
    pid_put(&node->own_pid, &node->self, NODE_NUMBER);
    global_ready(node);
    listener_start(&node->listener);
    node->events->ready(node->context);
    for (size_t i = 0; i < node->options.peer_count && !node->closing; i++) {
        struct slice name = slice_of(node->options.peers[i]);

        if (node_find_peer(node, name) || slice_equal(name, node->self.name))
            continue;
        if (!handshake_name_ok(name)) {
            log_event(LOG_ERROR, "dist", "not a node name",
                      LOG_FIELDS(log_text("peer", name)));
            continue;
        }
        peer_new(node, name)->keep = true;
        peer_dial(node_find_peer(node, name));
    }
}

static void tell_failed(void *context)
{
    struct node *node = context;

    node->events->failed(node->context, &node->failure);
}

static void on_failed(void *context, const struct error *err)
{
    struct node *node = context;

    node->failure = *err;
    loop_defer(node->loop, &node->tell_failed, tell_failed, node);
}

static const struct epmd_events epmd_events = {
    .registered = on_registered,
    .failed = on_failed,
};

static void on_accepted(void *context, int fd)
{
    struct node *node = context;

    connection_accept(&node->group, fd);
}

static void set_up_io(struct node *node)
{
    const struct node_options *options = &node->options;
    ptrdiff_t at = slice_find(node->self.name, SLICE_LITERAL("@"));

    node->listener = (struct listener){
        .loop = node->loop,
        .handles = &node->handles,
        .accepted = on_accepted,
        .context = node,
        .port = options->port,
        .fd = -1,
    };
    node->epmd = (struct epmd){
        .loop = node->loop,
        .handles = &node->handles,
        .name = {node->self.name.data, at > 0 ? (size_t)at : 0},
        .events = &epmd_events,
        .context = node,
    };
    node->group = (struct connection_group){
        .loop = node->loop,
        .handles = &node->handles,
        .events = &connection_events,
        .context = node,
        .self = {.identity = &node->self,
                 .cookie = options->cookie,
                 .length_size = options->tls ? 4 : 2},
        .tls = options->tls,
        .seed = node_random(),
        .max_frame_bytes = options->max_frame_bytes,
        .max_queue_bytes = options->max_send_queue_bytes,
        .backlog_high_bytes = options->backlog_high_bytes > 0
                                  ? options->backlog_high_bytes
                                  : SIZE_MAX,
        .max_handshakes = options->max_handshakes,
        .handshake_timeout_ms = options->handshake_timeout_ms,
        .tick_time_ms = options->tick_time_ms,
    };
    connection_group_init(&node->group);
}

struct node *node_new(struct loop *loop, const struct node_options *options,
                      const struct node_events *events, void *context)
{
    struct node *node = mem_alloc(sizeof(*node));
    uint64_t seed = node_random();

    node->loop = loop;
    node->options = *options;
    node->events = events;
    node->context = context;
    node->self.name = slice_of(options->name);
    node->limits = (struct term_limits){.max_bytes = options->max_frame_bytes,
                                        .max_depth = MAX_DEPTH};
    node->last_number = LAST_FIXED_NUMBER;
    buf_init(&node->service_pid, SIZE_MAX);
    buf_init(&node->own_pid, SIZE_MAX);
    buf_init(&node->scratch, SIZE_MAX);
    map_init(&node->peers, seed);
    map_init(&node->connected, seed);
    map_init(&node->calls, seed);
    map_init(&node->watches, seed);
    list_init(&node->peer_list);
    list_init(&node->lost_watches);
    global_init(node);
    handover_init(node);
    set_up_io(node);
    return node;
}

void node_start(struct node *node, uint64_t patience_ms)
{
    struct error err;

    if (!handshake_name_ok(node->self.name)) {
        error_set(&err, ERR_INVALID_REQUEST, "%s is not a node name",
                  node->options.name);
        on_failed(node, &err);
        return;
    }
    if (!listener_open(&node->listener, &err)) {
        on_failed(node, &err);
        return;
    }
    node->epmd.port = node->listener.port;
    epmd_register(&node->epmd, patience_ms);
}

void node_renew_tls(struct node *node, struct tls_context *tls)
{
    node->group.tls = tls;
}

static void tell_closed(void *context)
{
    struct node *node = context;
    void (*closed)(void *) = node->closed;

    node->closed = NULL;
    loop_timer_stop(&node->close_timer);
    if (closed)
        closed(node->closed_context);
}

static void on_no_handles(void *context)
{
    struct node *node = context;

    loop_defer(node->loop, &node->tell_closed, tell_closed, node);
}

static void close_list(struct list *connections)
{
    LIST_EACH(link, connections)
    connection_close(LIST_ENTRY(link, struct connection, link),
                     "this node shuts down");
}

static void end_drained(struct list *connections)
{
    LIST_EACH(link, connections)
    {
        struct connection *connection =
            LIST_ENTRY(link, struct connection, link);

        if (connection->state < CONNECTION_UP)
            connection_close(connection, "this node shuts down");
        else if (connection_drained(connection))
            connection_end(connection);
    }
}

static void close_outside(struct node *node)
{
    node->closing = true;
    listener_close(&node->listener);
    epmd_unregister(&node->epmd);
    LIST_EACH(link, &node->peer_list)
    {
        struct peer *peer = LIST_ENTRY(link, struct peer, link);

        peer_stop_dialling(peer, "this node shuts down");
        if (peer->state != PEER_UP)
            peer_free(peer);
    }
    close_list(&node->group.half_open);
}

static void on_close_check(void *context)
{
    struct node *node = context;
    bool late = loop_now_ms(node->loop) >= node->close_by_ms;

    if (late)
        close_list(&node->group.others);
    else
        end_drained(&node->group.others);
    if (late) /* handles that are left wait for a name lookup */
        loop_defer(node->loop, &node->tell_closed, tell_closed, node);
    else
        loop_timer_start(node->loop, &node->close_timer, CLOSE_CHECK_MS,
                         on_close_check, node);
}

void node_close(struct node *node, uint64_t timeout_ms,
                void (*done)(void *context), void *context)
{
    node->closed = done;
    node->closed_context = context;
    node->close_by_ms = loop_now_ms(node->loop) + timeout_ms;
    node->handles.on_none = on_no_handles;
    node->handles.context = node;
    close_outside(node);
    if (node->handles.open == 0)
        on_no_handles(node);
    else
        loop_timer_start(node->loop, &node->close_timer, 0, on_close_check,
                         node);
}

/* What still ends when a node is freed, ends without a word. */

static void no_number(void *context, uint64_t number)
{
    (void)context;
    (void)number;
}

static void no_slice(void *context, uint64_t connection, struct slice slice)
{
    (void)context;
    (void)connection;
    (void)slice;
}

static const struct node_events no_events = {
    .rpc_abandoned = no_number,
    .demonitored = no_slice,
    .process_down = no_number,
    .peer_down = no_slice,
};

static void destroy(void *context)
{
    struct node *node = context;

    process_release(node);
    LIST_EACH(link, &node->peer_list)
    peer_free(LIST_ENTRY(link, struct peer, link));
    map_release(&node->peers);
    map_release(&node->connected);
    map_release(&node->calls);
    map_release(&node->watches);
    buf_release(&node->service_pid);
    buf_release(&node->own_pid);
    buf_release(&node->scratch);
    global_release(node);
    handover_release(node);
    connection_group_release(&node->group);
    mem_free(node);
}

void node_free(struct node *node)
{
    if (!node)
        return;
    node->events = &no_events;
    node->released = NULL;
    handover_stop(node);
    node->handles.on_none = destroy;
    node->handles.context = node;
    close_outside(node);
    close_list(&node->group.others);
    loop_timer_stop(&node->release_limit);
    loop_timer_stop(&node->close_timer);
    loop_timer_stop(&node->cluster_timer);
    loop_task_cancel(&node->tell_failed);
    loop_task_cancel(&node->tell_closed);
    if (node->handles.open == 0)
        destroy(node);
}

/* What others may know. */

struct slice node_service_pid(const struct node *node)
{
    return buf_slice(&node->service_pid);
}

uint64_t node_connection_of(const struct node *node, struct slice pid)
{
    const struct peer *peer = node_peer_of(node, pid);

    return peer ? peer->id : 0;
}

size_t node_backlog(const struct node *node, uint64_t connection)
{
    const struct peer *peer = map_find(&node->connected, MAP_KEY(connection));

    return peer ? connection_backlog(peer->connection) : 0;
}

void node_put_reference(struct node *node, struct buf *out)
{
    reference_put(out, &node->self, ++node->last_number);
}

struct node_stats node_stats(const struct node *node)
{
    struct node_stats stats = {
        .peers = node->up_count,
        .handshakes = node->group.half_open_count,
        .frames_in = node->group.frames_in,
        .frames_out = node->group.frames_out,
        .bytes_in = node->group.bytes_in,
        .bytes_out = node->group.bytes_out,
        .dropped_signals = node->dropped_signals,
        .closed_peers = node->closed_peers,
        .name_held = global_is_held(node),
    };

    return stats;
}

void node_each_peer(const struct node *node,
                    void (*visit)(void *context, struct slice peer,
                                  bool visible),
                    void *context)
{
    LIST_EACH(link, &node->peer_list)
    {
        const struct peer *peer = LIST_ENTRY(link, struct peer, link);

        if (peer->state == PEER_UP)
            visit(context, peer->name, peer->visible);
    }
}
