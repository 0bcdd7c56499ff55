#include "llm_router/api/script_call.h"

#include <math.h>

#include "llm_router/api/call.h"
#include "test_api_terms.h"

static struct arena arena;
static struct call call;
static struct error err;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

static const struct jv *json(const char *text)
{
    struct jv *value;

    if (!text)
        return NULL;
    assert_true(jv_parse(&arena, slice_of(text), JV_STRICT, &JV_DEFAULT_LIMITS,
                         NULL, &value, &err));
    return value;
}

/* A caller's call, and what the script made of it. */
static bool apply(const char *opts, const char *messages, const char *options)
{
    struct slice message;
    char text[1024];

    snprintf(text, sizeof(text),
             "{'$gen_call', {PID, REF}, {call_with_script, <<\"x.lua\">>,"
             " #{a => 1}, %s}}",
             opts);
    message = term_bytes(text);
    call_decode_message(external_term(message), &arena, &call);
    mem_free((char *)message.data);
    assert_int_equal(call.kind, CALL_REQUEST);
    assert_slice(call.request.context, "{\"a\":1}");
    return script_call_apply(json(messages), json(options), &arena,
                             &call.request, &err);
}

#define HELLO "[{\"role\":\"user\",\"content\":\"hello\"}]"

static void the_messages_are_the_scripts(void **state)
{
    (void)state;
    assert_true(apply("#{}",
                      "[{\"role\":\"system\",\"content\":\"Be brief.\"},"
                      " {\"role\":\"user\",\"content\":\"hello\"}]",
                      NULL));
    assert_int_equal(call.request.operation, OP_CALL_WITH_SCRIPT);
    assert_slice(call.request.text, "x.lua");
    assert_int_equal(call.request.context.size, 0);
    assert_int_equal(call.request.message_count, 2);
    assert_int_equal(call.request.messages[0].role, ROLE_SYSTEM);
    assert_slice(call.request.messages[1].content, "hello");
}

static void the_scripts_options_hold_where_the_caller_gave_none(void **state)
{
    (void)state;
    assert_true(apply("#{temperature => 0.5, request_id => <<\"r\">>}", HELLO,
                      "{\"temperature\": 1, \"max_tokens\": 9,"
                      " \"complexity\": \"complex\"}"));
    assert_true(call.request.options.temperature == 0.5);
    assert_int_equal(call.request.options.max_tokens, 9);
    assert_int_equal(call.request.options.complexity, COMPLEXITY_COMPLEX);
    assert_slice(call.request.options.request_id, "r");
    assert_true(isnan(call.request.options.top_p));
}

static void a_fault_of_the_script_says_where_it_is(void **state)
{
    static const struct {
        const char *messages, *options, *message;
    } cases[] = {
        {HELLO, "{\"temperature\": 3}",
         "options.temperature: must be a number from 0 to 2"},
        {HELLO, "{\"request_id\": \"mine\"}",
         "request_id: is the caller's to give"},
        {HELLO, "{\"task_id\": 1}", "task_id: is the caller's to give"},
        {HELLO, "{\"to\": \"me\"}",
         "options.to: not an option of call_with_script"},
        {"[{\"role\":\"robot\",\"content\":\"x\"}]", NULL, "messages[0].role"},
        {"[]", NULL, "messages: must not be empty"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_false(apply("[]", cases[i].messages, cases[i].options));
        assert_int_equal(err.code, ERR_SCRIPT_ERROR);
        assert_string_equal(err.path, "");
        assert_int_equal(
            strncmp(err.message, cases[i].message, strlen(cases[i].message)),
            0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_messages_are_the_scripts),
        TEST(the_scripts_options_hold_where_the_caller_gave_none),
        TEST(a_fault_of_the_script_says_where_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
