#include "llm_router/json/value.h"

#include "json/json_internal.h"

/* The letter behind the backslash; 0: none. */
static const char LETTERS[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
    ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't',
};

static void put_escape(struct buf *out, unsigned char c)
{
    static const char DIGITS[] = "0123456789abcdef";
    size_t size = LETTERS[c] ? 2 : 6;
    char *at;

    if (!buf_reserve(out, size))
        return;
    at = out->data + out->size;
    out->size += size;
    at[0] = '\\';
    at[1] = LETTERS[c];
    if (size == 2)
        return;
    memcpy(at + 1, "u00", 3);
    at[4] = DIGITS[c >> 4];
    at[5] = DIGITS[c & 15];
}

static bool is_escaped(unsigned char c)
{
    return c < ' ' || LETTERS[c];
}

/* Where one is to be escaped, the next one often is, too. */
void jv_put_string(struct buf *out, struct slice text)
{
    size_t at = 0;

    buf_append_byte(out, '"');
    while (at < text.size) {
        size_t run = json_plain_run(slice_make(text.data + at, text.size - at));

        buf_append(out, text.data + at, run);
        at += run;
        for (; at < text.size && is_escaped((unsigned char)text.data[at]); at++)
            put_escape(out, (unsigned char)text.data[at]);
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
