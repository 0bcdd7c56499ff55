/* TLS for a distribution connection, as inet_tls_dist of OTP speaks it.
 *
 * Pure: bytes in, bytes out; no descriptor (the certificates' dates are
 * compared with the system's time). Both sides show a certificate, both check
 * the other's against the given authorities and no others; who dials checks the
 * host behind the @ of the node name too. TLS 1.2 and 1.3, no resumption, no
 * renegotiation: an OTP peer with TLS 1.2 asks for one after 2^28 records and
 * closes when it is refused.
 *
 * Every call leaves OpenSSL's error queue of the thread empty, and does not
 * mind what others left in it. Memory is bounded: a connection holds at most
 * one record and what OpenSSL allows a handshake, and little when idle. */
#ifndef LLM_ROUTER_DIST_TLS_H
#define LLM_ROUTER_DIST_TLS_H

#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"

enum { TLS_RECORD_MAX = 16384 }; /* plain bytes */

/* Certificates, key and settings of a node. Connections go on with the one they
 * were made with, also when its owner has freed it. */
struct tls_context;

struct tls_files {           /* PEM */
    const char *certificate; /* and those between it and the authority */
    const char *key;         /* not encrypted, its owner's only */
    const char *authorities;
};

/* NULL: ERR_INVALID_REQUEST, path is the file at fault. A certificate that is
 * out of date, or will be within 14 days, is only logged: it may be the clock
 * that is wrong. May be called in another thread than its user's. */
struct tls_context *tls_context_new(const struct tls_files *files,
                                    struct error *err);
void tls_context_free(struct tls_context *context); /* NULL is allowed */

/* When certificates run out, in seconds since 1970; 0: that cannot be read. */
struct tls_expiry {
    int64_t own_s;      /* the node's own */
    int64_t earliest_s; /* the first of all in the files, that one included */
};

struct tls_expiry tls_context_expiry(const struct tls_context *context);

/* One connection. */
struct tls;

struct tls *tls_accept(struct tls_context *context);

/* `host` is a name, which is also sent as SNI, or an IP address; not empty. */
struct tls *tls_dial(struct tls_context *context, struct slice host);
void tls_free(struct tls *tls); /* NULL is allowed */

/* The handshake is over, for this side: with TLS 1.3 an acceptor may still
 * refuse the certificate of who dialled. */
bool tls_established(const struct tls *tls);

enum tls_outcome {
    TLS_GOING_ON,
    TLS_CLOSED, /* by the peer's close_notify */
    TLS_FAILED, /* err says why; send `sealed` (an alert), then close */
};

/* Takes all that arrived: appends what it says to `plain`, and what must be
 * sent (handshake, alerts) to `sealed`. An empty `received` starts the
 * handshake of one that dials. `plain` needs room for `received` and two
 * records. */
enum tls_outcome tls_receive(struct tls *tls, struct slice received,
                             struct buf *plain, struct buf *sealed,
                             struct error *err);

/* Seals all of `plain` into `sealed`. False for good: not established, failed
 * before, or `sealed` is full. */
bool tls_send(struct tls *tls, struct slice plain, struct buf *sealed);

/* Appends a close_notify to `sealed` where the protocol allows one. */
void tls_close(struct tls *tls, struct buf *sealed);

#endif
