/* OpenAI's chat completions: tools, structured answers, effort, embeddings,
 * rate limits and errors. */
#include "test_provider_bed.h"

static int set_up(void **state)
{
    (void)state;
    bed_begin("openai");
    return 0;
}

static void streamed_tool_calls_are_put_together_by_index(void **state)
{
    struct slice body = bed_load("tools.sse");

    (void)state;
    for (size_t first = 1; first <= body.size; first++) {
        struct arena_mark mark = arena_mark(&bed.arena);

        assert_true(bed_read_split(200, body, first, body.size));
        assert_int_equal(bed.completion.finish, FINISH_TOOL_CALLS);
        assert_int_equal(bed.completion.tool_call_count, 2);
        bed_expect_call(0, "call_Kx81", "get_weather",
                        "{\"city\":\"Z\xC3\xBCrich\"}");
        bed_expect_call(1, "call_Lm02", "get_time", "{}");
        arena_rewind(&bed.arena, mark);
    }
    assert_int_equal(bed.completion.text.size, 0);
    assert_int_equal(bed.completion.usage.cache_write_tokens, 64);
    assert_int_equal(bed.completion.usage.cached_tokens, 0);
}

static void a_whole_answer_has_tool_calls_too(void **state)
{
    (void)state;
    assert_true(bed_read_file("whole_tools.json"));
    assert_int_equal(bed.completion.finish, FINISH_TOOL_CALLS);
    bed_expect_call(0, "call_Kx81", "get_weather", "{\"city\":\"Bern\"}");
    bed_expect_call(1, "call_Lm02", "get_time", "{}");
}

static bool read_delta(const char *calls, const char *finish)
{
    return bed_read(
        200, arena_printf(&bed.arena,
                          "data: {\"choices\":[{\"delta\":{\"tool_calls\":"
                          "[%s]},\"finish_reason\":\"%s\"}]}\n\n",
                          calls, finish));
}

static void calls_are_told_apart_by_id_where_the_index_is_the_same(void **state)
{
    (void)state;
    assert_true(read_delta("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":"
                           "\"f\",\"arguments\":\"{\\\"x\\\":1}\"}},"
                           "{\"index\":0,\"id\":\"b\",\"function\":{\"name\":"
                           "\"g\",\"arguments\":\"{\"}},"
                           "{\"index\":0,\"id\":\"b\",\"function\":{"
                           "\"arguments\":\"}\"}}",
                           "stop"));
    assert_int_equal(bed.completion.finish, FINISH_TOOL_CALLS);
    assert_int_equal(bed.completion.tool_call_count, 2);
    bed_expect_call(0, "a", "f", "{\"x\":1}");
    bed_expect_call(1, "b", "g", "{}");
}

static void a_call_without_id_gets_one(void **state)
{
    (void)state;
    assert_true(read_delta("{\"function\":{\"name\":\"f\",\"arguments\":{"
                           "\"x\":[1]}}},{\"function\":{\"name\":\"g\"}}",
                           "tool_calls"));
    bed_expect_call(0, "call_1", "f", "{\"x\":[1]}");
    bed_expect_call(1, "call_2", "g", "{}");
}

static void arguments_that_are_no_object_are_a_bad_response(void **state)
{
    static const char *const bad[] = {"{\\\"x\\\":", "[1]", "7", "nonsense",
                                      "{} {}"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct slice call = arena_printf(
            &bed.arena,
            "{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"%s\"}}",
            bad[i]);

        assert_false(read_delta(call.data, "tool_calls"));
        assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
        assert_true(bed.failure.retry.retryable);
    }
    assert_false(read_delta("{\"id\":\"a\",\"function\":{\"name\":\"no name\","
                            "\"arguments\":\"{}\"}}",
                            "tool_calls"));
    assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
}

static void a_call_that_the_token_limit_cut_is_left_out(void **state)
{
    (void)state;
    assert_true(read_delta("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":"
                           "\"f\",\"arguments\":\"{}\"}},{\"index\":1,\"id\":"
                           "\"b\",\"function\":{\"name\":\"g\",\"arguments\":"
                           "\"{\\\"x\"}}",
                           "length"));
    assert_int_equal(bed.completion.finish, FINISH_LENGTH);
    assert_int_equal(bed.completion.tool_call_count, 1);
    bed_expect_call(0, "a", "f", "{}");
}

static bool read_call(const char *id, const char *name)
{
    return read_delta(arena_printf(&bed.arena,
                                   "{\"id\":\"%s\",\"function\":{\"name\":"
                                   "\"%s\",\"arguments\":\"{}\"}}",
                                   id, name)
                          .data,
                      "tool_calls");
}

static void names_and_ids_have_a_maximum(void **state)
{
    char text[520];

    (void)state;
    memset(text, 'x', sizeof(text));
    text[64] = '\0';
    assert_true(read_call("a", text));
    assert_slice(bed.completion.tool_calls[0].name, text);
    text[64] = 'x';
    text[65] = '\0';
    assert_false(read_call("a", text));
    assert_false(read_call("a", ""));
    text[65] = 'x';
    text[512] = '\0';
    assert_true(read_call(text, "f"));
    assert_int_equal(bed.completion.tool_calls[0].id.size, 512);
    text[512] = 'x';
    text[513] = '\0';
    assert_true(read_call(text, "f"));
    bed_expect_call(0, "call_1", "f", "{}");
}

static void too_many_calls_are_a_bad_response(void **state)
{
    struct buf body;

    (void)state;
    buf_init(&body, 1 << 20);
    for (int i = 0; i < 129; i++)
        buf_printf(&body,
                   "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":"
                   "%d,\"id\":\"a\",\"function\":{\"name\":\"f\"}}]},"
                   "\"finish_reason\":\"stop\"}]}\n\n",
                   i);
    assert_false(bed_read(200, buf_slice(&body)));
    assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
    buf_release(&body);
}

static void tools_and_their_answers_are_sent(void **state)
{
    (void)state;
    bed_use_tools();
    bed_expect_in_body(
        "{\"role\":\"assistant\",\"content\":\"Let me see.\",\"tool_calls\":["
        "{\"id\":\"call_1\",\"type\":\"function\",\"function\":{\"name\":"
        "\"get_weather\",\"arguments\":\"{\\\"city\\\":\\\"Bern\\\"}\"}},"
        "{\"id\":\"c:2\",\"type\":\"function\",\"function\":{\"name\":"
        "\"get_time\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"content\":\"4 \\\"C\\\"\","
        "\"tool_call_id\":\"call_1\"},"
        "{\"role\":\"tool\",\"content\":\"\",\"tool_call_id\":\"c:2\"}]");
    bed_expect_in_body(
        ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
        "\"get_weather\",\"description\":\"The \\\"weather\\\"\","
        "\"parameters\":{\"type\":\"object\",\"properties\":{}}}},"
        "{\"type\":\"function\",\"function\":{\"name\":\"get_time\"}}],");
    bed_expect_not_in_body("tool_choice");
    bed.messages[1].content = slice_of("");
    bed_expect_in_body("\"content\":null,\"tool_calls\"");
}

static void the_choice_of_a_tool_is_sent(void **state)
{
    static const struct {
        enum tool_choice choice;
        const char *text;
    } rows[] = {
        {TOOL_CHOICE_AUTO, ",\"tool_choice\":\"auto\","},
        {TOOL_CHOICE_NONE, ",\"tool_choice\":\"none\","},
        {TOOL_CHOICE_REQUIRED, ",\"tool_choice\":\"required\","},
        {TOOL_CHOICE_NAMED, ",\"tool_choice\":{\"type\":\"function\","
                            "\"function\":{\"name\":\"get_time\"}},"},
    };

    (void)state;
    bed_use_tools();
    bed.chat.tool_name = slice_of("get_time");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bed.chat.tool_choice = rows[i].choice;
        bed_expect_in_body(rows[i].text);
    }
}

static void a_schema_is_enforced_as_the_model_can(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_SCHEMA);
    bed_expect_in_body(",\"response_format\":{\"type\":\"json_schema\","
                       "\"json_schema\":{\"name\":\"answer\",\"schema\":{"
                       "\"type\":\"object\"},\"strict\":true}},");
    bed_want_schema(STRUCTURED_JSON);
    bed_expect_in_body(",\"response_format\":{\"type\":\"json_object\"},");
    bed_want_schema(STRUCTURED_PROMPT);
    bed_expect_not_in_body("response_format");
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_in_body(
        ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"answer\","
        "\"parameters\":{\"type\":\"object\"},\"strict\":true}}],"
        "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":"
        "\"answer\"}},");
    bed_expect_not_in_body("response_format");
}

static void the_callers_tools_are_not_replaced_by_a_forced_one(void **state)
{
    (void)state;
    bed_use_tools();
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_not_in_body("answer");
    bed_want_schema(STRUCTURED_JSON);
    bed_expect_not_in_body("response_format");
    bed_want_schema(STRUCTURED_SCHEMA);
    bed_expect_in_body("response_format");
}

static void the_arguments_of_the_forced_tool_are_the_text(void **state)
{
    struct reader *reader;
    struct slice body;

    (void)state;
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_each_split("forced_tool.sse",
                          "{\"title\":\"Gr\xC3\xBC\xC3\x9F"
                          "e\"}",
                          FINISH_STOP, 12);
    assert_int_equal(bed.completion.tool_call_count, 0);
    body = bed_load("forced_tool.sse");
    reader = bed_reader(200);
    body.size = (size_t)slice_find(body, SLICE_LITERAL("\\\"Gr"));
    reader_feed(reader, body);
    assert_slice(reader_text(reader), "{\"title\":");
    assert_false(bed_close(reader, false));
}

static void of_several_forced_calls_the_first_is_the_text(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_TOOL);
    assert_true(read_delta("{\"index\":0,\"function\":{\"name\":\"answer\","
                           "\"arguments\":\"{}\"}},{\"index\":1,\"function\":"
                           "{\"name\":\"answer\",\"arguments\":\"[]\"}}",
                           "tool_calls"));
    assert_slice(bed.completion.text, "{}");
    assert_int_equal(bed.completion.tool_call_count, 0);
}

static void the_other_options_are_sent(void **state)
{
    static const struct slice stops[] = {{"END", 3}, {"\n\n", 2}};

    (void)state;
    bed.chat.top_p = 0.9;
    bed.chat.stops = stops;
    bed.chat.stop_count = 2;
    bed.chat.has_seed = true;
    bed.chat.seed = -7;
    bed_expect_in_body(",\"top_p\":0.9,\"stop\":[\"END\",\"\\n\\n\"],"
                       "\"seed\":-7,\"stream\":true,");
    bed.candidate.entry = &bed.entry;
    bed.entry.sampling = false;
    bed_expect_not_in_body("top_p");
}

static void mistral_is_sent_only_what_it_knows(void **state)
{
    (void)state;
    bed.endpoint.base_url = slice_of("https://api.mistral.ai/v1");
    bed.chat.has_seed = true;
    bed.chat.seed = 3;
    bed.chat.max_tokens = 10;
    bed_expect_in_body(",\"max_tokens\":10,\"random_seed\":3,\"stream\":true}");
    bed_expect_not_in_body("stream_options");
}

static void effort_is_sent_where_the_model_takes_it(void **state)
{
    (void)state;
    bed.chat.effort = EFFORT_HIGH;
    bed.chat.temperature = 0.5;
    bed_expect_in_body(",\"reasoning_effort\":\"high\",");
    bed_expect_not_in_body("temperature");
    bed.candidate.entry = &bed.entry;
    bed_expect_in_body(",\"reasoning_effort\":\"high\",");
    bed.entry.efforts = 1u << EFFORT_LOW | 1u << EFFORT_MEDIUM;
    bed_expect_not_in_body("reasoning_effort");
    bed_expect_in_body("\"temperature\":0.5");
    bed.chat.effort = EFFORT_LOW;
    bed_expect_in_body(",\"reasoning_effort\":\"low\",");
    bed_use_tools();
    bed.entry.tools_effort = EFFORT_NONE;
    bed_expect_in_body(",\"reasoning_effort\":\"none\",");
    bed_expect_in_body("\"temperature\":0.5");
    bed.chat.effort = EFFORT_UNSET;
    bed_expect_in_body(",\"reasoning_effort\":\"none\",");
}

static void ask_for_embeddings(void)
{
    static const struct slice inputs[] = {{"one \"1\"", 7}, {"two", 3}};

    bed.chat = (struct chat){.inputs = inputs, .input_count = 2};
}

static void texts_are_sent_to_embed(void **state)
{
    (void)state;
    ask_for_embeddings();
    assert_true(bed_build());
    assert_string_equal(bed.request.url, "https://models.example/embeddings");
    assert_slice(bed.body,
                 "{\"model\":\"model-1\",\"input\":[\"one \\\"1\\\"\",\"two\"],"
                 "\"encoding_format\":\"float\"}");
}

static void embeddings_come_in_the_order_of_the_texts(void **state)
{
    struct slice body;

    (void)state;
    ask_for_embeddings();
    body = bed_load("embeddings.json");
    for (size_t step = 1; step <= body.size; step++) {
        struct arena_mark mark = arena_mark(&bed.arena);
        const struct embedding *first;

        assert_true(bed_read_split(200, body, 0, step));
        assert_int_equal(bed.completion.embedding_count, 2);
        first = &bed.completion.embeddings[0];
        assert_int_equal(first->count, 3);
        assert_true(first->values[0] < -0.0069 && first->values[2] >= 1);
        assert_true(bed.completion.embeddings[1].values[1] < 0);
        arena_rewind(&bed.arena, mark);
    }
    assert_int_equal(bed.completion.usage.input_tokens, 8);
    assert_int_equal(bed.completion.usage.output_tokens, 0);
    assert_int_equal(bed.completion.usage.total_tokens, 8);
}

static void embeddings_that_do_not_fit_are_a_bad_response(void **state)
{
    (void)state;
    ask_for_embeddings();
    bed_expect_bad("");
    bed_expect_bad("{}");
    bed_expect_bad("[]");
    bed_expect_bad("data: {}\n\n");
    bed_expect_bad("{\"data\":[{\"index\":0,\"embedding\":[1]}]}");
    bed_expect_bad("{\"data\":[{\"index\":0,\"embedding\":[1]},"
                   "{\"index\":0,\"embedding\":[1]}]}");
    bed_expect_bad("{\"data\":[{\"index\":0,\"embedding\":[1]},"
                   "{\"index\":2,\"embedding\":[1]}]}");
    bed_expect_bad("{\"data\":[{\"index\":0,\"embedding\":[1]},"
                   "{\"index\":-1,\"embedding\":[1]}]}");
    bed_expect_bad("{\"data\":[{\"embedding\":[1]},{\"embedding\":[]}]}");
    bed_expect_bad("{\"data\":[{\"embedding\":[1]},{\"embedding\":[null]}]}");
    bed_expect_bad("{\"data\":[{\"embedding\":[1]},{\"embedding\":\"AAAA\"}]}");
    assert_false(
        bed_read(200, slice_of("{\"error\":{\"message\":\"m\",\"code\":"
                               "\"rate_limit_exceeded\"}}")));
    assert_int_equal(bed.failure.error.code, ERR_RATE_LIMITED);
}

static void the_headers_tell_what_is_left(void **state)
{
    (void)state;
    bed_header("x-ratelimit-limit-requests", "500");
    bed_header("x-ratelimit-remaining-requests", "499");
    bed_header("x-ratelimit-reset-requests", "120ms");
    bed_header("x-ratelimit-remaining-tokens", "0");
    bed_header("x-ratelimit-reset-tokens", "6m0s");
    assert_true(bed_read_file("whole.json"));
    assert_int_equal(bed.limits.requests_left, 499);
    assert_int_equal(bed.limits.requests_reset_ms, 120);
    assert_int_equal(bed.limits.tokens_left, 0);
    assert_int_equal(bed.limits.tokens_reset_ms, 360000);
}

static void limits_that_say_nothing_are_unknown(void **state)
{
    (void)state;
    bed_header("x-ratelimit-remaining-requests", "-1");
    bed_header("x-ratelimit-reset-requests", "5s");
    bed_header("x-ratelimit-remaining-tokens", "0");
    bed_header("x-ratelimit-reset-tokens", "0");
    assert_true(bed_read_file("whole.json"));
    assert_int_equal(bed.limits.requests_left, -1);
    assert_int_equal(bed.limits.requests_reset_ms, -1);
    assert_int_equal(bed.limits.tokens_left, -1);
}

static void each_error_has_its_class(void **state)
{
    /*   status, file, code, retry, next, larger, bench, blameless */
    static const struct bed_error rows[] = {
        {400, "error_context.json", ERR_TOO_LARGE, 0, 0, 1, 0, 1},
        {400, "error_parameter.json", ERR_INVALID_REQUEST, 0, 0, 0, 0, 1},
        {400, "error_policy.json", ERR_CONTENT_FILTERED, 0, 0, 0, 0, 1},
        {401, "error_key.json", ERR_UNAUTHORIZED, 0, 1, 0, 1, 0},
        {404, "error_model.json", ERR_NO_ROUTE, 0, 1, 0, 0, 1},
        {429, "error_rate.json", ERR_RATE_LIMITED, 1, 1, 0, 0, 0},
        {429, "error_slow_down.json", ERR_RATE_LIMITED, 1, 1, 0, 0, 0},
        {429, "error_tpm.json", ERR_TOO_LARGE, 0, 1, 0, 0, 1},
        {429, "error_quota.json", ERR_QUOTA_EXCEEDED, 0, 1, 0, 1, 0},
        {429, "error_credit.json", ERR_QUOTA_EXCEEDED, 0, 1, 0, 1, 0},
        {429, "error_spend.json", ERR_QUOTA_EXCEEDED, 0, 1, 0, 1, 0},
        {503, "error_overloaded.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bed_expect_error(&rows[i]);
}

static void who_has_too_much_to_do_is_left_alone_for_longer(void **state)
{
    (void)state;
    assert_false(bed_read(503, bed_load("error_overloaded.json")));
    assert_true(bed.failure.retry.overloaded);
    assert_false(bed_read(429, bed_load("error_slow_down.json")));
    assert_true(bed.failure.retry.overloaded);
    assert_false(bed_read(429, bed_load("error_rate.json")));
    assert_false(bed.failure.retry.overloaded);
    assert_false(bed_read(500, slice_of("{}")));
    assert_false(bed.failure.retry.overloaded);
}

static void a_failure_tells_what_it_cost(void **state)
{
    (void)state;
    bed_expect_bad("data: {\"model\":\"m-1\",\"usage\":{\"prompt_tokens\":5,"
                   "\"completion_tokens\":2},\"choices\":[]}\n\n");
    assert_int_equal(bed.failure.usage.input_tokens, 5);
    assert_int_equal(bed.failure.usage.output_tokens, 2);
    assert_slice(bed.failure.model, "m-1");
    bed_expect_bad("");
    assert_int_equal(bed.failure.usage.input_tokens, -1);
}

static void the_catalogue_says_which_api_a_model_speaks(void **state)
{
    const struct dialect *openai = dialect_find(slice_of("openai"));
    const struct dialect *responses =
        dialect_find(slice_of("openai_responses"));
    const struct dialect *azure = dialect_find(slice_of("azure"));
    const struct dialect *azure_responses =
        dialect_find(slice_of("azure_responses"));

    (void)state;
    assert_ptr_equal(dialect_for(openai, &bed.candidate, &bed.chat), openai);
    bed.candidate.entry = &bed.entry;
    bed.entry.tools_api = API_RESPONSES;
    assert_ptr_equal(dialect_for(openai, &bed.candidate, &bed.chat), openai);
    bed_use_tools();
    assert_ptr_equal(dialect_for(openai, &bed.candidate, &bed.chat), responses);
    assert_ptr_equal(dialect_for(azure, &bed.candidate, &bed.chat),
                     azure_responses);
    ask_for_embeddings();
    bed.entry.api = API_RESPONSES;
    assert_ptr_equal(dialect_for(openai, &bed.candidate, &bed.chat), openai);
    assert_ptr_equal(dialect_for(responses, &bed.candidate, &bed.chat), openai);
}

static void a_caller_says_which_api_to_ask(void **state)
{
    const struct dialect *openai = dialect_find(slice_of("openai"));
    const struct dialect *responses =
        dialect_find(slice_of("openai_responses"));
    const struct dialect *gemini = dialect_find(slice_of("gemini"));

    (void)state;
    bed.chat.api_version = API_VERSION_RESPONSES;
    assert_ptr_equal(dialect_for(openai, &bed.candidate, &bed.chat), responses);
    assert_ptr_equal(dialect_for(gemini, &bed.candidate, &bed.chat), gemini);
    bed.chat.api_version = API_VERSION_CHAT;
    assert_ptr_equal(dialect_for(responses, &bed.candidate, &bed.chat), openai);
    bed.candidate.entry = &bed.entry;
    bed.entry.api = API_RESPONSES;
    assert_ptr_equal(dialect_for(openai, &bed.candidate, &bed.chat), openai);
}

static unsigned apis(const char *dialect, const char *provider, const char *url)
{
    return dialect_apis(dialect_find(slice_of(dialect)), slice_of(provider),
                        slice_of(url));
}

static void the_responses_api_is_known_of_openai_and_azure(void **state)
{
    const unsigned chat = 1u << API_CHAT, both = chat | 1u << API_RESPONSES;

    (void)state;
    assert_int_equal(apis("openai", "mine", "https://eu.api.openai.com/v1"),
                     both);
    assert_int_equal(apis("openai", "openai", "http://proxy.example/v1"), both);
    assert_int_equal(apis("openai", "vllm", "http://127.0.0.1:8000/v1"), chat);
    assert_int_equal(apis("azure", "mine", "https://r.example"), both);
    assert_int_equal(apis("anthropic", "anthropic", "https://a.example"), 0);
}

static void answers_are_kept_by_openai_only(void **state)
{
    (void)state;
    bed.chat.store = STORE_YES;
    bed_expect_not_in_body("\"store\"");
    bed.endpoint.base_url = slice_of("https://api.openai.com/v1");
    bed_expect_in_body(",\"store\":true,");
    bed.chat.store = STORE_NO;
    bed_expect_in_body(",\"store\":false,");
    bed.chat.store = STORE_DEFAULT;
    bed_expect_not_in_body("\"store\"");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, bed_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(streamed_tool_calls_are_put_together_by_index),
        TEST(a_whole_answer_has_tool_calls_too),
        TEST(calls_are_told_apart_by_id_where_the_index_is_the_same),
        TEST(a_call_without_id_gets_one),
        TEST(arguments_that_are_no_object_are_a_bad_response),
        TEST(a_call_that_the_token_limit_cut_is_left_out),
        TEST(names_and_ids_have_a_maximum),
        TEST(too_many_calls_are_a_bad_response),
        TEST(tools_and_their_answers_are_sent),
        TEST(the_choice_of_a_tool_is_sent),
        TEST(a_schema_is_enforced_as_the_model_can),
        TEST(the_callers_tools_are_not_replaced_by_a_forced_one),
        TEST(the_arguments_of_the_forced_tool_are_the_text),
        TEST(of_several_forced_calls_the_first_is_the_text),
        TEST(the_other_options_are_sent),
        TEST(mistral_is_sent_only_what_it_knows),
        TEST(effort_is_sent_where_the_model_takes_it),
        TEST(texts_are_sent_to_embed),
        TEST(embeddings_come_in_the_order_of_the_texts),
        TEST(embeddings_that_do_not_fit_are_a_bad_response),
        TEST(the_headers_tell_what_is_left),
        TEST(limits_that_say_nothing_are_unknown),
        TEST(each_error_has_its_class),
        TEST(who_has_too_much_to_do_is_left_alone_for_longer),
        TEST(a_failure_tells_what_it_cost),
        TEST(the_catalogue_says_which_api_a_model_speaks),
        TEST(a_caller_says_which_api_to_ask),
        TEST(the_responses_api_is_known_of_openai_and_azure),
        TEST(answers_are_kept_by_openai_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
