#include "llm_router/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log_internal.h"
#include "llm_router/base/descriptor.h"

enum {
    SITES_MAX = 256, /* call sites that are limited; a power of two */
    TOKEN = 1000,    /* a line; so that a millisecond earns LOG_PER_SECOND */
};

/* Levels: read without the lock. */

static const char *const components[] = {
#define X(name) name,
    LOG_COMPONENTS(X)
#undef X
};

static _Atomic unsigned char levels[LOG_COMPONENT_COUNT] = {
#define X(name) LOG_INFO,
    LOG_COMPONENTS(X)
#undef X
};
static _Atomic unsigned char least = LOG_INFO, most = LOG_INFO; /* of levels */

static bool find_component(struct slice name, size_t *index)
{
    for (size_t i = 0; i < LOG_COMPONENT_COUNT; i++) {
        if (slice_is(name, components[i])) {
            *index = i;
            return true;
        }
    }
    return false;
}

static bool find_level(struct slice name, unsigned char *level)
{
    for (unsigned char i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        if (slice_is(name, log_level_name((enum log_level)i))) {
            *level = i;
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_level level, const char *component)
{
    size_t index;

    if ((unsigned char)level <= least)
        return true;
    return (unsigned char)level <= most &&
           find_component(slice_of(component), &index) &&
           (unsigned char)level <= levels[index];
}

void log_set_levels(const struct log_levels *wanted)
{
    unsigned char lowest = LOG_DEBUG, highest = LOG_ERROR;

    for (size_t i = 0; i < LOG_COMPONENT_COUNT; i++) {
        levels[i] = wanted->of[i];
        lowest = wanted->of[i] < lowest ? wanted->of[i] : lowest;
        highest = wanted->of[i] > highest ? wanted->of[i] : highest;
    }
    least = lowest;
    most = highest;
}

void log_set_level(enum log_level level)
{
    struct log_levels same;

    memset(same.of, (unsigned char)level, sizeof(same.of));
    log_set_levels(&same);
}

/* "LEVEL" or "COMPONENT=LEVEL". */
static bool parse_level(struct slice part, struct log_levels *wanted,
                        struct error *err)
{
    ptrdiff_t equals = slice_find(part, SLICE_LITERAL("="));
    struct slice component = slice_make(part.data, (size_t)equals);
    struct slice name = part;
    unsigned char level;
    size_t index;

    if (equals >= 0)
        name =
            slice_make(part.data + equals + 1, part.size - (size_t)equals - 1);
    if (!find_level(name, &level))
        return error_set(err, ERR_INVALID_REQUEST,
                         "'%.*s' is not error, warn, info or debug",
                         SLICE_ARG(name));
    if (equals < 0) {
        memset(wanted->of, level, sizeof(wanted->of));
        return true;
    }
    if (!find_component(component, &index))
        return error_set(err, ERR_INVALID_REQUEST,
                         "there is no component '%.*s'", SLICE_ARG(component));
    wanted->of[index] = level;
    return true;
}

bool log_levels_parse(struct slice text, struct log_levels *wanted,
                      struct error *err)
{
    struct slice rest = text;

    memset(wanted->of, LOG_INFO, sizeof(wanted->of));
    for (;;) {
        ptrdiff_t comma = slice_find(rest, SLICE_LITERAL(","));
        struct slice part =
            slice_make(rest.data, comma < 0 ? rest.size : (size_t)comma);

        if (!parse_level(slice_trim(part), wanted, err))
            return false;
        if (comma < 0)
            return true;
        rest = slice_make(rest.data + comma + 1, rest.size - (size_t)comma - 1);
    }
}

/* All that follows is under this lock: a configuration is read in a thread,
 * and logs. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* What comes again and again. */

static struct site {
    const char *message; /* its address names the site; NULL: unused */
    const char *component;
    enum log_level level;
    uint64_t at_ms; /* when `tokens` was right */
    uint64_t tokens;
    uint64_t suppressed;
} sites[SITES_MAX];

/* NULL: there are too many; then it is not limited. */
static struct site *find_site(const char *message, uint64_t now_ms)
{
    uint64_t hash = (uint64_t)(uintptr_t)message * 0x9E3779B97F4A7C15u;

    for (size_t i = 0; i < SITES_MAX; i++) {
        struct site *site = &sites[((hash >> 56) + i) % SITES_MAX];

        if (site->message == message)
            return site;
        if (!site->message) {
            site->message = message;
            site->at_ms = now_ms;
            site->tokens = LOG_BURST * TOKEN;
            return site;
        }
    }
    return NULL;
}

static bool admit(struct site *site, uint64_t now_ms)
{
    uint64_t ms = now_ms > site->at_ms ? now_ms - site->at_ms : 0;
    uint64_t missing = LOG_BURST * TOKEN - site->tokens;

    site->tokens +=
        ms < missing / LOG_PER_SECOND ? ms * LOG_PER_SECOND : missing;
    site->at_ms = now_ms;
    if (site->tokens < TOKEN) {
        site->suppressed++;
        return false;
    }
    site->tokens -= TOKEN;
    return true;
}

/* What waits to be written. */

static char held[LOG_LINE_MAX];
static size_t held_size;
static size_t torn; /* bytes in front, of a line of which a part is out */
static bool batching;
static int output = STDERR_FILENO;
static _Atomic uint64_t dropped;
static uint64_t told_dropped;

static size_t count_lines(const char *data, size_t size)
{
    size_t count = 0;

    for (size_t i = 0; i < size; i++)
        count += data[i] == '\n';
    return count;
}

/* Of a torn line only its newline is kept: the next line is whole. */
static void drop_held(void)
{
    dropped += count_lines(held + torn, held_size - torn) + (torn > 1);
    held[0] = '\n';
    held_size = torn = torn > 0;
}

static void keep_rest(size_t written)
{
    bool within = held[written - 1] != '\n';
    const char *newline;

    held_size -= written;
    memmove(held, held + written, held_size);
    newline = memchr(held, '\n', held_size);
    torn = within && newline ? (size_t)(newline - held) + 1 : 0;
}

/* At most PIPE_BUF bytes: a pipe that polls writable takes them whole, so that
 * write() cannot block although stderr is left in blocking mode (the mode
 * belongs to whoever shares the descriptor with us). */
static void write_held(void)
{
    struct pollfd fd = {.fd = output, .events = POLLOUT};
    ssize_t written;

    if (held_size == 0 || poll(&fd, 1, 0) != 1)
        return;
    written = fd.revents & POLLOUT ? write(output, held, held_size) : -1;
    if (written == (ssize_t)held_size)
        held_size = torn = 0;
    else if (written > 0)
        keep_rest((size_t)written);
    else if (!(fd.revents & POLLOUT) || (errno != EAGAIN && errno != EINTR))
        drop_held();
}

static void hold(const char *line, size_t size)
{
    if (size > sizeof(held) - held_size)
        write_held();
    if (size > sizeof(held) - held_size) {
        dropped++;
        return;
    }
    memcpy(held + held_size, line, size);
    held_size += size;
}

/* Lines. */

static struct log_time system_time(void)
{
    struct timespec wall, steady;

    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC_COARSE, &steady);
    return (struct log_time){
        .unix_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000,
        .steady_ms =
            (uint64_t)steady.tv_sec * 1000 + (uint64_t)steady.tv_nsec / 1000000,
    };
}

static struct log_time (*clock_now)(void) = system_time;
static enum log_format format;
static enum log_stamp stamp;
static bool stamp_known;

/* systemd.exec(5): the device and inode of the journal's end, when that is
 * what stderr (or stdout) was at the start. */
static enum log_stamp find_stamp(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;

    if (stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
        fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device &&
        status.st_ino == inode)
        return LOG_STAMP_PRIORITY;
    return LOG_STAMP_TIME;
}

static void write_entry(struct log_entry *entry, int64_t unix_ms)
{
    char line[LOG_LINE_MAX];

    if (!stamp_known) {
        stamp = find_stamp();
        stamp_known = true;
    }
    entry->format = format;
    entry->stamp = stamp;
    entry->unix_ms = unix_ms;
    hold(line, log_entry_write(entry, line));
    if (!batching || entry->level <= LOG_WARN)
        write_held();
}

/* `site` is NULL for what is not limited. */
static void log_limited(struct log_entry *entry, const char *site_name)
{
    struct site *site = NULL;
    struct log_time now;

    pthread_mutex_lock(&lock);
    now = clock_now();
    if (site_name && entry->level != LOG_DEBUG)
        site = find_site(site_name, now.steady_ms);
    if (site) {
        site->component = entry->component;
        site->level = entry->level;
    }
    if (!site || admit(site, now.steady_ms)) {
        if (site) {
            entry->suppressed = site->suppressed;
            site->suppressed = 0;
        }
        write_entry(entry, now.unix_ms);
    }
    pthread_mutex_unlock(&lock);
}

void log_event(enum log_level level, const char *component, const char *message,
               const struct log_field *fields, size_t count)
{
    if (log_enabled(level, component))
        log_limited(&(struct log_entry){.level = level,
                                        .component = component,
                                        .message = slice_of(message),
                                        .fields = fields,
                                        .field_count = count},
                    message);
}

void log_record(enum log_level level, const char *component,
                const char *message, const struct log_field *fields,
                size_t count)
{
    if (log_enabled(level, component))
        log_limited(&(struct log_entry){.level = level,
                                        .component = component,
                                        .message = slice_of(message),
                                        .fields = fields,
                                        .field_count = count},
                    NULL);
}

void log_line(enum log_level level, const char *component, const char *text,
              ...)
{
    char message[LOG_MESSAGE_MAX * 2];
    va_list arguments;

    if (!log_enabled(level, component))
        return;
    va_start(arguments, text);
    vsnprintf(message, sizeof(message), text, arguments);
    va_end(arguments);
    log_limited(&(struct log_entry){.level = level,
                                    .component = component,
                                    .message = slice_of(message)},
                text);
}

static void tell_site(struct site *site, int64_t unix_ms)
{
    struct log_entry entry = {
        .level = site->level,
        .component = site->component,
        .message = slice_of(site->message),
        .suppressed = site->suppressed,
    };

    site->suppressed = 0;
    write_entry(&entry, unix_ms);
}

static void tell_dropped(int64_t unix_ms)
{
    uint64_t before = dropped;
    const struct log_field fields[] = {
        log_count("count", before - told_dropped),
    };
    struct log_entry entry = {
        .level = LOG_WARN,
        .component = "log",
        .message = SLICE_LITERAL("lines were lost"),
        .fields = fields,
        .field_count = 1,
    };

    write_entry(&entry, unix_ms);
    if (dropped == before)
        told_dropped = before;
}

void log_tell(void)
{
    int64_t unix_ms;

    pthread_mutex_lock(&lock);
    unix_ms = clock_now().unix_ms;
    for (size_t i = 0; i < SITES_MAX; i++)
        if (sites[i].suppressed > 0)
            tell_site(&sites[i], unix_ms);
    write_held();
    if (dropped > told_dropped && held_size == 0)
        tell_dropped(unix_ms);
    pthread_mutex_unlock(&lock);
}

bool log_format_parse(struct slice name, enum log_format *wanted)
{
    *wanted = slice_is(name, "json") ? LOG_JSON : LOG_LOGFMT;
    return *wanted == LOG_JSON || slice_is(name, "logfmt");
}

void log_set_format(enum log_format wanted)
{
    pthread_mutex_lock(&lock);
    format = wanted;
    stamp = find_stamp();
    stamp_known = true;
    pthread_mutex_unlock(&lock);
}

/* A terminal polls writable when it takes a single byte, and a longer write()
 * then waits for who reads it. */
static void open_terminal(void)
{
    int again = isatty(STDERR_FILENO)
                    ? descriptor_open_again(STDERR_FILENO, O_WRONLY)
                    : -1;

    if (again >= 0)
        output = again;
}

void log_batch_start(void)
{
    static bool registered;

    pthread_mutex_lock(&lock);
    batching = true;
    if (!registered)
        registered = atexit(log_flush) == 0;
    if (output == STDERR_FILENO)
        open_terminal();
    pthread_mutex_unlock(&lock);
}

void log_batch_end(void)
{
    pthread_mutex_lock(&lock);
    batching = false;
    write_held();
    pthread_mutex_unlock(&lock);
}

void log_flush(void)
{
    pthread_mutex_lock(&lock);
    write_held();
    pthread_mutex_unlock(&lock);
}

uint64_t log_dropped(void)
{
    return dropped;
}

void log_set_clock(struct log_time (*now)(void))
{
    pthread_mutex_lock(&lock);
    clock_now = now ? now : system_time;
    pthread_mutex_unlock(&lock);
}
