/* The http layer against real sockets on loopback. */
#include "llm_router/http/http.h"

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "llm_router/base/log.h"
#include "test_http_client.h"

/* The system, where a test has it fail. */

static int refused_watches; /* of curl's sockets, for reading */

int epoll_ctl(int set, int action, int descriptor, struct epoll_event *event)
{
    if (refused_watches > 0 && set != uv_backend_fd(&loop.uv) &&
        event->events == EPOLLIN) {
        refused_watches--;
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, set, action, descriptor, event);
}

static atomic_bool resolver_hangs;
static atomic_int lookups, lookups_done;

/* Of "hanging.invalid"; in a thread of curl's. */
int getaddrinfo(const char *name, const char *service,
                const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *,
                struct addrinfo **);

    if (strcmp(name, "hanging.invalid") != 0) {
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
        return real(name, service, hints, found);
    }
    lookups++;
    while (resolver_hangs)
        sleep_ms(5);
    lookups_done++;
    return EAI_AGAIN;
}

/* Scripts */

static void answer_each(struct server *server, int peer, int number)
{
    (void)number;
    while (
        server_read(server, peer) &&
        server_say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
        continue;
}

static void say_nothing(struct server *server, int peer, int number)
{
    (void)number;
    if (server_read(server, peer))
        server_await_close(server, peer);
}

static void drip_headers(struct server *server, int peer, int number)
{
    (void)number;
    if (!server_read(server, peer) || !server_say(peer, "HTTP/1.1 200 OK\r\n"))
        return;
    while (server_say(peer, "X-A: b\r\n"))
        sleep_ms(20);
}

static void drip_body(struct server *server, int peer, int number)
{
    (void)number;
    if (!server_read(server, peer) ||
        !server_say(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                          "Content-Type: text/event-stream\r\n\r\n"))
        return;
    while (server_say(peer, "3\r\nabc\r\n"))
        sleep_ms(5);
    server->gone_ms = now_ms();
}

static void cut_body(struct server *server, int peer, int number)
{
    (void)number;
    if (server_read(server, peer))
        server_say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
}

static void close_unanswered(struct server *server, int peer, int number)
{
    (void)number;
    server_read(server, peer);
}

static void pour_body(struct server *server, int peer, int number)
{
    static const char zeros[16 * 1024];

    (void)number;
    if (!server_read(server, peer) ||
        !server_say(peer, "HTTP/1.1 200 OK\r\n\r\n"))
        return;
    while (server_send(peer, zeros, sizeof(zeros)))
        continue;
    server->gone_ms = now_ms();
}

static void pour_headers(struct server *server, int peer, int number)
{
    (void)number;
    if (!server_read(server, peer) || !server_say(peer, "HTTP/1.1 200 OK\r\n"))
        return;
    while (
        server_say(peer, "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"))
        continue;
}

static void redirect(struct server *server, int peer, int number)
{
    char text[200];

    (void)number;
    snprintf(text, sizeof(text),
             "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/other\r\n"
             "Content-Length: 0\r\n\r\n",
             server->port);
    while (server_read(server, peer) && server_say(peer, text))
        continue;
}

static void answer_once(struct server *server, int peer, int number)
{
    (void)number;
    if (server_read(server, peer))
        server_say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
}

/* The first connection dies under its second request. */
static void die_at_second(struct server *server, int peer, int number)
{
    if (number > 0) {
        answer_each(server, peer, number);
        return;
    }
    answer_once(server, peer, number);
    server_read(server, peer);
}

/* The same, when nobody thinks of the request any more. */
static void die_later(struct server *server, int peer, int number)
{
    die_at_second(server, peer, number);
    if (number == 0)
        sleep_ms(50);
}

static void answer_with_hints(struct server *server, int peer, int number)
{
    (void)number;
    if (server_read(server, peer))
        server_say(peer, "HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n"
                         "HTTP/1.1 429 Busy\r\nRetry-After: 1\r\n"
                         "RETRY-after: 2\r\nContent-Length: 2\r\n\r\n{}");
}

static void garbage(struct server *server, int peer, int number)
{
    (void)number;
    if (server_read(server, peer))
        server_say(peer, "+OK POP3 ready\r\n");
}

/* Zeros in one block of deflate with fixed codes: a literal 0, then matches of
 * 258 bytes at distance 1, each of 13 bits: 1 MiB of wire is 160 MiB. */
static void bomb(struct server *server, int peer, int number)
{
    static const char start[] =
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
        "\x1F\x8B\x08\0\0\0\0\0\0\xFF";
    static unsigned char wire[1 << 20];
    size_t bit = 0;

    (void)number;
    /* Final block, fixed codes; the literal 0 is 00110000. */
    static const char head[] = "110"
                               "00110000",
                      match[] = "11000101"
                                "00000";
    for (const char *code = head; *code; code++, bit++)
        wire[bit / 8] |= (unsigned char)((*code - '0') << bit % 8);
    while (bit + 13 < sizeof(wire) * 8)
        for (const char *code = match; *code; code++, bit++)
            wire[bit / 8] |= (unsigned char)((*code - '0') << bit % 8);
    if (server_read(server, peer) &&
        server_send(peer, start, sizeof(start) - 1)) {
        server_send(peer, wire, sizeof(wire));
        server_await_close(server, peer);
    }
}

/* Zstandard, which nobody asked for: blocks of 128 KiB in four bytes each. */
static void zstd_bomb(struct server *server, int peer, int number)
{
    static const char start[] =
        "HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\n\r\n"
        "\x28\xB5\x2F\xFD\0\x38";
    char blocks[4 * 400];

    (void)number;
    for (size_t i = 0; i < sizeof(blocks); i += 4)
        memcpy(blocks + i, "\x02\0\x10", 4);
    if (server_read(server, peer) &&
        server_send(peer, start, sizeof(start) - 1) &&
        server_send(peer, blocks, sizeof(blocks)))
        server_await_close(server, peer);
}

/* Two MiB of zeros. */
static void brotli_bomb(struct server *server, int peer, int number)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n"
        "\xA3\xFF\xFF\x83\x7F\x02\x20\x1E\x0B\x04\x72\xEF\x0F\xF4\xFF"
        "\x7F\xF0\x4F\x00\xC4\x61\x11\x80\xEE\xFD\x81\xFE\xFF\x0F\xFE"
        "\x09\x80\x38\x2C\x00\xD0\xBD\x3F\xA8\xFF\xFF\xC3\x3F\x01\x10"
        "\x87\x05\x00\xBA\xF7\x07";

    (void)number;
    if (server_read(server, peer) &&
        server_send(peer, answer, sizeof(answer) - 1))
        server_await_close(server, peer);
}

static void fall_silent_after_headers(struct server *server, int peer,
                                      int number)
{
    (void)number;
    if (server_read(server, peer) &&
        server_say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))
        server_await_close(server, peer);
}

static void answer_empty(struct server *server, int peer, int number)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    };

    if (server_read(server, peer))
        server_say(peer, answers[number]);
}

static void answer_byte_by_byte(struct server *server, int peer, int number)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
        "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    const int on = 1;

    (void)number;
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (!server_read(server, peer))
        return;
    for (const char *at = answer; *at && server_send(peer, at, 1); at++)
        sleep_ms(1);
    server_await_close(server, peer);
}

static void reset(int peer)
{
    const struct linger at_once = {.l_onoff = 1};

    setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

static void reset_unanswered(struct server *server, int peer, int number)
{
    (void)number;
    if (server_read(server, peer))
        reset(peer);
}

static void reset_body(struct server *server, int peer, int number)
{
    (void)number;
    if (!server_read(server, peer))
        return;
    server_say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
    sleep_ms(50); /* a reset throws away what was not read */
    reset(peer);
}

/* Tests */

static void a_post_arrives_as_it_was_written(void **state)
{
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};

    (void)state;
    ask(&call, &request);
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_int_equal(call.outcome.error.code, ERR_NONE);
    assert_int_equal(call.outcome.status, 200);
    assert_int_equal(call.status, 200);
    assert_slice(buf_slice(&call.body), "hello");
    assert_int_equal(strncmp(server->last, "POST /v1 HTTP/1.1\r\n", 19), 0);
    assert_non_null(strstr(server->last, "Authorization: Bearer secret\r\n"));
    assert_non_null(strstr(server->last, "\r\n\r\n{\"a\":1}"));
    assert_null(strstr(server->last, "Expect"));
    finish(server);
    forget(&call);
}

static void a_request_without_a_body_is_a_get(void **state)
{
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct call call = {0}, post = {0};

    (void)state;
    request.body = slice_make(NULL, 0);
    ask(&call, &request);
    assert_int_equal(strncmp(server->last, "GET /v1 HTTP/1.1\r\n", 18), 0);
    request.body = slice_make("", 0);
    ask(&post, &request);
    assert_int_equal(strncmp(server->last, "POST /v1 HTTP/1.1\r\n", 19), 0);
    finish(server);
    forget(&call);
    forget(&post);
}

static void a_large_body_is_sent_without_asking_first(void **state)
{
    static char big[60000];
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};

    (void)state;
    memset(big, 'x', sizeof(big));
    request.body = slice_make(big, sizeof(big));
    ask(&call, &request);
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_int_equal(server_body_size(server->last), sizeof(big));
    assert_null(strstr(server->last, "Expect"));
    finish(server);
    forget(&call);
}

/* A body that is made for the transfer, and gone when it was sent. */

static const char *made; /* what make_body makes; NULL: nothing */
static struct buf lent;  /* of that */
static bool made_longer; /* by a byte each time */
static unsigned times_made, times_sent;

static struct slice make_body(void *context, uint64_t transfer)
{
    const struct call *call = context;

    assert_true(transfer == call->id);
    assert_false(call->done);
    times_made++;
    buf_release(&lent);
    if (!made)
        return slice_make(NULL, 0);
    buf_append_text(&lent, made);
    for (unsigned i = 1; made_longer && i < times_made; i++)
        buf_append_byte(&lent, ' ');
    return buf_slice(&lent);
}

static void on_sent(void *context, uint64_t transfer)
{
    const struct call *call = context;

    assert_true(transfer == call->id);
    assert_false(call->done);
    times_sent++;
    buf_release(&lent);
}

static void ask_with_made_body(struct call *call, const char *url,
                               const char *body)
{
    const struct http_events with_body = {
        .make_body = make_body,
        .on_sent = on_sent,
        .on_headers = on_headers,
        .on_body = on_body,
        .on_done = on_done,
    };
    struct http_request request = request_to(url);

    made = body;
    times_made = times_sent = 0;
    buf_init(&lent, 1 << 20);
    buf_init(&call->body, 1 << 20);
    request.body = slice_make(NULL, 0);
    call->id = http_submit(http, &request, &with_body, call);
    assert_int_equal(times_made, 0);
    waiting++;
    loop_run(&loop);
    buf_release(&lent);
}

static void a_body_is_made_at_the_start_and_lent_until_it_was_sent(void **state)
{
    struct server *server = server_start(answer_each);
    struct call call = {0};

    (void)state;
    ask_with_made_body(&call, server_url(server), "{\"made\":1}");
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_int_equal(times_made, 1);
    assert_int_equal(times_sent, 1);
    assert_int_equal(strncmp(server->last, "POST /v1 HTTP/1.1\r\n", 19), 0);
    assert_non_null(strstr(server->last, "\r\n\r\n{\"made\":1}"));
    finish(server);
    forget(&call);
}

static void a_large_body_is_lent_until_all_of_it_was_sent(void **state)
{
    enum { SIZE = 60000 };
    static char big[SIZE + 1];
    struct server *server = server_start(answer_each);
    struct call call = {0};

    (void)state;
    memset(big, 'x', SIZE);
    ask_with_made_body(&call, server_url(server), big);
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_int_equal(times_sent, 1);
    assert_int_equal(server_body_size(server->last), SIZE);
    finish(server);
    forget(&call);
}

static void a_body_that_has_to_be_sent_again_is_made_again(void **state)
{
    struct server *server = server_start(die_later);
    struct http_request request = request_to(server_url(server));
    struct call first = {0}, second = {0};

    (void)state;
    ask(&first, &request);
    ask_with_made_body(&second, server_url(server), "{\"again\":1}");
    assert_int_equal(second.outcome.end, HTTP_WHOLE);
    assert_int_equal(times_made, 2);
    /* An answer that comes at once may be the end before on_sent. */
    assert_in_range(times_sent, 1, 2);
    assert_int_equal(server->requests, 3);
    assert_int_equal(http_stats(http).transfers_started, 2);
    assert_int_equal(http_stats(http).transfers_repeated, 1);
    assert_non_null(strstr(server->last, "\r\n\r\n{\"again\":1}"));
    finish(server);
    forget(&first);
    forget(&second);
}

/* Content-Length was said. */
static void a_body_made_again_in_another_size_is_not_sent(void **state)
{
    struct server *server = server_start(die_later);
    struct http_request request = request_to(server_url(server));
    struct call first = {0}, second = {0};

    (void)state;
    ask(&first, &request);
    made_longer = true;
    ask_with_made_body(&second, server_url(server), "{\"again\":1}");
    made_longer = false;
    assert_int_equal(times_made, 2);
    assert_int_equal(second.outcome.end, HTTP_NO_ANSWER);
    finish(server);
    forget(&first);
    forget(&second);
}

static void a_transfer_without_the_body_it_wants_is_stopped(void **state)
{
    struct server *server = server_start(answer_each);
    struct call call = {0};

    (void)state;
    ask_with_made_body(&call, server_url(server), NULL);
    assert_int_equal(call.outcome.end, HTTP_STOPPED);
    assert_int_equal(call.outcome.status, 0);
    assert_int_equal(times_sent, 0);
    assert_int_equal(server->requests, 0);
    finish(server);
    forget(&call);
}

static void a_refused_connection_is_named(void **state)
{
    struct http_request request;
    struct call call = {0};
    char url[64], message[100];
    int port, listener = listen_on_loopback(1, &port);

    (void)state;
    close(listener);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", port);
    snprintf(message, sizeof(message), "connect to 127.0.0.1:%d: refused",
             port);
    request = request_to(url);
    ask(&call, &request);
    assert_int_equal(call.outcome.end, HTTP_NO_ANSWER);
    assert_int_equal(call.outcome.status, 0);
    assert_int_equal(call.outcome.error.code, ERR_UNREACHABLE);
    assert_string_equal(call.outcome.error.message, message);
    forget(&call);
}

static void expect_timeout(struct call *call, const char *reason,
                           uint64_t least_ms, long long started)
{
    long long took = now_ms() - started;

    assert_int_equal(call->outcome.end, HTTP_TIMEOUT);
    assert_int_equal(call->outcome.error.code, ERR_TIMEOUT);
    assert_non_null(strstr(call->outcome.error.message, reason));
    assert_in_range(took, least_ms - 2, least_ms + 400);
    forget(call);
}

static void a_connection_that_does_not_come_times_out(void **state)
{
    struct http_request request;
    struct call call = {0}, fillers[4] = {{0}};
    char url[64];
    int port, listener = listen_on_loopback(0, &port);
    long long started;

    (void)state;
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", port);
    request = request_to(url);
    /* Nobody accepts: the queue is full and the rest of SYNs is dropped. */
    for (int i = 0; i < 4; i++)
        submit(&fillers[i], &request);
    run_for(50);
    request.connect_timeout_ms = 100;
    started = now_ms();
    submit(&call, &request);
    while (!call.done)
        run_for(10);
    expect_timeout(&call, "no connection within 100 ms", 100, started);
    for (int i = 0; i < 4; i++)
        forget(&fillers[i]);
    close(listener);
}

static void a_silent_server_times_out(void **state)
{
    struct server *server = server_start(say_nothing);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};
    long long started = now_ms();

    (void)state;
    request.headers_timeout_ms = 100;
    ask(&call, &request);
    expect_timeout(&call, "no answer within 100 ms", 100, started);
    finish(server);
}

static void headers_that_drip_time_out(void **state)
{
    struct server *server = server_start(drip_headers);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};
    long long started = now_ms();

    (void)state;
    request.headers_timeout_ms = 150;
    ask(&call, &request);
    assert_int_equal(call.headers_seen, 0);
    expect_timeout(&call, "no answer within 150 ms", 150, started);
    finish(server);
}

static void the_total_time_ends_an_endless_answer(void **state)
{
    struct server *server = server_start(drip_body);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};
    long long started = now_ms();

    (void)state;
    request.total_timeout_ms = 200;
    ask(&call, &request);
    assert_int_equal(call.outcome.status, 200);
    assert_true(call.body.size > 0);
    expect_timeout(&call, "not complete within 200 ms in all", 200, started);
    finish(server);
}

static void expect_end(server_script *script, enum http_end end,
                       enum error_code code, const char *message)
{
    struct server *server = server_start(script);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};

    ask(&call, &request);
    assert_int_equal(call.outcome.end, end);
    assert_int_equal(call.outcome.error.code, code);
    assert_non_null(strstr(call.outcome.error.message, message));
    assert_int_equal(call.headers_seen, end == HTTP_CUT);
    finish(server);
    forget(&call);
}

static void a_cut_body_is_told_from_a_whole_one(void **state)
{
    (void)state;
    expect_end(cut_body, HTTP_CUT, ERR_UNREACHABLE, "answer of 127.0.0.1:");
}

static void a_connection_closed_unanswered_is_no_answer(void **state)
{
    (void)state;
    expect_end(close_unanswered, HTTP_NO_ANSWER, ERR_UNREACHABLE,
               "waiting for 127.0.0.1:");
}

static void what_is_not_http_is_no_answer(void **state)
{
    (void)state;
    expect_end(garbage, HTTP_NO_ANSWER, ERR_UNREACHABLE, "127.0.0.1:");
}

static void endless_headers_are_too_large(void **state)
{
    (void)state;
    expect_end(pour_headers, HTTP_TOO_LARGE, ERR_TOO_LARGE, "65536 bytes");
}

static void expect_too_large(server_script *script)
{
    struct server *server = server_start(script);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};
    long before;

    ask(&call, &request); /* what is kept from now on is there */
    forget(&call);
    before = resident_kib();
    for (int i = 0; i < 3; i++) {
        call = (struct call){0};
        ask(&call, &request);
        assert_int_equal(call.outcome.end, HTTP_TOO_LARGE);
        assert_int_equal(call.outcome.error.code, ERR_TOO_LARGE);
        assert_int_equal(call.outcome.status, 200);
        assert_in_range(call.body.size, 1, request.max_body_bytes);
        forget(&call);
    }
    assert_in_range(resident_kib() - before, 0, 16 * 1024);
    finish(server);
}

static void an_endless_body_is_too_large(void **state)
{
    (void)state;
    expect_too_large(pour_body);
}

static void a_gzip_bomb_is_too_large(void **state)
{
    (void)state;
    expect_too_large(bomb);
}

static void a_bomb_that_nobody_asked_for_is_too_large(void **state)
{
    (void)state;
    expect_too_large(zstd_bomb);
    tear_down(state);
    set_up(state);
    expect_too_large(brotli_bomb);
}

static void headers_and_then_silence_time_out_in_all(void **state)
{
    struct server *server = server_start(fall_silent_after_headers);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};
    long long started = now_ms();

    (void)state;
    request.headers_timeout_ms = 50; /* is over by then */
    request.total_timeout_ms = 200;
    ask(&call, &request);
    assert_int_equal(call.headers_seen, 1);
    assert_int_equal(call.outcome.status, 200);
    expect_timeout(&call, "not complete within 200 ms in all", 200, started);
    finish(server);
}

static void an_empty_answer_is_whole(void **state)
{
    struct server *server = server_start(answer_empty);
    struct http_request request = request_to(server_url(server));

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct call call = {0};

        ask(&call, &request);
        assert_int_equal(call.outcome.end, HTTP_WHOLE);
        assert_int_equal(call.outcome.status, i < 3 ? 200 : 204);
        assert_int_equal(call.headers_seen, 1);
        assert_int_equal(call.body.size, 0);
        forget(&call);
        run_for(20);
    }
    finish(server);
}

static void an_answer_may_come_byte_by_byte(void **state)
{
    struct server *server = server_start(answer_byte_by_byte);
    struct http_request request = request_to(server_url(server));
    struct call call = {.header_wanted = "x-a"};

    (void)state;
    ask(&call, &request);
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_string_equal(call.header, "b");
    assert_slice(buf_slice(&call.body), "hello");
    finish(server);
    forget(&call);
}

static void a_reset_is_no_answer_or_a_cut_one(void **state)
{
    (void)state;
    expect_end(reset_unanswered, HTTP_NO_ANSWER, ERR_UNREACHABLE,
               "waiting for 127.0.0.1:");
    tear_down(state);
    set_up(state);
    expect_end(reset_body, HTTP_CUT, ERR_UNREACHABLE, "answer of 127.0.0.1:");
}

static void a_redirect_is_not_followed(void **state)
{
    struct server *server = server_start(redirect);
    struct http_request request = request_to(server_url(server));
    struct call call = {.header_wanted = "location"};

    (void)state;
    ask(&call, &request);
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_int_equal(call.outcome.status, 302);
    assert_non_null(strstr(call.header, "/other"));
    assert_int_equal(server->requests, 1);
    finish(server);
    forget(&call);
}

static void only_the_final_answers_headers_count(void **state)
{
    struct server *server = server_start(answer_with_hints);
    struct http_request request = request_to(server_url(server));
    struct call call = {.header_wanted = "retry-after"};

    (void)state;
    ask(&call, &request);
    assert_int_equal(call.outcome.status, 429);
    assert_int_equal(call.headers_seen, 1);
    assert_string_equal(call.header, "2");
    assert_int_equal(http_header(http, call.id, "retry-after").size, 0);
    finish(server);
    forget(&call);
}

static void a_connection_is_used_again(void **state)
{
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));

    (void)state;
    for (int i = 0; i < 5; i++) {
        struct call call = {0};

        ask(&call, &request);
        assert_int_equal(call.outcome.end, HTTP_WHOLE);
        assert_int_equal(call.outcome.connection_reused, i > 0);
        forget(&call);
    }
    assert_int_equal(server->connections, 1);
    assert_int_equal(http_stats(http).connections_opened, 1);
    assert_int_equal(http_stats(http).transfers_started, 5);
    finish(server);
}

static void a_connection_closed_while_idle_is_replaced(void **state)
{
    struct server *server = server_start(answer_once);
    struct http_request request = request_to(server_url(server));

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct call call = {0};

        ask(&call, &request);
        assert_int_equal(call.outcome.end, HTTP_WHOLE);
        forget(&call);
        run_for(20);
    }
    assert_int_equal(server->connections, 3);
    finish(server);
}

static void a_connection_closed_under_a_request_is_replaced(void **state)
{
    struct server *server = server_start(die_at_second);
    struct http_request request = request_to(server_url(server));
    struct call first = {0}, second = {0};

    (void)state;
    ask(&first, &request);
    ask(&second, &request);
    assert_int_equal(second.outcome.end, HTTP_WHOLE);
    assert_int_equal(server->requests, 3);
    assert_int_equal(server->connections, 2);
    finish(server);
    forget(&first);
    forget(&second);
}

static void
an_idle_connection_that_closes_does_not_keep_the_loop_busy(void **state)
{
    struct server *server = server_start(answer_once);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};
    uint64_t turns;

    (void)state;
    ask(&call, &request);
    run_for(50);
    turns = loop.turns;
    run_for(100);
    assert_in_range(loop.turns - turns, 0, 5);
    finish(server);
    forget(&call);
}

/* How soon the server must see that a transfer was cancelled. */
#ifdef __SANITIZE_ADDRESS__
enum { GONE_MS = 500 };
#else
enum { GONE_MS = 100 };
#endif

static void expect_gone(struct server *server, long long cancelled_ms)
{
    while (server->gone_ms == 0) {
        assert_in_range(now_ms() - cancelled_ms, 0, 5000);
        run_for(1);
    }
    assert_in_range(server->gone_ms - cancelled_ms, 0, GONE_MS);
}

static void a_cancelled_wait_closes_the_connection(void **state)
{
    struct server *server = server_start(say_nothing);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};
    long long cancelled;

    (void)state;
    submit(&call, &request);
    while (server->requests == 0)
        run_for(5);
    cancelled = now_ms();
    http_cancel(http, call.id);
    http_cancel(http, call.id);
    assert_int_equal(http_stats(http).in_flight, 0);
    assert_int_equal(http_stats(http).transfers_cancelled, 1);
    expect_gone(server, cancelled);
    assert_false(call.done);
    finish(server);
    forget(&call);
}

static void a_cancelled_answer_closes_the_connection(void **state)
{
    struct server *server = server_start(drip_body);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};
    long long cancelled;
    size_t size;

    (void)state;
    submit(&call, &request);
    while (call.body.size == 0)
        run_for(5);
    cancelled = now_ms();
    http_cancel(http, call.id);
    size = call.body.size;
    expect_gone(server, cancelled);
    assert_int_equal(call.body.size, size);
    assert_false(call.done);
    finish(server);
    forget(&call);
}

static void expect_cancel_in_callback(bool in_headers)
{
    struct server *server = server_start(drip_body);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};

    submit(&call, &request);
    if (in_headers)
        call.cancel_in_headers = call.id;
    else
        call.cancel_in_body = call.id;
    while (server->gone_ms == 0)
        run_for(5);
    assert_int_equal(call.headers_seen, 1);
    assert_int_equal(call.body.size > 0, !in_headers);
    assert_false(call.done);
    finish(server);
    forget(&call);
}

static void a_callback_may_cancel_its_own_transfer(void **state)
{
    (void)state;
    expect_cancel_in_callback(true);
    tear_down(state);
    set_up(state);
    expect_cancel_in_callback(false);
}

static void a_callback_may_cancel_another_transfer(void **state)
{
    struct server *server = server_start(drip_body);
    struct http_request request = request_to(server_url(server));
    struct call first = {0}, second = {0};

    (void)state;
    submit(&first, &request);
    submit(&second, &request);
    first.cancel_in_body = second.id;
    second.cancel_in_body = first.id;
    while (server->gone_ms == 0)
        run_for(5);
    run_for(20);
    assert_int_equal(http_stats(http).in_flight, 1);
    assert_true((first.body.size > 0) != (second.body.size > 0));
    finish(server);
    forget(&first);
    forget(&second);
}

static void read_slowly(struct server *server, int peer, int number)
{
    char bytes[1000];

    (void)number;
    for (int i = 0; i < 30 && read(peer, bytes, sizeof(bytes)) > 0; i++) {
        server->requests++;
        sleep_ms(1);
    }
    server_await_close(server, peer);
}

/* For the sanitizer: curl must not send on from what was lent. */
static void a_cancelled_request_may_be_freed_at_once(void **state)
{
    enum { BIG = 8 * 1024 * 1024 };
    struct server *server = server_start(read_slowly);
    char *url = mem_copy_text(server_url(server), strlen(server_url(server)));
    char *line = mem_copy_text("X-A: b", 6), *body = mem_alloc(BIG);
    const char *lines[] = {line};
    struct http_request request = request_to(url);
    struct call call = {0};

    (void)state;
    request.headers = lines;
    request.header_count = 1;
    request.body = slice_make(body, BIG);
    submit(&call, &request);
    while (server->requests == 0)
        run_for(5);
    http_cancel(http, call.id);
    mem_free(url);
    mem_free(line);
    mem_free(body);
    while (server->gone_ms == 0)
        run_for(5);
    assert_false(call.done);
    finish(server);
    forget(&call);
}

static void a_transfer_cancelled_before_it_started_never_starts(void **state)
{
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};

    (void)state;
    submit(&call, &request);
    http_cancel(http, call.id);
    run_for(30);
    assert_false(call.done);
    assert_int_equal(server->connections, 0);
    finish(server);
    forget(&call);
}

static void on_body_can_stop_a_transfer(void **state)
{
    struct server *server = server_start(drip_body);
    struct http_request request = request_to(server_url(server));
    struct call call = {.stop_in_body = true};

    (void)state;
    ask(&call, &request);
    assert_int_equal(call.outcome.end, HTTP_STOPPED);
    assert_int_equal(call.outcome.error.code, ERR_NONE);
    assert_int_equal(call.body.size, 3);
    finish(server);
    forget(&call);
}

static void what_is_in_flight_ends_silently_with_the_layer(void **state)
{
    struct server *server = server_start(drip_body);
    struct http_request request = request_to(server_url(server));
    struct call calls[20] = {{0}};

    (void)state;
    for (int i = 0; i < 20; i++)
        submit(&calls[i], &request);
    run_for(50);
    http_cancel(http, calls[3].id);
    forget(&calls[3]);
    submit(&calls[3], &request);
    finish(server);
    for (int i = 0; i < 20; i++) {
        assert_false(calls[i].done);
        forget(&calls[i]);
    }
}

static void plain_http_has_to_be_allowed(void **state)
{
    static const char *const urls[] = {
        "http://127.0.0.1:1/",  "HTTP://127.0.0.1:1/",
        "file:///etc/passwd",   "ftp://127.0.0.1:1/",
        "127.0.0.1:1",          "",
        " http://127.0.0.1:1/", "http:/",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct http_request request = request_to(urls[i]);
        struct call call = {0};

        request.plain_http_allowed = false;
        ask(&call, &request);
        assert_int_equal(call.outcome.end, HTTP_NO_ANSWER);
        assert_non_null(strstr(call.outcome.error.message, "only https://"));
        forget(&call);
    }
}

static void a_thousand_at_once_are_all_answered(void **state)
{
    enum { MANY = 1000 };
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct call *calls = mem_alloc(MANY * sizeof(*calls));

    (void)state;
    /* Under valgrind this takes its time. */
    request.connect_timeout_ms = GIVE_UP_MS;
    request.headers_timeout_ms = GIVE_UP_MS;
    request.total_timeout_ms = GIVE_UP_MS;
    for (int i = 0; i < MANY; i++)
        submit(&calls[i], &request);
    assert_int_equal(http_stats(http).in_flight, MANY);
    loop_run(&loop);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(calls[i].outcome.end, HTTP_WHOLE);
        assert_slice(buf_slice(&calls[i].body), "hello");
        forget(&calls[i]);
    }
    assert_int_equal(server->requests, MANY);
    mem_free(calls);
    finish(server);
}

static void connections_to_a_host_can_be_limited(void **state)
{
    const struct http_options options = {
        .max_connections_per_host = 3,
        .max_idle_connections = 64,
        .max_idle_age_s = 60,
    };
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct call calls[100] = {{0}};

    (void)state;
    http_free(http);
    http = http_new(&loop, &options);
    for (int i = 0; i < 100; i++)
        submit(&calls[i], &request);
    loop_run(&loop);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(calls[i].outcome.end, HTTP_WHOLE);
        forget(&calls[i]);
    }
    assert_int_equal(server->connections, 3);
    finish(server);
}

/* Roughly: curl closes one for each transfer that ends. */
static void idle_connections_are_limited_in_all(void **state)
{
    const struct http_options options = {
        .max_idle_connections = 10,
        .max_idle_age_s = 60,
    };
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct call *calls = mem_alloc(200 * sizeof(*calls));

    (void)state;
    http_free(http);
    http = http_new(&loop, &options);
    for (int i = 0; i < 200; i++)
        submit(&calls[i], &request);
    loop_run(&loop);
    for (int i = 0; i < 200; i++)
        forget(&calls[i]);
    mem_free(calls);
    run_for(50);
    assert_in_range(server->connections - server->closed, 1, 40);
    finish(server);
}

static void connections_that_nobody_uses_are_closed(void **state)
{
    const struct http_options options = {
        .max_idle_connections = 10,
        .max_idle_age_s = 1,
    };
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));

    (void)state;
    http_free(http);
    http = http_new(&loop, &options);
    for (int round = 1; round <= 2; round++) { /* they are made again */
        struct call calls[5] = {0};

        for (int i = 0; i < 5; i++)
            submit(&calls[i], &request);
        loop_run(&loop);
        for (int i = 0; i < 5; i++) {
            assert_int_equal(calls[i].outcome.end, HTTP_WHOLE);
            forget(&calls[i]);
        }
        assert_false(http_close_unused(http));
        run_for(50);
        assert_int_equal(server->connections - server->closed, 5);
        run_for(1100);
        assert_true(http_close_unused(http));
        assert_false(http_close_unused(http));
        run_for(50);
        assert_int_equal(server->connections, 5 * round);
        assert_int_equal(server->closed, 5 * round);
    }
    finish(server);
}

struct chain {
    struct http_request request;
    int left;
};

static void ask_again(void *context, uint64_t transfer,
                      const struct http_outcome *outcome)
{
    static const struct http_events again = {.on_done = ask_again};
    struct chain *chain = context;

    (void)transfer;
    (void)outcome;
    if (--chain->left > 0)
        http_submit(http, &chain->request, &again, chain);
    else
        loop_stop(&loop);
}

static void
a_caller_that_asks_again_at_once_does_not_hold_up_the_loop(void **state)
{
    struct chain chain = {request_to("file:///"), 300};
    uint64_t turns = loop.turns;

    (void)state;
    ask_again(&chain, 0, NULL);
    loop_run(&loop);
    assert_in_range(loop.turns - turns, 3, 310);
}

static int thread_count(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[200];
    int count = 0;

    while (fgets(line, sizeof(line), status))
        if (sscanf(line, "Threads: %d", &count) == 1)
            break;
    fclose(status);
    return count;
}

static void a_name_is_looked_up_once_and_holds_up_nobody_else(void **state)
{
    enum { MANY = 50 };
    struct server *server = server_start(answer_each);
    struct http_request good = request_to(server_url(server));
    struct http_request bad = request_to("http://no-such-host.invalid:81/");
    struct call calls[MANY] = {{0}}, call = {0};
    int threads = thread_count(), most = 0;
    long long started;

    (void)state;
    bad.connect_timeout_ms = 1500;
    for (int i = 0; i < MANY; i++)
        submit(&calls[i], &bad);
    started = now_ms();
    submit(&call, &good);
    while (!call.done) {
        run_for(1);
        if (thread_count() - threads > most)
            most = thread_count() - threads;
    }
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_in_range(now_ms() - started, 0, 500);
    assert_in_range(most, 0, 5); /* one resolver, and those of the server */
    while (waiting > 0)
        loop_run(&loop);
    for (int i = 0; i < MANY; i++) {
        /* Where no name server answers the lookup itself takes too long. */
        assert_true(calls[i].outcome.end == HTTP_NO_ANSWER ||
                    calls[i].outcome.end == HTTP_TIMEOUT);
        assert_non_null(
            strstr(calls[i].outcome.error.message, "no-such-host.invalid:81"));
        forget(&calls[i]);
    }
    finish(server);
    forget(&call);
}

static void a_resolver_that_hangs_holds_up_nobody_else(void **state)
{
    enum { OTHERS = 30 };
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct http_request slow = request_to("http://hanging.invalid/");
    struct call hung = {0}, calls[OTHERS] = {{0}};
    long long started = now_ms();

    (void)state;
    resolver_hangs = true;
    slow.connect_timeout_ms = 200;
    ask(&hung, &slow);
    expect_timeout(&hung, "no connection within 200 ms", 200, started);
    slow.connect_timeout_ms = GIVE_UP_MS;
    slow.total_timeout_ms = GIVE_UP_MS;
    hung = (struct call){0};
    submit(&hung, &slow);
    while (lookups < 2)
        run_for(1);
    for (int i = 0; i < OTHERS; i++)
        submit(&calls[i], &request);
    while (waiting > 1)
        run_for(1);
    for (int i = 0; i < OTHERS; i++) {
        assert_int_equal(calls[i].outcome.end, HTTP_WHOLE);
        forget(&calls[i]);
    }
    assert_false(hung.done);
    assert_int_equal(lookups_done, 0);
    finish(server);
    forget(&hung);
    resolver_hangs = false;
    while (lookups_done < lookups)
        sleep_ms(1);
}

static void a_watch_that_the_kernel_refuses_is_asked_for_again(void **state)
{
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};

    (void)state;
    log_set_level(LOG_ERROR);
    refused_watches = 3;
    ask(&call, &request);
    log_set_level(LOG_INFO);
    assert_int_equal(refused_watches, 0);
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_slice(buf_slice(&call.body), "hello");
    finish(server);
    forget(&call);
}

static void errors_never_hold_a_header(void **state)
{
    static const char *const bad[] = {"Authorization: Bearer secret\r\nX: y"};
    struct server *server = server_start(close_unanswered);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};

    (void)state;
    request.headers = bad;
    request.header_count = 1;
    ask(&call, &request);
    assert_null(strstr(call.outcome.error.message, "secret"));
    finish(server);
    forget(&call);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_post_arrives_as_it_was_written),
        TEST(a_request_without_a_body_is_a_get),
        TEST(a_large_body_is_sent_without_asking_first),
        TEST(a_body_is_made_at_the_start_and_lent_until_it_was_sent),
        TEST(a_large_body_is_lent_until_all_of_it_was_sent),
        TEST(a_body_that_has_to_be_sent_again_is_made_again),
        TEST(a_body_made_again_in_another_size_is_not_sent),
        TEST(a_transfer_without_the_body_it_wants_is_stopped),
        TEST(a_refused_connection_is_named),
        TEST(a_connection_that_does_not_come_times_out),
        TEST(a_silent_server_times_out),
        TEST(headers_that_drip_time_out),
        TEST(the_total_time_ends_an_endless_answer),
        TEST(headers_and_then_silence_time_out_in_all),
        TEST(an_empty_answer_is_whole),
        TEST(an_answer_may_come_byte_by_byte),
        TEST(a_cut_body_is_told_from_a_whole_one),
        TEST(a_reset_is_no_answer_or_a_cut_one),
        TEST(a_connection_closed_unanswered_is_no_answer),
        TEST(what_is_not_http_is_no_answer),
        TEST(endless_headers_are_too_large),
        TEST(an_endless_body_is_too_large),
        TEST(a_gzip_bomb_is_too_large),
        TEST(a_bomb_that_nobody_asked_for_is_too_large),
        TEST(a_redirect_is_not_followed),
        TEST(only_the_final_answers_headers_count),
        TEST(a_connection_is_used_again),
        TEST(a_connection_closed_while_idle_is_replaced),
        TEST(a_connection_closed_under_a_request_is_replaced),
        TEST(an_idle_connection_that_closes_does_not_keep_the_loop_busy),
        TEST(a_cancelled_wait_closes_the_connection),
        TEST(a_cancelled_answer_closes_the_connection),
        TEST(a_callback_may_cancel_its_own_transfer),
        TEST(a_callback_may_cancel_another_transfer),
        TEST(a_transfer_cancelled_before_it_started_never_starts),
        TEST(a_cancelled_request_may_be_freed_at_once),
        TEST(on_body_can_stop_a_transfer),
        TEST(what_is_in_flight_ends_silently_with_the_layer),
        TEST(plain_http_has_to_be_allowed),
        TEST(a_thousand_at_once_are_all_answered),
        TEST(connections_to_a_host_can_be_limited),
        TEST(idle_connections_are_limited_in_all),
        TEST(connections_that_nobody_uses_are_closed),
        TEST(a_caller_that_asks_again_at_once_does_not_hold_up_the_loop),
        TEST(a_name_is_looked_up_once_and_holds_up_nobody_else),
        TEST(a_resolver_that_hangs_holds_up_nobody_else),
        TEST(a_watch_that_the_kernel_refuses_is_asked_for_again),
        TEST(errors_never_hold_a_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
