#include <stdarg.h>
#include <stdio.h>

#include "console/console_internal.h"
#include "llm_router/base/utf8.h"

enum { ESCAPE_MAX = 16 };

/* What is drawn as it is, and how wide (after Unicode's EastAsianWidth). All
 * else is escaped: controls, what has no width or joins its neighbour, what
 * changes the direction of writing, what terminals do not agree on. */
static const struct range {
    uint32_t first, last;
    unsigned columns;
} ranges[] = {
    {0x20, 0x7E, 1},       {0xA1, 0xAC, 1},       {0xAE, 0x2FF, 1},
    {0x370, 0x377, 1},     {0x37A, 0x37F, 1},     {0x384, 0x482, 1},
    {0x48A, 0x52F, 1},     {0x531, 0x556, 1},     {0x561, 0x587, 1},
    {0x10A0, 0x10FF, 1},   {0x1100, 0x115F, 2},   {0x1E00, 0x1F15, 1},
    {0x2010, 0x2027, 1},   {0x2030, 0x205E, 1},   {0x20A0, 0x20BF, 1},
    {0x2100, 0x218B, 1},   {0x2190, 0x2319, 1},   {0x2500, 0x25FC, 1},
    {0x2E80, 0x2FD5, 2},   {0x3000, 0x3029, 2},   {0x3030, 0x303E, 2},
    {0x3041, 0x3096, 2},   {0x309B, 0x30FF, 2},   {0x3131, 0x318E, 2},
    {0x3190, 0x31E3, 2},   {0x31F0, 0x321E, 2},   {0x3220, 0x4DBF, 2},
    {0x4E00, 0xA48C, 2},   {0xAC00, 0xD7A3, 2},   {0xF900, 0xFAD9, 2},
    {0xFE30, 0xFE6B, 2},   {0xFF01, 0xFF60, 2},   {0xFFE0, 0xFFE6, 2},
    {0xFFFD, 0xFFFD, 1},   {0x1F300, 0x1F320, 2}, {0x1F32D, 0x1F335, 2},
    {0x1F337, 0x1F37C, 2}, {0x1F37E, 0x1F393, 2}, {0x1F3A0, 0x1F3CA, 2},
    {0x1F3E0, 0x1F3F0, 2}, {0x1F400, 0x1F43E, 2}, {0x1F442, 0x1F4FC, 2},
    {0x1F500, 0x1F53D, 2}, {0x1F5FB, 0x1F64F, 2}, {0x1F680, 0x1F6C5, 2},
    {0x1F910, 0x1F93A, 2}, {0x1F940, 0x1F945, 2}, {0x1F947, 0x1F9FF, 2},
    {0x20000, 0x2FFFD, 2}, {0x30000, 0x3FFFD, 2},
};

static const char *const sequences[] = {
    [STYLE_PLAIN] = "\x1b[0m",  [STYLE_TITLE] = "\x1b[1m",
    [STYLE_GOOD] = "\x1b[32m",  [STYLE_WARN] = "\x1b[33m",
    [STYLE_BAD] = "\x1b[1;31m",
};

/* Of a valid character. */
static uint32_t code_point(struct slice character)
{
    static const unsigned char masks[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t code = (unsigned char)character.data[0] & masks[character.size];

    for (size_t i = 1; i < character.size; i++)
        code = code << 6 | ((unsigned char)character.data[i] & 0x3F);
    return code;
}

/* 0: to be escaped. */
static unsigned columns_of(uint32_t code)
{
    size_t low = 0, high = sizeof(ranges) / sizeof(ranges[0]);

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (code > ranges[middle].last)
            low = middle + 1;
        else if (code < ranges[middle].first)
            high = middle;
        else
            return ranges[middle].columns;
    }
    return 0;
}

/* A character as it is drawn, and its columns. */
struct glyph {
    struct slice text;
    size_t columns;
    char escape[ESCAPE_MAX];
};

static void put_escape(struct glyph *glyph, uint32_t code)
{
    if (code < 0x80)
        snprintf(glyph->escape, sizeof(glyph->escape), "\\x%02x", code);
    else
        snprintf(glyph->escape, sizeof(glyph->escape), "\\u{%x}", code);
}

/* Takes the character at the front of `text`, which is not empty. */
static void take_glyph(const struct pen *pen, struct slice *text,
                       struct glyph *glyph)
{
    size_t size = utf8_char_size(*text);
    struct slice character = slice_make(text->data, size > 0 ? size : 1);
    uint32_t code = size > 0 ? code_point(character) : 0xFFFD;

    *text =
        slice_make(text->data + character.size, text->size - character.size);
    glyph->text = character;
    glyph->columns = size > 0 ? columns_of(code) : 0;
    if (glyph->columns > 0 && code > 0x7E && !(pen->flags & VIEW_UTF8)) {
        glyph->text = SLICE_LITERAL("?");
        glyph->columns = 1;
    } else if (glyph->columns == 0) {
        put_escape(glyph, code);
        glyph->text = slice_of(glyph->escape);
        glyph->columns = glyph->text.size;
    }
}

size_t pen_measure(const struct pen *pen, struct slice text, size_t max)
{
    struct glyph glyph;
    size_t columns = 0;

    while (text.size > 0 && columns <= max) {
        take_glyph(pen, &text, &glyph);
        columns += glyph.columns;
    }
    return columns <= max ? columns : max + 1;
}

static bool is_full(const struct pen *pen)
{
    return pen->lines >= pen->max_lines;
}

static size_t columns_left(const struct pen *pen)
{
    return is_full(pen) ? 0 : pen->width - pen->column;
}

static void put_ellipsis(struct pen *pen)
{
    buf_append_text(pen->out, pen->flags & VIEW_UTF8 ? "…" : "~");
    pen->column++;
}

/* Within `columns`, at least one, which are there. */
static void put_within(struct pen *pen, struct slice text, size_t columns)
{
    bool fits = pen_measure(pen, text, columns) <= columns;
    size_t end = pen->column + columns - !fits;
    struct glyph glyph;

    while (text.size > 0) {
        take_glyph(pen, &text, &glyph);
        if (glyph.columns > end - pen->column)
            break;
        buf_append_slice(pen->out, glyph.text);
        pen->column += glyph.columns;
    }
    if (!fits)
        put_ellipsis(pen);
}

void pen_spaces(struct pen *pen, size_t columns)
{
    if (columns > columns_left(pen))
        columns = columns_left(pen);
    pen->column += columns;
    while (columns-- > 0)
        buf_append_byte(pen->out, ' ');
}

void pen_text(struct pen *pen, struct slice text)
{
    if (columns_left(pen) > 0)
        put_within(pen, text, columns_left(pen));
}

void pen_cell(struct pen *pen, struct slice text, size_t columns,
              enum align align)
{
    size_t start = pen->column, taken;

    if (columns > columns_left(pen))
        columns = columns_left(pen);
    if (columns == 0)
        return;
    taken = pen_measure(pen, text, columns);
    if (align == ALIGN_RIGHT && taken < columns)
        pen_spaces(pen, columns - taken);
    put_within(pen, text, start + columns - pen->column);
    pen_spaces(pen, start + columns - pen->column);
}

void pen_printf(struct pen *pen, const char *format, ...)
{
    char text[160];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    pen_text(pen, slice_of(text));
}

void pen_style(struct pen *pen, enum style style)
{
    if (pen->flags & VIEW_COLOUR && !is_full(pen))
        buf_append_text(pen->out, sequences[style]);
}

void pen_newline(struct pen *pen)
{
    if (is_full(pen))
        return;
    pen_style(pen, STYLE_PLAIN);
    buf_append_byte(pen->out, '\n');
    pen->column = 0;
    pen->lines++;
}

void pen_bars(struct pen *pen, const double *values, size_t count)
{
    static const char *const blocks[] = {"▁", "▂", "▃", "▄",
                                         "▅", "▆", "▇", "█"};
    static const char *const signs[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
    const char *const *bars = pen->flags & VIEW_UTF8 ? blocks : signs;
    double most = 0;

    for (size_t i = 0; i < count; i++)
        most = values[i] > most ? values[i] : most;
    for (size_t i = 0; i < count && columns_left(pen) > 0; i++) {
        int level = values[i] > 0 ? 1 + (int)(values[i] / most * 6.5) : 0;

        buf_append_text(pen->out, values[i] < 0 ? " " : bars[level]);
        pen->column++;
    }
}

void view_put_text(struct buf *out, struct slice text, unsigned flags)
{
    const struct pen pen = {.out = out, .flags = flags};
    struct glyph glyph;

    while (text.size > 0) {
        take_glyph(&pen, &text, &glyph);
        buf_append_slice(out, glyph.text);
    }
}
