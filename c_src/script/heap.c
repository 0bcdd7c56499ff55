#include "llm_router/base/mem.h"
#include "script/script_internal.h"

static bool is_refused(const struct script_heap *heap, void *block, size_t size)
{
    return heap->refused && heap->refused_block == block &&
           heap->refused_size == size;
}

static void *refuse(struct script_heap *heap, void *block, size_t size)
{
    if (heap->refused)
        heap->exhausted = true;
    heap->refused = true;
    heap->refused_block = block;
    heap->refused_size = size;
    return NULL;
}

void *script_heap_resize(void *context, void *block, size_t old, size_t size)
{
    struct script_heap *heap = context;

    if (!block)
        old = 0; /* Lua says there what the memory is for */
    if (size == 0) {
        heap->used -= old;
        mem_free(block);
        return NULL;
    }
    if (size > old) {
        if (size - old > heap->max - heap->used)
            return refuse(heap, block, size);
        if (heap->refused && !is_refused(heap, block, size))
            heap->exhausted = true;
        heap->refused = false;
    }
    heap->used = heap->used - old + size;
    return mem_realloc(block, size);
}

bool script_heap_is_exhausted(const struct script_heap *heap)
{
    return heap->exhausted || heap->refused;
}
