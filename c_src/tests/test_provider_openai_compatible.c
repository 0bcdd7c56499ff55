/* Servers that speak OpenAI's chat completions in their own way: vLLM,
 * llama.cpp, DeepSeek, OpenRouter, Groq, Mistral, xAI (data/compatible/). */
#include "test_provider_bed.h"

static int set_up(void **state)
{
    (void)state;
    bed_begin("openai");
    return 0;
}

static void every_split_gives_the_same_answer(void **state)
{
    static const struct {
        const char *file, *text;
        enum finish_reason finish;
        int64_t output_tokens;
    } rows[] = {
        {"../compatible/openrouter.sse", "Hello", FINISH_LENGTH, 41},
        {"../compatible/llamacpp.sse", "42\n", FINISH_STOP, 9},
        {"../compatible/vllm_tools.sse", "", FINISH_TOOL_CALLS, 25},
        {"../compatible/deepseek.sse", "63.", FINISH_STOP, 35},
        {"../compatible/groq.sse", "42", FINISH_STOP, 33},
        {"../compatible/mistral_tools.sse", "", FINISH_TOOL_CALLS, 39},
        {"../compatible/mistral_thinking.sse", "Vier.", FINISH_STOP, 9},
        {"../compatible/xai.sse", "101", FINISH_STOP, 103},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bed_expect_each_split(rows[i].file, rows[i].text, rows[i].finish,
                              rows[i].output_tokens);
}

static void vllm_and_mistral_call_tools(void **state)
{
    (void)state;
    assert_true(bed_read_file("../compatible/vllm_tools.sse"));
    assert_int_equal(bed.completion.tool_call_count, 1);
    bed_expect_call(0, "chatcmpl-tool-3fa1", "get_weather",
                    "{\"city\":\"Bern\"}");
    assert_true(bed_read_file("../compatible/mistral_tools.sse"));
    assert_int_equal(bed.completion.tool_call_count, 2);
    bed_expect_call(0, "D681PevKs", "get_weather", "{\"city\":\"Bern\"}");
    bed_expect_call(1, "yQb2n0wLd", "get_time", "{}");
}

static void expect_usage(const char *file, const struct usage *usage)
{
    assert_true(bed_read_file(file));
    assert_memory_equal(&bed.completion.usage, usage, sizeof(*usage));
}

static void usage_is_read_wherever_it_is(void **state)
{
    (void)state;
    expect_usage("../compatible/deepseek.sse",
                 &(struct usage){20, 35, 55, 12, -1, -1, 30});
    expect_usage("../compatible/groq.sse",
                 &(struct usage){72, 33, 105, 64, -1, -1, 21});
    /* Its reasoning is not in completion_tokens: 9 + 94. */
    expect_usage("../compatible/xai.sse",
                 &(struct usage){32, 103, 135, 6, -1, -1, 94});
    expect_usage("../compatible/mistral_tools.sse",
                 &(struct usage){94, 39, 133, -1, -1, -1, -1});
}

static void reasoning_is_progress_but_no_text(void **state)
{
    static const char *const thoughts[] = {
        "{\"reasoning_content\":\"hm\"}",
        "{\"reasoning\":\"hm\"}",
        "{\"content\":[{\"type\":\"thinking\",\"thinking\":[]}]}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(thoughts) / sizeof(thoughts[0]); i++) {
        struct reader *reader = bed_reader(200);

        assert_int_equal(
            reader_feed(reader,
                        arena_printf(&bed.arena,
                                     "data: {\"choices\":[{\"delta\":%s}]}\n\n",
                                     thoughts[i])),
            PROGRESS_USEFUL);
        assert_int_equal(reader_text(reader).size, 0);
        assert_false(bed_close(reader, true));
    }
}

static void each_error_has_its_class(void **state)
{
    /*   status, file, code, retry, next, larger, bench, blameless */
    static const struct bed_error rows[] = {
        {400, "../compatible/vllm_context.json", ERR_TOO_LARGE, 0, 0, 1, 0, 1},
        {404, "../compatible/vllm_model.json", ERR_NO_ROUTE, 0, 1, 0, 0, 1},
        {404, "../compatible/vllm_nested.json", ERR_NO_ROUTE, 0, 1, 0, 0, 1},
        {400, "../compatible/vllm_detail.json", ERR_INVALID_REQUEST, 0, 0, 0, 0,
         1},
        {400, "../compatible/llamacpp_context.json", ERR_TOO_LARGE, 0, 0, 1, 0,
         1},
        {503, "../compatible/llamacpp_loading.json", ERR_PROVIDER_ERROR, 1, 1,
         0, 0, 0},
        {402, "../compatible/deepseek_balance.json", ERR_QUOTA_EXCEEDED, 0, 1,
         0, 1, 0},
        {400, "../compatible/openrouter_context.json", ERR_TOO_LARGE, 0, 0, 1,
         0, 1},
        {403, "../compatible/openrouter_moderation.json", ERR_CONTENT_FILTERED,
         0, 0, 0, 0, 1},
        {402, "../compatible/openrouter_credit.json", ERR_QUOTA_EXCEEDED, 0, 1,
         0, 1, 0},
        {400, "../compatible/groq_tool_use.json", ERR_BAD_RESPONSE, 1, 1, 0, 0,
         1},
        {413, "../compatible/groq_tpm.json", ERR_TOO_LARGE, 0, 1, 0, 0, 1},
        {422, "../compatible/mistral_extra.json", ERR_INVALID_REQUEST, 0, 0, 0,
         0, 1},
        {400, "../compatible/mistral_context.json", ERR_TOO_LARGE, 0, 0, 1, 0,
         1},
        {400, "../compatible/xai_key.json", ERR_UNAUTHORIZED, 0, 1, 0, 1, 0},
        {403, "../compatible/xai_credit.json", ERR_QUOTA_EXCEEDED, 0, 1, 0, 1,
         0},
        {400, "../compatible/xai_context.json", ERR_TOO_LARGE, 0, 0, 1, 0, 1},
        /* Inside a good status each has the class of its own. */
        {200, "../compatible/llamacpp_inside.sse", ERR_TOO_LARGE, 0, 0, 1, 0,
         1},
        {200, "../compatible/openrouter_error.sse", ERR_PROVIDER_ERROR, 1, 1, 0,
         0, 0},
        {200, "../compatible/openrouter_choice.json", ERR_RATE_LIMITED, 1, 1, 0,
         0, 0},
        {200, "../compatible/groq_inside.sse", ERR_BAD_RESPONSE, 1, 1, 0, 0, 1},
        {200, "../compatible/deepseek_interrupted.sse", ERR_BAD_RESPONSE, 1, 1,
         0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bed_expect_error(&rows[i]);
}

static void a_list_of_faults_is_told_without_the_callers_input(void **state)
{
    (void)state;
    assert_false(bed_read(422, bed_load("../compatible/mistral_extra.json")));
    assert_string_equal(
        bed.failure.error.message,
        "the provider said 422: Extra inputs are not permitted");
    assert_false(bed_read(400, bed_load("../compatible/vllm_detail.json")));
    assert_string_equal(bed.failure.error.message,
                        "the provider said 400: Field required");
    assert_false(
        bed_read(400, bed_load("../compatible/openrouter_context.json")));
    assert_string_equal(bed.failure.error.message,
                        "the provider said 400: Provider returned error");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, bed_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_split_gives_the_same_answer),
        TEST(vllm_and_mistral_call_tools),
        TEST(usage_is_read_wherever_it_is),
        TEST(reasoning_is_progress_but_no_text),
        TEST(each_error_has_its_class),
        TEST(a_list_of_faults_is_told_without_the_callers_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
