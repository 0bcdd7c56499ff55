/* What the tests of a dialect share: recorded answers of
 * c_src/tests/data/<dialect>/ put through its reader, and requests built by it.
 * Run from the project's root. A test file says which dialect it is about in
 * its set_up: bed_begin("anthropic"). */
#ifndef LLM_ROUTER_TESTS_TEST_PROVIDER_BED_H
#define LLM_ROUTER_TESTS_TEST_PROVIDER_BED_H

#include <math.h>
#include <stdio.h>

#include "llm_router/json/value.h"
#include "llm_router/provider/provider.h"
#include "unit.h"

enum { BED_HEADERS = 8, BED_NOW_S = 1700000000 };

static const char BED_KEY[] = "top/secret+key";

static struct {
    const char *dialect;
    struct arena arena;
    const char *names[BED_HEADERS], *values[BED_HEADERS]; /* headers */
    struct endpoint endpoint;
    struct candidate candidate;
    struct model entry; /* of the candidate, when a test sets it */
    struct message messages[4];
    struct chat chat;
    struct provider_request request;
    struct slice body; /* of it */
    struct completion completion;
    struct provider_failure failure;
    struct rate_limits limits;
    struct error err;
} bed;

static inline void bed_begin(const char *dialect)
{
    memset(&bed, 0, sizeof(bed));
    bed.dialect = dialect;
    arena_init(&bed.arena, 0);
    bed.endpoint.base_url = slice_of("https://models.example");
    bed.endpoint.api_key = slice_of(BED_KEY);
    bed.candidate.provider = slice_of(dialect);
    bed.candidate.model = slice_of("model-1");
    bed.entry = (struct model){
        .prices = PRICES_UNKNOWN,
        .context_tokens = -1,
        .max_output_tokens = -1,
        .capabilities = CAPABILITY_TOOLS | CAPABILITY_SCHEMA,
        .sampling = true,
    };
    bed.messages[0] = (struct message){.role = ROLE_SYSTEM,
                                       .content = slice_of("Be \"brief\"")};
    bed.messages[1] = (struct message){.role = ROLE_USER,
                                       .content = slice_of("Hi\n\xC3\xBC")};
    bed.chat = (struct chat){
        .messages = bed.messages,
        .message_count = 2,
        .temperature = (double)NAN,
        .top_p = (double)NAN,
    };
}

static inline int bed_end(void **state)
{
    (void)state;
    arena_release(&bed.arena);
    return 0;
}

static inline const struct dialect *bed_dialect(void)
{
    const struct dialect *dialect = dialect_find(slice_of(bed.dialect));

    assert_non_null(dialect);
    return dialect;
}

/* Headers of the answer. */

static inline struct slice bed_find_header(void *context, const char *name)
{
    (void)context;
    for (size_t i = 0; i < BED_HEADERS && bed.names[i]; i++)
        if (!strcmp(bed.names[i], name))
            return slice_of(bed.values[i]);
    return slice_of(NULL);
}

static inline void bed_header(const char *name, const char *value)
{
    size_t i = 0;

    while (bed.names[i])
        i++;
    bed.names[i] = name;
    bed.values[i] = value;
}

/* Answers. */

static inline struct slice bed_load(const char *name)
{
    char path[200];
    struct buf content;
    struct slice copy;
    FILE *file;
    int byte;

    snprintf(path, sizeof(path), "c_src/tests/data/%s/%s", bed.dialect, name);
    file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be read: run from the project's root", path);
    buf_init(&content, 1 << 20);
    while ((byte = getc(file)) != EOF)
        buf_append_byte(&content, (char)byte);
    fclose(file);
    copy = arena_copy(&bed.arena, buf_slice(&content));
    buf_release(&content);
    return copy;
}

static inline struct reader *bed_reader(int status)
{
    const struct provider_headers headers = {bed_find_header, NULL};
    const struct answer_head head = {
        .status = status,
        .headers = &headers,
        .api_key = slice_of(BED_KEY),
        .now_s = BED_NOW_S,
        .chat = &bed.chat,
        .candidate = &bed.candidate,
    };

    return reader_new(bed_dialect(), &bed.arena, &head);
}

static inline bool bed_close(struct reader *reader, bool whole)
{
    bool ok = reader_end(reader, whole, &bed.completion, &bed.failure);

    bed.limits = *reader_limits(reader);
    reader_free(reader);
    return ok;
}

/* Fed in pieces of `step` bytes, the first of `first`. */
static inline bool bed_read_split(int status, struct slice body, size_t first,
                                  size_t step)
{
    struct reader *reader = bed_reader(status);
    size_t at = 0;

    while (at < body.size) {
        size_t size = at == 0 && first > 0 ? first : step;

        if (size > body.size - at)
            size = body.size - at;
        reader_feed(reader, slice_make(body.data + at, size));
        at += size;
    }
    return bed_close(reader, true);
}

static inline bool bed_read(int status, struct slice body)
{
    return bed_read_split(status, body, 0, body.size > 0 ? body.size : 1);
}

static inline bool bed_read_text(const char *body)
{
    return bed_read(200, slice_of(body));
}

static inline bool bed_read_file(const char *name)
{
    return bed_read(200, bed_load(name));
}

static inline void bed_expect_each_split(const char *name, const char *text,
                                         enum finish_reason finish,
                                         int64_t output_tokens)
{
    struct slice body = bed_load(name);

    for (size_t first = 1; first <= body.size; first++) {
        struct arena_mark mark = arena_mark(&bed.arena);

        if (!(first == body.size ? bed_read_split(200, body, 0, 1)
                                 : bed_read_split(200, body, first, body.size)))
            fail_msg("%s cut at %zu: %s", name, first,
                     bed.failure.error.message);
        assert_slice(bed.completion.text, text);
        assert_int_equal(bed.completion.finish, finish);
        assert_int_equal(bed.completion.usage.output_tokens, output_tokens);
        arena_rewind(&bed.arena, mark);
    }
}

/* Whatever comes of a body, the same comes of its pieces. */
static inline void bed_expect_same_when_split(const char *const *files,
                                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct slice body = bed_load(files[i]);
        bool ok = bed_read(200, body);
        struct completion whole = bed.completion;
        struct provider_failure failure = bed.failure;

        for (size_t first = 1; first < body.size; first++) {
            struct arena_mark mark = arena_mark(&bed.arena);

            if (bed_read_split(200, body, first, body.size) != ok)
                fail_msg("%s cut at %zu", files[i], first);
            if (ok) {
                assert_true(slice_equal(bed.completion.text, whole.text));
                assert_true(slice_equal(bed.completion.refusal, whole.refusal));
                assert_int_equal(bed.completion.finish, whole.finish);
                assert_int_equal(bed.completion.tool_call_count,
                                 whole.tool_call_count);
                assert_memory_equal(&bed.completion.usage, &whole.usage,
                                    sizeof(whole.usage));
            } else {
                assert_int_equal(bed.failure.error.code, failure.error.code);
                assert_string_equal(bed.failure.error.message,
                                    failure.error.message);
            }
            arena_rewind(&bed.arena, mark);
        }
    }
}

static inline void bed_expect_call(size_t index, const char *id,
                                   const char *name, const char *arguments)
{
    const struct tool_call *call = &bed.completion.tool_calls[index];

    assert_true(index < bed.completion.tool_call_count);
    assert_slice(call->id, id);
    assert_slice(call->name, name);
    assert_slice(call->arguments, arguments);
}

/* A 200 that is no answer: another attempt or candidate may do better. */
static inline void bed_expect_bad(const char *body)
{
    if (bed_read_text(body))
        fail_msg("taken for an answer: %s", body);
    if (bed.failure.error.code != ERR_BAD_RESPONSE)
        fail_msg("not a bad response but %s: %s",
                 error_atom(bed.failure.error.code), body);
    assert_true(bed.failure.error.message[0] != '\0');
    assert_int_equal(bed.failure.error.http_status, 200);
    assert_true(bed.failure.retry.retryable);
    assert_true(bed.failure.try_next);
    assert_false(bed.failure.bench_key);
    assert_false(bed.failure.blameless);
}

/* Cut anywhere in front of `end`, the first text of its terminal event, the
 * stream is no answer. */
static inline void bed_expect_cut(const char *name, const char *end)
{
    struct slice body = bed_load(name);
    ptrdiff_t size = slice_find(body, slice_of(end));

    assert_true(size > 0);
    for (size_t cut = 1; cut < (size_t)size; cut += 3) {
        struct reader *reader = bed_reader(200);

        reader_feed(reader, slice_make(body.data, cut));
        if (bed_close(reader, cut % 2 == 0))
            fail_msg("%s cut at %zu is taken for whole", name, cut);
        assert_int_equal(bed.failure.error.code, ERR_BAD_RESPONSE);
    }
}

/* What must come of an error body of that status. */
struct bed_error {
    int status;
    const char *file;
    enum error_code code;
    bool retryable, try_next, try_larger, bench_key, blameless;
};

static inline void bed_expect_error(const struct bed_error *row)
{
    const struct provider_failure *failure = &bed.failure;

    assert_false(bed_read(row->status, bed_load(row->file)));
    if (failure->error.code != row->code ||
        failure->retry.retryable != row->retryable ||
        failure->try_next != row->try_next ||
        failure->try_larger != row->try_larger ||
        failure->bench_key != row->bench_key ||
        failure->blameless != row->blameless)
        fail_msg("%s (%d): %s, retryable %d, next %d, larger %d, bench %d, "
                 "blameless %d: %s",
                 row->file, row->status, error_atom(failure->error.code),
                 failure->retry.retryable, failure->try_next,
                 failure->try_larger, failure->bench_key, failure->blameless,
                 failure->error.message);
    assert_int_equal(failure->error.http_status, row->status);
    assert_null(strstr(failure->error.message, BED_KEY));
}

/* Streams of `event` without end are cut at the maximum. */
static inline void bed_expect_endless(struct slice event)
{
    struct reader *reader = bed_reader(200);
    size_t fed = 0;

    while (reader_feed(reader, event) == PROGRESS_USEFUL) {
        fed += event.size;
        assert_true(fed < (size_t)PROVIDER_ANSWER_MAX + 4 * event.size);
    }
    assert_false(bed_close(reader, false));
    assert_int_equal(bed.failure.error.code, ERR_TOO_LARGE);
    assert_false(bed.failure.retry.retryable);
}

/* `before`, a million times x, `after`. */
static inline struct slice bed_large(const char *before, const char *after)
{
    struct slice text;
    struct buf buf;

    buf_init(&buf, 2 << 20);
    buf_append_text(&buf, before);
    buf_reserve(&buf, 1 << 20);
    memset(buf.data + buf.size, 'x', 1 << 20);
    buf.size += 1 << 20;
    buf_append_text(&buf, after);
    text = arena_copy(&bed.arena, buf_slice(&buf));
    buf_release(&buf);
    return text;
}

/* Requests. */

static inline bool bed_build(void)
{
    struct buf body;
    bool written;

    if (!dialect_build(bed_dialect(), &bed.endpoint, &bed.candidate, &bed.chat,
                       &bed.arena, &bed.request, &bed.err))
        return false;
    written = dialect_put_body(bed_dialect(), &bed.endpoint, &bed.candidate,
                               &bed.chat, &body, &bed.err);
    bed.body = arena_keep(&bed.arena, &body);
    return written;
}

/* The body is JSON, and has `text` in it. */
static inline void bed_expect_in_body(const char *text)
{
    struct jv *root;

    if (!bed_build())
        fail_msg("not built: %s", bed.err.message);
    if (!jv_parse(&bed.arena, bed.body, JV_STRICT, &JV_DEFAULT_LIMITS, NULL,
                  &root, &bed.err))
        fail_msg("%s: %.*s", bed.err.message, SLICE_ARG(bed.body));
    if (slice_find(bed.body, slice_of(text)) < 0)
        fail_msg("no %s in %.*s", text, SLICE_ARG(bed.body));
}

static inline void bed_expect_not_in_body(const char *text)
{
    bed_expect_in_body("");
    if (slice_find(bed.body, slice_of(text)) >= 0)
        fail_msg("%s in %.*s", text, SLICE_ARG(bed.body));
}

static inline bool bed_has_header(const char *line)
{
    for (size_t i = 0; i < bed.request.header_count; i++)
        if (!strcmp(bed.request.headers[i], line))
            return true;
    return false;
}

/* A conversation in which tools were called. */
static inline void bed_use_tools(void)
{
    static const struct tool_call calls[] = {
        {{"call_1", 6}, {"get_weather", 11}, {"{\"city\":\"Bern\"}", 15}},
        {{"c:2", 3}, {"get_time", 8}, {"{}", 2}},
    };
    static const struct tool tools[] = {
        {.name = {"get_weather", 11},
         .description = {"The \"weather\"", 13},
         .parameters = {"{\"type\":\"object\",\"properties\":{}}", 33}},
        {.name = {"get_time", 8}},
    };

    bed.messages[0] =
        (struct message){.role = ROLE_USER, .content = slice_of("Bern?")};
    bed.messages[1] = (struct message){.role = ROLE_ASSISTANT,
                                       .content = slice_of("Let me see."),
                                       .tool_calls = calls,
                                       .tool_call_count = 2};
    bed.messages[2] = (struct message){.role = ROLE_TOOL,
                                       .content = slice_of("4 \"C\""),
                                       .tool_call_id = slice_of("call_1")};
    bed.messages[3] = (struct message){.role = ROLE_TOOL,
                                       .content = slice_of(""),
                                       .tool_call_id = slice_of("c:2")};
    bed.chat.message_count = 4;
    bed.chat.tools = tools;
    bed.chat.tool_count = 2;
}

static inline void bed_want_schema(enum structured_mode mode)
{
    bed.entry.structured = mode;
    bed.candidate.entry = &bed.entry;
    bed.chat.schema = slice_of("{\"type\":\"object\"}");
    bed.chat.schema_name = slice_of("answer");
    bed.chat.schema_strict = true;
}

/* No CR, LF or NUL of these can make or cut a header or the address. */
static inline void bed_expect_no_smuggling(struct slice *const *fields,
                                           size_t count)
{
    static const struct slice bad[] = {
        {"a\r\nX-Evil: 1", 12}, {"a\nb", 3}, {"a\0b", 3}, {"a\rb", 3}};

    for (size_t field = 0; field < count; field++) {
        struct slice good = *fields[field];

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            *fields[field] = bad[i];
            assert_false(bed_build());
            assert_int_equal(bed.err.code, ERR_INVALID_REQUEST);
            assert_null(strstr(bed.err.message, "Evil"));
        }
        *fields[field] = good;
    }
    assert_true(bed_build());
}

#endif
