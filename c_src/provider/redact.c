#include "provider/dialects_internal.h"

#include "llm_router/base/utf8.h"

enum {
    SHORTEST_KEY = 8,
    PIECE_MIN = 8,     /* bytes of a secret in a row that are not shown */
    TEXT_MAX = 4096,   /* of which anything can be shown */
    ENCODED_MAX = 768, /* bytes of a secret that are known in base64 */
    FORM_COUNT = 4,
};

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

/* The secret as it may be repeated: as it is, and in base64, where what was
 * before it moves it by none, one or two bytes. */
struct forms {
    struct slice list[FORM_COUNT];
    char base64[FORM_COUNT - 1][ENCODED_MAX / 3 * 4];
};

/* Whole groups of three only: the last one depends on what follows. */
static struct slice encode(struct slice bytes, char *out)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrst"
        "uvwxyz0123456789+/";
    size_t size = 0;

    if (bytes.size > ENCODED_MAX)
        bytes.size = ENCODED_MAX;
    for (size_t i = 0; bytes.size - i >= 3; i += 3) {
        const unsigned char *b = (const unsigned char *)bytes.data + i;

        out[size++] = digits[b[0] >> 2];
        out[size++] = digits[(b[0] & 3) << 4 | b[1] >> 4];
        out[size++] = digits[(b[1] & 15) << 2 | b[2] >> 6];
        out[size++] = digits[b[2] & 63];
    }
    return slice_make(out, size);
}

static void forms_init(struct forms *forms, struct slice secret)
{
    forms->list[0] = secret;
    for (size_t i = 0; i + 1 < FORM_COUNT; i++)
        forms->list[i + 1] = secret.size > i
                                 ? encode(from(secret, i), forms->base64[i])
                                 : slice_make(NULL, 0);
}

/* Bytes at the start of the text that are anywhere in the form. */
static size_t common_size(struct slice text, struct slice form)
{
    size_t longest = 0;

    for (size_t at = 0; at < form.size; at++) {
        const char *found =
            memchr(form.data + at, text.data[0], form.size - at);
        size_t same = 1;

        if (!found)
            break;
        at = (size_t)(found - form.data);
        while (same < text.size && same < form.size - at &&
               text.data[same] == found[same])
            same++;
        if (same > longest)
            longest = same;
    }
    return longest;
}

/* Bytes of the secret at the start of the text; 0: too few to matter. */
static size_t secret_size(struct slice text, const struct forms *forms)
{
    size_t longest = 0;

    for (size_t i = 0; i < FORM_COUNT; i++) {
        size_t size = common_size(text, forms->list[i]);

        if (size > longest &&
            (size >= PIECE_MIN || (i == 0 && size == forms->list[0].size)))
            longest = size;
    }
    return longest;
}

/* Bytes of the word in front, up to where the secret begins. */
static size_t word_size(struct slice text, const struct forms *forms)
{
    size_t size = 0;

    while (size < text.size && is_key_char(text.data[size]) &&
           secret_size(from(text, size), forms) == 0)
        size++;
    return size;
}

static struct slice shown(struct slice word)
{
    if ((unsigned char)word.data[0] < ' ' || word.data[0] == 0x7F)
        return SLICE_LITERAL(" ");
    return looks_like_key(word) ? slice_of(STAND_IN) : word;
}

void redact(struct slice text, struct slice secret, char *out, size_t size)
{
    struct output output = {.data = out, .size = size - 1};
    struct forms forms;

    if (text.size > TEXT_MAX)
        text.size = TEXT_MAX;
    forms_init(&forms, secret);
    while (text.size > 0 && output.used < output.size) {
        size_t used = secret_size(text, &forms);

        if (used > 0) {
            put(&output, slice_of(STAND_IN));
        } else {
            used = word_size(text, &forms);
            used = used > 0 ? used : 1;
            put(&output, shown(slice_make(text.data, used)));
        }
        text = from(text, used);
    }
    output.used = utf8_cut(slice_make(out, output.used), output.used).size;
    out[output.used] = '\0';
}
