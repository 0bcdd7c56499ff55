/* The node from inside: what its files share. node.c has its life and the
 * events of its connections; peer.c the peers; process.c the signals between
 * processes; rpc.c spawn requests and `rex`; global.c the global names;
 * handover.c gives the first of them away; cluster.c finds peers. */
#ifndef LLM_ROUTER_DIST_NODE_INTERNAL_H
#define LLM_ROUTER_DIST_NODE_INTERNAL_H

#include "llm_router/base/map.h"
#include "llm_router/dist/connection.h"
#include "llm_router/dist/control.h"
#include "llm_router/dist/epmd.h"
#include "llm_router/dist/listener.h"
#include "llm_router/dist/node.h"
#include "llm_router/dist/pid.h"
#include "llm_router/term/check.h"

/* Our processes by pid number: the service, the node's own, which asks
 * `global`, and the service once more, for its second global name (`global`
 * takes one name for a pid); higher numbers are rpc calls. */
enum { SERVICE_NUMBER = 1, NODE_NUMBER, SECOND_NUMBER, LAST_FIXED_NUMBER = 3 };

enum peer_state {
    PEER_IDLE,    /* not connected; with the timer running: dialled then */
    PEER_LOOKUP,  /* where is it? */
    PEER_DIALLED, /* connection is on its way */
    PEER_AWAITED, /* it dials us, and its call wins */
    PEER_UP,
};

enum global_request {
    GLOBAL_NONE,
    GLOBAL_WHEREIS,
    GLOBAL_REGISTER,
    GLOBAL_RESTORE, /* another holder, where it is forgotten */
    GLOBAL_UNREGISTER,
};

/* The names of the service: NAME, which another router may hold, and
 * {NAME, 'node@host'}, which is only ours. */
enum { GLOBAL_NAMES = 2 };

struct global_name {
    uint64_t number;      /* of the pid that has it */
    struct buf term, pid; /* raw; empty before `ready` */
    char text[300];       /* for the log */
};

/* What a visible peer's `global` says about one of our names. */
struct global_view {
    struct peer *peer;
    const struct global_name *name;
    bool held;         /* it names us */
    bool stale;        /* it is to be asked, because of a handover, */
    bool tried;        /* and knew nobody who would take the name */
    struct buf holder; /* raw: the other pid that it names, if any */
    unsigned nobody;   /* answers in a row that it means nobody */
    enum global_request request;
    uint64_t reference;      /* of the request */
    struct loop_timer timer; /* the request's end, or the next question */
};

enum handover_step {
    HANDOVER_OFF,
    HANDOVER_LOOK,     /* which peers name us? One of them is asked */
    HANDOVER_NAMES,    /* for the names of routers, */
    HANDOVER_WHEREIS,  /* for the pid of one of them, */
    HANDOVER_QUESTION, /* whether that one is well, */
    HANDOVER_REGISTER, /* to register it, */
    HANDOVER_AGAIN,    /* and whether it is well still. */
    HANDOVER_SETTLED,
};

struct handover {
    enum handover_step step;
    struct node_handover how;
    struct global_view *view; /* of the peer that is asked */
    struct buf names;         /* raw, one after the other: {NAME, Node} ... */
    size_t next_name;         /* the offset of the one to try next */
    struct buf successor;     /* its pid, raw */
    uint64_t reference;       /* of the question; 0: none */
    bool registering;         /* it ended before the answer to that came */
    struct loop_timer answer;
    struct loop_timer end; /* the limit, then the grace */
    void (*done)(void *context);
    void *context;
};

/* A node that is connected, or is to be. Others have no struct peer. */
struct peer {
    struct node *node;
    struct list link;
    struct slice name;        /* owned */
    bool keep;                /* --connect */
    bool on_demand;           /* dialled for a message */
    uint64_t wanted_until_ms; /* dialled until then, as if kept */
    enum peer_state state;
    struct epmd_lookup *lookup;
    struct connection *connection; /* dialled or up */
    struct loop_timer timer;
    unsigned failures; /* dials in a row */
    struct buf queue;  /* messages to send once it is up */
    size_t queued;     /* how many */

    /* While it is up: */
    uint64_t id; /* of the connection */
    bool visible;
    struct map monitors; /* raw reference -> struct monitor */
    struct list monitor_list;
    struct list calls;
    struct list watches; /* of node_monitor, on processes there */
    struct global_view global[GLOBAL_NAMES];
};

enum monitor_target { MONITOR_SERVICE, MONITOR_REX, MONITOR_CALL };

/* A monitor that a process of a peer holds on one of ours. */
struct monitor {
    struct list of_peer, of_call;
    enum monitor_target target;
    struct call *call;      /* MONITOR_REX: the call it waits for, if any */
    struct slice reference; /* raw, inside the allocation */
    struct slice watcher;
};

/* A `$gen_call`: raw terms. `alias` is the reference inside the tag if the
 * reply goes there; `reference` any reference inside the tag (gen.erl). */
struct gen_call {
    struct slice pid, tag, alias, reference;
    struct term request;
};

struct node {
    struct loop *loop;
    struct node_options options;
    const struct node_events *events;
    void *context;
    struct identity self;
    struct term_limits limits;
    struct buf service_pid, own_pid; /* raw; empty before `ready` */
    struct global_name names[GLOBAL_NAMES];
    struct buf scratch;   /* for a small term, within a function */
    uint64_t last_number; /* of pids, references, connections */

    struct handles handles;
    struct listener listener;
    struct epmd epmd;
    struct connection_group group;
    struct map peers;     /* by name */
    struct map connected; /* by connection id */
    struct list peer_list;
    size_t dials; /* on demand, under way */
    size_t up_count;

    struct loop_timer cluster_timer;
    uint64_t cluster_reference; /* of the question for nodes; 0: none */

    struct map calls;   /* by number */
    struct map watches; /* by number */
    struct list lost_watches;
    struct loop_task tell_lost;
    uint64_t running;          /* the call that events->rpc is looking at, */
    struct slice running_args; /* whose arguments can still be quoted */

    struct handover handover;
    bool releasing; /* the global name is given up */
    struct loop_timer release_limit;
    void (*released)(void *context);
    void *released_context;

    struct loop_task tell_failed;
    struct error failure;
    bool closing;
    uint64_t close_by_ms;
    struct loop_timer close_timer;
    struct loop_task tell_closed;
    void (*closed)(void *context);
    void *closed_context;

    uint64_t dropped_signals, closed_peers;
    uint64_t log_window_ms;
    unsigned logged, unlogged;
};

/* peer.c */
uint64_t node_random(void);
struct peer *node_find_peer(const struct node *node, struct slice name);
/* The peer of a raw pid, port or reference; NULL: not connected. */
struct peer *node_peer_of(const struct node *node, struct slice raw);
/* As connection_send_begin and _end. */
struct buf *peer_send_begin(struct peer *peer);
bool peer_send_end(struct peer *peer);
/* Is there room for a payload of that size? A small one may be sent in any
 * case: the peer is closed if it does not fit. */
bool peer_has_room(const struct peer *peer, size_t size);
uint64_t peer_flags(const struct peer *peer);
struct peer *peer_new(struct node *node, struct slice name);
void peer_free(struct peer *peer);
void peer_move(struct peer *peer, enum peer_state state);
/* `peer` is idle; a timer's callback, too. */
void peer_dial(void *peer);
void peer_dial_failed(struct peer *peer, const char *why);
void peer_stop_dialling(struct peer *peer, const char *why);
/* Its own call to us wins over ours. */
void peer_await(struct peer *peer);
/* An idle one is dialled again, or freed when nobody needs it. */
void peer_settle(struct peer *peer);
void peer_send_queued(struct peer *peer);
/* Connects to that node, unless it is connected, and tries again for so long.
 */
void node_want_peer(struct node *node, struct slice name, uint64_t duration_ms);

/* Either pid of the service. */
static inline bool is_service(uint64_t number)
{
    return number == SERVICE_NUMBER || number == SECOND_NUMBER;
}

/* process.c */
void process_signal(struct peer *peer, struct slice body);
void process_refused(struct peer *peer, struct slice body,
                     const struct error *why);
void process_peer_up(struct peer *peer);
void process_peer_down(struct peer *peer);
void process_release(struct node *node);
/* The monitor the peer holds by that raw reference, or NULL. */
struct monitor *process_find_monitor(const struct peer *peer,
                                     struct slice reference);
/* NULL: the peer has too many, and is closed for it. */
struct monitor *process_add_monitor(struct peer *peer,
                                    enum monitor_target target,
                                    struct slice reference,
                                    struct slice watcher);
void process_drop_monitor(struct peer *peer, struct monitor *monitor);
bool gen_call_read(struct term message, struct gen_call *call);
/* A message to the alias if there is one, else to the pid, up to the version
 * byte: the caller writes the term and ends with peer_send_end(*peer). NULL:
 * the node is gone. */
struct buf *reply_begin(struct node *node, struct slice pid, struct slice alias,
                        struct peer **peer);
/* {Tag, value} */
void gen_call_reply(struct node *node, const struct gen_call *call,
                    struct slice value);

/* rpc.c */
void rpc_spawn(struct peer *peer, const struct control *control);
/* A spawn request whose arguments are not taken. */
void rpc_refused(struct peer *peer, const struct control *control);
void rpc_rex(struct peer *peer, struct term message);
/* A generic call of Module:Function to the peer's rex, from the node's own
 * process; `arguments` is a raw list. The number of its reference; 0: not
 * sent. */
uint64_t rpc_ask(struct peer *peer, const char *module, const char *function,
                 struct slice arguments);
/* The call whose process has that number, or NULL. */
struct call *rpc_find_call(const struct node *node, uint64_t number);
void rpc_add_monitor(struct call *call, struct monitor *monitor);
/* A monitor with a call was taken away: if its holder is who waits for the
 * answer, the call is abandoned. */
void rpc_demonitored(struct node *node, struct monitor *monitor);
void rpc_exit(struct node *node, struct call *call,
              const struct control *control);
void rpc_peer_down(struct peer *peer);

/* system.c: functions that any node has. Each writes its value and is true;
 * false is badarg. NULL: there is no such function here. */
typedef bool system_function(struct node *node, struct term arguments,
                             struct buf *out);
system_function *system_function_find(struct slice module, struct slice name,
                                      uint32_t arity);

/* global.c */
void global_init(struct node *node);
void global_release(struct node *node);
/* The node has its creation: names and pids can be written. */
void global_ready(struct node *node);
/* Does any peer hold that the first name means us? */
bool global_is_held(const struct node *node);
void global_peer_up(struct peer *peer);
void global_peer_down(struct peer *peer);
/* False: not the answer to a question of ours. */
bool global_reply(struct peer *peer, uint64_t reference, struct term reply);
/* Something suggests that the name is lost: ask. */
void global_suspect(struct node *node);
/* global:resolve_it(Method, Name, Pid1, Pid2): which pid keeps the name. */
void global_resolve(struct node *node, struct term arguments, struct buf *out);
/* Asks whom the name means there; nothing else is being asked. */
void global_ask(struct global_view *view);
/* The arguments of global:register_name/3 for that pid. */
void global_put_registration(struct buf *out, const struct global_name *name,
                             struct slice pid);

/* handover.c */
void handover_init(struct node *node);
void handover_release(struct node *node);
void handover_stop(struct node *node); /* without a word */
bool handover_is_on(const struct node *node);
/* A question of global.c was answered, or never will be. */
void handover_looked(struct node *node);
void handover_peer_down(struct peer *peer);
/* As global_reply. */
bool handover_reply(struct peer *peer, uint64_t reference, struct term reply);

/* cluster.c */
void cluster_peer_up(struct node *node); /* a visible one */
/* As global_reply. */
bool cluster_reply(struct node *node, uint64_t reference, struct term nodes);

#endif
