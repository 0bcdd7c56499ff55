/* Events of a stream that are alike are read without a tree (reader.c): what
 * comes of them is what comes of the same ones with growing white space in
 * them, of which no two are alike. The first byte chooses the dialect; each
 * line of the rest is an event. */
#include "fuzz/fuzz_answer.h"

enum { BODY_MAX = 1 << 20, EVENTS_MAX = 64 };

static void put_event(struct buf *body, bool lines, struct slice event,
                      size_t spaces)
{
    size_t first = event.size > 0 && event.data[0] == '{';

    buf_append_text(body, lines ? "" : "data: ");
    buf_append(body, event.data, first);
    for (size_t i = 0; first && i < spaces; i++)
        buf_append_byte(body, ' ');
    buf_append(body, event.data + first, event.size - first);
    buf_append_text(body, lines ? "\n" : "\n\n");
}

/* An even number of spaces: whether a body is whole is its size's to say. */
static void read_events(struct fuzz_answer *answer, const char *dialect,
                        struct slice text, size_t widening)
{
    static const uint8_t choice[2] = {0, 0};
    bool lines = !strcmp(dialect, "ollama");
    struct buf body;

    buf_init(&body, BODY_MAX);
    for (size_t i = 0; i < EVENTS_MAX && text.size > 0; i++) {
        const char *end = memchr(text.data, '\n', text.size);
        size_t size = end ? (size_t)(end - text.data) : text.size;

        put_event(&body, lines, slice_make(text.data, size), 2 * i * widening);
        size += end ? 1 : 0;
        text = slice_make(text.data + size, text.size - size);
    }
    fuzz_read(answer, dialect, choice, buf_slice(&body), BODY_MAX);
    buf_release(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const dialects[] = {"openai", "anthropic", "gemini",
                                           "ollama", "openai_responses"};
    struct fuzz_answer alike = {.ok = false}, apart = {.ok = false};
    const char *dialect;
    struct slice text;

    if (size < 1 || size > BODY_MAX / 4)
        return 0;
    dialect = dialects[data[0] % 5];
    text = slice_make((const char *)data + 1, size - 1);
    if (memchr(text.data, '\r', text.size))
        return 0; /* another end of lines */
    read_events(&alike, dialect, text, 0);
    read_events(&apart, dialect, text, 1);
    fuzz_compare(&alike, &apart);
    arena_release(&alike.arena);
    arena_release(&apart.arena);
    return 0;
}
