#include "llm_router/script/script.h"

#include <stdio.h>
#include <time.h>

#include "script/script_internal.h"

/* Instructions between two looks at the limits. */
enum { STEP = 1000 };

const struct script_limits SCRIPT_DEFAULT_LIMITS = {
    .memory_bytes = 8 * 1024 * 1024,
    .instructions = 10 * 1000 * 1000,
    .time_ms = 1000,
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool fail_memory(struct script_fault *fault,
                        const struct script_limits *limits)
{
    return script_fail(fault, "more than %zu bytes of memory",
                       limits->memory_bytes);
}

/* True when no limit is hit. */
static bool within_limits(struct script_run *run)
{
    const struct script_limits *limits = run->limits;

    if (script_heap_is_exhausted(&run->heap))
        return fail_memory(&run->fault, limits);
    if (run->instructions >= limits->instructions)
        return script_fail(&run->fault, "more than %llu instructions",
                           (unsigned long long)limits->instructions);
    if (now_ns() >= run->deadline_ns)
        return script_fail(&run->fault, "more than %u ms",
                           (unsigned)limits->time_ms);
    return true;
}

static int step_of(const struct script_limits *limits)
{
    return limits->instructions < STEP ? (int)limits->instructions + 1 : STEP;
}

/* Once a limit is hit this comes at every instruction: what caught the error
 * gets the next one. */
static void on_instructions(lua_State *L, lua_Debug *activation)
{
    struct script_run *run = script_run_of(L);

    if (!run->stopped) {
        run->instructions += (uint64_t)step_of(run->limits);
        if (within_limits(run))
            return;
        run->stopped = true;
        if (lua_getinfo(L, "l", activation) && activation->currentline > 0)
            run->fault.line = activation->currentline;
        lua_sethook(L, on_instructions, LUA_MASKCOUNT, 1);
    }
    lua_pushnil(L);
    lua_error(L);
}

void script_watch(lua_State *L)
{
    lua_sethook(L, on_instructions, LUA_MASKCOUNT,
                step_of(script_run_of(L)->limits));
}

/* A message handler: notes the line, makes a text of a number. */
static int on_error(lua_State *L)
{
    struct script_run *run = script_run_of(L);
    lua_Debug activation;

    run->raised_at = 0;
    for (int level = 1; lua_getstack(L, level, &activation); level++) {
        if (lua_getinfo(L, "l", &activation) && activation.currentline > 0) {
            run->raised_at = activation.currentline;
            break;
        }
    }
    if (lua_type(L, 1) == LUA_TNUMBER)
        lua_tostring(L, 1);
    return 1;
}

static int run_all(lua_State *L)
{
    struct script_run *run = script_run_of(L);
    lua_Debug chunk;

    script_open_sandbox(L);
    if (run->context) {
        script_push_value(L, run->context);
        lua_setglobal(L, "context");
    }
    if (luaL_loadbufferx(L, run->code.data, run->code.size, "=", "b") != LUA_OK)
        return lua_error(L);
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &chunk);
    memcpy(run->source, chunk.short_src, sizeof(run->source));
    script_watch(L);
    lua_call(L, 0, 1);
    lua_sethook(L, NULL, 0, 0);
    script_put_result(L);
    return 0;
}

/* "greet.lua:3: message" -> 3, "message". Anything else is left alone. */
static int cut_position(const char *source, struct slice *message)
{
    struct slice rest = *message;
    size_t size = strlen(source);
    int line = 0;

    if (!slice_starts_with(rest, source) || rest.size == size ||
        rest.data[size] != ':')
        return 0;
    rest = slice_make(rest.data + size + 1, rest.size - size - 1);
    while (rest.size > 0 && rest.data[0] >= '0' && rest.data[0] <= '9' &&
           line < INT32_MAX / 10 - 1) {
        line = line * 10 + (rest.data[0] - '0');
        rest = slice_make(rest.data + 1, rest.size - 1);
    }
    if (line == 0 || !slice_starts_with(rest, ":"))
        return 0;
    *message = slice_trim(slice_make(rest.data + 1, rest.size - 1));
    return line;
}

/* From the error value on top of the stack. */
static bool fail_from_error(lua_State *L, struct script_run *run)
{
    struct slice message;
    int line;

    if (lua_type(L, -1) != LUA_TSTRING) {
        script_fail(&run->fault, "the error is a %s, not a text",
                    luaL_typename(L, -1));
        run->fault.line = run->raised_at;
        return false;
    }
    message.data = lua_tolstring(L, -1, &message.size);
    line = cut_position(run->source, &message);
    return script_fail_at(&run->fault, line > 0 ? line : run->raised_at,
                          message);
}

static bool judge(lua_State *L, struct script_run *run, int status)
{
    if (run->stopped)
        return false;
    if (script_heap_is_exhausted(&run->heap) || status == LUA_ERRMEM)
        return fail_memory(&run->fault, run->limits);
    return status == LUA_OK || fail_from_error(L, run);
}

static lua_State *open_state(struct script_run *run)
{
    lua_State *L = lua_newstate(script_heap_resize, &run->heap);

    if (L)
        *(struct script_run **)lua_getextraspace(L) = run;
    return L;
}

bool script_run(struct slice code, const struct jv *context,
                const struct script_limits *limits, struct buf *out,
                struct script_fault *fault)
{
    struct script_run run = {
        .heap = {.max = limits->memory_bytes},
        .limits = limits,
        .code = code,
        .context = context,
        .out = out,
        .deadline_ns = now_ns() + limits->time_ms * UINT64_C(1000000),
    };
    lua_State *L = open_state(&run);
    bool ok;

    if (!L)
        return fail_memory(fault, limits);
    buf_init(&run.scratch, limits->memory_bytes);
    arena_init(&run.arena, 0);
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, run_all);
    ok = judge(L, &run, lua_pcall(L, 0, 0, 1));
    lua_close(L);
    arena_release(&run.arena);
    buf_release(&run.scratch);
    if (!ok)
        *fault = run.fault;
    return ok;
}

static int append_code(lua_State *L, const void *data, size_t size, void *code)
{
    (void)L;
    buf_append(code, data, size);
    return 0;
}

/* A byte order mark is no Lua. */
static struct slice without_mark(struct slice text)
{
    if (slice_starts_with(text, "\xEF\xBB\xBF"))
        return slice_make(text.data + 3, text.size - 3);
    return text;
}

static bool compile(lua_State *L, struct script_run *run, struct slice text,
                    struct buf *code)
{
    char name[LUA_IDSIZE + 1];
    int status;

    snprintf(name, sizeof(name), "=%s", run->source);
    status = luaL_loadbufferx(L, text.data, text.size, name, "t");
    if (!judge(L, run, status))
        return false;
    lua_dump(L, append_code, code, 0);
    if (code->failed)
        return script_fail(&run->fault,
                           "its compiled form is larger than %zu "
                           "bytes",
                           code->max);
    return true;
}

bool script_compile(const struct script_source *source,
                    const struct script_limits *limits, struct buf *code,
                    struct script_fault *fault)
{
    struct script_run run = {
        .heap = {.max = limits->memory_bytes},
        .limits = limits,
    };
    lua_State *L = open_state(&run);
    bool ok;

    if (!L)
        return fail_memory(fault, limits);
    snprintf(run.source, sizeof(run.source), "%.*s", SLICE_ARG(source->name));
    ok = compile(L, &run, without_mark(source->text), code);
    lua_close(L);
    if (!ok)
        *fault = run.fault;
    return ok;
}
