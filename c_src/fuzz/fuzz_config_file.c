/* A configuration file is read, or refused with its place; what was read is
 * printed, and what is printed reads back and prints the same. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Reads `text` as a configuration and prints it into `out`. */
static bool load(int fd, struct slice text, struct buf *out)
{
    static struct config config; /* large */
    struct error err;
    char file[64];
    bool ok;

    require(ftruncate(fd, 0) == 0);
    require(pwrite(fd, text.data, text.size, 0) == (ssize_t)text.size);
    snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
    config_init(&config);
    config.file = file;
    ok = config_load(&config, NULL, &err);
    if (ok)
        config_put(&config, out);
    else
        require(err.code == ERR_INVALID_REQUEST && err.path[0] != '\0' &&
                err.message[0] != '\0');
    config_release(&config);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf first, second;
    int fd = memfd_create("config", MFD_CLOEXEC);

    require(fd >= 0);
    log_set_level(LOG_ERROR);
    setenv("OPENAI_API_KEY", "sk-fuzz", 1);
    buf_init(&first, 16 << 20);
    buf_init(&second, 16 << 20);
    if (load(fd, slice_make(data, size), &first)) {
        require(load(fd, buf_slice(&first), &second));
        require(slice_equal(buf_slice(&first), buf_slice(&second)));
    }
    buf_release(&first);
    buf_release(&second);
    close(fd);
    return 0;
}
