#include "service/parent_internal.h"

#include <fcntl.h>
#include <unistd.h>

#include "llm_router/base/descriptor.h"
#include "llm_router/base/log.h"
#include "llm_router/config/handover.h"

enum { RELOAD_RETRY_MS = 20 };

/* A reload that is under way has begun with an older configuration: this one
 * comes after it. */
static void take_over(void *context)
{
    struct parent *parent = context;

    if (parent->service->reload)
        loop_timer_start(&parent->service->loop, &parent->timer,
                         RELOAD_RETRY_MS, take_over, parent);
    else
        reload_replace(parent->service, parent->config);
}

static void replace_config(struct parent *parent, struct slice config)
{
    arena_release(&parent->arena);
    arena_init(&parent->arena, 0);
    parent->config = arena_copy(&parent->arena, config);
    take_over(parent);
}

static void obey(struct parent *parent, struct slice line)
{
    struct handover handover;
    struct arena arena;
    struct error err;

    arena_init(&arena, 0);
    if (!handover_parse(&arena, line, HANDOVER_LATER, &handover, &err))
        log_event(LOG_WARN, "parent", "a line is ignored",
                  LOG_FIELDS(log_text("reason", slice_of(err.message))));
    else if (handover.stop)
        parent->events->stop(parent->context, handover.drain_ms);
    else if (handover.config.size > 0)
        replace_config(parent, handover.config);
    arena_release(&arena);
}

static void obey_all(void *context)
{
    struct parent *parent = context;
    struct slice line;

    for (;;) {
        switch (line_reader_next(parent->input, &line)) {
        case LINE_NONE:
            return;
        case LINE_TOO_LONG:
            log_event(LOG_WARN, "parent", "a line is too long and ignored",
                      LOG_FIELDS(log_count("max_bytes", parent->input->max)));
            break;
        case LINE_WHOLE:
            obey(parent, line);
            break;
        }
    }
}

static void on_readable(void *context)
{
    struct parent *parent = context;

    if (handover_read(parent->input, parent->fd)) {
        obey_all(parent);
        return;
    }
    loop_watch_stop(&parent->watch);
    parent->events->gone(parent->context);
}

/* A pipe that was opened when it had ended already is never readable: so it is
 * read once unasked. */
static void on_first_turn(void *context)
{
    struct parent *parent = context;

    loop_watch_start(&parent->service->loop, &parent->watch, parent->fd,
                     on_readable, parent);
    obey_all(parent);
    on_readable(parent);
}

/* A socket can only be shared. */
static int open_again(int fd)
{
    int again = descriptor_open_again(fd, O_RDONLY);

    return again >= 0 ? again : fd;
}

void parent_start(struct parent *parent, struct service *service, int fd,
                  struct line_reader *input, const struct parent_events *events,
                  void *context)
{
    *parent = (struct parent){
        .service = service,
        .given = fd,
        .fd = open_again(fd),
        .input = input,
        .events = events,
        .context = context,
    };
    arena_init(&parent->arena, 0);
    loop_timer_start(&service->loop, &parent->timer, 0, on_first_turn, parent);
}

void parent_stop(struct parent *parent)
{
    loop_timer_stop(&parent->timer);
    loop_watch_stop(&parent->watch);
    if (parent->fd != parent->given)
        close(parent->fd);
    arena_release(&parent->arena);
}
