/* The TLS channel before any peer is known. The first byte chooses: the role,
 * and how many bytes come at a time (0: all at once). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "llm_router/dist/tls.h"
#include "tests/test_certificates.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DIAL = 1, PIECE_SHIFT = 1, PLAIN_MAX = 65536, SEALED_MAX = 65536 };

static void require(bool condition)
{
    if (!condition)
        abort();
}

static FILE *create(const char *path)
{
    FILE *file = fopen(path, "w");

    require(file && fchmod(fileno(file), 0600) == 0);
    return file;
}

/* The context reads files only, so the authority is written to some. */
static struct tls_context *make_context(void)
{
    char folder[] = "/tmp/llm_router_fuzz_tls_XXXXXX";
    struct identity authority = identity_make(NULL, "Fuzz", NULL, 100L * DAY_S);
    char certificate[64], key[64];
    struct tls_context *context;
    struct error err;
    FILE *file;

    require(mkdtemp(folder) != NULL);
    snprintf(certificate, sizeof(certificate), "%s/c", folder);
    snprintf(key, sizeof(key), "%s/k", folder);
    file = create(certificate);
    PEM_write_X509(file, authority.certificate);
    fclose(file);
    file = create(key);
    PEM_write_PrivateKey(file, authority.key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    context = tls_context_new(
        &(struct tls_files){certificate, key, certificate}, &err);
    require(context != NULL);
    unlink(certificate);
    unlink(key);
    rmdir(folder);
    identity_free(&authority);
    return context;
}

static void run(struct tls *tls, size_t piece, struct slice input,
                struct buf *plain, struct buf *sealed)
{
    enum tls_outcome outcome;
    struct error err = {.message = ""};

    outcome = tls_receive(tls, slice_make(NULL, 0), plain, sealed, &err);
    require(outcome == TLS_GOING_ON);
    while (outcome == TLS_GOING_ON && input.size > 0) {
        size_t size = piece == 0 || piece > input.size ? input.size : piece;

        outcome =
            tls_receive(tls, slice_make(input.data, size), plain, sealed, &err);
        input = slice_make(input.data + size, input.size - size);
    }
    /* Nobody here can show a certificate of the authority. */
    require(!tls_established(tls) && plain->size == 0 && !sealed->failed);
    require((outcome == TLS_FAILED) == (err.message[0] != '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tls_context *context;
    struct buf plain, sealed;
    struct tls *tls;

    if (size == 0)
        return 0;
    if (!context)
        context = make_context();
    buf_init(&plain, PLAIN_MAX);
    buf_init(&sealed, SEALED_MAX);
    tls = data[0] & DIAL ? tls_dial(context, slice_of("localhost"))
                         : tls_accept(context);
    run(tls, data[0] >> PIECE_SHIFT, slice_make(data + 1, size - 1), &plain,
        &sealed);
    tls_free(tls);
    buf_release(&plain);
    buf_release(&sealed);
    return 0;
}
