#include <stdio.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/term/writer.h"
#include "service/service_internal.h"

struct reload {
    struct service *service; /* NULL: it ended meanwhile */
    struct loop_work work;
    int argc;
    const char *const *argv;
    struct settings *previous; /* kept while the thread looks at it */
    struct handover handed;    /* its configuration, or the previous one's */
    struct settings *settings; /* NULL: error says why */
    struct error error;
    struct arena arena; /* the address, a new configuration */
    struct reply_address reply;
    struct origin origin;
    bool again; /* asked for meanwhile: what is read may be older */
};

static void read_settings(void *context)
{
    struct reload *reload = context;

    reload->settings =
        settings_load(reload->argc, reload->argv, &reload->handed,
                      reload->previous, &reload->error);
}

static void take_over(struct service *service, struct settings *settings)
{
    const char *key =
        config_needs_restart(service->at_start, &settings->config);

    if (key)
        log_event(LOG_WARN, "reload", "a key is read at start only",
                  LOG_FIELDS(log_text("key", slice_of(key))));
    settings_apply(settings, service->supply);
    node_renew_tls(service->node, settings->tls);
    settings_drop(service->settings);
    service->settings = settings;
    service->config = &settings->config;
    config_hide_secrets(service->config);
    access_changed(service);
    lines_changed(service);
    if (service->queue)
        queue_changed(service->queue);
    log_event(
        LOG_INFO, "reload", "the configuration is taken over",
        LOG_FIELDS(log_count("providers", settings->config.provider_count),
                   log_count("models", settings->assets.catalogue.count)));
}

static void answer(struct service *service, const struct reload *reload,
                   const struct error *err)
{
    buf_clear(&service->value);
    if (err)
        reply_put_error(&service->value, err, NULL);
    else
        term_put_atom(&service->value, "ok");
    deliver(service, &reload->reply, &reload->origin, OP_RELOAD);
}

static void tell_manager(struct service *service, const struct reload *reload)
{
    char status[2 * ERROR_TEXT_MAX] = "the configuration was taken over";
    char reason[ERROR_TEXT_MAX];

    if (!reload->settings) {
        error_describe(&reload->error, reason);
        snprintf(status, sizeof(status), "the old configuration stays: %s",
                 reason);
    }
    systemd_reloaded(&service->systemd, status);
}

static void finish(struct service *service, struct reload *reload)
{
    char reason[ERROR_TEXT_MAX];

    service->reload = NULL;
    if (reload->settings) {
        service->stats.reloads++;
        take_over(service, reload->settings);
        answer(service, reload, NULL);
        return;
    }
    service->stats.reloads_failed++;
    error_describe(&reload->error, reason);
    log_event(LOG_ERROR, "reload", "the old configuration stays",
              LOG_FIELDS(log_text("reason", slice_of(reason))));
    answer(service, reload, &reload->error);
}

static void on_read(void *context)
{
    struct reload *reload = context;
    struct service *service = reload->service;
    bool again = reload->again;

    if (service) {
        finish(service, reload);
        tell_manager(service, reload);
    } else {
        settings_drop(reload->settings);
    }
    settings_drop(reload->previous);
    arena_release(&reload->arena);
    mem_free(reload);
    if (service && again)
        reload_unasked(service);
}

static struct reload *reload_new(struct service *service,
                                 const struct reply_address *reply,
                                 const struct origin *origin)
{
    struct reload *reload = mem_alloc(sizeof(*reload));

    reload->service = service;
    reload->argc = service->argc;
    reload->argv = service->argv;
    reload->previous = settings_keep(service->settings);
    reload->handed.config = reload->previous->config.handed.config;
    reload->origin = *origin;
    arena_init(&reload->arena, 0);
    reload->reply = reply_address_copy(&reload->arena, reply);
    return reload;
}

static void begin(struct service *service, struct reload *reload)
{
    service->reload = reload;
    systemd_reloading(&service->systemd);
    loop_work_start(&service->loop, &reload->work, read_settings, on_read,
                    reload);
}

bool reload_start(struct service *service, const struct reply_address *reply,
                  const struct origin *origin, struct error *err)
{
    if (service->reload)
        return error_set(err, ERR_OVERLOADED, "a reload is under way");
    begin(service, reload_new(service, reply, origin));
    return true;
}

static struct reload *reload_for_nobody(struct service *service)
{
    static const struct reply_address nobody = {.form = REPLY_NONE};
    static const struct origin nowhere = {0};

    return reload_new(service, &nobody, &nowhere);
}

void reload_unasked(struct service *service)
{
    if (service->reload)
        service->reload->again = true;
    else
        begin(service, reload_for_nobody(service));
}

void reload_replace(struct service *service, struct slice config)
{
    struct reload *reload = reload_for_nobody(service);

    reload->handed.config = arena_copy(&reload->arena, config);
    begin(service, reload);
}

void reload_release(struct service *service)
{
    if (service->reload)
        service->reload->service = NULL;
}
