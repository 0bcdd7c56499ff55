#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/config/files.h"
#include "service/service_internal.h"

enum {
    SAVE_DELAY_MS = 1000, /* what a kill -9 may forget */
    SPENDING_MAX = 16 * 1024 * 1024,
};

struct spending {
    struct service *service;
    const char *path; /* NULL: nothing is kept */
    const char *temporary;
    struct loop_timer timer;
    struct buf text; /* what is being written */
    struct loop_work work;
    bool writing;
    bool changed; /* while it was being written */
    bool freed;
    int result; /* of the write: 0 or an errno */
};

/* The folders above a file that is not there yet. */
static void make_folders(const char *path)
{
    char folder[4096];
    size_t size = strlen(path);

    if (size >= sizeof(folder))
        return;
    memcpy(folder, path, size + 1);
    for (char *c = folder + 1; *c; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        mkdir(folder, 0700);
        *c = '/';
    }
}

static int write_all(int fd, struct slice text)
{
    while (text.size > 0) {
        ssize_t size = write(fd, text.data, text.size);

        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0)
            return size < 0 ? errno : EIO;
        text = slice_make(text.data + size, text.size - (size_t)size);
    }
    return fsync(fd) == 0 ? 0 : errno;
}

/* Whole or not at all: written beside it, then renamed. */
static int save(const struct spending *spending)
{
    int fd, result;

    make_folders(spending->path);
    fd = open(spending->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
              0600);
    if (fd < 0)
        return errno;
    result = write_all(fd, buf_slice(&spending->text));
    if (close(fd) != 0 && result == 0)
        result = errno;
    if (result == 0 && rename(spending->temporary, spending->path) != 0)
        result = errno;
    return result;
}

static void log_failure(const struct spending *spending)
{
    if (spending->result != 0)
        log_event(LOG_ERROR, "spending", "what is spent cannot be written",
                  LOG_FIELDS(log_text("file", slice_of(spending->path)),
                             log_text("reason",
                                      slice_of(strerror(spending->result)))));
}

static void take_text(struct spending *spending)
{
    buf_clear(&spending->text);
    supply_put_spending(spending->service->supply, &spending->text);
    spending->changed = false;
}

static void release(struct spending *spending)
{
    buf_release(&spending->text);
    mem_free(spending);
}

static void save_in_thread(void *context)
{
    struct spending *spending = context;

    spending->result = save(spending);
}

static void save_now(struct spending *spending)
{
    take_text(spending);
    spending->result = save(spending);
    log_failure(spending);
}

static void on_saved(void *context)
{
    struct spending *spending = context;

    spending->writing = false;
    log_failure(spending);
    if (!spending->freed) {
        if (spending->changed)
            spending_changed(spending);
        return;
    }
    if (spending->changed)
        save_now(spending);
    release(spending);
}

static void on_due(void *context)
{
    struct spending *spending = context;

    if (spending->writing)
        return;
    take_text(spending);
    spending->writing = true;
    loop_work_start(&spending->service->loop, &spending->work, save_in_thread,
                    on_saved, spending);
}

void spending_changed(struct spending *spending)
{
    if (!spending->path)
        return;
    spending->changed = true;
    if (!spending->writing && !loop_timer_running(&spending->timer))
        loop_timer_start(&spending->service->loop, &spending->timer,
                         SAVE_DELAY_MS, on_due, spending);
}

/* A file that cannot be used is no reason not to serve, but to say so: what
 * was spent before counts as nothing then. */
static void load(struct spending *spending)
{
    struct supply_clock clock = service_clock(spending->service);
    struct arena arena;
    struct slice text;
    struct error err;

    if (!file_exists(spending->path))
        return;
    arena_init(&arena, 0);
    if (!file_read(&arena, spending->path, SPENDING_MAX, FILE_ANY, &text,
                   &err) ||
        !supply_read_spending(spending->service->supply, text, &clock, &err))
        log_event(LOG_ERROR, "spending", "what was spent cannot be read",
                  LOG_FIELDS(log_text("file", slice_of(spending->path)),
                             log_text("reason", slice_of(err.message))));
    arena_release(&arena);
}

struct spending *spending_new(struct service *service)
{
    struct spending *spending = mem_alloc(sizeof(*spending));
    struct config *config = &service->settings->config;

    spending->service = service;
    buf_init(&spending->text, SPENDING_MAX);
    if (config->state_file.size == 0)
        return spending;
    /* Of the first settings, whose memory stays: see server_run. */
    spending->path = config->state_file.data;
    spending->temporary =
        arena_printf(&config->arena, "%s.new", spending->path).data;
    load(spending);
    return spending;
}

void spending_free(struct spending *spending)
{
    if (!spending)
        return;
    loop_timer_stop(&spending->timer);
    spending->freed = true;
    if (spending->writing)
        return; /* the loop's last turns wait for it */
    if (spending->path && spending->changed)
        save_now(spending);
    release(spending);
}
