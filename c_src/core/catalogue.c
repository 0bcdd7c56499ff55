#include "llm_router/core/catalogue.h"

/* A provider's name, a slash and a model id of 128 bytes fit; a longer name is
 * in no row and found nowhere. */
enum { NAME_MAX_BYTES = 256 };

/* "provider/id" in `storage`; empty when it does not fit. */
static struct slice full_name(char storage[NAME_MAX_BYTES],
                              struct slice provider, struct slice id)
{
    if (provider.size == 0 || id.size == 0 || provider.size >= NAME_MAX_BYTES ||
        id.size > NAME_MAX_BYTES - 1 - provider.size)
        return slice_of(NULL);
    memcpy(storage, provider.data, provider.size);
    storage[provider.size] = '/';
    memcpy(storage + provider.size + 1, id.data, id.size);
    return slice_make(storage, provider.size + 1 + id.size);
}

/* The row that has a name already keeps it. */
static void put_first(struct map *map, struct slice name,
                      const struct model *model)
{
    if (!map_find(map, name))
        map_put(map, name, (void *)(uintptr_t)model);
}

static void put_row(struct catalogue *catalogue, struct slice id,
                    const struct model *model)
{
    char storage[NAME_MAX_BYTES];
    struct slice name = full_name(storage, model->provider, id);

    if (name.size > 0)
        put_first(&catalogue->by_name, name, model);
    put_first(&catalogue->by_id, id, model);
}

void catalogue_index(struct catalogue *catalogue, uint64_t seed)
{
    map_init(&catalogue->by_name, seed);
    map_init(&catalogue->by_id, seed);
    for (size_t i = 0; i < catalogue->count; i++)
        put_row(catalogue, catalogue->models[i].id, &catalogue->models[i]);
    for (size_t i = 0; i < catalogue->count; i++)
        for (size_t k = 0; k < catalogue->models[i].alias_count; k++)
            put_row(catalogue, catalogue->models[i].aliases[k],
                    &catalogue->models[i]);
}

void catalogue_release(struct catalogue *catalogue)
{
    map_release(&catalogue->by_name);
    map_release(&catalogue->by_id);
}

const struct model *catalogue_find(const struct catalogue *catalogue,
                                   struct slice provider, struct slice id)
{
    char storage[NAME_MAX_BYTES];
    struct slice name = full_name(storage, provider, id);

    return name.size > 0 ? map_find(&catalogue->by_name, name) : NULL;
}

static bool is_called(const struct model *model, struct slice name)
{
    if (slice_equal(model->id, name))
        return true;
    for (size_t i = 0; i < model->alias_count; i++)
        if (slice_equal(model->aliases[i], name))
            return true;
    return false;
}

const struct model *catalogue_find_anywhere(
    const struct catalogue *catalogue, struct slice id,
    bool (*is_usable)(const void *context, struct slice provider),
    const void *context)
{
    const struct model *first = map_find(&catalogue->by_id, id);

    if (!first || is_usable(context, first->provider))
        return first;
    for (size_t i = 0; i < catalogue->count; i++) {
        const struct model *model = &catalogue->models[i];

        if (is_called(model, id) && is_usable(context, model->provider))
            return model;
    }
    return first;
}
