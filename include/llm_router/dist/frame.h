/* Frames: `length:32 | 112 | control | payload`, a length of 0 is a tick.
 *
 * Pure. We announce neither the atom cache nor fragments, so a frame is always
 * "pass through" (112) and control and payload are terms with their version
 * byte (erl_dist_protocol, "Protocol between connected nodes"). */
#ifndef LLM_ROUTER_DIST_FRAME_H
#define LLM_ROUTER_DIST_FRAME_H

#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"

enum frame_kind {
    FRAME_PARTIAL,   /* more bytes are needed */
    FRAME_TICK,      /* 4 bytes used */
    FRAME_SIGNAL,    /* body is control and payload */
    FRAME_MALFORMED, /* err says why: too large, or not pass through */
};

struct frame {
    size_t size; /* bytes of input it took */
    struct slice body;
};

enum { FRAME_HEADER_SIZE = 4 };

/* The first frame of `input`. A length over max_bytes is refused as soon as
 * its four bytes are there. */
enum frame_kind frame_next(struct slice input, size_t max_bytes,
                           struct frame *frame, struct error *err);

/* Between them the caller appends control and payload. frame_end returns
 * false, and takes the frame out again, if it did not fit in the buffer. */
size_t frame_begin(struct buf *out);
bool frame_end(struct buf *out, size_t start);

void frame_put_tick(struct buf *out);

#endif
