#include "http_internal.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "llm_router/base/mem.h"

static void end_of_turn(void *context);

static void free_poll(uv_handle_t *poll)
{
    mem_free(poll);
}

static void open_set(struct http *http)
{
    http->set = epoll_create1(EPOLL_CLOEXEC);
    http->poll = mem_alloc(sizeof(*http->poll));
    http->poll->data = http;
    loop_check(uv_poll_init(&http->loop->uv, http->poll, http->set),
               "uv_poll_init");
    uv_poll_start(http->poll, UV_READABLE, sockets_ready);
}

static void close_set(struct http *http)
{
    uv_poll_stop(http->poll);
    uv_close((uv_handle_t *)http->poll, free_poll);
    close(http->set);
}

struct http *http_new(struct loop *loop, const struct http_options *options)
{
    struct http *http = mem_alloc(sizeof(*http));
    size_t most = options->max_connections_per_host;

    curl_global_init_mem(CURL_GLOBAL_DEFAULT, mem_alloc_raw, mem_free,
                         mem_realloc, mem_copy_string, mem_alloc_many);
    http->loop = loop;
    http->options = *options;
    list_init(&http->ready);
    list_init(&http->untrusted);
    list_init(&http->sending);
    list_init(&http->unsettled);
    list_init(&http->dying);
    list_init(&http->due);
    list_init(&http->changed);
    map_init(&http->transfers, 0);
    map_init(&http->origins, 0);
    /* curl counts connections in each multi by itself. */
    http->lane_count = LANES_MAX;
    if (most > 0 && most / LANE_FULL < LANES_MAX)
        http->lane_count = most < LANE_FULL ? 1 : most / LANE_FULL;
    open_set(http);
    http->share = curl_share_init();
    curl_share_setopt(http->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    curl_share_setopt(http->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    return http;
}

static void transfer_free(struct transfer *transfer)
{
    buf_release(&transfer->held);
    mem_free(transfer);
}

static void drop(struct transfer *transfer)
{
    if (transfer->lane)
        lane_remove(transfer);
    loop_timer_stop(&transfer->timer);
    transfer_free(transfer);
}

static void drop_each(void *transfer, void *context)
{
    (void)context;
    drop(transfer);
}

void http_free(struct http *http)
{
    if (!http)
        return;
    LIST_EACH(link, &http->dying)
    {
        drop(LIST_ENTRY(link, struct transfer, link));
    }
    map_each(&http->transfers, drop_each, NULL);
    map_release(&http->transfers);
    while (http->spare_count > 0)
        curl_easy_cleanup(http->spare[--http->spare_count]);
    for (size_t i = 0; i < LANES_MAX; i++) {
        lane_release(&http->lanes[LANE_SHARED][i]);
        lane_release(&http->lanes[LANE_PAUSABLE][i]);
    }
    curl_share_cleanup(http->share);
    loop_task_cancel(&http->task);
    loop_timer_stop(&http->again);
    sockets_release(http);
    close_set(http);
    origins_release(http);
    trust_release(&http->trust);
    curl_global_cleanup();
    mem_free(http);
}

void http_wake(struct http *http)
{
    loop_defer(http->loop, &http->task, end_of_turn, http);
}

static void wake(void *http)
{
    http_wake(http);
}

void http_wake_after(struct http *http, uint64_t delay_ms)
{
    loop_timer_start(http->loop, &http->again, delay_ms, wake, http);
}

static uint64_t after(uint64_t now_ms, uint64_t delay_ms)
{
    return delay_ms > UINT64_MAX - now_ms ? UINT64_MAX : now_ms + delay_ms;
}

static uint64_t due(const struct transfer *transfer)
{
    return transfer->phase_due_ms < transfer->total_due_ms
               ? transfer->phase_due_ms
               : transfer->total_due_ms;
}

static void time_out(struct transfer *transfer)
{
    static const char *const waiting_for[] = {
        [PHASE_CONNECTING] = "no connection",
        [PHASE_SENT] = "no answer",
        [PHASE_BODY] = "the answer was not complete",
    };
    const struct http_request *request = &transfer->request;
    bool total = transfer->total_due_ms <= transfer->phase_due_ms;
    uint64_t limit = total ? request->total_timeout_ms
                     : transfer->phase == PHASE_CONNECTING
                         ? request->connect_timeout_ms
                         : request->headers_timeout_ms;
    struct http_outcome outcome = {
        .end = HTTP_TIMEOUT,
        .status = transfer->status,
    };

    error_set(&outcome.error, ERR_TIMEOUT, "%.*s: %s within %llu ms%s",
              SLICE_ARG(url_host_port(request->url)),
              waiting_for[transfer->phase], (unsigned long long)limit,
              total ? " in all" : "");
    transfer_end(transfer, &outcome);
}

static void on_due(void *context);

static void arm(struct transfer *transfer)
{
    uint64_t now = loop_now_ms(transfer->http->loop);

    loop_timer_start(transfer->http->loop, &transfer->timer,
                     due(transfer) > now ? due(transfer) - now : 0, on_due,
                     transfer);
}

/* A phase that began moved the limit but left the timer where it was. */
static void on_due(void *context)
{
    struct transfer *transfer = context;

    if (loop_now_ms(transfer->http->loop) < due(transfer))
        arm(transfer);
    else
        time_out(transfer);
}

static void enter(struct transfer *transfer, enum phase phase,
                  uint64_t limit_ms)
{
    uint64_t now = loop_now_ms(transfer->http->loop);

    transfer->phase = phase;
    transfer->phase_due_ms = after(now, limit_ms);
    if (!loop_timer_running(&transfer->timer) ||
        due(transfer) < transfer->timer.due_ms)
        arm(transfer);
}

static struct transfer *transfer_new(struct http *http,
                                     const struct http_request *request)
{
    /* The first switches off "Expect: 100-continue". */
    static const char *const ours[] = {"Expect:", "User-Agent: llm_router",
                                       ("Accept-Encoding: " ENCODINGS)};
    const size_t ours_count = sizeof(ours) / sizeof(ours[0]);
    size_t lines = request->header_count + ours_count;
    struct transfer *transfer =
        mem_alloc(sizeof(*transfer) + lines * sizeof(struct curl_slist));

    for (size_t i = 0; i < lines; i++) {
        /* curl reads through a pointer to char, but writes nothing. */
        union {
            const char *lent;
            char *data;
        } line = {.lent = i < ours_count ? ours[i]
                                         : request->headers[i - ours_count]};

        transfer->headers[i].data = line.data;
        transfer->headers[i].next =
            i + 1 < lines ? &transfer->headers[i + 1] : NULL;
    }
    transfer->http = http;
    transfer->request = *request;
    buf_init(&transfer->held, SIZE_MAX); /* max_body_bytes is counted */
    transfer->id = ++http->last_id;
    return transfer;
}

uint64_t http_submit(struct http *http, const struct http_request *request,
                     const struct http_events *events, void *context)
{
    struct transfer *transfer = transfer_new(http, request);

    transfer->events = *events;
    transfer->context = context;
    transfer->total_due_ms =
        after(loop_now_ms(http->loop), request->total_timeout_ms);
    enter(transfer, PHASE_CONNECTING, request->connect_timeout_ms);
    map_put(&http->transfers, MAP_KEY(transfer->id), transfer);
    list_append(&http->ready, &transfer->link);
    http->stats.transfers_started++;
    http_wake(http);
    return transfer->id;
}

static bool scheme_is_allowed(const struct http_request *request)
{
    struct slice url = slice_of(request->url);
    struct slice start = {url.data, url.size < 8 ? url.size : 8};

    if (slice_is_nocase(start, "https://"))
        return true;
    start.size = url.size < 7 ? url.size : 7;
    return request->plain_http_allowed && slice_is_nocase(start, "http://");
}

bool transfer_is_secure(const struct transfer *transfer)
{
    return transfer->request.url[4] != ':';
}

void transfer_start(struct transfer *transfer)
{
    struct http *http = transfer->http;
    bool secure;

    if (!scheme_is_allowed(&transfer->request)) {
        transfer_fail(transfer, "only https:// is allowed for this host");
        return;
    }
    secure = transfer_is_secure(transfer);
    if (secure && !trust_admit(transfer))
        return;
    if (secure && http->trust.state == TRUST_FAILED) {
        transfer_fail(transfer, "the CA certificates could not be read");
        return;
    }
    transfer->origin = origin_of(http, transfer->request.url);
    if (!origin_admit(transfer) || lane_add(http, transfer))
        return;
    if (transfer->verdict == HTTP_STOPPED)
        transfer_end(transfer, &(struct http_outcome){.end = HTTP_STOPPED});
    else
        transfer_fail(transfer, "the address or a header is not valid");
}

void transfer_connected(struct transfer *transfer)
{
    enter(transfer, PHASE_SENT, transfer->request.headers_timeout_ms);
    if (origin_is_led_by(transfer))
        origin_reached(transfer);
}

bool transfer_answered(struct transfer *transfer, int status)
{
    transfer->status = status;
    enter(transfer, PHASE_BODY, UINT64_MAX);
    if (transfer->events.on_headers)
        transfer->events.on_headers(transfer->context, transfer->id, status);
    return !transfer->cancelled;
}

void transfer_take(struct transfer *transfer, struct slice bytes)
{
    if (transfer->events.on_body &&
        !transfer->events.on_body(transfer->context, transfer->id, bytes))
        transfer->verdict = HTTP_STOPPED;
}

void transfer_conclude(struct transfer *transfer, CURLcode result)
{
    struct http_outcome outcome;

    easy_outcome(transfer, result, &outcome);
    transfer_end(transfer, &outcome);
}

void transfer_end(struct transfer *transfer, const struct http_outcome *outcome)
{
    loop_timer_stop(&transfer->timer);
    list_remove(&transfer->link);
    if (transfer->lane)
        lane_remove(transfer);
    map_remove(&transfer->http->transfers, MAP_KEY(transfer->id));
    if (transfer->events.on_done)
        transfer->events.on_done(transfer->context, transfer->id, outcome);
    if (origin_is_led_by(transfer))
        origin_left(transfer, outcome);
    transfer_free(transfer);
}

void transfer_fail(struct transfer *transfer, const char *reason)
{
    struct http_outcome outcome = {.end = HTTP_NO_ANSWER};

    error_set(&outcome.error, ERR_UNREACHABLE, "%.*s: %s",
              SLICE_ARG(url_host_port(transfer->request.url)), reason);
    transfer_end(transfer, &outcome);
}

static void bury(struct transfer *transfer)
{
    list_remove(&transfer->link);
    if (origin_is_led_by(transfer))
        origin_left(transfer, NULL);
    drop(transfer);
}

void http_cancel(struct http *http, uint64_t id)
{
    struct transfer *transfer = map_remove(&http->transfers, MAP_KEY(id));

    if (!transfer)
        return;
    http->stats.transfers_cancelled++;
    if (!http->in_callback) {
        bury(transfer);
        return;
    }
    transfer->cancelled = true;
    loop_timer_stop(&transfer->timer);
    list_remove(&transfer->link);
    list_append(&http->dying, &transfer->link);
    http_wake(http);
}

static void bury_dying(struct http *http)
{
    while (!list_is_empty(&http->dying))
        bury(LIST_ENTRY(http->dying.next, struct transfer, link));
}

static void start_ready(struct http *http)
{
    for (int i = 0; i < STARTS_PER_TURN && !list_is_empty(&http->ready); i++) {
        struct transfer *transfer =
            LIST_ENTRY(http->ready.next, struct transfer, link);

        list_remove(&transfer->link);
        transfer_start(transfer);
    }
}

/* What callbacks of curl may not do, and what is cheaper once per turn. What
 * becomes ready meanwhile is left to the next turn: a caller that submits
 * again from on_done must not keep this one from ending. */
static void end_of_turn(void *context)
{
    struct http *http = context;

    bury_dying(http);
    start_ready(http);
    pauses_settle(http);
    http->in_last_pass = true;
    lanes_run_due(http);
    bury_dying(http);
    bodies_settle(http);
    sockets_apply(http);
    http->in_last_pass = false;
    loop_task_cancel(&http->task);
    if (!list_is_empty(&http->ready) || !list_is_empty(&http->unsettled))
        http_wake_after(http, 0);
}

struct slice http_header(struct http *http, uint64_t id, const char *name)
{
    struct transfer *transfer = map_find(&http->transfers, MAP_KEY(id));
    struct curl_header *header;

    if (!transfer || !transfer->easy ||
        curl_easy_header(transfer->easy, name, 0, CURLH_HEADER, -1, &header) !=
            CURLHE_OK)
        return slice_of(NULL);
    if (header->amount > 1 &&
        curl_easy_header(transfer->easy, name, header->amount - 1, CURLH_HEADER,
                         -1, &header) != CURLHE_OK)
        return slice_of(NULL);
    return slice_of(header->value);
}

static bool is_unused(const struct http *http, const struct lane *lane)
{
    return lane->multi && lane->in_flight == 0 &&
           loop_now_ms(http->loop) - lane->left_ms >=
               http->options.max_idle_age_s * 1000;
}

bool http_close_unused(struct http *http)
{
    for (size_t i = 0; i < LANES_MAX; i++)
        for (int kind = 0; kind < LANE_KINDS; kind++)
            if (is_unused(http, &http->lanes[kind][i])) {
                lane_release(&http->lanes[kind][i]);
                return true;
            }
    return false;
}

struct http_stats http_stats(const struct http *http)
{
    struct http_stats stats = http->stats;

    stats.in_flight = http->transfers.count;
    return stats;
}
