#include "llm_router/script/worker.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "llm_router/script/cache.h"
#include "script/wire_internal.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

enum {
    READ_BYTES = 64 * 1024,
    KEPT_BYTES = 1024 * 1024, /* of buffers, between requests */
    DATA_BYTES = 256 * 1024 * 1024,
    FILES = 16, /* open at once: three, a folder and a script */
};

struct worker {
    struct script_cache cache;
    struct buf in, out;
};

static void lower(enum __rlimit_resource resource, rlim_t value)
{
    const struct rlimit limit = {.rlim_cur = value, .rlim_max = value};

    setrlimit(resource, &limit);
}

/* A sanitizer needs memory, a thread and to look at the process. */
static void lower_limits(void)
{
    lower(RLIMIT_CORE, 0);
    lower(RLIMIT_NOFILE, FILES);
    lower(RLIMIT_FSIZE, 0);
#ifndef SANITIZED
    lower(RLIMIT_DATA, DATA_BYTES);
    lower(RLIMIT_NPROC, 0);
    prctl(PR_SET_DUMPABLE, 0);
#endif
}

/* What a script that broke out of the sandbox would like to find. None of it is
 * needed, so where the system refuses to take it nothing else is lost. A parent
 * that died before PR_SET_PDEATHSIG has closed its end of the pipe. */
static void give_up_rights(void)
{
    syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    lower_limits();
}

/* They are sent to the whole group of a terminal; the parent decides. */
static void ignore_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        signal(signals[i], SIG_IGN);
}

static bool make_answer(struct worker *worker, struct slice json,
                        struct script_fault *fault)
{
    struct script_request request;
    const struct jv *context;
    struct slice code;
    struct arena arena;
    bool ok;

    arena_init(&arena, 0);
    ok = script_read_request(&arena, json, &request, &context, fault) &&
         script_cache_find(&worker->cache, &request.folders, request.path,
                           &request.limits, &code, fault) &&
         script_run(code, context, &request.limits, &worker->out, fault);
    arena_release(&arena);
    return ok;
}

static bool write_all(struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t written = write(STDOUT_FILENO, bytes.data, bytes.size);

        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0)
            bytes =
                slice_make(bytes.data + written, bytes.size - (size_t)written);
    }
    return true;
}

static bool serve(struct worker *worker, struct slice json)
{
    struct script_fault fault;
    size_t start = script_begin_frame(&worker->out);
    bool ok;

    if (!make_answer(worker, json, &fault)) {
        buf_clear(&worker->out);
        start = script_begin_frame(&worker->out);
        script_put_fault(&worker->out, &fault);
    }
    ok = script_end_frame(&worker->out, start) &&
         write_all(buf_slice(&worker->out));
    buf_shrink(&worker->out, KEPT_BYTES);
    return ok;
}

/* What came so far; false: it is time to end. */
static bool serve_frames(struct worker *worker)
{
    struct slice json;

    for (;;) {
        switch (script_next_frame(buf_slice(&worker->in), &json)) {
        case SCRIPT_FRAME_PART:
            return true;
        case SCRIPT_FRAME_WRONG:
            return false;
        case SCRIPT_FRAME_WHOLE:
            if (!serve(worker, json))
                return false;
            buf_drop_front(&worker->in, SCRIPT_FRAME_HEADER + json.size);
            if (worker->in.size == 0)
                buf_shrink(&worker->in, KEPT_BYTES);
        }
    }
}

static bool receive(struct buf *in)
{
    ssize_t got;

    if (!buf_reserve(in, READ_BYTES))
        return false;
    do {
        got = read(STDIN_FILENO, in->data + in->size, READ_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got > 0)
        in->size += (size_t)got;
    return got > 0;
}

int script_worker_main(void)
{
    static struct worker worker;

    give_up_rights();
    ignore_signals();
    script_cache_init(&worker.cache);
    buf_init(&worker.in, SCRIPT_FRAME_HEADER + SCRIPT_FRAME_MAX + READ_BYTES);
    buf_init(&worker.out, SCRIPT_FRAME_HEADER + SCRIPT_FRAME_MAX);
    while (receive(&worker.in) && serve_frames(&worker))
        ;
    buf_release(&worker.in);
    buf_release(&worker.out);
    script_cache_release(&worker.cache);
    return 0;
}
