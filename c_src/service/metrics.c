/* What /metrics says, with what metrics/meters.h counts. */
#include <math.h>

#include "llm_router/base/log.h"
#include "llm_router/dist/tls.h"
#include "llm_router/metrics/exposition.h"
#include "service/service_internal.h"

/* A family of one sample without labels. */
struct reading {
    struct family family;
    double value;
};

#define COUNTER(name, value, help)               \
    {                                            \
        {name, "counter", help}, (double)(value) \
    }
#define GAUGE(name, value, help)               \
    {                                          \
        {name, "gauge", help}, (double)(value) \
    }

static void put_readings(struct buf *out, const struct reading *readings,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (isnan(readings[i].value))
            continue;
        exposition_begin(out, &readings[i].family);
        exposition_value(out, &readings[i].family, NULL, 0, readings[i].value);
    }
}

#define PUT_READINGS(out, readings) \
    put_readings(out, readings, sizeof(readings) / sizeof((readings)[0]))

static void put_identity(const struct service *service, struct buf *out)
{
    static const struct family family = {
        "llm_router_build_info", "gauge",
        "Always 1: which version, which node."};
    const struct label labels[] = {
        {"version", info_version()},
        {"node", slice_of(service->config->node_name)},
    };

    exposition_begin(out, &family);
    exposition_value(out, &family, labels, 2, 1);
}

static void put_received(const struct stats *stats, struct buf *out)
{
    static const struct family family = {
        "llm_router_received_total", "counter",
        "Requests of callers, ended or not, and questions such as ping."};

    exposition_begin(out, &family);
    for (int i = 0; i < OPERATION_COUNT; i++) {
        const struct label label = {
            "operation", slice_of(operation_atom((enum operation)i))};

        if (stats->requests[i] > 0)
            exposition_value(out, &family, &label, 1,
                             (double)stats->requests[i]);
    }
}

static void put_state(const struct service *service,
                      const struct figures *figures, struct buf *out)
{
    const struct reading readings[] = {
        GAUGE("llm_router_ready", service_is_ready(service),
              "1 when it can be called."),
        GAUGE("llm_router_draining", service->draining,
              "1 once it has begun to end."),
        GAUGE("llm_router_global_name_held", figures->node.name_held,
              "1 when the global name llm_router is this router's."),
        GAUGE("llm_router_in_flight", service->in_flight,
              "Requests under way, those that wait included."),
        GAUGE("llm_router_calling", service->calling,
              "Requests that hold a slot."),
        GAUGE("llm_router_slots", service->config->max_in_flight,
              "How many may: limits.in_flight."),
        GAUGE("llm_router_waiting", service->waiting,
              "Requests that wait for a slot, or for room at a provider."),
        GAUGE("llm_router_watchers", service->watches.count,
              "Processes that watch something."),
        GAUGE("llm_router_cache_bytes", service->cached_bytes,
              "Memory of cached answers."),
    };

    PUT_READINGS(out, readings);
}

static void put_counters(const struct stats *stats, struct buf *out)
{
    const struct reading readings[] = {
        COUNTER("llm_router_retries_total", stats->retries,
                "Provider calls after one that failed."),
        COUNTER("llm_router_turns_total", stats->turns,
                "Provider calls to repair or to go on with an answer."),
        COUNTER("llm_router_fallbacks_total", stats->fallbacks,
                "Requests answered by another than their first candidate."),
        COUNTER("llm_router_cache_hits_total", stats->cache_hits,
                "Answers out of the cache."),
        COUNTER("llm_router_cache_misses_total", stats->cache_misses,
                "Requests that the cache had no answer for."),
        COUNTER("llm_router_stream_pauses_total", stats->pauses,
                "How often a stream waited for a slow receiver."),
        COUNTER("llm_router_undeliverable_total", stats->undeliverable,
                "Answers whose taker could not be reached."),
        COUNTER("llm_router_ignored_total", stats->ignored,
                "Stray messages that were dropped."),
        COUNTER("llm_router_scripts_total", stats->scripts, "Scripts run."),
        COUNTER("llm_router_notices_total", stats->notices,
                "Messages to watchers."),
        COUNTER("llm_router_notices_dropped_total", stats->notices_dropped,
                "Messages to watchers that did not read."),
        COUNTER("llm_router_reloads_total", stats->reloads,
                "Configurations that were taken over."),
        COUNTER("llm_router_reloads_failed_total", stats->reloads_failed,
                "Configurations that were refused: the old one stayed."),
    };

    PUT_READINGS(out, readings);
}

static void put_traffic(const struct figures *figures, struct buf *out)
{
    const struct node_stats *node = &figures->node;
    const struct http_stats *http = &figures->http;
    const struct reading readings[] = {
        GAUGE("llm_router_peers", node->peers, "Connected nodes."),
        GAUGE("llm_router_handshakes", node->handshakes,
              "Nodes that are about to connect."),
        COUNTER("llm_router_peers_closed_total", node->closed_peers,
                "Connections of nodes that were closed for a fault."),
        COUNTER("llm_router_dist_frames_received_total", node->frames_in,
                "Messages from nodes."),
        COUNTER("llm_router_dist_frames_sent_total", node->frames_out,
                "Messages to nodes."),
        COUNTER("llm_router_dist_bytes_received_total", node->bytes_in,
                "Bytes from nodes."),
        COUNTER("llm_router_dist_bytes_sent_total", node->bytes_out,
                "Bytes to nodes."),
        COUNTER("llm_router_http_connections_opened_total",
                http->connections_opened, "Connections to providers."),
        COUNTER("llm_router_http_transfers_total", http->transfers_started,
                "HTTP requests to providers."),
        COUNTER("llm_router_http_transfers_aborted_total",
                http->transfers_cancelled, "Of them, those aborted."),
        COUNTER("llm_router_http_transfers_repeated_total",
                http->transfers_repeated,
                "Sent again, because the connection ended before an answer: "
                "a provider may count two."),
    };

    PUT_READINGS(out, readings);
}

static void put_certificates(const struct tls_context *tls, struct buf *out)
{
    const struct tls_expiry expiry = tls_context_expiry(tls);
    const struct reading readings[] = {
        GAUGE("llm_router_tls_certificate_not_after_timestamp_seconds",
              expiry.own_s,
              "When the certificate shown to nodes expires, since 1970."),
        GAUGE("llm_router_tls_earliest_not_after_timestamp_seconds",
              expiry.earliest_s,
              "When the first of it, its chain and the authorities does."),
    };

    PUT_READINGS(out, readings);
}

static void put_process(const struct service *service,
                        const struct figures *figures, struct buf *out)
{
    const struct reading readings[] = {
        GAUGE("llm_router_uptime_seconds", (double)figures->uptime_ms / 1e3,
              "Since the start."),
        COUNTER("llm_router_loop_turns_total", service->loop.turns,
                "Turns of the event loop."),
        GAUGE("llm_router_loop_longest_stall_seconds",
              (double)figures->longest_stall_ms / 1e3,
              "The longest time that no socket was looked at, ever; over 0.05 "
              "is a defect."),
        COUNTER("llm_router_log_lines_dropped_total", log_dropped(),
                "Lines that stderr did not take."),
        GAUGE("process_resident_memory_bytes", figures->resident_bytes,
              "Resident memory of the process."),
        COUNTER("process_cpu_seconds_total", (double)figures->cpu_us / 1e6,
                "Processor time of the process."),
        GAUGE("process_open_fds", figures->open_descriptors,
              "Open descriptors."),
        GAUGE("process_start_time_seconds",
              (double)service->started_unix_ms / 1e3, "Since 1970."),
        GAUGE("process_max_fds", figures->descriptor_limit,
              "How many descriptors may be open."),
    };

    PUT_READINGS(out, readings);
}

/* -1: not known (yet). */
static double known(int64_t value)
{
    return value < 0 ? (double)NAN : (double)value;
}

static void put_queue(const struct queue_figures *queue, struct buf *out)
{
    const struct reading readings[] = {
        GAUGE("llm_router_queue_up", queue->up,
              "1 when its database can be used."),
        GAUGE("llm_router_queue_depth", known(queue->depth),
              "Messages in the queue, those under way included."),
        GAUGE("llm_router_queue_oldest_age_seconds", known(queue->oldest_s),
              "Age of the oldest message in the queue."),
        GAUGE("llm_router_queue_lag_seconds", known(queue->lag_ms) / 1e3,
              "How long the message that was read last had waited."),
        GAUGE("llm_router_queue_in_flight", queue->in_flight,
              "Messages that are held here."),
        GAUGE("llm_router_queue_unstored", queue->unstored,
              "Of them, those whose answer waits for the database."),
        GAUGE("llm_router_queue_awaited", queue->awaited, "Callers of await."),
        COUNTER("llm_router_queue_read_total", queue->counters.read,
                "Messages read."),
        COUNTER("llm_router_queue_done_total", queue->counters.done,
                "Results stored."),
        COUNTER("llm_router_queue_failed_total", queue->counters.failed,
                "Failures stored."),
        COUNTER("llm_router_queue_dead_total", queue->counters.dead,
                "Of them, those in the dead letters."),
        COUNTER("llm_router_queue_returned_total", queue->counters.returned,
                "Messages that went back, to be tried later."),
        COUNTER("llm_router_queue_lost_total", queue->counters.lost,
                "Messages that somebody else took or finished."),
        COUNTER("llm_router_queue_enqueued_total", queue->counters.enqueued,
                "Requests put there for callers."),
        COUNTER("llm_router_queue_reconnects_total", queue->reconnects,
                "Connections to the database after the first ones."),
    };

    PUT_READINGS(out, readings);
}

/* --- keys of providers --- */

struct key_family {
    struct family family;
    double (*value)(const struct supply_key_view *view);
};

static double is_benched(const struct supply_key_view *view)
{
    return !slice_is(slice_of(view->state), "ok");
}

static double failure_rate(const struct supply_key_view *view)
{
    return view->failure_rate;
}

static double key_in_flight(const struct supply_key_view *view)
{
    return (double)view->in_flight;
}

static double benches(const struct supply_key_view *view)
{
    return (double)view->benches;
}

static double requests_room(const struct supply_key_view *view)
{
    return known(view->requests_room);
}

static double tokens_room(const struct supply_key_view *view)
{
    return known(view->tokens_room);
}

static double spent_today(const struct supply_key_view *view)
{
    return view->day_usd;
}

static double spent_this_month(const struct supply_key_view *view)
{
    return view->month_usd;
}

static const struct key_family key_families[] = {
    {{"llm_router_key_benched", "gauge",
      "1 while a key is left alone after failures, or probed."},
     is_benched},
    {{"llm_router_key_failure_rate", "gauge",
      "Part of the latest calls that failed, 0 to 1."},
     failure_rate},
    {{"llm_router_key_in_flight", "gauge", "Calls under way."}, key_in_flight},
    {{"llm_router_key_benches_total", "counter",
      "How often a key was left alone."},
     benches},
    {{"llm_router_key_requests_room", "gauge",
      "Requests that the limit per minute leaves."},
     requests_room},
    {{"llm_router_key_tokens_room", "gauge",
      "Tokens that the limit per minute leaves."},
     tokens_room},
    {{"llm_router_key_spent_today_usd", "gauge", "Since midnight UTC."},
     spent_today},
    {{"llm_router_key_spent_this_month_usd", "gauge", "Since its first, UTC."},
     spent_this_month},
};

struct key_visit {
    const struct key_family *family;
    struct buf *out;
};

static void put_key(void *context, const struct supply_key_view *view)
{
    const struct key_visit *visit = context;
    const struct label labels[] = {{"provider", view->provider},
                                   {"key", view->key}};
    double value = visit->family->value(view);

    if (!isnan(value))
        exposition_value(visit->out, &visit->family->family, labels, 2, value);
}

static void put_keys(const struct service *service, struct buf *out)
{
    struct supply_clock clock = service_clock(service);

    for (size_t i = 0; i < sizeof(key_families) / sizeof(key_families[0]);
         i++) {
        struct key_visit visit = {&key_families[i], out};

        exposition_begin(out, &key_families[i].family);
        supply_each_key(service->supply, &clock, put_key, &visit);
    }
}

void metrics_put(const struct service *service, struct buf *out)
{
    struct figures figures;

    figures_take(service, &figures);
    put_identity(service, out);
    put_state(service, &figures, out);
    put_received(&service->stats, out);
    meters_put(service->meters, out);
    put_counters(&service->stats, out);
    put_keys(service, out);
    if (service->queue)
        put_queue(&figures.queue, out);
    put_traffic(&figures, out);
    if (service->settings->tls)
        put_certificates(service->settings->tls, out);
    put_process(service, &figures, out);
}
