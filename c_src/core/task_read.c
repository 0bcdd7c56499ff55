#include <stdio.h>

#include "llm_router/core/answer.h"
#include "task_internal.h"

/* Deeper ones are no wrappers that a model puts around its list. */
enum { WRAPPERS_MAX = 1 };

static bool is_object_list(const struct jv *value)
{
    const struct jv *first = jv_at(value, 0);

    return first && first->type == JV_OBJECT;
}

/* The only member that is a list of objects, else the only one that is an
 * object. */
static const struct jv *only_member(const struct jv *object)
{
    const struct jv *list = NULL, *inner = NULL;
    size_t lists = 0, inners = 0;

    for (size_t i = 0; i < object->as.object.count; i++) {
        const struct jv *value = &object->as.object.members[i].value;

        if (is_object_list(value)) {
            list = value;
            lists++;
        } else if (value->type == JV_OBJECT) {
            inner = value;
            inners++;
        }
    }
    if (lists > 0)
        return lists == 1 ? list : NULL;
    return inners == 1 ? inner : NULL;
}

/* An array, or an object that is the task itself; NULL: neither is there. */
static const struct jv *find_list(const struct jv *value,
                                  const struct tasks_shape *shape,
                                  unsigned wrappers)
{
    const struct jv *named;

    if (value->type == JV_ARRAY) {
        const struct jv *only =
            value->as.array.count == 1 ? &value->as.array.items[0] : NULL;

        named =
            only && !task_has_title(only) ? jv_find(only, shape->member) : NULL;
        return named && named->type == JV_ARRAY ? named : value;
    }
    named = jv_find(value, shape->member);
    if (named && named->type == JV_ARRAY)
        return named;
    if (shape->single && task_has_title(value))
        return value;
    value = only_member(value);
    if (!value || value->type == JV_ARRAY)
        return value;
    return wrappers < WRAPPERS_MAX ? find_list(value, shape, wrappers + 1)
                                   : NULL;
}

static bool read_list(struct arena *arena, const struct jv *list,
                      const struct tasks_shape *shape,
                      struct raw_task_list *tasks, struct error *err)
{
    bool single = list->type == JV_OBJECT;
    size_t count = single ? 1 : list->as.array.count;

    if (count > shape->max)
        return error_at(err, ERR_INVALID_OUTPUT, shape->member,
                        "has %zu elements, at most %zu are taken", count,
                        shape->max);
    tasks->tasks = arena_array(arena, count, sizeof(*tasks->tasks));
    tasks->cut = !list->complete;
    for (size_t i = 0; i < count; i++) {
        const struct jv *item = single ? list : &list->as.array.items[i];
        struct reading r = {.arena = arena, .warnings = &tasks->warnings};

        if (!item->complete)
            break;
        if (single)
            snprintf(r.path, sizeof(r.path), "%s", shape->member);
        else
            snprintf(r.path, sizeof(r.path), "%s[%zu]", shape->member, i);
        if (!task_read(&r, item, &tasks->tasks[i], err))
            return false;
        tasks->count++;
    }
    return true;
}

bool tasks_read(struct arena *arena, struct slice text,
                const struct tasks_shape *shape, struct raw_task_list *list,
                struct error *err)
{
    bool cut;
    const struct jv *answer = answer_find_json(arena, text, &cut);
    const struct jv *found = answer ? find_list(answer, shape, 0) : NULL;

    *list = (struct raw_task_list){.tasks = NULL};
    if (found && !read_list(arena, found, shape, list, err))
        return false;
    if (list->count == 0 && cut)
        return error_at(err, ERR_INVALID_OUTPUT, shape->member,
                        "the answer ends before its first element does");
    if (!found)
        return error_at(err, ERR_INVALID_OUTPUT, shape->member,
                        answer ? "the answer holds no such list"
                               : "the answer holds no JSON");
    return true;
}
