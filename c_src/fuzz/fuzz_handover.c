/* A supervisor's input, in pieces of any size: lines are found whatever the
 * pieces, each is read or refused, and a configuration that is read is one
 * line of JSON that reads back the same. */
#include <stdlib.h>

#include "llm_router/config/handover.h"

enum { SHORT_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void read_line(struct slice line, enum handover_line which)
{
    struct handover handover, again;
    struct arena arena;
    struct error err;
    struct slice text;

    arena_init(&arena, 0);
    if (!handover_parse(&arena, line, which, &handover, &err)) {
        require(err.code == ERR_INVALID_REQUEST && err.message[0] != '\0');
    } else if (handover.config.size > 0) {
        text = arena_printf(&arena, "{\"config\":%.*s}",
                            SLICE_ARG(handover.config));
        require(handover_parse(&arena, text, which, &again, &err));
        require(slice_equal(again.config, handover.config));
    }
    arena_release(&arena);
}

/* How many lines there are, taken in pieces of `step` bytes. */
static size_t read_all(struct slice input, size_t step, size_t max)
{
    struct line_reader reader;
    size_t count = 0;

    line_reader_init(&reader, max);
    while (input.size > 0) {
        size_t size = step < input.size ? step : input.size;
        enum line_read read;
        struct slice line;

        line_reader_add(&reader, slice_make(input.data, size));
        input = slice_make(input.data + size, input.size - size);
        while ((read = line_reader_next(&reader, &line)) != LINE_NONE) {
            require(read != LINE_WHOLE || line.size <= max);
            if (read == LINE_WHOLE && step == LINE_PIECE_MAX)
                read_line(line, count > 0 ? HANDOVER_LATER : HANDOVER_FIRST);
            count += read == LINE_WHOLE;
        }
    }
    line_reader_release(&reader);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_make(data, size);
    size_t step = size > 0 ? 1 + data[0] % 7u : 1;

    require(read_all(input, LINE_PIECE_MAX, HANDOVER_MAX) ==
            read_all(input, step, HANDOVER_MAX));
    require(read_all(input, LINE_PIECE_MAX, SHORT_MAX) ==
            read_all(input, step, SHORT_MAX));
    return 0;
}
