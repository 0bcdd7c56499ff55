/* What the fuzz targets of dialects share. The first three bytes choose the
 * status and what was asked for, the content type, and the splits; the rest is
 * the body. However it is split the result is the same; text is clean, calls
 * are JSON objects, numbers finite, counts sane; errors are named and hold no
 * key. */
#ifndef LLM_ROUTER_FUZZ_FUZZ_ANSWER_H
#define LLM_ROUTER_FUZZ_FUZZ_ANSWER_H

#include <math.h>
#include <stdlib.h>

#include "llm_router/base/mem.h"
#include "llm_router/base/utf8.h"
#include "llm_router/json/value.h"
#include "llm_router/provider/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char FUZZ_KEY[] = "topsecretkey";

struct fuzz_answer {
    struct arena arena;
    bool ok;
    struct completion completion;
    struct provider_failure failure;
};

static inline void require(bool holds)
{
    if (!holds)
        abort();
}

static inline struct slice fuzz_find(void *context, const char *name)
{
    return slice_of(slice_is(slice_of(name), "content-type") ? context : NULL);
}

static inline void fuzz_check_text(struct slice text)
{
    require(utf8_is_valid(text));
    require(text.size == 0 || !memchr(text.data, '\0', text.size));
}

static inline void fuzz_check_usage(const struct usage *usage)
{
    const int64_t counts[] = {
        usage->input_tokens,       usage->output_tokens,
        usage->total_tokens,       usage->cached_tokens,
        usage->cache_write_tokens, usage->cache_write_1h_tokens,
        usage->reasoning_tokens};

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        require(counts[i] >= -1 && counts[i] <= 10000000000);
    require(usage->cached_tokens <= usage->input_tokens);
    require(usage->cache_write_tokens <= usage->input_tokens);
    require(usage->cache_write_1h_tokens <= usage->cache_write_tokens);
    require(usage->reasoning_tokens <= usage->output_tokens);
}

static inline void fuzz_check_call(const struct tool_call *call)
{
    struct arena arena;
    struct jv *arguments;
    struct error err;

    fuzz_check_text(call->id);
    require(call->id.size > 0);
    require(call->name.size > 0 && call->name.size <= 64);
    arena_init(&arena, 0);
    require(jv_parse(&arena, call->arguments, JV_STRICT, &JV_DEFAULT_LIMITS,
                     NULL, &arguments, &err));
    require(arguments->type == JV_OBJECT);
    arena_release(&arena);
}

static inline void fuzz_check_failure(const struct provider_failure *failure)
{
    struct slice message = slice_of(failure->error.message);

    require(failure->error.code != ERR_NONE && message.size > 0);
    require(utf8_is_valid(message));
    require(slice_find(message, slice_of(FUZZ_KEY)) < 0);
    require(slice_find(message, SLICE_LITERAL("\n")) < 0);
    require(failure->retry.retry_after_ms >= -1);
    fuzz_check_usage(&failure->usage);
    fuzz_check_text(failure->model);
}

static inline void fuzz_check(const struct fuzz_answer *answer)
{
    const struct completion *completion = &answer->completion;

    if (!answer->ok) {
        fuzz_check_failure(&answer->failure);
        return;
    }
    fuzz_check_text(completion->text);
    fuzz_check_text(completion->refusal);
    fuzz_check_text(completion->model);
    fuzz_check_text(completion->response_id);
    require(completion->response_id.size <= REQUEST_RESPONSE_ID_MAX);
    fuzz_check_usage(&completion->usage);
    require((completion->finish == FINISH_REFUSAL) ==
            (completion->refusal.size > 0));
    require(completion->finish != FINISH_TOOL_CALLS ||
            completion->tool_call_count > 0);
    for (size_t i = 0; i < completion->tool_call_count; i++)
        fuzz_check_call(&completion->tool_calls[i]);
    for (size_t i = 0; i < completion->embedding_count; i++) {
        require(completion->embeddings[i].count > 0);
        for (size_t j = 0; j < completion->embeddings[i].count; j++)
            require(isfinite(completion->embeddings[i].values[j]));
    }
}

static inline void fuzz_feed(struct fuzz_answer *answer, struct reader *reader,
                             struct slice body, size_t step)
{
    enum provider_progress last = PROGRESS_NONE;
    size_t said = 0;

    for (size_t at = 0; at < body.size; at += step) {
        size_t piece = body.size - at < step ? body.size - at : step;
        char *copy = mem_copy_text(body.data + at, piece);
        enum provider_progress progress =
            reader_feed(reader, slice_make(copy, piece));

        mem_free(copy);
        if (last == PROGRESS_END || last == PROGRESS_FAILED)
            require(progress == last);
        require(reader_text(reader).size >= said);
        said = reader_text(reader).size;
        last = progress;
    }
    answer->ok = reader_end(reader, (body.size & 1) == 0, &answer->completion,
                            &answer->failure);
    require(!answer->ok || last != PROGRESS_FAILED);
    reader_free(reader);
    fuzz_check(answer);
}

/* A plain question, one with a forced tool, texts to embed. */
static inline void fuzz_ask(unsigned kind, struct chat *chat,
                            struct model *model)
{
    static const struct slice inputs[] = {{"a", 1}, {"b", 1}};

    if (kind == 1) {
        chat->schema = SLICE_LITERAL("{}");
        chat->schema_name = SLICE_LITERAL("answer");
        model->structured = STRUCTURED_TOOL;
    } else if (kind == 2) {
        chat->inputs = inputs;
        chat->input_count = 2;
    }
}

static inline void fuzz_read(struct fuzz_answer *answer, const char *dialect,
                             const uint8_t choice[2], struct slice body,
                             size_t step)
{
    static const int statuses[] = {200, 200, 200, 200, 204, 302, 400, 401,
                                   402, 404, 413, 429, 500, 503, 529, 99};
    static char types[2][32] = {"text/event-stream", "application/json"};
    struct provider_headers headers = {
        fuzz_find, choice[1] % 3 < 2 ? types[choice[1] % 3] : NULL};
    struct model model = {.max_output_tokens = -1};
    struct candidate candidate = {.entry = &model};
    struct chat chat = {.max_tokens = 0};
    struct answer_head head = {
        .status = statuses[choice[0] % 16],
        .headers = &headers,
        .api_key = slice_of(FUZZ_KEY),
        .now_s = 1700000000,
        .chat = &chat,
        .candidate = &candidate,
    };
    /* A dialect without embeddings is never asked for them. */
    unsigned kinds = strcmp(dialect, "anthropic") != 0 &&
                             strcmp(dialect, "openai_responses") != 0
                         ? 3
                         : 2;

    fuzz_ask(choice[0] / 16 % kinds, &chat, &model);
    arena_init(&answer->arena, 0);
    fuzz_feed(
        answer,
        reader_new(dialect_find(slice_of(dialect)), &answer->arena, &head),
        body, step);
}

static inline void fuzz_compare_calls(const struct completion *a,
                                      const struct completion *b)
{
    require(a->tool_call_count == b->tool_call_count);
    for (size_t i = 0; i < a->tool_call_count; i++) {
        require(slice_equal(a->tool_calls[i].id, b->tool_calls[i].id));
        require(slice_equal(a->tool_calls[i].arguments,
                            b->tool_calls[i].arguments));
    }
}

static inline void fuzz_compare(const struct fuzz_answer *a,
                                const struct fuzz_answer *b)
{
    require(a->ok == b->ok);
    if (!a->ok) {
        require(a->failure.error.code == b->failure.error.code);
        require(!strcmp(a->failure.error.message, b->failure.error.message));
        return;
    }
    require(slice_equal(a->completion.text, b->completion.text));
    require(slice_equal(a->completion.refusal, b->completion.refusal));
    require(a->completion.finish == b->completion.finish);
    require(!memcmp(&a->completion.usage, &b->completion.usage,
                    sizeof(struct usage)));
    require(a->completion.embedding_count == b->completion.embedding_count);
    fuzz_compare_calls(&a->completion, &b->completion);
}

static inline int fuzz_answer_of(const char *dialect, const uint8_t *data,
                                 size_t size)
{
    struct fuzz_answer whole = {.ok = false}, split = {.ok = false};
    struct slice body;

    if (size < 3)
        return 0;
    body = slice_make(data + 3, size - 3);
    fuzz_read(&whole, dialect, data, body, size);
    fuzz_read(&split, dialect, data, body, (size_t)data[2] % 64 + 1);
    fuzz_compare(&whole, &split);
    arena_release(&whole.arena);
    arena_release(&split.arena);
    return 0;
}

#endif
