#include "llm_router/base/mem.h"
#include "service/service_internal.h"

/* malloc gives back what is free at the end of its heap, and something always
 * lives on there: after 10,000 calls at once 150 MiB would be the process's for
 * ever. So memory is given back when the load has gone: when requests were no
 * more than half of what they had been for CALM_MS.
 *
 * That stops the loop, for 9 ms after 10,000 calls. So it is done on the way,
 * too, each time that MANY requests are gone: a swing of that size pays for its
 * pages once more, a smaller one and a steady load never do.
 *
 * A connection that is kept for the next call holds up to 80 KiB (TLS, HTTP/2),
 * and libcurl looks at the age of those only when their lane is used again.
 * They are closed later, a lane a turn, until there is none that is old. */

enum {
    FEW = 64,    /* what they leave is not worth it */
    MANY = 4096, /* 64 MiB: 5 ms */
    LOOK_MS = 1000,
    CALM_MS = 5000,
    CLOSE_MS = 100 * 1000, /* longer than connections are kept */
};

static void give_back(struct service *service, uint64_t now)
{
    struct memory *memory = &service->memory;

    mem_trim();
    memory->most = service->in_flight;
    memory->busy_ms = now;
    memory->close_ms = now + CLOSE_MS;
}

static bool is_time(const struct service *service, uint64_t now_ms)
{
    const struct memory *memory = &service->memory;

    return memory->most - service->in_flight >= MANY ||
           (memory->most >= FEW && now_ms - memory->busy_ms >= CALM_MS);
}

/* False: there is more to close in the next turn. */
static bool close_old(struct service *service, uint64_t now)
{
    struct memory *memory = &service->memory;

    if (http_close_unused(service->upstream.http)) {
        memory->closed = true;
        return false;
    }
    if (memory->closed)
        mem_trim();
    memory->close_ms = memory->closed ? now + CLOSE_MS : 0;
    memory->closed = false;
    return true;
}

static void look(void *context)
{
    struct service *service = context;
    struct memory *memory = &service->memory;
    uint64_t now = loop_now_ms(&service->loop);

    if (memory->lately > memory->most / 2)
        memory->busy_ms = now;
    memory->lately = service->in_flight;
    if (is_time(service, now)) {
        give_back(service, now);
    } else if (memory->close_ms != 0 && now >= memory->close_ms &&
               !close_old(service, now)) {
        loop_timer_start(&service->loop, &memory->timer, 0, look, service);
        return;
    }
    if (memory->most >= FEW || memory->close_ms != 0)
        loop_timer_start(&service->loop, &memory->timer, LOOK_MS, look,
                         service);
}

void memory_request_begins(struct service *service)
{
    struct memory *memory = &service->memory;

    service->in_flight++;
    if (service->in_flight > memory->lately)
        memory->lately = service->in_flight;
    if (service->in_flight <= memory->most)
        return;
    memory->most = service->in_flight;
    memory->busy_ms = loop_now_ms(&service->loop);
    if (memory->most >= FEW && !loop_timer_running(&memory->timer))
        loop_timer_start(&service->loop, &memory->timer, LOOK_MS, look,
                         service);
}

void memory_request_ends(struct service *service)
{
    struct memory *memory = &service->memory;

    service->in_flight--;
    /* In the next turn: this one has had its share of work. */
    if (memory->most - service->in_flight >= MANY)
        loop_timer_start(&service->loop, &memory->timer, 0, look, service);
}
