/* Whatever a document looks like: its sections are all of it, its parts too
 * (but for blank ones), no part is over its maximum or cuts a character, and a
 * task's source is a heading of it.
 *
 * Input: maximum of a part, where a task's title and its source begin, then
 * the document, of which both are pieces. */
#include <stdlib.h>

#include "llm_router/base/utf8.h"
#include "llm_router/core/coverage.h"

enum { PARTS_MAX = 8, TASKS = 2, TITLE = 40 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool is_blank(struct slice text)
{
    return slice_trim(text).size == 0;
}

static void require_outline(const struct outline *outline)
{
    size_t at = 0;

    require(outline->count <= HEADINGS_MAX + 1);
    for (size_t i = 0; i < outline->count; i++) {
        const struct section *section = &outline->sections[i];
        struct slice text = outline_section(outline, i);

        require(section->from == at && text.size > 0);
        require(section->heading.size <= HEADING_TEXT_MAX);
        require((section->heading.size == 0) == (section->level == 0));
        require(section->level > 0 || i == 0);
        require(section->line >= 1);
        require(i == 0 || section->line > outline->sections[i - 1].line);
        require(utf8_is_valid(section->heading));
        require(section->heading.size == 0 ||
                slice_find(text, section->heading) >= 0);
        at += text.size;
    }
    require(outline->count == 0 || at == outline->document.size);
}

static void require_parts(const struct outline *outline, size_t max)
{
    struct slice parts[PARTS_MAX];
    const char *at = outline->document.data;
    const char *end = at + outline->document.size;
    size_t count = outline_cut(outline, 0, max, parts, PARTS_MAX);

    require(count <= PARTS_MAX + 1);
    for (size_t i = 0; i < count && i < PARTS_MAX; i++) {
        require(parts[i].data >= at && parts[i].size <= max);
        require(is_blank(slice_make(at, (size_t)(parts[i].data - at))));
        require(!is_blank(parts[i]) && utf8_is_valid(parts[i]));
        at = parts[i].data + parts[i].size;
    }
    if (count <= PARTS_MAX)
        require(is_blank(slice_make(at, (size_t)(end - at))));
}

static struct slice piece(struct slice document, size_t from)
{
    struct slice rest = document;

    while (from > 0 && rest.size > 0) {
        size_t step = utf8_char_size(rest);

        rest = slice_make(rest.data + step, rest.size - step);
        from--;
    }
    return utf8_cut(rest, TITLE);
}

static void require_coverage(struct arena *arena, const struct outline *outline,
                             const struct task_list *tasks)
{
    struct warnings warnings = {.count = 0};
    struct coverage coverage;

    coverage_trace(arena, outline, tasks, &coverage, &warnings);
    require(coverage.count == outline->count);
    for (size_t i = 0; coverage.count > 0 && i < tasks->count; i++) {
        size_t source = coverage.sources[i];

        require(source == SOURCE_NONE || source < coverage.count);
        require(source == SOURCE_NONE || coverage.headings[source].covered);
    }
    for (size_t i = 0; i < warnings.count; i++)
        require(utf8_is_valid(warnings.texts[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct outline outline;
    struct slice document;
    struct task tasks[TASKS] = {{.id = 1}, {.id = 2}};

    if (size < 3)
        return 0;
    arena_init(&arena, 0);
    document = utf8_clean(&arena, slice_make(data + 3, size - 3));
    outline_read(&arena, document, &outline);
    require_outline(&outline);
    require_parts(&outline, 16 + data[0]);
    tasks[0].title = piece(document, data[1]);
    tasks[1].source = piece(document, data[2]);
    require_coverage(&arena, &outline, &(struct task_list){tasks, TASKS});
    arena_release(&arena);
    return 0;
}
