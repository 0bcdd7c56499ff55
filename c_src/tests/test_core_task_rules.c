#include "llm_router/core/task_rules.h"

#include <math.h>
#include <time.h>

#include "llm_router/base/buf.h"
#include "unit.h"

static struct arena arena;
static struct warnings warnings;

static const struct tasks_shape TASKS = {"tasks", false, 1000};
static const struct tasks_shape ONE = {"task", true, 1000};

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    warnings = (struct warnings){.texts = NULL};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

/* JSON written with ' for ". */
static struct slice quotes(const char *text)
{
    char *json = arena_text(&arena, slice_of(text));

    for (char *c = json; *c; c++)
        if (*c == '\'')
            *c = '"';
    return slice_of(json);
}

static struct raw_task_list read_as(const struct tasks_shape *shape,
                                    const char *text)
{
    struct raw_task_list list;
    struct error err;

    if (!tasks_read(&arena, quotes(text), shape, &list, &err))
        fail_msg("%s: %s: %s", text, err.path, err.message);
    return list;
}

static void assert_fault(const struct tasks_shape *shape, const char *text,
                         const char *path)
{
    struct raw_task_list list;
    struct error err;

    if (tasks_read(&arena, quotes(text), shape, &list, &err))
        fail_msg("taken: %s", text);
    assert_int_equal(err.code, ERR_INVALID_OUTPUT);
    assert_string_equal(err.path, path);
}

static struct task_list settle_from(const struct raw_task_list *list,
                                    int64_t next_id)
{
    static const int64_t existing[] = {30, 7, 7, 31, 100};
    struct task_numbering numbering = {next_id, existing, 5};
    struct task_list tasks;

    tasks_settle(&arena, list, &numbering, &tasks, &warnings);
    return tasks;
}

static struct task_list settle(const char *text)
{
    struct raw_task_list list = read_as(&TASKS, text);
    struct task_numbering numbering = {.next_id = 1};
    struct task_list tasks;

    tasks_settle(&arena, &list, &numbering, &tasks, &warnings);
    return tasks;
}

/* "1 A []; 2 B [1]" */
static const char *shape_of(struct task_list tasks)
{
    struct buf buf;
    char *text;

    buf_init(&buf, SIZE_MAX);
    for (size_t i = 0; i < tasks.count; i++) {
        const struct task *task = &tasks.tasks[i];

        buf_printf(&buf, "%s%lld %.*s [", i > 0 ? "; " : "",
                   (long long)task->id, SLICE_ARG(task->title));
        for (size_t j = 0; j < task->dependency_count; j++)
            buf_printf(&buf, "%s%lld", j > 0 ? "," : "",
                       (long long)task->dependencies[j]);
        buf_append_text(&buf, "]");
    }
    text = arena_text(&arena, buf_slice(&buf));
    buf_release(&buf);
    return text;
}

static void assert_warned(const char *words)
{
    for (size_t i = 0; i < warnings.count; i++)
        if (slice_find(warnings.texts[i], slice_of(words)) >= 0)
            return;
    for (size_t i = 0; i < warnings.count; i++)
        print_message("warning: %.*s\n", SLICE_ARG(warnings.texts[i]));
    fail_msg("no warning has: %s", words);
}

static void assert_silent(void)
{
    if (warnings.count > 0)
        fail_msg("%.*s", SLICE_ARG(warnings.texts[0]));
}

static void a_list_that_is_right_is_taken_without_a_warning(void **state)
{
    struct task_list tasks = settle(
        "{'tasks':[{'id':1,'title':'A','description':'d','details':'e\\nf',"
        "'test_strategy':'t','priority':'high','dependencies':[],"
        "'estimated_hours':1.5},{'id':2,'title':'B','description':'',"
        "'details':null,'priority':'low','dependencies':[1],"
        "'estimated_hours':null,'status':'pending','subtasks':[]}]}");

    (void)state;
    assert_string_equal(shape_of(tasks), "1 A []; 2 B [1]");
    assert_slice(tasks.tasks[0].description, "d");
    assert_slice(tasks.tasks[0].details, "e\nf");
    assert_slice(tasks.tasks[0].test_strategy, "t");
    assert_int_equal(tasks.tasks[0].priority, PRIORITY_HIGH);
    assert_true(tasks.tasks[0].estimated_hours == 1.5);
    assert_null(tasks.tasks[1].description.data);
    assert_null(tasks.tasks[1].details.data);
    assert_null(tasks.tasks[1].test_strategy.data);
    assert_int_equal(tasks.tasks[1].priority, PRIORITY_LOW);
    assert_true(isnan(tasks.tasks[1].estimated_hours));
    assert_silent();
}

static void gaps_in_the_ids_are_closed_and_dependencies_follow(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':1,'title':'A'},{'id':2,'title':'B'},"
                        "{'id':4,'title':'C','dependencies':[2,1]},"
                        "{'id':9,'title':'D','dependencies':[4]}]")),
        "1 A []; 2 B []; 3 C [1,2]; 4 D [3]");
    assert_warned("renumbered from 1, the model's ids: 1, 2, 4, 9");
}

static void of_duplicate_ids_the_first_is_meant(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':1,'title':'A'},{'id':2,'title':'B'},"
                        "{'id':2,'title':'C','dependencies':[2]},"
                        "{'id':3,'title':'D','dependencies':[2]}]")),
        "1 A []; 2 B []; 3 C [2]; 4 D [2]");
    assert_warned("renumbered");
}

static void ids_from_zero_are_moved(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':0,'title':'A'},"
                        "{'id':1,'title':'B','dependencies':[0]},"
                        "{'id':2,'title':'C','dependencies':[1,0]}]")),
        "1 A []; 2 B [1]; 3 C [1,2]");
    assert_warned("renumbered from 1, the model's ids: 0, 1, 2");
}

static void ids_and_dependencies_may_be_text(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':'1','title':'A'},"
                        "{'id':' 02 ','title':'B','dependencies':['1']},"
                        "{'id':'T-3','title':'C','dependencies':[2.0,'1']},"
                        "{'id':4,'title':'D','dependencies':',T-3, 1,'},"
                        "{'id':5,'title':'E','dependencies':4}]")),
        "1 A []; 2 B [1]; 3 C [1,2]; 4 D [1,3]; 5 E [4]");
    assert_warned("renumbered");
    assert_int_equal(warnings.count, 1);
}

static void subtask_ids_with_points_are_ids_too(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':7.1,'title':'A'},"
                        "{'id':7.2,'title':'B','dependencies':[7.1]},"
                        "{'id':7.3,'title':'C','dependencies':['7.2']}]")),
        "1 A []; 2 B [1]; 3 C [2]");
}

static void without_ids_the_place_counts(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'title':'A'},{'title':'B','dependencies':[1]},"
                        "{'id':null,'title':'C','dependencies':[2]}]")),
        "1 A []; 2 B [1]; 3 C [2]");
    assert_silent();
}

static void a_forward_dependency_moves_its_task_back(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':1,'title':'A','dependencies':[2]},"
                        "{'id':2,'title':'B'},{'id':3,'title':'C'}]")),
        "1 B []; 2 A [1]; 3 C []");
    assert_warned("re-sorted, dependencies first: 2, 1, 3");
    assert_int_equal(warnings.count, 1);
}

static void a_list_out_of_order_keeps_its_dependencies(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':3,'title':'C','dependencies':[1,2]},"
                        "{'id':1,'title':'A'},"
                        "{'id':2,'title':'B','dependencies':[1]},"
                        "{'id':4,'title':'D','dependencies':[3]}]")),
        "1 A []; 2 B [1]; 3 C [1,2]; 4 D [3]");
    assert_warned("re-sorted");
}

static void the_order_is_stable(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':1,'title':'A','dependencies':[5]},"
                        "{'id':2,'title':'B'},{'id':3,'title':'C'},"
                        "{'id':4,'title':'D','dependencies':[1]},"
                        "{'id':5,'title':'E'},{'id':6,'title':'F'}]")),
        "1 B []; 2 C []; 3 E []; 4 A [3]; 5 D [4]; 6 F []");
}

static void a_cycle_loses_the_edge_that_looks_ahead(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':1,'title':'A','dependencies':[2]},"
                        "{'id':2,'title':'B','dependencies':[1]}]")),
        "1 A []; 2 B [1]");
    assert_warned("task 1: dependency 2 dropped, it closed a cycle");
    assert_int_equal(warnings.count, 1);
}

static void only_one_edge_of_a_long_cycle_is_lost(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':1,'title':'A','dependencies':[3]},"
                        "{'id':2,'title':'B','dependencies':[1]},"
                        "{'id':3,'title':'C','dependencies':[2]},"
                        "{'id':4,'title':'D','dependencies':[1,3]}]")),
        "1 A []; 2 B [1]; 3 C [2]; 4 D [1,3]");
    assert_warned("task 1: dependency 3 dropped, it closed a cycle");
    assert_int_equal(warnings.count, 1);
}

static void tasks_around_a_cycle_keep_their_edges(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':1,'title':'A'},"
                        "{'id':2,'title':'B','dependencies':[1,3]},"
                        "{'id':3,'title':'C','dependencies':[1,2]},"
                        "{'id':4,'title':'D','dependencies':[2]},"
                        "{'id':5,'title':'E','dependencies':[4,3]}]")),
        "1 A []; 2 B [1]; 3 C [1,2]; 4 D [2]; 5 E [3,4]");
    assert_int_equal(warnings.count, 1);
}

static void dangling_and_self_dependencies_are_dropped(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':1,'title':'A','dependencies':[9,'x',1]},"
                        "{'id':2,'title':'B','dependencies':[1,true,{},1]}]")),
        "1 A []; 2 B [1]");
    assert_warned("task 1: dependency 9 dropped, there is no such task");
    assert_warned("task 1: dependency x dropped");
    assert_warned("task 1: dependency on itself dropped");
    assert_warned("tasks[1].dependencies: left out one that is boolean");
    assert_warned("tasks[1].dependencies: left out one that is object");
    assert_warned("task 2: dependency 1 was there twice");
}

static void dependencies_on_existing_tasks_are_kept(void **state)
{
    struct raw_task_list list =
        read_as(&TASKS, "[{'id':32,'title':'A','dependencies':[7,'31',8]},"
                        "{'id':33,'title':'B','dependencies':[32,30,100]}]");

    (void)state;
    assert_string_equal(shape_of(settle_from(&list, 32)),
                        "32 A [7,31]; 33 B [30,32]");
    assert_warned("task 32: dependency 8 dropped");
    assert_warned("task 33: dependency 100 dropped");
    list = read_as(&TASKS, "[{'id':'x','title':'A','dependencies':[30,31]}]");
    assert_string_equal(shape_of(settle_from(&list, 31)), "31 A [30]");
}

static void numbering_may_begin_elsewhere_whatever_the_model_did(void **state)
{
    struct raw_task_list list =
        read_as(&TASKS, "[{'id':1,'title':'A','dependencies':[30]},"
                        "{'id':2,'title':'B','dependencies':[1]}]");

    (void)state;
    assert_string_equal(shape_of(settle_from(&list, 32)),
                        "32 A [30]; 33 B [32]");
    assert_warned("renumbered from 32, the model's ids: 1, 2");
}

static void a_status_is_not_taken_from_the_model(void **state)
{
    (void)state;
    assert_int_equal(settle("[{'id':1,'title':'A','status':'done'}]").count, 1);
    assert_warned("tasks[0].status: \"done\" left out");
}

static void subtasks_of_new_tasks_are_left_out_with_a_warning(void **state)
{
    (void)state;
    settle("[{'id':1,'title':'A','subtasks':[{'title':'x'}]}]");
    assert_warned("tasks[0].subtasks: left out");
}

static void priorities_have_synonyms(void **state)
{
    static const struct {
        const char *word;
        enum priority priority;
    } words[] = {
        {"critical", PRIORITY_HIGH},   {"Urgent", PRIORITY_HIGH},
        {"P0", PRIORITY_HIGH},         {"p1", PRIORITY_HIGH},
        {"HIGH", PRIORITY_HIGH},       {"normal", PRIORITY_MEDIUM},
        {"moderate", PRIORITY_MEDIUM}, {"p2", PRIORITY_MEDIUM},
        {"minor", PRIORITY_LOW},       {"p3", PRIORITY_LOW},
        {" low ", PRIORITY_LOW},       {"whenever", PRIORITY_MEDIUM},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        struct slice text = arena_printf(
            &arena, "[{'id':1,'title':'A','priority':'%s'}]", words[i].word);
        struct task_list tasks = settle(text.data);

        assert_int_equal(tasks.tasks[0].priority, words[i].priority);
        if (warnings.count !=
                (slice_is(slice_of(words[i].word), " low ") ? i : i + 1) &&
            i < 10)
            fail_msg("no warning for %s", words[i].word);
    }
    assert_warned("tasks[0].priority: \"critical\" read as high");
    assert_warned("tasks[0].priority: \"whenever\" read as medium");
}

static void a_priority_of_another_type_is_medium(void **state)
{
    (void)state;
    assert_int_equal(
        settle("[{'id':1,'title':'A','priority':1}]").tasks[0].priority,
        PRIORITY_MEDIUM);
    assert_warned("priority");
}

static void fields_have_the_names_that_models_use(void **state)
{
    struct task_list tasks =
        settle("[{'id':1,'name':'A','testStrategy':'t','estimatedHours':3},"
               "{'id':2,'title':'B','dependsOn':[1]},"
               "{'id':3,'title':'C','depends_on':[2],'dependencies':null}]");

    (void)state;
    assert_string_equal(shape_of(tasks), "1 A []; 2 B [1]; 3 C [2]");
    assert_slice(tasks.tasks[0].test_strategy, "t");
    assert_true(tasks.tasks[0].estimated_hours == 3);
    assert_silent();
}

static void titles_are_one_trimmed_line(void **state)
{
    (void)state;
    assert_string_equal(
        shape_of(settle("[{'id':1,'title':'  a\\r\\n\\tb  c\\u0000\\u0007 '},"
                        "{'id':2,'title':'\\u00a0d\\u2028e\\u3000\\u0085'},"
                        "{'id':3,'title':'f\\u2003g\\u205f\\u1680h\\u202f'}]")),
        "1 a b c []; 2 d e []; 3 f g h []");
}

static void long_titles_are_cut_at_200_characters(void **state)
{
    char text[2048] = "[{'id':1,'title':'";
    struct task_list tasks;

    (void)state;
    for (int i = 0; i < 199; i++)
        strcat(text, "\xE2\x82\xAC");
    strcat(text, " xyz'}]");
    tasks = settle(text);
    assert_int_equal(tasks.tasks[0].title.size, 199 * 3);
    assert_warned("tasks[0].title: cut at 200 characters");
    warnings.count = 0;
    text[strlen(text) - 7] = 'x'; /* for the space: 200 and some */
    tasks = settle(text);
    assert_int_equal(tasks.tasks[0].title.size, 199 * 3 + 1);
    assert_warned("cut");
}

static void a_title_of_just_200_characters_is_not_cut(void **state)
{
    char text[2048] = "[{'id':1,'title':'";

    (void)state;
    for (int i = 0; i < 200; i++)
        strcat(text, "\xC3\xA4");
    strcat(text, "  '}]");
    assert_int_equal(settle(text).tasks[0].title.size, 400);
    assert_silent();
}

static void text_of_another_type_is_not_lost(void **state)
{
    struct task_list tasks =
        settle("[{'id':1,'title':'A','details':['one','two'],"
               "'description':{'why':[1]},'test_strategy':5}]");

    (void)state;
    assert_slice(tasks.tasks[0].details, "one\ntwo");
    assert_slice(tasks.tasks[0].description, "{\"why\":[1]}");
    assert_slice(tasks.tasks[0].test_strategy, "5");
    assert_null(
        settle("[{'id':1,'title':'A','details':[]}]").tasks[0].details.data);
    assert_warned("tasks[0].details: list of lines joined");
    assert_warned("tasks[0].description: object kept as JSON text");
}

static void hours_are_numbers(void **state)
{
    struct task_list tasks =
        settle("[{'title':'A','estimated_hours':'4 h'},"
               "{'title':'B','estimated_hours':'2.5 Hours'},"
               "{'title':'C','estimated_hours':'4-6'},"
               "{'title':'D','estimated_hours':-1},"
               "{'title':'E','estimated_hours':[1]},"
               "{'title':'F','estimated_hours':0},"
               "{'title':'G','estimated_hours':''}]");

    (void)state;
    assert_true(tasks.tasks[0].estimated_hours == 4);
    assert_true(tasks.tasks[1].estimated_hours == 2.5);
    assert_true(isnan(tasks.tasks[2].estimated_hours));
    assert_true(isnan(tasks.tasks[3].estimated_hours));
    assert_true(isnan(tasks.tasks[4].estimated_hours));
    assert_true(tasks.tasks[5].estimated_hours == 0);
    assert_true(isnan(tasks.tasks[6].estimated_hours));
    assert_warned("tasks[0].estimated_hours: text read as a number");
    assert_warned("tasks[2].estimated_hours: left out");
    assert_int_equal(warnings.count, 6);
}

static void the_list_is_found_in_its_wrappings(void **state)
{
    static const char *const texts[] = {
        "[{'title':'A'}]",
        "```json\n{'tasks':[{'title':'A'}]}\n```",
        "Here are your tasks:\n\n{'tasks':[{'title':'A'}]}\n\nHave fun!",
        "{'data':[{'title':'A'}]}",
        "{'data':{'tasks':[{'title':'A'}]}}",
        "{'note':{'x':1},'items':[{'title':'A'}],'tags':['b']}",
        "{'result':{'items':[{'title':'A'}]},'count':1}",
        "[{'tasks':[{'title':'A'}]}]",
        "{'name':'Plan','tasks':[{'title':'A'}],'more':[{'title':'B'}]}",
        "{'tasks':[{'title':'A',},],}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        assert_string_equal(shape_of(settle(texts[i])), "1 A []");
    assert_silent();
}

static void one_task_may_stand_alone_where_one_is_wanted(void **state)
{
    static const char *const texts[] = {
        "{'title':'A','dependencies':[]}",
        "{'task':{'title':'A','subtasks':[]}}",
        "{'tasks':[{'title':'A'}]}",
        "[{'title':'A'}]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct raw_task_list list = read_as(&ONE, texts[i]);

        assert_int_equal(list.count, 1);
        assert_slice(list.tasks[0].task.title, "A");
    }
    /* The first of several lines of JSON must not pass for all of them. */
    assert_fault(&TASKS, "{'title':'A'}\n{'title':'B'}", "tasks");
}

static void an_answer_without_a_list_is_a_fault(void **state)
{
    static const char *const texts[] = {
        "",
        "I cannot help with that.",
        "{}",
        "{'tasks':'none'}",
        "{'a':[{'title':'A'}],'b':[{'title':'B'}]}",
        "{'a':{'b':{'tasks':[{'title':'A'}]}}}",
        "{'data':[]}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        assert_fault(&TASKS, texts[i], "tasks");
}

static void an_element_that_is_no_task_is_a_fault_with_its_path(void **state)
{
    (void)state;
    assert_fault(&TASKS, "[{'title':'A'},{'id':2}]", "tasks[1].title");
    assert_fault(&TASKS, "[{'title':'A'},{'title':' \\n'}]", "tasks[1].title");
    assert_fault(&TASKS, "[{'title':['A']}]", "tasks[0].title");
    assert_fault(&TASKS, "{'tasks':['A','B']}", "tasks[0]");
    assert_fault(&TASKS, "[{'title':'A'},null]", "tasks[1]");
    assert_fault(&ONE, "{'task':{'title':''}}", "task.title");
}

static void more_elements_than_allowed_are_a_fault(void **state)
{
    const struct tasks_shape two = {"tasks", false, 2};

    (void)state;
    assert_int_equal(read_as(&two, "[{'title':'A'},{'title':'B'}]").count, 2);
    assert_fault(&two, "[{'title':'A'},{'title':'B'},{'title':'C'}]", "tasks");
}

static void a_cut_list_keeps_what_is_complete(void **state)
{
    struct raw_task_list list =
        read_as(&TASKS, "{'tasks':[{'id':1,'title':'A'},{'id':2,'title':'B',"
                        "'details':'Unterminated str");

    (void)state;
    assert_int_equal(list.count, 1);
    assert_true(list.cut);
    list = read_as(&TASKS, "[{'id':1,'title':'A'},{'id':2,'title':'B'}");
    assert_int_equal(list.count, 2);
    assert_true(list.cut);
    list = read_as(&TASKS, "{'tasks':[{'id':1,'title':'A'}],'note':'cut h");
    assert_int_equal(list.count, 1);
    assert_false(list.cut);
}

static void cut_before_the_first_task_is_a_fault(void **state)
{
    (void)state;
    assert_fault(&TASKS, "{'tasks':[{'id':1,'title':'A', 'details':'x",
                 "tasks");
    assert_fault(&TASKS, "{'ta", "tasks");
    assert_fault(&ONE, "{'title':'A', 'details':'x", "task");
}

static void parts_that_go_on_counting_are_joined(void **state)
{
    struct raw_task_list list =
        read_as(&TASKS, "[{'id':1,'title':'A'},{'id':2,'title':'B',"
                        "'dependencies':[1,4]}");
    struct raw_task_list part =
        read_as(&TASKS, "[{'id':3,'title':'C','dependencies':[2]},"
                        "{'id':4,'title':'D','dependencies':[1]}]");

    (void)state;
    tasks_join(&arena, &list, &part);
    assert_false(list.cut);
    assert_string_equal(shape_of(settle_from(&list, 1)),
                        "1 A []; 2 D [1]; 3 B [1,2]; 4 C [3]");
}

static void parts_that_begin_again_at_one_are_joined(void **state)
{
    struct raw_task_list list =
        read_as(&TASKS, "[{'id':1,'title':'A'},{'id':2,'title':'B'},"
                        "{'id':3,'title':'C','dependencies':[2]}");
    struct raw_task_list part =
        read_as(&TASKS, "[{'id':1,'title':'D','dependencies':[1,3]},"
                        "{'id':2,'title':'E','dependencies':[1]}]");

    (void)state;
    tasks_join(&arena, &list, &part);
    /* D cannot mean itself by 1, E means D. */
    assert_string_equal(shape_of(settle_from(&list, 1)),
                        "1 A []; 2 B []; 3 C [2]; 4 D [1,3]; 5 E [4]");
    assert_warned("renumbered");
}

static void what_a_later_part_repeats_is_left_out(void **state)
{
    struct raw_task_list list =
        read_as(&TASKS, "[{'id':1,'title':'A'},{'id':2,'title':'B'}");
    struct raw_task_list part =
        read_as(&TASKS, "[{'id':2,'title':'B'},"
                        "{'id':3,'title':'C','dependencies':[2]}]");

    (void)state;
    tasks_join(&arena, &list, &part);
    assert_string_equal(shape_of(settle_from(&list, 1)),
                        "1 A []; 2 B []; 3 C [2]");
    assert_warned("left out, as it was there before: \"B\"");
}

static void warnings_have_an_end(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    buf_append_text(&buf, "[{'title':'A','dependencies':[1000");
    for (int i = 0; i < 300; i++)
        buf_printf(&buf, ",%d", 1001 + i);
    buf_append(&buf, "]}]", 4);
    settle(buf.data);
    buf_release(&buf);
    assert_int_equal(warnings.count, WARNINGS_MAX);
    assert_slice(warnings.texts[WARNINGS_MAX - 1],
                 "further warnings are left out");
}

static size_t warnings_of_dependencies(const char *open, const char *more,
                                       const char *close)
{
    struct raw_task_list list;
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    buf_printf(&buf, "[{'title':'A','dependencies':%s", open);
    for (int i = 0; i < 1000; i++)
        buf_printf(&buf, "%s7", i > 0 ? "," : "");
    buf_append_text(&buf, more);
    buf_append(&buf, close, strlen(close) + 1);
    list = read_as(&TASKS, buf.data);
    buf_release(&buf);
    return list.warnings.count;
}

/* What is wrong behind them is not looked at: one warning for all. */
static void dependencies_over_a_thousand_are_not_read(void **state)
{
    (void)state;
    assert_int_equal(warnings_of_dependencies("[", "", "]}]"), 0);
    assert_int_equal(warnings_of_dependencies("[", ",{},{},1,2,3", "]}]"), 1);
    assert_int_equal(warnings_of_dependencies("'", "", "'}]"), 0);
    assert_int_equal(warnings_of_dependencies("'", ",1,2,3", "'}]"), 1);
}

/* Of the processor, so that other programs do not count. */
static double milliseconds(void)
{
    return (double)clock() * 1e3 / CLOCKS_PER_SEC;
}

/* A thousand tasks that all need each other, and many dangling ones. */
static void hostile_lists_take_bounded_time(void **state)
{
    double start = milliseconds();
    struct buf buf;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    for (int i = 0; i < 1000; i++) {
        buf_printf(&buf, "%s{'id':%d,'title':'T%d','dependencies':[",
                   i == 0 ? "[" : ",", i, i);
        for (int j = 0; j < 1100; j++)
            buf_printf(&buf, "%s%d", j > 0 ? "," : "", j);
        buf_append_text(&buf, "]}");
    }
    buf_append(&buf, "]", 2);
    assert_int_equal(settle(buf.data).count, 1000);
    buf_release(&buf);
    assert_true(milliseconds() - start < 10000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_list_that_is_right_is_taken_without_a_warning),
        TEST(gaps_in_the_ids_are_closed_and_dependencies_follow),
        TEST(of_duplicate_ids_the_first_is_meant),
        TEST(ids_from_zero_are_moved),
        TEST(ids_and_dependencies_may_be_text),
        TEST(subtask_ids_with_points_are_ids_too),
        TEST(without_ids_the_place_counts),
        TEST(a_forward_dependency_moves_its_task_back),
        TEST(a_list_out_of_order_keeps_its_dependencies),
        TEST(the_order_is_stable),
        TEST(a_cycle_loses_the_edge_that_looks_ahead),
        TEST(only_one_edge_of_a_long_cycle_is_lost),
        TEST(tasks_around_a_cycle_keep_their_edges),
        TEST(dangling_and_self_dependencies_are_dropped),
        TEST(dependencies_on_existing_tasks_are_kept),
        TEST(numbering_may_begin_elsewhere_whatever_the_model_did),
        TEST(a_status_is_not_taken_from_the_model),
        TEST(subtasks_of_new_tasks_are_left_out_with_a_warning),
        TEST(priorities_have_synonyms),
        TEST(a_priority_of_another_type_is_medium),
        TEST(fields_have_the_names_that_models_use),
        TEST(titles_are_one_trimmed_line),
        TEST(long_titles_are_cut_at_200_characters),
        TEST(a_title_of_just_200_characters_is_not_cut),
        TEST(text_of_another_type_is_not_lost),
        TEST(hours_are_numbers),
        TEST(the_list_is_found_in_its_wrappings),
        TEST(one_task_may_stand_alone_where_one_is_wanted),
        TEST(an_answer_without_a_list_is_a_fault),
        TEST(an_element_that_is_no_task_is_a_fault_with_its_path),
        TEST(more_elements_than_allowed_are_a_fault),
        TEST(a_cut_list_keeps_what_is_complete),
        TEST(cut_before_the_first_task_is_a_fault),
        TEST(parts_that_go_on_counting_are_joined),
        TEST(parts_that_begin_again_at_one_are_joined),
        TEST(what_a_later_part_repeats_is_left_out),
        TEST(warnings_have_an_end),
        TEST(dependencies_over_a_thousand_are_not_read),
        TEST(hostile_lists_take_bounded_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
