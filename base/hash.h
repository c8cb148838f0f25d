/* hash.h - the project's one hash: BLAKE2b (RFC 7693), optionally keyed. Little-endian results. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* First 8 bytes of the 16-byte BLAKE2b digest of bytes. Not a secret, not for lookups by clients.
 */
uint64_t hash_u64(const void *bytes, size_t count);

struct hash_key {
    uint64_t word[2];
};

/* 16-byte BLAKE2b digest of bytes under a key: with the digest of what came before as the key, the
 * digest of a whole chain. */
struct hash_key hash_keyed(const struct hash_key *key, const void *bytes, size_t count);

#endif /* BASE_HASH_H */
