/* analyze_complexity: some tasks at a time, until each has its analysis. */
#include "dialogue_internal.h"

#include "llm_router/base/utf8.h"

enum {
    BATCH_MAX = 25,               /* tasks in one question */
    BATCH_BYTES_MAX = 256 * 1024, /* of them as JSON */
    BATCH_BYTES_MIN = 4 * 1024,
    BYTES_PER_TOKEN = 3, /* of JSON */
    NAMED_MAX = 10,      /* tasks that a fault names */
};

struct analysing {
    struct analyses analyses;
    size_t *asked;
    size_t batch_max;
};

static size_t bytes_max(const struct dialogue *d)
{
    int64_t room = talk_room(d, d->prompts->analyze_complexity_system.size +
                                    d->prompts->analysis_list_schema.size);

    if (room > BATCH_BYTES_MAX / BYTES_PER_TOKEN)
        return BATCH_BYTES_MAX;
    return room > BATCH_BYTES_MIN / BYTES_PER_TOKEN
               ? (size_t)room * BYTES_PER_TOKEN
               : BATCH_BYTES_MIN;
}

/* A task in one line: its number and what the caller gave. */
static void put_task(struct dialogue *d, struct buf *buf, size_t place,
                     size_t max)
{
    const struct given_task *task = &d->analysing->analyses.given[place];
    struct slice text = task->json.size > 0 ? task->json : task->title;
    struct slice cut = utf8_cut(text, max);

    if (cut.size < text.size)
        warnings_add(&d->result.warnings, d->arena,
                     "task %zu was read up to its first %zu bytes", place + 1,
                     cut.size);
    buf_printf(buf, "%s%zu: ", buf->size > 0 ? "\n" : "", place + 1);
    buf_append_slice(buf, cut);
}

/* The next tasks that have no analysis, as many as fit. */
static void ask_batch(struct dialogue *d)
{
    struct analysing *a = d->analysing;
    size_t max = bytes_max(d);
    struct slice tasks;
    struct buf buf;

    a->analyses.asked_count = 0;
    buf_init(&buf, SIZE_MAX);
    for (size_t i = 0; i < a->analyses.count; i++) {
        const struct given_task *task = &a->analyses.given[i];

        if (a->analyses.all[i].task)
            continue;
        if (a->analyses.asked_count > 0 &&
            (a->analyses.asked_count == a->batch_max ||
             buf.size + task->json.size > max))
            break;
        put_task(d, &buf, i, max);
        a->asked[a->analyses.asked_count++] = i;
    }
    tasks = prompt_quote(d->arena, arena_keep(d->arena, &buf), "tasks");
    talk_ask(d, d->prompts->analyze_complexity_system,
             prompt_fill(
                 d->arena, d->prompts->analyze_complexity_user,
                 (const struct prompt_variable[]){
                     {"tasks", tasks},
                     {"count", a->analyses.asked_count == 1
                                   ? SLICE_LITERAL("this task")
                                   : arena_printf(d->arena, "these %zu tasks",
                                                  a->analyses.asked_count)},
                 },
                 2));
}

static bool begin_complexity(struct dialogue *d, struct error *err)
{
    const struct request *request = d->request;
    struct analysing *a = arena_alloc(d->arena, sizeof(*a));

    if (request->given_count == 0)
        return error_at(err, ERR_INVALID_REQUEST, "tasks", "must not be empty");
    a->batch_max = BATCH_MAX;
    a->asked = arena_array(d->arena, BATCH_MAX, sizeof(*a->asked));
    a->analyses = (struct analyses){
        .given = request->given,
        .all = arena_array(d->arena, request->given_count,
                           sizeof(*a->analyses.all)),
        .count = request->given_count,
        .asked = a->asked,
    };
    d->analysing = a;
    talk_expect(d, "analysis_list", d->prompts->analysis_list_schema);
    ask_batch(d);
    return true;
}

static bool shrink_complexity(struct dialogue *d)
{
    struct analysing *a = d->analysing;

    if (a->analyses.asked_count < 2)
        return false;
    a->batch_max = a->analyses.asked_count / 2;
    ask_batch(d);
    return true;
}

static size_t count_missing(const struct analyses *analyses)
{
    size_t missing = 0;

    for (size_t i = 0; i < analyses->asked_count; i++)
        missing += !analyses->all[analyses->asked[i]].task;
    return missing;
}

/* "...; no analysis of the tasks 3, 7" */
static struct slice name_missing(struct dialogue *d, const struct error *err)
{
    const struct analyses *analyses = &d->analysing->analyses;
    size_t named = 0;
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    buf_printf(&buf, "%s: %s; what lacks a usable analysis is number",
               err->path, err->message);
    for (size_t i = 0; i < analyses->asked_count; i++) {
        if (analyses->all[analyses->asked[i]].task)
            continue;
        if (named == NAMED_MAX) {
            buf_append_text(&buf, ", ...");
            break;
        }
        buf_printf(&buf, "%s%zu", named++ > 0 ? ", " : " ",
                   analyses->asked[i] + 1);
    }
    return arena_keep(d->arena, &buf);
}

static enum dialogue_step next_batch(struct dialogue *d)
{
    const struct analyses *analyses = &d->analysing->analyses;

    for (size_t i = 0; i < analyses->count; i++)
        if (!analyses->all[i].task) {
            ask_batch(d);
            return DIALOGUE_ASK;
        }
    d->result.analyses = analyses->all;
    d->result.analysis_count = analyses->count;
    return DIALOGUE_DONE;
}

/* What a cut answer has is kept; the next question is for fewer tasks. */
static enum dialogue_step answer_complexity(struct dialogue *d,
                                            const struct completion *completion,
                                            struct slice answer,
                                            struct error *err)
{
    struct analysing *a = d->analysing;
    size_t before = count_missing(&a->analyses), got;
    bool cut;

    (void)completion;
    if (analyses_read(d->arena, answer, &a->analyses, &cut, &d->result.warnings,
                      err))
        return next_batch(d);
    got = before - count_missing(&a->analyses);
    if (!cut || got == 0)
        return talk_repair(d, answer, name_missing(d, err), err);
    warnings_add(&d->result.warnings, d->arena,
                 "the answer was cut after %zu analyses, the rest was asked "
                 "for",
                 got);
    a->batch_max = got;
    return next_batch(d);
}

const struct talk complexity_talk = {
    .begin = begin_complexity,
    .answer = answer_complexity,
    .shrink = shrink_complexity,
};
