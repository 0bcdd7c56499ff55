#include "llm_router/json/value.h"

#include "json/json_internal.h"

static void put_escape(struct buf *out, char c)
{
    static const char BYTES[] = "\"\\\b\f\n\r\t", NAMES[] = "\"\\bfnrt";
    static const char DIGITS[] = "0123456789abcdef";
    const char *known = memchr(BYTES, c, sizeof(BYTES) - 1);

    if (known)
        buf_append(out, (const char[]){'\\', NAMES[known - BYTES]}, 2);
    else
        buf_append(out,
                   (const char[]){'\\', 'u', '0', '0', DIGITS[c >> 4 & 15],
                                  DIGITS[c & 15]},
                   6);
}

void jv_put_string(struct buf *out, struct slice text)
{
    buf_append_byte(out, '"');
    while (text.size > 0) {
        size_t run = json_plain_run(text);

        buf_append(out, text.data, run);
        if (run < text.size)
            put_escape(out, text.data[run++]);
        text = slice_make(text.data + run, text.size - run);
    }
    buf_append_byte(out, '"');
}

static void put_array(struct buf *out, const struct jv *value)
{
    buf_append_byte(out, '[');
    for (size_t i = 0; i < value->as.array.count; i++) {
        if (i > 0)
            buf_append_byte(out, ',');
        jv_put(out, &value->as.array.items[i]);
    }
    buf_append_byte(out, ']');
}

static void put_object(struct buf *out, const struct jv *value)
{
    buf_append_byte(out, '{');
    for (size_t i = 0; i < value->as.object.count; i++) {
        const struct jv_member *member = &value->as.object.members[i];

        if (i > 0)
            buf_append_byte(out, ',');
        jv_put_string(out, member->key);
        buf_append_byte(out, ':');
        jv_put(out, &member->value);
    }
    buf_append_byte(out, '}');
}

void jv_put(struct buf *out, const struct jv *value)
{
    switch (value->type) {
    case JV_NULL:
        buf_append_text(out, "null");
        return;
    case JV_BOOLEAN:
        buf_append_text(out, value->as.boolean ? "true" : "false");
        return;
    case JV_INTEGER:
        json_put_integer(out, value->as.integer);
        return;
    case JV_REAL:
        jv_put_number(out, value->as.real);
        return;
    case JV_STRING:
        jv_put_string(out, value->as.string);
        return;
    case JV_ARRAY:
        put_array(out, value);
        return;
    case JV_OBJECT:
        put_object(out, value);
        return;
    }
}
