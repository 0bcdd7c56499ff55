/* The http layer over TLS: who is trusted, and HTTP/2 through nghttpx. */
#include "llm_router/http/http.h"

#include <fcntl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "test_http_server.h"

enum { GIVE_UP_MS = 30000, DAY = 24 * 3600 };

static char folder[] = "/tmp/llm_router_tls_XXXXXX";

/* Certificates */

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

static void add_extension(X509 *certificate, int kind, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, kind, value);

    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

/* `issuer` NULL: signs itself. `host` NULL: an authority. */
static struct identity make_identity(const struct identity *issuer,
                                     const char *host, long expires_in_s)
{
    static int serial = 1;
    struct identity made = {EVP_EC_gen("P-256"), X509_new()};
    X509_NAME *name = X509_get_subject_name(made.certificate);
    const char *common = host ? host : "Test Authority";

    X509_set_version(made.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.certificate), -2L * DAY);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), expires_in_s);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               (const unsigned char *)common, -1, -1, 0);
    X509_set_issuer_name(made.certificate,
                         issuer ? X509_get_subject_name(issuer->certificate)
                                : name);
    X509_set_pubkey(made.certificate, made.key);
    add_extension(made.certificate, NID_basic_constraints,
                  host ? "CA:FALSE" : "critical,CA:TRUE");
    if (host) {
        char names[100];

        snprintf(names, sizeof(names), "DNS:%s", host);
        add_extension(made.certificate, NID_subject_alt_name, names);
    }
    X509_sign(made.certificate, issuer ? issuer->key : made.key, EVP_sha256());
    return made;
}

static void free_identity(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
}

static const char *path_of(const char *name)
{
    static char paths[4][100];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void save(const struct identity *identity, const char *key_name,
                 const char *certificate_name)
{
    FILE *file = fopen(path_of(certificate_name), "w");

    PEM_write_X509(file, identity->certificate);
    fclose(file);
    if (!key_name)
        return;
    file = fopen(path_of(key_name), "w");
    PEM_write_PrivateKey(file, identity->key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
}

static struct identity authority, localhost, elsewhere, expired, stranger;

static int make_certificates(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    authority = make_identity(NULL, NULL, 10L * DAY);
    localhost = make_identity(&authority, "localhost", 10L * DAY);
    elsewhere = make_identity(&authority, "example.com", 10L * DAY);
    expired = make_identity(&authority, "localhost", -1L * DAY);
    stranger = make_identity(NULL, "localhost", 10L * DAY);
    save(&authority, NULL, "ca.pem");
    save(&localhost, "key.pem", "localhost.pem");
    return 0;
}

static int remove_certificates(void **state)
{
    (void)state;
    unlink(path_of("ca.pem"));
    unlink(path_of("key.pem"));
    unlink(path_of("localhost.pem"));
    rmdir(folder);
    free_identity(&authority);
    free_identity(&localhost);
    free_identity(&elsewhere);
    free_identity(&expired);
    free_identity(&stranger);
    return 0;
}

/* A TLS server */

static const struct identity *serving;
static atomic_int bytes_received; /* after the handshake */

static void serve_tls(struct server *server, int peer, int number)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    char bytes[1000];
    SSL *ssl;

    (void)server;
    (void)number;
    SSL_CTX_use_certificate(context, serving->certificate);
    SSL_CTX_use_PrivateKey(context, serving->key);
    ssl = SSL_new(context);
    SSL_set_fd(ssl, peer);
    if (SSL_accept(ssl) == 1) {
        int got = SSL_read(ssl, bytes, sizeof(bytes));
        static const char answer[] =
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n"
            "\r\nhello";

        if (got > 0) {
            bytes_received += got;
            SSL_write(ssl, answer, sizeof(answer) - 1);
            SSL_shutdown(ssl);
        }
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
}

/* A server that can be paused: zeros without end. */
static void pour_tls(struct server *server, int peer, int number)
{
    static const char zeros[16 * 1024];
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    char bytes[1000];
    SSL *ssl;

    (void)number;
    SSL_CTX_use_certificate(context, localhost.certificate);
    SSL_CTX_use_PrivateKey(context, localhost.key);
    ssl = SSL_new(context);
    SSL_set_fd(ssl, peer);
    if (SSL_accept(ssl) == 1 && SSL_read(ssl, bytes, sizeof(bytes)) > 0 &&
        SSL_write(ssl, "HTTP/1.1 200 OK\r\n\r\n", 19) == 19)
        while (SSL_write(ssl, zeros, sizeof(zeros)) > 0)
            server->sent += (long long)sizeof(zeros);
    SSL_free(ssl);
    SSL_CTX_free(context);
}

/* An HTTP/2 server, from its frames up: RFC 9113. */

enum {
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_RST_STREAM = 3,
    FRAME_SETTINGS = 4,
    FRAME_GOAWAY = 7,
    FLAG_END_STREAM = 1,
    FLAG_END_HEADERS = 4,
    FRAME_HEAD = 9,
    REFUSED_STREAM = 7,
    INTERNAL_ERROR = 2,
};

struct h2 {
    struct server *server;
    SSL *ssl;
    int number; /* of the connection */
    int stream; /* of the last request */
};

static bool h2_read(struct h2 *h2, void *bytes, size_t size)
{
    char *at = bytes;

    while (size > 0) {
        int got = SSL_read(h2->ssl, at, (int)size);

        if (got <= 0)
            return false;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

/* Up to the end of the next request. */
static bool h2_await_request(struct h2 *h2)
{
    unsigned char head[FRAME_HEAD], content[64 * 1024];

    while (h2_read(h2, head, sizeof(head))) {
        size_t size = (size_t)head[1] << 8 | head[2];

        if (head[0] != 0 || !h2_read(h2, content, size))
            return false;
        if (head[3] > FRAME_HEADERS || !(head[4] & FLAG_END_STREAM))
            continue;
        h2->stream = head[7] << 8 | head[8];
        h2->server->requests++;
        return true;
    }
    return false;
}

static bool h2_say(struct h2 *h2, int type, int flags, int stream,
                   struct slice content)
{
    char frame[FRAME_HEAD + 16 * 1024] = {
        0,
        (char)(content.size >> 8),
        (char)content.size,
        (char)type,
        (char)flags,
        0,
        0,
        (char)(stream >> 8),
        (char)stream,
    };
    int size = (int)(FRAME_HEAD + content.size);

    if (content.size > 0)
        memcpy(frame + FRAME_HEAD, content.data, content.size);
    return SSL_write(h2->ssl, frame, size) == size;
}

static bool h2_settings(struct h2 *h2)
{
    return h2_say(h2, FRAME_SETTINGS, 0, 0, slice_of(NULL));
}

/* ":status: 200" is one byte of HPACK. */
static bool h2_headers(struct h2 *h2)
{
    return h2_say(h2, FRAME_HEADERS, FLAG_END_HEADERS, h2->stream,
                  slice_of("\x88"));
}

static bool h2_answer(struct h2 *h2)
{
    return h2_headers(h2) && h2_say(h2, FRAME_DATA, FLAG_END_STREAM, h2->stream,
                                    slice_of("hello"));
}

static bool h2_reset(struct h2 *h2, char code)
{
    const char content[] = {0, 0, 0, code};

    return h2_say(h2, FRAME_RST_STREAM, 0, h2->stream,
                  slice_make(content, sizeof(content)));
}

/* Of later requests than `last` nothing was done. */
static bool h2_go_away(struct h2 *h2, int last)
{
    const char content[] = {0, 0, 0, (char)last, 0, 0, 0, 0};

    return h2_say(h2, FRAME_GOAWAY, 0, 0, slice_make(content, sizeof(content)));
}

static void h2_await_close(struct h2 *h2)
{
    while (h2_await_request(h2))
        ;
}

static void (*h2_script)(struct h2 *h2);

static int choose_h2(SSL *ssl, const unsigned char **chosen,
                     unsigned char *chosen_size, const unsigned char *offered,
                     unsigned size, void *context)
{
    static const unsigned char wanted[] = "\x02h2";

    (void)ssl;
    (void)context;
    return SSL_select_next_proto((unsigned char **)chosen, chosen_size, wanted,
                                 3, offered, size) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void serve_h2(struct server *server, int peer, int number)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    struct h2 h2 = {server, SSL_new(context), number, 0};
    char preface[24];

    SSL_CTX_set_alpn_select_cb(context, choose_h2, NULL);
    SSL_use_certificate(h2.ssl, localhost.certificate);
    SSL_use_PrivateKey(h2.ssl, localhost.key);
    SSL_set_fd(h2.ssl, peer);
    if (SSL_accept(h2.ssl) == 1 && h2_read(&h2, preface, sizeof(preface)))
        h2_script(&h2);
    SSL_free(h2.ssl);
    SSL_CTX_free(context);
}

/* A client */

static struct loop loop;
static struct http *http;
static struct loop_timer watchdog, timer;
static int waiting;

struct call {
    uint64_t id;
    bool done;
    struct http_outcome outcome;
    size_t body_bytes;
};

static void give_up(void *context)
{
    (void)context;
    fail_msg("nothing happens any more");
}

static void start_client(const char *ca_file)
{
    const struct http_options options = {
        .max_idle_connections = 64,
        .max_idle_age_s = 60,
        .ca_file = ca_file,
    };

    signal(SIGPIPE, SIG_IGN);
    loop_init(&loop);
    http = http_new(&loop, &options);
    loop_timer_start(&loop, &watchdog, GIVE_UP_MS, give_up, NULL);
    waiting = 0;
}

static void stop_client(void)
{
    http_free(http);
    loop_timer_stop(&watchdog);
    loop_timer_stop(&timer);
    loop_release(&loop);
}

static bool on_body(void *context, uint64_t transfer, struct slice bytes)
{
    struct call *call = context;

    (void)transfer;
    call->body_bytes += bytes.size;
    return true;
}

static void on_done(void *context, uint64_t transfer,
                    const struct http_outcome *outcome)
{
    struct call *call = context;

    (void)transfer;
    call->done = true;
    call->outcome = *outcome;
    if (--waiting == 0)
        loop_stop(&loop);
}

static uint64_t short_headers_ms, short_total_ms; /* 0: as usual */
static bool pausable;

static void submit(struct call *call, const char *url)
{
    static const struct http_events events = {
        .on_body = on_body,
        .on_done = on_done,
    };
    const struct http_request request = {
        .url = url,
        .body = SLICE_LITERAL("{\"secret\":1}"),
        .connect_timeout_ms = 10000,
        .headers_timeout_ms = short_headers_ms ? short_headers_ms : 10000,
        .total_timeout_ms = short_total_ms ? short_total_ms : 20000,
        .max_body_bytes = pausable ? SIZE_MAX : 100000,
        .pausable = pausable,
    };

    *call = (struct call){.id = http_submit(http, &request, &events, call)};
    waiting++;
}

static void stop_loop(void *context)
{
    (void)context;
    loop_stop(&loop);
}

static void run_for(uint64_t ms)
{
    loop_timer_start(&loop, &timer, ms, stop_loop, NULL);
    loop_run(&loop);
}

static struct call ask(const struct identity *identity, const char *ca_file)
{
    struct server *server = server_start(serve_tls);
    struct call call;
    char url[100];

    serving = identity;
    bytes_received = 0;
    snprintf(url, sizeof(url), "https://localhost:%d/v1", server->port);
    start_client(ca_file);
    submit(&call, url);
    loop_run(&loop);
    stop_client();
    server_stop(server);
    return call;
}

static void a_server_of_the_given_authority_is_trusted(void **state)
{
    struct call call = ask(&localhost, path_of("ca.pem"));

    (void)state;
    assert_string_equal(call.outcome.error.message, "");
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_int_equal(call.body_bytes, 5);
}

static void expect_refused(const struct identity *identity, const char *ca_file,
                           const char *reason)
{
    struct call call = ask(identity, ca_file);

    assert_int_equal(call.outcome.end, HTTP_NO_ANSWER);
    assert_int_equal(call.outcome.error.code, ERR_UNREACHABLE);
    assert_non_null(strstr(call.outcome.error.message, "localhost:"));
    if (!strstr(call.outcome.error.message, reason))
        fail_msg("%s", call.outcome.error.message);
    assert_int_equal(bytes_received, 0);
}

static void nothing_is_sent_to_a_server_of_an_unknown_authority(void **state)
{
    (void)state;
    expect_refused(&stranger, path_of("ca.pem"), "self");
    expect_refused(&localhost, NULL, "unable to get local issuer");
}

static void nothing_is_sent_to_a_server_with_another_name(void **state)
{
    (void)state;
    expect_refused(&elsewhere, path_of("ca.pem"), "for another host");
}

static void nothing_is_sent_to_a_server_that_is_expired(void **state)
{
    (void)state;
    expect_refused(&expired, path_of("ca.pem"), "expired");
}

static void without_certificates_nobody_is_trusted(void **state)
{
    struct call call = ask(&localhost, "/no/such/file");

    (void)state;
    assert_int_equal(call.outcome.end, HTTP_NO_ANSWER);
    assert_non_null(strstr(call.outcome.error.message, "could not be read"));
}

static void certificates_that_could_not_be_read_are_read_again(void **state)
{
    struct server *server = server_start(serve_tls);
    struct call early, late;
    char file[200], url[100];

    (void)state;
    serving = &localhost;
    snprintf(file, sizeof(file), "%s", path_of("late.pem"));
    snprintf(url, sizeof(url), "https://localhost:%d/v1", server->port);
    start_client(file);
    submit(&early, url);
    loop_run(&loop);
    assert_int_equal(early.outcome.end, HTTP_NO_ANSWER);
    assert_int_equal(symlink("ca.pem", file), 0);
    run_for(1100);
    submit(&late, url);
    loop_run(&loop);
    unlink(file);
    assert_int_equal(late.outcome.end, HTTP_WHOLE);
    stop_client();
    server_stop(server);
}

static void a_server_that_is_not_tls_is_named(void **state)
{
    int port, listener = listen_on_loopback(1, &port);
    struct call call;
    char url[100];

    (void)state;
    close(listener);
    snprintf(url, sizeof(url), "https://localhost:%d/v1", port);
    start_client(path_of("ca.pem"));
    submit(&call, url);
    loop_run(&loop);
    stop_client();
    assert_int_equal(call.outcome.end, HTTP_NO_ANSWER);
    assert_non_null(strstr(call.outcome.error.message, "refused"));
}

static void a_layer_that_ends_while_certificates_are_read_is_fine(void **state)
{
    struct call call;

    (void)state;
    start_client(NULL);
    submit(&call, "https://localhost:1/");
    run_for(0);
    stop_client();
    assert_false(call.done);
}

/* HTTP/2 */

static void answer_each(struct server *server, int peer, int number)
{
    (void)number;
    while (server_read(server, peer)) {
        sleep_ms(20);
        if (!server_say(peer,
                        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
            return;
    }
}

/* Scripts of the HTTP/2 server. */

static void h2_silent(struct h2 *h2)
{
    h2_await_close(h2);
}

static void h2_answer_each(struct h2 *h2)
{
    h2_settings(h2);
    while (h2_await_request(h2))
        h2_answer(h2);
}

static void h2_silent_after_headers(struct h2 *h2)
{
    if (h2_settings(h2) && h2_await_request(h2) && h2_headers(h2))
        h2_await_close(h2);
}

static void h2_cut(struct h2 *h2)
{
    if (h2_settings(h2) && h2_await_request(h2) && h2_headers(h2))
        h2_say(h2, FRAME_DATA, 0, h2->stream, slice_of("hel"));
}

static void h2_fail(struct h2 *h2)
{
    if (h2_settings(h2) && h2_await_request(h2) && h2_reset(h2, INTERNAL_ERROR))
        h2_await_close(h2);
}

static void h2_fail_in_body(struct h2 *h2)
{
    if (h2_settings(h2) && h2_await_request(h2) && h2_headers(h2) &&
        h2_say(h2, FRAME_DATA, 0, h2->stream, slice_of("hel")) &&
        h2_reset(h2, INTERNAL_ERROR))
        h2_await_close(h2);
}

/* Each first connection refuses what the second answers. */
static void h2_refuse_first(struct h2 *h2)
{
    if (h2->number > 0)
        h2_answer_each(h2);
    else if (h2_settings(h2) && h2_await_request(h2) &&
             h2_reset(h2, REFUSED_STREAM))
        h2_await_close(h2);
}

static void h2_go_away_first(struct h2 *h2)
{
    if (h2->number > 0)
        h2_answer_each(h2);
    else if (h2_settings(h2) && h2_await_request(h2) && h2_go_away(h2, 0))
        h2_await_close(h2);
}

static void h2_go_away_in_body(struct h2 *h2)
{
    if (h2->number > 0) {
        h2_answer_each(h2);
        return;
    }
    if (h2_settings(h2) && h2_await_request(h2) && h2_headers(h2) &&
        h2_say(h2, FRAME_DATA, 0, h2->stream, slice_of("hel")) &&
        h2_go_away(h2, h2->stream) &&
        h2_say(h2, FRAME_DATA, FLAG_END_STREAM, h2->stream, slice_of("lo")))
        h2_await_close(h2);
}

static void h2_pour(struct h2 *h2)
{
    static const char zeros[16 * 1024];

    if (h2_settings(h2) && h2_await_request(h2) && h2_headers(h2))
        while (h2_say(h2, FRAME_DATA, 0, h2->stream,
                      slice_make(zeros, sizeof(zeros))))
            ;
}

static char h2_url[100];

static struct server *start_h2(void (*script)(struct h2 *h2))
{
    struct server *server = server_start(serve_h2);

    h2_script = script;
    snprintf(h2_url, sizeof(h2_url), "https://localhost:%d/v1", server->port);
    start_client(path_of("ca.pem"));
    return server;
}

static void stop_h2(struct server *server)
{
    stop_client();
    server_stop(server);
}

static void expect_h2(void (*script)(struct h2 *h2), enum http_end end,
                      const char *message)
{
    struct server *server = start_h2(script);
    struct call call;

    submit(&call, h2_url);
    loop_run(&loop);
    assert_int_equal(call.outcome.end, end);
    if (!strstr(call.outcome.error.message, message))
        fail_msg("%s", call.outcome.error.message);
    assert_int_equal(server->requests, 1);
    stop_h2(server);
}

static void an_http2_server_without_a_word_times_out(void **state)
{
    (void)state;
    short_headers_ms = 200;
    expect_h2(h2_silent, HTTP_TIMEOUT, "no answer within 200 ms");
    short_headers_ms = 0;
}

static void http2_headers_and_then_silence_time_out(void **state)
{
    (void)state;
    short_total_ms = 300;
    expect_h2(h2_silent_after_headers, HTTP_TIMEOUT,
              "not complete within 300 ms in all");
    short_total_ms = 0;
}

static void a_cut_http2_answer_is_told_from_a_whole_one(void **state)
{
    (void)state;
    expect_h2(h2_cut, HTTP_CUT, "answer of localhost:");
}

static void a_reset_stream_is_no_answer_or_a_cut_one(void **state)
{
    (void)state;
    expect_h2(h2_fail, HTTP_NO_ANSWER, "waiting for localhost:");
    expect_h2(h2_fail_in_body, HTTP_CUT, "answer of localhost:");
}

static void an_endless_http2_body_is_too_large(void **state)
{
    (void)state;
    expect_h2(h2_pour, HTTP_TOO_LARGE, "100000 bytes");
}

/* The server says that it did nothing: curl asks once more. */
static void a_refused_stream_is_asked_for_again(void **state)
{
    struct server *server = start_h2(h2_refuse_first);
    struct call call;

    (void)state;
    submit(&call, h2_url);
    loop_run(&loop);
    assert_string_equal(call.outcome.error.message, "");
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    assert_int_equal(call.body_bytes, 5);
    assert_int_equal(server->requests, 2);
    stop_h2(server);
}

/* The next call goes over a new connection, whatever became of this one. */
static void expect_after_go_away(void (*script)(struct h2 *h2),
                                 enum http_end end)
{
    struct server *server = start_h2(script);
    struct call call, next;

    submit(&call, h2_url);
    loop_run(&loop);
    if (call.outcome.end != end)
        fail_msg("%d %s", call.outcome.end, call.outcome.error.message);
    submit(&next, h2_url);
    loop_run(&loop);
    assert_int_equal(next.outcome.end, HTTP_WHOLE);
    assert_int_equal(server->connections, 2);
    stop_h2(server);
}

static void a_connection_that_goes_away_is_not_used_again(void **state)
{
    (void)state;
    expect_after_go_away(h2_go_away_in_body, HTTP_WHOLE);
    expect_after_go_away(h2_go_away_first, HTTP_NO_ANSWER);
}

struct proxy {
    pid_t pid;
    int port;
    struct server *behind;
};

static bool can_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port)};
    int probe = socket(AF_INET, SOCK_STREAM, 0);
    bool ok;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ok = connect(probe, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(probe);
    return ok;
}

static struct proxy start_proxy(void)
{
    struct proxy proxy = {.behind = server_start(answer_each)};
    int listener = listen_on_loopback(1, &proxy.port);
    char front[50], back[50], key[120], certificate[120];

    close(listener);
    snprintf(front, sizeof(front), "-f127.0.0.1,%d", proxy.port);
    snprintf(back, sizeof(back), "-b127.0.0.1,%d", proxy.behind->port);
    snprintf(key, sizeof(key), "%s/key.pem", folder);
    snprintf(certificate, sizeof(certificate), "%s/localhost.pem", folder);
    proxy.pid = fork();
    if (proxy.pid == 0) {
        int null = open("/dev/null", O_WRONLY);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execlp("nghttpx", "nghttpx", "--conf=/dev/null", "--no-ocsp", "-LFATAL",
               front, back, "--backend-connections-per-host=1000", key,
               certificate, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 200 && !can_connect(proxy.port); i++)
        sleep_ms(10);
    return proxy;
}

static void stop_proxy(struct proxy *proxy)
{
    kill(proxy->pid, SIGKILL);
    waitpid(proxy->pid, NULL, 0);
    server_stop(proxy->behind);
}

static struct proxy proxy;
static char proxy_url[100];

static int set_up_proxy(void **state)
{
    (void)state;
    proxy.pid = 0;
    if (system("command -v nghttpx >/dev/null 2>&1") != 0)
        return 0;
    proxy = start_proxy();
    start_client(path_of("ca.pem"));
    snprintf(proxy_url, sizeof(proxy_url), "https://localhost:%d/v1",
             proxy.port);
    return 0;
}

static int tear_down_proxy(void **state)
{
    (void)state;
    if (proxy.pid == 0)
        return 0;
    stop_client();
    stop_proxy(&proxy);
    return 0;
}

static void need_proxy(void)
{
    if (proxy.pid == 0)
        skip();
}

static void a_cold_burst_shares_few_http2_connections(void **state)
{
    enum { MANY = 300 };
    static struct call calls[MANY];

    (void)state;
    need_proxy();
    for (int i = 0; i < MANY; i++)
        submit(&calls[i], proxy_url);
    loop_run(&loop);
    for (int i = 0; i < MANY; i++) {
        assert_string_equal(calls[i].outcome.error.message, "");
        assert_int_equal(calls[i].outcome.end, HTTP_WHOLE);
        assert_int_equal(calls[i].body_bytes, 5);
    }
    /* 64 to a lane; each tries both addresses of localhost where there are
     * two. */
    assert_in_range(http_stats(http).connections_opened, 1, 10);
}

static void a_cancelled_http2_stream_leaves_the_others_alone(void **state)
{
    enum { MANY = 20 };
    static struct call calls[MANY];

    (void)state;
    need_proxy();
    for (int i = 0; i < MANY; i++)
        submit(&calls[i], proxy_url);
    while (proxy.behind->requests == 0)
        run_for(1);
    for (int i = 0; i < MANY; i += 2) {
        if (calls[i].done) /* on a slow machine */
            continue;
        http_cancel(http, calls[i].id);
        waiting--;
    }
    while (waiting > 0)
        loop_run(&loop);
    for (int i = 1; i < MANY; i += 2)
        assert_int_equal(calls[i].outcome.end, HTTP_WHOLE);
    submit(&calls[0], proxy_url);
    loop_run(&loop);
    assert_int_equal(calls[0].outcome.end, HTTP_WHOLE);
    /* curl may find late frames of a cancelled stream on the connection and
     * then prefers a new one. */
    assert_in_range(http_stats(http).connections_opened, 1, 4);
}

/* Two kinds of transfers to one host do not spoil each other's connections. */
static void what_is_paused_leaves_http2_to_the_others(void **state)
{
    enum { PAUSED = 5, OTHERS = 50 };
    static struct call paused[PAUSED], calls[OTHERS];

    (void)state;
    need_proxy();
    pausable = true;
    for (int i = 0; i < PAUSED; i++) {
        submit(&paused[i], proxy_url);
        http_pause(http, paused[i].id);
    }
    pausable = false;
    while (proxy.behind->requests < PAUSED)
        run_for(1);
    waiting = 0;
    for (int i = 0; i < OTHERS; i++)
        submit(&calls[i], proxy_url);
    loop_run(&loop);
    for (int i = 0; i < OTHERS; i++)
        assert_int_equal(calls[i].outcome.end, HTTP_WHOLE);
    for (int i = 0; i < PAUSED; i++) {
        assert_int_equal(paused[i].body_bytes, 0);
        http_resume(http, paused[i].id);
    }
    waiting = PAUSED;
    loop_run(&loop);
    for (int i = 0; i < PAUSED; i++)
        assert_int_equal(paused[i].body_bytes, 5);
    assert_in_range(http_stats(http).connections_opened, PAUSED + 1,
                    2 * PAUSED + 3);
}

static void a_paused_transfer_stops_a_tls_server(void **state)
{
    enum { KERNEL_BYTES = 16 * 1024 * 1024 };
    struct server *server = server_start(pour_tls);
    struct call call;
    char url[100];
    long long sent;
    size_t got;

    (void)state;
    snprintf(url, sizeof(url), "https://localhost:%d/v1", server->port);
    start_client(path_of("ca.pem"));
    pausable = true;
    submit(&call, url);
    pausable = false;
    for (int round = 0; round < 3; round++) {
        got = call.body_bytes;
        while (call.body_bytes < got + 500000)
            run_for(1);
        http_pause(http, call.id);
        got = call.body_bytes;
        server->sent = 0;
        do {
            sent = server->sent;
            run_for(200);
        } while (server->sent != sent);
        assert_in_range(sent, 0, KERNEL_BYTES);
        assert_int_equal(call.body_bytes, got);
        http_resume(http, call.id);
    }
    stop_client();
    server_stop(server);
}

static void a_dead_http2_connection_is_noticed(void **state)
{
    struct call call;

    (void)state;
    need_proxy();
    submit(&call, proxy_url);
    loop_run(&loop);
    assert_int_equal(call.outcome.end, HTTP_WHOLE);
    kill(proxy.pid, SIGKILL);
    while (can_connect(proxy.port))
        sleep_ms(10);
    submit(&call, proxy_url);
    loop_run(&loop);
    assert_int_equal(call.outcome.end, HTTP_NO_ANSWER);
    assert_int_equal(call.outcome.error.code, ERR_UNREACHABLE);
}

#define HTTP2(name) \
    cmocka_unit_test_setup_teardown(name, set_up_proxy, tear_down_proxy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_of_the_given_authority_is_trusted),
        cmocka_unit_test(nothing_is_sent_to_a_server_of_an_unknown_authority),
        cmocka_unit_test(nothing_is_sent_to_a_server_with_another_name),
        cmocka_unit_test(nothing_is_sent_to_a_server_that_is_expired),
        cmocka_unit_test(without_certificates_nobody_is_trusted),
        cmocka_unit_test(certificates_that_could_not_be_read_are_read_again),
        cmocka_unit_test(a_server_that_is_not_tls_is_named),
        cmocka_unit_test(a_layer_that_ends_while_certificates_are_read_is_fine),
        HTTP2(a_cold_burst_shares_few_http2_connections),
        HTTP2(a_cancelled_http2_stream_leaves_the_others_alone),
        HTTP2(what_is_paused_leaves_http2_to_the_others),
        HTTP2(a_dead_http2_connection_is_noticed),
        cmocka_unit_test(a_paused_transfer_stops_a_tls_server),
        cmocka_unit_test(an_http2_server_without_a_word_times_out),
        cmocka_unit_test(http2_headers_and_then_silence_time_out),
        cmocka_unit_test(a_cut_http2_answer_is_told_from_a_whole_one),
        cmocka_unit_test(a_reset_stream_is_no_answer_or_a_cut_one),
        cmocka_unit_test(an_endless_http2_body_is_too_large),
        cmocka_unit_test(a_refused_stream_is_asked_for_again),
        cmocka_unit_test(a_connection_that_goes_away_is_not_used_again),
    };

    return cmocka_run_group_tests(tests, make_certificates,
                                  remove_certificates);
}
