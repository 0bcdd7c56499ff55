#include "llm_router/core/headings.h"

#include "llm_router/base/utf8.h"
#include "unit.h"

enum { PARTS_MAX = 64 };

static struct arena arena;
static struct outline outline;
static struct slice parts[PARTS_MAX];

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

/* "1 Goals@3" is a heading of the first level in line 3. */
static void assert_headings(const char *document, const char *expected)
{
    struct slice headings = slice_of("");

    outline_read(&arena, slice_of(document), &outline);
    for (size_t i = 0; i < outline.count; i++) {
        const struct section *section = &outline.sections[i];

        headings = arena_printf(
            &arena, "%.*s%s%u %.*s@%d", SLICE_ARG(headings), i > 0 ? " | " : "",
            section->level, SLICE_ARG(section->heading), (int)section->line);
    }
    assert_slice(headings, expected);
}

static void marked_lines_are_headings(void **state)
{
    (void)state;
    assert_headings("# Boat\n\n## Hull ##\ntext\n### C#\n#hash\n####### 7\n",
                    "1 Boat@1 | 2 Hull@3 | 3 C#@5");
    assert_headings("# A\r\n  ## B\r\n    # code\r\n#\r\n#\tC",
                    "1 A@1 | 2 B@2 | 1 C@5");
}

static void underlined_lines_are_headings(void **state)
{
    (void)state;
    assert_headings("Boat\n====\n\n1. Hull\n---\ntext\n",
                    "1 Boat@1 | 2 1. Hull@4");
}

static void a_rule_a_table_and_a_list_underline_nothing(void **state)
{
    (void)state;
    assert_headings("# A\n\nlong\ntext\n---\n\n- x\n---\n\n| a |\n----\n\n"
                    "---\n\nb\n--\n",
                    "1 A@1");
}

static void what_is_in_a_code_fence_is_no_heading(void **state)
{
    (void)state;
    assert_headings(
        "# A\n```sh\n# comment\n~~~\n```\n## B\n~~~~\n# c\n~~~\n# d",
        "1 A@1 | 2 B@6");
}

static void front_matter_is_no_heading(void **state)
{
    (void)state;
    assert_headings("---\ntitle: Boat\n---\n# A\n", "0 @1 | 1 A@4");
    assert_headings("---\n\n# A\n", "0 @1 | 1 A@3");
}

static void text_before_the_first_heading_is_a_section_by_itself(void **state)
{
    (void)state;
    assert_headings("Intro\n# A\nx\n", "0 @1 | 1 A@2");
    assert_slice(outline_section(&outline, 0), "Intro\n");
    assert_slice(outline_section(&outline, 1), "# A\nx\n");
    assert_headings("\n \n# A\n", "1 A@3");
    assert_slice(outline_section(&outline, 0), "\n \n# A\n");
}

static void without_marks_numbered_titles_are_headings(void **state)
{
    (void)state;
    assert_headings("1. Boat\n\nIt swims.\n\n1.1 Hull\nOf oak.\n\n"
                    "2.10.3. Keel\n3) Not alone\nx\n\n4) Alone\n\n"
                    "5. Not alone\nx",
                    "1 1. Boat@1 | 2 1.1 Hull@5 | 3 2.10.3. Keel@8 | "
                    "1 4) Alone@12");
}

static void without_marks_lines_of_capitals_are_headings(void **state)
{
    (void)state;
    assert_headings("THE BOAT\nIt swims.\n\nGOALS:\n\nIt is FAST\n\nAB\n\n"
                    "WE STOP HERE.\n",
                    "1 THE BOAT@1 | 1 GOALS:@4");
}

static void a_document_with_marks_has_no_other_headings(void **state)
{
    (void)state;
    assert_headings("# A\n\n1. One\n\nCAPITALS\n", "1 A@1");
}

static void sentences_that_begin_with_a_number_are_no_headings(void **state)
{
    (void)state;
    assert_headings("2 boats\n\n1.5 times as fast\n\n3. We go home.\n\n"
                    "10 Downing Street, London,\n\n.5 X\n\n1..2 X\n",
                    "");
}

static void prose_has_no_headings(void **state)
{
    (void)state;
    assert_headings("", "");
    assert_headings("Build a boat.\nIt should swim.", "");
    assert_int_equal(outline.count, 0);
}

static void long_headings_are_cut_and_many_are_not_all_taken(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    buf_append_text(&buf, "# ");
    for (int i = 0; i < 1000; i++)
        buf_append_text(&buf, "\xC3\xA4");
    for (int i = 0; i < HEADINGS_MAX + 10; i++)
        buf_append_text(&buf, "\n# x");
    outline_read(&arena, arena_keep(&arena, &buf), &outline);
    assert_int_equal(outline.count, HEADINGS_MAX);
    assert_int_equal(outline.sections[0].heading.size, HEADING_TEXT_MAX);
    assert_true(utf8_is_valid(outline.sections[0].heading));
}

static size_t cut(const char *document, size_t max)
{
    outline_read(&arena, slice_of(document), &outline);
    return outline_cut(&outline, 0, max, parts, PARTS_MAX);
}

static void a_document_that_fits_is_one_part(void **state)
{
    (void)state;
    assert_int_equal(cut("# A\nx\n", 16), 1);
    assert_slice(parts[0], "# A\nx\n");
    assert_int_equal(cut("", 16), 0);
    assert_int_equal(cut(" \n ", 16), 0);
}

static void parts_begin_at_headings(void **state)
{
    (void)state;
    assert_int_equal(cut("# A\naaaa aaaa\n\nmore\n# B\nbbbb bbbb bbbb\n", 26),
                     2);
    assert_slice(parts[0], "# A\naaaa aaaa\n\nmore\n");
    assert_slice(parts[1], "# B\nbbbb bbbb bbbb\n");
}

static void the_more_important_heading_is_cut_at(void **state)
{
    (void)state;
    assert_int_equal(
        cut("# A\naaaaaaaaaaaa\n# B\nbbb\n## C\nccccccc\n## D\nddd\n", 32), 2);
    assert_slice(parts[1], "# B\nbbb\n## C\nccccccc\n## D\nddd\n");
}

static void without_headings_parts_end_with_paragraphs(void **state)
{
    (void)state;
    assert_int_equal(
        cut("One one. One\none one.\n\nTwo two two two two.\n", 24), 2);
    assert_slice(parts[0], "One one. One\none one.\n\n");
}

static void long_paragraphs_are_cut_at_sentences_then_anywhere(void **state)
{
    (void)state;
    assert_int_equal(cut("One one one one. Two two two two two.", 24), 2);
    assert_slice(parts[0], "One one one one. ");
    assert_int_equal(cut("abcdefghijklmnopqrstuvwxyz", 16), 2);
    assert_slice(parts[0], "abcdefghijklm");
}

static void no_character_is_cut(void **state)
{
    static const char euro[] = "\xE2\x82\xAC";
    struct buf buf;
    size_t count, total = 0;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    for (int i = 0; i < 100; i++)
        buf_append_text(&buf, euro);
    count = cut(arena_text(&arena, arena_keep(&arena, &buf)), 16);
    assert_in_range(count, 19, 38);
    for (size_t i = 0; i < count; i++) {
        assert_in_range(parts[i].size, 1, 16);
        assert_true(utf8_is_valid(parts[i]));
        total += parts[i].size;
    }
    assert_int_equal(total, 300);
}

static void too_many_parts_are_said_to_be_so(void **state)
{
    (void)state;
    outline_read(&arena, slice_of("abcdefghijklmnopqrstuvwxyzabcdefghijklmno"),
                 &outline);
    assert_int_equal(outline_cut(&outline, 0, 16, parts, 2), 3);
    assert_int_equal(outline_cut(&outline, 0, 16, parts, 3), 3);
    assert_int_equal(outline_cut(&outline, 26, 16, parts, 1), 1);
    assert_slice(parts[0], "abcdefghijklmno");
}

static void blank_parts_are_left_out(void **state)
{
    char document[201];

    (void)state;
    memset(document, ' ', 200);
    document[200] = '\0';
    memcpy(document, "text", 4);
    assert_int_equal(cut(document, 32), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(marked_lines_are_headings),
        TEST(underlined_lines_are_headings),
        TEST(a_rule_a_table_and_a_list_underline_nothing),
        TEST(what_is_in_a_code_fence_is_no_heading),
        TEST(front_matter_is_no_heading),
        TEST(text_before_the_first_heading_is_a_section_by_itself),
        TEST(without_marks_numbered_titles_are_headings),
        TEST(without_marks_lines_of_capitals_are_headings),
        TEST(a_document_with_marks_has_no_other_headings),
        TEST(sentences_that_begin_with_a_number_are_no_headings),
        TEST(prose_has_no_headings),
        TEST(long_headings_are_cut_and_many_are_not_all_taken),
        TEST(a_document_that_fits_is_one_part),
        TEST(parts_begin_at_headings),
        TEST(the_more_important_heading_is_cut_at),
        TEST(without_headings_parts_end_with_paragraphs),
        TEST(long_paragraphs_are_cut_at_sentences_then_anywhere),
        TEST(no_character_is_cut),
        TEST(too_many_parts_are_said_to_be_so),
        TEST(blank_parts_are_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
