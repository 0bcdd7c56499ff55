#include "llm_router/dist/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "llm_router/base/mem.h"
#include "llm_router/dist/control.h"

enum {
    READ_SIZE = 64 * 1024,
    KEEP_OUT = 32 * 1024, /* of an out buffer's memory, between turns */
    /* What the system takes before its peer reads it: with more, a small frame
     * would wait behind the fragments in there. */
    NOT_SENT_MAX = 256 * 1024,
    KEEPALIVE_S = 60,
    TICK_PARTS = 4,          /* ticks and checks per tick time, as OTP does */
    TICK_ANSWER_GAP_MS = 50, /* or two that answer ticks never end */
    SILENCE_MS = 500,        /* of a peer that is greeted with TLS */
    MESSAGES_ROOM = 4,       /* largest messages put together at once, */
    MESSAGES_SHARE = 2,      /* and of one connection */
    STALL_GRACE_MS = 1000,
    BACKLOG_LOW_PART = 4, /* of the high mark */
};

void connection_group_init(struct connection_group *group)
{
    list_init(&group->half_open);
    list_init(&group->others);
    group->scratch = mem_alloc(READ_SIZE);
    group->room = (struct assembly_room){
        .max_message_bytes = group->max_frame_bytes,
        .max_bytes = group->max_frame_bytes * MESSAGES_ROOM,
        .max_connection_bytes = group->max_frame_bytes * MESSAGES_SHARE,
    };
    buf_init(&group->opened, SIZE_MAX);
    buf_init(&group->unsealed, SIZE_MAX);
}

void connection_group_release(struct connection_group *group)
{
    mem_free(group->scratch);
    buf_release(&group->opened);
    buf_release(&group->unsealed);
}

struct slice connection_peer(const struct connection *connection)
{
    return handshake_peer(&connection->handshake);
}

uint64_t connection_flags(const struct connection *connection)
{
    return HANDSHAKE_FLAGS & connection->handshake.peer_flags;
}

/* Of what left the outbox. */
static size_t being_written(const struct connection *connection)
{
    return connection->out.size + connection->writing.size -
           connection->written;
}

size_t connection_backlog(const struct connection *connection)
{
    return outbox_size(&connection->outbox) + being_written(connection);
}

bool connection_drained(const struct connection *connection)
{
    return connection_backlog(connection) == 0;
}

bool connection_group_expects(const struct connection_group *group,
                              struct slice peer)
{
    LIST_EACH(link, &group->half_open)
    {
        const struct connection *connection =
            LIST_ENTRY(link, struct connection, link);

        if (slice_equal(connection_peer(connection), peer))
            return true;
    }
    return false;
}

static void leave_half_open(struct connection *connection)
{
    if (connection->accepted && connection->state == CONNECTION_HANDSHAKE)
        connection->group->half_open_count--;
    list_remove(&connection->link);
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    struct connection_group *group = connection->group;
    struct handles *handles = group->handles;

    group->events->closed(group->context, connection);
    tls_free(connection->tls);
    assembly_release(&connection->pieces);
    outbox_release(&connection->outbox);
    buf_release(&connection->in);
    buf_release(&connection->out);
    buf_release(&connection->writing);
    mem_free(connection);
    handles_closed(handles);
}

static uv_stream_t *stream_of(struct connection *connection)
{
    return (uv_stream_t *)&connection->tcp;
}

/* The next piece of output. A failed TLS has sealed nothing and says so when
 * it reads. */
static void fill(struct connection *connection)
{
    struct buf *unsealed = &connection->group->unsealed;

    if (!connection->tls) {
        outbox_take(&connection->outbox, &connection->out);
    } else if (tls_established(connection->tls)) {
        outbox_take(&connection->outbox, unsealed);
        tls_send(connection->tls, buf_slice(unsealed), &connection->out);
        buf_shrink(unsealed, KEEP_OUT);
    }
}

/* One system call; what the socket does not take stays in `out`. */
static ssize_t write_now(struct connection *connection)
{
    uv_buf_t data = {.base = connection->out.data, .len = connection->out.size};
    ssize_t size;

    if (connection->out.size == 0)
        return 0;
    size = uv_try_write(stream_of(connection), &data, 1);
    if (size > 0) {
        connection->group->bytes_out += (uint64_t)size;
        connection->written_at_ms = loop_now_ms(connection->group->loop);
    }
    return size == UV_EAGAIN ? 0 : size;
}

void connection_end(struct connection *connection)
{
    uv_os_fd_t fd;

    if (connection->state != CONNECTION_UP)
        return;
    connection->state = CONNECTION_ENDING;
    loop_timer_stop(&connection->timer);
    if (connection->tls)
        tls_close(connection->tls, &connection->out);
    write_now(connection);
    if (uv_fileno((uv_handle_t *)&connection->tcp, &fd) == 0)
        shutdown(fd, SHUT_WR);
}

void connection_close(struct connection *connection, const char *reason)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    leave_half_open(connection);
    if (connection->state != CONNECTION_DIALLING &&
        connection->state != CONNECTION_ENDING &&
        connection->writing.size == 0) {
        if (connection->out.size == 0)
            fill(connection);
        if (connection->tls)
            tls_close(connection->tls, &connection->out);
        write_now(connection);
    }
    connection->state = CONNECTION_CLOSED;
    snprintf(connection->reason, sizeof(connection->reason), "%s", reason);
    loop_timer_stop(&connection->timer);
    loop_task_cancel(&connection->flush);
    loop_task_cancel(&connection->resume);
    uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

static void flush(void *context);

static void flush_later(struct connection *connection)
{
    if (connection->writing.size == 0)
        loop_defer(connection->group->loop, &connection->flush, flush,
                   connection);
}

static void tell_drained(struct connection *connection)
{
    struct connection_group *group = connection->group;

    if (!connection->over || connection_backlog(connection) >
                                 group->backlog_high_bytes / BACKLOG_LOW_PART)
        return;
    connection->over = false;
    group->events->drained(group->context, connection);
}

static void on_written(uv_write_t *write, int status)
{
    struct connection *connection = write->data;

    if (connection->state == CONNECTION_CLOSED)
        return;
    if (status < 0) {
        connection_close(connection, uv_strerror(status));
        return;
    }
    connection->group->bytes_out +=
        connection->writing.size - connection->written;
    connection->written_at_ms = loop_now_ms(connection->group->loop);
    buf_shrink(&connection->writing, 0);
    connection->written = 0;
    if (!connection_drained(connection))
        flush_later(connection);
    tell_drained(connection);
}

/* Hands `out` but for what is written of it to libuv; `out` begins anew. */
static void write_rest(struct connection *connection, size_t written)
{
    uv_buf_t rest;
    int status;

    connection->writing = connection->out;
    connection->written = written;
    buf_init(&connection->out, SIZE_MAX);
    rest = (uv_buf_t){.base = connection->writing.data + written,
                      .len = connection->writing.size - written};
    connection->write.data = connection;
    status = uv_write(&connection->write, stream_of(connection), &rest, 1,
                      on_written);
    if (status < 0)
        connection_close(connection, uv_strerror(status));
}

/* Most of the time the socket takes all at once. More fragments of a large
 * frame go with the next turn. */
static void flush(void *context)
{
    struct connection *connection = context;
    ssize_t size;

    if (connection->out.size == 0)
        fill(connection);
    size = write_now(connection);
    if (size < 0) {
        connection_close(connection, uv_strerror((int)size));
        return;
    }
    loop_expect_more(connection->group->loop);
    if ((size_t)size == connection->out.size) {
        buf_shrink(&connection->out, KEEP_OUT);
        fill(connection);
        size = 0;
    }
    if (connection->out.size > 0)
        write_rest(connection, (size_t)size);
    tell_drained(connection);
}

static size_t max_waiting(const struct connection *connection)
{
    size_t held = being_written(connection);
    size_t max = connection->group->max_queue_bytes;

    return held < max ? max - held : 0;
}

size_t connection_room(const struct connection *connection)
{
    size_t waiting = outbox_size(&connection->outbox);
    size_t max = max_waiting(connection);

    return waiting < max ? max - waiting : 0;
}

struct buf *connection_send_begin(struct connection *connection)
{
    if (connection->state != CONNECTION_UP)
        return NULL;
    return outbox_begin(&connection->outbox, max_waiting(connection));
}

bool connection_send_end(struct connection *connection, uint64_t receiver)
{
    connection->group->frames_out++;
    if (!outbox_end(&connection->outbox, receiver)) {
        connection_close(connection, "reads too slowly: the queue is full");
        return false;
    }
    if (connection_backlog(connection) > connection->group->backlog_high_bytes)
        connection->over = true;
    flush_later(connection);
    return true;
}

/* Ticks. */

static void send_tick(struct connection *connection)
{
    if (!connection_drained(connection))
        return;
    outbox_put_tick(&connection->outbox);
    flush_later(connection);
}

static uint64_t tick_interval(const struct connection *connection)
{
    return connection->group->tick_time_ms / TICK_PARTS;
}

/* A peer that is silent inside a frame is given half the time. When this
 * program itself was stopped for long, all peers look silent: what they sent
 * meanwhile is read before a second look. */
static void on_tick_due(void *context)
{
    struct connection *connection = context;
    struct loop *loop = connection->group->loop;
    uint64_t now = loop_now_ms(loop);
    uint64_t limit = connection->group->tick_time_ms;
    uint64_t silence = now - connection->read_at_ms;

    if (silence >= (connection->in.size > 0 ? limit / 2 : limit)) {
        if (connection->silent) {
            connection_close(connection, connection->in.size > 0
                                             ? "silent inside a frame"
                                             : "silent for the tick time");
            return;
        }
        connection->silent = true;
        loop_timer_start(loop, &connection->timer, STALL_GRACE_MS, on_tick_due,
                         connection);
        return;
    }
    if (now - connection->written_at_ms >= tick_interval(connection))
        send_tick(connection);
    assembly_expire(&connection->pieces, now > limit ? now - limit : 0);
    loop_timer_start(loop, &connection->timer, tick_interval(connection),
                     on_tick_due, connection);
}

static void on_tick(struct connection *connection)
{
    uint64_t now = loop_now_ms(connection->group->loop);

    if (now - connection->written_at_ms >= TICK_ANSWER_GAP_MS)
        send_tick(connection);
}

/* Reading. Both takers return how much they used; 0: more is needed. */

static void go_up(struct connection *connection)
{
    struct connection_group *group = connection->group;

    leave_half_open(connection);
    list_append(&group->others, &connection->link);
    connection->state = CONNECTION_UP;
    connection->form = control_form(connection_flags(connection));
    connection->outbox.form = connection->form;
    loop_timer_start(group->loop, &connection->timer, tick_interval(connection),
                     on_tick_due, connection);
    group->events->up(group->context, connection);
}

static void answer(struct connection *connection)
{
    struct connection_group *group = connection->group;
    enum handshake_status status =
        group->events->named(group->context, connection);

    handshake_answer(&connection->handshake, status,
                     &connection->outbox.frames);
    if (status == HANDSHAKE_NOK) {
        connection->yielded = true;
        connection_close(connection, "our own call to it wins");
    } else if (status == HANDSHAKE_NOT_ALLOWED)
        connection_close(connection, "not allowed");
}

static size_t take_handshake(struct connection *connection, struct slice input)
{
    struct error err;
    size_t used;

    switch (handshake_next(&connection->handshake, input, &used,
                           &connection->outbox.frames, &err)) {
    case HANDSHAKE_MORE:
        break;
    case HANDSHAKE_ASKED:
        answer(connection);
        break;
    case HANDSHAKE_YIELDED:
        connection->yielded = true;
        connection_close(connection, "its own call to us wins");
        break;
    case HANDSHAKE_DONE:
        go_up(connection);
        break;
    case HANDSHAKE_FAILED:
        connection_close(connection, err.message);
        break;
    }
    if (connection->state != CONNECTION_CLOSED)
        flush_later(connection);
    return used;
}

static void take_fragment(struct connection *connection, enum frame_kind kind,
                          const struct frame *frame)
{
    struct connection_group *group = connection->group;
    struct slice body;
    struct error err;

    switch (assembly_add(&connection->pieces, kind, frame,
                         loop_now_ms(group->loop), &body, &err)) {
    case ASSEMBLY_MORE:
        return;
    case ASSEMBLY_WHOLE:
        group->frames_in++;
        group->events->frame(group->context, connection, body);
        break;
    case ASSEMBLY_REFUSED:
        group->events->refused(group->context, connection, body, &err);
        break;
    case ASSEMBLY_MALFORMED:
        connection_close(connection, err.message);
        break;
    }
    assembly_done(&connection->pieces);
}

static size_t take_frame(struct connection *connection, struct slice input)
{
    struct connection_group *group = connection->group;
    struct frame frame;
    struct error err;
    enum frame_kind kind = frame_next(input, connection->form,
                                      group->max_frame_bytes, &frame, &err);

    switch (kind) {
    case FRAME_PARTIAL:
        return 0;
    case FRAME_TICK:
        on_tick(connection);
        break;
    case FRAME_SIGNAL:
        group->frames_in++;
        group->events->frame(group->context, connection, frame.body);
        break;
    case FRAME_FIRST:
    case FRAME_FRAGMENT:
        take_fragment(connection, kind, &frame);
        break;
    case FRAME_MALFORMED:
        connection_close(connection, err.message);
        return 0;
    }
    return frame.size;
}

static size_t take_all(struct connection *connection, struct slice input)
{
    size_t total = 0, used;

    do {
        struct slice rest = {input.data + total, input.size - total};

        used = connection->state == CONNECTION_UP
                   ? take_frame(connection, rest)
                   : take_handshake(connection, rest);
        total += used;
    } while (used > 0 && total < input.size &&
             connection->state != CONNECTION_CLOSED);
    return total;
}

/* Reads that begin with a frame land in the group's scratch and are taken from
 * there, so that an idle connection holds no buffer. Only a frame that is not
 * whole moves into `in`, which grows with what really arrives. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct connection *connection = handle->data;
    struct buf *in = &connection->in;
    size_t size = in->size > READ_SIZE ? in->size : READ_SIZE;

    (void)suggested;
    if (in->size == 0 || connection->tls) {
        *room = uv_buf_init(connection->group->scratch, READ_SIZE);
        return;
    }
    if (size > in->max - in->size)
        size = in->max - in->size;
    buf_reserve(in, size);
    *room = (uv_buf_t){.base = in->data + in->size, .len = size};
}

/* Whole frames are taken from where they are, the rest is kept. */
static void take_outside(struct connection *connection, struct slice input)
{
    size_t used = take_all(connection, input);

    if (connection->state != CONNECTION_CLOSED)
        buf_append(&connection->in, input.data + used, input.size - used);
}

static void take_inside(struct connection *connection)
{
    struct buf *in = &connection->in;
    size_t used = take_all(connection, buf_slice(in));

    if (used == in->size)
        buf_shrink(in, 0);
    else
        buf_drop_front(in, used);
}

static void take_sealed(struct connection *connection, struct slice sealed)
{
    struct buf *opened =
        connection->in.size > 0 ? &connection->in : &connection->group->opened;
    struct error err;
    enum tls_outcome outcome =
        tls_receive(connection->tls, sealed, opened, &connection->out, &err);

    if (opened == &connection->in)
        take_inside(connection);
    else
        take_outside(connection, buf_slice(opened));
    buf_shrink(&connection->group->opened, KEEP_OUT);
    if (outcome == TLS_FAILED)
        connection_close(connection, err.message);
    else if (outcome == TLS_CLOSED)
        connection_close(connection, CONNECTION_CLOSED_BY_PEER);
    else if (connection->state != CONNECTION_CLOSED &&
             !connection_drained(connection))
        flush_later(connection);
}

static void take_read(struct connection *connection, struct slice read)
{
    if (connection->tls) {
        take_sealed(connection, read);
    } else if (connection->in.size == 0) {
        take_outside(connection, read);
    } else {
        connection->in.size += read.size;
        take_inside(connection);
    }
}

static void resume_reading(void *context);

/* libuv would read on while there is something: a burst of 10,000 calls became
 * one turn of 350 ms. A full buffer is enough for one turn; the next goes on
 * reading, so that the peer notices nothing. */
static void pause_reading(struct connection *connection)
{
    uv_read_stop(stream_of(connection));
    loop_defer(connection->group->loop, &connection->resume, resume_reading,
               connection);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *room)
{
    struct connection *connection = stream->data;

    if (size < 0) {
        connection_close(connection, size == UV_EOF ? CONNECTION_CLOSED_BY_PEER
                                                    : uv_strerror((int)size));
        return;
    }
    if (size == 0)
        return;
    connection->group->bytes_in += (uint64_t)size;
    if (connection->state == CONNECTION_ENDING)
        return;
    connection->read_at_ms = loop_now_ms(connection->group->loop);
    connection->silent = false;
    take_read(connection, slice_make(room->base, (size_t)size));
    if ((size_t)size == room->len && connection->state != CONNECTION_CLOSED)
        pause_reading(connection);
}

static void resume_reading(void *context)
{
    struct connection *connection = context;
    int status = uv_read_start(stream_of(connection), on_alloc, on_read);

    if (status != 0)
        connection_close(connection, uv_strerror(status));
}

/* Opening. */

static void on_handshake_late(void *context)
{
    connection_close(context, "the handshake took too long");
}

static struct connection *connection_new(struct connection_group *group)
{
    struct connection *connection = mem_alloc(sizeof(*connection));

    connection->group = group;
    buf_init(&connection->in, group->max_frame_bytes + FRAME_LENGTH_SIZE +
                                  READ_SIZE + 2 * TLS_RECORD_MAX);
    buf_init(&connection->out, SIZE_MAX);
    outbox_init(&connection->outbox, FRAME_PASS_THROUGH);
    assembly_init(&connection->pieces, &group->room, group->seed);
    connection->read_at_ms = connection->written_at_ms =
        loop_now_ms(group->loop);
    handles_opened(group->handles);
    uv_tcp_init(&group->loop->uv, &connection->tcp);
    connection->tcp.data = connection;
    loop_timer_start(group->loop, &connection->timer,
                     group->handshake_timeout_ms, on_handshake_late,
                     connection);
    return connection;
}

static void start_reading(struct connection *connection)
{
    const int not_sent_max = NOT_SENT_MAX;
    uv_os_fd_t fd;

    uv_tcp_nodelay(&connection->tcp, 1);
    uv_tcp_keepalive(&connection->tcp, 1, KEEPALIVE_S);
    if (uv_fileno((uv_handle_t *)&connection->tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &not_sent_max,
                   sizeof(not_sent_max));
    resume_reading(connection);
}

static bool make_challenge(uint32_t *challenge)
{
    return getrandom(challenge, sizeof(*challenge), 0) == sizeof(*challenge);
}

static void note_address(struct connection *connection)
{
    struct sockaddr_storage address;
    int size = sizeof(address);

    if (uv_tcp_getpeername(&connection->tcp, (struct sockaddr *)&address,
                           &size) != 0)
        return;
    if (address.ss_family == AF_INET6)
        uv_ip6_name((struct sockaddr_in6 *)&address, connection->address,
                    sizeof(connection->address));
    else if (address.ss_family == AF_INET)
        uv_ip4_name((struct sockaddr_in *)&address, connection->address,
                    sizeof(connection->address));
}

void connection_accept(struct connection_group *group, int fd)
{
    struct connection *connection;
    uint32_t challenge;
    int status;

    if (group->half_open_count >= group->max_handshakes &&
        group->half_open_count > 0)
        connection_close(
            LIST_ENTRY(group->half_open.next, struct connection, link),
            "too many handshakes under way");
    connection = connection_new(group);
    connection->accepted = true;
    connection->state = CONNECTION_HANDSHAKE;
    list_append(&group->half_open, &connection->link);
    group->half_open_count++;
    status = uv_tcp_open(&connection->tcp, fd);
    if (status != 0) {
        close(fd);
        connection_close(connection, uv_strerror(status));
        return;
    }
    note_address(connection);
    if (!make_challenge(&challenge)) {
        connection_close(connection, "no randomness");
        return;
    }
    if (group->tls)
        connection->tls = tls_accept(group->tls);
    handshake_accept(&connection->handshake, &group->self, challenge);
    start_reading(connection);
}

static void on_silent(void *context)
{
    struct connection *connection = context;
    struct connection_group *group = connection->group;
    uint64_t left = group->handshake_timeout_ms > SILENCE_MS
                        ? group->handshake_timeout_ms - SILENCE_MS
                        : 0;

    loop_timer_start(group->loop, &connection->timer, left, on_handshake_late,
                     connection);
    if (connection->silent)
        group->events->silent(group->context, connection);
}

/* A node without TLS does not answer the greeting, but waits for the rest of a
 * packet as long as its length seems to say. */
static void greet(struct connection *connection)
{
    struct connection_group *group = connection->group;
    struct slice name = connection_peer(connection);
    ptrdiff_t at = slice_find(name, SLICE_LITERAL("@"));

    connection->tls = tls_dial(
        group->tls, slice_make(name.data + at + 1, name.size - (size_t)at - 1));
    connection->silent = true;
    loop_timer_start(group->loop, &connection->timer, SILENCE_MS, on_silent,
                     connection);
    take_sealed(connection, slice_of(NULL));
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct connection *connection = connect->data;
    struct connection_group *group = connection->group;
    const struct handshake dialled = connection->handshake;
    uint32_t challenge;

    if (connection->state == CONNECTION_CLOSED)
        return;
    if (status != 0 || !make_challenge(&challenge)) {
        connection_close(connection,
                         status ? uv_strerror(status) : "no randomness");
        return;
    }
    if (!group->events->dialled(group->context, connection)) {
        connection->yielded = true;
        connection_close(connection, "its own call to us is under way");
        return;
    }
    connection->state = CONNECTION_HANDSHAKE;
    handshake_dial(&connection->handshake, &group->self, challenge,
                   handshake_peer(&dialled), &connection->outbox.frames);
    if (group->tls)
        greet(connection);
    flush_later(connection);
    start_reading(connection);
}

struct connection *connection_dial(struct connection_group *group,
                                   const struct sockaddr *address,
                                   struct slice peer, void *owner)
{
    struct connection *connection = connection_new(group);
    int status;

    list_append(&group->others, &connection->link);
    connection->owner = owner;
    memcpy(connection->handshake.peer, peer.data, peer.size);
    connection->handshake.peer_size = peer.size;
    connection->connect.data = connection;
    status = uv_tcp_connect(&connection->connect, &connection->tcp, address,
                            on_connected);
    if (status != 0)
        connection_close(connection, uv_strerror(status));
    return connection;
}
