/* The scripts of priv/scripts, each with a context as a caller would send. */
#include "tests/test_script_bed.h"

#include "llm_router/script/cache.h"

/* The answer's JSON; the test fails when the script does. */
static const struct jv *run_example(const char *name, const char *context)
{
    static const struct slice path = {"priv/scripts", 12};
    const struct script_folders folders = {&path, 1};
    static struct script_cache cache;
    struct slice code;
    bool ok;

    script_cache_init(&cache);
    buf_clear(&bed.out);
    ok = script_cache_find(&cache, &folders, slice_of(name),
                           &SCRIPT_DEFAULT_LIMITS, &code, &bed.fault) &&
         script_run(code, context ? bed_json(slice_of(context)) : NULL,
                    &bed.limits, &bed.out, &bed.fault);
    script_cache_release(&cache);
    return ok ? bed_json(buf_slice(&bed.out)) : NULL;
}

static struct slice content(const struct jv *result, size_t index,
                            const char *role)
{
    const struct jv *message = jv_at(jv_find(result, "messages"), index);

    assert_slice(jv_string(jv_find(message, "role")), role);
    return jv_string(jv_find(message, "content"));
}

static void assert_contains(struct slice text, const char *part)
{
    if (slice_find(text, slice_of(part)) < 0)
        fail_msg("%s is not in %.*s", part, SLICE_ARG(text));
}

static void summarize_takes_a_text_or_documents(void **state)
{
    const struct jv *result, *options;

    (void)state;
    result = run_example("summarize.lua",
                         "{\"text\":\"A long text.\",\"sentences\":2,"
                         "\"audience\":\"children\"}");
    assert_non_null(result);
    assert_int_equal(jv_count(jv_find(result, "messages")), 2);
    assert_slice(content(result, 1, "user"),
                 "<document title=\"Document 1\">\nA long text.\n</document>\n"
                 "\nSummarize the document in at most 2 sentences for "
                 "children.");
    options = jv_find(result, "options");
    assert_slice(jv_string(jv_find(options, "complexity")), "simple");
    result =
        run_example("summarize.lua",
                    "{\"documents\":[{\"title\":\"a\\\"b\",\"text\":\"1\"}"
                    ",{\"text\":\"2\"},{\"text\":\"3\"},{\"text\":\"4\"}]}");
    assert_contains(content(result, 1, "user"), "<document title=\"a\\\"b\">");
    assert_contains(content(result, 1, "user"),
                    "Summarize all documents together in at most 3 sentences.");
    options = jv_find(result, "options");
    assert_slice(jv_string(jv_find(options, "complexity")), "medium");
}

static void summarize_says_what_is_missing(void **state)
{
    (void)state;
    assert_null(run_example("summarize.lua", "{\"documents\":[{}]}"));
    assert_fault(10, "document 1 has no text");
}

static void code_review_holds_the_conversation(void **state)
{
    const struct jv *result;

    (void)state;
    result = run_example(
        "code_review.lua",
        "{\"diff\":\"--- a/x.c\\n+++ b/x.c\\n@@ -1 +1 @@\\n-a\\n+b\","
        "\"title\":\"Fix x\",\"rules\":[\"no goto\",\"no macros\"],"
        "\"past\":[{\"review\":\"x.c:1: why?\",\"reply\":\"see issue 3\"}]}");
    assert_non_null(result);
    assert_int_equal(jv_count(jv_find(result, "messages")), 5);
    assert_slice(content(result, 1, "system"),
                 "The rules of this project:\n1. no goto\n2. no macros");
    assert_contains(content(result, 2, "user"),
                    "Fix x\n\n```diff\n--- a/x.c\n+++ b/x.c\n");
    assert_slice(content(result, 3, "assistant"), "x.c:1: why?");
    assert_slice(content(result, 4, "user"), "see issue 3");
    assert_null(run_example("code_review.lua", "{}"));
    assert_int_equal(bed.fault.line, 6);
}

static void task_from_issue_asks_for_a_schema(void **state)
{
    const struct jv *result, *schema, *owner;
    struct slice said;

    (void)state;
    result = run_example(
        "task_from_issue.lua",
        "{\"issue\":{\"number\":7,\"title\":\"Crash\",\"body\":null,"
        "\"labels\":[],\"comments\":["
        "{\"author\":\"b\",\"body\":\"second\",\"created_at\":\"2024-02\"},"
        "{\"author\":\"ci[bot]\",\"body\":\"red\",\"created_at\":\"2024-03\"},"
        "{\"author\":\"a\",\"body\":\"first\",\"created_at\":\"2024-01\"}]},"
        "\"team\":[\"ann\",\"bob\"]}");
    assert_non_null(result);
    said = content(result, 1, "user");
    assert_slice(said, "{\"comments\":[{\"author\":\"a\",\"body\":\"first\","
                       "\"created_at\":\"2024-01\"},{\"author\":\"b\",\"body\":"
                       "\"second\",\"created_at\":\"2024-02\"}],\"labels\":[],"
                       "\"number\":7,\"title\":\"Crash\"}");
    schema = jv_find(jv_find(result, "options"), "schema");
    owner = jv_find(jv_find(schema, "properties"), "owner");
    assert_int_equal(jv_count(jv_find(owner, "enum")), 3);
    assert_int_equal(jv_at(jv_find(owner, "enum"), 2)->type, JV_NULL);
    assert_null(run_example("task_from_issue.lua", "{}"));
    assert_string_equal(bed.fault.message, "context.issue is missing");
    assert_null(run_example("task_from_issue.lua", NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_open, bed_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(summarize_takes_a_text_or_documents),
        TEST(summarize_says_what_is_missing),
        TEST(code_review_holds_the_conversation),
        TEST(task_from_issue_asks_for_a_schema),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
