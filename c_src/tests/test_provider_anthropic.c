/* The Anthropic dialect against answers as the vendor sends them
 * (data/anthropic/). */
#include "test_provider_bed.h"

static int set_up(void **state)
{
    (void)state;
    bed_begin("anthropic");
    return 0;
}

/* Answers. */

static void a_stream_reads_the_same_however_it_is_split(void **state)
{
    (void)state;
    bed_expect_each_split("stream.sse",
                          "{\"title\":\"Gr\xC3\xBC\xC3\x9F"
                          "e aus Z\xC3\xBCrich \xE2\x98\x95 "
                          "\xF0\x9F\x98\x80\",\"priority\":\"high\"}",
                          FINISH_STOP, 41);
    bed_expect_each_split("thinking.sse", "42", FINISH_STOP, 77);
    bed_expect_each_split("tools.sse", "Okay, let's check the weather.",
                          FINISH_TOOL_CALLS, 89);
    bed_expect_each_split("unknown_events.sse", "Still here", FINISH_STOP, 7);
    bed_expect_each_split("whole.json", "Hello there", FINISH_STOP, 503);
}

static void every_recorded_answer_reads_the_same_in_pieces(void **state)
{
    static const char *const files[] = {
        "cache.sse",          "error_inside.sse",   "error_529.json",
        "forced_tool.sse",    "pause.sse",          "refusal.sse",
        "refusal_silent.sse", "whole_refusal.json", "whole_tools.json"};

    (void)state;
    bed_expect_same_when_split(files, sizeof(files) / sizeof(files[0]));
}

static void usage_counts_the_cache_as_input(void **state)
{
    const struct usage *usage = &bed.completion.usage;

    (void)state;
    assert_true(bed_read_file("cache.sse"));
    assert_slice(bed.completion.model, "claude-sonnet-5-20260930");
    assert_int_equal(usage->input_tokens, 21 + 188086 + 704);
    assert_int_equal(usage->cached_tokens, 188086);
    assert_int_equal(usage->cache_write_tokens, 704);
    assert_int_equal(usage->cache_write_1h_tokens, 456);
    assert_int_equal(usage->output_tokens, 393);
    assert_int_equal(usage->total_tokens, 21 + 188086 + 704 + 393);
    assert_int_equal(usage->reasoning_tokens, -1);
}

static void the_last_word_on_each_count_counts(void **state)
{
    const struct usage *usage = &bed.completion.usage;

    (void)state;
    assert_true(bed_read_file("thinking.sse"));
    assert_int_equal(usage->input_tokens, 58);
    assert_int_equal(usage->cached_tokens, 0);
    assert_int_equal(usage->output_tokens, 77);
    assert_int_equal(usage->reasoning_tokens, 70);
}

static void usage_of_a_stream_that_broke_is_kept(void **state)
{
    struct slice body = bed_load("cache.sse");
    ptrdiff_t end = slice_find(body, SLICE_LITERAL("event: message_delta"));
    struct reader *reader = bed_reader(200);

    (void)state;
    reader_feed(reader, slice_make(body.data, (size_t)end));
    assert_false(bed_close(reader, false));
    assert_int_equal(bed.failure.usage.input_tokens, 21 + 188086 + 704);
    assert_int_equal(bed.failure.usage.output_tokens, 1);
    assert_slice(bed.failure.model, "claude-sonnet-5-20260930");
}

static void broken_usage_is_unknown(void **state)
{
    const struct usage *usage = &bed.completion.usage;

    (void)state;
    assert_true(bed_read_text(
        "{\"content\":[{\"type\":\"text\",\"text\":\"x\"}],\"usage\":{"
        "\"input_tokens\":-1,\"cache_read_input_tokens\":3,"
        "\"cache_creation_input_tokens\":2,\"output_tokens\":\"7\"}}"));
    assert_int_equal(usage->input_tokens, -1);
    assert_int_equal(usage->cached_tokens, -1);
    assert_int_equal(usage->cache_write_tokens, -1);
    assert_int_equal(usage->output_tokens, -1);
    assert_int_equal(usage->total_tokens, -1);
    assert_true(bed_read_text(
        "{\"content\":[{\"type\":\"text\",\"text\":\"x\"}],\"usage\":{"
        "\"input_tokens\":5,\"cache_creation\":{"
        "\"ephemeral_1h_input_tokens\":9},\"output_tokens\":2,"
        "\"output_tokens_details\":{\"thinking_tokens\":3}}}"));
    assert_int_equal(usage->input_tokens, 5);
    assert_int_equal(usage->cached_tokens, -1);
    assert_int_equal(usage->cache_write_1h_tokens, -1);
    assert_int_equal(usage->output_tokens, 2);
    assert_int_equal(usage->reasoning_tokens, -1);
}

static void tool_calls_are_read(void **state)
{
    (void)state;
    assert_true(bed_read_file("tools.sse"));
    assert_int_equal(bed.completion.tool_call_count, 2);
    bed_expect_call(0, "toolu_01T1x1fJ34qAmk2tNTrN7Up6", "get_weather",
                    "{\"location\":\"San Francisco, CA\"}");
    bed_expect_call(1, "toolu_01Aq9w938a90dw8q", "get_time", "{}");
    assert_true(bed_read_file("whole_tools.json"));
    assert_slice(bed.completion.text, "Let me look.");
    assert_int_equal(bed.completion.finish, FINISH_TOOL_CALLS);
    assert_int_equal(bed.completion.tool_call_count, 1);
    bed_expect_call(0, "toolu_01D7FLrfh4GYq7yT1ULFeyMV", "get_stock_price",
                    "{\"ticker\":\"^GSPC\",\"days\":[1,2.5]}");
}

static void the_forced_tool_is_the_answer(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_each_split("forced_tool.sse",
                          "{\"title\": \"Gr\xC3\xBC\xC3\x9F"
                          "e\"}",
                          FINISH_STOP, 33);
    assert_int_equal(bed.completion.tool_call_count, 0);
}

static void the_vendors_own_tools_are_no_calls(void **state)
{
    (void)state;
    assert_true(bed_read_file("pause.sse"));
    assert_int_equal(bed.completion.tool_call_count, 0);
    assert_slice(bed.completion.text, "Searching");
    assert_int_equal(bed.completion.finish, FINISH_LENGTH);
}

static void a_refusal_says_why(void **state)
{
    (void)state;
    assert_true(bed_read_file("refusal.sse"));
    assert_int_equal(bed.completion.finish, FINISH_REFUSAL);
    assert_slice(bed.completion.refusal,
                 "This request was declined because it asks for attack "
                 "tooling.");
    assert_int_equal(bed.completion.usage.output_tokens, 4);
    assert_true(bed_read_file("whole_refusal.json"));
    assert_slice(bed.completion.refusal, "Declined: dangerous biology.");
    assert_true(bed_read_file("refusal_silent.sse"));
    assert_int_equal(bed.completion.finish, FINISH_REFUSAL);
    assert_true(bed.completion.refusal.size > 0);
}

static void stop_reasons_are_mapped_and_new_ones_mean_stop(void **state)
{
    static const struct {
        const char *reason;
        enum finish_reason finish;
    } rows[] = {
        {"end_turn", FINISH_STOP},
        {"stop_sequence", FINISH_STOP},
        {"max_tokens", FINISH_LENGTH},
        {"model_context_window_exceeded", FINISH_LENGTH},
        {"pause_turn", FINISH_LENGTH},
        {"tool_use", FINISH_STOP}, /* without a call */
        {"refusal", FINISH_REFUSAL},
        {"moonrise", FINISH_STOP},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice body =
            arena_printf(&bed.arena,
                         "{\"content\":[{\"type\":\"text\",\"text\":\"x\"}],"
                         "\"stop_reason\":\"%s\"}",
                         rows[i].reason);

        assert_true(bed_read(200, body));
        assert_int_equal(bed.completion.finish, rows[i].finish);
    }
}

static void progress_is_told_from_idling(void **state)
{
    static const struct {
        const char *bytes;
        enum provider_progress progress;
    } rows[] = {
        {": hello\n\n", PROGRESS_NONE},
        {"event: message_start\ndata: {\"type\":\"message_start\","
         "\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":1}}}\n\n",
         PROGRESS_NONE},
        {"event: ping\ndata: {\"type\": \"ping\"}\n\n", PROGRESS_NONE},
        {"data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":"
         "\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
         PROGRESS_USEFUL},
        {"data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":"
         "\"text_delta\",\"text\":\"\"}}\n\n",
         PROGRESS_NONE},
        {"data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":"
         "\"text_delta\",\"text\":\"a\"}}\n\n",
         PROGRESS_USEFUL},
        {"data: {\"type\":\"something_new\"}\n\n", PROGRESS_NONE},
        {"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"
         "\"end_turn\"}}\n\n",
         PROGRESS_USEFUL},
        {"data: {\"type\":\"message_stop\"}\n\n", PROGRESS_END},
    };
    struct reader *reader = bed_reader(200);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(reader_feed(reader, slice_of(rows[i].bytes)),
                         rows[i].progress);
    assert_true(bed_close(reader, false));
    assert_slice(bed.completion.text, "a");
}

static void what_is_not_an_answer_is_a_bad_response(void **state)
{
    (void)state;
    bed_expect_bad("");
    bed_expect_bad("\r\n");
    bed_expect_bad("<html>busy</html>");
    bed_expect_bad("busy");
    bed_expect_bad("{}");
    bed_expect_bad("[]");
    bed_expect_bad("null");
    bed_expect_bad("{\"content\":\"text\"}");
    bed_expect_bad("{\"content\":[]}");
    bed_expect_bad("{\"content\":[{\"type\":\"tool_use\",\"name\":\"f\","
                   "\"input\":[1]}]}");
    bed_expect_bad(": comment\n\n");
    bed_expect_bad("event: ping\ndata: {\"type\":\"ping\"}\n\n");
    bed_expect_bad("event: message_stop\ndata: {\"type\":\"message_stop\"}"
                   "\n\n");
    bed_expect_bad("data: {\"type\":\"message_de\n\n");
    bed_expect_bad("data: [DONE]\n\n");
}

static void a_stream_without_its_end_is_cut(void **state)
{
    (void)state;
    bed_expect_cut("stream.sse", "\"stop_reason\":\"end_turn\"");
    bed_expect_cut("tools.sse", "\"stop_reason\":\"tool_use\"");
}

static void an_endless_answer_is_too_large(void **state)
{
    (void)state;
    bed_expect_endless(
        bed_large("data: {\"type\":\"content_block_delta\",\"index\":0,"
                  "\"delta\":{\"type\":\"text_delta\",\"text\":\"",
                  "\"}}\n\n"));
}

static void an_error_inside_a_stream_fails_at_once(void **state)
{
    struct reader *reader = bed_reader(200);

    (void)state;
    assert_int_equal(reader_feed(reader, bed_load("error_inside.sse")),
                     PROGRESS_FAILED);
    assert_false(bed_close(reader, true));
    assert_int_equal(bed.failure.error.code, ERR_PROVIDER_ERROR);
    assert_true(bed.failure.retry.retryable);
    assert_true(bed.failure.retry.overloaded);
    assert_true(bed.failure.try_next);
    assert_int_equal(bed.failure.usage.input_tokens, 312);
}

static void each_error_has_its_class(void **state)
{
    /* retryable, next, larger, bench, blameless */
    static const struct bed_error rows[] = {
        {400, "error_400.json", ERR_INVALID_REQUEST, 0, 0, 0, 0, 1},
        {400, "error_context.json", ERR_TOO_LARGE, 0, 0, 1, 0, 1},
        {400, "error_credit.json", ERR_QUOTA_EXCEEDED, 0, 1, 0, 1, 0},
        {400, "error_workspace.json", ERR_QUOTA_EXCEEDED, 0, 1, 0, 1, 0},
        {401, "error_401.json", ERR_UNAUTHORIZED, 0, 1, 0, 1, 0},
        {402, "error_402.json", ERR_QUOTA_EXCEEDED, 0, 1, 0, 1, 0},
        {403, "error_403.json", ERR_UNAUTHORIZED, 0, 1, 0, 1, 0},
        {404, "error_404.json", ERR_NO_ROUTE, 0, 1, 0, 0, 1},
        {409, "error_409.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
        {413, "error_413.json", ERR_TOO_LARGE, 0, 1, 0, 0, 1},
        {429, "error_429.json", ERR_RATE_LIMITED, 1, 1, 0, 0, 0},
        {429, "error_spend.json", ERR_QUOTA_EXCEEDED, 0, 1, 0, 1, 0},
        {500, "error_500.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
        {504, "error_504.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
        {529, "error_529.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bed_expect_error(&rows[i]);
}

static void the_limits_are_read(void **state)
{
    (void)state;
    bed_header("anthropic-ratelimit-requests-remaining", "49");
    bed_header("anthropic-ratelimit-requests-reset", "2023-11-14T22:13:21Z");
    bed_header("anthropic-ratelimit-tokens-remaining", "9000");
    bed_header("anthropic-ratelimit-tokens-reset", "2023-11-14T22:14:20Z");
    assert_true(bed_read_file("whole.json"));
    assert_int_equal(bed.limits.requests_left, 49);
    assert_int_equal(bed.limits.requests_reset_ms, 1000);
    assert_int_equal(bed.limits.tokens_left, 9000);
    assert_int_equal(bed.limits.tokens_reset_ms, 60000);
}

static void strange_limits_are_unknown(void **state)
{
    static const struct {
        const char *left, *reset;
        int64_t left_expected, reset_expected;
    } rows[] = {
        {"5", "2020-01-01T00:00:00Z", 5, 0},
        {"5", "2023-11-14T22:13:25.750Z", 5, 5000},
        {"5", "tomorrow", 5, -1},
        {"5", "2023-11-14T22:13:21+01:00", 5, -1},
        {"5", "2023-11-14T22:13:2", 5, -1},
        {"5", "", 5, -1},
        {"-1", "2023-11-14T22:13:21Z", -1, -1},
        {"many", "2023-11-14T22:13:21Z", -1, -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(bed.names, 0, sizeof(bed.names));
        bed_header("anthropic-ratelimit-tokens-remaining", rows[i].left);
        bed_header("anthropic-ratelimit-tokens-reset", rows[i].reset);
        assert_true(bed_read_file("whole.json"));
        assert_int_equal(bed.limits.tokens_left, rows[i].left_expected);
        assert_int_equal(bed.limits.tokens_reset_ms, rows[i].reset_expected);
        assert_int_equal(bed.limits.requests_left, -1);
    }
}

/* Requests. */

static void a_plain_request_has_model_limit_and_messages(void **state)
{
    (void)state;
    assert_true(bed_build());
    assert_string_equal(bed.request.url, "https://models.example/v1/messages");
    assert_slice(bed.body, "{\"model\":\"model-1\",\"max_tokens\":8192,"
                           "\"system\":[{\"type\":\"text\",\"text\":\"Be "
                           "\\\"brief\\\"\"}],"
                           "\"messages\":[{\"role\":\"user\",\"content\":["
                           "{\"type\":\"text\",\"text\":\"Hi\\n\xC3\xBC\"}]}],"
                           "\"stream\":true}");
    assert_int_equal(bed.request.header_count, 4);
    assert_true(bed_has_header("Content-Type: application/json"));
    assert_true(bed_has_header("x-api-key: top/secret+key"));
    assert_true(bed_has_header("anthropic-version: 2023-06-01"));
}

static void the_base_may_have_the_version(void **state)
{
    (void)state;
    bed.endpoint.base_url = slice_of("http://localhost:8000/v1");
    assert_true(bed_build());
    assert_string_equal(bed.request.url, "http://localhost:8000/v1/messages");
    bed.endpoint.base_url = slice_of("http://localhost:8000/v1/");
    assert_true(bed_build());
    assert_string_equal(bed.request.url, "http://localhost:8000/v1/messages");
}

static void the_token_limit_is_the_callers_or_the_models_in_reason(void **state)
{
    (void)state;
    bed.candidate.entry = &bed.entry;
    bed.entry.max_output_tokens = 4096;
    bed_expect_in_body(",\"max_tokens\":4096,");
    bed.entry.max_output_tokens = 128000;
    bed_expect_in_body(",\"max_tokens\":32000,");
    bed.chat.max_tokens = 60000;
    bed_expect_in_body(",\"max_tokens\":60000,");
}

static void
sampling_is_for_the_old_version_and_models_that_take_it(void **state)
{
    (void)state;
    bed.chat.temperature = 0.3;
    bed.chat.top_p = 0.9;
    bed_expect_in_body(",\"temperature\":0.3,");
    bed_expect_not_in_body("top_p");
    bed.chat.temperature = (double)NAN;
    bed_expect_in_body(",\"top_p\":0.9,");
    bed.endpoint.api_version = slice_of("2026-10-21");
    bed_expect_not_in_body("top_p");
    assert_true(bed_has_header("anthropic-version: 2026-10-21"));
    bed.endpoint.api_version = slice_of("2023-06-01");
    bed.candidate.entry = &bed.entry;
    bed_expect_in_body("top_p");
    bed.entry.sampling = false;
    bed_expect_not_in_body("top_p");
}

static void stops_are_sent_and_a_seed_is_not(void **state)
{
    static const struct slice stops[] = {{"\n\n", 2}, {"END", 3}};

    (void)state;
    bed.chat.stops = stops;
    bed.chat.stop_count = 2;
    bed.chat.has_seed = true;
    bed.chat.seed = 7;
    bed_expect_in_body(",\"stop_sequences\":[\"\\n\\n\",\"END\"],");
    bed_expect_not_in_body("seed");
}

static void turns_alternate_and_begin_with_the_user(void **state)
{
    (void)state;
    bed.messages[0] =
        (struct message){.role = ROLE_ASSISTANT, .content = slice_of("Hello!")};
    bed.messages[2] =
        (struct message){.role = ROLE_USER, .content = slice_of("More")};
    bed.messages[3] =
        (struct message){.role = ROLE_SYSTEM, .content = slice_of("Late")};
    bed.chat.message_count = 4;
    bed_expect_in_body(
        "\"system\":[{\"type\":\"text\",\"text\":\"Late\"}],"
        "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
        "\"text\":\".\"}]},{\"role\":\"assistant\",\"content\":[{\"type\":"
        "\"text\",\"text\":\"Hello!\"}]},{\"role\":\"user\",\"content\":[{"
        "\"type\":\"text\",\"text\":\"Hi\\n\xC3\xBC\"},{\"type\":\"text\","
        "\"text\":\"More\"}]}],");
}

static void several_system_messages_are_one_system_text(void **state)
{
    (void)state;
    bed.messages[2] =
        (struct message){.role = ROLE_SYSTEM, .content = slice_of("And kind")};
    bed.messages[3] =
        (struct message){.role = ROLE_SYSTEM, .content = slice_of("")};
    bed.chat.message_count = 4;
    bed_expect_in_body("\"system\":[{\"type\":\"text\",\"text\":\"Be "
                       "\\\"brief\\\"\"},{\"type\":\"text\",\"text\":\"And "
                       "kind\"}],");
}

static void a_system_text_alone_is_said_by_the_user(void **state)
{
    (void)state;
    bed.chat.message_count = 1;
    bed_expect_in_body("\"messages\":[{\"role\":\"user\",\"content\":[{"
                       "\"type\":\"text\",\"text\":\"Be \\\"brief\\\"\"}]}]");
    bed_expect_not_in_body("\"system\"");
}

static void empty_texts_are_not_sent(void **state)
{
    (void)state;
    bed.messages[2] =
        (struct message){.role = ROLE_ASSISTANT, .content = slice_of("")};
    bed.messages[3] =
        (struct message){.role = ROLE_USER, .content = slice_of("again")};
    bed.chat.message_count = 4;
    bed_expect_not_in_body("\"text\":\"\"");
    bed_expect_not_in_body("assistant");
}

static void tools_their_calls_and_answers_are_sent(void **state)
{
    (void)state;
    bed_use_tools();
    bed.chat.tool_choice = TOOL_CHOICE_AUTO;
    bed_expect_in_body(
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":"
        "\"Let me see.\"},{\"type\":\"tool_use\",\"id\":\"call_1\",\"name\":"
        "\"get_weather\",\"input\":{\"city\":\"Bern\"}},{\"type\":"
        "\"tool_use\",\"id\":\"c_2\",\"name\":\"get_time\",\"input\":{}}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
        "\"tool_use_id\":\"call_1\",\"content\":\"4 \\\"C\\\"\"},{\"type\":"
        "\"tool_result\",\"tool_use_id\":\"c_2\",\"content\":\"\"}]}]");
    bed_expect_in_body(
        ",\"tools\":[{\"name\":\"get_weather\",\"description\":\"The "
        "\\\"weather\\\"\",\"input_schema\":{\"type\":\"object\","
        "\"properties\":{}}},{\"name\":\"get_time\",\"input_schema\":{"
        "\"type\":\"object\"}}],\"tool_choice\":{\"type\":\"auto\"}");
}

static void a_tool_choice_has_the_vendors_name(void **state)
{
    static const struct {
        enum tool_choice choice;
        const char *text;
    } rows[] = {
        {TOOL_CHOICE_NONE, ",\"tool_choice\":{\"type\":\"none\"}"},
        {TOOL_CHOICE_REQUIRED, ",\"tool_choice\":{\"type\":\"any\"}"},
        {TOOL_CHOICE_NAMED,
         ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"get_time\"}"},
    };

    (void)state;
    bed_use_tools();
    bed_expect_not_in_body("tool_choice");
    bed.chat.tool_name = slice_of("get_time");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bed.chat.tool_choice = rows[i].choice;
        bed_expect_in_body(rows[i].text);
    }
}

static void a_strict_schema_is_sent_where_the_model_takes_it(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_SCHEMA);
    bed_expect_in_body(",\"output_config\":{\"format\":{\"type\":"
                       "\"json_schema\",\"schema\":{\"type\":\"object\"}}},");
    bed.chat.schema_strict = false;
    bed_expect_not_in_body("output_config");
    bed_want_schema(STRUCTURED_PROMPT);
    bed_expect_not_in_body("output_config");
    bed_expect_not_in_body("tool");
}

static void a_forced_tool_stands_for_the_schema(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_in_body(",\"tools\":[{\"name\":\"answer\",\"input_schema\":{"
                       "\"type\":\"object\"}}],\"tool_choice\":{\"type\":"
                       "\"tool\",\"name\":\"answer\"}");
    bed_expect_not_in_body("output_config");
}

static void effort_is_sent_in_the_vendors_words(void **state)
{
    (void)state;
    bed.chat.effort = EFFORT_HIGH;
    bed_expect_in_body(",\"output_config\":{\"effort\":\"high\"},");
    bed.chat.effort = EFFORT_MINIMAL;
    bed_expect_in_body(",\"output_config\":{\"effort\":\"low\"},");
    bed.chat.effort = EFFORT_NONE;
    bed_expect_in_body(",\"thinking\":{\"type\":\"disabled\"},");
    bed_expect_not_in_body("output_config");
    bed_want_schema(STRUCTURED_SCHEMA);
    bed.chat.effort = EFFORT_MAX;
    bed_expect_in_body(",\"output_config\":{\"effort\":\"max\",\"format\":{");
    bed.entry.efforts = 1u << EFFORT_LOW;
    bed_expect_not_in_body("effort");
}

static void embeddings_are_refused_by_name(void **state)
{
    static const struct slice inputs[] = {{"a", 1}};

    (void)state;
    bed.chat = (struct chat){.inputs = inputs, .input_count = 1};
    assert_false(bed_build());
    assert_int_equal(bed.err.code, ERR_INVALID_REQUEST);
    assert_non_null(strstr(bed.err.message, "embedding"));
}

static void no_header_can_be_smuggled_in(void **state)
{
    struct slice *const fields[] = {&bed.endpoint.api_key,
                                    &bed.endpoint.api_version,
                                    &bed.endpoint.base_url};

    (void)state;
    bed_expect_no_smuggling(fields, 3);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, bed_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stream_reads_the_same_however_it_is_split),
        TEST(every_recorded_answer_reads_the_same_in_pieces),
        TEST(usage_counts_the_cache_as_input),
        TEST(the_last_word_on_each_count_counts),
        TEST(usage_of_a_stream_that_broke_is_kept),
        TEST(broken_usage_is_unknown),
        TEST(tool_calls_are_read),
        TEST(the_forced_tool_is_the_answer),
        TEST(the_vendors_own_tools_are_no_calls),
        TEST(a_refusal_says_why),
        TEST(stop_reasons_are_mapped_and_new_ones_mean_stop),
        TEST(progress_is_told_from_idling),
        TEST(what_is_not_an_answer_is_a_bad_response),
        TEST(a_stream_without_its_end_is_cut),
        TEST(an_endless_answer_is_too_large),
        TEST(an_error_inside_a_stream_fails_at_once),
        TEST(each_error_has_its_class),
        TEST(the_limits_are_read),
        TEST(strange_limits_are_unknown),
        TEST(a_plain_request_has_model_limit_and_messages),
        TEST(the_base_may_have_the_version),
        TEST(the_token_limit_is_the_callers_or_the_models_in_reason),
        TEST(sampling_is_for_the_old_version_and_models_that_take_it),
        TEST(stops_are_sent_and_a_seed_is_not),
        TEST(turns_alternate_and_begin_with_the_user),
        TEST(several_system_messages_are_one_system_text),
        TEST(a_system_text_alone_is_said_by_the_user),
        TEST(empty_texts_are_not_sent),
        TEST(tools_their_calls_and_answers_are_sent),
        TEST(a_tool_choice_has_the_vendors_name),
        TEST(a_strict_schema_is_sent_where_the_model_takes_it),
        TEST(a_forced_tool_stands_for_the_schema),
        TEST(effort_is_sent_in_the_vendors_words),
        TEST(embeddings_are_refused_by_name),
        TEST(no_header_can_be_smuggled_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
