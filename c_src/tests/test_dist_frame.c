#include "tests/unit.h"

#include "llm_router/dist/frame.h"

static const char SIGNAL[] = {0, 0, 0, 4, 112, 'a', 'b', 'c'};
static const size_t MAX_BYTES = 64u << 20;
static struct frame frame;
static struct error err;

static enum frame_kind next(const void *bytes, size_t size)
{
    return frame_next(slice_make(bytes, size), MAX_BYTES, &frame, &err);
}

static void a_whole_frame_gives_its_body(void **state)
{
    (void)state;
    assert_int_equal(next(SIGNAL, sizeof(SIGNAL)), FRAME_SIGNAL);
    assert_int_equal(frame.size, sizeof(SIGNAL));
    assert_slice(frame.body, "abc");
}

static void bytes_behind_the_first_frame_are_left_alone(void **state)
{
    const char two[] = {0, 0, 0, 2, 112, 'a', 0, 0, 0, 2, 112, 'b'};

    (void)state;
    assert_int_equal(next(two, sizeof(two)), FRAME_SIGNAL);
    assert_int_equal(frame.size, 6);
    assert_slice(frame.body, "a");
}

static void every_cut_frame_waits_for_more(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof(SIGNAL); size++)
        assert_int_equal(next(SIGNAL, size), FRAME_PARTIAL);
}

static void a_length_of_zero_is_a_tick(void **state)
{
    const char tick[] = {0, 0, 0, 0, 0};

    (void)state;
    assert_int_equal(next(tick, sizeof(tick)), FRAME_TICK);
    assert_int_equal(frame.size, FRAME_HEADER_SIZE);
}

static void a_length_over_the_limit_is_refused_by_its_four_bytes(void **state)
{
    const unsigned char negative[] = {0xFF, 0xFF, 0xFF, 0xFF};
    const unsigned char over[] = {4, 0, 0, 1};
    const unsigned char just[] = {4, 0, 0, 0};

    (void)state;
    assert_int_equal(next(negative, sizeof(negative)), FRAME_MALFORMED);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(next(over, sizeof(over)), FRAME_MALFORMED);
    assert_int_equal(next(just, sizeof(just)), FRAME_PARTIAL);
}

static void a_frame_that_is_not_pass_through_is_refused(void **state)
{
    const unsigned char header[] = {0, 0, 1, 0, 131};

    (void)state;
    assert_int_equal(next(header, sizeof(header)), FRAME_MALFORMED);
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
}

static void a_frame_without_a_control_message_has_an_empty_body(void **state)
{
    const char empty[] = {0, 0, 0, 1, 112};

    (void)state;
    assert_int_equal(next(empty, sizeof(empty)), FRAME_SIGNAL);
    assert_int_equal(frame.body.size, 0);
}

static void what_is_written_can_be_read(void **state)
{
    struct buf out;
    size_t start;

    (void)state;
    buf_init(&out, 1000);
    frame_put_tick(&out);
    start = frame_begin(&out);
    for (int i = 0; i < 300; i++)
        buf_append_byte(&out, 'x');
    assert_true(frame_end(&out, start));
    assert_int_equal(next(out.data, out.size), FRAME_TICK);
    assert_int_equal(next(out.data + 4, out.size - 4), FRAME_SIGNAL);
    assert_int_equal(frame.body.size, 300);
    buf_release(&out);
}

static void a_frame_that_does_not_fit_leaves_no_trace(void **state)
{
    struct buf out;
    size_t start;

    (void)state;
    buf_init(&out, 20);
    start = frame_begin(&out);
    buf_append_text(&out, "fits");
    assert_true(frame_end(&out, start));
    start = frame_begin(&out);
    buf_append_text(&out, "this does not");
    assert_false(frame_end(&out, start));
    assert_int_equal(out.size, 9);
    start = frame_begin(&out);
    assert_true(frame_end(&out, start));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_frame_gives_its_body),
        cmocka_unit_test(bytes_behind_the_first_frame_are_left_alone),
        cmocka_unit_test(every_cut_frame_waits_for_more),
        cmocka_unit_test(a_length_of_zero_is_a_tick),
        cmocka_unit_test(a_length_over_the_limit_is_refused_by_its_four_bytes),
        cmocka_unit_test(a_frame_that_is_not_pass_through_is_refused),
        cmocka_unit_test(a_frame_without_a_control_message_has_an_empty_body),
        cmocka_unit_test(what_is_written_can_be_read),
        cmocka_unit_test(a_frame_that_does_not_fit_leaves_no_trace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
