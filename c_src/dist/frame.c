#include "llm_router/dist/frame.h"

enum { PASS_THROUGH = 112 };

static uint32_t read_u32(const char *at)
{
    const unsigned char *bytes = (const unsigned char *)at;

    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 |
           (uint32_t)bytes[2] << 8 | bytes[3];
}

enum frame_kind frame_next(struct slice input, size_t max_bytes,
                           struct frame *frame, struct error *err)
{
    size_t length;

    if (input.size < FRAME_HEADER_SIZE)
        return FRAME_PARTIAL;
    length = read_u32(input.data);
    frame->size = FRAME_HEADER_SIZE + length;
    if (length == 0)
        return FRAME_TICK;
    if (length > max_bytes) {
        error_set(err, ERR_TOO_LARGE, "frame of %zu bytes, limit %zu", length,
                  max_bytes);
        return FRAME_MALFORMED;
    }
    if (input.size == FRAME_HEADER_SIZE)
        return FRAME_PARTIAL;
    if ((unsigned char)input.data[FRAME_HEADER_SIZE] != PASS_THROUGH) {
        error_set(err, ERR_INVALID_REQUEST, "frame of type %u, not %d",
                  (unsigned char)input.data[FRAME_HEADER_SIZE], PASS_THROUGH);
        return FRAME_MALFORMED;
    }
    if (input.size - FRAME_HEADER_SIZE < length)
        return FRAME_PARTIAL;
    frame->body = slice_make(input.data + FRAME_HEADER_SIZE + 1, length - 1);
    return FRAME_SIGNAL;
}

size_t frame_begin(struct buf *out)
{
    static const char header[FRAME_HEADER_SIZE + 1] = {[4] = PASS_THROUGH};
    size_t start = out->size;

    buf_append(out, header, sizeof(header));
    return start;
}

bool frame_end(struct buf *out, size_t start)
{
    size_t length = out->size - start - FRAME_HEADER_SIZE;
    unsigned char *header;

    if (out->failed || length > UINT32_MAX) {
        out->size = start;
        out->failed = false;
        return false;
    }
    header = (unsigned char *)out->data + start;
    header[0] = (unsigned char)(length >> 24);
    header[1] = (unsigned char)(length >> 16);
    header[2] = (unsigned char)(length >> 8);
    header[3] = (unsigned char)length;
    return true;
}

void frame_put_tick(struct buf *out)
{
    static const char tick[FRAME_HEADER_SIZE];

    buf_append(out, tick, sizeof(tick));
}
