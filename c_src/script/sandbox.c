#include <lualib.h>

#include "script/script_internal.h"

/* The address is the key of the conversation in the registry. */
static const char CONVERSATION = 0;

/* What of the base library reads files, loads code, writes, runs a finalizer
 * or an error handler where no limit is looked at, or says how much memory
 * there is. setmetatable is replaced. */
static const char *const REMOVED[] = {
    "collectgarbage", "dofile", "load", "loadfile", "print", "warn", "xpcall",
};

/* A finalizer would run while Lua counts no instructions, after the script's
 * end too. */
static int set_metatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2,
                     "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "__gc is not available");
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int json_text(lua_State *L)
{
    struct script_run *run = script_run_of(L);

    luaL_checkany(L, 1);
    buf_clear(&run->scratch);
    script_put_value(L, 1, &run->scratch, "json");
    lua_pushlstring(L, run->scratch.data, run->scratch.size);
    return 1;
}

/* The upvalue is the role. */
static int say(lua_State *L)
{
    luaL_checkstring(L, 1);
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setfield(L, -2, "role");
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "content");
    script_push_conversation(L);
    script_add_message(L, lua_gettop(L), lua_gettop(L) - 1);
    lua_pop(L, 1);
    return 1;
}

void script_push_conversation(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &CONVERSATION);
}

void script_add_message(lua_State *L, int conversation, int message)
{
    size_t count = lua_rawlen(L, conversation);

    if (count >= SCRIPT_MESSAGES_MAX)
        luaL_error(L, "more than %d messages", SCRIPT_MESSAGES_MAX);
    lua_pushvalue(L, message);
    lua_rawseti(L, conversation, (lua_Integer)count + 1);
}

static int null_text(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

/* The metatable of the value on top becomes one that is not handed out. */
static void protect(lua_State *L)
{
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

/* `null` is the only light userdata of a script, and all of them have one
 * metatable. */
static void open_null(lua_State *L)
{
    lua_pushlightuserdata(L, NULL);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, null_text);
    lua_setfield(L, -2, "__tostring");
    protect(L);
    lua_setmetatable(L, -2);
    lua_setglobal(L, "null");
}

static void open_libraries(lua_State *L)
{
    static const luaL_Reg libraries[] = {
        {LUA_GNAME, luaopen_base},       {LUA_STRLIBNAME, luaopen_string},
        {LUA_TABLIBNAME, luaopen_table}, {LUA_MATHLIBNAME, luaopen_math},
        {LUA_UTF8LIBNAME, luaopen_utf8},
    };

    for (size_t i = 0; i < sizeof(libraries) / sizeof(*libraries); i++) {
        luaL_requiref(L, libraries[i].name, libraries[i].func, 1);
        lua_pop(L, 1);
    }
    for (size_t i = 0; i < sizeof(REMOVED) / sizeof(*REMOVED); i++) {
        lua_pushnil(L);
        lua_setglobal(L, REMOVED[i]);
    }
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    protect(L);
    lua_getfield(L, -1, "__index");
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    lua_pop(L, 3);
}

static void open_functions(lua_State *L)
{
    static const char *const roles[] = {"system", "user", "assistant"};

    for (size_t i = 0; i < sizeof(roles) / sizeof(*roles); i++) {
        lua_pushstring(L, roles[i]);
        lua_pushcclosure(L, say, 1);
        lua_setglobal(L, roles[i]);
    }
    lua_pushcfunction(L, json_text);
    lua_setglobal(L, "json");
    lua_pushcfunction(L, set_metatable);
    lua_setglobal(L, "setmetatable");
}

void script_open_sandbox(lua_State *L)
{
    open_libraries(L);
    open_functions(L);
    open_null(L);
    lua_newtable(L);
    lua_setglobal(L, "options");
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &CONVERSATION);
}
