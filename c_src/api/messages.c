#include "api/decode_internal.h"

void add_message(struct decoder *decoder, enum role role, struct slice content)
{
    struct request *request = decoder->request;

    if (!request->messages)
        request->messages =
            arena_array(decoder->arena, 2, sizeof(*request->messages));
    request->messages[request->message_count++] =
        (struct message){.role = role, .content = content};
}

static bool decode_role(struct decoder *decoder, struct term value,
                        enum role *role)
{
    static const struct {
        const char *name;
        enum role role;
    } roles[] = {
        {"system", ROLE_SYSTEM},
        {"developer", ROLE_SYSTEM}, /* OpenAI's newer word for it */
        {"user", ROLE_USER},
        {"assistant", ROLE_ASSISTANT},
        {"tool", ROLE_TOOL},
    };
    struct slice name;

    if (!decode_name(decoder, "role", value, &name))
        return false;
    for (size_t i = 0; i < sizeof(roles) / sizeof(*roles); i++) {
        if (slice_is(name, roles[i].name)) {
            *role = roles[i].role;
            return true;
        }
    }
    return error_at(decoder->err, ERR_INVALID_REQUEST, "role",
                    "must be system, developer, user, assistant or tool");
}

/* Two keys that must both be there. */
static bool decode_pair_of(struct decoder *decoder, struct term value,
                           struct field fields[2])
{
    if (!decode_fields(decoder, value, fields, 2))
        return false;
    for (int i = 0; i < 2; i++)
        if (!fields[i].given)
            return error_at(decoder->err, ERR_INVALID_REQUEST, fields[i].name,
                            "is missing");
    return true;
}

/* Is it a list of maps or keyword lists, and so no text? */
static bool is_part_list(struct term value)
{
    struct term_list list, inner;
    struct term part, pair;

    if (!term_list(value, &list) || !term_list_next(&list, &part))
        return false;
    if (term_kind(part) == TERM_MAP)
        return true;
    return term_list(part, &inner) && term_list_next(&inner, &pair) &&
           term_kind(pair) == TERM_TUPLE;
}

/* #{type => text, text => Text}, put behind `text`. */
static bool append_part(struct decoder *decoder, struct term part,
                        struct buf *text)
{
    struct field fields[2] = {{.name = "type"}, {.name = "text"}};
    struct slice type, piece;

    if (!decode_pair_of(decoder, part, fields) ||
        !decode_name(decoder, "type", fields[0].value, &type))
        return false;
    if (!slice_is(type, "text"))
        return error_at(decoder->err, ERR_INVALID_REQUEST, "type",
                        "this version takes only parts of type text");
    if (!term_text(fields[1].value, CALL_TEXT_MAX, decoder->arena, &piece,
                   decoder->err))
        return error_in(decoder->err, "text");
    buf_append_slice(text, piece);
    return true;
}

static bool append_parts(struct decoder *decoder, struct term parts,
                         struct buf *text)
{
    struct term_list list;
    struct term part;

    if (!term_list(parts, &list) || !list.proper)
        return error_set(decoder->err, ERR_INVALID_REQUEST,
                         "must be a proper list");
    for (size_t i = 0; term_list_next(&list, &part); i++)
        if (!append_part(decoder, part, text))
            return error_in_element(decoder, "", i);
    if (text->failed)
        return error_set(decoder->err, ERR_TOO_LARGE, "over %d bytes of text",
                         CALL_TEXT_MAX);
    if (slice_trim(buf_slice(text)).size == 0)
        return error_set(decoder->err, ERR_INVALID_REQUEST,
                         "must not be empty");
    return true;
}

/* The texts of the parts in a row, nothing put in between. */
static bool decode_parts(struct decoder *decoder, struct term value,
                         struct slice *content)
{
    struct arena_mark mark = arena_mark(decoder->arena);
    struct buf text;
    bool decoded;

    buf_init(&text, CALL_TEXT_MAX);
    decoded = append_parts(decoder, value, &text);
    arena_rewind(decoder->arena, mark);
    if (decoded)
        *content = arena_keep(decoder->arena, &text);
    buf_release(&text);
    return decoded || error_in(decoder->err, "content");
}

/* What an assistant's message with tool calls and the answer of a tool may have
 * empty, and no other message. */
static bool decode_content(struct decoder *decoder, const struct field *content,
                           struct message *message)
{
    const char *path = content->name;

    if (!content->given && message->tool_call_count > 0)
        return true;
    if (!content->given)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path, "is missing");
    if (is_part_list(content->value))
        return decode_parts(decoder, content->value, &message->content);
    if (message->role == ROLE_TOOL || message->tool_call_count > 0)
        return decode_text(decoder, path, content->value, &message->content);
    return decode_full_text(decoder, path, content->value, &message->content);
}

static bool decode_tool_parts(struct decoder *decoder,
                              const struct field *calls, const struct field *id,
                              struct message *message)
{
    if (calls->given && message->role != ROLE_ASSISTANT)
        return error_at(decoder->err, ERR_INVALID_REQUEST, calls->name,
                        "only messages of the assistant have tool calls");
    if (id->given && message->role != ROLE_TOOL)
        return error_at(decoder->err, ERR_INVALID_REQUEST, id->name,
                        "only messages of the role tool answer a tool call");
    if (message->role == ROLE_TOOL && !id->given)
        return error_at(decoder->err, ERR_INVALID_REQUEST, id->name,
                        "is missing");
    if (id->given &&
        !decode_name(decoder, id->name, id->value, &message->tool_call_id))
        return false;
    return !calls->given ||
           decode_tool_calls(decoder, calls->name, calls->value, message);
}

/* #{role => Role, content => Content, ...}, a keyword list, or
 * {Role, Content} */
static bool decode_message(struct decoder *decoder, struct term value,
                           struct message *message)
{
    enum { ROLE, CONTENT, TOOL_CALLS, TOOL_CALL_ID, FIELD_COUNT };
    struct field fields[FIELD_COUNT] = {
        [ROLE] = {.name = "role"},
        [CONTENT] = {.name = "content"},
        [TOOL_CALLS] = {.name = "tool_calls"},
        [TOOL_CALL_ID] = {.name = "tool_call_id"},
    };

    if (term_tuple_of(value, 2, &fields[ROLE].value)) {
        fields[CONTENT].value = term_next(fields[ROLE].value);
        fields[ROLE].given = fields[CONTENT].given = true;
    } else if (!decode_fields(decoder, value, fields, FIELD_COUNT)) {
        return false;
    }
    if (!fields[ROLE].given)
        return error_at(decoder->err, ERR_INVALID_REQUEST, fields[ROLE].name,
                        "is missing");
    return decode_role(decoder, fields[ROLE].value, &message->role) &&
           decode_tool_parts(decoder, &fields[TOOL_CALLS],
                             &fields[TOOL_CALL_ID], message) &&
           decode_content(decoder, &fields[CONTENT], message);
}

/* Providers refuse an answer to what was not asked; some know a call only by
 * its name, which is there. If nothing was asked here, it may have been in the
 * answer that the request goes on from (core/dialogue_call.c). */
static bool check_answer(struct decoder *decoder, const struct message *asked,
                         const struct message *answer)
{
    if (!asked)
        return true;
    for (size_t i = 0; i < asked->tool_call_count; i++)
        if (slice_equal(asked->tool_calls[i].id, answer->tool_call_id))
            return true;
    return error_at(decoder->err, ERR_INVALID_REQUEST, "tool_call_id",
                    "the assistant's last tool calls have none of this id");
}

static size_t size_of(const struct message *message)
{
    size_t size = message->content.size;

    for (size_t i = 0; i < message->tool_call_count; i++)
        size += message->tool_calls[i].arguments.size;
    return size;
}

static bool decode_each(struct decoder *decoder, const char *path,
                        struct term_list *list)
{
    struct request *request = decoder->request;
    const struct message *asked = NULL;
    size_t total = 0;
    struct term element;

    while (term_list_next(list, &element)) {
        struct message *message = &request->messages[request->message_count];

        if (!decode_message(decoder, element, message) ||
            (message->role == ROLE_TOOL &&
             !check_answer(decoder, asked, message)))
            return error_in_element(decoder, path, request->message_count);
        if (size_of(message) > CALL_TEXT_MAX - total)
            return error_at(decoder->err, ERR_TOO_LARGE, path,
                            "over %d bytes of text", CALL_TEXT_MAX);
        total += size_of(message);
        if (message->tool_call_count > 0)
            asked = message;
        request->message_count++;
    }
    return true;
}

bool decode_messages(struct decoder *decoder, const char *path,
                     struct term value)
{
    struct request *request = decoder->request;
    struct term_list list;

    if (!term_list(value, &list))
        return refuse_kind(decoder, path, "a list of messages", value);
    if (!list.proper)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must be a proper list");
    if (list.left == 0)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "must not be empty");
    if (list.left > CALL_MESSAGES_MAX)
        return error_at(decoder->err, ERR_TOO_LARGE, path,
                        "%u messages, at most %d are taken", list.left,
                        CALL_MESSAGES_MAX);
    request->messages =
        arena_array(decoder->arena, list.left, sizeof(*request->messages));
    return decode_each(decoder, path, &list);
}
