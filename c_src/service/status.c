/* The status document: what the page and the terminal show, as JSON. */
#include <inttypes.h>
#include <math.h>

#include "llm_router/base/log.h"
#include "llm_router/json/value.h"
#include "llm_router/term/writer.h"
#include "service/service_internal.h"

static void put_count(struct buf *out, const char *name, uint64_t value)
{
    buf_printf(out, "\"%s\":%" PRIu64 ",", name, value);
}

/* A negative one is not known. */
static void put_known(struct buf *out, const char *name, int64_t value)
{
    if (value < 0)
        buf_printf(out, "\"%s\":null,", name);
    else
        put_count(out, name, (uint64_t)value);
}

static void put_number(struct buf *out, const char *name, double value)
{
    buf_printf(out, "\"%s\":", name);
    if (isfinite(value))
        jv_put_number(out, value);
    else
        buf_append_text(out, "null");
    buf_append_byte(out, ',');
}

static void put_flag(struct buf *out, const char *name, bool value)
{
    buf_printf(out, "\"%s\":%s,", name, value ? "true" : "false");
}

static void put_text(struct buf *out, const char *name, struct slice text)
{
    buf_printf(out, "\"%s\":", name);
    jv_put_string(out, text);
    buf_append_byte(out, ',');
}

/* Every member ends with a comma; the last one's goes. */
static void close_with(struct buf *out, const char *end)
{
    if (out->size > 0 && out->data[out->size - 1] == ',')
        out->size--;
    buf_append_text(out, end);
}

static void put_identity(const struct service *service,
                         const struct figures *figures, struct buf *out)
{
    put_text(out, "version", info_version());
    put_text(out, "node", slice_of(service->config->node_name));
    put_text(out, "state",
             service->draining ? SLICE_LITERAL("draining")
                               : SLICE_LITERAL("ok"));
    put_flag(out, "ready", service_is_ready(service));
    put_flag(out, "holds_global_name", figures->node.name_held);
    put_count(out, "now_ms", (uint64_t)loop_unix_ms());
    put_count(out, "uptime_ms", figures->uptime_ms);
    put_count(out, "peers", figures->node.peers);
}

static void put_load(const struct service *service, struct buf *out)
{
    const struct stats *stats = &service->stats;

    put_count(out, "in_flight", service->in_flight);
    put_count(out, "waiting", service->waiting);
    put_count(out, "slots", (uint64_t)service->config->max_in_flight);
    put_count(out, "requests",
              stats->ended.ok + stats->ended.failed + stats->ended.cancelled);
    put_count(out, "succeeded", stats->ended.ok);
    put_count(out, "failed", stats->ended.failed);
    put_count(out, "cancelled", stats->ended.cancelled);
    buf_append_text(out, "\"tokens\":{");
    put_count(out, "input", stats->input_tokens);
    put_count(out, "output", stats->output_tokens);
    close_with(out, "},");
    put_number(out, "cost_usd",
               stats->priced || stats->attempts == 0 ? stats->cost_usd
                                                     : (double)NAN);
    put_count(out, "retries", stats->retries);
}

static void put_process(const struct figures *figures, struct buf *out)
{
    put_count(out, "longest_stall_ms", figures->longest_stall_ms);
    put_count(out, "resident_bytes", figures->resident_bytes);
    put_count(out, "cpu_ms", figures->cpu_us / 1000);
    put_count(out, "open_descriptors", figures->open_descriptors);
    put_count(out, "log_lines_dropped", log_dropped());
}

static void put_queue(const struct service *service,
                      const struct queue_figures *queue, struct buf *out)
{
    if (!service->queue) {
        buf_append_text(out, "\"queue\":null,");
        return;
    }
    buf_append_text(out, "\"queue\":{");
    put_text(out, "state", slice_of(queue->up ? "up" : "down"));
    put_known(out, "depth", queue->depth);
    put_known(out, "oldest_age_s", queue->oldest_s);
    put_count(out, "in_flight", queue->in_flight);
    put_count(out, "dead", queue->counters.dead);
    close_with(out, "},");
}

/* Keys come provider by provider. */
struct providers {
    struct buf *out;
    struct slice open; /* its keys are being written; empty: none */
};

static void put_key(void *context, const struct supply_key_view *view)
{
    struct providers *providers = context;
    struct buf *out = providers->out;

    if (!slice_equal(providers->open, view->provider)) {
        if (providers->open.size > 0)
            close_with(out, "]},");
        buf_append_byte(out, '{');
        put_text(out, "name", view->provider);
        buf_append_text(out, "\"keys\":[");
        providers->open = view->provider;
    }
    buf_append_byte(out, '{');
    put_text(out, "name", view->key);
    put_text(out, "state", slice_of(view->state));
    put_count(out, "returns_ms", view->returns_ms);
    put_number(out, "failure_rate", view->failure_rate);
    put_count(out, "in_flight", view->in_flight);
    put_count(out, "granted", view->granted);
    put_count(out, "failed", view->failed);
    put_count(out, "benches", view->benches);
    put_number(out, "day_usd", view->day_usd);
    put_number(out, "month_usd", view->month_usd);
    close_with(out, "},");
}

static void put_providers(const struct service *service, struct buf *out)
{
    struct supply_clock clock = service_clock(service);
    struct providers providers = {out, slice_of(NULL)};

    buf_append_text(out, "\"providers\":[");
    supply_each_key(service->supply, &clock, put_key, &providers);
    if (providers.open.size > 0)
        close_with(out, "]}");
    close_with(out, "],");
}

static void put_model(void *context, const struct model_meter_view *view)
{
    struct buf *out = context;

    buf_append_byte(out, '{');
    put_text(out, "provider", view->provider);
    put_text(out, "model", view->model);
    put_count(out, "requests", view->calls);
    put_count(out, "failed", view->failed);
    put_number(out, "p50_ms",
               1e3 *
                   histogram_quantile(view->duration, HISTOGRAM_SECONDS, 0.5));
    put_number(out, "p99_ms",
               1e3 *
                   histogram_quantile(view->duration, HISTOGRAM_SECONDS, 0.99));
    put_number(out, "input_tokens", view->input_tokens);
    put_number(out, "output_tokens", view->output_tokens);
    put_number(out, "cost_usd", view->cost_usd);
    close_with(out, "},");
}

void status_put(const struct service *service, struct buf *out)
{
    struct figures figures;

    figures_take(service, &figures);
    buf_append_byte(out, '{');
    put_identity(service, &figures, out);
    put_load(service, out);
    put_process(&figures, out);
    put_queue(service, &figures.queue, out);
    put_providers(service, out);
    buf_append_text(out, "\"history\":");
    history_put(service->history, loop_now_ms(&service->loop), loop_unix_ms(),
                out);
    buf_append_text(out, ",\"models\":[");
    meters_each_model(service->meters, put_model, out);
    close_with(out, "],");
    buf_append_text(out, "\"errors\":");
    history_put_failures(service->history, out);
    buf_append_byte(out, '}');
}
