#include "llm_router/json/value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "json/json_internal.h"

enum { NUMBER_SIZE = 32 }; /* "-1.7976931348623157e+308" is 24 */

/* `c` ends a plain run, so it is none beyond the backslash. */
static void put_escape(struct buf *out, char c)
{
    static const char NAMES[] = {
        ['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
        ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't',
    };
    const char escape[] = {'\\', NAMES[(unsigned char)c]};

    if (escape[1] != '\0')
        buf_append(out, escape, sizeof(escape));
    else
        buf_printf(out, "\\u%04x", (unsigned)c);
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

void jv_put_number(struct buf *out, double value)
{
    char number[NUMBER_SIZE];

    if (!isfinite(value)) {
        out->failed = true;
        return;
    }
    if (fabs(value) <= 0x1p53 && (double)(int64_t)value == value) {
        snprintf(number, sizeof(number), "%.0f", value);
    } else {
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(number, sizeof(number), "%.*g", digits, value);
            if (strtod(number, NULL) == value)
                break;
        }
    }
    buf_append_text(out, number);
}

static void put_integer(struct buf *out, int64_t value)
{
    char number[NUMBER_SIZE];

    snprintf(number, sizeof(number), "%" PRId64, value);
    buf_append_text(out, number);
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
        put_integer(out, value->as.integer);
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
