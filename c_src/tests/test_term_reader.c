#include "llm_router/term/reader.h"

#include <math.h>

#include "llm_router/base/arena.h"
#include "test_term_samples.h"
#include "tests/external.h"
#include "unit.h"

static const struct term_limits LIMITS = {1 << 20, 64};

/* A checked term; close it with bytes_free. */
static struct term open_term(const char *hex, struct slice *bytes)
{
    struct error err;

    *bytes = bytes_of(hex);
    if (!external_check(*bytes, &LIMITS, &err))
        fail_msg("%s: %s", hex, err.message);
    return external_term(*bytes);
}

static void every_kind_is_recognised(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        struct slice bytes;
        struct term term = open_term(SAMPLES[i].hex, &bytes);

        if (term_kind(term) != SAMPLES[i].kind)
            fail_msg("%s is taken for a %s", SAMPLES[i].name,
                     term_kind_name(term));
        bytes_free(bytes);
    }
}

static void a_term_is_skipped_and_lent_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        struct slice bytes;
        struct term term = open_term(SAMPLES[i].hex, &bytes);
        struct slice raw = term_raw(term);

        assert_ptr_equal(term_next(term).at, bytes.data + bytes.size);
        assert_ptr_equal(raw.data, bytes.data + 1);
        assert_int_equal(raw.size, bytes.size - 1);
        assert_int_equal(term_kind(term_from_raw(raw)), SAMPLES[i].kind);
        assert_int_equal(term_raw(term_from_raw(raw)).size, raw.size);
        bytes_free(bytes);
    }
}

/* Any function asked for another kind: false, and nothing written. */
static void a_function_for_another_kind_returns_false(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        enum term_kind kind = SAMPLES[i].kind;
        struct slice bytes, slice;
        struct term term = open_term(SAMPLES[i].hex, &bytes), first;
        struct term_list list;
        int64_t integer;
        double real;
        bool boolean;
        uint32_t count;

        assert_int_equal(term_integer(term, &integer), kind == TERM_INTEGER);
        assert_int_equal(term_binary(term, &slice), kind == TERM_BINARY);
        assert_int_equal(term_atom(term, &slice), kind == TERM_ATOM);
        assert_int_equal(term_tuple(term, &count, &first), kind == TERM_TUPLE);
        assert_int_equal(term_map(term, &count, &first), kind == TERM_MAP);
        assert_int_equal(term_list(term, &list), kind == TERM_NIL ||
                                                     kind == TERM_LIST ||
                                                     kind == TERM_STRING);
        assert_int_equal(term_node(term, &slice), kind == TERM_PID ||
                                                      kind == TERM_PORT ||
                                                      kind == TERM_REFERENCE);
        assert_false(term_boolean(term, &boolean));
        if (kind != TERM_INTEGER && kind != TERM_BIG && kind != TERM_FLOAT)
            assert_false(term_float(term, &real));
        bytes_free(bytes);
    }
}

static void assert_integer(const char *hex, int64_t expected)
{
    struct slice bytes;
    struct term term = open_term(hex, &bytes);
    int64_t value;

    assert_true(term_integer(term, &value));
    assert_true(value == expected);
    bytes_free(bytes);
}

static void integers_have_their_values(void **state)
{
    (void)state;
    assert_integer("836100", 0);
    assert_integer("8361ff", 255);
    assert_integer("8362ffffffff", -1);
    assert_integer("836280000000", INT32_MIN);
    assert_integer("836e040000000080", 2147483648);
    assert_integer("836e0800ffffffffffffff7f", INT64_MAX);
    assert_integer("836e08010000000000000080", INT64_MIN);
    assert_integer("836e0000", 0); /* not canonical */
    assert_integer("836e0c0101000000000000000000"
                   "0000",
                   -1); /* zeros in front */
}

static void assert_float(const char *hex, double expected)
{
    struct slice bytes;
    struct term term = open_term(hex, &bytes);
    double value = NAN;

    assert_true(term_float(term, &value));
    assert_true(value == expected);
    bytes_free(bytes);
}

static void floats_have_their_values(void **state)
{
    (void)state;
    assert_float("83463ff8000000000000", 1.5);
    assert_float("8363312e3530303030303030303030303030303030303030652b303000"
                 "00000000",
                 1.5);
    assert_float("83632d312e3030303030303030303030303030303032353036652d3330"
                 "3000"
                 "0000",
                 -1.0e-300);
    assert_float("8361ff", 255);
    assert_float("836e08010000000000000080", -0x1p63);
}

static void big_integers_convert_to_the_nearest_double(void **state)
{
    (void)state;
    assert_float("836e0900000000000000000040", 0x1p70);
    assert_float("836e0901000000000000000040", -0x1p70);
    assert_float("836e08000000000000000080", 0x1p63);
    /* 2^64 + 2048 is half way: to even; one more: up. */
    assert_float("836e0900000800000000000001", 0x1p64);
    assert_float("836e0900010800000000000001", 0x1p64 + 4096);
    /* 2^127 + 2^74 is half way; 1 far below decides. */
    assert_float("836e1000000000000000000000040000000000"
                 "80",
                 0x1p127);
    assert_float("836e1000010000000000000000040000000000"
                 "80",
                 0x1p127 + 0x1p75);
}

static void a_big_integer_over_a_double_does_not_convert(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        struct slice bytes;
        struct term term = open_term(SAMPLES[i].hex, &bytes);
        double value = 1;

        if (!strcmp(SAMPLES[i].name, "1 bsl 1024")) {
            assert_false(term_float(term, &value));
            assert_true(value == 1);
        }
        bytes_free(bytes);
    }
}

static void atoms_are_lent_as_on_the_wire(void **state)
{
    struct slice bytes, name;
    struct term term = open_term("837702c3a9", &bytes);

    (void)state;
    assert_true(term_atom(term, &name));
    assert_slice(name, "\xC3\xA9");
    assert_ptr_equal(name.data, bytes.data + 3);
    assert_true(term_is_atom(term, "\xC3\xA9"));
    assert_false(term_is_atom(term, "ok"));
    bytes_free(bytes);
    term = open_term("836400026f6b", &bytes);
    assert_true(term_is_atom(term, "ok"));
    assert_false(term_is_atom(term, "o"));
    assert_false(term_is_atom(term, "okay"));
    bytes_free(bytes);
    term = open_term("836d000000026f6b", &bytes);
    assert_false(term_is_atom(term, "ok"));
    bytes_free(bytes);
}

static void booleans_are_the_two_atoms(void **state)
{
    struct slice bytes;
    struct term term = open_term("83770474727565", &bytes);
    bool value = false;

    (void)state;
    assert_true(term_boolean(term, &value));
    assert_true(value);
    bytes_free(bytes);
    term = open_term("83640005"
                     "66616c7365",
                     &bytes);
    assert_true(term_boolean(term, &value));
    assert_false(value);
    bytes_free(bytes);
    term = open_term("837701"
                     "74",
                     &bytes);
    assert_false(term_boolean(term, &value));
    bytes_free(bytes);
}

static void tuples_give_their_elements(void **state)
{
    struct slice bytes, text;
    struct term term = open_term("8368036d00000002686968026101610261"
                                 "09",
                                 &bytes);
    struct term element, inner;
    uint32_t arity;
    int64_t value;

    (void)state;
    assert_true(term_tuple(term, &arity, &element));
    assert_int_equal(arity, 3);
    assert_true(term_binary(element, &text));
    assert_slice(text, "hi");
    element = term_next(element);
    assert_false(term_tuple_of(element, 3, &inner));
    assert_true(term_tuple_of(element, 2, NULL));
    assert_true(term_tuple_of(element, 2, &inner));
    assert_true(term_integer(term_next(inner), &value));
    assert_int_equal(value, 2);
    element = term_next(element);
    assert_true(term_integer(element, &value));
    assert_int_equal(value, 9);
    bytes_free(bytes);
}

static void maps_are_searched_by_atom_key(void **state)
{
    /* #{<<"a">> => 1, b => {2}, a => 3} */
    struct slice bytes;
    struct term term = open_term("8374000000036d00000001616101"
                                 "770162680161027701616103",
                                 &bytes);
    struct term value;
    uint32_t pairs;
    int64_t integer;

    (void)state;
    assert_true(term_map(term, &pairs, NULL));
    assert_int_equal(pairs, 3);
    assert_true(term_map_find(term, "a", &value));
    assert_true(term_integer(value, &integer));
    assert_int_equal(integer, 3);
    assert_true(term_map_find(term, "b", &value));
    assert_int_equal(term_kind(value), TERM_TUPLE);
    assert_false(term_map_find(term, "c", &value));
    assert_false(term_map_find(value, "a", &value));
    bytes_free(bytes);
}

static void assert_list(const char *hex, size_t count, bool proper,
                        const int64_t *expected)
{
    struct slice bytes;
    struct term term = open_term(hex, &bytes), element;
    struct term_list list;
    size_t seen = 0;
    int64_t value;

    assert_true(term_list(term, &list));
    assert_int_equal(list.proper, proper);
    assert_int_equal(list.left, count);
    while (term_list_next(&list, &element)) {
        assert_true(term_integer(element, &value));
        assert_int_equal(value, expected[seen++]);
        assert_int_equal(list.left, count - seen);
    }
    assert_int_equal(seen, count);
    bytes_free(bytes);
}

static void nil_lists_and_strings_are_iterated_alike(void **state)
{
    static const int64_t LETTERS[] = {97, 98, 99}, HIGH[] = {1, 256, 255};

    (void)state;
    assert_list("836a", 0, true, NULL);
    assert_list("836b0003616263", 3, true, LETTERS);
    assert_list("836c000000036161616261636a", 3, true, LETTERS);
    assert_list("836b0001ff", 1, true, HIGH + 2);
    assert_list("836c000000026101620000010"
                "06a",
                2, true, HIGH);
    assert_list("836c00000003616161626163"
                "6164",
                3, false, LETTERS);
}

static void a_node_is_the_name_inside(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        struct slice bytes, node;
        struct term term = open_term(SAMPLES[i].hex, &bytes);

        if (!strcmp(SAMPLES[i].name, "self()") ||
            !strcmp(SAMPLES[i].name, "self() minor 1") ||
            !strcmp(SAMPLES[i].name, "port") ||
            !strcmp(SAMPLES[i].name, "make_ref()")) {
            assert_true(term_node(term, &node));
            assert_slice(node, "sample@localhost");
        }
        bytes_free(bytes);
    }
}

struct text_case {
    const char *hex;
    const char *text;
};

static void text_is_binary_charlist_or_iodata(void **state)
{
    static const struct text_case CASES[] = {
        {"836d00000003616263", "abc"},
        {"836d00000000", ""},
        {"836a", ""},
        {"836b0003616263", "abc"},
        {"836b0001e9", "\xC3\xA9"}, /* code points, not bytes */
        {"836c0000000161616a", "a"},
        {"836c00000001620001f6006a", "\xF0\x9F\x98\x80"},
        /* [233, 104, <<"b">> | <<"c">>] */
        {"836c0000000361e961686d00000001626d0000000163", "\xC3\xA9hbc"},
        /* a character split over two binaries: [<<16#C3>>, <<16#A9>>] */
        {"836c000000026d00000001c36d00000001a96a", "\xC3\xA9"},
        /* ["a", [16#20AC, [<<"b">>]], ""] */
        {"836c000000036b0001616c0000000262000020ac6c000000016d00000001626a6a6"
         "a6a",
         "a\xE2\x82\xAC"
         "b"},
        {"836c000000026a6a6a", ""},
    };
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        struct slice bytes, text;
        struct term term = open_term(CASES[i].hex, &bytes);
        struct error err;

        assert_true(term_text(term, 100, &arena, &text, &err));
        assert_slice(text, CASES[i].text);
        bytes_free(bytes);
    }
    arena_release(&arena);
}

static void a_binary_lends_its_own_bytes(void **state)
{
    struct slice bytes, text;
    struct term term = open_term("836d00000003616200", &bytes);
    struct arena arena;
    struct error err;

    (void)state;
    arena_init(&arena, 0);
    assert_true(term_text(term, 3, &arena, &text, &err));
    assert_ptr_equal(text.data, bytes.data + 6);
    assert_int_equal(text.size, 3); /* NUL is allowed */
    assert_int_equal(arena.reserved, 0);
    bytes_free(bytes);
    arena_release(&arena);
}

static void assert_no_text(const char *hex, enum error_code code,
                           const char *why)
{
    struct slice bytes, text;
    struct term term = open_term(hex, &bytes);
    struct arena arena;
    struct error err;

    arena_init(&arena, 0);
    assert_false(term_text(term, 4, &arena, &text, &err));
    assert_int_equal(err.code, code);
    if (!strstr(err.message, why))
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
    bytes_free(bytes);
    arena_release(&arena);
}

static void what_is_not_text_is_named(void **state)
{
    (void)state;
    assert_no_text("836101", ERR_INVALID_REQUEST, "type integer");
    assert_no_text("837400000000", ERR_INVALID_REQUEST, "type map");
    assert_no_text("834d000000010180", ERR_INVALID_REQUEST, "bitstring");
    assert_no_text("836c000000017701616a", ERR_INVALID_REQUEST,
                   "holds a term of type atom");
    assert_no_text("836c00000001616161"
                   "62",
                   ERR_INVALID_REQUEST, "improper list");
    assert_no_text("836c0000000161616b000162", ERR_INVALID_REQUEST,
                   "improper list");
    assert_no_text("836c00000001620000d8006a", ERR_INVALID_REQUEST,
                   "integer 55296");
    assert_no_text("836c0000000162001100006a", ERR_INVALID_REQUEST,
                   "integer 1114112");
    assert_no_text("836c0000000162ffffffff6a", ERR_INVALID_REQUEST,
                   "integer -1");
    assert_no_text("836c000000016e0900000000000000000040"
                   "6a",
                   ERR_INVALID_REQUEST, "big integer");
}

static void bad_utf8_is_named_by_its_byte(void **state)
{
    (void)state;
    assert_no_text("836d000000036161ff", ERR_INVALID_REQUEST, "byte 2");
    assert_no_text("836c000000026b000161"
                   "6d00000001c36a",
                   ERR_INVALID_REQUEST, "byte 1");
}

static void text_over_its_limit_is_too_large(void **state)
{
    (void)state;
    assert_no_text("836d000000056162636465", ERR_TOO_LARGE, "limit of 4");
    assert_no_text("836b00056162636465", ERR_TOO_LARGE, "limit of 4");
    assert_no_text("836b0003e9e9e9", ERR_TOO_LARGE, "limit of 4");
    assert_no_text("836c000000026d000000026162"
                   "6d000000036162636a",
                   ERR_TOO_LARGE, "limit of 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_recognised),
        cmocka_unit_test(a_term_is_skipped_and_lent_whole),
        cmocka_unit_test(a_function_for_another_kind_returns_false),
        cmocka_unit_test(integers_have_their_values),
        cmocka_unit_test(floats_have_their_values),
        cmocka_unit_test(big_integers_convert_to_the_nearest_double),
        cmocka_unit_test(a_big_integer_over_a_double_does_not_convert),
        cmocka_unit_test(atoms_are_lent_as_on_the_wire),
        cmocka_unit_test(booleans_are_the_two_atoms),
        cmocka_unit_test(tuples_give_their_elements),
        cmocka_unit_test(maps_are_searched_by_atom_key),
        cmocka_unit_test(nil_lists_and_strings_are_iterated_alike),
        cmocka_unit_test(a_node_is_the_name_inside),
        cmocka_unit_test(text_is_binary_charlist_or_iodata),
        cmocka_unit_test(a_binary_lends_its_own_bytes),
        cmocka_unit_test(what_is_not_text_is_named),
        cmocka_unit_test(bad_utf8_is_named_by_its_byte),
        cmocka_unit_test(text_over_its_limit_is_too_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
