/* A client for the tests of the http layer: one loop, one http, and calls that
 * note what comes. */
#ifndef LLM_ROUTER_TESTS_HTTP_CLIENT_H
#define LLM_ROUTER_TESTS_HTTP_CLIENT_H

#include <signal.h>
#include <sys/resource.h>

#include "llm_router/base/buf.h"
#include "llm_router/http/http.h"
#include "test_http_server.h"

enum { GIVE_UP_MS = 60000 };

static struct loop loop;
static struct http *http;
static struct loop_timer watchdog, timer;
static bool in_http; /* where no callback may come from */
static int waiting;

struct call {
    uint64_t id;
    int status;
    int headers_seen;
    bool done;
    struct http_outcome outcome;
    struct buf body;
    bool paused; /* by pause() */
    /* What to do in the callbacks. */
    uint64_t cancel_in_headers;
    uint64_t cancel_in_body;
    bool stop_in_body;
    bool pause_in_headers;
    bool pause_in_body;
    const char *header_wanted;
    char header[200];
};

static inline void give_up(void *context)
{
    (void)context;
    fail_msg("nothing happens any more");
}

static inline int set_up(void **state)
{
    const struct http_options options = {
        .max_idle_connections = 64,
        .max_idle_age_s = 60,
    };

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    loop_init(&loop);
    http = http_new(&loop, &options);
    loop_timer_start(&loop, &watchdog, GIVE_UP_MS, give_up, NULL);
    waiting = 0;
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    http_free(http);
    http = NULL;
    loop_timer_stop(&watchdog);
    loop_timer_stop(&timer);
    loop_release(&loop);
    return 0;
}

static inline void pause_call(struct call *call)
{
    call->paused = true;
    http_pause(http, call->id);
}

static inline void resume_call(struct call *call)
{
    call->paused = false;
    in_http = true;
    http_resume(http, call->id);
    in_http = false;
}

static inline void on_headers(void *context, uint64_t transfer, int status)
{
    struct call *call = context;

    assert_false(in_http);
    assert_false(call->done);
    assert_true(transfer == call->id);
    call->status = status;
    call->headers_seen++;
    if (call->header_wanted)
        snprintf(call->header, sizeof(call->header), "%.*s",
                 SLICE_ARG(http_header(http, transfer, call->header_wanted)));
    if (call->pause_in_headers)
        pause_call(call);
    if (call->cancel_in_headers)
        http_cancel(http, call->cancel_in_headers);
}

static inline bool on_body(void *context, uint64_t transfer, struct slice bytes)
{
    struct call *call = context;

    assert_false(in_http);
    assert_false(call->done);
    assert_true(transfer == call->id);
    assert_int_equal(call->headers_seen, 1);
    assert_false(call->paused);
    buf_append_slice(&call->body, bytes);
    if (call->pause_in_body)
        pause_call(call);
    if (call->cancel_in_body)
        http_cancel(http, call->cancel_in_body);
    return !call->stop_in_body;
}

static inline void on_done(void *context, uint64_t transfer,
                           const struct http_outcome *outcome)
{
    struct call *call = context;

    assert_false(in_http);
    assert_false(call->done);
    assert_true(transfer == call->id);
    call->done = true;
    call->outcome = *outcome;
    if (--waiting == 0)
        loop_stop(&loop);
}

static const struct http_events events = {
    .on_headers = on_headers,
    .on_body = on_body,
    .on_done = on_done,
};
static const char *const header_lines[] = {"Content-Type: application/json",
                                           "Authorization: Bearer secret"};

static inline struct http_request request_to(const char *url)
{
    return (struct http_request){
        .url = url,
        .headers = header_lines,
        .header_count = 2,
        .body = SLICE_LITERAL("{\"a\":1}"),
        .plain_http_allowed = true,
        .connect_timeout_ms = 5000,
        .headers_timeout_ms = 5000,
        .total_timeout_ms = 10000,
        .max_body_bytes = 100000,
    };
}

static inline void submit(struct call *call, const struct http_request *request)
{
    /* The loop's clock stands still between its turns. */
    uv_update_time(&loop.uv);
    buf_init(&call->body, 1 << 20);
    in_http = true;
    call->id = http_submit(http, request, &events, call);
    in_http = false;
    assert_int_not_equal(call->id, 0);
    waiting++;
}

static inline void stop_loop(void *context)
{
    (void)context;
    loop_stop(&loop);
}

static inline void run_for(uint64_t ms)
{
    loop_timer_start(&loop, &timer, ms, stop_loop, NULL);
    loop_run(&loop);
}

/* One call from its start to its end. */
static inline void ask(struct call *call, const struct http_request *request)
{
    submit(call, request);
    loop_run(&loop);
    assert_true(call->done);
    assert_int_equal(http_stats(http).in_flight, 0);
}

static inline void forget(struct call *call)
{
    buf_release(&call->body);
}

static inline long resident_kib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* Each test with a server: the client goes first, then the scripts end. */
static inline void finish(struct server *server)
{
    http_free(http);
    http = NULL;
    server_stop(server);
}

#endif
