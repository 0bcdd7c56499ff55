#include "api/decode_internal.h"

/* Telling tasks apart by their bytes needs terms that have one form only. */
static bool is_task_id(struct term value)
{
    struct slice text;
    enum term_kind kind = term_kind(value);

    if (kind == TERM_INTEGER || kind == TERM_ATOM)
        return true;
    return term_binary(value, &text) && text.size > 0 &&
           text.size <= REQUEST_TASK_ID_MAX;
}

bool decode_task_id(struct decoder *decoder, const char *path,
                    struct term value)
{
    if (!is_task_id(value))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be an integer, an atom or a binary of 1 to %d "
                        "bytes, got %s",
                        REQUEST_TASK_ID_MAX, term_kind_name(value));
    decoder->request->options.task_id =
        arena_copy(decoder->arena, term_raw(value));
    return true;
}

bool decode_topic(struct decoder *decoder, const char *path, struct term value)
{
    bool tasks;

    if (!decode_either(decoder, path, value,
                       (struct alternatives){"telemetry", "tasks"}, &tasks))
        return false;
    decoder->request->topic = tasks ? TOPIC_TASKS : TOPIC_TELEMETRY;
    return true;
}

bool decode_scope(struct decoder *decoder, const char *path, struct term value)
{
    return decode_either(decoder, path, value,
                         (struct alternatives){"cluster", "node"},
                         &decoder->request->options.own_node_only);
}
