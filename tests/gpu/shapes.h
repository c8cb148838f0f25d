/*
 * shapes.h - what is put on lanes to be measured: products and attention in the shapes of
 * Llama-3-8B (HF config.json of Meta-Llama-3-8B) in bf16, a batch of 2048 rows, 64 sequences of
 * 2048 positions. Operands are the gauge's noise, so weights are as random as real ones: zeros
 * would draw less power and run faster.
 */
#ifndef TESTS_GPU_SHAPES_H
#define TESTS_GPU_SHAPES_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cuda/attend_cuda.h"
#include "tests/gpu/gauge.h"

enum {
    SHAPES_PRODUCTS = 4, /* Of a layer. */
    SHAPES_LAYERS = 4,   /* With weights of their own in the noise. */
    SHAPES_ROWS = 2048,
    SHAPES_SEQUENCES = 64, /* Decoding, */
    SHAPES_CONTEXT = 2048, /* each with so many positions behind it. */
    SHAPES_NOISE_MB = 2048,
};

const char *shapes_product_name(uint32_t index);

/* Product `index` of a layer over so many rows. */
struct accel_product shapes_product(struct gauge *gauge, uint32_t layer, uint32_t index,
                                    uint32_t rows);

/* 2 n k a row: a multiplication and an addition for each weight. */
double shapes_product_flops(const struct accel_product *product);

/* what: struct accel_product. */
int shapes_put_product(struct gauge *gauge, uint32_t lane, const void *what);

/* Lets the library's algorithms for it on the lane be timed. */
void shapes_tune(struct gauge *gauge, uint32_t lane, const struct accel_product *product);

/* Attention's lists on the device, for a lane of so many units. */
struct shapes_attention {
    struct cuda_attend_args args;
    bool prompts;
};

/* tokens: 1 to decode with SHAPES_CONTEXT behind each sequence; more are prompts of that length. */
struct shapes_attention shapes_attend(struct gauge *gauge, uint32_t units, uint32_t sequences,
                                      uint32_t tokens);

/* As args.kv_scale of attention whose pages hold e4m3: 1 for each head, on the device. */
const float *shapes_kv_scale(struct gauge *gauge);

/* K and V of all sequences, each read once: what decode attention is bound by. In e4m3: half. */
double shapes_decode_bytes(void);

/* 2 products of 2 FLOPs over heads, head size and the lower half of tokens x tokens. */
double shapes_prefill_flops(uint32_t tokens);

/* what: struct shapes_attention. */
int shapes_put_attention(struct gauge *gauge, uint32_t lane, const void *what);

#endif /* TESTS_GPU_SHAPES_H */
