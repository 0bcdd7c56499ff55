/* Azure OpenAI: its addresses, its filters (data/azure/). */
#include "test_provider_bed.h"

static int set_up(void **state)
{
    (void)state;
    bed_begin("azure");
    bed.endpoint.base_url = slice_of("https://res.openai.azure.com");
    bed.candidate.model = slice_of("my deployment/5");
    return 0;
}

static void ask_for_embeddings(void)
{
    static const struct slice input = {"x", 1};

    bed.chat = (struct chat){.inputs = &input, .input_count = 1};
}

static void the_deployment_is_in_the_path(void **state)
{
    (void)state;
    bed.chat.max_tokens = 9;
    bed_expect_in_body("{\"model\":\"my deployment/5\",");
    bed_expect_in_body(",\"max_completion_tokens\":9,");
    assert_string_equal(
        bed.request.url,
        "https://res.openai.azure.com/openai/deployments/my%20deployment%2F5/"
        "chat/completions?api-version=2024-10-21");
    assert_true(bed_has_header("api-key: top/secret+key"));
    assert_false(bed_has_header("Authorization: Bearer top/secret+key"));
    bed.endpoint.api_version = slice_of("2025-04-01-preview");
    ask_for_embeddings();
    assert_true(bed_build());
    assert_string_equal(
        bed.request.url,
        "https://res.openai.azure.com/openai/deployments/my%20deployment%2F5/"
        "embeddings?api-version=2025-04-01-preview");
}

static void the_newer_address_has_openais_paths(void **state)
{
    (void)state;
    bed.endpoint.base_url = slice_of("https://res.openai.azure.com/openai/v1");
    assert_true(bed_build());
    assert_string_equal(
        bed.request.url,
        "https://res.openai.azure.com/openai/v1/chat/completions");
    assert_true(bed_has_header("api-key: top/secret+key"));
    ask_for_embeddings();
    assert_true(bed_build());
    assert_string_equal(bed.request.url,
                        "https://res.openai.azure.com/openai/v1/embeddings");
}

static void answers_are_kept_by_the_newer_address_only(void **state)
{
    (void)state;
    bed.chat.store = STORE_YES;
    bed_expect_not_in_body("\"store\"");
    bed.endpoint.base_url = slice_of("https://res.openai.azure.com/openai/v1/");
    bed_expect_in_body(",\"store\":true,");
}

static void the_responses_api_has_one_address(void **state)
{
    static const struct slice stop = {"END", 3};
    const char *url = "https://res.openai.azure.com/openai/v1/responses";

    (void)state;
    bed.dialect = "azure_responses";
    bed_expect_in_body("{\"model\":\"my deployment/5\",\"input\":[");
    assert_string_equal(bed.request.url, url);
    assert_true(bed_has_header("api-key: top/secret+key"));
    bed.endpoint.base_url = slice_of("https://res.openai.azure.com/openai/v1");
    assert_true(bed_build());
    assert_string_equal(bed.request.url, url);
    bed.chat.stops = &stop;
    bed.chat.stop_count = 1;
    assert_false(bed_build());
    assert_int_equal(bed.err.code, ERR_INVALID_REQUEST);
    assert_true(bed_read_text(
        "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r1\","
        "\"output\":[{\"type\":\"message\",\"content\":[{\"text\":\"Hi\"}]}]"
        "}}\n\n"));
    assert_slice(bed.completion.text, "Hi");
    assert_slice(bed.completion.response_id, "r1");
}

static void no_version_can_change_the_address(void **state)
{
    (void)state;
    bed.endpoint.api_version = slice_of("1&x=/../y#z\r\n");
    assert_true(bed_build());
    assert_non_null(
        strstr(bed.request.url, "?api-version=1%26x%3D%2F..%2Fy%23z%0D%0A"));
}

static void answers_are_read(void **state)
{
    (void)state;
    bed_expect_each_split("stream.sse", "Hello there", FINISH_STOP, 5);
    assert_slice(bed.completion.model, "gpt-5.4-mini-2026-03-17");
    bed_expect_each_split("filtered.sse", "First", FINISH_CONTENT_FILTER, 5);
    ask_for_embeddings();
    assert_true(bed_read_file("embeddings.json"));
    assert_int_equal(bed.completion.embedding_count, 1);
}

static void each_error_has_its_class(void **state)
{
    /*   status, file, code, retry, next, larger, bench, blameless */
    static const struct bed_error rows[] = {
        {400, "error_filter.json", ERR_CONTENT_FILTERED, 0, 0, 0, 0, 1},
        {401, "error_key.json", ERR_UNAUTHORIZED, 0, 1, 0, 1, 0},
        {404, "error_deployment.json", ERR_NO_ROUTE, 0, 1, 0, 0, 1},
        {429, "error_rate.json", ERR_RATE_LIMITED, 1, 1, 0, 0, 0},
        {200, "error_inside.sse", ERR_RATE_LIMITED, 1, 1, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        bed_expect_error(&rows[i]);
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
        TEST(the_deployment_is_in_the_path),
        TEST(the_newer_address_has_openais_paths),
        TEST(answers_are_kept_by_the_newer_address_only),
        TEST(the_responses_api_has_one_address),
        TEST(no_version_can_change_the_address),
        TEST(answers_are_read),
        TEST(each_error_has_its_class),
        TEST(no_header_can_be_smuggled_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
