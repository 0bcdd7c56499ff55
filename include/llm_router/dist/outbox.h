/* What waits to be written to one peer.
 *
 * Small frames go out together in the order they came. A large one is cut into
 * fragments where the peer understands them, a few with each piece of output,
 * and the frames that come later overtake it: nobody waits behind another's
 * 16 MB. Only messages to a process that must arrive in the order they were
 * sent keep it (OUTBOX_IN_ORDER); an answer to an alias or a monitor is the
 * only one of its kind. Pure but for the memory. */
#ifndef LLM_ROUTER_DIST_OUTBOX_H
#define LLM_ROUTER_DIST_OUTBOX_H

#include "llm_router/base/list.h"
#include "llm_router/dist/frame.h"

enum outbox_order { OUTBOX_ANY_ORDER, OUTBOX_IN_ORDER };

struct outbox {
    enum frame_form form;
    struct buf frames; /* small ones */
    size_t frame_start;
    struct list large;    /* any order: served in turn */
    struct list in_order; /* one after the other, small ones behind them */
    size_t large_bytes;   /* of both lists, not written yet */
    uint64_t sequence;
};

/* A piece of output takes no more fragments when it is that long; it bounds how
 * long small frames wait. */
enum { OUTBOX_BURST_BYTES = 256 * 1024 };

void outbox_init(struct outbox *outbox, enum frame_form form);
void outbox_release(struct outbox *outbox);

/* The buffer to write the next frame's control and payload into. In all,
 * `max_bytes` may wait; outbox_end is false, and the frame gone, if it is over
 * that. */
struct buf *outbox_begin(struct outbox *outbox, size_t max_bytes);
bool outbox_end(struct outbox *outbox, enum outbox_order order);

void outbox_put_tick(struct outbox *outbox);

/* Moves the next piece of output to `out`, which is empty. */
void outbox_take(struct outbox *outbox, struct buf *out);

/* Bytes that wait, without the headers that fragments get. */
size_t outbox_size(const struct outbox *outbox);

#endif
