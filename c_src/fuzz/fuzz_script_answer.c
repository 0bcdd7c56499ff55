/* What a worker that has gone wrong could send: frames and answers. An answer
 * that is taken has what its reader promises. */
#include <stdlib.h>

#include "llm_router/base/utf8.h"
#include "llm_router/script/worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void require_answer(const struct script_answer *answer)
{
    if (!answer->messages) {
        require(utf8_is_valid(slice_of(answer->fault.message)));
        require(answer->fault.line >= 0);
        return;
    }
    require(answer->options && answer->options->type == JV_OBJECT);
    require(jv_count(answer->messages) > 0);
    for (size_t i = 0; i < jv_count(answer->messages); i++) {
        const struct jv *message = jv_at(answer->messages, i);

        require(jv_is_string(jv_find(message, "role")));
        require(utf8_is_valid(jv_string(jv_find(message, "content"))));
    }
}

static void read_answer(struct slice json)
{
    struct script_answer answer;
    struct error err = {.code = ERR_NONE};
    struct arena arena;

    arena_init(&arena, 0);
    if (script_read_answer(&arena, json, &answer, &err))
        require_answer(&answer);
    else
        require(err.code == ERR_BAD_RESPONSE);
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_make(data, size), json;

    read_answer(rest);
    while (script_next_frame(rest, &json) == SCRIPT_FRAME_WHOLE) {
        size_t used = SCRIPT_FRAME_HEADER + json.size;

        require(used <= rest.size &&
                json.data + json.size <= rest.data + rest.size);
        read_answer(json);
        rest = slice_make(rest.data + used, rest.size - used);
    }
    return 0;
}
