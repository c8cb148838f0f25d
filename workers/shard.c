/*
 * shard.c - see shard.h. Called by the engine and the loader on a worker's main thread and crew;
 * pure. Invariant: the parts of all ranks cover every row, once but for replicated KV heads.
 */
#include "workers/shard.h"

#include "base/must.h"

struct span span_part(uint32_t total, uint32_t rank, uint32_t ranks)
{
    const uint32_t first = (uint32_t)((uint64_t)total * rank / ranks);
    const uint32_t end = (uint32_t)((uint64_t)total * (rank + 1) / ranks);
    return (struct span){first, end - first};
}

struct shard shard_of(const struct hparams *hparams, uint32_t rank, uint32_t ranks)
{
    must(rank < ranks && hparams->heads % ranks == 0);
    struct shard shard = {
        .rank = rank,
        .ranks = ranks,
        .heads = span_part(hparams->heads, rank, ranks),
        .kv_heads = span_part(hparams->kv_heads, rank, ranks),
        .ffn = span_part(hparams->ffn, rank, ranks),
        .hidden = span_part(hparams->hidden, rank, ranks),
        .vocab = span_part(hparams->vocab, rank, ranks),
    };
    if (ranks > hparams->kv_heads) {
        must(ranks % hparams->kv_heads == 0);
        shard.kv_heads = (struct span){rank / (ranks / hparams->kv_heads), 1};
    }
    return shard;
}

static struct span scaled(struct span span, uint32_t by)
{
    return (struct span){span.first * by, span.count * by};
}

struct span shard_rows(const struct shard *shard, const struct hparams *hparams,
                       enum weight_role role)
{
    switch (role) {
    case WEIGHT_Q:
    case WEIGHT_Q_BIAS:
        return scaled(shard->heads, hparams->head_dim);
    case WEIGHT_K:
    case WEIGHT_V:
    case WEIGHT_K_BIAS:
    case WEIGHT_V_BIAS:
        return scaled(shard->kv_heads, hparams->head_dim);
    case WEIGHT_GATE:
    case WEIGHT_UP:
        return shard->ffn;
    case WEIGHT_O:
    case WEIGHT_DOWN:
        return shard->hidden;
    case WEIGHT_HEAD:
        return shard->vocab;
    case WEIGHT_ROUTER:
        return (struct span){0, hparams->experts};
    default:
        must(false); /* a role without rows to cut */
        return (struct span){0, 0};
    }
}
