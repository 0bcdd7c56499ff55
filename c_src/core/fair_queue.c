#include "llm_router/core/fair_queue.h"

#include "llm_router/base/mem.h"

/* One that has entries. */
struct fair_owner {
    struct list turn;
    struct list entries; /* the oldest first */
    size_t count;
    uint64_t id;
};

static struct fair_owner *owner_at(struct list *link)
{
    return LIST_ENTRY(link, struct fair_owner, turn);
}

static struct fair_entry *entry_at(struct list *link)
{
    return LIST_ENTRY(link, struct fair_entry, link);
}

void fair_queue_init(struct fair_queue *queue, size_t max, uint64_t seed)
{
    *queue = (struct fair_queue){.max = max};
    map_init(&queue->owners, seed);
    list_init(&queue->turns);
}

void fair_queue_release(struct fair_queue *queue)
{
    map_release(&queue->owners);
}

static struct fair_owner *have_owner(struct fair_queue *queue, uint64_t id)
{
    struct fair_owner *owner = map_find(&queue->owners, MAP_KEY(id));

    if (owner)
        return owner;
    owner = mem_alloc(sizeof(*owner));
    owner->id = id;
    list_init(&owner->entries);
    list_append(&queue->turns, &owner->turn);
    map_put(&queue->owners, MAP_KEY(id), owner);
    return owner;
}

/* `before`: the entry that it comes before, or the head of the list. */
static void insert(struct fair_queue *queue, struct fair_owner *owner,
                   struct fair_entry *entry, struct list *before)
{
    list_append(before, &entry->link);
    entry->owner = owner;
    owner->count++;
    queue->count++;
}

void fair_queue_remove(struct fair_queue *queue, struct fair_entry *entry)
{
    struct fair_owner *owner = entry->owner;

    if (!owner)
        return;
    list_remove(&entry->link);
    entry->owner = NULL;
    queue->count--;
    if (--owner->count > 0)
        return;
    list_remove(&owner->turn);
    map_remove(&queue->owners, MAP_KEY(owner->id));
    mem_free(owner);
}

static struct fair_owner *find_greediest(const struct fair_queue *queue)
{
    struct fair_owner *most = NULL;

    LIST_EACH(turn, &queue->turns)
    if (!most || owner_at(turn)->count > most->count)
        most = owner_at(turn);
    return most;
}

/* Takes an entry from who has most, if `id` has less than an even share: then
 * another one has more than that. */
static struct fair_entry *make_room(struct fair_queue *queue, uint64_t id)
{
    const struct fair_owner *owner = map_find(&queue->owners, MAP_KEY(id));
    size_t share = queue->max / (queue->owners.count + (owner ? 0 : 1));
    struct fair_entry *newest;

    if ((owner ? owner->count : 0) >= share)
        return NULL;
    newest = entry_at(find_greediest(queue)->entries.previous);
    fair_queue_remove(queue, newest);
    return newest;
}

enum fair_verdict fair_queue_put(struct fair_queue *queue, uint64_t id,
                                 struct fair_entry *entry,
                                 struct fair_entry **evicted)
{
    struct fair_owner *owner;

    *evicted = NULL;
    if (queue->count >= queue->max) {
        *evicted = make_room(queue, id);
        if (!*evicted)
            return FAIR_FULL;
    }
    owner = have_owner(queue, id);
    insert(queue, owner, entry, &owner->entries);
    return FAIR_QUEUED;
}

struct fair_entry *fair_queue_take(struct fair_queue *queue)
{
    struct fair_owner *owner;
    struct fair_entry *entry;

    if (queue->count == 0)
        return NULL;
    owner = owner_at(queue->turns.next);
    entry = entry_at(owner->entries.next);
    list_remove(&owner->turn);
    list_append(&queue->turns, &owner->turn);
    fair_queue_remove(queue, entry);
    return entry;
}

void fair_queue_put_back(struct fair_queue *queue, uint64_t id,
                         struct fair_entry *entry)
{
    struct fair_owner *owner = have_owner(queue, id);

    insert(queue, owner, entry, owner->entries.next);
}
