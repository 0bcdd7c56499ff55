#include "llm_router/json/value.h"

#include "llm_router/base/utf8.h"
#include "json/json_internal.h"

enum { UNIT_SIZE = 6 }; /* \uXXXX */

static struct slice slice_from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

static bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

/* Vectors of GCC and Clang, of the size that all processors have. */
typedef unsigned char block __attribute__((vector_size(16)));
typedef uint64_t block_words __attribute__((vector_size(16)));

static inline block load(const char *at)
{
    block bytes;

    memcpy(&bytes, at, sizeof(bytes));
    return bytes;
}

/* All bits of each byte that ends a plain run. */
static inline block special_bytes(block bytes)
{
    return (block)((bytes < 0x20) | (bytes == '"') | (bytes == '\\'));
}

static inline size_t first_in_word(uint64_t found)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    found = __builtin_bswap64(found);
#endif
    return (size_t)__builtin_ctzll(found) / 8;
}

/* The first byte with a bit in `found`, or its size. */
static inline size_t first_of(block found)
{
    block_words words = (block_words)found;

    if (words[0] != 0)
        return first_in_word(words[0]);
    if (words[1] != 0)
        return sizeof(uint64_t) + first_in_word(words[1]);
    return sizeof(block);
}

size_t json_plain_run(struct slice text)
{
    size_t at = 0;

    while (text.size - at >= sizeof(block)) {
        size_t plain = first_of(special_bytes(load(text.data + at)));

        at += plain;
        if (plain < sizeof(block))
            return at;
    }
    while (at < text.size && is_plain(text.data[at]))
        at++;
    return at;
}

size_t json_ascii_run(struct slice text)
{
    size_t at = 0;

    while (text.size - at >= sizeof(block)) {
        block bytes = load(text.data + at);
        size_t plain = first_of(special_bytes(bytes) | (bytes & 0x80));

        at += plain;
        if (plain < sizeof(block))
            return at;
    }
    while (at < text.size && is_plain(text.data[at]) &&
           (unsigned char)text.data[at] < 0x80)
        at++;
    return at;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Is the front of `text` a \uXXXX, as far as `text` goes? If all of it is
 * there, *unit is its UTF-16 code unit. */
static bool begins_unit(struct slice text, uint32_t *unit)
{
    *unit = 0;
    for (size_t i = 0; i < text.size && i < UNIT_SIZE; i++) {
        int digit = i < 2 ? 0 : hex_digit(text.data[i]);

        if (digit < 0 || (i < 2 && text.data[i] != "\\u"[i]))
            return false;
        *unit = *unit << 4 | (uint32_t)digit;
    }
    return true;
}

/* `text` begins with a whole \uXXXX that is `unit`; a surrogate takes its
 * partner with it. */
static size_t decode_unit(struct slice text, uint32_t unit, bool cut, char *out,
                          size_t *written)
{
    struct slice rest = slice_from(text, UNIT_SIZE);
    size_t used = UNIT_SIZE;
    uint32_t low;

    if (unit >= 0xD800 && unit <= 0xDBFF && begins_unit(rest, &low)) {
        if (cut && rest.size < UNIT_SIZE)
            return 0;
        if (rest.size >= UNIT_SIZE && low >= 0xDC00 && low <= 0xDFFF) {
            unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            used += UNIT_SIZE;
        }
    }
    if (unit >= 0xD800 && unit <= 0xDFFF)
        unit = 0xFFFD;
    *written = utf8_encode(unit, out);
    return used;
}

/* `text` begins with a backslash. Gives the bytes taken, 0 for an escape that
 * is cut, and writes no more than it takes. */
static size_t decode_escape(struct slice text, bool cut, char *out,
                            size_t *written)
{
    static const char BYTES[256] = {
        ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
        ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
    };
    char byte = text.size > 1 ? BYTES[(unsigned char)text.data[1]] : '\0';
    uint32_t unit;

    *written = 1;
    if (byte != '\0') {
        *out = byte;
        return 2;
    }
    if (begins_unit(text, &unit)) {
        if (text.size >= UNIT_SIZE)
            return decode_unit(text, unit, cut, out, written);
        if (cut)
            return 0;
    }
    *out = '\\';
    return 1;
}

static struct slice decode(struct arena *arena, struct slice raw, bool cut)
{
    char *out = arena_bytes(arena, raw.size);
    size_t size = 0;

    while (raw.size > 0) {
        const char *escape = memchr(raw.data, '\\', raw.size);
        size_t run = escape ? (size_t)(escape - raw.data) : raw.size;
        size_t used, written;

        memcpy(out + size, raw.data, run);
        size += run;
        raw = slice_from(raw, run);
        if (!escape)
            break;
        used = decode_escape(raw, cut, out + size, &written);
        if (used == 0)
            break;
        size += written;
        raw = slice_from(raw, used);
    }
    return slice_make(out, size);
}

struct slice json_text(struct arena *arena, struct slice raw, bool cut)
{
    if (cut)
        raw = utf8_cut(raw, raw.size);
    if (memchr(raw.data, '\\', raw.size))
        raw = decode(arena, raw, cut);
    return utf8_clean(arena, raw);
}
