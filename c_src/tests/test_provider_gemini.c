/* The Gemini dialect against answers as the vendor sends them
 * (data/gemini/). */
#include "test_provider_bed.h"

static const char TEXT[] = "{\"title\":\"Gr\xC3\xBC\xC3\x9F"
                           "e aus Z\xC3\xBCrich \xE2\x98\x95 "
                           "\xF0\x9F\x98\x80\",\"priority\":\"high\"}";

static int set_up(void **state)
{
    (void)state;
    bed_begin("gemini");
    return 0;
}

/* Answers. */

static void a_stream_reads_the_same_however_it_is_split(void **state)
{
    (void)state;
    bed_expect_each_split("stream.sse", TEXT, FINISH_STOP, 41);
    bed_expect_each_split("thoughts.sse", "42", FINISH_STOP, 72);
    bed_expect_each_split("tools.sse", "I will look.", FINISH_TOOL_CALLS, 84);
    bed_expect_each_split("whole.json", "Hello there", FINISH_STOP, 41);
}

static void a_list_of_answers_is_read_as_their_stream(void **state)
{
    (void)state;
    bed_expect_each_split("stream_array.json", TEXT, FINISH_STOP, 41);
    assert_int_equal(bed.completion.usage.cached_tokens, 128);
}

static void every_recorded_answer_reads_the_same_in_pieces(void **state)
{
    static const char *const files[] = {
        "blocked.json",       "blocked.sse",      "error_503.json",
        "error_429.json",     "error_inside.sse", "forced_tool.sse",
        "malformed_call.sse", "max_tokens.sse",   "safety.sse"};

    (void)state;
    bed_expect_same_when_split(files, sizeof(files) / sizeof(files[0]));
}

static void thoughts_are_output_and_the_cache_is_input(void **state)
{
    const struct usage *usage = &bed.completion.usage;

    (void)state;
    assert_true(bed_read_file("stream.sse"));
    assert_slice(bed.completion.model, "gemini-3.5-flash");
    assert_int_equal(usage->input_tokens, 312);
    assert_int_equal(usage->cached_tokens, 128);
    assert_int_equal(usage->output_tokens, 41);
    assert_int_equal(usage->reasoning_tokens, 16);
    assert_int_equal(usage->total_tokens, 353);
    assert_int_equal(usage->cache_write_tokens, -1);
    assert_true(bed_read_file("thoughts.sse"));
    assert_int_equal(usage->input_tokens, 25); /* 5 of them for tools */
    assert_int_equal(usage->output_tokens, 72);
    assert_int_equal(usage->reasoning_tokens, 70);
    assert_int_equal(usage->total_tokens, 97);
}

static void broken_usage_is_unknown(void **state)
{
    const struct usage *usage = &bed.completion.usage;

    (void)state;
    assert_true(bed_read_text(
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]}}],"
        "\"usageMetadata\":{\"promptTokenCount\":5,"
        "\"cachedContentTokenCount\":6,\"candidatesTokenCount\":\"1\","
        "\"thoughtsTokenCount\":7}}"));
    assert_int_equal(usage->input_tokens, 5);
    assert_int_equal(usage->cached_tokens, -1);
    assert_int_equal(usage->output_tokens, -1);
    assert_int_equal(usage->reasoning_tokens, -1);
    assert_int_equal(usage->total_tokens, -1);
    assert_true(bed_read_text(
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]}}],"
        "\"usageMetadata\":[]}"));
    assert_int_equal(usage->input_tokens, -1);
}

static void tool_calls_are_read_and_get_ids_where_they_have_none(void **state)
{
    (void)state;
    assert_true(bed_read_file("tools.sse"));
    assert_int_equal(bed.completion.tool_call_count, 3);
    bed_expect_call(0, "call_1", "get_weather",
                    "{\"location\":\"San Francisco, CA\",\"days\":[1,2.5]}");
    bed_expect_call(1, "fc_7hG2", "get_time", "{}");
    bed_expect_call(2, "call_3", "get_place", "{}");
}

static void the_forced_tool_is_the_answer(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_TOOL);
    assert_true(bed_read_file("forced_tool.sse"));
    assert_slice(bed.completion.text, "{\"title\":\"Gr\xC3\xBC\xC3\x9F"
                                      "e\"}");
    assert_int_equal(bed.completion.finish, FINISH_STOP);
    assert_int_equal(bed.completion.tool_call_count, 0);
}

static void an_answer_that_was_all_thought_ends_by_its_length(void **state)
{
    (void)state;
    assert_true(bed_read_file("max_tokens.sse"));
    assert_int_equal(bed.completion.finish, FINISH_LENGTH);
    assert_int_equal(bed.completion.text.size, 0);
    assert_int_equal(bed.completion.usage.output_tokens, 100);
}

static void what_is_blocked_is_filtered(void **state)
{
    static const char *const files[] = {"safety.sse", "blocked.sse",
                                        "blocked.json"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_true(bed_read_file(files[i]));
        assert_int_equal(bed.completion.finish, FINISH_CONTENT_FILTER);
        assert_true(bed.completion.usage.input_tokens > 0);
    }
    assert_int_equal(bed.completion.usage.output_tokens, 0);
}

static void finish_reasons_are_mapped_and_new_ones_mean_stop(void **state)
{
    static const struct {
        const char *reason;
        enum finish_reason finish;
    } rows[] = {
        {"STOP", FINISH_STOP},
        {"MAX_TOKENS", FINISH_LENGTH},
        {"SAFETY", FINISH_CONTENT_FILTER},
        {"RECITATION", FINISH_CONTENT_FILTER},
        {"LANGUAGE", FINISH_CONTENT_FILTER},
        {"BLOCKLIST", FINISH_CONTENT_FILTER},
        {"PROHIBITED_CONTENT", FINISH_CONTENT_FILTER},
        {"SPII", FINISH_CONTENT_FILTER},
        {"IMAGE_SAFETY", FINISH_CONTENT_FILTER},
        {"OTHER", FINISH_STOP},
        {"MOONRISE", FINISH_STOP},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice body = arena_printf(
            &bed.arena,
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]"
            "},\"finishReason\":\"%s\"}]}\n\n",
            rows[i].reason);

        assert_true(bed_read(200, body));
        assert_int_equal(bed.completion.finish, rows[i].finish);
    }
}

static void a_broken_tool_call_is_a_bad_response(void **state)
{
    static const char *const reasons[] = {"MALFORMED_FUNCTION_CALL",
                                          "UNEXPECTED_TOOL_CALL",
                                          "TOO_MANY_TOOL_CALLS"};

    (void)state;
    assert_false(bed_read_file("malformed_call.sse"));
    assert_int_equal(bed.failure.usage.input_tokens, 60);
    for (size_t i = 0; i < 3; i++)
        bed_expect_bad(arena_printf(&bed.arena,
                                    "{\"candidates\":[{\"finishReason\":"
                                    "\"%s\"}]}",
                                    reasons[i])
                           .data);
}

static void only_the_first_candidate_is_read(void **state)
{
    (void)state;
    assert_true(bed_read_text(
        "{\"candidates\":[{\"index\":1,\"content\":{\"parts\":[{\"text\":"
        "\"no\"}]}},{\"content\":{\"parts\":[{\"text\":\"yes\"}]},"
        "\"finishReason\":\"STOP\"}]}"));
    assert_slice(bed.completion.text, "yes");
}

static void progress_is_told_from_idling(void **state)
{
    static const struct {
        const char *bytes;
        enum provider_progress progress;
    } rows[] = {
        {": hello\r\n\r\n", PROGRESS_NONE},
        {"data: {\"usageMetadata\":{\"promptTokenCount\":1}}\r\n\r\n",
         PROGRESS_NONE},
        {"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm\","
         "\"thought\":true}]}}]}\r\n\r\n",
         PROGRESS_USEFUL},
        {"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]}}]}"
         "\r\n\r\n",
         PROGRESS_NONE},
        {"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]"
         "}\r\n\r\n",
         PROGRESS_USEFUL},
        {"data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\r\n\r\n",
         PROGRESS_USEFUL},
    };
    struct reader *reader = bed_reader(200);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(reader_feed(reader, slice_of(rows[i].bytes)),
                         rows[i].progress);
    assert_true(bed_close(reader, true));
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
    bed_expect_bad("[{}]");
    bed_expect_bad("[1]");
    bed_expect_bad("null");
    bed_expect_bad("{\"candidates\":[]}");
    bed_expect_bad("{\"candidates\":[{}]}");
    bed_expect_bad("{\"promptFeedback\":{}}");
    bed_expect_bad("data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":"
                   "\"a\"}]}}]}\n\n");
    bed_expect_bad("data: {\"candid\n\n");
    bed_expect_bad("[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":"
                   "\"a\"}]}}]}]");
    bed_expect_bad("[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":"
                   "\"a\"}]},\"finishReason\":\"STOP\"}]},");
}

static void a_stream_without_its_end_is_cut(void **state)
{
    (void)state;
    bed_expect_cut("stream.sse", "\"finishReason\": \"STOP\"");
    bed_expect_cut("stream_array.json", "\"finishReason\": \"STOP\"");
}

static void an_endless_answer_is_too_large(void **state)
{
    (void)state;
    bed_expect_endless(
        bed_large("data: {\"candidates\":[{\"content\":{\"parts\":["
                  "{\"text\":\"",
                  "\"}]}}]}\r\n\r\n"));
}

static void an_error_inside_an_answer_fails_at_once(void **state)
{
    struct reader *reader = bed_reader(200);

    (void)state;
    assert_int_equal(reader_feed(reader, bed_load("error_inside.sse")),
                     PROGRESS_FAILED);
    assert_false(bed_close(reader, true));
    assert_int_equal(bed.failure.error.code, ERR_PROVIDER_ERROR);
    assert_true(bed.failure.retry.retryable);
    assert_int_equal(bed.failure.usage.input_tokens, 312);
    assert_false(bed_read_text(
        "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]},"
        "{\"error\":{\"code\":429,\"message\":\"m\",\"status\":"
        "\"RESOURCE_EXHAUSTED\"}}]"));
    assert_int_equal(bed.failure.error.code, ERR_RATE_LIMITED);
}

static void each_error_has_its_class(void **state)
{
    /* retryable, next, larger, bench, blameless */
    static const struct bed_error rows[] = {
        {400, "error_400.json", ERR_INVALID_REQUEST, 0, 0, 0, 0, 1},
        {400, "error_key.json", ERR_UNAUTHORIZED, 0, 1, 0, 1, 0},
        {400, "error_context.json", ERR_TOO_LARGE, 0, 0, 1, 0, 1},
        {400, "error_region.json", ERR_PROVIDER_ERROR, 0, 1, 0, 0, 0},
        {403, "error_403.json", ERR_UNAUTHORIZED, 0, 1, 0, 1, 0},
        {404, "error_404.json", ERR_NO_ROUTE, 0, 1, 0, 0, 1},
        {429, "error_429.json", ERR_RATE_LIMITED, 1, 1, 0, 0, 0},
        {429, "error_rate.json", ERR_RATE_LIMITED, 1, 1, 0, 0, 0},
        {429, "error_daily.json", ERR_QUOTA_EXCEEDED, 0, 1, 0, 1, 0},
        {500, "error_500.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
        {503, "error_503.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
        {504, "error_504.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bed_expect_error(&rows[i]);
}

static void the_delay_stands_in_the_body(void **state)
{
    (void)state;
    assert_false(bed_read(429, bed_load("error_rate.json")));
    assert_in_range(bed.failure.retry.retry_after_ms, 34074, 34075);
    assert_in_range(bed.failure.error.retry_after_ms, 34074, 34075);
}

static void embeddings_are_read_in_order(void **state)
{
    static const struct slice inputs[] = {{"a", 1}, {"b", 1}};

    (void)state;
    bed.chat = (struct chat){.inputs = inputs, .input_count = 2};
    assert_true(bed_read_file("embeddings.json"));
    assert_int_equal(bed.completion.embedding_count, 2);
    assert_int_equal(bed.completion.embeddings[0].count, 3);
    assert_true(bed.completion.embeddings[0].values[2] == -0.046782676);
    assert_true(bed.completion.embeddings[1].values[0] == 1);
    bed_expect_bad("{\"embeddings\":[{\"values\":[1]}]}");
    bed_expect_bad("{\"embeddings\":[{\"values\":[1]},{\"values\":[]}]}");
    bed_expect_bad("{\"embeddings\":[{\"values\":[1]},{\"values\":[\"1\"]}]}");
    bed_expect_bad("{\"embeddings\":[{\"values\":[1]},{\"values\":[1]},"
                   "{\"values\":[1]}]}");
    bed_expect_bad("{}");
}

/* Requests. */

static void a_plain_request_has_turns_and_the_key_in_a_header(void **state)
{
    (void)state;
    assert_true(bed_build());
    assert_string_equal(bed.request.url,
                        "https://models.example/v1beta/models/"
                        "model-1:streamGenerateContent?alt=sse");
    assert_slice(bed.body,
                 "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":"
                 "\"Hi\\n\xC3\xBC\"}]}],"
                 "\"systemInstruction\":{\"parts\":[{\"text\":\"Be "
                 "\\\"brief\\\"\"}]},"
                 "\"generationConfig\":{\"candidateCount\":1}}");
    assert_int_equal(bed.request.header_count, 3);
    assert_true(bed_has_header("x-goog-api-key: top/secret+key"));
}

static void the_address_holds_the_model_and_nothing_else_of_it(void **state)
{
    static const struct {
        const char *base, *model, *url;
    } rows[] = {
        {"https://h/v1beta", "m.1_x-y",
         "https://h/v1beta/models/m.1_x-y:streamGenerateContent?alt=sse"},
        {"https://h/v1", "models/m",
         "https://h/v1/models/m:streamGenerateContent?alt=sse"},
        {"https://h/proxy", "tunedModels/m",
         "https://h/proxy/v1beta/tunedModels/m:streamGenerateContent?alt=sse"},
        {"https://h", "a/../b",
         "https://h/v1beta/models/a%2F..%2Fb:streamGenerateContent?alt=sse"},
        {"https://h", "tunedModels/../x",
         "https://h/v1beta/tunedModels/..%2Fx:streamGenerateContent?alt=sse"},
        {"https://h", "m:generateContent?key=x#@\r\n",
         "https://h/v1beta/models/m%3AgenerateContent%3Fkey%3Dx%23%40%0D%0A"
         ":streamGenerateContent?alt=sse"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bed.endpoint.base_url = slice_of(rows[i].base);
        bed.candidate.model = slice_of(rows[i].model);
        assert_true(bed_build());
        assert_string_equal(bed.request.url, rows[i].url);
    }
}

static void the_configuration_holds_what_is_asked_for(void **state)
{
    static const struct slice stops[] = {{"END", 3}};

    (void)state;
    bed.chat.max_tokens = 500;
    bed.chat.temperature = 0.3;
    bed.chat.top_p = 0.5;
    bed.chat.stops = stops;
    bed.chat.stop_count = 1;
    bed.chat.has_seed = true;
    bed_expect_in_body("\"generationConfig\":{\"candidateCount\":1,"
                       "\"maxOutputTokens\":500,\"temperature\":0.3,"
                       "\"topP\":0.5,\"stopSequences\":[\"END\"],\"seed\":0}");
    bed.candidate.entry = &bed.entry;
    bed.entry.sampling = false;
    bed_expect_not_in_body("temperature");
    bed_expect_not_in_body("topP");
}

static void turns_alternate(void **state)
{
    (void)state;
    bed.messages[0] =
        (struct message){.role = ROLE_ASSISTANT, .content = slice_of("Hello!")};
    bed.messages[2] =
        (struct message){.role = ROLE_USER, .content = slice_of("More")};
    bed.chat.message_count = 3;
    bed_expect_in_body(
        "{\"contents\":[{\"role\":\"model\",\"parts\":[{\"text\":\"Hello!\"}]}"
        ",{\"role\":\"user\",\"parts\":[{\"text\":\"Hi\\n\xC3\xBC\"},"
        "{\"text\":\"More\"}]}],\"generationConfig\"");
    bed.messages[0].role = ROLE_SYSTEM;
    bed.chat.message_count = 1;
    bed_expect_in_body("{\"contents\":[{\"role\":\"user\",\"parts\":[{"
                       "\"text\":\"Hello!\"}]}],\"generationConfig\"");
}

static void tools_their_calls_and_answers_are_sent(void **state)
{
    (void)state;
    bed_use_tools();
    bed_expect_in_body(
        "{\"role\":\"model\",\"parts\":[{\"text\":\"Let me see.\"},"
        "{\"functionCall\":{\"id\":\"call_1\",\"name\":\"get_weather\","
        "\"args\":{\"city\":\"Bern\"}},\"thoughtSignature\":"
        "\"skip_thought_signature_validator\"},{\"functionCall\":{\"id\":"
        "\"c:2\",\"name\":\"get_time\",\"args\":{}}}]},{\"role\":\"user\","
        "\"parts\":[{\"functionResponse\":{\"id\":\"call_1\",\"name\":"
        "\"get_weather\",\"response\":{\"output\":\"4 \\\"C\\\"\"}}},"
        "{\"functionResponse\":{\"id\":\"c:2\",\"name\":\"get_time\","
        "\"response\":{\"output\":\"\"}}}]}],");
    bed_expect_in_body(
        ",\"tools\":[{\"functionDeclarations\":[{\"name\":\"get_weather\","
        "\"description\":\"The \\\"weather\\\"\",\"parametersJsonSchema\":{"
        "\"type\":\"object\",\"properties\":{}}},{\"name\":\"get_time\"}]}]");
    bed_expect_not_in_body("toolConfig");
}

static void an_answer_to_no_call_is_refused(void **state)
{
    (void)state;
    bed_use_tools();
    bed.messages[3].tool_call_id = slice_of("call_9");
    assert_false(bed_build());
    assert_int_equal(bed.err.code, ERR_INVALID_REQUEST);
    assert_string_equal(bed.err.path, "messages");
}

static void a_tool_choice_has_the_vendors_name(void **state)
{
    static const struct {
        enum tool_choice choice;
        const char *text;
    } rows[] = {
        {TOOL_CHOICE_AUTO, "{\"functionCallingConfig\":{\"mode\":\"AUTO\"}}"},
        {TOOL_CHOICE_NONE, "{\"functionCallingConfig\":{\"mode\":\"NONE\"}}"},
        {TOOL_CHOICE_REQUIRED,
         "{\"functionCallingConfig\":{\"mode\":\"ANY\"}}"},
        {TOOL_CHOICE_NAMED, "{\"functionCallingConfig\":{\"mode\":\"ANY\","
                            "\"allowedFunctionNames\":[\"get_time\"]}}"},
    };

    (void)state;
    bed_use_tools();
    bed.chat.tool_name = slice_of("get_time");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bed.chat.tool_choice = rows[i].choice;
        bed_expect_in_body(rows[i].text);
    }
}

static void a_schema_is_sent_where_the_model_takes_it(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_SCHEMA);
    bed_expect_in_body(",\"responseMimeType\":\"application/json\","
                       "\"responseJsonSchema\":{\"type\":\"object\"}}");
    bed_want_schema(STRUCTURED_JSON);
    bed_expect_in_body(",\"responseMimeType\":\"application/json\"}");
    bed_want_schema(STRUCTURED_PROMPT);
    bed_expect_not_in_body("responseMimeType");
    bed_want_schema(STRUCTURED_SCHEMA);
    bed_use_tools();
    bed_expect_not_in_body("responseMimeType");
}

static void a_forced_tool_stands_for_the_schema(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_in_body(",\"tools\":[{\"functionDeclarations\":[{\"name\":"
                       "\"answer\",\"parametersJsonSchema\":{\"type\":"
                       "\"object\"}}]}],\"toolConfig\":{"
                       "\"functionCallingConfig\":{\"mode\":\"ANY\","
                       "\"allowedFunctionNames\":[\"answer\"]}}");
    bed_expect_not_in_body("responseMimeType");
}

static void effort_is_a_level_of_thinking(void **state)
{
    (void)state;
    bed_expect_not_in_body("thinkingConfig");
    bed.chat.effort = EFFORT_MINIMAL;
    bed_expect_in_body("\"thinkingConfig\":{\"thinkingLevel\":\"MINIMAL\","
                       "\"includeThoughts\":true}");
    bed.chat.effort = EFFORT_XHIGH;
    bed_expect_in_body("\"thinkingLevel\":\"HIGH\"");
    bed.chat.effort = EFFORT_NONE;
    bed_expect_in_body("\"thinkingConfig\":{\"thinkingBudget\":0}");
}

static void texts_to_embed_are_a_batch(void **state)
{
    static const struct slice inputs[] = {{"a\"", 2}, {"b", 1}};

    (void)state;
    bed.chat = (struct chat){.inputs = inputs, .input_count = 2};
    bed_expect_in_body(
        "{\"requests\":[{\"model\":\"models/model-1\",\"content\":{\"parts\":["
        "{\"text\":\"a\\\"\"}]}},{\"model\":\"models/model-1\",\"content\":{"
        "\"parts\":[{\"text\":\"b\"}]}}]}");
    assert_string_equal(bed.request.url, "https://models.example/v1beta/models/"
                                         "model-1:batchEmbedContents");
}

static void no_header_can_be_smuggled_in(void **state)
{
    struct slice *const fields[] = {&bed.endpoint.api_key,
                                    &bed.endpoint.base_url};

    (void)state;
    bed_expect_no_smuggling(fields, 2);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, bed_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stream_reads_the_same_however_it_is_split),
        TEST(every_recorded_answer_reads_the_same_in_pieces),
        TEST(a_list_of_answers_is_read_as_their_stream),
        TEST(thoughts_are_output_and_the_cache_is_input),
        TEST(broken_usage_is_unknown),
        TEST(tool_calls_are_read_and_get_ids_where_they_have_none),
        TEST(the_forced_tool_is_the_answer),
        TEST(an_answer_that_was_all_thought_ends_by_its_length),
        TEST(what_is_blocked_is_filtered),
        TEST(finish_reasons_are_mapped_and_new_ones_mean_stop),
        TEST(a_broken_tool_call_is_a_bad_response),
        TEST(only_the_first_candidate_is_read),
        TEST(progress_is_told_from_idling),
        TEST(what_is_not_an_answer_is_a_bad_response),
        TEST(a_stream_without_its_end_is_cut),
        TEST(an_endless_answer_is_too_large),
        TEST(an_error_inside_an_answer_fails_at_once),
        TEST(each_error_has_its_class),
        TEST(the_delay_stands_in_the_body),
        TEST(embeddings_are_read_in_order),
        TEST(a_plain_request_has_turns_and_the_key_in_a_header),
        TEST(the_address_holds_the_model_and_nothing_else_of_it),
        TEST(the_configuration_holds_what_is_asked_for),
        TEST(turns_alternate),
        TEST(tools_their_calls_and_answers_are_sent),
        TEST(an_answer_to_no_call_is_refused),
        TEST(a_tool_choice_has_the_vendors_name),
        TEST(a_schema_is_sent_where_the_model_takes_it),
        TEST(a_forced_tool_stands_for_the_schema),
        TEST(effort_is_a_level_of_thinking),
        TEST(texts_to_embed_are_a_batch),
        TEST(no_header_can_be_smuggled_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
