/* How a line of the log looks: in both formats, whatever is in it. */
#include "tests/test_log_lines.h"
#include "tests/unit.h"

#include <math.h>
#include <stdlib.h>

static char line[LOG_LINE_MAX + 1];
static struct pairs pairs;

static const enum log_format formats[] = {LOG_LOGFMT, LOG_JSON};

static struct log_entry entry_of(const struct log_field *fields, size_t count)
{
    return (struct log_entry){
        .unix_ms = 1795404896789,
        .level = LOG_WARN,
        .component = "dist",
        .message = SLICE_LITERAL("connection closed"),
        .fields = fields,
        .field_count = count,
    };
}

static struct slice written(struct log_entry entry, enum log_format format)
{
    size_t size;

    entry.format = format;
    size = log_entry_write(&entry, line);
    line[size] = '\0';
    return slice_make(line, size);
}

/* Writes one with this field, and reads it back. */
static struct slice echo(enum log_format format, struct slice text)
{
    const struct log_field field = log_text("peer", text);

    assert_true(
        read_line(format, written(entry_of(&field, 1), format), &pairs));
    assert_int_equal(pairs.count, 5);
    return value_of(&pairs, "peer");
}

static void a_line_of_logfmt_has_its_fields_behind_the_message(void **state)
{
    const struct log_field fields[] = {
        log_text("peer", SLICE_LITERAL("a@b")),
        log_count("connection", 3),
        log_integer("change", INT64_MIN),
        log_real("cost_usd", 0.00125),
        log_text("reason", SLICE_LITERAL("silent for the tick time")),
        log_text("empty", slice_of(NULL)),
    };

    (void)state;
    assert_slice(written(entry_of(fields, 6), LOG_LOGFMT),
                 "time=2026-11-23T03:34:56.789Z level=warn component=dist "
                 "msg=\"connection closed\" peer=a@b connection=3 "
                 "change=-9223372036854775808 cost_usd=0.00125 "
                 "reason=\"silent for the tick time\" empty=\"\"\n");
}

static void a_line_of_json_is_an_object(void **state)
{
    const struct log_field fields[] = {
        log_text("peer", SLICE_LITERAL("a@b")),
        log_count("connection", UINT64_MAX),
        log_real("cost_usd", 12.5),
        log_real("unknown", NAN),
    };

    (void)state;
    assert_slice(written(entry_of(fields, 4), LOG_JSON),
                 "{\"time\":\"2026-11-23T03:34:56.789Z\",\"level\":\"warn\","
                 "\"component\":\"dist\",\"msg\":\"connection closed\","
                 "\"peer\":\"a@b\",\"connection\":9223372036854775807,"
                 "\"cost_usd\":12.5,\"unknown\":null}\n");
}

static void the_journal_gets_priorities_and_no_time(void **state)
{
    struct log_entry entry = entry_of(NULL, 0);

    (void)state;
    entry.stamp = LOG_STAMP_PRIORITY;
    assert_slice(written(entry, LOG_LOGFMT),
                 "<4>level=warn component=dist msg=\"connection closed\"\n");
    entry.level = LOG_ERROR;
    assert_slice(written(entry, LOG_JSON),
                 "<3>{\"level\":\"error\",\"component\":\"dist\","
                 "\"msg\":\"connection closed\"}\n");
}

static void what_was_suppressed_is_a_field(void **state)
{
    struct log_entry entry = entry_of(NULL, 0);

    (void)state;
    entry.suppressed = 7;
    for (size_t i = 0; i < 2; i++) {
        assert_true(read_line(formats[i], written(entry, formats[i]), &pairs));
        assert_slice(value_of(&pairs, "suppressed"), "7");
    }
}

static void times_are_right_in_every_year(void **state)
{
    const struct {
        int64_t s;
        const char *date;
    } times[] = {
        {-5, "1970-01-01T00:00:00.000Z"},
        {0, "1970-01-01T00:00:00.000Z"},
        {951782399, "2000-02-28T23:59:59.000Z"},
        {951782400, "2000-02-29T00:00:00.000Z"},
        {951868800, "2000-03-01T00:00:00.000Z"},
        {1735689599, "2024-12-31T23:59:59.000Z"},
        {1735689600, "2025-01-01T00:00:00.000Z"},
        {4107542400, "2100-03-01T00:00:00.000Z"},
        {253402300799, "9999-12-31T23:59:59.000Z"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        struct log_entry entry = entry_of(NULL, 0);

        entry.unix_ms = times[i].s * 1000;
        assert_true(read_logfmt(written(entry, LOG_LOGFMT), &pairs));
        assert_slice(value_of(&pairs, "time"), times[i].date);
    }
}

static void every_character_comes_back(void **state)
{
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        for (uint32_t code = 0; code < 0x11000; code++) {
            char text[8] = {'a'};
            size_t size = utf8_encode(code, text + 1);
            struct slice given = slice_make(text, size + 1);

            if (size > 0)
                assert_true(slice_equal(echo(formats[f], given), given));
        }
    }
}

static void a_hostile_name_forges_neither_field_nor_line(void **state)
{
    static const char *const names[] = {
        "a@b level=error component=job",
        "a@b\nlevel=error component=job msg=forged",
        "a@b\" level=\"error",
        "a@b\\\" level=error",
        "a@b\",\"level\":\"error",
        "a@b\r\x1B[2K\x1B[1A",
        "=",
        "\"",
        "\\",
        " ",
    };

    (void)state;
    for (size_t f = 0; f < 2; f++) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            assert_slice(echo(formats[f], slice_of(names[i])), names[i]);
            assert_slice(value_of(&pairs, "level"), "warn");
        }
    }
}

/* C1 controls, what turns the direction of text around, line separators. */
static void a_terminal_is_told_nothing(void **state)
{
    static const char *const raw[] = {
        "\x1B",         "\x7F",         "\xC2\x9B", "\xE2\x80\xAE",
        "\xE2\x80\xA8", "\xE2\x81\xA6", "\xD8\x9C", "\xEF\xBB\xBF",
    };

    (void)state;
    for (size_t f = 0; f < 2; f++) {
        for (size_t i = 0; i < sizeof(raw) / sizeof(raw[0]); i++) {
            assert_slice(echo(formats[f], slice_of(raw[i])), raw[i]);
            assert_null(strstr(line, raw[i]));
        }
    }
}

static void bytes_that_are_no_text_are_replaced(void **state)
{
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        assert_slice(echo(formats[f], SLICE_LITERAL("a\xFF"
                                                    "b\xC3")),
                     "a\xEF\xBF\xBD"
                     "b\xEF\xBF\xBD");
        assert_slice(echo(formats[f], SLICE_LITERAL("\xED\xA0\x80")),
                     "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    }
}

/* Of every kind of character, so that each meets the end. */
static void long_text_is_cut_at_a_character_with_a_mark(void **state)
{
    static const char *const parts[] = {
        "x",    "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\n",
        "\x01", "\""};
    char text[4 * LOG_VALUE_MAX];

    (void)state;
    for (size_t f = 0; f < 2; f++) {
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            size_t step = strlen(parts[i]);
            struct slice seen;

            for (size_t at = 0; at + step <= sizeof(text); at += step)
                memcpy(text + at, parts[i], step);
            seen =
                echo(formats[f], slice_make(text, sizeof(text) / step * step));
            assert_true(seen.size > 3 && (seen.size - 3) % step == 0);
            assert_memory_equal(seen.data, text, seen.size - 3);
            assert_memory_equal(seen.data + seen.size - 3, "...", 3);
        }
    }
}

static void text_of_just_the_limit_is_whole(void **state)
{
    char text[LOG_VALUE_MAX + 1];

    (void)state;
    memset(text, 'x', sizeof(text));
    for (size_t f = 0; f < 2; f++) {
        assert_int_equal(echo(formats[f], slice_make(text, LOG_VALUE_MAX)).size,
                         LOG_VALUE_MAX);
        assert_null(strstr(line, "..."));
        assert_int_equal(
            echo(formats[f], slice_make(text, LOG_VALUE_MAX + 1)).size,
            LOG_VALUE_MAX);
        assert_non_null(strstr(line, "..."));
    }
}

/* The rest is left out, field by field; what is there is whole. */
static void a_line_has_an_end_however_many_fields_there_are(void **state)
{
    struct log_field fields[PAIRS_MAX - 4];
    char text[4096], message[4096];
    struct log_entry entry = entry_of(fields, PAIRS_MAX - 4);

    (void)state;
    memset(text, '\x01', sizeof(text));
    memset(message, '"', sizeof(message));
    entry.message = slice_make(message, sizeof(message));
    for (size_t i = 0; i < PAIRS_MAX - 4; i++)
        fields[i] = log_text("text", slice_make(text, sizeof(text)));
    fields[PAIRS_MAX - 5] = log_integer("last", 1);
    assert_true(read_logfmt(written(entry, LOG_LOGFMT), &pairs));
    assert_in_range(written(entry, LOG_LOGFMT).size, LOG_LINE_MAX / 2,
                    LOG_LINE_MAX);
    assert_true(pairs.count < PAIRS_MAX);
    assert_slice(value_of(&pairs, "last"), "1");
    for (size_t i = 4; i + 1 < pairs.count; i++)
        assert_string_equal(pairs.of[i].key, "text");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_logfmt_has_its_fields_behind_the_message),
        cmocka_unit_test(a_line_of_json_is_an_object),
        cmocka_unit_test(the_journal_gets_priorities_and_no_time),
        cmocka_unit_test(what_was_suppressed_is_a_field),
        cmocka_unit_test(times_are_right_in_every_year),
        cmocka_unit_test(every_character_comes_back),
        cmocka_unit_test(a_hostile_name_forges_neither_field_nor_line),
        cmocka_unit_test(a_terminal_is_told_nothing),
        cmocka_unit_test(bytes_that_are_no_text_are_replaced),
        cmocka_unit_test(long_text_is_cut_at_a_character_with_a_mark),
        cmocka_unit_test(text_of_just_the_limit_is_whole),
        cmocka_unit_test(a_line_has_an_end_however_many_fields_there_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
