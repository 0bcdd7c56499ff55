/* What went wrong with a script, as its author and its caller see it. */
#ifndef LLM_ROUTER_SCRIPT_FAULT_H
#define LLM_ROUTER_SCRIPT_FAULT_H

#include "llm_router/base/error.h"
#include "llm_router/base/slice.h"

struct script_fault {
    /* Clean UTF-8, cut at a character. Of a fault in the script: without the
     * file and the line in front of it, which Lua writes there. Never a
     * traceback, never the folder of the file. */
    char message[ERROR_MESSAGE_MAX];
    int line; /* from 1; 0: not known, or not about a line */
};

/* Always false, for `return script_fail(...)`. The line is 0. */
bool script_fail(struct script_fault *fault, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for a text that may hold any bytes. */
bool script_fail_at(struct script_fault *fault, int line, struct slice message);

#endif
