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
        .headers_timeout_ms = 10000,
        .total_timeout_ms = 20000,
        .max_body_bytes = 100000,
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
        execlp("nghttpx", "nghttpx", "--conf=/dev/null", "--no-ocsp", "-s",
               "-LFATAL", front, back, "--backend-connections-per-host=1000",
               key, certificate, (char *)NULL);
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
        cmocka_unit_test(a_server_that_is_not_tls_is_named),
        cmocka_unit_test(a_layer_that_ends_while_certificates_are_read_is_fine),
        HTTP2(a_cold_burst_shares_few_http2_connections),
        HTTP2(a_cancelled_http2_stream_leaves_the_others_alone),
        HTTP2(a_dead_http2_connection_is_noticed),
    };

    return cmocka_run_group_tests(tests, make_certificates,
                                  remove_certificates);
}
