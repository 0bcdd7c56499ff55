/* A hash map from byte keys to borrowed pointers.
 *
 * Keys are copied, values are the caller's. `seed` should be random where
 * strangers choose keys. Do not add or remove while iterating, except the
 * element just visited. */
#ifndef LLM_ROUTER_BASE_MAP_H
#define LLM_ROUTER_BASE_MAP_H

#include "llm_router/base/slice.h"

struct map_entry;

struct map {
    struct map_entry **slots;
    size_t slot_count; /* 0 or a power of two */
    size_t count;
    uint64_t seed;
};

void map_init(struct map *map, uint64_t seed);
void map_release(struct map *map); /* values are not touched */

/* Replaces; returns the value that was there, or NULL. `value` is not NULL. */
void *map_put(struct map *map, struct slice key, void *value);
void *map_find(const struct map *map, struct slice key);
void *map_remove(struct map *map, struct slice key); /* its value, or NULL */

/* Calls `visit` for each value; it may map_remove that value's own key. */
void map_each(struct map *map, void (*visit)(void *value, void *context),
              void *context);

/* A key made of a number, e.g. an id: MAP_KEY(id). `id` must be an lvalue. */
#define MAP_KEY(id) slice_make(&(id), sizeof(id))

#endif
