#include "llm_router/loop/child.h"

#include <signal.h>
#include <unistd.h>

#include "llm_router/base/mem.h"

enum { READ_BYTES = 64 * 1024 };

/* A process that is not waited for stays a zombie: its handle is closed only
 * after it ended, and the memory stays until libuv let go of all handles. */
struct child {
    uv_process_t process;
    uv_pipe_t input, output; /* as the child sees them */
    int open_handles;
    bool released;                     /* by child_free */
    const struct child_events *events; /* NULL: nothing more is told */
    void *context;
    size_t max_unsent_bytes;
    bool running, readable;
    int status, signal;
    char bytes[READ_BYTES];
};

struct unsent {
    uv_write_t write;
    char bytes[];
};

static void collect(struct child *child)
{
    if (child->released && child->open_handles == 0)
        mem_free(child);
}

static void on_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;

    child->open_handles--;
    collect(child);
}

static void close_handle(void *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_closed);
}

/* In either order: its output may be read after it was waited for. */
static void tell_end(struct child *child)
{
    const struct child_events *events = child->events;

    if (child->running || child->readable || !events)
        return;
    child->events = NULL;
    events->ended(child->context, child->status, child->signal);
}

static void on_exited(uv_process_t *process, int64_t status, int signal)
{
    struct child *child = process->data;

    child->running = false;
    child->status = (int)status;
    child->signal = signal;
    close_handle(&child->process);
    close_handle(&child->input);
    tell_end(child);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct child *child = handle->data;

    (void)suggested;
    *room = uv_buf_init(child->bytes, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *room)
{
    struct child *child = stream->data;

    if (size > 0 && child->events)
        child->events->output(child->context,
                              slice_make(room->base, (size_t)size));
    if (size >= 0)
        return;
    child->readable = false;
    close_handle(&child->output);
    tell_end(child);
}

static int spawn(struct loop *loop, struct child *child,
                 const struct child_options *options)
{
    uv_stdio_container_t stdio[] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE,
         .data.stream = (uv_stream_t *)&child->input},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&child->output},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
    };
    const uv_process_options_t process = {
        .exit_cb = on_exited,
        .file = options->program,
        .args = (char **)options->arguments,
        .env = (char **)options->environment,
        .stdio_count = sizeof(stdio) / sizeof(*stdio),
        .stdio = stdio,
    };

    uv_pipe_init(&loop->uv, &child->input, 0);
    uv_pipe_init(&loop->uv, &child->output, 0);
    child->process.data = child->input.data = child->output.data = child;
    child->open_handles = 3;
    return uv_spawn(&loop->uv, &child->process, &process);
}

struct child *child_start(struct loop *loop,
                          const struct child_options *options,
                          const struct child_events *events, void *context,
                          struct error *err)
{
    struct child *child = mem_alloc(sizeof(*child));
    int result;

    child->max_unsent_bytes = options->max_unsent_bytes;
    result = spawn(loop, child, options);
    if (result != 0) {
        error_set(err, ERR_OVERLOADED, "%s cannot be started: %s",
                  options->program, uv_strerror(result));
        child_free(child);
        return NULL;
    }
    child->events = events;
    child->context = context;
    child->running = child->readable = true;
    uv_read_start((uv_stream_t *)&child->output, on_room, on_read);
    return child;
}

void child_free(struct child *child)
{
    if (!child)
        return;
    child->events = NULL;
    child->released = true;
    child_kill(child);
    close_handle(&child->input);
    close_handle(&child->output);
    if (!child->running)
        close_handle(&child->process);
    collect(child);
}

static void on_written(uv_write_t *write, int status)
{
    struct child *child = write->handle->data;

    if (status != 0)
        close_handle(&child->input);
    mem_free(write->data);
}

bool child_write(struct child *child, struct slice bytes)
{
    uv_stream_t *stream = (uv_stream_t *)&child->input;
    struct unsent *unsent;
    size_t waiting;
    uv_buf_t part;

    if (uv_is_closing((uv_handle_t *)stream))
        return false;
    waiting = uv_stream_get_write_queue_size(stream);
    if (waiting > child->max_unsent_bytes ||
        bytes.size > child->max_unsent_bytes - waiting)
        return false;
    if (bytes.size == 0)
        return true;
    unsent = mem_realloc(NULL, sizeof(*unsent) + bytes.size);
    memcpy(unsent->bytes, bytes.data, bytes.size);
    unsent->write.data = unsent;
    part = uv_buf_init(unsent->bytes, (unsigned)bytes.size);
    if (uv_write(&unsent->write, stream, &part, 1, on_written) == 0)
        return true;
    mem_free(unsent);
    return false;
}

void child_kill(struct child *child)
{
    if (child->running)
        uv_process_kill(&child->process, SIGKILL);
}

int child_pid(const struct child *child)
{
    return uv_process_get_pid(&child->process);
}
