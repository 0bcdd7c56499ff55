#include "llm_router/web/web.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "web_internal.h"

enum {
    REST_MS = 200,    /* without descriptors */
    ACCEPTS_MAX = 16, /* at once, so that others get their turn */
};

static const char NOTHING[] = "default-src 'none'; frame-ancestors 'none'";
static const char PLAIN[] = "text/plain; charset=utf-8";

/* A route, and its answer to all who ask in the same turn of the loop: however
 * many ask at once, it is written once. */
struct page {
    const struct web_route *route;
    struct MHD_Response *response; /* NULL: not asked for in this turn */
    int status;
};

struct web {
    struct loop *loop;
    struct web_options options;
    struct door door;
    struct MHD_Daemon *daemon;
    struct page *pages;   /* one for each route */
    struct list visitors; /* who has waited longest first */
    size_t visitor_count;
    uv_poll_t listening;
    uv_poll_t working; /* the daemon's epoll set */
    struct loop_timer rest;
    struct loop_timer clock; /* the daemon's next work, the next deadline */
    struct loop_task end_of_turn;
    int polls; /* not closed yet */
};

/* A connection: in the order in which their turns end. */
struct visitor {
    struct list link; /* in web->visitors; alone when it was told to go */
    struct web *web;
    int fd;
    uint64_t since_ms; /* accepted, or the answer before sent */
};

static void work(struct web *web);

/* The daemon notices the end as if the client had gone. */
static void dismiss(struct visitor *visitor)
{
    list_remove(&visitor->link);
    shutdown(visitor->fd, SHUT_RDWR);
}

static struct visitor *oldest(struct web *web)
{
    return list_is_empty(&web->visitors)
               ? NULL
               : LIST_ENTRY(web->visitors.next, struct visitor, link);
}

static void wait_again(struct visitor *visitor)
{
    visitor->since_ms = loop_now_ms(visitor->web->loop);
    list_remove(&visitor->link);
    list_append(&visitor->web->visitors, &visitor->link);
}

static void on_connection(void *context, struct MHD_Connection *connection,
                          void **visitor_of,
                          enum MHD_ConnectionNotificationCode code)
{
    struct web *web = context;
    struct visitor *visitor = *visitor_of;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        list_remove(&visitor->link);
        web->visitor_count--;
        mem_free(visitor);
        return;
    }
    visitor = mem_alloc(sizeof(*visitor));
    visitor->web = web;
    visitor->fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
            ->connect_fd;
    list_init(&visitor->link);
    wait_again(visitor);
    web->visitor_count++;
    *visitor_of = visitor;
}

static void on_completed(void *context, struct MHD_Connection *connection,
                         void **request, enum MHD_RequestTerminationCode code)
{
    struct visitor *visitor =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
            ->socket_context;

    (void)context;
    (void)request;
    if (code == MHD_REQUEST_TERMINATED_COMPLETED_OK &&
        !list_is_empty(&visitor->link))
        wait_again(visitor);
}

/* Takes the body. NULL without memory. */
static struct MHD_Response *make_response(struct web_reply *reply)
{
    const char *const headers[][2] = {
        {"Content-Type", reply->content_type},
        {"Content-Security-Policy", reply->policy},
        {"Cache-Control", "no-store"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Referrer-Policy", "no-referrer"},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Allow", "GET, HEAD"},
    };
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback(
            reply->body.size, reply->body.data, mem_free);

    if (!response) {
        buf_release(&reply->body);
        return NULL;
    }
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        if (MHD_add_response_header(response, headers[i][0], headers[i][1]) !=
            MHD_YES) {
            MHD_destroy_response(response);
            return NULL;
        }
    return response;
}

static struct web_reply new_reply(int status, const char *text)
{
    struct web_reply reply = {
        .status = status, .content_type = PLAIN, .policy = NOTHING};

    buf_init(&reply.body, WEB_BODY_MAX);
    buf_append_text(&reply.body, text);
    return reply;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, int status,
                              const char *text)
{
    struct web_reply reply = new_reply(status, text);
    struct MHD_Response *response = make_response(&reply);
    enum MHD_Result queued;

    if (!response)
        return MHD_NO;
    queued = MHD_queue_response(connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return queued;
}

static struct slice header(struct MHD_Connection *connection, const char *name)
{
    return slice_of(
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name));
}

static bool has_body(struct MHD_Connection *connection)
{
    struct slice length = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);

    return (length.size > 0 && !slice_is(length, "0")) ||
           header(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING).size > 0;
}

/* A browser always says Host; a program that leaves it out is no browser. */
static bool is_elsewhere(struct web *web, struct MHD_Connection *connection)
{
    struct slice host = header(connection, MHD_HTTP_HEADER_HOST);

    return web->door.loopback && host.data && !door_names_loopback(host);
}

static struct page *find_page(const struct web *web, const char *path)
{
    for (size_t i = 0; i < web->options.route_count; i++)
        if (strcmp(web->pages[i].route->path, path) == 0)
            return &web->pages[i];
    return NULL;
}

static void forget_answers(void *context)
{
    struct web *web = context;

    for (size_t i = 0; i < web->options.route_count; i++) {
        if (web->pages[i].response)
            MHD_destroy_response(web->pages[i].response);
        web->pages[i].response = NULL;
    }
}

static void write_answer(struct web *web, struct page *page)
{
    struct web_reply reply = new_reply(MHD_HTTP_OK, "");

    page->route->answer(web->options.context, &reply);
    if (reply.body.failed) {
        buf_release(&reply.body);
        reply = new_reply(MHD_HTTP_INTERNAL_SERVER_ERROR,
                          "the answer is too large\n");
    }
    page->status = reply.status;
    page->response = make_response(&reply);
    loop_defer(web->loop, &web->end_of_turn, forget_answers, web);
}

static enum MHD_Result
answer(struct web *web, struct MHD_Connection *connection, struct page *page)
{
    if (!page->response)
        write_answer(web, page);
    return page->response
               ? MHD_queue_response(connection, (unsigned)page->status,
                                    page->response)
               : MHD_NO;
}

/* Comes twice for a request: after its head, when a refusal closes the
 * connection instead of reading a body, and at its end. */
static enum MHD_Result on_request(void *context,
                                  struct MHD_Connection *connection,
                                  const char *path, const char *method,
                                  const char *version, const char *upload,
                                  size_t *upload_size, void **request)
{
    struct web *web = context;
    struct page *page = find_page(web, path);

    (void)version;
    (void)upload;
    (void)upload_size;
    if (!*request) {
        *request = web;
        if (has_body(connection))
            return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE,
                          "nothing here takes a body\n");
        return MHD_YES;
    }
    if (is_elsewhere(web, connection))
        return refuse(connection, MHD_HTTP_MISDIRECTED_REQUEST,
                      "this is served on the loopback only: "
                      "ask for localhost\n");
    if (!page)
        return refuse(connection, MHD_HTTP_NOT_FOUND, "no such page\n");
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
        strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                      "only GET and HEAD\n");
    return answer(web, connection, page);
}

/* What clients do wrong, mostly: any stranger can cause these lines. */
__attribute__((format(printf, 2, 0))) static void
on_message(void *context, const char *format, va_list arguments)
{
    char text[512];

    (void)context;
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\r\n")] = '\0';
    log_event(LOG_DEBUG, "web", "libmicrohttpd says",
              LOG_FIELDS(log_text("text", slice_of(text))));
}

static void on_clock(void *context)
{
    work(context);
}

static void set_clock(struct web *web)
{
    struct visitor *first = oldest(web);
    uint64_t now_ms = loop_now_ms(web->loop);
    MHD_UNSIGNED_LONG_LONG wanted_ms;
    uint64_t delay_ms = UINT64_MAX;

    if (first) {
        uint64_t waited_ms = now_ms - first->since_ms;

        delay_ms = waited_ms < web->options.request_ms
                       ? web->options.request_ms - waited_ms
                       : 0;
    }
    if (MHD_get_timeout(web->daemon, &wanted_ms) == MHD_YES &&
        wanted_ms < delay_ms)
        delay_ms = wanted_ms;
    if (delay_ms == UINT64_MAX)
        loop_timer_stop(&web->clock);
    else
        loop_timer_start(web->loop, &web->clock, delay_ms, on_clock, web);
}

static void work(struct web *web)
{
    struct visitor *first;

    while ((first = oldest(web)) &&
           loop_now_ms(web->loop) - first->since_ms >= web->options.request_ms)
        dismiss(first);
    MHD_run(web->daemon);
    set_clock(web);
}

static void on_working(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    work(poll->data);
}

static void on_listening(uv_poll_t *poll, int status, int events);

static void open_door(void *context)
{
    struct web *web = context;

    uv_poll_start(&web->listening, UV_READABLE, on_listening);
}

static void rest(struct web *web, int reason)
{
    log_event(LOG_WARN, "web", "accepting rests",
              LOG_FIELDS(log_count("rest_ms", REST_MS),
                         log_text("reason", slice_of(strerror(reason)))));
    uv_poll_stop(&web->listening);
    loop_timer_start(web->loop, &web->rest, REST_MS, open_door, web);
}

static void admit(struct web *web, int fd, const struct sockaddr *address,
                  socklen_t size)
{
    struct visitor *first = oldest(web);

    if (web->visitor_count >= web->options.max_connections && first) {
        dismiss(first);
        MHD_run(web->daemon);
    }
    if (MHD_add_connection(web->daemon, fd, address, size) != MHD_YES)
        log_event(LOG_WARN, "web", "a connection could not be taken",
                  LOG_FIELDS(log_text("reason", slice_of(strerror(errno)))));
}

static void on_listening(uv_poll_t *poll, int status, int events)
{
    struct web *web = poll->data;

    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);
        int fd = accept4(web->door.fd, (struct sockaddr *)&address, &size,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            admit(web, fd, (const struct sockaddr *)&address, size);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            rest(web, errno);
        break;
    }
    work(web);
}

static bool start_daemon(struct web *web)
{
    const unsigned flags =
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;

    web->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, web, MHD_OPTION_EXTERNAL_LOGGER,
        on_message, web, MHD_OPTION_NOTIFY_CONNECTION, on_connection, web,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, web,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)WEB_HEADER_MAX,
        MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(web->options.max_connections + ACCEPTS_MAX),
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    return web->daemon != NULL;
}

static void watch(struct web *web, uv_poll_t *poll, int fd)
{
    loop_check(uv_poll_init(&web->loop->uv, poll, fd), "uv_poll_init");
    poll->data = web;
    web->polls++;
}

static struct page *make_pages(const struct web_options *options)
{
    struct page *pages = mem_alloc(options->route_count * sizeof(*pages));

    for (size_t i = 0; i < options->route_count; i++)
        pages[i].route = &options->routes[i];
    return pages;
}

static void free_web(struct web *web)
{
    mem_free(web->pages);
    mem_free(web);
}

struct web *web_start(struct loop *loop, const struct web_options *options,
                      struct error *err)
{
    struct web *web = mem_alloc(sizeof(*web));

    web->loop = loop;
    web->options = *options;
    web->options.host = NULL; /* lent until we return */
    web->pages = make_pages(options);
    list_init(&web->visitors);
    if (!door_open(&web->door, options->host, options->port, err)) {
        free_web(web);
        return NULL;
    }
    if (!start_daemon(web)) {
        error_set(err, ERR_UNREACHABLE,
                  "cannot serve HTTP at %.80s port %u: libmicrohttpd did not "
                  "start",
                  options->host, options->port);
        close(web->door.fd);
        free_web(web);
        return NULL;
    }
    watch(web, &web->listening, web->door.fd);
    watch(web, &web->working,
          MHD_get_daemon_info(web->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
    open_door(web);
    uv_poll_start(&web->working, UV_READABLE, on_working);
    return web;
}

uint16_t web_port(const struct web *web)
{
    return web->door.port;
}

static void on_closed(uv_handle_t *handle)
{
    struct web *web = handle->data;

    if (--web->polls == 0)
        free_web(web);
}

void web_free(struct web *web)
{
    if (!web)
        return;
    loop_timer_stop(&web->rest);
    loop_timer_stop(&web->clock);
    loop_task_cancel(&web->end_of_turn);
    forget_answers(web);
    uv_close((uv_handle_t *)&web->listening, on_closed);
    uv_close((uv_handle_t *)&web->working, on_closed);
    close(web->door.fd);
    MHD_stop_daemon(web->daemon);
}
