#include "llm_router/loop/systemd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/base/utf8.h"

enum { AGAIN_MS = 100, STATUS_MAX = 800 };

/* Of the address only two kinds make sense here; vsock is for whole virtual
 * machines. */
static bool set_address(struct systemd *systemd, const char *path)
{
    struct sockaddr_un *address = &systemd->address;
    size_t size = strlen(path);

    if ((path[0] != '/' && path[0] != '@') || path[1] == '\0' ||
        size >= sizeof(address->sun_path))
        return false;
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, size + 1);
    if (path[0] == '@')
        address->sun_path[0] = '\0'; /* a name of the abstract namespace */
    systemd->address_size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    return true;
}

static bool open_socket(struct systemd *systemd)
{
    const char *path = getenv("NOTIFY_SOCKET");

    if (!path || path[0] == '\0')
        return false;
    if (!set_address(systemd, path)) {
        log_line(LOG_WARN, "systemd", "NOTIFY_SOCKET is no socket's name");
        return false;
    }
    systemd->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (systemd->fd < 0)
        log_line(LOG_WARN, "systemd", "no socket: %s", strerror(errno));
    return systemd->fd >= 0;
}

/* False: it is worth another try. */
static bool send_now(struct systemd *systemd, const char *text)
{
    if (sendto(systemd->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
               (const struct sockaddr *)&systemd->address,
               systemd->address_size) >= 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)
        return false;
    log_line(LOG_WARN, "systemd", "cannot be told: %s", strerror(errno));
    return true;
}

static void send_unsent(void *context)
{
    struct systemd *systemd = context;

    if (!send_now(systemd, systemd->unsent))
        loop_timer_start(systemd->loop, &systemd->again, AGAIN_MS, send_unsent,
                         systemd);
}

/* Takes the place of what waits: that is no longer so. */
static void tell(struct systemd *systemd)
{
    loop_timer_stop(&systemd->again);
    send_unsent(systemd);
}

static void on_watchdog(void *context)
{
    struct systemd *systemd = context;
    uint64_t wait_ms = systemd->watchdog_ms;

    if (!send_now(systemd, "WATCHDOG=1") && wait_ms > AGAIN_MS)
        wait_ms = AGAIN_MS;
    loop_timer_start(systemd->loop, &systemd->watchdog, wait_ms, on_watchdog,
                     systemd);
}

static int64_t number_of(const char *variable)
{
    int64_t number;

    return slice_to_int64(slice_of(getenv(variable)), &number) ? number : 0;
}

static void start_watchdog(struct systemd *systemd)
{
    int64_t within_us = number_of("WATCHDOG_USEC");

    if (within_us <= 0 ||
        (getenv("WATCHDOG_PID") && number_of("WATCHDOG_PID") != getpid()))
        return;
    systemd->watchdog_ms = within_us < 4000 ? 1 : (uint64_t)within_us / 2000;
    on_watchdog(systemd);
}

void systemd_start(struct systemd *systemd, struct loop *loop)
{
    systemd->loop = loop;
    if (open_socket(systemd)) {
        systemd->state = SYSTEMD_STARTING;
        start_watchdog(systemd);
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void systemd_stop(struct systemd *systemd)
{
    if (systemd->state == SYSTEMD_SILENT)
        return;
    systemd->state = SYSTEMD_SILENT;
    loop_timer_stop(&systemd->watchdog);
    loop_timer_stop(&systemd->again);
    close(systemd->fd);
}

static bool move(struct systemd *systemd, enum systemd_state from,
                 enum systemd_state to)
{
    if (systemd->state != from)
        return false;
    systemd->state = to;
    return true;
}

/* A line of valid UTF-8: the manager drops any other. */
static const char *clean_status(char line[STATUS_MAX + 1], const char *status)
{
    struct slice rest = slice_of(status);
    size_t size = 0;

    while (rest.size > 0) {
        size_t step = utf8_char_size(rest);
        bool plain = step > 0 && (unsigned char)rest.data[0] >= ' ';

        if (!plain)
            step = 1;
        if (step > STATUS_MAX - size)
            break;
        memcpy(line + size, plain ? rest.data : "?", step);
        size += step;
        rest = slice_make(rest.data + step, rest.size - step);
    }
    line[size] = '\0';
    return line;
}

static void tell_ready(struct systemd *systemd, const char *status)
{
    char line[STATUS_MAX + 1];

    snprintf(systemd->unsent, sizeof(systemd->unsent), "READY=1\nSTATUS=%s",
             clean_status(line, status));
    tell(systemd);
}

void systemd_ready(struct systemd *systemd, const char *status)
{
    if (move(systemd, SYSTEMD_STARTING, SYSTEMD_READY))
        tell_ready(systemd, status);
}

void systemd_reloading(struct systemd *systemd)
{
    if (!move(systemd, SYSTEMD_READY, SYSTEMD_RELOADING))
        return;
    snprintf(systemd->unsent, sizeof(systemd->unsent),
             "RELOADING=1\nMONOTONIC_USEC=%" PRIu64
             "\nSTATUS=reading the configuration",
             loop_now_ns() / 1000);
    tell(systemd);
}

void systemd_reloaded(struct systemd *systemd, const char *status)
{
    if (move(systemd, SYSTEMD_RELOADING, SYSTEMD_READY))
        tell_ready(systemd, status);
}

void systemd_stopping(struct systemd *systemd, uint64_t within_ms,
                      const char *status)
{
    char line[STATUS_MAX + 1];

    if (systemd->state == SYSTEMD_SILENT || systemd->state == SYSTEMD_STOPPING)
        return;
    systemd->state = SYSTEMD_STOPPING;
    snprintf(systemd->unsent, sizeof(systemd->unsent),
             "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64 "\nSTATUS=%s",
             within_ms * 1000, clean_status(line, status));
    tell(systemd);
}
