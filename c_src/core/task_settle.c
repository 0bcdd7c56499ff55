#include <inttypes.h>
#include <stdlib.h>

#include "task_internal.h"

enum { IDS_QUOTED_MAX = 10, IDS_QUOTED_BYTES = 300 };

static const size_t NOWHERE = SIZE_MAX;

/* Where an id leads; sorted, so that each look-up is a binary search. */
struct entry {
    struct slice id;
    unsigned part;
    size_t place;
};

struct settling {
    struct arena *arena;
    const struct raw_task_list *list;
    int64_t next_id;
    struct warnings *warnings;
    struct slice *ids;     /* as the model knows the tasks, by place */
    struct entry *entries; /* one for each task */
    unsigned parts;
    int64_t *outside; /* existing ids that may be named: sorted, distinct */
    size_t outside_count;
};

#define REPAIRED(s, place, format, ...)                           \
    warnings_add((s)->warnings, (s)->arena, "task %.*s: " format, \
                 SLICE_ARG(warning_quote((s)->ids[place])), __VA_ARGS__)

static int compare_slices(struct slice a, struct slice b)
{
    if (a.size != b.size)
        return a.size < b.size ? -1 : 1;
    return a.size > 0 ? memcmp(a.data, b.data, a.size) : 0;
}

static int compare_keys(const struct entry *a, const struct entry *b)
{
    int order = compare_slices(a->id, b->id);

    return order != 0 ? order : (a->part > b->part) - (a->part < b->part);
}

static int compare_entries(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    int order = compare_keys(a, b);

    return order != 0 ? order : (a->place > b->place) - (a->place < b->place);
}

static int compare_numbers(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;

    return (a > b) - (a < b);
}

/* The first entry that is not below the key. */
static size_t lower_bound(const struct entry *entries, size_t count,
                          const struct entry *key)
{
    size_t from = 0;

    while (count > 0) {
        size_t half = count / 2;

        if (compare_keys(&entries[from + half], key) < 0) {
            from += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return from;
}

/* The place of the first task of that id in that part of the answer. */
static size_t find_in_part(const struct settling *s, struct slice id,
                           unsigned part)
{
    const struct entry key = {.id = id, .part = part};
    size_t at = lower_bound(s->entries, s->list->count, &key);

    if (at < s->list->count && compare_keys(&s->entries[at], &key) == 0)
        return s->entries[at].place;
    return NOWHERE;
}

static size_t find_outside(const struct settling *s, struct slice id)
{
    int64_t number;
    const int64_t *found;

    if (s->outside_count == 0 || !slice_to_int64(id, &number))
        return NOWHERE;
    found = bsearch(&number, s->outside, s->outside_count, sizeof(number),
                    compare_numbers);
    return found ? s->list->count + (size_t)(found - s->outside) : NOWHERE;
}

/* What a task means by an id: a task of the same part first (a later part may
 * begin again at 1), then one of another part, then an existing one. Returns
 * `self` when it can only be the task itself. */
static size_t resolve(const struct settling *s, struct slice id, size_t self)
{
    unsigned part = s->list->tasks[self].part;
    size_t own = find_in_part(s, id, part);
    size_t place;

    if (own != NOWHERE && own != self)
        return own;
    for (unsigned other = 0; other < s->parts; other++) {
        place = other != part ? find_in_part(s, id, other) : NOWHERE;
        if (place != NOWHERE)
            return place;
    }
    place = find_outside(s, id);
    return place != NOWHERE ? place : own;
}

struct slice raw_task_id(struct arena *arena, const struct raw_task_list *list,
                         size_t index, int64_t next_id)
{
    if (list->tasks[index].id.size > 0)
        return list->tasks[index].id;
    return arena_printf(arena, "%" PRId64, next_id + (int64_t)index);
}

static void index_tasks(struct settling *s)
{
    size_t count = s->list->count;

    s->ids = arena_array(s->arena, count, sizeof(*s->ids));
    s->entries = arena_array(s->arena, count, sizeof(*s->entries));
    for (size_t i = 0; i < count; i++) {
        unsigned part = s->list->tasks[i].part;

        s->ids[i] = raw_task_id(s->arena, s->list, i, s->next_id);
        s->entries[i] = (struct entry){s->ids[i], part, i};
        if (part >= s->parts)
            s->parts = part + 1;
    }
    if (count > 0)
        qsort(s->entries, count, sizeof(*s->entries), compare_entries);
}

static void index_existing(struct settling *s,
                           const struct task_numbering *numbering)
{
    size_t kept = 0;

    if (numbering->existing_count == 0)
        return;
    s->outside =
        arena_array(s->arena, numbering->existing_count, sizeof(*s->outside));
    for (size_t i = 0; i < numbering->existing_count; i++)
        if (numbering->existing[i] < s->next_id)
            s->outside[kept++] = numbering->existing[i];
    qsort(s->outside, kept, sizeof(*s->outside), compare_numbers);
    for (size_t i = 0; i < kept; i++)
        if (i == 0 || s->outside[i] != s->outside[i - 1])
            s->outside[s->outside_count++] = s->outside[i];
}

/* Distinct targets of each task; `seen` holds who was the last to name one. */
static void connect(struct settling *s, size_t place, size_t *seen,
                    struct graph *graph)
{
    const struct raw_task *task = &s->list->tasks[place];
    size_t end = graph->first[place];

    for (size_t i = 0; i < task->need_count; i++) {
        struct slice id = task->needs[i];
        size_t target = resolve(s, id, place);

        if (target == NOWHERE) {
            REPAIRED(s, place, "dependency %.*s dropped, there is no such task",
                     SLICE_ARG(warning_quote(id)));
        } else if (target == place) {
            REPAIRED(s, place, "dependency on %s dropped", "itself");
        } else if (seen[target] == place + 1) {
            REPAIRED(s, place, "dependency %.*s was there twice",
                     SLICE_ARG(warning_quote(id)));
        } else {
            seen[target] = place + 1;
            graph->to[end++] = target;
        }
    }
    graph->first[place + 1] = end;
}

static struct graph make_graph(struct settling *s)
{
    size_t count = s->list->count, edges = 0;
    size_t *seen =
        arena_array(s->arena, count + s->outside_count, sizeof(*seen));
    struct graph graph = {.count = count};

    for (size_t i = 0; i < count; i++)
        edges += s->list->tasks[i].need_count;
    graph.first = arena_array(s->arena, count + 1, sizeof(*graph.first));
    graph.to = arena_array(s->arena, edges, sizeof(*graph.to));
    graph.dropped = arena_array(s->arena, edges, sizeof(*graph.dropped));
    for (size_t i = 0; i < count; i++)
        connect(s, i, seen, &graph);
    return graph;
}

static bool looks_ahead(const struct graph *graph)
{
    for (size_t i = 0; i < graph->count; i++)
        for (size_t edge = graph->first[i]; edge < graph->first[i + 1]; edge++)
            if (!graph->dropped[edge] && graph->to[edge] > i &&
                graph->to[edge] < graph->count)
                return true;
    return false;
}

/* The first ids in a given order (NULL: as they stand), for a warning. */
static struct slice quote_ids(const struct settling *s, const size_t *order)
{
    struct buf buf;
    struct slice quoted;

    buf_init(&buf, IDS_QUOTED_BYTES);
    for (size_t i = 0; i < s->list->count; i++) {
        if (i == IDS_QUOTED_MAX) {
            buf_append_text(&buf, ", ...");
            break;
        }
        if (i > 0)
            buf_append_text(&buf, ", ");
        buf_append_slice(&buf, warning_quote(s->ids[order ? order[i] : i]));
    }
    quoted = arena_copy(s->arena, buf_slice(&buf));
    buf_release(&buf);
    return quoted;
}

/* Most lists need nothing here: no cycle and no other order is possible when
 * every task needs only earlier ones. */
static size_t *put_in_order(struct settling *s, struct graph *graph)
{
    size_t *order = arena_array(s->arena, graph->count, sizeof(*order));
    struct slice quoted;

    for (size_t i = 0; i < graph->count; i++)
        order[i] = i;
    if (!looks_ahead(graph))
        return order;
    graph_break_cycles(s->arena, graph);
    for (size_t i = 0; i < graph->count; i++)
        for (size_t edge = graph->first[i]; edge < graph->first[i + 1]; edge++)
            if (graph->dropped[edge])
                REPAIRED(s, i, "dependency %.*s dropped, it closed a cycle",
                         SLICE_ARG(warning_quote(s->ids[graph->to[edge]])));
    if (!looks_ahead(graph))
        return order;
    graph_sort(s->arena, graph, order);
    quoted = quote_ids(s, order);
    warnings_add(s->warnings, s->arena,
                 "tasks re-sorted, dependencies first: %.*s",
                 SLICE_ARG(quoted));
    return order;
}

static void warn_of_numbering(struct settling *s)
{
    for (size_t i = 0; i < s->list->count; i++) {
        const struct raw_task *task = &s->list->tasks[i];
        int64_t id;
        struct slice quoted;

        if (task->id.size == 0 ||
            (task->id_is_number && slice_to_int64(task->id, &id) &&
             id == s->next_id + (int64_t)i))
            continue;
        quoted = quote_ids(s, NULL);
        warnings_add(s->warnings, s->arena,
                     "tasks renumbered from %" PRId64 ", the model's ids: %.*s",
                     s->next_id, SLICE_ARG(quoted));
        return;
    }
}

/* The needs of one task by the ids that tasks get. */
static void number_needs(const struct settling *s, size_t place,
                         struct raw_task *task)
{
    struct slice *needs =
        arena_array(s->arena, task->need_count, sizeof(*needs));
    size_t count = 0;

    for (size_t i = 0; i < task->need_count; i++) {
        size_t target = resolve(s, task->needs[i], place);

        if (target == NOWHERE)
            REPAIRED(s, place, "dependency %.*s dropped, there is no such task",
                     SLICE_ARG(warning_quote(task->needs[i])));
        else
            needs[count++] = target >= s->list->count
                                 ? task->needs[i]
                                 : arena_printf(s->arena, "%" PRId64,
                                                s->next_id + (int64_t)target);
    }
    task->needs = needs;
    task->need_count = count;
}

void tasks_number(struct arena *arena, struct raw_task_list *list, size_t from,
                  const struct task_numbering *numbering)
{
    struct settling s = {
        .arena = arena,
        .list = list,
        .next_id = numbering->next_id,
        .warnings = &list->warnings,
    };

    index_tasks(&s);
    index_existing(&s, numbering);
    warn_of_numbering(&s);
    for (size_t i = from; i < list->count; i++)
        number_needs(&s, i, &list->tasks[i]);
    for (size_t i = from; i < list->count; i++) {
        list->tasks[i].id =
            arena_printf(arena, "%" PRId64, s.next_id + (int64_t)i);
        list->tasks[i].id_is_number = true;
    }
}

/* `ids` holds the final id of each place. */
static void take_dependencies(const struct settling *s,
                              const struct graph *graph, size_t place,
                              const int64_t *ids, struct task *task)
{
    size_t from = graph->first[place], end = graph->first[place + 1];

    task->dependencies =
        arena_array(s->arena, end - from, sizeof(*task->dependencies));
    for (size_t edge = from; edge < end; edge++) {
        size_t target = graph->to[edge];

        if (!graph->dropped[edge])
            task->dependencies[task->dependency_count++] =
                target < graph->count ? ids[target]
                                      : s->outside[target - graph->count];
    }
    if (task->dependency_count > 0)
        qsort(task->dependencies, task->dependency_count,
              sizeof(*task->dependencies), compare_numbers);
}

void tasks_settle(struct arena *arena, const struct raw_task_list *list,
                  const struct task_numbering *numbering,
                  struct task_list *tasks, struct warnings *warnings)
{
    struct settling s = {
        .arena = arena,
        .list = list,
        .next_id = numbering->next_id,
        .warnings = warnings,
    };
    int64_t *ids = arena_array(arena, list->count, sizeof(*ids));
    struct graph graph;
    size_t *order;

    warnings_append(warnings, arena, &list->warnings);
    index_tasks(&s);
    index_existing(&s, numbering);
    warn_of_numbering(&s);
    graph = make_graph(&s);
    order = put_in_order(&s, &graph);
    tasks->count = list->count;
    tasks->tasks = arena_array(arena, list->count, sizeof(*tasks->tasks));
    for (size_t i = 0; i < list->count; i++)
        ids[order[i]] = s.next_id + (int64_t)i;
    for (size_t i = 0; i < list->count; i++) {
        struct task *task = &tasks->tasks[i];

        *task = list->tasks[order[i]].task;
        task->id = ids[order[i]];
        take_dependencies(&s, &graph, order[i], ids, task);
    }
}

static int compare_titles(const void *left, const void *right)
{
    const struct raw_task *a = *(const struct raw_task *const *)left;
    const struct raw_task *b = *(const struct raw_task *const *)right;

    return compare_slices(a->task.title, b->task.title);
}

/* The tasks of a list by title, for bsearch. */
static const struct raw_task **sort_by_title(struct arena *arena,
                                             const struct raw_task_list *list)
{
    const struct raw_task **sorted =
        arena_array(arena, list->count, sizeof(*sorted));

    for (size_t i = 0; i < list->count; i++)
        sorted[i] = &list->tasks[i];
    if (list->count > 0)
        qsort(sorted, list->count, sizeof(*sorted), compare_titles);
    return sorted;
}

void tasks_join(struct arena *arena, struct raw_task_list *list,
                const struct raw_task_list *part)
{
    size_t before = list->count;
    unsigned number = before > 0 ? list->tasks[before - 1].part + 1 : 0;
    struct raw_task *tasks =
        arena_array(arena, before + part->count, sizeof(*tasks));
    const struct raw_task **titles = sort_by_title(arena, list);
    struct warnings warnings = {.texts =
                                    NULL}; /* copies of a list share none */

    warnings_append(&warnings, arena, &list->warnings);
    if (before > 0)
        memcpy(tasks, list->tasks, before * sizeof(*tasks));
    for (size_t i = 0; i < part->count; i++) {
        const struct raw_task *task = &part->tasks[i];

        if (before > 0 &&
            bsearch(&task, titles, before, sizeof(*titles), compare_titles)) {
            warnings_add(&warnings, arena,
                         "left out, as it was there before: \"%.*s\"",
                         SLICE_ARG(warning_quote(task->task.title)));
            continue;
        }
        tasks[list->count] = *task;
        tasks[list->count++].part = number;
    }
    list->tasks = tasks;
    list->cut = part->cut;
    warnings_append(&warnings, arena, &part->warnings);
    list->warnings = warnings;
}
