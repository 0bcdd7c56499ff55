/* A child process on the loop, with its standard input and output as pipes.
 *
 * Its standard error is ours. It has the environment it is given and nothing
 * of ours; no signal is blocked or ignored in it. Descriptors of ours that are
 * not close-on-exec are open in it: ours all are, a library's may not be, so a
 * program that must have none closes what it finds. SIGPIPE must be ignored by
 * this process (loop_on_signal). */
#ifndef LLM_ROUTER_LOOP_CHILD_H
#define LLM_ROUTER_LOOP_CHILD_H

#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"
#include "llm_router/loop/loop.h"

struct child;

struct child_options {
    const char *program;            /* absolute */
    const char *const *arguments;   /* the first is its name; NULL at the end */
    const char *const *environment; /* "NAME=value"; NULL at the end */
    size_t max_unsent_bytes;        /* that wait because it does not read */
};

struct child_events {
    void (*output)(void *context, struct slice bytes);
    /* Always the last, once: it is gone and all its output was told. `signal`
     * is 0 when it ended by itself. The child is still to be freed. */
    void (*ended)(void *context, int status, int signal);
};

/* NULL: it could not be started; ERR_OVERLOADED. The options may go; `events`
 * is borrowed. */
struct child *child_start(struct loop *loop,
                          const struct child_options *options,
                          const struct child_events *events, void *context,
                          struct error *err);

/* No event comes from then on. What still runs is killed; loop_release waits
 * until it is gone. May be called in an event. NULL is allowed. */
void child_free(struct child *child);

/* Copies the bytes. False, and nothing is sent: it has ended or closed its
 * input, or more than max_unsent_bytes would wait. */
bool child_write(struct child *child, struct slice bytes);

/* SIGKILL; `ended` follows. */
void child_kill(struct child *child);

int child_pid(const struct child *child); /* for the log */

#endif
