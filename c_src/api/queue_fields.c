#include <ctype.h>
#include <time.h>

#include "api/queue_internal.h"
#include "llm_router/base/utf8.h"

enum { RECEIVER_NAME_MAX = 255 }; /* bytes, of a process and of a node */

bool operation_is_queued(enum operation operation)
{
    return operation_calls_provider(operation) && operation != OP_STREAM;
}

bool queue_id_is_valid(struct slice text)
{
    static const char FORM[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    if (text.size != QUEUE_ID_SIZE)
        return false;
    for (size_t i = 0; i < QUEUE_ID_SIZE; i++)
        if (FORM[i] == '-' ? text.data[i] != '-'
                           : !isxdigit((unsigned char)text.data[i]))
            return false;
    return true;
}

bool keep_queue_id(struct decoder *decoder, const char *path, struct slice text,
                   struct slice *id)
{
    char *kept;

    if (!queue_id_is_valid(text))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be a UUID");
    kept = arena_text(decoder->arena, text);
    for (size_t i = 0; i < text.size; i++)
        kept[i] = (char)tolower((unsigned char)kept[i]);
    *id = slice_make(kept, text.size);
    return true;
}

bool keep_label(struct decoder *decoder, const char *path, struct slice text,
                struct slice *label)
{
    if (text.size > QUEUE_TEXT_MAX)
        return error_at(decoder->err, ERR_TOO_LARGE, path,
                        "%zu bytes, at most %d are taken", text.size,
                        QUEUE_TEXT_MAX);
    *label = arena_copy(decoder->arena, utf8_clean(decoder->arena, text));
    return true;
}

/* NAME@HOST */
static bool is_node(struct slice text)
{
    const char *at = text.size > 0 ? memchr(text.data, '@', text.size) : NULL;
    const char *end = text.data + text.size;

    if (!at || at == text.data || at + 1 == end ||
        memchr(at + 1, '@', (size_t)(end - at - 1)))
        return false;
    for (size_t i = 0; i < text.size; i++)
        if (!isgraph((unsigned char)text.data[i]))
            return false;
    return text.size <= RECEIVER_NAME_MAX;
}

bool keep_receiver(struct decoder *decoder, const char *path,
                   struct queue_receiver lent, struct queue_receiver *receiver)
{
    struct slice name = utf8_clean(decoder->arena, lent.name);

    if (name.size == 0 || name.size > RECEIVER_NAME_MAX)
        error_at(decoder->err, ERR_INVALID_REQUEST, "name",
                 "must be the name of a process, of 1 to %d bytes",
                 RECEIVER_NAME_MAX);
    else if (!is_node(lent.node))
        error_at(decoder->err, ERR_INVALID_REQUEST, "node",
                 "must be NAME@HOST, of at most %d bytes", RECEIVER_NAME_MAX);
    else
        *receiver = (struct queue_receiver){
            .name = arena_copy(decoder->arena, name),
            .node = arena_copy(decoder->arena, lent.node),
        };
    return receiver->name.size > 0 || error_in(decoder->err, path);
}

void put_key(struct buf *out, const char *name)
{
    char last = out->size > 0 ? out->data[out->size - 1] : '{';

    if (last != '{' && last != ',')
        buf_append_byte(out, ',');
    jv_put_string(out, slice_of(name));
    buf_append_byte(out, ':');
}

void put_clean_text(struct buf *out, struct slice text)
{
    struct arena arena;

    arena_init(&arena, 0);
    jv_put_string(out, utf8_clean(&arena, text));
    arena_release(&arena);
}

void put_text(struct buf *out, const char *name, struct slice text)
{
    put_key(out, name);
    put_clean_text(out, text);
}

void put_time(struct buf *out, int64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm utc = {0};

    gmtime_r(&seconds, &utc);
    buf_printf(out, "\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"",
               utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
               utc.tm_min, utc.tm_sec, (int)(unix_ms % 1000));
}
