#include "tests/unit.h"

#include "llm_router/base/line_reader.h"

static struct line_reader reader;
static struct slice line;

static int set_up(void **state)
{
    (void)state;
    line_reader_init(&reader, 8);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    line_reader_release(&reader);
    return 0;
}

static void add(const char *text)
{
    line_reader_add(&reader, slice_of(text));
}

static void next_is(const char *text)
{
    assert_int_equal(line_reader_next(&reader, &line), LINE_WHOLE);
    assert_slice(line, text);
}

static void nothing_is_left(void)
{
    assert_int_equal(line_reader_next(&reader, &line), LINE_NONE);
}

static void lines_come_one_after_the_other(void **state)
{
    (void)state;
    nothing_is_left();
    add("one\n\ntwo\nthr");
    next_is("one");
    next_is("");
    next_is("two");
    nothing_is_left();
    nothing_is_left();
}

static void a_line_comes_in_pieces(void **state)
{
    (void)state;
    add("o");
    nothing_is_left();
    add("n");
    nothing_is_left();
    add("e\nt");
    next_is("one");
    nothing_is_left();
    add("wo\n");
    next_is("two");
    nothing_is_left();
}

static void a_line_may_be_as_long_as_the_maximum(void **state)
{
    (void)state;
    add("12345678\n");
    next_is("12345678");
    add("12345678");
    nothing_is_left();
    add("\n");
    next_is("12345678");
}

static void a_longer_line_is_told_once_and_skipped(void **state)
{
    static const char *const pieces[] = {"123456789", "more", "and more"};

    (void)state;
    add("123456789\none\n");
    assert_int_equal(line_reader_next(&reader, &line), LINE_TOO_LONG);
    next_is("one");
    nothing_is_left();
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        add(pieces[i]);
        assert_int_equal(line_reader_next(&reader, &line),
                         i == 0 ? LINE_TOO_LONG : LINE_NONE);
        nothing_is_left();
    }
    add("end\ntwo\n");
    next_is("two");
    nothing_is_left();
}

static void what_is_kept_of_a_long_line_is_bounded(void **state)
{
    static char piece[LINE_PIECE_MAX];

    (void)state;
    memset(piece, 'a', sizeof(piece));
    for (int i = 0; i < 100; i++) {
        line_reader_add(&reader, slice_make(piece, sizeof(piece)));
        line_reader_next(&reader, &line);
        assert_true(reader.bytes.capacity <= 8 + LINE_PIECE_MAX);
    }
    add("\nnext\n");
    next_is("next");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_come_one_after_the_other),
        TEST(a_line_comes_in_pieces),
        TEST(a_line_may_be_as_long_as_the_maximum),
        TEST(a_longer_line_is_told_once_and_skipped),
        TEST(what_is_kept_of_a_long_line_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
