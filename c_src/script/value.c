#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "llm_router/base/utf8.h"
#include "script/script_internal.h"

/* The address is the key of a metatable in the registry: that of empty objects
 * of the context, which would be empty lists otherwise. */
static const char EMPTY_OBJECT = 0;

static int size_hint(size_t count)
{
    return count > INT_MAX ? INT_MAX : (int)count;
}

static void push_array(lua_State *L, const struct jv *value)
{
    size_t count = jv_count(value);

    lua_createtable(L, size_hint(count), 0);
    for (size_t i = 0; i < count; i++) {
        const struct jv *item = jv_at(value, i);

        if (item->type == JV_NULL)
            lua_pushlightuserdata(L, NULL);
        else
            script_push_value(L, item);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void mark_empty(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &EMPTY_OBJECT) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &EMPTY_OBJECT);
    }
    lua_setmetatable(L, -2);
}

static void push_object(lua_State *L, const struct jv *value)
{
    size_t count = jv_count(value);
    bool empty = true;

    lua_createtable(L, 0, size_hint(count));
    for (size_t i = 0; i < count; i++) {
        const struct jv_member *member = &value->as.object.members[i];

        if (member->value.type == JV_NULL)
            continue;
        empty = false;
        lua_pushlstring(L, member->key.data, member->key.size);
        script_push_value(L, &member->value);
        lua_rawset(L, -3);
    }
    if (empty)
        mark_empty(L);
}

void script_push_value(lua_State *L, const struct jv *value)
{
    luaL_checkstack(L, 4, "the context is nested too deep");
    switch (value->type) {
    case JV_NULL:
        lua_pushnil(L);
        return;
    case JV_BOOLEAN:
        lua_pushboolean(L, value->as.boolean);
        return;
    case JV_INTEGER:
        lua_pushinteger(L, value->as.integer);
        return;
    case JV_REAL:
        lua_pushnumber(L, value->as.real);
        return;
    case JV_STRING:
        lua_pushlstring(L, value->as.string.data, value->as.string.size);
        return;
    case JV_ARRAY:
        push_array(L, value);
        return;
    case JV_OBJECT:
        push_object(L, value);
        return;
    }
}

/* Writing: what goes down the tree. */
struct writer {
    lua_State *L;
    struct buf *out;
    const char *what;
    int depth;
};

static void put_any(struct writer *writer, int index);

static void put_slice(lua_State *L, struct slice text, struct buf *out)
{
    struct arena *arena = &script_run_of(L)->arena;
    struct arena_mark mark = arena_mark(arena);

    jv_put_string(out, utf8_clean(arena, text));
    arena_rewind(arena, mark);
}

void script_put_text(lua_State *L, int index, struct buf *out)
{
    struct slice text;

    text.data = lua_tolstring(L, index, &text.size);
    put_slice(L, text, out);
}

bool script_is_list(lua_State *L, int index, size_t *count)
{
    lua_Integer last = 0;

    *count = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;

        lua_pop(L, 1);
        if (key < 1) {
            lua_pop(L, 1);
            return false;
        }
        if (key > last)
            last = key;
        ++*count;
    }
    return (lua_Unsigned)last == *count;
}

static bool is_empty_object(lua_State *L, int index)
{
    bool marked;

    if (!lua_getmetatable(L, index))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &EMPTY_OBJECT);
    marked = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return marked;
}

static void put_list(struct writer *writer, int index, size_t count)
{
    buf_append_byte(writer->out, '[');
    for (size_t i = 1; i <= count; i++) {
        if (i > 1)
            buf_append_byte(writer->out, ',');
        lua_rawgeti(writer->L, index, (lua_Integer)i);
        put_any(writer, lua_gettop(writer->L));
        lua_pop(writer->L, 1);
    }
    buf_append_byte(writer->out, ']');
}

static int compare_keys(const void *left, const void *right)
{
    const struct slice *a = left, *b = right;
    size_t common = a->size < b->size ? a->size : b->size;
    int order = memcmp(a->data, b->data, common);

    if (order != 0)
        return order;
    return a->size < b->size ? -1 : a->size > b->size;
}

static size_t count_keys(struct writer *writer, int index)
{
    lua_State *L = writer->L;
    size_t count = 0;

    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L,
                       "%s: a table must have the keys 1..n, or only texts "
                       "as keys",
                       writer->what);
        count++;
    }
    return count;
}

/* Pushes memory with the sorted keys, and below it a list that keeps them: a
 * weak table may lose a key while it is written. */
static struct slice *push_keys(struct writer *writer, int index, size_t *count)
{
    lua_State *L = writer->L;
    struct slice *keys;

    *count = count_keys(writer, index);
    lua_createtable(L, size_hint(*count), 0);
    keys = lua_newuserdatauv(L, (*count + 1) * sizeof(*keys), 0);
    *count = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        struct slice *key = &keys[(*count)++];

        lua_pop(L, 1);
        key->data = lua_tolstring(L, -1, &key->size);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -4, (lua_Integer)*count);
    }
    qsort(keys, *count, sizeof(*keys), compare_keys);
    return keys;
}

static void put_object(struct writer *writer, int index)
{
    lua_State *L = writer->L;
    size_t count;
    const struct slice *keys = push_keys(writer, index, &count);

    buf_append_byte(writer->out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_append_byte(writer->out, ',');
        put_slice(L, keys[i], writer->out);
        buf_append_byte(writer->out, ':');
        lua_pushlstring(L, keys[i].data, keys[i].size);
        lua_rawget(L, index);
        put_any(writer, lua_gettop(L));
        lua_pop(L, 1);
    }
    buf_append_byte(writer->out, '}');
    lua_pop(L, 2);
}

static void put_table(struct writer *writer, int index)
{
    lua_State *L = writer->L;
    size_t count;

    if (++writer->depth > SCRIPT_DEPTH_MAX)
        luaL_error(L, "%s: tables more than %d deep, or inside themselves",
                   writer->what, SCRIPT_DEPTH_MAX);
    luaL_checkstack(L, 8, writer->what);
    if (script_is_list(L, index, &count) &&
        (count > 0 || !is_empty_object(L, index)))
        put_list(writer, index, count);
    else
        put_object(writer, index);
    writer->depth--;
}

static void put_number(struct writer *writer, int index)
{
    double number;

    if (lua_isinteger(writer->L, index)) {
        buf_printf(writer->out, "%" PRId64,
                   (int64_t)lua_tointeger(writer->L, index));
        return;
    }
    number = lua_tonumber(writer->L, index);
    if (!isfinite(number))
        luaL_error(writer->L, "%s: a number that is not finite", writer->what);
    jv_put_number(writer->out, number);
}

static void put_any(struct writer *writer, int index)
{
    lua_State *L = writer->L;
    int type = lua_type(L, index);

    if (type == LUA_TTABLE)
        put_table(writer, index);
    else if (type == LUA_TSTRING)
        script_put_text(L, index, writer->out);
    else if (type == LUA_TNUMBER)
        put_number(writer, index);
    else if (type == LUA_TBOOLEAN)
        buf_append_text(writer->out,
                        lua_toboolean(L, index) ? "true" : "false");
    else if (type == LUA_TNIL || type == LUA_TLIGHTUSERDATA)
        buf_append_text(writer->out, "null");
    else
        luaL_error(L, "%s: a %s has no form in JSON", writer->what,
                   lua_typename(L, type));
    if (writer->out->failed)
        luaL_error(L, "%s: more than %d bytes", writer->what,
                   size_hint(writer->out->max));
}

void script_put_value(lua_State *L, int index, struct buf *out,
                      const char *what)
{
    struct writer writer = {.L = L, .out = out, .what = what};

    put_any(&writer, index);
}

void script_put_object(lua_State *L, int index, struct buf *out,
                       const char *what)
{
    struct writer writer = {.L = L, .out = out, .what = what, .depth = 1};

    put_object(&writer, index);
    if (out->failed)
        luaL_error(L, "%s: more than %d bytes", what, size_hint(out->max));
}
