#include "llm_router/api/json_term.h"

#include <math.h>

#include "test_api_terms.h"
#include "tests/external.h"

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

/* The JSON of a term, in the arena; or "error PATH: MESSAGE". */
static const char *json_of_bytes(struct slice bytes, enum json_term_mode mode)
{
    struct error err;
    struct jv *value;
    struct buf out;
    char *text;

    error_clear(&err);
    buf_init(&out, 1 << 20);
    if (json_from_term(external_term(bytes), mode, &arena, &value, &err))
        jv_put(&out, value);
    else
        buf_printf(&out, "error %s %s: %s", error_atom(err.code), err.path,
                   err.message);
    text = arena_text(&arena, buf_slice(&out));
    buf_release(&out);
    return text;
}

static const char *json_of(const char *source, enum json_term_mode mode)
{
    struct slice bytes = term_bytes(source);
    const char *text = json_of_bytes(bytes, mode);

    mem_free((char *)bytes.data);
    return text;
}

static void assert_json(const char *source, const char *strict,
                        const char *lenient)
{
    assert_string_equal(json_of(source, JSON_TERM_STRICT), strict);
    assert_string_equal(json_of(source, JSON_TERM_LENIENT), lenient);
}

static void values_become_their_json_values(void **state)
{
    static const struct {
        const char *term, *json;
    } cases[] = {
        {"nil", "null"},
        {"null", "null"},
        {"true", "true"},
        {"false", "false"},
        {"high", "\"high\""},
        {"undefined", "\"undefined\""},
        {"42", "42"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"2.5", "2.5"},
        {"BIG", "-1.1805916207174113e+21"},
        {"<<\"größe \\\"\">>", "\"größe \\\"\""},
        {"<<97, 0, 98>>", "\"ab\""},
        {"[]", "[]"},
        {"\"abc\"", "[97,98,99]"},
        {"[1, <<\"two\">>, [3.5, nil]]", "[1,\"two\",[3.5,null]]"},
        {"#{}", "{}"},
        {"#{type => object, <<\"required\">> => [a]}",
         "{\"type\":\"object\",\"required\":[\"a\"]}"},
        {"[{type, object}, {properties, [{a, []}]}]",
         "{\"type\":\"object\",\"properties\":{\"a\":[]}}"},
        {"[{<<\"a\">>, 1}]", "{\"a\":1}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_json(cases[i].term, cases[i].json, cases[i].json);
}

static void
what_json_cannot_say_is_refused_with_its_path_or_left_out(void **state)
{
    static const struct {
        const char *term, *strict, *lenient;
    } cases[] = {
        {"#{a => PID, b => 1}", "a: JSON has no such value", "{\"b\":1}"},
        {"#{a => [1, REF, 3]}", "a[1]: JSON has no such value",
         "{\"a\":[1,3]}"},
        {"#{a => #{b => {1, 2}}}", "a.b: JSON has no such value", "{\"a\":{}}"},
        {"[FUN, PORT, BITS]", "[0]: JSON has no such value", "[]"},
        {"#{a => [1 | 2]}", "a: improper list", "{}"},
        {"#{a => <<255>>}", "a: text must be UTF-8", "{}"},
        {"#{a => LATIN1}", "a: text must be UTF-8", "{}"},
        {"#{1 => 2, b => 3}", ": keys must be atoms or strings", "{\"b\":3}"},
        {"#{<<255>> => [1, 2], b => 3}", ": keys must be UTF-8", "{\"b\":3}"},
        {"[{a, 1}, b, {c, 2}, {d}]", ": must be a {Key, Value} pair",
         "{\"a\":1,\"c\":2}"},
        {"PID", ": JSON has no such value", "null"},
    };
    char strict[200];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        snprintf(strict, sizeof(strict), "error invalid_request %s",
                 cases[i].strict);
        assert_json(cases[i].term, strict, cases[i].lenient);
    }
}

static void marks_of_elixir_structs_are_left_out_of_a_task(void **state)
{
    (void)state;
    assert_json(
        "#{'__struct__' => 'Elixir.Task', '__meta__' => #{x => y}, a => 1}",
        "{\"__struct__\":\"Elixir.Task\",\"__meta__\":{\"x\":\"y\"},\"a\":1}",
        "{\"a\":1}");
}

static void charlists_are_text_where_a_task_has_text(void **state)
{
    (void)state;
    assert_json("#{title => \"ab\", b => \"ab\", details => [1, x]}",
                "{\"title\":[97,98],\"b\":[97,98],\"details\":[1,\"x\"]}",
                "{\"title\":\"ab\",\"b\":[97,98],\"details\":[1,\"x\"]}");
}

static void two_keys_of_one_name_are_refused(void **state)
{
    static const char expected[] =
        "error invalid_request x.title: key given twice";

    (void)state;
    assert_json("#{x => #{title => 1, b => 2, <<\"title\">> => 3}}", expected,
                expected);
    assert_json("[{x, [{title, 1}, {title, 2}]}]", expected, expected);
}

/* `levels` lists around `inner`. */
static struct slice nested(int levels, const char *inner)
{
    struct source source = {inner};
    struct buf out;

    buf_init(&out, TERM_TEST_MAX);
    term_put_version(&out);
    for (int i = 0; i < levels; i++)
        term_put_list(&out, 1);
    put_source(&out, &source);
    for (int i = 0; i < levels; i++)
        term_put_nil(&out);
    return take_checked(&out);
}

static void depth_is_limited(void **state)
{
    struct slice fits = nested(JSON_TERM_DEPTH_MAX, "1");
    struct slice deeper = nested(JSON_TERM_DEPTH_MAX + 1, "1");

    (void)state;
    assert_int_equal(json_of_bytes(fits, JSON_TERM_STRICT)[0], '[');
    assert_non_null(
        strstr(json_of_bytes(deeper, JSON_TERM_STRICT), "nested too deep"));
    assert_non_null(strstr(json_of_bytes(deeper, JSON_TERM_LENIENT), "[[]]"));
    mem_free((char *)fits.data);
    mem_free((char *)deeper.data);
}

static void values_are_limited_before_they_take_memory(void **state)
{
    struct slice bytes;
    struct buf out;

    (void)state;
    buf_init(&out, TERM_TEST_MAX);
    term_put_version(&out);
    term_put_list(&out, 2000000);
    for (int i = 0; i < 2000000; i++)
        term_put_nil(&out);
    term_put_nil(&out);
    bytes = take_checked(&out);
    assert_string_equal(json_of_bytes(bytes, JSON_TERM_LENIENT),
                        "error too_large : over 100000 values");
    assert_true(arena.reserved < 100000);
    mem_free((char *)bytes.data);
}

static void json_becomes_the_terms_that_elixir_decoders_give(void **state)
{
    static const char json[] = "{\"a\":[1,-2.5,\"x\",null,true],\"b\":{},"
                               "\"c\":[]}";
    struct slice expected = term_bytes(
        "#{<<\"a\">> => [1, -2.5, <<\"x\">>, nil, true], <<\"b\">> => #{},"
        " <<\"c\">> => []}");
    struct error err;
    struct jv *value;
    struct buf out;

    (void)state;
    assert_true(jv_parse(&arena, slice_of(json), JV_STRICT, &JV_DEFAULT_LIMITS,
                         NULL, &value, &err));
    buf_init(&out, 1000);
    term_put_version(&out);
    json_put_term(&out, value);
    assert_int_equal(out.size, expected.size);
    assert_memory_equal(out.data, expected.data, expected.size);
    buf_release(&out);
    mem_free((char *)expected.data);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(values_become_their_json_values),
        TEST(what_json_cannot_say_is_refused_with_its_path_or_left_out),
        TEST(marks_of_elixir_structs_are_left_out_of_a_task),
        TEST(charlists_are_text_where_a_task_has_text),
        TEST(two_keys_of_one_name_are_refused),
        TEST(depth_is_limited),
        TEST(values_are_limited_before_they_take_memory),
        TEST(json_becomes_the_terms_that_elixir_decoders_give),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
