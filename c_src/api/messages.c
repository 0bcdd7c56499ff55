#include "api/decode_internal.h"

#include <stdio.h>

enum { INDEX_PATH_MAX = 16 };

/* Puts "[index]" before the path of the fault. Always false. */
static bool error_in_element(struct error *err, size_t index)
{
    char path[INDEX_PATH_MAX];

    snprintf(path, sizeof(path), "[%zu]", index);
    return error_in(err, path);
}

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
                    "must be system, developer, user or assistant");
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
            return error_in_element(decoder->err, i);
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

/* #{role => Role, content => Content}, a keyword list, or {Role, Content} */
static bool decode_message(struct decoder *decoder, struct term value,
                           struct message *message)
{
    struct field fields[2] = {{.name = "role"}, {.name = "content"}};

    if (term_tuple_of(value, 2, &fields[0].value))
        fields[1].value = term_next(fields[0].value);
    else if (!decode_pair_of(decoder, value, fields))
        return false;
    if (!decode_role(decoder, fields[0].value, &message->role))
        return false;
    if (is_part_list(fields[1].value))
        return decode_parts(decoder, fields[1].value, &message->content);
    return decode_full_text(decoder, "content", fields[1].value,
                            &message->content);
}

static bool decode_each(struct decoder *decoder, const char *path,
                        struct term_list *list)
{
    struct request *request = decoder->request;
    size_t total = 0;
    struct term element;

    while (term_list_next(list, &element)) {
        struct message *message = &request->messages[request->message_count];

        if (!decode_message(decoder, element, message)) {
            error_in_element(decoder->err, request->message_count);
            return error_in(decoder->err, path);
        }
        if (message->content.size > CALL_TEXT_MAX - total)
            return error_at(decoder->err, ERR_TOO_LARGE, path,
                            "over %d bytes of text", CALL_TEXT_MAX);
        total += message->content.size;
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
