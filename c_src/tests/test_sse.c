#include "llm_router/provider/sse.h"

#include <stdio.h>

#include "unit.h"

enum { MAX = 4096 };

/* Events as one text: "[name|data]" each. */
static bool note(void *context, const struct sse_event *event)
{
    struct buf *seen = context;

    buf_append_byte(seen, '[');
    buf_append_slice(seen, event->event);
    buf_append_byte(seen, '|');
    buf_append_slice(seen, event->data);
    buf_append_byte(seen, ']');
    return !slice_is(event->data, "stop");
}

/* From memory that is overwritten afterwards, so that a slice kept too long is
 * seen. */
static void feed(struct sse_parser *parser, struct slice text, struct buf *seen)
{
    char piece[MAX];

    memcpy(piece, text.data, text.size);
    sse_feed(parser, slice_make(piece, text.size), note, seen);
    memset(piece, '#', text.size);
}

static void feed_twice(struct slice text, size_t split, struct buf *seen)
{
    struct sse_parser parser;

    sse_init(&parser, MAX);
    feed(&parser, slice_make(text.data, split), seen);
    feed(&parser, slice_make(text.data + split, text.size - split), seen);
    sse_release(&parser);
}

static void feed_bytes(struct slice text, struct buf *seen)
{
    struct sse_parser parser;

    sse_init(&parser, MAX);
    for (size_t i = 0; i < text.size; i++)
        feed(&parser, slice_make(text.data + i, 1), seen);
    sse_release(&parser);
}

/* Whatever the split, the same events. */
static void expect(const char *text, const char *events)
{
    struct slice whole = slice_of(text);
    struct buf seen;

    buf_init(&seen, 1 << 20);
    for (size_t split = 0; split <= whole.size; split++) {
        feed_twice(whole, split, &seen);
        assert_slice(buf_slice(&seen), events);
        buf_clear(&seen);
    }
    feed_bytes(whole, &seen);
    assert_slice(buf_slice(&seen), events);
    buf_release(&seen);
}

static void line_ends_are_cr_lf_and_crlf(void **state)
{
    (void)state;
    expect("data: a\n\ndata: b\n\n", "[|a][|b]");
    expect("data: a\r\rdata: b\r\r", "[|a][|b]");
    expect("data: a\r\n\r\ndata: b\r\n\r\n", "[|a][|b]");
    expect("data: a\r\n\ndata: b\n\r\n", "[|a][|b]");
    expect("data: a\n\rdata: b\r\r\n", "[|a][|b]");
}

static void data_lines_are_joined_by_lf(void **state)
{
    (void)state;
    expect("data: a\ndata: b\r\ndata: c\n\n", "[|a\nb\nc]");
    expect("data\ndata\n\n", "[|\n]");
    expect("data:\ndata: x\n\n", "[|\nx]");
}

static void one_space_after_the_colon_is_dropped(void **state)
{
    (void)state;
    expect("data:a\n\ndata: a\n\ndata:  a\n\n", "[|a][|a][| a]");
}

static void comments_and_unknown_fields_are_dropped(void **state)
{
    (void)state;
    expect(": ping\n\n:\n\nid: 7\nretry: 10\nfoo\ndatax: 1\n data: 2\n\n", "");
    expect(": ping\ndata: a\n: pong\n\n", "[|a]");
}

static void an_event_has_its_name_once(void **state)
{
    (void)state;
    expect("event: x\nevent: y\ndata: a\n\ndata: b\n\n", "[y|a][|b]");
    expect("event: alone\n\ndata: b\n\n", "[|b]");
}

static void data_may_be_empty(void **state)
{
    (void)state;
    expect("data:\n\ndata\n\ndata: \n\n", "[|][|][|]");
}

static void a_byte_order_mark_is_dropped_once(void **state)
{
    (void)state;
    expect("\xEF\xBB\xBF"
           "data: a\n\ndata: b\n\n",
           "[|a][|b]");
    expect("\xEF\xBB\xBF\n\xEF\xBB\xBF"
           "data: a\n\n",
           "");
}

static void an_unfinished_event_is_not_one(void **state)
{
    (void)state;
    expect("data: a\n\ndata: b\n", "[|a]");
    expect("data: b", "");
}

static void characters_may_be_split(void **state)
{
    (void)state;
    expect("data: gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80\n\n",
           "[|gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80]");
}

static void nothing_comes_after_the_callback_said_stop(void **state)
{
    (void)state;
    expect("data: a\n\ndata: stop\n\ndata: b\n\n", "[|a][|stop]");
}

static void a_line_over_the_maximum_stops_the_parser(void **state)
{
    char text[MAX + 3];
    struct sse_parser parser;
    struct buf seen;

    (void)state;
    buf_init(&seen, 1 << 20);
    memset(text, 'x', sizeof(text));
    memcpy(text, "data: ", 6);
    for (size_t size = MAX; size <= MAX + 1; size++) {
        for (size_t split = 0; split < size; split += 100) {
            bool fits = size <= MAX;

            text[size] = '\n';
            text[size + 1] = '\n';
            sse_init(&parser, MAX);
            assert_int_equal(
                sse_feed(&parser, slice_make(text, split), note, &seen) &&
                    sse_feed(&parser,
                             slice_make(text + split, size + 2 - split), note,
                             &seen),
                fits);
            assert_int_equal(sse_feed(&parser, slice_of("\n"), note, &seen),
                             fits);
            sse_release(&parser);
            text[size] = 'x';
            text[size + 1] = 'x';
        }
    }
    buf_release(&seen);
}

static void joined_data_over_the_maximum_stops_the_parser(void **state)
{
    struct sse_parser parser;
    struct buf seen;

    (void)state;
    buf_init(&seen, 1 << 20);
    sse_init(&parser, MAX);
    for (int i = 0; i < MAX / 4; i++)
        assert_true(sse_feed(&parser, slice_of("data: abc\n"), note, &seen));
    assert_false(sse_feed(&parser, slice_of("data: abc\n"), note, &seen));
    assert_true(seen.size == 0);
    sse_release(&parser);
    buf_release(&seen);
}

static void a_waiting_parser_holds_no_memory(void **state)
{
    struct sse_parser parser;
    struct buf seen;

    (void)state;
    buf_init(&seen, 1 << 20);
    sse_init(&parser, MAX);
    assert_true(
        sse_feed(&parser, slice_of(": ping\n\ndata: a\n\n"), note, &seen));
    assert_null(parser.line.data);
    assert_null(parser.data.data);
    assert_null(parser.event.data);
    sse_release(&parser);
    buf_release(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_ends_are_cr_lf_and_crlf),
        cmocka_unit_test(data_lines_are_joined_by_lf),
        cmocka_unit_test(one_space_after_the_colon_is_dropped),
        cmocka_unit_test(comments_and_unknown_fields_are_dropped),
        cmocka_unit_test(an_event_has_its_name_once),
        cmocka_unit_test(data_may_be_empty),
        cmocka_unit_test(a_byte_order_mark_is_dropped_once),
        cmocka_unit_test(an_unfinished_event_is_not_one),
        cmocka_unit_test(characters_may_be_split),
        cmocka_unit_test(nothing_comes_after_the_callback_said_stop),
        cmocka_unit_test(a_line_over_the_maximum_stops_the_parser),
        cmocka_unit_test(joined_data_over_the_maximum_stops_the_parser),
        cmocka_unit_test(a_waiting_parser_holds_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
