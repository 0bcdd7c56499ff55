/* The distribution handshake, version 6 (OTP 23 and later), both roles.
 *
 * Pure: bytes in, bytes out. Packets are `length:16 | tag | ...`,
 * within TLS `length:32` (kernel's dist_util.erl, ssl's inet_tls_dist.erl):
 *
 *     dialling                      accepting
 *     N flags creation name    ->
 *                              <-   s status      (ok, alive, nok, ...)
 *     s true                   ->                 (only after alive)
 *                              <-   N flags challenge creation name
 *     r challenge digest       ->
 *                              <-   a digest
 *
 * A digest is MD5(cookie, challenge in decimal): no authentication worth the
 * name, but what the protocol has; it keeps clusters apart. */
#ifndef LLM_ROUTER_DIST_HANDSHAKE_H
#define LLM_ROUTER_DIST_HANDSHAKE_H

#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"
#include "llm_router/dist/pid.h"

enum {
    HANDSHAKE_NAME_MAX = 255,
    HANDSHAKE_PACKET_MAX = 1024, /* the largest is a name packet */
};

/* What we announce: extended references, monitors (by name too), fun tags, new
 * fun tags, extended pids, export tag, bit binaries, new floats, unicode io,
 * small atoms, UTF-8 atoms, maps, big creation, send-sender, big seq-trace
 * labels, exit payload, fragments, handshake 23, unlink ids, the 25 digest,
 * spawn, V4_NC, alias, and the alternate signals of OTP 28. Not: published (we
 * are hidden), the atom cache. */
#define HANDSHAKE_FLAGS UINT64_C(0x2D07DF5FBC)

/* What a peer must have: the mandatory set of OTP 26 and later. */
#define HANDSHAKE_FLAGS_REQUIRED UINT64_C(0x403070F94)
#define HANDSHAKE_FLAG_PUBLISHED UINT64_C(1)

enum handshake_status {
    HANDSHAKE_OK,
    HANDSHAKE_OK_SIMULTANEOUS, /* we dial it too, but its call wins */
    HANDSHAKE_NOK,             /* we dial it too, and our call wins */
    HANDSHAKE_ALIVE, /* a connection is up; a true answer will replace it */
    HANDSHAKE_NOT_ALLOWED,
};

enum handshake_step {
    HANDSHAKE_MORE,    /* feed more bytes */
    HANDSHAKE_ASKED,   /* accepting, the peer is named: handshake_answer now */
    HANDSHAKE_YIELDED, /* dialling: the peer's own call to us wins */
    HANDSHAKE_DONE,    /* authenticated; bytes that follow are frames */
    HANDSHAKE_FAILED,  /* err says why; send what was written, then close */
};

enum handshake_state {
    HANDSHAKE_WAIT_NAME,
    HANDSHAKE_WAIT_ANSWER, /* of our own node */
    HANDSHAKE_WAIT_ALIVE,
    HANDSHAKE_WAIT_DIGEST,
    HANDSHAKE_WAIT_STATUS,
    HANDSHAKE_WAIT_CHALLENGE,
    HANDSHAKE_WAIT_ACK,
    HANDSHAKE_OVER,
};

/* What all handshakes of a node share. */
struct handshake_self {
    const struct identity *identity;
    struct slice cookie;
    size_t length_size; /* bytes of a packet's length: 2, or 4 within TLS */
};

struct handshake {
    enum handshake_state state;
    const struct handshake_self *self; /* lent */
    uint32_t challenge;                /* ours */
    char peer[HANDSHAKE_NAME_MAX];
    size_t peer_size;
    uint64_t peer_flags;
};

/* `challenge` must be unpredictable: getrandom(2). */
void handshake_accept(struct handshake *handshake,
                      const struct handshake_self *self, uint32_t challenge);

/* Writes the first packet. `peer` passed handshake_name_ok. */
void handshake_dial(struct handshake *handshake,
                    const struct handshake_self *self, uint32_t challenge,
                    struct slice peer, struct buf *out);

/* Takes at most one packet from the front of `input`; `*used` is 0 while it is
 * not whole. */
enum handshake_step handshake_next(struct handshake *handshake,
                                   struct slice input, size_t *used,
                                   struct buf *out, struct error *err);

/* After HANDSHAKE_ASKED. With NOK and NOT_ALLOWED it is over. */
void handshake_answer(struct handshake *handshake, enum handshake_status status,
                      struct buf *out);

/* name@host, printable ASCII. */
bool handshake_name_ok(struct slice name);

struct slice handshake_peer(const struct handshake *handshake);

#endif
