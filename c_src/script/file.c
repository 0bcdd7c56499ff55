#include "llm_router/script/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* O_NONBLOCK: a FIFO in the file's place must not hang the worker. */
enum { READING = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

/* Room for a folder, a slash, a path and a NUL. */
enum { JOINED_SIZE = 2 * SCRIPT_PATH_MAX + 2 };

static bool has_parent_component(struct slice path)
{
    while (path.size > 0) {
        const char *slash = memchr(path.data, '/', path.size);
        size_t size = slash ? (size_t)(slash - path.data) : path.size;

        if (slice_is(slice_make(path.data, size), ".."))
            return true;
        if (!slash)
            return false;
        path = slice_make(slash + 1, path.size - size - 1);
    }
    return false;
}

static bool check_path(struct slice path, struct script_fault *fault)
{
    static const char SUFFIX[] = ".lua";
    const size_t suffix = sizeof(SUFFIX) - 1;

    if (path.size == 0)
        return script_fail(fault, "the path of the script is empty");
    if (path.size > SCRIPT_PATH_MAX)
        return script_fail(fault,
                           "the path of the script is longer than %d "
                           "bytes",
                           SCRIPT_PATH_MAX);
    if (memchr(path.data, '\0', path.size))
        return script_fail(fault, "the path of the script has a NUL in it");
    if (has_parent_component(path))
        return script_fail(fault, "%.*s: \"..\" is not allowed in the path",
                           SLICE_ARG(path));
    if (path.size <= suffix ||
        memcmp(path.data + path.size - suffix, SUFFIX, suffix) != 0)
        return script_fail(fault, "%.*s: the name of a script ends in %s",
                           SLICE_ARG(path), SUFFIX);
    return true;
}

static struct slice without_slashes(struct slice folder)
{
    while (folder.size > 1 && folder.data[folder.size - 1] == '/')
        folder.size--;
    return folder;
}

/* The part of `path` below the folder; false when it is not below it. */
static bool cut_folder(struct slice folder, struct slice *path)
{
    if (path->size <= folder.size ||
        memcmp(path->data, folder.data, folder.size) != 0 ||
        path->data[folder.size] != '/')
        return false;
    *path = slice_make(path->data + folder.size, path->size - folder.size);
    while (path->size > 0 && path->data[0] == '/')
        *path = slice_make(path->data + 1, path->size - 1);
    return true;
}

/* Where there is no openat2: the real path is compared, and opened when it is
 * below the real folder. Between the two somebody who may write there can put a
 * link in the place of a folder. */
static int open_resolved(const char *folder, const char *path)
{
    char joined[JOINED_SIZE], root[PATH_MAX], target[PATH_MAX];
    struct slice below;

    snprintf(joined, sizeof(joined), "%s/%s", folder, path);
    if (!realpath(folder, root) || !realpath(joined, target))
        return -1;
    below = slice_of(target);
    if (!cut_folder(slice_of(root), &below)) {
        errno = EXDEV;
        return -1;
    }
    return open(target, READING | O_NOFOLLOW);
}

/* EPERM: a filter of system calls that is older than openat2. */
static int open_below(const char *folder, const char *path)
{
    const struct open_how how = {
        .flags = READING,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    int root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd;

    if (root < 0)
        return -1;
    fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = open_resolved(folder, path);
    close(root);
    return fd;
}

static int open_in(struct slice folder, struct slice path)
{
    char root[SCRIPT_PATH_MAX + 1], name[SCRIPT_PATH_MAX + 1];

    folder = without_slashes(folder);
    if (folder.size > SCRIPT_PATH_MAX ||
        (path.data[0] == '/' && !cut_folder(folder, &path))) {
        errno = ENOENT;
        return -1;
    }
    snprintf(root, sizeof(root), "%.*s", SLICE_ARG(folder));
    snprintf(name, sizeof(name), "%.*s", SLICE_ARG(path));
    return open_below(root, name);
}

static bool fail_open(struct slice path, struct script_fault *fault)
{
    if (errno == ENOENT || errno == ENOTDIR)
        return script_fail(fault, "%.*s: there is no such script",
                           SLICE_ARG(path));
    if (errno == EXDEV)
        return script_fail(fault, "%.*s: leads out of the folder of scripts",
                           SLICE_ARG(path));
    return script_fail(fault, "%.*s: cannot be read: %s", SLICE_ARG(path),
                       strerror(errno));
}

static bool look_at(struct script_file *file, struct slice path,
                    struct script_fault *fault)
{
    if (fstat(file->fd, &file->status) != 0)
        return fail_open(path, fault);
    if (!S_ISREG(file->status.st_mode))
        return script_fail(fault, "%.*s: is not a file", SLICE_ARG(path));
    if (file->status.st_size > SCRIPT_FILE_MAX)
        return script_fail(fault, "%.*s: is larger than %d bytes",
                           SLICE_ARG(path), SCRIPT_FILE_MAX);
    return true;
}

bool script_file_open(const struct script_folders *folders, struct slice path,
                      struct script_file *file, struct script_fault *fault)
{
    if (!check_path(path, fault))
        return false;
    if (folders->count == 0)
        return script_fail(fault, "there is no folder of scripts");
    file->fd = -1;
    for (size_t i = 0; i < folders->count && file->fd < 0; i++) {
        file->fd = open_in(folders->paths[i], path);
        if (file->fd < 0 && errno != ENOENT && errno != ENOTDIR)
            break;
    }
    if (file->fd < 0)
        return fail_open(path, fault);
    if (look_at(file, path, fault))
        return true;
    script_file_close(file);
    return false;
}

void script_file_close(struct script_file *file)
{
    close(file->fd);
    file->fd = -1;
}

bool script_file_read(const struct script_file *file, struct slice path,
                      struct buf *text, struct script_fault *fault)
{
    size_t total = 0;
    ssize_t got;

    do {
        if (!buf_reserve(text, SCRIPT_FILE_MAX + 1 - total))
            return script_fail(fault, "%.*s: too large", SLICE_ARG(path));
        got = read(file->fd, text->data + text->size,
                   SCRIPT_FILE_MAX + 1 - total);
        if (got < 0 && errno != EINTR)
            return fail_open(path, fault);
        if (got > 0) {
            text->size += (size_t)got;
            total += (size_t)got;
        }
        if (total > SCRIPT_FILE_MAX) /* it grew since it was opened */
            return script_fail(fault, "%.*s: is larger than %d bytes",
                               SLICE_ARG(path), SCRIPT_FILE_MAX);
    } while (got != 0);
    return true;
}
