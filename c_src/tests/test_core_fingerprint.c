#include "llm_router/core/fingerprint.h"

#include <math.h>

#include "unit.h"

static const struct request PLAIN = {
    .operation = OP_CALL,
    .options = {.temperature = NAN, .top_p = NAN, .next_id = 1},
};

static bool are_same(const struct request *a, const struct request *b)
{
    struct buf left, right;
    bool same;

    buf_init(&left, 1024 * 1024);
    buf_init(&right, 1024 * 1024);
    request_fingerprint(a, &left);
    request_fingerprint(b, &right);
    assert_false(left.failed || right.failed);
    same = slice_equal(buf_slice(&left), buf_slice(&right));
    buf_release(&left);
    buf_release(&right);
    return same;
}

#define ASSERT_DIFFERENT(member, value)            \
    do {                                           \
        struct request changed = PLAIN;            \
                                                   \
        changed.member = (value);                  \
        if (are_same(&PLAIN, &changed))            \
            fail_msg("%s does not show", #member); \
    } while (0)

#define ASSERT_SAME(member, value)         \
    do {                                   \
        struct request changed = PLAIN;    \
                                           \
        changed.member = (value);          \
        if (!are_same(&PLAIN, &changed))   \
            fail_msg("%s shows", #member); \
    } while (0)

static void what_changes_the_question_changes_the_fingerprint(void **state)
{
    (void)state;
    ASSERT_DIFFERENT(operation, OP_STREAM);
    ASSERT_DIFFERENT(text, slice_of("x"));
    ASSERT_DIFFERENT(context, slice_of("x"));
    ASSERT_DIFFERENT(count, 7);
    ASSERT_DIFFERENT(caller_task, slice_of("x"));
    ASSERT_DIFFERENT(options.model, slice_of("x"));
    ASSERT_DIFFERENT(options.provider, slice_of("x"));
    ASSERT_DIFFERENT(options.task_type, slice_of("x"));
    ASSERT_DIFFERENT(options.complexity, COMPLEXITY_SIMPLE);
    ASSERT_DIFFERENT(options.max_tokens, 7);
    ASSERT_DIFFERENT(options.temperature, 0);
    ASSERT_DIFFERENT(options.top_p, 0.5);
    ASSERT_DIFFERENT(options.has_seed, true);
    ASSERT_DIFFERENT(options.seed, 7);
    ASSERT_DIFFERENT(options.effort, EFFORT_LOW);
    ASSERT_DIFFERENT(options.tool_choice, TOOL_CHOICE_NONE);
    ASSERT_DIFFERENT(options.tool_name, slice_of("x"));
    ASSERT_DIFFERENT(options.api_version, API_VERSION_CHAT);
    ASSERT_DIFFERENT(options.previous_response_id, slice_of("x"));
    ASSERT_DIFFERENT(options.store, STORE_NO);
    ASSERT_DIFFERENT(options.capabilities, CAPABILITY_VISION);
    ASSERT_DIFFERENT(options.language, slice_of("x"));
    ASSERT_DIFFERENT(options.about, true);
    ASSERT_DIFFERENT(options.next_id, 7);
}

static void how_the_answer_comes_does_not(void **state)
{
    (void)state;
    ASSERT_SAME(options.request_id, slice_of("x"));
    ASSERT_SAME(options.timeout_ms, 7);
    ASSERT_SAME(options.keys, KEYS_STRINGS);
    ASSERT_SAME(options.full, true);
    ASSERT_SAME(options.metadata, slice_of("x"));
    ASSERT_SAME(options.to, slice_of("x"));
    ASSERT_SAME(options.cache, CACHE_NO);
    ASSERT_SAME(options.temperature, -NAN);
}

static void what_lists_hold_shows_and_where_one_ends(void **state)
{
    const struct jv schema = {.type = JV_OBJECT, .complete = true};
    const int64_t ids[] = {7};
    const struct slice one[] = {SLICE_LITERAL("ab")};
    const struct slice two[] = {SLICE_LITERAL("a"), SLICE_LITERAL("b")};
    const struct given_task given[] = {{.title = SLICE_LITERAL("x")}};
    const struct tool tools[] = {{.name = SLICE_LITERAL("f")},
                                 {.name = SLICE_LITERAL("f"), .strict = true}};
    struct message messages[] = {{.role = ROLE_USER}, {.role = ROLE_ASSISTANT}};
    struct request a = PLAIN, b = PLAIN;

    (void)state;
    ASSERT_DIFFERENT(options.schema, &schema);
    ASSERT_DIFFERENT(options.mcp_servers, &schema);
    a.options.existing = ids;
    a.options.existing_count = 1;
    assert_false(are_same(&a, &PLAIN));
    a = PLAIN;
    a.texts = one;
    a.text_count = 1;
    b.texts = two;
    b.text_count = 2;
    assert_false(are_same(&a, &b));
    a = b = PLAIN;
    a.options.stops = one;
    a.options.stop_count = 1;
    assert_false(are_same(&a, &PLAIN));
    a = PLAIN;
    a.given = given;
    a.given_count = 1;
    assert_false(are_same(&a, &PLAIN));
    a = b = PLAIN;
    a.options.tools = &tools[0];
    b.options.tools = &tools[1];
    a.options.tool_count = b.options.tool_count = 1;
    assert_false(are_same(&a, &b));
    a = b = PLAIN;
    a.messages = &messages[0];
    b.messages = &messages[1];
    a.message_count = b.message_count = 1;
    assert_false(are_same(&a, &b));
    b.messages = &messages[0];
    assert_true(are_same(&a, &b));
}

static void the_tool_calls_of_messages_show(void **state)
{
    const struct tool_call call = {
        .id = SLICE_LITERAL("i"),
        .name = SLICE_LITERAL("f"),
        .arguments = SLICE_LITERAL("{}"),
    };
    struct message plain = {.role = ROLE_ASSISTANT}, calling = plain,
                   answering = plain;
    struct request a = PLAIN, b = PLAIN;

    (void)state;
    calling.tool_calls = &call;
    calling.tool_call_count = 1;
    answering.tool_call_id = slice_of("i");
    a.message_count = b.message_count = 1;
    a.messages = &plain;
    b.messages = &calling;
    assert_false(are_same(&a, &b));
    b.messages = &answering;
    assert_false(are_same(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_changes_the_question_changes_the_fingerprint),
        cmocka_unit_test(how_the_answer_comes_does_not),
        cmocka_unit_test(what_lists_hold_shows_and_where_one_ends),
        cmocka_unit_test(the_tool_calls_of_messages_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
