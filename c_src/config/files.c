#include "llm_router/config/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static mode_t forbidden_mode(const char *path)
{
    struct slice directory = slice_of(getenv("CREDENTIALS_DIRECTORY"));

    return directory.size > 0 &&
                   !strncmp(path, directory.data, directory.size) &&
                   path[directory.size] == '/'
               ? 07
               : 077;
}

static bool check_kind(const struct stat *status, const char *path,
                       size_t max_bytes, enum file_privacy privacy,
                       struct error *err)
{
    if (!S_ISREG(status->st_mode))
        return error_at(err, ERR_INVALID_REQUEST, path, "is not a file");
    if (status->st_size > (off_t)max_bytes)
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "is larger than %zu bytes", max_bytes);
    if (privacy == FILE_OWNER_ONLY &&
        (status->st_mode & forbidden_mode(path)) != 0)
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "must be accessible by its owner only (mode %03o)",
                        (unsigned)status->st_mode & 0777u);
    return true;
}

static bool read_all(int fd, char *out, size_t size, size_t *got)
{
    *got = 0;
    while (*got < size) {
        ssize_t n = read(fd, out + *got, size - *got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            return true;
        *got += (size_t)n;
    }
    return true;
}

static bool read_open(struct arena *arena, int fd, const char *path,
                      size_t max_bytes, enum file_privacy privacy,
                      struct slice *text, struct error *err)
{
    struct stat status;
    size_t size, got;
    char *out;

    if (fstat(fd, &status) != 0)
        return error_at(err, ERR_INVALID_REQUEST, path, "%s", strerror(errno));
    if (!check_kind(&status, path, max_bytes, privacy, err))
        return false;
    size = (size_t)status.st_size;
    out = arena_bytes(arena, size + 1);
    if (!read_all(fd, out, size, &got))
        return error_at(err, ERR_INVALID_REQUEST, path, "%s", strerror(errno));
    out[got] = '\0';
    *text = slice_make(out, got);
    return true;
}

bool file_read(struct arena *arena, const char *path, size_t max_bytes,
               enum file_privacy privacy, struct slice *text, struct error *err)
{
    /* O_NONBLOCK: a FIFO in the file's place must not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok;

    if (fd < 0)
        return error_at(err, ERR_INVALID_REQUEST, path, "cannot be read: %s",
                        strerror(errno));
    ok = read_open(arena, fd, path, max_bytes, privacy, text, err);
    close(fd);
    return ok;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}
