/* What was repaired in a paid answer, for `return => full`: one text each. */
#ifndef LLM_ROUTER_CORE_WARNINGS_H
#define LLM_ROUTER_CORE_WARNINGS_H

#include "llm_router/base/arena.h"

enum {
    WARNINGS_MAX = 100, /* the last one then says that there were more */
    WARNING_QUOTE = 60, /* bytes that a warning quotes of a model's text */
};

struct warnings {
    struct slice *texts;
    size_t count;
    size_t capacity;
};

/* All in the arena. */
void warnings_add(struct warnings *warnings, struct arena *arena,
                  const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void warnings_append(struct warnings *warnings, struct arena *arena,
                     const struct warnings *more);

/* The front of `text`, whole characters only, for quoting in a warning. */
struct slice warning_quote(struct slice text);

#endif
