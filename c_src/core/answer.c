#include "llm_router/core/answer.h"

static struct slice slice_from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

/* Servers without a reasoning parser leave the thinking in the text, drafts
 * included. */
static struct slice skip_thinking(struct slice text)
{
    static const char END[] = "</think>";
    ptrdiff_t end;

    text = slice_trim(text);
    if (!slice_starts_with(text, "<think>"))
        return text;
    end = slice_find(text, SLICE_LITERAL(END));
    return end < 0 ? slice_of(NULL)
                   : slice_from(text, (size_t)end + sizeof(END) - 1);
}

/* Brackets in prose, such as [see below] and {x}, are told apart by what
 * comes behind them. */
static bool begins_json(struct slice text)
{
    struct slice inside = slice_trim(slice_from(text, 1));
    char next = inside.size > 0 ? *inside.data : '\0';

    if (*text.data == '{')
        return next == '"' || next == '}' || next == '\0';
    return *text.data == '[' && strchr("{[\"]-0123456789", next);
}

/* Bytes up to the closing bracket, or all when there is none. */
static size_t span(struct slice text)
{
    size_t depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];

        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '['))
            depth++;
        else if (!quoted && (c == '}' || c == ']') && --depth == 0)
            return i + 1;
    }
    return text.size;
}

/* What begins as JSON and is none is passed over as a whole: a part of a
 * broken document must not stand for all of it. */
const struct jv *answer_find_json(struct arena *arena, struct slice text,
                                  bool *cut)
{
    const struct jv *best = NULL;
    size_t best_size = 0, at = 0;

    text = skip_thinking(text);
    while (at < text.size) {
        struct arena_mark mark = arena_mark(arena);
        struct slice rest = slice_from(text, at);
        struct error ignored;
        struct jv *value;
        size_t size = 1;

        if (!begins_json(rest)) {
            at++;
            continue;
        }
        if (!jv_parse(arena, rest, JV_PARTIAL | JV_TRAILING_COMMA,
                      &JV_DEFAULT_LIMITS, &size, &value, &ignored)) {
            value = NULL;
            size = span(rest);
        }
        if (value && size > best_size) {
            best = value;
            best_size = size;
        } else {
            arena_rewind(arena, mark);
        }
        at += size;
    }
    *cut = best && !best->complete;
    return best;
}

/* "```markdown" up to the last line, when that is a fence too. */
static struct slice without_fence(struct slice text)
{
    static const char FENCE[] = "```";
    size_t fence = sizeof(FENCE) - 1;
    const char *line;

    if (!slice_starts_with(text, FENCE) || text.size < 2 * fence ||
        memcmp(text.data + text.size - fence, FENCE, fence) != 0)
        return text;
    text.size -= fence;
    line = memchr(text.data, '\n', text.size);
    if (!line)
        return slice_make(text.data, text.size + fence);
    text = slice_from(text, (size_t)(line - text.data) + 1);
    return slice_find(text, SLICE_LITERAL(FENCE)) < 0 ? slice_trim(text)
                                                      : slice_make(NULL, 0);
}

struct slice answer_text(struct slice text)
{
    struct slice whole = slice_trim(skip_thinking(text));
    struct slice inside = without_fence(whole);

    return inside.size > 0 ? inside : whole;
}
