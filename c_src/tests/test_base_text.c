/* slice, utf8, error: text as it travels. */
#include "tests/unit.h"

#include "llm_router/base/error.h"
#include "llm_router/base/utf8.h"

static void numbers_are_whole_and_within_64_bits(void **state)
{
    int64_t value = 7;

    (void)state;
    assert_true(slice_to_int64(slice_of("-9223372036854775808"), &value));
    assert_true(value == INT64_MIN);
    assert_true(slice_to_int64(slice_of("9223372036854775807"), &value));
    assert_true(value == INT64_MAX);
    assert_false(slice_to_int64(slice_of("9223372036854775808"), &value));
    assert_false(slice_to_int64(slice_of(""), &value));
    assert_false(slice_to_int64(slice_of("-"), &value));
    assert_false(slice_to_int64(slice_of("1 "), &value));
    assert_true(value == INT64_MAX);
}

static void trimming_stops_at_the_first_other_character(void **state)
{
    (void)state;
    assert_slice(slice_trim(slice_of(" \t a b\r\n")), "a b");
    assert_slice(slice_trim(slice_of(" \n ")), "");
}

static void searching_finds_the_first_or_nothing(void **state)
{
    (void)state;
    assert_int_equal(slice_find(slice_of("abcabc"), slice_of("ca")), 2);
    assert_int_equal(slice_find(slice_of("abc"), slice_of("x")), -1);
    assert_int_equal(slice_find(slice_of("abc"), slice_of("")), 0);
    assert_true(slice_is_nocase(slice_of("Retry-AFTER"), "retry-after"));
}

static void utf8_follows_rfc_3629(void **state)
{
    static const char *const bad[] = {
        "\xC0\xAF",
        "\xE0\x80\xAF",
        "\xED\xA0\x80",
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\x80",
        "\xC3",
        "\xE2\x82",
        "a\xFF",
        "\xF0\x9F\x98\x28",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(utf8_is_valid(slice_of(bad[i])));
    assert_true(utf8_is_valid(slice_of("plain ascii of more than eight")));
    assert_true(utf8_is_valid(slice_of("gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80")));
    assert_true(utf8_is_valid(SLICE_LITERAL("a\0b")));
}

static void cleaning_replaces_bad_bytes_and_drops_nul(void **state)
{
    struct arena arena;
    struct slice clean = slice_of("nothing to do here");

    (void)state;
    arena_init(&arena, 0);
    assert_ptr_equal(utf8_clean(&arena, clean).data, clean.data);
    assert_slice(utf8_clean(&arena, SLICE_LITERAL("a\0b\xFF\xC3")),
                 "ab\xEF\xBF\xBD\xEF\xBF\xBD");
    assert_slice(utf8_clean(&arena, SLICE_LITERAL("12345678\0")), "12345678");
    arena_release(&arena);
}

static void cutting_ends_at_a_character(void **state)
{
    (void)state;
    assert_slice(utf8_cut(slice_of("a\xC3\xBC"), 2), "a");
    assert_slice(utf8_cut(slice_of("a\xC3\xBC"), 3), "a\xC3\xBC");
    assert_slice(utf8_cut(slice_of("\xF0\x9F\x98\x80"), 3), "");
    assert_slice(utf8_cut(slice_of("abc"), 9), "abc");
}

static void characters_are_counted_not_bytes(void **state)
{
    static const char TEXT[] = "a\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80";
    char many[50 * (sizeof(TEXT) - 1)];

    (void)state;
    assert_int_equal(utf8_length(slice_of("")), 0);
    assert_int_equal(utf8_length(slice_of(TEXT)), 4);
    for (size_t i = 0; i < sizeof(many); i++)
        many[i] = TEXT[i % (sizeof(TEXT) - 1)];
    assert_int_equal(utf8_length(slice_make(many, sizeof(many))), 200);
}

static void every_code_point_survives_encoding(void **state)
{
    char out[4];

    (void)state;
    for (uint32_t code = 0; code <= 0x110000; code++) {
        size_t size = utf8_encode(code, out);
        bool allowed = code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);

        assert_int_equal(size > 0, allowed);
        if (size > 0)
            assert_int_equal(utf8_char_size(slice_make(out, size)), size);
    }
}

static void a_long_message_is_cut_at_a_character(void **state)
{
    struct error err;
    char text[ERROR_MESSAGE_MAX + 10];

    (void)state;
    memset(text, 'x', sizeof(text));
    memcpy(text + ERROR_MESSAGE_MAX - 2, "\xC3\xBC", 3);
    error_set(&err, ERR_TIMEOUT, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 2);
    assert_true(utf8_is_valid(slice_of(err.message)));
}

static void paths_grow_from_the_inside_out(void **state)
{
    struct error err;

    (void)state;
    error_at(&err, ERR_INVALID_REQUEST, "content", "bad");
    error_in(&err, "[2]");
    error_in(&err, "messages");
    assert_string_equal(err.path, "messages[2].content");
    assert_string_equal(error_atom(err.code), "invalid_request");
    assert_false(error_retryable(err.code));
    assert_true(err.retry_after_ms < 0);
}

static void a_description_has_the_path_once(void **state)
{
    struct error err;
    char text[ERROR_TEXT_MAX];

    (void)state;
    error_at(&err, ERR_INVALID_REQUEST, "a.json", "line 1: bad");
    error_describe(&err, text);
    assert_string_equal(text, "a.json: line 1: bad");
    error_at(&err, ERR_INVALID_REQUEST, "b.c", "a.json: line 1: b.c: bad");
    error_describe(&err, text);
    assert_string_equal(text, "a.json: line 1: b.c: bad");
    error_set(&err, ERR_TIMEOUT, "too late");
    error_describe(&err, text);
    assert_string_equal(text, "too late");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_whole_and_within_64_bits),
        cmocka_unit_test(trimming_stops_at_the_first_other_character),
        cmocka_unit_test(searching_finds_the_first_or_nothing),
        cmocka_unit_test(utf8_follows_rfc_3629),
        cmocka_unit_test(cleaning_replaces_bad_bytes_and_drops_nul),
        cmocka_unit_test(cutting_ends_at_a_character),
        cmocka_unit_test(characters_are_counted_not_bytes),
        cmocka_unit_test(every_code_point_survives_encoding),
        cmocka_unit_test(a_long_message_is_cut_at_a_character),
        cmocka_unit_test(paths_grow_from_the_inside_out),
        cmocka_unit_test(a_description_has_the_path_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
