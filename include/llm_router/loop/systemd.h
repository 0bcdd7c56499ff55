/* What a service manager is told of this process: sd_notify(3), which is a
 * datagram to the socket that $NOTIFY_SOCKET names. That page recommends to
 * write it anew rather than to need libsystemd for it.
 *
 * Never blocks. What the socket has no room for is sent a little later, unless
 * there is newer to tell by then. With WatchdogSec= the manager hears from the
 * loop twice in that time: a loop that hangs is what it watches for. */
#ifndef LLM_ROUTER_LOOP_SYSTEMD_H
#define LLM_ROUTER_LOOP_SYSTEMD_H

#include <sys/un.h>

#include "llm_router/loop/loop.h"

enum { SYSTEMD_MESSAGE_MAX = 1024 };

enum systemd_state {
    SYSTEMD_SILENT, /* there is none to tell */
    SYSTEMD_STARTING,
    SYSTEMD_READY,
    SYSTEMD_RELOADING,
    SYSTEMD_STOPPING,
};

/* Zero-initialised memory is silent: so is one that was never started. */
struct systemd {
    enum systemd_state state;
    struct loop *loop;
    int fd;
    struct sockaddr_un address;
    socklen_t address_size;
    uint64_t watchdog_ms; /* between two signs of life; 0: none are wanted */
    struct loop_timer watchdog;
    struct loop_timer again;
    char unsent[SYSTEMD_MESSAGE_MAX]; /* while `again` runs */
};

/* Takes the variables of the protocol out of the environment, so that no child
 * speaks for us; before any thread is started. The loop must outlive it. */
void systemd_start(struct systemd *systemd, struct loop *loop);
void systemd_stop(struct systemd *systemd);

/* `status` is for people, a line of any text; it is cut where a message must
 * end. What makes no sense now is not told: a reload that began before the
 * process was ready, or whose end comes while it stops. */
void systemd_ready(struct systemd *systemd, const char *status);
void systemd_reloading(struct systemd *systemd);
void systemd_reloaded(struct systemd *systemd, const char *status);

/* It will be gone within that time, which the manager should wait. */
void systemd_stopping(struct systemd *systemd, uint64_t within_ms,
                      const char *status);

#endif
