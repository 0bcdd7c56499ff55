/* The conversation that one request takes: usually one question, sometimes a
 * repair turn that quotes the fault, or a continuation of a cut answer.
 *
 * A pure state machine; the caller moves the bytes:
 *
 *     dialogue_begin -> chat -> [provider] -> completion -> dialogue_answer
 *        DIALOGUE_ASK  -> dialogue_chat has the next question
 *        DIALOGUE_DONE -> dialogue_result
 *        DIALOGUE_FAIL -> err
 *
 * At most one repair turn and DIALOGUE_CONTINUATIONS_MAX continuations. A
 * repair turn quotes the fault behind the answer that has it; a continuation
 * names what is complete and asks for the rest, and its answer is checked (and
 * repaired) as the part that it is.
 * All memory is the arena's; request and prompts must outlive the dialogue. */
#ifndef LLM_ROUTER_CORE_DIALOGUE_H
#define LLM_ROUTER_CORE_DIALOGUE_H

#include "llm_router/core/chat.h"
#include "llm_router/core/prompts.h"
#include "llm_router/core/task_rules.h"

enum { DIALOGUE_CONTINUATIONS_MAX = 4 };

enum dialogue_step { DIALOGUE_ASK, DIALOGUE_DONE, DIALOGUE_FAIL };

/* What an operation with a provider gives. `tasks` is for the task operations
 * (one element for generate_task, the subtasks for expand_task), the rest for
 * all. */
struct result {
    struct task_list tasks;
    struct slice text;
    const struct jv *object; /* with opts schema; else NULL */
    enum finish_reason finish;
    struct warnings warnings;
};

struct dialogue;

/* NULL when no chat can be made of the request: ERR_INVALID_REQUEST, or
 * ERR_TOO_LARGE for a schema over 1 MiB. New ids begin behind the existing ones
 * when opts next_id is not given; one that is not behind them is refused. */
struct dialogue *dialogue_begin(struct arena *arena,
                                const struct request *request,
                                const struct prompts *prompts,
                                struct error *err);
const struct chat *dialogue_chat(const struct dialogue *dialogue);

/* `completion` is copied where needed. A refusal is ERR_REFUSED, a filter
 * ERR_CONTENT_FILTERED; free text that is cut is a result with FINISH_LENGTH.
 * A list without a prescribed length (count 0 or about) that was got before
 * the fault is given with a warning instead of an error. */
enum dialogue_step dialogue_answer(struct dialogue *dialogue,
                                   const struct completion *completion,
                                   struct error *err);
const struct result *dialogue_result(const struct dialogue *dialogue);

#endif
