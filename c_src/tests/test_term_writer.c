#include "llm_router/term/writer.h"

#include <math.h>

#include "llm_router/base/mem.h"
#include "test_term_samples.h"
#include "tests/external.h"
#include "unit.h"

/* Compares with what term_to_binary wrote, then releases. */
static void assert_written(struct buf *out, const char *hex)
{
    struct slice expected = bytes_of(hex);

    assert_false(out->failed);
    assert_int_equal(out->size, expected.size);
    assert_memory_equal(out->data, expected.data, expected.size);
    bytes_free(expected);
    buf_release(out);
}

static struct buf begin(void)
{
    struct buf out;

    buf_init(&out, 4096);
    term_put_version(&out);
    return out;
}

static void assert_integer(int64_t value, const char *hex)
{
    struct buf out = begin();

    term_put_integer(&out, value);
    assert_written(&out, hex);
}

static void integers_are_written_as_beam_reads_them(void **state)
{
    (void)state;
    assert_integer(0, "836100");
    assert_integer(255, "8361ff");
    assert_integer(256, "836200000100");
    assert_integer(-1, "8362ffffffff");
    /* From 28 bits on ei writes SMALL_BIG_EXT, term_to_binary from 33 on;
     * BEAM reads both. */
    assert_integer(INT32_MAX, "836e0400ffffff7f");
    assert_integer(2147483648, "836e040000000080");
    assert_integer(INT64_MAX, "836e0800ffffffffffffff7f");
    assert_integer(INT64_MIN, "836e08010000000000000080");
}

static void atoms_are_utf8_in_the_shortest_form(void **state)
{
    struct buf out = begin();
    char name[4 * 255];

    (void)state;
    term_put_atom(&out, "ok");
    assert_written(&out, "8377026f6b");
    out = begin();
    term_put_atom_slice(&out, slice_make("\xE2\x98\x83", 3));
    assert_written(&out, "837703e29883");
    out = begin();
    term_put_boolean(&out, true);
    assert_written(&out, "83770474727565");
    out = begin();
    term_put_boolean(&out, false);
    assert_written(&out, "83770566616c7365");
    out = begin();
    for (size_t i = 0; i < 255; i++)
        memcpy(name + 4 * i, "\xF0\x9F\x98\x80", 4);
    term_put_atom_slice(&out, slice_make(name, sizeof(name)));
    assert_int_equal(out.size, 1 + 3 + sizeof(name));
    assert_memory_equal(out.data, "\x83v\x03\xFC", 4);
    assert_memory_equal(out.data + 4, name, sizeof(name));
    buf_release(&out);
}

static void an_atom_that_beam_would_refuse_fails_the_buffer(void **state)
{
    static const char LONG[1100] = "";
    static const char *const BAD[] = {"\xFF", "\xC3", "\xC0\x80"};
    struct buf out;

    (void)state;
    for (size_t size = 256; size <= sizeof(LONG); size += 844) {
        out = begin();
        term_put_atom_slice(&out, slice_make(LONG, size));
        assert_true(out.failed);
        buf_release(&out);
    }
    for (size_t i = 0; i < 3; i++) {
        out = begin();
        term_put_atom(&out, BAD[i]);
        assert_true(out.failed);
        buf_release(&out);
    }
}

static void floats_are_eight_bytes_and_finite(void **state)
{
    static const double BAD[] = {NAN, INFINITY, -INFINITY};
    struct buf out = begin();

    (void)state;
    term_put_float(&out, 1.5);
    assert_written(&out, "83463ff8000000000000");
    for (size_t i = 0; i < 3; i++) {
        out = begin();
        term_put_float(&out, BAD[i]);
        assert_true(out.failed);
        buf_release(&out);
    }
}

static void containers_are_heads_before_their_elements(void **state)
{
    struct buf out = begin();

    (void)state;
    term_put_tuple(&out, 2);
    term_put_atom(&out, "ok");
    term_put_integer(&out, 1);
    assert_written(&out, "83680277026f6b6101");
    out = begin();
    term_put_list(&out, 2);
    term_put_integer(&out, 1);
    term_put_integer(&out, 256);
    term_put_nil(&out);
    assert_written(&out, "836c00000002610162000001006a");
    out = begin();
    term_put_list(&out, 0);
    term_put_nil(&out);
    assert_written(&out, "836a");
    out = begin();
    term_put_map(&out, 1);
    term_put_atom(&out, "a");
    term_put_integer(&out, 1);
    assert_written(&out, "8374000000017701616101");
    out = begin();
    term_put_tuple(&out, 256);
    assert_written(&out, "836900000100");
}

static void binaries_are_their_bytes(void **state)
{
    struct buf out = begin();

    (void)state;
    term_put_binary(&out, slice_make("a\0c", 3));
    assert_written(&out, "836d00000003610063");
    out = begin();
    term_put_text(&out, "abc");
    assert_written(&out, "836d00000003616263");
    out = begin();
    term_put_binary(&out, slice_of(NULL));
    assert_written(&out, "836d00000000");
}

static void raw_terms_are_echoed(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        struct slice bytes = bytes_of(SAMPLES[i].hex);
        struct buf out = begin();

        term_put_raw(&out, term_raw(external_term(bytes)));
        assert_written(&out, SAMPLES[i].hex);
        bytes_free(bytes);
    }
}

/* list_to_pid("<0.4711.3>") and make_ref() on sample@localhost. */
static void pids_and_references_are_those_of_a_real_node(void **state)
{
    static const uint32_t WORDS[] = {0x0002d9d2, 0x4a300001, 0xb17b5119};
    struct slice node = slice_of("sample@localhost");
    struct buf out = begin();

    (void)state;
    term_put_pid(&out, node, 4711, 3, 0x6b02e4ba);
    assert_written(&out, "8358771073616d706c65406c6f63616c686f737400001267"
                         "000000036b02e4ba");
    out = begin();
    term_put_reference(&out, node, 0x6b02e4ba, WORDS, 3);
    assert_written(&out, "835a0003771073616d706c65406c6f63616c686f73746b02e4"
                         "ba0002d9d24a300001b17b5119");
}

static void what_is_written_up_to_the_maximum_is_not_lost(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 9);
    term_put_version(&out);
    term_put_binary(&out, slice_of("abc"));
    assert_false(out.failed);
    assert_int_equal(out.size, 9);
    term_put_nil(&out);
    assert_true(out.failed);
    assert_int_equal(out.size, 9);
    term_put_text(&out, "abc");
    assert_int_equal(out.size, 9);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_written_as_beam_reads_them),
        cmocka_unit_test(atoms_are_utf8_in_the_shortest_form),
        cmocka_unit_test(an_atom_that_beam_would_refuse_fails_the_buffer),
        cmocka_unit_test(floats_are_eight_bytes_and_finite),
        cmocka_unit_test(containers_are_heads_before_their_elements),
        cmocka_unit_test(binaries_are_their_bytes),
        cmocka_unit_test(raw_terms_are_echoed),
        cmocka_unit_test(pids_and_references_are_those_of_a_real_node),
        cmocka_unit_test(what_is_written_up_to_the_maximum_is_not_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
