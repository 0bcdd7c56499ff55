/* What the files of this layer share: a run, and the two ways between Lua's
 * values and JSON.
 *
 * Functions that take a lua_State raise Lua errors, by longjmp: they own
 * nothing on the C stack. What they need is in the run. */
#ifndef LLM_ROUTER_SCRIPT_INTERNAL_H
#define LLM_ROUTER_SCRIPT_INTERNAL_H

#include <lauxlib.h>
#include <lua.h>

#include "llm_router/script/script.h"

/* Memory of a state. Lua answers a refusal by a full collection and the same
 * question again; when that is refused too, or another question comes, it had
 * to do without: then the script has had its share. */
struct script_heap {
    size_t used, max;
    bool refused;
    void *refused_block;
    size_t refused_size;
    bool exhausted;
};

void *script_heap_resize(void *heap, void *block, size_t old, size_t size);
bool script_heap_is_exhausted(const struct script_heap *heap);

struct script_run {
    struct script_heap heap;
    const struct script_limits *limits;
    struct slice code;
    const struct jv *context;
    struct buf *out;
    struct buf scratch; /* of json() */
    struct arena arena; /* of the text being written */
    uint64_t instructions;
    uint64_t deadline_ns;
    bool stopped;  /* by a limit; `fault` says which */
    int raised_at; /* the line where the last uncaught error was raised; 0 */
    char source[LUA_IDSIZE]; /* as Lua writes it in front of messages */
    struct script_fault fault;
};

static inline struct script_run *script_run_of(lua_State *L)
{
    return *(struct script_run **)lua_getextraspace(L);
}

/* Counts, looks at the limits. */
void script_watch(lua_State *L);

/* The libraries, the functions and the globals of a script. */
void script_open_sandbox(lua_State *L);

/* What the script built and returned, the value on top, into run->out. */
void script_put_result(lua_State *L);

/* Pushes the list of messages that system(), user() and assistant() made. */
void script_push_conversation(lua_State *L);
void script_add_message(lua_State *L, int conversation, int message);

void script_push_value(lua_State *L, const struct jv *value);

/* The value at `index` as JSON, its keys sorted. Raises an error that begins
 * with `what` for what JSON cannot say, or when `out` is full. */
void script_put_value(lua_State *L, int index, struct buf *out,
                      const char *what);

/* The table at `index` as a JSON object, also when it is empty. */
void script_put_object(lua_State *L, int index, struct buf *out,
                       const char *what);

/* Clean UTF-8 without NUL, with quotes. */
void script_put_text(lua_State *L, int index, struct buf *out);

/* The table at `index` is a list without gaps; its length in *count. */
bool script_is_list(lua_State *L, int index, size_t *count);

#endif
