/* Terms for test_api_*.c from Erlang source text, so that a test reads as what
 * a caller writes:
 *
 *     term_bytes("{generate_task, <<\"Add a login\">>, [{timeout, 10}]}")
 *
 * Atoms (quoted too), integers, floats, "charlists", <<"text">>, <<1, 2>>,
 * lists (improper too), tuples, maps, and the words of WORDS below. Lists of
 * bytes are packed as a node packs them. test_api_reply.c has a real node
 * check that it means the same. */
#ifndef LLM_ROUTER_TESTS_TEST_API_TERMS_H
#define LLM_ROUTER_TESTS_TEST_API_TERMS_H

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "llm_router/base/mem.h"
#include "llm_router/base/utf8.h"
#include "llm_router/term/reader.h"
#include "llm_router/term/writer.h"
#include "tests/external.h"
#include "unit.h"

enum { TERM_TEST_MAX = 256 * 1024 * 1024 };

/* As OTP 25.2.3 wrote them on the node caller@vm. */
#define PID_HEX "5864000963616c6c657240766d0000005a000000006b02e4f2"
#define REF_HEX "5a000364000963616c6c657240766d6b02e4f20003c497ca3900015531e7a6"

static const struct {
    const char *word;
    const char *hex;
} WORDS[] = {
    {"PID", PID_HEX},
    {"REF", REF_HEX},
    {"FUN", "7177056c6973747377036d61706102"}, /* fun lists:map/2 */
    {"PORT", "5964000963616c6c657240766d000000056b02e4f2"},
    {"BITS", "4d000000020301a0"},
    {"BIG", "6e0901000000000000000040"}, /* -(1 bsl 70) */
    {"LATIN1", "640001e9"},              /* an atom of e acute */
};

static inline void append_hex(struct buf *out, const char *hex)
{
    for (; hex[0] && hex[1]; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};

        buf_append_byte(out, (char)strtoul(digits, NULL, 16));
    }
}

struct source {
    const char *at;
};

static inline void skip_space(struct source *source)
{
    while (isspace((unsigned char)*source->at))
        source->at++;
}

static inline bool accept(struct source *source, const char *token)
{
    skip_space(source);
    if (strncmp(source->at, token, strlen(token)) != 0)
        return false;
    source->at += strlen(token);
    return true;
}

static inline void expect(struct source *source, const char *token)
{
    if (!accept(source, token))
        fail_msg("expected %s before: %s", token, source->at);
}

static void put_source(struct buf *out, struct source *source);

/* Elements up to `close`; how many there were. */
static inline size_t put_elements(struct buf *out, struct source *source,
                                  const char *close)
{
    size_t count = 0;

    skip_space(source);
    while (strncmp(source->at, close, strlen(close)) != 0 &&
           *source->at != '|') {
        put_source(out, source);
        count++;
        if (!accept(source, ",") && !accept(source, "=>"))
            break;
        skip_space(source);
    }
    return count;
}

/* If all are integers of one byte: STRING_EXT, as a node writes them. */
static inline bool put_packed(struct buf *out, struct slice elements,
                              size_t count)
{
    if (count == 0 || count > UINT16_MAX || elements.size != 2 * count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (elements.data[2 * i] != 'a')
            return false;
    buf_append_byte(out, 'k');
    buf_append_byte(out, (char)(count >> 8));
    buf_append_byte(out, (char)count);
    for (size_t i = 0; i < count; i++)
        buf_append_byte(out, elements.data[2 * i + 1]);
    return true;
}

static inline void put_list_source(struct buf *out, struct source *source)
{
    struct buf elements;
    size_t count;

    buf_init(&elements, TERM_TEST_MAX);
    count = put_elements(&elements, source, "]");
    if (accept(source, "|")) {
        term_put_list(out, count);
        buf_append_slice(out, buf_slice(&elements));
        put_source(out, source);
    } else if (!put_packed(out, buf_slice(&elements), count)) {
        term_put_list(out, count);
        buf_append_slice(out, buf_slice(&elements));
        term_put_nil(out);
    }
    expect(source, "]");
    buf_release(&elements);
}

static inline void put_tuple_source(struct buf *out, struct source *source,
                                    bool is_map)
{
    struct buf elements;
    size_t count;

    buf_init(&elements, TERM_TEST_MAX);
    count = put_elements(&elements, source, "}");
    expect(source, "}");
    if (is_map)
        term_put_map(out, count / 2);
    else
        term_put_tuple(out, count);
    buf_append_slice(out, buf_slice(&elements));
    buf_release(&elements);
}

/* The characters up to `quote`; a backslash takes the next one as it is. */
static inline struct slice quoted(struct source *source, char quote, char *text,
                                  size_t size)
{
    size_t length = 0;

    while (*source->at != quote && *source->at != '\0' && length < size) {
        if (*source->at == '\\')
            source->at++;
        text[length++] = *source->at++;
    }
    if (*source->at++ != quote)
        fail_msg("no closing %c", quote);
    return slice_make(text, length);
}

static inline void put_binary_source(struct buf *out, struct source *source)
{
    char text[1024];
    struct slice bytes = {text, 0};

    if (accept(source, "\"")) {
        bytes = quoted(source, '"', text, sizeof(text));
    } else {
        while (isdigit((unsigned char)*source->at)) {
            text[bytes.size++] =
                (char)strtol(source->at, (char **)&source->at, 10);
            accept(source, ",");
            skip_space(source);
        }
    }
    expect(source, ">>");
    term_put_binary(out, bytes);
}

static inline uint32_t code_point_of(struct slice character)
{
    static const unsigned char masks[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t point = (unsigned char)character.data[0] & masks[character.size];

    for (size_t i = 1; i < character.size; i++)
        point = point << 6 | ((unsigned char)character.data[i] & 0x3F);
    return point;
}

static inline void put_charlist_source(struct buf *out, struct source *source)
{
    char text[1024];
    struct slice rest = quoted(source, '"', text, sizeof(text));
    struct buf elements;
    size_t count = 0;

    buf_init(&elements, TERM_TEST_MAX);
    while (rest.size > 0) {
        size_t size = utf8_char_size(rest);

        term_put_integer(&elements, code_point_of(slice_make(rest.data, size)));
        rest = slice_make(rest.data + size, rest.size - size);
        count++;
    }
    if (!put_packed(out, buf_slice(&elements), count)) {
        term_put_list(out, count);
        buf_append_slice(out, buf_slice(&elements));
        term_put_nil(out);
    }
    buf_release(&elements);
}

static inline void put_number_source(struct buf *out, struct source *source)
{
    char *integer_end, *float_end;
    long long integer = strtoll(source->at, &integer_end, 10);
    double number = strtod(source->at, &float_end);

    if (integer_end == source->at)
        fail_msg("no term: %s", source->at);
    if (float_end > integer_end && *integer_end == '.')
        term_put_float(out, number);
    else
        term_put_integer(out, integer);
    source->at = *integer_end == '.' ? float_end : integer_end;
}

static inline void put_word_source(struct buf *out, struct source *source)
{
    const char *start = source->at;
    struct slice word;

    while (isalnum((unsigned char)*source->at) || *source->at == '_' ||
           *source->at == '@')
        source->at++;
    word = slice_make(start, (size_t)(source->at - start));
    for (size_t i = 0; i < sizeof(WORDS) / sizeof(*WORDS); i++) {
        if (slice_is(word, WORDS[i].word)) {
            append_hex(out, WORDS[i].hex);
            return;
        }
    }
    term_put_atom_slice(out, word);
}

static void put_source(struct buf *out, struct source *source)
{
    char text[256 * 4];

    if (accept(source, "<<"))
        put_binary_source(out, source);
    else if (accept(source, "#{"))
        put_tuple_source(out, source, true);
    else if (accept(source, "{"))
        put_tuple_source(out, source, false);
    else if (accept(source, "["))
        put_list_source(out, source);
    else if (accept(source, "\""))
        put_charlist_source(out, source);
    else if (accept(source, "'"))
        term_put_atom_slice(out, quoted(source, '\'', text, sizeof(text)));
    else if (isalpha((unsigned char)*source->at))
        put_word_source(out, source);
    else
        put_number_source(out, source);
}

static const struct term_limits TEST_LIMITS = {TERM_TEST_MAX, 512};

/* The bytes of `buf` in a heap block of just their size, so that a sanitizer
 * sees every read behind them; they passed term_check. Free with mem_free. */
static inline struct slice take_checked(struct buf *buf)
{
    struct slice bytes = {mem_realloc(NULL, buf->size), buf->size};
    struct error err;

    assert_false(buf->failed);
    memcpy((char *)bytes.data, buf->data, buf->size);
    buf_release(buf);
    if (!external_check(bytes, &TEST_LIMITS, &err))
        fail_msg("%s", err.message);
    return bytes;
}

/* With the version byte. */
static inline struct slice term_bytes(const char *text)
{
    struct source source = {text};
    struct buf out;

    buf_init(&out, TERM_TEST_MAX);
    term_put_version(&out);
    put_source(&out, &source);
    skip_space(&source);
    if (*source.at != '\0')
        fail_msg("left over: %s", source.at);
    return take_checked(&out);
}

static inline struct slice hex_bytes(const char *hex)
{
    struct buf out;

    buf_init(&out, TERM_TEST_MAX);
    append_hex(&out, hex);
    return take_checked(&out);
}

#endif
