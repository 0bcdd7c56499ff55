#include <math.h>
#include <stdio.h>

#include "base/log_internal.h"
#include "llm_router/base/utf8.h"

/* What a line ends with: "}\n". */
enum { TAIL = 2 };

static const char MARK[] = "..."; /* behind a text that was cut */
enum { MARK_SIZE = sizeof(MARK) - 1 };

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

/* Of syslog. */
static const char priorities[] = {
    [LOG_ERROR] = '3',
    [LOG_WARN] = '4',
    [LOG_INFO] = '6',
    [LOG_DEBUG] = '7',
};

/* `room` is kept by everybody: what does not fit sets `full` and is left out.
 */
struct line {
    char *out;
    size_t size;
    size_t room;
    enum log_format format;
    bool full;
};

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

static void put(struct line *line, const char *data, size_t size)
{
    if (line->full || size > line->room - line->size) {
        line->full = true;
        return;
    }
    memcpy(line->out + line->size, data, size);
    line->size += size;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

static void put_byte(struct line *line, char byte)
{
    put(line, &byte, 1);
}

static void put_digits(struct line *line, uint64_t number, size_t least)
{
    char digits[20];
    size_t at = sizeof(digits);

    while (number > 0 || sizeof(digits) - at < least) {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    }
    put(line, digits + at, sizeof(digits) - at);
}

static void put_integer(struct line *line, int64_t number)
{
    if (number < 0)
        put_byte(line, '-');
    put_digits(line, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 1);
}

static void put_real(struct line *line, double number)
{
    char text[32];

    if (!isfinite(number))
        put_text(line, "null");
    else
        put(line, text, (size_t)snprintf(text, sizeof(text), "%.6g", number));
}

/* Texts. */

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
}

/* Of logfmt: it needs no quotes. */
static bool is_bare(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (!is_plain(c) || c == ' ' || c == '=')
            return false;
    }
    return text.size > 0;
}

/* C1 controls and the marks that turn the direction of text around: a terminal
 * obeys them. The line separators, which some readers take for newlines. */
static bool is_hidden(unsigned code)
{
    return (code >= 0x80 && code <= 0x9F) || code == 0x61C || code == 0x200E ||
           code == 0x200F || (code >= 0x2028 && code <= 0x202E) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0xFEFF;
}

/* Of a character of at most three bytes. */
static unsigned decode(const char *data, size_t size)
{
    unsigned a = (unsigned char)data[0], b = (unsigned char)data[1];

    if (size == 2)
        return (a & 0x1F) << 6 | (b & 0x3F);
    return (a & 0x0F) << 12 | (b & 0x3F) << 6 | ((unsigned char)data[2] & 0x3F);
}

static size_t escape_code(unsigned code, char out[6])
{
    static const char digits[] = "0123456789abcdef";

    out[0] = '\\';
    out[1] = 'u';
    for (size_t i = 0; i < 4; i++)
        out[2 + i] = digits[code >> (12 - 4 * i) & 15];
    return 6;
}

static size_t escape_ascii(char c, char out[6])
{
    static const char named[] = "\"\\\n\r\t", as[] = "\"\\nrt";
    const char *found = c != '\0' ? strchr(named, c) : NULL;

    if (!found)
        return escape_code((unsigned char)c, out);
    out[0] = '\\';
    out[1] = as[found - named];
    return 2;
}

/* The next character as it is between quotes; takes it off the text. */
static size_t escape(struct slice *text, char out[6])
{
    size_t size = utf8_char_size(*text);
    size_t written;

    if (size == 0) {
        written = utf8_encode(0xFFFD, out);
        size = 1;
    } else if (size == 1) {
        written = escape_ascii(text->data[0], out);
    } else if (size < 4 && is_hidden(decode(text->data, size))) {
        written = escape_code(decode(text->data, size), out);
    } else {
        memcpy(out, text->data, size);
        written = size;
    }
    *text = slice_make(text->data + size, text->size - size);
    return written;
}

/* The inside of quotes, at most `max` bytes, cut behind a character. */
static void put_escaped(struct line *line, struct slice text, size_t max)
{
    size_t limit =
        line->room - line->size < max ? line->room : line->size + max;
    size_t last = line->size; /* where the mark still fits */

    if (max < MARK_SIZE || limit < line->size + MARK_SIZE) {
        line->full = true;
        return;
    }
    while (text.size > 0) {
        char bytes[6] = {text.data[0]};
        size_t size = 1;

        if (is_plain((unsigned char)bytes[0]))
            text = slice_make(text.data + 1, text.size - 1);
        else
            size = escape(&text, bytes);
        if (size > limit - line->size) {
            line->size = last;
            put_text(line, MARK);
            return;
        }
        memcpy(line->out + line->size, bytes, size);
        line->size += size;
        if (limit - line->size >= MARK_SIZE)
            last = line->size;
    }
}

static void put_value(struct line *line, struct slice text, size_t max)
{
    if (line->format == LOG_LOGFMT && text.size <= max && is_bare(text)) {
        put(line, text.data, text.size);
        return;
    }
    put_byte(line, '"');
    put_escaped(line, text, max);
    put_byte(line, '"');
}

static void put_key(struct line *line, const char *key)
{
    if (line->format == LOG_LOGFMT) {
        put_byte(line, ' ');
        put_text(line, key);
        put_byte(line, '=');
        return;
    }
    put_text(line, ",\"");
    put_text(line, key);
    put_text(line, "\":");
}

static void put_field_value(struct line *line, const struct log_field *field)
{
    switch (field->kind) {
    case LOG_KIND_TEXT:
        put_value(line, field->text, LOG_VALUE_MAX);
        return;
    case LOG_KIND_INTEGER:
        put_integer(line, field->integer);
        return;
    case LOG_KIND_REAL:
        put_real(line, field->real);
        return;
    }
}

static void put_field(struct line *line, const struct log_field *field)
{
    size_t before = line->size;

    put_key(line, field->key);
    put_field_value(line, field);
    if (line->full)
        line->size = before;
    line->full = false;
}

/* The head. */

struct date {
    uint64_t year;
    unsigned month, day;
};

/* Of a day after 1970-01-01, by eras of 400 years that begin on the first of
 * March, so that the day that is not in every year is the last of one. */
static struct date date_of(uint64_t days)
{
    uint64_t shifted = days + 719468; /* from 0000-03-01 */
    uint64_t era = shifted / 146097;
    unsigned of_era = (unsigned)(shifted % 146097);
    unsigned year =
        (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
    unsigned shifted_month = (5 * of_year + 2) / 153;
    unsigned month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;

    return (struct date){
        .year = year + era * 400 + (month <= 2),
        .month = month,
        .day = of_year - (153 * shifted_month + 2) / 5 + 1,
    };
}

static void put_time(struct line *line, int64_t unix_ms)
{
    uint64_t ms = unix_ms > 0 ? (uint64_t)unix_ms : 0;
    uint64_t s = ms / 1000;
    struct date date = date_of(s / 86400);
    const struct {
        uint64_t number;
        size_t digits;
        char end;
    } parts[] = {
        {date.year, 4, '-'},     {date.month, 2, '-'},  {date.day, 2, 'T'},
        {s / 3600 % 24, 2, ':'}, {s / 60 % 60, 2, ':'}, {s % 60, 2, '.'},
        {ms % 1000, 3, 'Z'},
    };

    put_text(line, line->format == LOG_JSON ? "\"time\":\"" : "time=");
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        put_digits(line, parts[i].number, parts[i].digits);
        put_byte(line, parts[i].end);
    }
    put_text(line, line->format == LOG_JSON ? "\"," : " ");
}

static void put_priority(struct line *line, enum log_level level)
{
    put_byte(line, '<');
    put_byte(line, priorities[level]);
    put_byte(line, '>');
}

static void put_head(struct line *line, const struct log_entry *entry)
{
    bool json = line->format == LOG_JSON;

    if (entry->stamp == LOG_STAMP_PRIORITY)
        put_priority(line, entry->level);
    if (json)
        put_byte(line, '{');
    if (entry->stamp == LOG_STAMP_TIME)
        put_time(line, entry->unix_ms);
    put_text(line, json ? "\"level\":\"" : "level=");
    put_text(line, level_names[entry->level]);
    if (json)
        put_byte(line, '"');
    put_key(line, "component");
    put_value(line, slice_of(entry->component), LOG_VALUE_MAX);
    put_key(line, "msg");
    put_value(line, entry->message, LOG_MESSAGE_MAX);
}

size_t log_entry_write(const struct log_entry *entry, char out[LOG_LINE_MAX])
{
    struct line line = {
        .out = out, .room = LOG_LINE_MAX - TAIL, .format = entry->format};

    put_head(&line, entry);
    if (entry->suppressed > 0) {
        put_key(&line, "suppressed");
        put_digits(&line, entry->suppressed, 1);
    }
    for (size_t i = 0; i < entry->field_count; i++)
        put_field(&line, &entry->fields[i]);
    if (entry->format == LOG_JSON)
        out[line.size++] = '}';
    out[line.size++] = '\n';
    return line.size;
}
