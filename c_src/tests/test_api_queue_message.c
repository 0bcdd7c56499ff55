#include "llm_router/api/queue_message.h"

#include <math.h>

#include "llm_router/core/fingerprint.h"
#include "test_api_terms.h"

#define ID "6f1c1f0e-6c0e-4b0e-9a0e-0f3a5c1d2b3a"
#define MESSAGES "'messages': [{'role': 'user', 'content': 'Hi'}]"
#define CHAT "'request_id': '" ID "', " MESSAGES

enum { NOW = 1769851800 }; /* 2026-01-31T09:30:00Z */

static struct arena arena;
static struct queue_request queued;
static struct error err;
static struct buf out;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    buf_init(&out, TERM_TEST_MAX);
    error_clear(&err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    buf_release(&out);
    return 0;
}

/* The message is gone before the request is looked at. */
static bool decode_bytes(struct slice json)
{
    char *copy = mem_realloc(NULL, json.size + 1);
    bool decoded;

    memcpy(copy, json.data, json.size);
    decoded = queue_request_decode(slice_make(copy, json.size), &arena, &queued,
                                   &err);
    explicit_bzero(copy, json.size);
    mem_free(copy);
    return decoded;
}

/* JSON with ' for ", so that it reads well in C. */
static struct slice quoted_json(const char *text)
{
    char *json = arena_text(&arena, slice_of(text));

    for (char *at = json; (at = strchr(at, '\'')) != NULL; at++)
        *at = '"';
    return slice_of(json);
}

/* The message of these members. */
static bool decode(const char *members)
{
    return decode_bytes(
        quoted_json(arena_printf(&arena, "{%s}", members).data));
}

static void assert_accepted(const char *members)
{
    if (!decode(members))
        fail_msg("%s: %s: %s", members, err.path, err.message);
}

static void assert_refused(const char *members, const char *path)
{
    if (decode(members))
        fail_msg("accepted: %s", members);
    assert_string_equal(err.path, path);
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    assert_true(strlen(err.message) > 0);
    assert_true(utf8_is_valid(slice_of(err.message)));
}

static struct options *options(void)
{
    return &queued.request.options;
}

/* --- requests --- */

static void a_chat_is_an_id_and_messages(void **state)
{
    (void)state;
    assert_accepted(CHAT);
    assert_slice(queued.request_id, ID);
    assert_int_equal(queued.request.operation, OP_CALL);
    assert_int_equal(queued.request.message_count, 1);
    assert_slice(queued.request.messages[0].content, "Hi");
    assert_int_equal(queued.request.messages[0].role, ROLE_USER);
    assert_int_equal(queued.agent_id.size, 0);
    assert_int_equal(queued.notify.name.size, 0);
    assert_true(isnan(options()->temperature));
}

static void the_id_is_kept_as_written_and_in_lower_case(void **state)
{
    (void)state;
    assert_accepted(
        "'request_id': '6F1C1F0E-6C0E-4B0E-9A0E-0F3A5C1D2B3A', " MESSAGES);
    assert_slice(queued.request_id, "6F1C1F0E-6C0E-4B0E-9A0E-0F3A5C1D2B3A");
    assert_slice(options()->request_id, ID);
}

static void an_id_that_is_no_uuid_is_refused(void **state)
{
    (void)state;
    assert_refused(MESSAGES, "request_id");
    assert_refused("'request_id': null, " MESSAGES, "request_id");
    assert_refused("'request_id': 17, " MESSAGES, "request_id");
    assert_refused("'request_id': '', " MESSAGES, "request_id");
    assert_refused("'request_id': 'job-17', " MESSAGES, "request_id");
    assert_refused(
        "'request_id': '6f1c1f0e-6c0e-4b0e-9a0e-0f3a5c1d2b3', " MESSAGES,
        "request_id");
    assert_refused(
        "'request_id': '6f1c1f0e-6c0e-4b0e-9a0e-0f3a5c1d2b3ag', " MESSAGES,
        "request_id");
    assert_refused(
        "'request_id': '6f1c1f0e-6c0e-4b0e-9a0e-0f3a5c1d2b3g', " MESSAGES,
        "request_id");
    assert_refused(
        "'request_id': '6f1c1f0e06c0e-4b0e-9a0e-0f3a5c1d2b3a', " MESSAGES,
        "request_id");
    assert_int_equal(queued.request_id.size, 0);
}

static void another_id_in_the_options_is_refused(void **state)
{
    (void)state;
    assert_refused(CHAT ", 'options': {'request_id': 'abc'}", "request_id");
    assert_slice(options()->request_id, ID);
    assert_accepted(CHAT ", 'options': {'request_id': "
                         "'6F1C1F0E-6c0e-4b0e-9a0e-0f3a5c1d2b3a'}");
    assert_slice(options()->request_id, ID);
    assert_refused("'request_id': '" ID "', 'operation': 'route', "
                   "'request': {" MESSAGES ", 'request_id': 'abc'}",
                   "request_id");
}

static void every_operation_has_its_arguments_by_name(void **state)
{
    static const struct {
        const char *members;
        enum operation operation;
    } cases[] = {
        {"'operation': 'call', " MESSAGES, OP_CALL},
        {"'operation': null, " MESSAGES, OP_CALL},
        {"'operation': 'call_with_prompt', 'prompt': 'p'", OP_CALL_WITH_PROMPT},
        {"'operation': 'call_with_system', 'system': 's', 'user': 'u'",
         OP_CALL_WITH_SYSTEM},
        {"'operation': 'generate_task', 'prompt': 'p'", OP_GENERATE_TASK},
        {"'operation': 'parse_prd', 'content': 'c', 'num_tasks': 5",
         OP_PARSE_PRD},
        {"'operation': 'expand_task', 'task': 't'", OP_EXPAND_TASK},
        {"'operation': 'expand_task', 'task': {'title': 't'}", OP_EXPAND_TASK},
        {"'operation': 'analyze_complexity', 'tasks': ['t', {'title': 'u'}]",
         OP_ANALYZE_COMPLEXITY},
        {"'operation': 'research', 'topic': 't', 'context': 'c'", OP_RESEARCH},
        {"'operation': 'research', 'topic': 't'", OP_RESEARCH},
        {"'operation': 'embed', 'texts': ['a', 'b']", OP_EMBED},
        {"'operation': 'embed', 'texts': 'a'", OP_EMBED},
        {"'operation': 'route', 'request': {" MESSAGES "}", OP_ROUTE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_accepted(
            arena_printf(&arena, "'request_id': '" ID "', %s", cases[i].members)
                .data);
        assert_int_equal(queued.request.operation, cases[i].operation);
    }
}

static void arguments_arrive_where_calls_have_them(void **state)
{
    (void)state;
    assert_accepted("'request_id': '" ID "', 'operation': 'parse_prd', "
                    "'content': 'A shop', 'num_tasks': 5");
    assert_slice(queued.request.text, "A shop");
    assert_int_equal(queued.request.count, 5);
    assert_accepted("'request_id': '" ID "', 'operation': 'parse_prd', "
                    "'content': 'A shop'");
    assert_int_equal(queued.request.count, 0);
    assert_accepted("'request_id': '" ID "', 'operation': 'expand_task', "
                    "'task': {'title': 'Login', 'x': [1, null]}, 'num': 3, "
                    "'context': 'of a shop'");
    assert_slice(queued.request.text, "{\"title\":\"Login\",\"x\":[1,null]}");
    assert_int_equal(queued.request.count, 3);
    assert_slice(queued.request.context, "of a shop");
    assert_true(queued.request.caller_task_strings);
    assert_accepted("'request_id': '" ID "', 'operation': 'call_with_system', "
                    "'system': 'Be brief', 'user': 'Hello'");
    assert_slice(queued.request.messages[0].content, "Be brief");
    assert_slice(queued.request.messages[1].content, "Hello");
}

static void an_argument_that_is_missing_is_named(void **state)
{
    static const char *const cases[][2] = {
        {"'messages': null", "messages"},
        {"'operation': 'call_with_system', 'user': 'u'", "system"},
        {"'operation': 'call_with_system', 'system': 's'", "user"},
        {"'operation': 'generate_task'", "prompt"},
        {"'operation': 'parse_prd', 'num_tasks': 5", "content"},
        {"'operation': 'expand_task'", "task"},
        {"'operation': 'analyze_complexity'", "tasks"},
        {"'operation': 'research', 'context': 'c'", "topic"},
        {"'operation': 'embed'", "texts"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_refused(
            arena_printf(&arena, "'request_id': '" ID "', %s", cases[i][0])
                .data,
            cases[i][1]);
}

static void operations_that_ask_no_provider_are_refused(void **state)
{
    static const char *const names[] = {"ping",   "stats",  "enqueue", "await",
                                        "stream", "cancel", "nothing", "Call"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        assert_refused(
            arena_printf(&arena, CHAT ", 'operation': '%s'", names[i]).data,
            "operation");
    assert_refused(CHAT ", 'operation': 17", "operation");
    assert_int_equal(queued.request.operation, OPERATION_COUNT);
}

static void calls_are_of_medium_complexity_unless_another_is_named(void **state)
{
    (void)state;
    assert_accepted(CHAT);
    assert_int_equal(options()->complexity, COMPLEXITY_MEDIUM);
    assert_accepted(CHAT ", 'complexity': null");
    assert_int_equal(options()->complexity, COMPLEXITY_MEDIUM);
    assert_accepted(CHAT ", 'complexity': 'simple'");
    assert_int_equal(options()->complexity, COMPLEXITY_SIMPLE);
    assert_accepted(CHAT ", 'options': {'complexity': 'complex'}");
    assert_int_equal(options()->complexity, COMPLEXITY_COMPLEX);
    assert_refused(CHAT ", 'complexity': 'gpt-5'", "complexity");
    assert_accepted("'request_id': '" ID "', 'operation': 'parse_prd', "
                    "'content': 'A shop'");
    assert_int_equal(options()->complexity, COMPLEXITY_UNSET);
}

static void
options_may_stand_beside_the_object_that_goes_before_them(void **state)
{
    (void)state;
    assert_accepted(CHAT ", 'timeout': 500, 'max_tokens': 9, 'temperature': 1, "
                         "'model': 'gpt-5', 'provider': 'openai', "
                         "'task_type': 'qa', 'options': {'max_tokens': 7, "
                         "'temperature': null, 'seed': 3}");
    assert_int_equal(options()->timeout_ms, 500);
    assert_int_equal(options()->max_tokens, 7);
    assert_true(options()->temperature == 1);
    assert_int_equal(options()->seed, 3);
    assert_slice(options()->model, "gpt-5");
    assert_slice(options()->provider, "openai");
    assert_slice(options()->task_type, "qa");
    assert_accepted(CHAT ", 'tools': [{'name': 'a'}, {'name': 'b'}], "
                         "'options': {'tools': [{'name': 'c'}], "
                         "'tool_choice': 'c'}");
    assert_int_equal(options()->tool_count, 1);
    assert_slice(options()->tool_name, "c");
    assert_accepted(CHAT ", 'tools': [{'name': 'a'}], "
                         "'options': {'tool_choice': 'a'}");
    assert_accepted(CHAT ", 'schema': {'type': 'object'}");
    assert_non_null(options()->schema);
    assert_accepted(CHAT ", 'timeout': 'infinity'");
    assert_int_equal(options()->timeout_ms, REQUEST_TIMEOUT_MAX_MS);
}

static void options_of_the_responses_api_may_stand_beside_too(void **state)
{
    (void)state;
    assert_accepted(CHAT ", 'api_version': 'responses', 'store': true, "
                         "'previous_response_id': 'resp_1', "
                         "'mcp_servers': [{'server_label': 'docs', "
                         "'server_url': 'https://docs.example/mcp'}]");
    assert_refused(CHAT ", 'api_version': 'grpc'", "api_version");
    assert_refused(CHAT ", 'store': 'yes'", "store");
    assert_refused(CHAT ", 'previous_response_id': 5", "previous_response_id");
    assert_refused(CHAT ", 'mcp_servers': {}", "mcp_servers");
}

static void auto_leaves_the_choice_to_the_router(void **state)
{
    (void)state;
    assert_accepted(CHAT ", 'model': 'auto', 'provider': 'auto'");
    assert_int_equal(options()->model.size, 0);
    assert_int_equal(options()->provider.size, 0);
}

static void unknown_keys_are_ignored_but_not_among_the_options(void **state)
{
    (void)state;
    assert_accepted(CHAT ", 'version': 2, 'num': 'x', 'context': {'a': 1}, "
                         "'prompt': [], 'Options': 5, '': null");
    assert_refused(CHAT ", 'options': {'tmeout': 5}", "options.tmeout");
    assert_null(strstr(err.message, "task_id"));
    assert_refused(CHAT ", 'options': {'num': 5}", "options.num");
    assert_refused(CHAT ", 'options': {'to': 'me'}", "options.to");
}

static void a_fault_is_named_by_its_path(void **state)
{
    static const char *const cases[][2] = {
        {"'messages': 'Hi'", "messages"},
        {"'messages': []", "messages"},
        {"'messages': [{'role': 'user', 'content': ''}]",
         "messages[0].content"},
        {"'messages': [{'role': 'user', 'content': 'a'}, "
         "{'role': 'boss', 'content': 'b'}]",
         "messages[1].role"},
        {MESSAGES ", 'timeout': '5'", "timeout"},
        {MESSAGES ", 'timeout': 0", "timeout"},
        {MESSAGES ", 'timeout': 1.5", "timeout"},
        {MESSAGES ", 'options': {'timeout': 0}", "options.timeout"},
        {MESSAGES ", 'options': {'tools': [{'name': '?'}]}",
         "options.tools[0].name"},
        {MESSAGES ", 'tools': [{'name': '?'}]", "tools[0].name"},
        {MESSAGES ", 'tools': {}", "tools"},
        {MESSAGES ", 'schema': []", "schema"},
        {MESSAGES ", 'model': 5", "model"},
        {MESSAGES ", 'model': 'a b'", "model"},
        {MESSAGES ", 'complexity': 5", "complexity"},
        {MESSAGES ", 'temperature': 'hot'", "temperature"},
        {MESSAGES ", 'options': []", "options"},
        {MESSAGES ", 'options': 'x'", "options"},
        {MESSAGES ", 'options': {'tool_choice': 'a'}", "options.tool_choice"},
        {"'operation': 'parse_prd', 'content': ' '", "content"},
        {"'operation': 'parse_prd', 'content': 'c', 'num_tasks': 101",
         "num_tasks"},
        {"'operation': 'parse_prd', 'content': 'c', 'num_tasks': '5'",
         "num_tasks"},
        {"'operation': 'expand_task', 'task': {'name': 't'}", "task.title"},
        {"'operation': 'expand_task', 'task': 't', 'num': -1", "num"},
        {"'operation': 'analyze_complexity', 'tasks': ['t', 5]", "tasks[1]"},
        {"'operation': 'embed', 'texts': ['t', 5]", "texts[1]"},
        {"'operation': 'embed', 'texts': 't', 'temperature': 1", "temperature"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_refused(
            arena_printf(&arena, "'request_id': '" ID "', %s", cases[i][0])
                .data,
            cases[i][1]);
}

/* It is to the BEAM, where a charlist is a list of integers. */
static void an_array_is_no_text(void **state)
{
    static const char *const cases[][2] = {
        {"'operation': 'generate_task', 'prompt': [72, 105]", "prompt"},
        {"'operation': 'parse_prd', 'content': ['a', 'b']", "content"},
        {"'operation': 'expand_task', 'task': ['a', 'b']", "task"},
        {"'operation': 'research', 'topic': 't', 'context': [72]", "context"},
        {MESSAGES ", 'model': [72, 105]", "model"},
        {MESSAGES ", 'task_type': [72, 105]", "task_type"},
        {MESSAGES ", 'agent_id': [72, 105]", "agent_id"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_refused(
            arena_printf(&arena, "'request_id': '" ID "', %s", cases[i][0])
                .data,
            cases[i][1]);
}

static void what_says_who_asks_is_kept(void **state)
{
    (void)state;
    assert_accepted(CHAT ", 'agent_id': 'planner', 'workflow': 'w', "
                         "'instance_id': 'i', 'job_id': 'j', "
                         "'timestamp': '2026-01-31'");
    assert_slice(queued.agent_id, "planner");
    assert_slice(queued.workflow, "w");
    assert_slice(queued.instance_id, "i");
    assert_slice(queued.job_id, "j");
    assert_accepted(CHAT ", 'job_id': 17");
    assert_slice(queued.job_id, "17");
    assert_refused(CHAT ", 'job_id': 1.5", "job_id");
    assert_refused(CHAT ", 'timestamp': 17", "timestamp");
}

static void a_label_over_its_limit_is_refused(void **state)
{
    char text[QUEUE_TEXT_MAX + 2];
    const char *members;

    (void)state;
    memset(text, 'x', sizeof(text));
    text[QUEUE_TEXT_MAX] = '\0';
    assert_accepted(arena_printf(&arena, CHAT ", 'workflow': '%s'", text).data);
    text[QUEUE_TEXT_MAX] = 'x';
    text[QUEUE_TEXT_MAX + 1] = '\0';
    members = arena_printf(&arena, CHAT ", 'workflow': '%s'", text).data;
    assert_false(decode(members));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_string_equal(err.path, "workflow");
}

static void who_asks_is_known_although_the_question_is_wrong(void **state)
{
    (void)state;
    assert_refused("'request_id': '" ID "', 'agent_id': 'planner', "
                   "'job_id': true, 'workflow': 'w', "
                   "'operation': 'parse_prd', 'content': 5, "
                   "'reply_to': ['results', 'app@host']",
                   "job_id");
    assert_slice(queued.request_id, ID);
    assert_slice(queued.agent_id, "planner");
    assert_slice(queued.workflow, "w");
    assert_slice(queued.notify.name, "results");
    assert_slice(options()->request_id, ID);
    assert_int_equal(queued.request.operation, OP_PARSE_PRD);
    assert_refused("'agent_id': 'planner', " MESSAGES, "request_id");
    assert_slice(queued.agent_id, "planner");
}

static void a_receiver_is_an_object_or_a_pair(void **state)
{
    (void)state;
    assert_accepted(CHAT ", 'reply_to': {'name': 'results', "
                         "'node': 'app@host'}");
    assert_slice(queued.notify.name, "results");
    assert_slice(queued.notify.node, "app@host");
    assert_accepted(CHAT
                    ", 'reply_to': ['Elixir.Results', 'app@host.example']");
    assert_slice(queued.notify.name, "Elixir.Results");
    assert_accepted(CHAT ", 'reply_to': null");
    assert_int_equal(queued.notify.name.size, 0);
}

static void a_receiver_has_a_name_and_the_name_of_a_node(void **state)
{
    static const char *const nodes[] = {"",      "app",   "@host",
                                        "app@",  "a@b@c", "a b@c",
                                        "a@\\n", "@",     "a@\\u00e9"};
    char name[257];

    (void)state;
    for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++) {
        assert_refused(
            arena_printf(&arena, CHAT ", 'reply_to': ['r', '%s']", nodes[i])
                .data,
            "reply_to.node");
        assert_int_equal(queued.notify.name.size, 0);
    }
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    assert_refused(
        arena_printf(&arena, CHAT ", 'reply_to': ['%s', 'a@b']", name).data,
        "reply_to.name");
    assert_refused(
        arena_printf(&arena, CHAT ", 'reply_to': ['n', 'a@%s']", name).data,
        "reply_to.node");
    assert_refused(CHAT ", 'reply_to': ['', 'a@b']", "reply_to.name");
    assert_refused(CHAT ", 'reply_to': {'name': 'results'}", "reply_to");
    assert_refused(CHAT ", 'reply_to': ['results', 5]", "reply_to");
    assert_refused(CHAT ", 'reply_to': 'results'", "reply_to");
    assert_refused(CHAT ", 'reply_to': []", "reply_to");
}

static void what_is_no_object_is_refused(void **state)
{
    static const char *const texts[] = {
        "",   "[]",       "17",         "\"x\"",      "{",
        "{}", "{\"a\":}", "{\"a\":1}x", "\xff\xfe{}", "null"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        assert_false(decode_bytes(slice_of(texts[i])));
        assert_int_equal(err.code, ERR_INVALID_REQUEST);
        assert_int_equal(queued.request_id.size, 0);
        assert_int_equal(queued.request.operation, strcmp(texts[i], "{}") == 0
                                                       ? OP_CALL
                                                       : OPERATION_COUNT);
    }
}

static void a_message_nested_too_deep_is_refused(void **state)
{
    char deep[1001];

    (void)state;
    memset(deep, '[', sizeof(deep));
    deep[1000] = '\0';
    assert_false(decode(arena_printf(&arena, CHAT ", 'x': %s", deep).data));
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
}

static void text_is_cleaned_of_what_postgresql_refuses(void **state)
{
    (void)state;
    assert_accepted("'request_id': '" ID "', 'operation': 'generate_task', "
                    "'prompt': 'a\\u0000b\\ud800', 'agent_id': 'x\\u0000'");
    assert_slice(queued.request.text, "ab\xef\xbf\xbd");
    assert_slice(queued.agent_id, "x");
}

/* --- results --- */

static void put_result(const char *value, const struct account *account)
{
    struct slice bytes = term_bytes(value);
    const struct queue_result result = {
        .queued = &queued,
        .value = external_raw(bytes),
        .account = account,
        .unix_ms = (int64_t)NOW * 1000 + 123,
    };

    buf_clear(&out);
    queue_result_put(&out, &result);
    mem_free((char *)bytes.data);
}

static void put_failure(const struct error *failure,
                        const struct account *account)
{
    const struct queue_result result = {
        .queued = &queued,
        .err = failure,
        .account = account,
        .unix_ms = (int64_t)NOW * 1000,
    };

    buf_clear(&out);
    queue_result_put(&out, &result);
}

static const struct jv *parse(struct slice json)
{
    struct jv *value;

    if (!jv_parse(&arena, json, JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &value,
                  &err))
        fail_msg("%s: %.*s", err.message, SLICE_ARG(json));
    return value;
}

static void assert_member(const char *key, const char *expected)
{
    const struct jv *member = jv_find(parse(buf_slice(&out)), key);

    if (!member || !jv_equal(member, parse(quoted_json(expected))))
        fail_msg("%s is not %s: %.*s", key, expected,
                 SLICE_ARG(buf_slice(&out)));
}

static void assert_written(const char *text)
{
    if (slice_find(buf_slice(&out), quoted_json(text)) < 0)
        fail_msg("no %s: %.*s", text, SLICE_ARG(buf_slice(&out)));
}

static struct account some_account(void)
{
    return (struct account){
        .model = SLICE_LITERAL("gpt-5-mini"),
        .provider = SLICE_LITERAL("openai"),
        .usage = {14, 9, 23, -1, -1, -1, -1},
        .cost_usd = 0.0000215,
        .duration_ms = 812,
        .attempts = 1,
    };
}

static void a_chat_is_answered_as_the_documentation_shows(void **state)
{
    const struct account account = some_account();

    (void)state;
    assert_accepted(CHAT ", 'complexity': 'simple'");
    put_result("{ok, #{text => <<\"2, 3 and 5\">>, content => <<\"2\">>}}",
               &account);
    assert_true(jv_equal(
        parse(buf_slice(&out)),
        parse(quoted_json(
            "{'request_id': '" ID "', 'agent_id': null, 'operation': 'call',"
            " 'status': 'success', 'response': '2, 3 and 5', 'result': null,"
            " 'response_id': null, 'model': 'gpt-5-mini', 'provider': 'openai',"
            " 'usage': {'prompt_tokens': 14, 'completion_tokens': 9,"
            "           'total_tokens': 23},"
            " 'tokens_used': 23, 'cost': 0.0000215, 'cost_cents': 0.00215,"
            " 'latency_ms': 812, 'attempts': 1, 'complexity': 'simple',"
            " 'task_type': null, 'error': null,"
            " 'timestamp': '2026-01-31T09:30:00.123Z'}"))));
}

static void the_id_of_a_response_can_be_named_by_the_next_request(void **state)
{
    (void)state;
    assert_accepted(CHAT);
    put_result("{ok, #{text => <<\"2\">>, response_id => <<\"resp_1\">>}}",
               NULL);
    assert_member("response_id", "'resp_1'");
    put_result("{ok, #{text => <<\"2\">>, response_id => nil}}", NULL);
    assert_member("response_id", "null");
}

static void the_value_of_an_operation_is_the_result(void **state)
{
    (void)state;
    assert_accepted("'request_id': '" ID "', 'operation': 'parse_prd', "
                    "'content': 'A shop', 'agent_id': 'planner'");
    put_result(
        "{ok, [#{id => 1, title => <<\"T\">>, details => nil, "
        "priority => high, dependencies => [], estimated_hours => 1.5}]}",
        NULL);
    assert_member("response", "null");
    assert_member("result", "[{'id': 1, 'title': 'T', 'details': null, "
                            "'priority': 'high', 'dependencies': [], "
                            "'estimated_hours': 1.5}]");
    assert_member("operation", "'parse_prd'");
    assert_member("agent_id", "'planner'");
}

static void research_has_its_findings_as_response_too(void **state)
{
    (void)state;
    assert_accepted("'request_id': '" ID "', 'operation': 'research', "
                    "'topic': 'OTP'");
    put_result("{ok, #{findings => <<\"F\">>, sources => [<<\"a\">>]}}", NULL);
    assert_member("response", "'F'");
    assert_member("result", "{'findings': 'F', 'sources': ['a']}");
}

static void a_chat_with_a_schema_or_tools_gives_its_whole_response(void **state)
{
    (void)state;
    assert_accepted(CHAT ", 'schema': {'type': 'object'}");
    put_result("{ok, #{text => <<\"{}\">>, object => #{<<\"a\">> => true}}}",
               NULL);
    assert_member("response", "'{}'");
    assert_member("result", "{'text': '{}', 'object': {'a': true}}");
    assert_accepted(CHAT ", 'tools': [{'name': 'get'}]");
    put_result("{ok, #{text => <<>>, tool_calls => [#{name => <<\"get\">>, "
               "arguments => #{<<\"a\">> => #{<<\"b\">> => [1, 2]}}}]}}",
               NULL);
    assert_member("response", "''");
    assert_member("result", "{'text': '', 'tool_calls': [{'name': 'get', "
                            "'arguments': {'a': {'b': [1, 2]}}}]}");
}

static void return_full_gives_the_whole_map(void **state)
{
    (void)state;
    assert_accepted(CHAT ", 'options': {'return': 'full', 'keys': 'strings'}");
    put_result("{ok, #{<<\"result\">> => #{<<\"text\">> => <<\"Hi\">>}, "
               "<<\"warnings\">> => []}}",
               NULL);
    assert_member("response", "'Hi'");
    assert_member("result", "{'result': {'text': 'Hi'}, 'warnings': []}");
    assert_accepted("'request_id': '" ID "', 'operation': 'research', "
                    "'topic': 'OTP', 'options': {'return': 'full'}");
    put_result("{ok, #{result => #{findings => <<\"F\">>}}}", NULL);
    assert_member("response", "'F'");
}

/* More values than json_from_term takes at once. */
static void all_embeddings_are_given(void **state)
{
    enum { ROWS = 100, COLUMNS = 1536 };
    struct queue_result result = {.queued = &queued};
    const struct jv *embeddings;
    struct buf value;

    (void)state;
    assert_accepted("'request_id': '" ID "', 'operation': 'embed', "
                    "'texts': 'a'");
    buf_init(&value, TERM_TEST_MAX);
    term_put_tuple(&value, 2);
    term_put_atom(&value, "ok");
    term_put_map(&value, 1);
    term_put_atom(&value, "embeddings");
    term_put_list(&value, ROWS);
    for (int i = 0; i < ROWS; i++) {
        term_put_list(&value, COLUMNS);
        for (int j = 0; j < COLUMNS; j++)
            term_put_float(&value, i + 0.25);
        term_put_nil(&value);
    }
    term_put_nil(&value);
    result.value = buf_slice(&value);
    queue_result_put(&out, &result);
    buf_release(&value);
    embeddings =
        jv_find(jv_find(parse(buf_slice(&out)), "result"), "embeddings");
    assert_int_equal(jv_count(embeddings), ROWS);
    assert_int_equal(jv_count(jv_at(embeddings, 99)), COLUMNS);
    assert_true(jv_number(jv_at(jv_at(embeddings, 99), 1535), 0) == 99.25);
}

/* Out of the answer to a caller on the BEAM that had the same request_id. */
static void what_json_cannot_say_of_an_answer_is_null(void **state)
{
    (void)state;
    assert_accepted(CHAT ", 'schema': {'type': 'object'}");
    put_result("{ok, #{text => <<\"x\">>, metadata => PID}}", NULL);
    assert_member("result", "{'text': 'x', 'metadata': null}");
    put_result("{ok, #{text => <<\"x\">>, 17 => 1, metadata => "
               "[{a, {1, 2}}, {b, 1}]}}",
               NULL);
    assert_member("result", "{'text': 'x', 'metadata': null}");
    put_result("{ok, #{text => <<255>>}}", NULL);
    assert_member("response", "'\xef\xbf\xbd'");
    put_result("{error, x}", NULL);
    assert_member("result", "null");
    assert_member("response", "null");
}

static void money_always_has_a_point_and_no_exponent(void **state)
{
    static const struct {
        double usd;
        const char *written;
    } cases[] = {
        {0.0000215, "'cost':0.0000215,'cost_cents':0.00215,"},
        {1e-9, "'cost':0.000000001,'cost_cents':0.0000001,"},
        {1.2345e-8, "'cost':0.000000012345,'cost_cents':0.0000012345,"},
        {0.3, "'cost':0.3,'cost_cents':30.0,"},
        {0, "'cost':0.0,'cost_cents':0.0,"},
        {NAN, "'cost':0.0,'cost_cents':0.0,"},
        {2, "'cost':2.0,'cost_cents':200.0,"},
        {120.5, "'cost':120.5,'cost_cents':12050.0,"},
    };
    struct account account = some_account();

    (void)state;
    assert_accepted(CHAT);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        account.cost_usd = cases[i].usd;
        put_result("{ok, #{text => <<\"x\">>}}", &account);
        assert_written(cases[i].written);
    }
}

static void what_is_not_known_is_null(void **state)
{
    (void)state;
    assert_accepted(CHAT);
    put_result("{ok, #{text => <<\"x\">>}}", NULL);
    assert_member("model", "null");
    assert_member("provider", "null");
    assert_member("usage", "{'prompt_tokens': null, 'completion_tokens': null, "
                           "'total_tokens': null}");
    assert_member("tokens_used", "null");
    assert_member("latency_ms", "0");
    assert_member("attempts", "0");
    assert_written("'cost':0.0,");
}

static void a_failure_is_a_result(void **state)
{
    const struct account account = some_account();
    struct error failure;

    (void)state;
    assert_accepted(CHAT ", 'task_type': 'qa'");
    error_set(&failure, ERR_RATE_LIMITED, "slow \"down\"");
    failure.http_status = 429;
    failure.retry_after_ms = 1500;
    put_failure(&failure, &account);
    assert_member("status", "'failed'");
    assert_member("response", "null");
    assert_member("result", "null");
    assert_member("model", "'gpt-5-mini'");
    assert_member("task_type", "'qa'");
    assert_member("error",
                  "{'code': 'rate_limited', 'message': 'slow \\'down\\'', "
                  "'http_status': 429, 'retry_after_ms': 1500}");
    error_at(&failure, ERR_TASK_COUNT, "tasks", "too few");
    failure.wanted = 5;
    failure.got = 3;
    put_failure(&failure, NULL);
    assert_member("error", "{'code': 'task_count', 'message': 'too few', "
                           "'path': 'tasks', 'wanted': 5, 'got': 3}");
}

static void a_request_whose_time_is_over_has_a_status_of_its_own(void **state)
{
    struct error failure;

    (void)state;
    assert_accepted(CHAT);
    error_set(&failure, ERR_TIMEOUT, "the request's time is over");
    put_failure(&failure, NULL);
    assert_member("status", "'timeout'");
    assert_member("error", "{'code': 'timeout', "
                           "'message': 'the request\\u0027s time is over'}");
    assert_member("timestamp", "'2026-01-31T09:30:00.000Z'");
}

static void a_message_that_cannot_be_read_has_a_result_too(void **state)
{
    struct error failure;

    (void)state;
    assert_false(decode_bytes(SLICE_LITERAL("[1]")));
    failure = err;
    put_failure(&failure, NULL);
    assert_member("request_id", "null");
    assert_member("operation", "null");
    assert_member("complexity", "null");
    assert_member("status", "'failed'");
}

static void the_complexity_is_what_was_decided_on(void **state)
{
    const struct decision decision = {.complexity = COMPLEXITY_COMPLEX};
    struct account account = some_account();

    (void)state;
    assert_accepted("'request_id': '" ID "', 'operation': 'parse_prd', "
                    "'content': 'A shop'");
    put_result("{ok, []}", &account);
    assert_member("complexity", "null");
    account.decision = &decision;
    put_result("{ok, []}", &account);
    assert_member("complexity", "'complex'");
    assert_member("result", "[]");
}

static void a_result_holds_nothing_that_postgresql_refuses(void **state)
{
    struct account account = some_account();
    struct error failure;

    (void)state;
    assert_accepted(CHAT ", 'schema': {'type': 'object'}");
    account.model = SLICE_LITERAL("m\0\xff");
    put_result("{ok, #{text => <<97, 0, 98>>, "
               "<<107, 0>> => <<0, 237, 160, 128>>}}",
               &account);
    assert_int_equal(slice_find(buf_slice(&out), slice_of("\\u0000")), -1);
    assert_null(memchr(out.data, '\0', out.size));
    assert_true(utf8_is_valid(buf_slice(&out)));
    assert_member("response", "'ab'");
    assert_member("model", "'m\xef\xbf\xbd'");
    error_set(&failure, ERR_PROVIDER_ERROR, "said \xff");
    put_failure(&failure, &account);
    assert_true(utf8_is_valid(buf_slice(&out)));
}

static void a_dead_letter_has_the_message_and_the_error(void **state)
{
    struct queue_dead_letter letter = {
        .json = SLICE_LITERAL("{\"a\": 1}"),
        .err = &err,
        .msg_id = 17,
        .read_count = 5,
        .unix_ms = (int64_t)NOW * 1000,
    };

    (void)state;
    error_set(&err, ERR_UNREACHABLE, "no answer");
    queue_dead_letter_put(&out, &letter);
    assert_true(
        jv_equal(parse(buf_slice(&out)),
                 parse(quoted_json("{'message': {'a': 1}, 'error': {'code': "
                                   "'unreachable', 'message': 'no answer'}, "
                                   "'read_ct': 5, 'msg_id': 17, "
                                   "'dead_at': '2026-01-31T09:30:00.000Z'}"))));
    letter.json = slice_of(NULL);
    buf_clear(&out);
    queue_dead_letter_put(&out, &letter);
    assert_member("message", "null");
}

/* --- from the BEAM into the queue and out of it --- */

/* What GenServer.call sends for the three texts in a row. */
static bool decode_call(const char *before, const char *op, const char *behind,
                        struct call *call)
{
    char message[4096];
    struct slice bytes;

    snprintf(message, sizeof(message), "{'$gen_call', {PID, REF}, %s%s%s}",
             before, op, behind);
    bytes = term_bytes(message);
    call_decode_message(external_term(bytes), &arena, call);
    explicit_bzero((char *)bytes.data, bytes.size);
    mem_free((char *)bytes.data);
    return call->kind == CALL_REQUEST;
}

/* Puts `op` on the queue and decodes the message that is there then. */
static void pass_through_queue(const char *op)
{
    struct call call;

    if (!decode_call("{enqueue, ", op, "}", &call))
        fail_msg("%s: %s: %s", op, call.error.path, call.error.message);
    buf_clear(&out);
    queue_request_put(&out, call.request.enqueued, slice_of(ID),
                      (int64_t)NOW * 1000);
    if (!decode_bytes(buf_slice(&out)))
        fail_msg("%.*s: %s: %s", SLICE_ARG(buf_slice(&out)), err.path,
                 err.message);
}

static void a_request_is_the_same_question_behind_the_queue(void **state)
{
    static const char *const ops[] = {
        "{generate_task, <<\"Add a login\">>}",
        "{generate_task, [\"Add \", <<\"a\">>, 32, <<\"login\">>], "
        "[{language, de}, {timeout, infinity}, {timeout, 5}]}",
        "{parse_prd, \"# A shop\", 5, #{count => about, next_id => 7, "
        "existing => [1, 2]}}",
        "{expand_task, \"Login\", [{num, 3}, {context, \"of a shop\"}]}",
        "{expand_task, #{<<\"title\">> => <<\"T\">>, <<\"n\">> => nil}}",
        "{analyze_complexity, [<<\"A\">>, \"B\", #{<<\"id\">> => 7, "
        "<<\"title\">> => <<\"C\">>}]}",
        "{research, <<\"OTP\">>, nil}",
        "{research, <<\"OTP\">>, [<<\"a\">> | <<\"b\">>]}",
        "{call, simple, [{user, \"Hi\"}, #{role => assistant, tool_calls => "
        "[#{id => <<\"1\">>, name => get, arguments => #{a => [1.5]}}]}, "
        "[{role, tool}, {tool_call_id, <<\"1\">>}, {content, <<>>}]], "
        "#{tools => [#{name => get, parameters => #{type => object}}], "
        "tool_choice => required, temperature => 1.0, stop => \"END\"}}",
        "{call, complex, [#{role => user, content => [#{type => text, "
        "text => <<\"a\">>}, #{type => text, text => \"b\"}]}]}",
        "{call_with_prompt, medium, <<\"p\">>, [{complexity, simple}]}",
        "{call_with_system, medium, \"s\", \"u\", #{model => <<\"gpt-5\">>}}",
        "{route, #{messages => [{user, <<\"Hi\">>}], task_type => qa, "
        "complexity => complex, seed => -1}}",
        "{route_completion, [{messages, [{user, <<\"Hi\">>}]}, "
        "{<<\"model\">>, <<\"gpt-5\">>}]}",
        "{embed, [\"a\", <<\"b\">>], #{}}",
        "{embed, \"abc\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        struct buf before, after;
        struct call call;

        buf_init(&before, TERM_TEST_MAX);
        buf_init(&after, TERM_TEST_MAX);
        if (!decode_call("", ops[i], "", &call))
            fail_msg("%s: %s: %s", ops[i], call.error.path, call.error.message);
        request_fingerprint(&call.request, &before);
        pass_through_queue(ops[i]);
        request_fingerprint(&queued.request, &after);
        if (!slice_equal(buf_slice(&before), buf_slice(&after)))
            fail_msg("%s became %.*s", ops[i], SLICE_ARG(buf_slice(&out)));
        buf_release(&before);
        buf_release(&after);
    }
}

static void a_model_in_the_place_of_a_complexity_stays_one(void **state)
{
    (void)state;
    pass_through_queue("{call, <<\"openai/gpt-5\">>, [{user, \"Hi\"}]}");
    assert_slice(options()->model, "openai/gpt-5");
}

static void how_the_answer_should_look_passes_the_queue(void **state)
{
    (void)state;
    pass_through_queue("{parse_prd, <<\"A shop\">>, 0, #{keys => strings, "
                       "return => full, metadata => #{a => [b, 1]}, "
                       "timeout => 5000, cache => false}}");
    assert_int_equal(options()->keys, KEYS_STRINGS);
    assert_true(options()->full);
    assert_true(options()->metadata.size > 0);
    assert_int_equal(options()->timeout_ms, 5000);
    assert_int_equal(options()->cache, CACHE_NO);
}

static void keys_and_atoms_of_a_task_become_strings(void **state)
{
    (void)state;
    pass_through_queue("{expand_task, #{title => \"Login\", owner => me, "
                       "pid => PID, '__struct__' => 'Elixir.Task'}}");
    assert_slice(queued.request.text, "{\"title\":\"Login\",\"owner\":\"me\"}");
    assert_true(queued.request.caller_task_strings);
}

static void the_message_says_who_asks(void **state)
{
    const struct enqueued enqueued = {
        .members = SLICE_LITERAL("\"operation\":\"embed\",\"texts\":[\"a\"]"),
        .agent_id = SLICE_LITERAL("a \"b\""),
        .notify_name = SLICE_LITERAL("results"),
        .notify_node = SLICE_LITERAL("app@host"),
    };

    (void)state;
    queue_request_put(&out, &enqueued, slice_of(ID), (int64_t)NOW * 1000 + 7);
    assert_true(jv_equal(
        parse(buf_slice(&out)),
        parse(quoted_json(
            "{'request_id': '" ID "', 'operation': 'embed', 'texts': ['a'], "
            "'agent_id': 'a \\\"b\\\"', "
            "'reply_to': {'name': 'results', 'node': 'app@host'}, "
            "'timestamp': '2026-01-31T09:30:00.007Z'}"))));
    assert_true(decode_bytes(buf_slice(&out)));
    assert_slice(queued.agent_id, "a \"b\"");
    assert_slice(queued.notify.node, "app@host");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chat_is_an_id_and_messages),
        TEST(the_id_is_kept_as_written_and_in_lower_case),
        TEST(an_id_that_is_no_uuid_is_refused),
        TEST(another_id_in_the_options_is_refused),
        TEST(every_operation_has_its_arguments_by_name),
        TEST(arguments_arrive_where_calls_have_them),
        TEST(an_argument_that_is_missing_is_named),
        TEST(operations_that_ask_no_provider_are_refused),
        TEST(calls_are_of_medium_complexity_unless_another_is_named),
        TEST(options_may_stand_beside_the_object_that_goes_before_them),
        TEST(options_of_the_responses_api_may_stand_beside_too),
        TEST(auto_leaves_the_choice_to_the_router),
        TEST(unknown_keys_are_ignored_but_not_among_the_options),
        TEST(a_fault_is_named_by_its_path),
        TEST(an_array_is_no_text),
        TEST(what_says_who_asks_is_kept),
        TEST(a_label_over_its_limit_is_refused),
        TEST(who_asks_is_known_although_the_question_is_wrong),
        TEST(a_receiver_is_an_object_or_a_pair),
        TEST(a_receiver_has_a_name_and_the_name_of_a_node),
        TEST(what_is_no_object_is_refused),
        TEST(a_message_nested_too_deep_is_refused),
        TEST(text_is_cleaned_of_what_postgresql_refuses),
        TEST(a_chat_is_answered_as_the_documentation_shows),
        TEST(the_id_of_a_response_can_be_named_by_the_next_request),
        TEST(the_value_of_an_operation_is_the_result),
        TEST(research_has_its_findings_as_response_too),
        TEST(a_chat_with_a_schema_or_tools_gives_its_whole_response),
        TEST(return_full_gives_the_whole_map),
        TEST(all_embeddings_are_given),
        TEST(what_json_cannot_say_of_an_answer_is_null),
        TEST(money_always_has_a_point_and_no_exponent),
        TEST(what_is_not_known_is_null),
        TEST(a_failure_is_a_result),
        TEST(a_request_whose_time_is_over_has_a_status_of_its_own),
        TEST(a_message_that_cannot_be_read_has_a_result_too),
        TEST(the_complexity_is_what_was_decided_on),
        TEST(a_result_holds_nothing_that_postgresql_refuses),
        TEST(a_dead_letter_has_the_message_and_the_error),
        TEST(a_request_is_the_same_question_behind_the_queue),
        TEST(a_model_in_the_place_of_a_complexity_stays_one),
        TEST(how_the_answer_should_look_passes_the_queue),
        TEST(keys_and_atoms_of_a_task_become_strings),
        TEST(the_message_says_who_asks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
