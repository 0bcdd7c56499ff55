/* What `status` and `top` show: the router's status document as lines of text.
 *
 * Pure. Lines end with a newline and are at most so many columns wide; besides
 * newlines and, where colours are wanted, the sequences that switch them, they
 * hold no control characters. Texts of the document may be hostile (a provider
 * wrote them, a node chose its own name): what a terminal could take for a
 * command, or draw in an unknown number of columns, is written as \x1b or
 * \u{202e}; what is too long is cut. Whatever is missing or of the wrong type
 * is left out or 0. */
#ifndef LLM_ROUTER_CONSOLE_VIEW_H
#define LLM_ROUTER_CONSOLE_VIEW_H

#include "llm_router/json/value.h"

enum {
    VIEW_COLOUR = 1,
    VIEW_UTF8 = 2, /* else ASCII */
};

enum { VIEW_WIDTH_MIN = 20, VIEW_WIDTH_MAX = 400 };

struct view_options {
    size_t width;  /* within VIEW_WIDTH_MIN and VIEW_WIDTH_MAX */
    size_t height; /* at most so many lines; 0: as many as there are */
    unsigned flags;
    struct slice notice; /* the first line; empty: none */
};

/* A status document in the arena, which borrows from `text`. ERR_BAD_RESPONSE:
 * it is none. */
bool view_parse(struct arena *arena, struct slice text,
                const struct jv **status, struct error *err);

/* Does the router take calls: started, and not draining? */
bool view_is_ready(const struct jv *status);

void view_put(const struct jv *status, const struct view_options *options,
              struct buf *out);

/* One text, escaped, without a newline. */
void view_put_text(struct buf *out, struct slice text, unsigned flags);

#endif
