/* One distribution connection: a socket, its handshake, its buffers.
 *
 * Reads without end (a node that stops reading suspends the senders of its
 * peers), writes what a loop turn produced in one system call, ticks, and
 * closes itself on any fault of the peer. It knows frames, not signals: the
 * node gives meaning to them. Bytes pass through TLS where the node has
 * certificates. All connections of a node share a connection_group. */
#ifndef LLM_ROUTER_DIST_CONNECTION_H
#define LLM_ROUTER_DIST_CONNECTION_H

#include <netinet/in.h>

#include "llm_router/dist/assembly.h"
#include "llm_router/dist/handles.h"
#include "llm_router/dist/handshake.h"
#include "llm_router/dist/outbox.h"
#include "llm_router/dist/tls.h"
#include "llm_router/loop/loop.h"

struct connection;

struct connection_events {
    /* Dialling, the socket is connected: go on to the handshake? */
    bool (*dialled)(void *context, struct connection *connection);
    /* Accepting, the peer said who it is. */
    enum handshake_status (*named)(void *context,
                                   struct connection *connection);
    /* Dialling with TLS: nothing has come from the peer for a while. */
    void (*silent)(void *context, struct connection *connection);
    void (*up)(void *context, struct connection *connection);
    /* Control and payload, in the form of the connection's flags. */
    void (*frame)(void *context, struct connection *connection,
                  struct slice body);
    /* The same, but of the payload only a beginning: it is not taken. */
    void (*refused)(void *context, struct connection *connection,
                    struct slice body, const struct error *why);
    /* What waited was over the high mark and is down at a quarter of it. */
    void (*drained)(void *context, struct connection *connection);
    /* Always the last; the connection is freed when it returns. */
    void (*closed)(void *context, struct connection *connection);
};

struct connection_group {
    struct loop *loop;
    struct handles *handles;
    const struct connection_events *events;
    void *context;
    struct handshake_self self;
    struct tls_context *tls; /* NULL: plain */
    uint64_t seed;           /* unpredictable */
    size_t max_frame_bytes;
    size_t max_queue_bytes;
    size_t backlog_high_bytes;
    size_t max_handshakes;
    uint64_t handshake_timeout_ms;
    uint64_t tick_time_ms;

    struct list half_open; /* accepted, in their handshake; oldest first */
    size_t half_open_count;
    struct list others;          /* dialled, or up */
    char *scratch;               /* where reads land that begin with a frame */
    struct buf opened, unsealed; /* what came out of, and goes into TLS */
    struct assembly_room room;
    uint64_t frames_in, frames_out, bytes_in, bytes_out;
};

enum connection_state {
    CONNECTION_DIALLING, /* the socket connects */
    CONNECTION_HANDSHAKE,
    CONNECTION_UP,
    CONNECTION_ENDING, /* half closed; what comes is thrown away */
    CONNECTION_CLOSED, /* libuv has not let go of it yet */
};

enum { CONNECTION_REASON_MAX = 160 };

#define CONNECTION_CLOSED_BY_PEER "closed by the peer"

struct connection {
    struct connection_group *group;
    struct list link; /* in half_open or others */
    void *owner;      /* the node's; the connection does not look at it */
    enum connection_state state;
    bool accepted;
    bool yielded; /* closed because the other of two calls at once wins */
    bool silent;  /* past the limit once; a stall of ours must not look so */
    struct handshake handshake;
    char reason[CONNECTION_REASON_MAX]; /* why it closed */
    char address[INET6_ADDRSTRLEN];     /* accepted: from where */

    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct loop_timer timer; /* handshake deadline, then ticks */
    struct loop_task flush;
    struct loop_task resume; /* reading, in the next turn */
    uint64_t read_at_ms, written_at_ms;
    struct tls *tls;        /* NULL: plain */
    enum frame_form form;   /* while it is up */
    struct buf in;          /* a frame that is not whole */
    struct assembly pieces; /* messages that are not whole */
    struct outbox outbox;   /* not yet inside TLS */
    struct buf out;         /* to be written at the end of this turn */
    struct buf writing;     /* what a write request holds; empty: none */
    size_t written;         /* of it, at once */
    bool over;              /* the high mark, and not down yet */
};

void connection_group_init(struct connection_group *group);
void connection_group_release(struct connection_group *group);

/* `fd` is an accepted, non-blocking socket; it becomes the connection's. With
 * too many handshakes under way the oldest goes. */
void connection_accept(struct connection_group *group, int fd);

struct connection *connection_dial(struct connection_group *group,
                                   const struct sockaddr *address,
                                   struct slice peer, void *owner);

/* Bytes that may be queued besides what is. */
size_t connection_room(const struct connection *connection);

/* The buffer to write the next frame's control and payload into; NULL unless
 * the connection is up. connection_send_end must follow. */
struct buf *connection_send_begin(struct connection *connection);

/* False: the queue is full, and the connection is closed for it. */
bool connection_send_end(struct connection *connection, uint64_t receiver);

/* Bytes that wait to be written. */
size_t connection_backlog(const struct connection *connection);

/* True when there are none. */
bool connection_drained(const struct connection *connection);

/* To be called when it is drained: says that nothing more will come, and waits
 * for the peer to close. A plain close, with bytes of the peer unread, would be
 * a reset, and the peer might lose answers that it has not read yet. Nothing
 * unless the connection is up. */
void connection_end(struct connection *connection);

/* Sends what fits into the socket's own buffer, then closes; `closed` comes
 * later. Nothing on a closed one. */
void connection_close(struct connection *connection, const char *reason);

struct slice connection_peer(const struct connection *connection);
uint64_t connection_flags(const struct connection *connection);

/* Is an accepted handshake with that node under way? */
bool connection_group_expects(const struct connection_group *group,
                              struct slice peer);

#endif
