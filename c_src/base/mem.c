#include "llm_router/base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out_of_memory(size_t size)
{
    fprintf(stderr, "level=error component=mem no memory for %zu bytes\n",
            size);
    abort();
}

void *mem_alloc(size_t size)
{
    void *memory = calloc(1, size ? size : 1);

    if (!memory)
        out_of_memory(size);
    return memory;
}

void *mem_realloc(void *old, size_t size)
{
    void *memory = realloc(old, size ? size : 1);

    if (!memory)
        out_of_memory(size);
    return memory;
}

void *mem_alloc_raw(size_t size)
{
    return mem_realloc(NULL, size);
}

void *mem_alloc_many(size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size)
        out_of_memory(SIZE_MAX);
    return mem_alloc(count * size);
}

char *mem_copy_string(const char *text)
{
    return mem_copy_text(text, strlen(text));
}

void mem_free(void *memory)
{
    free(memory);
}

char *mem_copy_text(const char *data, size_t size)
{
    char *copy = mem_alloc(size + 1);

    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}
