/* What replies say is judged by a real node: it decodes the bytes and compares
 * them with an Erlang expression. */
#include "llm_router/api/reply.h"

#include <math.h>

#include "llm_router/core/usage.h"
#include "test_api_node.h"

/* --- what is replied --- */

static struct arena arena;
static struct buf out;
static struct request request;
static struct result result;
static struct account account;

static int64_t needs[] = {1, 300};

static struct task tasks[] = {
    {
        .id = 1,
        .title = SLICE_LITERAL("Größe"),
        .description = SLICE_LITERAL("All of it"),
        .details = SLICE_LITERAL(""),
        .priority = PRIORITY_HIGH,
        .estimated_hours = 4,
    },
    {
        .id = 2,
        .title = SLICE_LITERAL("Second"),
        .test_strategy = SLICE_LITERAL("Look"),
        .priority = PRIORITY_LOW,
        .dependencies = needs,
        .dependency_count = 2,
        .estimated_hours = 1.5,
    },
};

#define FIRST_TASK                                                         \
    "#{id => 1, title => <<\"Größe\"/utf8>>, description => <<\"All of " \
    "it\">>,"                                                              \
    " details => <<>>, test_strategy => nil, priority => high,"            \
    " status => pending, dependencies => [], subtasks => [],"              \
    " estimated_hours => 4}"
#define SECOND_TASK                                                           \
    "#{id => 2, title => <<\"Second\">>, description => nil, details => nil," \
    " test_strategy => <<\"Look\">>, priority => low, status => pending,"     \
    " dependencies => [1, 300], subtasks => [], estimated_hours => 1.5}"
#define FIRST_TASK_STRINGS                                                \
    "#{<<\"id\">> => 1, <<\"title\">> => <<\"Größe\"/utf8>>,"           \
    " <<\"description\">> => <<\"All of it\">>, <<\"details\">> => <<>>," \
    " <<\"test_strategy\">> => nil, <<\"priority\">> => <<\"high\">>,"    \
    " <<\"status\">> => <<\"pending\">>, <<\"dependencies\">> => [],"     \
    " <<\"subtasks\">> => [], <<\"estimated_hours\">> => 4}"

static const struct usage SOME_USAGE = {
    .input_tokens = 10,
    .output_tokens = 5,
    .total_tokens = 15,
    .cached_tokens = 0,
    .cache_write_tokens = -1,
    .reasoning_tokens = -1,
};

#define ACCOUNT                                                               \
    "model => <<\"gpt-5\">>, provider => <<\"openai\">>, request_id => "      \
    "<<\"r1\">>,"                                                             \
    " usage => #{input_tokens => 10, output_tokens => 5, total_tokens => 15," \
    " cached_tokens => 0, reasoning_tokens => nil}, cost_usd => 0.25,"        \
    " duration_ms => 120, attempts => 2, cached => false"
#define FULL "tried => [], " ACCOUNT

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    buf_init(&out, TERM_TEST_MAX);
    term_put_version(&out);
    request = (struct request){.options = {.temperature = NAN, .next_id = 1}};
    result = (struct result){.tasks = {tasks, 1}};
    account = (struct account){
        .model = SLICE_LITERAL("gpt-5"),
        .provider = SLICE_LITERAL("openai"),
        .request_id = SLICE_LITERAL("r1"),
        .usage = SOME_USAGE,
        .cost_usd = 0.25,
        .duration_ms = 120,
        .attempts = 2,
    };
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_release(&out);
    arena_release(&arena);
    return 0;
}

static void assert_out(const char *expression)
{
    assert_false(out.failed);
    assert_means(buf_slice(&out), expression);
}

static void assert_result(enum operation operation, const char *expression)
{
    request.operation = operation;
    buf_clear(&out);
    term_put_version(&out);
    reply_put_result(&out, &request, &result, &account);
    assert_out(expression);
}

/* The caller's map of expand_task, as call.c keeps it. */
static void set_caller_task(const char *source, bool strings)
{
    struct slice bytes = term_bytes(source);

    request.caller_task =
        arena_copy(&arena, slice_make(bytes.data + 1, bytes.size - 1));
    request.caller_task_strings = strings;
    mem_free((char *)bytes.data);
}

static void a_generated_task_is_a_map_of_atoms(void **state)
{
    (void)state;
    assert_result(OP_GENERATE_TASK, "{ok, " FIRST_TASK "}");
    request.options.keys = KEYS_ATOMS;
    assert_result(OP_GENERATE_TASK, "{ok, " FIRST_TASK "}");
}

static void with_string_keys_names_are_binaries_too(void **state)
{
    (void)state;
    request.options.keys = KEYS_STRINGS;
    assert_result(OP_GENERATE_TASK, "{ok, " FIRST_TASK_STRINGS "}");
}

static void hours_are_integers_when_whole_and_nil_when_unknown(void **state)
{
    struct task task = tasks[1];

    (void)state;
    task.estimated_hours = NAN;
    result.tasks = (struct task_list){&task, 1};
    assert_result(
        OP_PARSE_PRD,
        "{ok, [#{id => 2, title => <<\"Second\">>, description => nil,"
        " details => nil, test_strategy => <<\"Look\">>, priority => low,"
        " status => pending, dependencies => [1, 300], subtasks => [],"
        " estimated_hours => nil}]}");
}

static void parsed_tasks_are_a_list(void **state)
{
    (void)state;
    result.tasks.count = 2;
    assert_result(OP_PARSE_PRD, "{ok, [" FIRST_TASK ", " SECOND_TASK "]}");
    result.tasks.count = 0;
    assert_result(OP_PARSE_PRD, "{ok, []}");
}

static void an_expanded_task_keeps_the_pairs_of_its_owner(void **state)
{
    (void)state;
    set_caller_task("#{title => \"Login\", owner => PID, 1 => {x, 2.5},"
                    " <<\"note\">> => [a | b]}",
                    false);
    assert_result(OP_EXPAND_TASK,
                  "{ok, #{title => \"Login\", owner => PID, 1 => {x, 2.5},"
                  " <<\"note\">> => [a | b], subtasks => [" FIRST_TASK "]}}");
}

static void an_expanded_task_has_its_old_subtasks_replaced(void **state)
{
    (void)state;
    set_caller_task("#{subtasks => [old], <<\"subtasks\">> => older, a => 1}",
                    false);
    assert_result(OP_EXPAND_TASK,
                  "{ok, #{a => 1, subtasks => [" FIRST_TASK "]}}");
}

static void an_expanded_task_mirrors_string_keys(void **state)
{
    (void)state;
    set_caller_task("#{<<\"title\">> => <<\"Login\">>}", true);
    assert_result(OP_EXPAND_TASK,
                  "{ok, #{<<\"title\">> => <<\"Login\">>,"
                  " <<\"subtasks\">> => [" FIRST_TASK_STRINGS "]}}");
    request.options.keys = KEYS_ATOMS;
    assert_result(OP_EXPAND_TASK, "{ok, #{<<\"title\">> => <<\"Login\">>,"
                                  " subtasks => [" FIRST_TASK "]}}");
}

static void an_expanded_title_is_a_map_of_title_and_subtasks(void **state)
{
    (void)state;
    request.text = slice_of("Login");
    assert_result(OP_EXPAND_TASK, "{ok, #{title => <<\"Login\">>,"
                                  " subtasks => [" FIRST_TASK "]}}");
    request.options.keys = KEYS_STRINGS;
    assert_result(OP_EXPAND_TASK,
                  "{ok, #{<<\"title\">> => <<\"Login\">>,"
                  " <<\"subtasks\">> => [" FIRST_TASK_STRINGS "]}}");
}

static void a_response_has_text_and_account(void **state)
{
    (void)state;
    result.text = slice_of("Hello");
    result.finish = FINISH_LENGTH;
    result.response_id = slice_of("resp_1");
    assert_result(OP_CALL, "{ok, #{text => <<\"Hello\">>,"
                           " content => <<\"Hello\">>, tool_calls => [],"
                           " finish_reason => length,"
                           " response_id => <<\"resp_1\">>, tokens_used => 15,"
                           " cost_cents => 25.0, " ACCOUNT "}}");
}

static void a_response_with_string_keys_looks_like_json(void **state)
{
    (void)state;
    result.text = slice_of("Hello");
    request.options.keys = KEYS_STRINGS;
    assert_result(
        OP_CALL_WITH_PROMPT,
        "{ok, #{<<\"text\">> => <<\"Hello\">>, <<\"content\">> => "
        "<<\"Hello\">>,"
        " <<\"tool_calls\">> => [], <<\"finish_reason\">> => <<\"stop\">>,"
        " <<\"response_id\">> => nil,"
        " <<\"tokens_used\">> => 15, <<\"cost_cents\">> => 25.0,"
        " <<\"model\">> => <<\"gpt-5\">>, <<\"provider\">> => <<\"openai\">>,"
        " <<\"request_id\">> => <<\"r1\">>, <<\"usage\">> =>"
        " #{<<\"input_tokens\">> => 10, <<\"output_tokens\">> => 5,"
        " <<\"total_tokens\">> => 15, <<\"cached_tokens\">> => 0,"
        " <<\"reasoning_tokens\">> => nil}, <<\"cost_usd\">> => 0.25,"
        " <<\"duration_ms\">> => 120, <<\"attempts\">> => 2,"
        " <<\"cached\">> => false}}");
}

static void what_is_unknown_in_a_response_is_nil(void **state)
{
    (void)state;
    result.text = slice_make("", 0);
    account = (struct account){.usage = USAGE_UNKNOWN, .cost_usd = NAN};
    assert_result(
        OP_CALL, "{ok, #{text => <<>>, content => <<>>, tool_calls => [],"
                 " finish_reason => stop, response_id => nil, tokens_used => "
                 "nil, cost_cents => nil,"
                 " model => nil, provider => nil, request_id => nil,"
                 " usage => #{input_tokens => nil, output_tokens => nil,"
                 " total_tokens => nil, cached_tokens => nil,"
                 " reasoning_tokens => nil}, cost_usd => nil, duration_ms => 0,"
                 " attempts => 0, cached => false}}");
}

static void a_response_to_a_schema_has_the_object(void **state)
{
    struct jv schema = {.type = JV_OBJECT, .complete = true};
    struct error err;
    struct jv *object;

    (void)state;
    assert_true(jv_parse(&arena, slice_of("{\"a\":[null,1.5,{\"ok\":true}]}"),
                         JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &object, &err));
    request.options.schema = &schema;
    result.text = slice_of("x");
    result.object = object;
    assert_result(
        OP_CALL_WITH_SYSTEM,
        "{ok, #{text => <<\"x\">>, content => <<\"x\">>,"
        " object => #{<<\"a\">> => [nil, 1.5,"
        " #{<<\"ok\">> => true}]}, tool_calls => [],"
        " finish_reason => stop, response_id => nil, tokens_used => 15,"
        " cost_cents => 25.0, " ACCOUNT "}}");
}

static void a_full_result_tells_how_it_came_about(void **state)
{
    struct slice texts[] = {SLICE_LITERAL("one"), SLICE_LITERAL("two")};

    (void)state;
    request.options.full = true;
    result.warnings = (struct warnings){.texts = texts, .count = 2};
    assert_result(OP_GENERATE_TASK,
                  "{ok, #{result => " FIRST_TASK ", warnings => [<<\"one\">>,"
                  " <<\"two\">>], " FULL "}}");
    /* The style of the caller's map is not that of our own. */
    set_caller_task("#{<<\"title\">> => 1}", true);
    assert_result(OP_EXPAND_TASK,
                  "{ok, #{result => #{<<\"title\">> => 1, <<\"subtasks\">> =>"
                  " [" FIRST_TASK_STRINGS "]}, warnings => [<<\"one\">>,"
                  " <<\"two\">>], " FULL "}}");
}

static const struct attempt_record RECORDS[] = {
    {
        .provider = SLICE_LITERAL("openai"),
        .model = SLICE_LITERAL("gpt-5"),
        .key = SLICE_LITERAL("first"),
        .error = ERR_RATE_LIMITED,
        .http_status = 429,
        .duration_ms = 20,
    },
    {
        .provider = SLICE_LITERAL("gemini"),
        .model = SLICE_LITERAL("flash"),
        .duration_ms = 100,
    },
};

static void a_full_result_tells_what_was_chosen_and_tried(void **state)
{
    static const struct decision routed = {
        .complexity = COMPLEXITY_COMPLEX,
        .task_type = SLICE_LITERAL("qa"),
        .strategy = STRATEGY_CHEAPEST,
        .reason = "route",
        .skipped = 2,
    };
    static const struct decision named = {.reason = "model"};

    (void)state;
    request.options.full = true;
    account.decision = &routed;
    account.records = RECORDS;
    account.record_count = 2;
    account.cached = true;
    assert_result(
        OP_GENERATE_TASK,
        "{ok, (#{result => " FIRST_TASK ", warnings => [],"
        " route => #{complexity => complex, task_type => <<\"qa\">>,"
        " strategy => cheapest, reason => route, skipped => 2}, " FULL
        "})#{cached := true, tried := ["
        "#{provider => <<\"openai\">>, model => <<\"gpt-5\">>,"
        " key => <<\"first\">>, error => rate_limited, http_status => 429,"
        " duration_ms => 20},"
        "#{provider => <<\"gemini\">>, model => <<\"flash\">>, key => nil,"
        " error => nil, http_status => nil, duration_ms => 100}]}}");
    account.decision = &named;
    account.record_count = 0;
    account.cached = false;
    assert_result(OP_GENERATE_TASK,
                  "{ok, #{result => " FIRST_TASK ", warnings => [],"
                  " route => #{complexity => nil, task_type => nil,"
                  " strategy => ordered, reason => model, skipped => 0}, " FULL
                  "}}");
}

static void a_full_list_tells_where_its_tasks_come_from(void **state)
{
    static const struct heading headings[] = {
        {.text = SLICE_LITERAL(""), .line = 1, .covered = true},
        {.text = SLICE_LITERAL("Cart"), .line = 3, .covered = true},
        {.text = SLICE_LITERAL("Größe"), .line = 9},
    };
    static const size_t sources[] = {1, SIZE_MAX};

    (void)state;
    request.options.full = true;
    result.tasks.count = 2;
    result.coverage = (struct coverage){
        .headings = headings,
        .count = 3,
        .sources = sources,
    };
    assert_result(
        OP_PARSE_PRD,
        "{ok, #{result => [" FIRST_TASK ", " SECOND_TASK "], warnings => [],"
        " sources => [#{task_id => 1, heading => <<\"Cart\">>, line => 3},"
        " #{task_id => 2, heading => nil, line => nil}],"
        " coverage => #{headings => ["
        "#{heading => <<>>, line => 1, covered => true},"
        "#{heading => <<\"Cart\">>, line => 3, covered => true},"
        "#{heading => <<\"Größe\"/utf8>>, line => 9, covered => false}],"
        " uncovered => [<<\"Größe\"/utf8>>]}, " FULL "}}");
}

static void metadata_comes_back_as_it_was(void **state)
{
    struct slice bytes = term_bytes("{PID, [1 | 2]}");

    (void)state;
    request.options.metadata =
        arena_copy(&arena, slice_make(bytes.data + 1, bytes.size - 1));
    mem_free((char *)bytes.data);
    result.text = slice_of("Hello");
    assert_result(OP_ROUTE,
                  "{ok, #{text => <<\"Hello\">>, content => <<\"Hello\">>,"
                  " tool_calls => [], finish_reason => stop, response_id => "
                  "nil, tokens_used => 15,"
                  " cost_cents => 25.0, metadata => {PID, [1 | 2]}, " ACCOUNT
                  "}}");
    request.options.full = true;
    assert_result(OP_GENERATE_TASK,
                  "{ok, #{result => " FIRST_TASK ", warnings => [],"
                  " metadata => {PID, [1 | 2]}, " FULL "}}");
}

static void tool_calls_have_maps_with_distinct_binary_keys(void **state)
{
    static const struct tool_call calls[] = {
        {
            .id = SLICE_LITERAL("i1"),
            .name = SLICE_LITERAL("f"),
            .arguments = SLICE_LITERAL("{\"a\":1,\"b\":[null],\"a\":\"last\"}"),
        },
        {
            .id = SLICE_LITERAL("i2"),
            .name = SLICE_LITERAL("g"),
            .arguments = SLICE_LITERAL("{}"),
        },
    };

    (void)state;
    result.finish = FINISH_TOOL_CALLS;
    result.tool_calls = calls;
    result.tool_call_count = 2;
    assert_result(OP_ROUTE_COMPLETION,
                  "{ok, #{text => <<>>, content => <<>>, tool_calls => ["
                  "#{id => <<\"i1\">>, name => <<\"f\">>, arguments =>"
                  " #{<<\"a\">> => <<\"last\">>, <<\"b\">> => [nil]}},"
                  "#{id => <<\"i2\">>, name => <<\"g\">>, arguments => #{}}],"
                  " finish_reason => tool_calls, response_id => nil, "
                  "tokens_used => 15, cost_cents "
                  "=> 25.0, " ACCOUNT "}}");
}

static void analyses_name_their_tasks(void **state)
{
    struct slice id = term_bytes("{a, 1}");
    const struct given_task given[] = {
        {.id = {id.data + 1, id.size - 1}, .title = SLICE_LITERAL("Login")},
        {.title = SLICE_LITERAL("Cart")},
    };
    const struct analysis analyses[] = {
        {
            .task = &given[0],
            .score = 7,
            .subtasks = 4,
            .expansion_prompt = SLICE_LITERAL("Split it"),
            .reasoning = SLICE_LITERAL("Hard"),
        },
        {.task = &given[1], .score = 1},
    };

    (void)state;
    result.analyses = analyses;
    result.analysis_count = 2;
    assert_result(OP_ANALYZE_COMPLEXITY,
                  "{ok, [#{task_id => {a, 1}, task_title => <<\"Login\">>,"
                  " complexity_score => 7, recommended_subtasks => 4,"
                  " expansion_prompt => <<\"Split it\">>,"
                  " reasoning => <<\"Hard\">>},"
                  "#{task_id => nil, task_title => <<\"Cart\">>,"
                  " complexity_score => 1, recommended_subtasks => 0,"
                  " expansion_prompt => nil, reasoning => nil}]}");
    mem_free((char *)id.data);
}

static void research_has_findings_and_sources(void **state)
{
    static const struct slice sources[] = {SLICE_LITERAL("a.example"),
                                           SLICE_LITERAL("b.example")};

    (void)state;
    result.text = slice_of("Much");
    assert_result(OP_RESEARCH,
                  "{ok, #{findings => <<\"Much\">>, sources => []}}");
    result.sources = sources;
    result.source_count = 2;
    request.options.keys = KEYS_STRINGS;
    assert_result(OP_RESEARCH,
                  "{ok, #{<<\"findings\">> => <<\"Much\">>, <<\"sources\">> =>"
                  " [<<\"a.example\">>, <<\"b.example\">>]}}");
}

static void embeddings_are_lists_of_floats(void **state)
{
    double first[] = {0.5, -1, 0}, second[] = {1e-9};
    const struct embedding embeddings[] = {{first, 3}, {second, 1}};

    (void)state;
    result.embeddings = embeddings;
    result.embedding_count = 2;
    assert_result(OP_EMBED,
                  "{ok, #{embeddings => [[0.5, -1.0, 0.0], [1.0e-9]],"
                  " model => <<\"gpt-5\">>, usage => #{input_tokens => 10,"
                  " output_tokens => 5, total_tokens => 15, cached_tokens => 0,"
                  " reasoning_tokens => nil}}}");
}

static void an_error_has_only_the_details_that_are_known(void **state)
{
    struct error err;

    (void)state;
    error_set(&err, ERR_OVERLOADED, "%s", "too many calls – 5");
    reply_put_error(&out, &err, NULL);
    assert_out("{error, {overloaded,"
               " #{message => <<\"too many calls – 5\"/utf8>>}}}");
    buf_clear(&out);
    term_put_version(&out);
    account = (struct account){.usage = USAGE_UNKNOWN, .cost_usd = NAN};
    reply_put_error(&out, &err, &account);
    assert_out("{error, {overloaded,"
               " #{message => <<\"too many calls – 5\"/utf8>>}}}");
}

static void an_error_has_all_the_details_that_are_known(void **state)
{
    struct error err;

    (void)state;
    error_at(&err, ERR_RATE_LIMITED, "opts.model", "slow down");
    err.http_status = 429;
    err.retry_after_ms = 0;
    reply_put_error(&out, &err, &account);
    assert_out("{error, {rate_limited, #{message => <<\"slow down\">>,"
               " path => <<\"opts.model\">>, provider => <<\"openai\">>,"
               " model => <<\"gpt-5\">>, http_status => 429,"
               " retry_after_ms => 0, attempts => 2, cost_usd => 0.25}}}");
}

static void a_wrong_count_tells_both_numbers(void **state)
{
    struct error err;

    (void)state;
    error_set(&err, ERR_TASK_COUNT, "no");
    err.wanted = 5;
    reply_put_error(&out, &err, NULL);
    assert_out("{error, {task_count, #{message => <<\"no\">>, wanted => 5,"
               " got => 0}}}");
}

static const struct plan PLAN = {
    .candidates = {{.provider = SLICE_LITERAL("p"),
                    .model = SLICE_LITERAL("m")},
                   {.provider = SLICE_LITERAL("q"),
                    .model = SLICE_LITERAL("n")}},
    .count = 2,
    .decision = {.complexity = COMPLEXITY_SIMPLE,
                 .strategy = STRATEGY_FASTEST,
                 .reason = "route"},
};

static void begin(void)
{
    buf_clear(&out);
    term_put_version(&out);
}

static void small_answers_are_what_they_are(void **state)
{
    (void)state;
    reply_put_pong(&out);
    assert_out("pong");
    begin();
    reply_put_boolean(&out, true);
    assert_out("true");
    begin();
    reply_put_boolean(&out, false);
    assert_out("false");
}

static void a_selection_is_the_first_candidate(void **state)
{
    (void)state;
    reply_put_selection(&out, &request, &PLAN);
    assert_out("{ok, #{model => <<\"m\">>, provider => <<\"p\">>}}");
    request.options.keys = KEYS_STRINGS;
    begin();
    reply_put_selection(&out, &request, &PLAN);
    assert_out("{ok, #{<<\"model\">> => <<\"m\">>, <<\"provider\">> =>"
               " <<\"p\">>}}");
    request.options.keys = KEYS_DEFAULT;
    request.options.full = true;
    begin();
    reply_put_selection(&out, &request, &PLAN);
    assert_out("{ok, #{model => <<\"m\">>, provider => <<\"p\">>,"
               " candidates => [#{model => <<\"m\">>, provider => <<\"p\">>},"
               " #{model => <<\"n\">>, provider => <<\"q\">>}],"
               " route => #{complexity => simple, task_type => nil,"
               " strategy => fastest, reason => route, skipped => 0}}}");
}

static void a_stream_is_told_by_its_reference(void **state)
{
    struct slice bytes = term_bytes("REF");
    struct slice reference = {bytes.data + 1, bytes.size - 1};
    struct error err;

    (void)state;
    request.operation = OP_STREAM;
    result.text = slice_of("Hello");
    reply_put_stream(&out, reference);
    assert_out("{ok, REF}");
    begin();
    reply_put_delta(&out, reference, slice_of("Größe"));
    assert_out("{llm_stream, REF, {delta, <<\"Größe\"/utf8>>}}");
    begin();
    reply_put_stream_done(&out, reference, &request, &result, &account);
    assert_out("{llm_stream, REF, {done, #{text => <<\"Hello\">>,"
               " content => <<\"Hello\">>, tool_calls => [],"
               " finish_reason => stop, response_id => nil, tokens_used => 15,"
               " cost_cents => 25.0, " ACCOUNT "}}}");
    request.options.full = true;
    begin();
    reply_put_stream_done(&out, reference, &request, &result, &account);
    assert_out("{llm_stream, REF, {done, #{result => #{text => <<\"Hello\">>,"
               " content => <<\"Hello\">>, tool_calls => [],"
               " finish_reason => stop, response_id => nil, tokens_used => 15,"
               " cost_cents => 25.0, " ACCOUNT "}, warnings => [], " FULL
               "}}}");
    begin();
    error_set(&err, ERR_TIMEOUT, "too slow");
    reply_put_stream_error(&out, reference, &err, NULL);
    assert_out("{llm_stream, REF, {error, {timeout, #{message =>"
               " <<\"too slow\">>}}}}");
    mem_free((char *)bytes.data);
}

static void each_form_wraps_the_result(void **state)
{
    static const struct {
        enum reply_form form;
        const char *tag;
        const char *expression;
    } cases[] = {
        {REPLY_GEN, "[alias | REF]", "{[alias | REF], pong}"},
        {REPLY_GEN, "{REF, a@b}", "{{REF, a@b}, pong}"},
        {REPLY_PRD, "nil", "{prd_response, pong}"},
        {REPLY_NAMED, "nil", "{llm_result, parse_prd, pong}"},
        {REPLY_RESPONSE, "{1, PID}", "{llm_response, {1, PID}, pong}"},
    };
    struct buf value;

    (void)state;
    buf_init(&value, 100);
    reply_put_pong(&value);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct slice tag = term_bytes(cases[i].tag);
        struct reply_address reply = {
            .form = cases[i].form,
            .tag = slice_make(tag.data + 1, tag.size - 1),
        };

        buf_clear(&out);
        term_put_version(&out);
        reply_put_head(&out, &reply, OP_PARSE_PRD);
        buf_append_slice(&out, buf_slice(&value));
        assert_out(cases[i].expression);
        mem_free((char *)tag.data);
    }
    buf_release(&value);
}

static void what_does_not_fit_fails_the_buffer(void **state)
{
    struct buf small;

    (void)state;
    request.operation = OP_GENERATE_TASK;
    buf_init(&small, 100);
    reply_put_result(&small, &request, &result, &account);
    assert_true(small.failed);
    buf_release(&small);
}

/* Of test_api_terms.h: the other tests stand on it. */
static void a_node_means_the_same_by_the_terms_of_these_tests(void **state)
{
    static const char *const terms[] = {
        "{'$gen_call', {PID, [alias | REF]}, ping}",
        "#{a => 1, <<\"b\">> => -2.5, 300 => [], [] => {}}",
        "[{a, \"text\"}, 'quoted atom', [1, 2], [1, 256], [1 | 2], \"\"]",
        "<<1, 2, 255>>",
        "[97, 98 | c]",
        "-9223372036854775807",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(terms) / sizeof(*terms); i++) {
        struct slice bytes = term_bytes(terms[i]);

        assert_means(bytes, terms[i]);
        mem_free((char *)bytes.data);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_generated_task_is_a_map_of_atoms),
        TEST(with_string_keys_names_are_binaries_too),
        TEST(hours_are_integers_when_whole_and_nil_when_unknown),
        TEST(parsed_tasks_are_a_list),
        TEST(an_expanded_task_keeps_the_pairs_of_its_owner),
        TEST(an_expanded_task_has_its_old_subtasks_replaced),
        TEST(an_expanded_task_mirrors_string_keys),
        TEST(an_expanded_title_is_a_map_of_title_and_subtasks),
        TEST(a_response_has_text_and_account),
        TEST(a_response_with_string_keys_looks_like_json),
        TEST(what_is_unknown_in_a_response_is_nil),
        TEST(a_response_to_a_schema_has_the_object),
        TEST(a_full_result_tells_how_it_came_about),
        TEST(a_full_result_tells_what_was_chosen_and_tried),
        TEST(a_full_list_tells_where_its_tasks_come_from),
        TEST(metadata_comes_back_as_it_was),
        TEST(tool_calls_have_maps_with_distinct_binary_keys),
        TEST(analyses_name_their_tasks),
        TEST(research_has_findings_and_sources),
        TEST(embeddings_are_lists_of_floats),
        TEST(an_error_has_only_the_details_that_are_known),
        TEST(an_error_has_all_the_details_that_are_known),
        TEST(a_wrong_count_tells_both_numbers),
        TEST(small_answers_are_what_they_are),
        TEST(a_selection_is_the_first_candidate),
        TEST(a_stream_is_told_by_its_reference),
        TEST(each_form_wraps_the_result),
        TEST(what_does_not_fit_fails_the_buffer),
        TEST(a_node_means_the_same_by_the_terms_of_these_tests),
    };

    return cmocka_run_group_tests(tests, start_node, stop_node);
}
