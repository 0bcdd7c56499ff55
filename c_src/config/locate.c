#include "llm_router/config/locate.h"

struct cursor {
    struct slice text;
    size_t at;
};

static char current(const struct cursor *cursor)
{
    return cursor->at < cursor->text.size ? cursor->text.data[cursor->at]
                                          : '\0';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(struct cursor *cursor)
{
    while (is_blank(current(cursor)))
        cursor->at++;
}

/* Past `c` and the blanks behind it. */
static bool skip(struct cursor *cursor, char c)
{
    if (cursor->at == cursor->text.size || current(cursor) != c)
        return false;
    cursor->at++;
    skip_blanks(cursor);
    return true;
}

/* Past a string, which `at` is at the opening quote of. */
static void skip_string(struct cursor *cursor)
{
    cursor->at++;
    while (cursor->at < cursor->text.size) {
        char c = cursor->text.data[cursor->at++];

        if (c == '"')
            return;
        if (c == '\\' && cursor->at < cursor->text.size)
            cursor->at++;
    }
}

static void skip_word(struct cursor *cursor)
{
    while (cursor->at < cursor->text.size && !is_blank(current(cursor)) &&
           !memchr(",:]}", current(cursor), 4))
        cursor->at++;
}

/* Past a value and the blanks behind it. */
static void skip_value(struct cursor *cursor)
{
    size_t depth = 0;

    do {
        char c = current(cursor);

        if (c == '"') {
            skip_string(cursor);
        } else if (c == '{' || c == '[') {
            depth++;
            cursor->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                return;
            depth--;
            cursor->at++;
        } else if (depth > 0 && (c == ',' || c == ':')) {
            cursor->at++;
        } else {
            skip_word(cursor);
        }
        skip_blanks(cursor);
    } while (depth > 0 && cursor->at < cursor->text.size);
}

/* Keys. */

static unsigned hex_digits(struct cursor *cursor)
{
    unsigned value = 0;

    for (int i = 0; i < 4 && cursor->at < cursor->text.size; i++) {
        char c = cursor->text.data[cursor->at++];

        value =
            value * 16 + (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

/* \uXXXX behind its u, both halves of a pair. */
static uint32_t escaped_character(struct cursor *cursor)
{
    uint32_t high = hex_digits(cursor), low;

    if (high < 0xD800 || high > 0xDBFF)
        return high;
    cursor->at += cursor->text.size - cursor->at < 2
                      ? cursor->text.size - cursor->at
                      : 2; /* the \u of the second half */
    low = hex_digits(cursor);
    return 0x10000 + ((high - 0xD800) << 10) + ((low - 0xDC00) & 0x3FF);
}

static size_t put_utf8(char out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | (c >> 18 & 7));
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* The next character of a string, at most 4 bytes. */
static size_t next_character(struct cursor *cursor, char out[4])
{
    static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";
    const char *letter;
    char c = cursor->text.data[cursor->at++];

    out[0] = c;
    if (c != '\\' || cursor->at == cursor->text.size)
        return 1;
    c = cursor->text.data[cursor->at++];
    if (c == 'u')
        return put_utf8(out, escaped_character(cursor));
    letter = memchr(letters, c, sizeof(letters) - 1);
    out[0] = letter ? meant[letter - letters] : c;
    return 1;
}

/* Is the string at the cursor `key`? The cursor goes behind it. */
static bool take_key(struct cursor *cursor, struct slice key)
{
    struct cursor reader = *cursor;
    size_t matched = 0;
    char out[4];

    skip_string(cursor);
    reader.text.size = cursor->at - 1; /* without the closing quote */
    reader.at++;
    while (reader.at < reader.text.size) {
        size_t size = next_character(&reader, out);

        if (size > key.size - matched ||
            memcmp(key.data + matched, out, size) != 0)
            return false;
        matched += size;
    }
    return matched == key.size;
}

/* To the value of a member; `key_at` is where its key begins. */
static bool enter_member(struct cursor *cursor, const char *key, size_t *key_at)
{
    if (!skip(cursor, '{'))
        return false;
    while (current(cursor) == '"') {
        bool found;

        *key_at = cursor->at;
        found = take_key(cursor, slice_of(key));
        skip_blanks(cursor);
        if (!skip(cursor, ':'))
            return false;
        if (found)
            return true;
        skip_value(cursor);
        if (!skip(cursor, ','))
            return false;
    }
    return false;
}

static bool enter_element(struct cursor *cursor, size_t index)
{
    if (!skip(cursor, '['))
        return false;
    for (size_t i = 0; i < index; i++) {
        skip_value(cursor);
        if (!skip(cursor, ','))
            return false;
    }
    return current(cursor) != ']';
}

static void count_lines(struct slice text, struct location *location)
{
    location->line = location->column = 1;
    for (size_t i = 0; i < location->offset; i++) {
        if (text.data[i] == '\n') {
            location->line++;
            location->column = 1;
        } else if (((unsigned char)text.data[i] & 0xC0) != 0x80) {
            location->column++;
        }
    }
}

bool locate(struct slice json, const struct locate_step *steps, size_t count,
            enum locate_target target, struct location *location)
{
    struct cursor cursor = {json, 0};
    size_t key_at = 0;

    skip_blanks(&cursor);
    for (size_t i = 0; i < count; i++) {
        bool found = steps[i].key ? enter_member(&cursor, steps[i].key, &key_at)
                                  : enter_element(&cursor, steps[i].index);

        if (!found)
            return false;
    }
    if (cursor.at >= json.size)
        return false;
    location->offset = target == LOCATE_KEY && count > 0 && steps[count - 1].key
                           ? key_at
                           : cursor.at;
    count_lines(json, location);
    return true;
}
