/* A server for the tests of the http layer: real sockets, one thread for each
 * connection, each running the test's script.
 *
 * A script reads and writes the socket as it likes; the server closes it when
 * the script returns. Numbers are counted over all connections. */
#ifndef LLM_ROUTER_TESTS_HTTP_SERVER_H
#define LLM_ROUTER_TESTS_HTTP_SERVER_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "llm_router/base/mem.h"
#include "unit.h"

struct server;
typedef void server_script(struct server *server, int peer, int number);

enum { SERVER_THREADS_MAX = 4096, SERVER_REQUEST_MAX = 64 * 1024 };

struct server {
    int listener;
    int port;
    server_script *script;
    pthread_t acceptor;
    pthread_t threads[SERVER_THREADS_MAX];
    atomic_int connections;
    atomic_int closed; /* of the connections */
    atomic_int requests;
    atomic_llong sent;    /* bytes the kernel took, where a script counts */
    atomic_llong gone_ms; /* when a client was last seen to close */
    char last[SERVER_REQUEST_MAX];
    pthread_mutex_t lock; /* of last */
};

struct server_thread {
    struct server *server;
    int peer;
    int number;
};

static inline long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static inline void *server_run_script(void *context)
{
    struct server_thread *thread = context;

    thread->server->script(thread->server, thread->peer, thread->number);
    close(thread->peer);
    thread->server->closed++;
    mem_free(thread);
    return NULL;
}

static inline void *server_accept(void *context)
{
    struct server *server = context;

    for (;;) {
        int peer = accept(server->listener, NULL, NULL);
        struct server_thread *thread;

        if (peer < 0 || server->connections == SERVER_THREADS_MAX)
            return NULL;
        thread = mem_alloc(sizeof(*thread));
        *thread = (struct server_thread){server, peer, server->connections};
        pthread_create(&server->threads[server->connections++], NULL,
                       server_run_script, thread);
    }
}

static inline int listen_on_loopback(int backlog, int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 ||
        listen(listener, backlog) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        fail_msg("no listener");
    *port = ntohs(address.sin_port);
    return listener;
}

static inline struct server *server_start(server_script *script)
{
    struct server *server = mem_alloc(sizeof(*server));

    server->script = script;
    pthread_mutex_init(&server->lock, NULL);
    server->listener = listen_on_loopback(1024, &server->port);
    pthread_create(&server->acceptor, NULL, server_accept, server);
    return server;
}

/* Waits for the scripts to end, which they do when their clients close. */
static inline void server_stop(struct server *server)
{
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->acceptor, NULL);
    for (int i = 0; i < server->connections; i++)
        pthread_join(server->threads[i], NULL);
    close(server->listener);
    pthread_mutex_destroy(&server->lock);
    mem_free(server);
}

static inline const char *server_url(const struct server *server)
{
    static char url[64];

    snprintf(url, sizeof(url), "http://127.0.0.1:%d/v1", server->port);
    return url;
}

static inline size_t server_body_size(const char *headers)
{
    const char *length = strcasestr(headers, "\r\ncontent-length:");

    return length ? strtoul(length + 17, NULL, 10) : 0;
}

/* Reads one request with its body into server->last; false when the client
 * closed. */
static inline bool server_read(struct server *server, int peer)
{
    static _Thread_local char text[SERVER_REQUEST_MAX];
    size_t size = 0;

    for (;;) {
        ssize_t got = read(peer, text + size, sizeof(text) - 1 - size);
        const char *end;

        if (got <= 0) {
            server->gone_ms = now_ms();
            return false;
        }
        size += (size_t)got;
        text[size] = '\0';
        end = strstr(text, "\r\n\r\n");
        if (end && size - (size_t)(end + 4 - text) >= server_body_size(text)) {
            pthread_mutex_lock(&server->lock);
            memcpy(server->last, text, size + 1);
            pthread_mutex_unlock(&server->lock);
            server->requests++;
            return true;
        }
    }
}

/* False when the client is gone. */
static inline bool server_send(int peer, const void *data, size_t size)
{
    return send(peer, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static inline bool server_say(int peer, const char *text)
{
    return server_send(peer, text, strlen(text));
}

/* Waits until the client closes, and notes when. */
static inline void server_await_close(struct server *server, int peer)
{
    char bytes[16 * 1024];

    while (read(peer, bytes, sizeof(bytes)) > 0)
        continue;
    server->gone_ms = now_ms();
}

static inline void sleep_ms(int ms)
{
    poll(NULL, 0, ms);
}

#endif
