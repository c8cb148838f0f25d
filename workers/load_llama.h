/*
 * load_llama.h - a Llama's weights from files into packed matrices, spread over the crew. Called by
 * the engine while it opens.
 */
#ifndef WORKERS_LOAD_LLAMA_H
#define WORKERS_LOAD_LLAMA_H

#include "base/must.h"
#include "model/weights.h"
#include "workers/model_llama.h"

/* Opens the matrix shapes for batches of tokens_max tokens and rows_max logit rows: wants hparams,
 * dtype and crew set. 0, -ENOTSUP, -ENOMEM. */
int llama_shapes_open(struct llama *llama, uint32_t tokens_max, uint32_t rows_max) MUST_CHECK;

/* Matrices of one layer, all experts' included. */
uint32_t llama_layer_weights(const struct hparams *hparams);

/* Opens and fills the matrices, embed and vectors: wants the shapes open and the places of embed,
 * vectors, weights and layers allocated. 0 or -ENOMEM. */
int llama_load(struct llama *llama, const struct weights *weights) MUST_CHECK;

/* Closes what the two functions above opened, whether they succeeded or not. */
void llama_unload(struct llama *llama);

/* Bytes that the weights take. */
uint64_t llama_weight_bytes(const struct llama *llama);

#endif /* WORKERS_LOAD_LLAMA_H */
