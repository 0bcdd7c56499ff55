#include "provider/dialects_internal.h"

#include "llm_router/base/utf8.h"

enum { SHORTEST_KEY = 8 };

static const char STAND_IN[] = "[key]";

struct output {
    char *data;
    size_t size;
    size_t used;
};

static void put(struct output *out, struct slice text)
{
    size_t room = out->size - out->used;

    if (text.size > room)
        text.size = room;
    memcpy(out->data + out->used, text.data, text.size);
    out->used += text.size;
}

static bool is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '*' ||
           c == '.';
}

/* "sk-..." of any vendor, and what a provider has masked itself: the letters
 * it left are still the key's. */
static bool looks_like_key(struct slice word)
{
    return (word.size >= SHORTEST_KEY && slice_starts_with(word, "sk-")) ||
           slice_find(word, SLICE_LITERAL("***")) >= 0;
}

static struct slice from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

static bool begins_with(struct slice text, struct slice start)
{
    return start.size > 0 && text.size >= start.size &&
           !memcmp(text.data, start.data, start.size);
}

/* Bytes of the word in front, up to where the secret begins. */
static size_t word_size(struct slice text, struct slice secret)
{
    size_t size = 0;

    while (size < text.size && is_key_char(text.data[size]) &&
           (size == 0 || !begins_with(from(text, size), secret)))
        size++;
    return size;
}

void redact(struct slice text, struct slice secret, char *out, size_t size)
{
    struct output output = {.data = out, .size = size - 1};

    while (text.size > 0 && output.used < output.size) {
        size_t word;

        if (begins_with(text, secret)) {
            put(&output, SLICE_LITERAL(STAND_IN));
            text = from(text, secret.size);
            continue;
        }
        word = word_size(text, secret);
        if (word == 0) {
            bool control =
                (unsigned char)text.data[0] < ' ' || text.data[0] == 0x7F;

            put(&output,
                control ? SLICE_LITERAL(" ") : slice_make(text.data, 1));
            text = from(text, 1);
            continue;
        }
        put(&output, looks_like_key(slice_make(text.data, word))
                         ? SLICE_LITERAL(STAND_IN)
                         : slice_make(text.data, word));
        text = from(text, word);
    }
    output.used = utf8_cut(slice_make(out, output.used), output.used).size;
    out[output.used] = '\0';
}
