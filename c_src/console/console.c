#include "llm_router/console/console.h"

#include <stdio.h>
#include <unistd.h>

#include "console/console_internal.h"
#include "llm_router/base/log.h"
#include "llm_router/dist/client.h"
#include "llm_router/term/writer.h"

enum {
    ANSWER_MS = 5000,
    ANSWER_MAX = 16 * 1024 * 1024,
    VIEW_MAX = 1024 * 1024,
};

struct console {
    const struct config *config;
    struct tls_context *tls;
    struct loop loop;
    struct client *client;
    bool asking;

    struct arena arena; /* of the last good answer: */
    struct slice text;
    const struct jv *status; /* NULL: there was none */
    uint64_t answered_ms;
    struct error trouble; /* since then; ERR_NONE */

    struct terminal terminal; /* of top */
    bool showing;
    struct loop_timer next;
};

/* Asking. */

/* {error, {Code, #{message => Text}}} */
static bool read_refusal(struct term answer, struct slice *code,
                         struct slice *message)
{
    struct term element, detail;

    return term_tuple_of(answer, 2, &element) &&
           term_is_atom(element, "error") &&
           term_tuple_of(term_next(element), 2, &element) &&
           term_atom(element, code) &&
           term_map_find(term_next(element), "message", &detail) &&
           term_binary(detail, message);
}

static bool take_text(struct console *console, struct slice text,
                      struct error *err)
{
    const struct jv *status;
    struct arena arena;

    arena_init(&arena, 0);
    text = arena_copy(&arena, text);
    if (!view_parse(&arena, text, &status, err)) {
        arena_release(&arena);
        return false;
    }
    arena_release(&console->arena);
    console->arena = arena;
    console->text = text;
    console->status = status;
    console->answered_ms = loop_now_ms(&console->loop);
    return true;
}

static void take_answer(struct console *console, struct term answer)
{
    struct error *trouble = &console->trouble;
    struct slice text, code;

    if (term_binary(answer, &text)) {
        if (take_text(console, text, trouble))
            error_clear(trouble);
    } else if (read_refusal(answer, &code, &text)) {
        error_set(trouble, ERR_REFUSED, "%.*s: %.*s", SLICE_ARG(code),
                  SLICE_ARG(text));
    } else {
        error_set(trouble, ERR_BAD_RESPONSE, "answers with a %s, no status",
                  term_kind_name(answer));
    }
}

static void ask(struct console *console)
{
    struct buf request;

    buf_init(&request, SIZE_MAX);
    term_put_atom(&request, "status");
    console->asking = true;
    client_ask(console->client, buf_slice(&request), ANSWER_MS);
    buf_release(&request);
}

/* Setting up and taking down. */

static bool open_tls(struct console *console)
{
    const struct config *config = console->config;
    const struct tls_files files = {
        .certificate = config->tls_cert,
        .key = config->tls_key,
        .authorities = config->tls_ca,
    };
    struct error err;

    if (!config->tls_dist)
        return true;
    console->tls = tls_context_new(&files, &err);
    if (!console->tls)
        fprintf(stderr, "llm_router: %s: %s\n", err.path, err.message);
    return console->tls != NULL;
}

/* False: CONSOLE_CONFIGURATION. */
static bool console_init(struct console *console, const struct config *config,
                         const struct client_events *events,
                         void (*on_signal)(void *context, int signal))
{
    struct client_options options = {
        .name = config->node_name,
        .peer = config->target,
        .process = "llm_router",
        .cookie = config->cookie,
        .max_answer_bytes = ANSWER_MAX,
    };

    *console = (struct console){.config = config};
    /* It has no log: a certificate that nobody takes is said by who refuses. */
    log_set_level(LOG_ERROR);
    if (!open_tls(console))
        return false;
    options.tls = console->tls;
    arena_init(&console->arena, 0);
    loop_init(&console->loop);
    loop_on_signal(&console->loop, on_signal, console);
    console->client = client_new(&console->loop, &options, events, console);
    return true;
}

/* A thread that still looks a name up would hold the end up for as long as the
 * resolver likes. */
static void console_release(struct console *console, enum console_exit exit)
{
    bool stuck = console->asking || console->trouble.code == ERR_TIMEOUT;

    client_free(console->client);
    if (stuck) {
        fflush(stdout);
        _exit((int)exit);
    }
    loop_release(&console->loop);
    tls_context_free(console->tls);
    arena_release(&console->arena);
}

static void complain(const struct console *console)
{
    struct buf line;

    buf_init(&line, SIZE_MAX);
    view_put_text(&line, slice_of(console->trouble.message), terminal_flags());
    fprintf(stderr, "llm_router: %s: %.*s\n", console->config->target,
            SLICE_ARG(buf_slice(&line)));
    buf_release(&line);
}

/* status */

static void on_status(void *context, struct term answer)
{
    struct console *console = context;

    console->asking = false;
    take_answer(console, answer);
    loop_stop(&console->loop);
}

static void on_no_status(void *context, const struct error *err)
{
    struct console *console = context;

    console->asking = false;
    console->trouble = *err;
    loop_stop(&console->loop);
}

static const struct client_events status_events = {
    .answered = on_status,
    .failed = on_no_status,
};

static void on_interrupt(void *context, int signal)
{
    struct console *console = context;

    error_set(&console->trouble, ERR_CANCELLED, "interrupted by signal %d",
              signal);
    loop_stop(&console->loop);
}

static void print_view(const struct jv *status)
{
    struct view_options options = {.flags = terminal_flags()};
    struct buf out;
    size_t rows;

    terminal_size(&options.width, &rows);
    buf_init(&out, VIEW_MAX);
    view_put(status, &options, &out);
    fwrite(out.data, 1, out.size, stdout);
    buf_release(&out);
}

/* U+0000 to U+001F without white space, U+007F to U+009F: the size of the
 * character at the front, else 0. */
static size_t control_size(struct slice text, unsigned *code)
{
    const unsigned char *at = (const unsigned char *)text.data;

    *code = at[0];
    if (at[0] < ' ' || at[0] == 0x7F)
        return strchr("\t\r\n", at[0]) ? 0 : 1;
    if (at[0] != 0xC2 || text.size < 2 || at[1] > 0x9F)
        return 0;
    *code = at[1];
    return 2;
}

/* The same JSON, but a terminal finds no command in it. */
static void print_json(struct slice text)
{
    while (text.size > 0) {
        unsigned code;
        size_t size = control_size(text, &code);

        if (size > 0)
            printf("\\u%04x", code);
        else
            putchar(text.data[0]);
        size += size == 0;
        text = slice_make(text.data + size, text.size - size);
    }
    putchar('\n');
}

static enum console_exit print_status(const struct console *console)
{
    if (console->trouble.code != ERR_NONE) {
        complain(console);
        return CONSOLE_NO_ANSWER;
    }
    if (console->config->as_json)
        print_json(console->text);
    else
        print_view(console->status);
    return view_is_ready(console->status) ? CONSOLE_OK : CONSOLE_NOT_READY;
}

enum console_exit console_status(const struct config *config)
{
    struct console console;
    enum console_exit exit;

    if (!console_init(&console, config, &status_events, on_interrupt))
        return CONSOLE_CONFIGURATION;
    ask(&console);
    loop_run(&console.loop);
    exit = print_status(&console);
    console_release(&console, exit);
    return exit;
}

/* top */

static void leave(void *context)
{
    struct console *console = context;

    loop_stop(&console->loop);
}

static void leave_by_signal(void *context, int signal)
{
    (void)signal;
    leave(context);
}

static void put_notice(const struct console *console, struct buf *notice)
{
    double age_ms =
        (double)(loop_now_ms(&console->loop) - console->answered_ms);

    if (console->trouble.code != ERR_NONE)
        buf_printf(notice, "no answer for %s: %s; trying again",
                   figure_duration(age_ms).text, console->trouble.message);
}

static void show(void *context)
{
    struct console *console = context;
    struct view_options options = {.flags = terminal_flags()};
    struct buf notice, out;

    buf_init(&notice, VIEW_MAX);
    buf_init(&out, VIEW_MAX);
    put_notice(console, &notice);
    options.notice = buf_slice(&notice);
    terminal_size(&options.width, &options.height);
    view_put(console->status, &options, &out);
    if (!console->terminal.full_screen)
        buf_append_byte(&out, '\n');
    terminal_show(&console->terminal, buf_slice(&out));
    buf_release(&notice);
    buf_release(&out);
}

static const struct terminal_events terminal_events = {
    .resized = show,
    .left = leave,
};

static void on_next(void *context)
{
    ask(context);
}

/* The screen is taken when there is something to show. */
static void show_and_go_on(struct console *console)
{
    console->asking = false;
    if (!console->status) {
        loop_stop(&console->loop);
        return;
    }
    if (!console->showing)
        terminal_open(&console->terminal, &console->loop, &terminal_events,
                      console);
    console->showing = true;
    show(console);
    loop_timer_start(&console->loop, &console->next,
                     (uint64_t)console->config->interval_ms, on_next, console);
}

static void on_answer(void *context, struct term answer)
{
    struct console *console = context;

    take_answer(console, answer);
    show_and_go_on(console);
}

static void on_no_answer(void *context, const struct error *err)
{
    struct console *console = context;

    console->trouble = *err;
    show_and_go_on(console);
}

static const struct client_events top_events = {
    .answered = on_answer,
    .failed = on_no_answer,
};

enum console_exit console_top(const struct config *config)
{
    struct console console;
    enum console_exit exit = CONSOLE_OK;

    if (!console_init(&console, config, &top_events, leave_by_signal))
        return CONSOLE_CONFIGURATION;
    ask(&console);
    loop_run(&console.loop);
    loop_timer_stop(&console.next);
    if (console.showing) {
        terminal_close(&console.terminal);
    } else if (console.trouble.code != ERR_NONE) {
        complain(&console);
        exit = CONSOLE_NO_ANSWER;
    }
    console_release(&console, exit);
    return exit;
}
