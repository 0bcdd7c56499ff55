/* What a stranger sends to the HTTP server, over a real connection. The first
 * byte says how many bytes come at a time (0: all at once). Whatever it is,
 * what comes back is HTTP. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "llm_router/web/web.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { IDLE_TURNS = 4 }; /* after which nothing more is to come */

static struct loop loop;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void answer(void *context, struct web_reply *reply)
{
    (void)context;
    buf_append_text(&reply->body, "HTTP/1.1 is here\n");
}

static struct web *start(void)
{
    static const struct web_route ROUTES[] = {{"/", answer}, {"/b", answer}};
    const struct web_options options = {
        .host = "127.0.0.1",
        .routes = ROUTES,
        .route_count = 2,
        .max_connections = 4,
        .request_ms = 5000,
    };
    struct error err;
    struct web *web;

    signal(SIGPIPE, SIG_IGN);
    loop_init(&loop);
    web = web_start(&loop, &options, &err);
    require(web != NULL);
    return web;
}

/* Closing resets the connection: none lingers in the kernel. */
static int visit(const struct web *web)
{
    const struct linger reset = {.l_onoff = 1};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(web_port(web)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    require(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* How many bytes are done with. */
static size_t send_piece(int fd, struct slice bytes, size_t piece)
{
    size_t size = piece > 0 && piece < bytes.size ? piece : bytes.size;
    ssize_t count = send(fd, bytes.data, size, MSG_NOSIGNAL);

    return count > 0 ? (size_t)count : bytes.size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct web *web;
    int fd, idle = 0;
    bool first = true;

    if (!web)
        web = start();
    fd = visit(web);
    for (size_t sent = 1; idle < IDLE_TURNS; idle++) {
        char answered[4096];
        ssize_t count;

        if (sent < size) {
            sent +=
                send_piece(fd, slice_make(data + sent, size - sent), data[0]);
            idle = 0;
        }
        uv_run(&loop.uv, UV_RUN_NOWAIT);
        count = recv(fd, answered, sizeof(answered), 0);
        if (count == 0 || (count < 0 && errno != EAGAIN))
            break;
        if (count > 0) {
            require(!first || memcmp(answered, "HTTP/1.", 7) == 0);
            first = false;
            idle = 0;
        }
    }
    close(fd);
    uv_run(&loop.uv, UV_RUN_NOWAIT);
    return 0;
}
