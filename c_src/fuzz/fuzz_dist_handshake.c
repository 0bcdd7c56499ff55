/* The handshake in both roles. The first byte chooses: role, the answer to a
 * peer that named itself, how long the lengths are, and whether digests are put
 * right before they are read (no fuzzer guesses an MD5). */
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "llm_router/base/mem.h"
#include "llm_router/dist/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    DIAL = 1,
    RIGHT_DIGESTS = 2,
    ANSWER_SHIFT = 2,
    ANSWERS = 5,
    WITHIN_TLS = 128,
};

static const struct identity SELF = {SLICE_LITERAL("llm_router@localhost"),
                                     0x6b02eab5};
static const struct handshake_self PLAIN = {&SELF, SLICE_LITERAL("ck"), 2};
static const struct handshake_self SEALED = {&SELF, SLICE_LITERAL("ck"), 4};

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* The digest of challenge 7 and cookie "ck" into a whole packet that wants
 * one. */
static void put_right(const struct handshake *handshake, struct buf *input)
{
    size_t head = handshake->self->length_size +
                  (handshake->state == HANDSHAKE_WAIT_DIGEST ? 5 : 1);
    bool wants = handshake->state == HANDSHAKE_WAIT_DIGEST ||
                 handshake->state == HANDSHAKE_WAIT_ACK;

    if (wants && input->size >= head + 16)
        require(EVP_Digest("ck7", 3, (unsigned char *)input->data + head, NULL,
                           EVP_md5(), NULL) == 1);
}

static enum handshake_status chosen_answer(uint8_t choice)
{
    int number = (choice & ~WITHIN_TLS) >> ANSWER_SHIFT;

    return (enum handshake_status)(number % ANSWERS);
}

static void run(struct handshake *handshake, uint8_t choice, struct buf *input,
                struct buf *out)
{
    enum handshake_step step;
    struct error err;
    size_t used;

    do {
        if (choice & RIGHT_DIGESTS)
            put_right(handshake, input);
        step = handshake_next(handshake, buf_slice(input), &used, out, &err);
        require(used <= input->size && !out->failed);
        if (step == HANDSHAKE_ASKED) {
            require(handshake_name_ok(handshake_peer(handshake)));
            handshake_answer(handshake, chosen_answer(choice), out);
        }
        if (step == HANDSHAKE_FAILED)
            require(err.code == ERR_UNAUTHORIZED && err.message[0] != '\0');
        buf_drop_front(input, used);
    } while (used > 0 && (step == HANDSHAKE_MORE || step == HANDSHAKE_ASKED));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct handshake_self *self;
    struct handshake handshake;
    struct buf input, out;

    if (size == 0)
        return 0;
    self = data[0] & WITHIN_TLS ? &SEALED : &PLAIN;
    buf_init(&input, SIZE_MAX);
    buf_init(&out, 4096);
    buf_append(&input, data + 1, size - 1);
    if (data[0] & DIAL)
        handshake_dial(&handshake, self, 7, slice_of("rec@localhost"), &out);
    else
        handshake_accept(&handshake, self, 7);
    run(&handshake, data[0], &input, &out);
    buf_release(&input);
    buf_release(&out);
    return 0;
}
