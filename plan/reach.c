/*
 * reach.c - closure and reduction of what waits for what. Called where plans are made and verified;
 * pure, owns nothing. Invariant: a closure of a reduction is the closure of the whole.
 *
 * Sources: Warshall, "A theorem on Boolean matrices" (1962); Aho, Garey and Ullman, "The transitive
 * reduction of a directed graph" (1972): without circles it is unique. The layers unrolled hold no
 * circle when one layer does not, since no one waits for a later layer.
 */
#include "plan/reach.h"

void reach_close(struct reach *closed, const struct reach *direct, uint32_t count)
{
    *closed = *direct;
    for (uint32_t via = 0; via < count; via++) {
        for (uint32_t a = 0; a < count; a++) {
            if (closed->same[a] & reach_bit(via)) {
                closed->same[a] |= closed->same[via];
            }
        }
    }
    for (uint32_t a = 0; a < count; a++) {
        uint64_t next = direct->next[a];
        for (uint32_t via = 0; via < count; via++) {
            next |= closed->same[a] & reach_bit(via) ? direct->next[via] : 0;
        }
        closed->next[a] = next;
        for (uint32_t via = 0; via < count; via++) {
            closed->next[a] |= next & reach_bit(via) ? closed->same[via] : 0;
        }
    }
}

void reach_reduce(struct reach *reduced, const struct reach *direct, const struct reach *closed,
                  uint32_t count)
{
    for (uint32_t a = 0; a < count; a++) {
        uint64_t same = 0, next = 0; /* What a reaches by way of another. */
        for (uint32_t via = 0; via < count; via++) {
            if (direct->same[a] & reach_bit(via)) {
                same |= closed->same[via];
                next |= closed->next[via];
            }
            if (direct->next[a] & reach_bit(via)) {
                next |= closed->same[via];
            }
        }
        reduced->same[a] = direct->same[a] & ~same;
        reduced->next[a] = direct->next[a] & ~next;
    }
}
