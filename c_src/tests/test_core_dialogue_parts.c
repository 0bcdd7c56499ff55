/* Documents that a model has no room for as a whole. */
#include "test_core_dialogue.h"

enum { SECTION = 1000 /* bytes */ };

/* "# Part 1", "# Part 2", ... with filler, a section a kilobyte. */
static const char *document(int sections)
{
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    for (int i = 1; i <= sections; i++) {
        buf_printf(&buf, "# Part %d\n", i);
        while (buf.size < (size_t)(i * SECTION - 12))
            buf_append_text(&buf, "Fill it up. ");
        buf_append_text(&buf, "\n");
    }
    return arena_text(&arena, arena_keep(&arena, &buf));
}

/* Room for some 6,600 bytes of a document at a time. */
static void begin_long(int sections, int64_t count)
{
    room = (struct dialogue_room){4000, 2000};
    begin(OP_PARSE_PRD, document(sections), count);
}

static struct slice question(void)
{
    return message(1)->content;
}

/* The number behind `words` in the question. */
static int64_t number_behind(const char *words)
{
    ptrdiff_t at = slice_find(question(), slice_of(words));

    if (at < 0)
        fail_msg("%s: not in the question", words);
    return strtoll(question().data + at + strlen(words), NULL, 10);
}

/* `count` tasks with titles of their own and ids from `first`; each needs the
 * one before it. */
static const char *tasks(const char *name, int64_t first, int64_t count)
{
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    buf_append_text(&buf, "{'tasks':[");
    for (int64_t i = 0; i < count; i++) {
        buf_printf(&buf, "%s{'id':%d,'title':'%s %d','dependencies':[",
                   i > 0 ? "," : "", (int)(first + i), name, (int)i + 1);
        if (first + i > 1)
            buf_printf(&buf, "%d", (int)(first + i) - 1);
        buf_append_text(&buf, "]}");
    }
    buf_append_text(&buf, "]}");
    return arena_text(&arena, arena_keep(&arena, &buf));
}

static void assert_result(size_t count)
{
    const struct task_list *list = &dialogue_result(dialogue)->tasks;

    assert_int_equal(list->count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(list->tasks[i].id, i + 1);
        assert_int_equal(list->tasks[i].dependency_count, i > 0);
        if (i > 0)
            assert_int_equal(list->tasks[i].dependencies[0], i);
    }
}

static void a_document_with_room_is_asked_about_at_once(void **state)
{
    (void)state;
    room = (struct dialogue_room){128000, 16000};
    begin(OP_PARSE_PRD, document(20), 5);
    assert_false(has(question(), "part 1"));
    assert_has(question(), "# Part 20\n");
    room = (struct dialogue_room){-1, -1};
    begin(OP_PARSE_PRD, document(200), 5);
    assert_has(question(), "# Part 200\n");
}

static void a_long_document_is_asked_about_part_by_part(void **state)
{
    (void)state;
    begin_long(12, 4);
    assert_has(question(), "<document>\n# Part 1\n");
    assert_has(question(), "part 1 of 2");
    assert_false(has(question(), "gave these tasks"));
    assert_false(has(question(), "# Part 7\n"));
    assert_has(question(), "exactly 2 tasks");
    assert_int_equal(answer(tasks("A", 1, 2)), DIALOGUE_ASK);
    assert_int_equal(dialogue_chat(dialogue)->message_count, 2);
    assert_has(question(), "<document>\n# Part 7\n");
    assert_has(question(), "part 2 of 2");
    assert_has(question(), "1. A 1\n2. A 2");
    assert_has(question(), "Number the tasks from 3.");
    assert_has(question(), "exactly 2 tasks");
    assert_int_equal(answer(tasks("B", 3, 2)), DIALOGUE_DONE);
    assert_result(4);
    assert_warned("read in 2 parts");
    assert_int_equal(dialogue_result(dialogue)->warnings.count, 1);
}

static void the_count_is_shared_out_by_size(void **state)
{
    int64_t total = 0, parts;

    (void)state;
    begin_long(40, 23);
    parts = number_behind("part 1 of ");
    assert_in_range(parts, 6, 9);
    for (int64_t i = 1; i <= parts; i++) {
        int64_t share = number_behind("exactly ");

        assert_in_range(share, 23 / parts, 23 / parts + 1);
        assert_int_equal(
            answer(tasks(arena_printf(&arena, "%c", (int)('A' + i)).data,
                         total + 1, share)),
            i < parts ? DIALOGUE_ASK : DIALOGUE_DONE);
        total += share;
    }
    assert_int_equal(total, 23);
    assert_result(23);
}

/* The only heading makes the first part more than three quarters. */
static void each_part_gets_a_task(void **state)
{
    char *text = arena_text(&arena, slice_of(document(160)));

    (void)state;
    for (char *c = text; (c = strstr(c, "# Part")) != NULL; c++)
        if (strncmp(c, "# Part 123\n", 11) != 0)
            *c = '-';
    request.options.max_tokens = 1;
    room = (struct dialogue_room){40000, 2000};
    begin(OP_PARSE_PRD, text, 2);
    assert_has(question(), "part 1 of 2");
    assert_true(question().size > 122000);
    assert_has(question(), "exactly 1 tasks");
    begin(OP_PARSE_PRD, text, 8);
    assert_has(question(), "exactly 6 tasks");
}

static void what_a_part_leaves_out_is_asked_of_the_next(void **state)
{
    (void)state;
    begin_long(12, 10);
    assert_has(question(), "exactly 5 tasks");
    assert_int_equal(answer(tasks("A", 1, 3)), DIALOGUE_ASK);
    assert_has(question(), "exactly 7 tasks");
    assert_int_equal(answer(tasks("B", 4, 6)), DIALOGUE_ASK);
    assert_has(last_message()->content, "6 tasks, exactly 7 are required");
    assert_int_equal(answer(tasks("B", 4, 7)), DIALOGUE_DONE);
    assert_result(10);
}

static void each_part_may_be_repaired_once(void **state)
{
    (void)state;
    begin_long(12, 4);
    assert_int_equal(answer("Hm."), DIALOGUE_ASK);
    assert_int_equal(answer(tasks("A", 1, 2)), DIALOGUE_ASK);
    assert_int_equal(answer("Hm."), DIALOGUE_ASK);
    assert_int_equal(answer(tasks("B", 3, 2)), DIALOGUE_DONE);
    assert_result(4);
    begin_long(12, 4);
    assert_int_equal(answer("Hm."), DIALOGUE_ASK);
    assert_int_equal(answer("Hm."), DIALOGUE_FAIL);
    assert_int_equal(err.code, ERR_INVALID_OUTPUT);
}

static void
a_part_that_counts_from_one_again_keeps_its_dependencies(void **state)
{
    const struct task_list *list;

    (void)state;
    begin_long(18, 0);
    assert_has(question(), "none if it asks for no work");
    assert_int_equal(answer(tasks("A", 1, 2)), DIALOGUE_ASK);
    assert_int_equal(answer("[{'id':1,'title':'B 1','dependencies':[7]},"
                            "{'id':2,'title':'B 2','dependencies':[1]}]"),
                     DIALOGUE_ASK);
    assert_has(question(), "2. A 2\n3. B 1\n4. B 2");
    assert_int_equal(answer("[{'id':5,'title':'C 1','dependencies':[2,3]},"
                            "{'id':6,'title':'C 2'},{'id':7,'title':'C 3'}]"),
                     DIALOGUE_DONE);
    list = &dialogue_result(dialogue)->tasks;
    assert_int_equal(list->count, 7);
    assert_int_equal(list->tasks[2].dependency_count, 0);
    assert_int_equal(list->tasks[3].dependencies[0], 3);
    assert_int_equal(list->tasks[4].dependencies[0], 2);
    assert_int_equal(list->tasks[4].dependencies[1], 3);
    assert_warned("task 1: dependency 7 dropped");
    assert_warned("tasks renumbered from 1");
}

static void a_part_may_hold_no_work_when_the_model_decides(void **state)
{
    (void)state;
    begin_long(12, 0);
    assert_int_equal(answer("{'tasks':[]}"), DIALOGUE_ASK);
    assert_has(question(), "part 2 of 2");
    assert_int_equal(answer("{'tasks':[]}"), DIALOGUE_ASK);
    assert_has(last_message()->content, "at least one is required");
    assert_int_equal(answer(tasks("A", 1, 1)), DIALOGUE_DONE);
    assert_result(1);
    begin_long(12, 0);
    assert_int_equal(answer(tasks("A", 1, 1)), DIALOGUE_ASK);
    assert_int_equal(answer("{'tasks':[]}"), DIALOGUE_DONE);
    assert_result(1);
}

static void a_cut_answer_of_a_part_is_continued(void **state)
{
    (void)state;
    begin_long(12, 4);
    assert_int_equal(answer("{'tasks':[{'id':1,'title':'A 1'},{'id':2"),
                     DIALOGUE_ASK);
    assert_has(last_message()->content, "exactly 1 tasks");
    assert_int_equal(
        answer("{'tasks':[{'id':2,'title':'A 2','dependencies':[1]}]}"),
        DIALOGUE_ASK);
    assert_has(question(), "part 2 of 2");
    assert_int_equal(answer(tasks("B", 3, 2)), DIALOGUE_DONE);
    assert_result(4);
}

static void fewer_tasks_than_parts_are_merged_in_a_last_question(void **state)
{
    (void)state;
    begin_long(18, 2);
    assert_has(question(), "part 1 of 3");
    assert_has(question(), "exactly 1 tasks");
    assert_int_equal(answer(tasks("A", 1, 1)), DIALOGUE_ASK);
    assert_int_equal(answer(tasks("B", 2, 1)), DIALOGUE_ASK);
    assert_int_equal(answer(tasks("C", 3, 1)), DIALOGUE_ASK);
    assert_int_equal(dialogue_chat(dialogue)->message_count, 2);
    assert_has(question(), "\"title\":\"B 1\"");
    assert_has(question(), "\"dependencies\":[\"2\"]");
    assert_has(question(), "exactly 2 tasks");
    assert_false(has(question(), "This is part"));
    assert_int_equal(answer(tasks("M", 1, 3)), DIALOGUE_ASK);
    assert_has(last_message()->content, "3 tasks, exactly 2 are required");
    assert_int_equal(answer(tasks("M", 1, 2)), DIALOGUE_DONE);
    assert_result(2);
    assert_slice(dialogue_result(dialogue)->tasks.tasks[1].title, "M 2");
    assert_warned("3 tasks of 3 parts");
}

static void about_so_many_tasks_are_not_lost_in_the_merging(void **state)
{
    (void)state;
    request.options.about = true;
    begin_long(18, 2);
    assert_int_equal(answer(tasks("A", 1, 1)), DIALOGUE_ASK);
    assert_int_equal(answer(tasks("B", 2, 1)), DIALOGUE_ASK);
    assert_int_equal(answer(tasks("C", 3, 1)), DIALOGUE_ASK);
    assert_int_equal(answer("No."), DIALOGUE_ASK);
    assert_int_equal(answer("No!"), DIALOGUE_DONE);
    assert_result(3);
}

static void what_was_got_before_a_refusal_is_given(void **state)
{
    (void)state;
    begin_long(18, 0);
    assert_int_equal(answer(tasks("A", 1, 2)), DIALOGUE_ASK);
    assert_int_equal(answer_with((struct completion){.text = slice_of(""),
                                                     .finish = FINISH_REFUSAL}),
                     DIALOGUE_DONE);
    assert_result(2);
    assert_warned("what follows part 2 of the document was not read");
}

static void a_document_of_too_many_parts_is_too_large(void **state)
{
    (void)state;
    room = (struct dialogue_room){100, 50};
    request.operation = OP_PARSE_PRD;
    request.text = slice_of(document(80));
    assert_null(dialogue_begin(&arena, &request, &assets.prompts, &room, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_string_equal(err.path, "content");
    assert_non_null(strstr(err.message, "over 64 times"));
}

static void what_a_provider_has_no_room_for_is_cut_smaller(void **state)
{
    (void)state;
    begin(OP_PARSE_PRD, document(12), 4);
    assert_true(dialogue_shrink(dialogue));
    assert_has(question(), "part 1 of 2");
    assert_int_equal(answer(tasks("A", 1, 2)), DIALOGUE_ASK);
    assert_int_equal(answer("{'tasks':[{'id':3,'title':'B 1'},{'id"),
                     DIALOGUE_ASK);
    assert_true(dialogue_shrink(dialogue));
    assert_has(question(), "part 2 of 3");
    assert_has(question(), "1. A 1\n2. A 2");
    assert_false(has(question(), "B 1"));
    assert_has(question(), "exactly 1 tasks");
    assert_int_equal(answer(tasks("B", 3, 1)), DIALOGUE_ASK);
    assert_int_equal(answer(tasks("C", 4, 1)), DIALOGUE_DONE);
    assert_result(4);
}

static void nothing_is_cut_without_end(void **state)
{
    int times = 0;

    (void)state;
    begin(OP_PARSE_PRD, document(30), 0);
    while (dialogue_shrink(dialogue))
        assert_in_range(++times, 1, 5);
    assert_in_range(times, 3, 5);
    begin(OP_PARSE_PRD, "Build a boat.", 0);
    assert_false(dialogue_shrink(dialogue));
    begin(OP_EXPAND_TASK, document(30), 0);
    assert_false(dialogue_shrink(dialogue));
}

static void the_sources_of_all_parts_are_traced(void **state)
{
    const struct coverage *coverage;

    (void)state;
    request.options.full = true;
    begin_long(12, 0);
    assert_int_equal(answer("[{'id':1,'title':'A','source':'Part 2'}]"),
                     DIALOGUE_ASK);
    assert_int_equal(answer("[{'id':2,'title':'B','source':'# Part 11'},"
                            "{'id':3,'title':'C'}]"),
                     DIALOGUE_DONE);
    coverage = &dialogue_result(dialogue)->coverage;
    assert_int_equal(coverage->count, 12);
    assert_int_equal(coverage->sources[0], 1);
    assert_int_equal(coverage->sources[1], 10);
    assert_true(coverage->sources[2] == SOURCE_NONE);
    assert_true(coverage->headings[10].covered);
    assert_false(coverage->headings[11].covered);
}

static void nobody_asked_for_a_trace_gets_none(void **state)
{
    (void)state;
    begin(OP_PARSE_PRD, "# Boat\nx", 0);
    assert_int_equal(answer("[{'id':1,'title':'A','source':'?'}]"),
                     DIALOGUE_DONE);
    assert_int_equal(dialogue_result(dialogue)->coverage.count, 0);
    assert_int_equal(dialogue_result(dialogue)->warnings.count, 0);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        TEST(a_document_with_room_is_asked_about_at_once),
        TEST(a_long_document_is_asked_about_part_by_part),
        TEST(the_count_is_shared_out_by_size),
        TEST(each_part_gets_a_task),
        TEST(what_a_part_leaves_out_is_asked_of_the_next),
        TEST(each_part_may_be_repaired_once),
        TEST(a_part_that_counts_from_one_again_keeps_its_dependencies),
        TEST(a_part_may_hold_no_work_when_the_model_decides),
        TEST(a_cut_answer_of_a_part_is_continued),
        TEST(fewer_tasks_than_parts_are_merged_in_a_last_question),
        TEST(about_so_many_tasks_are_not_lost_in_the_merging),
        TEST(what_was_got_before_a_refusal_is_given),
        TEST(a_document_of_too_many_parts_is_too_large),
        TEST(what_a_provider_has_no_room_for_is_cut_smaller),
        TEST(nothing_is_cut_without_end),
        TEST(the_sources_of_all_parts_are_traced),
        TEST(nobody_asked_for_a_trace_gets_none),
    };

    return cmocka_run_group_tests(all, read_priv, release_priv);
}
