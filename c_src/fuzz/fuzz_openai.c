/* The first three bytes choose status, content type, and splits; the rest is
 * the body. However it is split the result is the same; text is clean, errors
 * are named and hold no key, counts are sane. */
#include <stdlib.h>

#include "llm_router/base/mem.h"
#include "llm_router/base/utf8.h"
#include "llm_router/provider/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char KEY[] = "topsecretkey";

struct answer {
    struct arena arena;
    bool ok;
    struct completion completion;
    struct provider_failure failure;
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static struct slice find(void *context, const char *name)
{
    return slice_of(slice_is(slice_of(name), "content-type") ? context : NULL);
}

static void check_tokens(int64_t tokens)
{
    require(tokens >= -1 && tokens <= 2000000000);
}

static void check_text(struct slice text)
{
    require(utf8_is_valid(text));
    require(text.size == 0 || !memchr(text.data, '\0', text.size));
}

static void check(const struct answer *answer)
{
    const struct completion *completion = &answer->completion;
    const struct error *error = &answer->failure.error;

    if (!answer->ok) {
        struct slice message = slice_of(error->message);

        require(error->code != ERR_NONE && message.size > 0);
        require(utf8_is_valid(message));
        require(slice_find(message, slice_of(KEY)) < 0);
        require(slice_find(message, SLICE_LITERAL("\n")) < 0);
        require(answer->failure.retry.retry_after_ms >= -1);
        return;
    }
    check_text(completion->text);
    check_text(completion->refusal);
    check_text(completion->model);
    require((completion->finish == FINISH_REFUSAL) ==
            (completion->refusal.size > 0));
    check_tokens(completion->usage.input_tokens);
    check_tokens(completion->usage.output_tokens);
    check_tokens(completion->usage.total_tokens);
    require(completion->usage.cached_tokens <= completion->usage.input_tokens);
    require(completion->usage.reasoning_tokens <=
            completion->usage.output_tokens);
}

static void feed(struct answer *answer, struct reader *reader,
                 const struct dialect *dialect, struct slice body, size_t step)
{
    enum provider_progress last = PROGRESS_NONE;

    for (size_t at = 0; at < body.size; at += step) {
        size_t piece = body.size - at < step ? body.size - at : step;
        char *copy = mem_copy_text(body.data + at, piece);
        enum provider_progress progress =
            dialect->feed(reader, slice_make(copy, piece));

        mem_free(copy);
        if (last == PROGRESS_END || last == PROGRESS_FAILED)
            require(progress == last);
        last = progress;
    }
    answer->ok = dialect->end(reader, (body.size & 1) == 0, &answer->completion,
                              &answer->failure);
    require(!answer->ok || last != PROGRESS_FAILED);
    dialect->reader_free(reader);
    check(answer);
}

static void read_answer(struct answer *answer, int status, const char *type,
                        struct slice body, size_t step)
{
    static char types[2][32] = {"text/event-stream", "application/json"};
    const struct dialect *dialect = dialect_find(slice_of("openai"));
    struct provider_headers headers = {find, type ? types[*type == 'j'] : NULL};

    arena_init(&answer->arena, 0);
    feed(answer,
         dialect->reader_new(&answer->arena, status, &headers, slice_of(KEY),
                             1700000000),
         dialect, body, step);
}

static void compare(const struct answer *a, const struct answer *b)
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
    require(a->completion.usage.input_tokens ==
            b->completion.usage.input_tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 200, 200, 200, 204, 302, 400, 401,
                                   402, 404, 413, 429, 500, 503, 529, 99};
    static const char *const types[] = {"stream", "json", NULL};
    struct answer whole = {.ok = false}, split = {.ok = false};
    struct slice body;
    const char *type;
    int status;

    if (size < 3)
        return 0;
    status = statuses[data[0] % 16];
    type = types[data[1] % 3];
    body = slice_make(data + 3, size - 3);
    read_answer(&whole, status, type, body, size);
    read_answer(&split, status, type, body, (size_t)data[2] % 64 + 1);
    compare(&whole, &split);
    arena_release(&whole.arena);
    arena_release(&split.arena);
    return 0;
}
