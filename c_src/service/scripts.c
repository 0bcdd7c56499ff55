#include "llm_router/api/script_call.h"
#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/loop/child.h"
#include "llm_router/script/worker.h"
#include "service/service_internal.h"

enum {
    WORKERS = 2,
    GRACE_MS = 500, /* over the time limit, which the worker looks at itself */
    UNSENT_MAX = 64 * 1024 * 1024,
};

/* A request whose script has not made its messages yet. It lives in its own
 * arena, which the job takes over. */
struct asking {
    struct list link; /* in scripts->waiting, or alone */
    struct scripts *scripts;
    struct worker *worker; /* NULL: it waits for one */
    struct arena arena;
    struct call call;
    struct taker taker;
    struct begun begun;
    struct loop_timer deadline;
    bool is_second_try;
};

/* A process that runs one script at a time. */
struct worker {
    struct scripts *scripts;
    struct child *child;   /* NULL: not started, or it ended */
    struct asking *asking; /* NULL: nobody wants the answer any more */
    bool busy;
    struct loop_timer limit;
    struct buf answer; /* what came of it */
};

struct scripts {
    struct service *service;
    struct list waiting;
    size_t count; /* of askings, those with a worker included */
    struct worker workers[WORKERS];
};

static const struct child_events worker_events;

/* Nobody wants the answer any more. It may take its time, unless others wait
 * for the worker. */
static void worker_give_up(struct worker *worker)
{
    worker->asking = NULL;
    if (!list_is_empty(&worker->scripts->waiting))
        child_kill(worker->child);
}

/* --- requests --- */

/* Out of all lists; the arena stays. */
static void asking_detach(struct asking *asking)
{
    struct scripts *scripts = asking->scripts;

    loop_timer_stop(&asking->deadline);
    taker_unwatch(scripts->service, &asking->taker);
    list_remove(&asking->link);
    if (asking->worker)
        worker_give_up(asking->worker);
    scripts->count--;
}

static void asking_end(struct service *service, struct arena *arena)
{
    arena_release(arena);
    memory_request_ends(service);
    service_check_idle(service);
}

static void asking_refuse(struct asking *asking, const struct error *err)
{
    struct service *service = asking->scripts->service;
    struct arena arena = asking->arena;

    asking_detach(asking);
    dispatch_refuse(service, &asking->call, &asking->taker.origin, err);
    asking_end(service, &arena);
}

/* Nobody waits for it any more. */
static void on_gone(struct service *service, struct taker *taker)
{
    struct asking *asking = LIST_ENTRY(taker, struct asking, taker);
    struct arena arena = asking->arena;
    struct error err;

    asking_detach(asking);
    service->stats.cancelled++;
    error_set(&err, ERR_CANCELLED, "nobody waits any more");
    record_refused(service, &asking->call, &taker->origin, &err);
    asking_end(service, &arena);
}

static void on_deadline(void *context)
{
    struct asking *asking = context;
    struct error err;

    error_set(&err, ERR_TIMEOUT, "the deadline passed before the script ended");
    asking_refuse(asking, &err);
}

/* The messages are there: from here on it is a request as any other. What the
 * script took is of its time. */
static void asking_go_on(struct asking *asking)
{
    struct service *service = asking->scripts->service;
    struct call call = asking->call;
    const struct origin origin = asking->taker.origin;
    struct arena kept = service->spare;

    asking_detach(asking);
    service->spare = asking->arena;
    dispatch_asked(service, &call, &origin);
    asking_end(service, &service->spare);
    service->spare = kept;
}

/* --- workers --- */

static size_t split_folders(const struct config *config, struct slice *folders)
{
    struct slice left = config->script_path;
    size_t count = 0;

    while (left.size > 0 && count < CONFIG_SCRIPT_FOLDERS_MAX) {
        size_t size = 0;

        while (size < left.size && left.data[size] != ':')
            size++;
        if (size > 0)
            folders[count++] = slice_make(left.data, size);
        size += size < left.size;
        left = slice_make(left.data + size, left.size - size);
    }
    return count;
}

/* Its folders, its limits and the context, as a frame. */
static bool put_frame(struct asking *asking, struct buf *out, struct error *err)
{
    const struct config *config = asking->scripts->service->config;
    struct arena scratch;
    struct slice folders[CONFIG_SCRIPT_FOLDERS_MAX];
    struct script_request request = {
        .path = asking->call.request.text,
        .folders = {folders, split_folders(config, folders)},
        .limits = {(size_t)config->script_memory_bytes,
                   (uint64_t)config->script_instructions,
                   (uint32_t)config->script_time_ms},
        .context = asking->call.request.context,
    };
    bool put;

    arena_init(&scratch, 0);
    if (request.folders.count == 0) {
        folders[0] = arena_printf(&scratch, "%s/scripts", config->priv_dir);
        request.folders.count = 1;
    }
    put = script_put_request(out, &request, err);
    arena_release(&scratch);
    return put;
}

static bool worker_start(struct worker *worker, struct error *err)
{
    static const char *const arguments[] = {"llm_router", "--script-worker",
                                            NULL};
    static const char *const nothing[] = {NULL};
    /* Not by its path: that may be a newer program by now. */
    static const struct child_options options = {
        .program = "/proc/self/exe",
        .arguments = arguments,
        .environment = nothing,
        .max_unsent_bytes = UNSENT_MAX,
    };

    if (worker->child)
        return true;
    buf_clear(&worker->answer);
    worker->child = child_start(&worker->scripts->service->loop, &options,
                                &worker_events, worker, err);
    if (!worker->child)
        return false;
    log_event(LOG_DEBUG, "scripts", "worker started",
              LOG_FIELDS(log_integer("pid", child_pid(worker->child))));
    return true;
}

static void on_limit(void *context)
{
    struct worker *worker = context;
    struct error err;

    child_kill(worker->child);
    if (!worker->asking)
        return;
    error_set(&err, ERR_SCRIPT_ERROR, "it ran longer than %lld ms",
              (long long)worker->scripts->service->config->script_time_ms);
    asking_refuse(worker->asking, &err);
}

static bool worker_ask(struct worker *worker, struct asking *asking,
                       struct error *err)
{
    struct service *service = worker->scripts->service;
    struct buf frame;
    bool sent;

    buf_init(&frame, UNSENT_MAX);
    sent = put_frame(asking, &frame, err) && worker_start(worker, err);
    if (sent && !child_write(worker->child, buf_slice(&frame)))
        sent = error_set(err, ERR_OVERLOADED,
                         "the script's process takes no "
                         "more");
    buf_release(&frame);
    if (!sent)
        return false;
    service->stats.scripts++;
    list_remove(&asking->link);
    asking->worker = worker;
    worker->asking = asking;
    worker->busy = true;
    loop_timer_start(&service->loop, &worker->limit,
                     (uint64_t)service->config->script_time_ms + GRACE_MS,
                     on_limit, worker);
    return true;
}

static struct worker *find_idle(struct scripts *scripts)
{
    for (size_t i = 0; i < WORKERS; i++)
        if (!scripts->workers[i].busy)
            return &scripts->workers[i];
    return NULL;
}

/* As many of those that wait as there are idle workers for. */
static void go_on(struct scripts *scripts)
{
    struct worker *worker;
    struct error err;

    while (!list_is_empty(&scripts->waiting) &&
           (worker = find_idle(scripts)) != NULL) {
        struct asking *asking =
            LIST_ENTRY(scripts->waiting.next, struct asking, link);

        if (!worker_ask(worker, asking, &err))
            asking_refuse(asking, &err);
    }
}

static void worker_rest(struct worker *worker)
{
    loop_timer_stop(&worker->limit);
    worker->busy = false;
    worker->asking = NULL;
}

/* --- answers --- */

static bool read_answer(struct arena *scratch, struct slice json,
                        struct asking *asking, struct error *err)
{
    struct script_answer answer;

    if (!script_read_answer(scratch, json, &answer, err))
        return false;
    if (!answer.messages) {
        error_set(err, ERR_SCRIPT_ERROR, "%s", answer.fault.message);
        err->line = answer.fault.line;
        return false;
    }
    return script_call_apply(answer.messages, answer.options, &asking->arena,
                             &asking->call.request, err);
}

static void on_answer(struct worker *worker, struct slice json)
{
    struct asking *asking = worker->asking;
    struct arena scratch;
    struct error err;

    worker_rest(worker);
    if (!asking)
        return;
    asking->worker = NULL;
    arena_init(&scratch, 0);
    if (read_answer(&scratch, json, asking, &err))
        asking_go_on(asking);
    else
        asking_refuse(asking, &err);
    arena_release(&scratch);
}

static void on_output(void *context, struct slice bytes)
{
    struct worker *worker = context;
    struct slice json;

    if (!worker->busy) { /* nobody asked */
        child_kill(worker->child);
        return;
    }
    buf_append_slice(&worker->answer, bytes);
    switch (script_next_frame(buf_slice(&worker->answer), &json)) {
    case SCRIPT_FRAME_PART:
        return;
    case SCRIPT_FRAME_WRONG:
        child_kill(worker->child);
        return;
    case SCRIPT_FRAME_WHOLE:
        break;
    }
    on_answer(worker, json);
    buf_clear(&worker->answer);
    go_on(worker->scripts);
}

/* It may have died before it had the script. Before all others: it has waited
 * already. */
static bool try_again(struct asking *asking)
{
    if (asking->is_second_try)
        return false;
    asking->is_second_try = true;
    list_append(asking->scripts->waiting.next, &asking->link);
    return true;
}

static void on_ended(void *context, int status, int signal)
{
    struct worker *worker = context;
    struct asking *asking = worker->asking;
    struct error err;

    log_event(asking ? LOG_WARN : LOG_DEBUG, "scripts", "worker ended",
              LOG_FIELDS(log_integer("pid", child_pid(worker->child)),
                         log_integer("status", status),
                         log_integer("signal", signal)));
    child_free(worker->child);
    worker->child = NULL;
    worker_rest(worker);
    if (asking) {
        asking->worker = NULL;
        if (!try_again(asking)) {
            error_set(&err, ERR_SCRIPT_ERROR, "its process ended by signal %d",
                      signal);
            asking_refuse(asking, &err);
        }
    }
    go_on(worker->scripts);
}

static const struct child_events worker_events = {on_output, on_ended};

/* --- the whole --- */

static uint64_t timeout_of(const struct service *service,
                           const struct request *request)
{
    int64_t given = request->options.timeout_ms;

    return (uint64_t)(given > 0 ? given : service->config->request_timeout_ms);
}

static struct asking *asking_new(struct scripts *scripts,
                                 const struct call *call,
                                 const struct origin *origin)
{
    struct service *service = scripts->service;
    struct arena arena = service->spare;
    struct asking *asking = arena_alloc(&arena, sizeof(*asking));

    arena_init(&service->spare, CALL_BLOCK);
    *asking = (struct asking){
        .scripts = scripts,
        .call = *call,
        .taker = {.reply = call->reply, .origin = *origin, .gone = on_gone},
        .begun = {.request_id = call->request.options.request_id,
                  .at_ms = loop_now_ms(&service->loop),
                  .at_ns = loop_now_ns()},
    };
    asking->arena = arena;
    if (asking->begun.request_id.size == 0)
        asking->begun.request_id = service_make_id(service, &asking->arena);
    asking->taker.origin.begun = &asking->begun;
    taker_watch(service, &asking->taker, &asking->arena);
    list_append(&scripts->waiting, &asking->link);
    scripts->count++;
    memory_request_begins(service);
    return asking;
}

bool scripts_start(struct service *service, const struct call *call,
                   const struct origin *origin, struct error *err)
{
    struct scripts *scripts = service->scripts;
    struct asking *asking;

    if (scripts->count >= (size_t)service->config->max_queued + WORKERS)
        return error_set(err, ERR_OVERLOADED, "%zu scripts wait already",
                         scripts->count);
    asking = asking_new(scripts, call, origin);
    notices_begun(service, &asking->call, &asking->taker.origin);
    loop_timer_start(&service->loop, &asking->deadline,
                     timeout_of(service, &call->request), on_deadline, asking);
    go_on(scripts);
    return true;
}

size_t scripts_waiting(const struct scripts *scripts)
{
    return scripts->count;
}

/* The first, waiting or not, that is it; NULL: none is. */
static struct asking *find(struct scripts *scripts,
                           bool (*is_it)(const struct asking *asking,
                                         struct slice request_id),
                           struct slice request_id)
{
    for (size_t i = 0; i < WORKERS; i++) {
        struct asking *asking = scripts->workers[i].asking;

        if (asking && is_it(asking, request_id))
            return asking;
    }
    LIST_EACH(link, &scripts->waiting)
    {
        struct asking *asking = LIST_ENTRY(link, struct asking, link);

        if (is_it(asking, request_id))
            return asking;
    }
    return NULL;
}

static bool has_id(const struct asking *asking, struct slice request_id)
{
    return request_id.size > 0 &&
           slice_equal(asking->call.request.options.request_id, request_id);
}

static bool is_any(const struct asking *asking, struct slice request_id)
{
    (void)asking;
    (void)request_id;
    return true;
}

bool scripts_fail(struct scripts *scripts, struct slice request_id,
                  const struct error *err)
{
    struct asking *asking = find(scripts, has_id, request_id);

    if (asking)
        asking_refuse(asking, err);
    return asking != NULL;
}

void scripts_fail_all(struct scripts *scripts, const struct error *err)
{
    struct asking *asking;

    while ((asking = find(scripts, is_any, slice_of(NULL))) != NULL)
        asking_refuse(asking, err);
}

struct scripts *scripts_new(struct service *service)
{
    struct scripts *scripts = mem_alloc(sizeof(*scripts));

    scripts->service = service;
    list_init(&scripts->waiting);
    for (size_t i = 0; i < WORKERS; i++) {
        scripts->workers[i].scripts = scripts;
        buf_init(&scripts->workers[i].answer,
                 SCRIPT_FRAME_HEADER + SCRIPT_FRAME_MAX);
    }
    return scripts;
}

static void drop(struct asking *asking)
{
    struct arena arena = asking->arena;

    asking_detach(asking);
    asking_end(asking->scripts->service, &arena);
}

void scripts_free(struct scripts *scripts)
{
    LIST_EACH(link, &scripts->waiting)
    drop(LIST_ENTRY(link, struct asking, link));
    for (size_t i = 0; i < WORKERS; i++) {
        struct worker *worker = &scripts->workers[i];

        if (worker->asking)
            drop(worker->asking);
        worker_rest(worker);
        child_free(worker->child);
        buf_release(&worker->answer);
    }
    mem_free(scripts);
}
