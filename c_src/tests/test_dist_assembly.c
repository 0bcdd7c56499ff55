#include "tests/unit.h"

#include "llm_router/dist/assembly.h"

enum { MESSAGE_MAX = 100 * 1000, ROOM_MAX = 250 * 1000, HALF = 50 * 1000 };

static struct assembly_room room;
static struct assembly assembly, other;
static struct slice body;
static struct error err;

static int set_up(void **state)
{
    (void)state;
    room = (struct assembly_room){.max_message_bytes = MESSAGE_MAX,
                                  .max_bytes = ROOM_MAX,
                                  .max_connection_bytes = SIZE_MAX};
    assembly_init(&assembly, &room, 4711);
    assembly_init(&other, &room, 4712);
    return 0;
}

/* After every test, whatever it left unfinished. */
static int the_room_is_empty(void **state)
{
    (void)state;
    assembly_release(&assembly);
    assembly_release(&other);
    return room.bytes == 0 ? 0 : -1;
}

static enum assembly_outcome add_at(struct assembly *to, uint64_t now_ms,
                                    enum frame_kind kind,
                                    const struct frame *frame)
{
    body = slice_of(NULL);
    err.code = ERR_NONE;
    return assembly_add(to, kind, frame, now_ms, &body, &err);
}

static enum assembly_outcome first(uint64_t sequence, uint64_t left,
                                   const char *part)
{
    const struct frame frame = {
        .body = slice_of(part), .sequence = sequence, .left = left};

    return add_at(&assembly, 0, FRAME_FIRST, &frame);
}

static enum assembly_outcome later(uint64_t sequence, uint64_t left,
                                   const char *part)
{
    const struct frame frame = {
        .body = slice_of(part), .sequence = sequence, .left = left};

    return add_at(&assembly, 0, FRAME_FRAGMENT, &frame);
}

/* `size` bytes, of which the first says whose they are. */
static enum assembly_outcome bulk(struct assembly *to, enum frame_kind kind,
                                  uint64_t sequence, uint64_t left, size_t size)
{
    static char bytes[2 * MESSAGE_MAX];
    const struct frame frame = {
        .body = {bytes, size}, .sequence = sequence, .left = left};

    bytes[0] = (char)sequence;
    return add_at(to, 0, kind, &frame);
}

static void assert_bulk(char owner, size_t size)
{
    assert_int_equal(body.size, size);
    assert_int_equal(body.data[0], owner);
}

static void fragments_become_the_message(void **state)
{
    (void)state;
    assert_int_equal(first(7, 3, "con"), ASSEMBLY_MORE);
    assert_int_equal(later(7, 2, "tro"), ASSEMBLY_MORE);
    assert_int_equal(later(7, 1, "l"), ASSEMBLY_WHOLE);
    assert_slice(body, "control");
    assembly_done(&assembly);
    assert_int_equal(assembly.whole.capacity, 0);
    assert_int_equal(room.bytes, 0);
}

static void one_fragment_can_be_the_whole_message(void **state)
{
    (void)state;
    assert_int_equal(first(7, 1, "all"), ASSEMBLY_WHOLE);
    assert_slice(body, "all");
}

static void a_sequence_number_may_come_again_for_the_next_message(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(first(7, 2, "o"), ASSEMBLY_MORE);
        assert_int_equal(later(7, 1, "k"), ASSEMBLY_WHOLE);
        assert_slice(body, "ok");
    }
}

static void fragments_of_several_messages_come_in_any_mixture(void **state)
{
    (void)state;
    assert_int_equal(first(1, 3, "a"), ASSEMBLY_MORE);
    assert_int_equal(first(UINT64_MAX, 2, "1"), ASSEMBLY_MORE);
    assert_int_equal(later(1, 2, "b"), ASSEMBLY_MORE);
    assert_int_equal(first(0, 2, "x"), ASSEMBLY_MORE);
    assert_int_equal(later(UINT64_MAX, 1, "2"), ASSEMBLY_WHOLE);
    assert_slice(body, "12");
    assert_int_equal(later(1, 1, "c"), ASSEMBLY_WHOLE);
    assert_slice(body, "abc");
    assert_int_equal(later(0, 1, "y"), ASSEMBLY_WHOLE);
    assert_slice(body, "xy");
}

static void parts_may_be_empty(void **state)
{
    (void)state;
    assert_int_equal(first(1, 3, ""), ASSEMBLY_MORE);
    assert_int_equal(later(1, 2, "a"), ASSEMBLY_MORE);
    assert_int_equal(later(1, 1, ""), ASSEMBLY_WHOLE);
    assert_slice(body, "a");
}

static void connections_do_not_share_sequence_numbers(void **state)
{
    const struct frame end = {
        .body = SLICE_LITERAL("!"), .sequence = 1, .left = 1};

    (void)state;
    assert_int_equal(first(1, 2, "mine"), ASSEMBLY_MORE);
    assert_int_equal(add_at(&other, 0, FRAME_FRAGMENT, &end),
                     ASSEMBLY_MALFORMED);
    assert_int_equal(add_at(&other, 0, FRAME_FIRST, &end), ASSEMBLY_WHOLE);
    assert_slice(body, "!");
    assert_int_equal(add_at(&assembly, 0, FRAME_FRAGMENT, &end),
                     ASSEMBLY_WHOLE);
    assert_slice(body, "mine!");
}

static void a_message_of_just_the_limit_is_taken(void **state)
{
    (void)state;
    assert_int_equal(bulk(&assembly, FRAME_FIRST, 1, 2, HALF), ASSEMBLY_MORE);
    assert_int_equal(bulk(&assembly, FRAME_FRAGMENT, 1, 1, HALF),
                     ASSEMBLY_WHOLE);
    assert_bulk(1, MESSAGE_MAX);
}

static void a_first_part_over_the_limit_is_refused_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(bulk(&assembly, FRAME_FIRST, 1, 2, MESSAGE_MAX + 1),
                     ASSEMBLY_REFUSED);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_bulk(1, MESSAGE_MAX + 1);
    assert_int_equal(later(1, 1, "rest"), ASSEMBLY_MORE);
    assert_int_equal(room.bytes, 0);
    assert_int_equal(bulk(&assembly, FRAME_FIRST, 1, 1, MESSAGE_MAX + 1),
                     ASSEMBLY_REFUSED);
    assert_int_equal(room.bytes, 0);
}

static void
a_later_part_over_the_limit_is_refused_with_the_beginning(void **state)
{
    size_t before;

    (void)state;
    assert_int_equal(first(2, 2, "an"), ASSEMBLY_MORE);
    before = room.bytes;
    assert_int_equal(first(1, 5, "beginning"), ASSEMBLY_MORE);
    assert_int_equal(bulk(&assembly, FRAME_FRAGMENT, 1, 4, MESSAGE_MAX),
                     ASSEMBLY_REFUSED);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_slice(body, "beginning");
    assembly_done(&assembly);
    assert_int_equal(later(1, 3, "small enough"), ASSEMBLY_MORE);
    assert_int_equal(bulk(&assembly, FRAME_FRAGMENT, 1, 2, MESSAGE_MAX),
                     ASSEMBLY_MORE);
    assert_int_equal(later(1, 1, "its end"), ASSEMBLY_MORE);
    assert_int_equal(room.bytes, before);
    assert_int_equal(later(2, 1, "other"), ASSEMBLY_WHOLE);
    assert_slice(body, "another");
    assert_int_equal(first(1, 1, "again"), ASSEMBLY_WHOLE);
    assert_slice(body, "again");
}

static void a_refused_message_without_a_beginning_shows_the_part(void **state)
{
    (void)state;
    assert_int_equal(first(1, 2, ""), ASSEMBLY_MORE);
    assert_int_equal(bulk(&assembly, FRAME_FRAGMENT, 1, 1, MESSAGE_MAX + 1),
                     ASSEMBLY_REFUSED);
    assert_bulk(1, MESSAGE_MAX + 1);
}

static void without_room_a_message_is_refused_and_the_others_go_on(void **state)
{
    (void)state;
    for (unsigned char i = 1; i <= 4; i++)
        assert_int_equal(bulk(&assembly, FRAME_FIRST, i, 2, HALF),
                         ASSEMBLY_MORE);
    assert_int_equal(bulk(&assembly, FRAME_FIRST, 5, 3, HALF),
                     ASSEMBLY_REFUSED);
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_bulk(5, HALF);
    assert_int_equal(later(5, 2, "not taken"), ASSEMBLY_MORE);
    for (unsigned char i = 1; i <= 4; i++) {
        assert_int_equal(later(i, 1, "end"), ASSEMBLY_WHOLE);
        assert_bulk((char)i, HALF + 3);
    }
    assert_int_equal(later(5, 1, "not even now"), ASSEMBLY_MORE);
    assert_int_equal(room.bytes, 0);
}

static void a_message_that_grows_out_of_the_room_gives_it_back(void **state)
{
    (void)state;
    for (unsigned char i = 1; i <= 4; i++)
        assert_int_equal(bulk(&assembly, FRAME_FIRST, i, 2, HALF),
                         ASSEMBLY_MORE);
    assert_int_equal(bulk(&assembly, FRAME_FRAGMENT, 4, 1, HALF),
                     ASSEMBLY_REFUSED);
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_bulk(4, HALF);
    assert_int_equal(bulk(&assembly, FRAME_FRAGMENT, 3, 1, HALF),
                     ASSEMBLY_WHOLE);
    assert_bulk(3, MESSAGE_MAX);
}

static void all_connections_share_the_room(void **state)
{
    (void)state;
    for (unsigned char i = 1; i <= 4; i++)
        assert_int_equal(
            bulk(i % 2 ? &assembly : &other, FRAME_FIRST, i, 2, HALF),
            ASSEMBLY_MORE);
    assert_int_equal(bulk(&other, FRAME_FIRST, 5, 2, HALF), ASSEMBLY_REFUSED);
    assembly_release(&assembly);
    assembly_init(&assembly, &room, 4711);
    assert_int_equal(bulk(&other, FRAME_FIRST, 6, 2, HALF), ASSEMBLY_MORE);
}

static void one_connection_has_a_share_of_the_room(void **state)
{
    (void)state;
    room.max_connection_bytes = 3 * HALF;
    assert_int_equal(bulk(&assembly, FRAME_FIRST, 1, 2, HALF), ASSEMBLY_MORE);
    assert_int_equal(bulk(&assembly, FRAME_FIRST, 2, 2, HALF), ASSEMBLY_MORE);
    assert_int_equal(bulk(&assembly, FRAME_FIRST, 3, 2, HALF),
                     ASSEMBLY_REFUSED);
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_int_equal(bulk(&other, FRAME_FIRST, 3, 2, HALF), ASSEMBLY_MORE);
}

static void messages_without_bytes_take_room_too(void **state)
{
    uint64_t sequence = 0;

    (void)state;
    while (first(sequence, 2, "") == ASSEMBLY_MORE)
        assert_true(++sequence < ROOM_MAX);
    assert_int_equal(err.code, ERR_OVERLOADED);
}

static void there_is_a_maximum_of_messages_at_once(void **state)
{
    uint64_t sequence = 0;

    (void)state;
    room.max_bytes = SIZE_MAX;
    while (first(sequence, 2, "") == ASSEMBLY_MORE)
        assert_true(++sequence < 1 << 18);
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    assert_int_equal(later(0, 1, "its end"), ASSEMBLY_WHOLE);
    assert_int_equal(first(sequence, 2, ""), ASSEMBLY_MORE);
}

static void assert_malformed(enum assembly_outcome outcome)
{
    assert_int_equal(outcome, ASSEMBLY_MALFORMED);
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
}

static void fragments_in_another_order_are_malformed(void **state)
{
    (void)state;
    assert_malformed(later(1, 1, "of no message"));
    assert_malformed(first(1, 0, "none left"));
    assert_int_equal(first(1, 4, "a"), ASSEMBLY_MORE);
    assert_malformed(first(1, 4, "twice"));
    assert_malformed(first(1, 3, "twice"));
    assert_malformed(later(1, 4, "the same once more"));
    assert_malformed(later(1, 2, "one left out"));
    assert_malformed(later(1, 0, "none left"));
    assert_malformed(later(2, 3, "of another"));
    assert_int_equal(later(1, 3, "b"), ASSEMBLY_MORE);
    assert_int_equal(later(1, 2, "c"), ASSEMBLY_MORE);
    assert_int_equal(later(1, 1, "d"), ASSEMBLY_WHOLE);
    assert_slice(body, "abcd");
    assert_malformed(later(1, 1, "after its end"));
    assert_malformed(later(1, 0, "after its end"));
}

static void the_rest_of_a_refused_message_must_be_in_order(void **state)
{
    (void)state;
    assert_int_equal(bulk(&assembly, FRAME_FIRST, 1, 4, MESSAGE_MAX + 1),
                     ASSEMBLY_REFUSED);
    assert_malformed(first(1, 4, "twice"));
    assert_malformed(later(1, 2, "one left out"));
    assert_int_equal(later(1, 3, "in order"), ASSEMBLY_MORE);
}

static void a_message_with_no_end_in_sight_stays_within_the_limit(void **state)
{
    uint64_t left = UINT64_MAX;
    int taken = 0;

    (void)state;
    assert_int_equal(bulk(&assembly, FRAME_FIRST, 1, left, 1000),
                     ASSEMBLY_MORE);
    while (bulk(&assembly, FRAME_FRAGMENT, 1, --left, 1000) == ASSEMBLY_MORE)
        taken++;
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(taken, MESSAGE_MAX / 1000 - 1);
    assert_bulk(1, MESSAGE_MAX);
}

static enum assembly_outcome add_old(uint64_t now_ms, enum frame_kind kind,
                                     uint64_t sequence, uint64_t left)
{
    const struct frame frame = {
        .body = SLICE_LITERAL("part"), .sequence = sequence, .left = left};

    return add_at(&assembly, now_ms, kind, &frame);
}

static void messages_without_a_fragment_for_long_are_given_up(void **state)
{
    size_t each;

    (void)state;
    add_old(100, FRAME_FIRST, 1, 3);
    each = room.bytes;
    add_old(101, FRAME_FIRST, 2, 3);
    add_old(102, FRAME_FIRST, 3, 3);
    add_old(199, FRAME_FRAGMENT, 1, 2);
    assembly_expire(&assembly, 101);
    assert_int_equal(room.bytes, 3 * each + 4);
    assembly_expire(&assembly, 150);
    assembly_expire(&assembly, 150);
    assert_int_equal(room.bytes, 3 * each + 4 - 2 * 4);
    assert_int_equal(add_old(200, FRAME_FRAGMENT, 1, 1), ASSEMBLY_WHOLE);
    assert_slice(body, "partpartpart");
    assert_int_equal(add_old(200, FRAME_FRAGMENT, 2, 2), ASSEMBLY_MORE);
    assert_int_equal(add_old(200, FRAME_FRAGMENT, 2, 1), ASSEMBLY_MORE);
    assert_int_equal(add_old(201, FRAME_FIRST, 2, 1), ASSEMBLY_WHOLE);
    assert_slice(body, "part");
}

static void many_messages_at_once_are_kept_apart(void **state)
{
    enum { MESSAGES = 1000, PARTS = 50 };

    (void)state;
    room.max_bytes = MESSAGES * 1000;
    for (uint64_t left = PARTS; left > 0; left--) {
        for (uint64_t i = 0; i < MESSAGES; i++) {
            const uint64_t sequence = i * UINT64_C(0x100000001);
            const struct frame frame = {.body = {(const char *)&sequence, 8},
                                        .sequence = sequence,
                                        .left = left};
            enum frame_kind kind = left == PARTS ? FRAME_FIRST : FRAME_FRAGMENT;

            assert_int_equal(add_at(&assembly, 0, kind, &frame),
                             left > 1 ? ASSEMBLY_MORE : ASSEMBLY_WHOLE);
            assert_int_equal(body.size, left > 1 ? 0 : 8 * PARTS);
            for (size_t at = 0; at < body.size; at += 8)
                assert_memory_equal(body.data + at, &sequence, 8);
        }
    }
    assert_int_equal(room.bytes, 0);
}

#define TEST(name) \
    cmocka_unit_test_setup_teardown(name, set_up, the_room_is_empty)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fragments_become_the_message),
        TEST(one_fragment_can_be_the_whole_message),
        TEST(a_sequence_number_may_come_again_for_the_next_message),
        TEST(fragments_of_several_messages_come_in_any_mixture),
        TEST(parts_may_be_empty),
        TEST(connections_do_not_share_sequence_numbers),
        TEST(a_message_of_just_the_limit_is_taken),
        TEST(a_first_part_over_the_limit_is_refused_as_it_is),
        TEST(a_later_part_over_the_limit_is_refused_with_the_beginning),
        TEST(a_refused_message_without_a_beginning_shows_the_part),
        TEST(without_room_a_message_is_refused_and_the_others_go_on),
        TEST(a_message_that_grows_out_of_the_room_gives_it_back),
        TEST(all_connections_share_the_room),
        TEST(one_connection_has_a_share_of_the_room),
        TEST(messages_without_bytes_take_room_too),
        TEST(there_is_a_maximum_of_messages_at_once),
        TEST(fragments_in_another_order_are_malformed),
        TEST(the_rest_of_a_refused_message_must_be_in_order),
        TEST(a_message_with_no_end_in_sight_stays_within_the_limit),
        TEST(messages_without_a_fragment_for_long_are_given_up),
        TEST(many_messages_at_once_are_kept_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
