/* Counts the libuv handles and requests that are still open, so that whoever
 * closes them all learns when the last is gone: libuv closes asynchronously
 * and the memory must stay until then. */
#ifndef LLM_ROUTER_DIST_HANDLES_H
#define LLM_ROUTER_DIST_HANDLES_H

#include <stddef.h>

struct handles {
    size_t open;
    void (*on_none)(void *context); /* NULL: nobody waits */
    void *context;
};

static inline void handles_opened(struct handles *handles)
{
    handles->open++;
}

/* May call on_none, which may free `handles`. */
static inline void handles_closed(struct handles *handles)
{
    if (--handles->open == 0 && handles->on_none)
        handles->on_none(handles->context);
}

#endif
