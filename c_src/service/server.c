#include "llm_router/service/server.h"

#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/time.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/web/web.h"
#include "service/parent_internal.h"
#include "service/service_internal.h"

enum {
    HAND_OVER_MS = 2000,    /* for another router to get the name */
    NAME_RELEASE_MS = 2000, /* for global to forget the name */
    CLOSE_MS = 1000,        /* for peers to take the last answers */
    SPARE_MS = 5000,        /* for a system that is busy */
    TELL_LOG_MS = 1000,
    POLICY_MAX = 4096,

    /* When the supervisor is gone: nobody waits for the end any more. */
    ORPHAN_DRAIN_MS = 1000,
    ORPHAN_END_MS = 1700,
    ORPHAN_KILL_MS = 1900,
};

/* Names the service answers to besides its pid. */
static const char *const service_names[] = {"llm_router",
                                            "Elixir.LLMRouter.Server"};
static const char GLOBAL_NAME[] = "llm_router";

struct server {
    struct service service;
    struct loop_timer drain_limit;
    struct loop_timer tell_log;
    struct parent parent;
    struct loop_timer end; /* when the parent is gone */
    enum exit_code exit_code;
    bool signalled;
    bool closing;
};

/* The end. */

static void on_node_closed(void *context)
{
    struct server *server = context;

    loop_stop(&server->service.loop);
}

static void close_node(struct server *server)
{
    if (server->closing)
        return;
    server->closing = true;
    loop_timer_stop(&server->drain_limit);
    node_close(server->service.node, CLOSE_MS, on_node_closed, server);
}

static void on_idle(void *context)
{
    close_node(context);
}

static void refuse_calls(struct service *service)
{
    if (!service->handing_over)
        return;
    service->handing_over = false;
    if (service->queue)
        queue_refuse(service->queue);
}

static void on_drain_limit(void *context)
{
    struct server *server = context;
    struct service *service = &server->service;
    struct error err;

    refuse_calls(service);
    error_set(&err, ERR_SHUTTING_DOWN, "this router is shutting down");
    log_event(LOG_WARN, "server", "drain limit reached",
              LOG_FIELDS(log_count("in_flight", service->in_flight)));
    LIST_EACH(link, &service->jobs)
    job_fail(LIST_ENTRY(link, struct job, link), &err);
    scripts_fail_all(service->scripts, &err);
    /* What the database does not take now comes back by itself. */
    loop_timer_start(&service->loop, &server->drain_limit, CLOSE_MS, on_idle,
                     server);
}

static void on_name_released(void *context)
{
    struct server *server = context;

    server->service.on_idle = on_idle;
    service_check_idle(&server->service);
}

static void tell_draining(struct server *server)
{
    struct service *service = &server->service;
    uint64_t limit_ms = (uint64_t)service->config->drain_timeout_ms;
    char status[64];

    snprintf(status, sizeof(status), "draining, %zu in flight",
             service->in_flight);
    systemd_stopping(&service->systemd,
                     limit_ms + NAME_RELEASE_MS + 2 * CLOSE_MS + SPARE_MS,
                     status);
}

static void on_handed_over(void *context)
{
    struct server *server = context;
    struct service *service = &server->service;

    refuse_calls(service);
    node_release_name(service->node, NAME_RELEASE_MS, on_name_released, server);
}

/* A router that drains does not say `ok`. */
static bool is_well(struct term health)
{
    struct term status;

    return term_map_find(health, "status", &status) &&
           term_is_atom(status, "ok");
}

/* Once, however often it is asked for. Calls are taken until another router
 * has the name, or there is none. */
static void drain(void *context)
{
    static const struct node_handover handover = {
        .question = {"w\6health", 8},
        .is_well = is_well,
    };
    struct server *server = context;
    struct service *service = &server->service;

    if (service->draining)
        return;
    log_event(LOG_INFO, "server", "draining",
              LOG_FIELDS(log_count("in_flight", service->in_flight)));
    tell_draining(server);
    service->draining = service->handing_over = true;
    if (service->queue)
        queue_drain(service->queue);
    loop_timer_start(&service->loop, &server->drain_limit,
                     (uint64_t)service->config->drain_timeout_ms,
                     on_drain_limit, server);
    node_hand_over_name(service->node, &handover, HAND_OVER_MS, on_handed_over,
                        server);
}

/* An end that is nearer stays. */
static void drain_within(struct server *server, int64_t limit_ms)
{
    struct loop_timer *limit = &server->drain_limit;
    struct loop *loop = &server->service.loop;

    drain(server);
    if (loop_timer_running(limit) &&
        limit->due_ms > loop_now_ms(loop) + (uint64_t)limit_ms)
        loop_timer_start(loop, limit, (uint64_t)limit_ms, on_drain_limit,
                         server);
}

static void on_parent_stop(void *context, int64_t drain_ms)
{
    log_line(LOG_INFO, "server", "the supervisor says stop");
    drain_within(context, drain_ms);
}

static void on_end(void *context)
{
    struct server *server = context;

    loop_stop(&server->service.loop);
}

/* A name that a thread is looking up holds the end up for many seconds: then
 * SIGALRM ends the process. */
static void end_by_alarm(int64_t after_ms)
{
    const struct itimerval alarm = {
        .it_value = {.tv_sec = after_ms / 1000,
                     .tv_usec = after_ms % 1000 * 1000},
    };

    setitimer(ITIMER_REAL, &alarm, NULL);
}

static void on_parent_gone(void *context)
{
    struct server *server = context;

    log_line(LOG_WARN, "server", "the supervisor is gone");
    end_by_alarm(ORPHAN_KILL_MS);
    drain_within(server, ORPHAN_DRAIN_MS);
    loop_timer_start(&server->service.loop, &server->end, ORPHAN_END_MS, on_end,
                     server);
}

static const struct parent_events parent_events = {
    .stop = on_parent_stop,
    .gone = on_parent_gone,
};

static void on_signal(void *context, int signal)
{
    struct server *server = context;

    if (signal == SIGHUP) {
        reload_unasked(&server->service);
        return;
    }
    if (server->signalled) {
        log_line(LOG_WARN, "server", "second signal: stopping at once");
        loop_stop(&server->service.loop);
        return;
    }
    log_event(LOG_INFO, "server", "stopping on a signal",
              LOG_FIELDS(log_integer("signal", signal)));
    server->signalled = true;
    drain(server);
}

/* What the node tells. */

static void on_ready(void *context)
{
    struct server *server = context;
    char status[300];

    server->service.ready = true;
    log_event(LOG_INFO, "server", "ready",
              LOG_FIELDS(log_text(
                  "node", slice_of(server->service.config->node_name))));
    printf("ready %s\n", server->service.config->node_name);
    fflush(stdout);
    snprintf(status, sizeof(status), "ready as %s",
             server->service.config->node_name);
    systemd_ready(&server->service.systemd, status);
    if (server->service.queue)
        queue_open(server->service.queue);
}

static void fail_start(struct server *server, const struct error *err)
{
    log_event(LOG_ERROR, "server", "cannot start",
              LOG_FIELDS(log_text("reason", slice_of(err->message))));
    server->exit_code = EXIT_CANNOT_START;
}

static void on_failed(void *context, const struct error *err)
{
    struct server *server = context;

    fail_start(server, err);
    loop_stop(&server->service.loop);
}

static void on_message(void *context, const struct node_message *message)
{
    struct server *server = context;

    dispatch_message(&server->service, message);
}

static void on_refused(void *context, uint64_t connection, struct slice pid,
                       struct slice tag, const struct error *err)
{
    struct server *server = context;

    dispatch_refused(&server->service, connection, pid, tag, err);
}

static void on_rpc(void *context, const struct node_rpc *rpc)
{
    struct server *server = context;

    dispatch_rpc(&server->service, rpc);
}

static void on_rpc_abandoned(void *context, uint64_t call)
{
    struct server *server = context;

    taker_rpc_abandoned(&server->service, call);
}

static void on_demonitored(void *context, uint64_t connection,
                           struct slice reference)
{
    struct server *server = context;

    taker_demonitored(&server->service, connection, reference);
}

static void on_process_down(void *context, uint64_t monitor)
{
    struct server *server = context;

    taker_process_down(&server->service, monitor);
}

static void on_peer_up(void *context, uint64_t connection, struct slice peer)
{
    struct server *server = context;

    access_peer_up(&server->service, connection, peer);
    log_event(LOG_INFO, "server", "peer up",
              LOG_FIELDS(log_text("peer", peer),
                         log_count("connection", connection)));
}

static void on_peer_down(void *context, uint64_t connection, struct slice peer)
{
    struct server *server = context;

    access_peer_down(&server->service, connection);
    log_event(LOG_INFO, "server", "peer down",
              LOG_FIELDS(log_text("peer", peer),
                         log_count("connection", connection)));
}

static void on_peer_drained(void *context, uint64_t connection)
{
    struct server *server = context;

    stream_drained(&server->service, connection);
}

static const struct node_events node_events = {
    .ready = on_ready,
    .failed = on_failed,
    .message = on_message,
    .refused = on_refused,
    .rpc = on_rpc,
    .rpc_abandoned = on_rpc_abandoned,
    .demonitored = on_demonitored,
    .process_down = on_process_down,
    .peer_up = on_peer_up,
    .peer_down = on_peer_down,
    .peer_drained = on_peer_drained,
};

/* Setting up and taking down. */

static uint64_t random_seed(void)
{
    uint64_t seed = 0;

    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed) || seed == 0)
        seed = 0x9E3779B97F4A7C15u;
    return seed;
}

static void set_up_tables(struct service *service)
{
    uint64_t seed = service->seed;

    list_init(&service->jobs);
    list_init(&service->lines);
    list_init(&service->paused);
    list_init(&service->answered);
    list_init(&service->cached);
    list_init(&service->told);
    list_init(&service->gone);
    map_init(&service->callers, seed);
    map_init(&service->topics, seed);
    map_init(&service->watches, seed);
    map_init(&service->takers, seed);
    map_init(&service->by_request, seed);
    map_init(&service->by_reference, seed);
    map_init(&service->answers, seed);
    map_init(&service->cache, seed);
    line_init(service, &service->admission, slice_of(NULL));
}

static void set_up_service(struct server *server, struct settings *settings)
{
    struct service *service = &server->service;
    const struct config *config = &settings->config;

    service->settings = settings_keep(settings);
    service->config = service->at_start = config;
    service->seed = service->chance = random_seed();
    service->on_drain = drain;
    service->context = server;
    loop_init(&service->loop);
    service->started_ms = loop_now_ms(&service->loop);
    service->started_unix_ms = loop_unix_ms();
    set_up_tables(service);
    arena_init(&service->spare, CALL_BLOCK);
    buf_init(&service->value, (size_t)config->max_frame_bytes);
    buf_init(&service->head, (size_t)config->max_frame_bytes);
    buf_init(&service->asked, SIZE_MAX);
    buf_init(&service->policy, POLICY_MAX);
    service->meters = meters_new(service->seed);
    service->history = history_new();
    service->supply = supply_new(service->seed);
    settings_apply(settings, service->supply);
    service->spending = spending_new(service);
    service->queue = queue_new(service);
    service->scripts = scripts_new(service);
}

static void set_up_io(struct server *server, const struct config *config)
{
    struct service *service = &server->service;
    const struct http_options http = {
        .max_connections_per_host = (size_t)config->max_connections_per_host,
        .max_idle_connections = 256,
        .max_idle_age_s = 90,
        .ca_file = config->ca_file.size > 0 ? config->ca_file.data : NULL,
    };
    const struct node_options node = {
        .name = config->node_name,
        .cookie = config->cookie,
        .global_name = GLOBAL_NAME,
        .names = service_names,
        .name_count = sizeof(service_names) / sizeof(service_names[0]),
        .peers = config->peers,
        .peer_count = config->peer_count,
        .port = (uint16_t)config->port,
        .tls = service->settings->tls,
        .max_frame_bytes = (size_t)config->max_frame_bytes,
        .max_send_queue_bytes = (size_t)config->max_send_queue_bytes,
        .handshake_timeout_ms = 7000,
        .max_handshakes = (size_t)config->max_handshakes,
        .tick_time_ms = (uint64_t)config->tick_time_ms,
        .backlog_high_bytes = (size_t)config->max_stream_bytes,
    };

    service->upstream = (struct upstream){
        .loop = &service->loop,
        .http = http_new(&service->loop, &http),
    };
    service->node = node_new(&service->loop, &node, &node_events, server);
}

static void release_lines(struct service *service)
{
    line_release(&service->admission);
    LIST_EACH(link, &service->lines)
    {
        struct line *line = LIST_ENTRY(link, struct line, link);

        line_release(line);
        mem_free(line);
    }
}

static void release(struct server *server)
{
    struct service *service = &server->service;

    service->draining = false; /* no on_idle from here */
    LIST_EACH(link, &service->jobs)
    job_cancel(LIST_ENTRY(link, struct job, link));
    loop_timer_stop(&server->drain_limit);
    loop_timer_stop(&server->end);
    loop_timer_stop(&server->tell_log);
    systemd_stop(&service->systemd);
    parent_stop(&server->parent);
    scripts_free(service->scripts);
    queue_free(service->queue);
    web_free(service->web);
    node_free(service->node);
    watchers_release(service);
    http_free(service->upstream.http);
    reload_release(service);
    spending_free(service->spending);
    release_lines(service);
    access_release(service);
    answers_release(service);
    cache_release(service);
    map_release(&service->takers);
    map_release(&service->by_request);
    map_release(&service->by_reference);
    arena_release(&service->spare);
    buf_release(&service->value);
    buf_release(&service->head);
    buf_release(&service->asked);
    buf_release(&service->policy);
    loop_timer_stop(&service->memory.timer);
    loop_release(&service->loop);
    log_batch_end();
    meters_free(service->meters);
    history_free(service->history);
    supply_free(service->supply);
    settings_drop(service->settings);
}

/* Lines that were not written are told also when no further ones come. */
static void tell_log(void *context)
{
    struct server *server = context;

    log_tell();
    loop_timer_start(&server->service.loop, &server->tell_log, TELL_LOG_MS,
                     tell_log, server);
}

enum exit_code server_run(struct settings *settings, int argc,
                          const char *const *argv,
                          struct line_reader *supervisor)
{
    const struct config *config = &settings->config;
    struct server *server = mem_alloc(sizeof(*server));
    enum exit_code exit_code;
    struct error err;

    server->service.argc = argc;
    server->service.argv = argv;
    set_up_service(server, settings);
    set_up_io(server, config);
    loop_on_signal(&server->service.loop, on_signal, server);
    if (supervisor)
        parent_start(&server->parent, &server->service, STDIN_FILENO,
                     supervisor, &parent_events, server);
    else /* what the supervisor inherited of systemd is its own */
        systemd_start(&server->service.systemd, &server->service.loop);
    log_batch_start();
    loop_on_turn_end(&server->service.loop, log_flush);
    tell_log(server);
    if (pages_start(&server->service, &err)) {
        node_start(server->service.node, (uint64_t)config->startup_timeout_ms);
        loop_run(&server->service.loop);
    } else {
        fail_start(server, &err);
    }
    exit_code = server->exit_code;
    release(server);
    mem_free(server);
    return exit_code;
}
