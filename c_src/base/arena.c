#include "llm_router/base/arena.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

#include "llm_router/base/abort.h"
#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"

struct arena_block {
    struct arena_block *older;
    size_t size; /* of bytes */
    size_t used;
    char *kept; /* a buffer's memory, freed with the block; or NULL */
    size_t kept_size;
    alignas(max_align_t) char bytes[];
};

/* With its header the first block is 1 KiB: the largest that glibc's malloc
 * serves from its per-thread cache. */
enum {
    FIRST_BLOCK = 1024 - sizeof(struct arena_block),
    SMALLEST_BLOCK = FIRST_BLOCK / 4,
    LARGEST_BLOCK = 64 * 1024,
};

void arena_init(struct arena *arena, size_t first_block)
{
    *arena = (struct arena){
        .first_block = first_block > 0 ? first_block : FIRST_BLOCK,
    };
}

void arena_release(struct arena *arena)
{
    arena_rewind(arena, (struct arena_mark){NULL, 0});
}

/* Half of what the arena has, so that at most a third of it is unused. */
static size_t next_room(const struct arena *arena)
{
    size_t room = arena->reserved / 2;

    if (!arena->newest)
        return arena->first_block;
    if (room > LARGEST_BLOCK)
        return LARGEST_BLOCK;
    return room < SMALLEST_BLOCK ? SMALLEST_BLOCK : room;
}

static struct arena_block *add_block(struct arena *arena, size_t size)
{
    size_t room = next_room(arena);
    struct arena_block *block;

    if (size > room)
        room = size;
    block = mem_realloc(NULL, sizeof(*block) + room);
    *block = (struct arena_block){.older = arena->newest, .size = room};
    arena->newest = block;
    arena->reserved += sizeof(*block) + room;
    return block;
}

static char *take(struct arena *arena, size_t size, size_t alignment)
{
    struct arena_block *block = arena->newest;
    size_t start = 0;

    if (block)
        start = (block->used + alignment - 1) & ~(alignment - 1);
    if (!block || start > block->size || size > block->size - start) {
        block = add_block(arena, size);
        start = 0;
    }
    block->used = start + size;
    return block->bytes + start;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    void *memory = take(arena, size, alignof(max_align_t));

    memset(memory, 0, size);
    return memory;
}

void *arena_array(struct arena *arena, size_t count, size_t element_size)
{
    size_t size;

    if (__builtin_mul_overflow(count, element_size, &size)) {
        log_line(LOG_ERROR, "mem", "array of %zu overflows", count);
        abort_said();
    }
    return arena_alloc(arena, size);
}

char *arena_bytes(struct arena *arena, size_t size)
{
    return take(arena, size, 1);
}

struct slice arena_copy(struct arena *arena, struct slice text)
{
    char *copy = arena_bytes(arena, text.size);

    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    return slice_make(copy, text.size);
}

struct slice arena_keep(struct arena *arena, struct buf *buf)
{
    struct slice text = buf_slice(buf);
    struct arena_block *block;

    if (text.size < ARENA_KEEPS) {
        text = arena_copy(arena, text);
        buf_release(buf);
        return text;
    }
    block = mem_alloc(sizeof(*block));
    block->older = arena->newest;
    block->kept = buf->data;
    arena->newest = block;
    arena->reserved += sizeof(*block) + buf->capacity;
    block->kept_size = buf->capacity;
    *buf = (struct buf){.max = buf->max};
    return text;
}

char *arena_text(struct arena *arena, struct slice text)
{
    char *copy = arena_bytes(arena, text.size + 1);

    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    return copy;
}

/* What the newest block has left. */
static size_t room_left(const struct arena *arena)
{
    return arena->newest ? arena->newest->size - arena->newest->used : 0;
}

/* Into what is left, which mostly holds it; else once more into a new block. */
struct slice arena_printf(struct arena *arena, const char *format, ...)
{
    size_t room = room_left(arena);
    char *text = room > 0 ? arena->newest->bytes + arena->newest->used : NULL;
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(text, room, format, arguments);
    va_end(arguments);
    if (size < 0)
        return slice_of("");
    text = arena_bytes(arena, (size_t)size + 1);
    if ((size_t)size < room)
        return slice_make(text, (size_t)size);
    va_start(arguments, format);
    vsnprintf(text, (size_t)size + 1, format, arguments);
    va_end(arguments);
    return slice_make(text, (size_t)size);
}

struct arena_mark arena_mark(const struct arena *arena)
{
    return (struct arena_mark){
        .block = arena->newest,
        .used = arena->newest ? arena->newest->used : 0,
    };
}

void arena_rewind(struct arena *arena, struct arena_mark mark)
{
    while (arena->newest != mark.block) {
        struct arena_block *block = arena->newest;

        arena->newest = block->older;
        arena->reserved -= sizeof(*block) + block->size + block->kept_size;
        mem_free(block->kept);
        mem_free(block);
    }
    if (arena->newest)
        arena->newest->used = mark.used;
}
