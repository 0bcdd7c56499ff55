/* Puts messages together that a peer sends in fragments.
 *
 * Fragments of several messages come interleaved, each with its message's
 * sequence number. A message over the limit of size, or one for which all
 * connections together have no room, is refused as soon as that is known: its
 * beginning, which has the control message, tells whom to answer; the rest of
 * it is read and thrown away, and the connection lives on. */
#ifndef LLM_ROUTER_DIST_ASSEMBLY_H
#define LLM_ROUTER_DIST_ASSEMBLY_H

#include "llm_router/base/list.h"
#include "llm_router/base/map.h"
#include "llm_router/dist/frame.h"

/* Shared by all connections of a node. */
struct assembly_room {
    size_t max_message_bytes;
    /* Of messages that are not whole: in all, and of one connection. */
    size_t max_bytes, max_connection_bytes;
    size_t bytes;
};

struct assembly {
    struct assembly_room *room;
    size_t bytes;        /* of the room's */
    struct map messages; /* by sequence number */
    struct list oldest;  /* the same; who had no fragment for longest first */
    struct buf whole;    /* the message that was completed last */
};

enum assembly_outcome {
    ASSEMBLY_MORE,
    ASSEMBLY_WHOLE,     /* body is control and payload */
    ASSEMBLY_REFUSED,   /* body is its beginning; err: ERR_TOO_LARGE or
                           ERR_OVERLOADED. Once for a message */
    ASSEMBLY_MALFORMED, /* err says why; the connection is worth nothing */
};

/* `seed` is unpredictable: peers choose the sequence numbers. */
void assembly_init(struct assembly *assembly, struct assembly_room *room,
                   uint64_t seed);
void assembly_release(struct assembly *assembly);

/* `kind` is FRAME_FIRST or FRAME_FRAGMENT. `*body` is valid until the next
 * call, or as long as the frame. */
enum assembly_outcome assembly_add(struct assembly *assembly,
                                   enum frame_kind kind,
                                   const struct frame *frame, uint64_t now_ms,
                                   struct slice *body, struct error *err);

/* Gives the memory of the last whole message back. */
void assembly_done(struct assembly *assembly);

/* Gives up messages that had no fragment since `before_ms`. */
void assembly_expire(struct assembly *assembly, uint64_t before_ms);

#endif
