#include "llm_router/dist/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "llm_router/base/abort.h"
#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/config/files.h"

enum {
    CERTIFICATE_FILE_MAX = 1024 * 1024,
    KEY_FILE_MAX = 1024 * 1024,
    AUTHORITIES_FILE_MAX = 16 * 1024 * 1024,
    RECORD_HANDSHAKE = 0x16,
    RECORD_ALERT = 0x15,
    SOON_S = 14 * 24 * 3600, /* as the alarm LlmRouterCertificate */
};

struct tls_context {
    size_t references; /* its owner's, and one of each connection */
    SSL_CTX *ssl;
    BIO_METHOD *channel;
    struct tls_expiry expiry;
};

struct tls {
    struct tls_context *context;
    SSL *ssl;
    char *host; /* dialled; NULL: accepted */
    bool heard; /* the first byte came */
    bool established;
    bool failed;
    struct slice received; /* what OpenSSL did not take yet */
    struct buf *sealed;    /* where it writes; both only inside a call */
};

/* What fails only when there is no memory cannot fail, as in mem.h; here that
 * is also what would leave a peer unchecked. */
static void must(bool ok)
{
    if (!ok) {
        log_line(LOG_ERROR, "dist", "TLS cannot be set up");
        abort_said();
    }
}

static void *need(void *made)
{
    must(made != NULL);
    return made;
}

/* The channel: a BIO that reads from `received` and writes to `sealed`, where
 * OpenSSL's memory BIOs would keep copies, and their largest size for ever. */

static int channel_read(BIO *bio, char *out, int size)
{
    struct tls *tls = BIO_get_data(bio);
    size_t wanted = size > 0 ? (size_t)size : 0;

    BIO_clear_retry_flags(bio);
    if (tls->received.size == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (wanted > tls->received.size)
        wanted = tls->received.size;
    memcpy(out, tls->received.data, wanted);
    tls->received.data += wanted;
    tls->received.size -= wanted;
    return (int)wanted;
}

static int channel_write(BIO *bio, const char *data, int size)
{
    struct tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    buf_append(tls->sealed, data, size > 0 ? (size_t)size : 0);
    return tls->sealed->failed ? -1 : size;
}

static long channel_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *channel_new(void)
{
    BIO_METHOD *channel =
        need(BIO_meth_new(BIO_TYPE_SOURCE_SINK, "distribution channel"));

    BIO_meth_set_read(channel, channel_read);
    BIO_meth_set_write(channel, channel_write);
    BIO_meth_set_ctrl(channel, channel_control);
    return channel;
}

/* The context. */

static void configure(SSL_CTX *ssl)
{
    must(SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1);
    must(SSL_CTX_set_cipher_list(ssl, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1);
    must(SSL_CTX_set_num_tickets(ssl, 0) == 1);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                                 SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       NULL);
    /* As the HTTP layer: what the file holds is trusted, root or not. */
    X509_STORE_set_flags(SSL_CTX_get_cert_store(ssl),
                         X509_V_FLAG_PARTIAL_CHAIN);
}

static const char *reason_of(unsigned long code)
{
    const char *reason = ERR_reason_error_string(code);

    return reason ? reason : "it cannot be used";
}

typedef int take_certificate(SSL_CTX *ssl, X509 *certificate, size_t index);

static int take_own(SSL_CTX *ssl, X509 *certificate, size_t index)
{
    return index == 0 ? SSL_CTX_use_certificate(ssl, certificate)
                      : (int)SSL_CTX_add1_chain_cert(ssl, certificate);
}

static int take_authority(SSL_CTX *ssl, X509 *certificate, size_t index)
{
    (void)index;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), certificate);
}

struct date {
    int64_t unix_s;
    char text[32];
};

/* What cannot be read is long ago: whoever checks it takes it for no better
 * than a certificate that has expired. */
static struct date date_of(const ASN1_TIME *when)
{
    struct tm parts = {.tm_year = 70, .tm_mday = 1};
    struct date date = {0};

    ASN1_TIME_to_tm(when, &parts);
    date.unix_s = timegm(&parts);
    strftime(date.text, sizeof(date.text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return date;
}

static void check_dates(struct tls_context *context, const char *path,
                        const X509 *certificate, size_t number)
{
    const struct date from = date_of(X509_get0_notBefore(certificate));
    const struct date to = date_of(X509_get0_notAfter(certificate));
    const struct log_field file = log_text("file", slice_of(path));
    const struct log_field which = log_count("certificate", number);
    const struct log_field begins = log_text("date", slice_of(from.text));
    const struct log_field ends = log_text("date", slice_of(to.text));
    int64_t now_s = time(NULL);

    if (to.unix_s < context->expiry.earliest_s)
        context->expiry.earliest_s = to.unix_s;
    if (from.unix_s > now_s)
        log_event(LOG_WARN, "dist", "a certificate is not valid yet",
                  LOG_FIELDS(file, which, begins));
    if (to.unix_s <= now_s)
        log_event(LOG_WARN, "dist", "a certificate has expired",
                  LOG_FIELDS(file, which, ends));
    else if (to.unix_s - now_s < SOON_S)
        log_event(LOG_WARN, "dist", "a certificate expires soon",
                  LOG_FIELDS(file, which, ends));
}

static bool take_certificates(struct tls_context *context, const char *path,
                              BIO *pem, take_certificate *take,
                              struct error *err)
{
    X509 *certificate;
    size_t count = 0;
    int taken = 1;

    while (taken == 1 &&
           (certificate = PEM_read_bio_X509(pem, NULL, NULL, NULL)) != NULL) {
        taken = take(context->ssl, certificate, count++);
        check_dates(context, path, certificate, count);
        X509_free(certificate);
    }
    /* Other things than certificates are skipped. */
    if (taken != 1 ||
        ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return error_at(err, ERR_INVALID_REQUEST, path, "certificate %zu: %s",
                        taken == 1 ? count + 1 : count,
                        reason_of(ERR_peek_error()));
    if (count == 0)
        return error_at(err, ERR_INVALID_REQUEST, path,
                        "holds no certificate in PEM form");
    return true;
}

static bool load_certificates(struct tls_context *context, const char *path,
                              size_t max_bytes, take_certificate *take,
                              struct error *err)
{
    struct arena arena;
    struct slice text;
    bool ok;

    arena_init(&arena, 0);
    ok = file_read(&arena, path, max_bytes, FILE_ANY, &text, err);
    if (ok) {
        BIO *pem = need(BIO_new_mem_buf(text.data, (int)text.size));

        ERR_clear_error();
        ok = take_certificates(context, path, pem, take, err);
        BIO_free(pem);
    }
    arena_release(&arena);
    return ok;
}

static int refuse_passphrase(char *buffer, int size, int writing, void *asked)
{
    (void)buffer;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

static bool take_key(SSL_CTX *ssl, const struct tls_files *files, BIO *pem,
                     struct error *err)
{
    bool asked = false;
    EVP_PKEY *key =
        PEM_read_bio_PrivateKey(pem, NULL, refuse_passphrase, &asked);
    bool ok = true;

    if (!key)
        return error_at(err, ERR_INVALID_REQUEST, files->key, "%s",
                        asked ? "is encrypted: it must have no passphrase"
                              : "holds no private key in PEM form");
    if (X509_check_private_key(SSL_CTX_get0_certificate(ssl), key) != 1)
        ok = error_at(err, ERR_INVALID_REQUEST, files->key,
                      "is not the key of the certificate in %s",
                      files->certificate);
    else if (SSL_CTX_use_PrivateKey(ssl, key) != 1)
        ok = error_at(err, ERR_INVALID_REQUEST, files->key, "%s",
                      reason_of(ERR_peek_error()));
    EVP_PKEY_free(key);
    return ok;
}

static bool load_key(SSL_CTX *ssl, const struct tls_files *files,
                     struct error *err)
{
    struct arena arena;
    struct slice text;
    bool ok;

    arena_init(&arena, 0);
    ok = file_read(&arena, files->key, KEY_FILE_MAX, FILE_OWNER_ONLY, &text,
                   err);
    if (ok) {
        BIO *pem = need(BIO_new_mem_buf(text.data, (int)text.size));

        ok = take_key(ssl, files, pem, err);
        BIO_free(pem);
        OPENSSL_cleanse((char *)text.data, text.size);
    }
    arena_release(&arena);
    return ok;
}

static bool load(struct tls_context *context, const struct tls_files *files,
                 struct error *err)
{
    const X509 *own;

    context->expiry.earliest_s = INT64_MAX;
    if (!load_certificates(context, files->certificate, CERTIFICATE_FILE_MAX,
                           take_own, err) ||
        !load_key(context->ssl, files, err) ||
        !load_certificates(context, files->authorities, AUTHORITIES_FILE_MAX,
                           take_authority, err))
        return false;
    own = SSL_CTX_get0_certificate(context->ssl);
    context->expiry.own_s = date_of(X509_get0_notAfter(own)).unix_s;
    return true;
}

struct tls_context *tls_context_new(const struct tls_files *files,
                                    struct error *err)
{
    struct tls_context *context = mem_alloc(sizeof(*context));
    bool ok;

    context->references = 1;
    context->channel = channel_new();
    context->ssl = need(SSL_CTX_new(TLS_method()));
    configure(context->ssl);
    ok = load(context, files, err);
    ERR_clear_error();
    if (ok)
        return context;
    tls_context_free(context);
    return NULL;
}

void tls_context_free(struct tls_context *context)
{
    if (!context || --context->references > 0)
        return;
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->channel);
    mem_free(context);
}

struct tls_expiry tls_context_expiry(const struct tls_context *context)
{
    return context->expiry;
}

/* A connection. */

static struct tls *tls_new(struct tls_context *context)
{
    struct tls *tls = mem_alloc(sizeof(*tls));
    BIO *bio = need(BIO_new(context->channel));

    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    tls->context = context;
    context->references++;
    tls->ssl = need(SSL_new(context->ssl));
    SSL_set_bio(tls->ssl, bio, bio);
    return tls;
}

struct tls *tls_accept(struct tls_context *context)
{
    struct tls *tls = tls_new(context);

    SSL_set_accept_state(tls->ssl);
    return tls;
}

static void expect_host(SSL *ssl, const char *host)
{
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1)
        return;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    must(host[0] != '\0' && SSL_set1_host(ssl, host) == 1);
    SSL_set_tlsext_host_name(ssl, host);
    ERR_clear_error(); /* a name can be too long for SNI */
}

struct tls *tls_dial(struct tls_context *context, struct slice host)
{
    struct tls *tls = tls_new(context);

    tls->host = mem_copy_text(host.data, host.size);
    expect_host(tls->ssl, tls->host);
    SSL_set_connect_state(tls->ssl);
    return tls;
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    tls_context_free(tls->context);
    mem_free(tls->host);
    mem_free(tls);
}

bool tls_established(const struct tls *tls)
{
    return tls->established;
}

static void enter(struct tls *tls, struct slice received, struct buf *sealed)
{
    ERR_clear_error();
    tls->received = received;
    tls->sealed = sealed;
}

static void leave(struct tls *tls)
{
    ERR_clear_error();
    tls->received = slice_make(NULL, 0);
    tls->sealed = NULL;
}

static void fail(struct tls *tls, struct error *err, const char *reason)
{
    tls->failed = true;
    error_set(err, ERR_UNAUTHORIZED, "%s", reason);
}

static void explain_certificate(const struct tls *tls, long verdict,
                                struct error *err)
{
    if (verdict == X509_V_ERR_HOSTNAME_MISMATCH ||
        verdict == X509_V_ERR_IP_ADDRESS_MISMATCH)
        error_set(err, ERR_UNAUTHORIZED, "the peer's certificate is not for %s",
                  tls->host);
    else
        error_set(err, ERR_UNAUTHORIZED, "the peer's certificate: %s",
                  X509_verify_cert_error_string(verdict));
}

/* OpenSSL writes "tlsv1 alert unknown ca"; the version is not the peer's. */
static void explain_alert(const char *reason, struct error *err)
{
    const char *alert = strstr(reason, "alert ");

    error_set(err, ERR_UNAUTHORIZED, "the peer ended TLS: %s",
              alert ? alert : reason);
}

static void explain(struct tls *tls, struct error *err)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    long verdict = SSL_get_verify_result(tls->ssl);

    tls->failed = true;
    if (verdict != X509_V_OK)
        explain_certificate(tls, verdict, err);
    else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        error_set(err, ERR_UNAUTHORIZED, "the peer sent no certificate");
    else if (reason > SSL_AD_REASON_OFFSET)
        explain_alert(reason_of(code), err);
    else
        error_set(err, ERR_UNAUTHORIZED, "TLS: %s", reason_of(code));
}

/* OpenSSL would name a version that is wrong, or guess at HTTP. */
static bool speaks_tls(struct tls *tls, struct slice received)
{
    if (tls->heard || received.size == 0)
        return true;
    tls->heard = true;
    return received.data[0] == RECORD_HANDSHAKE ||
           received.data[0] == RECORD_ALERT;
}

/* Handshake and records alike: why SSL_read stopped. */
static int read_records(struct tls *tls, struct buf *plain)
{
    int status = 1;

    while (status == 1 && buf_reserve(plain, TLS_RECORD_MAX)) {
        size_t size = 0;

        status = SSL_read_ex(tls->ssl, plain->data + plain->size,
                             TLS_RECORD_MAX, &size);
        plain->size += size;
    }
    tls->established = tls->established || SSL_is_init_finished(tls->ssl);
    return SSL_get_error(tls->ssl, status);
}

enum tls_outcome tls_receive(struct tls *tls, struct slice received,
                             struct buf *plain, struct buf *sealed,
                             struct error *err)
{
    enum tls_outcome outcome = TLS_FAILED;
    int stopped;

    if (tls->failed || !speaks_tls(tls, received)) {
        fail(tls, err, tls->failed ? "TLS failed before" : "speaks no TLS");
        return TLS_FAILED;
    }
    enter(tls, received, sealed);
    stopped = read_records(tls, plain);
    if (plain->failed || sealed->failed)
        fail(tls, err, "TLS: more than there is room for");
    else if (stopped == SSL_ERROR_WANT_READ)
        outcome = TLS_GOING_ON;
    else if (stopped == SSL_ERROR_ZERO_RETURN)
        outcome = TLS_CLOSED;
    else
        explain(tls, err);
    leave(tls);
    return outcome;
}

bool tls_send(struct tls *tls, struct slice plain, struct buf *sealed)
{
    size_t written;

    if (tls->failed || !tls->established)
        return false;
    if (plain.size == 0)
        return true;
    enter(tls, slice_make(NULL, 0), sealed);
    tls->failed = SSL_write_ex(tls->ssl, plain.data, plain.size, &written) != 1;
    leave(tls);
    return !tls->failed;
}

void tls_close(struct tls *tls, struct buf *sealed)
{
    if (tls->failed || !tls->established)
        return;
    enter(tls, slice_make(NULL, 0), sealed);
    SSL_shutdown(tls->ssl);
    leave(tls);
}
