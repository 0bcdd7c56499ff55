/* A growing byte buffer with a maximum given at birth.
 *
 * Writers do not check each append: an append that would pass the maximum
 * sets `failed`, which stays set, and every later append does nothing. Check
 * once at the end. `data` may move with any append. */
#ifndef LLM_ROUTER_BASE_BUF_H
#define LLM_ROUTER_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "llm_router/base/slice.h"

struct buf {
    char *data;
    size_t size;
    size_t capacity;
    size_t max;
    bool failed;
};

void buf_init(struct buf *buf, size_t max);
void buf_release(struct buf *buf);

/* Makes room for `extra` bytes after `size`; false (and failed) if that is
 * over the maximum. The caller may write there and then add to `size`. */
bool buf_reserve(struct buf *buf, size_t extra);

void buf_append(struct buf *buf, const void *data, size_t size);
void buf_append_slice(struct buf *buf, struct slice text);
void buf_append_text(struct buf *buf, const char *text);
void buf_append_byte(struct buf *buf, char byte);
void buf_printf(struct buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Removes `count` (<= size) bytes from the front. */
void buf_drop_front(struct buf *buf, size_t count);

/* Empties it and clears `failed`; keeps the memory. */
void buf_clear(struct buf *buf);

/* Empties it and gives memory over `keep` bytes back. */
void buf_shrink(struct buf *buf, size_t keep);

/* Lends. */
static inline struct slice buf_slice(const struct buf *buf)
{
    return slice_make(buf->data, buf->size);
}

#endif
