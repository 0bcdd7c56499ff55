/* What watchers and subscribers are told is judged by a real node. */
#include "llm_router/api/notice.h"

#include <math.h>

#include "llm_router/core/usage.h"
#include "test_api_node.h"

static struct buf out;
static struct request request;
static struct account account;
static struct task_update update;
static struct request_event event;

static struct slice id;

static int set_up(void **state)
{
    (void)state;
    buf_init(&out, SIZE_MAX);
    term_put_version(&out);
    id = term_bytes("<<\"task-7\">>");
    update = (struct task_update){
        .task_id = term_raw(external_term(id)),
        .status = TASK_ACCEPTED,
        .operation = OP_GENERATE_TASK,
        .request_id = SLICE_LITERAL("r1"),
        .duration_ms = -1,
    };
    request = (struct request){.operation = OP_CALL};
    account = (struct account){
        .model = SLICE_LITERAL("gpt-5-2026"),
        .provider = SLICE_LITERAL("openai"),
        .usage = USAGE_UNKNOWN,
        .cost_usd = NAN,
        .attempts = 2,
    };
    event = (struct request_event){
        .phase = REQUEST_START,
        .request = &request,
        .request_id = SLICE_LITERAL("r1"),
        .caller_node = SLICE_LITERAL("web@host"),
        .unix_ns = 1700000000000000000,
        .first_token_ns = -1,
        .model = SLICE_LITERAL("gpt-5"),
        .provider = SLICE_LITERAL("openai"),
    };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_release(&out);
    mem_free((char *)id.data);
    return 0;
}

static void an_accepted_task_has_no_provider_yet(void **state)
{
    (void)state;
    notice_put_task_update(&out, &update);
    assert_means(buf_slice(&out),
                 "{task_update, <<\"task-7\">>, #{status => accepted,"
                 " operation => generate_task, request_id => <<\"r1\">>}}");
}

static void an_attempt_names_provider_model_and_number(void **state)
{
    (void)state;
    update.status = TASK_CALLING;
    update.provider = SLICE_LITERAL("openai");
    update.model = SLICE_LITERAL("gpt-5");
    update.attempt = 2;
    notice_put_task_update(&out, &update);
    assert_means(buf_slice(&out),
                 "{task_update, <<\"task-7\">>, #{status => calling_provider,"
                 " operation => generate_task, request_id => <<\"r1\">>,"
                 " provider => <<\"openai\">>, model => <<\"gpt-5\">>,"
                 " attempt => 2}}");
}

static void a_failed_task_tells_the_code(void **state)
{
    (void)state;
    update.status = TASK_FAILED;
    update.error = ERR_RATE_LIMITED;
    update.duration_ms = 0;
    notice_put_task_update(&out, &update);
    assert_means(buf_slice(&out),
                 "{task_update, <<\"task-7\">>, #{status => failed,"
                 " operation => generate_task, request_id => <<\"r1\">>,"
                 " duration_ms => 0, error => rate_limited}}");
}

static void a_completed_task_is_its_id(void **state)
{
    (void)state;
    notice_put_task_completed(&out, update.task_id);
    assert_means(buf_slice(&out), "{task_completed, <<\"task-7\">>}");
}

#define REQUEST_METADATA                           \
    "operation => call, request_id => <<\"r1\">>," \
    " 'gen_ai.operation.name' => <<\"chat\">>,"    \
    " 'gen_ai.request.model' => <<\"gpt-5\">>,"    \
    " 'gen_ai.provider.name' => <<\"openai\">>"

static void a_request_begins_with_who_asks_for_what(void **state)
{
    (void)state;
    notice_put_request(&out, &event);
    assert_means(buf_slice(&out),
                 "{llm_router_telemetry, [llm_router, request, start],"
                 " #{system_time => 1700000000000000000},"
                 " #{" REQUEST_METADATA
                 ", caller_node => web@host, mode => call}}");
}

static void a_request_of_the_queue_has_no_caller(void **state)
{
    (void)state;
    event.queued = true;
    event.caller_node = slice_of(NULL);
    notice_put_request(&out, &event);
    assert_means(buf_slice(&out),
                 "{llm_router_telemetry, [llm_router, request, start],"
                 " #{system_time => 1700000000000000000},"
                 " #{" REQUEST_METADATA
                 ", caller_node => nil, mode => queue}}");
}

static void a_good_end_has_what_it_took(void **state)
{
    static const struct result result = {.finish = FINISH_LENGTH};

    (void)state;
    request.operation = OP_STREAM;
    event.phase = REQUEST_STOP;
    event.duration_ns = 1500;
    event.first_token_ns = 0;
    event.account = &account;
    event.result = &result;
    account.usage.input_tokens = 10;
    account.usage.output_tokens = 0;
    account.usage.total_tokens = 10;
    account.cost_usd = 0.25;
    notice_put_request(&out, &event);
    assert_means(buf_slice(&out),
                 "{llm_router_telemetry, [llm_router, request, stop],"
                 " #{duration => 1500, attempts => 2, input_tokens => 10,"
                 "   output_tokens => 0, total_tokens => 10,"
                 "   time_to_first_token => 0, cost_usd => 0.25},"
                 " #{operation => stream, request_id => <<\"r1\">>,"
                 "   caller_node => web@host, mode => stream,"
                 "   'gen_ai.operation.name' => <<\"chat\">>,"
                 "   'gen_ai.request.model' => <<\"gpt-5\">>,"
                 "   'gen_ai.provider.name' => <<\"openai\">>,"
                 "   'gen_ai.response.model' => <<\"gpt-5-2026\">>,"
                 "   'gen_ai.response.finish_reasons' => [<<\"length\">>],"
                 "   'gen_ai.usage.input_tokens' => 10,"
                 "   'gen_ai.usage.output_tokens' => 0}}");
}

static void a_bad_end_has_its_reason(void **state)
{
    static const struct error error = {
        .code = ERR_RATE_LIMITED, .message = "secret", .http_status = 429};

    (void)state;
    event.phase = REQUEST_EXCEPTION;
    event.duration_ns = 7;
    event.error = &error;
    notice_put_request(&out, &event);
    assert_means(buf_slice(&out),
                 "{llm_router_telemetry, [llm_router, request, exception],"
                 " #{duration => 7, attempts => 0},"
                 " #{" REQUEST_METADATA
                 ", caller_node => web@host, mode => call,"
                 "   kind => error, reason => rate_limited,"
                 "   'error.type' => <<\"rate_limited\">>,"
                 "   'http.response.status_code' => 429, stacktrace => []}}");
}

static void embeddings_are_called_so(void **state)
{
    (void)state;
    request.operation = OP_EMBED;
    event.model = event.provider = slice_of(NULL);
    notice_put_request(&out, &event);
    assert_means(buf_slice(&out),
                 "{llm_router_telemetry, [llm_router, request, start],"
                 " #{system_time => 1700000000000000000},"
                 " #{operation => embed, request_id => <<\"r1\">>,"
                 "   caller_node => web@host, mode => call,"
                 "   'gen_ai.operation.name' => <<\"embeddings\">>}}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_accepted_task_has_no_provider_yet),
        TEST(an_attempt_names_provider_model_and_number),
        TEST(a_failed_task_tells_the_code),
        TEST(a_completed_task_is_its_id),
        TEST(a_request_begins_with_who_asks_for_what),
        TEST(a_request_of_the_queue_has_no_caller),
        TEST(a_good_end_has_what_it_took),
        TEST(a_bad_end_has_its_reason),
        TEST(embeddings_are_called_so),
    };

    return cmocka_run_group_tests(tests, start_node, stop_node);
}
