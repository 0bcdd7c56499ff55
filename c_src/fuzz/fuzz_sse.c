/* The first two bytes choose the splits; however the rest is split, the events
 * are the same, and no event is longer than the maximum. */
#include <stdlib.h>

#include "llm_router/base/mem.h"
#include "llm_router/provider/sse.h"

enum { MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool note(void *context, const struct sse_event *event)
{
    struct buf *seen = context;

    require(event->data.size <= MAX);
    require(event->event.size <= MAX);
    require(!event->data.size ||
            !memchr(event->data.data, '\r', event->data.size));
    buf_append_byte(seen, '[');
    buf_append_slice(seen, event->event);
    buf_append_byte(seen, '|');
    buf_append_slice(seen, event->data);
    buf_append_byte(seen, ']');
    return !slice_is(event->data, "[DONE]");
}

/* Each piece in memory of its own, gone after its feed. */
static bool feed(struct slice text, size_t first, size_t step, struct buf *seen)
{
    struct sse_parser parser;
    bool ok = true;
    size_t at = 0;

    sse_init(&parser, MAX);
    while (at < text.size) {
        size_t piece = at == 0 && first > 0 ? first : step;
        char *copy;

        if (piece > text.size - at)
            piece = text.size - at;
        copy = mem_copy_text(text.data + at, piece);
        ok = sse_feed(&parser, slice_make(copy, piece), note, seen);
        mem_free(copy);
        at += piece;
    }
    sse_release(&parser);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole, split;
    struct slice text;
    bool whole_ok, split_ok;

    if (size < 2)
        return 0;
    text = slice_make(data + 2, size - 2);
    buf_init(&whole, 1 << 20);
    buf_init(&split, 1 << 20);
    whole_ok = feed(text, 0, text.size + 1, &whole);
    split_ok = feed(text, data[0], (size_t)data[1] + 1, &split);
    require(whole_ok == split_ok);
    require(slice_equal(buf_slice(&whole), buf_slice(&split)));
    buf_release(&whole);
    buf_release(&split);
    return 0;
}
