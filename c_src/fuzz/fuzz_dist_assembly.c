/* Fragments of two connections that share their room. A second, naive
 * bookkeeping says what must come of each: whole bodies are what was put in,
 * refusals come once and show the beginning, and the room counts what is kept,
 * to the byte.
 *
 * Each fragment of an input is four bytes: what (the bits below), how many are
 * left (0: as many as there must be), how many bytes, which byte. */
#include <stdint.h>
#include <stdlib.h>

#include "llm_router/dist/assembly.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MESSAGE_MAX = 600,
    SEQUENCES = 8,
    CONNECTIONS = 2,
};

/* Bits of the first byte. */
enum {
    SEQUENCE = 7,
    BEGINS = 8,
    CONNECTION = 16,
    EXPIRES = 32,  /* no fragment: the third byte says how old is too old */
    IN_ORDER = 64, /* begins just when it must */
    DONE = 128,
};

struct expected {
    bool open, given_up;
    uint64_t left, touched_ms;
    size_t size;
    char bytes[MESSAGE_MAX];
};

static struct assembly_room room;
static struct assembly assemblies[CONNECTIONS];
static struct expected all[CONNECTIONS][SEQUENCES];
static size_t overhead; /* of a message, in the room */
static uint64_t now_ms;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static size_t kept_bytes(void)
{
    size_t total = 0;

    for (size_t i = 0; i < CONNECTIONS * SEQUENCES; i++) {
        const struct expected *message = &all[i / SEQUENCES][i % SEQUENCES];

        if (message->open)
            total += overhead + message->size;
    }
    return total;
}

static void connect(size_t connection)
{
    memset(all[connection], 0, sizeof(all[connection]));
    assembly_init(&assemblies[connection], &room, connection);
}

static void reconnect(size_t connection)
{
    assembly_release(&assemblies[connection]);
    connect(connection);
}

static void set_up(void)
{
    const struct frame empty = {.left = 2};
    struct slice body;
    struct error err;

    room = (struct assembly_room){.max_message_bytes = MESSAGE_MAX,
                                  .max_bytes = SIZE_MAX,
                                  .max_connection_bytes = SIZE_MAX};
    for (size_t i = 0; i < CONNECTIONS; i++)
        connect(i);
    require(assembly_add(&assemblies[0], FRAME_FIRST, &empty, 0, &body, &err) ==
            ASSEMBLY_MORE);
    overhead = room.bytes;
    reconnect(0);
    room.max_bytes = 4 * (MESSAGE_MAX + overhead);
}

static void give_up(struct expected *message)
{
    message->given_up = true;
    message->size = 0;
}

static void expire(size_t connection, uint64_t before_ms)
{
    for (size_t i = 0; i < SEQUENCES; i++) {
        if (all[connection][i].touched_ms < before_ms)
            give_up(&all[connection][i]);
    }
    assembly_expire(&assemblies[connection], before_ms);
}

/* What the part makes of the message, before it is in there. */
static enum assembly_outcome outcome_of(const struct expected *message,
                                        size_t size, struct error *err)
{
    if (message->given_up)
        return ASSEMBLY_MORE;
    err->code = ERR_TOO_LARGE;
    if (message->size + size > MESSAGE_MAX)
        return ASSEMBLY_REFUSED;
    err->code = ERR_OVERLOADED;
    if (kept_bytes() + size > room.max_bytes)
        return ASSEMBLY_REFUSED;
    return message->left == 0 ? ASSEMBLY_WHOLE : ASSEMBLY_MORE;
}

static void add(size_t connection, enum frame_kind kind,
                const struct frame *frame)
{
    struct expected *message = &all[connection][frame->sequence];
    struct slice body, part = frame->body, before;
    struct error err = {.code = ERR_NONE}, expected_err = err;
    enum assembly_outcome outcome =
        assembly_add(&assemblies[connection], kind, frame, now_ms, &body, &err);

    if ((kind == FRAME_FIRST) == message->open || frame->left == 0 ||
        (message->open && frame->left != message->left)) {
        require(outcome == ASSEMBLY_MALFORMED &&
                err.code == ERR_INVALID_REQUEST);
        reconnect(connection);
        return;
    }
    if (!message->open)
        *message = (struct expected){.open = true};
    message->left = frame->left - 1;
    message->touched_ms = now_ms;
    require(outcome == outcome_of(message, part.size, &expected_err));
    before = slice_make(message->bytes, message->size);
    if (outcome == ASSEMBLY_REFUSED) {
        require(err.code == expected_err.code);
        require(slice_equal(body, before.size > 0 ? before : part));
        give_up(message);
    } else if (!message->given_up) {
        memcpy(message->bytes + message->size, part.data, part.size);
        message->size += part.size;
    }
    if (outcome == ASSEMBLY_WHOLE)
        require(slice_equal(body, slice_make(message->bytes, message->size)));
    message->open = message->left > 0;
}

static void step(const uint8_t command[4])
{
    static char bytes[UINT8_MAX + 1];
    size_t connection = command[0] & CONNECTION ? 1 : 0;
    struct frame frame = {.body = {bytes, command[2]},
                          .sequence = command[0] & SEQUENCE,
                          .left = command[1]};
    const struct expected *message = &all[connection][frame.sequence];
    bool begins =
        command[0] & IN_ORDER ? !message->open : (command[0] & BEGINS) != 0;

    now_ms++;
    if (command[0] & EXPIRES) {
        expire(connection, command[2]);
        return;
    }
    if (frame.left == 0 && message->open)
        frame.left = message->left;
    memset(bytes, command[3], frame.body.size);
    add(connection, begins ? FRAME_FIRST : FRAME_FRAGMENT, &frame);
    if (command[0] & DONE)
        assembly_done(&assemblies[connection]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    set_up();
    now_ms = 0;
    for (; size >= 4; data += 4, size -= 4) {
        step(data);
        require(room.bytes == kept_bytes());
    }
    for (size_t i = 0; i < CONNECTIONS; i++)
        assembly_release(&assemblies[i]);
    require(room.bytes == 0);
    return 0;
}
