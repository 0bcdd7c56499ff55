/* What an authenticated peer writes through a whole node: fragments, processes,
 * monitors, links, spawn requests, rex, the global names. Each input begins
 * with a fresh node and a connection put up by hand; what the node answers is
 * thrown away. The low bits of the first byte say which flags the peer lacks,
 * the high ones how many sixteenths of the rest come before a pause. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dist/node_internal.h"
#include "llm_router/base/log.h"
#include "llm_router/term/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small enough for an input to pass the limits of messages in fragments. */
enum {
    MAX_BYTES = 1 << 20,
    MESSAGE_MAX = 1024,
    ROOM_MAX = 4096,
    WATCHES_MAX = 4,
    WRITTEN_MAX = 64 * 1024, /* what a socket takes at once */
};

static const char *const NAMES[] = {"llm_router"};
static struct loop loop;
static struct node *node;
static int watches;

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Answers go to the peer only: nothing is dialled here. */
static void on_message(void *context, const struct node_message *message)
{
    (void)context;
    require(term_raw(message->message).size > 0);
    if (message->from.size == 0 || watches++ > WATCHES_MAX)
        return;
    if (node_peer_of(node, message->from))
        node_send(node, message->from, SLICE_LITERAL("j"), slice_of(NULL));
    if (node_monitor(node, message->from) % 2)
        node_demonitor(node, node->last_number);
}

static void on_refused(void *context, uint64_t connection, struct slice pid,
                       struct slice tag, const struct error *err)
{
    (void)context;
    (void)connection;
    require(err->code != ERR_NONE);
    if (pid.size == 0)
        return;
    require(term_kind(term_from_raw(pid)) == TERM_PID);
    require(term_raw(term_from_raw(tag)).size == tag.size);
}

/* By arity: answered, undefined, or left waiting. */
static void on_rpc(void *context, const struct node_rpc *rpc)
{
    struct term_list list;

    (void)context;
    require(term_list(rpc->arguments, &list) && list.proper &&
            list.left == rpc->arity);
    if (rpc->arity % 3 == 0)
        node_rpc_return(node, rpc->call, term_raw(rpc->arguments));
    else if (rpc->arity % 3 == 1)
        node_rpc_error(node, rpc->call, NODE_RPC_UNDEF, slice_of(NULL));
}

static void on_number(void *context, uint64_t number)
{
    (void)context;
    require(number != 0);
}

static void on_slice(void *context, uint64_t connection, struct slice slice)
{
    (void)context;
    require(connection != 0 && slice.size > 0);
}

static const struct node_events EVENTS = {
    .message = on_message,
    .refused = on_refused,
    .rpc = on_rpc,
    .rpc_abandoned = on_number,
    .demonitored = on_slice,
    .process_down = on_number,
    .peer_up = on_slice,
    .peer_down = on_slice,
};

/* It is about to stop, so that it dials nobody. */
static void start_node(void)
{
    static const struct node_options options = {
        .name = "llm_router@localhost",
        .cookie = SLICE_LITERAL("ck"),
        .global_name = "llm_router",
        .names = NAMES,
        .name_count = 1,
        .max_frame_bytes = MAX_BYTES,
        .max_send_queue_bytes = MAX_BYTES,
        .handshake_timeout_ms = 60000,
        .max_handshakes = 2,
        .tick_time_ms = 60000,
    };

    node = node_new(&loop, &options, &EVENTS, NULL);
    node->group.room.max_message_bytes = MESSAGE_MAX;
    node->group.room.max_bytes = ROOM_MAX;
    node->self.creation = 0x6b02eab5;
    pid_put(&node->service_pid, &node->self, SERVICE_NUMBER);
    pid_put(&node->own_pid, &node->self, NODE_NUMBER);
    node->closing = true;
}

static uint64_t flags_of(uint8_t lacking)
{
    static const uint64_t flags[] = {
        CONTROL_FLAG_FRAGMENTS,
        CONTROL_FLAG_EXIT_PAYLOAD,
        CONTROL_FLAG_ALTACT,
        HANDSHAKE_FLAG_PUBLISHED,
    };
    uint64_t left = HANDSHAKE_FLAGS | HANDSHAKE_FLAG_PUBLISHED;

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (lacking & 1 << i)
            left &= ~flags[i];
    }
    return left;
}

/* driver@localhost, its handshake done. */
static void connect_peer(int socket, uint64_t flags)
{
    static const char name[] = "driver@localhost";
    struct connection *connection;

    connection_accept(&node->group, socket);
    connection =
        LIST_ENTRY(node->group.half_open.next, struct connection, link);
    memcpy(connection->handshake.peer, name, sizeof(name) - 1);
    connection->handshake.peer_size = sizeof(name) - 1;
    connection->handshake.peer_flags = flags;
    list_remove(&connection->link);
    node->group.half_open_count--;
    list_append(&node->group.others, &connection->link);
    connection->state = CONNECTION_UP;
    connection->form = control_form(connection_flags(connection));
    connection->outbox.form = connection->form;
    node->group.events->up(node, connection);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    size_t head;
    int pair[2];

    if (!ready) {
        log_set_level(LOG_ERROR);
        loop_init(&loop);
        ready = true;
    }
    if (size == 0 || size > WRITTEN_MAX)
        return 0;
    watches = 0;
    start_node();
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    connect_peer(pair[0], flags_of(data[0]));
    head = (size - 1) * (size_t)(data[0] >> 4) / 16;
    if (head > 0) {
        require(write(pair[1], data + 1, head) == (ssize_t)head);
        uv_run(&loop.uv, UV_RUN_NOWAIT);
    }
    send(pair[1], data + 1 + head, size - 1 - head, MSG_NOSIGNAL);
    shutdown(pair[1], SHUT_WR);
    while (node->handles.open > 0)
        uv_run(&loop.uv, UV_RUN_NOWAIT);
    uv_run(&loop.uv, UV_RUN_NOWAIT); /* what is put off to the next turn */
    close(pair[1]);
    require(node->calls.count == 0 && node->watches.count == 0 &&
            node->connected.count == 0 && node->group.room.bytes == 0);
    node_free(node);
    return 0;
}
