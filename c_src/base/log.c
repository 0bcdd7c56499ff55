#include "llm_router/base/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

/* Below PIPE_BUF (4096): a pipe that polls writable takes such a line whole,
 * so that write() cannot block although stderr is left in blocking mode (the
 * mode belongs to whoever shares the descriptor with us). */
enum { LINE_MAX_BYTES = 2048 };

static const char *const names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

static enum log_level threshold = LOG_INFO;
static _Atomic uint64_t dropped;

void log_set_level(enum log_level level)
{
    threshold = level;
}

bool log_level_parse(struct slice name, enum log_level *level)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_is(name, names[i])) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

uint64_t log_dropped(void)
{
    return dropped;
}

/* One line stays one line, whatever a peer called itself. */
static size_t escape(char *out, size_t room, const char *text)
{
    size_t size = 0;

    for (; *text && size + 4 < room; text++) {
        unsigned char c = (unsigned char)*text;

        if (c >= 0x20 && c != 0x7F)
            out[size++] = (char)c;
        else
            size += (size_t)snprintf(out + size, 5, "\\x%02x", c);
    }
    return size;
}

static void write_line(const char *line, size_t size)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

    if (poll(&fd, 1, 0) != 1 || !(fd.revents & POLLOUT) ||
        write(STDERR_FILENO, line, size) != (ssize_t)size)
        dropped++;
}

void log_line(enum log_level level, const char *component, const char *format,
              ...)
{
    char text[LINE_MAX_BYTES - 128];
    char line[LINE_MAX_BYTES];
    va_list arguments;
    size_t size;

    if (level > threshold)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    size = (size_t)snprintf(line, 96, "level=%s component=%s ", names[level],
                            component);
    size += escape(line + size, sizeof(line) - size - 1, text);
    line[size++] = '\n';
    write_line(line, size);
}
