#include "llm_router/json/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

static struct arena arena;
static struct buf out;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    buf_init(&out, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    buf_release(&out);
    return 0;
}

static const struct jv *parse(const char *text)
{
    struct error err = {.message = ""};
    struct jv *value;

    if (!jv_parse(&arena, slice_of(text), JV_STRICT, &JV_DEFAULT_LIMITS, NULL,
                  &value, &err))
        fail_msg("%s: %s", text, err.message);
    return value;
}

static void a_member_is_found_by_its_key(void **state)
{
    const struct jv *object = parse("{\"a\":1,\"ab\":2,\"\":3}");

    (void)state;
    assert_int_equal(jv_integer(jv_find(object, "a"), 0), 1);
    assert_int_equal(jv_integer(jv_find(object, "ab"), 0), 2);
    assert_int_equal(jv_integer(jv_find(object, ""), 0), 3);
    assert_null(jv_find(object, "b"));
    assert_null(jv_find(jv_find(object, "a"), "a"));
    assert_null(jv_find(NULL, "a"));
}

static void what_is_not_there_is_the_default(void **state)
{
    const struct jv *text = parse("\"x\""), *list = parse("[1]");

    (void)state;
    assert_int_equal(jv_string(NULL).size, 0);
    assert_int_equal(jv_string(list).size, 0);
    assert_false(jv_is_string(NULL));
    assert_false(jv_is_string(list));
    assert_true(jv_is_string(text));
    assert_int_equal(jv_integer(NULL, 7), 7);
    assert_int_equal(jv_integer(text, 7), 7);
    assert_true(jv_number(NULL, 7) == 7);
    assert_true(jv_number(text, 7) == 7);
    assert_true(jv_boolean(NULL, true));
    assert_true(jv_boolean(text, true));
    assert_int_equal(jv_count(NULL), 0);
    assert_int_equal(jv_count(text), 0);
    assert_null(jv_at(NULL, 0));
    assert_null(jv_at(text, 0));
    assert_null(jv_at(list, 1));
    assert_non_null(jv_at(list, 0));
    assert_int_equal(jv_count(parse("{\"a\":1}")), 1);
    assert_null(jv_at(parse("{\"a\":1}"), 0));
}

static void reals_without_a_fraction_are_integers_too(void **state)
{
    (void)state;
    assert_int_equal(jv_integer(parse("2.0"), 0), 2);
    assert_int_equal(jv_integer(parse("-1e3"), 0), -1000);
    assert_int_equal(jv_integer(parse("2.5"), 9), 9);
    assert_int_equal(jv_integer(parse("1e300"), 9), 9);
    assert_int_equal(jv_integer(parse("9223372036854775808"), 9), 9);
    assert_true(jv_integer(parse("-9223372036854775808.0"), 9) == INT64_MIN);
    assert_true(jv_number(parse("3"), 0) == 3.0);
}

static void every_type_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(jv_type_name(NULL), "nothing");
    assert_string_equal(jv_type_name(parse("null")), "null");
    assert_string_equal(jv_type_name(parse("true")), "boolean");
    assert_string_equal(jv_type_name(parse("1")), "integer");
    assert_string_equal(jv_type_name(parse("1.5")), "number");
    assert_string_equal(jv_type_name(parse("\"\"")), "string");
    assert_string_equal(jv_type_name(parse("[]")), "array");
    assert_string_equal(jv_type_name(parse("{}")), "object");
}

static void assert_equality(const char *a, const char *b, bool expected)
{
    const struct jv *left = parse(a), *right = parse(b);

    if (jv_equal(left, right) != expected || jv_equal(right, left) != expected)
        fail_msg("%s and %s", a, b);
}

static void values_are_equal_by_what_they_mean(void **state)
{
    (void)state;
    assert_equality("1", "1.0", true);
    assert_equality("1", "1.5", false);
    assert_equality("1.5", "1.5", true);
    assert_equality("1", "2", false);
    assert_equality("9007199254740993", "9007199254740992.0", false);
    assert_equality("9223372036854775807", "9223372036854775808", false);
    assert_equality("1", "true", false);
    assert_equality("true", "true", true);
    assert_equality("true", "false", false);
    assert_equality("null", "null", true);
    assert_equality("null", "false", false);
    assert_equality("\"a\"", "\"\\u0061\"", true);
    assert_equality("\"1\"", "1", false);
    assert_equality("[1,2]", "[1,2]", true);
    assert_equality("[1,2]", "[2,1]", false);
    assert_equality("[1]", "[1,2]", false);
    assert_equality("[]", "{}", false);
    assert_equality("{}", "{}", true);
    assert_equality("{\"a\":1,\"b\":[2]}", "{\"b\":[2.0],\"a\":1}", true);
    assert_equality("{\"a\":1,\"b\":2}", "{\"a\":1,\"c\":2}", false);
    assert_equality("{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":3}", false);
    assert_equality("{\"a\":1}", "{\"a\":1,\"b\":2}", false);
    assert_true(jv_equal(NULL, NULL));
    assert_false(jv_equal(NULL, parse("null")));
}

static const char *number(double value)
{
    buf_clear(&out);
    jv_put_number(&out, value);
    assert_false(out.failed);
    return arena_text(&arena, buf_slice(&out));
}

static void numbers_are_short_and_read_back_the_same(void **state)
{
    static const double VALUES[] = {
        0.1 + 0.2,
        1.0 / 3.0,
        5e-324,
        0x1.fffffffffffffp1023,
        0x1p53 + 2,
        -1e22,
        1e21,
        123456789.125,
        0x1.23456789p3,
        2.5e-10,
        9007199254740993.0,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(VALUES) / sizeof(VALUES[0]); i++)
        assert_true(strtod(number(VALUES[i]), NULL) == VALUES[i]);
    assert_string_equal(number(0.1), "0.1");
    assert_string_equal(number(0.1 + 0.2), "0.30000000000000004");
    assert_string_equal(number(2.5), "2.5");
    assert_string_equal(number(1e-7), "1e-07");
    assert_string_equal(number(5e-324), "4.94065645841247e-324");
}

static void whole_numbers_have_no_exponent(void **state)
{
    (void)state;
    assert_string_equal(number(0), "0");
    assert_string_equal(number(100), "100");
    assert_string_equal(number(-3), "-3");
    assert_string_equal(number(1e15), "1000000000000000");
    assert_string_equal(number(0x1p53), "9007199254740992");
    assert_string_equal(number(-0x1p53), "-9007199254740992");
    assert_string_equal(number(1e300), "1e+300");
}

/* What the digits are held against: the C library's, which is exact. */
static void assert_written_as_by_printf(double value)
{
    char expected[40];

    for (int digits = 15; digits <= 17; digits++) {
        snprintf(expected, sizeof(expected), "%.*g", digits, value);
        if (strtod(expected, NULL) == value)
            break;
    }
    if (fabs(value) <= 0x1p53 && floor(value) == value)
        snprintf(expected, sizeof(expected), "%.0f", value);
    assert_string_equal(number(value), expected);
    arena_rewind(&arena, (struct arena_mark){NULL, 0});
}

/* Where powers of ten and of two are near, one digit more or less counts. */
static void numbers_have_the_digits_of_printf(void **state)
{
    uint64_t chance = 88172645463325252u;

    (void)state;
    assert_written_as_by_printf(-0.0);
    for (int i = -60; i <= 60; i++) {
        double above[] = {ldexp(1, i), pow(10, i / 4.0), 9 * pow(10, i / 4)};
        double below[] = {above[0], above[1], above[2]};

        for (size_t j = 0; j < 60; j++) {
            assert_written_as_by_printf(above[j % 3]);
            assert_written_as_by_printf(-below[j % 3]);
            above[j % 3] = nextafter(above[j % 3], (double)INFINITY);
            below[j % 3] = nextafter(below[j % 3], 0);
        }
    }
    for (int i = 0; i < 20000; i++) {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        assert_written_as_by_printf(
            ldexp((double)(chance >> 11), -(int)(chance % 100)));
        assert_written_as_by_printf((double)(chance % 1000000) / 1000);
    }
}

static void a_number_that_is_not_finite_fails_the_buffer(void **state)
{
    static const double BAD[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        buf_clear(&out);
        jv_put_number(&out, BAD[i]);
        assert_true(out.failed);
    }
}

static void strings_are_escaped_where_json_must(void **state)
{
    static const char TEXT[] = "a\"\\\b\f\n\r\t/\x01\x1F\x7F\xC3\xA9z\0";

    (void)state;
    jv_put_string(&out, slice_make(TEXT, sizeof(TEXT) - 1));
    assert_slice(
        buf_slice(&out),
        "\"a\\\"\\\\\\b\\f\\n\\r\\t/\\u0001\\u001f\x7F\xC3\xA9z\\u0000\"");
    buf_clear(&out);
    jv_put_string(&out, slice_of(NULL));
    assert_slice(buf_slice(&out), "\"\"");
}

static void documents_are_written_as_they_were_read(void **state)
{
    static const char TEXT[] =
        "{\"b\":[1,-2,2.5,true,false,null,\"\\n\",[],{}],\"a\":{\"\\\"\":"
        "9223372036854775807},\"min\":-9223372036854775808}";

    (void)state;
    jv_put(&out, parse(TEXT));
    assert_slice(buf_slice(&out), TEXT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_member_is_found_by_its_key),
        TEST(what_is_not_there_is_the_default),
        TEST(reals_without_a_fraction_are_integers_too),
        TEST(every_type_has_a_name),
        TEST(values_are_equal_by_what_they_mean),
        TEST(numbers_are_short_and_read_back_the_same),
        TEST(whole_numbers_have_no_exponent),
        TEST(numbers_have_the_digits_of_printf),
        TEST(a_number_that_is_not_finite_fails_the_buffer),
        TEST(strings_are_escaped_where_json_must),
        TEST(documents_are_written_as_they_were_read),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
