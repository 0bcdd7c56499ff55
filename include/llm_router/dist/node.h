/* A hidden Erlang node: epmd, connections, signals, the global name.
 *
 * The one public face of the dist layer. It moves terms and keeps the promises
 * of the distribution protocol (ticks, noproc, unlink acknowledgements, spawn
 * replies, is_auth, ...); it knows no operation. What the service has to
 * decide arrives through struct node_events; callbacks come from the loop, and
 * slices in them are valid only during the call.
 *
 * Terms given to callbacks passed term_check. Pids, references and tags travel
 * as raw term bytes (no version byte) and are echoed, never interpreted: a
 * reply finds its connection by the node name inside the pid or alias. */
#ifndef LLM_ROUTER_DIST_NODE_H
#define LLM_ROUTER_DIST_NODE_H

#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"
#include "llm_router/loop/loop.h"
#include "llm_router/term/reader.h"

struct node;

struct node_options {
    const char *name; /* "llm_router@host", complete */
    struct slice cookie;
    const char *global_name;  /* "llm_router" */
    const char *const *names; /* locally registered names of the service */
    size_t name_count;
    const char *const *peers; /* --connect: kept connected, with backoff */
    size_t peer_count;
    uint16_t port;           /* to listen at; 0: the system chooses */
    struct tls_context *tls; /* NULL: the distribution is not within TLS */
    size_t max_frame_bytes;  /* of a frame or a message in fragments; 64 MiB */
    size_t max_send_queue_bytes;   /* per connection; 256 MiB */
    size_t backlog_high_bytes;     /* for peer_drained; 0: it never comes */
    uint64_t handshake_timeout_ms; /* 7000 */
    size_t max_handshakes;         /* 256 at once */
    uint64_t tick_time_ms; /* net_ticktime, 60000: a peer silent for longer is
                              gone; idle time inside a frame counts too */
};

/* A term sent to the service (its pid, one of its names, or an alias). */
struct node_message {
    uint64_t connection;
    struct slice peer; /* node name of the sender */
    struct slice from; /* sender's pid (raw), or empty when not on the wire */
    struct term message;
};

/* rpc, erpc or rex: a call of Module:Function(Args...) that nothing in the
 * dist layer answers. `call` is 0 for casts (no reply wanted), else it is
 * answered by exactly one node_rpc_return or node_rpc_error. */
struct node_rpc {
    uint64_t connection;
    struct slice peer;
    uint64_t call;
    struct slice module;
    struct slice function;
    struct term arguments; /* the argument list; proper */
    uint32_t arity;
};

struct node_events {
    void (*ready)(void *context); /* registered with epmd for the first time */
    /* The service cannot run under this name (ERR_INVALID_REQUEST: taken;
     * ERR_UNREACHABLE: epmd unreachable for the start-up period). */
    void (*failed)(void *context, const struct error *err);
    void (*message)(void *context, const struct node_message *message);
    /* A message to the service whose payload is malformed or too deep (the
     * frame itself is sound, so the connection stays). If its head is that of a
     * `$gen_call`, pid and tag (raw) say whom to tell; else they are empty. */
    void (*refused)(void *context, uint64_t connection, struct slice pid,
                    struct slice tag, const struct error *err);
    void (*rpc)(void *context, const struct node_rpc *rpc);
    /* The caller of `call` gave up (demonitor, death, node down): no answer. */
    void (*rpc_abandoned)(void *context, uint64_t call);
    /* A monitor on the service was taken away (the GenServer.call timed out or
     * returned, or its caller died). `reference` as raw term bytes. */
    void (*demonitored)(void *context, uint64_t connection,
                        struct slice reference);
    /* A process that node_monitor watches is gone, or its node. */
    void (*process_down)(void *context, uint64_t monitor);
    void (*peer_up)(void *context, uint64_t connection, struct slice peer);
    /* What waits for that peer (node_backlog) was over backlog_high_bytes and
     * is down at a quarter of it; not if it goes down before. May be NULL. */
    void (*peer_drained)(void *context, uint64_t connection);
    /* After it no message of that connection comes. Its rpc calls were
     * reported abandoned, node_monitor's watches reported down, and its
     * monitors on the service demonitored, before this. */
    void (*peer_down)(void *context, uint64_t connection, struct slice peer);
};

/* What the options point to must outlive the node. */
struct node *node_new(struct loop *loop, const struct node_options *options,
                      const struct node_events *events, void *context);

/* Listens, registers with epmd (retried for `patience_ms` at start, for ever
 * later), connects to the peers. Outcome by ready/failed. */
void node_start(struct node *node, uint64_t patience_ms);

/* Connections that are made from now on show and trust the certificates of
 * `tls`, which outlives the node or the next such call. NULL if, and only if,
 * it was so at the start. */
void node_renew_tls(struct node *node, struct tls_context *tls);

/* How another router shows that it can take the global name over: `question`
 * (a raw term that outlives the node) is asked of it as a generic call. */
struct node_handover {
    struct slice question;
    bool (*is_well)(struct term answer);
};

/* Hands the global name over, wherever it is held, to another router that is
 * well and reached from there, then calls `done`: in the next turn if there is
 * nobody to ask, some milliseconds later if nobody else can have it, else after
 * a grace of 1.5 s in which calls still come that were sent because of the
 * name; at most timeout_ms and that grace later. From the first moment on the
 * names are no longer registered where they are unknown. Once. */
void node_hand_over_name(struct node *node, const struct node_handover *how,
                         uint64_t timeout_ms, void (*done)(void *context),
                         void *context);

/* Gives up the global name wherever it is held, then calls `done` (at most
 * timeout_ms later). Connections stay. */
void node_release_name(struct node *node, uint64_t timeout_ms,
                       void (*done)(void *context), void *context);

/* Flushes queues for at most timeout_ms, closes all, then calls `done` (at the
 * latest a turn after timeout_ms, though a name lookup may still hold a thread
 * of the pool). */
void node_close(struct node *node, uint64_t timeout_ms,
                void (*done)(void *context), void *context);

/* At any time; no callback comes after it. Handles that are still open close
 * in the next turns of the loop, which must run until then. NULL is allowed. */
void node_free(struct node *node);

/* The service's own pid, raw; empty before `ready`. */
struct slice node_service_pid(const struct node *node);

/* True if `reference` (raw) is a monitor that a peer holds on the service. */
bool node_is_monitored(const struct node *node, uint64_t connection,
                       struct slice reference);

/* `head` and `rest` in a row are a term without version byte (what wraps a
 * value, which is not copied for it, and the value). False if the node is not
 * connected (node_send dials it and queues, unless it is not a node name; false
 * then means dropped), or if the queue to it has no room for so much; one that
 * has no room for a small message closes the connection. */
bool node_send(struct node *node, struct slice pid, struct slice head,
               struct slice rest);
bool node_send_alias(struct node *node, struct slice reference,
                     struct slice head, struct slice rest);

/* The same for the process of a registered name, at a node that is dialled if
 * it is not connected; `message` is all of the term. `name`: 1..255 bytes of
 * UTF-8. Nobody learns whether there is such a process. */
bool node_send_name(struct node *node, struct slice peer, struct slice name,
                    struct slice message);

/* The connection to the node of a pid or reference (raw); 0: there is none. */
uint64_t node_connection_of(const struct node *node, struct slice pid);

/* Bytes that wait to be written to that peer; 0, too, if it is gone. */
size_t node_backlog(const struct node *node, uint64_t connection);

/* Appends a new reference of this node (raw), never used before, not for its
 * monitors and requests either. Not before `ready`. */
void node_put_reference(struct node *node, struct buf *out);

/* Answers of rpc calls; `value` and `reason` are terms without version byte. A
 * call that is gone is a no-op. False: there is no room for the value in the
 * queue to its node; the call waits for a smaller one. */
enum node_rpc_class {
    NODE_RPC_UNDEF,     /* error:undef with M, F and the arguments filled in
                           (within the rpc event; later their number) */
    NODE_RPC_EXCEPTION, /* error:Reason */
};
bool node_rpc_return(struct node *node, uint64_t call, struct slice value);
void node_rpc_error(struct node *node, uint64_t call, enum node_rpc_class class,
                    struct slice reason);

/* Watches a process of another node; the id is never 0. process_down comes
 * once, unless node_demonitor came first; soon if its node is not connected. */
uint64_t node_monitor(struct node *node, struct slice pid);
void node_demonitor(struct node *node, uint64_t monitor);

struct node_stats {
    size_t peers;
    size_t handshakes;
    bool name_held; /* the global name points to us on some peer */
    uint64_t frames_in, frames_out, bytes_in, bytes_out;
    uint64_t dropped_signals, closed_peers;
};
struct node_stats node_stats(const struct node *node);

/* Calls `visit` with each connected peer's name. */
void node_each_peer(const struct node *node,
                    void (*visit)(void *context, struct slice peer,
                                  bool visible),
                    void *context);

#endif
