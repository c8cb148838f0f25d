/*
 * share_cuda.c - see share_cuda.h. Called by layer_cuda.c, moe_cuda.c and the engine on a worker's
 * main thread; puts work on lanes and owns nothing. All parts have the size of the largest, so that
 * one gather takes them all: what is behind a smaller one's rows is garbage that nobody reads.
 */
#include "workers/share_cuda.h"

#include "kernels/cuda/weave_cuda.h"

enum { PART_ITEMS = 64 }; /* Parts begin at multiples: what products like best. */

static size_t part_items(const struct cuda_model *model, size_t rows, size_t columns)
{
    const size_t most = rows * ((columns - 1) / model->shard.ranks + 1);
    return (most + PART_ITEMS - 1) / PART_ITEMS * PART_ITEMS;
}

void *cuda_own(const struct cuda_model *model, const struct cuda_share *share)
{
    const size_t items = part_items(model, share->rows, share->columns);
    return model->shard.ranks == 1
               ? share->full
               : model->parts + model->shard.rank * items * kern_dtype_bytes(share->dtype);
}

static int launch_weave(const void *args, struct CUstream_st *stream)
{
    return cuda_weave(args, stream);
}

int cuda_share(const struct cuda_model *model, const struct cuda_batch *batch, uint32_t lane,
               const struct cuda_share *share)
{
    if (model->shard.ranks == 1 || batch->apart) {
        return 0;
    }
    const size_t items = part_items(model, share->rows, share->columns);
    const struct accel_gather gather = {.own = share->own ? share->own : cuda_own(model, share),
                                        .all = model->parts,
                                        .count = items,
                                        .dtype = share->dtype};
    const struct cuda_weave_args weave = {.parts = model->parts,
                                          .y = share->full,
                                          .rows = share->valid,
                                          .part_items = items,
                                          .rows_max = share->rows,
                                          .cols = share->columns,
                                          .ranks = model->shard.ranks,
                                          .ctas = cuda_ctas(model, lane),
                                          .dtype = share->dtype,
                                          .adds = share->adds};
    const int error = accel_gather(model->accel, lane, &gather);
    return error ? error : accel_launch(model->accel, lane, launch_weave, &weave, sizeof weave);
}

size_t cuda_share_bytes(const struct cuda_model *model, uint32_t tokens, uint32_t rows)
{
    const struct hparams *hparams = &model->hparams;
    const size_t act = kern_dtype_bytes(model->dtype);
    const size_t slots = (size_t)tokens * (hparams->experts > 0 ? hparams->experts_used : 1);
    const size_t bytes[] = {
        part_items(model, tokens, cuda_q_columns(hparams)) * act,
        part_items(model, slots, hparams->ffn) * act,
        part_items(model, slots, hparams->hidden) * sizeof(float),
        part_items(model, rows, hparams->vocab) * sizeof(float),
    };
    size_t most = 0;
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        most = bytes[i] > most ? bytes[i] : most;
    }
    return model->shard.ranks > 1 ? model->shard.ranks * most : 0;
}
