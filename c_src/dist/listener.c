#include "llm_router/dist/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "llm_router/base/log.h"

enum {
    BACKLOG = 512,
    REST_MS = 200,    /* without descriptors */
    ACCEPTS_MAX = 64, /* at once, so that others get their turn */
};

/* Both families by one socket where the system has IPv6, else IPv4. */
static int open_socket(uint16_t port)
{
    const struct sockaddr_in6 any6 = {.sin6_family = AF_INET6,
                                      .sin6_port = htons(port)};
    const struct sockaddr_in any4 = {.sin_family = AF_INET,
                                     .sin_port = htons(port)};
    const int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    int no = 0, yes = 1;
    int fd = socket(AF_INET6, type, 0);

    if (fd >= 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)) == 0 &&
        bind(fd, (const struct sockaddr *)&any6, sizeof(any6)) == 0 &&
        listen(fd, BACKLOG) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    fd = socket(AF_INET, type, 0);
    if (fd >= 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
        bind(fd, (const struct sockaddr *)&any4, sizeof(any4)) == 0 &&
        listen(fd, BACKLOG) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool cannot_listen(struct listener *listener, const char *reason,
                          struct error *err)
{
    if (listener->fd >= 0)
        close(listener->fd);
    listener->fd = -1;
    return error_set(err, ERR_UNREACHABLE, "cannot listen at port %u: %s",
                     listener->port, reason);
}

bool listener_open(struct listener *listener, struct error *err)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    int status;

    listener->fd = open_socket(listener->port);
    if (listener->fd < 0 ||
        getsockname(listener->fd, (struct sockaddr *)&address, &size) != 0)
        return cannot_listen(listener, strerror(errno), err);
    status = uv_poll_init(&listener->loop->uv, &listener->poll, listener->fd);
    if (status != 0)
        return cannot_listen(listener, uv_strerror(status), err);
    /* The port is at the same place in both families. */
    listener->port = ntohs(((struct sockaddr_in *)&address)->sin_port);
    listener->poll.data = listener;
    handles_opened(listener->handles);
    return true;
}

static void on_rested(void *context)
{
    listener_start(context);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = poll->data;

    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_MAX && listener->fd >= 0; i++) {
        int fd =
            accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            listener->accepted(listener->context, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        log_event(LOG_WARN, "dist", "accepting rests",
                  LOG_FIELDS(log_integer("ms", REST_MS),
                             log_text("reason", slice_of(strerror(errno)))));
        uv_poll_stop(&listener->poll);
        loop_timer_start(listener->loop, &listener->rest, REST_MS, on_rested,
                         listener);
        return;
    }
}

void listener_start(struct listener *listener)
{
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
}

static void on_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;

    handles_closed(listener->handles);
}

void listener_close(struct listener *listener)
{
    if (listener->fd < 0)
        return;
    loop_timer_stop(&listener->rest);
    uv_poll_stop(&listener->poll);
    close(listener->fd);
    listener->fd = -1;
    uv_close((uv_handle_t *)&listener->poll, on_closed);
}
