/* Frames of an authenticated peer through the whole node: processes, monitors,
 * links, spawn requests, rex, the global name. A connection is put up by hand;
 * what the node answers is thrown away. Each input begins with a fresh peer. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dist/node_internal.h"
#include "llm_router/base/log.h"
#include "llm_router/dist/frame.h"
#include "llm_router/term/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_BYTES = 1 << 20, WATCHES_MAX = 4 };

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
        node_send(node, message->from, SLICE_LITERAL("\x83j"));
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

static void set_up(void)
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

    log_set_level(LOG_ERROR);
    loop_init(&loop);
    node = node_new(&loop, &options, &EVENTS, NULL);
    node->self.creation = 0x6b02eab5;
    pid_put(&node->service_pid, &node->self, SERVICE_NUMBER);
    pid_put(&node->own_pid, &node->self, NODE_NUMBER);
}

/* driver@localhost, visible, its handshake done. */
static struct connection *connect_peer(int pair[2])
{
    static const char name[] = "driver@localhost";
    struct connection *connection;

    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    connection_accept(&node->group, pair[0]);
    connection =
        LIST_ENTRY(node->group.half_open.next, struct connection, link);
    memcpy(connection->handshake.peer, name, sizeof(name) - 1);
    connection->handshake.peer_size = sizeof(name) - 1;
    connection->handshake.peer_flags = HANDSHAKE_FLAGS | 1;
    list_remove(&connection->link);
    node->group.half_open_count--;
    list_append(&node->group.others, &connection->link);
    connection->state = CONNECTION_UP;
    node->group.events->up(node, connection);
    return connection;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_make(data, size);
    struct connection *connection;
    struct frame frame;
    struct error err;
    int pair[2];

    if (!node)
        set_up();
    watches = 0;
    node->last_number = NODE_NUMBER; /* the same numbers for each input */
    connection = connect_peer(pair);
    while (connection->state == CONNECTION_UP &&
           frame_next(rest, MAX_BYTES, &frame, &err) == FRAME_SIGNAL) {
        node->group.events->frame(node, connection, frame.body);
        rest.data += frame.size;
        rest.size -= frame.size;
    }
    connection_close(connection, "the input's end");
    close(pair[1]);
    while (node->handles.open > 0)
        uv_run(&loop.uv, UV_RUN_NOWAIT);
    require(node->calls.count == 0 && node->watches.count == 0 &&
            node->peers.count == 0 && node->connected.count == 0);
    return 0;
}
