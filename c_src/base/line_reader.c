#include "llm_router/base/line_reader.h"

void line_reader_init(struct line_reader *reader, size_t max)
{
    *reader = (struct line_reader){.max = max};
    buf_init(&reader->bytes, max + LINE_PIECE_MAX);
}

void line_reader_release(struct line_reader *reader)
{
    buf_release(&reader->bytes);
}

static void give_back(struct line_reader *reader)
{
    buf_drop_front(&reader->bytes, reader->lent);
    reader->lent = 0;
}

void line_reader_add(struct line_reader *reader, struct slice piece)
{
    give_back(reader);
    buf_append_slice(&reader->bytes, piece);
}

/* What is there has no newline. */
static enum line_read wait_for_more(struct line_reader *reader)
{
    bool known = reader->skipping;

    if (reader->bytes.size > reader->max)
        reader->skipping = true;
    if (reader->skipping)
        buf_clear(&reader->bytes);
    return reader->skipping && !known ? LINE_TOO_LONG : LINE_NONE;
}

enum line_read line_reader_next(struct line_reader *reader, struct slice *line)
{
    for (;;) {
        const char *end;
        bool rest_of_skipped = reader->skipping;

        give_back(reader);
        end = reader->bytes.size > 0
                  ? memchr(reader->bytes.data, '\n', reader->bytes.size)
                  : NULL;
        if (!end)
            return wait_for_more(reader);
        *line =
            slice_make(reader->bytes.data, (size_t)(end - reader->bytes.data));
        reader->lent = line->size + 1;
        reader->skipping = false;
        if (!rest_of_skipped)
            return line->size > reader->max ? LINE_TOO_LONG : LINE_WHOLE;
    }
}
