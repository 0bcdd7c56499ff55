/* A doubly linked list inside its elements: O(1) insert and remove, no
 * allocation. A removed or initialised link may be removed again. */
#ifndef LLM_ROUTER_BASE_LIST_H
#define LLM_ROUTER_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *previous;
};

#define LIST_ENTRY(link, type, member) \
    ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* `link` may be removed and freed in the body. */
#define LIST_EACH(link, head)                                         \
    for (struct list *link = (head)->next, *link##_next = link->next; \
         link != (head); link = link##_next, link##_next = link->next)

static inline void list_init(struct list *list)
{
    list->next = list->previous = list;
}

static inline bool list_is_empty(const struct list *list)
{
    return list->next == list;
}

static inline void list_append(struct list *head, struct list *link)
{
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

/* Moves all of `from` behind `head`, which is empty. */
static inline void list_move(struct list *head, struct list *from)
{
    if (list_is_empty(from))
        return;
    *head = *from;
    head->next->previous = head->previous->next = head;
    list_init(from);
}

static inline void list_remove(struct list *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    list_init(link);
}

#endif
