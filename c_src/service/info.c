#include <math.h>
#include <stdio.h>

#include "llm_router/base/log.h"
#include "llm_router/term/writer.h"
#include "service/service_internal.h"

#ifndef LLM_ROUTER_VERSION
#define LLM_ROUTER_VERSION "unknown"
#endif

enum { STATUS_TEXT_MAX = 16 * 1024 * 1024 };

static void put_count(struct buf *out, const char *key, uint64_t value)
{
    term_put_atom(out, key);
    term_put_integer(out, value > INT64_MAX ? INT64_MAX : (int64_t)value);
}

static void put_number_or_nil(struct buf *out, const char *key, double value)
{
    term_put_atom(out, key);
    if (isnan(value))
        term_put_atom(out, "nil");
    else
        term_put_float(out, value);
}

static void put_integer_or_nil(struct buf *out, const char *key, int64_t value)
{
    term_put_atom(out, key);
    if (value < 0)
        term_put_atom(out, "nil");
    else
        term_put_integer(out, value);
}

static void put_slice(struct buf *out, const char *key, struct slice text)
{
    term_put_atom(out, key);
    term_put_binary(out, text);
}

struct slice info_version(void)
{
    return SLICE_LITERAL(LLM_ROUTER_VERSION);
}

void info_put_version(const struct service *service, struct buf *out)
{
    term_put_map(out, 2);
    put_slice(out, "version", info_version());
    put_slice(out, "node", slice_of(service->config->node_name));
}

static void put_provider_names(const struct service *service, struct buf *out)
{
    const struct config *config = service->config;

    term_put_atom(out, "providers");
    term_put_list(out, config->provider_count);
    for (size_t i = 0; i < config->provider_count; i++)
        term_put_binary(out, config->providers[i].name);
    term_put_nil(out);
}

void info_put_health(const struct service *service, struct buf *out)
{
    struct node_stats node = node_stats(service->node);

    term_put_map(out, 8);
    term_put_atom(out, "status");
    term_put_atom(out, service->draining ? "draining" : "ok");
    term_put_atom(out, "queue");
    term_put_atom(out, queue_state(service->queue));
    put_slice(out, "node", slice_of(service->config->node_name));
    term_put_atom(out, "global_name");
    term_put_boolean(out, node.name_held);
    put_count(out, "peers", node.peers);
    put_count(out, "in_flight", service->in_flight);
    put_count(out, "uptime_ms",
              loop_now_ms(&service->loop) - service->started_ms);
    put_provider_names(service, out);
}

static void put_requests(const struct stats *stats, struct buf *out)
{
    term_put_atom(out, "requests");
    term_put_map(out, OPERATION_COUNT);
    for (int i = 0; i < OPERATION_COUNT; i++)
        put_count(out, operation_atom((enum operation)i), stats->requests[i]);
}

static void put_failures(const struct stats *stats, struct buf *out)
{
    size_t count = 0;

    for (int i = 1; i < ERROR_CODE_COUNT; i++)
        count += stats->failed[i] > 0;
    term_put_atom(out, "errors");
    term_put_map(out, count);
    for (int i = 1; i < ERROR_CODE_COUNT; i++)
        if (stats->failed[i] > 0)
            put_count(out, error_atom((enum error_code)i), stats->failed[i]);
}

static void put_provider_side(const struct service *service, struct buf *out)
{
    const struct stats *stats = &service->stats;
    struct http_stats http = http_stats(service->upstream.http);

    term_put_atom(out, "provider");
    term_put_map(out, 8);
    put_count(out, "attempts", stats->attempts);
    put_count(out, "retries", stats->retries);
    put_count(out, "turns", stats->turns);
    put_count(out, "aborted", http.transfers_cancelled);
    put_count(out, "connections_opened", http.connections_opened);
    put_count(out, "input_tokens", stats->input_tokens);
    put_count(out, "output_tokens", stats->output_tokens);
    put_number_or_nil(out, "cost_usd", stats->cost_usd);
}

static void put_node_side(const struct service *service, struct buf *out)
{
    struct node_stats node = node_stats(service->node);

    term_put_atom(out, "node");
    term_put_map(out, 9);
    put_count(out, "peers", node.peers);
    put_count(out, "handshakes", node.handshakes);
    term_put_atom(out, "global_name");
    term_put_boolean(out, node.name_held);
    put_count(out, "frames_in", node.frames_in);
    put_count(out, "frames_out", node.frames_out);
    put_count(out, "bytes_in", node.bytes_in);
    put_count(out, "bytes_out", node.bytes_out);
    put_count(out, "dropped_signals", node.dropped_signals);
    put_count(out, "closed_peers", node.closed_peers);
}

static void put_waiting_side(const struct service *service, struct buf *out)
{
    term_put_atom(out, "queue");
    term_put_map(out, 3);
    put_count(out, "calling", service->calling);
    put_count(out, "waiting", service->waiting);
    put_count(out, "most", service->admission.queue.max);
}

static void put_decisions(const struct stats *stats, struct buf *out)
{
    term_put_atom(out, "decisions");
    term_put_map(out, STRATEGY_COUNT + 2);
    put_count(out, "model", stats->explicit_models);
    for (int i = 0; i < STRATEGY_COUNT; i++)
        put_count(out, strategy_name((enum strategy)i), stats->strategies[i]);
    put_count(out, "fallbacks", stats->fallbacks);
}

static void put_cache_side(const struct service *service, struct buf *out)
{
    term_put_atom(out, "cache");
    term_put_map(out, 4);
    put_count(out, "hits", service->stats.cache_hits);
    put_count(out, "misses", service->stats.cache_misses);
    put_count(out, "entries", service->cache.count);
    put_count(out, "bytes", service->cached_bytes);
}

struct counted_list {
    struct buf *out; /* NULL: only counted */
    size_t count;
};

static void put_key(void *context, const struct supply_key_view *view)
{
    struct counted_list *list = context;
    struct buf *out = list->out;

    list->count++;
    if (!out)
        return;
    term_put_map(out, 13);
    put_slice(out, "provider", view->provider);
    put_slice(out, "key", view->key);
    term_put_atom(out, "state");
    term_put_atom(out, view->state);
    put_count(out, "returns_ms", view->returns_ms);
    put_number_or_nil(out, "failure_rate", view->failure_rate);
    put_count(out, "in_flight", view->in_flight);
    put_count(out, "granted", view->granted);
    put_count(out, "failed", view->failed);
    put_count(out, "benches", view->benches);
    put_integer_or_nil(out, "requests_room", view->requests_room);
    put_integer_or_nil(out, "tokens_room", view->tokens_room);
    put_number_or_nil(out, "day_usd", view->day_usd);
    put_number_or_nil(out, "month_usd", view->month_usd);
}

static void put_latency(void *context, const struct supply_model_view *view)
{
    struct counted_list *list = context;
    struct buf *out = list->out;

    list->count++;
    if (!out)
        return;
    term_put_map(out, 4);
    put_slice(out, "provider", view->provider);
    put_slice(out, "model", view->model);
    put_number_or_nil(out, "latency_ms", view->latency_ms);
    put_count(out, "measured", view->measured);
}

static void put_supply_side(const struct service *service, struct buf *out)
{
    struct supply_clock clock = service_clock(service);
    struct counted_list keys = {NULL, 0}, models = {NULL, 0};

    supply_each_key(service->supply, &clock, put_key, &keys);
    supply_each_model(service->supply, put_latency, &models);
    term_put_atom(out, "keys");
    term_put_list(out, keys.count);
    keys.out = out;
    supply_each_key(service->supply, &clock, put_key, &keys);
    term_put_nil(out);
    term_put_atom(out, "latencies");
    term_put_list(out, models.count);
    models.out = out;
    supply_each_model(service->supply, put_latency, &models);
    term_put_nil(out);
}

static void put_watchers_side(const struct service *service, struct buf *out)
{
    term_put_atom(out, "watchers");
    term_put_map(out, 3);
    put_count(out, "watching", service->watches.count);
    put_count(out, "notices", service->stats.notices);
    put_count(out, "dropped", service->stats.notices_dropped);
}

static void put_scripts_side(const struct service *service, struct buf *out)
{
    term_put_atom(out, "scripts");
    term_put_map(out, 2);
    put_count(out, "run", service->stats.scripts);
    put_count(out, "waiting", scripts_waiting(service->scripts));
}

void info_put_stats(const struct service *service, struct buf *out)
{
    const struct stats *stats = &service->stats;
    struct figures figures;

    figures_take(service, &figures);
    term_put_map(out, 28);
    put_watchers_side(service, out);
    put_scripts_side(service, out);
    put_count(out, "uptime_ms", figures.uptime_ms);
    put_count(out, "in_flight", service->in_flight);
    put_requests(stats, out);
    put_count(out, "succeeded", stats->succeeded);
    put_failures(stats, out);
    put_count(out, "cancelled", stats->cancelled);
    put_count(out, "shared", stats->shared);
    put_count(out, "ignored", stats->ignored);
    put_count(out, "undeliverable", stats->undeliverable);
    put_provider_side(service, out);
    put_decisions(stats, out);
    put_supply_side(service, out);
    put_waiting_side(service, out);
    put_cache_side(service, out);
    put_count(out, "stream_pauses", stats->pauses);
    put_count(out, "reloads", stats->reloads);
    put_count(out, "reloads_failed", stats->reloads_failed);
    put_node_side(service, out);
    term_put_atom(out, "pgmq");
    if (service->queue)
        queue_put_stats(service->queue, out);
    else
        term_put_atom(out, "nil");
    put_count(out, "loop_turns", service->loop.turns);
    put_count(out, "longest_stall_ms", figures.longest_stall_ms);
    put_count(out, "resident_bytes", figures.resident_bytes);
    put_count(out, "cpu_us", figures.cpu_us);
    put_count(out, "open_descriptors", figures.open_descriptors);
    put_count(out, "log_lines_dropped", log_dropped());
}

static bool is_configured(const struct service *service, struct slice provider)
{
    for (size_t i = 0; i < service->settings->routing.provider_count; i++)
        if (slice_equal(service->settings->routing.providers[i].name, provider))
            return true;
    return false;
}

static void put_model(const struct model *model, struct buf *out)
{
    term_put_map(out, 5);
    put_slice(out, "provider", model->provider);
    put_slice(out, "id", model->id);
    term_put_atom(out, "context_tokens");
    if (model->context_tokens < 0)
        term_put_atom(out, "nil");
    else
        term_put_integer(out, model->context_tokens);
    put_number_or_nil(out, "input_usd_per_mtok", model->prices.input);
    put_number_or_nil(out, "output_usd_per_mtok", model->prices.output);
}

/* "simple"; of a task type "complex/qa", with an asterisk for any complexity.
 */
static void put_route_name(const struct route *route, struct buf *out)
{
    const char *complexity = route->complexity == COMPLEXITY_UNSET
                                 ? "*"
                                 : complexity_atom(route->complexity);
    char name[256];
    int size;

    if (route->task_type.size == 0) {
        term_put_atom(out, complexity);
        return;
    }
    size = snprintf(name, sizeof(name), "%s/%.*s", complexity,
                    SLICE_ARG(route->task_type));
    term_put_binary(out, slice_make(name, (size_t)size < sizeof(name)
                                              ? (size_t)size
                                              : sizeof(name) - 1));
}

static void put_routes(const struct service *service, struct buf *out)
{
    term_put_map(out, service->settings->routing.route_count);
    for (size_t i = 0; i < service->settings->routing.route_count; i++) {
        const struct route *route = &service->settings->routing.routes[i];

        put_route_name(route, out);
        term_put_list(out, route->count);
        for (size_t k = 0; k < route->count; k++)
            term_put_binary(out, route->candidates[k].model);
        term_put_nil(out);
    }
}

void info_put_models(const struct service *service, struct buf *out)
{
    const struct catalogue *catalogue = service->settings->routing.catalogue;
    size_t count = 0;

    for (size_t i = 0; i < catalogue->count; i++)
        count += is_configured(service, catalogue->models[i].provider);
    term_put_map(out, 2);
    term_put_atom(out, "routes");
    put_routes(service, out);
    term_put_atom(out, "models");
    term_put_list(out, count);
    for (size_t i = 0; i < catalogue->count; i++)
        if (is_configured(service, catalogue->models[i].provider))
            put_model(&catalogue->models[i], out);
    term_put_nil(out);
}

static void put_model_name(const struct model *model, struct buf *out)
{
    char name[512];
    int size = snprintf(name, sizeof(name), "%.*s/%.*s",
                        SLICE_ARG(model->provider), SLICE_ARG(model->id));

    term_put_binary(out, slice_make(name, (size_t)size < sizeof(name)
                                              ? (size_t)size
                                              : sizeof(name) - 1));
}

void info_put_model_names(const struct service *service, struct buf *out)
{
    const struct catalogue *catalogue = service->settings->routing.catalogue;
    size_t count = 0;

    for (size_t i = 0; i < catalogue->count; i++)
        count += is_configured(service, catalogue->models[i].provider);
    term_put_list(out, count);
    for (size_t i = 0; i < catalogue->count; i++) {
        const struct model *model = &catalogue->models[i];

        if (!is_configured(service, model->provider))
            continue;
        put_model_name(model, out);
    }
    term_put_nil(out);
}

/* A pair of sys:get_status, whose value is written next. */
static void put_data(struct buf *out, const char *name)
{
    term_put_tuple(out, 2);
    term_put_atom(out, "data");
    term_put_list(out, 1);
    term_put_tuple(out, 2);
    term_put_text(out, name);
}

/* The document of the status page, as one binary. */
void info_put_status_text(const struct service *service, struct buf *out)
{
    struct buf text;

    buf_init(&text, STATUS_TEXT_MAX);
    status_put(service, &text);
    term_put_binary(out, buf_slice(&text));
    buf_release(&text);
}

void info_put_status(const struct service *service, struct buf *out)
{
    struct slice pid = node_service_pid(service->node);

    term_put_tuple(out, 4);
    term_put_atom(out, "status");
    term_put_raw(out, pid);
    term_put_tuple(out, 2);
    term_put_atom(out, "module");
    term_put_atom(out, "llm_router");
    term_put_list(out, 5);
    term_put_nil(out); /* its dictionary */
    term_put_atom(out, "running");
    term_put_raw(out, pid); /* its parent: none */
    term_put_nil(out);      /* no debugging */
    term_put_list(out, 3);
    term_put_tuple(out, 2);
    term_put_atom(out, "header");
    term_put_text(out, "Status for the C node llm_router");
    put_data(out, "Status");
    term_put_atom(out, service->draining ? "draining" : "running");
    term_put_nil(out);
    put_data(out, "State");
    info_put_stats(service, out);
    term_put_nil(out);
    term_put_nil(out);
    term_put_nil(out);
}
