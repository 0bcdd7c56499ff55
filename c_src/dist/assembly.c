#include "llm_router/dist/assembly.h"

#include "llm_router/base/mem.h"

enum {
    MESSAGES_MAX = 1 << 17, /* at once: as many as calls of one peer */
    /* Bytes a message counts for besides its own: this struct, its place in
     * the map, what malloc rounds up. */
    OVERHEAD = 512,
};

struct message {
    struct list link;
    uint64_t sequence;
    uint64_t left; /* fragments still to come */
    uint64_t touched_ms;
    struct buf bytes;
    bool given_up; /* what comes is thrown away */
};

void assembly_init(struct assembly *assembly, struct assembly_room *room,
                   uint64_t seed)
{
    *assembly = (struct assembly){.room = room};
    map_init(&assembly->messages, seed);
    list_init(&assembly->oldest);
    buf_init(&assembly->whole, room->max_message_bytes);
}

static void charge(struct assembly *assembly, size_t bytes)
{
    assembly->bytes += bytes;
    assembly->room->bytes += bytes;
}

static void refund(struct assembly *assembly, size_t bytes)
{
    assembly->bytes -= bytes;
    assembly->room->bytes -= bytes;
}

static void message_free(struct assembly *assembly, struct message *message)
{
    refund(assembly, message->bytes.size + OVERHEAD);
    map_remove(&assembly->messages, MAP_KEY(message->sequence));
    list_remove(&message->link);
    buf_release(&message->bytes);
    mem_free(message);
}

void assembly_release(struct assembly *assembly)
{
    LIST_EACH(link, &assembly->oldest)
    message_free(assembly, LIST_ENTRY(link, struct message, link));
    map_release(&assembly->messages);
    buf_release(&assembly->whole);
}

static struct message *open_message(struct assembly *assembly,
                                    const struct frame *frame)
{
    struct message *message = mem_alloc(sizeof(*message));

    message->sequence = frame->sequence;
    message->left = frame->left;
    buf_init(&message->bytes, assembly->room->max_message_bytes);
    list_append(&assembly->oldest, &message->link);
    map_put(&assembly->messages, MAP_KEY(message->sequence), message);
    charge(assembly, OVERHEAD);
    return message;
}

static bool has_room(size_t used, size_t max, size_t size)
{
    return used <= max && size <= max - used;
}

static bool fits(const struct assembly *assembly, const struct message *message,
                 struct slice part, struct error *err)
{
    const struct assembly_room *room = assembly->room;

    if (part.size > room->max_message_bytes - message->bytes.size)
        return error_set(err, ERR_TOO_LARGE, "a message over %zu bytes",
                         room->max_message_bytes);
    if (!has_room(room->bytes, room->max_bytes, part.size) ||
        !has_room(assembly->bytes, room->max_connection_bytes, part.size))
        return error_set(err, ERR_OVERLOADED,
                         "no room for another large message");
    return true;
}

/* What is there of the message, lent from `whole`. */
static struct slice take(struct assembly *assembly, struct message *message)
{
    buf_release(&assembly->whole);
    assembly->whole = message->bytes;
    refund(assembly, message->bytes.size);
    buf_init(&message->bytes, 0);
    return buf_slice(&assembly->whole);
}

static enum assembly_outcome add(struct assembly *assembly,
                                 struct message *message, struct slice part,
                                 struct slice *body, struct error *err)
{
    if (message->given_up)
        return ASSEMBLY_MORE;
    if (!fits(assembly, message, part, err)) {
        *body = message->bytes.size > 0 ? take(assembly, message) : part;
        message->given_up = true;
        return ASSEMBLY_REFUSED;
    }
    buf_append_slice(&message->bytes, part);
    charge(assembly, part.size);
    if (message->left > 0)
        return ASSEMBLY_MORE;
    *body = take(assembly, message);
    return ASSEMBLY_WHOLE;
}

static enum assembly_outcome malformed(struct error *err, const char *why)
{
    error_set(err, ERR_INVALID_REQUEST, "%s", why);
    return ASSEMBLY_MALFORMED;
}

enum assembly_outcome assembly_add(struct assembly *assembly,
                                   enum frame_kind kind,
                                   const struct frame *frame, uint64_t now_ms,
                                   struct slice *body, struct error *err)
{
    struct message *message =
        map_find(&assembly->messages, MAP_KEY(frame->sequence));
    enum assembly_outcome outcome;

    if ((kind == FRAME_FIRST) != !message)
        return malformed(err, message ? "a message begins twice"
                                      : "a fragment of no message");
    if (frame->left == 0 || (message && frame->left != message->left))
        return malformed(err, "a fragment out of order");
    if (!message && assembly->messages.count == MESSAGES_MAX)
        return malformed(err, "too many messages in fragments at once");
    if (!message)
        message = open_message(assembly, frame);
    message->left--;
    message->touched_ms = now_ms;
    list_remove(&message->link);
    list_append(&assembly->oldest, &message->link);
    outcome = add(assembly, message, frame->body, body, err);
    if (message->left == 0)
        message_free(assembly, message);
    return outcome;
}

void assembly_done(struct assembly *assembly)
{
    buf_release(&assembly->whole);
}

void assembly_expire(struct assembly *assembly, uint64_t before_ms)
{
    LIST_EACH(link, &assembly->oldest)
    {
        struct message *message = LIST_ENTRY(link, struct message, link);

        if (message->touched_ms >= before_ms)
            return;
        refund(assembly, message->bytes.size);
        buf_release(&message->bytes);
        message->given_up = true;
    }
}
