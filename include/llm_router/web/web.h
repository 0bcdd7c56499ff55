/* The HTTP server for people and monitors: libmicrohttpd on the loop.
 *
 * Moves bytes and knows no domain. It answers GET and HEAD of the paths in its
 * table, 404 and 405 to the rest, 413 to any request with a body, and reads no
 * more than WEB_HEADER_MAX of a request.
 *
 * Nobody can hold it up: a connection has `request_ms` for a request and its
 * answer, and as long again for the next, however busily it trickles. When all
 * connections are taken the one that has waited longest gives way to the new
 * one, so that a monitor gets in whatever else hangs there. However many ask at
 * once, an answer is written once a turn.
 *
 * Nobody else's web page can read it: there are no CORS headers, and on a
 * loopback address only a Host that names the loopback is answered (else 421),
 * or a page could give its own name the address 127.0.0.1 and read all.
 *
 * SIGPIPE must be ignored by the program. */
#ifndef LLM_ROUTER_WEB_WEB_H
#define LLM_ROUTER_WEB_WEB_H

#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"
#include "llm_router/loop/loop.h"

struct web;

enum {
    WEB_HEADER_MAX = 16 * 1024, /* bytes of memory for one request's head and
                                   the head of its answer */
    WEB_BODY_MAX = 8 * 1024 * 1024,
};

/* What an answer is before its handler sees it: 200, plain text, empty. */
struct web_reply {
    int status;
    const char *content_type; /* static */
    const char *policy;       /* Content-Security-Policy; borrowed during the
                                 call; initially nothing is allowed */
    struct buf body;          /* sent as it is, without a copy; one that passed
                                 WEB_BODY_MAX becomes a 500 */
};

/* Answers at once, on the loop; all who ask in the same turn of it get the same
 * answer. Also asked for HEAD, whose body is not sent. */
struct web_route {
    const char *path; /* exactly, without a query */
    void (*answer)(void *context, struct web_reply *reply);
};

struct web_options {
    const char *host; /* a numeric IPv4 or IPv6 address, or "localhost":
                         127.0.0.1. "::" is every address of both families */
    uint16_t port;    /* 0: the system chooses */
    const struct web_route *routes; /* borrowed until web_free */
    size_t route_count;
    void *context;
    size_t max_connections;
    uint64_t request_ms;
};

/* NULL: ERR_INVALID_REQUEST (no such form of a host) or ERR_UNREACHABLE (in
 * use, not an address of this machine, no permission); the message names host
 * and port. */
struct web *web_start(struct loop *loop, const struct web_options *options,
                      struct error *err);

uint16_t web_port(const struct web *web); /* as bound */

/* Not from within an answer. Descriptors are closed at once, the memory comes
 * back in the loop's next turns: loop_release runs them. NULL is allowed. */
void web_free(struct web *web);

#endif
