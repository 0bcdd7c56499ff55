/* What is answered by HTTP, when `http.listen` says where. */
#include "llm_router/base/log.h"
#include "llm_router/config/listen.h"
#include "llm_router/metrics/exposition.h"
#include "llm_router/web/page.h"
#include "llm_router/web/web.h"
#include "service/service_internal.h"

enum { MAX_CONNECTIONS = 64, REQUEST_MS = 10000 };

static void answer_metrics(void *context, struct web_reply *reply)
{
    reply->content_type = EXPOSITION_CONTENT_TYPE;
    metrics_put(context, &reply->body);
}

static void answer_status(void *context, struct web_reply *reply)
{
    reply->content_type = "application/json";
    status_put(context, &reply->body);
}

/* Who gets an answer knows that it lives. */
static void answer_health(void *context, struct web_reply *reply)
{
    (void)context;
    buf_append_text(&reply->body, "ok\n");
}

static void answer_ready(void *context, struct web_reply *reply)
{
    const struct service *service = context;
    const char *state = service->draining           ? "draining\n"
                        : service_is_ready(service) ? "ready\n"
                                                    : "starting\n";

    reply->status = service_is_ready(service) ? 200 : 503;
    buf_append_text(&reply->body, state);
}

static void answer_page(void *context, struct web_reply *reply)
{
    struct service *service = context;
    struct slice page = service->settings->assets.status_page;

    reply->content_type = "text/html; charset=utf-8";
    buf_clear(&service->policy);
    page_policy(page, &service->policy);
    buf_append_byte(&service->policy, '\0');
    if (!service->policy.failed)
        reply->policy = service->policy.data;
    buf_append_slice(&reply->body, page);
}

static const struct web_route routes[] = {
    {"/", answer_page},           {"/status.json", answer_status},
    {"/metrics", answer_metrics}, {"/health", answer_health},
    {"/ready", answer_ready},
};

bool service_is_ready(const struct service *service)
{
    return service->ready && !service->draining;
}

bool pages_start(struct service *service, struct error *err)
{
    struct slice where = service->config->http_listen;
    struct listen_address address;
    struct web_options options = {
        .routes = routes,
        .route_count = sizeof(routes) / sizeof(routes[0]),
        .context = service,
        .max_connections = MAX_CONNECTIONS,
        .request_ms = REQUEST_MS,
    };

    if (where.size == 0)
        return true;
    listen_parse(where, &address);
    options.host = address.host;
    options.port = address.port;
    service->web = web_start(&service->loop, &options, err);
    if (!service->web)
        return false;
    log_event(LOG_INFO, "web", "listening",
              LOG_FIELDS(log_text("host", slice_of(address.host)),
                         log_count("port", web_port(service->web))));
    return true;
}
