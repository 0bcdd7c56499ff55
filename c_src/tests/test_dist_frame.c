#include "tests/unit.h"

#include "llm_router/dist/frame.h"

static const unsigned char PASSING[] = {0, 0, 0, 5, 112, 131, 'a', 'b', 'c'};
static const unsigned char HEADED[] = {0, 0, 0, 6, 131, 68, 0, 'a', 'b', 'c'};
static const unsigned char FIRST[] = {
    0,   0,   0,   22,             /* length */
    131, 69,                       /* first fragment */
    1,   2,   3,   4,  5, 6, 7, 8, /* sequence */
    0,   0,   0,   0,  0, 0, 1, 2, /* left */
    0,   'a', 'b', 'c'};
static const unsigned char LATER[] = {
    0,   0,   0,   19,                      /* length */
    131, 70,                                /* one more */
    255, 255, 255, 255, 255, 255, 255, 254, /* sequence */
    0,   0,   0,   0,   0,   0,   0,   1,   /* left */
    'd'};
static const size_t MAX_BYTES = 64u << 20;
static struct frame frame;
static struct error err;

static enum frame_kind next(const void *bytes, size_t size,
                            enum frame_form form)
{
    return frame_next(slice_make(bytes, size), form, MAX_BYTES, &frame, &err);
}

static void assert_malformed(const void *bytes, size_t size,
                             enum frame_form form)
{
    err.code = ERR_NONE;
    assert_int_equal(next(bytes, size, form), FRAME_MALFORMED);
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
}

static void a_whole_frame_gives_its_body_in_either_form(void **state)
{
    (void)state;
    assert_int_equal(next(PASSING, sizeof(PASSING), FRAME_PASS_THROUGH),
                     FRAME_SIGNAL);
    assert_int_equal(frame.size, sizeof(PASSING));
    assert_slice(frame.body, "abc");
    assert_int_equal(next(HEADED, sizeof(HEADED), FRAME_HEADED), FRAME_SIGNAL);
    assert_int_equal(frame.size, sizeof(HEADED));
    assert_slice(frame.body, "abc");
}

static void a_first_fragment_gives_its_numbers_and_control(void **state)
{
    (void)state;
    assert_int_equal(next(FIRST, sizeof(FIRST), FRAME_HEADED), FRAME_FIRST);
    assert_int_equal(frame.size, sizeof(FIRST));
    assert_true(frame.sequence == UINT64_C(0x0102030405060708));
    assert_true(frame.left == 258);
    assert_slice(frame.body, "abc");
}

static void a_later_fragment_gives_its_numbers_and_part(void **state)
{
    (void)state;
    assert_int_equal(next(LATER, sizeof(LATER), FRAME_HEADED), FRAME_FRAGMENT);
    assert_int_equal(frame.size, sizeof(LATER));
    assert_true(frame.sequence == UINT64_MAX - 1);
    assert_true(frame.left == 1);
    assert_slice(frame.body, "d");
}

static void bytes_behind_the_first_frame_are_left_alone(void **state)
{
    const unsigned char two[] = {0, 0, 0, 3, 112, 131, 'a',
                                 0, 0, 0, 3, 112, 131, 'b'};

    (void)state;
    assert_int_equal(next(two, sizeof(two), FRAME_PASS_THROUGH), FRAME_SIGNAL);
    assert_int_equal(frame.size, 7);
    assert_slice(frame.body, "a");
}

static void every_cut_frame_waits_for_more(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof(PASSING); size++)
        assert_int_equal(next(PASSING, size, FRAME_PASS_THROUGH),
                         FRAME_PARTIAL);
    for (size_t size = 0; size < sizeof(HEADED); size++)
        assert_int_equal(next(HEADED, size, FRAME_HEADED), FRAME_PARTIAL);
    for (size_t size = 0; size < sizeof(FIRST); size++)
        assert_int_equal(next(FIRST, size, FRAME_HEADED), FRAME_PARTIAL);
    for (size_t size = 0; size < sizeof(LATER); size++)
        assert_int_equal(next(LATER, size, FRAME_HEADED), FRAME_PARTIAL);
}

/* The length says that the frame is whole: its header is not. */
static void a_frame_that_ends_inside_its_header_is_refused(void **state)
{
    unsigned char bytes[sizeof(FIRST)];

    (void)state;
    memcpy(bytes, PASSING, sizeof(PASSING));
    bytes[3] = 1;
    assert_malformed(bytes, 5, FRAME_PASS_THROUGH);
    memcpy(bytes, HEADED, sizeof(HEADED));
    for (unsigned char length = 1; length < 3; length++) {
        bytes[3] = length;
        assert_malformed(bytes, 4u + length, FRAME_HEADED);
    }
    memcpy(bytes, FIRST, sizeof(FIRST));
    for (unsigned char length = 1; length < 19; length++) {
        bytes[3] = length;
        assert_malformed(bytes, 4u + length, FRAME_HEADED);
    }
    memcpy(bytes, LATER, sizeof(LATER));
    for (unsigned char length = 1; length < 18; length++) {
        bytes[3] = length;
        assert_malformed(bytes, 4u + length, FRAME_HEADED);
    }
}

static void nothing_behind_a_whole_header_is_an_empty_body(void **state)
{
    unsigned char bytes[sizeof(FIRST)];

    (void)state;
    memcpy(bytes, PASSING, sizeof(PASSING));
    bytes[3] = 2;
    assert_int_equal(next(bytes, 6, FRAME_PASS_THROUGH), FRAME_SIGNAL);
    assert_int_equal(frame.body.size, 0);
    memcpy(bytes, HEADED, sizeof(HEADED));
    bytes[3] = 3;
    assert_int_equal(next(bytes, 7, FRAME_HEADED), FRAME_SIGNAL);
    assert_int_equal(frame.body.size, 0);
    memcpy(bytes, FIRST, sizeof(FIRST));
    bytes[3] = 19;
    assert_int_equal(next(bytes, 23, FRAME_HEADED), FRAME_FIRST);
    assert_int_equal(frame.body.size, 0);
    memcpy(bytes, LATER, sizeof(LATER));
    bytes[3] = 18;
    assert_int_equal(next(bytes, 22, FRAME_HEADED), FRAME_FRAGMENT);
    assert_int_equal(frame.body.size, 0);
}

static void a_length_of_zero_is_a_tick_in_either_form(void **state)
{
    const char tick[] = {0, 0, 0, 0, 0};

    (void)state;
    assert_int_equal(next(tick, sizeof(tick), FRAME_PASS_THROUGH), FRAME_TICK);
    assert_int_equal(frame.size, FRAME_LENGTH_SIZE);
    assert_int_equal(next(tick, sizeof(tick), FRAME_HEADED), FRAME_TICK);
    assert_int_equal(frame.size, FRAME_LENGTH_SIZE);
}

static void a_length_over_the_limit_is_refused_by_its_four_bytes(void **state)
{
    const unsigned char negative[] = {0xFF, 0xFF, 0xFF, 0xFF};
    const unsigned char over[] = {4, 0, 0, 1};
    const unsigned char just[] = {4, 0, 0, 0};

    (void)state;
    for (int form = FRAME_PASS_THROUGH; form <= FRAME_HEADED; form++) {
        err.code = ERR_NONE;
        assert_int_equal(
            next(negative, sizeof(negative), (enum frame_form)form),
            FRAME_MALFORMED);
        assert_int_equal(err.code, ERR_TOO_LARGE);
        assert_int_equal(next(over, sizeof(over), (enum frame_form)form),
                         FRAME_MALFORMED);
        assert_int_equal(next(just, sizeof(just), (enum frame_form)form),
                         FRAME_PARTIAL);
    }
}

static void a_frame_of_the_other_form_is_refused_by_its_first_byte(void **state)
{
    const unsigned char headed[] = {0, 0, 1, 0, 131};
    const unsigned char passing[] = {0, 0, 1, 0, 112};

    (void)state;
    assert_malformed(headed, sizeof(headed), FRAME_PASS_THROUGH);
    assert_int_equal(next(headed, sizeof(headed), FRAME_HEADED), FRAME_PARTIAL);
    assert_malformed(passing, sizeof(passing), FRAME_HEADED);
    assert_int_equal(next(passing, sizeof(passing), FRAME_PASS_THROUGH),
                     FRAME_PARTIAL);
}

static void a_control_message_of_another_version_is_refused(void **state)
{
    unsigned char bytes[sizeof(PASSING)];

    (void)state;
    memcpy(bytes, PASSING, sizeof(bytes));
    bytes[5] = 130;
    assert_malformed(bytes, sizeof(bytes), FRAME_PASS_THROUGH);
}

static void a_header_of_another_kind_or_with_atoms_is_refused(void **state)
{
    unsigned char bytes[sizeof(FIRST)];

    (void)state;
    memcpy(bytes, HEADED, sizeof(HEADED));
    bytes[6] = 1;
    assert_malformed(bytes, sizeof(HEADED), FRAME_HEADED);
    for (unsigned kind = 0; kind < 256; kind++) {
        memcpy(bytes, FIRST, sizeof(FIRST));
        bytes[5] = (unsigned char)kind;
        if (kind < 68 || kind > 70)
            assert_malformed(bytes, sizeof(FIRST), FRAME_HEADED);
    }
    memcpy(bytes, FIRST, sizeof(FIRST));
    bytes[22] = 1;
    assert_malformed(bytes, sizeof(FIRST), FRAME_HEADED);
}

static void assert_written_can_be_read(enum frame_form form)
{
    struct buf out;
    size_t start;

    buf_init(&out, 1000);
    frame_put_tick(&out);
    start = frame_begin(&out, form);
    for (int i = 0; i < 300; i++)
        buf_append_byte(&out, 'x');
    assert_true(frame_end(&out, start));
    assert_int_equal(next(out.data, out.size, form), FRAME_TICK);
    assert_int_equal(next(out.data + 4, out.size - 4, form), FRAME_SIGNAL);
    assert_int_equal(frame.size, out.size - 4);
    assert_int_equal(frame.body.size, 300);
    buf_release(&out);
}

static void what_is_written_can_be_read(void **state)
{
    (void)state;
    assert_written_can_be_read(FRAME_PASS_THROUGH);
    assert_written_can_be_read(FRAME_HEADED);
}

static void the_content_of_a_headed_frame_is_its_body(void **state)
{
    struct buf out;
    size_t start;

    (void)state;
    buf_init(&out, 1000);
    start = frame_begin(&out, FRAME_HEADED);
    assert_int_equal(frame_content(buf_slice(&out)).size, 0);
    buf_append_text(&out, "control and payload");
    assert_true(frame_end(&out, start));
    assert_slice(frame_content(buf_slice(&out)), "control and payload");
    assert_int_equal(next(out.data, out.size, FRAME_HEADED), FRAME_SIGNAL);
    assert_slice(frame.body, "control and payload");
    buf_release(&out);
}

static void written_parts_are_the_bytes_of_the_protocol(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 1000);
    frame_put_part(&out, FRAME_PART_FIRST, UINT64_C(0x0102030405060708), 258,
                   SLICE_LITERAL("abc"));
    assert_int_equal(out.size, sizeof(FIRST));
    assert_memory_equal(out.data, FIRST, sizeof(FIRST));
    buf_clear(&out);
    frame_put_part(&out, FRAME_PART_LATER, UINT64_MAX - 1, 1,
                   SLICE_LITERAL("d"));
    assert_int_equal(out.size, sizeof(LATER));
    assert_memory_equal(out.data, LATER, sizeof(LATER));
    buf_release(&out);
}

static void parts_of_the_largest_size_can_be_read(void **state)
{
    static char part[FRAME_PART_SIZE];
    struct buf out;

    (void)state;
    memset(part, 'x', sizeof(part));
    buf_init(&out, 4 * FRAME_PART_SIZE);
    frame_put_part(&out, FRAME_PART_FIRST, 7, UINT64_MAX,
                   slice_make(part, sizeof(part)));
    frame_put_part(&out, FRAME_PART_LATER, 7, UINT64_MAX - 1,
                   slice_make(part, sizeof(part)));
    assert_int_equal(next(out.data, out.size, FRAME_HEADED), FRAME_FIRST);
    assert_true(frame.sequence == 7 && frame.left == UINT64_MAX);
    assert_true(slice_equal(frame.body, slice_make(part, sizeof(part))));
    buf_drop_front(&out, frame.size);
    assert_int_equal(next(out.data, out.size, FRAME_HEADED), FRAME_FRAGMENT);
    assert_true(frame.sequence == 7 && frame.left == UINT64_MAX - 1);
    assert_true(slice_equal(frame.body, slice_make(part, sizeof(part))));
    assert_int_equal(frame.size, out.size);
    buf_release(&out);
}

static void a_frame_that_does_not_fit_leaves_no_trace(void **state)
{
    struct buf out;
    size_t start;

    (void)state;
    buf_init(&out, 20);
    start = frame_begin(&out, FRAME_PASS_THROUGH);
    buf_append_text(&out, "fits");
    assert_true(frame_end(&out, start));
    start = frame_begin(&out, FRAME_PASS_THROUGH);
    buf_append_text(&out, "this does not");
    assert_false(frame_end(&out, start));
    assert_int_equal(out.size, 10);
    start = frame_begin(&out, FRAME_HEADED);
    buf_append_text(&out, "yes");
    assert_true(frame_end(&out, start));
    assert_int_equal(out.size, 20);
    start = frame_begin(&out, FRAME_HEADED);
    assert_false(frame_end(&out, start));
    assert_int_equal(out.size, 20);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_frame_gives_its_body_in_either_form),
        cmocka_unit_test(a_first_fragment_gives_its_numbers_and_control),
        cmocka_unit_test(a_later_fragment_gives_its_numbers_and_part),
        cmocka_unit_test(bytes_behind_the_first_frame_are_left_alone),
        cmocka_unit_test(every_cut_frame_waits_for_more),
        cmocka_unit_test(a_frame_that_ends_inside_its_header_is_refused),
        cmocka_unit_test(nothing_behind_a_whole_header_is_an_empty_body),
        cmocka_unit_test(a_length_of_zero_is_a_tick_in_either_form),
        cmocka_unit_test(a_length_over_the_limit_is_refused_by_its_four_bytes),
        cmocka_unit_test(
            a_frame_of_the_other_form_is_refused_by_its_first_byte),
        cmocka_unit_test(a_control_message_of_another_version_is_refused),
        cmocka_unit_test(a_header_of_another_kind_or_with_atoms_is_refused),
        cmocka_unit_test(what_is_written_can_be_read),
        cmocka_unit_test(the_content_of_a_headed_frame_is_its_body),
        cmocka_unit_test(written_parts_are_the_bytes_of_the_protocol),
        cmocka_unit_test(parts_of_the_largest_size_can_be_read),
        cmocka_unit_test(a_frame_that_does_not_fit_leaves_no_trace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
