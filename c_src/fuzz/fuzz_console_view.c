/* Any status document, on a screen of any size: no line is too wide, there are
 * no more lines than the screen has, and no control characters but those that
 * were wanted. The first bytes choose size and kind of the screen. */
#include <stdlib.h>

#include "console/console_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Behind a sequence that switches a colour; these have digits and ';'. */
static const char *skip_colour(const char *at, const char *end)
{
    require(end - at >= 4 && at[1] == '[');
    for (at += 2; at < end && *at != 'm'; at++)
        require((*at >= '0' && *at <= '9') || *at == ';');
    require(at < end);
    return at + 1;
}

/* The columns of a line without its colours, measured as text of strangers is:
 * what would be escaped there is a fault. */
static void check_line(const char *at, const char *end,
                       const struct view_options *options)
{
    const struct pen pen = {.flags = options->flags};
    size_t columns = 0;

    while (at < end) {
        const char *stop = memchr(at, '\x1b', (size_t)(end - at));

        if (!stop)
            stop = end;
        columns += pen_measure(&pen, slice_make(at, (size_t)(stop - at)),
                               VIEW_WIDTH_MAX);
        for (; at < stop; at++)
            require((unsigned char)*at >= ' ' && *at != 0x7F);
        if (at < end) {
            require(options->flags & VIEW_COLOUR);
            at = skip_colour(at, end);
        }
    }
    require(columns <= options->width);
}

static void check(struct slice shown, const struct view_options *options)
{
    const char *at = shown.data, *end = shown.data + shown.size;
    size_t lines = 0;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));

        require(newline != NULL);
        check_line(at, newline, options);
        at = newline + 1;
        lines++;
    }
    require(lines > 0);
    require(options->height == 0 || lines <= options->height);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view_options options = {.notice = SLICE_LITERAL("not\nanswered")};
    const struct jv *status;
    struct arena arena;
    struct error err;
    struct buf out;

    if (size < 3)
        return 0;
    options.width = VIEW_WIDTH_MIN + data[0];
    options.height = data[1] % 64;
    options.flags = data[2] % 4;
    if (data[2] & 4)
        options.notice = slice_of(NULL);
    arena_init(&arena, 0);
    buf_init(&out, SIZE_MAX);
    if (view_parse(&arena, slice_make(data + 3, size - 3), &status, &err)) {
        view_put(status, &options, &out);
        check(buf_slice(&out), &options);
    }
    buf_release(&out);
    arena_release(&arena);
    return 0;
}
