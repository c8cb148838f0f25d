/*
 * record_slot.h - the cells that say what a slot is: who runs in it, how it samples, its pages.
 * Part of record.h, which says when they come.
 */
#ifndef IPC_RECORD_SLOT_H
#define IPC_RECORD_SLOT_H

#include <stdint.h>

#include "base/limits.h"

enum {
    RECORD_IDS_PER_CELL = 12,
    RECORD_PAGES_PER_CELL = 9,
    RECORD_BIASES_PER_CELL = 6,
    RECORD_BIASES_MAX = LIMIT_LOGIT_BIASES_MAX + LIMIT_BAD_IDS_MAX, /* Of one slot. */
};

struct record_head { /* 8 bytes, first in every record. */
    uint8_t kind;
    uint8_t flags;
    uint16_t group;
    uint32_t epoch;
};

struct record_open {
    struct record_head head;
    uint32_t slot;
    uint32_t generation;
    uint64_t seed;
    float temperature;      /* 0: greedy. */
    float top_p;            /* 1: off. */
    float min_p;            /* 0: off. */
    uint32_t top_k;         /* 0: off. */
    uint32_t top_logprobs;  /* 0 to LIMIT_TOP_LOGPROBS_MAX. */
    uint32_t logprobs;      /* 1: the chosen token's logprob is wanted. */
    uint32_t min_position;  /* Below it (position of the sampled token) stop ids are masked. */
    uint32_t stop_id_count; /* In the STOP_IDS cells that follow. */
    uint32_t adjusts;       /* 1: an ADJUST follows. */
    uint32_t score_top;     /* Top logprobs of a SCORE: 0 to LIMIT_TOP_LOGPROBS_MAX. */
};

struct record_stop_ids { /* And ALLOWED. */
    struct record_head head;
    uint32_t slot;
    uint32_t count;
    uint32_t ids[RECORD_IDS_PER_CELL];
};

struct record_adjust {
    struct record_head head;
    uint32_t slot;
    uint32_t generation;
    uint32_t prompt_tokens; /* Positions below are the prompt's, the others were generated. */
    float repetition;       /* 1: off. */
    float presence;         /* 0: off. */
    float frequency;        /* 0: off. */
    uint32_t bias_count;    /* In the BIASES cells that follow. */
    uint32_t allowed_count; /* In the ALLOWED cells that follow; 0: any id is. */
    uint32_t reserved[6];
};

struct record_bias {
    uint32_t id;
    float bias; /* -INFINITY: never. */
};

struct record_biases {
    struct record_head head;
    uint32_t slot;
    uint32_t count;
    struct record_bias pairs[RECORD_BIASES_PER_CELL];
};

struct record_pages {
    struct record_head head;
    uint32_t slot;
    uint32_t generation;
    uint32_t index; /* Of the first page in the slot's block table. */
    uint32_t count;
    uint32_t pages[RECORD_PAGES_PER_CELL];
    uint32_t reserved;
};

struct record_close {
    struct record_head head;
    uint32_t slot;
    uint32_t generation;
    uint32_t reserved[12];
};

#endif /* IPC_RECORD_SLOT_H */
