/* What callers on the BEAM want of the queue. */
#include "api/queue_internal.h"
#include "llm_router/base/utf8.h"

enum {
    /* Of the operation as JSON; leaves room for what stands beside it. */
    MEMBERS_MAX = CALL_TEXT_MAX - 64 * 1024,
};

static bool find_queued(struct decoder *decoder,
                        const struct invocation *invocation,
                        enum operation *operation)
{
    if (!invocation->name.data || !operation_find(invocation->name, operation))
        return refuse_unknown(invocation, decoder->err);
    return operation_is_queued(*operation) ||
           error_set(decoder->err, ERR_INVALID_REQUEST,
                     "%s cannot be put on the queue",
                     operation_atom(*operation));
}

/* Where its options are: behind its arguments, or what is its only one. */
struct place {
    const char *path;
    uint32_t index;
};

static struct place find_options(enum operation operation)
{
    uint32_t count = 0;

    if (operation == OP_ROUTE || operation == OP_ROUTE_COMPLETION)
        return (struct place){"request", 0};
    while (operation_parameter(operation, count))
        count++;
    return (struct place){"opts", count};
}

static bool put_opts(struct decoder *decoder, struct place place,
                     const struct invocation *invocation, struct buf *out)
{
    if (decoder->request->options.request_id.size > 0) {
        error_at(decoder->err, ERR_INVALID_REQUEST, "request_id",
                 "must be an option of enqueue");
        return error_in(decoder->err, place.path);
    }
    if (invocation->count <= place.index)
        return true;
    buf_append_text(out, ",\"options\":{");
    if (!put_options(decoder, place.path, invocation->arguments[place.index],
                     out))
        return false;
    buf_append_byte(out, '}');
    return true;
}

/* Decodes the operation as if it were called, and writes what is known then:
 * texts, messages and tasks come in many forms, in JSON they have one. */
static bool put_members(struct decoder *decoder,
                        const struct invocation *invocation, struct buf *out)
{
    enum operation operation;

    if (!find_queued(decoder, invocation, &operation) ||
        !decode_request(decoder, operation, invocation->arguments,
                        invocation->count))
        return false;
    put_operation(out, decoder->request);
    return put_opts(decoder, find_options(operation), invocation, out);
}

/* Is the message one that can be answered? */
static bool check_members(struct decoder *decoder, const struct buf *members)
{
    const struct enqueued enqueued = {.members = buf_slice(members)};
    struct queue_request queued;
    struct buf message;
    bool decoded;

    if (members->failed)
        return error_set(decoder->err, ERR_TOO_LARGE, "over %d bytes as JSON",
                         MEMBERS_MAX);
    buf_init(&message, CALL_TEXT_MAX);
    queue_request_put(&message, &enqueued,
                      SLICE_LITERAL("00000000-0000-0000-0000-000000000000"), 0);
    decoded = queue_request_decode(buf_slice(&message), decoder->arena, &queued,
                                   decoder->err);
    buf_release(&message);
    return decoded;
}

bool decode_enqueued(struct decoder *decoder, const char *path,
                     struct term value)
{
    struct request asked = request_blank();
    struct arena scratch;
    struct decoder inner = {&scratch, &asked, decoder->err};
    struct invocation invocation;
    struct enqueued *enqueued;
    struct buf members;
    bool decoded;

    arena_init(&scratch, 0);
    buf_init(&members, MEMBERS_MAX);
    invocation_of_term(&invocation, value);
    decoded = put_members(&inner, &invocation, &members) &&
              check_members(&inner, &members);
    arena_release(&scratch);
    if (decoded) {
        enqueued = arena_alloc(decoder->arena, sizeof(*enqueued));
        enqueued->members = arena_keep(decoder->arena, &members);
        decoder->request->enqueued = enqueued;
    }
    buf_release(&members);
    return decoded || error_in(decoder->err, path);
}

static bool decode_id(struct decoder *decoder, const struct field *field,
                      struct slice *id)
{
    struct slice text;

    return !field->given ||
           (decode_name(decoder, field->name, field->value, &text) &&
            keep_queue_id(decoder, field->name, text, id));
}

static bool decode_agent(struct decoder *decoder, const struct field *field,
                         struct slice *agent_id)
{
    struct slice text;

    return !field->given ||
           (decode_text(decoder, field->name, field->value, &text) &&
            keep_label(decoder, field->name, text, agent_id));
}

/* {Name, Node}, the two in a list, or a map or keyword list of them. */
static bool open_receiver(struct decoder *decoder, struct term value,
                          struct term *name, struct term *node)
{
    struct field fields[] = {{.name = "name"}, {.name = "node"}};
    struct term_list list;

    if (term_tuple_of(value, 2, name)) {
        *node = term_next(*name);
        return true;
    }
    if (term_list(value, &list) && list.proper && !list.is_string &&
        list.left == 2 && term_kind(list.next) != TERM_TUPLE)
        return term_list_next(&list, name) && term_list_next(&list, node);
    if (!decode_fields(decoder, value, fields, 2))
        return false;
    for (int i = 0; i < 2; i++)
        if (!fields[i].given)
            return error_at(decoder->err, ERR_INVALID_REQUEST, fields[i].name,
                            "is missing");
    *name = fields[0].value;
    *node = fields[1].value;
    return true;
}

/* An atom or text. */
static bool decode_word(struct decoder *decoder, const char *path,
                        struct term value, struct slice *word)
{
    if (!term_atom(value, word))
        return decode_text(decoder, path, value, word);
    return utf8_is_valid(*word) ||
           error_at(decoder->err, ERR_INVALID_REQUEST, path, "must be UTF-8");
}

static bool decode_notify(struct decoder *decoder, const struct field *field,
                          struct enqueued *enqueued)
{
    struct queue_receiver lent, receiver = {0};
    struct term name, node;

    if (!field->given)
        return true;
    if (!open_receiver(decoder, field->value, &name, &node) ||
        !decode_word(decoder, "name", name, &lent.name) ||
        !decode_word(decoder, "node", node, &lent.node))
        return error_in(decoder->err, field->name);
    if (!keep_receiver(decoder, field->name, lent, &receiver))
        return false;
    enqueued->notify_name = receiver.name;
    enqueued->notify_node = receiver.node;
    return true;
}

bool decode_enqueue_options(struct decoder *decoder, const char *path,
                            struct term value)
{
    enum { REQUEST_ID, DELAY, NOTIFY, AGENT_ID, FIELD_COUNT };
    struct field fields[FIELD_COUNT] = {
        [REQUEST_ID] = {.name = "request_id"},
        [DELAY] = {.name = "delay"},
        [NOTIFY] = {.name = "notify"},
        [AGENT_ID] = {.name = "agent_id"},
    };
    struct enqueued *enqueued = arena_alloc(decoder->arena, sizeof(*enqueued));

    *enqueued = *decoder->request->enqueued;
    decoder->request->enqueued = enqueued;
    return (decode_fields(decoder, value, fields, FIELD_COUNT) &&
            decode_id(decoder, &fields[REQUEST_ID], &enqueued->request_id) &&
            (!fields[DELAY].given ||
             decode_integer(decoder, fields[DELAY].name, fields[DELAY].value,
                            (struct range){0, QUEUE_DELAY_MAX_S},
                            &enqueued->delay_s)) &&
            decode_notify(decoder, &fields[NOTIFY], enqueued) &&
            decode_agent(decoder, &fields[AGENT_ID], &enqueued->agent_id)) ||
           error_in(decoder->err, path);
}

bool decode_queue_id(struct decoder *decoder, const char *path,
                     struct term value)
{
    const struct field field = {.name = path, .given = true, .value = value};

    return decode_id(decoder, &field, &decoder->request->text);
}

bool decode_wait(struct decoder *decoder, const char *path, struct term value)
{
    int64_t *wait_ms = &decoder->request->wait_ms;

    if (is_infinity(value)) {
        *wait_ms = REQUEST_TIMEOUT_MAX_MS;
        return true;
    }
    return decode_integer(decoder, path, value,
                          (struct range){0, REQUEST_TIMEOUT_MAX_MS}, wait_ms);
}
