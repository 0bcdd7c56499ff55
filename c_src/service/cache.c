#include <math.h>

#include "llm_router/base/mem.h"
#include "service/service_internal.h"

static void forget(struct service *service, struct cached *cached)
{
    list_remove(&cached->link);
    map_remove(&service->cache, slice_make(cached->digest, DIGEST_SIZE));
    service->cached_bytes -= cached->arena.reserved;
    arena_release(&cached->arena);
    mem_free(cached);
}

static struct cached *oldest(struct service *service)
{
    if (list_is_empty(&service->cached))
        return NULL;
    return LIST_ENTRY(service->cached.next, struct cached, link);
}

static void make_room(struct service *service, size_t bytes)
{
    uint64_t now = loop_now_ms(&service->loop);
    const struct config *config = service->config;
    size_t most = (size_t)config->max_cache_bytes;
    struct cached *cached;

    while ((cached = oldest(service)) != NULL &&
           (now - cached->at_ms > (uint64_t)config->cache_age_ms ||
            bytes > most || service->cached_bytes > most - bytes))
        forget(service, cached);
}

const struct cached *cache_find(struct service *service,
                                const unsigned char digest[DIGEST_SIZE])
{
    make_room(service, 0);
    return map_find(&service->cache, slice_make(digest, DIGEST_SIZE));
}

/* What was paid once is not paid again. */
static struct account account_of_copy(struct arena *arena,
                                      const struct account *account)
{
    struct account copy = *account;

    copy.model = arena_copy(arena, account->model);
    copy.provider = arena_copy(arena, account->provider);
    copy.cost_usd = isnan(account->cost_usd) ? account->cost_usd : 0;
    copy.attempts = 0;
    copy.cached = true;
    copy.decision = NULL;
    copy.records = NULL;
    copy.record_count = 0;
    return copy;
}

bool cache_keep(struct job *job, const struct account *account)
{
    struct service *service = job->service;
    const struct candidate *asked = &job->plan.candidates[job->candidate];
    size_t bytes = job->arena.reserved;
    struct cached *cached;

    if (bytes > (size_t)service->config->max_cache_bytes ||
        cache_find(service, job->asked.digest))
        return false;
    make_room(service, bytes);
    cached = mem_alloc(sizeof(*cached));
    memcpy(cached->digest, job->asked.digest, DIGEST_SIZE);
    cached->result = dialogue_result(job->dialogue);
    cached->account = account_of_copy(&job->arena, account);
    cached->provider = arena_copy(&job->arena, asked->provider);
    cached->model = arena_copy(&job->arena, asked->model);
    cached->at_ms = loop_now_ms(&service->loop);
    cached->arena = job->arena;
    arena_init(&job->arena, 0);
    service->cached_bytes += cached->arena.reserved;
    list_append(&service->cached, &cached->link);
    map_put(&service->cache, slice_make(cached->digest, DIGEST_SIZE), cached);
    return true;
}

void cache_release(struct service *service)
{
    struct cached *cached;

    while ((cached = oldest(service)) != NULL)
        forget(service, cached);
    map_release(&service->cache);
}
