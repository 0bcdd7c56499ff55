#include "llm_router/term/check.h"

#include <ei.h>
#include <stdio.h>
#include <time.h>

#include "llm_router/base/buf.h"
#include "test_term_samples.h"
#include "tests/external.h"
#include "unit.h"

static const struct term_limits LIMITS = {1 << 20, 64};

static enum error_code verdict(const char *hex)
{
    struct error err = {.code = ERR_NONE};
    struct slice bytes = bytes_of(hex);

    if (external_check(bytes, &LIMITS, &err))
        assert_int_equal(err.code, ERR_NONE);
    bytes_free(bytes);
    return err.code;
}

static void assert_accepted(const char *hex)
{
    assert_int_equal(verdict(hex), ERR_NONE);
}

static void assert_refused(const char *hex, const char *why)
{
    struct error err;
    struct slice bytes = bytes_of(hex);

    assert_false(external_check(bytes, &LIMITS, &err));
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    if (!strstr(err.message, why))
        fail_msg("%s: \"%s\" does not say \"%s\"", hex, err.message, why);
    bytes_free(bytes);
}

static void every_term_that_real_nodes_send_is_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++)
        if (verdict(SAMPLES[i].hex) != ERR_NONE)
            fail_msg("%s is refused", SAMPLES[i].name);
}

static void ei_takes_just_the_bytes_that_were_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        struct slice bytes = bytes_of(SAMPLES[i].hex);
        int index = 1;

        assert_int_equal(ei_skip_term(bytes.data, &index), 0);
        assert_int_equal(index, bytes.size);
        bytes_free(bytes);
    }
}

static void a_term_that_is_cut_anywhere_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        struct slice bytes = bytes_of(SAMPLES[i].hex);

        for (size_t size = 0; size < bytes.size; size++) {
            char *cut = mem_realloc(NULL, size);
            struct error err;

            memcpy(cut, bytes.data, size);
            assert_false(external_check(slice_make(cut, size), &LIMITS, &err));
            assert_int_equal(err.code, ERR_INVALID_REQUEST);
            mem_free(cut);
        }
        bytes_free(bytes);
    }
}

static void bytes_behind_the_term_are_refused_or_counted(void **state)
{
    struct slice bytes = bytes_of("83680161018361026a");
    struct error err;
    size_t used;

    (void)state;
    assert_false(external_check(bytes, &LIMITS, &err));
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    assert_true(term_check_first(external_raw(bytes), &LIMITS, &used, &err));
    assert_int_equal(used, 4);
    bytes_free(bytes);
}

static void lying_counts_are_refused_at_once(void **state)
{
    static const char *const LIARS[] = {
        "836c7fffffff6a",       "836cffffffff6a",   "8369ffffffff6a",
        "837480000000",         "8374ffffffff6a6a", "836dffffffff00",
        "834d7fffffff0800",     "836bffff00",       "836effff00",
        "836fffffffff0000",     "8376ffff61",       "835affff770161",
        "8370ffffffff00000000", "8368ff6a",
    };
    clock_t begin = clock();

    (void)state;
    assert_refused("8368026a", "more elements than bytes");
    assert_refused("836c000000026a6a", "more elements than bytes");
    assert_refused("8374000000016a", "more elements than bytes");
    for (size_t i = 0; i < sizeof(LIARS) / sizeof(LIARS[0]); i++)
        assert_int_equal(verdict(LIARS[i]), ERR_INVALID_REQUEST);
    assert_true(clock() - begin < CLOCKS_PER_SEC / 10);
}

static void counts_within_counts_cannot_multiply(void **state)
{
    enum { SIZE = 1 << 20 };
    struct term_limits limits = {SIZE, 1024};
    struct error err;
    char *bytes = mem_alloc(SIZE);
    size_t at = 0;
    clock_t begin = clock();

    (void)state;
    /* Each list claims all bytes that are left behind it. */
    bytes[at++] = (char)131;
    while (SIZE - at > 16) {
        uint32_t claim = (uint32_t)(SIZE - at - 6);

        bytes[at++] = 'l';
        for (int shift = 24; shift >= 0; shift -= 8)
            bytes[at++] = (char)(claim >> shift);
    }
    assert_false(external_check(slice_make(bytes, SIZE), &limits, &err));
    assert_true(clock() - begin < CLOCKS_PER_SEC / 10);
    mem_free(bytes);
}

/* `depth` lists of one element around an empty one. */
static struct slice nested(struct buf *out, size_t depth)
{
    buf_append_byte(out, (char)131);
    for (size_t i = 0; i < depth; i++)
        buf_append(out, "l\0\0\0\1", 5);
    for (size_t i = 0; i <= depth; i++)
        buf_append_byte(out, 'j');
    return buf_slice(out);
}

static void nesting_is_bounded_by_the_limit(void **state)
{
    struct term_limits limits = {SIZE_MAX, 512};
    struct error err;
    struct buf out;

    (void)state;
    buf_init(&out, 16 * 1024 * 1024);
    assert_true(external_check(nested(&out, 512), &limits, &err));
    buf_clear(&out);
    assert_false(external_check(nested(&out, 513), &limits, &err));
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    assert_non_null(strstr(err.message, "nested too deeply"));
    buf_release(&out);
}

static void nesting_is_bounded_whatever_the_limit_says(void **state)
{
    struct term_limits limits = {SIZE_MAX, UINT32_MAX};
    struct error err;
    struct buf out;

    (void)state;
    buf_init(&out, 16 * 1024 * 1024);
    assert_true(external_check(nested(&out, 1024), &limits, &err));
    buf_clear(&out);
    assert_false(external_check(nested(&out, 1025), &limits, &err));
    buf_clear(&out);
    assert_false(external_check(nested(&out, 1000000), &limits, &err));
    buf_release(&out);
}

static void empty_containers_have_no_depth(void **state)
{
    struct term_limits limits = {SIZE_MAX, 0};
    struct slice tuple = bytes_of("836800"), map = bytes_of("837400000000");
    struct slice full = bytes_of("836801"
                                 "6a");
    struct error err;

    (void)state;
    assert_true(external_check(tuple, &limits, &err));
    assert_true(external_check(map, &limits, &err));
    assert_false(external_check(full, &limits, &err));
    bytes_free(tuple);
    bytes_free(map);
    bytes_free(full);
}

static void size_is_bounded_by_the_limit(void **state)
{
    struct term_limits limits = {4, 8};
    struct slice fits = bytes_of("8362000001ff"), two = bytes_of("8361016101");
    struct error err;
    size_t used;

    (void)state;
    assert_false(external_check(fits, &limits, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_false(term_check_first(external_raw(fits), &limits, &used, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    limits.max_bytes = 5;
    assert_true(external_check(fits, &limits, &err));
    limits.max_bytes = 2;
    assert_true(term_check_first(external_raw(two), &limits, &used, &err));
    assert_int_equal(used, 2);
    bytes_free(fits);
    bytes_free(two);
}

static void forms_that_nobody_may_send_are_named(void **state)
{
    (void)state;
    assert_refused("835000000067789ccb664849a4030000cccb26b4", "compressed");
    assert_refused("835200", "atom cache");
    assert_refused("8379000000006a", "node-local");
    assert_refused("837500000000", "unknown tag"); /* FUN_EXT, before R8 */
    assert_refused("83ff", "unknown tag");
    assert_refused("8300", "unknown tag");
    assert_refused("8368018361", "unknown tag at byte 2"); /* a second 131 */
}

static void floats_must_be_finite_numbers(void **state)
{
    (void)state;
    assert_refused("83467ff0000000000000", "not finite");
    assert_refused("8346fff0000000000000", "not finite");
    assert_refused("83467ff8000000000001", "not finite");
    assert_accepted("83467fefffffffffffff");
    assert_accepted("83468000000000000000");
}

static void old_floats_must_be_text_that_ends(void **state)
{
    static const char *const BAD[] = {
        "00",             /* nothing */
        "6e616e",         /* nan */
        "696e66",         /* inf */
        "31653939393939", /* 1e99999 */
        "30783130",       /* 0x10 */
        "2031",           /* leading space */
        "312e35782e",     /* 1.5x. */
        "2d2d31",         /* --1 */
        "3131313131313131313131313131313131313131313131313131313131313131",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        char hex[4 + 62 + 1];

        memset(hex, '0', sizeof(hex));
        memcpy(hex, "8363", 4);
        memcpy(hex + 4, BAD[i], strlen(BAD[i]) < 62 ? strlen(BAD[i]) : 62);
        hex[sizeof(hex) - 1] = '\0';
        assert_refused(hex, "malformed float");
    }
}

static void atoms_must_be_utf8_of_at_most_255_characters(void **state)
{
    char hex[8 + 2 * 4 * 256 + 1];

    (void)state;
    assert_refused("837701ff", "not UTF-8");
    assert_refused("837703eda080", "not UTF-8"); /* a surrogate */
    assert_accepted("837301ff");                 /* Latin-1 */
    memcpy(hex, "837603fc", 8);
    for (size_t i = 0; i < 256; i++)
        memcpy(hex + 8 + 8 * i, "f09f9880", 8);
    hex[8 + 8 * 255] = '\0';
    assert_accepted(hex);
    memcpy(hex, "83760400", 8);
    hex[8 + 8 * 255] = 'f';
    hex[8 + 8 * 256] = '\0';
    assert_refused(hex, "too long");
    memcpy(hex, "83640100", 8);
    hex[8 + 2 * 256] = '\0';
    assert_refused(hex, "too long");
}

static void the_node_of_a_pid_port_or_reference_is_an_atom(void **state)
{
    (void)state;
    assert_refused("835861010000000100000002000000036a6a6a", "without a name");
    assert_refused("8358", "without a name");
    assert_refused("8359620000000100000001000000036a", "without a name");
    assert_refused("835a0001"
                   "6d00000001610000000300000001",
                   "without a name");
    assert_refused("83587701ff000000010000000200000003", "not UTF-8");
}

static void references_have_one_to_five_words(void **state)
{
    (void)state;
    assert_refused("835a000077016100000003", "wrong size");
    assert_accepted("835a0005770161000000030000000100000002000000030000000400"
                    "000005");
    assert_refused("835a000677016100000003000000010000000200000003000000040000"
                   "000500000006",
                   "wrong size");
}

static void bitstrings_have_one_to_eight_bits_in_the_last_byte(void **state)
{
    (void)state;
    assert_accepted("834d000000010180");
    assert_accepted("834d000000010880");
    assert_refused("834d000000010080", "bitstring");
    assert_refused("834d000000010980", "bitstring");
    assert_refused("834d00000001ff80", "bitstring");
    assert_refused("834d0000000001", "bitstring");
}

static void a_list_has_elements(void **state)
{
    (void)state;
    assert_refused("836c000000006a", "without elements");
}

/* Takes the sample apart: its size field, and what it must begin with. */
static void funs_are_what_they_say(void **state)
{
    char hex[512] = "";

    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++)
        if (!strcmp(SAMPLES[i].name, "fun with a variable"))
            snprintf(hex, sizeof(hex), "%s", SAMPLES[i].hex);
    assert_accepted(hex);
    hex[11] = '5'; /* size 0x56 -> 0x55 */
    assert_refused(hex, "another size");
    hex[11] = '7';
    assert_refused(hex, "malformed fun"); /* over the end */
    hex[11] = '6';
    hex[62] = '6'; /* the module becomes an integer, the pid a reference */
    assert_refused(hex, "malformed fun");
    hex[62] = '7';
    memcpy(strstr(hex, "58771073"), "65", 2);
    assert_refused(hex, "malformed fun");
}

static void external_funs_are_module_function_and_arity(void **state)
{
    (void)state;
    assert_accepted("8371770161770162"
                    "6102");
    assert_refused("8371770161770162"
                   "620000000261",
                   "external fun");
    assert_refused("8371770161"
                   "6101"
                   "6102",
                   "external fun");
    assert_refused("8371"
                   "6a"
                   "770162"
                   "6102",
                   "external fun");
    assert_refused("8371770161"
                   "7701ff"
                   "6102",
                   "not UTF-8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_term_that_real_nodes_send_is_accepted),
        cmocka_unit_test(ei_takes_just_the_bytes_that_were_checked),
        cmocka_unit_test(a_term_that_is_cut_anywhere_is_refused),
        cmocka_unit_test(bytes_behind_the_term_are_refused_or_counted),
        cmocka_unit_test(lying_counts_are_refused_at_once),
        cmocka_unit_test(counts_within_counts_cannot_multiply),
        cmocka_unit_test(nesting_is_bounded_by_the_limit),
        cmocka_unit_test(nesting_is_bounded_whatever_the_limit_says),
        cmocka_unit_test(empty_containers_have_no_depth),
        cmocka_unit_test(size_is_bounded_by_the_limit),
        cmocka_unit_test(forms_that_nobody_may_send_are_named),
        cmocka_unit_test(floats_must_be_finite_numbers),
        cmocka_unit_test(old_floats_must_be_text_that_ends),
        cmocka_unit_test(atoms_must_be_utf8_of_at_most_255_characters),
        cmocka_unit_test(the_node_of_a_pid_port_or_reference_is_an_atom),
        cmocka_unit_test(references_have_one_to_five_words),
        cmocka_unit_test(bitstrings_have_one_to_eight_bits_in_the_last_byte),
        cmocka_unit_test(a_list_has_elements),
        cmocka_unit_test(funs_are_what_they_say),
        cmocka_unit_test(external_funs_are_module_function_and_arity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
