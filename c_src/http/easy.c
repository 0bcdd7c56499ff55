#include "http_internal.h"

#include <errno.h>

#include "llm_router/base/mem.h"

enum {
    /* Each transfer over HTTP/1.1 holds a buffer from its start, so that those
     * of thousands are as small as curl allows; few have room for larger ones,
     * which save system calls. */
    RECEIVE_ROOM = 512 * 1024,
    RECEIVE_BUFFER_MIN = 1024,
    RECEIVE_BUFFER_MAX = 8 * 1024,
    SEND_BUFFER = 16 * 1024, /* curl's minimum */
    LEADER_DNS_SECONDS = 30,
    DNS_FOREVER = -1,
    /* Firewalls forget a silent connection; a model may think for minutes. */
    KEEP_ALIVE_SECONDS = 60,
};

static size_t on_header(char *line, size_t unit, size_t count, void *context)
{
    struct transfer *transfer = context;
    size_t size = unit * count;
    long status = 0;

    if (transfer->cancelled)
        return CURL_WRITEFUNC_ERROR;
    if (size > HEADER_BYTES_MAX - transfer->header_bytes) {
        transfer->verdict = HTTP_TOO_LARGE;
        return CURL_WRITEFUNC_ERROR;
    }
    transfer->header_bytes += size;
    /* An empty line ends the headers; trailers come after the body. */
    if (transfer->phase == PHASE_BODY || (line[0] != '\r' && line[0] != '\n'))
        return size;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && !transfer_answered(transfer, (int)status))
        return CURL_WRITEFUNC_ERROR;
    return size;
}

static size_t on_body(char *data, size_t unit, size_t count, void *context)
{
    struct transfer *transfer = context;
    size_t size = unit * count;

    if (transfer->cancelled)
        return CURL_WRITEFUNC_ERROR;
    if (size > transfer->request.max_body_bytes - transfer->body_bytes) {
        transfer->verdict = HTTP_TOO_LARGE;
        return CURL_WRITEFUNC_ERROR;
    }
    transfer->body_bytes += size;
    if (pause_hold(transfer, slice_make(data, size)))
        return size;
    transfer_take(transfer, slice_make(data, size));
    return transfer->cancelled || transfer->verdict == HTTP_STOPPED
               ? CURL_WRITEFUNC_ERROR
               : size;
}

static void set_body(CURL *easy, struct slice body)
{
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.size);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data);
}

/* curl wants to know the size from the start, and nothing else. */
static bool lend_body(struct transfer *transfer, CURL *easy)
{
    struct slice body =
        transfer->events.make_body(transfer->context, transfer->id);
    bool first = transfer->phase == PHASE_CONNECTING;

    if (!body.data) {
        transfer->verdict = HTTP_STOPPED;
        return false;
    }
    if (!first && body.size != transfer->body_size)
        return false; /* nobody stopped it: no answer came */
    transfer->body_size = body.size;
    transfer->body_lent = true;
    set_body(easy, body);
    return true;
}

/* It goes out now. */
static bool send_body(struct transfer *transfer)
{
    if (!transfer->body_lent && !lend_body(transfer, transfer->easy))
        return false;
    list_remove(&transfer->link);
    list_append(&transfer->http->sending, &transfer->link);
    http_wake(transfer->http);
    return true;
}

/* Before it is sent again curl calls before_request again, and has no use for
 * it until then. */
static void take_body_back(struct transfer *transfer)
{
    transfer->body_lent = false;
    set_body(transfer->easy, SLICE_LITERAL(""));
    if (transfer->events.on_sent)
        transfer->events.on_sent(transfer->context, transfer->id);
}

void bodies_settle(struct http *http)
{
    struct list now;

    list_init(&now);
    list_move(&now, &http->sending);
    while (!list_is_empty(&now)) {
        struct transfer *transfer = LIST_ENTRY(now.next, struct transfer, link);
        curl_off_t sent = 0;

        list_remove(&transfer->link);
        curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
        if ((size_t)sent < transfer->body_size)
            list_append(&http->sending, &transfer->link);
        else
            take_body_back(transfer);
    }
}

/* The connection is there, verified, and nothing was sent. */
static int before_request(void *context, char *remote_ip, char *local_ip,
                          int remote_port, int local_port)
{
    struct transfer *transfer = context;

    (void)remote_ip;
    (void)local_ip;
    (void)remote_port;
    (void)local_port;
    if (transfer->cancelled)
        return CURL_PREREQFUNC_ABORT;
    transfer->http->stats.transfers_repeated +=
        transfer->phase != PHASE_CONNECTING;
    /* At its end a transfer throws out the names that are too old for it;
     * from here on the leader is like the others. */
    if (origin_is_led_by(transfer))
        curl_easy_setopt(transfer->easy, CURLOPT_DNS_CACHE_TIMEOUT,
                         (long)DNS_FOREVER);
    transfer_connected(transfer);
    if (transfer->events.make_body && !send_body(transfer))
        return CURL_PREREQFUNC_ABORT;
    return CURL_PREREQFUNC_OK;
}

static CURLcode use_our_trust(CURL *easy, void *context, void *http)
{
    (void)easy;
    SSL_CTX_set1_cert_store(context, ((struct http *)http)->trust.store);
    /* A connection that waits for a model needs no buffers of 16 KiB. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    return CURLE_OK;
}

/* What is the same for every transfer, set once in a handle's life. */
static CURL *easy_new(struct http *http)
{
    CURL *easy = curl_easy_init();

    if (!easy)
        return NULL;
    curl_easy_setopt(easy, CURLOPT_SHARE, http->share);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Else removing a transfer waits for its resolver thread. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    /* Not "": brotli and zstd take megabytes for each answer. */
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, ENCODINGS);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN,
                     (long)http->options.max_idle_age_s);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BUFFER);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEP_ALIVE_SECONDS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEP_ALIVE_SECONDS);
    curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, use_our_trust);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, http);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, socket_open);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, socket_close);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, http);
    return easy;
}

/* False: the body could not be made. */
static bool set_method(struct transfer *transfer, CURL *easy)
{
    struct slice body = transfer->request.body;

    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    if (transfer->events.make_body)
        return lend_body(transfer, easy);
    if (body.data)
        set_body(easy, body);
    else
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    return true;
}

static long receive_buffer(const struct http *http)
{
    size_t in_flight = http->transfers.count;
    size_t size = in_flight > 0 ? RECEIVE_ROOM / in_flight : RECEIVE_BUFFER_MAX;

    if (size > RECEIVE_BUFFER_MAX)
        return RECEIVE_BUFFER_MAX;
    return size < RECEIVE_BUFFER_MIN ? RECEIVE_BUFFER_MIN : (long)size;
}

CURL *easy_take(struct transfer *transfer)
{
    struct http *http = transfer->http;
    CURL *easy = http->spare_count > 0 ? http->spare[--http->spare_count]
                                       : easy_new(http);

    if (!easy)
        return NULL;
    if (curl_easy_setopt(easy, CURLOPT_URL, transfer->request.url) !=
            CURLE_OK ||
        !set_method(transfer, easy)) {
        easy_give_back(http, easy);
        return NULL;
    }
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, receive_buffer(http));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, &transfer->headers[0]);
    curl_easy_setopt(
        easy, CURLOPT_DNS_CACHE_TIMEOUT,
        (long)(origin_is_led_by(transfer) ? LEADER_DNS_SECONDS : DNS_FOREVER));
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     (long)(transfer->request.pausable
                                ? CURL_HTTP_VERSION_1_1
                                : CURL_HTTP_VERSION_2TLS));
    /* Over HTTP/1.1 it would wait for the first whole answer. */
    curl_easy_setopt(
        easy, CURLOPT_PIPEWAIT,
        (long)(transfer_is_secure(transfer) && !transfer->request.pausable));
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
    return easy;
}

void easy_give_back(struct http *http, CURL *easy)
{
    if (http->spare_count == SPARE_EASIES_MAX) {
        curl_easy_cleanup(easy);
        return;
    }
    /* Forget what was lent. */
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, NULL);
    http->spare[http->spare_count++] = easy;
}

static const char *connect_reason(CURL *easy)
{
    long number = 0;

    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
    switch (number) {
    case 0:
        return "failed";
    case ECONNREFUSED:
        return "refused";
    default:
        return strerror((int)number);
    }
}

static const char *verify_reason(CURL *easy)
{
    long number = X509_V_OK;

    curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT, &number);
    /* A chain that is right for another host has no error of its own; curl
     * looks at the name first and leaves the number it began with. */
    return number == X509_V_OK || number == X509_V_ERR_UNSPECIFIED
               ? "the certificate is for another host"
               : X509_verify_cert_error_string(number);
}

static void explain(const struct transfer *transfer, CURLcode result,
                    struct error *err)
{
    struct slice host = url_host_port(transfer->request.url);

    if (transfer->socket_errno != 0) {
        error_set(err, ERR_OVERLOADED, "no socket for %.*s: %s",
                  SLICE_ARG(host), strerror(transfer->socket_errno));
        return;
    }
    switch ((int)result) {
    case CURLE_COULDNT_RESOLVE_HOST:
        error_set(err, ERR_UNREACHABLE, "resolve %.*s: no address",
                  SLICE_ARG(host));
        return;
    case CURLE_COULDNT_CONNECT:
        error_set(err, ERR_UNREACHABLE, "connect to %.*s: %s", SLICE_ARG(host),
                  connect_reason(transfer->easy));
        return;
    case CURLE_PEER_FAILED_VERIFICATION:
        error_set(err, ERR_UNREACHABLE, "TLS to %.*s: %s", SLICE_ARG(host),
                  verify_reason(transfer->easy));
        return;
    default:
        error_set(err, ERR_UNREACHABLE, "%s %.*s: %s",
                  transfer->phase == PHASE_CONNECTING ? "connect to"
                  : transfer->phase == PHASE_SENT     ? "waiting for"
                                                      : "answer of",
                  SLICE_ARG(host), curl_easy_strerror(result));
    }
}

static enum http_end end_of(const struct transfer *transfer, CURLcode result)
{
    if (transfer->verdict != HTTP_WHOLE)
        return transfer->verdict;
    if (result == CURLE_OPERATION_TIMEDOUT)
        return HTTP_TIMEOUT;
    if (transfer->phase != PHASE_BODY)
        return HTTP_NO_ANSWER;
    return result == CURLE_OK ? HTTP_WHOLE : HTTP_CUT;
}

void easy_outcome(const struct transfer *transfer, CURLcode result,
                  struct http_outcome *outcome)
{
    struct slice host = url_host_port(transfer->request.url);
    long connects = 0;

    curl_easy_getinfo(transfer->easy, CURLINFO_NUM_CONNECTS, &connects);
    *outcome = (struct http_outcome){
        .end = end_of(transfer, result),
        .status = transfer->status,
        .connection_reused =
            transfer->phase != PHASE_CONNECTING && connects == 0,
    };
    error_clear(&outcome->error);
    switch (outcome->end) {
    case HTTP_WHOLE:
    case HTTP_STOPPED:
        break;
    case HTTP_CUT:
    case HTTP_NO_ANSWER:
        explain(transfer, result, &outcome->error);
        break;
    case HTTP_TIMEOUT:
        error_set(&outcome->error, ERR_TIMEOUT, "connect to %.*s: timed out",
                  SLICE_ARG(host));
        break;
    case HTTP_TOO_LARGE:
        error_set(&outcome->error, ERR_TOO_LARGE,
                  "the answer of %.*s is over the limit of %zu bytes",
                  SLICE_ARG(host),
                  transfer->phase == PHASE_BODY
                      ? transfer->request.max_body_bytes
                      : (size_t)HEADER_BYTES_MAX);
    }
    outcome->error.http_status = transfer->status;
}
