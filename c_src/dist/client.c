#include "llm_router/dist/client.h"

#include "dist/node_internal.h"
#include "llm_router/base/mem.h"
#include "llm_router/term/writer.h"

enum {
    ASKER_NUMBER = 1, /* of the one process that we are */
    MAX_DEPTH = 64,   /* of an answer */
    QUEUE_BYTES = 1024 * 1024,
    HANDSHAKE_MS = 7000, /* as OTP; a question's own time is often shorter */
    TICK_TIME_MS = 60000,
};

struct client {
    struct loop *loop;
    struct client_options options;
    const struct client_events *events;
    void *context;
    struct identity self;
    struct term_limits limits;
    struct buf own_pid; /* raw */
    struct buf process; /* raw: an atom */

    struct handles handles;
    struct connection_group group;
    struct epmd_lookup *lookup;
    struct connection *connection; /* on its way, or up; NULL: none */
    bool silent;                   /* in TLS */

    uint64_t last_reference;
    bool asking;
    struct buf request; /* raw */
    struct loop_timer deadline;
};

static const struct slice atom_noproc = SLICE_LITERAL("w\6noproc");
static const struct slice atom_notsup = SLICE_LITERAL("w\6notsup");

/* A connection that is no longer ours says nothing when it closes. */
static void disconnect(struct client *client, const char *reason)
{
    struct connection *connection = client->connection;

    client->connection = NULL;
    if (client->lookup)
        epmd_lookup_cancel(client->lookup);
    client->lookup = NULL;
    if (connection)
        connection_close(connection, reason);
}

static void end_question(struct client *client)
{
    client->asking = false;
    loop_timer_stop(&client->deadline);
}

static void fail(struct client *client, const struct error *err)
{
    if (!client->asking)
        return;
    end_question(client);
    client->events->failed(client->context, err);
}

static void give_up(struct client *client, enum error_code code,
                    const char *why)
{
    struct error err;

    disconnect(client, why);
    error_set(&err, code, "%s", why);
    fail(client, &err);
}

/* What a question that took too long was waiting for. */
static const char *stage(const struct client *client)
{
    if (client->lookup)
        return "looking up its host and port takes too long";
    if (client->connection->state == CONNECTION_DIALLING)
        return "it takes no connection";
    if (client->connection->state == CONNECTION_UP)
        return "connected, but it does not answer";
    return client->silent ? "it does not answer in TLS: is it a node without?"
                          : "it does not shake hands";
}

static void on_deadline(void *context)
{
    struct client *client = context;

    give_up(client, ERR_TIMEOUT, stage(client));
}

/* Asking. */

/* As gen_server:call/2 of a node that has no aliases: the process is monitored
 * by the reference that is the tag of the answer. */
static void put_question(struct client *client, struct slice reference)
{
    struct slice self = buf_slice(&client->own_pid);
    struct buf *out = connection_send_begin(client->connection);

    if (!out)
        return;
    control_put_send_name(out, self, slice_of(client->options.process));
    control_put_payload(out, connection_flags(client->connection));
    term_put_tuple(out, 3);
    term_put_atom(out, "$gen_call");
    term_put_tuple(out, 2);
    term_put_raw(out, self);
    term_put_raw(out, reference);
    term_put_raw(out, buf_slice(&client->request));
    connection_send_end(client->connection, OUTBOX_ANY_ORDER);
}

static void put_monitor(struct client *client, struct slice reference,
                        void (*put)(struct buf *out, struct slice from,
                                    struct slice to, struct slice reference))
{
    struct buf *out = connection_send_begin(client->connection);

    if (!out)
        return;
    put(out, buf_slice(&client->own_pid), buf_slice(&client->process),
        reference);
    connection_send_end(client->connection, OUTBOX_ANY_ORDER);
}

static void send_question(struct client *client)
{
    struct buf reference;

    buf_init(&reference, SIZE_MAX);
    reference_put(&reference, &client->self, ++client->last_reference);
    put_monitor(client, buf_slice(&reference), control_put_monitor);
    put_question(client, buf_slice(&reference));
    buf_release(&reference);
}

static bool is_open_question(const struct client *client, struct term reference)
{
    return client->asking &&
           reference_number(&client->self, reference) == client->last_reference;
}

/* Signals of the peer. */

static void on_message(struct client *client, const struct control *control)
{
    struct term reference;
    struct error err;

    if (pid_number(&client->self, control->to) != ASKER_NUMBER)
        return;
    if (!term_check(control->payload, &client->limits, &err)) {
        give_up(client, err.code, err.message);
        return;
    }
    if (!term_tuple_of(term_from_raw(control->payload), 2, &reference) ||
        !is_open_question(client, reference))
        return;
    put_monitor(client, term_raw(reference), control_put_demonitor);
    end_question(client);
    client->events->answered(client->context, term_next(reference));
}

static void on_monitor_exit(struct client *client,
                            const struct control *control)
{
    struct term reason;
    struct error err;

    if (!is_open_question(client, control->reference))
        return;
    if (control_reason(control, &client->limits, &reason) &&
        term_is_atom(reason, "noproc"))
        error_set(&err, ERR_NO_ROUTE,
                  "no process %s runs there: is it a "
                  "router?",
                  client->options.process);
    else
        error_set(&err, ERR_UNREACHABLE, "the process %s ended",
                  client->options.process);
    fail(client, &err);
}

/* Nobody over there may wait for something that never comes. */

static void refuse_spawn(struct client *client, const struct control *control)
{
    struct buf *out = connection_send_begin(client->connection);

    if (!out)
        return;
    control_put_spawn_reply(out, term_raw(control->reference),
                            term_raw(control->from), 0, atom_notsup);
    connection_send_end(client->connection, OUTBOX_ANY_ORDER);
}

static void refuse_monitor(struct client *client, const struct control *control)
{
    struct buf *out = connection_send_begin(client->connection);

    if (!out)
        return;
    control_put_monitor_exit(out, connection_flags(client->connection),
                             term_raw(control->to), term_raw(control->from),
                             term_raw(control->reference));
    term_put_raw(out, atom_noproc);
    connection_send_end(client->connection, OUTBOX_ANY_ORDER);
}

static void on_signal(struct client *client, const struct control *control)
{
    switch (control->kind) {
    case CONTROL_SEND:
        on_message(client, control);
        break;
    case CONTROL_MONITOR_EXIT:
        on_monitor_exit(client, control);
        break;
    case CONTROL_SPAWN:
        refuse_spawn(client, control);
        break;
    case CONTROL_MONITOR:
        refuse_monitor(client, control);
        break;
    case CONTROL_SEND_NAME:
    case CONTROL_SEND_ALIAS:
    case CONTROL_LINK:
    case CONTROL_UNLINK:
    case CONTROL_EXIT:
    case CONTROL_EXIT2:
    case CONTROL_DEMONITOR:
    case CONTROL_IGNORED:
        break;
    }
}

/* Events of the connection. Those of one that was given up come late. */

static bool on_dialled(void *context, struct connection *connection)
{
    (void)context;
    (void)connection;
    return true;
}

static void on_silent(void *context, struct connection *connection)
{
    struct client *client = context;

    client->silent = connection == client->connection;
}

static void on_up(void *context, struct connection *connection)
{
    struct client *client = context;

    if (connection == client->connection && client->asking)
        send_question(client);
}

static void on_frame(void *context, struct connection *connection,
                     struct slice body)
{
    struct client *client = context;
    struct control control;
    struct error err;

    if (connection != client->connection)
        return;
    if (control_decode(body, control_form(connection_flags(connection)),
                       &client->limits, &control, &err))
        on_signal(client, &control);
    else
        give_up(client, ERR_UNREACHABLE, err.message);
}

static void on_refused(void *context, struct connection *connection,
                       struct slice body, const struct error *why)
{
    struct client *client = context;

    (void)body;
    if (connection == client->connection)
        give_up(client, why->code, why->message);
}

/* Who does not like our answer to its challenge closes without a word, and so
 * does who cannot read the first of it. */
static void on_closed(void *context, struct connection *connection)
{
    struct client *client = context;

    if (connection != client->connection)
        return;
    if (connection->handshake.state == HANDSHAKE_WAIT_ACK)
        give_up(client, ERR_UNAUTHORIZED, "it refuses our cookie");
    else if (connection->handshake.state != HANDSHAKE_OVER &&
             strcmp(connection->reason, CONNECTION_CLOSED_BY_PEER) == 0)
        give_up(client, ERR_UNREACHABLE,
                "it closes before we shake hands: is TLS (--tls-dist) on one"
                " side only?");
    else
        give_up(client, ERR_UNREACHABLE, connection->reason);
}

static const struct connection_events connection_events = {
    .dialled = on_dialled,
    .silent = on_silent,
    .up = on_up,
    .frame = on_frame,
    .refused = on_refused,
    .closed = on_closed,
};

/* Connecting. */

static void on_found(void *context, const struct sockaddr *address,
                     const struct error *err)
{
    struct client *client = context;

    client->lookup = NULL;
    if (address)
        client->connection = connection_dial(
            &client->group, address, slice_of(client->options.peer), client);
    else
        fail(client, err);
}

void client_ask(struct client *client, struct slice request,
                uint64_t timeout_ms)
{
    client->asking = true;
    client->silent = false;
    buf_clear(&client->request);
    buf_append_slice(&client->request, request);
    loop_timer_start(client->loop, &client->deadline, timeout_ms, on_deadline,
                     client);
    if (client->connection)
        send_question(client);
    else
        client->lookup = epmd_lookup_new(client->loop, &client->handles,
                                         slice_of(client->options.peer),
                                         timeout_ms, on_found, client);
}

/* Life and death. */

struct client *client_new(struct loop *loop,
                          const struct client_options *options,
                          const struct client_events *events, void *context)
{
    struct client *client = mem_alloc(sizeof(*client));

    client->loop = loop;
    client->options = *options;
    client->events = events;
    client->context = context;
    client->self = (struct identity){
        .name = slice_of(options->name),
        .creation = (uint32_t)node_random() | 1,
    };
    client->limits = (struct term_limits){options->max_answer_bytes, MAX_DEPTH};
    client->group = (struct connection_group){
        .loop = loop,
        .handles = &client->handles,
        .events = &connection_events,
        .context = client,
        .self = {.identity = &client->self,
                 .cookie = options->cookie,
                 .length_size = options->tls ? 4 : 2},
        .tls = options->tls,
        .seed = node_random(),
        .max_frame_bytes = options->max_answer_bytes,
        .max_queue_bytes = QUEUE_BYTES,
        .backlog_high_bytes = SIZE_MAX,
        .handshake_timeout_ms = HANDSHAKE_MS,
        .tick_time_ms = TICK_TIME_MS,
    };
    connection_group_init(&client->group);
    buf_init(&client->own_pid, SIZE_MAX);
    buf_init(&client->process, SIZE_MAX);
    buf_init(&client->request, QUEUE_BYTES);
    pid_put(&client->own_pid, &client->self, ASKER_NUMBER);
    term_put_atom(&client->process, options->process);
    return client;
}

static void destroy(void *context)
{
    struct client *client = context;

    connection_group_release(&client->group);
    buf_release(&client->own_pid);
    buf_release(&client->process);
    buf_release(&client->request);
    mem_free(client);
}

void client_free(struct client *client)
{
    if (!client)
        return;
    end_question(client);
    client->handles.on_none = destroy;
    client->handles.context = client;
    disconnect(client, "done");
    if (client->handles.open == 0)
        destroy(client);
}
