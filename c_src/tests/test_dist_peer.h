/* For tests of a whole node: an epmd and a peer, both in the node's own loop
 * and process, over real sockets. */
#ifndef LLM_ROUTER_TESTS_TEST_DIST_PEER_H
#define LLM_ROUTER_TESTS_TEST_DIST_PEER_H

#include "tests/unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "llm_router/base/mem.h"
#include "llm_router/dist/control.h"
#include "llm_router/dist/frame.h"
#include "llm_router/dist/handshake.h"
#include "llm_router/dist/node.h"
#include "llm_router/loop/loop.h"
#include "llm_router/term/writer.h"

enum { EPMD_CLIENTS = 16, WAIT_MS = 20000 };

static struct loop loop;

/* Turns the loop until `wanted` is true; fails after WAIT_MS. */
static inline void turn_until(bool (*wanted)(void))
{
    uint64_t end = uv_hrtime() + WAIT_MS * UINT64_C(1000000);

    while (!wanted()) {
        uv_run(&loop.uv, UV_RUN_NOWAIT);
        usleep(100);
        assert_true(uv_hrtime() < end);
    }
}

static inline void turn_for(uint64_t ms)
{
    uint64_t end = uv_hrtime() + ms * UINT64_C(1000000);

    while (uv_hrtime() < end) {
        uv_run(&loop.uv, UV_RUN_NOWAIT);
        usleep(100);
    }
}

/* Epmd: registers, tells ports, forgets who hangs up. */

struct epmd_client {
    uv_tcp_t tcp;
    uv_write_t write;
    bool open;
    unsigned char request[300], reply[300];
    size_t size;
    char name[256]; /* registered; "" if not */
    unsigned char port[2];
};

static struct {
    uv_tcp_t tcp;
    bool open, refuses, mute;
    uint16_t port; /* kept, so that it can come back at the same */
    struct epmd_client clients[EPMD_CLIENTS];
    int registrations;
    const char *listed; /* one more name, of no client; NULL: none */
    uint16_t listed_port;
} epmd;

static inline void epmd_forget(uv_handle_t *handle)
{
    struct epmd_client *client = handle->data;

    *client = (struct epmd_client){.open = false};
}

static inline void epmd_say(struct epmd_client *client, size_t size)
{
    uv_buf_t reply = uv_buf_init((char *)client->reply, (unsigned)size);

    uv_write(&client->write, (uv_stream_t *)&client->tcp, &reply, 1, NULL);
}

static inline void epmd_register_client(struct epmd_client *client)
{
    size_t size = (size_t)client->request[11] << 8 | client->request[12];

    memcpy(client->name, client->request + 13, size);
    memcpy(client->port, client->request + 3, 2);
    memcpy(client->reply, "v\0\0\0\0\5", 6);
    client->reply[1] = epmd.refuses;
    epmd.registrations += !epmd.refuses;
    if (epmd.refuses)
        client->name[0] = '\0';
    epmd_say(client, 6);
}

static inline void epmd_found(struct epmd_client *client,
                              const unsigned char port[2])
{
    memcpy(client->reply, "w\0\0\0M\0\0\6\0\6", 10);
    memcpy(client->reply + 2, port, 2);
}

static inline void epmd_tell_port(struct epmd_client *client)
{
    const char *name = (char *)client->request + 3;
    const unsigned char listed[2] = {(unsigned char)(epmd.listed_port >> 8),
                                     (unsigned char)epmd.listed_port};

    client->request[client->size] = '\0';
    memcpy(client->reply, "w\1", 2);
    if (epmd.listed && strcmp(epmd.listed, name) == 0)
        epmd_found(client, listed);
    for (int i = 0; i < EPMD_CLIENTS; i++) {
        if (epmd.clients[i].open && epmd.clients[i].name[0] != '\0' &&
            strcmp(epmd.clients[i].name, name) == 0)
            epmd_found(client, epmd.clients[i].port);
    }
    epmd_say(client, client->reply[1] ? 2 : 10);
}

static inline void epmd_room(uv_handle_t *handle, size_t size, uv_buf_t *room)
{
    struct epmd_client *client = handle->data;

    (void)size;
    *room = uv_buf_init((char *)client->request + client->size,
                        (unsigned)(sizeof(client->request) - 1 - client->size));
}

static inline void epmd_read(uv_stream_t *stream, ssize_t size,
                             const uv_buf_t *room)
{
    struct epmd_client *client = stream->data;

    (void)room;
    if (size < 0) {
        uv_close((uv_handle_t *)stream, epmd_forget);
        return;
    }
    client->size += (size_t)size;
    if (epmd.mute || client->size < 3 ||
        client->size <
            2 + ((size_t)client->request[0] << 8 | client->request[1]))
        return;
    if (client->request[2] == 120)
        epmd_register_client(client);
    else
        epmd_tell_port(client);
    client->size = 0;
}

static inline void epmd_accept(uv_stream_t *server, int status)
{
    int i = 0;

    assert_int_equal(status, 0);
    while (epmd.clients[i].open)
        i++;
    assert_in_range(i, 0, EPMD_CLIENTS - 1);
    uv_tcp_init(&loop.uv, &epmd.clients[i].tcp);
    epmd.clients[i].open = true;
    epmd.clients[i].tcp.data = &epmd.clients[i];
    uv_accept(server, (uv_stream_t *)&epmd.clients[i].tcp);
    uv_read_start((uv_stream_t *)&epmd.clients[i].tcp, epmd_room, epmd_read);
}

static inline void epmd_start(void)
{
    struct sockaddr_in address;
    int size = sizeof(address);
    char port[8];

    uv_ip4_addr("127.0.0.1", epmd.port, &address);
    uv_tcp_init(&loop.uv, &epmd.tcp);
    assert_int_equal(uv_tcp_bind(&epmd.tcp, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&epmd.tcp, 16, epmd_accept), 0);
    uv_tcp_getsockname(&epmd.tcp, (struct sockaddr *)&address, &size);
    epmd.port = ntohs(address.sin_port);
    epmd.open = true;
    snprintf(port, sizeof(port), "%u", epmd.port);
    setenv("ERL_EPMD_PORT", port, 1);
    unsetenv("ERL_EPMD_ADDRESS");
}

static inline void epmd_stop(void)
{
    if (!epmd.open)
        return;
    epmd.open = false;
    uv_close((uv_handle_t *)&epmd.tcp, NULL);
    for (int i = 0; i < EPMD_CLIENTS; i++) {
        uv_handle_t *handle = (uv_handle_t *)&epmd.clients[i].tcp;

        if (epmd.clients[i].open && !uv_is_closing(handle))
            uv_close(handle, epmd_forget);
    }
}

/* 0: nobody registered that name. */
static inline uint16_t epmd_port_of(const char *name)
{
    for (int i = 0; i < EPMD_CLIENTS; i++) {
        const struct epmd_client *client = &epmd.clients[i];

        if (client->open && strcmp(client->name, name) == 0)
            return (uint16_t)(client->port[0] << 8 | client->port[1]);
    }
    return 0;
}

/* A peer: a socket and a handshake, dialling. */

struct test_peer {
    int fd;
    struct identity self;
    struct handshake_self side;
    struct handshake handshake;
    struct buf in, out;
    struct frame frame; /* the last one, in `in` */
    bool closed;        /* by the node */
};

static struct test_peer *waiting_peer;

/* False when nothing more came. */
static inline bool peer_read(struct test_peer *peer)
{
    char bytes[65536];
    ssize_t size = read(peer->fd, bytes, sizeof(bytes));

    peer->closed |= size == 0;
    if (size <= 0)
        return false;
    buf_append(&peer->in, bytes, (size_t)size);
    return true;
}

static inline void peer_write(struct test_peer *peer)
{
    size_t done = 0;

    while (done < peer->out.size) {
        ssize_t size = send(peer->fd, peer->out.data + done,
                            peer->out.size - done, MSG_NOSIGNAL);

        if (size > 0)
            done += (size_t)size;
        else
            uv_run(&loop.uv, UV_RUN_NOWAIT);
    }
    buf_clear(&peer->out);
}

static inline void peer_dial(struct test_peer *peer, const char *name,
                             const char *node)
{
    struct sockaddr_in address;

    *peer = (struct test_peer){.self = {slice_of(name), 77}};
    peer->side =
        (struct handshake_self){&peer->self, SLICE_LITERAL("cookie"), 2};
    buf_init(&peer->in, 256 << 20);
    buf_init(&peer->out, 256 << 20);
    uv_ip4_addr("127.0.0.1", epmd_port_of(node), &address);
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        connect(peer->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    fcntl(peer->fd, F_SETFL, O_NONBLOCK);
}

static inline bool peer_shook_hands(void)
{
    struct test_peer *peer = waiting_peer;
    enum handshake_step step;
    struct error err;
    size_t used;

    peer_read(peer);
    do {
        step = handshake_next(&peer->handshake, buf_slice(&peer->in), &used,
                              &peer->out, &err);
        buf_drop_front(&peer->in, used);
        peer_write(peer);
    } while (step == HANDSHAKE_MORE && used > 0);
    return step == HANDSHAKE_DONE;
}

/* `node` is the part before the @ of node@127.0.0.1. */
static inline void peer_connect(struct test_peer *peer, const char *name,
                                const char *node)
{
    char full[64];

    snprintf(full, sizeof(full), "%s@127.0.0.1", node);
    peer_dial(peer, name, node);
    handshake_dial(&peer->handshake, &peer->side, 4711, slice_of(full),
                   &peer->out);
    peer_write(peer);
    waiting_peer = peer;
    turn_until(peer_shook_hands);
}

static inline void peer_close(struct test_peer *peer)
{
    close(peer->fd);
    buf_release(&peer->in);
    buf_release(&peer->out);
}

static inline bool peer_is_closed(void)
{
    while (peer_read(waiting_peer))
        ;
    return waiting_peer->closed;
}

static inline void await_close(struct test_peer *peer)
{
    waiting_peer = peer;
    turn_until(peer_is_closed);
}

static inline bool peer_has_frame(void)
{
    struct test_peer *peer = waiting_peer;
    struct error err;

    for (;;) {
        enum frame_kind kind = frame_next(buf_slice(&peer->in), FRAME_HEADED,
                                          256 << 20, &peer->frame, &err);

        assert_int_not_equal(kind, FRAME_MALFORMED);
        if (kind == FRAME_SIGNAL)
            return true;
        if (kind == FRAME_TICK)
            buf_drop_front(&peer->in, peer->frame.size);
        else if (!peer_read(peer))
            return false;
    }
}

/* The next signal; what it points at lives until the next call. */
static inline void peer_receive(struct test_peer *peer, struct control *control)
{
    const struct term_limits limits = {.max_bytes = 256 << 20,
                                       .max_depth = 512};
    struct error err;

    buf_drop_front(&peer->in, peer->frame.size);
    peer->frame.size = 0;
    waiting_peer = peer;
    turn_until(peer_has_frame);
    assert_true(
        control_decode(peer->frame.body, FRAME_HEADED, &limits, control, &err));
    assert_true(control->payload.size == 0 ||
                term_check(control->payload, &limits, &err));
}

/* Operation of the last signal: also of those that control_decode ignores. */
static inline int peer_operation(const struct test_peer *peer)
{
    return (unsigned char)peer->frame.body.data[3];
}

#endif
