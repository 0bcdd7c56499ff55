#include "llm_router/base/digest.h"

#include <openssl/sha.h>

_Static_assert((int)DIGEST_SIZE == SHA256_DIGEST_LENGTH, "digest size");

void digest_sha256(struct slice bytes, unsigned char digest[DIGEST_SIZE])
{
    SHA256((const unsigned char *)bytes.data, bytes.size, digest);
}
