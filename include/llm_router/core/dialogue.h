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
 * Each question has at most one repair turn and DIALOGUE_CONTINUATIONS_MAX
 * continuations. A repair turn quotes the fault behind the answer that has it;
 * a continuation names what is complete and asks for the rest, and its answer
 * is checked (and repaired) as the part that it is. Most requests are one
 * question; long documents and many tasks are several.
 * All memory is the arena's; request and prompts must outlive the dialogue. */
#ifndef LLM_ROUTER_CORE_DIALOGUE_H
#define LLM_ROUTER_CORE_DIALOGUE_H

#include "llm_router/core/analysis.h"
#include "llm_router/core/chat.h"
#include "llm_router/core/coverage.h"
#include "llm_router/core/prompts.h"
#include "llm_router/core/task_rules.h"

enum { DIALOGUE_CONTINUATIONS_MAX = 4 };

enum dialogue_step { DIALOGUE_ASK, DIALOGUE_DONE, DIALOGUE_FAIL };

/* What an operation with a provider gives. `tasks` is for the task operations
 * (one element for generate_task, the subtasks for expand_task). */
struct result {
    struct task_list tasks;
    struct coverage coverage;        /* of parse_prd with return => full */
    const struct analysis *analyses; /* one for each given task, in order */
    size_t analysis_count;
    struct slice text;           /* of a call; research: the findings */
    const struct slice *sources; /* of research */
    size_t source_count;
    const struct jv *object; /* with opts schema; else NULL */
    const struct tool_call *tool_calls;
    size_t tool_call_count;
    const struct embedding *embeddings;
    size_t embedding_count;
    enum finish_reason finish;
    struct slice response_id; /* of the last answer; maybe empty */
    struct warnings warnings;
};

struct dialogue;

/* What the model that is asked first can hold, in tokens; < 0: unknown. */
struct dialogue_room {
    int64_t context_tokens;
    int64_t max_output_tokens;
};

/* NULL when no chat can be made of the request: ERR_INVALID_REQUEST, or
 * ERR_TOO_LARGE for a schema over 1 MiB or a document of more than 64 parts.
 * New ids begin behind the existing ones when opts next_id is not given; one
 * that is not behind them is refused.
 *
 * A document of parse_prd that is too long for the room is cut at its headings
 * into parts that are asked about in turn. Each part's question names the tasks
 * there are, so that dependencies go across parts. A prescribed number is
 * shared out by the parts' sizes, at least one each, and what a part leaves out
 * is asked of those that follow; when there are more parts than tasks wanted, a
 * last question has them merged.
 *
 * Of opts, the call operations take all; the others leave out stops, tools,
 * MCP servers, previous_response_id and schema. A schema goes out in its strict
 * form where it has one (schema.h) and is checked as the caller wrote it. A
 * stream has no repair turn, as what was sent cannot be taken back. */
struct dialogue *dialogue_begin(struct arena *arena,
                                const struct request *request,
                                const struct prompts *prompts,
                                const struct dialogue_room *room,
                                struct error *err);

/* The provider found the question too long and no larger model is there: what
 * is left of a document is cut into smaller parts, or fewer tasks are asked
 * about at a time. True: dialogue_chat has a new question. False: that is not
 * possible (another operation, or nothing left to cut). */
bool dialogue_shrink(struct dialogue *dialogue);

const struct chat *dialogue_chat(const struct dialogue *dialogue);

/* `completion` is copied where needed. A refusal is ERR_REFUSED, a filter
 * ERR_CONTENT_FILTERED; free text that is cut is a result with FINISH_LENGTH,
 * one with tool calls has FINISH_TOOL_CALLS and no object. A list without a
 * prescribed length (count 0 or about) that was got before the fault is given
 * with a warning instead of an error. */
enum dialogue_step dialogue_answer(struct dialogue *dialogue,
                                   const struct completion *completion,
                                   struct error *err);
const struct result *dialogue_result(const struct dialogue *dialogue);

#endif
