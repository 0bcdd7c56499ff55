#include "llm_router/core/answer.h"

#include <time.h>

#include "unit.h"

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

static void assert_found(const char *text, const char *json, bool is_cut)
{
    bool cut;
    const struct jv *value = answer_find_json(&arena, slice_of(text), &cut);
    struct buf buf;

    if (!value)
        fail_msg("nothing in: %s", text);
    buf_init(&buf, SIZE_MAX);
    jv_put(&buf, value);
    assert_slice(buf_slice(&buf), json);
    assert_int_equal(cut, is_cut);
    buf_release(&buf);
}

static void assert_nothing(const char *text)
{
    bool cut;

    if (answer_find_json(&arena, slice_of(text), &cut))
        fail_msg("found in: %s", text);
    assert_false(cut);
}

static void the_whole_text_is_json(void **state)
{
    (void)state;
    assert_found(" {\"a\":[1]}\n", "{\"a\":[1]}", false);
    assert_found("[]", "[]", false);
    assert_found("\xEF\xBB\xBF[1]", "[1]", false);
}

static void code_fences_are_taken_off(void **state)
{
    (void)state;
    assert_found("```json\n{\"a\":1}\n```", "{\"a\":1}", false);
    assert_found("```\n[1]\n```\n", "[1]", false);
    assert_found("Here:\n~~~json\n{\"a\":\"```x```\"}\n~~~\nDone.",
                 "{\"a\":\"```x```\"}", false);
}

static void prose_around_it_is_passed_over(void **state)
{
    (void)state;
    assert_found("I wrote [see below] for {you}: {\"a\":\"}]\"} - enjoy :}",
                 "{\"a\":\"}]\"}", false);
    assert_found("As in [1] and \"[a\", the tasks:[{\"a\":1},{\"b\":2}]",
                 "[{\"a\":1},{\"b\":2}]", false);
    assert_found("The form is {\"a\": ...}. So: {\"a\":1}", "{\"a\":1}", false);
}

static void the_largest_of_several_is_meant(void **state)
{
    (void)state;
    assert_found("{} then {\"a\":1} then [2]", "{\"a\":1}", false);
    assert_found("[1] {\"a\":1,\"b\":[", "{\"a\":1,\"b\":[]}", true);
}

static void thinking_is_passed_over(void **state)
{
    (void)state;
    assert_found("<think>maybe {\"draft\":[1,2,3,4]}?</think>{\"a\":1}",
                 "{\"a\":1}", false);
    assert_nothing("<think>maybe {\"draft\":1}");
}

static void a_cut_text_gives_what_was_complete(void **state)
{
    (void)state;
    assert_found("{\"a\":[{\"b\":1},{\"c\":\"x",
                 "{\"a\":[{\"b\":1},{\"c\":\"x\"}]}", true);
    assert_found("```json\n[1,", "[1]", true);
    assert_found("Sure: {", "{}", true);
}

static void trailing_commas_are_accepted(void **state)
{
    (void)state;
    assert_found("{\"a\":[1,2,],}", "{\"a\":[1,2]}", false);
}

/* A part of a broken document must not pass for the whole of it. */
static void a_broken_document_is_not_taken_in_parts(void **state)
{
    (void)state;
    assert_nothing("{\"a\":1 \"b\":{\"c\":2}}");
    assert_nothing("{\"a\":\"an \"odd\" quote\",\"b\":{\"c\":2}}");
    assert_nothing("{\"a\":\"one odd \" quote\",\"b\":{\"c\":2}}");
    assert_nothing("[{\"a\":1},{\"b\":}]");
}

static void text_without_json_has_none(void **state)
{
    (void)state;
    assert_nothing("");
    assert_nothing("I cannot do that.");
    assert_nothing("42");
    assert_nothing("\"text\"");
    assert_nothing("see [here], {'a': 1} and }");
}

/* Of the processor, so that other programs do not count. */
static double milliseconds(void)
{
    return (double)clock() * 1e3 / CLOCKS_PER_SEC;
}

/* Each piece a million bytes; a search that begins again at each bracket would
 * take hours. */
static void hostile_text_takes_linear_time(void **state)
{
    static const char *const pieces[] = {
        "[",          "{\"a\":", "[{\"a\":[", "[1,2] x ",    "{\"",    "[ ",
        "{\"a\":[]}", "[x",      "[[],",      "{\"a\":1 }}", "[\"\\\""};
    enum { BYTES = 1000000 };

    (void)state;
    for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
        double start = milliseconds();
        struct buf buf;
        bool cut;

        buf_init(&buf, SIZE_MAX);
        while (buf.size < BYTES)
            buf_append_text(&buf, pieces[i]);
        answer_find_json(&arena, buf_slice(&buf), &cut);
        buf_release(&buf);
        if (milliseconds() - start > 3000)
            fail_msg("%s: %g ms", pieces[i], milliseconds() - start);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_whole_text_is_json),
        TEST(code_fences_are_taken_off),
        TEST(prose_around_it_is_passed_over),
        TEST(the_largest_of_several_is_meant),
        TEST(thinking_is_passed_over),
        TEST(a_cut_text_gives_what_was_complete),
        TEST(trailing_commas_are_accepted),
        TEST(a_broken_document_is_not_taken_in_parts),
        TEST(text_without_json_has_none),
        TEST(hostile_text_takes_linear_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
