#include "llm_router/core/coverage.h"

#include "unit.h"

static const char BOAT[] = "A boat for two people.\n" /* 0 */
                           "# Hull\n"                 /* 1, line 2 */
                           "Planks of oak, copper nails.\n"
                           "## 1.1 Keel\n" /* 2, line 4 */
                           "Lead ballast below the keel.\n"
                           "## Tests\n" /* 3, line 6 */
                           "Pour water into the hull.\n"
                           "# Sails\n" /* 4, line 8 */
                           "Canvas mainsail with reefing lines.\n"
                           "## Tests\n" /* 5, line 10 */
                           "Hoist the mainsail against strong wind.\n"
                           "# Colours\n" /* 6, line 12 */
                           "White above, red below.\n";

static struct arena arena;
static struct outline outline;
static struct coverage coverage;
static struct warnings warnings;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    warnings = (struct warnings){.count = 0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

static void trace(const char *document, struct task *tasks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        tasks[i].id = (int64_t)i + 1;
    outline_read(&arena, slice_of(document), &outline);
    coverage_trace(&arena, &outline, &(struct task_list){tasks, count},
                   &coverage, &warnings);
}

/* The heading found for a task of these words, as an index; -1: none. */
static int source_of(const char *source, const char *title,
                     const char *description)
{
    struct task task = {.title = slice_of(title),
                        .description = slice_of(description),
                        .source = slice_of(source)};

    trace(BOAT, &task, 1);
    return coverage.sources[0] == SOURCE_NONE ? -1 : (int)coverage.sources[0];
}

static void assert_warned(const char *words)
{
    assert_int_equal(warnings.count, 1);
    if (slice_find(warnings.texts[0], slice_of(words)) < 0)
        fail_msg("\"%s\" is not in: %s", words, warnings.texts[0].data);
}

static void a_heading_is_found_as_it_stands(void **state)
{
    (void)state;
    assert_int_equal(source_of("Hull", "X", NULL), 1);
    assert_int_equal(source_of(" 1.1 Keel ", "X", NULL), 2);
    assert_int_equal(warnings.count, 0);
}

static void marks_numbers_case_and_paths_make_no_difference(void **state)
{
    (void)state;
    assert_int_equal(source_of("## HULL", "X", NULL), 1);
    assert_int_equal(source_of("Keel", "X", NULL), 2);
    assert_int_equal(source_of("Section: 1.1 **Keel**", "X", NULL), -1);
    assert_int_equal(source_of("2. Sails:", "X", NULL), 4);
    assert_int_equal(source_of("Hull > 1.1 Keel", "X", NULL), 2);
}

static void of_headings_with_one_name_the_words_decide(void **state)
{
    (void)state;
    assert_int_equal(source_of("Tests", "Hoist the mainsail", NULL), 5);
    assert_int_equal(source_of("Tests", "Pour water", "until it is full"), 3);
    assert_int_equal(source_of("Tests", "Something else", NULL), 3);
    assert_int_equal(source_of("Tests", "Reefing lines of the mainsail", NULL),
                     5);
    assert_int_equal(warnings.count, 0);
}

static void without_a_name_the_words_decide(void **state)
{
    (void)state;
    assert_int_equal(
        source_of(NULL, "Sew the canvas mainsail", "with reefing lines"), 4);
    assert_int_equal(source_of(NULL, "Build for people", "A boat for two"), 0);
    assert_int_equal(warnings.count, 0);
}

static void a_name_that_is_not_there_is_not_believed(void **state)
{
    (void)state;
    assert_int_equal(source_of("Rigging", "Buy rope", NULL), -1);
    assert_warned("task 1: source \"Rigging\" left out");
    warnings.count = 0;
    assert_int_equal(source_of("Rigging", "Cast lead ballast", NULL), 2);
    assert_warned("source \"Rigging\" read as \"1.1 Keel\"");
}

static void a_few_common_words_prove_nothing(void **state)
{
    (void)state;
    assert_int_equal(source_of(NULL, "Write white paper",
                               "about people who work below deck in winter"),
                     -1);
}

static void rare_words_say_more_than_common_ones(void **state)
{
    struct task task = {.title = SLICE_LITERAL("boat words zebra")};

    (void)state;
    trace("# A\nboat words\n# B\nboat words\n# C\nboat words\n"
          "# D\nboat zebra\n",
          &task, 1);
    assert_int_equal(coverage.sources[0], 3);
}

static void what_no_task_came_of_is_seen(void **state)
{
    struct task tasks[] = {{.source = SLICE_LITERAL("1.1 Keel")},
                           {.source = SLICE_LITERAL("Sails")}};

    (void)state;
    trace(BOAT, tasks, 2);
    assert_int_equal(coverage.count, 7);
    assert_slice(coverage.headings[2].text, "1.1 Keel");
    assert_int_equal(coverage.headings[2].line, 4);
    assert_int_equal(coverage.headings[6].line, 12);
    assert_false(coverage.headings[0].covered);
    assert_true(coverage.headings[1].covered); /* by the one below it */
    assert_true(coverage.headings[2].covered);
    assert_false(coverage.headings[3].covered);
    assert_true(coverage.headings[4].covered);
    assert_false(coverage.headings[5].covered);
    assert_false(coverage.headings[6].covered);
}

static void a_document_without_headings_covers_nothing(void **state)
{
    struct task task = {.source = SLICE_LITERAL("Hull")};

    (void)state;
    trace("Just prose.", &task, 1);
    assert_int_equal(coverage.count, 0);
    assert_int_equal(warnings.count, 0);
}

/* Words that all tasks have must not make the work grow with their square. */
static void many_tasks_of_the_same_words_are_quick(void **state)
{
    enum { TASKS = 1000 };
    struct task *tasks = arena_array(&arena, TASKS, sizeof(*tasks));
    struct buf buf;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    for (int i = 0; i < 2000; i++)
        buf_printf(&buf, "# Part %d\nbuild paint water hull sails wind\n", i);
    for (int i = 0; i < TASKS; i++)
        tasks[i] = (struct task){
            .title = SLICE_LITERAL("build paint water hull sails wind")};
    trace(arena_text(&arena, buf_slice(&buf)), tasks, TASKS);
    buf_release(&buf);
    assert_int_equal(coverage.count, 2000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_heading_is_found_as_it_stands),
        TEST(marks_numbers_case_and_paths_make_no_difference),
        TEST(of_headings_with_one_name_the_words_decide),
        TEST(without_a_name_the_words_decide),
        TEST(a_name_that_is_not_there_is_not_believed),
        TEST(a_few_common_words_prove_nothing),
        TEST(rare_words_say_more_than_common_ones),
        TEST(what_no_task_came_of_is_seen),
        TEST(a_document_without_headings_covers_nothing),
        TEST(many_tasks_of_the_same_words_are_quick),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
