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

struct sse_parser {
    struct buf line;
    struct buf data;
    struct buf event;
    bool after_cr;
    bool started; /* the byte order mark was dealt with */
    bool stopped;
};

void sse_init(struct sse_parser *parser, size_t max_event_bytes);
void sse_release(struct sse_parser *parser);

/* False when stopped by the callback or an event was over the maximum
 * (then buf.failed is set in line or data). */
bool sse_feed(struct sse_parser *parser, struct slice bytes,
              sse_on_event *on_event, void *context);

#endif
