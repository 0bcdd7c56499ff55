#include "api/decode_internal.h"

#include "llm_router/api/json_term.h"
#include "llm_router/base/buf.h"
#include "llm_router/core/router.h"

enum { SUBTASKS_DEFAULT = 5 };

static bool decode_prompt(struct decoder *decoder, const char *path,
                          struct term value)
{
    return decode_full_text(decoder, path, value, &decoder->request->text);
}

/* The value of `title`, be its key an atom or a binary. */
static bool find_title(struct term map, struct term *title, bool *is_string)
{
    struct slice name;
    struct term key;
    uint32_t pairs;

    *is_string = false;
    if (term_map_find(map, "title", title))
        return true;
    if (!term_map(map, &pairs, &key))
        return false;
    for (; pairs > 0; pairs--) {
        *title = term_next(key);
        if (term_binary(key, &name) && slice_is(name, "title")) {
            *is_string = true;
            return true;
        }
        if (pairs > 1)
            key = term_next(*title);
    }
    return false;
}

static bool put_task(struct decoder *decoder, struct term task,
                     struct buf *text)
{
    struct jv *value;

    if (!json_from_term(task, JSON_TERM_LENIENT, decoder->arena, &value,
                        decoder->err))
        return false;
    jv_put(text, value);
    return !text->failed || error_set(decoder->err, ERR_TOO_LARGE,
                                      "over %d bytes as JSON", CALL_TEXT_MAX);
}

/* request->text: the task as JSON, for the prompt. Of the values on the way
 * there nothing stays. */
static bool write_task(struct decoder *decoder, struct term task)
{
    struct arena_mark mark = arena_mark(decoder->arena);
    struct buf text;
    bool written;

    buf_init(&text, CALL_TEXT_MAX);
    written = put_task(decoder, task, &text);
    arena_rewind(decoder->arena, mark);
    if (written)
        decoder->request->text = arena_keep(decoder->arena, &text);
    buf_release(&text);
    return written;
}

static bool decode_task_map(struct decoder *decoder, struct term task)
{
    struct request *request = decoder->request;
    struct arena_mark mark = arena_mark(decoder->arena);
    struct slice text;
    struct term title;

    if (!find_title(task, &title, &request->caller_task_strings))
        return error_at(decoder->err, ERR_INVALID_REQUEST, "title",
                        "is missing");
    if (!decode_full_text(decoder, "title", title, &text))
        return false;
    arena_rewind(decoder->arena, mark);
    request->caller_task = arena_copy(decoder->arena, term_raw(task));
    return write_task(decoder, task);
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
    [OP_SELECT_MODEL] = {{{"complexity", decode_complexity_or_model},
                          {"task_type", decode_task_type}},
                         2,
                         TAKES_OPTIONS},
    [OP_PING] = {.count = 0},
    [OP_VERSION] = {.count = 0},
    [OP_HEALTH] = {.count = 0},
    [OP_STATS] = {.count = 0},
    [OP_MODELS] = {.count = 0},
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

bool decode_request(struct decoder *decoder, enum operation operation,
                    const struct term *arguments, uint32_t count)
{
    const struct shape *shape = &shapes[operation];
    uint32_t most = shape->count + ((shape->flags & TAKES_OPTIONS) ? 1 : 0);

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
           decode_options(decoder, "opts", arguments[shape->count]);
}

/* Operations of the contract that this version has not, and message forms that
 * come here when their pid is none. */
static const struct refusal {
    const char *name;
    enum error_code code;
    const char *path;
    const char *message;
} refusals[] = {
#define NOT_BUILT(name)                                      \
    {                                                        \
        name, ERR_UNKNOWN_REQUEST, "", "not in this version" \
    }
    NOT_BUILT("analyze_complexity"),
    NOT_BUILT("research"),
    NOT_BUILT("call_with_script"),
    NOT_BUILT("route_completion"),
    NOT_BUILT("route"),
    NOT_BUILT("stream"),
    NOT_BUILT("embed"),
    NOT_BUILT("cancel"),
    NOT_BUILT("watch_task"),
    NOT_BUILT("unwatch_task"),
#undef NOT_BUILT
    {"llm_request", ERR_INVALID_REQUEST, "pid",
     "takes a pid, a reference and an operation"},
    {"prd_request", ERR_INVALID_REQUEST, "pid",
     "takes a pid, a sender, a content and a number of tasks"},
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
            return error_at(err, refusals[i].code, refusals[i].path, "%s: %s",
                            refusals[i].name, refusals[i].message);
    return error_set(err, ERR_UNKNOWN_REQUEST, "no operation is named %s",
                     shown_name(invocation->name, shown));
}
