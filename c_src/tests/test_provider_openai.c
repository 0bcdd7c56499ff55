/* The OpenAI dialect against answers as the servers send them
 * (data/openai/). Run from the project's root. */
#include "test_provider_bed.h"

static int set_up(void **state)
{
    (void)state;
    bed_begin("openai");
    bed.endpoint.base_url = slice_of("https://api.openai.com/v1");
    return 0;
}

static void a_stream_reads_the_same_however_it_is_split(void **state)
{
    (void)state;
    bed_expect_each_split("stream.sse",
                          "{\"title\":\"Gr\xC3\xBC\xC3\x9F"
                          "e aus Z\xC3\xBCrich \xE2\x98\x95 "
                          "\xF0\x9F\x98\x80\",\"priority\":\"high\"}",
                          FINISH_STOP, 41);
    bed_expect_each_split("../compatible/openrouter.sse", "Hello",
                          FINISH_LENGTH, 41);
    bed_expect_each_split("../compatible/llamacpp.sse", "42\n", FINISH_STOP, 9);
    bed_expect_each_split("whole.json", "Hello there", FINISH_STOP, 41);
}

static void usage_and_model_are_read(void **state)
{
    (void)state;
    assert_true(bed_read_file("stream.sse"));
    assert_slice(bed.completion.model, "gpt-5-mini-2025-08-07");
    assert_int_equal(bed.completion.usage.input_tokens, 312);
    assert_int_equal(bed.completion.usage.output_tokens, 41);
    assert_int_equal(bed.completion.usage.total_tokens, 353);
    assert_int_equal(bed.completion.usage.cached_tokens, 128);
    assert_int_equal(bed.completion.usage.cache_write_tokens, -1);
    assert_int_equal(bed.completion.usage.reasoning_tokens, 16);
}

static void a_refusal_is_a_completion_that_says_so(void **state)
{
    (void)state;
    assert_true(bed_read_file("refusal.sse"));
    assert_slice(bed.completion.refusal, "I'm sorry, I can't help with that.");
    assert_int_equal(bed.completion.finish, FINISH_REFUSAL);
    assert_int_equal(bed.completion.text.size, 0);
}

static void finish_reasons_are_mapped_and_new_ones_mean_stop(void **state)
{
    static const struct {
        const char *name;
        enum finish_reason finish;
    } rows[] = {
        {"stop", FINISH_STOP},
        {"length", FINISH_LENGTH},
        {"model_length", FINISH_LENGTH},
        {"content_filter", FINISH_CONTENT_FILTER},
        {"eos", FINISH_STOP},
        {"tool_calls", FINISH_STOP}, /* there are none */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice body =
            arena_printf(&bed.arena,
                         "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},"
                         "\"finish_reason\":\"%s\"}]}\n\n",
                         rows[i].name);

        assert_true(bed_read(200, body));
        assert_int_equal(bed.completion.finish, rows[i].finish);
    }
}

static void an_interrupted_answer_is_a_failure(void **state)
{
    (void)state;
    assert_false(bed_read_text("data: {\"choices\":[{\"delta\":{\"content\":"
                               "\"x\"},\"finish_reason\":\"error\"}]}\n\n"));
    assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
}

static void only_the_first_choice_is_read(void **state)
{
    (void)state;
    assert_true(bed_read_text(
        "{\"choices\":[{\"index\":1,\"message\":{\"content\":\"no\"}},"
        "{\"index\":0,\"message\":{\"content\":\"yes\"},"
        "\"finish_reason\":\"stop\"}]}"));
    assert_slice(bed.completion.text, "yes");
}

static void content_may_be_a_list_of_parts(void **state)
{
    (void)state;
    assert_true(bed_read_text(
        "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\","
        "\"text\":\"a\"},{\"type\":\"image\"},{\"text\":\"b\"}]}}]}"));
    assert_slice(bed.completion.text, "ab");
}

static void text_is_cleaned(void **state)
{
    (void)state;
    assert_true(bed_read_text("\xEF\xBB\xBF{\"choices\":[{\"message\":{"
                              "\"content\":\"a\\u0000b\\ud800c\xFF"
                              "d\"}}]}"));
    assert_slice(bed.completion.text, "ab\xEF\xBF\xBD"
                                      "c\xEF\xBF\xBD"
                                      "d");
}

static void broken_usage_is_unknown(void **state)
{
    (void)state;
    assert_true(bed_read_text(
        "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{"
        "\"prompt_tokens\":-5,\"completion_tokens\":\"7\","
        "\"total_tokens\":1e300,\"prompt_tokens_details\":{"
        "\"cached_tokens\":3},\"completion_tokens_details\":[]}}"));
    assert_int_equal(bed.completion.usage.input_tokens, -1);
    assert_int_equal(bed.completion.usage.output_tokens, -1);
    assert_int_equal(bed.completion.usage.total_tokens, -1);
    assert_int_equal(bed.completion.usage.cached_tokens, -1);
    assert_int_equal(bed.completion.usage.reasoning_tokens, -1);
    assert_true(bed_read_text(
        "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{"
        "\"prompt_tokens\":5,\"prompt_tokens_details\":{"
        "\"cached_tokens\":6}}}"));
    assert_int_equal(bed.completion.usage.input_tokens, 5);
    assert_int_equal(bed.completion.usage.cached_tokens, -1);
    assert_true(bed_read_text(
        "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{"
        "\"completion_tokens\":5,\"completion_tokens_details\":{"
        "\"reasoning_tokens\":6}}}"));
    assert_int_equal(bed.completion.usage.reasoning_tokens, -1);
}

static void the_last_usage_counts(void **state)
{
    (void)state;
    assert_true(bed_read_text(
        "data: {\"usage\":{\"prompt_tokens\":1},\"choices\":[{\"delta\":{"
        "\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n"
        "data: {\"usage\":{\"prompt_tokens\":2},\"choices\":[]}\n\n"
        "data: {\"usage\":null,\"choices\":[]}\n\ndata: [DONE]\n\n"));
    assert_int_equal(bed.completion.usage.input_tokens, 2);
}

static void expect_bad(const char *body, const char *message)
{
    assert_false(bed_read_text(body));
    assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
    assert_string_equal(bed.failure.error.message, message);
    assert_int_equal(bed.failure.error.http_status, 200);
    assert_true(bed.failure.retry.retryable);
    assert_true(bed.failure.try_next);
    assert_false(bed.failure.bench_key);
}

static void what_is_not_an_answer_is_a_bad_response(void **state)
{
    (void)state;
    expect_bad("", "the answer is empty");
    expect_bad(" \r\n\r\n", "the answer is empty");
    expect_bad("<html>busy</html>", "HTML instead of JSON");
    expect_bad("ok", "the answer is not JSON");
    expect_bad("{\"choices\":[{\"mess", "the answer is not JSON");
    expect_bad("{}", "the answer has no choices");
    expect_bad("[]", "the answer has no choices");
    expect_bad("{\"choices\":[{\"message\":{\"content\":null}}]}",
               "the answer has no text");
    expect_bad("data: [DONE]\n\n", "the stream ended without a finish reason");
    expect_bad(": ping\n\n", "the stream ended without a finish reason");
    expect_bad("data: {nonsense\n\n", "an event of the stream is not JSON");
}

static void a_stream_without_its_end_is_cut(void **state)
{
    struct slice body = bed_load("stream.sse");
    struct slice finish = SLICE_LITERAL("\"finish_reason\":\"stop\"");
    size_t end = (size_t)slice_find(body, finish);

    (void)state;
    for (size_t size = 1; size < end; size += 7) {
        struct reader *reader = bed_reader(200);

        reader_feed(reader, slice_make(body.data, size));
        assert_false(bed_close(reader, false));
        assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
    }
}

static void an_answer_is_whole_once_its_finish_reason_came(void **state)
{
    struct slice body = bed_load("stream.sse");
    size_t end = (size_t)slice_find(body, SLICE_LITERAL("\"choices\":[],"));
    struct reader *reader = bed_reader(200);

    (void)state;
    reader_feed(reader, slice_make(body.data, end));
    assert_true(bed_close(reader, false));
    assert_int_equal(bed.completion.usage.input_tokens, -1);
}

static void progress_is_told_from_idling(void **state)
{
    static const struct {
        const char *bytes;
        enum provider_progress progress;
    } rows[] = {
        {"\r\n", PROGRESS_NONE},
        {": OPENROUTER PROCESSING\n\n", PROGRESS_NONE},
        {"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\","
         "\"content\":\"\"}}]}\n\n",
         PROGRESS_NONE},
        {"data: {\"choices\":[{\"delta\":{\"content\":\"a\"", PROGRESS_NONE},
        {"}}]}\n\n", PROGRESS_USEFUL},
        {"data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n",
         PROGRESS_USEFUL},
        {": ping\n\n", PROGRESS_NONE},
        {"data: [DONE]\n\n", PROGRESS_END},
        {"data: {\"error\":\"too late\"}\n\n", PROGRESS_END},
    };
    struct reader *reader = bed_reader(200);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(reader_feed(reader, slice_of(rows[i].bytes)),
                         rows[i].progress);
    reader_free(reader);
}

static void an_error_inside_a_stream_fails_at_once(void **state)
{
    struct reader *reader = bed_reader(200);

    (void)state;
    assert_int_equal(reader_feed(reader, bed_load("error_inside.sse")),
                     PROGRESS_FAILED);
    assert_int_equal(reader_feed(reader, slice_of("data: [DONE]\n\n")),
                     PROGRESS_FAILED);
    assert_false(bed_close(reader, false));
    assert_int_equal(bed.failure.error.code, ERR_PROVIDER_ERROR);
    assert_true(bed.failure.retry.retryable);
}

static void errors_inside_a_200_have_the_class_of_their_own(void **state)
{
    static const struct {
        const char *body;
        enum error_code code;
    } rows[] = {
        {"{\"error\":{\"message\":\"m\",\"type\":\"rate_limit_error\"}}",
         ERR_RATE_LIMITED},
        {"{\"error\":{\"message\":\"m\",\"code\":401}}", ERR_UNAUTHORIZED},
        {"{\"error\":\"overloaded\"}", ERR_PROVIDER_ERROR},
        {"{\"error\":{\"message\":\"m\",\"status_code\":404}}", ERR_NO_ROUTE},
        {"{\"object\":\"error\",\"message\":\"m\",\"code\":404}", ERR_NO_ROUTE},
        {"event: error\ndata: {\"message\":\"m\",\"code\":\"insufficient_quota"
         "\"}\n\n",
         ERR_QUOTA_EXCEEDED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(bed_read_text(rows[i].body));
        assert_int_equal(bed.failure.error.code, rows[i].code);
    }
}

static void the_headers_advise(void **state)
{
    (void)state;
    bed_header("retry-after", "7");
    bed_header("x-should-retry", "false");
    assert_false(bed_read(503, slice_of("{}")));
    assert_int_equal(bed.failure.retry.retry_after_ms, 7000);
    assert_int_equal(bed.failure.error.retry_after_ms, 7000);
    assert_true(bed.failure.retry.should_retry_said);
    assert_false(bed.failure.retry.should_retry);
    bed_header("retry-after-ms", "250");
    assert_false(bed_read(429, slice_of("{}")));
    assert_int_equal(bed.failure.retry.retry_after_ms, 250);
}

static void no_credit_is_final_whatever_the_headers_say(void **state)
{
    (void)state;
    bed_header("x-should-retry", "true");
    assert_false(bed_read(429, bed_load("error_quota.json")));
    assert_false(bed.failure.retry.retryable);
    assert_false(bed.failure.retry.should_retry_said);
    assert_true(bed.failure.bench_key);
}

static void expect_message(const char *said, const char *message)
{
    struct buf body;

    buf_init(&body, 1 << 20);
    buf_append_text(&body, "{\"error\":{\"message\":");
    jv_put_string(&body, slice_of(said));
    buf_append_text(&body, "}}");
    assert_false(bed_read(401, buf_slice(&body)));
    assert_string_equal(bed.failure.error.message, message);
    buf_release(&body);
}

static void messages_hold_no_key(void **state)
{
    (void)state;
    assert_false(bed_read(401, bed_load("error_key.json")));
    assert_null(strstr(bed.failure.error.message, "wxyz"));
    assert_null(strstr(bed.failure.error.message, "sk-"));
    expect_message("bad key top/secret+key!",
                   "the provider said 401: bad key [key]!");
    expect_message("key=sk-ant-api03_AbC.dEf, xtop/secret+key",
                   "the provider said 401: key=[key], x[key]");
    expect_message("gave abcd****wxyz", "the provider said 401: gave [key]");
    expect_message("top/secre... is no key; +key is short",
                   "the provider said 401: [key]... is no key; +key is short");
    expect_message("Basic dG9wL3NlY3JldCtrZXk=, OnRvcC9zZWNyZXQra2V5",
                   "the provider said 401: Basic [key]ZXk=, OnRv[key]");
    expect_message("the task-list of desk-top\nsk-i",
                   "the provider said 401: the task-list of desk-top sk-i");
}

static void long_messages_are_cut_at_a_character(void **state)
{
    char said[1000] = "x";

    (void)state;
    for (size_t i = 1; i + 2 < sizeof(said); i += 2)
        memcpy(said + i, "\xC3\xBC", 3);
    assert_false(
        bed_read(500, arena_printf(&bed.arena, "{\"error\":\"%s\"}", said)));
    assert_in_range(strlen(bed.failure.error.message), ERROR_MESSAGE_MAX - 4,
                    ERROR_MESSAGE_MAX - 1);
}

static void an_endless_error_body_is_not_read_to_its_end(void **state)
{
    struct reader *reader = bed_reader(500);
    static char block[16 * 1024];
    int feeds = 0;

    (void)state;
    memset(block, 'x', sizeof(block));
    while (reader_feed(reader, slice_make(block, sizeof(block))) !=
           PROGRESS_END)
        assert_true(++feeds < 10);
    assert_false(bed_close(reader, false));
    assert_int_equal(bed.failure.error.code, ERR_PROVIDER_ERROR);
}

/* Requests. */

static void a_plain_request_has_model_messages_and_stream(void **state)
{
    (void)state;
    assert_true(bed_build());
    assert_string_equal(bed.request.url,
                        "https://api.openai.com/v1/chat/completions");
    assert_slice(
        bed.body,
        "{\"model\":\"model-1\",\"messages\":["
        "{\"role\":\"system\",\"content\":\"Be \\\"brief\\\"\"},"
        "{\"role\":\"user\",\"content\":\"Hi\\n\xC3\xBC\"}],"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    assert_int_equal(bed.request.header_count, 3);
    assert_string_equal(bed.request.headers[0],
                        "Content-Type: application/json");
    assert_string_equal(bed.request.headers[2],
                        "Authorization: Bearer top/secret+key");
}

static void the_token_limit_has_the_name_that_the_server_knows(void **state)
{
    (void)state;
    bed.chat.max_tokens = 500;
    bed_expect_in_body(",\"max_completion_tokens\":500,");
    bed.endpoint.base_url = slice_of("http://localhost:8000/v1/");
    bed_expect_in_body(",\"max_tokens\":500,");
    assert_string_equal(bed.request.url,
                        "http://localhost:8000/v1/chat/completions");
    bed.endpoint.base_url = slice_of("https://eu.api.openai.com/v1");
    bed_expect_in_body(",\"max_completion_tokens\":500,");
    bed.endpoint.base_url = slice_of("https://notapi.openai.com/v1");
    bed_expect_in_body(",\"max_tokens\":500,");
    bed.endpoint.base_url = slice_of("https://api.openai.com.example/v1");
    bed_expect_in_body(",\"max_tokens\":500,");
}

static void temperature_is_sent_where_the_model_takes_it(void **state)
{
    struct model entry = {.sampling = false};

    (void)state;
    bed.chat.temperature = 0.3;
    bed_expect_in_body(",\"temperature\":0.3,");
    bed.candidate.entry = &entry;
    bed_expect_not_in_body("temperature");
    entry.sampling = true;
    bed_expect_in_body(",\"temperature\":0.3,");
}

static void organization_and_project_are_headers_when_set(void **state)
{
    (void)state;
    bed.endpoint.api_key = slice_of("");
    bed.endpoint.organization = slice_of("org-1");
    bed.endpoint.project = slice_of("proj_2");
    assert_true(bed_build());
    assert_int_equal(bed.request.header_count, 4);
    assert_string_equal(bed.request.headers[2], "OpenAI-Organization: org-1");
    assert_string_equal(bed.request.headers[3], "OpenAI-Project: proj_2");
}

static void no_header_can_be_smuggled_in(void **state)
{
    struct slice *const fields[] = {
        &bed.endpoint.api_key, &bed.endpoint.organization,
        &bed.endpoint.project, &bed.endpoint.base_url};

    (void)state;
    bed_expect_no_smuggling(fields, 4);
}

static void an_endless_answer_is_too_large(void **state)
{
    (void)state;
    bed_expect_endless(bed_large(
        "data: {\"choices\":[{\"delta\":{\"content\":\"", "\"}}]}\n\n"));
}

static void an_unknown_dialect_is_none(void **state)
{
    (void)state;
    assert_null(dialect_find(slice_of("openia")));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, bed_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stream_reads_the_same_however_it_is_split),
        TEST(usage_and_model_are_read),
        TEST(a_refusal_is_a_completion_that_says_so),
        TEST(finish_reasons_are_mapped_and_new_ones_mean_stop),
        TEST(an_interrupted_answer_is_a_failure),
        TEST(only_the_first_choice_is_read),
        TEST(content_may_be_a_list_of_parts),
        TEST(text_is_cleaned),
        TEST(broken_usage_is_unknown),
        TEST(the_last_usage_counts),
        TEST(what_is_not_an_answer_is_a_bad_response),
        TEST(a_stream_without_its_end_is_cut),
        TEST(an_answer_is_whole_once_its_finish_reason_came),
        TEST(progress_is_told_from_idling),
        TEST(an_error_inside_a_stream_fails_at_once),
        TEST(errors_inside_a_200_have_the_class_of_their_own),
        TEST(the_headers_advise),
        TEST(no_credit_is_final_whatever_the_headers_say),
        TEST(messages_hold_no_key),
        TEST(long_messages_are_cut_at_a_character),
        TEST(an_endless_error_body_is_not_read_to_its_end),
        TEST(a_plain_request_has_model_messages_and_stream),
        TEST(the_token_limit_has_the_name_that_the_server_knows),
        TEST(temperature_is_sent_where_the_model_takes_it),
        TEST(organization_and_project_are_headers_when_set),
        TEST(no_header_can_be_smuggled_in),
        TEST(an_endless_answer_is_too_large),
        TEST(an_unknown_dialect_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
