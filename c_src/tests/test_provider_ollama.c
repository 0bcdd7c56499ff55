/* Ollama's own dialect against answers as it sends them (data/ollama/). */
#include "test_provider_bed.h"

static int set_up(void **state)
{
    (void)state;
    bed_begin("ollama");
    bed.endpoint.base_url = slice_of("http://127.0.0.1:11434");
    bed.endpoint.api_key = slice_of("");
    return 0;
}

/* Answers. */

static void a_stream_reads_the_same_however_it_is_split(void **state)
{
    (void)state;
    bed_expect_each_split("stream.ndjson",
                          "{\"title\":\"Gr\xC3\xBC\xC3\x9F"
                          "e aus Z\xC3\xBCrich \xE2\x98\x95 "
                          "\xF0\x9F\x98\x80\",\"priority\":\"high\"}",
                          FINISH_STOP, 41);
    bed_expect_each_split("thinking.ndjson", "42", FINISH_STOP, 33);
    bed_expect_each_split("tools.ndjson", "I will look.", FINISH_TOOL_CALLS,
                          44);
    bed_expect_each_split("length.ndjson", "One, two, thr", FINISH_LENGTH, 4);
    bed_expect_each_split("whole.json", "Hello there", FINISH_STOP, 41);
}

static void every_recorded_answer_reads_the_same_in_pieces(void **state)
{
    static const char *const files[] = {"error_inside.ndjson", "error_404.json",
                                        "load.ndjson"};

    (void)state;
    bed_expect_same_when_split(files, sizeof(files) / sizeof(files[0]));
}

static void usage_and_model_are_read(void **state)
{
    (void)state;
    assert_true(bed_read_file("stream.ndjson"));
    assert_slice(bed.completion.model, "qwen3:8b");
    assert_int_equal(bed.completion.usage.input_tokens, 312);
    assert_int_equal(bed.completion.usage.output_tokens, 41);
    assert_int_equal(bed.completion.usage.total_tokens, 353);
    assert_int_equal(bed.completion.usage.cached_tokens, -1);
}

/* A prompt that is in the cache is not counted. */
static void usage_may_be_missing(void **state)
{
    (void)state;
    assert_true(bed_read_text("{\"message\":{\"content\":\"x\"},\"done\":true,"
                              "\"eval_count\":-3}\n"));
    assert_int_equal(bed.completion.usage.input_tokens, -1);
    assert_int_equal(bed.completion.usage.output_tokens, -1);
    assert_int_equal(bed.completion.usage.total_tokens, -1);
}

static void tool_calls_are_read_and_get_ids_where_they_have_none(void **state)
{
    (void)state;
    assert_true(bed_read_file("tools.ndjson"));
    assert_int_equal(bed.completion.tool_call_count, 2);
    bed_expect_call(0, "call_x3k9v", "get_weather",
                    "{\"location\":\"San Francisco, CA\",\"days\":[1,2.5]}");
    bed_expect_call(1, "call_2", "get_time", "{}");
}

static void a_model_that_was_only_loaded_has_not_answered(void **state)
{
    (void)state;
    assert_false(bed_read_file("load.ndjson"));
    assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
}

static void progress_is_told_from_idling(void **state)
{
    static const struct {
        const char *bytes;
        enum provider_progress progress;
    } rows[] = {
        {"\n", PROGRESS_NONE},
        {"{\"message\":{\"content\":\"\"},\"done\":false}\r\n", PROGRESS_NONE},
        {"{\"message\":{\"content\":\"\",\"thinking\":\"hm\"}}\n",
         PROGRESS_USEFUL},
        {"{\"message\":{\"content\":\"a\"", PROGRESS_NONE},
        {"}}\n", PROGRESS_USEFUL},
        {"{\"status\":\"loading\"}\n", PROGRESS_NONE},
        {"{\"done\":true}\n", PROGRESS_END},
        {"{\"error\":\"too late\"}\n", PROGRESS_END},
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
    bed_expect_bad("\n\n");
    bed_expect_bad("<html>busy</html>");
    bed_expect_bad("busy\n");
    bed_expect_bad("busy");
    bed_expect_bad("Ollama is running");
    bed_expect_bad("{}\n");
    bed_expect_bad("[]");
    bed_expect_bad("null");
    bed_expect_bad("{\"done\":true}\n");
    bed_expect_bad("{\"message\":{\"content\":\"a\"},\"done\":false}\n");
    bed_expect_bad("{\"message\":{\"content\":\"a\"}}\n{\"mess\n{\"done\":true}"
                   "\n");
    bed_expect_bad("{\"done\":true,\"message\":{\"tool_calls\":[{\"function\":{"
                   "\"name\":\"f\",\"arguments\":[]}}]}}\n");
}

static void a_stream_without_its_end_is_cut(void **state)
{
    (void)state;
    bed_expect_cut("stream.ndjson", "\"done\":true");
    bed_expect_cut("tools.ndjson", "\"done\":true");
}

static void an_endless_answer_is_too_large(void **state)
{
    (void)state;
    bed_expect_endless(bed_large("{\"message\":{\"content\":\"", "\"}}\n"));
}

static void a_line_without_end_is_too_large(void **state)
{
    struct slice piece = bed_large("", "");
    struct reader *reader = bed_reader(200);
    size_t fed = 0;

    (void)state;
    reader_feed(reader, slice_of("{\"message\":{\"content\":\""));
    while (reader_feed(reader, piece) != PROGRESS_FAILED) {
        fed += piece.size;
        assert_true(fed < (size_t)PROVIDER_ANSWER_MAX + 4 * piece.size);
    }
    assert_false(bed_close(reader, false));
    assert_int_equal(bed.failure.error.code, ERR_TOO_LARGE);
}

static void an_error_inside_a_stream_fails_at_once(void **state)
{
    struct reader *reader = bed_reader(200);

    (void)state;
    assert_int_equal(reader_feed(reader, bed_load("error_inside.ndjson")),
                     PROGRESS_FAILED);
    assert_false(bed_close(reader, true));
    assert_int_equal(bed.failure.error.code, ERR_PROVIDER_ERROR);
    assert_true(bed.failure.retry.retryable);
    assert_non_null(strstr(bed.failure.error.message, "unexpected EOF"));
}

static void each_error_has_its_class(void **state)
{
    /* retryable, next, larger, bench, blameless */
    static const struct bed_error rows[] = {
        {400, "error_400.json", ERR_INVALID_REQUEST, 0, 0, 0, 0, 1},
        {400, "error_context.json", ERR_TOO_LARGE, 0, 0, 1, 0, 1},
        {400, "error_context_shift.json", ERR_TOO_LARGE, 0, 0, 1, 0, 1},
        {400, "error_embed_context.json", ERR_TOO_LARGE, 0, 0, 1, 0, 1},
        {400, "error_tools.json", ERR_INVALID_REQUEST, 0, 0, 0, 0, 1},
        {400, "error_think.json", ERR_INVALID_REQUEST, 0, 0, 0, 0, 1},
        {401, "error_cloud.json", ERR_UNAUTHORIZED, 0, 1, 0, 1, 0},
        {404, "error_404.json", ERR_NO_ROUTE, 0, 1, 0, 0, 1},
        {500, "error_memory.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
        {503, "error_busy.json", ERR_PROVIDER_ERROR, 1, 1, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bed_expect_error(&rows[i]);
}

static void embeddings_are_read_in_order(void **state)
{
    static const struct slice inputs[] = {{"a", 1}, {"b", 1}};

    (void)state;
    bed.chat = (struct chat){.inputs = inputs, .input_count = 2};
    assert_true(bed_read_file("embeddings.json"));
    assert_int_equal(bed.completion.embedding_count, 2);
    assert_int_equal(bed.completion.embeddings[0].count, 3);
    assert_true(bed.completion.embeddings[0].values[2] == 0.05007221);
    assert_int_equal(bed.completion.usage.input_tokens, 8);
    assert_int_equal(bed.completion.usage.output_tokens, 0);
    assert_slice(bed.completion.model, "all-minilm");
    bed_expect_bad("{\"embeddings\":[[1]]}");
    bed_expect_bad("{\"embeddings\":[[1],[1e999]]}");
    bed_expect_bad("{\"embeddings\":[[1],[null]]}");
    bed_expect_bad("{\"embeddings\":[[1],[1],[1]]}");
}

/* Requests. */

static void a_plain_request_has_model_and_messages(void **state)
{
    (void)state;
    assert_true(bed_build());
    assert_string_equal(bed.request.url, "http://127.0.0.1:11434/api/chat");
    bed_expect_in_body("{\"model\":\"model-1\",\"messages\":["
                       "{\"role\":\"system\",\"content\":\"Be "
                       "\\\"brief\\\"\"},"
                       "{\"role\":\"user\",\"content\":\"Hi\\n\xC3\xBC\"}],"
                       "\"options\":{},");
    bed_expect_in_body("\"stream\":true}");
    assert_int_equal(bed.request.header_count, 2);
    bed.endpoint.api_key = slice_of(BED_KEY);
    assert_true(bed_build());
    assert_true(bed_has_header("Authorization: Bearer top/secret+key"));
}

static void nothing_is_cut_in_silence(void **state)
{
    (void)state;
    bed_expect_in_body("\"truncate\":false,\"shift\":false,");
    bed_expect_not_in_body("num_ctx");
    bed.candidate.entry = &bed.entry;
    bed.entry.context_tokens = 32768;
    bed_expect_in_body("\"options\":{ \"num_ctx\":32768}");
}

static void the_options_hold_what_is_asked_for(void **state)
{
    static const struct slice stops[] = {{"END", 3}};

    (void)state;
    bed.chat.max_tokens = 500;
    bed.chat.temperature = 0.3;
    bed.chat.top_p = 0.5;
    bed.chat.stops = stops;
    bed.chat.stop_count = 1;
    bed.chat.has_seed = true;
    bed.chat.seed = 42;
    bed_expect_in_body("\"options\":{ \"num_predict\":500,\"temperature\":0.3,"
                       "\"top_p\":0.5,\"stop\":[\"END\"],\"seed\":42}");
    bed.candidate.entry = &bed.entry;
    bed.entry.sampling = false;
    bed_expect_not_in_body("temperature");
    bed_expect_not_in_body("top_p");
}

static void tools_their_calls_and_answers_are_sent(void **state)
{
    (void)state;
    bed_use_tools();
    bed_expect_in_body(
        "{\"role\":\"assistant\",\"content\":\"Let me see.\",\"tool_calls\":["
        "{\"id\":\"call_1\",\"function\":{\"name\":\"get_weather\","
        "\"arguments\":{\"city\":\"Bern\"}}},{\"id\":\"c:2\",\"function\":{"
        "\"name\":\"get_time\",\"arguments\":{}}}]},{\"role\":\"tool\","
        "\"content\":\"4 \\\"C\\\"\",\"tool_name\":\"get_weather\","
        "\"tool_call_id\":\"call_1\"},{\"role\":\"tool\",\"content\":\"\","
        "\"tool_name\":\"get_time\",\"tool_call_id\":\"c:2\"}],");
    bed_expect_in_body(
        ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
        "\"get_weather\",\"description\":\"The \\\"weather\\\"\","
        "\"parameters\":{\"type\":\"object\",\"properties\":{}}}},{\"type\":"
        "\"function\",\"function\":{\"name\":\"get_time\",\"description\":"
        "\"\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}],");
}

static void tools_may_be_left_out_but_not_forced(void **state)
{
    (void)state;
    bed_use_tools();
    bed.chat.tool_choice = TOOL_CHOICE_NONE;
    bed_expect_not_in_body("\"tools\"");
    bed.chat.tool_choice = TOOL_CHOICE_REQUIRED;
    assert_false(bed_build());
    assert_int_equal(bed.err.code, ERR_INVALID_REQUEST);
    assert_string_equal(bed.err.path, "opts.tool_choice");
}

static void an_answer_to_no_call_is_refused(void **state)
{
    (void)state;
    bed_use_tools();
    bed.messages[2].tool_call_id = slice_of("call_9");
    assert_false(bed_build());
    assert_int_equal(bed.err.code, ERR_INVALID_REQUEST);
}

static void a_schema_is_the_format(void **state)
{
    (void)state;
    bed_want_schema(STRUCTURED_SCHEMA);
    bed_expect_in_body(",\"format\":{\"type\":\"object\"},");
    bed_want_schema(STRUCTURED_JSON);
    bed_expect_in_body(",\"format\":\"json\",");
    bed_want_schema(STRUCTURED_PROMPT);
    bed_expect_not_in_body("format");
    bed_want_schema(STRUCTURED_TOOL);
    bed_expect_not_in_body("format");
    bed_want_schema(STRUCTURED_SCHEMA);
    bed_use_tools();
    bed_expect_not_in_body("format");
}

static void effort_is_a_level_of_thinking(void **state)
{
    (void)state;
    bed_expect_not_in_body("think");
    bed.chat.effort = EFFORT_MINIMAL;
    bed_expect_in_body(",\"think\":\"low\",");
    bed.chat.effort = EFFORT_MAX;
    bed_expect_in_body(",\"think\":\"high\",");
    bed.chat.effort = EFFORT_NONE;
    bed_expect_in_body(",\"think\":false,");
}

static void texts_to_embed_are_a_list(void **state)
{
    static const struct slice inputs[] = {{"a\"", 2}, {"b", 1}};

    (void)state;
    bed.chat = (struct chat){.inputs = inputs, .input_count = 2};
    bed_expect_in_body("{\"model\":\"model-1\",\"input\":[\"a\\\"\",\"b\"],"
                       "\"truncate\":false}");
    assert_string_equal(bed.request.url, "http://127.0.0.1:11434/api/embed");
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
        TEST(usage_and_model_are_read),
        TEST(usage_may_be_missing),
        TEST(tool_calls_are_read_and_get_ids_where_they_have_none),
        TEST(a_model_that_was_only_loaded_has_not_answered),
        TEST(progress_is_told_from_idling),
        TEST(what_is_not_an_answer_is_a_bad_response),
        TEST(a_stream_without_its_end_is_cut),
        TEST(an_endless_answer_is_too_large),
        TEST(a_line_without_end_is_too_large),
        TEST(an_error_inside_a_stream_fails_at_once),
        TEST(each_error_has_its_class),
        TEST(embeddings_are_read_in_order),
        TEST(a_plain_request_has_model_and_messages),
        TEST(nothing_is_cut_in_silence),
        TEST(the_options_hold_what_is_asked_for),
        TEST(tools_their_calls_and_answers_are_sent),
        TEST(tools_may_be_left_out_but_not_forced),
        TEST(an_answer_to_no_call_is_refused),
        TEST(a_schema_is_the_format),
        TEST(effort_is_a_level_of_thinking),
        TEST(texts_to_embed_are_a_list),
        TEST(no_header_can_be_smuggled_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
