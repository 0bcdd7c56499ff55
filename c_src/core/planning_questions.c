/* What the operations that give tasks ask. */
#include "planning_internal.h"

#include <inttypes.h>

#include "llm_router/base/utf8.h"

enum {
    TITLES_MAX = 32 * 1024, /* bytes of the tasks named in a question */
    MERGED_TEXT_MAX = 400,  /* bytes of a text of a task that is merged */
};

struct slice planning_prompt(const struct dialogue *d, size_t offset)
{
    return *(const struct slice *)(const void *)((const char *)d->prompts +
                                                 offset);
}

static struct slice quote_context(const struct dialogue *d)
{
    struct slice context = slice_trim(d->request->context);

    if (context.size == 0)
        return slice_of(NULL);
    context = prompt_quote(d->arena, context, "context");
    context = prompt_quote(d->arena, context, d->planning->operation->tag);
    return prompt_fill(d->arena,
                       SLICE_LITERAL("\n<context>\n{{context}}\n</context>"),
                       &(struct prompt_variable){"context", context}, 1);
}

static struct slice count_phrase(const struct dialogue *d)
{
    const struct planning *p = d->planning;
    const char *noun = p->operation->noun;

    if (p->wanted > 0)
        return arena_printf(d->arena, "exactly %zu %s", p->wanted, noun);
    return arena_printf(d->arena, "an appropriate number of %s%s", noun,
                        p->part_count > 1 ? ", none if it asks for no work"
                                          : "");
}

/* "3. Set up the database", a line for each task that is there; the last ones
 * when they are too many. */
static struct slice list_titles(struct dialogue *d,
                                const struct raw_task_list *list)
{
    int64_t next_id = d->planning->numbering.next_id;
    size_t first = list->count, size = 0;
    struct buf buf;

    while (first > 0) {
        size += list->tasks[first - 1].task.title.size + 24;
        if (size > TITLES_MAX)
            break;
        first--;
    }
    buf_init(&buf, SIZE_MAX);
    for (size_t i = first; i < list->count; i++) {
        struct slice id = raw_task_id(d->arena, list, i, next_id);

        buf_printf(&buf, "%s%.*s. %.*s", i > first ? "\n" : "", SLICE_ARG(id),
                   SLICE_ARG(list->tasks[i].task.title));
    }
    return arena_keep(d->arena, &buf);
}

static void put_part(struct dialogue *d, struct buf *buf)
{
    const struct planning *p = d->planning;

    if (p->part_count <= 1 || p->merging)
        return;
    buf_printf(buf,
               "\nThis is part %zu of %zu of a longer document: plan only "
               "what this part asks for.",
               p->part + 1, p->part_count);
    if (p->before.count == 0)
        return;
    buf_append_text(buf, "\nThe parts before it gave these tasks, which "
                         "dependencies may name; do not repeat them:\n");
    buf_append_slice(buf, list_titles(d, &p->before));
}

/* What there is already, for lists that are added to. */
static struct slice existing_phrase(struct dialogue *d)
{
    const struct planning *p = d->planning;
    const struct task_numbering *numbering = &p->numbering;
    int64_t next_id = numbering->next_id + (int64_t)p->before.count;
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    if (next_id > 1 && !p->operation->shape.single)
        buf_printf(&buf, "\nNumber the %s from %" PRId64 ".",
                   p->operation->noun, next_id);
    for (size_t i = 0; i < numbering->existing_count; i++)
        buf_printf(&buf, "%s%" PRId64,
                   i == 0 ? "\nDependencies may name these existing "
                            "ids: "
                          : ", ",
                   numbering->existing[i]);
    put_part(d, &buf);
    return arena_keep(d->arena, &buf);
}

void planning_ask_part(struct dialogue *d)
{
    const struct planning *p = d->planning;
    const char *tag = p->operation->tag;
    const struct prompt_variable variables[] = {
        {tag, prompt_quote(d->arena, p->parts[p->part], tag)},
        {"count", count_phrase(d)},
        {"context", quote_context(d)},
        {"existing", existing_phrase(d)},
    };

    talk_ask(d, planning_prompt(d, p->operation->system),
             prompt_fill(d->arena, planning_prompt(d, p->operation->user),
                         variables, sizeof(variables) / sizeof(*variables)));
}

static void put_field(struct buf *buf, const char *name, struct slice text)
{
    if (text.size == 0)
        return;
    buf_printf(buf, ",\"%s\":", name);
    jv_put_string(buf, utf8_cut(text, MERGED_TEXT_MAX));
}

static struct slice list_as_json(struct dialogue *d,
                                 const struct raw_task_list *list)
{
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    for (size_t i = 0; i < list->count; i++) {
        const struct raw_task *task = &list->tasks[i];

        buf_append_text(&buf, i > 0 ? ",\n{\"id\":" : "[{\"id\":");
        jv_put_string(&buf, raw_task_id(d->arena, list, i,
                                        d->planning->numbering.next_id));
        put_field(&buf, "title", task->task.title);
        put_field(&buf, "description", task->task.description);
        put_field(&buf, "details", task->task.details);
        put_field(&buf, "test_strategy", task->task.test_strategy);
        put_field(&buf, "source", task->task.source);
        buf_append_text(&buf, ",\"dependencies\":[");
        for (size_t j = 0; j < task->need_count; j++) {
            buf_append_text(&buf, j > 0 ? "," : "");
            jv_put_string(&buf, task->needs[j]);
        }
        buf_append_text(&buf, "]}");
    }
    buf_append_byte(&buf, ']');
    return arena_keep(d->arena, &buf);
}

void planning_ask_merge(struct dialogue *d, const struct raw_task_list *list)
{
    const struct prompt_variable variables[] = {
        {"tasks", prompt_quote(d->arena, list_as_json(d, list), "tasks")},
        {"count", count_phrase(d)},
        {"existing", existing_phrase(d)},
    };

    talk_ask(d, planning_prompt(d, d->planning->operation->system),
             prompt_fill(d->arena, d->prompts->merge, variables,
                         sizeof(variables) / sizeof(*variables)));
}

struct slice planning_continuation(struct dialogue *d)
{
    const struct planning *p = d->planning;
    const char *noun = p->operation->noun;
    int64_t next = p->numbering.next_id + (int64_t)p->kept.count;
    size_t missing = p->wanted - (p->kept.count - p->before.count);
    const struct prompt_variable variables[] = {
        {"done", list_titles(d, &p->kept)},
        {"count",
         p->wanted > 0
             ? arena_printf(d->arena, "exactly %zu %s", missing, noun)
             : arena_printf(d->arena, "the %s still missing, or an empty list",
                            noun)},
        {"next", arena_printf(d->arena, "%" PRId64, next)},
    };

    return prompt_fill(d->arena, d->prompts->continuation, variables,
                       sizeof(variables) / sizeof(*variables));
}
