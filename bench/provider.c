/* A chat completions provider to measure against: it costs as little as it
 * can, because it shares the processors with what is measured.
 *
 * Answers every HTTP/1.1 request, whatever its path, with the same stream of
 * server-sent events, written at once after a fixed delay. The content is one
 * task of 1 KiB as priv/schemas/task.json wants it, again and again where more
 * is asked for. Any number of requests may wait at a time, one per
 * connection.
 *
 * With --json the answer is one JSON document, as servers give it that were
 * not asked for a stream.
 *
 * With a gap the events are written one by one, so many milliseconds apart,
 * and the content of each is the time of its write, in nanoseconds since 1970,
 * and a space. With a status the answer is an error. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "llm_router/base/buf.h"
#include "llm_router/base/mem.h"

enum {
    LISTEN_BACKLOG = 4096,
    LINE_MAX_BYTES = 64, /* enough for "Content-Length: 12345678"; rest cut */
    BODY_MAX_BYTES = 64 * 1024 * 1024,
    ANSWER_MAX_BYTES = 64 * 1024 * 1024,
    CONTENT_MAX_KIB = 32 * 1024,
    CHUNKS_MAX = 1024,
    STATUS_MAX = 599,
    EVENT_MAX_BYTES = 4096, /* with a gap: what is written at once */
    STAMP_BYTES = 32,
    INPUT_BYTES = 64 * 1024,
};

static const char task[] =
    "{\"title\":\"Check postal addresses when a customer signs up\","
    "\"description\":\"Parcels come back because street, postcode and town of "
    "new customers do not fit together. The sign-up form shall check them "
    "before the account is made, and offer the nearest address that exists.\","
    "\"details\":\"Add a step to the sign-up service that asks the address "
    "register for the normalised form. Keep the answer for a day, so that a "
    "second try costs nothing. When the register does not answer within two "
    "seconds the account is made as it is and marked for a later check; a job "
    "of the night goes through the marked ones. Show the proposal beside what "
    "was typed, and let the customer keep it.\","
    "\"test_strategy\":\"Unit tests with the recorded answers of the register: "
    "right, misspelt, unknown and ambiguous addresses. An integration test in "
    "which the register is silent shows that sign-up ends within three "
    "seconds and that the account is marked. Count returned parcels a "
    "month before and after.\","
    "\"priority\":\"high\",\"dependencies\":[],\"estimated_hours\":12}";
_Static_assert(sizeof(task) - 1 == 1024, "the answer is 1 KiB");

struct options {
    int64_t port;
    int64_t delay_ms;
    int64_t chunks;
    int64_t content_kib;
    int64_t gap_ms;   /* 0: everything at once */
    int64_t status;   /* 0: an answer; else that of an error */
    bool json;        /* one document instead of a stream */
    const char *save; /* file for the body of the first request, or NULL */
};

struct server {
    struct options options;
    uv_loop_t loop;
    uv_tcp_t listener;
    struct buf answer;
    struct buf event; /* with a gap: the one that is being written */
    struct buf saved;
    bool save_wanted;
    char input[INPUT_BYTES]; /* read and used up before the next read */
};

struct client {
    struct server *server;
    uv_tcp_t socket;
    uv_timer_t delay;
    uv_write_t rest;
    bool waiting; /* a request is read and not answered */
    bool writing;
    bool saving;  /* this request's body is the one to save */
    int64_t sent; /* with a gap: events of the answer that were written */
    int open_handles;
    char line[LINE_MAX_BYTES];
    size_t line_size;
    size_t body_left; /* 0: in the head */
    size_t content_length;
};

/* The answer. */

static void put_event(struct buf *out, const char *json, size_t size)
{
    buf_printf(out, "%zx\r\ndata: %.*s\n\n\r\n", size + 8, (int)size, json);
}

/* The task holds quotes, but nothing else that JSON would escape. */
static void put_quoted(struct buf *out, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"')
            buf_append_byte(out, '\\');
        buf_append_byte(out, text[i]);
    }
}

/* A piece of the content. */
struct piece {
    size_t from, size;
};

static void put_piece(struct buf *out, struct piece piece)
{
    const size_t length = sizeof(task) - 1;

    while (piece.size > 0) {
        size_t at = piece.from % length;
        size_t size = piece.size < length - at ? piece.size : length - at;

        put_quoted(out, task + at, size);
        piece.from += size;
        piece.size -= size;
    }
}

/* Content is as it stands in a string of JSON. */
static void put_chunk(struct buf *out, const char *choices_and_usage,
                      struct slice content)
{
    const char *hole = strstr(choices_and_usage, "@");
    struct buf json;

    buf_init(&json, ANSWER_MAX_BYTES);
    buf_append_text(&json, "{\"id\":\"chatcmpl-bench\","
                           "\"object\":\"chat.completion.chunk\","
                           "\"created\":1790000000,\"model\":\"gpt-5.4-mini\","
                           "\"system_fingerprint\":\"fp_bench\",");
    if (hole) {
        buf_append(&json, choices_and_usage,
                   (size_t)(hole - choices_and_usage));
        buf_append(&json, content.data, content.size);
        choices_and_usage = hole + 1;
    }
    buf_append_text(&json, choices_and_usage);
    put_event(out, json.data, json.size);
    buf_release(&json);
}

static void put_start(struct buf *out)
{
    buf_append_text(out, "HTTP/1.1 200 OK\r\n"
                         "Content-Type: text/event-stream\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n");
    put_chunk(out,
              "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
              "\"content\":\"\",\"refusal\":null},\"logprobs\":null,"
              "\"finish_reason\":null}]}",
              slice_of(NULL));
}

static void put_delta(struct buf *out, struct slice content)
{
    put_chunk(out,
              "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@\"},"
              "\"logprobs\":null,\"finish_reason\":null}]}",
              content);
}

static void put_end(struct buf *out)
{
    put_chunk(out,
              "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,"
              "\"finish_reason\":\"stop\"}]}",
              slice_of(NULL));
    put_chunk(out,
              "\"choices\":[],\"usage\":{\"prompt_tokens\":712,"
              "\"completion_tokens\":236,\"total_tokens\":948}}",
              slice_of(NULL));
    put_event(out, "[DONE]", 6);
    buf_append_text(out, "0\r\n\r\n");
}

static void put_answer(struct buf *out, size_t chunks, size_t size)
{
    struct buf content;

    buf_init(&content, ANSWER_MAX_BYTES);
    put_start(out);
    for (size_t i = 0; i < chunks; i++) {
        size_t from = i * size / chunks;

        buf_clear(&content);
        put_piece(&content,
                  (struct piece){from, (i + 1) * size / chunks - from});
        put_delta(out, buf_slice(&content));
    }
    put_end(out);
    buf_release(&content);
}

static void put_document(struct buf *out, size_t size)
{
    struct buf json;

    buf_init(&json, ANSWER_MAX_BYTES);
    buf_append_text(&json, "{\"id\":\"chatcmpl-bench\","
                           "\"object\":\"chat.completion\","
                           "\"created\":1790000000,\"model\":\"gpt-5.4-mini\","
                           "\"choices\":[{\"index\":0,\"message\":{"
                           "\"role\":\"assistant\",\"content\":\"");
    put_piece(&json, (struct piece){0, size});
    buf_append_text(&json, "\",\"refusal\":null,\"annotations\":[]},"
                           "\"logprobs\":null,\"finish_reason\":\"stop\"}],"
                           "\"usage\":{\"prompt_tokens\":712,"
                           "\"completion_tokens\":236,\"total_tokens\":948},"
                           "\"service_tier\":\"default\","
                           "\"system_fingerprint\":\"fp_bench\"}");
    buf_printf(out,
               "HTTP/1.1 200 OK\r\n"
               "Content-Type: application/json\r\n"
               "Content-Length: %zu\r\n\r\n",
               json.size);
    buf_append(out, json.data, json.size);
    buf_release(&json);
}

static void put_error(struct buf *out, int status)
{
    static const char body[] = "{\"error\":{\"message\":\"out of order\","
                               "\"type\":\"server_error\",\"code\":null}}";

    buf_printf(out,
               "HTTP/1.1 %d Error\r\n"
               "Content-Type: application/json\r\n"
               "Content-Length: %zu\r\n\r\n%s",
               status, sizeof(body) - 1, body);
}

static void put_stamp(struct buf *out)
{
    char text[STAMP_BYTES];
    struct timespec now;
    int size;

    clock_gettime(CLOCK_REALTIME, &now);
    size = snprintf(text, sizeof(text), "%lld%09ld ", (long long)now.tv_sec,
                    now.tv_nsec);
    put_delta(out, slice_make(text, (size_t)size));
}

/* Connections. */

static void check(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "provider: %s: %s\n", what, uv_strerror(result));
    exit(1);
}

static void on_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;

    if (--client->open_handles == 0)
        mem_free(client);
}

static void hang_up(struct client *client)
{
    if (uv_is_closing((uv_handle_t *)&client->socket))
        return;
    uv_close((uv_handle_t *)&client->socket, on_closed);
    uv_close((uv_handle_t *)&client->delay, on_closed);
}

static void on_written(uv_write_t *request, int status)
{
    struct client *client = request->data;

    client->writing = false;
    if (status < 0)
        hang_up(client);
}

static void answer(struct client *client)
{
    const struct buf *bytes = &client->server->answer;
    uv_stream_t *stream = (uv_stream_t *)&client->socket;
    uv_buf_t rest = uv_buf_init(bytes->data, (unsigned)bytes->size);
    int written = uv_try_write(stream, &rest, 1);

    client->waiting = false;
    if (written == (int)bytes->size)
        return;
    if (written < 0 && written != UV_EAGAIN) {
        hang_up(client);
        return;
    }
    if (written > 0)
        rest = uv_buf_init(bytes->data + written,
                           (unsigned)(bytes->size - (size_t)written));
    client->writing = true;
    client->rest.data = client;
    check(uv_write(&client->rest, stream, &rest, 1, on_written), "write");
}

/* The next event of an answer with a gap. They are so small that one which
 * cannot be written whole means a reader that is stuck. */
static void send_event(struct client *client)
{
    struct server *server = client->server;
    struct buf *event = &server->event;
    bool last = client->sent == server->options.chunks;
    uv_buf_t bytes;

    buf_clear(event);
    if (client->sent == 0)
        put_start(event);
    if (last)
        put_end(event);
    else
        put_stamp(event);
    bytes = uv_buf_init(event->data, (unsigned)event->size);
    client->sent = last ? 0 : client->sent + 1;
    client->waiting = !last;
    if (last)
        uv_timer_stop(&client->delay);
    if (uv_try_write((uv_stream_t *)&client->socket, &bytes, 1) !=
        (int)event->size)
        hang_up(client);
}

static void on_delay(uv_timer_t *delay)
{
    struct client *client = delay->data;

    if (client->server->options.gap_ms > 0)
        send_event(client);
    else
        answer(client);
}

static void save_body(struct server *server)
{
    FILE *file = fopen(server->options.save, "we");

    if (!file ||
        fwrite(server->saved.data, 1, server->saved.size, file) !=
            server->saved.size ||
        fclose(file) != 0)
        check(UV_EIO, server->options.save);
}

/* False: the client does what this server has no answer for. */
static bool end_request(struct client *client)
{
    struct server *server = client->server;

    if (client->waiting || client->writing)
        return false; /* pipelining */
    if (client->saving)
        save_body(server);
    client->saving = false;
    client->waiting = true;
    if (server->options.delay_ms > 0 || server->options.gap_ms > 0)
        check(uv_timer_start(&client->delay, on_delay,
                             (uint64_t)server->options.delay_ms,
                             (uint64_t)server->options.gap_ms),
              "timer");
    else
        answer(client);
    return true;
}

static bool end_line(struct client *client)
{
    static const char name[] = "content-length";
    struct slice line = slice_trim(slice_make(client->line, client->line_size));
    const char *colon = memchr(client->line, ':', client->line_size);
    int64_t length;

    client->line_size = 0;
    if (line.size == 0) {
        client->body_left = client->content_length;
        client->content_length = 0;
        client->saving = client->server->save_wanted && client->body_left > 0;
        if (client->saving)
            client->server->save_wanted = false;
        return client->body_left > 0 || end_request(client);
    }
    if (!colon ||
        !slice_is_nocase(
            slice_make(client->line, (size_t)(colon - client->line)), name))
        return true;
    line.size -= sizeof(name);
    line.data += sizeof(name);
    if (!slice_to_int64(slice_trim(line), &length) || length < 0 ||
        length > BODY_MAX_BYTES)
        return false;
    client->content_length = (size_t)length;
    return true;
}

static size_t feed_head(struct client *client, const char *data, size_t size,
                        bool *ok)
{
    const char *end = memchr(data, '\n', size);
    size_t used = end ? (size_t)(end - data) + 1 : size;
    size_t room = LINE_MAX_BYTES - client->line_size;
    size_t kept = used < room ? used : room;

    memcpy(client->line + client->line_size, data, kept);
    client->line_size += kept;
    *ok = !end || end_line(client);
    return used;
}

static size_t feed_body(struct client *client, const char *data, size_t size,
                        bool *ok)
{
    size_t used = size < client->body_left ? size : client->body_left;

    if (client->saving)
        buf_append(&client->server->saved, data, used);
    client->body_left -= used;
    *ok = client->body_left > 0 || end_request(client);
    return used;
}

static void lend_input(uv_handle_t *handle, size_t suggested, uv_buf_t *input)
{
    struct client *client = handle->data;

    (void)suggested;
    *input = uv_buf_init(client->server->input, INPUT_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *input)
{
    struct client *client = stream->data;
    bool ok = size >= 0;

    for (size_t at = 0; ok && at < (size_t)size;) {
        const char *data = input->base + at;
        size_t left = (size_t)size - at;

        at += client->body_left > 0 ? feed_body(client, data, left, &ok)
                                    : feed_head(client, data, left, &ok);
    }
    if (!ok)
        hang_up(client);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct server *server = listener->data;
    struct client *client = mem_alloc(sizeof(*client));

    check(status, "connection");
    client->server = server;
    client->open_handles = 2;
    check(uv_tcp_init(&server->loop, &client->socket), "socket");
    check(uv_timer_init(&server->loop, &client->delay), "timer");
    client->socket.data = client;
    client->delay.data = client;
    check(uv_accept(listener, (uv_stream_t *)&client->socket), "accept");
    check(uv_tcp_nodelay(&client->socket, 1), "nodelay");
    check(uv_read_start((uv_stream_t *)&client->socket, lend_input, on_read),
          "read");
}

static void start_listening(struct server *server)
{
    struct sockaddr_in address;
    int size = sizeof(address);

    check(uv_loop_init(&server->loop), "loop");
    check(uv_tcp_init(&server->loop, &server->listener), "socket");
    server->listener.data = server;
    check(uv_ip4_addr("127.0.0.1", (int)server->options.port, &address),
          "address");
    check(uv_tcp_bind(&server->listener, (struct sockaddr *)&address, 0),
          "bind");
    check(uv_listen((uv_stream_t *)&server->listener, LISTEN_BACKLOG,
                    on_connection),
          "listen");
    check(uv_tcp_getsockname(&server->listener, (struct sockaddr *)&address,
                             &size),
          "address");
    printf("listening http://127.0.0.1:%u/v1\n",
           (unsigned)ntohs(address.sin_port));
    fflush(stdout);
}

static bool read_number(const char *text, int64_t most, int64_t *value)
{
    return slice_to_int64(slice_of(text), value) && *value >= 0 &&
           *value <= most;
}

static bool read_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},
        {"delay-ms", required_argument, NULL, 'd'},
        {"chunks", required_argument, NULL, 'c'},
        {"content-kib", required_argument, NULL, 'k'},
        {"gap-ms", required_argument, NULL, 'g'},
        {"status", required_argument, NULL, 't'},
        {"json", no_argument, NULL, 'j'},
        {"save-request", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    int option;
    bool ok = true;

    while (ok && (option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'p')
            ok = read_number(optarg, UINT16_MAX, &options->port);
        else if (option == 'd')
            ok = read_number(optarg, INT32_MAX, &options->delay_ms);
        else if (option == 'c')
            ok = read_number(optarg, CHUNKS_MAX, &options->chunks);
        else if (option == 'k')
            ok = read_number(optarg, CONTENT_MAX_KIB, &options->content_kib);
        else if (option == 'g')
            ok = read_number(optarg, INT32_MAX, &options->gap_ms);
        else if (option == 't')
            ok = read_number(optarg, STATUS_MAX, &options->status);
        else if (option == 'j')
            options->json = true;
        else if (option == 's')
            options->save = optarg;
        else
            ok = false;
    }
    return ok && optind == argc && options->chunks > 0;
}

int main(int argc, char **argv)
{
    static struct server server = {.options = {.chunks = 8, .content_kib = 1}};

    if (!read_options(argc, argv, &server.options)) {
        fputs("usage: provider [--port N (0: any)] [--delay-ms N]\n"
              "                [--chunks N] [--content-kib N]\n"
              "                [--gap-ms N] [--status N] [--json]\n"
              "                [--save-request FILE]\n",
              stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    buf_init(&server.answer, ANSWER_MAX_BYTES);
    buf_init(&server.event, EVENT_MAX_BYTES);
    buf_init(&server.saved, BODY_MAX_BYTES);
    server.save_wanted = server.options.save != NULL;
    if (server.options.status > 0)
        put_error(&server.answer, (int)server.options.status);
    else if (server.options.json)
        put_document(&server.answer, (size_t)server.options.content_kib * 1024);
    else
        put_answer(&server.answer, (size_t)server.options.chunks,
                   (size_t)server.options.content_kib * 1024);
    start_listening(&server);
    uv_run(&server.loop, UV_RUN_DEFAULT);
    return 0;
}
