/* The operations that give tasks. A document that is too long for one question
 * is read in parts: what the parts gave is kept, and each question names it. */
#include "planning_internal.h"

#include <inttypes.h>

#include "llm_router/core/router.h"

enum {
    TASKS_MAX = 1000, /* in one result, wanted or not */
    PARTS_MAX = 64,   /* of a document */
    PART_MIN = 1024,  /* bytes; smaller parts say too little by themselves */
};

static const struct task_operation task_operations[] = {
    {OP_GENERATE_TASK,
     "request",
     "tasks",
     {"task", true, TASKS_MAX},
     "task",
     offsetof(struct prompts, generate_task_system),
     offsetof(struct prompts, generate_task_user),
     offsetof(struct prompts, task_schema)},
    {OP_PARSE_PRD,
     "document",
     "tasks",
     {"tasks", false, TASKS_MAX},
     "task_list",
     offsetof(struct prompts, parse_prd_system),
     offsetof(struct prompts, parse_prd_user),
     offsetof(struct prompts, task_list_schema)},
    {OP_EXPAND_TASK,
     "task",
     "subtasks",
     {"subtasks", false, TASKS_MAX},
     "subtask_list",
     offsetof(struct prompts, expand_task_system),
     offsetof(struct prompts, expand_task_user),
     offsetof(struct prompts, subtask_list_schema)},
};

/* How many tasks this part shall give: its share by size of what is still
 * wanted, so that each part that follows gets one. */
static size_t share(const struct planning *p, size_t total)
{
    size_t left = p->part_count - p->part - 1;
    size_t missing = total > p->before.count ? total - p->before.count : 0;
    double all = 0;
    size_t part;

    if (total == 0 || left == 0)
        return total == 0 || missing > 0 ? missing : 1;
    if (missing <= left)
        return 1;
    for (size_t i = p->part; i < p->part_count; i++)
        all += (double)p->parts[i].size;
    part =
        (size_t)((double)missing * (double)p->parts[p->part].size / all + 0.5);
    if (part < 1)
        return 1;
    return part < missing - left ? part : missing - left;
}

static void ask_part(struct dialogue *d)
{
    struct planning *p = d->planning;

    p->kept = p->before;
    p->spare = (struct raw_task_list){.count = 0};
    p->wanted = share(p, (size_t)d->request->count);
    planning_ask_part(d);
}

static bool start_numbering(struct dialogue *d, struct error *err)
{
    const struct options *options = &d->request->options;
    int64_t last = 0;

    for (size_t i = 0; i < options->existing_count; i++)
        if (options->existing[i] > last)
            last = options->existing[i];
    if (last > INT64_MAX - TASKS_MAX - 1 ||
        options->next_id > INT64_MAX - TASKS_MAX)
        return error_at(err, ERR_INVALID_REQUEST, "opts.next_id",
                        "leaves no room for the ids behind it");
    d->planning->numbering = (struct task_numbering){
        .next_id = options->next_id > 1 ? options->next_id : last + 1,
        .existing = options->existing,
        .existing_count = options->existing_count,
    };
    return d->planning->numbering.next_id > last ||
           error_at(err, ERR_INVALID_REQUEST, "opts.next_id",
                    "must be over every id in opts.existing, over %" PRId64,
                    last);
}

/* Replaces the parts from the one at hand on. False: too many. */
static bool cut_rest(struct dialogue *d, size_t max_bytes)
{
    struct planning *p = d->planning;
    struct slice *parts = arena_array(d->arena, PARTS_MAX, sizeof(*parts));
    struct slice document = d->request->text;
    size_t from = p->parts[p->part].data
                      ? (size_t)(p->parts[p->part].data - document.data)
                      : 0;
    size_t count;

    if (!p->outline.document.data)
        outline_read(d->arena, document, &p->outline);
    count = outline_cut(&p->outline, from, max_bytes, parts + p->part,
                        PARTS_MAX - p->part);
    if (count == 0 || count > PARTS_MAX - p->part)
        return false;
    memcpy(parts, p->parts, p->part * sizeof(*parts));
    p->parts = parts;
    p->part_count = p->part + count;
    return true;
}

/* Parts of a document that the model has no room for; with parts, each
 * question names tasks too, for which an eighth of the context is kept. */
static bool cut_document(struct dialogue *d, struct error *err)
{
    const struct task_operation *operation = d->planning->operation;
    struct slice document = d->request->text;
    int64_t room = talk_room(d, planning_prompt(d, operation->system).size +
                                    planning_prompt(d, operation->user).size +
                                    planning_prompt(d, operation->schema).size +
                                    d->request->options.existing_count * 8);
    int64_t tokens;
    double bytes;

    if (operation->operation != OP_PARSE_PRD || room == INT64_MAX ||
        (int64_t)document.size <= room)
        return true;
    tokens = estimate_tokens(document);
    if (tokens <= room)
        return true;
    room -= d->room.context_tokens / 8;
    bytes = room > 0
                ? (double)document.size * (double)room / (double)tokens * 0.9
                : 0;
    if (cut_rest(d, bytes > PART_MIN ? (size_t)bytes : PART_MIN))
        return true;
    return error_at(err, ERR_TOO_LARGE, "content",
                    "the model has room for some %zu bytes at a time, and the "
                    "document is over %d times that",
                    bytes > PART_MIN ? (size_t)bytes : (size_t)PART_MIN,
                    PARTS_MAX);
}

static const struct task_operation *find_operation(enum operation operation)
{
    size_t i = 0;

    while (task_operations[i].operation != operation)
        i++;
    return &task_operations[i];
}

static bool begin_planning(struct dialogue *d, struct error *err)
{
    struct planning *p = arena_alloc(d->arena, sizeof(*p));
    struct slice *text = arena_alloc(d->arena, sizeof(*text));

    *text = d->request->text;
    *p = (struct planning){
        .operation = find_operation(d->request->operation),
        .parts = text,
        .part_count = 1,
    };
    d->planning = p;
    talk_expect(d, p->operation->schema_name,
                planning_prompt(d, p->operation->schema));
    if (!start_numbering(d, err) || !cut_document(d, err))
        return false;
    ask_part(d);
    return true;
}

/* Parts of half the size, and an eighth more so that a heading is found near
 * the middle. What this part gave is asked for again, as its answer may have
 * been of all of it. */
static bool shrink_planning(struct dialogue *d)
{
    struct planning *p = d->planning;
    size_t size = p->parts[p->part].size;

    if (p->operation->operation != OP_PARSE_PRD || p->merging ||
        size / 2 < PART_MIN || !cut_rest(d, size / 8 * 5))
        return false;
    ask_part(d);
    return true;
}

static enum dialogue_step finish(struct dialogue *d,
                                 const struct raw_task_list *list)
{
    struct planning *p = d->planning;
    struct result *result = &d->result;

    if (p->part_count > 1)
        warnings_add(&result->warnings, d->arena,
                     "the document was read in %zu parts", p->part_count);
    tasks_settle(d->arena, list, &p->numbering, &result->tasks,
                 &result->warnings);
    if (p->operation->operation != OP_PARSE_PRD || !d->request->options.full)
        return DIALOGUE_DONE;
    if (!p->outline.document.data)
        outline_read(d->arena, d->request->text, &p->outline);
    coverage_trace(d->arena, &p->outline, &result->tasks, &result->coverage,
                   &result->warnings);
    return DIALOGUE_DONE;
}

/* No more turns. A list that was paid for and is as good as what was asked
 * for is given all the same. */
static enum dialogue_step give_up_planning(struct dialogue *d,
                                           const struct error *err)
{
    struct planning *p = d->planning;
    const struct raw_task_list *list =
        p->spare.count > 0 ? &p->spare : &p->kept;

    if ((d->request->count > 0 && !d->request->options.about) ||
        list->count == 0)
        return DIALOGUE_FAIL;
    warnings_add(&d->result.warnings, d->arena, "given all the same: %s%s%s",
                 err->path, err->path[0] != '\0' ? ": " : "", err->message);
    if (p->part + 1 < p->part_count)
        warnings_add(&d->result.warnings, d->arena,
                     "what follows part %zu of the document was not read",
                     p->part + 1);
    return finish(d, list);
}

/* `got` of the tasks that the last turn asked for are there. */
static enum dialogue_step repair_count(struct dialogue *d, struct slice answer,
                                       size_t got, struct error *err)
{
    const struct planning *p = d->planning;
    const char *noun = p->operation->noun;
    size_t wanted = p->before.count + p->wanted;
    struct slice fault =
        arena_printf(d->arena, "you returned %zu %s, exactly %zu are required",
                     got, noun, wanted - p->kept.count);

    error_set(err, ERR_TASK_COUNT,
              "the model returned %zu %s, exactly %zu are required",
              got + p->kept.count, noun, wanted);
    err->wanted = (int)wanted;
    err->got = (int)(got + p->kept.count);
    return talk_repair(d, answer, fault, err);
}

static enum dialogue_step continue_list(struct dialogue *d, struct slice answer)
{
    const struct planning *p = d->planning;

    d->continuations++;
    warnings_add(&d->result.warnings, d->arena,
                 "the answer was cut after %zu %s, the rest was asked for",
                 p->kept.count, p->operation->noun);
    return talk_follow_up(d, d->question_count, answer,
                          planning_continuation(d));
}

static enum dialogue_step answer_task(struct dialogue *d,
                                      struct raw_task_list *list,
                                      struct slice answer, struct error *err)
{
    if (list->count == 0) {
        error_at(err, ERR_INVALID_OUTPUT, d->planning->operation->shape.member,
                 "the list is empty");
        return talk_repair_fault(d, answer, err);
    }
    if (list->count > 1)
        warnings_add(&list->warnings, d->arena,
                     "the first of %zu tasks is taken", list->count);
    list->count = 1;
    return finish(d, list);
}

/* Every part gave a task at least, which is more than the caller wants. */
static enum dialogue_step merge(struct dialogue *d)
{
    struct planning *p = d->planning;

    warnings_add(&d->result.warnings, d->arena,
                 "%zu tasks of %zu parts were given back to be made %" PRId64,
                 p->kept.count, p->part_count, d->request->count);
    p->merging = true;
    p->spare = p->kept;
    p->before = p->kept = (struct raw_task_list){.count = 0};
    p->wanted = (size_t)d->request->count;
    planning_ask_merge(d, &p->spare);
    return DIALOGUE_ASK;
}

/* May what this part gave stand, though it is not its share? What is missing
 * is then asked of the parts that follow. */
static bool is_near(const struct dialogue *d, size_t count)
{
    const struct planning *p = d->planning;
    size_t left = p->part_count - p->part - 1;

    if (p->merging || left == 0 || count == p->before.count)
        return false;
    return count + left <= (size_t)d->request->count ||
           (d->request->options.about && d->repaired);
}

static enum dialogue_step end_part(struct dialogue *d,
                                   struct raw_task_list *list)
{
    struct planning *p = d->planning;

    if (p->part_count > 1)
        tasks_number(d->arena, list, p->before.count, &p->numbering);
    p->before = p->kept = *list;
    if (!p->merging && p->part + 1 < p->part_count) {
        p->part++;
        ask_part(d);
        return DIALOGUE_ASK;
    }
    if (!p->merging && p->part_count > 1 && d->request->count > 0 &&
        list->count > (size_t)d->request->count)
        return merge(d);
    return finish(d, list);
}

static enum dialogue_step answer_list(struct dialogue *d,
                                      const struct raw_task_list *answered,
                                      struct slice answer, struct error *err)
{
    struct planning *p = d->planning;
    struct raw_task_list list = p->kept;
    size_t got;
    bool open;

    tasks_join(d->arena, &list, answered);
    got = list.count - p->before.count;
    open = list.cut && (p->wanted == 0 || got < p->wanted);
    if (open && d->continuations < DIALOGUE_CONTINUATIONS_MAX) {
        p->kept = list;
        return continue_list(d, answer);
    }
    if (p->wanted > 0 && got != p->wanted && !is_near(d, list.count)) {
        p->spare = list;
        return repair_count(d, answer, list.count - p->kept.count, err);
    }
    if (list.count == 0 && p->part + 1 == p->part_count) {
        error_at(err, ERR_INVALID_OUTPUT, p->operation->shape.member,
                 "at least one is required");
        return talk_repair_fault(d, answer, err);
    }
    if (open)
        warnings_add(&list.warnings, d->arena,
                     "the answer was still cut after %d continuations",
                     DIALOGUE_CONTINUATIONS_MAX);
    return end_part(d, &list);
}

static enum dialogue_step answer_planning(struct dialogue *d,
                                          const struct completion *completion,
                                          struct slice answer,
                                          struct error *err)
{
    const struct planning *p = d->planning;
    struct tasks_shape shape = p->operation->shape;
    struct raw_task_list list;

    (void)completion;
    shape.single = shape.single || p->wanted == 1;
    shape.max -= p->kept.count;
    if (!tasks_read(d->arena, answer, &shape, &list, err))
        return talk_repair_fault(d, answer, err);
    return p->operation->shape.single ? answer_task(d, &list, answer, err)
                                      : answer_list(d, &list, answer, err);
}

const struct talk planning_talk = {
    .begin = begin_planning,
    .answer = answer_planning,
    .give_up = give_up_planning,
    .shrink = shrink_planning,
};
