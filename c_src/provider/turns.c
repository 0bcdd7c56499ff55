#include "provider/turns_internal.h"

static bool says_something(const struct message *message)
{
    return message->role == ROLE_TOOL || message->content.size > 0 ||
           message->tool_call_count > 0;
}

/* The next message at `*at` or behind it that says something and is the
 * system's or not; NULL: there is none. */
static const struct message *next_message(const struct chat *chat, size_t *at,
                                          bool system)
{
    while (*at < chat->message_count) {
        const struct message *message = &chat->messages[(*at)++];

        if ((message->role == ROLE_SYSTEM) == system && says_something(message))
            return message;
    }
    return NULL;
}

static const struct message *first_message(const struct chat *chat, bool system)
{
    size_t at = 0;

    return next_message(chat, &at, system);
}

bool turns_have_system(const struct chat *chat)
{
    return first_message(chat, true) && first_message(chat, false);
}

static void begin_turn(struct buf *body, const struct turn_words *words,
                       const char *role, const char *speaker)
{
    if (speaker) {
        buf_append_text(body, "]},");
    } else if (words->opening && role == words->assistant) {
        buf_append_text(body, words->opening);
        buf_append_byte(body, ',');
    }
    buf_append_text(body, "{\"role\":\"");
    buf_append_text(body, role);
    buf_append_text(body, "\",\"");
    buf_append_text(body, words->parts);
    buf_append_text(body, "\":[");
}

void put_turns(struct buf *body, const struct chat *chat,
               const struct turn_words *words)
{
    bool system = !first_message(chat, false);
    const struct message *message;
    const char *speaker = NULL;
    size_t at = 0;

    buf_append_byte(body, '[');
    while ((message = next_message(chat, &at, system))) {
        const char *role =
            message->role == ROLE_ASSISTANT ? words->assistant : words->user;

        if (role == speaker)
            buf_append_byte(body, ',');
        else
            begin_turn(body, words, role, speaker);
        speaker = role;
        words->put_parts(body, chat, message);
    }
    buf_append_text(body, speaker ? "]}]" : "]");
}

void put_system_parts(struct buf *body, const struct chat *chat,
                      const struct turn_words *words)
{
    const struct message *message;
    size_t at = 0;
    char before = '[';

    while ((message = next_message(chat, &at, true))) {
        buf_append_byte(body, before);
        words->put_parts(body, chat, message);
        before = ',';
    }
    buf_append_byte(body, ']');
}

/* The last one of that id before the answer: ids are unique within a turn
 * only, with servers that number their calls. */
struct slice answered_tool(const struct chat *chat,
                           const struct message *answer)
{
    for (const struct message *message = answer; message > chat->messages;) {
        message--;
        for (size_t i = 0; i < message->tool_call_count; i++)
            if (slice_equal(message->tool_calls[i].id, answer->tool_call_id))
                return message->tool_calls[i].name;
    }
    return slice_make(NULL, 0);
}

bool turns_check_answers(const struct chat *chat, struct error *err)
{
    for (size_t i = 0; i < chat->message_count; i++) {
        const struct message *message = &chat->messages[i];

        if (message->role == ROLE_TOOL &&
            answered_tool(chat, message).size == 0)
            return error_at(err, ERR_INVALID_REQUEST, "messages",
                            "message %zu answers no call of a tool before it",
                            i);
    }
    return true;
}
