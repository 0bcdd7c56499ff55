/* Memory that cannot fail: the only place that calls malloc.
 *
 * Sizes that strangers choose are checked against a limit before they come
 * here; when an accepted size cannot be had the process aborts with one line
 * on stderr and its supervisor starts it again. */
#ifndef LLM_ROUTER_BASE_MEM_H
#define LLM_ROUTER_BASE_MEM_H

#include <stddef.h>

/* Zeroed; never NULL. Free with mem_free. */
void *mem_alloc(size_t size);

/* New bytes are not zeroed; never NULL for size > 0. */
void *mem_realloc(void *old, size_t size);

/* NULL is allowed. */
void mem_free(void *memory);

/* What was freed goes back to the system. By itself malloc keeps all that lies
 * below a block that is in use. Takes some 60 us for each MiB, while which
 * nobody gets any; does nothing where the C library cannot. */
void mem_trim(void);

/* malloc, calloc and strdup by the same rule, for libraries that take an
 * allocator: what they do without memory is not always sound (libcurl 7.88
 * divides by zero, libuv aborts without a word). */
void *mem_alloc_raw(size_t size);
void *mem_alloc_many(size_t count, size_t size);
char *mem_copy_string(const char *text);

/* OpenSSL by the same rule: what fails while it sets itself up has failed for
 * ever. To be called before anything uses it. */
void mem_serve_openssl(void);

/* A NUL-terminated heap copy of `size` bytes. */
char *mem_copy_text(const char *data, size_t size);

#endif
