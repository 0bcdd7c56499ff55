/* What a script cannot do, and what it cannot go on doing. */
#include "tests/test_script_bed.h"

static void nothing_of_the_system_is_there(void **state)
{
    (void)state;
    assert_says("local there = {}\n"
                "for _, name in ipairs{'io', 'os', 'package', 'debug',"
                "'coroutine', 'require', 'dofile', 'loadfile', 'load',"
                "'loadstring', 'collectgarbage', 'print', 'warn', 'xpcall',"
                "'newproxy', 'arg'} do\n"
                "  if _G[name] ~= nil then there[#there + 1] = name end\n"
                "end return '[' .. table.concat(there, ' ') .. ']'",
                NULL, "[]");
    assert_says("return tostring(string.dump) .. tostring(('').dump)", NULL,
                "nilnil");
}

/* A list of all names, so that what a newer Lua brings is looked at first. */
static void the_globals_are_these(void **state)
{
    (void)state;
    assert_says(
        "local names = {}\n"
        "for k in pairs(_G) do names[#names + 1] = k end\n"
        "table.sort(names) return table.concat(names, ' ')",
        "{}",
        "_G _VERSION assert assistant context error getmetatable ipairs json "
        "math next null options pairs pcall rawequal rawget rawlen rawset "
        "select setmetatable string system table tonumber tostring type user "
        "utf8");
    assert_says("local names = {}\n"
                "for k in pairs(string) do names[#names + 1] = k end\n"
                "table.sort(names) return table.concat(names, ' ')",
                NULL,
                "byte char find format gmatch gsub len lower match pack "
                "packsize rep reverse sub unpack upper");
}

static void compiled_code_is_no_source(void **state)
{
    (void)state;
    assert_fails("\x1bLua", 0, "attempt to load a binary chunk (mode is 't')");
    assert_false(bed_run_text(SLICE_LITERAL("return 'x'\0\x1bLua"), NULL));
    assert_fault(1, "<eof> expected");
}

static void shared_metatables_are_not_handed_out(void **state)
{
    (void)state;
    assert_says("return tostring(getmetatable(''))", NULL, "false");
    assert_says("return tostring(getmetatable(null))", NULL, "false");
    assert_fails("getmetatable('').__index = {}", 1,
                 "attempt to index a boolean value");
    assert_fails("setmetatable('', {})", 1,
                 "bad argument #1 to 'setmetatable' (table expected, got "
                 "string)");
}

static void setmetatable_is_as_ever_but_for_finalizers(void **state)
{
    (void)state;
    assert_says("local t = setmetatable({}, {__index = {a = 'x'}})\n"
                "setmetatable(t, setmetatable({__index = {a = 'y'}}, {}))\n"
                "return t.a .. tostring(getmetatable(setmetatable(t, nil)))",
                NULL, "ynil");
    assert_fails("setmetatable(setmetatable({}, {__metatable = 1}), {})", 1,
                 "cannot change a protected metatable");
    assert_fails("setmetatable({}, 1)", 1,
                 "bad argument #2 to 'setmetatable' (nil or table expected, "
                 "got number)");
    assert_fails("setmetatable({}, {__gc = false})", 1,
                 "__gc is not available");
    assert_fails("setmetatable({})", 1,
                 "bad argument #2 to 'setmetatable' (nil or table expected, "
                 "got no value)");
}

/* Each of these would run for ever. */
static void instructions_end_what_does_not_end(void **state)
{
    static const char *const loops[] = {
        "while true do end",
        "repeat until false",
        "::a:: goto a",
        "for i = 1, math.maxinteger do end",
        "local function f() return f() end f()",
        "while true do pcall(error) end",
        "while true do pcall(function() while true do end end) end",
        "local function f() pcall(f) while true do pcall(f) end end f()",
        "pcall(pcall, pcall, function() while true do end end)"
        "while true do end",
        "local function f() while true do end end\n"
        "while true do pcall(f) pcall(f) pcall(f) end",
        "string.gsub(('x'):rep(1000), '.', function() while true do end end)",
        "table.sort({3, 2, 1}, function() while true do end end)",
        "local t = setmetatable({}, {__index = function(t, k) return t[k .. ''"
        "] end}) while true do pcall(function() return t.x end) end",
        "tostring(setmetatable({}, {__tostring = function() while true do end"
        " end}))",
        "local t <close> = setmetatable({}, {__close = function() while true "
        "do end end})",
        "while true do local t <close> = setmetatable({}, {__close = function()"
        " while true do end end}) error() end",
        "pcall(function() local a <close> = setmetatable({}, {__close ="
        "function() while true do end end}) while true do end end)"
        "while true do end",
        "error(setmetatable({}, {__tostring = function() while true do end "
        "end, __name = 'x'}), (function() while true do end end)())",
        "for _ in function() return 1 end do end",
        "local s = '' for w in ('x '):rep(9):gmatch('%S+') do while true do "
        "end end",
        "while true do setmetatable({}, {__eq = error}) end",
        "while true do local s = {} s[s] = s end",
        "local t = setmetatable({}, {__concat = function() while true do end "
        "end}) return t .. t",
        "local t = setmetatable({}, {__lt = function() while true do end end})"
        "return t < t",
        "while true do json({1, 2}) end",
        "while true do pcall(user) end",
    };

    (void)state;
    bed.limits.instructions = 200000;
    for (size_t i = 0; i < sizeof(loops) / sizeof(*loops); i++) {
        if (bed_run_text(slice_of(loops[i]), NULL))
            fail_msg("it ended: %s", loops[i]);
        if (strcmp(bed.fault.message, "more than 200000 instructions") != 0)
            fail_msg("%s: %s", loops[i], bed.fault.message);
        assert_true(bed.fault.line > 0);
    }
}

static void a_limit_that_was_caught_is_still_a_fault(void **state)
{
    (void)state;
    bed.limits.instructions = 20000;
    assert_fails("user 'x'\npcall(function()\nwhile true do end end)\n"
                 "user 'y'",
                 3, "more than 20000 instructions");
    assert_fails("return pcall(function() while true do end end) and 'x' or"
                 " 'y'",
                 1, "more than 20000 instructions");
    assert_fails("pcall(function() while true do end end)", 1,
                 "more than 20000 instructions");
}

static void few_instructions_are_counted_exactly(void **state)
{
    (void)state;
    bed.limits.instructions = 1;
    assert_fails("local a = 1 a = 2 a = 3 a = 4 return 'x'", 1,
                 "more than 1 instructions");
    bed.limits.instructions = 20;
    assert_says("return 'x'", NULL, "x");
    bed.limits.instructions = 999;
    assert_fails("for i = 1, 2000 do end return 'x'", 1,
                 "more than 999 instructions");
}

static void time_ends_what_the_instructions_would_not(void **state)
{
    (void)state;
    bed.limits.instructions = UINT64_C(1) << 62;
    bed.limits.time_ms = 30;
    assert_fails("while true do end", 1, "more than 30 ms");
    assert_fails("while true do\n pcall(function() while true do end end) end",
                 2, "more than 30 ms");
}

/* Each of these would take more memory than there is. */
static void memory_is_limited(void **state)
{
    static const char *const hogs[] = {
        "local s = ('x'):rep(10000000)",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} for i = 1, 1e9 do t['k' .. i] = true end",
        "return table.concat({('x'):rep(4000000), ('y'):rep(4000000)})",
        "return ('x'):rep(1000):rep(1000):rep(1000)",
        "local s = ('x'):rep(3000000) return s:gsub('x', 'yyyyyyyyyy')",
        "return string.format('%s%s%s', ('x'):rep(3000000), ('y'):rep(3000000),"
        "('z'):rep(3000000))",
        "pcall(string.rep, 'x', 100000000)",
        "for i = 1, 100 do pcall(string.rep, 'x', 100000000) end",
        "pcall(function() local t = {} while true do t[#t + 1] = {} end end)"
        "user 'x'",
        "while true do pcall(function() local t = {} while true do t[#t + 1] ="
        " {} end end) end",
        "return utf8.char(table.unpack((function() local t = {} for i = 1,"
        "900000 do t[i] = 65 end return t end)()))",
        "local s = {} for i = 1, 1e7 do s = {s} end",
        "local f = '' for i = 1, 30 do f = f .. ('%s'):rep(i) .. f end",
        "local t = {('x'):rep(1000000)} for i = 1, 3 do t[1] = t[1] .. t[1] "
        "end",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(hogs) / sizeof(*hogs); i++) {
        if (bed_run_text(slice_of(hogs[i]), NULL))
            fail_msg("it ended: %s", hogs[i]);
        if (strcmp(bed.fault.message, "more than 8388608 bytes of memory") != 0)
            fail_msg("%s: %s", hogs[i], bed.fault.message);
    }
}

/* Any size: errors while the state, the context or the result is made. */
static void too_little_memory_is_a_fault_wherever_it_ends(void **state)
{
    static const char text[] =
        "local t = {} for i = 1, 100 do t[i] = json(context) end\n"
        "system(table.concat(t)) options.a = {1, {b = 2}} return t[1]";
    size_t failed = 0;

    (void)state;
    for (size_t bytes = 1; bytes < 100000; bytes += 61) {
        bed.limits.memory_bytes = bytes;
        if (bed_run_text(slice_of(text),
                         "{\"a\":[1,2,{\"b\":[]}],\"c\":\"d\"}"))
            continue;
        failed++;
        assert_non_null(strstr(bed.fault.message, "bytes of memory"));
    }
    assert_in_range(failed, 300, 1630);
    bed.limits.memory_bytes = SCRIPT_DEFAULT_LIMITS.memory_bytes;
    assert_true(
        bed_run_text(slice_of(text), "{\"a\":[1,2,{\"b\":[]}],\"c\":\"d\"}"));
}

static void garbage_is_no_memory(void **state)
{
    (void)state;
    assert_says("local n = 0 for i = 1, 300 do\n"
                "n = n + #table.concat({('x'):rep(1000000), 'y'}) end\n"
                "return tostring(n)",
                NULL, "300000300");
    assert_says("local s for i = 1, 200000 do s = {i, {i}} end "
                "return tostring(s[1])",
                NULL, "200000");
}

static void recursion_ends_in_an_error_that_may_be_caught(void **state)
{
    (void)state;
    assert_fails("local function f() return 1 + f() end\n"
                 "pcall(f) return 'x'",
                 0, "more than 8388608 bytes of memory");
    assert_says("local ok, e = pcall(string.rep, 'x', -1) return tostring(ok)",
                NULL, "true");
    assert_says("local t = setmetatable({}, {}) getmetatable(t).__index = t\n"
                "local ok, e = pcall(function() return t.x end)\n"
                "return tostring(ok)",
                NULL, "false");
    assert_says("local function f(s) return s:gsub('.', f) end\n"
                "local ok, e = pcall(f, 'x') return e:match('C stack "
                "overflow')",
                NULL, "C stack overflow");
    assert_says("local p = {} for i = 1, 250 do p = setmetatable({}, {__index ="
                "function() return p.x end}) end return 'x'",
                NULL, "x");
    assert_says("local ok, e = pcall(string.find, ('x'):rep(300),"
                "('x?'):rep(300)) return tostring(ok)",
                NULL, "false");
    assert_says("local ok, e = pcall(string.find, 'x', ('('):rep(300)) "
                "return tostring(ok)",
                NULL, "false");
}

static void sources_of_all_shapes_are_refused_without_a_crash(void **state)
{
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 20);
    for (int shape = 0; shape < 3; shape++) {
        static const char *const parts[] = {"(", "{", "f()"};

        buf_clear(&text);
        buf_append_text(&text, "return ");
        for (int i = 0; i < 50000; i++)
            buf_append_text(&text, parts[shape]);
        assert_false(bed_run_text(buf_slice(&text), NULL));
    }
    buf_clear(&text);
    for (int i = 0; i < 50000; i++)
        buf_append_text(&text, "do ");
    assert_false(bed_run_text(buf_slice(&text), NULL));
    assert_string_equal(bed.fault.message, "C stack overflow");
    buf_release(&text);
}

static void strange_arguments_are_errors(void **state)
{
    static const char *const calls[] = {
        "return ('%999d'):format(1)",
        "return ('%1000s'):format('x')",
        "return ('%q'):format({})",
        "return ('%d'):format('x')",
        "return ('x'):rep(1 << 62)",
        "return table.unpack({}, 1, 1 << 40)",
        "return table.concat({}, '', 1, 3)",
        "return string.char(256)",
        "return utf8.char(-1)",
        "return string.pack('i17', 1)",
        "return string.unpack('s8', "
        "'\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x7f')",
        "return select(0)",
        "return tonumber('z', 99)",
        "return math.random(2, 1)",
        "return math.tointeger(2^63) + 1",
        "return 1 // 0",
        "return 1 % 0",
        "return setmetatable()",
        "return rawset({}, nil, 1)",
        "return next({}, 'x')",
        "return table.insert({}, 5, 'x')",
        "return table.sort({3, 1, 2, 5, 4}, function() return true end) or 1",
        "return user(('x'):rep(3), 2).x.y",
        "for i = 1, 10, 0 do end",
        "local a <close> = 42",
        "json(coroutine)()",
        "_ENV = nil return x",
        "_G.error = nil error('x')",
        "string = nil return string.x",
        "options = setmetatable({}, {__index = error}) return 1",
        "return json",
        "return null",
        "return user(null)",
        "return assistant(setmetatable({}, {__tostring = function() return 'x'"
        " end}))",
        "return {role = 'user', content = null}",
        "return {messages = null}",
        "options = null return 'x'",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
        if (bed_run_text(slice_of(calls[i]), NULL))
            fail_msg("%s makes %.*s", calls[i], SLICE_ARG(buf_slice(&bed.out)));
}

static void messages_are_limited(void **state)
{
    (void)state;
    assert_true(
        bed_run_text(slice_of("for i = 1, 10000 do user 'x' end"), NULL));
    assert_fails("for i = 1, 10000 do user 'x' end\nuser 'y'", 2,
                 "more than 10000 messages");
    assert_fails("for i = 1, 10000 do user 'x' end return 'y'", 0,
                 "more than 10000 messages");
    assert_fails("local m, t = user 'x', {} for i = 1, 10001 do t[i] = m end "
                 "return t",
                 0, "more than 10000 messages");
    assert_fails("local m, t = user(('x'):rep(1000000)), {}\n"
                 "for i = 1, 100 do t[i] = m end return t",
                 0, "the messages are too large");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_open, bed_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_of_the_system_is_there),
        TEST(the_globals_are_these),
        TEST(compiled_code_is_no_source),
        TEST(shared_metatables_are_not_handed_out),
        TEST(setmetatable_is_as_ever_but_for_finalizers),
        TEST(instructions_end_what_does_not_end),
        TEST(a_limit_that_was_caught_is_still_a_fault),
        TEST(few_instructions_are_counted_exactly),
        TEST(time_ends_what_the_instructions_would_not),
        TEST(memory_is_limited),
        TEST(too_little_memory_is_a_fault_wherever_it_ends),
        TEST(garbage_is_no_memory),
        TEST(recursion_ends_in_an_error_that_may_be_caught),
        TEST(sources_of_all_shapes_are_refused_without_a_crash),
        TEST(strange_arguments_are_errors),
        TEST(messages_are_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
