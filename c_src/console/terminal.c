#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console/console_internal.h"
#include "llm_router/base/descriptor.h"

enum {
    COLUMNS_ELSEWHERE = 120,
    PENDING_MAX = 1024 * 1024,
    ROWS_UNKNOWN = 24,
    ROWS_MAX = 500,
    AGAIN_MS = 20,
    GIVE_BACK_MS = 1000,
    CTRL_C = 3,
    CTRL_D = 4,
};

/* The alternate screen, without a cursor; and back. */
static const char ENTER[] = "\x1b[?1049h\x1b[?25l";
static const char LEAVE[] = "\x1b[0m\x1b[?25h\x1b[?1049l";

/* What handlers of signals need, which are given nothing else: what must be
 * undone however the process ends, and whom to tell of another size. */
static struct {
    volatile sig_atomic_t taken;
    int resized; /* an eventfd */
    int output;
    int input; /* -1: its settings are as they were */
    struct termios settings;
} screen;

static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

enum { DEADLY = sizeof(deadly) / sizeof(deadly[0]) };

static struct sigaction handlers_before[DEADLY];

/* A terminal that takes nothing holds the end up for a second, no longer. */
static void give_back(void)
{
    struct pollfd output = {.fd = screen.output, .events = POLLOUT};
    ssize_t ignored;

    if (!screen.taken)
        return;
    screen.taken = 0;
    poll(&output, 1, GIVE_BACK_MS);
    ignored = write(screen.output, LEAVE, sizeof(LEAVE) - 1);
    (void)ignored;
    if (screen.input >= 0)
        tcsetattr(screen.input, TCSANOW, &screen.settings);
}

/* Back to the handler that was there, which gets the signal when this one
 * returns. */
static void on_deadly(int signal)
{
    give_back();
    for (size_t i = 0; i < DEADLY; i++)
        if (deadly[i] == signal)
            sigaction(signal, &handlers_before[i], NULL);
    raise(signal);
}

static void watch_deadly(void)
{
    struct sigaction action = {.sa_handler = on_deadly};

    for (size_t i = 0; i < DEADLY; i++)
        sigaction(deadly[i], &action, &handlers_before[i]);
}

static void unwatch_deadly(void)
{
    for (size_t i = 0; i < DEADLY; i++)
        sigaction(deadly[i], &handlers_before[i], NULL);
}

/* What kind of output it is. */

static bool is_utf8(void)
{
    static const char *const variables[] = {"LC_ALL", "LC_CTYPE", "LANG"};

    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        const char *value = getenv(variables[i]);

        if (value && *value)
            return strcasestr(value, "UTF-8") || strcasestr(value, "UTF8");
    }
    return false;
}

static bool can_draw(void)
{
    const char *kind = getenv("TERM");

    return isatty(STDOUT_FILENO) && kind && strcmp(kind, "dumb") != 0;
}

static bool has_colours(void)
{
    const char *none = getenv("NO_COLOR");

    return can_draw() && !(none && *none);
}

unsigned terminal_flags(void)
{
    return (is_utf8() ? VIEW_UTF8 : 0) | (has_colours() ? VIEW_COLOUR : 0);
}

void terminal_size(size_t *columns, size_t *rows)
{
    struct winsize size = {.ws_col = 0};
    int64_t given;

    *columns = COLUMNS_ELSEWHERE;
    *rows = can_draw() ? ROWS_UNKNOWN : 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        *columns = size.ws_col;
        if (can_draw() && size.ws_row > 0)
            *rows = size.ws_row < ROWS_MAX ? size.ws_row : ROWS_MAX;
    } else if (slice_to_int64(slice_of(getenv("COLUMNS")), &given) &&
               given > 0) {
        *columns = (size_t)given;
    }
    if (*columns < VIEW_WIDTH_MIN)
        *columns = VIEW_WIDTH_MIN;
    if (*columns > VIEW_WIDTH_MAX)
        *columns = VIEW_WIDTH_MAX;
}

/* Output. */

static void flush(void *context)
{
    struct terminal *terminal = context;
    struct buf *pending = &terminal->pending;
    ssize_t size = 0;

    while (pending->size > 0) {
        size = write(terminal->output, pending->data, pending->size);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            break;
        buf_drop_front(pending, (size_t)size);
    }
    if (size >= 0)
        return;
    if (errno == EAGAIN)
        loop_timer_start(terminal->loop, &terminal->again, AGAIN_MS, flush,
                         terminal);
    else
        terminal->events->left(terminal->context);
}

/* Erases each line before it is written: behind a full one the cursor still
 * stands on its last character. */
static void put_screen(struct buf *out, struct slice lines)
{
    const char *end = lines.data + lines.size;
    const char *at = lines.data;

    buf_append_text(out, "\x1b[H");
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;

        buf_append_text(out, at == lines.data ? "\x1b[K" : "\r\n\x1b[K");
        buf_append(out, at, (size_t)(stop - at));
        at = newline ? newline + 1 : end;
    }
    buf_append_text(out, "\x1b[0m\x1b[J");
}

void terminal_show(struct terminal *terminal, struct slice lines)
{
    if (terminal->pending.size > 0)
        return;
    if (terminal->full_screen)
        put_screen(&terminal->pending, lines);
    else
        buf_append_slice(&terminal->pending, lines);
    flush(terminal);
}

/* Input. */

static void on_key(void *context)
{
    struct terminal *terminal = context;
    char keys[64];
    ssize_t size = read(terminal->input, keys, sizeof(keys));

    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    for (ssize_t i = 0; i < size; i++)
        if (keys[i] == 'q' || keys[i] == 'Q' || keys[i] == CTRL_C ||
            keys[i] == CTRL_D)
            size = 0;
    if (size > 0)
        return;
    loop_watch_stop(&terminal->keys);
    terminal->events->left(terminal->context);
}

static void on_resized(void *context)
{
    struct terminal *terminal = context;
    eventfd_t times;

    if (eventfd_read(terminal->resize, &times) == 0)
        terminal->events->resized(terminal->context);
}

/* Opening. */

static bool may_block(int fd)
{
    struct stat info;

    return fstat(fd, &info) == 0 &&
           (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode));
}

/* Keys come one by one and are not shown, and none is a signal. */
static void take_keys(struct terminal *terminal)
{
    struct termios settings;

    terminal->input = descriptor_open_again(STDIN_FILENO, O_RDONLY);
    if (terminal->input < 0 ||
        tcgetattr(terminal->input, &screen.settings) != 0)
        return;
    settings = screen.settings;
    settings.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
    settings.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
    settings.c_cc[VMIN] = 1;
    settings.c_cc[VTIME] = 0;
    if (tcsetattr(terminal->input, TCSANOW, &settings) == 0)
        screen.input = terminal->input;
    loop_watch_start(terminal->loop, &terminal->keys, terminal->input, on_key,
                     terminal);
}

static void on_winch(int signal)
{
    int before = errno;

    (void)signal;
    eventfd_write(screen.resized, 1);
    errno = before;
}

static void watch_size(struct terminal *terminal)
{
    struct sigaction action = {.sa_handler = on_winch, .sa_flags = SA_RESTART};

    terminal->resize = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (terminal->resize < 0)
        return;
    screen.resized = terminal->resize;
    loop_watch_start(terminal->loop, &terminal->resized, terminal->resize,
                     on_resized, terminal);
    sigaction(SIGWINCH, &action, NULL);
}

void terminal_open(struct terminal *terminal, struct loop *loop,
                   const struct terminal_events *events, void *context)
{
    *terminal = (struct terminal){
        .loop = loop,
        .events = events,
        .context = context,
        .full_screen = can_draw(),
        .output = -1,
        .input = -1,
        .resize = -1,
    };
    buf_init(&terminal->pending, PENDING_MAX);
    if (may_block(STDOUT_FILENO))
        terminal->output = descriptor_open_again(STDOUT_FILENO, O_WRONLY);
    if (terminal->output < 0)
        terminal->output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    if (!terminal->full_screen)
        return;
    screen.output = terminal->output;
    screen.input = -1;
    watch_deadly();
    if (isatty(STDIN_FILENO))
        take_keys(terminal);
    screen.taken = 1;
    buf_append_text(&terminal->pending, ENTER);
    flush(terminal);
    watch_size(terminal);
}

void terminal_close(struct terminal *terminal)
{
    loop_timer_stop(&terminal->again);
    loop_watch_stop(&terminal->keys);
    loop_watch_stop(&terminal->resized);
    give_back();
    if (terminal->full_screen) {
        signal(SIGWINCH, SIG_DFL);
        unwatch_deadly();
    }
    if (terminal->output >= 0)
        close(terminal->output);
    if (terminal->input >= 0)
        close(terminal->input);
    if (terminal->resize >= 0)
        close(terminal->resize);
    buf_release(&terminal->pending);
}
