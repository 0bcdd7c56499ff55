#include "http_internal.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"

enum { RETRY_MS = 100 }; /* what the kernel refused */

/* Interest in a socket is applied once, at the end of the turn: curl changes
 * its mind several times while it works. And a socket that curl keeps in its
 * pool stays watched for reading, so that its next transfer costs no system
 * call; it is let go when the server closes it or curl does. */
struct socket {
    struct list link; /* in http->changed */
    struct http *http;
    struct lane *lane;
    curl_socket_t descriptor;
    uint32_t wanted;  /* EPOLLIN, EPOLLOUT; 0: in curl's pool, or paused */
    uint32_t watched; /* what the set was told; 0: not in it */
    bool opened;      /* by socket_open: its end is told by socket_close */
};

static struct socket *find_socket(struct http *http, curl_socket_t descriptor)
{
    size_t slot = (size_t)descriptor;

    return slot < http->socket_slots ? http->sockets[slot] : NULL;
}

static void make_slot(struct http *http, size_t slot)
{
    size_t slots = http->socket_slots > 0 ? http->socket_slots : 64;

    while (slots <= slot)
        slots *= 2;
    if (slots == http->socket_slots)
        return;
    http->sockets = mem_realloc(http->sockets, slots * sizeof(struct socket *));
    memset(http->sockets + http->socket_slots, 0,
           (slots - http->socket_slots) * sizeof(struct socket *));
    http->socket_slots = slots;
}

/* Before the descriptor is closed; closing takes it out of the set. */
static void forget_socket(struct socket *socket)
{
    if (socket->opened) {
        socket->http->connections--;
        socket->lane->connections--;
    }
    list_remove(&socket->link);
    socket->http->sockets[socket->descriptor] = NULL;
    mem_free(socket);
}

static struct socket *add_socket(struct lane *lane, curl_socket_t descriptor)
{
    struct http *http = lane->http;
    struct socket *old = find_socket(http, descriptor);
    struct socket *socket = mem_alloc(sizeof(*socket));

    /* libcurl 7.88 closes some sockets that were still connecting by itself,
     * without a word; the kernel gives their number out again. */
    if (old)
        forget_socket(old);
    list_init(&socket->link);
    socket->http = http;
    socket->lane = lane;
    socket->descriptor = descriptor;
    make_slot(http, (size_t)descriptor);
    http->sockets[descriptor] = socket;
    return socket;
}

curl_socket_t socket_open(void *context, curlsocktype purpose,
                          struct curl_sockaddr *address)
{
    struct transfer *transfer = context;
    struct http *http = transfer->http;
    int descriptor = socket(address->family, address->socktype | SOCK_CLOEXEC,
                            address->protocol);
    struct socket *opened;

    (void)purpose;
    if (descriptor < 0) {
        transfer->socket_errno = errno;
        return CURL_SOCKET_BAD;
    }
    opened = add_socket(transfer->lane, descriptor);
    opened->opened = true;
    transfer->lane->connections++;
    http->connections++;
    http->stats.connections_opened++;
    return descriptor;
}

int socket_close(void *context, curl_socket_t descriptor)
{
    struct socket *socket = find_socket(context, descriptor);

    if (socket)
        forget_socket(socket);
    return close(descriptor);
}

static void end_transfer(CURL *easy, CURLcode result)
{
    struct transfer *transfer = NULL;

    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
    if (transfer->cancelled)
        return; /* buried at the end of the turn */
    if (!pause_hold_end(transfer, result))
        transfer_conclude(transfer, result);
}

static void act(struct lane *lane, curl_socket_t descriptor, int events)
{
    CURLMsg *message;
    int count;

    lane->http->in_callback = true;
    curl_multi_socket_action(lane->multi, descriptor, events, &count);
    lane->http->in_callback = false;
    while ((message = curl_multi_info_read(lane->multi, &count)))
        if (message->msg == CURLMSG_DONE)
            end_transfer(message->easy_handle, message->data.result);
}

static bool watch(struct socket *socket, uint32_t events)
{
    struct epoll_event event = {.events = events,
                                .data.fd = socket->descriptor};
    int action = events == 0            ? EPOLL_CTL_DEL
                 : socket->watched == 0 ? EPOLL_CTL_ADD
                                        : EPOLL_CTL_MOD;

    if (epoll_ctl(socket->http->set, action, socket->descriptor, &event) != 0)
        return false;
    socket->watched = events;
    return true;
}

static void change_later(struct socket *socket)
{
    if (!list_is_empty(&socket->link))
        return;
    list_append(&socket->http->changed, &socket->link);
    http_wake(socket->http);
}

static void on_ready(struct socket *socket, uint32_t events)
{
    int bits = (events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

    if (socket->wanted == 0) {
        /* The server closed it, or its transfer is paused. curl looks when it
         * needs it; until then the event would come again and again. */
        watch(socket, 0);
        return;
    }
    if (socket->watched != socket->wanted)
        change_later(socket);
    act(socket->lane, socket->descriptor, bits);
}

/* Some of what is ready: the rest is still ready in the next turn, and others
 * get theirs in between. */
void sockets_ready(uv_poll_t *poll, int status, int unused)
{
    struct http *http = poll->data;
    struct epoll_event ready[READY_PER_TURN];
    int count = epoll_wait(http->set, ready, READY_PER_TURN, 0);

    (void)status;
    (void)unused;
    for (int i = 0; i < count; i++) {
        struct socket *socket = find_socket(http, ready[i].data.fd);

        if (socket)
            on_ready(socket, ready[i].events);
    }
}

static int on_interest(CURL *easy, curl_socket_t descriptor, int what,
                       void *context, void *unused)
{
    struct lane *lane = context;
    struct socket *socket = find_socket(lane->http, descriptor);

    (void)easy;
    (void)unused;
    if (what == CURL_POLL_REMOVE && (!socket || !socket->opened)) {
        /* The pipe of a resolver thread: curl closes it next. */
        if (socket)
            forget_socket(socket);
        return 0;
    }
    if (!socket)
        socket = add_socket(lane, descriptor);
    socket->wanted = what == CURL_POLL_REMOVE
                         ? 0
                         : (what & CURL_POLL_IN ? EPOLLIN : 0) |
                               (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    change_later(socket);
    return 0;
}

/* The kernel may have no memory, or no watch left for this user: it is asked
 * again, and meanwhile a transfer that is not heard of has its own limits.
 * Anything else means that curl closed the socket without a word. */
static void on_refused(struct socket *socket, struct list *refused)
{
    if (errno != ENOMEM && errno != ENOSPC) {
        forget_socket(socket);
        return;
    }
    if (!socket->http->deaf)
        log_event(LOG_WARN, "http", "the kernel watches no more sockets",
                  LOG_FIELDS(log_text("reason", slice_of(strerror(errno)))));
    socket->http->deaf = true;
    list_append(refused, &socket->link);
}

void sockets_apply(struct http *http)
{
    struct list refused;

    list_init(&refused);
    while (!list_is_empty(&http->changed)) {
        struct socket *socket =
            LIST_ENTRY(http->changed.next, struct socket, link);
        uint32_t events = socket->wanted;

        list_remove(&socket->link);
        if (events == 0 && socket->watched != 0)
            events = EPOLLIN;
        if (events != socket->watched && !watch(socket, events))
            on_refused(socket, &refused);
    }
    http->deaf = !list_is_empty(&refused);
    if (!http->deaf)
        return;
    list_move(&http->changed, &refused);
    http_wake_after(http, RETRY_MS);
}

void sockets_release(struct http *http)
{
    for (size_t i = 0; i < http->socket_slots; i++)
        if (http->sockets[i])
            forget_socket(http->sockets[i]);
    mem_free(http->sockets);
}

static void on_lane_due(void *context);

static void arm(struct lane *lane)
{
    uint64_t now = loop_now_ms(lane->http->loop);

    if (!loop_timer_running(&lane->timer) || lane->due_ms < lane->timer.due_ms)
        loop_timer_start(lane->http->loop, &lane->timer,
                         lane->due_ms > now ? lane->due_ms - now : 0,
                         on_lane_due, lane);
}

/* A timer that curl gave up or moved back is left running and looks again. */
static void on_lane_due(void *context)
{
    struct lane *lane = context;

    if (lane->due_ms == UINT64_MAX)
        return;
    if (loop_now_ms(lane->http->loop) < lane->due_ms) {
        arm(lane);
        return;
    }
    lane->due_ms = UINT64_MAX;
    act(lane, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout(CURLM *multi, long delay_ms, void *context)
{
    struct lane *lane = context;

    (void)multi;
    if (delay_ms < 0) {
        lane->due_ms = UINT64_MAX;
        list_remove(&lane->due);
        return 0;
    }
    lane->due_ms = loop_now_ms(lane->http->loop) + (uint64_t)delay_ms;
    /* "At once" is this turn's last pass; said during that pass it is the
     * next turn, so that a turn always ends. */
    if (delay_ms == 0 && !lane->http->in_last_pass) {
        list_remove(&lane->due);
        list_append(&lane->http->due, &lane->due);
        http_wake(lane->http);
    } else {
        arm(lane);
    }
    return 0;
}

void lanes_run_due(struct http *http)
{
    while (!list_is_empty(&http->due)) {
        struct lane *lane = LIST_ENTRY(http->due.next, struct lane, due);

        list_remove(&lane->due);
        lane->due_ms = UINT64_MAX;
        act(lane, CURL_SOCKET_TIMEOUT, 0);
    }
}

static bool lane_open(struct lane *lane, struct http *http)
{
    size_t most = http->options.max_connections_per_host;

    if (lane->multi)
        return true;
    lane->multi = curl_multi_init();
    if (!lane->multi)
        return false;
    lane->http = http;
    list_init(&lane->due);
    lane->due_ms = UINT64_MAX;
    curl_multi_setopt(lane->multi, CURLMOPT_SOCKETFUNCTION, on_interest);
    curl_multi_setopt(lane->multi, CURLMOPT_SOCKETDATA, lane);
    curl_multi_setopt(lane->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl_multi_setopt(lane->multi, CURLMOPT_TIMERDATA, lane);
    curl_multi_setopt(lane->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
                      (long)(most / http->lane_count));
    return true;
}

static struct lane *choose_lane(struct http *http, enum lane_kind kind)
{
    struct lane *emptiest = &http->lanes[kind][0];

    for (size_t i = 0; i < http->lane_count; i++) {
        struct lane *lane = &http->lanes[kind][i];

        if (lane->in_flight < LANE_FULL)
            return lane;
        if (lane->in_flight < emptiest->in_flight)
            emptiest = lane;
    }
    return emptiest;
}

/* curl's own limit counts the busy connections too, and is not shared by the
 * lanes: each may keep what is busy in it and what the others leave of the
 * idle ones. */
static void limit_connections(struct lane *lane)
{
    const struct http *http = lane->http;
    size_t others = http->connections - lane->connections;
    size_t busy = http->transfers.count > lane->in_flight
                      ? http->transfers.count - lane->in_flight
                      : 0;
    size_t idle = others > busy ? others - busy : 0;
    size_t most = lane->in_flight;

    if (http->options.max_idle_connections > idle)
        most += http->options.max_idle_connections - idle;
    /* 0 would be no limit at all. */
    curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS,
                      (long)(most > 0 ? most : 1));
}

bool lane_add(struct http *http, struct transfer *transfer)
{
    struct lane *lane = choose_lane(
        http, transfer->request.pausable ? LANE_PAUSABLE : LANE_SHARED);

    if (!lane_open(lane, http))
        return false;
    transfer->easy = easy_take(transfer);
    if (!transfer->easy)
        return false;
    transfer->lane = lane;
    lane->in_flight++;
    limit_connections(lane);
    /* curl says by on_timeout that it wants to be called at once. */
    if (curl_multi_add_handle(lane->multi, transfer->easy) != CURLM_OK) {
        lane_remove(transfer);
        return false;
    }
    return true;
}

void lane_remove(struct transfer *transfer)
{
    struct lane *lane = transfer->lane;

    curl_multi_remove_handle(lane->multi, transfer->easy);
    easy_give_back(transfer->http, transfer->easy);
    transfer->easy = NULL;
    transfer->lane = NULL;
    lane->in_flight--;
    lane->left_ms = loop_now_ms(lane->http->loop);
    limit_connections(lane);
}

void lane_release(struct lane *lane)
{
    if (!lane->multi)
        return;
    curl_multi_cleanup(lane->multi);
    loop_timer_stop(&lane->timer);
    list_remove(&lane->due);
    lane->multi = NULL;
}
