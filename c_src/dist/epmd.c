#include "llm_router/dist/epmd.h"

#include <stdio.h>
#include <stdlib.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"

enum {
    EPMD_PORT = 4369,
    ALIVE2_REQ = 120,
    ALIVE2_X_RESP = 118, /* creation of 32 bits */
    ALIVE2_RESP = 121,   /* of 16 */
    PORT_PLEASE2_REQ = 122,
    PORT2_RESP = 119,
    NODE_TYPE_HIDDEN = 72,
    VERSION = 6, /* of the handshake: OTP 23 and later */
    NAME_MAX_SIZE = 255,

    REPLY_TIMEOUT_MS = 5000,
    BACKOFF_FIRST_MS = 50,
    BACKOFF_MAX_MS = 1000,
    REFUSED_PAUSE_MS = 200,
    REFUSALS_MAX = 10,
};

/* One connection to an epmd: a request, then its reply. Frees itself when
 * libuv has closed it. */
struct epmd_exchange {
    struct handles *handles;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct loop_timer deadline;
    const char *fault; /* why it could not even begin */
    char request[32 + NAME_MAX_SIZE];
    size_t request_size;
    unsigned char reply[16];
    size_t reply_size;
    void (*replied)(void *context, const unsigned char *reply, size_t size);
    void (*ended)(void *context, const char *why);
    void *context;
};

static void on_exchange_closed(uv_handle_t *handle)
{
    struct epmd_exchange *exchange = handle->data;
    struct handles *handles = exchange->handles;

    mem_free(exchange);
    handles_closed(handles);
}

static void exchange_close(struct epmd_exchange *exchange)
{
    loop_timer_stop(&exchange->deadline);
    if (!uv_is_closing((uv_handle_t *)&exchange->tcp))
        uv_close((uv_handle_t *)&exchange->tcp, on_exchange_closed);
}

static void exchange_end(struct epmd_exchange *exchange, const char *why)
{
    exchange_close(exchange);
    exchange->ended(exchange->context, why);
}

static void on_deadline(void *context)
{
    struct epmd_exchange *exchange = context;

    exchange_end(exchange, exchange->fault ? exchange->fault : "no answer");
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct epmd_exchange *exchange = handle->data;
    size_t left = sizeof(exchange->reply) - exchange->reply_size;
    static char ignored[256]; /* what comes after the reply: the node's name */

    (void)suggested;
    *room = left > 0
                ? uv_buf_init((char *)exchange->reply + exchange->reply_size,
                              (unsigned)left)
                : uv_buf_init(ignored, sizeof(ignored));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *room)
{
    struct epmd_exchange *exchange = stream->data;

    (void)room;
    if (size < 0) {
        exchange_end(exchange, "connection lost");
        return;
    }
    if (exchange->reply_size == sizeof(exchange->reply) || size == 0)
        return;
    exchange->reply_size += (size_t)size;
    exchange->replied(exchange->context, exchange->reply, exchange->reply_size);
}

static void on_written(uv_write_t *write, int status)
{
    struct epmd_exchange *exchange = write->data;

    if (status < 0 && status != UV_ECANCELED)
        exchange_end(exchange, uv_strerror(status));
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct epmd_exchange *exchange = connect->data;
    uv_stream_t *stream = (uv_stream_t *)&exchange->tcp;
    uv_buf_t request =
        uv_buf_init(exchange->request, (unsigned)exchange->request_size);

    if (status == UV_ECANCELED)
        return;
    if (status == 0) {
        exchange->write.data = exchange;
        status = uv_write(&exchange->write, stream, &request, 1, on_written);
    }
    if (status == 0)
        status = uv_read_start(stream, on_alloc, on_read);
    if (status != 0)
        exchange_end(exchange, uv_strerror(status));
}

static struct epmd_exchange *exchange_new(struct loop *loop,
                                          struct handles *handles)
{
    struct epmd_exchange *exchange = mem_alloc(sizeof(*exchange));

    exchange->handles = handles;
    handles_opened(handles);
    uv_tcp_init(&loop->uv, &exchange->tcp);
    exchange->tcp.data = exchange->connect.data = exchange;
    return exchange;
}

static void exchange_put(struct epmd_exchange *exchange, uint32_t value,
                         size_t bytes)
{
    while (bytes-- > 0)
        exchange->request[exchange->request_size++] =
            (char)(value >> 8 * bytes);
}

static void exchange_put_name(struct epmd_exchange *exchange, struct slice name)
{
    memcpy(exchange->request + exchange->request_size, name.data, name.size);
    exchange->request_size += name.size;
}

/* An error that is known at once is told like any other: later. */
static void exchange_start(struct epmd_exchange *exchange, struct loop *loop,
                           const struct sockaddr *address)
{
    int status = uv_tcp_connect(&exchange->connect, &exchange->tcp, address,
                                on_connected);

    if (status != 0)
        exchange->fault = uv_strerror(status);
    loop_timer_start(loop, &exchange->deadline,
                     exchange->fault ? 0 : REPLY_TIMEOUT_MS, on_deadline,
                     exchange);
}

static uint16_t epmd_port(void)
{
    int64_t port;

    if (slice_to_int64(slice_of(getenv("ERL_EPMD_PORT")), &port) && port > 0 &&
        port <= UINT16_MAX)
        return (uint16_t)port;
    return EPMD_PORT;
}

static void epmd_own_address(struct sockaddr_storage *address)
{
    const char *list = getenv("ERL_EPMD_ADDRESS");
    char first[64];
    size_t size = list ? strcspn(list, ",") : 0;

    if (size > 0 && size < sizeof(first)) {
        memcpy(first, list, size);
        first[size] = '\0';
        if (uv_ip4_addr(first, epmd_port(), (struct sockaddr_in *)address) ==
                0 ||
            uv_ip6_addr(first, epmd_port(), (struct sockaddr_in6 *)address) ==
                0)
            return;
    }
    uv_ip4_addr("127.0.0.1", epmd_port(), (struct sockaddr_in *)address);
}

/* Registration. */

static void attempt(void *context);

static void try_again(struct epmd *epmd, uint64_t pause_ms)
{
    loop_timer_start(epmd->loop, &epmd->retry, pause_ms, attempt, epmd);
}

static void back_off(struct epmd *epmd)
{
    try_again(epmd, epmd->backoff_ms);
    epmd->backoff_ms = epmd->backoff_ms * 2 < BACKOFF_MAX_MS
                           ? epmd->backoff_ms * 2
                           : BACKOFF_MAX_MS;
}

static void on_register_ended(void *context, const char *why)
{
    struct epmd *epmd = context;
    struct error err;

    epmd->exchange = NULL;
    if (!epmd->registered_once && loop_now_ms(epmd->loop) >= epmd->give_up_ms) {
        error_set(&err, ERR_UNREACHABLE, "epmd at port %u: %s", epmd_port(),
                  why);
        epmd->events->failed(epmd->context, &err);
        return;
    }
    if (epmd->backoff_ms == BACKOFF_FIRST_MS)
        log_event(LOG_WARN, "dist", "no epmd, trying again",
                  LOG_FIELDS(log_count("port", epmd_port()),
                             log_text("reason", slice_of(why))));
    back_off(epmd);
}

static void on_refused(struct epmd *epmd)
{
    struct error err;

    exchange_close(epmd->exchange);
    epmd->exchange = NULL;
    epmd->refusals++;
    if (epmd->registered_once) {
        if (epmd->refusals == 1)
            log_event(LOG_ERROR, "dist", "the name is taken at epmd now",
                      LOG_FIELDS(log_text("name", epmd->name)));
        back_off(epmd);
        return;
    }
    if (epmd->refusals <= REFUSALS_MAX) {
        try_again(epmd, REFUSED_PAUSE_MS);
        return;
    }
    error_set(&err, ERR_INVALID_REQUEST,
              "the node name %.*s is taken on this "
              "host",
              SLICE_ARG(epmd->name));
    epmd->events->failed(epmd->context, &err);
}

static void on_registered(struct epmd *epmd, uint32_t creation)
{
    bool first = !epmd->registered_once;

    loop_timer_stop(&epmd->exchange->deadline);
    epmd->registered_once = true;
    epmd->backoff_ms = BACKOFF_FIRST_MS;
    epmd->refusals = 0;
    if (first)
        epmd->events->registered(epmd->context, creation);
    else
        log_line(LOG_INFO, "dist", "registered with epmd again");
}

static void on_register_reply(void *context, const unsigned char *reply,
                              size_t size)
{
    struct epmd *epmd = context;
    bool extended = reply[0] == ALIVE2_X_RESP;

    if (!extended && reply[0] != ALIVE2_RESP) {
        exchange_end(epmd->exchange, "not an epmd");
        return;
    }
    if (size < (extended ? 6 : 4))
        return;
    if (reply[1] != 0)
        on_refused(epmd);
    else if (extended)
        on_registered(epmd, (uint32_t)reply[2] << 24 |
                                (uint32_t)reply[3] << 16 |
                                (uint32_t)reply[4] << 8 | reply[5]);
    else
        on_registered(epmd, (uint32_t)reply[2] << 8 | reply[3]);
}

static void attempt(void *context)
{
    struct epmd *epmd = context;
    struct epmd_exchange *exchange = exchange_new(epmd->loop, epmd->handles);
    struct sockaddr_storage address;

    exchange->replied = on_register_reply;
    exchange->ended = on_register_ended;
    exchange->context = epmd;
    exchange_put(exchange, (uint32_t)(13 + epmd->name.size), 2);
    exchange_put(exchange, ALIVE2_REQ, 1);
    exchange_put(exchange, epmd->port, 2);
    exchange_put(exchange, NODE_TYPE_HIDDEN, 1);
    exchange_put(exchange, 0, 1); /* protocol: TCP */
    exchange_put(exchange, VERSION, 2);
    exchange_put(exchange, VERSION, 2);
    exchange_put(exchange, (uint32_t)epmd->name.size, 2);
    exchange_put_name(exchange, epmd->name);
    exchange_put(exchange, 0, 2); /* extra */
    epmd->exchange = exchange;
    epmd_own_address(&address);
    exchange_start(exchange, epmd->loop, (struct sockaddr *)&address);
}

void epmd_register(struct epmd *epmd, uint64_t patience_ms)
{
    epmd->backoff_ms = BACKOFF_FIRST_MS;
    epmd->give_up_ms = loop_now_ms(epmd->loop) + patience_ms;
    attempt(epmd);
}

void epmd_unregister(struct epmd *epmd)
{
    loop_timer_stop(&epmd->retry);
    if (epmd->exchange)
        exchange_close(epmd->exchange);
    epmd->exchange = NULL;
}

/* Lookup. */

struct epmd_lookup {
    struct loop *loop;
    struct handles *handles;
    char name[NAME_MAX_SIZE + 1]; /* NUL where the @ was */
    const char *host;
    uv_getaddrinfo_t resolve;
    bool resolving;
    struct sockaddr_storage address;
    struct epmd_exchange *exchange;
    struct loop_timer deadline;
    void (*found)(void *context, const struct sockaddr *address,
                  const struct error *err);
    void *context;
};

void epmd_lookup_cancel(struct epmd_lookup *lookup)
{
    lookup->found = NULL;
    loop_timer_stop(&lookup->deadline);
    if (lookup->exchange)
        exchange_close(lookup->exchange);
    lookup->exchange = NULL;
    if (lookup->resolving)
        uv_cancel((uv_req_t *)&lookup->resolve); /* on_resolved frees it */
    else
        mem_free(lookup);
}

static void lookup_end(struct epmd_lookup *lookup,
                       const struct sockaddr *address, const struct error *err)
{
    lookup->found(lookup->context, address, err);
    epmd_lookup_cancel(lookup);
}

static void lookup_fail(struct epmd_lookup *lookup, enum error_code code,
                        const char *why)
{
    struct error err;

    error_set(&err, code, "%s", why);
    lookup_end(lookup, NULL, &err);
}

static void on_lookup_deadline(void *context)
{
    lookup_fail(context, ERR_UNREACHABLE,
                "looking up its host or port timed out");
}

static void on_lookup_ended(void *context, const char *why)
{
    struct epmd_lookup *lookup = context;
    char text[160];

    lookup->exchange = NULL;
    snprintf(text, sizeof(text), "epmd of %s: %s", lookup->host, why);
    lookup_fail(lookup, ERR_UNREACHABLE, text);
}

static void on_lookup_reply(void *context, const unsigned char *reply,
                            size_t size)
{
    struct epmd_lookup *lookup = context;
    unsigned highest, lowest;

    if (size < 2 || (reply[1] == 0 && size < 10))
        return;
    if (reply[0] != PORT2_RESP || reply[1] != 0) {
        lookup_fail(lookup, ERR_NO_ROUTE,
                    "not registered with the epmd of its host");
        return;
    }
    highest = (unsigned)reply[6] << 8 | reply[7];
    lowest = (unsigned)reply[8] << 8 | reply[9];
    if (highest < VERSION || lowest > VERSION) {
        lookup_fail(lookup, ERR_UNREACHABLE,
                    "speaks another version of the protocol");
        return;
    }
    /* The port is at the same place in both families. */
    memcpy(&((struct sockaddr_in *)&lookup->address)->sin_port, reply + 2, 2);
    lookup_end(lookup, (struct sockaddr *)&lookup->address, NULL);
}

/* OTP's inet_tcp knows IPv4 only, so that comes first. */
static const struct addrinfo *choose(const struct addrinfo *list)
{
    for (const struct addrinfo *info = list; info; info = info->ai_next) {
        if (info->ai_family == AF_INET)
            return info;
    }
    for (const struct addrinfo *info = list; info; info = info->ai_next) {
        if (info->ai_family == AF_INET6)
            return info;
    }
    return NULL;
}

static void ask_port(struct epmd_lookup *lookup)
{
    struct epmd_exchange *exchange =
        exchange_new(lookup->loop, lookup->handles);
    struct slice name = slice_of(lookup->name);

    exchange->replied = on_lookup_reply;
    exchange->ended = on_lookup_ended;
    exchange->context = lookup;
    exchange_put(exchange, (uint32_t)(1 + name.size), 2);
    exchange_put(exchange, PORT_PLEASE2_REQ, 1);
    exchange_put_name(exchange, name);
    lookup->exchange = exchange;
    ((struct sockaddr_in *)&lookup->address)->sin_port = htons(epmd_port());
    exchange_start(exchange, lookup->loop, (struct sockaddr *)&lookup->address);
}

static void on_resolved(uv_getaddrinfo_t *resolve, int status,
                        struct addrinfo *list)
{
    struct epmd_lookup *lookup = resolve->data;
    struct handles *handles = lookup->handles;
    const struct addrinfo *info = status == 0 ? choose(list) : NULL;

    lookup->resolving = false;
    if (info)
        memcpy(&lookup->address, info->ai_addr, info->ai_addrlen);
    uv_freeaddrinfo(list);
    if (!lookup->found)
        mem_free(lookup);
    else if (info)
        ask_port(lookup);
    else
        lookup_fail(lookup, ERR_UNREACHABLE, "its host is unknown");
    handles_closed(handles);
}

struct epmd_lookup *
epmd_lookup_new(struct loop *loop, struct handles *handles, struct slice node,
                uint64_t timeout_ms,
                void (*found)(void *context, const struct sockaddr *address,
                              const struct error *err),
                void *context)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct epmd_lookup *lookup = mem_alloc(sizeof(*lookup));
    char *at;

    lookup->loop = loop;
    lookup->handles = handles;
    lookup->found = found;
    lookup->context = context;
    memcpy(lookup->name, node.data,
           node.size < NAME_MAX_SIZE ? node.size : NAME_MAX_SIZE);
    at = strchr(lookup->name, '@');
    if (at)
        *at = '\0';
    lookup->host = at ? at + 1 : "";
    lookup->resolve.data = lookup;
    lookup->resolving = uv_getaddrinfo(&loop->uv, &lookup->resolve, on_resolved,
                                       lookup->host, NULL, &hints) == 0;
    if (lookup->resolving)
        handles_opened(handles);
    loop_timer_start(loop, &lookup->deadline,
                     lookup->resolving ? timeout_ms : 0, on_lookup_deadline,
                     lookup);
    return lookup;
}
