/* OpenAI's responses API (data/openai_responses/). */
#include "test_provider_bed.h"

static int set_up(void **state)
{
    (void)state;
    bed_begin("openai_responses");
    return 0;
}

static void a_stream_reads_the_same_however_it_is_split(void **state)
{
    (void)state;
    bed_expect_each_split("stream.sse",
                          "Gr\xC3\xBC\xC3\x9F"
                          "e \xE2\x98\x95 \xF0\x9F\x98\x80",
                          FINISH_STOP, 45);
    assert_slice(bed.completion.model, "gpt-6-astra");
    assert_int_equal(bed.completion.usage.input_tokens, 120);
    assert_int_equal(bed.completion.usage.cached_tokens, 100);
    assert_int_equal(bed.completion.usage.cache_write_tokens, 10);
    assert_int_equal(bed.completion.usage.reasoning_tokens, 32);
    assert_int_equal(bed.completion.usage.total_tokens, 165);
    bed_expect_each_split("length.sse", "Half an", FINISH_LENGTH, 45);
    bed_expect_each_split("steered.sse", "Half an", FINISH_LENGTH, 45);
    bed_expect_each_split("filtered.sse", "Half an", FINISH_CONTENT_FILTER, 45);
    bed_expect_each_split("refusal.sse", "", FINISH_REFUSAL, 45);
    assert_slice(bed.completion.refusal, "I can't help with that.");
    bed_expect_each_split("tools.sse", "", FINISH_TOOL_CALLS, 45);
    bed_expect_each_split("whole.json", "Hello there", FINISH_STOP, 45);
}

static void tool_calls_are_read(void **state)
{
    (void)state;
    assert_true(bed_read_file("tools.sse"));
    assert_int_equal(bed.completion.tool_call_count, 2);
    bed_expect_call(0, "call_Ab1", "get_weather", "{\"city\":\"Bern\"}");
    bed_expect_call(1, "call_Ab2", "get_time", "{}");
    assert_true(bed_read_file("whole_tools.json"));
    assert_int_equal(bed.completion.tool_call_count, 1);
    bed_expect_call(0, "call_Ab1", "get_weather", "{\"city\":\"Bern\"}");
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_each_split("forced_tool.sse", "{\"a\":1}", FINISH_STOP, 45);
    assert_int_equal(bed.completion.tool_call_count, 0);
}

static void what_mcp_servers_did_is_passed_over(void **state)
{
    (void)state;
    bed_expect_each_split("mcp.sse", "You rolled 4.", FINISH_STOP, 45);
    assert_int_equal(bed.completion.tool_call_count, 0);
    bed_expect_each_split("whole_mcp.json", "You rolled 4.", FINISH_STOP, 45);
    assert_int_equal(bed.completion.tool_call_count, 0);
}

static void the_id_of_the_answer_comes_with_it(void **state)
{
    struct slice body;

    (void)state;
    assert_true(bed_read_file("stream.sse"));
    assert_slice(bed.completion.response_id, "resp_0a7");
    assert_true(bed_read_file("whole_mcp.json"));
    assert_slice(bed.completion.response_id, "resp_0b9");
    body =
        arena_printf(&bed.arena,
                     "{\"id\":\"%0300d\",\"status\":\"completed\",\"output\":"
                     "[{\"type\":\"message\",\"content\":[{\"text\":"
                     "\"Hi\"}]}]}",
                     1);
    assert_true(bed_read(200, body));
    assert_int_equal(bed.completion.response_id.size, 0);
}

/* Whether or not there are deltas, and whether or not the last event repeats
 * the output. */
static void a_call_that_waits_for_approval_is_the_end(void **state)
{
    /*   status, file, code, retry, next, larger, bench, blameless */
    static const struct bed_error rows[] = {
        {200, "approval.sse", ERR_INVALID_REQUEST, 0, 0, 0, 0, 1},
        {200, "whole_approval.json", ERR_INVALID_REQUEST, 0, 0, 0, 0, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bed_expect_error(&rows[i]);
    assert_string_equal(bed.failure.error.path, "opts.mcp_servers");
    assert_int_equal(bed.failure.usage.output_tokens, 45);
    assert_false(bed_read_text(
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hm\"}\n\n"
        "data: {\"type\":\"response.completed\",\"response\":{\"output\":[{"
        "\"type\":\"mcp_approval_request\"}]}}\n\n"));
    assert_int_equal(bed.failure.error.code, ERR_INVALID_REQUEST);
    assert_false(bed_read_text(
        "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":"
        "\"mcp_approval_request\"}}\n\n"
        "data: {\"type\":\"response.completed\",\"response\":{}}\n\n"));
    assert_int_equal(bed.failure.error.code, ERR_INVALID_REQUEST);
}

static void a_whole_answer_may_refuse(void **state)
{
    (void)state;
    assert_true(bed_read_file("whole_refusal.json"));
    assert_int_equal(bed.completion.finish, FINISH_REFUSAL);
    assert_slice(bed.completion.refusal, "I can't help with that.");
}

/* Its output is then only in the last event. */
static void a_stream_may_lack_its_deltas(void **state)
{
    (void)state;
    assert_true(bed_read_text(
        "event: response.completed\ndata: {\"response\":{\"output\":[{\"type\":"
        "\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hi\"}]}]"
        "}}\n\n"));
    assert_slice(bed.completion.text, "Hi");
}

static void failures_inside_a_200_have_the_class_of_their_own(void **state)
{
    /*   status, file, code, retry, next, larger, bench, blameless */
    static const struct bed_error rows[] = {
        {200, "failed.sse", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
        {200, "failed_rate.sse", ERR_RATE_LIMITED, 1, 1, 0, 0, 0},
        {200, "error.sse", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
        {200, "whole_failed.json", ERR_INVALID_REQUEST, 0, 0, 0, 0, 1},
        {200, "whole_queued.json", ERR_BAD_RESPONSE, 1, 1, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bed_expect_error(&rows[i]);
    bed_read_file("failed.sse");
    assert_int_equal(bed.failure.usage.output_tokens, 45);
    assert_slice(bed.failure.model, "gpt-6-astra");
    bed_read_file("error.sse");
    assert_true(bed.failure.retry.overloaded);
}

static void without_its_last_event_a_stream_is_cut(void **state)
{
    (void)state;
    bed_expect_cut("stream.sse", "event: response.completed");
    bed_expect_cut("tools.sse", "event: response.completed");
    bed_expect_bad("{\"object\":\"response\"}");
    bed_expect_bad("{\"status\":\"completed\",\"output\":[]}");
    bed_expect_bad("<html></html>");
    bed_expect_bad("event: response.completed\ndata: {nonsense\n\n");
}

static void progress_is_told_from_idling(void **state)
{
    static const struct {
        const char *event;
        enum provider_progress progress;
    } rows[] = {
        {"{\"type\":\"response.created\",\"response\":{}}", PROGRESS_NONE},
        {"{\"type\":\"response.some_news\"}", PROGRESS_NONE},
        {"{\"type\":\"response.output_item.added\",\"item\":{\"type\":"
         "\"reasoning\"}}",
         PROGRESS_USEFUL},
        {"{\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"\"}",
         PROGRESS_USEFUL},
        {"{\"type\":\"response.mcp_call.in_progress\"}", PROGRESS_USEFUL},
        {"{\"type\":\"response.output_text.delta\",\"delta\":\"\"}",
         PROGRESS_NONE},
        {"{\"type\":\"response.output_text.delta\",\"delta\":\"x\"}",
         PROGRESS_USEFUL},
        {"{\"type\":\"response.completed\",\"response\":{\"status\":"
         "\"completed\"}}",
         PROGRESS_END},
    };
    struct reader *reader = bed_reader(200);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(
            reader_feed(reader, arena_printf(&bed.arena, "data: %s\n\n",
                                             rows[i].event)),
            rows[i].progress);
    assert_true(bed_close(reader, false));
    assert_slice(bed.completion.text, "x");
}

static void an_endless_answer_is_too_large(void **state)
{
    (void)state;
    bed_expect_endless(bed_large("data: {\"type\":\"response.output_text.delta"
                                 "\",\"delta\":\"",
                                 "\"}\n\n"));
}

static void a_plain_request_is_built(void **state)
{
    (void)state;
    bed.endpoint.base_url = slice_of("https://api.openai.com/v1");
    bed.endpoint.organization = slice_of("org-1");
    assert_true(bed_build());
    assert_string_equal(bed.request.url, "https://api.openai.com/v1/responses");
    assert_true(bed_has_header("Authorization: Bearer top/secret+key"));
    assert_true(bed_has_header("OpenAI-Organization: org-1"));
    assert_slice(bed.body,
                 "{\"model\":\"model-1\",\"input\":["
                 "{\"role\":\"system\",\"content\":\"Be \\\"brief\\\"\"},"
                 "{\"role\":\"user\",\"content\":\"Hi\\n\xC3\xBC\"}],"
                 "\"store\":false,\"stream\":true}");
}

static void tools_and_their_answers_are_sent(void **state)
{
    (void)state;
    bed_use_tools();
    bed_expect_in_body(
        "\"input\":[{\"role\":\"user\",\"content\":\"Bern?\"},"
        "{\"role\":\"assistant\",\"content\":\"Let me see.\"},"
        "{\"type\":\"function_call\",\"call_id\":\"call_1\",\"name\":"
        "\"get_weather\",\"arguments\":\"{\\\"city\\\":\\\"Bern\\\"}\"},"
        "{\"type\":\"function_call\",\"call_id\":\"c:2\",\"name\":\"get_time\","
        "\"arguments\":\"{}\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"call_1\","
        "\"output\":\"4 \\\"C\\\"\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"c:2\","
        "\"output\":\"\"}]");
    bed_expect_in_body(
        ",\"tools\":[{\"type\":\"function\",\"name\":\"get_weather\","
        "\"description\":\"The \\\"weather\\\"\",\"parameters\":{\"type\":"
        "\"object\",\"properties\":{}},\"strict\":false},"
        "{\"type\":\"function\",\"name\":\"get_time\",\"parameters\":{\"type\":"
        "\"object\",\"properties\":{}},\"strict\":false}]");
    bed.messages[1].content = slice_of("");
    bed_expect_not_in_body("\"role\":\"assistant\"");
    bed.chat.tool_choice = TOOL_CHOICE_REQUIRED;
    bed_expect_in_body(",\"tool_choice\":\"required\"");
    bed.chat.tool_choice = TOOL_CHOICE_NAMED;
    bed.chat.tool_name = slice_of("get_time");
    bed_expect_in_body(
        ",\"tool_choice\":{\"type\":\"function\",\"name\":\"get_time\"}");
}

static void a_schema_is_enforced_as_the_model_can(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_SCHEMA);
    bed_expect_in_body(",\"text\":{\"format\":{\"type\":\"json_schema\","
                       "\"name\":\"answer\",\"schema\":{\"type\":\"object\"},"
                       "\"strict\":true}},");
    bed_want_schema(STRUCTURED_JSON);
    bed_expect_in_body(",\"text\":{\"format\":{\"type\":\"json_object\"}},");
    bed_want_schema(STRUCTURED_PROMPT);
    bed_expect_not_in_body("\"format\"");
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_in_body(
        ",\"tools\":[{\"type\":\"function\",\"name\":\"answer\",\"parameters\":"
        "{\"type\":\"object\"},\"strict\":true}],\"tool_choice\":{\"type\":"
        "\"function\",\"name\":\"answer\"}");
}

static void use_mcp_servers(const char *json)
{
    struct jv *servers;

    assert_true(jv_parse(&bed.arena, slice_of(json), JV_STRICT,
                         &JV_DEFAULT_LIMITS, NULL, &servers, &bed.err));
    bed.chat.mcp_servers = servers;
}

static void mcp_servers_are_tools_too(void **state)
{
    (void)state;
    use_mcp_servers(
        "[{\"server_label\":\"dice\",\"server_url\":\"https://d.example"
        "\",\"headers\":{\"X-Key\":\"\\\"k\\\"\"}},"
        "{\"type\":\"mcp\",\"server_label\":\"mail\","
        "\"connector_id\":\"connector_gmail\"}]");
    bed.chat.tool_choice = TOOL_CHOICE_REQUIRED;
    bed_expect_in_body(
        ",\"tools\":[{\"type\":\"mcp\",\"server_label\":\"dice\","
        "\"server_url\":\"https://d.example\",\"headers\":{\"X-Key\":"
        "\"\\\"k\\\"\"}},{\"type\":\"mcp\",\"server_label\":\"mail\","
        "\"connector_id\":\"connector_gmail\"}],\"tool_choice\":\"required\"");
    bed_use_tools();
    bed_expect_in_body("\"strict\":false},{\"type\":\"mcp\",\"server_label\":"
                       "\"dice\",");
}

/* A forced call would keep the model from calling them. */
static void beside_mcp_servers_no_tool_is_forced(void **state)
{
    (void)state;
    use_mcp_servers("[{\"server_label\":\"dice\",\"tunnel_id\":\"t\"}]");
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_not_in_body("\"answer\"");
    bed_want_schema(STRUCTURED_SCHEMA);
    bed_expect_in_body(",\"tunnel_id\":\"t\"}],\"text\":{\"format\":");
}

static void an_answer_that_was_kept_can_be_gone_on_from(void **state)
{
    (void)state;
    bed.chat.previous_response_id = slice_of("resp_\"1");
    bed_expect_in_body("],\"previous_response_id\":\"resp_\\\"1\",");
    bed_expect_in_body(",\"store\":false,");
    bed.chat.store = STORE_YES;
    bed_expect_in_body(",\"store\":true,");
    bed.chat.store = STORE_NO;
    bed_expect_in_body(",\"store\":false,");
}

/* What a model needs with tools is said of the API that it is asked through
 * by itself. */
static void the_effort_that_tools_need_is_of_one_api(void **state)
{
    (void)state;
    bed_use_tools();
    bed.candidate.entry = &bed.entry;
    bed.entry.tools_effort = EFFORT_NONE;
    bed.chat.effort = EFFORT_HIGH;
    bed.chat.api_version = API_VERSION_RESPONSES;
    bed_expect_in_body(",\"reasoning\":{\"effort\":\"high\"},");
    bed.entry.tools_api = API_RESPONSES;
    bed_expect_in_body(",\"reasoning\":{\"effort\":\"none\"},");
}

static void the_other_options_are_sent(void **state)
{
    static const struct slice stop = {"END", 3};

    (void)state;
    bed.chat.max_tokens = 100;
    bed.chat.temperature = 0.5;
    bed.chat.top_p = 0.25;
    bed_expect_in_body(",\"max_output_tokens\":100,\"temperature\":0.5,"
                       "\"top_p\":0.25,");
    bed.chat.effort = EFFORT_XHIGH;
    bed_expect_in_body(",\"reasoning\":{\"effort\":\"xhigh\"},");
    bed_expect_not_in_body("temperature");
    bed.chat.stops = &stop;
    bed.chat.stop_count = 1;
    assert_false(bed_build());
    assert_int_equal(bed.err.code, ERR_INVALID_REQUEST);
}

static void embeddings_are_another_api(void **state)
{
    static const struct slice input = {"x", 1};

    (void)state;
    bed.chat = (struct chat){.inputs = &input, .input_count = 1};
    assert_false(bed_build());
    assert_int_equal(bed.err.code, ERR_INVALID_REQUEST);
    assert_string_equal(bed.err.message, "openai_responses has no embeddings");
}

static void no_header_can_be_smuggled_in(void **state)
{
    struct slice *const fields[] = {
        &bed.endpoint.api_key, &bed.endpoint.organization,
        &bed.endpoint.project, &bed.endpoint.base_url};

    (void)state;
    bed_expect_no_smuggling(fields, 4);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, bed_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stream_reads_the_same_however_it_is_split),
        TEST(tool_calls_are_read),
        TEST(what_mcp_servers_did_is_passed_over),
        TEST(the_id_of_the_answer_comes_with_it),
        TEST(a_call_that_waits_for_approval_is_the_end),
        TEST(a_whole_answer_may_refuse),
        TEST(a_stream_may_lack_its_deltas),
        TEST(failures_inside_a_200_have_the_class_of_their_own),
        TEST(without_its_last_event_a_stream_is_cut),
        TEST(progress_is_told_from_idling),
        TEST(an_endless_answer_is_too_large),
        TEST(a_plain_request_is_built),
        TEST(tools_and_their_answers_are_sent),
        TEST(a_schema_is_enforced_as_the_model_can),
        TEST(mcp_servers_are_tools_too),
        TEST(beside_mcp_servers_no_tool_is_forced),
        TEST(an_answer_that_was_kept_can_be_gone_on_from),
        TEST(the_effort_that_tools_need_is_of_one_api),
        TEST(the_other_options_are_sent),
        TEST(embeddings_are_another_api),
        TEST(no_header_can_be_smuggled_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
