#include "llm_router/dist/frame.h"

enum {
    PASS_THROUGH = 112,
    VERSION = 131,
    HEADER = 68,
    FIRST_FRAGMENT = 69,
    FRAGMENT = 70,
};

/* What comes before the terms, after the length. */
static const char pass_through[] = {PASS_THROUGH, (char)VERSION};
static const char header[] = {(char)VERSION, HEADER, 0};

enum { HEADED_SIZE = FRAME_LENGTH_SIZE + sizeof(header) };

static uint64_t read_number(const char *at, size_t size)
{
    uint64_t value = 0;

    while (size-- > 0)
        value = value << 8 | (unsigned char)*at++;
    return value;
}

static void write_number(char *at, uint64_t value, size_t size)
{
    while (size-- > 0)
        *at++ = (char)(value >> 8 * size);
}

static void skip(struct slice *body, size_t size)
{
    body->data += size;
    body->size -= size;
}

static enum frame_kind open_pass_through(struct frame *frame)
{
    struct slice *body = &frame->body;

    if (body->size < sizeof(pass_through) ||
        memcmp(body->data, pass_through, sizeof(pass_through)) != 0)
        return FRAME_MALFORMED;
    skip(body, sizeof(pass_through));
    return FRAME_SIGNAL;
}

static enum frame_kind open_headed(struct frame *frame)
{
    enum { NUMBERS = 16 };
    struct slice *body = &frame->body;
    bool first;

    if (body->size < sizeof(header) || body->data[0] != header[0])
        return FRAME_MALFORMED;
    if (body->data[1] == HEADER) {
        if (body->data[2] != 0)
            return FRAME_MALFORMED;
        skip(body, sizeof(header));
        return FRAME_SIGNAL;
    }
    first = body->data[1] == FIRST_FRAGMENT;
    if (!first && body->data[1] != FRAGMENT)
        return FRAME_MALFORMED;
    skip(body, 2);
    if (body->size < NUMBERS + (size_t)first)
        return FRAME_MALFORMED;
    frame->sequence = read_number(body->data, 8);
    frame->left = read_number(body->data + 8, 8);
    skip(body, NUMBERS);
    if (!first)
        return FRAME_FRAGMENT;
    if (body->data[0] != 0)
        return FRAME_MALFORMED;
    skip(body, 1);
    return FRAME_FIRST;
}

enum frame_kind frame_next(struct slice input, enum frame_form form,
                           size_t max_bytes, struct frame *frame,
                           struct error *err)
{
    const unsigned type = form == FRAME_HEADED ? VERSION : PASS_THROUGH;
    size_t length, there;
    enum frame_kind kind;

    if (input.size < FRAME_LENGTH_SIZE)
        return FRAME_PARTIAL;
    length = (size_t)read_number(input.data, FRAME_LENGTH_SIZE);
    there = input.size - FRAME_LENGTH_SIZE;
    frame->size = FRAME_LENGTH_SIZE + length;
    if (length == 0)
        return FRAME_TICK;
    if (length > max_bytes) {
        error_set(err, ERR_TOO_LARGE, "frame of %zu bytes, limit %zu", length,
                  max_bytes);
        return FRAME_MALFORMED;
    }
    frame->body = slice_make(input.data + FRAME_LENGTH_SIZE, length);
    if (there > 0 && (unsigned char)frame->body.data[0] != type) {
        error_set(err, ERR_INVALID_REQUEST, "frame of type %u, not %u",
                  (unsigned char)frame->body.data[0], type);
        return FRAME_MALFORMED;
    }
    if (there < length)
        return FRAME_PARTIAL;
    kind = form == FRAME_HEADED ? open_headed(frame) : open_pass_through(frame);
    if (kind == FRAME_MALFORMED)
        error_set(err, ERR_INVALID_REQUEST, "frame with a malformed header");
    return kind;
}

size_t frame_begin(struct buf *out, enum frame_form form)
{
    static const char length[FRAME_LENGTH_SIZE];
    size_t start = out->size;

    buf_append(out, length, sizeof(length));
    if (form == FRAME_HEADED)
        buf_append(out, header, sizeof(header));
    else
        buf_append(out, pass_through, sizeof(pass_through));
    return start;
}

bool frame_end(struct buf *out, size_t start)
{
    size_t length = out->size - start - FRAME_LENGTH_SIZE;

    if (out->failed || length > UINT32_MAX) {
        out->size = start;
        out->failed = false;
        return false;
    }
    write_number(out->data + start, length, FRAME_LENGTH_SIZE);
    return true;
}

struct slice frame_content(struct slice frame)
{
    skip(&frame, HEADED_SIZE);
    return frame;
}

void frame_put_part(struct buf *out, enum frame_part place, uint64_t sequence,
                    uint64_t left, struct slice part)
{
    char head[FRAME_LENGTH_SIZE + 2 + 8 + 8 + 1] = {0};
    size_t size = sizeof(head) - (place == FRAME_PART_LATER);

    write_number(head, size - FRAME_LENGTH_SIZE + part.size, FRAME_LENGTH_SIZE);
    head[4] = (char)VERSION;
    head[5] = place == FRAME_PART_FIRST ? FIRST_FRAGMENT : FRAGMENT;
    write_number(head + 6, sequence, 8);
    write_number(head + 14, left, 8);
    buf_append(out, head, size);
    buf_append_slice(out, part);
}

void frame_put_tick(struct buf *out)
{
    static const char tick[FRAME_LENGTH_SIZE];

    buf_append(out, tick, sizeof(tick));
}
