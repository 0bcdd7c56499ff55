#include "llm_router/core/headings.h"

#include "llm_router/base/utf8.h"

enum {
    INDENT_MAX = 3, /* spaces; with more a line is code */
    MARKS_MAX = 6,  /* # of a heading */
    FENCE_MIN = 3,
    UNDERLINE_MIN = 3,
    PLAIN_MAX = 100,   /* bytes of a heading without marks */
    CAPITALS_MIN = 3,  /* letters that make a line one of capitals */
    NUMBERS_MAX = 6,   /* levels of "1.2.3" */
    REACH = 16 * 1024, /* bytes from its aim where a cut in text is sought */
};

/* A line, without what ends it. */
struct line {
    struct slice text;
    size_t from;
    int64_t number;
};

struct scan {
    struct arena *arena;
    struct outline *outline;
    size_t capacity;
    struct line before, line; /* line.text.data NULL: none yet */
    struct line paragraph;    /* the line that may be underlined, if its text
                                 is not empty */
    struct slice fence;       /* that a code block began with, or empty */
};

static struct slice slice_from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

static bool is_blank(struct slice text)
{
    return slice_trim(text).size == 0;
}

static bool next_line(struct slice document, struct line *line)
{
    size_t from = line->text.data ? line->from + line->text.size : 0;
    struct slice rest;
    const char *end;

    if (line->text.data && from < document.size)
        from += document.data[from] == '\r';
    if (line->text.data && from < document.size)
        from++; /* the line feed */
    if (from >= document.size)
        return false;
    rest = slice_from(document, from);
    end = memchr(rest.data, '\n', rest.size);
    if (end)
        rest.size = (size_t)(end - rest.data);
    if (end && rest.size > 0 && rest.data[rest.size - 1] == '\r')
        rest.size--;
    *line = (struct line){rest, from, line->number + 1};
    return true;
}

static void add_section(struct scan *scan, const struct line *line,
                        unsigned level, struct slice heading)
{
    struct outline *outline = scan->outline;
    struct section *grown;

    heading = slice_trim(heading);
    if (heading.size == 0 || outline->count == HEADINGS_MAX)
        return;
    if (outline->count == scan->capacity) {
        scan->capacity = scan->capacity > 0 ? scan->capacity * 2 : 16;
        grown = arena_array(scan->arena, scan->capacity, sizeof(*grown));
        if (outline->count > 0)
            memcpy(grown, outline->sections, outline->count * sizeof(*grown));
        outline->sections = grown;
    }
    outline->sections[outline->count++] = (struct section){
        .heading = utf8_cut(heading, HEADING_TEXT_MAX),
        .level = level,
        .line = line->number,
        .from = line->from,
    };
}

static size_t run_of(struct slice text, char c)
{
    size_t size = 0;

    while (size < text.size && text.data[size] == c)
        size++;
    return size;
}

/* Without the indent of a text line; empty when it is code. */
static struct slice without_indent(struct slice text)
{
    size_t indent = run_of(text, ' ');

    return indent > INDENT_MAX ? slice_make(text.data, 0)
                               : slice_from(text, indent);
}

/* The run of ` or ~ that begins or ends a code block, or empty. */
static struct slice fence_of(struct slice text)
{
    size_t size;

    if (text.size == 0 || (*text.data != '`' && *text.data != '~'))
        return slice_make(text.data, 0);
    size = run_of(text, *text.data);
    return slice_make(text.data, size < FENCE_MIN ? 0 : size);
}

/* Is the line in a code block, or one of its fences? */
static bool is_code(struct scan *scan, struct slice text)
{
    struct slice fence = fence_of(text);
    bool inside = scan->fence.size > 0;

    if (!inside)
        scan->fence = fence;
    else if (fence.size >= scan->fence.size &&
             *fence.data == *scan->fence.data &&
             is_blank(slice_from(text, fence.size)))
        scan->fence.size = 0;
    return inside || fence.size > 0;
}

/* "## Title ##" */
static bool is_marked(struct slice text, unsigned *level, struct slice *heading)
{
    size_t marks = run_of(text, '#'), size;

    if (marks == 0 || marks > MARKS_MAX ||
        (marks < text.size && text.data[marks] != ' ' &&
         text.data[marks] != '\t'))
        return false;
    text = slice_trim(slice_from(text, marks));
    for (size = text.size; size > 0 && text.data[size - 1] == '#'; size--)
        ;
    if (size == 0 || text.data[size - 1] == ' ' || text.data[size - 1] == '\t')
        text.size = size;
    *level = (unsigned)marks;
    *heading = text;
    return true;
}

/* Of one line only: of a longer paragraph the last one would be no title, and
 * a list or table is none. */
static bool may_be_underlined(struct slice text, const struct line *before)
{
    return text.size > 0 && is_blank(before->text) &&
           !strchr("-*+>|=", *text.data);
}

static bool is_underline(struct slice text, unsigned *level)
{
    struct slice marks = slice_trim(text);

    if (marks.size < UNDERLINE_MIN ||
        (*marks.data != '=' && *marks.data != '-'))
        return false;
    *level = *marks.data == '=' ? 1 : 2;
    return run_of(marks, *marks.data) == marks.size;
}

static void scan_marks(struct scan *scan)
{
    struct slice text = without_indent(scan->line.text), heading;
    unsigned level;

    if (is_code(scan, text)) {
        scan->paragraph.text.size = 0;
        return;
    }
    if (is_marked(text, &level, &heading)) {
        add_section(scan, &scan->line, level, heading);
        scan->paragraph.text.size = 0;
        return;
    }
    if (scan->paragraph.text.size > 0 && is_underline(text, &level))
        add_section(scan, &scan->paragraph, level, scan->paragraph.text);
    scan->paragraph = scan->line;
    if (!may_be_underlined(text, &scan->before))
        scan->paragraph.text.size = 0;
}

/* Levels of "1.2 Title" and "3) Title"; 0: there is no number. */
static unsigned number_levels(struct slice text)
{
    unsigned levels = 0;
    size_t at = 0, digits = 0;

    for (; at < text.size && (text.data[at] == '.' ||
                              (text.data[at] >= '0' && text.data[at] <= '9'));
         at++) {
        bool dot = text.data[at] == '.';

        if (dot && digits == 0)
            return 0;
        levels += !dot && digits == 0;
        digits = dot ? 0 : digits + 1;
    }
    at += levels == 1 && at < text.size && text.data[at] == ')';
    if (levels > NUMBERS_MAX || at + 1 >= text.size || text.data[at] != ' ' ||
        (text.data[at + 1] >= 'a' && text.data[at + 1] <= 'z'))
        return 0;
    return levels;
}

static bool is_in_capitals(struct slice text)
{
    size_t capitals = 0;

    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] >= 'a' && text.data[i] <= 'z')
            return false;
        capitals += text.data[i] >= 'A' && text.data[i] <= 'Z';
    }
    return capitals >= CAPITALS_MIN && !strchr("-*+>|", *text.data);
}

/* The line before the one at hand, when it is a heading by its form. "1." may
 * as well be of a list: only when it stands alone. */
static void scan_plain(struct scan *scan, bool before_blank)
{
    struct line *line = &scan->paragraph;
    struct slice text = slice_trim(line->text);
    unsigned levels;

    if (text.size == 0 || text.size > PLAIN_MAX || !before_blank ||
        strchr(".,;!?", text.data[text.size - 1]))
        return;
    levels = number_levels(text);
    if (levels == 1 && !is_blank(scan->line.text))
        levels = 0;
    if (levels > 0)
        add_section(scan, line, levels, text);
    else if (is_in_capitals(text))
        add_section(scan, line, 1, text);
}

/* Front matter is between two lines of three dashes, the first one on top. */
static void skip_front_matter(struct slice document, struct line *line)
{
    struct line at = {.number = 0};

    if (!next_line(document, &at) || !slice_is(at.text, "---"))
        return;
    while (next_line(document, &at))
        if (slice_is(at.text, "---")) {
            *line = at;
            return;
        }
}

static void find_marked(struct scan *scan)
{
    skip_front_matter(scan->outline->document, &scan->line);
    while (scan->before = scan->line,
           next_line(scan->outline->document, &scan->line)) {
        if (slice_is(scan->before.text, "---"))
            scan->before.text.size = 0; /* a rule divides as a blank line */
        scan_marks(scan);
    }
}

static void find_plain(struct scan *scan)
{
    bool before_blank = true;

    scan->line = scan->paragraph = (struct line){.number = 0};
    while (next_line(scan->outline->document, &scan->line)) {
        scan_plain(scan, before_blank);
        before_blank = is_blank(scan->paragraph.text);
        scan->paragraph = scan->line;
    }
    scan->line.text.size = 0;
    scan_plain(scan, before_blank);
}

/* What stands before the first heading, if anything does. */
static void add_front(struct arena *arena, struct outline *outline)
{
    struct section *sections;
    size_t first = outline->sections[0].from;

    if (is_blank(slice_make(outline->document.data, first))) {
        outline->sections[0].from = 0;
        return;
    }
    sections = arena_array(arena, outline->count + 1, sizeof(*sections));
    sections[0] = (struct section){.line = 1};
    memcpy(sections + 1, outline->sections, outline->count * sizeof(*sections));
    outline->sections = sections;
    outline->count++;
}

void outline_read(struct arena *arena, struct slice document,
                  struct outline *outline)
{
    struct scan scan = {.arena = arena, .outline = outline};

    *outline = (struct outline){.document = document};
    find_marked(&scan);
    if (outline->count == 0)
        find_plain(&scan);
    if (outline->count > 0)
        add_front(arena, outline);
}

struct slice outline_section(const struct outline *outline, size_t index)
{
    size_t from = outline->sections[index].from;
    size_t end = index + 1 < outline->count ? outline->sections[index + 1].from
                                            : outline->document.size;

    return slice_make(outline->document.data + from, end - from);
}

/* Where a part may end: behind `low`, at `aim` best, not behind `high`. */
struct window {
    size_t low, aim, high;
};

static size_t distance(size_t a, size_t b)
{
    return a > b ? a - b : b - a;
}

/* The most important heading in the window, of equals the one nearest to the
 * aim; 0: there is none. */
static size_t cut_at_heading(const struct outline *outline,
                             const struct window *window)
{
    const struct section *best = NULL;

    for (size_t i = 0; i < outline->count; i++) {
        const struct section *section = &outline->sections[i];

        if (section->from <= window->low || section->from > window->high)
            continue;
        if (!best || section->level < best->level ||
            (section->level == best->level &&
             distance(section->from, window->aim) <
                 distance(best->from, window->aim)))
            best = section;
    }
    return best ? best->from : 0;
}

static bool ends_with(struct slice document, size_t end, struct slice mark)
{
    return end >= mark.size &&
           !memcmp(document.data + end - mark.size, mark.data, mark.size);
}

/* Behind the `mark` in the window that is nearest to the aim; 0: none. */
static size_t cut_behind(struct slice document, const struct window *window,
                         struct slice mark)
{
    for (size_t i = 0; i <= window->high - window->low; i++) {
        if (i < window->aim - window->low &&
            ends_with(document, window->aim - i, mark))
            return window->aim - i;
        if (i <= window->high - window->aim &&
            ends_with(document, window->aim + i, mark))
            return window->aim + i;
    }
    return 0;
}

static size_t cut_at_character(struct slice document,
                               const struct window *window)
{
    size_t end = window->aim;

    while (end > window->low && (document.data[end] & 0xC0) == 0x80)
        end--;
    return end;
}

static size_t find_cut(const struct outline *outline,
                       const struct window *window)
{
    static const struct slice marks[] = {
        SLICE_LITERAL("\n\n"),
        SLICE_LITERAL("\n\r\n"),
        SLICE_LITERAL("\n"),
        SLICE_LITERAL(". "),
        SLICE_LITERAL("! "),
        SLICE_LITERAL("? "),
        SLICE_LITERAL("\xE3\x80\x82"), /* the full stop of Chinese */
        SLICE_LITERAL(" "),
    };
    size_t cut = cut_at_heading(outline, window);
    struct window near = *window;

    if (near.aim - near.low > REACH)
        near.low = near.aim - REACH;
    if (near.high - near.aim > REACH)
        near.high = near.aim + REACH;
    for (size_t i = 0; cut == 0 && i < sizeof(marks) / sizeof(*marks); i++)
        cut = cut_behind(outline->document, &near, marks[i]);
    return cut > 0 ? cut : cut_at_character(outline->document, window);
}

size_t outline_cut(const struct outline *outline, size_t from, size_t max_bytes,
                   struct slice *parts, size_t most)
{
    struct slice document = outline->document;
    size_t count = 0;

    while (from < document.size) {
        size_t rest = document.size - from;
        size_t pieces = rest / max_bytes + (rest % max_bytes > 0);
        size_t aim = rest / pieces;
        struct slice part = slice_make(document.data + from, rest);

        if (pieces > 1)
            part.size =
                find_cut(outline, &(struct window){from + aim / 2, from + aim,
                                                   from + max_bytes}) -
                from;
        from += part.size;
        if (is_blank(part))
            continue;
        if (count == most)
            return most + 1;
        parts[count++] = part;
    }
    return count;
}
