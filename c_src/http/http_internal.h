/* Shared by the files of the http layer.
 *
 *     http.c    the public face: ids, phases, timers, the end-of-turn pass
 *     origin.c  holds back a burst to a host until one transfer got through
 *     lane.c    one multi handle and its sockets on the loop
 *     easy.c    one easy handle: options, callbacks, what went wrong
 *     pause.c   what came for a transfer that is paused
 *     trust.c   the CA certificates, read once by the thread pool
 *
 * A transfer is created by http_submit, started at the end of that turn, and
 * freed in transfer_end or http_cancel; never inside a callback of curl, which
 * forbids removing a handle there: then at the end of the turn. */
#ifndef LLM_ROUTER_HTTP_INTERNAL_H
#define LLM_ROUTER_HTTP_INTERNAL_H

#include <curl/curl.h>
#include <openssl/ssl.h>

#include "llm_router/base/buf.h"
#include "llm_router/base/list.h"
#include "llm_router/base/map.h"
#include "llm_router/http/http.h"

enum {
    LANES_MAX = 64,
    /* A lane is filled to here before the next one is used, so that few
     * callers share few connections; one HTTP/2 connection carries as many
     * (servers allow about 100 streams). Beyond, the emptiest lane is next. */
    LANE_FULL = 64,
    /* A start may cost 50 us (a new connection): others get their turn. */
    STARTS_PER_TURN = 32,
    /* So may an answer. */
    READY_PER_TURN = 32,
    SPARE_EASIES_MAX = 64,
    HEADER_BYTES_MAX = 64 * 1024,
    ORIGINS_MAX = 1024,
};

/* What curl decodes. It is told, and the line is written by us: curl would
 * print it twice. */
#define ENCODINGS "gzip, deflate"

enum phase {
    PHASE_CONNECTING, /* from submit until the request may be sent */
    PHASE_SENT,       /* until the final headers are there */
    PHASE_BODY,
};

struct transfer {
    struct list link; /* in http->ready, ->untrusted, ->sending, ->unsettled,
                         ->dying or an origin's queue */
    struct http *http;
    uint64_t id;
    struct http_request request;
    struct http_events events;
    void *context;
    struct origin *origin; /* NULL before its start */
    struct lane *lane;     /* NULL unless `easy` is in that lane's multi */
    CURL *easy;
    struct loop_timer timer;
    uint64_t phase_due_ms;
    uint64_t total_due_ms;
    size_t body_size; /* of what make_body made */
    size_t body_bytes;
    size_t header_bytes;
    int status;
    int socket_errno; /* why the system gave no socket; 0: it did */
    enum phase phase;
    enum http_end verdict; /* ours; HTTP_WHOLE: none, curl's result counts */
    bool body_lent;        /* what make_body made is still there */
    bool cancelled;
    bool paused;       /* by the caller */
    bool holding;      /* what comes goes into `held`, behind what is there */
    bool halted;       /* curl reads no more; only while holding */
    bool ended;        /* for curl; not told while it is paused */
    CURLcode result;   /* of one that ended */
    struct buf held;   /* came while it was paused; */
    size_t handed_out; /* so much of it the caller has */
    /* Made by hand, because curl_slist_append would copy each text. */
    struct curl_slist headers[];
};

struct lane {
    struct http *http;
    CURLM *multi;    /* NULL until used */
    struct list due; /* in http->due: this turn's last pass calls curl */
    struct loop_timer timer;
    uint64_t due_ms; /* when curl wants to be called; UINT64_MAX: never */
    size_t in_flight;
    uint64_t left_ms; /* when there was none in flight any more */
    size_t connections;
};

/* Plain calls share connections by HTTP/2. One connection of HTTP/1.1 makes
 * curl think that the host has no HTTP/2, so transfers that may be paused are
 * kept apart. */
enum lane_kind {
    LANE_SHARED,
    LANE_PAUSABLE,
    LANE_KINDS,
};

struct trust {
    enum { TRUST_UNREAD, TRUST_READING, TRUST_READY, TRUST_FAILED } state;
    X509_STORE *store;
    struct trust_job *job;
    uint64_t again_ms; /* TRUST_FAILED: when they are read again */
};

struct http {
    struct loop *loop;
    struct http_options options;
    struct loop_task task;
    struct loop_timer again; /* a pass in a later turn */
    bool in_last_pass;
    bool in_callback;      /* or in curl, which may call them */
    struct list ready;     /* to be started in this turn's last pass */
    struct list untrusted; /* wait for the CA certificates */
    struct list sending;   /* their bodies are lent, and on their way */
    struct list unsettled; /* to be halted, or to get what was held */
    struct list dying;     /* cancelled in a callback */
    struct list due;       /* lanes */
    struct list changed;   /* sockets whose interest changed */
    struct map transfers;  /* by id */
    struct map origins;    /* by "scheme://host:port" */
    struct trust trust;
    CURLSH *share;
    struct lane lanes[LANE_KINDS][LANES_MAX];
    size_t lane_count; /* of a kind, that may be used */
    size_t connections;
    bool deaf; /* the kernel took no interest in a socket; it is asked again */
    /* curl's sockets are in an epoll set of their own, which the loop watches:
     * libuv hands out all that is ready in one turn, and 10,000 answers at once
     * were a turn of 300 ms. */
    int set;
    uv_poll_t *poll;
    struct socket **sockets; /* by descriptor */
    size_t socket_slots;
    CURL *spare[SPARE_EASIES_MAX];
    size_t spare_count;
    uint64_t last_id;
    struct http_stats stats;
};

/* http.c */
void http_wake(struct http *http); /* asks for the end-of-turn pass */
void http_wake_after(struct http *http, uint64_t delay_ms);
/* Of an allowed scheme: https:// and not http://. */
bool transfer_is_secure(const struct transfer *transfer);
void transfer_start(struct transfer *transfer);
void transfer_connected(struct transfer *transfer);
/* The final status is there. False: stop (the callback cancelled it). */
bool transfer_answered(struct transfer *transfer, int status);
/* Calls on_body. */
void transfer_take(struct transfer *transfer, struct slice bytes);
/* Ends one that curl is done with, or that was stopped. */
void transfer_conclude(struct transfer *transfer, CURLcode result);
/* Reports and frees. Not inside a callback of curl. */
void transfer_end(struct transfer *transfer,
                  const struct http_outcome *outcome);
void transfer_fail(struct transfer *transfer, const char *reason);

/* origin.c */
struct slice url_host_port(const char *url); /* lends "host:port" or "host" */
struct origin *origin_of(struct http *http, const char *url);
/* False: the transfer waits in the origin's queue. */
bool origin_admit(struct transfer *transfer);
bool origin_is_led_by(const struct transfer *transfer);
void origin_reached(struct transfer *transfer);
/* `outcome` NULL: cancelled. */
void origin_left(struct transfer *transfer, const struct http_outcome *outcome);
void origins_release(struct http *http);

/* lane.c */
bool lane_add(struct http *http, struct transfer *transfer);
void lane_remove(struct transfer *transfer);
void lanes_run_due(struct http *http);
/* Its connections are closed; it may be used again. */
void lane_release(struct lane *lane);
void sockets_ready(uv_poll_t *poll, int status, int events);
void sockets_apply(struct http *http);
void sockets_release(struct http *http);
curl_socket_t socket_open(void *context, curlsocktype purpose,
                          struct curl_sockaddr *address);
int socket_close(void *context, curl_socket_t descriptor);

/* easy.c */
CURL *easy_take(struct transfer *transfer);
/* Gives bodies back that were sent. */
void bodies_settle(struct http *http);
void easy_give_back(struct http *http, CURL *easy);
void easy_outcome(const struct transfer *transfer, CURLcode result,
                  struct http_outcome *outcome);

/* pause.c */
/* False: it is to be handed out now. */
bool pause_hold(struct transfer *transfer, struct slice bytes);
/* False: it is to be concluded now. */
bool pause_hold_end(struct transfer *transfer, CURLcode result);
void pauses_settle(struct http *http);

/* trust.c */
/* True: ready or failed, see state. Else the transfer waits. */
bool trust_admit(struct transfer *transfer);
void trust_release(struct trust *trust);

#endif
