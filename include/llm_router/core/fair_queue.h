/* A bounded queue that is fair to those who put things into it.
 *
 * Owners (caller nodes) take turns, whatever each has waiting; what one owner
 * put in comes out in order. When it is full, an owner with less than its even
 * share (max divided by the owners, itself among them) takes the place of the
 * newest entry of the owner with most. Holds links, owns nothing.
 *
 * All is O(1), except that a put into a full queue looks at each owner; an
 * owner is allocated with its first entry and freed with its last. */
#ifndef LLM_ROUTER_CORE_FAIR_QUEUE_H
#define LLM_ROUTER_CORE_FAIR_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "llm_router/base/list.h"
#include "llm_router/base/map.h"

/* All zero is one that is in no queue. */
struct fair_entry {
    struct list link;         /* among its owner's */
    struct fair_owner *owner; /* NULL: not in a queue */
};

struct fair_queue {
    struct map owners; /* those that have entries */
    struct list turns; /* of them, the next one first */
    size_t count;
    size_t max;
};

void fair_queue_init(struct fair_queue *queue, size_t max, uint64_t seed);
void fair_queue_release(struct fair_queue *queue); /* must be empty */

enum fair_verdict { FAIR_QUEUED, FAIR_FULL };

/* *evicted: the entry that had to leave for it, or NULL. `entry` is in no
 * queue. */
enum fair_verdict fair_queue_put(struct fair_queue *queue, uint64_t owner,
                                 struct fair_entry *entry,
                                 struct fair_entry **evicted);

/* One that is in no queue may be removed again. */
void fair_queue_remove(struct fair_queue *queue, struct fair_entry *entry);

/* The next one in turn, taken out; NULL when it is empty. */
struct fair_entry *fair_queue_take(struct fair_queue *queue);

/* Puts an entry just taken back before the others of its owner, whose turn is
 * over. Is not refused: the queue may then be over its maximum by what was
 * taken. */
void fair_queue_put_back(struct fair_queue *queue, uint64_t owner,
                         struct fair_entry *entry);

#endif
