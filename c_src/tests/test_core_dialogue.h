/* A dialogue with the project's own prompts: what the tests of its kinds of
 * operations share. */
#ifndef LLM_ROUTER_TESTS_DIALOGUE_H
#define LLM_ROUTER_TESTS_DIALOGUE_H

#include "llm_router/core/dialogue.h"

#include <math.h>
#include <stdlib.h>

#include "llm_router/config/assets.h"
#include "unit.h"

static struct arena texts; /* of the project's own priv/ */
static struct assets assets;

static struct arena arena;
static struct request request;
static struct dialogue *dialogue;
static struct dialogue_room room;
static struct error err;

static inline int read_priv(void **state)
{
    (void)state;
    arena_init(&texts, 0);
    if (assets_load(&texts, &(struct config){.priv_dir = "priv"}, &assets,
                    &err))
        return 0;
    print_error("%s: %s\n", err.path, err.message);
    return -1;
}

static inline int release_priv(void **state)
{
    (void)state;
    assets_release(&assets);
    arena_release(&texts);
    return 0;
}

static inline int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    request = (struct request){.options = {.temperature = NAN, .top_p = NAN}};
    room = (struct dialogue_room){-1, -1}; /* not known */
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

static inline void begin(enum operation operation, const char *text,
                         int64_t count)
{
    request.operation = operation;
    request.text = slice_of(text);
    request.count = count;
    dialogue = dialogue_begin(&arena, &request, &assets.prompts, &room, &err);
    if (!dialogue)
        fail_msg("%s: %s", err.path, err.message);
}

static inline void assert_refused(enum operation operation, const char *path)
{
    request.operation = operation;
    assert_null(dialogue_begin(&arena, &request, &assets.prompts, &room, &err));
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    assert_string_equal(err.path, path);
}

/* The completion is gone when dialogue_answer returns: it lives in a block of
 * its own, so that a sanitizer sees every later look at it. */
static inline enum dialogue_step answer_with(struct completion completion)
{
    char *text = malloc(completion.text.size + 1);
    enum dialogue_step step;

    if (completion.text.size > 0)
        memcpy(text, completion.text.data, completion.text.size);
    completion.text.data = text;
    step = dialogue_answer(dialogue, &completion, &err);
    memset(text, '#', completion.text.size);
    free(text);
    return step;
}

/* JSON written with ' for ". */
static inline enum dialogue_step answer(const char *text)
{
    char *json = arena_text(&arena, slice_of(text));

    for (char *c = json; *c; c++)
        if (*c == '\'')
            *c = '"';
    return answer_with(
        (struct completion){.text = slice_of(json), .finish = FINISH_STOP});
}

static inline const struct message *message(size_t index)
{
    const struct chat *chat = dialogue_chat(dialogue);

    assert_in_range(index, 0, chat->message_count - 1);
    return &chat->messages[index];
}

static inline const struct message *last_message(void)
{
    return message(dialogue_chat(dialogue)->message_count - 1);
}

static inline bool has(struct slice text, const char *words)
{
    return slice_find(text, slice_of(words)) >= 0;
}

static inline void assert_has(struct slice text, const char *words)
{
    if (!has(text, words))
        fail_msg("\"%s\" is not in: %.*s", words, SLICE_ARG(text));
}

static inline void assert_warned(const char *words)
{
    const struct warnings *warnings = &dialogue_result(dialogue)->warnings;

    for (size_t i = 0; i < warnings->count; i++)
        if (has(warnings->texts[i], words))
            return;
    fail_msg("none of %zu warnings has: %s", warnings->count, words);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
