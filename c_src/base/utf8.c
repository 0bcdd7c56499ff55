#include "llm_router/base/utf8.h"

static const char REPLACEMENT[] = "\xEF\xBF\xBD"; /* U+FFFD */

static bool is_tail(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

/* The second byte's range depends on the first (RFC 3629, section 4): this is
 * where overlong forms, surrogates and values over U+10FFFF end. */
static bool second_is_valid(unsigned char first, unsigned char second)
{
    switch (first) {
    case 0xE0:
        return second >= 0xA0 && second <= 0xBF;
    case 0xED:
        return second >= 0x80 && second <= 0x9F;
    case 0xF0:
        return second >= 0x90 && second <= 0xBF;
    case 0xF4:
        return second >= 0x80 && second <= 0x8F;
    default:
        return is_tail(second);
    }
}

size_t utf8_char_size(struct slice text)
{
    const unsigned char *at = (const unsigned char *)text.data;
    size_t size;

    if (text.size == 0)
        return 0;
    if (at[0] < 0x80)
        return 1;
    if (at[0] < 0xC2 || at[0] > 0xF4)
        return 0;
    size = at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : 4;
    if (text.size < size || !second_is_valid(at[0], at[1]))
        return 0;
    for (size_t i = 2; i < size; i++)
        if (!is_tail(at[i]))
            return 0;
    return size;
}

/* Bytes of plain ASCII other than NUL at the front, eight at a time. */
static size_t ascii_run(struct slice text)
{
    size_t i = 0;

    while (text.size - i >= 8) {
        uint64_t word;

        memcpy(&word, text.data + i, sizeof(word));
        if ((word & 0x8080808080808080u) != 0 ||
            ((word - 0x0101010101010101u) & ~word & 0x8080808080808080u) != 0)
            break;
        i += 8;
    }
    while (i < text.size && text.data[i] > 0)
        i++;
    return i;
}

static struct slice slice_from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

/* Bytes at the front that are valid; `nul` says whether NUL counts as such. */
static size_t valid_prefix(struct slice text, bool nul)
{
    size_t at = 0;

    while (at < text.size) {
        size_t size;

        at += ascii_run(slice_from(text, at));
        if (at == text.size)
            break;
        if (text.data[at] == '\0' && !nul)
            break;
        size = utf8_char_size(slice_from(text, at));
        if (size == 0)
            break;
        at += size;
    }
    return at;
}

bool utf8_is_valid(struct slice text)
{
    return valid_prefix(text, true) == text.size;
}

struct slice utf8_clean(struct arena *arena, struct slice text)
{
    size_t at = valid_prefix(text, false);
    size_t size = at;
    char *out;

    if (at == text.size)
        return text;
    out = arena_bytes(arena, text.size * 3);
    memcpy(out, text.data, at);
    while (at < text.size) {
        size_t run = valid_prefix(slice_from(text, at), false);

        memcpy(out + size, text.data + at, run);
        size += run;
        at += run;
        if (at == text.size)
            break;
        if (text.data[at++] == '\0')
            continue;
        memcpy(out + size, REPLACEMENT, 3);
        size += 3;
    }
    return slice_make(out, size);
}

struct slice utf8_cut(struct slice text, size_t max_bytes)
{
    size_t cut = text.size < max_bytes ? text.size : max_bytes;
    size_t start = cut;

    while (start > 0 && cut - start < 4) {
        size_t size;

        start--;
        if (is_tail((unsigned char)text.data[start]))
            continue;
        size = utf8_char_size(slice_make(text.data + start, cut - start));
        return slice_make(text.data, size > 0 ? start + size : start);
    }
    return slice_make(text.data, cut);
}

/* Eight bytes at a time: a tail has its first bit and not its second one. */
static size_t tails_in(uint64_t word)
{
    uint64_t tails = word & ~(word << 1) & 0x8080808080808080u;

    return (size_t)((tails >> 7) * 0x0101010101010101u >> 56);
}

size_t utf8_length(struct slice text)
{
    size_t count = text.size, i = 0;

    for (; text.size - i >= sizeof(uint64_t); i += sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, text.data + i, sizeof(word));
        count -= tails_in(word);
    }
    for (; i < text.size; i++)
        count -= is_tail((unsigned char)text.data[i]);
    return count;
}

size_t utf8_encode(uint32_t code_point, char out[4])
{
    unsigned char *bytes = (unsigned char *)out;

    if (code_point < 0x80) {
        bytes[0] = (unsigned char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        bytes[0] = (unsigned char)(0xC0 | code_point >> 6);
        bytes[1] = (unsigned char)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF))
        return 0;
    if (code_point < 0x10000) {
        bytes[0] = (unsigned char)(0xE0 | code_point >> 12);
        bytes[1] = (unsigned char)(0x80 | (code_point >> 6 & 0x3F));
        bytes[2] = (unsigned char)(0x80 | (code_point & 0x3F));
        return 3;
    }
    bytes[0] = (unsigned char)(0xF0 | code_point >> 18);
    bytes[1] = (unsigned char)(0x80 | (code_point >> 12 & 0x3F));
    bytes[2] = (unsigned char)(0x80 | (code_point >> 6 & 0x3F));
    bytes[3] = (unsigned char)(0x80 | (code_point & 0x3F));
    return 4;
}
