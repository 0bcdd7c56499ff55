/* Lines out of a stream of bytes that comes in pieces. Pure.
 *
 *     line_reader_add(&reader, piece);
 *     while ((read = line_reader_next(&reader, &line)) != LINE_NONE)
 *         ...
 *
 * A line ends with a newline, which is not part of it; a rest without one
 * waits for more. Of a line over the maximum nothing is kept but the fact. */
#ifndef LLM_ROUTER_BASE_LINE_READER_H
#define LLM_ROUTER_BASE_LINE_READER_H

#include "llm_router/base/buf.h"

enum { LINE_PIECE_MAX = 64 * 1024 };

enum line_read { LINE_NONE, LINE_WHOLE, LINE_TOO_LONG };

struct line_reader {
    struct buf bytes;
    size_t lent;   /* bytes at the front that the last line took */
    size_t max;    /* of a line */
    bool skipping; /* the rest of a line that is too long */
};

void line_reader_init(struct line_reader *reader, size_t max);
void line_reader_release(struct line_reader *reader);

/* At most LINE_PIECE_MAX bytes, when there is no further line to take. */
void line_reader_add(struct line_reader *reader, struct slice piece);

/* Lends the line until the next call of either function. */
enum line_read line_reader_next(struct line_reader *reader, struct slice *line);

#endif
