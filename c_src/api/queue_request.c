#include <inttypes.h>

#include "api/queue_internal.h"
#include "llm_router/api/json_term.h"
#include "llm_router/term/check.h"

/* As a term a value takes the bytes of its text and at most 14 more. */
enum { TERM_BYTES_MAX = 64 * 1024 * 1024 };

static const struct term_limits TERM_LIMITS = {TERM_BYTES_MAX, 256};

/* What is there; null is as if it were not. */
static const struct jv *find(const struct jv *object, const char *key)
{
    const struct jv *value = jv_find(object, key);

    return value && value->type != JV_NULL ? value : NULL;
}

static bool find_text(struct decoder *decoder, const struct jv *message,
                      const char *key, struct slice *text)
{
    const struct jv *value = find(message, key);

    *text = jv_string(value);
    return !value || value->type == JV_STRING ||
           error_at(decoder->err, ERR_INVALID_REQUEST, key,
                    "must be a string, got %s", jv_type_name(value));
}

/* A list of integers is text to the BEAM, but an array is none in JSON. */
static bool find_value(struct decoder *decoder, const struct jv *message,
                       const char *key, const struct jv **value)
{
    static const char *const arrays[] = {"messages", "tasks", "texts", "tools",
                                         "mcp_servers"};

    *value = find(message, key);
    if (!*value || (*value)->type != JV_ARRAY)
        return true;
    for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays); i++)
        if (strcmp(key, arrays[i]) == 0)
            return true;
    return error_at(decoder->err, ERR_INVALID_REQUEST, key,
                    "must not be an array");
}

/* --- who asks --- */

/* Job queues count their jobs: a number is as good as a text. */
static bool find_number(struct decoder *decoder, const struct jv *message,
                        const char *key, struct slice *text)
{
    const struct jv *value = find(message, key);

    if (!value || value->type != JV_INTEGER)
        return find_text(decoder, message, key, text);
    *text = arena_printf(decoder->arena, "%" PRId64, value->as.integer);
    return true;
}

static bool read_labels(struct decoder *decoder, const struct jv *message,
                        struct queue_request *queued)
{
    const struct {
        const char *key;
        struct slice *label;
        bool (*find)(struct decoder *, const struct jv *, const char *,
                     struct slice *);
    } labels[] = {
        {"agent_id", &queued->agent_id, find_text},
        {"workflow", &queued->workflow, find_text},
        {"instance_id", &queued->instance_id, find_number},
        {"job_id", &queued->job_id, find_number},
    };
    struct slice text;
    bool read = find_text(decoder, message, "timestamp", &text);

    for (size_t i = 0; i < sizeof(labels) / sizeof(*labels); i++)
        read = labels[i].find(decoder, message, labels[i].key, &text) &&
               keep_label(decoder, labels[i].key, text, labels[i].label) &&
               read;
    return read;
}

/* {"name": ..., "node": ...}, or the two in an array. */
static bool read_receiver(struct decoder *decoder, const struct jv *message,
                          struct queue_request *queued)
{
    const struct jv *to = find(message, "reply_to");
    bool is_pair = jv_count(to) == 2 && to->type == JV_ARRAY;
    const struct jv *name = is_pair ? jv_at(to, 0) : jv_find(to, "name");
    const struct jv *node = is_pair ? jv_at(to, 1) : jv_find(to, "node");

    if (!to)
        return true;
    if (!jv_is_string(name) || !jv_is_string(node))
        return error_at(decoder->err, ERR_INVALID_REQUEST, "reply_to",
                        "must have a name and a node, both strings");
    return keep_receiver(
        decoder, "reply_to",
        (struct queue_receiver){jv_string(name), jv_string(node)},
        &queued->notify);
}

static bool read_operation(struct decoder *decoder, const struct jv *message,
                           enum operation *operation)
{
    char shown[SHOWN_NAME_MAX + 1];
    enum operation found = OP_CALL;
    struct slice name;

    if (!find_text(decoder, message, "operation", &name))
        return false;
    if (name.size > 0 && !operation_find(name, &found))
        return error_at(decoder->err, ERR_INVALID_REQUEST, "operation",
                        "no operation is named %s", shown_name(name, shown));
    if (!operation_is_queued(found))
        return error_at(decoder->err, ERR_INVALID_REQUEST, "operation",
                        "%s cannot be put on the queue", operation_atom(found));
    *operation = found;
    return true;
}

static bool read_id(struct decoder *decoder, const struct jv *message,
                    struct queue_request *queued)
{
    struct slice *id = &queued->request.options.request_id;
    struct slice text;

    if (!find_text(decoder, message, "request_id", &text))
        return false;
    if (text.size == 0)
        return error_at(decoder->err, ERR_INVALID_REQUEST, "request_id",
                        "is missing");
    if (!keep_queue_id(decoder, "request_id", text, id))
        return false;
    queued->request_id = arena_copy(decoder->arena, text);
    return true;
}

/* All of it, whatever is wrong with a part; then the last fault counts. */
static bool read_sender(struct decoder *decoder, const struct jv *message,
                        struct queue_request *queued)
{
    bool read = read_labels(decoder, message, queued);

    read = read_receiver(decoder, message, queued) && read;
    read = read_operation(decoder, message, &queued->request.operation) && read;
    return read_id(decoder, message, queued) && read;
}

/* --- what is asked, by the decoders of calls --- */

static bool to_term(struct decoder *decoder, const struct jv *value,
                    struct buf *bytes, struct term *term)
{
    json_put_term(bytes, value);
    if (bytes->failed)
        return error_set(decoder->err, ERR_TOO_LARGE, "over %d bytes as a term",
                         TERM_BYTES_MAX);
    *term = term_from_raw(buf_slice(bytes));
    return term_check(buf_slice(bytes), &TERM_LIMITS, decoder->err);
}

/* "auto" leaves the choice to the router. */
static bool is_auto(const char *key, const struct jv *value)
{
    return (strcmp(key, "model") == 0 || strcmp(key, "provider") == 0) &&
           slice_is(jv_string(value), "auto");
}

/* The complexity is an option in messages: the argument is its default. */
static bool find_argument(struct decoder *decoder, const struct jv *message,
                          const char *name, struct jv *argument)
{
    static const struct {
        const char *name;
        struct jv value;
    } defaults[] = {
        {"complexity", {JV_STRING, true, {.string = {"medium", 6}}}},
        {"num_tasks", {JV_INTEGER, true, {.integer = 0}}},
        {"context", {.type = JV_NULL, .complete = true}},
    };
    bool is_option = strcmp(name, "complexity") == 0;
    const struct jv *value = NULL;

    if (!is_option && !find_value(decoder, message, name, &value))
        return false;
    for (size_t i = 0; i < sizeof(defaults) / sizeof(*defaults) && !value; i++)
        if (strcmp(name, defaults[i].name) == 0)
            value = &defaults[i].value;
    if (!value)
        return error_at(decoder->err, ERR_INVALID_REQUEST, name, "is missing");
    *argument = *value;
    return true;
}

static bool decode_arguments(struct decoder *decoder, const struct jv *message)
{
    enum operation operation = decoder->request->operation;
    struct jv items[ARGUMENTS_MAX];
    struct jv list = {.type = JV_ARRAY, .complete = true};
    struct invocation invocation;
    const char *name;
    struct term term;
    struct buf bytes;
    uint32_t count = 0;
    bool decoded;

    for (; (name = operation_parameter(operation, count)) != NULL; count++)
        if (!find_argument(decoder, message, name, &items[count]))
            return false;
    list.as.array.items = items;
    list.as.array.count = count;
    buf_init(&bytes, TERM_BYTES_MAX);
    decoded = to_term(decoder, &list, &bytes, &term) &&
              invocation_of_list(&invocation, slice_of(NULL), term) &&
              decode_request(decoder, operation, invocation.arguments, count);
    buf_release(&bytes);
    return decoded;
}

static bool decode_object(struct decoder *decoder, const char *path,
                          const struct jv *object)
{
    struct term term;
    struct buf bytes;
    bool decoded;

    buf_init(&bytes, TERM_BYTES_MAX);
    decoded = to_term(decoder, object, &bytes, &term) &&
              decode_options(decoder, path, term);
    buf_release(&bytes);
    return decoded;
}

/* Of a path that begins with an empty parent's. Always false. */
static bool drop_dot(struct error *err)
{
    if (err->path[0] == '.')
        memmove(err->path, err->path + 1, strlen(err->path));
    return false;
}

/* Options that may also be beside "options", which goes before them. */
static bool decode_outer_options(struct decoder *decoder,
                                 const struct jv *message,
                                 const struct jv *options)
{
    enum { EVERY = -1 };
    static const struct {
        const char *name;
        int operation;
    } names[] = {
        {"model", EVERY},
        {"provider", EVERY},
        {"complexity", EVERY},
        {"task_type", EVERY},
        {"timeout", EVERY},
        {"max_tokens", EVERY},
        {"temperature", EVERY},
        {"tools", EVERY},
        {"schema", EVERY},
        {"api_version", EVERY},
        {"previous_response_id", EVERY},
        {"store", EVERY},
        {"mcp_servers", EVERY},
        {"num", OP_EXPAND_TASK},
        {"context", OP_EXPAND_TASK},
    };
    enum { NAME_COUNT = sizeof(names) / sizeof(*names) };
    struct jv_member members[NAME_COUNT];
    struct jv outer = {.type = JV_OBJECT, .complete = true};
    size_t count = 0;

    for (size_t i = 0; i < NAME_COUNT; i++) {
        const char *name = names[i].name;
        const struct jv *value;

        if ((names[i].operation != EVERY &&
             names[i].operation != (int)decoder->request->operation) ||
            find(options, name))
            continue;
        if (!find_value(decoder, message, name, &value))
            return false;
        if (value && !is_auto(name, value))
            members[count++] = (struct jv_member){slice_of(name), *value};
    }
    outer.as.object.members = members;
    outer.as.object.count = count;
    return decode_object(decoder, "", &outer) || drop_dot(decoder->err);
}

static bool decode_inner_options(struct decoder *decoder,
                                 const struct jv *options)
{
    if (!options)
        return true;
    if (options->type != JV_OBJECT)
        return error_at(decoder->err, ERR_INVALID_REQUEST, "options",
                        "must be an object, got %s", jv_type_name(options));
    return decode_object(decoder, "options", options);
}

static bool decode_question(struct decoder *decoder, const struct jv *message)
{
    const struct jv *options = find(message, "options");
    struct slice *id = &decoder->request->options.request_id;
    struct slice own_id = *id, other_id;
    bool decoded;

    *id = slice_of(NULL);
    decoded = decode_arguments(decoder, message) &&
              decode_outer_options(decoder, message, options) &&
              decode_inner_options(decoder, options);
    other_id = *id;
    *id = own_id;
    if (decoded && other_id.size > 0 && !slice_is_nocase(other_id, own_id.data))
        return error_at(decoder->err, ERR_INVALID_REQUEST, "request_id",
                        "is another one in the options");
    return decoded;
}

static bool parse(struct arena *scratch, struct slice json, struct jv **message,
                  struct error *err)
{
    if (!jv_parse(scratch, json, JV_STRICT, &JV_DEFAULT_LIMITS, NULL, message,
                  err)) {
        if (err->code != ERR_TOO_LARGE)
            err->code = ERR_INVALID_REQUEST;
        return false;
    }
    return (*message)->type == JV_OBJECT ||
           error_set(err, ERR_INVALID_REQUEST,
                     "the message must be an object, got %s",
                     jv_type_name(*message));
}

bool queue_request_decode(struct slice json, struct arena *arena,
                          struct queue_request *queued, struct error *err)
{
    struct decoder decoder = {arena, &queued->request, err};
    struct arena scratch;
    struct jv *message;
    bool decoded;

    *queued = (struct queue_request){.request = request_blank()};
    queued->request.operation = OPERATION_COUNT;
    arena_init(&scratch, 0);
    decoded = parse(&scratch, json, &message, err) &&
              read_sender(&decoder, message, queued) &&
              decode_question(&decoder, message);
    arena_release(&scratch);
    return decoded;
}
