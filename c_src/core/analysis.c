#include "llm_router/core/analysis.h"

#include <math.h>
#include <stdio.h>

#include "llm_router/core/answer.h"

/* The names under which models write a field; the first is ours. */
enum { NAMES_MAX = 4, ELEMENTS_MAX = 1000 };
typedef const char *const field_names[NAMES_MAX];

static field_names NUMBER = {"number", "task_number", "task_id", "id"};
static field_names TITLE = {"title", "task_title", "taskTitle", "name"};
static field_names SCORE = {"complexity_score", "complexityScore", "score",
                            "complexity"};
static field_names SUBTASKS = {"recommended_subtasks", "recommendedSubtasks",
                               "subtasks"};
static field_names PROMPT = {"expansion_prompt", "expansionPrompt"};
static field_names REASONING = {"reasoning", "reason"};

static const size_t NOWHERE = SIZE_MAX;

struct reading {
    struct arena *arena;
    struct analyses *analyses;
    struct warnings *warnings;
    const struct jv *list;
    size_t *places; /* of the task, for each element */
    struct error *err;
};

/* How an element is told to belong to a task; best first. */
typedef bool belongs(const struct reading *r, size_t element, size_t asked);

static const struct jv *find_any(const struct jv *object, field_names names)
{
    for (size_t i = 0; i < NAMES_MAX && names[i]; i++) {
        const struct jv *value = jv_find(object, names[i]);

        if (value && value->type != JV_NULL)
            return value;
    }
    return NULL;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool equal_nocase(struct slice a, struct slice b)
{
    if (a.size != b.size)
        return false;
    for (size_t i = 0; i < a.size; i++)
        if (lower(a.data[i]) != lower(b.data[i]))
            return false;
    return true;
}

static bool has_number(const struct reading *r, size_t element, size_t asked)
{
    const struct jv *value = find_any(jv_at(r->list, element), NUMBER);
    int64_t number = jv_integer(value, 0);

    if (jv_is_string(value) &&
        !slice_to_int64(slice_trim(value->as.string), &number))
        return false;
    return number == (int64_t)r->analyses->asked[asked] + 1;
}

static bool has_title(const struct reading *r, size_t element, size_t asked)
{
    const struct given_task *task =
        &r->analyses->given[r->analyses->asked[asked]];
    struct slice title =
        slice_trim(jv_string(find_any(jv_at(r->list, element), TITLE)));

    return title.size > 0 && equal_nocase(title, slice_trim(task->title));
}

static bool has_both(const struct reading *r, size_t element, size_t asked)
{
    return has_number(r, element, asked) && has_title(r, element, asked);
}

static bool has_place(const struct reading *r, size_t element, size_t asked)
{
    return element == asked && jv_count(r->list) == r->analyses->asked_count;
}

/* Each element to one task at most, each task to one element. */
static void match(struct reading *r, belongs *is_of, bool *taken)
{
    for (size_t i = 0; i < jv_count(r->list); i++)
        for (size_t j = 0;
             r->places[i] == NOWHERE && j < r->analyses->asked_count; j++)
            if (!taken[j] && is_of(r, i, j)) {
                r->places[i] = r->analyses->asked[j];
                taken[j] = true;
            }
}

static void match_all(struct reading *r)
{
    static belongs *const ways[] = {has_both, has_title, has_number, has_place};
    bool *taken =
        arena_array(r->arena, r->analyses->asked_count, sizeof(*taken));

    for (size_t i = 0; i < jv_count(r->list); i++)
        r->places[i] = NOWHERE;
    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
        match(r, ways[i], taken);
}

/* 7, 7.0, "7", "7/10"; NAN: no number. */
static double read_number(struct reading *r, const struct jv *value)
{
    struct error ignored;
    struct jv *number;
    size_t used;

    if (!jv_is_string(value))
        return jv_number(value, NAN);
    if (!jv_parse(r->arena, slice_trim(value->as.string), JV_STRICT,
                  &JV_DEFAULT_LIMITS, &used, &number, &ignored))
        return NAN;
    return jv_number(number, NAN);
}

/* A whole number within the limits, whatever form it has. */
static bool read_count(struct reading *r, size_t element, field_names names,
                       int64_t low, int64_t high, int64_t *count)
{
    const struct jv *value = find_any(jv_at(r->list, element), names);
    double number = round(read_number(r, value));
    char path[64];

    if (isnan(number)) {
        snprintf(path, sizeof(path), "analyses[%zu].%s", element, names[0]);
        return error_at(r->err, ERR_INVALID_OUTPUT, path,
                        "must be a number from %lld to %lld", (long long)low,
                        (long long)high);
    }
    *count = number < (double)low    ? low
             : number > (double)high ? high
                                     : (int64_t)number;
    if (jv_integer(value, low - 1) != *count)
        warnings_add(r->warnings, r->arena, "analyses[%zu].%s: read as %lld",
                     element, names[0], (long long)*count);
    return true;
}

static struct slice read_text(struct reading *r, size_t element,
                              field_names names)
{
    const struct jv *value = find_any(jv_at(r->list, element), names);
    struct slice text = slice_trim(jv_string(value));

    if (value && !jv_is_string(value))
        warnings_add(r->warnings, r->arena,
                     "analyses[%zu].%s: left out, %s is no text", element,
                     names[0], jv_type_name(value));
    return text.size > 0 ? text : slice_of(NULL);
}

/* False: the error says what it lacks. */
static bool read_element(struct reading *r, size_t element)
{
    size_t place = r->places[element];
    struct analysis analysis = {.task = &r->analyses->given[place]};

    if (!read_count(r, element, SCORE, 1, ANALYSIS_SCORE_MAX,
                    &analysis.score) ||
        !read_count(r, element, SUBTASKS, 0, ANALYSIS_SUBTASKS_MAX,
                    &analysis.subtasks))
        return false;
    analysis.expansion_prompt = read_text(r, element, PROMPT);
    analysis.reasoning = read_text(r, element, REASONING);
    r->analyses->all[place] = analysis;
    return true;
}

static void read_elements(struct reading *r)
{
    struct error first;

    error_clear(&first);
    for (size_t i = 0; i < jv_count(r->list); i++) {
        if (!jv_at(r->list, i)->complete)
            continue;
        if (r->places[i] == NOWHERE)
            warnings_add(r->warnings, r->arena,
                         "analyses[%zu]: left out, it is of no task that was "
                         "asked about",
                         i);
        else if (!read_element(r, i) && first.code == ERR_NONE)
            first = *r->err;
    }
    *r->err = first;
}

/* The list under its name, the only list of objects, the value itself, or an
 * object that is the only analysis. */
static const struct jv *find_list(struct arena *arena, const struct jv *value)
{
    const struct jv *named = jv_find(value, "analyses");
    struct jv *only;

    if (named && named->type == JV_ARRAY)
        return named;
    if (!value || value->type == JV_ARRAY)
        return value;
    for (size_t i = 0; i < jv_count(value); i++) {
        const struct jv *member = &value->as.object.members[i].value;

        if (jv_at(member, 0) && jv_at(member, 0)->type == JV_OBJECT)
            return member;
    }
    if (!find_any(value, SCORE))
        return NULL;
    only = arena_alloc(arena, sizeof(*only));
    *only = (struct jv){.type = JV_ARRAY, .complete = value->complete};
    only->as.array.items = arena_alloc(arena, sizeof(*only));
    only->as.array.items[0] = *value;
    only->as.array.count = 1;
    return only;
}

static bool none_is_missing(const struct analyses *analyses, struct error *err)
{
    char path[32];

    for (size_t i = 0; i < analyses->asked_count; i++) {
        size_t place = analyses->asked[i];

        if (analyses->all[place].task)
            continue;
        if (err->code != ERR_NONE)
            return false;
        snprintf(path, sizeof(path), "analyses[%zu]", place);
        return error_at(err, ERR_INVALID_OUTPUT, path,
                        "the model gave none for this task");
    }
    error_clear(err);
    return true;
}

bool analyses_read(struct arena *arena, struct slice text,
                   struct analyses *analyses, bool *cut,
                   struct warnings *warnings, struct error *err)
{
    const struct jv *answer = answer_find_json(arena, text, cut);
    struct reading r = {
        .arena = arena,
        .analyses = analyses,
        .warnings = warnings,
        .list = find_list(arena, answer),
        .err = err,
    };

    error_clear(err);
    if (!r.list)
        return error_at(err, ERR_INVALID_OUTPUT, "analyses",
                        answer ? "the answer holds no such list"
                               : "the answer holds no JSON");
    if (jv_count(r.list) > ELEMENTS_MAX)
        return error_at(err, ERR_INVALID_OUTPUT, "analyses",
                        "has %zu elements, at most %d are taken",
                        jv_count(r.list), ELEMENTS_MAX);
    r.places = arena_array(arena, jv_count(r.list), sizeof(*r.places));
    match_all(&r);
    read_elements(&r);
    return none_is_missing(analyses, err);
}
