/* Preloaded into the program under test: no read and no write on a stream
 * socket or a file moves more than SMALL_IO_BYTES bytes, as a kernel short of
 * buffers may have it, and closing a socket says EINTR after it has closed.
 *
 *     cc -shared -fPIC -o small_io.so small_io.c
 *     SMALL_IO_BYTES=1 LD_PRELOAD=./small_io.so llm_router ... */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static size_t most;

__attribute__((constructor)) static void read_most(void)
{
    const char *bytes = getenv("SMALL_IO_BYTES");

    if (!bytes || (most = strtoul(bytes, NULL, 10)) == 0)
        abort();
}

/* Datagrams, pipes and eventfds are whole or not at all. */
static int is_stream_socket(int fd)
{
    int type = 0;
    socklen_t size = sizeof(type);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
           type == SOCK_STREAM;
}

static int is_stream(int fd)
{
    struct stat status;

    return is_stream_socket(fd) ||
           (fstat(fd, &status) == 0 && S_ISREG(status.st_mode));
}

static size_t small(int fd, size_t size)
{
    return size > most && is_stream(fd) ? most : size;
}

/* The first part that has any bytes, made small. */
static struct iovec small_part(int fd, const struct iovec *parts, size_t count)
{
    struct iovec part = {NULL, 0};

    for (size_t i = 0; i < count && part.iov_len == 0; i++)
        part = parts[i];
    part.iov_len = small(fd, part.iov_len);
    return part;
}

ssize_t read(int fd, void *room, size_t size)
{
    return syscall(SYS_read, fd, room, small(fd, size));
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    return syscall(SYS_write, fd, bytes, small(fd, size));
}

ssize_t recv(int fd, void *room, size_t size, int flags)
{
    return syscall(SYS_recvfrom, fd, room, small(fd, size), flags, NULL, NULL);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    return syscall(SYS_sendto, fd, bytes, small(fd, size), flags, NULL, 0);
}

ssize_t readv(int fd, const struct iovec *parts, int count)
{
    struct iovec part = small_part(fd, parts, (size_t)count);

    if (!is_stream(fd))
        return syscall(SYS_readv, fd, parts, count);
    return syscall(SYS_readv, fd, &part, 1);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    struct iovec part = small_part(fd, parts, (size_t)count);

    if (!is_stream(fd))
        return syscall(SYS_writev, fd, parts, count);
    return syscall(SYS_writev, fd, &part, 1);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    struct iovec part = small_part(fd, message->msg_iov, message->msg_iovlen);
    struct msghdr copy = *message;
    ssize_t size;

    if (!is_stream(fd))
        return syscall(SYS_recvmsg, fd, message, flags);
    copy.msg_iov = &part;
    copy.msg_iovlen = 1;
    size = syscall(SYS_recvmsg, fd, &copy, flags);
    copy.msg_iov = message->msg_iov;
    copy.msg_iovlen = message->msg_iovlen;
    *message = copy;
    return size;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct iovec part = small_part(fd, message->msg_iov, message->msg_iovlen);
    struct msghdr copy = *message;

    if (!is_stream(fd))
        return syscall(SYS_sendmsg, fd, message, flags);
    copy.msg_iov = &part;
    copy.msg_iovlen = 1;
    return syscall(SYS_sendmsg, fd, &copy, flags);
}

int close(int fd)
{
    int stream = is_stream_socket(fd);

    if (syscall(SYS_close, fd) != 0)
        return -1;
    errno = EINTR;
    return stream ? -1 : 0;
}
