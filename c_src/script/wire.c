/* What the worker and its parent say to each other, without a descriptor. */
#include <inttypes.h>

#include "llm_router/base/utf8.h"
#include "script/wire_internal.h"

/* The context is inside an object; answers are of messages and options, which
 * are fewer values than a context may have. */
static const struct jv_limits REQUEST_LIMITS = {SCRIPT_FRAME_MAX,
                                                SCRIPT_DEPTH_MAX + 1, 500000};
static const struct jv_limits ANSWER_LIMITS = {SCRIPT_FRAME_MAX,
                                               SCRIPT_DEPTH_MAX + 2, 100000};

size_t script_begin_frame(struct buf *out)
{
    size_t start = out->size;

    buf_append(out, "\0\0\0\0", SCRIPT_FRAME_HEADER);
    return start;
}

bool script_end_frame(struct buf *out, size_t start)
{
    size_t size;

    if (out->failed)
        return false;
    size = out->size - start - SCRIPT_FRAME_HEADER;
    if (size > SCRIPT_FRAME_MAX)
        return false;
    for (int i = 0; i < SCRIPT_FRAME_HEADER; i++)
        out->data[start + (size_t)i] =
            (char)(size >> (8 * (SCRIPT_FRAME_HEADER - 1 - i)));
    return true;
}

enum script_frame script_next_frame(struct slice bytes, struct slice *json)
{
    size_t size = 0;

    if (bytes.size < SCRIPT_FRAME_HEADER)
        return SCRIPT_FRAME_PART;
    for (int i = 0; i < SCRIPT_FRAME_HEADER; i++)
        size = size << 8 | (unsigned char)bytes.data[i];
    if (size > SCRIPT_FRAME_MAX)
        return SCRIPT_FRAME_WRONG;
    if (size > bytes.size - SCRIPT_FRAME_HEADER)
        return SCRIPT_FRAME_PART;
    *json = slice_make(bytes.data + SCRIPT_FRAME_HEADER, size);
    return SCRIPT_FRAME_WHOLE;
}

static void put_folders(struct buf *out, const struct script_folders *folders)
{
    for (size_t i = 0; i < folders->count; i++) {
        if (i > 0)
            buf_append_byte(out, ',');
        jv_put_string(out, folders->paths[i]);
    }
}

bool script_put_request(struct buf *out, const struct script_request *request,
                        struct error *err)
{
    const struct script_limits *limits = &request->limits;
    size_t start = script_begin_frame(out);

    buf_append_text(out, "{\"path\":");
    jv_put_string(out, request->path);
    buf_append_text(out, ",\"folders\":[");
    put_folders(out, &request->folders);
    buf_printf(out,
               "],\"limits\":{\"memory_bytes\":%zu,\"instructions\":%" PRIu64
               ",\"time_ms\":%" PRIu32 "}",
               limits->memory_bytes, limits->instructions, limits->time_ms);
    if (request->context.size > 0) {
        buf_append_text(out, ",\"context\":");
        buf_append_slice(out, request->context);
    }
    buf_append_byte(out, '}');
    return script_end_frame(out, start) ||
           error_set(err, ERR_TOO_LARGE,
                     "the context is too large for a script");
}

static bool read_folders(struct arena *arena, const struct jv *value,
                         struct script_folders *folders)
{
    struct slice *paths;

    if (!value || value->type != JV_ARRAY)
        return false;
    folders->count = jv_count(value);
    paths = arena_array(arena, folders->count, sizeof(*paths));
    for (size_t i = 0; i < folders->count; i++)
        paths[i] = jv_string(jv_at(value, i));
    folders->paths = paths;
    return true;
}

static void read_limits(const struct jv *value, struct script_limits *limits)
{
    int64_t memory = jv_integer(jv_find(value, "memory_bytes"), 0);
    int64_t instructions = jv_integer(jv_find(value, "instructions"), 0);
    int64_t time_ms = jv_integer(jv_find(value, "time_ms"), 0);

    *limits = SCRIPT_DEFAULT_LIMITS;
    if (memory > 0)
        limits->memory_bytes = (size_t)memory;
    if (instructions > 0)
        limits->instructions = (uint64_t)instructions;
    if (time_ms > 0 && time_ms <= UINT32_MAX)
        limits->time_ms = (uint32_t)time_ms;
}

bool script_read_request(struct arena *arena, struct slice json,
                         struct script_request *request,
                         const struct jv **context, struct script_fault *fault)
{
    struct error err;
    struct jv *value;

    if (!jv_parse(arena, json, JV_STRICT, &REQUEST_LIMITS, NULL, &value, &err))
        return script_fail(fault, "the context cannot be read: %s",
                           err.message);
    request->path = jv_string(jv_find(value, "path"));
    *context = jv_find(value, "context");
    read_limits(jv_find(value, "limits"), &request->limits);
    return read_folders(arena, jv_find(value, "folders"), &request->folders) ||
           script_fail(fault, "the request has no folders");
}

void script_put_fault(struct buf *out, const struct script_fault *fault)
{
    buf_append_text(out, "{\"error\":{\"message\":");
    jv_put_string(out, slice_of(fault->message));
    if (fault->line > 0)
        buf_printf(out, ",\"line\":%d", fault->line);
    buf_append_text(out, "}}");
}

static bool read_fault(const struct jv *value, struct script_answer *answer,
                       struct error *err)
{
    const struct jv *message = jv_find(value, "message");
    int64_t line = jv_integer(jv_find(value, "line"), 0);

    if (!jv_is_string(message))
        return error_set(err, ERR_BAD_RESPONSE, "an error without a message");
    script_fail_at(&answer->fault,
                   line > 0 && line <= INT32_MAX ? (int)line : 0,
                   jv_string(message));
    return true;
}

static bool are_messages(const struct jv *messages)
{
    if (!messages || messages->type != JV_ARRAY || jv_count(messages) == 0)
        return false;
    for (size_t i = 0; i < jv_count(messages); i++) {
        const struct jv *message = jv_at(messages, i);

        if (!jv_is_string(jv_find(message, "role")) ||
            !jv_is_string(jv_find(message, "content")))
            return false;
    }
    return true;
}

bool script_read_answer(struct arena *arena, struct slice json,
                        struct script_answer *answer, struct error *err)
{
    const struct jv *fault;
    struct jv *value;

    *answer = (struct script_answer){.messages = NULL};
    if (!jv_parse(arena, json, JV_STRICT, &ANSWER_LIMITS, NULL, &value, err))
        return error_set(err, ERR_BAD_RESPONSE, "%s", "the answer is no JSON");
    fault = jv_find(value, "error");
    if (fault)
        return read_fault(fault, answer, err);
    answer->messages = jv_find(value, "messages");
    answer->options = jv_find(value, "options");
    if (are_messages(answer->messages) && answer->options &&
        answer->options->type == JV_OBJECT)
        return true;
    return error_set(err, ERR_BAD_RESPONSE, "neither messages nor an error");
}
