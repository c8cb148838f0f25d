/*
 * shard.h - what one rank of a tensor-parallel group has of a model: a range of rows of every
 * matrix. This is the only place that cuts.
 *
 * Every matrix is cut by rows, its outputs, and each rank has all columns, its inputs: so a number
 * is computed by the same sum in the same order whatever tp is (ADR 8). q, k and v are cut by KV
 * heads with their query heads; gate and up by rows of the feed-forward part; o, down and the head
 * by rows, as evenly as it goes. Norms, router and embedding are everybody's.
 */
#ifndef WORKERS_SHARD_H
#define WORKERS_SHARD_H

#include <stdint.h>

#include "model/hparams.h"
#include "model/weights.h"

struct span {
    uint32_t first;
    uint32_t count;
};

/* Part `rank` of [0, total) cut into `ranks`: no two differ by more than one. */
struct span span_part(uint32_t total, uint32_t rank, uint32_t ranks);

struct shard {
    uint32_t rank;
    uint32_t ranks; /* 1: alone, with all of the model. */
    struct span heads;
    struct span kv_heads; /* With more ranks than KV heads, several ranks have the same one. */
    struct span ffn;      /* Of each expert, where there are experts. */
    struct span hidden;   /* Rows of o and down. */
    struct span vocab;    /* Rows of the head. */
};

/* Wants numbers that hparams_check_ranks() accepts. */
struct shard shard_of(const struct hparams *hparams, uint32_t rank, uint32_t ranks);

/* The rank's rows of a role's matrix; of one expert's where there are several. Of vectors that
 * belong to rows of q, k and v: their entries. */
struct span shard_rows(const struct shard *shard, const struct hparams *hparams,
                       enum weight_role role);

#endif /* WORKERS_SHARD_H */
