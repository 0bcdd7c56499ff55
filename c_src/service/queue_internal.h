/* The queue consumer: what its files share.
 *
 * A message that was read is a struct queued until it is archived or given
 * back. The reader's connection reads and keeps leases, the writer's stores
 * what became of messages, the clients' serves enqueue, await and result: so
 * nothing waits behind a slow statement of another kind. */
#ifndef LLM_ROUTER_SERVICE_QUEUE_INTERNAL_H
#define LLM_ROUTER_SERVICE_QUEUE_INTERNAL_H

#include "llm_router/api/queue_message.h"
#include "llm_router/pg/pgmq.h"
#include "service/service_internal.h"

enum queued_state {
    QUEUED_READ,      /* not looked at yet */
    QUEUED_ASKING,    /* its request is under way */
    QUEUED_ANSWERED,  /* its result waits to be stored */
    QUEUED_STORING,   /* the writer stores it */
    QUEUED_RETURNING, /* it goes back to the queue */
};

/* A message that this router holds. */
struct queued {
    struct list link;  /* in queue->held, oldest first */
    struct list stage; /* in queue->arrived, answered, storing or returning */
    struct queue *queue;
    enum queued_state state;
    int64_t msg_id;
    int64_t read_count;
    struct arena arena;
    struct slice json;            /* as it came; empty: too large */
    struct queue_request message; /* its request only where one is at hand */
    struct taker *taker;          /* in the job that answers it; or NULL */
    struct buf item;              /* for pgmq_finish */
    struct slice notice; /* the message to `notify`, with its end; or empty */
    int64_t return_s;    /* QUEUED_RETURNING: when it may be read again */
    uint64_t lease;      /* the round in which it was extended last */
    /* How the database refused it last. It is tried by a statement of its own
     * then, without the tables after that, and then as a failure. */
    enum {
        REFUSED_NEVER,
        REFUSED_AMONG_OTHERS,
        REFUSED_ALONE,
        REFUSED_BARE,
    } refused;
    uint64_t again_ms; /* QUEUED_ANSWERED: not before */
    unsigned tries;    /* of it alone that failed for what may pass */
    bool uncertain;    /* it may be stored: the connection was lost then */
    bool failed, dead; /* for the counters */
};

/* A line about one kind of trouble, now and then. */
struct quiet {
    uint64_t until_ms;
};

struct queue {
    struct service *service;
    struct pgmq_names names;
    struct pg *reader, *writer, *clients;
    bool probed;               /* since the reader's connection came up */
    bool usable;               /* pgmq and the queues are there */
    struct pgmq_tables tables; /* there, and wanted */

    struct list held;
    struct map by_id; /* struct queued by msg_id */
    size_t held_count;

    /* Taking (queue.c). */
    struct list arrived;
    struct loop_timer arrive; /* the rest of what arrived */
    struct loop_timer look;   /* for new messages */
    bool reading;
    size_t asked; /* messages of the last read */
    bool more;    /* it was full, or somebody said so */
    uint64_t pause_ms;
    /* Requests one after another that failed for what may pass, and until when
     * nothing is read for that. */
    size_t troubled;
    uint64_t troubled_until_ms;
    uint64_t due_ms; /* when one that went back can be read; 0: none */
    struct loop_timer probe;
    bool open; /* the node is ready: whoever reads can also be called */
    struct loop_timer lease;
    uint64_t lease_round;
    bool extending;
    struct loop_timer measure;

    /* Storing (queue_store.c). */
    struct list answered, storing, returning, returning_now;
    struct loop_task store;
    struct loop_timer store_again;
    bool storing_now;

    /* Clients (queue_client.c). */
    struct list asking;  /* statements that are under way */
    struct list awaited; /* ids that somebody waits for */
    struct map awaited_by_id;
    size_t asking_bytes; /* of messages on their way to the database */
    size_t waiter_count;
    struct loop_task look_up;
    struct loop_timer recheck;
    bool looking_up;

    struct queue_counters counters;
    int64_t depth, oldest_s; /* as measured last; -1: not known */
    int64_t lag_ms;          /* of the message read last; -1: none */
    struct quiet about_reading, about_storing, about_missing, about_notices;
};

/* True at most once a minute. */
bool quiet_is_over(struct queue *queue, struct quiet *quiet);

/* queue.c */

/* Reads, if there is room. */
void queue_look(struct queue *queue);
/* A message went back, and can be read again in so many seconds. */
void queue_returned(struct queue *queue, int64_t seconds);
/* A request failed for what may pass: so may those behind it. */
void queue_troubled(struct queue *queue);
/* What the database has is looked at again. */
void queue_probe(struct queue *queue);
/* The end of a message here; it must be in no job. */
void queued_free(struct queued *queued);
void queued_move(struct queued *queued, enum queued_state state);

/* queue_store.c */

/* Writes the item by which the result is stored. `value` is what a BEAM caller
 * gets (a raw term). */
void queued_settle(struct queued *queued, const struct outcome *outcome,
                   struct slice value);
/* The same of an answer that is stored already: only sent, and noticed if its
 * term is given in hexadecimal digits. */
void queued_settle_again(struct queued *queued, struct slice result,
                         struct slice hex);
/* Back to the queue, to be read again in so many seconds. */
void queued_return(struct queued *queued, int64_t seconds);
/* The writer is there, or has nothing to do. */
void queue_store(struct queue *queue);
void queue_store_release(struct queue *queue);

/* queue_client.c */

/* A result was stored, here or elsewhere: who waits for it is answered. */
void queue_stored(struct queue *queue, struct slice request_id);
void queue_clients_up(struct queue *queue);
/* A stored answer to `out`, without a version byte. False: it is none. */
bool queue_read_answer(struct slice hex, struct buf *out);
/* All who wait get the error. */
void queue_dismiss(struct queue *queue, const struct error *err);
void queue_client_release(struct queue *queue);

#endif
