/* An arena: everything a request needs, freed at once.
 *
 * Allocation never returns NULL (see mem.h). Nothing is freed alone, except
 * that arena_mark/arena_rewind give back all that came after the mark, which
 * is how a retried step starts clean. The first block has `first_block` bytes,
 * each that follows half of what the arena has by then, up to 64 KiB; larger
 * pieces get a block of their own. */
#ifndef LLM_ROUTER_BASE_ARENA_H
#define LLM_ROUTER_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

#include "llm_router/base/buf.h"

struct arena_block;

struct arena {
    struct arena_block *newest;
    size_t first_block; /* bytes of it, without its header */
    size_t reserved;    /* bytes held in all blocks */
};

struct arena_mark {
    struct arena_block *block;
    size_t used;
};

/* first_block: 0 for the default of 1 KiB. Allocates nothing yet. */
void arena_init(struct arena *arena, size_t first_block);
void arena_release(struct arena *arena);

/* Zeroed, aligned for any type. */
void *arena_alloc(struct arena *arena, size_t size);

/* Room for `count` elements; aborts if the product overflows. */
void *arena_array(struct arena *arena, size_t count, size_t element_size);

/* Not zeroed and not aligned: for text. */
char *arena_bytes(struct arena *arena, size_t size);

struct slice arena_copy(struct arena *arena, struct slice text);

/* What the buffer holds, which is released: from ARENA_KEEPS bytes on memory is
 * taken over, not copied, and as aligned as it was. */
enum { ARENA_KEEPS = 64 * 1024 };
struct slice arena_keep(struct arena *arena, struct buf *buf);

/* NUL-terminated copy. */
char *arena_text(struct arena *arena, struct slice text);

/* Formatted, NUL-terminated (the NUL is not in the slice). */
struct slice arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

struct arena_mark arena_mark(const struct arena *arena);
void arena_rewind(struct arena *arena, struct arena_mark mark);

#endif
