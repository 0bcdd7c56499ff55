/* Transfers that are paused, against real sockets on loopback. */
#include "llm_router/http/http.h"

#include "test_http_client.h"

enum {
    MIB = 1024 * 1024,
    /* What the kernel's buffers on both sides of a connection may hold. */
    KERNEL_BYTES = 16 * MIB,
    PATTERN_BYTES = 3 * MIB,
};

/* Scripts */

static char pattern_byte(size_t i)
{
    return (char)(i ^ i >> 8 ^ i >> 16);
}

/* Bytes whose place is known, without end. */
static void pour(struct server *server, int peer, int number)
{
    char piece[16 * 1024];

    (void)number;
    for (size_t i = 0; i < sizeof(piece); i++)
        piece[i] = pattern_byte(i);
    if (!server_read(server, peer) ||
        !server_say(peer, "HTTP/1.1 200 OK\r\n\r\n"))
        return;
    while (server_send(peer, piece, sizeof(piece)))
        server->sent += (long long)sizeof(piece);
    server->gone_ms = now_ms();
}

/* PATTERN_BYTES in chunks of many sizes. */
static void send_pattern(struct server *server, int peer, int number)
{
    char chunk[8000], size_line[16];
    size_t done = 0;

    (void)number;
    if (!server_read(server, peer) ||
        !server_say(peer,
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
        return;
    while (done < PATTERN_BYTES) {
        size_t size = done % 7919 + 1;

        if (size > PATTERN_BYTES - done)
            size = PATTERN_BYTES - done;
        for (size_t i = 0; i < size; i++)
            chunk[i] = pattern_byte(done + i);
        snprintf(size_line, sizeof(size_line), "%zx\r\n", size);
        if (!server_say(peer, size_line) || !server_send(peer, chunk, size) ||
            !server_say(peer, "\r\n"))
            return;
        done += size;
    }
    server_say(peer, "0\r\n\r\n");
    server_await_close(server, peer);
}

static void answer_each(struct server *server, int peer, int number)
{
    (void)number;
    while (
        server_read(server, peer) &&
        server_say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
        continue;
}

static void answer_nothing(struct server *server, int peer, int number)
{
    (void)number;
    if (server_read(server, peer) &&
        server_say(peer, "HTTP/1.1 204 No Content\r\n\r\n"))
        server_await_close(server, peer);
}

static void answer_and_close(struct server *server, int peer, int number)
{
    (void)number;
    if (server_read(server, peer))
        server_say(peer, "HTTP/1.1 200 OK\r\n\r\nhello");
}

static void cut(struct server *server, int peer, int number)
{
    (void)number;
    if (server_read(server, peer))
        server_say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
}

/* Two MiB of zeros in a gzip answer of 2 KiB: one read of curl's. */
static void small_bomb(struct server *server, int peer, int number)
{
    static const char start[] =
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
        "\x1F\x8B\x08\0\0\0\0\0\0\xFF";
    static const char head[] = "11000110000", match[] = "1100010100000";
    unsigned char wire[13000 / 8] = {0};
    size_t bit = 0;

    (void)number;
    for (const char *code = head; *code; code++, bit++)
        wire[bit / 8] |= (unsigned char)((*code - '0') << bit % 8);
    while (bit + 13 < sizeof(wire) * 8)
        for (const char *code = match; *code; code++, bit++)
            wire[bit / 8] |= (unsigned char)((*code - '0') << bit % 8);
    if (server_read(server, peer) &&
        server_send(peer, start, sizeof(start) - 1) &&
        server_send(peer, wire, sizeof(wire)))
        server_await_close(server, peer);
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

/* The same behind 100 bytes, with which curl's first read is full. */
static void zstd_bomb_later(struct server *server, int peer, int number)
{
    enum { READ = 2048, PLAIN = 6 + 3 + 100 };
    static const char lines[] = "HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\n"
                                "X-Filler: ";
    char wire[2 * READ] = {0};
    size_t size = sizeof(lines) - 1;

    (void)number;
    memcpy(wire, lines, size);
    memset(wire + size, 'x', READ - PLAIN - 4 - size);
    size = READ - PLAIN;
    memcpy(wire + size - 4, "\r\n\r\n", 4);
    memcpy(wire + size, "\x28\xB5\x2F\xFD\0\x38\x20\x03\0", 9);
    for (size_t i = READ; i < sizeof(wire); i += 4)
        memcpy(wire + i, "\x02\0\x10", 4);
    if (server_read(server, peer) && server_send(peer, wire, sizeof(wire)))
        server_await_close(server, peer);
}

/* Tests */

static struct http_request pausable(const struct server *server)
{
    struct http_request request = request_to(server_url(server));

    request.pausable = true;
    request.max_body_bytes = SIZE_MAX;
    request.total_timeout_ms = GIVE_UP_MS;
    return request;
}

/* Of the body of a call that is paused, what there is. */
static size_t run_until_paused(struct call *call)
{
    while (!call->paused)
        run_for(1);
    return call->body.size;
}

/* Until nobody sends any more; what was sent since the counter began. */
static long long run_until_standstill(struct server *server)
{
    long long sent;

    do {
        sent = server->sent;
        run_for(300);
    } while (server->sent != sent);
    return sent;
}

static void expect_standstill(struct server *server, struct call *call)
{
    size_t size = run_until_paused(call);
    long before = resident_kib();
    long long sent = run_until_standstill(server);
    uint64_t turns = loop.turns;

    run_for(100);
    assert_in_range(loop.turns - turns, 0, 5);
    assert_int_equal(call->body.size, size);
    assert_in_range(sent, 0, KERNEL_BYTES);
    assert_in_range(resident_kib() - before, 0, 2048);
}

static void a_paused_transfer_stops_its_server(void **state)
{
    struct server *server = server_start(pour);
    struct http_request request = pausable(server);
    struct call call = {.pause_in_body = true};
    long long sent;

    (void)state;
    submit(&call, &request);
    expect_standstill(server, &call);
    sent = server->sent;
    call.pause_in_body = false;
    resume_call(&call);
    while (server->sent <= sent) {
        buf_clear(&call.body);
        run_for(1);
    }
    /* And from between two callbacks. */
    pause_call(&call);
    buf_clear(&call.body);
    server->sent = 0;
    expect_standstill(server, &call);
    finish(server);
    assert_false(call.done);
    forget(&call);
}

static void expect_pattern(const struct call *call)
{
    assert_int_equal(call->outcome.end, HTTP_WHOLE);
    assert_int_equal(call->body.size, PATTERN_BYTES);
    for (size_t i = 0; i < PATTERN_BYTES; i++)
        if (call->body.data[i] != pattern_byte(i))
            fail_msg("byte %zu", i);
}

static void resume_all(struct call *calls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (calls[i].paused)
            resume_call(&calls[i]);
}

static void nothing_is_lost_or_twice_however_often_it_is_paused(void **state)
{
    enum { CALLS = 5 };
    struct server *server = server_start(send_pattern);
    struct http_request request = pausable(server);
    struct call calls[CALLS] = {{0}};

    (void)state;
    for (int i = 0; i < CALLS; i++) {
        submit(&calls[i], &request);
        calls[i].body.max = PATTERN_BYTES;
        calls[i].pause_in_body = true;
    }
    while (waiting > 0) {
        resume_all(calls, CALLS);
        run_for(0);
    }
    for (int i = 0; i < CALLS; i++) {
        expect_pattern(&calls[i]);
        forget(&calls[i]);
    }
    finish(server);
}

static bool pause_and_resume(void *context, uint64_t transfer,
                             struct slice bytes)
{
    struct call *call = context;

    buf_append_slice(&call->body, bytes);
    http_pause(http, transfer);
    http_pause(http, transfer);
    http_resume(http, transfer);
    if (call->body.size % 3 == 0)
        http_pause(http, transfer);
    call->paused = call->body.size % 3 == 0;
    return true;
}

static void a_callback_may_pause_and_resume(void **state)
{
    static const struct http_events both = {
        .on_headers = on_headers,
        .on_body = pause_and_resume,
        .on_done = on_done,
    };
    struct server *server = server_start(send_pattern);
    struct http_request request = pausable(server);
    struct call call = {0};

    (void)state;
    buf_init(&call.body, PATTERN_BYTES);
    waiting = 1;
    call.id = http_submit(http, &request, &both, &call);
    while (waiting > 0) {
        resume_all(&call, 1);
        run_for(0);
    }
    expect_pattern(&call);
    finish(server);
    forget(&call);
}

static void a_transfer_may_be_paused_before_it_starts(void **state)
{
    struct server *server = server_start(answer_each);
    struct http_request request = pausable(server);
    struct call call = {.header_wanted = "content-length"};

    (void)state;
    submit(&call, &request);
    pause_call(&call);
    while (call.headers_seen == 0)
        run_for(1);
    run_for(50);
    assert_int_equal(call.body.size, 0);
    assert_false(call.done);
    assert_int_equal(http_header(http, call.id, "content-length").size, 1);
    resume_call(&call);
    loop_run(&loop);
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_slice(buf_slice(&call.body), "hello");
    finish(server);
    forget(&call);
}

static void a_transfer_that_cannot_start_fails_paused_or_not(void **state)
{
    struct http_request request = request_to("file:///");
    struct call call = {0};

    (void)state;
    request.pausable = true;
    submit(&call, &request);
    pause_call(&call);
    loop_run(&loop);
    assert_int_equal(call.outcome.end, HTTP_NO_ANSWER);
    forget(&call);
}

static void expect_end_after_resume(server_script *script, enum http_end end,
                                    const char *body)
{
    struct server *server = server_start(script);
    struct http_request request = pausable(server);
    struct call call = {.pause_in_headers = true};

    submit(&call, &request);
    run_until_paused(&call);
    run_for(100);
    assert_false(call.done);
    assert_int_equal(http_stats(http).in_flight, 1);
    resume_call(&call);
    loop_run(&loop);
    assert_int_equal(call.outcome.end, end);
    assert_slice(buf_slice(&call.body), body);
    finish(server);
    forget(&call);
}

static void the_end_comes_after_the_resume(void **state)
{
    (void)state;
    expect_end_after_resume(answer_each, HTTP_WHOLE, "hello");
    tear_down(state);
    set_up(state);
    expect_end_after_resume(answer_and_close, HTTP_WHOLE, "hello");
    tear_down(state);
    set_up(state);
    expect_end_after_resume(answer_nothing, HTTP_WHOLE, "");
    tear_down(state);
    set_up(state);
    expect_end_after_resume(cut, HTTP_CUT, "hello");
}

static void expect_bounded(server_script *script, size_t max, enum http_end end)
{
    struct server *server = server_start(script);
    struct http_request request = pausable(server);
    struct call call = {.pause_in_headers = true};
    long before;

    request.max_body_bytes = max;
    submit(&call, &request);
    run_until_paused(&call);
    before = resident_kib();
    run_for(100);
    assert_in_range(resident_kib() - before, 0, 12 * 1024);
    assert_false(call.done);
    buf_release(&call.body);
    buf_init(&call.body, 64 * MIB);
    call.stop_in_body = end == HTTP_STOPPED;
    resume_call(&call);
    loop_run(&loop);
    assert_int_equal(call.outcome.end, end);
    assert_in_range(call.body.size, 1, max);
    finish(server);
    forget(&call);
}

static void a_bomb_goes_off_within_the_limit_of_the_body(void **state)
{
    (void)state;
    expect_bounded(small_bomb, 100000, HTTP_TOO_LARGE);
    tear_down(state);
    set_up(state);
    expect_bounded(small_bomb, MIB, HTTP_STOPPED);
    tear_down(state);
    set_up(state);
    expect_bounded(zstd_bomb, MIB, HTTP_TOO_LARGE);
    tear_down(state);
    set_up(state);
    expect_bounded(zstd_bomb_later, MIB, HTTP_TOO_LARGE);
}

static void what_is_held_is_handed_out_in_pieces(void **state)
{
    struct server *server = server_start(small_bomb);
    struct http_request request = pausable(server);
    struct call call = {.pause_in_headers = true, .pause_in_body = true};
    size_t held = 0;

    (void)state;
    submit(&call, &request);
    run_until_paused(&call);
    run_for(50);
    while (held < 200000) {
        resume_call(&call);
        while (!call.paused)
            run_for(1);
        assert_in_range(call.body.size - held, 1, 16 * 1024);
        held = call.body.size;
    }
    finish(server);
    forget(&call);
}

static void the_total_time_goes_on_while_paused(void **state)
{
    struct server *server = server_start(pour);
    struct http_request request = pausable(server);
    struct call call = {.pause_in_body = true};
    long long started = now_ms();

    (void)state;
    request.total_timeout_ms = 200;
    ask(&call, &request);
    assert_true(call.paused);
    assert_int_equal(call.outcome.end, HTTP_TIMEOUT);
    assert_in_range(now_ms() - started, 198, 700);
    http_resume(http, call.id);
    run_for(20);
    finish(server);
    forget(&call);
}

static void a_whole_answer_that_is_not_fetched_times_out(void **state)
{
    struct server *server = server_start(answer_each);
    struct http_request request = pausable(server);
    struct call call = {.pause_in_headers = true};

    (void)state;
    request.total_timeout_ms = 200;
    ask(&call, &request);
    assert_int_equal(call.outcome.end, HTTP_TIMEOUT);
    assert_int_equal(call.outcome.status, 200);
    finish(server);
    forget(&call);
}

static void a_paused_transfer_can_be_cancelled(void **state)
{
    struct server *server = server_start(pour);
    struct http_request request = pausable(server);
    struct call call = {.pause_in_body = true}, next = {0};

    (void)state;
    submit(&call, &request);
    run_until_paused(&call);
    run_for(50);
    http_cancel(http, call.id);
    http_resume(http, call.id);
    while (server->gone_ms == 0)
        run_for(1);
    assert_false(call.done);
    waiting--;
    /* Its handle is used again, and reads. */
    server->script = answer_each;
    request.total_timeout_ms = 5000;
    ask(&next, &request);
    assert_int_equal(next.outcome.end, HTTP_WHOLE);
    finish(server);
    forget(&call);
    forget(&next);
}

/* In on_body, when what was held comes. */
static void a_resumed_transfer_can_be_cancelled_or_stopped(void **state)
{
    struct server *server = server_start(pour);
    struct http_request request = pausable(server);
    struct call calls[3] = {{.pause_in_body = true},
                            {.pause_in_body = true},
                            {.pause_in_body = true}};

    (void)state;
    for (int i = 0; i < 3; i++)
        submit(&calls[i], &request);
    for (int i = 0; i < 3; i++)
        run_until_paused(&calls[i]);
    run_for(50);
    calls[0].cancel_in_body = calls[0].id;
    calls[1].cancel_in_body = calls[2].id;
    calls[1].stop_in_body = true;
    for (int i = 0; i < 3; i++) {
        calls[i].pause_in_body = false;
        resume_call(&calls[i]);
    }
    while (http_stats(http).in_flight > 0)
        run_for(1);
    run_for(20);
    assert_false(calls[0].done);
    assert_false(calls[2].done);
    assert_int_equal(calls[1].outcome.end, HTTP_STOPPED);
    finish(server);
    for (int i = 0; i < 3; i++)
        forget(&calls[i]);
}

static void what_is_paused_ends_silently_with_the_layer(void **state)
{
    struct server *server = server_start(pour);
    struct http_request request = pausable(server);
    struct call calls[3] = {{.pause_in_body = true},
                            {.pause_in_headers = true},
                            {.pause_in_body = true}};

    (void)state;
    for (int i = 0; i < 3; i++)
        submit(&calls[i], &request);
    for (int i = 0; i < 3; i++)
        run_until_paused(&calls[i]);
    run_for(20);
    resume_call(&calls[2]);
    finish(server);
    for (int i = 0; i < 3; i++) {
        assert_false(calls[i].done);
        forget(&calls[i]);
    }
}

static void only_what_is_pausable_is_paused(void **state)
{
    struct server *server = server_start(answer_each);
    struct http_request request = request_to(server_url(server));
    struct call call = {0};

    (void)state;
    submit(&call, &request);
    http_pause(http, call.id);
    http_resume(http, call.id);
    http_pause(http, call.id);
    http_pause(http, call.id + 1);
    http_resume(http, 0);
    loop_run(&loop);
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    finish(server);
    forget(&call);
}

static void what_is_paused_holds_up_nobody_else(void **state)
{
    enum { PAUSED = 10, OTHERS = 100 };
    struct server *server = server_start(pour);
    struct http_request request = pausable(server);
    struct call *calls = mem_alloc((PAUSED + OTHERS) * sizeof(*calls));

    (void)state;
    for (int i = 0; i < PAUSED; i++) {
        calls[i].pause_in_body = true;
        submit(&calls[i], &request);
    }
    for (int i = 0; i < PAUSED; i++)
        run_until_paused(&calls[i]);
    run_until_standstill(server);
    waiting = 0;
    server->script = answer_each;
    request.headers_timeout_ms = GIVE_UP_MS;
    for (int i = PAUSED; i < PAUSED + OTHERS; i++) {
        request.pausable = i % 2 == 0;
        submit(&calls[i], &request);
    }
    loop_run(&loop);
    for (int i = PAUSED; i < PAUSED + OTHERS; i++)
        assert_int_equal(calls[i].outcome.end, HTTP_WHOLE);
    finish(server);
    for (int i = 0; i < PAUSED + OTHERS; i++)
        forget(&calls[i]);
    mem_free(calls);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_paused_transfer_stops_its_server),
        TEST(nothing_is_lost_or_twice_however_often_it_is_paused),
        TEST(a_callback_may_pause_and_resume),
        TEST(a_transfer_may_be_paused_before_it_starts),
        TEST(a_transfer_that_cannot_start_fails_paused_or_not),
        TEST(the_end_comes_after_the_resume),
        TEST(a_bomb_goes_off_within_the_limit_of_the_body),
        TEST(what_is_held_is_handed_out_in_pieces),
        TEST(the_total_time_goes_on_while_paused),
        TEST(a_whole_answer_that_is_not_fetched_times_out),
        TEST(a_paused_transfer_can_be_cancelled),
        TEST(a_resumed_transfer_can_be_cancelled_or_stopped),
        TEST(what_is_paused_ends_silently_with_the_layer),
        TEST(only_what_is_pausable_is_paused),
        TEST(what_is_paused_holds_up_nobody_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
