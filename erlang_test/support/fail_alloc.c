/* Preloaded into the program under test: makes one allocation fail, the n-th
 * after the test has armed it, or that one and some that follow it.
 *
 *     cc -shared -fPIC -o fail_alloc.so fail_alloc.c
 *     FAIL_ALLOC_CONTROL=FILE LD_PRELOAD=./fail_alloc.so llm_router ...
 *
 * FILE holds a struct control. It is mapped, so that the test needs no signal
 * to arm it and reads the count when the program is gone. Every allocation of
 * the process counts: ours, those of libuv, libcurl and OpenSSL, and those the
 * C library makes for itself (strdup, fopen, getaddrinfo). */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Written by the test as little-endian numbers of 64 bits, `armed` last; it may
 * be armed before the program starts. A file that ends early has zeros there.
 */
struct control {
    _Atomic uint64_t fail_at; /* which allocation fails, from 1; 0: none */
    _Atomic uint64_t count;   /* allocations since it was armed */
    _Atomic uint64_t armed;   /* 0: nothing is counted, nothing fails */
    _Atomic uint64_t more;    /* how many fail after that one */
};

/* glibc's own, under the names that nobody overrides. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static struct control *control;

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv("FAIL_ALLOC_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map;

    if (fd < 0)
        abort();
    map =
        mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        abort();
    control = map;
}

static int fails(void)
{
    uint64_t number, fail_at;

    if (!control || !control->armed)
        return 0;
    number = ++control->count;
    fail_at = control->fail_at;
    if (fail_at == 0 || number < fail_at || number - fail_at > control->more)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    *memory = memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}
