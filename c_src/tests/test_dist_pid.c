#include "tests/unit.h"

#include "llm_router/dist/pid.h"
#include "llm_router/term/writer.h"

static const struct identity SELF = {SLICE_LITERAL("llm_router@localhost"),
                                     0x6b02eab5};
static const struct identity OTHER_LIFE = {
    SLICE_LITERAL("llm_router@localhost"), 0x6b02eab6};
static const struct identity OTHER_NODE = {SLICE_LITERAL("llm_router@remote"),
                                           0x6b02eab5};
static const uint64_t NUMBERS[] = {
    1, 2, 0x3FFFF, 0x40000, 0x0FFFFFFF, 0x10000000, 0x123456789AB,
};
enum { NUMBER_COUNT = sizeof(NUMBERS) / sizeof(NUMBERS[0]) };

static struct buf out;

static int setup(void **state)
{
    (void)state;
    buf_init(&out, 4096);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_release(&out);
    return 0;
}

static struct term written_pid(const struct identity *self, uint64_t number)
{
    buf_clear(&out);
    pid_put(&out, self, number);
    return term_from_raw(buf_slice(&out));
}

static struct term written_reference(const struct identity *self,
                                     uint64_t number)
{
    buf_clear(&out);
    reference_put(&out, self, number);
    return term_from_raw(buf_slice(&out));
}

static void numbers_come_back_from_pids_and_references(void **state)
{
    (void)state;
    for (int i = 0; i < NUMBER_COUNT; i++) {
        uint64_t number = NUMBERS[i];

        assert_int_equal(pid_number(&SELF, written_pid(&SELF, number)), number);
        assert_int_equal(
            reference_number(&SELF, written_reference(&SELF, number)), number);
    }
}

static void
what_another_node_or_an_earlier_life_made_has_no_number(void **state)
{
    (void)state;
    assert_int_equal(pid_number(&SELF, written_pid(&OTHER_LIFE, 1)), 0);
    assert_int_equal(pid_number(&SELF, written_pid(&OTHER_NODE, 1)), 0);
    assert_int_equal(reference_number(&SELF, written_reference(&OTHER_LIFE, 1)),
                     0);
    assert_int_equal(reference_number(&SELF, written_reference(&OTHER_NODE, 1)),
                     0);
    assert_int_equal(pid_number(&SELF, written_reference(&SELF, 1)), 0);
    assert_int_equal(reference_number(&SELF, written_pid(&SELF, 1)), 0);
}

static void references_of_other_sizes_are_not_ours(void **state)
{
    const uint32_t words[5] = {1, 2, 3, 4, 5};

    (void)state;
    for (size_t count = 1; count <= 5; count++) {
        if (count == 3)
            continue;
        buf_clear(&out);
        term_put_reference(&out, SELF.name, SELF.creation, words, count);
        assert_int_equal(
            reference_number(&SELF, term_from_raw(buf_slice(&out))), 0);
    }
}

static void an_id_over_28_bits_is_not_ours(void **state)
{
    (void)state;
    term_put_pid(&out, SELF.name, 0x10000001, 0, SELF.creation);
    assert_int_equal(pid_number(&SELF, term_from_raw(buf_slice(&out))), 0);
}

static void both_encodings_of_a_pid_can_be_read(void **state)
{
    static const char old[] = "\x67\x77\x03"
                              "a@b"
                              "\x00\x00\x00\x07"
                              "\x00\x00\x00\x08"
                              "\x02";
    struct pid pid;

    (void)state;
    assert_true(
        pid_read(term_from_raw(slice_make(old, sizeof(old) - 1)), &pid));
    assert_slice(pid.node, "a@b");
    assert_int_equal(pid.id, 7);
    assert_int_equal(pid.serial, 8);
    assert_int_equal(pid.creation, 2);
    term_put_pid(&out, slice_of("c@d"), 9, 10, 0xFFFFFFFF);
    assert_true(pid_read(term_from_raw(buf_slice(&out)), &pid));
    assert_slice(pid.node, "c@d");
    assert_int_equal(pid.creation, 0xFFFFFFFF);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(numbers_come_back_from_pids_and_references),
        TEST(what_another_node_or_an_earlier_life_made_has_no_number),
        TEST(references_of_other_sizes_are_not_ours),
        TEST(an_id_over_28_bits_is_not_ours),
        TEST(both_encodings_of_a_pid_can_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
