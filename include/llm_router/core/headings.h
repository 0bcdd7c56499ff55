/* A document's headings, and its parts when it is too long for one question.
 *
 * Headings are those of Markdown: lines that begin with up to six #, and lines
 * underlined by = or -, outside of code fences and front matter. Where there
 * are none, lines that stand alone are: numbered titles ("1.2 Title") and
 * capitals. Both functions are linear in the document, but for the parts. */
#ifndef LLM_ROUTER_CORE_HEADINGS_H
#define LLM_ROUTER_CORE_HEADINGS_H

#include "llm_router/base/arena.h"

enum {
    HEADINGS_MAX = 2000,    /* what follows belongs to the last one */
    HEADING_TEXT_MAX = 300, /* bytes */
};

/* From a heading to the next. */
struct section {
    struct slice heading; /* without its marks; empty: the text before the
                             first heading */
    unsigned level;       /* 1 is the topmost; 0: no heading */
    int64_t line;         /* of the heading, from 1 */
    size_t from;          /* offset in the document */
};

/* Sections in order, the first from offset 0; text before the first heading is
 * a section when it is not blank. */
struct outline {
    struct slice document;
    struct section *sections;
    size_t count; /* 0: there are no headings */
};

/* Borrows the document, which is UTF-8. */
void outline_read(struct arena *arena, struct slice document,
                  struct outline *outline);

/* The text of a section, its heading included. */
struct slice outline_section(const struct outline *outline, size_t index);

/* Cuts what follows offset `from` into parts of at most max_bytes (>= 16) and
 * about one size: before the most important headings, else behind paragraphs,
 * lines, sentences, else between two characters. Blank parts are left out.
 * Returns how many there are, or most + 1 when there would be more. */
size_t outline_cut(const struct outline *outline, size_t from, size_t max_bytes,
                   struct slice *parts, size_t most);

#endif
