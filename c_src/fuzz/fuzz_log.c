/* Whatever bytes are logged: a real parser takes the line, and no field of it
 * but those that were given. The first byte chooses the format, the level and
 * how the rest is split between the message and the fields. */
#include <stdlib.h>

#include "tests/test_log_lines.h"

enum { FIELDS = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* It came back as it was; the rest was cut, with a mark, or no text. */
static void compare(struct slice given, struct slice seen)
{
    struct slice mark = SLICE_LITERAL("...");

    if (!utf8_is_valid(given))
        require(utf8_is_valid(seen));
    else if (!slice_equal(given, seen))
        require(
            seen.size >= mark.size && seen.size - mark.size < given.size &&
            !memcmp(seen.data, given.data, seen.size - mark.size) &&
            !memcmp(seen.data + seen.size - mark.size, mark.data, mark.size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[FIELDS] = {"a", "b", "c", "d", "e", "f"};
    static struct pairs pairs;
    struct log_field fields[FIELDS];
    char line[LOG_LINE_MAX];
    struct log_entry entry = {
        .component = "fuzz", .fields = fields, .field_count = FIELDS};
    struct slice rest;
    size_t part;

    if (size < 2)
        return 0;
    entry.format = data[0] & 1 ? LOG_JSON : LOG_LOGFMT;
    entry.level = (enum log_level)(data[0] >> 1 & 3);
    entry.unix_ms = (int64_t)data[0] << 33;
    entry.suppressed = data[0] >> 4;
    rest = slice_make(data + 2, size - 2);
    part = rest.size / FIELDS * data[1] / 255;
    for (size_t i = 0; i < FIELDS; i++) {
        fields[i] = log_text(keys[i], slice_make(rest.data, part));
        rest = slice_make(rest.data + part, rest.size - part);
    }
    entry.message = rest;
    rest = slice_make(line, log_entry_write(&entry, line));
    require(read_line(entry.format, rest, &pairs));
    require(pairs.count <= 5 + FIELDS);
    compare(entry.message, value_of(&pairs, "msg"));
    for (size_t i = 0; i < FIELDS; i++)
        if (pair_of(&pairs, keys[i]))
            compare(fields[i].text, value_of(&pairs, keys[i]));
    return 0;
}
