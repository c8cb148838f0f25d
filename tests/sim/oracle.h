/*
 * oracle.h - the model of the simulation: what stands before a token decides everything about it.
 * Its state after a token is one number, the tag of all tokens so far. Clients know it and so say
 * what the right answer is; the fake workers keep it in their KV pages and so find a wrong page.
 */
#ifndef TESTS_SIM_ORACLE_H
#define TESTS_SIM_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ORACLE_VOCAB = 32,
    ORACLE_EOS = 31,
    ORACLE_LETTERS = 26, /* Ids below are one letter each: what a text prompt is made of. */
    ORACLE_TEXT_BYTES_MAX = 2,
};

struct oracle_rules { /* How one answer is sampled. Lists are borrowed. */
    uint64_t salt;    /* Seed and numbers of the request; 0 where it is greedy. */
    const uint32_t *masked;
    uint32_t masked_count;
    uint32_t masked_below; /* Position of the sampled token below which they are. */
    const uint32_t *allowed;
    uint32_t allowed_count; /* 0: all. */
    const uint32_t *barred;
    uint32_t barred_count;
};

/* Tag of the tokens behind tag and id. The tag of none is 0. */
uint64_t oracle_extend(uint64_t tag, uint32_t id);

/* What the numbers of a request do to its answers; 0 where it is greedy. */
uint64_t oracle_salt(uint64_t seed, float temperature, float top_p, uint32_t top_k);

/* The token at `position`, behind all that tag stands for. */
uint32_t oracle_next(uint64_t tag, uint32_t position, const struct oracle_rules *rules);

/* How likely id is behind tag. */
float oracle_logprob(uint64_t tag, uint32_t id);

/* The rank-th best id behind tag, of those that are told beside the chosen one. */
uint32_t oracle_top(uint64_t tag, uint32_t rank);

/* Text of an id, as tests/sim/tokenizer.json has it; the number of its bytes. */
uint32_t oracle_text(uint32_t id, char out[ORACLE_TEXT_BYTES_MAX]);

#endif /* TESTS_SIM_ORACLE_H */
