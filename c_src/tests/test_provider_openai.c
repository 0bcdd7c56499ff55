/* The OpenAI dialect against answers as the servers send them
 * (data/openai/). Run from the project's root. */
#include "llm_router/provider/provider.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "llm_router/json/value.h"
#include "unit.h"

static const char KEY[] = "top/secret+key";

static struct arena arena;
static const char *header_names[4], *header_values[4];
static struct completion completion;
static struct provider_failure failure;

static const struct dialect *openai(void)
{
    return dialect_find(slice_of("openai"));
}

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    memset(header_names, 0, sizeof(header_names));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

static struct slice find(void *context, const char *name)
{
    (void)context;
    for (size_t i = 0; i < 4 && header_names[i]; i++)
        if (!strcmp(header_names[i], name))
            return slice_of(header_values[i]);
    return slice_of(NULL);
}

static void header(const char *name, const char *value)
{
    size_t i = 0;

    while (header_names[i])
        i++;
    header_names[i] = name;
    header_values[i] = value;
}

static struct reader *reader_of(int status)
{
    const struct provider_headers headers = {find, NULL};

    return openai()->reader_new(&arena, status, &headers, slice_of(KEY),
                                1700000000);
}

static bool read_whole(int status, struct slice body)
{
    struct reader *reader = reader_of(status);
    bool ok;

    openai()->feed(reader, body);
    ok = openai()->end(reader, true, &completion, &failure);
    openai()->reader_free(reader);
    return ok;
}

static bool read_text(int status, const char *body)
{
    return read_whole(status, slice_of(body));
}

static struct slice load(const char *name)
{
    char path[200];
    struct buf content;
    FILE *file;
    int byte;
    struct slice copy;

    snprintf(path, sizeof(path), "c_src/tests/data/openai/%s", name);
    file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be read: run from the project's root", path);
    buf_init(&content, 1 << 20);
    while ((byte = getc(file)) != EOF)
        buf_append_byte(&content, (char)byte);
    fclose(file);
    copy = arena_copy(&arena, buf_slice(&content));
    buf_release(&content);
    return copy;
}

/* Feeds in pieces of `step` bytes, the first of `first`. */
static bool read_split(struct slice body, size_t first, size_t step)
{
    struct reader *reader = reader_of(200);
    size_t at = 0;
    bool ok;

    while (at < body.size) {
        size_t size = at == 0 && first > 0 ? first : step;

        if (size > body.size - at)
            size = body.size - at;
        openai()->feed(reader, slice_make(body.data + at, size));
        at += size;
    }
    ok = openai()->end(reader, true, &completion, &failure);
    openai()->reader_free(reader);
    return ok;
}

static void expect_each_split(const char *name, const char *text,
                              enum finish_reason finish, int64_t output_tokens)
{
    struct slice body = load(name);

    for (size_t first = 1; first <= body.size; first++) {
        struct arena_mark mark = arena_mark(&arena);

        assert_true(first == body.size ? read_split(body, 0, 1)
                                       : read_split(body, first, body.size));
        assert_slice(completion.text, text);
        assert_int_equal(completion.finish, finish);
        assert_int_equal(completion.usage.output_tokens, output_tokens);
        arena_rewind(&arena, mark);
    }
}

static void a_stream_reads_the_same_however_it_is_split(void **state)
{
    (void)state;
    expect_each_split("stream.sse",
                      "{\"title\":\"Gr\xC3\xBC\xC3\x9F"
                      "e aus Z\xC3\xBCrich \xE2\x98\x95 "
                      "\xF0\x9F\x98\x80\",\"priority\":\"high\"}",
                      FINISH_STOP, 41);
    expect_each_split("openrouter.sse", "Hello", FINISH_LENGTH, 41);
    expect_each_split("llamacpp.sse", "42\n", FINISH_STOP, 9);
    expect_each_split("whole.json", "Hello there", FINISH_STOP, 41);
}

static void usage_and_model_are_read(void **state)
{
    (void)state;
    assert_true(read_whole(200, load("stream.sse")));
    assert_slice(completion.model, "gpt-5-mini-2025-08-07");
    assert_int_equal(completion.usage.input_tokens, 312);
    assert_int_equal(completion.usage.output_tokens, 41);
    assert_int_equal(completion.usage.total_tokens, 353);
    assert_int_equal(completion.usage.cached_tokens, 128);
    assert_int_equal(completion.usage.cache_write_tokens, -1);
    assert_int_equal(completion.usage.reasoning_tokens, 16);
}

static void a_refusal_is_a_completion_that_says_so(void **state)
{
    (void)state;
    assert_true(read_whole(200, load("refusal.sse")));
    assert_slice(completion.refusal, "I'm sorry, I can't help with that.");
    assert_int_equal(completion.finish, FINISH_REFUSAL);
    assert_int_equal(completion.text.size, 0);
}

static void finish_reasons_are_mapped_and_new_ones_mean_stop(void **state)
{
    static const struct {
        const char *name;
        enum finish_reason finish;
    } rows[] = {
        {"stop", FINISH_STOP},
        {"length", FINISH_LENGTH},
        {"tool_calls", FINISH_TOOL_CALLS},
        {"function_call", FINISH_TOOL_CALLS},
        {"content_filter", FINISH_CONTENT_FILTER},
        {"eos", FINISH_STOP},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice body =
            arena_printf(&arena,
                         "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},"
                         "\"finish_reason\":\"%s\"}]}\n\n",
                         rows[i].name);

        assert_true(read_whole(200, body));
        assert_int_equal(completion.finish, rows[i].finish);
    }
}

static void an_interrupted_answer_is_a_failure(void **state)
{
    (void)state;
    assert_false(read_text(200, "data: {\"choices\":[{\"delta\":{\"content\":"
                                "\"x\"},\"finish_reason\":\"error\"}]}\n\n"));
    assert_int_equal(failure.error.code, ERR_BAD_RESPONSE);
}

static void only_the_first_choice_is_read(void **state)
{
    (void)state;
    assert_true(read_text(
        200, "{\"choices\":[{\"index\":1,\"message\":{\"content\":\"no\"}},"
             "{\"index\":0,\"message\":{\"content\":\"yes\"},"
             "\"finish_reason\":\"stop\"}]}"));
    assert_slice(completion.text, "yes");
}

static void content_may_be_a_list_of_parts(void **state)
{
    (void)state;
    assert_true(read_text(
        200, "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\","
             "\"text\":\"a\"},{\"type\":\"image\"},{\"text\":\"b\"}]}}]}"));
    assert_slice(completion.text, "ab");
}

static void text_is_cleaned(void **state)
{
    (void)state;
    assert_true(read_text(200, "\xEF\xBB\xBF{\"choices\":[{\"message\":{"
                               "\"content\":\"a\\u0000b\\ud800c\xFF"
                               "d\"}}]}"));
    assert_slice(completion.text, "ab\xEF\xBF\xBD"
                                  "c\xEF\xBF\xBD"
                                  "d");
}

static void broken_usage_is_unknown(void **state)
{
    (void)state;
    assert_true(read_text(
        200, "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{"
             "\"prompt_tokens\":-5,\"completion_tokens\":\"7\","
             "\"total_tokens\":1e300,\"prompt_tokens_details\":{"
             "\"cached_tokens\":3},\"completion_tokens_details\":[]}}"));
    assert_int_equal(completion.usage.input_tokens, -1);
    assert_int_equal(completion.usage.output_tokens, -1);
    assert_int_equal(completion.usage.total_tokens, -1);
    assert_int_equal(completion.usage.cached_tokens, -1);
    assert_int_equal(completion.usage.reasoning_tokens, -1);
    assert_true(read_text(
        200, "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{"
             "\"prompt_tokens\":5,\"prompt_tokens_details\":{"
             "\"cached_tokens\":6}}}"));
    assert_int_equal(completion.usage.input_tokens, 5);
    assert_int_equal(completion.usage.cached_tokens, -1);
}

static void the_last_usage_counts(void **state)
{
    (void)state;
    assert_true(read_text(
        200, "data: {\"usage\":{\"prompt_tokens\":1},\"choices\":[{\"delta\":{"
             "\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n"
             "data: {\"usage\":{\"prompt_tokens\":2},\"choices\":[]}\n\n"
             "data: {\"usage\":null,\"choices\":[]}\n\ndata: [DONE]\n\n"));
    assert_int_equal(completion.usage.input_tokens, 2);
}

static void expect_bad(const char *body, const char *message)
{
    assert_false(read_text(200, body));
    assert_int_equal(failure.error.code, ERR_BAD_RESPONSE);
    assert_string_equal(failure.error.message, message);
    assert_int_equal(failure.error.http_status, 200);
    assert_true(failure.retry.retryable);
    assert_true(failure.try_next);
    assert_false(failure.bench_key);
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
    struct slice body = load("stream.sse");
    struct slice finish = SLICE_LITERAL("\"finish_reason\":\"stop\"");
    size_t end = (size_t)slice_find(body, finish);

    (void)state;
    for (size_t size = 1; size < end; size += 7) {
        struct reader *reader = reader_of(200);

        openai()->feed(reader, slice_make(body.data, size));
        assert_false(openai()->end(reader, false, &completion, &failure));
        assert_int_equal(failure.error.code, ERR_BAD_RESPONSE);
        openai()->reader_free(reader);
    }
}

static void an_answer_is_whole_once_its_finish_reason_came(void **state)
{
    struct slice body = load("stream.sse");
    size_t end = (size_t)slice_find(body, SLICE_LITERAL("\"choices\":[],"));
    struct reader *reader = reader_of(200);

    (void)state;
    openai()->feed(reader, slice_make(body.data, end));
    assert_true(openai()->end(reader, false, &completion, &failure));
    assert_int_equal(completion.usage.input_tokens, -1);
    openai()->reader_free(reader);
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
    struct reader *reader = reader_of(200);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(openai()->feed(reader, slice_of(rows[i].bytes)),
                         rows[i].progress);
    openai()->reader_free(reader);
}

static void an_error_inside_a_stream_fails_at_once(void **state)
{
    struct reader *reader = reader_of(200);

    (void)state;
    assert_int_equal(openai()->feed(reader, load("error_inside.sse")),
                     PROGRESS_FAILED);
    assert_int_equal(openai()->feed(reader, slice_of("data: [DONE]\n\n")),
                     PROGRESS_FAILED);
    assert_false(openai()->end(reader, false, &completion, &failure));
    assert_int_equal(failure.error.code, ERR_PROVIDER_ERROR);
    assert_true(failure.retry.retryable);
    openai()->reader_free(reader);
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
        {"{\"object\":\"error\",\"message\":\"m\",\"code\":404}", ERR_NO_ROUTE},
        {"event: error\ndata: {\"message\":\"m\",\"code\":\"insufficient_quota"
         "\"}\n\n",
         ERR_QUOTA_EXCEEDED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(read_text(200, rows[i].body));
        assert_int_equal(failure.error.code, rows[i].code);
    }
}

static void a_status_has_its_class(void **state)
{
    static const struct {
        int status;
        enum error_code code;
        bool retryable, try_next, bench_key;
    } rows[] = {
        {301, ERR_PROVIDER_ERROR, false, true, false},
        {400, ERR_PROVIDER_ERROR, false, false, false},
        {401, ERR_UNAUTHORIZED, false, true, true},
        {402, ERR_QUOTA_EXCEEDED, false, true, true},
        {403, ERR_UNAUTHORIZED, false, true, true},
        {404, ERR_NO_ROUTE, false, true, false},
        {408, ERR_TIMEOUT, true, true, false},
        {409, ERR_PROVIDER_ERROR, true, true, false},
        {413, ERR_TOO_LARGE, false, true, false},
        {418, ERR_PROVIDER_ERROR, false, true, false},
        {422, ERR_PROVIDER_ERROR, false, false, false},
        {429, ERR_RATE_LIMITED, true, true, false},
        {500, ERR_PROVIDER_ERROR, true, true, false},
        {502, ERR_PROVIDER_ERROR, true, true, false},
        {503, ERR_PROVIDER_ERROR, true, true, false},
        {504, ERR_PROVIDER_ERROR, true, true, false},
        {529, ERR_PROVIDER_ERROR, true, true, false},
        {777, ERR_BAD_RESPONSE, true, true, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(read_text(rows[i].status, "<h1>error</h1>"));
        assert_int_equal(failure.error.code, rows[i].code);
        assert_int_equal(failure.error.http_status, rows[i].status);
        assert_int_equal(failure.retry.retryable, rows[i].retryable);
        assert_int_equal(failure.try_next, rows[i].try_next);
        assert_int_equal(failure.bench_key, rows[i].bench_key);
    }
}

static void a_code_says_more_than_the_status(void **state)
{
    static const struct {
        int status;
        const char *file;
        enum error_code code;
    } rows[] = {
        {429, "error_quota.json", ERR_QUOTA_EXCEEDED},
        {400, "error_context.json", ERR_TOO_LARGE},
        {400, "error_llamacpp.json", ERR_TOO_LARGE},
        {404, "error_vllm.json", ERR_NO_ROUTE},
        {401, "error_key.json", ERR_UNAUTHORIZED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(read_whole(rows[i].status, load(rows[i].file)));
        assert_int_equal(failure.error.code, rows[i].code);
        assert_false(failure.retry.retryable);
    }
}

static void the_headers_advise(void **state)
{
    (void)state;
    header("retry-after", "7");
    header("x-should-retry", "false");
    assert_false(read_text(503, "{}"));
    assert_int_equal(failure.retry.retry_after_ms, 7000);
    assert_int_equal(failure.error.retry_after_ms, 7000);
    assert_true(failure.retry.should_retry_said);
    assert_false(failure.retry.should_retry);
    header("retry-after-ms", "250");
    assert_false(read_text(429, "{}"));
    assert_int_equal(failure.retry.retry_after_ms, 250);
}

static void no_credit_is_final_whatever_the_headers_say(void **state)
{
    (void)state;
    header("x-should-retry", "true");
    assert_false(read_whole(429, load("error_quota.json")));
    assert_false(failure.retry.retryable);
    assert_false(failure.retry.should_retry_said);
    assert_true(failure.bench_key);
}

static void expect_message(const char *said, const char *message)
{
    struct buf body;

    buf_init(&body, 1 << 20);
    buf_append_text(&body, "{\"error\":{\"message\":");
    jv_put_string(&body, slice_of(said));
    buf_append_text(&body, "}}");
    assert_false(read_whole(401, buf_slice(&body)));
    assert_string_equal(failure.error.message, message);
    buf_release(&body);
}

static void messages_hold_no_key(void **state)
{
    (void)state;
    assert_false(read_whole(401, load("error_key.json")));
    assert_null(strstr(failure.error.message, "wxyz"));
    assert_null(strstr(failure.error.message, "sk-"));
    expect_message("bad key top/secret+key!",
                   "the provider said 401: bad key [key]!");
    expect_message("key=sk-ant-api03_AbC.dEf, xtop/secret+key",
                   "the provider said 401: key=[key], x[key]");
    expect_message("gave abcd****wxyz", "the provider said 401: gave [key]");
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
        read_whole(500, arena_printf(&arena, "{\"error\":\"%s\"}", said)));
    assert_in_range(strlen(failure.error.message), ERROR_MESSAGE_MAX - 4,
                    ERROR_MESSAGE_MAX - 1);
}

static void an_endless_error_body_is_not_read_to_its_end(void **state)
{
    struct reader *reader = reader_of(500);
    static char block[16 * 1024];
    int feeds = 0;

    (void)state;
    memset(block, 'x', sizeof(block));
    while (openai()->feed(reader, slice_make(block, sizeof(block))) !=
           PROGRESS_END)
        assert_true(++feeds < 10);
    assert_false(openai()->end(reader, false, &completion, &failure));
    assert_int_equal(failure.error.code, ERR_PROVIDER_ERROR);
    openai()->reader_free(reader);
}

static void an_endless_answer_is_too_large(void **state)
{
    struct reader *reader = reader_of(200);
    struct buf event;
    int feeds = 0;

    (void)state;
    buf_init(&event, 2 << 20);
    buf_append_text(&event, "data: {\"choices\":[{\"delta\":{\"content\":\"");
    for (int i = 0; i < 1 << 20; i++)
        buf_append_byte(&event, 'x');
    buf_append_text(&event, "\"}}]}\n\n");
    while (openai()->feed(reader, buf_slice(&event)) == PROGRESS_USEFUL)
        assert_true(++feeds < 40);
    assert_false(openai()->end(reader, false, &completion, &failure));
    assert_int_equal(failure.error.code, ERR_TOO_LARGE);
    assert_false(failure.retry.retryable);
    openai()->reader_free(reader);
    buf_release(&event);
}

/* Requests. */

static struct endpoint endpoint;
static struct candidate candidate;
static struct message messages[2];
static struct chat chat;
static struct provider_request request;
static struct error err;

static bool build(void)
{
    return openai()->build(&endpoint, &candidate, &chat, &arena, &request,
                           &err);
}

static int set_up_request(void **state)
{
    endpoint = (struct endpoint){
        .base_url = slice_of("https://api.openai.com/v1"),
        .api_key = slice_of(KEY),
    };
    candidate = (struct candidate){.model = slice_of("gpt-5-mini")};
    messages[0] = (struct message){ROLE_SYSTEM, slice_of("Be \"brief\"")};
    messages[1] = (struct message){ROLE_USER, slice_of("Hi\n\xC3\xBC")};
    chat = (struct chat){
        .messages = messages,
        .message_count = 2,
        .temperature = (double)NAN,
    };
    return set_up(state);
}

static void a_plain_request_has_model_messages_and_stream(void **state)
{
    (void)state;
    assert_true(build());
    assert_string_equal(request.url,
                        "https://api.openai.com/v1/chat/completions");
    assert_slice(
        request.body,
        "{\"model\":\"gpt-5-mini\",\"messages\":["
        "{\"role\":\"system\",\"content\":\"Be \\\"brief\\\"\"},"
        "{\"role\":\"user\",\"content\":\"Hi\\n\xC3\xBC\"}],"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    assert_int_equal(request.header_count, 3);
    assert_string_equal(request.headers[0], "Content-Type: application/json");
    assert_string_equal(request.headers[2],
                        "Authorization: Bearer top/secret+key");
}

static bool body_has(const char *text)
{
    return slice_find(request.body, slice_of(text)) >= 0;
}

static void the_token_limit_has_the_name_that_the_server_knows(void **state)
{
    (void)state;
    chat.max_tokens = 500;
    assert_true(build());
    assert_true(body_has(",\"max_completion_tokens\":500,"));
    endpoint.base_url = slice_of("http://localhost:8000/v1/");
    assert_true(build());
    assert_true(body_has(",\"max_tokens\":500,"));
    assert_string_equal(request.url,
                        "http://localhost:8000/v1/chat/completions");
    endpoint.base_url = slice_of("https://api.openai.com.example/v1");
    assert_true(build());
    assert_true(body_has(",\"max_tokens\":500,"));
}

static void temperature_is_sent_where_the_model_takes_it(void **state)
{
    struct model entry = {.sampling = false};

    (void)state;
    chat.temperature = 0.3;
    assert_true(build());
    assert_true(body_has(",\"temperature\":0.3,"));
    candidate.entry = &entry;
    assert_true(build());
    assert_false(body_has("temperature"));
    entry.sampling = true;
    assert_true(build());
    assert_true(body_has(",\"temperature\":0.3,"));
}

static void the_schema_is_sent_where_the_model_takes_it(void **state)
{
    struct model entry = {.json_schema = true};

    (void)state;
    chat.schema = slice_of("{\"type\":\"object\"}");
    chat.schema_name = slice_of("task");
    chat.schema_strict = true;
    candidate.entry = &entry;
    assert_true(build());
    assert_true(body_has(",\"response_format\":{\"type\":\"json_schema\","
                         "\"json_schema\":{\"name\":\"task\",\"schema\":"
                         "{\"type\":\"object\"},\"strict\":true}},"));
    chat.schema_strict = false;
    assert_true(build());
    assert_true(body_has("\"strict\":false"));
    entry.json_schema = false;
    assert_true(build());
    assert_false(body_has("response_format"));
}

static void the_body_is_json(void **state)
{
    struct jv *root;

    (void)state;
    chat.schema = slice_of("{\"type\":\"object\"}");
    chat.schema_name = slice_of("x");
    chat.temperature = 1;
    chat.max_tokens = 1;
    assert_true(build());
    assert_true(jv_parse(&arena, request.body, JV_STRICT, &JV_DEFAULT_LIMITS,
                         NULL, &root, &err));
    assert_int_equal(jv_count(root), 7);
}

static void organization_and_project_are_headers_when_set(void **state)
{
    (void)state;
    endpoint.api_key = slice_of("");
    endpoint.organization = slice_of("org-1");
    endpoint.project = slice_of("proj_2");
    assert_true(build());
    assert_int_equal(request.header_count, 4);
    assert_string_equal(request.headers[2], "OpenAI-Organization: org-1");
    assert_string_equal(request.headers[3], "OpenAI-Project: proj_2");
}

static void no_header_can_be_smuggled_in(void **state)
{
    static const struct slice bad[] = {
        {"a\r\nX-Evil: 1", 12},
        {"a\nb", 3},
        {"a\0b", 3},
        {"a\rb", 3},
    };
    struct slice *const fields[] = {&endpoint.api_key, &endpoint.organization,
                                    &endpoint.project, &endpoint.base_url};

    (void)state;
    for (size_t field = 0; field < 4; field++) {
        struct slice good = *fields[field];

        for (size_t i = 0; i < 4; i++) {
            *fields[field] = bad[i];
            assert_false(build());
            assert_int_equal(err.code, ERR_INVALID_REQUEST);
            assert_null(strstr(err.message, "Evil"));
        }
        *fields[field] = good;
    }
    assert_true(build());
}

static void an_unknown_dialect_is_none(void **state)
{
    (void)state;
    assert_null(dialect_find(slice_of("openia")));
}

#define ANSWER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define REQUEST(test) \
    cmocka_unit_test_setup_teardown(test, set_up_request, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ANSWER(a_stream_reads_the_same_however_it_is_split),
        ANSWER(usage_and_model_are_read),
        ANSWER(a_refusal_is_a_completion_that_says_so),
        ANSWER(finish_reasons_are_mapped_and_new_ones_mean_stop),
        ANSWER(an_interrupted_answer_is_a_failure),
        ANSWER(only_the_first_choice_is_read),
        ANSWER(content_may_be_a_list_of_parts),
        ANSWER(text_is_cleaned),
        ANSWER(broken_usage_is_unknown),
        ANSWER(the_last_usage_counts),
        ANSWER(what_is_not_an_answer_is_a_bad_response),
        ANSWER(a_stream_without_its_end_is_cut),
        ANSWER(an_answer_is_whole_once_its_finish_reason_came),
        ANSWER(progress_is_told_from_idling),
        ANSWER(an_error_inside_a_stream_fails_at_once),
        ANSWER(errors_inside_a_200_have_the_class_of_their_own),
        ANSWER(a_status_has_its_class),
        ANSWER(a_code_says_more_than_the_status),
        ANSWER(the_headers_advise),
        ANSWER(no_credit_is_final_whatever_the_headers_say),
        ANSWER(messages_hold_no_key),
        ANSWER(long_messages_are_cut_at_a_character),
        ANSWER(an_endless_error_body_is_not_read_to_its_end),
        ANSWER(an_endless_answer_is_too_large),
        REQUEST(a_plain_request_has_model_messages_and_stream),
        REQUEST(the_token_limit_has_the_name_that_the_server_knows),
        REQUEST(temperature_is_sent_where_the_model_takes_it),
        REQUEST(the_schema_is_sent_where_the_model_takes_it),
        REQUEST(the_body_is_json),
        REQUEST(organization_and_project_are_headers_when_set),
        REQUEST(no_header_can_be_smuggled_in),
        REQUEST(an_unknown_dialect_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
