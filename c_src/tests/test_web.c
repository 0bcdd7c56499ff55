#include "tests/unit.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "llm_router/base/mem.h"
#include "llm_router/web/page.h"
#include "llm_router/web/web.h"
#include "web/web_internal.h"

enum {
    PATIENCE_MS = 10000, /* until a test gives up */
    REQUEST_MS = 300,
    CONNECTIONS = 8,
    CLIENT_MAX = 64 * 1024,
    LARGE = 4 * 1024 * 1024,
};

static struct loop loop;
static struct web *web;
static int answered;

struct client {
    int fd;
    bool ended;
    size_t size;
    char text[CLIENT_MAX]; /* what came, NUL-terminated; the first of it */
};

static void answer_small(void *context, struct web_reply *reply)
{
    answered++;
    assert_ptr_equal(context, &loop);
    buf_append_text(&reply->body, "small\n");
}

static void answer_page(void *context, struct web_reply *reply)
{
    (void)context;
    reply->status = 503;
    reply->content_type = "text/html; charset=utf-8";
    reply->policy = "default-src 'self'";
    buf_append_text(&reply->body, "<p>");
}

static void answer_large(void *context, struct web_reply *reply)
{
    (void)context;
    assert_true(buf_reserve(&reply->body, LARGE));
    memset(reply->body.data, 'x', LARGE);
    reply->body.size = LARGE;
}

static void answer_too_large(void *context, struct web_reply *reply)
{
    (void)context;
    buf_reserve(&reply->body, WEB_BODY_MAX + 1);
}

static const struct web_route ROUTES[] = {
    {"/", answer_small},
    {"/page", answer_page},
    {"/large", answer_large},
    {"/too_large", answer_too_large},
};

static struct web *start_at(const char *host, uint16_t port, struct error *err)
{
    const struct web_options options = {
        .host = host,
        .port = port,
        .routes = ROUTES,
        .route_count = sizeof(ROUTES) / sizeof(ROUTES[0]),
        .context = &loop,
        .max_connections = CONNECTIONS,
        .request_ms = REQUEST_MS,
    };

    return web_start(&loop, &options, err);
}

static void open_at(const char *host)
{
    struct error err;

    signal(SIGPIPE, SIG_IGN);
    answered = 0;
    loop_init(&loop);
    web = start_at(host, 0, &err);
    assert_non_null(web);
}

static int open_loopback(void **state)
{
    (void)state;
    open_at("127.0.0.1");
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    web_free(web);
    loop_release(&loop);
    return 0;
}

static uint64_t now_ms(void)
{
    return loop_now_ns() / 1000000;
}

static void turn(void)
{
    uv_run(&loop.uv, UV_RUN_NOWAIT);
    usleep(200);
}

static void run_for(uint64_t ms)
{
    uint64_t until = now_ms() + ms;

    while (now_ms() < until)
        turn();
}

static struct client *connect_to(const char *host)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET,
                             .sin_port = htons(web_port(web))};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons(web_port(web))};
    struct client *client = mem_alloc(sizeof(*client));
    int result;

    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        client->fd = socket(AF_INET, SOCK_STREAM, 0);
        result = connect(client->fd, (struct sockaddr *)&v4, sizeof(v4));
    } else {
        assert_int_equal(inet_pton(AF_INET6, host, &v6.sin6_addr), 1);
        client->fd = socket(AF_INET6, SOCK_STREAM, 0);
        result = connect(client->fd, (struct sockaddr *)&v6, sizeof(v6));
    }
    assert_int_equal(result, 0);
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    return client;
}

static struct client *visit(void)
{
    return connect_to("127.0.0.1");
}

static void leave(struct client *client)
{
    close(client->fd);
    mem_free(client);
}

static void say(struct client *client, const char *text)
{
    ssize_t sent = send(client->fd, text, strlen(text), MSG_NOSIGNAL);

    if (sent < 0) /* was closed */
        assert_true(errno == EPIPE || errno == ECONNRESET);
    else
        assert_int_equal(sent, strlen(text));
}

/* What is over CLIENT_MAX is thrown away. */
static void hear(struct client *client)
{
    char rest[16 * 1024];

    for (;;) {
        size_t room = CLIENT_MAX - 1 - client->size;
        ssize_t count =
            room > 0 ? recv(client->fd, client->text + client->size, room, 0)
                     : recv(client->fd, rest, sizeof(rest), 0);

        if (count == 0 || (count < 0 && errno == ECONNRESET))
            client->ended = true;
        if (count <= 0)
            return;
        if (room > 0)
            client->size += (size_t)count;
    }
}

static void await_text(struct client *client, const char *text)
{
    uint64_t until = now_ms() + PATIENCE_MS;

    do {
        turn();
        hear(client);
    } while (!strstr(client->text, text) && !client->ended && now_ms() < until);
    if (!strstr(client->text, text))
        fail_msg("no %s in: %.2000s", text, client->text);
}

static void await_end(struct client *client)
{
    uint64_t until = now_ms() + PATIENCE_MS;

    while (!client->ended && now_ms() < until) {
        turn();
        hear(client);
    }
    assert_true(client->ended);
}

/* A whole request, and all that comes until the server closes. */
static struct client *ask(const char *request)
{
    struct client *client = visit();

    say(client, request);
    await_end(client);
    return client;
}

#define assert_has(client, expected)                                 \
    do {                                                             \
        if (!strstr((client)->text, expected))                       \
            fail_msg("no %s in: %.2000s", expected, (client)->text); \
    } while (0)

static void assert_answer(const char *request, const char *expected)
{
    struct client *client = ask(request);

    assert_has(client, expected);
    leave(client);
}

static void assert_served(void)
{
    assert_answer("GET / HTTP/1.1\r\nHost: localhost\r\n"
                  "Connection: close\r\n\r\n",
                  "\r\n\r\nsmall\n");
}

static size_t descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    size_t count = 0;

    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void await_descriptors(size_t count)
{
    uint64_t until = now_ms() + PATIENCE_MS;

    while (descriptors() != count && now_ms() < until)
        turn();
    assert_int_equal(descriptors(), count);
}

static void a_path_of_the_table_is_answered(void **state)
{
    struct client *client = ask("GET /?query=1 HTTP/1.1\r\n"
                                "Host: localhost:9464\r\n"
                                "Connection: close\r\n\r\n");

    (void)state;
    assert_has(client, "HTTP/1.1 200 OK\r\n");
    assert_has(client, "\r\nContent-Type: text/plain; charset=utf-8\r\n");
    assert_has(client, "\r\nContent-Length: 6\r\n");
    assert_has(client, "\r\n\r\nsmall\n");
    assert_int_equal(answered, 1);
    leave(client);
}

static void a_handler_chooses_status_type_and_policy(void **state)
{
    struct client *client = ask("GET /page HTTP/1.0\r\n\r\n");

    (void)state;
    assert_has(client, " 503 Service Unavailable\r\n");
    assert_has(client, "\r\nContent-Type: text/html; charset=utf-8\r\n");
    assert_has(client, "\r\nContent-Security-Policy: default-src 'self'\r\n");
    assert_has(client, "\r\n\r\n<p>");
    leave(client);
}

static void every_answer_says_how_little_a_browser_may_do_with_it(void **state)
{
    static const char *const REQUESTS[] = {
        "GET / HTTP/1.0\r\n\r\n",
        "GET /none HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: example.com\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(REQUESTS) / sizeof(REQUESTS[0]); i++) {
        struct client *client = ask(REQUESTS[i]);

        assert_has(client, "\r\nContent-Security-Policy: default-src 'none'; "
                           "frame-ancestors 'none'\r\n");
        assert_has(client, "\r\nCache-Control: no-store\r\n");
        assert_has(client, "\r\nX-Content-Type-Options: nosniff\r\n");
        assert_has(client, "\r\nX-Frame-Options: DENY\r\n");
        assert_has(client, "\r\nReferrer-Policy: no-referrer\r\n");
        assert_has(client, "\r\nCross-Origin-Resource-Policy: same-origin\r\n");
        assert_null(strstr(client->text, "Access-Control"));
        leave(client);
    }
}

static void head_is_answered_without_the_body(void **state)
{
    struct client *client = ask("HEAD / HTTP/1.1\r\nHost: localhost\r\n"
                                "Connection: close\r\n\r\n");

    (void)state;
    assert_has(client, " 200 OK\r\n");
    assert_has(client, "\r\nContent-Length: 6\r\n");
    assert_null(strstr(client->text, "small"));
    leave(client);
}

static void other_paths_and_methods_are_refused(void **state)
{
    (void)state;
    assert_answer("GET /none HTTP/1.0\r\n\r\n", " 404 Not Found\r\n");
    assert_answer("GET /../ HTTP/1.0\r\n\r\n", " 404 Not Found\r\n");
    assert_answer("GET /page/ HTTP/1.0\r\n\r\n", " 404 Not Found\r\n");
    assert_answer("POST / HTTP/1.0\r\n\r\n", " 405 Method Not Allowed\r\n");
    assert_answer("DELETE / HTTP/1.0\r\n\r\n", "\r\nAllow: GET, HEAD\r\n");
    assert_int_equal(answered, 0);
    assert_served();
}

static void a_request_with_a_body_is_refused_and_the_body_not_read(void **state)
{
    static const char *const REQUESTS[] = {
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Length: 99999999999\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: localhost\r\n"
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(REQUESTS) / sizeof(REQUESTS[0]); i++)
        assert_answer(REQUESTS[i], "HTTP/1.1 413 ");
    assert_answer("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                  "Connection: close\r\n\r\n",
                  " 200 OK\r\n");
    assert_int_equal(answered, 1);
}

static void
a_loopback_server_answers_to_names_of_the_loopback_only(void **state)
{
    static const struct {
        const char *host;
        bool loopback;
    } HOSTS[] = {
        {"localhost", true},
        {"LocalHost:9464", true},
        {"127.0.0.1", true},
        {"127.9.9.9:80", true},
        {"[::1]", true},
        {"[::1]:9464", true},
        {"example.com", false},
        {"localhost.example.com", false},
        {"127.0.0.1.example", false},
        {"192.0.2.1:9464", false},
        {"[::2]", false},
        {"[::1", true},
        {"", false},
        {":9464", false},
        {"[]", false},
        {"1", false},
        {"[127.0.0.1.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19]", false},
    };
    char request[256];

    (void)state;
    for (size_t i = 0; i < sizeof(HOSTS) / sizeof(HOSTS[0]); i++) {
        assert_int_equal(door_names_loopback(slice_of(HOSTS[i].host)),
                         HOSTS[i].loopback);
        snprintf(request, sizeof(request),
                 "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
                 HOSTS[i].host);
        assert_answer(request, HOSTS[i].loopback ? " 200 OK\r\n" : " 421 ");
    }
}

static void an_ipv4_loopback_written_as_ipv6_is_one_too(void **state)
{
    (void)state;
    open_at("::ffff:127.0.0.1");
    assert_answer("GET / HTTP/1.0\r\nHost: example.com\r\n\r\n", " 421 ");
    close_all(NULL);
}

static void another_address_answers_to_any_name(void **state)
{
    (void)state;
    open_at("0.0.0.0");
    assert_answer("GET / HTTP/1.1\r\nHost: router.example.com\r\n"
                  "Connection: close\r\n\r\n",
                  " 200 OK\r\n");
    close_all(NULL);
}

static void one_address_of_ipv6_is_both_families(void **state)
{
    static const char *const HOSTS[] = {"127.0.0.1", "::1"};

    (void)state;
    open_at("::");
    for (size_t i = 0; i < 2; i++) {
        struct client *client = connect_to(HOSTS[i]);

        say(client, "GET / HTTP/1.0\r\n\r\n");
        await_text(client, "\r\n\r\nsmall\n");
        leave(client);
    }
    close_all(NULL);
    open_at("::1");
    assert_non_null(web);
    close_all(NULL);
    open_at("localhost");
    assert_answer("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", " 421 ");
    close_all(NULL);
}

static void a_connection_serves_many_requests(void **state)
{
    struct client *client = visit();
    uint64_t until = now_ms() + 3 * REQUEST_MS;
    int count = 0;

    (void)state;
    while (now_ms() < until) {
        say(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        await_text(client, "\r\n\r\nsmall\n");
        client->size = 0;
        memset(client->text, 0, CLIENT_MAX);
        count++;
    }
    assert_false(client->ended);
    assert_int_equal(answered, count);
    leave(client);
}

static void pipelined_requests_are_answered_in_their_order(void **state)
{
    struct client *client = ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
                                "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"
                                "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
                                "GET /page HTTP/1.1\r\nHost: localhost\r\n"
                                "Connection: close\r\n\r\n");
    const char *first = strstr(client->text, "small");
    const char *second = strstr(client->text, " 404 ");
    const char *third = strstr(client->text, "<p>");

    (void)state;
    assert_true(first && second && third && first < second && second < third);
    leave(client);
}

/* They were all there before the turn in which they are read. */
static void all_who_ask_at_once_get_one_answer(void **state)
{
    struct client *clients[CONNECTIONS];

    (void)state;
    for (size_t i = 0; i < CONNECTIONS; i++)
        clients[i] = visit();
    run_for(20);
    for (size_t i = 0; i < CONNECTIONS; i++)
        say(clients[i],
            i % 2 ? "GET / HTTP/1.0\r\n\r\n" : "HEAD / HTTP/1.0\r\n\r\n");
    for (size_t i = 0; i < CONNECTIONS; i++)
        await_end(clients[i]);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        assert_has(clients[i], " 200 OK\r\n");
        assert_int_equal(strstr(clients[i]->text, "small\n") != NULL, i % 2);
        leave(clients[i]);
    }
    assert_int_equal(answered, 1);
    assert_served();
    assert_int_equal(answered, 2);
}

static void a_head_that_is_too_long_is_refused(void **state)
{
    static char request[2 * WEB_HEADER_MAX];

    (void)state;
    memset(request, 'a', sizeof(request) - 1);
    memcpy(request, "GET / HTTP/1.1\r\nX: ", 19);
    assert_answer(request, "HTTP/1.1 431 ");
    memset(request, 'a', sizeof(request) - 1);
    memcpy(request, "GET /", 5);
    assert_answer(request, "HTTP/1.1 414 ");
    assert_served();
}

static void what_is_no_http_is_closed(void **state)
{
    static const char *const TEXTS[] = {
        "\x16\x03\x01\x02\x01 client hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n", /* no Host */
        "\r\n\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(TEXTS) / sizeof(TEXTS[0]); i++)
        leave(ask(TEXTS[i]));
    assert_int_equal(answered, 0);
    assert_served();
}

static void an_answer_over_the_limit_is_an_error(void **state)
{
    (void)state;
    assert_answer("GET /too_large HTTP/1.0\r\n\r\n",
                  " 500 Internal Server Error\r\n");
}

static void who_trickles_is_cut_off(void **state)
{
    struct client *client = visit();
    uint64_t start = now_ms();

    (void)state;
    say(client, "GET / HTTP/1.1\r\nX: ");
    while (!client->ended && now_ms() < start + PATIENCE_MS) {
        say(client, "a");
        run_for(20);
        hear(client);
    }
    assert_true(client->ended);
    assert_true(now_ms() - start >= REQUEST_MS);
    leave(client);
}

static void who_says_nothing_is_closed(void **state)
{
    struct client *client = visit();
    struct client *again = visit();

    (void)state;
    say(again, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await_text(again, "\r\n\r\nsmall\n");
    await_end(client);
    await_end(again);
    leave(client);
    leave(again);
}

static void who_never_reads_holds_nobody_up(void **state)
{
    size_t before = descriptors();
    struct client *clients[CONNECTIONS / 2];

    (void)state;
    for (size_t i = 0; i < CONNECTIONS / 2; i++) {
        clients[i] = visit();
        say(clients[i], "GET /large HTTP/1.0\r\n\r\n");
    }
    run_for(20);
    assert_served();
    run_for(3 * REQUEST_MS);
    await_descriptors(before + CONNECTIONS / 2);
    for (size_t i = 0; i < CONNECTIONS / 2; i++)
        leave(clients[i]);
}

static void a_large_answer_arrives_whole(void **state)
{
    struct client *client = visit();
    size_t size = 0;
    uint64_t until = now_ms() + PATIENCE_MS;

    (void)state;
    say(client, "GET /large HTTP/1.0\r\n\r\n");
    while (!client->ended && now_ms() < until) {
        char bytes[64 * 1024];
        ssize_t count = recv(client->fd, bytes, sizeof(bytes), 0);

        client->ended = count == 0;
        size += count > 0 ? (size_t)count : 0;
        turn();
    }
    assert_true(client->ended);
    assert_true(size > LARGE && size < LARGE + 2048);
    leave(client);
}

static void whoever_has_waited_longest_gives_way(void **state)
{
    struct client *clients[CONNECTIONS];

    (void)state;
    for (size_t i = 0; i < CONNECTIONS; i++) {
        clients[i] = visit();
        say(clients[i], "GET / HTTP/1.1\r\nHost: ");
        turn();
    }
    assert_served();
    hear(clients[0]);
    hear(clients[1]);
    assert_true(clients[0]->ended);
    assert_false(clients[1]->ended);
    say(clients[1], "localhost\r\n\r\n");
    await_text(clients[1], "\r\n\r\nsmall\n");
    for (size_t i = 0; i < CONNECTIONS; i++)
        leave(clients[i]);
}

static void a_thousand_connections_leave_nothing_behind(void **state)
{
    size_t before = descriptors();
    struct client *clients[1000];
    struct rlimit limit;

    (void)state;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (size_t i = 0; i < 1000; i++) {
        clients[i] = visit();
        say(clients[i], i % 2 ? "GET / HTTP/1.1\r\nHo" : "");
        turn();
        assert_true(descriptors() <= before + i + 1 + CONNECTIONS + 16);
    }
    assert_served();
    assert_true(loop_longest_stall_ms(&loop) < 1000);
    for (size_t i = 0; i < 1000; i++)
        leave(clients[i]);
    await_descriptors(before);
}

static void stop(void *context)
{
    loop_stop(context);
}

/* Without descriptors there is nothing to do: no connection, but no busy loop
 * either. */
static void without_descriptors_accepting_rests(void **state)
{
    struct loop_timer timer = {0};
    struct rlimit limit, none;
    struct client *client;
    uint64_t turns;

    (void)state;
    run_for(20);
    client = visit();
    say(client, "GET / HTTP/1.0\r\n\r\n");
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    turns = loop.turns;
    loop_timer_start(&loop, &timer, 300, stop, &loop);
    loop_run(&loop);
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_true(loop.turns - turns < 50);
    assert_int_equal(answered, 0);
    assert_served();
    leave(client);
}

static void the_end_closes_everything_at_once(void **state)
{
    size_t before = descriptors();
    struct client *client, *reader;

    (void)state;
    open_at("127.0.0.1");
    client = visit();
    reader = visit();
    say(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    say(reader, "GET /large HTTP/1.0\r\n\r\n");
    await_text(client, "\r\n\r\nsmall\n");
    web_free(web);
    client->size = 0;
    hear(client);
    assert_true(client->ended);
    loop_release(&loop);
    leave(client);
    leave(reader);
    assert_int_equal(descriptors(), before);
}

static void it_cannot_start_where_it_must_not(void **state)
{
    static const struct {
        const char *host;
        enum error_code code;
        const char *message;
    } FAULTS[] = {
        {"192.0.2.1", ERR_UNREACHABLE,
         "cannot serve HTTP at 192.0.2.1 port 9464: "
         "Cannot assign requested address"},
        {"example.com", ERR_INVALID_REQUEST,
         "cannot serve HTTP at example.com port 9464: the host must be a "
         "numeric address or localhost"},
        {"", ERR_INVALID_REQUEST,
         "cannot serve HTTP at  port 9464: the host must be a "
         "numeric address or localhost"},
    };
    struct error err;
    char expected[128];
    size_t before = descriptors();

    (void)state;
    for (size_t i = 0; i < sizeof(FAULTS) / sizeof(FAULTS[0]); i++) {
        assert_null(start_at(FAULTS[i].host, 9464, &err));
        assert_int_equal(err.code, FAULTS[i].code);
        assert_string_equal(err.message, FAULTS[i].message);
    }
    assert_null(start_at("127.0.0.1", web_port(web), &err));
    snprintf(expected, sizeof(expected),
             "cannot serve HTTP at 127.0.0.1 port %u: Address already in use",
             web_port(web));
    assert_string_equal(err.message, expected);
    assert_int_equal(descriptors(), before);
    web_free(NULL);
}

/* The hashes are openssl's: printf 'alert(1)' | openssl dgst -sha256 -binary |
 * base64 */
static void the_policy_of_a_page_allows_its_own_elements_only(void **state)
{
    struct buf policy;

    (void)state;
    buf_init(&policy, 4096);
    page_policy(SLICE_LITERAL("<style>p{}</style><script>alert(1)</script>"
                              "<p><script></script><script>open"),
                &policy);
    assert_slice(
        buf_slice(&policy),
        "default-src 'none'; "
        "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI=' "
        "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; "
        "style-src 'sha256-gG2yISYereRMiG2lMXrbiUgi0Ubw9p7QCeWcroOvy9Y='; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action "
        "'none'; "
        "frame-ancestors 'none'");
    buf_release(&policy);
}

#define ON_LOOPBACK(test) \
    cmocka_unit_test_setup_teardown(test, open_loopback, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_LOOPBACK(a_path_of_the_table_is_answered),
        ON_LOOPBACK(a_handler_chooses_status_type_and_policy),
        ON_LOOPBACK(every_answer_says_how_little_a_browser_may_do_with_it),
        ON_LOOPBACK(head_is_answered_without_the_body),
        ON_LOOPBACK(other_paths_and_methods_are_refused),
        ON_LOOPBACK(a_request_with_a_body_is_refused_and_the_body_not_read),
        ON_LOOPBACK(a_loopback_server_answers_to_names_of_the_loopback_only),
        cmocka_unit_test(an_ipv4_loopback_written_as_ipv6_is_one_too),
        cmocka_unit_test(another_address_answers_to_any_name),
        cmocka_unit_test(one_address_of_ipv6_is_both_families),
        ON_LOOPBACK(a_connection_serves_many_requests),
        ON_LOOPBACK(pipelined_requests_are_answered_in_their_order),
        ON_LOOPBACK(all_who_ask_at_once_get_one_answer),
        ON_LOOPBACK(a_head_that_is_too_long_is_refused),
        ON_LOOPBACK(what_is_no_http_is_closed),
        ON_LOOPBACK(an_answer_over_the_limit_is_an_error),
        ON_LOOPBACK(who_trickles_is_cut_off),
        ON_LOOPBACK(who_says_nothing_is_closed),
        ON_LOOPBACK(who_never_reads_holds_nobody_up),
        ON_LOOPBACK(a_large_answer_arrives_whole),
        ON_LOOPBACK(whoever_has_waited_longest_gives_way),
        ON_LOOPBACK(a_thousand_connections_leave_nothing_behind),
        ON_LOOPBACK(without_descriptors_accepting_rests),
        cmocka_unit_test(the_end_closes_everything_at_once),
        ON_LOOPBACK(it_cannot_start_where_it_must_not),
        cmocka_unit_test(the_policy_of_a_page_allows_its_own_elements_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
