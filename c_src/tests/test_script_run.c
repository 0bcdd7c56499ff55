/* What a script sees, what it may return, what its errors look like. */
#include "tests/test_script_bed.h"

#include "llm_router/base/utf8.h"

static void what_is_said_is_the_conversation(void **state)
{
    (void)state;
    assert_makes(
        "system('Be brief.')\n"
        "user('Hello')\n"
        "assistant('Hi')\n"
        "user('Bye')\n",
        NULL,
        "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"}"
        ",{\"role\":\"user\",\"content\":\"Hello\"},"
        "{\"role\":\"assistant\",\"content\":\"Hi\"},"
        "{\"role\":\"user\",\"content\":\"Bye\"}],\"options\":{}}");
}

static void a_returned_text_is_one_more_user_message(void **state)
{
    (void)state;
    assert_says("return 'x'", NULL, "x");
    assert_makes("system 'a' return 'b'", NULL,
                 "{\"messages\":[{\"role\":\"system\",\"content\":\"a\"},"
                 "{\"role\":\"user\",\"content\":\"b\"}],\"options\":{}}");
}

static void a_returned_message_is_not_said_twice(void **state)
{
    static const char *const expected =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"a\"},"
        "{\"role\":\"user\",\"content\":\"b\"}],\"options\":{}}";

    (void)state;
    assert_makes("system 'a' return user 'b'", NULL, expected);
    assert_makes("system 'a' return {role = 'user', content = 'b'}", NULL,
                 expected);
}

static void a_returned_list_is_the_conversation(void **state)
{
    static const char *const expected =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"a\"},"
        "{\"role\":\"user\",\"content\":\"b\"}],\"options\":{}}";

    (void)state;
    assert_makes("return {system 'a', user 'b'}", NULL, expected);
    assert_makes("user 'not this one' return {system 'a', user 'b'}", NULL,
                 expected);
    assert_makes("return {messages = {system 'a', user 'b'}}", NULL, expected);
    assert_makes("system 'a' user 'b' return {options = {}}", NULL, expected);
}

static void options_are_returned_or_filled(void **state)
{
    static const char *const expected =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"options\":"
        "{\"model\":\"m\",\"stop\":[\"x\",\"y\"],\"temperature\":0.25}}";

    (void)state;
    assert_makes("options.model = 'm' options.temperature = 0.25\n"
                 "options.stop = {'x', 'y'} return 'a'",
                 NULL, expected);
    assert_makes("options = {model = 'm', temperature = 1/4,"
                 "stop = {'x', 'y'}} user 'a'",
                 NULL, expected);
    assert_makes("options.seed = 1 return {messages = {user 'a'}, options ="
                 "{model = 'm', temperature = 0.25, stop = {'x', 'y'}}}",
                 NULL, expected);
    assert_makes("options = nil return 'a'", NULL,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
                 "\"options\":{}}");
    assert_makes("setmetatable(_G, {__index = error}) return 'a'", NULL,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
                 "\"options\":{}}");
}

static void a_message_may_be_changed_until_the_end(void **state)
{
    (void)state;
    assert_says("local m = user('a') m.content = m.content .. 'b'", NULL, "ab");
}

static void the_context_is_tables(void **state)
{
    (void)state;
    assert_says("return context.name .. #context.list .. context.list[2].a",
                "{\"name\":\"n\",\"list\":[1,{\"a\":\"b\"}]}", "n2b");
    assert_says("return math.type(context[1]) .. math.type(context[2]) .."
                "tostring(context[3]) .. context[1]",
                "[9007199254740993,1.5,true]",
                "integerfloattrue9007199254740993");
    assert_says("return context", "\"text\"", "text");
    assert_says("return type(context)", NULL, "nil");
    assert_says("return type(context)", "null", "nil");
}

static void null_is_absent_in_an_object_and_there_in_an_array(void **state)
{
    (void)state;
    assert_says("return tostring(context.a) .. tostring(context.b == null)"
                ".. tostring(context.list[2] == null) .. #context.list",
                "{\"a\":null,\"list\":[1,null,3]}", "nilfalsetrue3");
    assert_says("return tostring(null) .. json(null) .. json({null, 1})", NULL,
                "nullnull[null,1]");
    assert_says("return json(context)", "[null,{\"a\":null,\"b\":[null]}]",
                "[null,{\"b\":[null]}]");
}

static void json_sorts_keys_and_escapes(void **state)
{
    (void)state;
    assert_says("return json({b = 1, a = {true, false, 1.5, 'x\"\\n'},"
                "[''] = 0, aa = -3})",
                NULL,
                "{\"\":0,\"a\":[true,false,1.5,\"x\\\"\\n\"],\"aa\":-3,"
                "\"b\":1}");
    assert_says("return json(1e300) .. json(math.mininteger) .. json(0.1)"
                ".. json('x') .. json(nil)",
                NULL, "1e+300-92233720368547758080.1\"x\"null");
    assert_says("return json({1.0, 2^53, 3})", NULL, "[1,9007199254740992,3]");
}

static void empty_tables_are_lists_but_empty_objects_stay_objects(void **state)
{
    (void)state;
    assert_says("return json({}) .. json(context)",
                "{\"a\":{},\"b\":[],\"c\":{\"d\":null}}",
                "[]{\"a\":{},\"b\":[],\"c\":{}}");
    assert_says("context.a.x = 1 return json(context)", "{\"a\":{}}",
                "{\"a\":{\"x\":1}}");
}

static void json_refuses_what_it_cannot_say(void **state)
{
    static const char *const mixed =
        "json: a table must have the keys 1..n, or only texts as keys";
    static const char *const deep =
        "json: tables more than 128 deep, or inside themselves";

    (void)state;
    assert_fails("\njson(print or error)", 2,
                 "json: a function has no form in JSON");
    assert_fails("json({0/0})", 1, "json: a number that is not finite");
    assert_fails("json(1/0)", 1, "json: a number that is not finite");
    assert_fails("json({1, a = 2})", 1, mixed);
    assert_fails("json({[1] = 1, [3] = 3})", 1, mixed);
    assert_fails("json({[1.5] = 1})", 1, mixed);
    assert_fails("json({[true] = 1})", 1, mixed);
    assert_fails("local t = {} t.t = t json(t)", 1, deep);
    assert_fails("local t = {} t[1] = t t[2] = t t[3] = t json(t)", 1, deep);
    assert_fails("local t = {} for _ = 1, 128 do t = {t} end json(t)", 1, deep);
    assert_says("local t = {} for _ = 1, 127 do t = {t} end "
                "return tostring(#json(t))",
                NULL, "256");
    assert_fails("json()", 1, "bad argument #1 to 'json' (value expected)");
    assert_fails("local t = {1} for _ = 1, 40 do t = {t, t} end json(t)", 1,
                 "json: more than 8388608 bytes");
}

static void json_uses_no_metamethods(void **state)
{
    (void)state;
    assert_says("return json(setmetatable({a = 1}, {__pairs = error, __len ="
                "error, __index = error}))",
                NULL, "{\"a\":1}");
}

static void json_of_a_weak_table_keeps_its_keys(void **state)
{
    (void)state;
    assert_says("for n = 300, 700, 10 do\n"
                "local t = setmetatable({}, {__mode = 'kv'})\n"
                "for i = 1, n do t[('k'):rep(50) .. i] = {i} end\n"
                "local last = ''\n"
                "json(t):gsub('\"[^\"]*\"', function(key)\n"
                "  assert(last < key, key) last = key end) end\n"
                "return 'done'",
                NULL, "done");
}

static void texts_are_made_clean(void **state)
{
    (void)state;
    assert_says("return 'a\\0b\\xff\\u{D800}c'", NULL,
                "ab\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                "c");
    assert_makes(
        "options['k\\xff'] = '\\0' return '\\u{1F600}'", NULL,
        "{\"messages\":[{\"role\":\"user\",\"content\":"
        "\"\xF0\x9F\x98\x80\"}],\"options\":{\"k\xEF\xBF\xBD\":\"\"}}");
    assert_says("return json({'\\xff\\0'})", NULL, "[\"\xEF\xBF\xBD\"]");
}

static void wrong_results_are_named(void **state)
{
    (void)state;
    assert_fails("", 0, "the script made no message");
    assert_fails("return {}", 0, "the script made no message");
    assert_fails("return {messages = {}}", 0, "the script made no message");
    assert_fails("return 42", 0,
                 "a script returns nothing, a text, a message, a list of "
                 "messages or {messages = ..., options = ...}, not a number");
    assert_fails("return {user 'a', 'b'}", 0,
                 "messages[2]: a string is no message");
    assert_fails("return {{role = 'tool', content = 'x'}}", 0,
                 "messages[1]: the role must be system, user or assistant");
    assert_fails("return {{content = 'x'}}", 0,
                 "messages[1]: the role must be system, user or assistant");
    assert_fails("user('a').content = {}", 0,
                 "messages[1]: the content must be a text, not a table");
    assert_fails("user('a').content = nil", 0,
                 "messages[1]: the content must be a text, not a nil");
    assert_fails("return {content = 'a'}", 0, "the messages must be a list");
    assert_fails("return {messages = 'a'}", 0, "the messages must be a list");
    assert_fails("return {[2] = user 'a'}", 0, "the messages must be a list");
    assert_fails("return {messages = {user 'a'}, model = 'm'}", 0,
                 "a script returns messages and options; there is another key "
                 "beside them");
    assert_fails("options = 'x' return 'a'", 0,
                 "options must be a table, not a string");
    assert_fails("options[1] = 'x' return 'a'", 0,
                 "options: a table must have the keys 1..n, or only texts as "
                 "keys");
    assert_fails("options.f = error return 'a'", 0,
                 "options: a function has no form in JSON");
}

static void errors_have_the_line_and_no_place_in_the_message(void **state)
{
    (void)state;
    assert_fails("\n\nerror('boom')", 3, "boom");
    assert_fails("\nlocal x = nil + 1", 2,
                 "attempt to perform arithmetic on a nil value");
    assert_fails("local function f()\nuser(nil)\nend\nf()", 2,
                 "bad argument #1 to 'user' (string expected, got nil)");
    assert_fails("local function f()\nerror('who called', 2)\nend\nf()", 4,
                 "who called");
    assert_fails("x = = 1", 1, "unexpected symbol near '='");
    assert_fails("if true then\n\n", 3,
                 "'end' expected (to close 'if' at line 1) near <eof>");
    assert_fails("error('no place', 0)", 1, "no place");
    assert_fails("local ok, e = pcall(error, 'a')\n\nerror(e, 0)", 3, "a");
    assert_fails("local ok, e = pcall(function() error('a') end)\nerror(e)", 2,
                 "test.lua:1: a");
    assert_fails("error('test.lua:x: y', 0)", 1, "test.lua:x: y");
    assert_fails("error('test.lua:99999999999999999999: y', 0)", 1,
                 "test.lua:99999999999999999999: y");
}

static void errors_that_are_no_texts_are_named(void **state)
{
    (void)state;
    assert_fails("\nerror()", 2, "the error is a nil, not a text");
    assert_fails("\nerror({})", 2, "the error is a table, not a text");
    assert_fails("error(setmetatable({}, {__tostring = function() error('x')"
                 " end}))",
                 1, "the error is a table, not a text");
    assert_fails("error(42, 0)", 1, "42");
    assert_fails("error(function() end)", 1,
                 "the error is a function, not a text");
}

static void a_message_is_cut_at_a_character(void **state)
{
    (void)state;
    assert_false(bed_run_text(
        slice_of("error('x' .. ('\\u{20AC}'):rep(100000), 0)"), NULL));
    assert_int_equal(strlen(bed.fault.message), 238);
    assert_true(utf8_is_valid(slice_of(bed.fault.message)));
    assert_false(bed_run_text(slice_of("error('a\\0b\\xff', 0)"), NULL));
    assert_fault(1, "ab\xEF\xBF\xBD");
}

static void a_long_name_is_no_hindrance(void **state)
{
    struct script_source source = {.text = SLICE_LITERAL("\nerror('x')")};
    char name[300];

    (void)state;
    memset(name, ':', sizeof(name));
    for (size_t size = 0; size < sizeof(name); size++) {
        source.name = slice_make(name, size);
        buf_clear(&bed.code);
        assert_true(
            script_compile(&source, &bed.limits, &bed.code, &bed.fault));
        assert_false(script_run(buf_slice(&bed.code), NULL, &bed.limits,
                                &bed.out, &bed.fault));
        assert_fault(2, "x");
    }
}

static void a_byte_order_mark_is_passed_over(void **state)
{
    (void)state;
    assert_says("\xEF\xBB\xBFreturn 'x'", NULL, "x");
}

static void compiled_code_runs_many_times_and_leaves_nothing(void **state)
{
    const struct script_source source = {
        SLICE_LITERAL("test.lua"),
        SLICE_LITERAL("count = (count or 0) + 1\n"
                      "string.upper = function() return 'changed' end\n"
                      "return count .. ('x'):upper()")};
    struct slice first;

    (void)state;
    assert_true(script_compile(&source, &bed.limits, &bed.code, &bed.fault));
    assert_true(script_run(buf_slice(&bed.code), NULL, &bed.limits, &bed.out,
                           &bed.fault));
    first = arena_copy(&bed.arena, buf_slice(&bed.out));
    for (int i = 0; i < 3; i++) {
        buf_clear(&bed.out);
        assert_true(script_run(buf_slice(&bed.code), NULL, &bed.limits,
                               &bed.out, &bed.fault));
        assert_true(slice_equal(buf_slice(&bed.out), first));
    }
}

static void only_compiled_code_runs(void **state)
{
    (void)state;
    assert_false(script_run(SLICE_LITERAL("return 'x'"), NULL, &bed.limits,
                            &bed.out, &bed.fault));
    assert_fault(0, "attempt to load a text chunk (mode is 'b')");
}

static void what_does_not_fit_the_buffers_is_a_fault(void **state)
{
    const struct script_source source = {SLICE_LITERAL("test.lua"),
                                         SLICE_LITERAL("return 'hello'")};
    struct buf small;

    (void)state;
    buf_init(&small, 40);
    assert_false(script_compile(&source, &bed.limits, &small, &bed.fault));
    assert_fault(0, "its compiled form is larger than 40 bytes");
    assert_true(script_compile(&source, &bed.limits, &bed.code, &bed.fault));
    buf_clear(&small);
    assert_false(script_run(buf_slice(&bed.code), NULL, &bed.limits, &small,
                            &bed.fault));
    assert_fault(0, "the messages are too large");
    buf_release(&small);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_open, bed_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_said_is_the_conversation),
        TEST(a_returned_text_is_one_more_user_message),
        TEST(a_returned_message_is_not_said_twice),
        TEST(a_returned_list_is_the_conversation),
        TEST(options_are_returned_or_filled),
        TEST(a_message_may_be_changed_until_the_end),
        TEST(the_context_is_tables),
        TEST(null_is_absent_in_an_object_and_there_in_an_array),
        TEST(json_sorts_keys_and_escapes),
        TEST(empty_tables_are_lists_but_empty_objects_stay_objects),
        TEST(json_refuses_what_it_cannot_say),
        TEST(json_uses_no_metamethods),
        TEST(json_of_a_weak_table_keeps_its_keys),
        TEST(texts_are_made_clean),
        TEST(wrong_results_are_named),
        TEST(errors_have_the_line_and_no_place_in_the_message),
        TEST(errors_that_are_no_texts_are_named),
        TEST(a_message_is_cut_at_a_character),
        TEST(a_long_name_is_no_hindrance),
        TEST(a_byte_order_mark_is_passed_over),
        TEST(compiled_code_runs_many_times_and_leaves_nothing),
        TEST(only_compiled_code_runs),
        TEST(what_does_not_fit_the_buffers_is_a_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
