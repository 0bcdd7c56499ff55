#include "llm_router/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "llm_router/base/mem.h"

enum { SMALLEST = 256 };

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max};
}

void buf_release(struct buf *buf)
{
    mem_free(buf->data);
    *buf = (struct buf){.max = buf->max};
}

bool buf_reserve(struct buf *buf, size_t extra)
{
    size_t wanted, capacity;

    if (buf->failed || buf->size > buf->max || extra > buf->max - buf->size) {
        buf->failed = true;
        return false;
    }
    wanted = buf->size + extra;
    if (wanted <= buf->capacity)
        return true;
    capacity = buf->capacity > 0 ? buf->capacity : SMALLEST;
    while (capacity < wanted)
        capacity = capacity > buf->max / 2 ? buf->max : capacity * 2;
    if (capacity > buf->max)
        capacity = buf->max;
    buf->data = mem_realloc(buf->data, capacity);
    buf->capacity = capacity;
    return true;
}

/* Most appends need no more than this look. */
static inline bool has_room(const struct buf *buf, size_t extra)
{
    /* The maximum may have been lowered since it grew. */
    size_t end = buf->capacity < buf->max ? buf->capacity : buf->max;

    return buf->size <= end && extra <= end - buf->size && !buf->failed;
}

void buf_append(struct buf *buf, const void *data, size_t size)
{
    if (size == 0 || (!has_room(buf, size) && !buf_reserve(buf, size)))
        return;
    memcpy(buf->data + buf->size, data, size);
    buf->size += size;
}

void buf_append_slice(struct buf *buf, struct slice text)
{
    buf_append(buf, text.data, text.size);
}

void buf_append_text(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_append_byte(struct buf *buf, char byte)
{
    if (has_room(buf, 1) || buf_reserve(buf, 1))
        buf->data[buf->size++] = byte;
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (size < 0 || !buf_reserve(buf, (size_t)size + 1))
        return;
    va_start(arguments, format);
    vsnprintf(buf->data + buf->size, (size_t)size + 1, format, arguments);
    va_end(arguments);
    buf->size += (size_t)size;
}

void buf_drop_front(struct buf *buf, size_t count)
{
    if (count == 0)
        return;
    buf->size -= count;
    memmove(buf->data, buf->data + count, buf->size);
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
}

void buf_shrink(struct buf *buf, size_t keep)
{
    buf_clear(buf);
    if (buf->capacity <= keep)
        return;
    if (keep == 0) {
        buf_release(buf);
        return;
    }
    buf->data = mem_realloc(buf->data, keep);
    buf->capacity = keep;
}
