#include "tests/unit.h"

#include "llm_router/base/mem.h"
#include "llm_router/dist/assembly.h"
#include "llm_router/dist/outbox.h"

enum { ONE_PROCESS = 7, ANOTHER = 8 }; /* receivers */
enum {
    MAX_BYTES = 64 << 20,
    HEAD = 7,      /* of a headed frame */
    PART_HEAD = 22 /* of a later fragment; the first has one byte more */
};

static struct outbox outbox;
static struct buf taken;    /* the last piece of output, */
static struct slice unread; /* and what is left of it */
/* The peer's side. */
static struct assembly_room room;
static struct assembly assembly;
static struct frame frame;
static struct slice body;

/* Content is its name and then the pattern from a place of its own. */
static char pattern[8 << 20 | 127];

static int make_pattern(void **state)
{
    uint32_t value = 1;

    (void)state;
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (char)(value >> 24);
        value = value * 1664525 + 1013904223;
    }
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    outbox_init(&outbox, FRAME_HEADED);
    buf_init(&taken, SIZE_MAX);
    room = (struct assembly_room){.max_message_bytes = MAX_BYTES,
                                  .max_bytes = MAX_BYTES,
                                  .max_connection_bytes = MAX_BYTES};
    assembly_init(&assembly, &room, 4711);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    outbox_release(&outbox);
    buf_release(&taken);
    assembly_release(&assembly);
    return room.bytes == 0 ? 0 : -1;
}

static bool put_within(size_t max_bytes, char name, size_t size,
                       uint64_t receiver)
{
    struct buf *out = outbox_begin(&outbox, max_bytes);

    if (size > 0)
        buf_append_byte(out, name);
    if (size > 1)
        buf_append(out, pattern + name, size - 1);
    return outbox_end(&outbox, receiver);
}

static void put(char name, size_t size, uint64_t receiver)
{
    assert_true(put_within(MAX_BYTES, name, size, receiver));
}

static void assert_bytes(char name, size_t size)
{
    assert_int_equal(body.size, size);
    assert_int_equal(body.data[0], name);
    assert_int_equal(memcmp(body.data + 1, pattern + name, size - 1), 0);
}

/* The next piece of output into `taken`; false: there is none. */
static bool take(void)
{
    buf_clear(&taken);
    outbox_take(&outbox, &taken);
    assert_false(taken.failed);
    unread = buf_slice(&taken);
    return taken.size > 0;
}

/* The next frame; left is 0 of one that is no fragment. */
static enum frame_kind next(void)
{
    struct error err;
    enum frame_kind kind;

    frame.left = 0;
    kind = frame_next(unread, FRAME_HEADED, MAX_BYTES, &frame, &err);
    assert_int_not_equal(kind, FRAME_MALFORMED);
    return kind;
}

static void assert_next(enum frame_kind kind, uint64_t left)
{
    assert_int_equal(next(), kind);
    assert_int_equal(frame.left, left);
    body = frame.body;
}

static void drop(void)
{
    unread.data += frame.size;
    unread.size -= frame.size;
}

/* The next whole message; false: none ends there. Its bytes are in
 * `body` until the next call. */
static bool receive(void)
{
    for (;; drop()) {
        enum frame_kind kind = next();
        struct error err;

        if (kind == FRAME_PARTIAL)
            return false;
        if (kind == FRAME_TICK)
            continue;
        body = frame.body;
        if (kind == FRAME_SIGNAL)
            return true;
        switch (assembly_add(&assembly, kind, &frame, 0, &body, &err)) {
        case ASSEMBLY_MORE:
            break;
        case ASSEMBLY_WHOLE:
            return true;
        case ASSEMBLY_REFUSED:
        case ASSEMBLY_MALFORMED:
            fail_msg("%s", err.message);
        }
    }
}

/* The names of the whole messages in the order in which they end, until the
 * outbox is empty; one space for each piece of output. */
static const char *receive_all(void)
{
    static char names[4096];
    size_t size = 0;

    while (take()) {
        for (; receive(); drop()) {
            assert_true(size < sizeof(names) - 2);
            assert_bytes(body.data[0], body.size);
            names[size++] = body.data[0];
        }
        assert_int_equal(unread.size, 0);
        names[size++] = ' ';
    }
    names[size] = '\0';
    assert_int_equal(outbox_size(&outbox), 0);
    return names;
}

static void small_frames_go_out_at_once_in_the_order_they_came(void **state)
{
    (void)state;
    put('a', 10, OUTBOX_ANY_ORDER);
    put('b', 1, ONE_PROCESS);
    put('c', FRAME_PART_SIZE, OUTBOX_ANY_ORDER);
    put('d', 1000, ONE_PROCESS);
    assert_int_equal(outbox_size(&outbox),
                     10 + 1 + FRAME_PART_SIZE + 1000 + 4 * HEAD);
    assert_string_equal(receive_all(), "abcd ");
}

static void an_empty_outbox_gives_nothing(void **state)
{
    (void)state;
    assert_int_equal(outbox_size(&outbox), 0);
    assert_false(take());
}

static void a_frame_of_just_a_part_is_written_whole(void **state)
{
    (void)state;
    put('a', FRAME_PART_SIZE, ONE_PROCESS);
    put('b', FRAME_PART_SIZE, OUTBOX_ANY_ORDER);
    assert_true(take());
    assert_next(FRAME_SIGNAL, 0);
    assert_bytes('a', FRAME_PART_SIZE);
    drop();
    assert_next(FRAME_SIGNAL, 0);
    assert_bytes('b', FRAME_PART_SIZE);
}

static void a_byte_more_than_a_part_makes_two(void **state)
{
    (void)state;
    put('a', FRAME_PART_SIZE + 1, OUTBOX_ANY_ORDER);
    assert_int_equal(outbox_size(&outbox), FRAME_PART_SIZE + 1);
    assert_true(take());
    assert_int_equal(outbox_size(&outbox), 0);
    assert_next(FRAME_FIRST, 2);
    assert_int_equal(frame.body.size, FRAME_PART_SIZE);
    drop();
    assert_next(FRAME_FRAGMENT, 1);
    assert_int_equal(frame.body.size, 1);
    drop();
    assert_int_equal(unread.size, 0);
}

static void the_fragments_of_a_large_frame_count_down_to_one(void **state)
{
    enum { PARTS = 100, SIZE = PARTS * FRAME_PART_SIZE - 5 };
    uint64_t left = PARTS, sequence = 0;

    (void)state;
    put('L', SIZE, OUTBOX_ANY_ORDER);
    while (take()) {
        for (; next() != FRAME_PARTIAL; drop(), left--) {
            sequence = left == PARTS ? frame.sequence : sequence;
            assert_next(left == PARTS ? FRAME_FIRST : FRAME_FRAGMENT, left);
            assert_true(frame.sequence == sequence);
            assert_int_equal(frame.body.size,
                             left > 1 ? FRAME_PART_SIZE : FRAME_PART_SIZE - 5);
        }
    }
    assert_int_equal(left, 0);
}

static void put_together_again_large_frames_are_what_they_were(void **state)
{
    (void)state;
    put('A', 3 << 20, OUTBOX_ANY_ORDER);
    put('B', 2 << 20, ONE_PROCESS);
    put('C', FRAME_PART_SIZE + 1, OUTBOX_ANY_ORDER);
    put('D', 2 * FRAME_PART_SIZE, ONE_PROCESS);
    while (take()) {
        for (; receive(); drop()) {
            switch (body.data[0]) {
            case 'A':
                assert_bytes('A', 3 << 20);
                break;
            case 'B':
                assert_bytes('B', 2 << 20);
                break;
            case 'C':
                assert_bytes('C', FRAME_PART_SIZE + 1);
                break;
            default:
                assert_bytes('D', 2 * FRAME_PART_SIZE);
            }
        }
    }
}

/* How many pieces of output a frame of that size takes alone. */
static size_t pieces(size_t size)
{
    return (size / FRAME_PART_SIZE + 3) / 4;
}

static void small_frames_overtake_a_large_one(void **state)
{
    (void)state;
    put('L', 1 << 20, OUTBOX_ANY_ORDER);
    put('a', 10, OUTBOX_ANY_ORDER);
    put('b', 10, ONE_PROCESS);
    assert_true(take());
    assert_next(FRAME_SIGNAL, 0);
    assert_bytes('a', 10);
    drop();
    assert_next(FRAME_SIGNAL, 0);
    assert_bytes('b', 10);
    drop();
    assert_false(receive());
    put('c', 10, OUTBOX_ANY_ORDER);
    assert_string_equal(receive_all(), "c  L ");
}

static void small_frames_in_order_stay_behind_the_large_one(void **state)
{
    (void)state;
    put('a', 10, ONE_PROCESS);
    put('L', 1 << 20, ONE_PROCESS);
    put('b', 10, ONE_PROCESS);
    put('c', 10, OUTBOX_ANY_ORDER);
    put('d', 1000, ONE_PROCESS);
    assert_int_equal(outbox_size(&outbox), (1 << 20) + 1030 + 4 * HEAD);
    assert_string_equal(receive_all(), "ac   Lbd ");
    put('e', 10, ONE_PROCESS);
    assert_string_equal(receive_all(), "e ");
}

static void large_frames_in_order_go_one_after_the_other(void **state)
{
    (void)state;
    put('K', 4 << 20, ONE_PROCESS);
    put('a', 10, ONE_PROCESS);
    put('L', FRAME_PART_SIZE + 1, ONE_PROCESS);
    put('b', 10, ONE_PROCESS);
    put('M', 1 << 20, ONE_PROCESS);
    put('c', 10, ONE_PROCESS);
    for (size_t i = 1; i < pieces(4 << 20); i++) {
        assert_true(take());
        assert_false(receive());
    }
    assert_string_equal(receive_all(), "Ka Lb    Mc ");
}

static void large_frames_of_any_order_take_turns(void **state)
{
    const char *names;

    (void)state;
    put('L', 8 << 20, OUTBOX_ANY_ORDER);
    put('K', 1 << 20, OUTBOX_ANY_ORDER);
    put('M', 2 << 20, OUTBOX_ANY_ORDER);
    put('S', FRAME_PART_SIZE + 1, OUTBOX_ANY_ORDER);
    names = receive_all();
    assert_memory_equal(names, " S ", 3);
    assert_true(strchr(names, 'K') < strchr(names, 'M'));
    assert_true(strchr(names, 'M') < strchr(names, 'L'));
}

static void large_frames_of_either_order_share_the_output(void **state)
{
    const char *names;

    (void)state;
    put('O', 8 << 20, ONE_PROCESS);
    put('A', 1 << 20, OUTBOX_ANY_ORDER);
    names = receive_all();
    assert_true(strchr(names, 'A') < strchr(names, 'O'));
    put('A', 8 << 20, OUTBOX_ANY_ORDER);
    put('O', 1 << 20, ONE_PROCESS);
    names = receive_all();
    assert_true(strchr(names, 'O') < strchr(names, 'A'));
}

static void without_fragments_nothing_is_cut_or_overtakes(void **state)
{
    struct error err;

    (void)state;
    outbox.form = FRAME_PASS_THROUGH;
    put('L', 1 << 20, OUTBOX_ANY_ORDER);
    put('M', 1 << 20, ONE_PROCESS);
    put('a', 10, OUTBOX_ANY_ORDER);
    put('b', 10, ONE_PROCESS);
    assert_true(take());
    assert_int_equal(outbox_size(&outbox), 0);
    for (const char *name = "LMab"; *name; name++) {
        assert_int_equal(
            frame_next(unread, FRAME_PASS_THROUGH, MAX_BYTES, &frame, &err),
            FRAME_SIGNAL);
        body = frame.body;
        assert_bytes(*name, name[0] < 'a' ? 1 << 20 : 10);
        drop();
    }
    assert_int_equal(unread.size, 0);
}

static void a_piece_of_output_is_bounded_but_for_small_frames(void **state)
{
    (void)state;
    put('A', 2 << 20, OUTBOX_ANY_ORDER);
    put('B', 2 << 20, OUTBOX_ANY_ORDER);
    put('O', 2 << 20, ONE_PROCESS);
    while (outbox_size(&outbox) > 0) {
        take();
        assert_true(taken.size <
                    OUTBOX_BURST_BYTES + 2 * (FRAME_PART_SIZE + PART_HEAD + 1));
    }
}

static void the_limit_counts_everything_that_waits(void **state)
{
    const size_t max = 1 << 20, half = max / 2;

    (void)state;
    assert_true(put_within(max, 'A', half, OUTBOX_ANY_ORDER));
    assert_true(put_within(max, 'a', 1000, OUTBOX_ANY_ORDER));
    assert_true(put_within(max, 'B', half / 2, ONE_PROCESS));
    assert_true(put_within(max, 'b', 1000, ONE_PROCESS));
    assert_int_equal(outbox_size(&outbox), half + half / 2 + 2000 + 2 * HEAD);
    assert_false(
        put_within(max, 'x', half / 2 - 2000 - 3 * HEAD + 1, OUTBOX_ANY_ORDER));
    assert_true(
        put_within(max, 'C', half / 2 - 2000 - 3 * HEAD, OUTBOX_ANY_ORDER));
    assert_int_equal(outbox_size(&outbox), max - HEAD);
    assert_false(put_within(max, 'x', 1, OUTBOX_ANY_ORDER));
    assert_true(put_within(max, 0, 0, OUTBOX_ANY_ORDER));
    assert_false(put_within(max, 'x', 0, ONE_PROCESS));
    assert_int_equal(outbox_size(&outbox), max);
}

static void room_comes_back_as_large_frames_are_written(void **state)
{
    const size_t max = 1 << 20;

    (void)state;
    assert_true(put_within(max, 'A', max - HEAD, OUTBOX_ANY_ORDER));
    assert_false(put_within(max, 'x', FRAME_PART_SIZE, OUTBOX_ANY_ORDER));
    assert_true(take());
    assert_int_equal(outbox_size(&outbox), max - HEAD - 4 * FRAME_PART_SIZE);
    assert_true(put_within(max, 'a', FRAME_PART_SIZE, OUTBOX_ANY_ORDER));
}

static void a_refused_frame_leaves_no_trace(void **state)
{
    (void)state;
    put('L', 1 << 20, ONE_PROCESS);
    put('a', 10, OUTBOX_ANY_ORDER);
    put('b', 10, ONE_PROCESS);
    assert_false(put_within((1 << 20) + 100, 'x', 100, OUTBOX_ANY_ORDER));
    assert_false(put_within(10, 'x', 100, ONE_PROCESS));
    assert_false(put_within(2 << 20, 'x', 2 << 20, OUTBOX_ANY_ORDER));
    assert_false(put_within(0, 'x', 0, ONE_PROCESS));
    assert_int_equal(outbox_size(&outbox), (1 << 20) + 20 + 2 * HEAD);
    put('c', 10, OUTBOX_ANY_ORDER);
    assert_string_equal(receive_all(), "ac   Lb ");
}

static void ticks_go_out_although_the_outbox_is_full(void **state)
{
    (void)state;
    assert_true(put_within(100, 'a', 100 - HEAD, OUTBOX_ANY_ORDER));
    assert_false(put_within(100, 'x', 0, OUTBOX_ANY_ORDER));
    outbox_put_tick(&outbox);
    assert_int_equal(outbox_size(&outbox), 100 + FRAME_LENGTH_SIZE);
    assert_true(take());
    assert_next(FRAME_SIGNAL, 0);
    drop();
    assert_int_equal(next(), FRAME_TICK);
    drop();
    assert_int_equal(unread.size, 0);
}

static void only_the_same_process_waits_behind_a_large_frame(void **state)
{
    (void)state;
    put('L', 1 << 20, ONE_PROCESS);
    put('a', 10, ANOTHER);
    put('b', 10, ONE_PROCESS);
    put('K', FRAME_PART_SIZE + 1, ANOTHER);
    assert_true(take());
    assert_true(receive());
    assert_bytes('a', 10);
    drop();
    assert_true(receive());
    assert_bytes('K', FRAME_PART_SIZE + 1);
    drop();
    while (!receive())
        assert_true(take());
    assert_bytes('L', 1 << 20);
    drop();
    assert_true(receive());
    assert_bytes('b', 10);
    drop();
}

static void sustained_small_frames_do_not_starve_large_ones(void **state)
{
    enum { SIZE = 20 * FRAME_PART_SIZE };
    int large = 0;

    (void)state;
    put('A', SIZE, OUTBOX_ANY_ORDER);
    put('O', SIZE, ONE_PROCESS);
    for (int i = 0; i < 2 * SIZE / FRAME_PART_SIZE; i++) {
        for (size_t size = 0; size < 2 * OUTBOX_BURST_BYTES; size += 1000)
            put('s', 1000, OUTBOX_ANY_ORDER);
        assert_true(take());
        for (; receive(); drop())
            large += body.data[0] != 's';
    }
    assert_int_equal(large, 2);
    assert_int_equal(outbox_size(&outbox), 0);
}

static void sustained_large_frames_do_not_hold_small_ones_up(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        if (outbox_size(&outbox) < 4 << 20) {
            put('A', 1 << 20, OUTBOX_ANY_ORDER);
            put('O', 1 << 20, ONE_PROCESS);
        }
        put('s', 10, OUTBOX_ANY_ORDER);
        assert_true(take());
        assert_true(receive());
        assert_bytes('s', 10);
        drop();
        while (receive())
            drop();
    }
}

/* One part at a time they would pile up behind a busy output. */
static void
small_frames_held_back_all_go_with_the_end_of_the_large_one(void **state)
{
    enum { SMALL = 1000 };
    size_t there = 0;

    (void)state;
    put('O', FRAME_PART_SIZE + 1, ONE_PROCESS);
    put('A', 1 << 20, OUTBOX_ANY_ORDER);
    for (int i = 0; i < SMALL; i++)
        put('s', 10, ONE_PROCESS);
    assert_true(take());
    for (; receive(); drop())
        there += body.data[0] == 's';
    assert_int_equal(there, SMALL);
}

static void the_size_is_exact_at_every_moment(void **state)
{
    size_t content = 0, headers = 0, written = 0;

    (void)state;
    for (size_t i = 0; i < 200; i++) {
        size_t size = i * 7919 % (3 * FRAME_PART_SIZE) + 1;

        put('x', size, i % 3 ? OUTBOX_ANY_ORDER : ONE_PROCESS);
        content += size;
        headers += size <= FRAME_PART_SIZE ? HEAD : 0;
        if (i % 5 == 4) {
            assert_true(take());
            for (; next() != FRAME_PARTIAL; drop())
                written += frame.body.size +
                           (frame.size - frame.body.size == HEAD ? HEAD : 0);
        }
        assert_int_equal(outbox_size(&outbox), content + headers - written);
    }
}

static void what_was_not_taken_is_released(void **state)
{
    (void)state;
    put('A', 1 << 20, OUTBOX_ANY_ORDER);
    put('O', 1 << 20, ONE_PROCESS);
    put('P', 1 << 20, ONE_PROCESS);
    put('a', 10, ONE_PROCESS);
    assert_true(take());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(small_frames_go_out_at_once_in_the_order_they_came),
        TEST(an_empty_outbox_gives_nothing),
        TEST(a_frame_of_just_a_part_is_written_whole),
        TEST(a_byte_more_than_a_part_makes_two),
        TEST(the_fragments_of_a_large_frame_count_down_to_one),
        TEST(put_together_again_large_frames_are_what_they_were),
        TEST(small_frames_overtake_a_large_one),
        TEST(small_frames_in_order_stay_behind_the_large_one),
        TEST(large_frames_in_order_go_one_after_the_other),
        TEST(large_frames_of_any_order_take_turns),
        TEST(large_frames_of_either_order_share_the_output),
        TEST(without_fragments_nothing_is_cut_or_overtakes),
        TEST(a_piece_of_output_is_bounded_but_for_small_frames),
        TEST(the_limit_counts_everything_that_waits),
        TEST(room_comes_back_as_large_frames_are_written),
        TEST(a_refused_frame_leaves_no_trace),
        TEST(ticks_go_out_although_the_outbox_is_full),
        TEST(only_the_same_process_waits_behind_a_large_frame),
        TEST(sustained_small_frames_do_not_starve_large_ones),
        TEST(sustained_large_frames_do_not_hold_small_ones_up),
        TEST(small_frames_held_back_all_go_with_the_end_of_the_large_one),
        TEST(the_size_is_exact_at_every_moment),
        TEST(what_was_not_taken_is_released),
    };

    return cmocka_run_group_tests(tests, make_pattern, NULL);
}
