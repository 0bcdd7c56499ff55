#include "llm_router/provider/sse.h"

void sse_init(struct sse_parser *parser, size_t max_event_bytes)
{
    *parser = (struct sse_parser){.has_data = false};
    buf_init(&parser->line, max_event_bytes);
    buf_init(&parser->data, max_event_bytes);
    buf_init(&parser->event, max_event_bytes);
}

void sse_release(struct sse_parser *parser)
{
    buf_release(&parser->line);
    buf_release(&parser->data);
    buf_release(&parser->event);
}

/* Copies what was lent, before its bytes go away. */
static bool keep_data(struct sse_parser *parser)
{
    buf_append_slice(&parser->data, parser->lent);
    parser->lent = slice_make(NULL, 0);
    return !parser->data.failed;
}

static bool add_data(struct sse_parser *parser, struct slice value, bool lend)
{
    if (parser->has_data) {
        keep_data(parser);
        buf_append_byte(&parser->data, '\n');
    }
    parser->has_data = true;
    if (lend && parser->data.size == 0) {
        parser->lent = value;
        return true;
    }
    buf_append_slice(&parser->data, value);
    return !parser->data.failed;
}

static bool end_event(struct sse_parser *parser, sse_on_event *on_event,
                      void *context)
{
    struct sse_event event = {
        .event = buf_slice(&parser->event),
        .data = parser->data.size > 0 ? buf_slice(&parser->data) : parser->lent,
    };
    bool go_on = !parser->has_data || on_event(context, &event);

    buf_clear(&parser->data);
    buf_clear(&parser->event);
    parser->lent = slice_make(NULL, 0);
    parser->has_data = false;
    return go_on;
}

static struct slice from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

/* `name` or `name:` and the value, less one space. Comments have no name. */
static bool take_field(struct sse_parser *parser, struct slice line, bool lend)
{
    const char *colon = memchr(line.data, ':', line.size);
    size_t size = colon ? (size_t)(colon - line.data) : line.size;
    struct slice name = slice_make(line.data, size);
    struct slice value = from(line, colon ? size + 1 : size);

    if (value.size > 0 && value.data[0] == ' ')
        value = from(value, 1);
    if (slice_is(name, "data"))
        return add_data(parser, value, lend);
    if (slice_is(name, "event")) {
        buf_clear(&parser->event);
        buf_append_slice(&parser->event, value);
    }
    return true;
}

/* `lend`: the line stays where it is until the end of this feed. */
static bool take_line(struct sse_parser *parser, struct slice line, bool lend,
                      sse_on_event *on_event, void *context)
{
    if (line.size > parser->line.max)
        return false;
    if (!parser->started) {
        parser->started = true;
        if (slice_starts_with(line, "\xEF\xBB\xBF"))
            line = from(line, 3);
    }
    if (line.size == 0)
        return end_event(parser, on_event, context);
    return take_field(parser, line, lend);
}

/* Bytes before the first CR or LF. */
static size_t line_size(struct slice bytes)
{
    const char *lf = memchr(bytes.data, '\n', bytes.size);
    size_t size = lf ? (size_t)(lf - bytes.data) : bytes.size;
    const char *cr = memchr(bytes.data, '\r', size);

    return cr ? (size_t)(cr - bytes.data) : size;
}

static bool feed(struct sse_parser *parser, struct slice bytes,
                 sse_on_event *on_event, void *context)
{
    while (bytes.size > 0) {
        size_t size;
        struct slice line;
        bool lend = parser->line.size == 0;

        if (parser->after_cr && bytes.data[0] == '\n')
            bytes = from(bytes, 1);
        parser->after_cr = false;
        if (bytes.size == 0)
            break;
        size = line_size(bytes);
        line = slice_make(bytes.data, size);
        if (!lend || size == bytes.size)
            buf_append_slice(&parser->line, line);
        if (parser->line.failed)
            return false;
        if (size == bytes.size)
            break;
        if (!lend)
            line = buf_slice(&parser->line);
        parser->after_cr = bytes.data[size] == '\r';
        bytes = from(bytes, size + 1);
        if (!take_line(parser, line, lend, on_event, context))
            return false;
        buf_clear(&parser->line);
    }
    return keep_data(parser);
}

bool sse_feed(struct sse_parser *parser, struct slice bytes,
              sse_on_event *on_event, void *context)
{
    if (!parser->stopped)
        parser->stopped = !feed(parser, bytes, on_event, context);
    return !parser->stopped;
}
