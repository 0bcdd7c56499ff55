#include "llm_router/dist/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>

enum { DIGEST_SIZE = 16 };

/* Mandatory since OTP 25, and implied by its digest flag. */
#define FLAG_MANDATORY_25_DIGEST UINT64_C(0x4000000)
#define FLAGS_MANDATORY_25 UINT64_C(0x1070F94)
#define FLAG_NAME_ME UINT64_C(0x200000000)

static const char *const status_texts[] = {
    [HANDSHAKE_OK] = "ok",
    [HANDSHAKE_OK_SIMULTANEOUS] = "ok_simultaneous",
    [HANDSHAKE_NOK] = "nok",
    [HANDSHAKE_ALIVE] = "alive",
    [HANDSHAKE_NOT_ALLOWED] = "not_allowed",
};

/* A packet being read; a read past its end fails for good. */
struct packet {
    struct slice rest;
    bool failed;
};

static uint64_t read_number(struct packet *packet, size_t bytes)
{
    uint64_t value = 0;

    if (bytes > packet->rest.size) {
        packet->failed = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | (unsigned char)packet->rest.data[i];
    packet->rest.data += bytes;
    packet->rest.size -= bytes;
    return value;
}

static struct slice read_bytes(struct packet *packet, size_t bytes)
{
    struct slice taken = {packet->rest.data, bytes};

    if (bytes > packet->rest.size) {
        packet->failed = true;
        return slice_of(NULL);
    }
    packet->rest.data += bytes;
    packet->rest.size -= bytes;
    return taken;
}

static void put_number(struct buf *out, uint64_t value, size_t bytes)
{
    while (bytes-- > 0)
        buf_append_byte(out, (char)(value >> 8 * bytes));
}

static void put_name(struct buf *out, struct slice name)
{
    put_number(out, name.size, 2);
    buf_append_slice(out, name);
}

static void put_status(const struct handshake *handshake, struct buf *out,
                       const char *status)
{
    put_number(out, 1 + strlen(status), handshake->self->length_size);
    buf_append_byte(out, 's');
    buf_append_text(out, status);
}

static bool make_digest(struct slice cookie, uint32_t challenge,
                        unsigned char digest[DIGEST_SIZE])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    char decimal[11];
    bool made;

    snprintf(decimal, sizeof(decimal), "%u", challenge);
    made = context && EVP_DigestInit_ex(context, EVP_md5(), NULL) == 1 &&
           EVP_DigestUpdate(context, cookie.data, cookie.size) == 1 &&
           EVP_DigestUpdate(context, decimal, strlen(decimal)) == 1 &&
           EVP_DigestFinal_ex(context, digest, NULL) == 1;
    EVP_MD_CTX_free(context);
    return made;
}

static enum handshake_step fail(struct handshake *handshake, struct error *err,
                                const char *why)
{
    handshake->state = HANDSHAKE_OVER;
    error_set(err, ERR_UNAUTHORIZED, "%s", why);
    return HANDSHAKE_FAILED;
}

/* Compares in constant time: how long it takes says nothing of the cookie. */
static bool digest_matches(const struct handshake *handshake,
                           struct slice digest)
{
    unsigned char expected[DIGEST_SIZE];

    return digest.size == DIGEST_SIZE &&
           make_digest(handshake->self->cookie, handshake->challenge,
                       expected) &&
           CRYPTO_memcmp(digest.data, expected, DIGEST_SIZE) == 0;
}

static void put_digest(struct buf *out, struct slice cookie, uint32_t challenge)
{
    unsigned char digest[DIGEST_SIZE];

    if (make_digest(cookie, challenge, digest))
        buf_append(out, digest, sizeof(digest));
    else
        out->failed = true; /* OpenSSL without MD5 */
}

static bool flags_suffice(uint64_t flags)
{
    if (flags & FLAG_MANDATORY_25_DIGEST)
        flags |= FLAGS_MANDATORY_25;
    return (flags & HANDSHAKE_FLAGS_REQUIRED) == HANDSHAKE_FLAGS_REQUIRED;
}

bool handshake_name_ok(struct slice name)
{
    size_t ats = 0;

    if (name.size < 3 || name.size > HANDSHAKE_NAME_MAX ||
        name.data[0] == '@' || name.data[name.size - 1] == '@')
        return false;
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] <= ' ' || name.data[i] > '~')
            return false;
        ats += name.data[i] == '@';
    }
    return ats == 1;
}

struct slice handshake_peer(const struct handshake *handshake)
{
    return slice_make(handshake->peer, handshake->peer_size);
}

static void set_peer(struct handshake *handshake, struct slice name)
{
    memcpy(handshake->peer, name.data, name.size);
    handshake->peer_size = name.size;
}

void handshake_accept(struct handshake *handshake,
                      const struct handshake_self *self, uint32_t challenge)
{
    *handshake = (struct handshake){
        .state = HANDSHAKE_WAIT_NAME,
        .self = self,
        .challenge = challenge,
    };
}

void handshake_dial(struct handshake *handshake,
                    const struct handshake_self *self, uint32_t challenge,
                    struct slice peer, struct buf *out)
{
    const struct identity *identity = self->identity;

    handshake_accept(handshake, self, challenge);
    handshake->state = HANDSHAKE_WAIT_STATUS;
    set_peer(handshake, peer);
    put_number(out, 1 + 8 + 4 + 2 + identity->name.size, self->length_size);
    buf_append_byte(out, 'N');
    put_number(out, HANDSHAKE_FLAGS, 8);
    put_number(out, identity->creation, 4);
    put_name(out, identity->name);
}

static void put_challenge(struct handshake *handshake, struct buf *out)
{
    const struct identity *identity = handshake->self->identity;

    put_number(out, 1 + 8 + 4 + 4 + 2 + identity->name.size,
               handshake->self->length_size);
    buf_append_byte(out, 'N');
    put_number(out, HANDSHAKE_FLAGS, 8);
    put_number(out, handshake->challenge, 4);
    put_number(out, identity->creation, 4);
    put_name(out, identity->name);
    handshake->state = HANDSHAKE_WAIT_DIGEST;
}

void handshake_answer(struct handshake *handshake, enum handshake_status status,
                      struct buf *out)
{
    put_status(handshake, out, status_texts[status]);
    switch (status) {
    case HANDSHAKE_OK:
    case HANDSHAKE_OK_SIMULTANEOUS:
        put_challenge(handshake, out);
        break;
    case HANDSHAKE_ALIVE:
        handshake->state = HANDSHAKE_WAIT_ALIVE;
        break;
    case HANDSHAKE_NOK:
    case HANDSHAKE_NOT_ALLOWED:
        handshake->state = HANDSHAKE_OVER;
        break;
    }
}

static enum handshake_step refuse(struct handshake *handshake, struct buf *out,
                                  struct error *err, const char *why)
{
    put_status(handshake, out, status_texts[HANDSHAKE_NOT_ALLOWED]);
    return fail(handshake, err, why);
}

static enum handshake_step take_name(struct handshake *handshake,
                                     struct packet *packet, struct buf *out,
                                     struct error *err)
{
    uint64_t tag = read_number(packet, 1);
    uint64_t flags;
    struct slice name;

    if (tag == 'n')
        return refuse(handshake, out, err,
                      "speaks the handshake of OTP 22 or older");
    if (tag != 'N')
        return fail(handshake, err, "no handshake");
    flags = read_number(packet, 8);
    read_number(packet, 4); /* creation: not needed */
    name = read_bytes(packet, read_number(packet, 2));
    if (packet->failed)
        return fail(handshake, err, "cut name packet");
    if (flags & FLAG_NAME_ME)
        return refuse(handshake, out, err,
                      "wants to be named; this node names nobody");
    if (!handshake_name_ok(name))
        return refuse(handshake, out, err, "not a node name");
    set_peer(handshake, name);
    handshake->peer_flags = flags;
    if (!flags_suffice(flags))
        return refuse(handshake, out, err,
                      "lacks mandatory flags of OTP 25 or later");
    handshake->state = HANDSHAKE_WAIT_ANSWER;
    return HANDSHAKE_ASKED;
}

static enum handshake_step take_alive(struct handshake *handshake,
                                      struct packet *packet, struct buf *out,
                                      struct error *err)
{
    if (!slice_is(packet->rest, "strue"))
        return fail(handshake, err, "does not insist on a new connection");
    put_challenge(handshake, out);
    return HANDSHAKE_MORE;
}

static enum handshake_step take_digest(struct handshake *handshake,
                                       struct packet *packet, struct buf *out,
                                       struct error *err)
{
    uint64_t tag = read_number(packet, 1);
    uint32_t challenge = (uint32_t)read_number(packet, 4);

    if (tag != 'r' || packet->failed ||
        !digest_matches(handshake, packet->rest))
        return fail(handshake, err, "wrong cookie");
    put_number(out, 1 + DIGEST_SIZE, handshake->self->length_size);
    buf_append_byte(out, 'a');
    put_digest(out, handshake->self->cookie, challenge);
    handshake->state = HANDSHAKE_OVER;
    return HANDSHAKE_DONE;
}

static enum handshake_step take_status(struct handshake *handshake,
                                       struct packet *packet, struct buf *out,
                                       struct error *err)
{
    if (read_number(packet, 1) != 's')
        return fail(handshake, err, "no handshake status");
    handshake->state = HANDSHAKE_WAIT_CHALLENGE;
    if (slice_is(packet->rest, "ok") ||
        slice_is(packet->rest, "ok_simultaneous"))
        return HANDSHAKE_MORE;
    if (slice_is(packet->rest, "alive")) {
        put_status(handshake, out, "true");
        return HANDSHAKE_MORE;
    }
    if (slice_is(packet->rest, "nok")) {
        handshake->state = HANDSHAKE_OVER;
        return HANDSHAKE_YIELDED;
    }
    if (slice_is(packet->rest, "not_allowed"))
        return fail(handshake, err, "does not allow us");
    return fail(handshake, err, "unknown handshake status");
}

static enum handshake_step take_challenge(struct handshake *handshake,
                                          struct packet *packet,
                                          struct buf *out, struct error *err)
{
    uint64_t tag = read_number(packet, 1);
    uint32_t challenge;
    struct slice name;

    handshake->peer_flags = read_number(packet, 8);
    challenge = (uint32_t)read_number(packet, 4);
    read_number(packet, 4); /* creation: not needed */
    name = read_bytes(packet, read_number(packet, 2));
    if (tag != 'N' || packet->failed)
        return fail(handshake, err, "no handshake challenge");
    if (!slice_equal(name, handshake_peer(handshake)))
        return fail(handshake, err, "has another name than was dialled");
    if (!flags_suffice(handshake->peer_flags))
        return fail(handshake, err, "lacks mandatory flags of OTP 25 or later");
    put_number(out, 1 + 4 + DIGEST_SIZE, handshake->self->length_size);
    buf_append_byte(out, 'r');
    put_number(out, handshake->challenge, 4);
    put_digest(out, handshake->self->cookie, challenge);
    handshake->state = HANDSHAKE_WAIT_ACK;
    return HANDSHAKE_MORE;
}

static enum handshake_step take_ack(struct handshake *handshake,
                                    struct packet *packet, struct error *err)
{
    if (read_number(packet, 1) != 'a' ||
        !digest_matches(handshake, packet->rest))
        return fail(handshake, err, "wrong cookie");
    handshake->state = HANDSHAKE_OVER;
    return HANDSHAKE_DONE;
}

static enum handshake_step take_packet(struct handshake *handshake,
                                       struct packet *packet, struct buf *out,
                                       struct error *err)
{
    switch (handshake->state) {
    case HANDSHAKE_WAIT_NAME:
        return take_name(handshake, packet, out, err);
    case HANDSHAKE_WAIT_ALIVE:
        return take_alive(handshake, packet, out, err);
    case HANDSHAKE_WAIT_DIGEST:
        return take_digest(handshake, packet, out, err);
    case HANDSHAKE_WAIT_STATUS:
        return take_status(handshake, packet, out, err);
    case HANDSHAKE_WAIT_CHALLENGE:
        return take_challenge(handshake, packet, out, err);
    case HANDSHAKE_WAIT_ACK:
        return take_ack(handshake, packet, err);
    case HANDSHAKE_WAIT_ANSWER:
    case HANDSHAKE_OVER:
        break;
    }
    return fail(handshake, err, "handshake is over");
}

/* A TLS record: change of cipher, alert, handshake or data, of version 3. */
static bool is_tls(struct slice input)
{
    return input.size >= 2 && input.data[0] >= 0x14 && input.data[0] <= 0x17 &&
           input.data[1] == 3;
}

enum handshake_step handshake_next(struct handshake *handshake,
                                   struct slice input, size_t *used,
                                   struct buf *out, struct error *err)
{
    struct packet packet = {.rest = input};
    size_t length_size = handshake->self->length_size;
    size_t length = (size_t)read_number(&packet, length_size);
    enum handshake_step step;

    *used = 0;
    if (packet.failed)
        return HANDSHAKE_MORE;
    if (is_tls(input))
        return fail(handshake, err, "speaks TLS, this node does not");
    if (length == 0 || length > HANDSHAKE_PACKET_MAX)
        return fail(handshake, err, "no handshake");
    if (packet.rest.size < length)
        return HANDSHAKE_MORE;
    packet.rest.size = length;
    *used = length_size + length;
    step = take_packet(handshake, &packet, out, err);
    if (out->failed)
        return fail(handshake, err, "handshake could not be written");
    return step;
}
