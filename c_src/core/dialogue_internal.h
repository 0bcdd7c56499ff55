/* What the files behind dialogue.h share: each kind of operation has a way to
 * talk, a row of functions in a file of its own. */
#ifndef LLM_ROUTER_CORE_DIALOGUE_INTERNAL_H
#define LLM_ROUTER_CORE_DIALOGUE_INTERNAL_H

#include "llm_router/core/dialogue.h"

struct talk {
    /* Makes the first question; false: err is set. */
    bool (*begin)(struct dialogue *d, struct error *err);

    /* `answer` is the completion's text, in the arena. */
    enum dialogue_step (*answer)(struct dialogue *d,
                                 const struct completion *completion,
                                 struct slice answer, struct error *err);

    /* No more turns: what is there may do all the same. NULL: never. */
    enum dialogue_step (*give_up)(struct dialogue *d, const struct error *err);

    bool (*shrink)(struct dialogue *d); /* NULL: not possible */
};

extern const struct talk call_talk;       /* call, route, stream, ... */
extern const struct talk embed_talk;      /* embed */
extern const struct talk planning_talk;   /* generate_task, parse_prd, ... */
extern const struct talk complexity_talk; /* analyze_complexity */
extern const struct talk research_talk;   /* research */

struct dialogue {
    struct arena *arena;
    const struct request *request;
    const struct prompts *prompts;
    struct dialogue_room room;
    const struct talk *talk;
    struct chat chat;
    size_t question_count; /* messages of the question, without what follows */
    unsigned continuations;
    bool repaired;                /* the repair turn of the question is used */
    struct planning *planning;    /* of planning_talk */
    struct analysing *analysing;  /* of complexity_talk */
    struct embedding *embeddings; /* of embed_talk: room for all */
    struct result result;
};

/* A question of the program's own, as the chat: a system message, with the
 * language that the caller wants, and a user's. */
void talk_ask(struct dialogue *d, struct slice system, struct slice user);

/* The schema that the answers shall keep to; it is in the strict subset. */
void talk_expect(struct dialogue *d, const char *name, struct slice schema);

/* The next turn: the first `keep` messages, the answer and a word on it. */
enum dialogue_step talk_follow_up(struct dialogue *d, size_t keep,
                                  struct slice answer, struct slice question);

/* The repair turn. `fault` is what the model is told, `err` what the caller is
 * when there is no more turn. */
enum dialogue_step talk_repair(struct dialogue *d, struct slice answer,
                               struct slice fault, const struct error *err);

/* The same with the error for a fault. */
enum dialogue_step talk_repair_fault(struct dialogue *d, struct slice answer,
                                     const struct error *err);

/* Tokens of a question that the model asked first has room for, besides
 * `overhead` bytes that go along; INT64_MAX when that is not known. */
int64_t talk_room(const struct dialogue *d, size_t overhead);

#endif
