/*
 * hash.c - BLAKE2b through libsodium; the only file that includes sodium.h. Called by the core
 * and the workers on any thread; owns nothing.
 */
#include "base/hash.h"

#include <string.h>

#include <sodium.h>

#include "base/must.h"

uint64_t hash_u64(const void *bytes, size_t count)
{
    unsigned char digest[crypto_generichash_BYTES_MIN];
    uint64_t word;
    must(crypto_generichash(digest, sizeof digest, bytes, count, NULL, 0) == 0);
    memcpy(&word, digest, sizeof word);
    return word;
}

struct hash_key hash_keyed(const struct hash_key *key, const void *bytes, size_t count)
{
    struct hash_key digest;
    must(crypto_generichash((unsigned char *)&digest, sizeof digest, bytes, count,
                            (const unsigned char *)key, sizeof *key) == 0);
    return digest;
}
