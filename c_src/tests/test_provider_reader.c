/* What is the same for all dialects: forms, limits, and the classes of
 * errors. */
#include "test_provider_bed.h"

static int set_up(void **state)
{
    (void)state;
    bed_begin("openai");
    return 0;
}

/* Forms. */

static void a_body_is_read_as_what_it_is(void **state)
{
    static const char *const whole =
        "{\"choices\":[{\"message\":{\"content\":\"x\"}}]}";
    static const char *const stream =
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},"
        "\"finish_reason\":\"stop\"}]}\n\n";
    static const char *const types[] = {"text/event-stream; charset=utf-8",
                                        "application/json", "text/plain", ""};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        bed_header("content-type", types[i]);
        assert_true(bed_read_text(whole));
        assert_slice(bed.completion.text, "x");
        assert_true(bed_read_text(stream));
        assert_slice(bed.completion.text, "x");
        bed_end(state);
        set_up(state);
    }
}

static void an_empty_body_is_no_answer(void **state)
{
    (void)state;
    assert_false(bed_read(204, slice_of("")));
    assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
    assert_int_equal(bed.failure.error.http_status, 204);
}

static void an_error_may_be_a_list(void **state)
{
    (void)state;
    assert_false(bed_read(429, slice_of("[{\"error\":{\"code\":429,\"message\":"
                                        "\"later\",\"status\":"
                                        "\"RESOURCE_EXHAUSTED\"}}]")));
    assert_int_equal(bed.failure.error.code, ERR_RATE_LIMITED);
    assert_string_equal(bed.failure.error.message,
                        "the provider said 429: later");
}

static void a_document_of_too_many_values_is_too_large(void **state)
{
    struct buf body;

    (void)state;
    buf_init(&body, 8 << 20);
    buf_append_text(&body, "{\"choices\":[0");
    for (int i = 0; i < 2000000; i++)
        buf_append_text(&body, ",0");
    buf_append_text(&body, "]}");
    assert_false(bed_read(200, buf_slice(&body)));
    assert_int_equal(bed.failure.error.code, ERR_TOO_LARGE);
    buf_release(&body);
}

static void comments_without_end_are_too_large(void **state)
{
    struct reader *reader = bed_reader(200);
    struct slice comments = bed_large(": ", "\n\n");
    int feeds = 0;

    (void)state;
    while (reader_feed(reader, comments) == PROGRESS_NONE)
        assert_true(++feeds < 40);
    assert_false(bed_close(reader, false));
    assert_int_equal(bed.failure.error.code, ERR_TOO_LARGE);
}

/* What is around the text was read as it came. */
static void of_a_stream_only_the_text_is_left_to_the_end(void **state)
{
    static const char chunk[] =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},"
        "\"finish_reason\":null}],\"system_fingerprint\":\"0123456789\"}\n\n";
    struct reader *reader = bed_reader(200);

    (void)state;
    bed_header("content-type", "text/event-stream");
    for (int i = 0; i < 100; i++)
        reader_feed(reader, slice_of(chunk));
    assert_int_equal(reader_size(reader), 100 * strlen("word "));
    bed_close(reader, false);
    reader = bed_reader(200);
    reader_feed(reader, slice_of("{\"choices\":["));
    assert_int_equal(reader_size(reader), strlen("{\"choices\":["));
    bed_close(reader, false);
}

static void the_first_failure_counts(void **state)
{
    struct reader *reader = bed_reader(200);

    (void)state;
    assert_int_equal(reader_feed(reader, slice_of("data: {nonsense\n\n"
                                                  "data: {\"error\":\"x\"}"
                                                  "\n\n")),
                     PROGRESS_FAILED);
    assert_int_equal(reader_feed(reader, slice_of("data: {\"error\":\"x\"}"
                                                  "\n\n")),
                     PROGRESS_FAILED);
    assert_false(bed_close(reader, true));
    assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
}

static void a_model_name_without_end_is_not_believed(void **state)
{
    char name[130];
    struct slice body;

    (void)state;
    memset(name, 'm', sizeof(name));
    name[129] = '\0';
    body = arena_printf(&bed.arena,
                        "{\"model\":\"%s\",\"choices\":[{\"message\":{"
                        "\"content\":\"x\"}}]}",
                        name);
    assert_true(bed_read(200, body));
    assert_int_equal(bed.completion.model.size, 0);
}

/* Chunks that differ in their text alone are read without a tree: what comes of
 * them must be what comes of others. */

#define CHUNK(content, rest)                                           \
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":" content \
    "}" rest "}]}\n\n"
#define WORD(text) CHUNK("\"" text "\"", "")
#define LAST CHUNK("\"\"", ",\"finish_reason\":\"stop\"")

static void chunks_that_are_alike_are_read_like_others(void **state)
{
    static const struct {
        const char *body;
        const char *text; /* NULL: a failure */
    } rows[] = {
        {WORD("a") WORD("b") WORD("") WORD("c") LAST, "abc"},
        {WORD("a") WORD("\\\"b\\n\\u00e4\\ud83d\\ude00") WORD("c") LAST,
         "a\"b\n\u00e4\U0001F600c"},
        {WORD("\\n") WORD("a") WORD("b") LAST, "\nab"},
        {WORD("a") WORD("b\xff") WORD("\\u0000c") LAST, "ab\uFFFDc"},
        {WORD("a") CHUNK("null", "") WORD("b") LAST, "ab"},
        {WORD("a") CHUNK("[{\"text\":\"b\"}]", "") WORD("c") LAST, "abc"},
        {WORD("a") WORD("b\",\"content\":\"c") WORD("d") LAST, "acd"},
        {WORD("a\",\"content\":\"b") WORD("c\",\"content\":\"d") LAST, "bd"},
        {WORD("a") CHUNK("\"b\",\"content\":\"c\"", "") LAST, "ac"},
        {WORD("a") CHUNK("\"b\"", ",\"index\":1") WORD("c") LAST, "ac"},
        {WORD("stop") CHUNK("\"x\"", ",\"finish_reason\":\"stop\""), "stopx"},
        {WORD("a") WORD("b") "data: [DONE]\n\n", NULL},
        {WORD("a") CHUNK("\"b\"", "}],\"error\":[{\"message\":\"no\"") LAST,
         NULL},
        {WORD("a") "event: error\n" WORD("b") LAST, NULL},
        {WORD("a") "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                   "\"b\n\n" LAST,
         NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice body = slice_of(rows[i].body);

        for (size_t step = 1; step <= body.size; step++) {
            bool ok = bed_read_split(200, body, 0, step);

            if (ok != (rows[i].text != NULL))
                fail_msg("row %zu: %s", i, ok ? "read" : "a failure");
            if (ok)
                assert_slice(bed.completion.text, rows[i].text);
        }
    }
}

/* The text is only part of what this event says. */
static void
chunks_that_say_more_than_a_text_are_asked_for_all_of_it(void **state)
{
    static const char chunk[] =
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\",\"tool_calls\":[{"
        "\"index\":0,\"id\":\"i\",\"function\":{\"name\":\"f\","
        "\"arguments\":\"12\"}}]}}]}\n\n";
    struct slice body = arena_printf(&bed.arena,
                                     "%s%s" CHUNK("\"\"", ",\"finish_reason\":"
                                                          "\"tool_calls\""),
                                     chunk, chunk);

    (void)state;
    assert_false(bed_read(200, body)); /* 1212 is no object */
    assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
    assert_string_equal(bed.failure.error.message,
                        "a tool call has no valid name or its arguments are no "
                        "JSON object");
}

static void lines_that_are_cut_are_no_answer(void **state)
{
    struct reader *reader;

    (void)state;
    bed.dialect = "ollama";
    reader = bed_reader(200);
    reader_feed(reader, slice_of("{\"message\":{\"content\":\"a\"}}\n{\"me"));
    assert_slice(reader_text(reader), "a");
    assert_false(bed_close(reader, false));
    assert_string_equal(bed.failure.error.message, "the stream was cut");
    bed_expect_bad("{\"message\":{\"content\":\"a\"}}\n{\"me");
    assert_string_equal(bed.failure.error.message,
                        "a line of the stream is not JSON");
}

/* Errors. */

struct row {
    int status;
    const char *code, *type, *message;
    enum error_code error;
    const char *advice; /* r: retry, n: next, l: larger, b: bench,
                           -: blameless, s: slowly */
};

static struct slice advice_of(const struct provider_failure *failure)
{
    return arena_printf(
        &bed.arena, "%s%s%s%s%s%s", failure->retry.retryable ? "r" : "",
        failure->try_next ? "n" : "", failure->try_larger ? "l" : "",
        failure->bench_key ? "b" : "", failure->blameless ? "-" : "",
        failure->retry.overloaded ? "s" : "");
}

static void expect_class(const struct row *row)
{
    struct buf body;

    buf_init(&body, 1024);
    buf_append_text(&body, "{\"error\":{\"message\":");
    jv_put_string(&body, slice_of(row->message));
    buf_printf(&body, ",\"type\":\"%s\",\"code\":\"%s\"}}",
               row->type ? row->type : "", row->code ? row->code : "");
    assert_false(bed_read(row->status, buf_slice(&body)));
    if (bed.failure.error.code != row->error ||
        !slice_is(advice_of(&bed.failure), row->advice))
        fail_msg("%.*s: %s, %s", SLICE_ARG(buf_slice(&body)),
                 error_atom(bed.failure.error.code),
                 advice_of(&bed.failure).data);
    buf_release(&body);
}

static void words_say_more_than_the_status(void **state)
{
    static const struct row rows[] = {
        {429, "insufficient_quota", 0, "", ERR_QUOTA_EXCEEDED, "nb"},
        {429, 0, "insufficient_quota", "", ERR_QUOTA_EXCEEDED, "nb"},
        {429, "credit_balance_exhausted", 0, "", ERR_QUOTA_EXCEEDED, "nb"},
        {429, "enforced_spend_limit_reached", 0, "", ERR_QUOTA_EXCEEDED, "nb"},
        {429, "billing_hard_limit_reached", 0, "", ERR_QUOTA_EXCEEDED, "nb"},
        {429, "billing_not_active", 0, "", ERR_QUOTA_EXCEEDED, "nb"},
        {402, 0, "billing_error", "", ERR_QUOTA_EXCEEDED, "nb"},
        {400, "invalid_api_key", 0, "", ERR_UNAUTHORIZED, "nb"},
        {403, "account_deactivated", 0, "", ERR_UNAUTHORIZED, "nb"},
        {400, "context_length_exceeded", 0, "", ERR_TOO_LARGE, "l-"},
        {400, 0, "exceed_context_size_error", "", ERR_TOO_LARGE, "l-"},
        {400, "content_filter", 0, "", ERR_CONTENT_FILTERED, "-"},
        {400, "content_policy_violation", 0, "", ERR_CONTENT_FILTERED, "-"},
        {400, "model_not_found", 0, "", ERR_NO_ROUTE, "n-"},
        {429, "slow_down", "rate_limit_error", "", ERR_RATE_LIMITED, "rns"},
        {503, "server_is_overloaded", 0, "", ERR_PROVIDER_ERROR, "rns"},
        {529, 0, "overloaded_error", "", ERR_PROVIDER_ERROR, "rns"},
        {500, 0, "service_unavailable_error", "", ERR_PROVIDER_ERROR, "rns"},
        {500, 0, "UNAVAILABLE", "", ERR_PROVIDER_ERROR, "rns"},
        {400, "tool_use_failed", 0, "", ERR_BAD_RESPONSE, "rn-"},
        {400, "json_validate_failed", 0, "", ERR_BAD_RESPONSE, "rn-"},
        {400, 0, "FAILED_PRECONDITION", "", ERR_PROVIDER_ERROR, "n"},
        {400, 0, "a_new_word", "", ERR_INVALID_REQUEST, "-"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        expect_class(&rows[i]);
}

static void sentences_say_more_than_the_status(void **state)
{
    static const char *const too_long[] = {
        "prompt is too long: 205000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 21333",
        "prompt too long; exceeded max context length by 4 tokens",
        "Input is too long for requested model.",
        "This model's maximum context length is 4096 tokens.",
        "Your input exceeds the context window of this model.",
        "the request exceeds the available context size",
        "This model's maximum prompt length is 131072 but",
        "The input token count (1) exceeds the maximum number of tokens (1).",
    };
    static const struct row rows[] = {
        {400, 0, 0, "Your credit balance is too low to access the API.",
         ERR_QUOTA_EXCEEDED, "nb"},
        {400, 0, 0, "You have reached your specified API usage limits.",
         ERR_QUOTA_EXCEEDED, "nb"},
        {403, 0, 0, "Your team has either used all available credits or",
         ERR_QUOTA_EXCEEDED, "nb"},
        {400, 0, 0, "Insufficient Balance", ERR_QUOTA_EXCEEDED, "nb"},
        {400, 0, 0, "Incorrect API key provided", ERR_UNAUTHORIZED, "nb"},
        {400, 0, 0, "API key not valid.", ERR_UNAUTHORIZED, "nb"},
        {429, "rate_limit_exceeded", "tokens", "Request too large for gpt-5",
         ERR_TOO_LARGE, "n-"},
        {400, 0, 0, "prompt is too lon", ERR_INVALID_REQUEST, "-"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(too_long) / sizeof(too_long[0]); i++)
        expect_class(&(struct row){400, 0, "invalid_request_error", too_long[i],
                                   ERR_TOO_LARGE, "l-"});
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        expect_class(&rows[i]);
}

static void a_status_has_its_advice(void **state)
{
    static const struct row rows[] = {
        {301, 0, 0, "", ERR_PROVIDER_ERROR, "n"},
        {400, 0, 0, "", ERR_INVALID_REQUEST, "-"},
        {401, 0, 0, "", ERR_UNAUTHORIZED, "nb"},
        {402, 0, 0, "", ERR_QUOTA_EXCEEDED, "nb"},
        {403, 0, 0, "", ERR_UNAUTHORIZED, "nb"},
        {404, 0, 0, "", ERR_NO_ROUTE, "n-"},
        {408, 0, 0, "", ERR_TIMEOUT, "rn"},
        {409, 0, 0, "", ERR_PROVIDER_ERROR, "rn"},
        {413, 0, 0, "", ERR_TOO_LARGE, "n-"},
        {418, 0, 0, "", ERR_PROVIDER_ERROR, "n"},
        {422, 0, 0, "", ERR_INVALID_REQUEST, "-"},
        {429, 0, 0, "", ERR_RATE_LIMITED, "rn"},
        {500, 0, 0, "", ERR_PROVIDER_ERROR, "rn"},
        {502, 0, 0, "", ERR_PROVIDER_ERROR, "rn"},
        {503, 0, 0, "", ERR_PROVIDER_ERROR, "rns"},
        {504, 0, 0, "", ERR_PROVIDER_ERROR, "rn"},
        {529, 0, 0, "", ERR_PROVIDER_ERROR, "rns"},
        {777, 0, 0, "", ERR_BAD_RESPONSE, "rn"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        expect_class(&rows[i]);
}

static void an_error_in_a_200_has_the_status_of_its_words(void **state)
{
    static const struct row rows[] = {
        {200, 0, "invalid_request_error", "", ERR_INVALID_REQUEST, "-"},
        {200, 0, "BadRequestError", "", ERR_INVALID_REQUEST, "-"},
        {200, "invalid_prompt", 0, "", ERR_INVALID_REQUEST, "-"},
        {200, 0, "INVALID_ARGUMENT", "", ERR_INVALID_REQUEST, "-"},
        {200, 0, "authentication_error", "", ERR_UNAUTHORIZED, "nb"},
        {200, 0, "UNAUTHENTICATED", "", ERR_UNAUTHORIZED, "nb"},
        {200, 0, "permission_error", "", ERR_UNAUTHORIZED, "nb"},
        {200, 0, "PERMISSION_DENIED", "", ERR_UNAUTHORIZED, "nb"},
        {200, 0, "not_found_error", "", ERR_NO_ROUTE, "n-"},
        {200, 0, "NotFoundError", "", ERR_NO_ROUTE, "n-"},
        {200, 0, "NOT_FOUND", "", ERR_NO_ROUTE, "n-"},
        {200, 0, "timeout", "", ERR_TIMEOUT, "rn"},
        {200, 0, "conflict_error", "", ERR_PROVIDER_ERROR, "rn"},
        {200, 0, "request_too_large", "", ERR_TOO_LARGE, "n-"},
        {200, "rate_limit_exceeded", 0, "", ERR_RATE_LIMITED, "rn"},
        {200, 0, "rate_limit_error", "", ERR_RATE_LIMITED, "rn"},
        {200, 0, "RESOURCE_EXHAUSTED", "", ERR_RATE_LIMITED, "rn"},
        {200, 0, "timeout_error", "", ERR_PROVIDER_ERROR, "rn"},
        {200, "503", 0, "", ERR_PROVIDER_ERROR, "rns"},
        {200, "401", 0, "", ERR_UNAUTHORIZED, "nb"},
        {200, 0, "server_error", "", ERR_PROVIDER_ERROR, "rn"},
        {200, "99", 0, "", ERR_PROVIDER_ERROR, "rn"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        expect_class(&rows[i]);
}

static void a_quota_of_the_day_is_not_one_of_the_minute(void **state)
{
    static const char body[] =
        "{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\","
        "\"message\":\"m\",\"details\":[{\"violations\":[{\"quotaId\":\"a\"},"
        "{\"quotaId\":\"Requests%sPerProject\"}]},"
        "{\"retryDelay\":\"34.5s\"}]}}";

    (void)state;
    assert_false(bed_read(429, arena_printf(&bed.arena, body, "PerMinute")));
    assert_int_equal(bed.failure.error.code, ERR_RATE_LIMITED);
    assert_int_equal(bed.failure.retry.retry_after_ms, 34500);
    assert_int_equal(bed.failure.error.retry_after_ms, 34500);
    assert_false(bed_read(429, arena_printf(&bed.arena, body, "PerDay")));
    assert_int_equal(bed.failure.error.code, ERR_QUOTA_EXCEEDED);
    assert_false(bed.failure.retry.retryable);
    bed_header("retry-after", "2");
    assert_false(bed_read(429, arena_printf(&bed.arena, body, "PerMinute")));
    assert_int_equal(bed.failure.retry.retry_after_ms, 2000);
}

static void a_bad_key_is_not_tried_again_whatever_the_headers_say(void **state)
{
    (void)state;
    bed_header("x-should-retry", "true");
    assert_false(bed_read(401, slice_of("{}")));
    assert_false(bed.failure.retry.should_retry_said);
    assert_false(bed_read(409, slice_of("{}")));
    assert_true(bed.failure.retry.should_retry_said);
    assert_true(bed.failure.retry.should_retry);
}

static void durations_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {
        {"1s", 1000},
        {"6m0s", 360000},
        {"20ms", 20},
        {"1h2m3.5s", 3723500},
        {"2m59.56s", 179560},
        {"7.5", 7500},
        {"1d", 86400000},
        {" 3s ", 3000},
        {"", -1},
        {"s", -1},
        {"1x", -1},
        {"-1s", -1},
        {"1s2", -1},
        {".", -1},
        {"1e9s", -1},
        {"99999999999999999999s", -1},
        {"31d1s", -1},
        {"2026-11-22T18:00:00Z", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bed_end(state);
        set_up(state);
        bed_header("x-ratelimit-remaining-requests", "1");
        bed_header("x-ratelimit-reset-requests", rows[i].text);
        bed_read_text("");
        if (bed.limits.requests_reset_ms != rows[i].ms)
            fail_msg("%s is %lld ms", rows[i].text,
                     (long long)bed.limits.requests_reset_ms);
        assert_int_equal(bed.limits.requests_left, 1);
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, bed_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_body_is_read_as_what_it_is),
        TEST(an_empty_body_is_no_answer),
        TEST(an_error_may_be_a_list),
        TEST(a_document_of_too_many_values_is_too_large),
        TEST(comments_without_end_are_too_large),
        TEST(of_a_stream_only_the_text_is_left_to_the_end),
        TEST(the_first_failure_counts),
        TEST(a_model_name_without_end_is_not_believed),
        TEST(chunks_that_are_alike_are_read_like_others),
        TEST(chunks_that_say_more_than_a_text_are_asked_for_all_of_it),
        TEST(lines_that_are_cut_are_no_answer),
        TEST(words_say_more_than_the_status),
        TEST(sentences_say_more_than_the_status),
        TEST(a_status_has_its_advice),
        TEST(an_error_in_a_200_has_the_status_of_its_words),
        TEST(a_quota_of_the_day_is_not_one_of_the_minute),
        TEST(a_bad_key_is_not_tried_again_whatever_the_headers_say),
        TEST(durations_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
