#include "llm_router/json/value.h"

#include <stdio.h>
#include <time.h>

#include "llm_router/base/mem.h"
#include "unit.h"

enum { INPUTS_MAX = 100 };

static struct arena arena;
static void *inputs[INPUTS_MAX];
static size_t input_count;

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
    while (input_count > 0)
        mem_free(inputs[--input_count]);
    return 0;
}

/* A copy in a heap block of just its size, so that a sanitizer sees every read
 * behind it; freed with the test. */
static struct slice exact(struct slice text)
{
    char *copy = mem_realloc(NULL, text.size);

    assert_true(input_count < INPUTS_MAX);
    inputs[input_count++] = copy;
    memcpy(copy, text.data, text.size);
    return slice_make(copy, text.size);
}

static const struct jv *parse_slice(struct slice text, unsigned flags)
{
    struct error err = {.message = ""};
    struct jv *value;

    if (!jv_parse(&arena, exact(text), flags, &JV_DEFAULT_LIMITS, NULL, &value,
                  &err))
        fail_msg("%.*s: %s", SLICE_ARG(text), err.message);
    return value;
}

static const struct jv *parse(const char *text)
{
    return parse_slice(slice_of(text), JV_STRICT);
}

static const struct jv *parse_partial(const char *text)
{
    return parse_slice(slice_of(text), JV_PARTIAL);
}

static void assert_refused_with(struct slice text, unsigned flags,
                                const char *why)
{
    struct error err = {.message = ""};
    struct jv *value;

    if (jv_parse(&arena, exact(text), flags, &JV_DEFAULT_LIMITS, NULL, &value,
                 &err))
        fail_msg("%.*s is accepted", SLICE_ARG(text));
    assert_int_equal(err.code, ERR_BAD_RESPONSE);
    if (!strstr(err.message, why))
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

static void assert_refused(const char *text, const char *why)
{
    assert_refused_with(slice_of(text), JV_STRICT, why);
}

/* What jv_put makes of a value, NUL-terminated in the arena. */
static const char *written(const struct jv *value)
{
    struct buf out;
    const char *text;

    buf_init(&out, 1 << 20);
    jv_put(&out, value);
    assert_false(out.failed);
    text = arena_text(&arena, buf_slice(&out));
    buf_release(&out);
    return text;
}

static void every_kind_of_value_is_read(void **state)
{
    const struct jv *value = parse(
        " { \"a\" : [ 1 , -2.5e1 , \"x\" , true , false , null , { } , [ ] ] "
        "}\r\n\t");
    const struct jv *items = jv_find(value, "a");

    (void)state;
    assert_true(value->complete);
    assert_int_equal(value->type, JV_OBJECT);
    assert_int_equal(jv_count(items), 8);
    assert_int_equal(jv_at(items, 0)->type, JV_INTEGER);
    assert_int_equal(jv_integer(jv_at(items, 0), 0), 1);
    assert_int_equal(jv_at(items, 1)->type, JV_REAL);
    assert_true(jv_number(jv_at(items, 1), 0) == -25.0);
    assert_slice(jv_string(jv_at(items, 2)), "x");
    assert_true(jv_boolean(jv_at(items, 3), false));
    assert_false(jv_boolean(jv_at(items, 4), true));
    assert_int_equal(jv_at(items, 5)->type, JV_NULL);
    assert_int_equal(jv_at(items, 6)->type, JV_OBJECT);
    assert_int_equal(jv_count(jv_at(items, 6)), 0);
    assert_int_equal(jv_at(items, 7)->type, JV_ARRAY);
    assert_int_equal(jv_count(jv_at(items, 7)), 0);
}

static void anything_but_json_is_refused_with_its_byte(void **state)
{
    struct jv *value;
    struct error err;

    (void)state;
    assert_refused("", "no value at byte 0");
    assert_false(jv_parse(&arena, slice_of(NULL), JV_PARTIAL,
                          &JV_DEFAULT_LIMITS, NULL, &value, &err));
    assert_refused(" \n", "no value at byte 2");
    assert_refused("{\"a\":}", "no value at byte 5");
    assert_refused("[1 2]", "comma");
    assert_refused("[1,]", "no value at byte 3");
    assert_refused("{\"a\":1,}", "a key is missing at byte 7");
    assert_refused("[,1]", "no value");
    assert_refused("{a:1}", "a key is missing");
    assert_refused("{\"a\" 1}", "colon");
    assert_refused("{\"a\":1 \"b\":2}", "comma");
    assert_refused("[1}", "closing bracket");
    assert_refused("{\"a\":1]", "closing bracket");
    assert_refused("trux", "unknown word");
    assert_refused("truely", "more text");
    assert_refused("nul ", "unknown word");
    assert_refused("'a'", "no value");
    assert_refused("<html>", "no value");
    assert_refused("{} {}", "more text behind the value at byte 3");
    assert_refused("{}\v", "more text");
    assert_refused("]", "no value");
    assert_refused("// c\n1", "no value");
}

static void cut_text_is_refused_when_strict(void **state)
{
    static const char *const CUT[] = {"[",    "[1",     "[1,",     "{",
                                      "{\"a", "{\"a\"", "{\"a\":", "{\"a\":1",
                                      "\"a",  "\"a\\",  "\"\\u12", "-",
                                      "1.",   "1e",     "[tr",     "{\"a\":1,"};

    (void)state;
    for (size_t i = 0; i < sizeof(CUT) / sizeof(CUT[0]); i++)
        assert_refused(CUT[i], "ends too early");
}

static void numbers_follow_the_grammar(void **state)
{
    static const char *const BAD[] = {
        "01",   "-01",  "+1",  ".5",  "1.x", "-x",       "1ex",
        "0x10", "1.5.", "--1", "1e+", "NaN", "Infinity", "-Infinity"};

    (void)state;
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++)
        assert_refused(BAD[i], "");
    assert_int_equal(jv_integer(parse("-0"), 1), 0);
    assert_int_equal(parse("1E2")->type, JV_REAL);
    assert_true(jv_number(parse("1E+2"), 0) == 100);
    assert_true(jv_number(parse("0.1"), 0) == 0.1);
    assert_true(jv_number(parse("-0e99999999999999999999"), 1) == 0);
    assert_true(jv_number(parse("1e-99999"), 1) == 0);
}

static void integers_over_int64_become_reals(void **state)
{
    (void)state;
    assert_int_equal(parse("9223372036854775807")->type, JV_INTEGER);
    assert_true(jv_integer(parse("9223372036854775807"), 0) == INT64_MAX);
    assert_true(jv_integer(parse("-9223372036854775808"), 0) == INT64_MIN);
    assert_int_equal(parse("9223372036854775808")->type, JV_REAL);
    assert_true(jv_number(parse("9223372036854775808"), 0) == 0x1p63);
    assert_int_equal(parse("-9223372036854775809")->type, JV_REAL);
}

static void numbers_over_a_double_are_refused(void **state)
{
    (void)state;
    assert_refused("[1e309]", "out of range at byte 1");
    assert_refused("-1e99999999999999999999", "out of range");
    assert_true(jv_number(parse("1.7976931348623157e308"), 0) ==
                0x1.fffffffffffffp1023);
}

static void long_numbers_are_exact(void **state)
{
    char text[400];

    (void)state;
    /* 1 + 2^-53 is half way between two doubles; a digit far behind it, more
     * than the short buffer holds, decides. */
    snprintf(text, sizeof(text),
             "1.00000000000000011102230246251565404236316680908203125%0100d1",
             0);
    assert_true(jv_number(parse(text), 0) == 0x1.0000000000001p0);
    text[strlen(text) - 1] = '0';
    assert_true(jv_number(parse(text), 0) == 1.0);
    memset(text, '7', 330);
    text[330] = '\0';
    assert_refused(text, "out of range");
}

static void strings_without_escapes_lend_the_input(void **state)
{
    struct slice text = exact(slice_of("[\"abc\",\"\xC3\xA9\"]"));
    struct jv *value;
    struct error err;

    (void)state;
    assert_true(jv_parse(&arena, text, JV_STRICT, &JV_DEFAULT_LIMITS, NULL,
                         &value, &err));
    assert_ptr_equal(jv_at(value, 0)->as.string.data, text.data + 2);
    assert_ptr_equal(jv_at(value, 1)->as.string.data, text.data + 8);
}

struct text_case {
    const char *json;
    const char *text;
};

static void escapes_are_decoded(void **state)
{
    static const struct text_case CASES[] = {
        {"\"\"", ""},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"a\\u0041\\u00e9\\u20AC!\"", "aA\xC3\xA9\xE2\x82\xAC!"},
        {"\"\\ud83d\\ude00\"", "\xF0\x9F\x98\x80"},
        {"\"\\uD800\\uDC00\\uDBFF\\uDFFF\"",
         "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++)
        assert_slice(jv_string(parse(CASES[i].json)), CASES[i].text);
}

static void bad_text_is_repaired(void **state)
{
    static const struct text_case CASES[] = {
        {"\"a\xFFz\"", "a\xEF\xBF\xBDz"},
        {"\"\xED\xA0\x80\"", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\"\\ud83d\"", "\xEF\xBF\xBD"},      /* high alone */
        {"\"\\ude00x\"", "\xEF\xBF\xBDx"},    /* low alone */
        {"\"\\ud83d\\n\"", "\xEF\xBF\xBD\n"}, /* high, then another */
        {"\"\\ud83d\\u0041\"", "\xEF\xBF\xBD" /* high, then no low */
                               "A"},
        {"\"\\ud83d\\ud83d\\ude00\"", "\xEF\xBF\xBD\xF0\x9F\x98\x80"},
        {"\"a\\u0000b\"", "ab"},
        {"\"line\nbreak\ttab\x01\"", "line\nbreak\ttab\x01"},
        {"\"\\d+\\'\"", "\\d+\\'"},
        {"\"\\u12\"", "\\u12"},
        {"\"\\u12G4\\n\"", "\\u12G4\n"},
        {"\"\\ud83d\\u12\"", "\xEF\xBF\xBD\\u12"},
        {"\"\\n\xFF\"", "\n\xEF\xBF\xBD"},
    };
    const struct jv *value;

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++)
        assert_slice(jv_string(parse(CASES[i].json)), CASES[i].text);
    value = parse_slice(slice_make("{\"a\0b\":\"c\0d\"}", 13), JV_STRICT);
    assert_slice(jv_string(jv_find(value, "ab")), "cd");
}

static void a_byte_order_mark_is_skipped(void **state)
{
    (void)state;
    assert_int_equal(jv_integer(parse("\xEF\xBB\xBF 1"), 0), 1);
    assert_refused("\xEF\xBB", "no value");
    assert_refused("\xEF\xBB\xBF\xEF\xBB\xBF 1", "no value at byte 3");
}

static void the_bytes_used_are_counted(void **state)
{
    struct slice text = slice_of("\xEF\xBB\xBF [1] then prose");
    struct error err;
    struct jv *value;
    size_t used = 0;

    (void)state;
    assert_true(jv_parse(&arena, text, JV_STRICT, &JV_DEFAULT_LIMITS, &used,
                         &value, &err));
    assert_int_equal(used, 7);
    assert_int_equal(jv_count(value), 1);
}

static void the_last_of_duplicate_keys_wins_at_the_first_place(void **state)
{
    const struct jv *value = parse("{\"a\":1,\"b\":2,\"\\u0061\":3,\"\":4,"
                                   "\"c\":5,\"a\":6,\"\":7}");

    (void)state;
    assert_string_equal(written(value), "{\"a\":6,\"b\":2,\"\":7,\"c\":5}");
}

/* `count` members k0, k1, ... with their number, then the same again with 1
 * and with 2 added: more than the reader compares pair by pair. */
static struct slice members_thrice(struct buf *out, int count)
{
    buf_append_byte(out, '{');
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < count; i++)
            buf_printf(out, "%s\"k%d\":%d", i + round > 0 ? "," : "", i,
                       i + round);
    buf_append_byte(out, '}');
    return buf_slice(out);
}

static void many_duplicate_keys_are_joined_as_few_are(void **state)
{
    static const int COUNTS[] = {1, 2, 16, 17, 33, 100, 1000};
    struct buf out;

    (void)state;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < sizeof(COUNTS) / sizeof(COUNTS[0]); i++) {
        const struct jv *value;

        buf_clear(&out);
        value = parse_slice(members_thrice(&out, COUNTS[i]), JV_STRICT);
        assert_int_equal(jv_count(value), COUNTS[i]);
        for (int j = 0; j < COUNTS[i]; j++) {
            const struct jv_member *member = &value->as.object.members[j];
            char key[16];

            snprintf(key, sizeof(key), "k%d", j);
            assert_slice(member->key, key);
            assert_int_equal(jv_integer(&member->value, -1), j + 2);
        }
    }
    buf_release(&out);
}

static void a_hundred_thousand_keys_are_not_quadratic(void **state)
{
    clock_t begin = clock();
    struct buf out;

    (void)state;
    buf_init(&out, 1 << 24);
    assert_int_equal(
        jv_count(parse_slice(members_thrice(&out, 100000), JV_STRICT)), 100000);
    assert_true(clock() - begin < 5 * CLOCKS_PER_SEC);
    buf_release(&out);
}

static void nesting_is_bounded_by_the_limit(void **state)
{
    char text[2 * 129 + 1];
    struct jv_limits limits = JV_DEFAULT_LIMITS;
    struct error err;
    struct jv *value;

    (void)state;
    memset(text, '[', 129);
    memset(text + 129, ']', 129);
    text[2 * 129] = '\0';
    assert_refused(text, "nested too deeply at byte 128");
    assert_int_equal(parse_slice(slice_make(text + 1, 256), 0)->type, JV_ARRAY);
    limits.max_depth = 0;
    assert_false(jv_parse(&arena, slice_of("{}"), JV_STRICT, &limits, NULL,
                          &value, &err));
    assert_true(jv_parse(&arena, slice_of("1"), JV_STRICT, &limits, NULL,
                         &value, &err));
}

static void nesting_is_bounded_whatever_the_limit_says(void **state)
{
    enum { DEEP = 4 * 1000 * 1000 };
    struct jv_limits limits = {SIZE_MAX, UINT32_MAX, UINT32_MAX};
    char *text = mem_alloc(DEEP);
    struct error err;
    struct jv *value;

    (void)state;
    for (size_t i = 0; i < DEEP; i += 5)
        memcpy(text + i, "{\"\":[", DEEP - i < 5 ? DEEP - i : 5);
    assert_false(jv_parse(&arena, slice_make(text, DEEP), JV_PARTIAL, &limits,
                          NULL, &value, &err));
    assert_non_null(strstr(err.message, "nested too deeply"));
    mem_free(text);
}

static void bytes_and_values_are_bounded(void **state)
{
    struct jv_limits limits = {7, 10, 4};
    struct error err;
    struct jv *value;

    (void)state;
    assert_true(jv_parse(&arena, slice_of("[1,2,3]"), JV_STRICT, &limits, NULL,
                         &value, &err));
    assert_int_equal(jv_count(value), 3);
    assert_false(jv_parse(&arena, slice_of("[1,2,3] "), JV_STRICT, &limits,
                          NULL, &value, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    limits.max_bytes = 100;
    assert_false(jv_parse(&arena, slice_of("[1,2,3,4]"), JV_STRICT, &limits,
                          NULL, &value, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void a_cut_document_keeps_what_was_read(void **state)
{
    static const struct text_case CASES[] = {
        {"[", "[]"},
        {"{", "{}"},
        {"[1", "[null]"}, /* may have been 12 */
        {"[1,", "[1]"},
        {"[1 ", "[1]"},
        {"[-", "[null]"},
        {"[1.5e", "[null]"},
        {"[tru", "[null]"},
        {"[true", "[true]"},
        {"[n", "[null]"},
        {"{\"a", "{}"},
        {"{\"a\"", "{}"},
        {"{\"a\":", "{}"},
        {"{\"a\": ", "{}"},
        {"{\"a\":1,", "{\"a\":1}"},
        {"{\"a\":1,\"b", "{\"a\":1}"},
        {"{\"a\":[1,{\"b\":\"te", "{\"a\":[1,{\"b\":\"te\"}]}"},
        {"\"text", "\"text\""},
        {"\"a\xE2\x82", "\"a\""},
        {"\"a\\", "\"a\""},
        {"\"a\\u00e", "\"a\""},
        {"\"a\\ud83d", "\"a\""},
        {"\"a\\ud83d\\", "\"a\""},
        {"\"a\\ud83d\\ude0", "\"a\""},
        {"\"a\\ud83dx", "\"a\xEF\xBF\xBDx\""},
        {"-", "null"},
        {"fal", "null"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        const struct jv *value = parse_partial(CASES[i].json);

        assert_false(value->complete);
        assert_string_equal(written(value), CASES[i].text);
    }
}

static void what_was_complete_before_the_cut_says_so(void **state)
{
    const struct jv *value = parse_partial("[{\"a\":1},{\"a\":2,\"b\":[3,4");
    const struct jv *second = jv_at(value, 1);

    (void)state;
    assert_int_equal(jv_count(value), 2);
    assert_true(jv_at(value, 0)->complete);
    assert_false(second->complete);
    assert_true(jv_find(second, "a")->complete);
    assert_false(jv_find(second, "b")->complete);
    assert_true(jv_at(jv_find(second, "b"), 0)->complete);
    assert_false(jv_at(jv_find(second, "b"), 1)->complete);
}

static void a_whole_document_is_the_same_when_partial(void **state)
{
    static const char *const WHOLE[] = {"12",    "-1.5", "true",
                                        "\"a\"", "[1]",  "{\"a\":[]}"};

    (void)state;
    for (size_t i = 0; i < sizeof(WHOLE) / sizeof(WHOLE[0]); i++) {
        const struct jv *value = parse_partial(WHOLE[i]);

        assert_true(value->complete);
        assert_string_equal(written(value), WHOLE[i]);
    }
}

static void a_partial_document_may_be_cut_but_not_wrong(void **state)
{
    static const char *const BAD[] = {"",           "[1}",  "[1 2", "{\"a\" 1",
                                      "{1",         "[tx",  "[1,]", "[1] [",
                                      "{\"a\":1,}", "[1.x", "<p>"};

    (void)state;
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++)
        assert_refused_with(slice_of(BAD[i]), JV_PARTIAL, "");
}

static void trailing_commas_are_skipped_when_asked(void **state)
{
    (void)state;
    assert_string_equal(written(parse_slice(slice_of("[1,{\"a\":2 , } , ]"),
                                            JV_TRAILING_COMMA)),
                        "[1,{\"a\":2}]");
    assert_refused_with(slice_of("[,]"), JV_TRAILING_COMMA, "no value");
    assert_refused_with(slice_of("[1,,]"), JV_TRAILING_COMMA, "no value");
    assert_refused_with(slice_of("{,}"), JV_TRAILING_COMMA, "key");
    assert_refused_with(slice_of("[1,}"), JV_TRAILING_COMMA, "no value");
    assert_refused_with(slice_of("[1,"), JV_TRAILING_COMMA, "too early");
}

/* Its elements are not copied. */
static void long_lists_and_objects_are_read_like_short_ones(void **state)
{
    enum { COUNT = 5000 };
    struct buf text;
    const struct jv *list, *object;

    (void)state;
    buf_init(&text, 1 << 20);
    buf_append_text(&text, "{\"list\":[");
    for (int i = 0; i < COUNT; i++)
        buf_printf(&text, i > 0 ? ",%d" : "%d", i);
    buf_append_text(&text, "],\"object\":{");
    for (int i = 0; i < 2 * COUNT; i++)
        buf_printf(&text, i > 0 ? ",\"%d\":%d" : "\"%d\":%d", i % COUNT, i);
    buf_append_text(&text, "}}");
    list = jv_find(parse_slice(buf_slice(&text), JV_STRICT), "list");
    object = jv_find(parse_slice(buf_slice(&text), JV_STRICT), "object");
    assert_int_equal(jv_count(list), COUNT);
    assert_int_equal(jv_count(object), COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(jv_integer(jv_at(list, (size_t)i), -1), i);
        assert_int_equal(object->as.object.members[i].value.as.integer,
                         COUNT + i);
    }
    buf_release(&text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_kind_of_value_is_read),
        TEST(long_lists_and_objects_are_read_like_short_ones),
        TEST(anything_but_json_is_refused_with_its_byte),
        TEST(cut_text_is_refused_when_strict),
        TEST(numbers_follow_the_grammar),
        TEST(integers_over_int64_become_reals),
        TEST(numbers_over_a_double_are_refused),
        TEST(long_numbers_are_exact),
        TEST(strings_without_escapes_lend_the_input),
        TEST(escapes_are_decoded),
        TEST(bad_text_is_repaired),
        TEST(a_byte_order_mark_is_skipped),
        TEST(the_bytes_used_are_counted),
        TEST(the_last_of_duplicate_keys_wins_at_the_first_place),
        TEST(many_duplicate_keys_are_joined_as_few_are),
        TEST(a_hundred_thousand_keys_are_not_quadratic),
        TEST(nesting_is_bounded_by_the_limit),
        TEST(nesting_is_bounded_whatever_the_limit_says),
        TEST(bytes_and_values_are_bounded),
        TEST(a_cut_document_keeps_what_was_read),
        TEST(what_was_complete_before_the_cut_says_so),
        TEST(a_whole_document_is_the_same_when_partial),
        TEST(a_partial_document_may_be_cut_but_not_wrong),
        TEST(trailing_commas_are_skipped_when_asked),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
