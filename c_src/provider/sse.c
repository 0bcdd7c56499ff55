#include "llm_router/provider/sse.h"

void sse_init(struct sse_parser *parser, size_t max_event_bytes)
{
    *parser = (struct sse_parser){.stopped = false};
    buf_init(&parser->line, max_event_bytes);
    buf_init(&parser->data, max_event_bytes);
    buf_init(&parser->event, 256);
}

void sse_release(struct sse_parser *parser)
{
    buf_release(&parser->line);
    buf_release(&parser->data);
    buf_release(&parser->event);
}

/* Only data makes an event; a bare `event:` field is forgotten. */
static void dispatch(struct sse_parser *parser, sse_on_event *on_event,
                     void *context)
{
    struct sse_event event = {
        .event = buf_slice(&parser->event),
        .data = buf_slice(&parser->data),
    };

    if (event.data.size > 0) {
        event.data.size--; /* the LF behind the last line */
        parser->stopped = !on_event(context, &event);
    }
    buf_clear(&parser->data);
    buf_clear(&parser->event);
}

static void take_field(struct sse_parser *parser, struct slice line)
{
    const char *colon = memchr(line.data, ':', line.size);
    size_t size = colon ? (size_t)(colon - line.data) : line.size;
    struct slice name = slice_make(line.data, size);
    struct slice value = slice_make(line.data + line.size, 0);

    if (colon)
        value = slice_make(colon + 1, line.size - size - 1);
    if (value.size > 0 && value.data[0] == ' ')
        value = slice_make(value.data + 1, value.size - 1);
    if (slice_is(name, "data")) {
        buf_append_slice(&parser->data, value);
        buf_append_byte(&parser->data, '\n');
    } else if (slice_is(name, "event")) {
        buf_clear(&parser->event);
        buf_append_slice(&parser->event, value);
    }
}

static void take_line(struct sse_parser *parser, struct slice line,
                      sse_on_event *on_event, void *context)
{
    if (!parser->started) {
        parser->started = true;
        if (slice_starts_with(line, "\xEF\xBB\xBF"))
            line = slice_make(line.data + 3, line.size - 3);
    }
    if (line.size == 0)
        dispatch(parser, on_event, context);
    else if (line.data[0] != ':')
        take_field(parser, line);
}

/* Bytes up to CR or LF. */
static size_t line_size(struct slice bytes)
{
    const char *lf = memchr(bytes.data, '\n', bytes.size);
    size_t size = lf ? (size_t)(lf - bytes.data) : bytes.size;
    const char *cr = memchr(bytes.data, '\r', size);

    return cr ? (size_t)(cr - bytes.data) : size;
}

bool sse_feed(struct sse_parser *parser, struct slice bytes,
              sse_on_event *on_event, void *context)
{
    while (bytes.size > 0 && !parser->stopped) {
        size_t size;

        if (parser->after_cr && bytes.data[0] == '\n') { /* CRLF, split */
            parser->after_cr = false;
            bytes = slice_make(bytes.data + 1, bytes.size - 1);
            continue;
        }
        parser->after_cr = false;
        size = line_size(bytes);
        if (size == bytes.size) { /* the line goes on in the next feed */
            buf_append(&parser->line, bytes.data, size);
            return !parser->line.failed;
        }
        parser->after_cr = bytes.data[size] == '\r';
        if (parser->line.size > 0) {
            buf_append(&parser->line, bytes.data, size);
            take_line(parser, buf_slice(&parser->line), on_event, context);
        } else {
            take_line(parser, slice_make(bytes.data, size), on_event, context);
        }
        if (parser->line.failed || parser->data.failed)
            return false;
        buf_clear(&parser->line);
        bytes = slice_make(bytes.data + size + 1, bytes.size - size - 1);
    }
    return !parser->stopped;
}
