/* JSON values <-> BEAM terms. */
#ifndef LLM_ROUTER_API_JSON_TERM_H
#define LLM_ROUTER_API_JSON_TERM_H

#include "llm_router/json/value.h"
#include "llm_router/term/reader.h"

enum {
    JSON_TERM_DEPTH_MAX = 128,
    JSON_TERM_VALUES_MAX = 100000, /* of all kinds, in the whole term */
};

enum json_term_mode {
    /* What JSON cannot say is ERR_INVALID_REQUEST with its path. */
    JSON_TERM_STRICT,
    /* For a task on its way into a prompt. It is left out: a pid in the map is
     * no reason to refuse the task. So are the keys by which Elixir marks its
     * structs (`__struct__`, ...); and where a task has text (title,
     * description, details, test_strategy) a charlist is text. */
    JSON_TERM_LENIENT,
};

/* Maps and keyword lists become objects, atoms true/false/nil/null their JSON
 * values and other atoms strings, binaries strings (UTF-8; NUL is dropped),
 * other lists arrays, charlists thus arrays of numbers. JSON cannot say pids,
 * references, ports, funs, tuples, bitstrings, improper lists, bytes that are
 * not UTF-8, integers that no double holds, other keys than atoms and
 * binaries, and what is deeper than JSON_TERM_DEPTH_MAX.
 *
 * In both modes two keys of one name (an atom and a binary) are
 * ERR_INVALID_REQUEST and too many values ERR_TOO_LARGE.
 *
 * Text borrows from the term's bytes; the rest is in the arena. */
bool json_from_term(struct term term, enum json_term_mode mode,
                    struct arena *arena, struct jv **value, struct error *err);

/* Objects become maps with binary keys, null becomes nil. */
void json_put_term(struct buf *out, const struct jv *value);

#endif
