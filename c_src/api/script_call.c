#include "llm_router/api/script_call.h"

#include <stdio.h>

#include "api/decode_internal.h"
#include "llm_router/api/json_term.h"
#include "llm_router/term/check.h"

enum { TERM_BYTES_MAX = 64 * 1024 * 1024 };

static const struct term_limits TERM_LIMITS = {TERM_BYTES_MAX, 256};

bool decode_script(struct decoder *decoder, const char *path, struct term value)
{
    return decode_full_text(decoder, path, value, &decoder->request->text);
}

bool decode_script_context(struct decoder *decoder, const char *path,
                           struct term value)
{
    struct arena_mark mark = arena_mark(decoder->arena);
    struct jv *context;

    return (json_from_term(value, JSON_TERM_STRICT, decoder->arena, &context,
                           decoder->err) &&
            keep_json(decoder, mark, context, &decoder->request->context)) ||
           error_in(decoder->err, path);
}

/* What says who asks, how long it waits and what it gets back is the caller's
 * alone. */
static bool check_names(const struct jv *options, struct error *err)
{
    static const char *const callers[] = {"request_id", "task_id", "timeout",
                                          "metadata",   "keys",    "return"};

    for (size_t i = 0; i < sizeof(callers) / sizeof(*callers); i++)
        if (jv_find(options, callers[i]))
            return error_at(err, ERR_SCRIPT_ERROR, callers[i],
                            "is the caller's to give");
    return true;
}

static bool decode_json(struct decoder *decoder, const char *path,
                        const struct jv *value, decode_function *decode)
{
    struct buf bytes;
    bool decoded = false;

    buf_init(&bytes, TERM_BYTES_MAX);
    json_put_term(&bytes, value);
    if (bytes.failed)
        error_at(decoder->err, ERR_TOO_LARGE, path, "over %d bytes as a term",
                 TERM_BYTES_MAX);
    else
        decoded = term_check(buf_slice(&bytes), &TERM_LIMITS, decoder->err) &&
                  decode(decoder, path, term_from_raw(buf_slice(&bytes)));
    buf_release(&bytes);
    return decoded;
}

/* The path belongs to the script's result, not to the call. */
static bool blame_script(struct error *err)
{
    struct error fault = *err;

    return error_set(err, ERR_SCRIPT_ERROR, "%s: %s", fault.path,
                     fault.message);
}

bool script_call_apply(const struct jv *messages, const struct jv *options,
                       struct arena *arena, struct request *request,
                       struct error *err)
{
    struct decoder decoder = {arena, request, err};

    if ((options && (!check_names(options, err) ||
                     !decode_json(&decoder, "options", options,
                                  decode_further_options))) ||
        !decode_json(&decoder, "messages", messages, decode_messages))
        return blame_script(err);
    request->context = slice_of(NULL);
    return true;
}
