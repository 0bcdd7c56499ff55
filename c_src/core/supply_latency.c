#include <math.h>

#include "llm_router/base/mem.h"
#include "supply_internal.h"

enum {
    MODELS_MAX = 1000, /* callers choose model ids */
    KEY_MAX = 256,     /* provider, a slash, an id of 128 bytes */
};

static const double NEWEST_WEIGHT = 0.2;

/* What was measured longer ago may have changed: it is measured again. */
static const uint64_t STALE_MS = 600000;

struct latency {
    struct list link; /* among the ages */
    struct slice key; /* provider and model with a slash between; owned */
    size_t provider_size;
    double ms;
    uint64_t measured;
    uint64_t measured_ms;
};

/* Empty for names that are longer than any model has. */
static struct slice key_of(char storage[KEY_MAX], struct slice provider,
                           struct slice model)
{
    if (provider.size == 0 || model.size == 0 || provider.size >= KEY_MAX ||
        model.size > KEY_MAX - 1 - provider.size)
        return slice_of(NULL);
    memcpy(storage, provider.data, provider.size);
    storage[provider.size] = '/';
    memcpy(storage + provider.size + 1, model.data, model.size);
    return slice_make(storage, provider.size + 1 + model.size);
}

void latencies_init(struct latencies *latencies, uint64_t seed)
{
    map_init(&latencies->models, seed);
    list_init(&latencies->ages);
}

static void forget(struct latencies *latencies, struct latency *latency)
{
    map_remove(&latencies->models, latency->key);
    list_remove(&latency->link);
    mem_free((char *)(uintptr_t)latency->key.data);
    mem_free(latency);
}

void latencies_release(struct latencies *latencies)
{
    LIST_EACH(link, &latencies->ages)
    forget(latencies, LIST_ENTRY(link, struct latency, link));
    map_release(&latencies->models);
}

static struct latency *add(struct latencies *latencies, struct slice key,
                           size_t provider_size)
{
    struct latency *latency = mem_alloc(sizeof(*latency));

    if (latencies->models.count >= MODELS_MAX)
        forget(latencies,
               LIST_ENTRY(latencies->ages.next, struct latency, link));
    latency->key = slice_make(mem_copy_text(key.data, key.size), key.size);
    latency->provider_size = provider_size;
    list_init(&latency->link);
    map_put(&latencies->models, key, latency);
    return latency;
}

void latencies_measure(struct latencies *latencies, struct slice provider,
                       struct slice model, int64_t latency_ms, uint64_t now_ms)
{
    char storage[KEY_MAX];
    struct slice key = key_of(storage, provider, model);
    struct latency *latency;

    if (key.size == 0)
        return;
    latency = map_find(&latencies->models, key);
    if (!latency)
        latency = add(latencies, key, provider.size);
    if (latency->measured == 0 || now_ms - latency->measured_ms > STALE_MS)
        latency->ms = (double)latency_ms;
    else
        latency->ms += ((double)latency_ms - latency->ms) * NEWEST_WEIGHT;
    latency->measured++;
    latency->measured_ms = now_ms;
    list_remove(&latency->link);
    list_append(&latencies->ages, &latency->link);
}

double latencies_find(const struct latencies *latencies, struct slice provider,
                      struct slice model, uint64_t now_ms)
{
    char storage[KEY_MAX];
    struct slice key = key_of(storage, provider, model);
    const struct latency *latency =
        key.size > 0 ? map_find(&latencies->models, key) : NULL;

    if (!latency || now_ms - latency->measured_ms > STALE_MS)
        return NAN;
    return latency->ms;
}

void latencies_each(const struct latencies *latencies,
                    void (*visit)(void *context,
                                  const struct supply_model_view *view),
                    void *context)
{
    for (const struct list *link = latencies->ages.next;
         link != &latencies->ages; link = link->next) {
        const struct latency *latency =
            LIST_ENTRY(link, const struct latency, link);
        size_t behind = latency->provider_size + 1;

        visit(context, &(struct supply_model_view){
                           .provider = slice_make(latency->key.data,
                                                  latency->provider_size),
                           .model = slice_make(latency->key.data + behind,
                                               latency->key.size - behind),
                           .latency_ms = latency->ms,
                           .measured = latency->measured,
                       });
    }
}
