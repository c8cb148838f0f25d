/*
 * oracle.c - see oracle.h. Called by the crowd for what should be and by the fleet for what its
 * pages hold; pure, it owns nothing. Invariant: no answer depends on anything but its arguments.
 */
#include "tests/sim/oracle.h"

#include <string.h>

/* Finalizer of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
 * OOPSLA 2014): a bijection that spreads every bit. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t oracle_extend(uint64_t tag, uint32_t id)
{
    const uint64_t next = mix(tag ^ mix(id + 1));
    return next ? next : 1; /* 0 is an empty place. */
}

uint64_t oracle_salt(uint64_t seed, float temperature, float top_p, uint32_t top_k)
{
    uint32_t bits[2];
    memcpy(&bits[0], &temperature, sizeof temperature);
    memcpy(&bits[1], &top_p, sizeof top_p);
    return temperature > 0 ? mix(seed ^ mix(bits[0] ^ mix(bits[1] ^ mix(top_k)))) : 0;
}

static bool holds(const uint32_t *ids, uint32_t count, uint32_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

uint32_t oracle_next(uint64_t tag, uint32_t position, const struct oracle_rules *rules)
{
    const uint32_t first = (uint32_t)(mix(tag ^ rules->salt) % ORACLE_VOCAB);
    for (uint32_t i = 0; i < ORACLE_VOCAB; i++) {
        const uint32_t id = (first + i) % ORACLE_VOCAB;
        const bool masked =
            position < rules->masked_below && holds(rules->masked, rules->masked_count, id);
        const bool allowed =
            rules->allowed_count == 0 || holds(rules->allowed, rules->allowed_count, id);
        if (!masked && allowed && !holds(rules->barred, rules->barred_count, id)) {
            return id;
        }
    }
    return first; /* Nothing is left: as the real one, it still says something. */
}

float oracle_logprob(uint64_t tag, uint32_t id)
{
    return -(float)(mix(tag + id) % 1024) / 64;
}

uint32_t oracle_top(uint64_t tag, uint32_t rank)
{
    return (uint32_t)((mix(tag) >> 8) + rank) % ORACLE_VOCAB;
}

uint32_t oracle_text(uint32_t id, char out[ORACLE_TEXT_BYTES_MAX])
{
    if (id < ORACLE_LETTERS) {
        out[0] = (char)('a' + id);
        return 1;
    }
    if (id == ORACLE_EOS) { /* Special: it leaves no text. */
        return 0;
    }
    out[0] = (char)('a' + id - ORACLE_LETTERS);
    out[1] = 'b';
    return 2;
}
