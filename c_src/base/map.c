#include "llm_router/base/map.h"

#include "llm_router/base/mem.h"

enum { FIRST_SLOTS = 16 };

struct map_entry {
    struct map_entry *next;
    void *value;
    uint64_t hash;
    size_t key_size;
    char key[];
};

/* FNV-1a from a seed, with a finisher (MurmurHash3's) for the low bits. */
static uint64_t hash_of(const struct map *map, struct slice key)
{
    uint64_t hash = 0xCBF29CE484222325u ^ map->seed;

    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ (unsigned char)key.data[i]) * 0x100000001B3u;
    hash ^= hash >> 33;
    hash *= 0xFF51AFD7ED558CCDu;
    return hash ^ hash >> 33;
}

void map_init(struct map *map, uint64_t seed)
{
    *map = (struct map){.seed = seed};
}

void map_release(struct map *map)
{
    for (size_t i = 0; i < map->slot_count; i++) {
        struct map_entry *entry = map->slots[i];

        while (entry) {
            struct map_entry *next = entry->next;

            mem_free(entry);
            entry = next;
        }
    }
    mem_free(map->slots);
    map_init(map, map->seed);
}

/* The link that points to the entry, or to the NULL at its chain's end. */
static struct map_entry **find(const struct map *map, struct slice key,
                               uint64_t hash)
{
    struct map_entry **link = &map->slots[hash & (map->slot_count - 1)];

    while (*link &&
           ((*link)->hash != hash ||
            !slice_equal(slice_make((*link)->key, (*link)->key_size), key)))
        link = &(*link)->next;
    return link;
}

static void grow(struct map *map)
{
    size_t count = map->slot_count > 0 ? map->slot_count * 2 : FIRST_SLOTS;
    struct map_entry **slots = mem_alloc(count * sizeof(struct map_entry *));

    for (size_t i = 0; i < map->slot_count; i++) {
        struct map_entry *entry = map->slots[i];

        while (entry) {
            struct map_entry *next = entry->next;
            struct map_entry **slot = &slots[entry->hash & (count - 1)];

            entry->next = *slot;
            *slot = entry;
            entry = next;
        }
    }
    mem_free(map->slots);
    map->slots = slots;
    map->slot_count = count;
}

void *map_put(struct map *map, struct slice key, void *value)
{
    uint64_t hash = hash_of(map, key);
    struct map_entry **link, *entry;

    if (map->count >= map->slot_count)
        grow(map);
    link = find(map, key, hash);
    if (*link) {
        void *old = (*link)->value;

        (*link)->value = value;
        return old;
    }
    entry = mem_realloc(NULL, sizeof(*entry) + key.size);
    *entry =
        (struct map_entry){.value = value, .hash = hash, .key_size = key.size};
    memcpy(entry->key, key.data, key.size);
    *link = entry;
    map->count++;
    return NULL;
}

void *map_find(const struct map *map, struct slice key)
{
    struct map_entry *entry;

    if (map->count == 0)
        return NULL;
    entry = *find(map, key, hash_of(map, key));
    return entry ? entry->value : NULL;
}

void *map_remove(struct map *map, struct slice key)
{
    struct map_entry **link, *entry;
    void *value;

    if (map->count == 0)
        return NULL;
    link = find(map, key, hash_of(map, key));
    entry = *link;
    if (!entry)
        return NULL;
    *link = entry->next;
    value = entry->value;
    mem_free(entry);
    map->count--;
    return value;
}

void map_each(struct map *map, void (*visit)(void *value, void *context),
              void *context)
{
    for (size_t i = 0; i < map->slot_count; i++) {
        struct map_entry *entry = map->slots[i];

        while (entry) {
            struct map_entry *next = entry->next;

            visit(entry->value, context);
            entry = next;
        }
    }
}
