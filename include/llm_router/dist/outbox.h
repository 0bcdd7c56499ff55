/* What waits to be written to one peer.
 *
 * Small frames go out together in the order they came. A large one is cut into
 * fragments where the peer understands them, a few with each piece of output,
 * and the frames that come later overtake it: nobody waits behind another's
 * 16 MB. Only messages to one process keep the order in which they were sent;
 * an answer to an alias or a monitor is the only one of its kind. Pure but for
 * the memory. */
#ifndef LLM_ROUTER_DIST_OUTBOX_H
#define LLM_ROUTER_DIST_OUTBOX_H

#include "llm_router/base/list.h"
#include "llm_router/dist/frame.h"

struct outbox {
    enum frame_form form;
    struct buf frames; /* small ones */
    size_t frame_start;
    struct list large;  /* served in turn */
    size_t large_bytes; /* not written yet, with what is behind them */
    uint64_t sequence;
};

/* A piece of output takes no more fragments when it is that long; it bounds how
 * long small frames wait. */
enum { OUTBOX_BURST_BYTES = 256 * 1024 };

void outbox_init(struct outbox *outbox, enum frame_form form);
void outbox_release(struct outbox *outbox);

enum { OUTBOX_ANY_ORDER = 0 };

/* The buffer to write the next frame's control and payload into. In all,
 * `max_bytes` may wait; outbox_end is false, and the frame gone, if it is over
 * that. Frames of the same `receiver` stay in order. */
struct buf *outbox_begin(struct outbox *outbox, size_t max_bytes);
bool outbox_end(struct outbox *outbox, uint64_t receiver);

void outbox_put_tick(struct outbox *outbox);

/* Moves the next piece of output to `out`, which is empty. */
void outbox_take(struct outbox *outbox, struct buf *out);

/* Bytes that wait, without the headers that fragments get. */
size_t outbox_size(const struct outbox *outbox);

#endif
