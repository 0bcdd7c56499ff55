#include "llm_router/base/mem.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "llm_router/base/abort.h"
#include "llm_router/base/log.h"

static void out_of_memory(size_t size)
{
    log_event(LOG_ERROR, "mem", "no memory",
              LOG_FIELDS(log_count("bytes", size)));
    abort_said();
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

void mem_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

char *mem_copy_text(const char *data, size_t size)
{
    char *copy = mem_alloc(size + 1);

    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

static void *alloc_for_openssl(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return mem_alloc_raw(size);
}

static void *realloc_for_openssl(void *old, size_t size, const char *file,
                                 int line)
{
    (void)file;
    (void)line;
    return mem_realloc(old, size);
}

static void free_for_openssl(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    mem_free(memory);
}

void mem_serve_openssl(void)
{
    CRYPTO_set_mem_functions(alloc_for_openssl, realloc_for_openssl,
                             free_for_openssl);
}
