/* Prompt scripts: Lua 5.4 in a sandbox. docs/scripts.md is what a script sees.
 *
 * Each run has a fresh state of its own, which is closed when the run ends: no
 * script leaves anything for the next. A script cannot read, write, load or
 * start anything; it can compute, until a limit ends it.
 *
 * Limits are final: once one is hit, every further instruction raises the error
 * again, so that pcall cannot go on after it. What the limits do not see is a
 * library function that works long by itself, ("a-"):rep(30) as a pattern for
 * example: it never meets an instruction, so neither instructions nor time are
 * looked at. That is why scripts run in a process of their own
 * (script/worker.h), which its parent kills. */
#ifndef LLM_ROUTER_SCRIPT_SCRIPT_H
#define LLM_ROUTER_SCRIPT_SCRIPT_H

#include "llm_router/base/buf.h"
#include "llm_router/json/value.h"
#include "llm_router/script/fault.h"

struct script_limits {
    size_t memory_bytes;   /* of the Lua state, everything in it */
    uint64_t instructions; /* of the virtual machine, looked at each 1000 */
    uint32_t time_ms;
};

extern const struct script_limits SCRIPT_DEFAULT_LIMITS; /* 8 MiB, 10 million,
                                                            1000 ms */

enum {
    SCRIPT_MESSAGES_MAX = 10000,
    SCRIPT_DEPTH_MAX = 128, /* tables in tables, as JSON */
};

struct script_source {
    struct slice name; /* for messages of Lua within messages: "greet.lua" */
    struct slice text;
};

/* Appends the compiled form. False: a syntax error, or over the memory limit,
 * or over the buffer's maximum. */
bool script_compile(const struct script_source *source,
                    const struct script_limits *limits, struct buf *code,
                    struct script_fault *fault);

/* Runs what script_compile made: Lua believes compiled code, so it must never
 * come from anywhere else. `context` NULL is nil for the script. Appends
 * {"messages":[{"role":"user","content":"..."},...],"options":{...}} to `out`:
 * at least one message, contents clean UTF-8 without NUL. False: `out` has no
 * meaning then. */
bool script_run(struct slice code, const struct jv *context,
                const struct script_limits *limits, struct buf *out,
                struct script_fault *fault);

#endif
