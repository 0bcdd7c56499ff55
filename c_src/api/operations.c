#include "api/decode_internal.h"

#include <math.h>

#include "llm_router/api/json_term.h"
#include "llm_router/core/router.h"

enum { SUBTASKS_DEFAULT = 5 };

static bool decode_prompt(struct decoder *decoder, const char *path,
                          struct term value)
{
    return decode_full_text(decoder, path, value, &decoder->request->text);
}

/* A task as JSON, for the prompt. */
static bool write_task(struct decoder *decoder, struct term task,
                       struct slice *text)
{
    struct arena_mark mark = arena_mark(decoder->arena);
    struct jv *value;

    return json_from_term(task, JSON_TERM_LENIENT, decoder->arena, &value,
                          decoder->err) &&
           keep_json(decoder, mark, value, text);
}

/* The title of a task's map, and whether its keys are binaries. */
static bool decode_title(struct decoder *decoder, struct term task,
                         struct slice *title, bool *strings)
{
    struct term value;

    if (!find_member(task, "title", &value, strings))
        return error_at(decoder->err, ERR_INVALID_REQUEST, "title",
                        "is missing");
    return decode_full_text(decoder, "title", value, title);
}

static bool decode_task_map(struct decoder *decoder, struct term task)
{
    struct request *request = decoder->request;
    struct arena_mark mark = arena_mark(decoder->arena);
    struct slice title;

    if (!decode_title(decoder, task, &title, &request->caller_task_strings))
        return false;
    arena_rewind(decoder->arena, mark);
    request->caller_task = arena_copy(decoder->arena, term_raw(task));
    return write_task(decoder, task, &request->text);
}

static bool decode_task(struct decoder *decoder, const char *path,
                        struct term value)
{
    struct request *request = decoder->request;

    request->count = SUBTASKS_DEFAULT;
    if (term_kind(value) == TERM_MAP)
        return decode_task_map(decoder, value) || error_in(decoder->err, path);
    if (!decode_full_text(decoder, path, value, &request->text))
        return false;
    request->text = slice_trim(request->text);
    return true;
}

/* Line breaks and other control characters of a title become spaces. */
static bool make_one_line(struct decoder *decoder, const char *path,
                          struct slice *title)
{
    char *line = arena_bytes(decoder->arena, title->size);

    for (size_t i = 0; i < title->size; i++)
        line[i] = (unsigned char)title->data[i] < ' ' ? ' ' : title->data[i];
    *title = slice_trim(slice_make(line, title->size));
    return title->size > 0 || error_at(decoder->err, ERR_INVALID_REQUEST, path,
                                       "must not be empty");
}

static bool decode_given_map(struct decoder *decoder, struct term task,
                             struct given_task *given)
{
    struct term id;
    bool strings;

    if (!decode_title(decoder, task, &given->title, &strings) ||
        !make_one_line(decoder, "title", &given->title))
        return false;
    if (find_member(task, "id", &id, &strings))
        given->id = arena_copy(decoder->arena, term_raw(id));
    return write_task(decoder, task, &given->json);
}

static bool decode_given_title(struct decoder *decoder, struct term title,
                               struct given_task *given)
{
    struct jv_member member = {
        .key = SLICE_LITERAL("title"),
        .value = {.type = JV_STRING, .complete = true},
    };
    const struct jv task = {
        .type = JV_OBJECT,
        .complete = true,
        .as.object = {.members = &member, .count = 1},
    };

    if (!decode_full_text(decoder, "", title, &given->title) ||
        !make_one_line(decoder, "", &given->title))
        return false;
    member.value.as.string = given->title;
    return keep_json(decoder, arena_mark(decoder->arena), &task, &given->json);
}

/* A task's map, or a title alone. */
static bool decode_given_task(struct decoder *decoder, struct term task,
                              struct given_task *given)
{
    if (term_kind(task) == TERM_MAP)
        return decode_given_map(decoder, task, given);
    return decode_given_title(decoder, task, given);
}

static bool decode_given(struct decoder *decoder, const char *path,
                         struct term value)
{
    struct request *request = decoder->request;
    struct given_task *given;
    struct term_list list;
    struct term element;
    size_t total = 0;

    if (!open_list(decoder, path, value, CALL_GIVEN_MAX, &list))
        return false;
    if (list.left == 0)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must not be empty");
    given = arena_array(decoder->arena, list.left, sizeof(*given));
    request->given = given;
    for (; term_list_next(&list, &element); request->given_count++) {
        struct given_task *task = &given[request->given_count];

        if (!decode_given_task(decoder, element, task))
            return error_in_element(decoder, path, request->given_count);
        if (task->json.size > CALL_TEXT_MAX - total)
            return error_at(decoder->err, ERR_TOO_LARGE, path,
                            "over %d bytes as JSON", CALL_TEXT_MAX);
        total += task->json.size;
    }
    return true;
}

/* Of research: there may be none. */
static bool decode_background(struct decoder *decoder, const char *path,
                              struct term value)
{
    return term_is_atom(value, "nil") || term_is_atom(value, "undefined") ||
           decode_text(decoder, path, value, &decoder->request->context);
}

static bool decode_embedded(struct decoder *decoder, const char *path,
                            struct term value)
{
    struct request *request = decoder->request;
    struct texts texts;

    if (!decode_texts(decoder, path, value, REQUEST_TEXTS_MAX, &texts))
        return false;
    if (texts.count == 0)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must not be empty");
    for (size_t i = 0; i < texts.count; i++) {
        if (slice_trim(texts.items[i]).size > 0)
            continue;
        error_set(decoder->err, ERR_INVALID_REQUEST, "must not be empty");
        return error_in_element(decoder, path, i);
    }
    request->texts = texts.items;
    request->text_count = texts.count;
    return true;
}

/* A stream's reference or a request id. */
static bool decode_cancelled(struct decoder *decoder, const char *path,
                             struct term value)
{
    struct request *request = decoder->request;

    if (term_kind(value) != TERM_REFERENCE)
        return decode_name(decoder, path, value, &request->text);
    request->reference = arena_copy(decoder->arena, term_raw(value));
    return true;
}

/* #{messages, ...}: all in one map. */
static bool decode_routed(struct decoder *decoder, const char *path,
                          struct term value)
{
    if (!decode_options(decoder, path, value))
        return false;
    if (decoder->request->message_count > 0)
        return true;
    error_at(decoder->err, ERR_INVALID_REQUEST, "messages", "is missing");
    return error_in(decoder->err, path);
}

static bool decode_complexity_or_model(struct decoder *decoder,
                                       const char *path, struct term value)
{
    struct options *options = &decoder->request->options;
    struct slice name;

    if (!decode_name(decoder, path, value, &name))
        return false;
    if (complexity_parse(name, &options->complexity))
        return true;
    if (term_kind(value) == TERM_ATOM || !model_id_is_valid(name))
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be simple, medium, complex or a model id as a "
                        "string");
    options->model = name;
    return true;
}

static bool decode_message_of(struct decoder *decoder, const char *path,
                              struct term value, enum role role)
{
    struct slice content;

    if (!decode_full_text(decoder, path, value, &content))
        return false;
    add_message(decoder, role, content);
    return true;
}

static bool decode_system_message(struct decoder *decoder, const char *path,
                                  struct term value)
{
    return decode_message_of(decoder, path, value, ROLE_SYSTEM);
}

static bool decode_user_message(struct decoder *decoder, const char *path,
                                struct term value)
{
    return decode_message_of(decoder, path, value, ROLE_USER);
}

enum { PARAMETERS_MAX = 3, TAKES_OPTIONS = 1, TAKES_PID = 2 };

/* What each operation is called with. TAKES_OPTIONS: options may follow;
 * TAKES_PID: a pid, or a pid and a reference, may follow instead. */
static const struct shape {
    struct parameter {
        const char *name;
        decode_function *decode;
    } parameters[PARAMETERS_MAX];
    uint32_t count;
    unsigned flags;
} shapes[OPERATION_COUNT] = {
    [OP_GENERATE_TASK] = {{{"prompt", decode_prompt}},
                          1,
                          TAKES_OPTIONS | TAKES_PID},
    [OP_PARSE_PRD] = {{{"content", decode_prompt},
                       {"num_tasks", decode_task_count}},
                      2,
                      TAKES_OPTIONS | TAKES_PID},
    [OP_EXPAND_TASK] = {{{"task", decode_task}}, 1, TAKES_OPTIONS | TAKES_PID},
    [OP_ANALYZE_COMPLEXITY] = {{{"tasks", decode_given}}, 1, TAKES_OPTIONS},
    [OP_RESEARCH] = {{{"topic", decode_prompt}, {"context", decode_background}},
                     2,
                     TAKES_OPTIONS | TAKES_PID},
    [OP_CALL] = {{{"complexity", decode_complexity_or_model},
                  {"messages", decode_messages}},
                 2,
                 TAKES_OPTIONS},
    [OP_CALL_WITH_PROMPT] = {{{"complexity", decode_complexity_or_model},
                              {"prompt", decode_user_message}},
                             2,
                             TAKES_OPTIONS},
    [OP_CALL_WITH_SYSTEM] = {{{"complexity", decode_complexity_or_model},
                              {"system", decode_system_message},
                              {"user", decode_user_message}},
                             3,
                             TAKES_OPTIONS},
    [OP_CALL_WITH_SCRIPT] = {{{"script", decode_script},
                              {"context", decode_script_context}},
                             2,
                             TAKES_OPTIONS},
    [OP_ROUTE] = {{{"request", decode_routed}}, 1, 0},
    [OP_ROUTE_COMPLETION] = {{{"request", decode_routed}}, 1, 0},
    [OP_STREAM] = {{{"complexity", decode_complexity_or_model},
                    {"messages", decode_messages}},
                   2,
                   TAKES_OPTIONS},
    [OP_EMBED] = {{{"texts", decode_embedded}}, 1, TAKES_OPTIONS},
    [OP_CANCEL] = {{{"reference", decode_cancelled}}, 1, 0},
    [OP_WATCH_TASK] = {{{"task_id", decode_task_id}}, 1, TAKES_OPTIONS},
    [OP_UNWATCH_TASK] = {{{"task_id", decode_task_id}}, 1, TAKES_OPTIONS},
    [OP_SUBSCRIBE] = {{{"topic", decode_topic}}, 1, TAKES_OPTIONS},
    [OP_UNSUBSCRIBE] = {{{"topic", decode_topic}}, 1, TAKES_OPTIONS},
    [OP_ENQUEUE] = {{{"operation", decode_enqueued}}, 1, TAKES_OPTIONS},
    [OP_AWAIT] = {{{"request_id", decode_queue_id}, {"timeout", decode_wait}},
                  2,
                  0},
    [OP_RESULT] = {{{"request_id", decode_queue_id}}, 1, 0},
    [OP_SELECT_MODEL] = {{{"complexity", decode_complexity_or_model},
                          {"task_type", decode_task_type}},
                         2,
                         TAKES_OPTIONS},
    [OP_AVAILABLE_MODELS] = {.count = 0},
    [OP_COMPLEXITY_FOR_TASK] = {{{"task_type", decode_task_type}}, 1, 0},
    [OP_PING] = {.count = 0},
    [OP_VERSION] = {.count = 0},
    [OP_HEALTH] = {.count = 0},
    [OP_STATS] = {.count = 0},
    [OP_STATUS] = {.count = 0},
    [OP_MODELS] = {.count = 0},
    [OP_RELOAD] = {.count = 0},
    [OP_DRAIN] = {.count = 0},
};

bool operation_find(struct slice name, enum operation *operation)
{
    for (int i = 0; i < OPERATION_COUNT; i++) {
        if (slice_is(name, operation_atom((enum operation)i))) {
            *operation = (enum operation)i;
            return true;
        }
    }
    return false;
}

const char *operation_parameter(enum operation operation, uint32_t index)
{
    const struct shape *shape = &shapes[operation];

    return index < shape->count ? shape->parameters[index].name : NULL;
}

bool operation_has_arity(enum operation operation, uint32_t count)
{
    const struct shape *shape = &shapes[operation];
    uint32_t most = shape->count;

    if (shape->flags & TAKES_PID)
        most += 2;
    else if (shape->flags & TAKES_OPTIONS)
        most += 1;
    return count >= shape->count && count <= most;
}

bool invocation_taker(const struct invocation *invocation,
                      enum operation operation, struct slice *pid,
                      struct slice *reference)
{
    const struct shape *shape = &shapes[operation];
    const struct term *taker = &invocation->arguments[shape->count];

    if (!(shape->flags & TAKES_PID) || invocation->count <= shape->count ||
        invocation->count > shape->count + 2 || term_kind(*taker) != TERM_PID)
        return false;
    *pid = term_raw(taker[0]);
    *reference = slice_of(NULL);
    if (invocation->count == shape->count + 2)
        *reference = term_raw(taker[1]);
    return true;
}

struct request request_blank(void)
{
    return (struct request){
        .options = {.temperature = NAN, .top_p = NAN, .next_id = 1},
    };
}

bool decode_request(struct decoder *decoder, enum operation operation,
                    const struct term *arguments, uint32_t count)
{
    const struct shape *shape = &shapes[operation];
    uint32_t most = shape->count + ((shape->flags & TAKES_OPTIONS) ? 1 : 0);
    decode_function *decode_opts =
        operation == OP_ENQUEUE ? decode_enqueue_options : decode_options;

    decoder->request->operation = operation;
    if (count > most)
        return error_set(decoder->err, ERR_INVALID_REQUEST,
                         "%s takes at most %u arguments, got %u",
                         operation_atom(operation), most, count);
    for (uint32_t i = 0; i < shape->count; i++) {
        const struct parameter *parameter = &shape->parameters[i];

        if (i >= count)
            return error_at(decoder->err, ERR_INVALID_REQUEST, parameter->name,
                            "is missing");
        if (!parameter->decode(decoder, parameter->name, arguments[i]))
            return false;
    }
    return count < most || most == shape->count ||
           decode_opts(decoder, "opts", arguments[shape->count]);
}

/* Message forms that come here when their pid is none. */
static const struct refusal {
    const char *name;
    const char *message;
} refusals[] = {
    {"llm_request", "takes a pid, a reference and an operation"},
    {"prd_request", "takes a pid, a sender, a content and a number of tasks"},
};

bool refuse_unknown(const struct invocation *invocation, struct error *err)
{
    char shown[SHOWN_NAME_MAX + 1];

    if (!invocation->name.data)
        return error_set(err, ERR_UNKNOWN_REQUEST,
                         "an operation is an atom or a tuple that begins with "
                         "one");
    for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++)
        if (slice_is(invocation->name, refusals[i].name))
            return error_at(err, ERR_INVALID_REQUEST, "pid", "%s: %s",
                            refusals[i].name, refusals[i].message);
    return error_set(err, ERR_UNKNOWN_REQUEST, "no operation is named %s",
                     shown_name(invocation->name, shown));
}
