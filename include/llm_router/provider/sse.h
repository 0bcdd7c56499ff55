/* Server-sent events (WHATWG HTML, 9.2.6), incrementally: correct for any
 * split of the bytes, for CR, LF and CRLF, comments, several data lines, and a
 * byte order mark. */
#ifndef LLM_ROUTER_PROVIDER_SSE_H
#define LLM_ROUTER_PROVIDER_SSE_H

#include "llm_router/base/buf.h"

struct sse_event {
    struct slice event; /* "" when the stream named none */
    struct slice data;  /* data lines joined by LF */
};

/* Called once for each event that has data; false stops the parser. The
 * slices are valid only during the call. */
typedef bool sse_on_event(void *context, const struct sse_event *event);

/* Holds no memory until an event is split over two feeds. */
struct sse_parser {
    struct buf line;   /* the part of a line that earlier feeds brought */
    struct buf data;   /* data lines of this event, unless lent */
    struct buf event;  /* its name */
    struct slice lent; /* its only data line, in the bytes being fed */
    bool has_data;
    bool after_cr; /* an LF that follows belongs to the line end before it */
    bool started;  /* the byte order mark was dealt with */
    bool stopped;
};

/* Neither a line nor the data of an event may be longer. */
void sse_init(struct sse_parser *parser, size_t max_event_bytes);
void sse_release(struct sse_parser *parser);

/* False, now and ever after, when the callback stopped it or something was
 * over the maximum. */
bool sse_feed(struct sse_parser *parser, struct slice bytes,
              sse_on_event *on_event, void *context);

#endif
