/* Frames: `length:32 | body`; a length of 0 is a tick.
 *
 * Pure. A body has one of two forms, as the two nodes agreed by the flag
 * FRAGMENTS (we never announce the atom cache):
 *
 *     112 | 131 control | 131 payload                  pass through
 *     131 68 0 | control | payload                     with a header
 *     131 69 sequence:64 left:64 0 | control, part     the first fragment
 *     131 70 sequence:64 left:64 | part                one more
 *
 * `left` counts down to 1, and the control message is whole in the first
 * fragment. A real node sends parts of 64 KiB (erl_dist_protocol, "Distribution
 * Header", "Distribution Header for fragmented messages"; measured with OTP 25
 * and 27: with FRAGMENTS a frame that passes through closes the connection). */
#ifndef LLM_ROUTER_DIST_FRAME_H
#define LLM_ROUTER_DIST_FRAME_H

#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"

enum frame_form {
    FRAME_PASS_THROUGH, /* the payload has a version byte */
    FRAME_HEADED,       /* it has none */
};

enum frame_kind {
    FRAME_PARTIAL,   /* more bytes are needed */
    FRAME_TICK,      /* 4 bytes used */
    FRAME_SIGNAL,    /* body: control, without a version byte, and payload */
    FRAME_FIRST,     /* body: control and the beginning of the payload */
    FRAME_FRAGMENT,  /* body: a part of the payload */
    FRAME_MALFORMED, /* err says why: too large, or of another form */
};

struct frame {
    size_t size; /* bytes of input it took */
    struct slice body;
    uint64_t sequence, left; /* of FRAME_FIRST and FRAME_FRAGMENT */
};

enum {
    FRAME_LENGTH_SIZE = 4,
    FRAME_PART_SIZE = 64 * 1024, /* of the fragments we write */
};

/* The first frame of `input`. A length over max_bytes is refused as soon as
 * its four bytes are there. */
enum frame_kind frame_next(struct slice input, enum frame_form form,
                           size_t max_bytes, struct frame *frame,
                           struct error *err);

/* Between them the caller appends control, without a version byte, and
 * payload. frame_end returns false, and takes the frame out again, if it did
 * not fit in the buffer. */
size_t frame_begin(struct buf *out, enum frame_form form);
bool frame_end(struct buf *out, size_t start);

/* What is between frame_begin and frame_end, of a headed frame. */
struct slice frame_content(struct slice frame);

/* One fragment as a whole frame. */
enum frame_part { FRAME_PART_FIRST, FRAME_PART_LATER };
void frame_put_part(struct buf *out, enum frame_part place, uint64_t sequence,
                    uint64_t left, struct slice part);

void frame_put_tick(struct buf *out);

#endif
