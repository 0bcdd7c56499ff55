#include "llm_router/base/mem.h"
#include "service/service_internal.h"

void line_init(struct service *service, struct line *line,
               struct slice provider)
{
    *line = (struct line){.service = service, .provider = provider};
    list_init(&line->link);
    fair_queue_init(&line->queue, (size_t)service->config->max_queued,
                    service->seed);
}

void line_release(struct line *line)
{
    loop_timer_stop(&line->timer);
    loop_task_cancel(&line->wake);
    fair_queue_release(&line->queue);
}

struct line *line_of(struct service *service, struct slice provider)
{
    struct line *line;

    LIST_EACH(link, &service->lines)
    {
        line = LIST_ENTRY(link, struct line, link);
        if (slice_equal(line->provider, provider))
            return line;
    }
    line = mem_alloc(sizeof(*line) + provider.size);
    memcpy(line + 1, provider.data, provider.size);
    line_init(service, line, slice_make(line + 1, provider.size));
    list_append(&service->lines, &line->link);
    return line;
}

bool slot_take(struct job *job)
{
    struct service *service = job->service;

    if (job->has_slot)
        return true;
    if (service->calling >= (size_t)service->config->max_in_flight ||
        !access_take_slot(service, job->connection))
        return false;
    service->calling++;
    job->has_slot = true;
    return true;
}

void slot_give(struct job *job)
{
    struct service *service = job->service;

    if (!job->has_slot)
        return;
    job->has_slot = false;
    service->calling--;
    access_give_slot(service, job->connection);
    line_wake(&service->admission);
}

/* Lets those who wait try again, in turn, until each owner's first one has
 * failed to get what it waits for. */
static void try_all(void *context)
{
    struct line *line = context;
    struct fair_queue *queue = &line->queue;
    size_t misses = 0;

    while (queue->count > 0 && misses < queue->owners.count) {
        struct fair_entry *entry = fair_queue_take(queue);
        struct job *job = LIST_ENTRY(&entry->link, struct job, place.link);
        size_t count = queue->count;

        job->line = NULL;
        job->was_first_in = line;
        line->service->waiting--;
        loop_timer_stop(&job->backoff);
        job_go_on(job); /* may end it, or put it back in line */
        misses = queue->count > count ? misses + 1 : 0;
    }
}

static void on_timer(void *context)
{
    try_all(context);
}

void line_wake(struct line *line)
{
    if (line->queue.count > 0)
        loop_defer(&line->service->loop, &line->wake, try_all, line);
}

void lines_changed(struct service *service)
{
    service->admission.queue.max = (size_t)service->config->max_queued;
    line_wake(&service->admission);
    LIST_EACH(link, &service->lines)
    {
        struct line *line = LIST_ENTRY(link, struct line, link);

        line->queue.max = (size_t)service->config->max_queued;
        line_wake(line);
    }
}

static void on_deadline(void *context)
{
    struct job *job = context;
    struct error err = ask_error(job);

    if (err.code == ERR_NONE)
        error_set(&err, ERR_TIMEOUT, "the deadline passed in the queue");
    job_fail(job, &err);
}

static void refuse(struct job *job)
{
    struct service *service = job->service;
    struct error err;

    error_set(&err, ERR_OVERLOADED,
              "%zu requests are in flight and %zu wait for their turn",
              service->calling, service->waiting);
    job_fail(job, &err);
}

static void expect_room(struct line *line, uint64_t wait_ms)
{
    uint64_t due = loop_now_ms(&line->service->loop) + wait_ms;

    if (!loop_timer_running(&line->timer) || due < line->timer.due_ms)
        loop_timer_start(&line->service->loop, &line->timer, wait_ms, on_timer,
                         line);
}

void line_wait(struct line *line, struct job *job, uint64_t wait_ms)
{
    struct service *service = job->service;
    struct fair_entry *evicted = NULL;

    slot_give(job);
    if (job->was_first_in == line) {
        fair_queue_put_back(&line->queue, job->connection, &job->place);
    } else if (fair_queue_put(&line->queue, job->connection, &job->place,
                              &evicted) == FAIR_FULL) {
        refuse(job);
        return;
    }
    job->was_first_in = NULL;
    job_move(job, JOB_QUEUED);
    job->line = line;
    service->waiting++;
    loop_timer_start(&service->loop, &job->backoff, job_left_ms(job),
                     on_deadline, job);
    if (wait_ms > 0)
        expect_room(line, wait_ms);
    if (evicted) {
        struct job *other = LIST_ENTRY(&evicted->link, struct job, place.link);

        other->line = NULL;
        service->waiting--;
        refuse(other);
    }
}

void line_leave(struct job *job)
{
    if (!job->line)
        return;
    fair_queue_remove(&job->line->queue, &job->place);
    job->line = NULL;
    job->service->waiting--;
}
