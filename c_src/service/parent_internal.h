/* The program that supervises this one, at the other end of standard input
 * (--supervised). It sends lines (config/handover.h); when it is gone, however
 * it ended, its end of the pipe is closed. */
#ifndef LLM_ROUTER_SERVICE_PARENT_INTERNAL_H
#define LLM_ROUTER_SERVICE_PARENT_INTERNAL_H

#include "service/service_internal.h"

struct parent_events {
    /* It asks to drain within that time at most; INT64_MAX: as configured. */
    void (*stop)(void *context, int64_t drain_ms);
    void (*gone)(void *context);
};

struct parent {
    struct service *service;
    int given, fd; /* the same pipe, if it could be opened again */
    struct line_reader *input;
    const struct parent_events *events;
    void *context;
    struct loop_watch watch;
    struct loop_timer timer; /* until a reload that is under way has ended */
    struct arena arena;      /* of `config` */
    struct slice config;     /* handed over last, not taken over yet */
};

/* What is left in the reader comes in the first turn of the loop. The reader is
 * lent. */
void parent_start(struct parent *parent, struct service *service, int fd,
                  struct line_reader *input, const struct parent_events *events,
                  void *context);
/* Zero-initialised memory is a parent that there is not: nothing is done. The
 * memory must live until loop_release. */
void parent_stop(struct parent *parent);

#endif
