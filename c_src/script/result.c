/* What a script made: the conversation it built, what it returned, its options.
 * Everything is read without metamethods: no code of the script runs here. */
#include "script/script_internal.h"

enum { RETURNED = 1, CONVERSATION, OPTIONS };

static int raw_field(lua_State *L, int table, const char *name)
{
    lua_pushstring(L, name);
    return lua_rawget(L, table);
}

static bool has_field(lua_State *L, int table, const char *name)
{
    bool there = raw_field(L, table, name) != LUA_TNIL;

    lua_pop(L, 1);
    return there;
}

static bool is_in_conversation(lua_State *L, int message)
{
    size_t count = lua_rawlen(L, CONVERSATION);
    bool found = false;

    for (size_t i = 1; i <= count && !found; i++) {
        lua_rawgeti(L, CONVERSATION, (lua_Integer)i);
        found = lua_rawequal(L, -1, message);
        lua_pop(L, 1);
    }
    return found;
}

static void add_text(lua_State *L)
{
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "user");
    lua_setfield(L, -2, "role");
    lua_pushvalue(L, RETURNED);
    lua_setfield(L, -2, "content");
    script_add_message(L, CONVERSATION, lua_gettop(L));
    lua_pop(L, 1);
}

/* {messages = ..., options = ...} */
static void take_parts(lua_State *L)
{
    lua_pushnil(L);
    while (lua_next(L, RETURNED)) {
        const char *key =
            lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";

        if (strcmp(key, "messages") != 0 && strcmp(key, "options") != 0)
            luaL_error(L, "a script returns messages and options; there is "
                          "another key beside them");
        lua_pop(L, 1);
    }
    if (raw_field(L, RETURNED, "messages") != LUA_TNIL)
        lua_copy(L, -1, CONVERSATION);
    if (raw_field(L, RETURNED, "options") != LUA_TNIL)
        lua_copy(L, -1, OPTIONS);
    lua_pop(L, 2);
}

static void take_table(lua_State *L)
{
    if (has_field(L, RETURNED, "role")) {
        if (!is_in_conversation(L, RETURNED))
            script_add_message(L, CONVERSATION, RETURNED);
    } else if (has_field(L, RETURNED, "messages") ||
               has_field(L, RETURNED, "options")) {
        take_parts(L);
    } else {
        lua_copy(L, RETURNED, CONVERSATION);
    }
}

static void take_returned(lua_State *L)
{
    int type = lua_type(L, RETURNED);

    if (type == LUA_TNIL)
        return;
    if (type == LUA_TSTRING)
        add_text(L);
    else if (type == LUA_TTABLE)
        take_table(L);
    else
        luaL_error(L,
                   "a script returns nothing, a text, a message, a list of "
                   "messages or {messages = ..., options = ...}, not a %s",
                   lua_typename(L, type));
}

static bool is_role(const char *role)
{
    return strcmp(role, "system") == 0 || strcmp(role, "user") == 0 ||
           strcmp(role, "assistant") == 0;
}

/* The message on top. */
static void put_message(lua_State *L, int number, struct buf *out)
{
    int message = lua_gettop(L);

    if (!lua_istable(L, message))
        luaL_error(L, "messages[%d]: a %s is no message", number,
                   luaL_typename(L, message));
    if (raw_field(L, message, "role") != LUA_TSTRING ||
        !is_role(lua_tostring(L, -1)))
        luaL_error(L,
                   "messages[%d]: the role must be system, user or assistant",
                   number);
    if (raw_field(L, message, "content") != LUA_TSTRING)
        luaL_error(L, "messages[%d]: the content must be a text, not a %s",
                   number, luaL_typename(L, -1));
    buf_printf(out, "{\"role\":\"%s\",\"content\":", lua_tostring(L, -2));
    script_put_text(L, -1, out);
    buf_append_byte(out, '}');
    lua_pop(L, 2);
}

static void put_messages(lua_State *L, struct buf *out)
{
    size_t count = 0;

    if (!lua_istable(L, CONVERSATION) ||
        !script_is_list(L, CONVERSATION, &count))
        luaL_error(L, "the messages must be a list");
    if (count == 0)
        luaL_error(L, "the script made no message");
    if (count > SCRIPT_MESSAGES_MAX)
        luaL_error(L, "more than %d messages", SCRIPT_MESSAGES_MAX);
    for (int i = 1; i <= (int)count; i++) {
        if (i > 1)
            buf_append_byte(out, ',');
        lua_rawgeti(L, CONVERSATION, i);
        put_message(L, i, out);
        lua_pop(L, 1);
        if (out->failed)
            luaL_error(L, "the messages are too large");
    }
}

void script_put_result(lua_State *L)
{
    struct buf *out = script_run_of(L)->out;

    script_push_conversation(L);
    lua_pushglobaltable(L);
    raw_field(L, lua_gettop(L), "options");
    lua_remove(L, -2);
    take_returned(L);
    buf_append_text(out, "{\"messages\":[");
    put_messages(L, out);
    buf_append_text(out, "],\"options\":");
    if (lua_istable(L, OPTIONS))
        script_put_object(L, OPTIONS, out, "options");
    else if (lua_isnil(L, OPTIONS))
        buf_append_text(out, "{}");
    else
        luaL_error(L, "options must be a table, not a %s",
                   luaL_typename(L, OPTIONS));
    buf_append_byte(out, '}');
    if (out->failed)
        luaL_error(L, "the messages are too large");
}
