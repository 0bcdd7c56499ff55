/* HTTP requests on the loop: libcurl's multi interface, socket action.
 *
 * Knows no provider. One transfer is one attempt: nothing is retried here
 * except by libcurl itself when a reused connection closes before any byte of
 * the answer. Redirects are errors, environment proxies are not used, TLS is
 * always verified, plain http only where the caller allows it.
 *
 * Transfers are spread over up to 64 multi handles, and as many for those that
 * may be paused, because libcurl scans all connections of a multi for each
 * transfer: the first is filled with 64 transfers before the next is used, so
 * that few calls share few connections.
 * A burst to a host that was not used for a minute waits for its first
 * connection. SIGPIPE must be ignored by the program. */
#ifndef LLM_ROUTER_HTTP_HTTP_H
#define LLM_ROUTER_HTTP_HTTP_H

#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"
#include "llm_router/loop/loop.h"

struct http;

struct http_options {
    size_t max_connections_per_host; /* as many again for transfers that may
                                        be paused; 0: as many as transfers */
    size_t max_idle_connections;     /* kept alive, in all, roughly */
    uint64_t max_idle_age_s;
    const char *ca_file; /* NULL: the system's bundle; read by the thread pool
                            when the first https:// request comes, borrowed
                            until then */
};

struct http *http_new(struct loop *loop, const struct http_options *options);

/* Cancels what is left, without callbacks. Sockets are given back by the loop's
 * next turns: loop_release runs them. NULL is allowed. */
void http_free(struct http *http);

/* One attempt. What it points to is borrowed until on_done was called or
 * http_cancel returned; if that was inside on_headers or on_body, until the end
 * of this turn of the loop. */
struct http_request {
    const char *url;
    const char *const *headers; /* "Name: value" */
    size_t header_count;
    struct slice body; /* sent by POST; data NULL: GET, but for what make_body
                          makes */
    bool plain_http_allowed;     /* else only https:// */
    uint64_t connect_timeout_ms; /* resolve, connect and TLS */
    uint64_t headers_timeout_ms; /* from then until the status line */
    uint64_t total_timeout_ms;
    size_t max_body_bytes; /* after decompression */
    bool pausable;         /* http_pause has an effect; see there */
};

enum http_end {
    HTTP_WHOLE,     /* the protocol's own end of the body */
    HTTP_CUT,       /* connection lost after on_headers */
    HTTP_NO_ANSWER, /* resolve, connect, TLS or send failure: nothing came */
    HTTP_TIMEOUT,   /* one of the three; `error` names it */
    HTTP_TOO_LARGE,
    HTTP_STOPPED, /* on_body returned false, make_body nothing */
};

struct http_outcome {
    enum http_end end;
    int status;         /* 0: none came */
    struct error error; /* ERR_UNREACHABLE, ERR_OVERLOADED (no socket left),
                           ERR_TIMEOUT, ERR_TOO_LARGE or none;
                           never holds a header's value */
    bool connection_reused;
};

/* Callbacks come from the loop, never from inside http_submit; none comes
 * after `done` or http_cancel. A callback may cancel its own transfer. */
struct http_events {
    /* Makes the body, instead of `body` of the request, when the transfer is
     * started, and the same once more should it have to be sent again after
     * on_sent. It is lent until then, or the end; data NULL stops the transfer.
     * Must not cancel. May be NULL. */
    struct slice (*make_body)(void *context, uint64_t transfer);
    /* What make_body lent was sent. May be NULL, as all that follow. */
    void (*on_sent)(void *context, uint64_t transfer);
    /* The final status line and its headers are there. */
    void (*on_headers)(void *context, uint64_t transfer, int status);
    /* False stops the transfer: done comes with HTTP_STOPPED. */
    bool (*on_body)(void *context, uint64_t transfer, struct slice bytes);
    void (*on_done)(void *context, uint64_t transfer,
                    const struct http_outcome *outcome);
};

/* Never fails at once: failures come by on_done. The id is never 0 and never
 * used again. */
uint64_t http_submit(struct http *http, const struct http_request *request,
                     const struct http_events *events, void *context);

/* Aborts: the connection is closed (HTTP/2: the stream is reset) in this turn
 * of the loop. An id that is gone is a no-op. */
void http_cancel(struct http *http, uint64_t transfer);

/* From now on on_body does not come, and what the server sends stays in the
 * kernel's buffers, so that it stops sending; what was read already is held,
 * within max_body_bytes. The end comes after http_resume, too, unless it is one
 * of the time-outs, which go on. Only for a request that is `pausable`: it has
 * a connection of its own (HTTP/1.1), for libcurl opens each stream of HTTP/2
 * for 32 MiB and keeps what comes for a paused one. Both may be called at any
 * time; an id that is gone, or what is so already, is a no-op. */
void http_pause(struct http *http, uint64_t transfer);

/* Callbacks come from this turn's end or a later turn, never from inside, and
 * may pause it again. */
void http_resume(struct http *http, uint64_t transfer);

/* The last value of a response header (name in any case) of a transfer that
 * is not done, or empty. Valid during the callback. */
struct slice http_header(struct http *http, uint64_t transfer,
                         const char *name);

/* Closes the connections of a multi handle that was not used for
 * max_idle_age_s: libcurl looks at their age only when it is used again. False:
 * there is none. One at a time, because closing those of all takes 20 ms. */
bool http_close_unused(struct http *http);

struct http_stats {
    uint64_t transfers_started, transfers_cancelled, connections_opened;
    uint64_t
        transfers_repeated; /* by libcurl: the server may have them twice */
    uint64_t in_flight;
};
struct http_stats http_stats(const struct http *http);

#endif
