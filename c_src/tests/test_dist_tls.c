/* The TLS channel against another of its kind, and against plain OpenSSL for
 * what such a one would never do. */
#include "tests/unit.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "llm_router/base/mem.h"
#include "llm_router/dist/tls.h"
#include "test_certificates.h"

enum { MIB = 1024 * 1024 };

static char folder[] = "/tmp/llm_router_dist_tls_XXXXXX";
static struct identity authority, other_authority, localhost, stranger, expired;

/* What the program writes to stderr meanwhile. */
static FILE *diverted;
static int own_stderr;

static void divert_stderr(void)
{
    diverted = tmpfile();
    own_stderr = dup(STDERR_FILENO);
    dup2(fileno(diverted), STDERR_FILENO);
}

static const char *restore_stderr(void)
{
    static char text[4096];
    size_t size;

    fflush(stderr);
    dup2(own_stderr, STDERR_FILENO);
    close(own_stderr);
    rewind(diverted);
    size = fread(text, 1, sizeof(text) - 1, diverted);
    text[size] = '\0';
    fclose(diverted);
    return text;
}

static const char *path_of(const char *name)
{
    static char paths[8][100];
    static int next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static const char *save_certificates(const char *name, const X509 *first,
                                     const X509 *second)
{
    const char *path = path_of(name);
    FILE *file = fopen(path, "w");

    PEM_write_X509(file, first);
    if (second)
        PEM_write_X509(file, second);
    fclose(file);
    return path;
}

static const char *save_key(const char *name, const EVP_PKEY *key,
                            const EVP_CIPHER *cipher)
{
    const char *path = path_of(name);
    char passphrase[] = "secret";
    FILE *file;

    unlink(path);
    file = fopen(path, "w");
    fchmod(fileno(file), 0600);
    PEM_write_PrivateKey(file, key, cipher, NULL, 0, NULL,
                         cipher ? passphrase : NULL);
    fclose(file);
    return path;
}

static const char *save_text(const char *name, const char *text)
{
    const char *path = path_of(name);
    FILE *file = fopen(path, "w");

    fputs(text, file);
    fclose(file);
    chmod(path, 0600);
    return path;
}

static int make_certificates(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    authority = identity_make(NULL, "Test Authority", NULL, 100L * DAY_S);
    other_authority =
        identity_make(NULL, "Other Authority", NULL, 100L * DAY_S);
    localhost = identity_make(&authority, "node", "DNS:localhost,IP:127.0.0.1",
                              100L * DAY_S);
    stranger =
        identity_make(&other_authority, "node", "DNS:localhost", 100L * DAY_S);
    expired = identity_make(&authority, "node", "DNS:localhost", -1L * DAY_S);
    return 0;
}

static int remove_certificates(void **state)
{
    static const char *const names[] = {"cert.pem", "key.pem", "ca.pem",
                                        "odd.pem"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(path_of(names[i]));
    rmdir(folder);
    identity_free(&authority);
    identity_free(&other_authority);
    identity_free(&localhost);
    identity_free(&stranger);
    identity_free(&expired);
    return 0;
}

static struct tls_context *context_of(const struct identity *own,
                                      const struct identity *trusted)
{
    const struct tls_files files = {
        save_certificates("cert.pem", own->certificate, NULL),
        save_key("key.pem", own->key, NULL),
        save_certificates("ca.pem", trusted->certificate, NULL),
    };
    struct error err = {.message = ""};
    struct tls_context *context = tls_context_new(&files, &err);

    assert_string_equal(err.message, "");
    assert_non_null(context);
    return context;
}

/* A channel with its buffers. */

struct side {
    struct tls_context *context;
    struct tls *tls;
    struct buf plain, sealed;
    enum tls_outcome outcome;
    struct error err;
};

static void side_init(struct side *side, const struct identity *own,
                      const struct identity *trusted, const char *host)
{
    *side = (struct side){.context = context_of(own, trusted)};
    side->tls = host ? tls_dial(side->context, slice_of(host))
                     : tls_accept(side->context);
    buf_init(&side->plain, 4 * MIB);
    buf_init(&side->sealed, 4 * MIB);
}

static void side_release(struct side *side)
{
    tls_free(side->tls);
    tls_context_free(side->context);
    buf_release(&side->plain);
    buf_release(&side->sealed);
}

static void hear(struct side *side, struct slice bytes)
{
    side->outcome =
        tls_receive(side->tls, bytes, &side->plain, &side->sealed, &side->err);
    assert_int_equal(ERR_peek_error(), 0);
}

/* In pieces of at most `piece` bytes, as long as the receiver takes them. */
static void carry(struct side *from, struct side *to, size_t piece)
{
    struct buf moved = from->sealed;
    size_t done = 0;

    buf_init(&from->sealed, moved.max);
    while (done < moved.size && to->outcome == TLS_GOING_ON) {
        size_t size = moved.size - done < piece ? moved.size - done : piece;

        hear(to, slice_make(moved.data + done, size));
        done += size;
    }
    buf_release(&moved);
}

static void talk(struct side *one, struct side *other, size_t piece)
{
    while (one->sealed.size > 0 || other->sealed.size > 0) {
        carry(one, other, piece);
        carry(other, one, piece);
    }
}

static struct side dialled, accepted;

static void meet_as(const struct identity *dialling,
                    const struct identity *accepting, const char *host)
{
    side_init(&dialled, dialling, &authority, host);
    side_init(&accepted, accepting, &authority, NULL);
    hear(&dialled, slice_make(NULL, 0));
    talk(&dialled, &accepted, SIZE_MAX);
}

static void part(void)
{
    side_release(&dialled);
    side_release(&accepted);
}

static void fill(struct buf *buf, size_t size)
{
    for (size_t i = 0; i < size; i++)
        buf_append_byte(buf, (char)(i * 31 + i / 253));
}

static void say(struct side *from, struct side *to, size_t size, size_t piece)
{
    struct buf text;

    buf_init(&text, size);
    fill(&text, size);
    buf_clear(&to->plain);
    assert_true(tls_send(from->tls, buf_slice(&text), &from->sealed));
    carry(from, to, piece);
    assert_int_equal(to->outcome, TLS_GOING_ON);
    assert_int_equal(to->plain.size, size);
    assert_memory_equal(to->plain.data, text.data, size);
    buf_release(&text);
}

static void two_channels_talk_both_ways(void **state)
{
    (void)state;
    meet_as(&localhost, &localhost, "localhost");
    assert_true(tls_established(dialled.tls));
    assert_true(tls_established(accepted.tls));
    for (size_t size = 1; size <= MIB; size *= 4) {
        say(&dialled, &accepted, size, 65536);
        say(&accepted, &dialled, size, 65536);
    }
    part();
}

static void bytes_may_come_one_at_a_time(void **state)
{
    (void)state;
    side_init(&dialled, &localhost, &authority, "localhost");
    side_init(&accepted, &localhost, &authority, NULL);
    hear(&dialled, slice_make(NULL, 0));
    talk(&dialled, &accepted, 1);
    assert_true(tls_established(dialled.tls));
    assert_true(tls_established(accepted.tls));
    say(&dialled, &accepted, 40000, 1);
    say(&accepted, &dialled, 40000, 1);
    part();
}

static void nothing_can_be_sent_before_the_handshake_is_over(void **state)
{
    struct slice text = SLICE_LITERAL("early");

    (void)state;
    side_init(&dialled, &localhost, &authority, "localhost");
    side_init(&accepted, &localhost, &authority, NULL);
    assert_false(tls_send(dialled.tls, text, &dialled.sealed));
    hear(&dialled, slice_make(NULL, 0));
    assert_false(tls_send(dialled.tls, text, &dialled.sealed));
    tls_close(dialled.tls, &dialled.sealed);
    talk(&dialled, &accepted, SIZE_MAX);
    say(&dialled, &accepted, 5, SIZE_MAX);
    part();
}

static void a_queue_that_is_full_ends_the_channel(void **state)
{
    struct buf text;

    (void)state;
    meet_as(&localhost, &localhost, "localhost");
    buf_init(&text, MIB);
    fill(&text, MIB);
    dialled.sealed.max = MIB / 2;
    assert_false(tls_send(dialled.tls, buf_slice(&text), &dialled.sealed));
    buf_clear(&dialled.sealed);
    assert_false(tls_send(dialled.tls, SLICE_LITERAL("x"), &dialled.sealed));
    hear(&dialled, SLICE_LITERAL("x"));
    assert_int_equal(dialled.outcome, TLS_FAILED);
    buf_release(&text);
    part();
}

/* A reload frees the context: who is connected goes on. */
static void a_channel_outlives_its_context(void **state)
{
    (void)state;
    meet_as(&localhost, &localhost, "localhost");
    tls_context_free(dialled.context);
    tls_context_free(accepted.context);
    dialled.context = accepted.context = NULL;
    say(&dialled, &accepted, 40000, SIZE_MAX);
    say(&accepted, &dialled, 40000, SIZE_MAX);
    tls_close(dialled.tls, &dialled.sealed);
    carry(&dialled, &accepted, SIZE_MAX);
    assert_int_equal(accepted.outcome, TLS_CLOSED);
    part();
}

static void a_handshake_outlives_its_context(void **state)
{
    (void)state;
    side_init(&dialled, &localhost, &authority, "localhost");
    side_init(&accepted, &localhost, &authority, NULL);
    hear(&dialled, slice_make(NULL, 0));
    tls_context_free(dialled.context);
    tls_context_free(accepted.context);
    dialled.context = accepted.context = NULL;
    talk(&dialled, &accepted, SIZE_MAX);
    assert_true(tls_established(dialled.tls));
    assert_true(tls_established(accepted.tls));
    part();
}

static void more_than_there_is_room_for_ends_the_channel(void **state)
{
    struct buf text;

    (void)state;
    meet_as(&localhost, &localhost, "localhost");
    buf_init(&text, MIB);
    fill(&text, MIB);
    accepted.plain.max = MIB / 2;
    assert_true(tls_send(dialled.tls, buf_slice(&text), &dialled.sealed));
    carry(&dialled, &accepted, SIZE_MAX);
    assert_int_equal(accepted.outcome, TLS_FAILED);
    assert_non_null(strstr(accepted.err.message, "room"));
    assert_in_range(accepted.plain.size, 0, MIB / 2);
    buf_release(&text);
    part();
}

/* Certificates */

static void expect_failed(const struct side *side, const char *reason)
{
    assert_int_equal(side->outcome, TLS_FAILED);
    assert_int_equal(side->err.code, ERR_UNAUTHORIZED);
    if (!strstr(side->err.message, reason))
        fail_msg("\"%s\", not \"%s\"", side->err.message, reason);
}

static void a_certificate_of_another_authority_is_refused(void **state)
{
    (void)state;
    meet_as(&localhost, &stranger, "localhost");
    expect_failed(&dialled, "the peer's certificate: unable to get local issuer"
                            " certificate");
    expect_failed(&accepted, "the peer ended TLS: alert unknown ca");
    assert_false(tls_established(dialled.tls));
    assert_false(tls_established(accepted.tls));
    part();

    meet_as(&stranger, &localhost, "localhost");
    expect_failed(&accepted, "the peer's certificate: unable to get local"
                             " issuer certificate");
    expect_failed(&dialled, "the peer ended TLS: alert unknown ca");
    assert_false(tls_established(accepted.tls));
    part();
}

static void an_expired_certificate_is_refused(void **state)
{
    (void)state;
    meet_as(&localhost, &expired, "localhost");
    expect_failed(&dialled, "the peer's certificate: certificate has expired");
    expect_failed(&accepted, "the peer ended TLS: alert certificate expired");
    part();
    meet_as(&expired, &localhost, "localhost");
    expect_failed(&accepted, "the peer's certificate: certificate has expired");
    part();
}

static void who_dials_checks_the_host(void **state)
{
    struct identity common_only =
        identity_make(&authority, "db.example.com", NULL, 100L * DAY_S);
    struct identity wild = identity_make(
        &authority, "x", "DNS:*.example.com,DNS:a*.example.org", 100L * DAY_S);
    const struct {
        const struct identity *accepting;
        const char *host;
        bool fits;
    } rows[] = {
        {&localhost, "localhost", true},
        {&localhost, "127.0.0.1", true},
        {&localhost, "node", false}, /* CN does not count beside names */
        {&localhost, "127.0.0.2", false},
        {&localhost, "::1", false},
        {&localhost, "localhost.example.com", false},
        {&common_only, "db.example.com", true},
        {&common_only, "example.com", false},
        {&wild, "a.example.com", true},
        {&wild, "a.b.example.com", false},
        {&wild, "ab.example.org", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char reason[100];

        meet_as(&localhost, rows[i].accepting, rows[i].host);
        assert_int_equal(tls_established(accepted.tls), rows[i].fits);
        snprintf(reason, sizeof(reason), "the peer's certificate is not for %s",
                 rows[i].host);
        if (!rows[i].fits)
            expect_failed(&dialled, reason);
        part();
    }
    identity_free(&common_only);
    identity_free(&wild);
}

static void who_accepts_checks_no_host(void **state)
{
    struct identity elsewhere =
        identity_make(&authority, "x", "DNS:elsewhere", 100L * DAY_S);

    (void)state;
    meet_as(&elsewhere, &localhost, "localhost");
    assert_true(tls_established(accepted.tls));
    say(&dialled, &accepted, 100, SIZE_MAX);
    part();
    identity_free(&elsewhere);
}

static void two_contexts_do_not_share_their_authorities(void **state)
{
    struct side one, other;

    (void)state;
    meet_as(&localhost, &localhost, "localhost");
    side_init(&one, &stranger, &other_authority, "localhost");
    side_init(&other, &stranger, &other_authority, NULL);
    hear(&one, slice_make(NULL, 0));
    talk(&one, &other, SIZE_MAX);
    assert_true(tls_established(other.tls));
    say(&one, &other, 1000, SIZE_MAX);
    say(&dialled, &accepted, 1000, SIZE_MAX);
    side_release(&one);
    side_release(&other);
    part();
}

/* A peer that is plain OpenSSL, with memory BIOs. */

struct peer {
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
};

static void peer_connect(struct peer *peer)
{
    peer->ssl = SSL_new(peer->context);
    peer->in = BIO_new(BIO_s_mem());
    peer->out = BIO_new(BIO_s_mem());
    SSL_set_bio(peer->ssl, peer->in, peer->out);
}

/* `own` NULL: no certificate. */
static struct peer peer_make(int version, const struct identity *own)
{
    struct peer peer = {.context = SSL_CTX_new(TLS_method())};

    SSL_CTX_set_min_proto_version(peer.context, version);
    SSL_CTX_set_max_proto_version(peer.context, version);
    if (own) {
        SSL_CTX_use_certificate(peer.context, own->certificate);
        SSL_CTX_use_PrivateKey(peer.context, own->key);
    }
    peer_connect(&peer);
    return peer;
}

static void peer_release(struct peer *peer)
{
    SSL_free(peer->ssl);
    SSL_CTX_free(peer->context);
    ERR_clear_error();
}

/* What the peer has to send goes to the side. */
static void peer_flush(struct peer *peer, struct side *side)
{
    char *data;
    long size = BIO_get_mem_data(peer->out, &data);

    if (size > 0) {
        struct buf moved;

        buf_init(&moved, (size_t)size);
        buf_append(&moved, data, (size_t)size);
        BIO_reset(peer->out);
        ERR_clear_error();
        hear(side, buf_slice(&moved));
        buf_release(&moved);
    }
}

/* What the side has to send goes to the peer; what that reads, if anything. */
static struct slice peer_hear(struct peer *peer, struct side *side)
{
    static char read[2 * MIB];
    size_t total = 0, size;

    if (side->sealed.size > 0)
        BIO_write(peer->in, side->sealed.data, (int)side->sealed.size);
    buf_clear(&side->sealed);
    ERR_clear_error();
    while (SSL_read_ex(peer->ssl, read + total, sizeof(read) - total, &size))
        total += size;
    return slice_make(read, total);
}

static void peer_meet(struct peer *peer, struct side *side)
{
    for (int i = 0; i < 4; i++) {
        peer_hear(peer, side);
        peer_flush(peer, side);
    }
}

static void accept_peer(struct peer *peer, struct side *side)
{
    side_init(side, &localhost, &authority, NULL);
    SSL_set_connect_state(peer->ssl);
    peer_meet(peer, side);
}

static void dial_peer(struct peer *peer, struct side *side, const char *host)
{
    side_init(side, &localhost, &authority, host);
    SSL_set_accept_state(peer->ssl);
    hear(side, slice_make(NULL, 0));
    peer_meet(peer, side);
}

static void expect_talk(struct peer *peer, struct side *side)
{
    struct slice heard;

    assert_true(tls_established(side->tls));
    SSL_write(peer->ssl, "from the peer", 13);
    buf_clear(&side->plain);
    peer_flush(peer, side);
    assert_slice(buf_slice(&side->plain), "from the peer");
    assert_true(
        tls_send(side->tls, SLICE_LITERAL("to the peer"), &side->sealed));
    heard = peer_hear(peer, side);
    assert_slice(heard, "to the peer");
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void both_versions_are_spoken_in_both_roles(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct peer peer = peer_make(versions[i], &localhost);
        struct side side;

        accept_peer(&peer, &side);
        expect_talk(&peer, &side);
        side_release(&side);
        peer_release(&peer);
        peer = peer_make(versions[i], &localhost);
        SSL_set_verify(peer.ssl, SSL_VERIFY_PEER, NULL);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(peer.context),
                            authority.certificate);
        dial_peer(&peer, &side, "localhost");
        expect_talk(&peer, &side);
        assert_string_equal(
            SSL_get_servername(peer.ssl, TLSEXT_NAMETYPE_host_name),
            "localhost");
        assert_non_null(SSL_get0_peer_certificate(peer.ssl));
        side_release(&side);
        peer_release(&peer);
    }
}

static void an_address_is_not_sent_as_a_server_name(void **state)
{
    struct peer peer = peer_make(TLS1_2_VERSION, &localhost);
    struct side side;

    (void)state;
    dial_peer(&peer, &side, "127.0.0.1");
    expect_talk(&peer, &side);
    assert_null(SSL_get_servername(peer.ssl, TLSEXT_NAMETYPE_host_name));
    side_release(&side);
    peer_release(&peer);
}

static void tls_1_1_is_refused(void **state)
{
    struct peer peer = peer_make(TLS1_1_VERSION, &localhost);
    struct side side;

    (void)state;
    SSL_set_security_level(peer.ssl, 0);
    SSL_set_cipher_list(peer.ssl, "ALL:@SECLEVEL=0");
    accept_peer(&peer, &side);
    expect_failed(&side, "TLS: unsupported protocol");
    side_release(&side);
    peer_release(&peer);
}

static void a_peer_without_a_certificate_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct peer peer = peer_make(versions[i], NULL);
        struct side side;

        accept_peer(&peer, &side);
        expect_failed(&side, "the peer sent no certificate");
        assert_false(tls_established(side.tls));
        side_release(&side);
        peer_release(&peer);
    }
}

static void a_key_update_goes_unnoticed(void **state)
{
    struct peer peer = peer_make(TLS1_3_VERSION, &localhost);
    struct side side;

    (void)state;
    accept_peer(&peer, &side);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        expect_talk(&peer, &side);
        assert_int_equal(SSL_get_key_update_type(peer.ssl),
                         SSL_KEY_UPDATE_NONE);
    }
    side_release(&side);
    peer_release(&peer);
}

static void renegotiation_is_refused(void **state)
{
    struct peer peer = peer_make(TLS1_2_VERSION, &localhost);
    struct side side;

    (void)state;
    accept_peer(&peer, &side);
    expect_talk(&peer, &side);
    SSL_renegotiate(peer.ssl);
    SSL_do_handshake(peer.ssl);
    peer_flush(&peer, &side);
    assert_int_equal(side.outcome, TLS_GOING_ON);
    assert_in_range(side.sealed.size, 1, 64); /* one alert */
    peer_hear(&peer, &side);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    side_release(&side);
    peer_release(&peer);
}

static void no_session_can_be_resumed(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct peer peer = peer_make(versions[i], &localhost);
        struct side side;
        SSL_SESSION *session;

        accept_peer(&peer, &side);
        expect_talk(&peer, &side);
        session = SSL_get1_session(peer.ssl);
        assert_false(SSL_SESSION_has_ticket(session));
        SSL_shutdown(peer.ssl);
        SSL_free(peer.ssl);
        peer_connect(&peer);
        SSL_set_session(peer.ssl, session);
        tls_free(side.tls);
        side.tls = tls_accept(side.context);
        SSL_set_connect_state(peer.ssl);
        peer_meet(&peer, &side);
        expect_talk(&peer, &side);
        assert_false(SSL_session_reused(peer.ssl));
        SSL_SESSION_free(session);
        side_release(&side);
        peer_release(&peer);
    }
}

static void old_ciphers_are_refused(void **state)
{
    struct peer peer = peer_make(TLS1_2_VERSION, &localhost);
    struct side side;

    (void)state;
    SSL_set_cipher_list(peer.ssl, "ECDHE-ECDSA-AES128-SHA256");
    accept_peer(&peer, &side);
    expect_failed(&side, "TLS: no shared cipher");
    side_release(&side);
    peer_release(&peer);
}

/* Faults of the peer */

static void bytes_that_are_no_tls_are_named(void **state)
{
    static const char *const hosts[] = {NULL, "localhost"};
    struct side side;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        side_init(&side, &localhost, &authority, hosts[i]);
        hear(&side, slice_make(NULL, 0));
        hear(&side, slice_make("\0\x14N", 3));
        expect_failed(&side, "speaks no TLS");
        hear(&side, slice_make("\x16\x03\x01", 3));
        expect_failed(&side, "failed before");
        side_release(&side);
    }
}

/* 16 MiB are announced; nothing of them is waited for. */
static void a_hello_that_is_too_long_is_refused(void **state)
{
    struct side side;

    (void)state;
    side_init(&side, &localhost, &authority, NULL);
    hear(&side, slice_make("\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9));
    expect_failed(&side, "TLS: ");
    assert_int_equal(side.sealed.data[0], 0x15);
    side_release(&side);
}

static void garbage_in_the_stream_ends_it_with_an_alert(void **state)
{
    (void)state;
    meet_as(&localhost, &localhost, "localhost");
    assert_true(tls_send(dialled.tls, SLICE_LITERAL("hello"), &dialled.sealed));
    dialled.sealed.data[dialled.sealed.size - 3] ^= 1;
    carry(&dialled, &accepted, SIZE_MAX);
    expect_failed(&accepted, "TLS: decryption failed or bad record mac");
    assert_int_equal(accepted.plain.size, 0);
    carry(&accepted, &dialled, SIZE_MAX);
    expect_failed(&dialled, "the peer ended TLS: alert bad record mac");
    assert_false(tls_send(dialled.tls, SLICE_LITERAL("x"), &dialled.sealed));
    part();
}

static void a_close_is_told_after_what_was_sent(void **state)
{
    (void)state;
    meet_as(&localhost, &localhost, "localhost");
    assert_true(tls_send(dialled.tls, SLICE_LITERAL("last"), &dialled.sealed));
    tls_close(dialled.tls, &dialled.sealed);
    carry(&dialled, &accepted, SIZE_MAX);
    assert_int_equal(accepted.outcome, TLS_CLOSED);
    assert_slice(buf_slice(&accepted.plain), "last");
    part();
}

static void leave_an_error(void)
{
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
}

static void errors_that_others_left_do_no_harm(void **state)
{
    (void)state;
    side_init(&dialled, &localhost, &authority, "localhost");
    side_init(&accepted, &localhost, &authority, NULL);
    leave_an_error();
    hear(&dialled, slice_make(NULL, 0));
    leave_an_error();
    carry(&dialled, &accepted, SIZE_MAX);
    talk(&dialled, &accepted, SIZE_MAX);
    leave_an_error();
    assert_true(tls_send(dialled.tls, SLICE_LITERAL("hello"), &dialled.sealed));
    leave_an_error();
    carry(&dialled, &accepted, SIZE_MAX);
    assert_int_equal(accepted.outcome, TLS_GOING_ON);
    assert_slice(buf_slice(&accepted.plain), "hello");
    leave_an_error();
    tls_close(dialled.tls, &dialled.sealed);
    assert_int_equal(ERR_peek_error(), 0);
    part();
}

static void a_host_too_long_for_a_server_name_leaves_no_error(void **state)
{
    char host[300];

    (void)state;
    memset(host, 'a', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    side_init(&dialled, &localhost, &authority, host);
    assert_int_equal(ERR_peek_error(), 0);
    side_release(&dialled);
}

/* Files */

static void expect_fault(struct tls_files files, const char *path,
                         const char *reason)
{
    struct error err;

    assert_null(tls_context_new(&files, &err));
    assert_int_equal(ERR_peek_error(), 0);
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    assert_string_equal(err.path, path);
    if (!strstr(err.message, reason))
        fail_msg("%s: \"%s\", not \"%s\"", path, err.message, reason);
}

static struct tls_files good_files(void)
{
    return (struct tls_files){
        save_certificates("cert.pem", localhost.certificate, NULL),
        save_key("key.pem", localhost.key, NULL),
        save_certificates("ca.pem", authority.certificate, NULL)};
}

static void a_file_that_cannot_be_used_is_named(void **state)
{
    static const struct {
        const char *text, *reason;
    } rows[] = {
        {"", "holds no"},
        {"hello", "holds no"},
        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
         "certificate 1: "},
        {"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
         "certificate 1: "},
    };
    struct tls_files files;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        files = good_files();
        files.certificate = save_text("odd.pem", rows[i].text);
        expect_fault(files, files.certificate, rows[i].reason);
        files = good_files();
        files.authorities = save_text("odd.pem", rows[i].text);
        expect_fault(files, files.authorities, rows[i].reason);
        files = good_files();
        files.key = save_text("odd.pem", rows[i].text);
        expect_fault(files, files.key, "holds no private key");
    }
    files = good_files();
    files.certificate = path_of("missing.pem");
    expect_fault(files, files.certificate, "No such file");
    files = good_files();
    files.key = path_of("missing.pem");
    expect_fault(files, files.key, "No such file");
    files = good_files();
    files.authorities = folder;
    expect_fault(files, folder, "is not a file");
}

static void a_key_must_fit_and_be_readable_by_nobody_else(void **state)
{
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    struct tls_files files = good_files();

    (void)state;
    files.key = save_key("odd.pem", stranger.key, NULL);
    expect_fault(files, files.key, "is not the key of the certificate in");
    files.key = save_key("odd.pem", rsa, NULL);
    expect_fault(files, files.key, "is not the key of the certificate in");
    files.key = save_key("odd.pem", localhost.key, EVP_aes_128_cbc());
    expect_fault(files, files.key, "is encrypted");
    files.key = save_key("odd.pem", localhost.key, NULL);
    chmod(files.key, 0640);
    expect_fault(files, files.key, "must be accessible by its owner only");
    EVP_PKEY_free(rsa);
}

static void an_own_certificate_out_of_date_is_no_error(void **state)
{
    (void)state;
    tls_context_free(context_of(&expired, &authority));
}

/* Dates */

/* Valid from `from` to `to`, as they are written in the certificate. */
static struct identity make_dated(const char *from, const char *to)
{
    struct identity made = identity_make(NULL, "Dated", NULL, 100L * DAY_S);
    ASN1_TIME *date = ASN1_TIME_new();

    assert_int_equal(ASN1_TIME_set_string(date, from), 1);
    X509_set1_notBefore(made.certificate, date);
    assert_int_equal(ASN1_TIME_set_string(date, to), 1);
    X509_set1_notAfter(made.certificate, date);
    ASN1_TIME_free(date);
    X509_sign(made.certificate, made.key, EVP_sha256());
    return made;
}

static void it_is_known_when_certificates_run_out(void **state)
{
    static const struct {
        const char *to;
        int64_t unix_s;
    } rows[] = {
        {"700101000001Z", 1},
        {"380119031408Z", 2147483648},
        {"491231235959Z", 2524607999},
        {"20500101000000Z", 2524608000},
        {"99991231235959Z", 253402300799},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct identity own = make_dated("500101000000Z", rows[i].to);
        struct tls_context *context = context_of(&own, &own);
        struct tls_expiry expiry = tls_context_expiry(context);

        assert_int_equal(expiry.own_s, rows[i].unix_s);
        assert_int_equal(expiry.earliest_s, rows[i].unix_s);
        tls_context_free(context);
        identity_free(&own);
    }
}

/* Own, chain and authority are in every order. */
static void the_earliest_is_the_first_of_all_files(void **state)
{
    static const int64_t unix_s[] = {2208988800, 2240611200, 2272147200};
    static const size_t orders[][3] = {{0, 1, 2}, {2, 0, 1}, {1, 2, 0}};
    struct identity made[] = {make_dated("700101000000Z", "20400101000000Z"),
                              make_dated("700101000000Z", "20410101000000Z"),
                              make_dated("700101000000Z", "20420101000000Z")};

    (void)state;
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        const size_t *at = orders[i];
        const struct tls_files files = {
            save_certificates("cert.pem", made[at[0]].certificate,
                              made[at[1]].certificate),
            save_key("key.pem", made[at[0]].key, NULL),
            save_certificates("ca.pem", made[at[2]].certificate, NULL),
        };
        struct error err;
        struct tls_context *context = tls_context_new(&files, &err);

        assert_non_null(context);
        assert_int_equal(tls_context_expiry(context).own_s, unix_s[at[0]]);
        assert_int_equal(tls_context_expiry(context).earliest_s, unix_s[0]);
        tls_context_free(context);
    }
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
        identity_free(&made[i]);
}

static void a_date_that_cannot_be_read_is_long_ago(void **state)
{
    struct identity odd = identity_make(NULL, "Odd", NULL, 100L * DAY_S);
    ASN1_TIME *date = ASN1_TIME_new();
    struct tls_context *context;

    (void)state;
    ASN1_TIME_set_string(date, "490101000000Z");
    ASN1_STRING_set(date, "4z0101000000Z", -1);
    X509_set1_notAfter(odd.certificate, date);
    X509_sign(odd.certificate, odd.key, EVP_sha256());
    ASN1_TIME_free(date);
    context = context_of(&odd, &odd);
    assert_int_equal(tls_context_expiry(context).own_s, 0);
    assert_int_equal(tls_context_expiry(context).earliest_s, 0);
    tls_context_free(context);
    identity_free(&odd);
}

/* `said` is what the log says of the own certificate; NULL: nothing. */
static void expect_said(const struct identity *own, const char *said)
{
    const char *log;

    divert_stderr();
    tls_context_free(context_of(own, &authority));
    log = restore_stderr();
    if (!said) {
        assert_string_equal(log, "");
        return;
    }
    assert_non_null(strstr(log, " level=warn component=dist msg=\"a "
                                "certificate "));
    assert_non_null(strstr(log, said));
    assert_non_null(strstr(log, "/cert.pem certificate=1 date="));
    assert_ptr_equal(strchr(log, '\n') + 1, strchr(log, '\0'));
}

static void a_certificate_out_of_date_is_said_two_weeks_before(void **state)
{
    static const struct {
        long expires_in_s;
        const char *said;
    } rows[] = {
        {-60, "a certificate has expired"},
        {60, "a certificate expires soon"},
        {14L * DAY_S - 60, "a certificate expires soon"},
        {14L * DAY_S + 60, NULL},
    };
    struct identity own;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        own = identity_make(&authority, "node", NULL, rows[i].expires_in_s);
        expect_said(&own, rows[i].said);
        identity_free(&own);
    }
    own = make_dated("20960102030405Z", "20970101000000Z");
    expect_said(&own, "a certificate is not valid yet\"");
    expect_said(&own, " date=2096-01-02T03:04:05Z\n");
    identity_free(&own);
}

static void of_a_chain_and_authorities_the_place_is_said(void **state)
{
    const struct tls_files files = {
        save_certificates("cert.pem", localhost.certificate,
                          expired.certificate),
        save_key("key.pem", localhost.key, NULL),
        save_certificates("ca.pem", authority.certificate, expired.certificate),
    };
    struct error err;
    const char *log;

    (void)state;
    divert_stderr();
    tls_context_free(tls_context_new(&files, &err));
    log = restore_stderr();
    assert_non_null(strstr(log, "/cert.pem certificate=2 date="));
    assert_non_null(strstr(log, "/ca.pem certificate=2 date="));
    assert_null(strstr(log, "certificate=1"));
}

static struct identity make_intermediate(void)
{
    struct identity made = identity_make(NULL, "Middle", NULL, 100L * DAY_S);

    X509_set_issuer_name(made.certificate,
                         X509_get_subject_name(authority.certificate));
    X509_sign(made.certificate, authority.key, EVP_sha256());
    return made;
}

/* Its issuer is known to nobody but who shows it. */
static void a_chain_is_sent_whole(void **state)
{
    struct identity middle = make_intermediate();
    struct identity leaf =
        identity_make(&middle, "node", "DNS:localhost", 100L * DAY_S);
    struct tls_files files;
    struct error err;

    (void)state;
    meet_as(&localhost, &localhost, "localhost");
    tls_free(accepted.tls);
    tls_context_free(accepted.context);
    files = (struct tls_files){
        save_certificates("cert.pem", leaf.certificate, middle.certificate),
        save_key("key.pem", leaf.key, NULL),
        save_certificates("ca.pem", authority.certificate, NULL)};
    accepted.context = tls_context_new(&files, &err);
    assert_non_null(accepted.context);
    accepted.tls = tls_accept(accepted.context);
    tls_free(dialled.tls);
    dialled.tls = tls_dial(dialled.context, slice_of("localhost"));
    hear(&dialled, slice_make(NULL, 0));
    talk(&dialled, &accepted, SIZE_MAX);
    assert_true(tls_established(dialled.tls));
    part();
    identity_free(&leaf);
    identity_free(&middle);
}

static void an_intermediate_authority_can_be_trusted(void **state)
{
    struct identity middle = make_intermediate();
    struct identity leaf =
        identity_make(&middle, "node", "DNS:localhost", 100L * DAY_S);

    (void)state;
    side_init(&dialled, &leaf, &middle, "localhost");
    side_init(&accepted, &leaf, &middle, NULL);
    hear(&dialled, slice_make(NULL, 0));
    talk(&dialled, &accepted, SIZE_MAX);
    assert_true(tls_established(dialled.tls));
    assert_true(tls_established(accepted.tls));
    part();
    identity_free(&leaf);
    identity_free(&middle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_channels_talk_both_ways),
        cmocka_unit_test(bytes_may_come_one_at_a_time),
        cmocka_unit_test(nothing_can_be_sent_before_the_handshake_is_over),
        cmocka_unit_test(a_queue_that_is_full_ends_the_channel),
        cmocka_unit_test(more_than_there_is_room_for_ends_the_channel),
        cmocka_unit_test(a_channel_outlives_its_context),
        cmocka_unit_test(a_handshake_outlives_its_context),
        cmocka_unit_test(a_certificate_of_another_authority_is_refused),
        cmocka_unit_test(an_expired_certificate_is_refused),
        cmocka_unit_test(who_dials_checks_the_host),
        cmocka_unit_test(who_accepts_checks_no_host),
        cmocka_unit_test(two_contexts_do_not_share_their_authorities),
        cmocka_unit_test(both_versions_are_spoken_in_both_roles),
        cmocka_unit_test(an_address_is_not_sent_as_a_server_name),
        cmocka_unit_test(tls_1_1_is_refused),
        cmocka_unit_test(a_peer_without_a_certificate_is_refused),
        cmocka_unit_test(a_key_update_goes_unnoticed),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(no_session_can_be_resumed),
        cmocka_unit_test(bytes_that_are_no_tls_are_named),
        cmocka_unit_test(a_hello_that_is_too_long_is_refused),
        cmocka_unit_test(garbage_in_the_stream_ends_it_with_an_alert),
        cmocka_unit_test(a_close_is_told_after_what_was_sent),
        cmocka_unit_test(errors_that_others_left_do_no_harm),
        cmocka_unit_test(a_host_too_long_for_a_server_name_leaves_no_error),
        cmocka_unit_test(old_ciphers_are_refused),
        cmocka_unit_test(an_intermediate_authority_can_be_trusted),
        cmocka_unit_test(a_file_that_cannot_be_used_is_named),
        cmocka_unit_test(a_key_must_fit_and_be_readable_by_nobody_else),
        cmocka_unit_test(an_own_certificate_out_of_date_is_no_error),
        cmocka_unit_test(it_is_known_when_certificates_run_out),
        cmocka_unit_test(the_earliest_is_the_first_of_all_files),
        cmocka_unit_test(a_date_that_cannot_be_read_is_long_ago),
        cmocka_unit_test(a_certificate_out_of_date_is_said_two_weeks_before),
        cmocka_unit_test(of_a_chain_and_authorities_the_place_is_said),
        cmocka_unit_test(a_chain_is_sent_whole),
    };

    return cmocka_run_group_tests(tests, make_certificates,
                                  remove_certificates);
}
