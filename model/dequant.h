/* dequant.h - from the bytes of a tensor to float: plain numbers, and the block formats of GGUF.
 * The formats' shapes are rows of the table in tensor.c, whose functions call these. */
#ifndef MODEL_DEQUANT_H
#define MODEL_DEQUANT_H

#include <stdint.h>

enum {
    DEQUANT_BLOCK = 32,  /* Values of a small block. */
    DEQUANT_SUPER = 256, /* Values of a super-block, K-quants. */
};

/* count numbers, little-endian. */
void dequant_f32(const uint8_t *bytes, uint64_t count, float *out);
void dequant_f16(const uint8_t *bytes, uint64_t count, float *out);
void dequant_bf16(const uint8_t *bytes, uint64_t count, float *out);

/* One block, 32 values. */
void dequant_q8_0(const uint8_t *block, float *out);
void dequant_q4_0(const uint8_t *block, float *out);
void dequant_q4_1(const uint8_t *block, float *out);
void dequant_q5_0(const uint8_t *block, float *out);
void dequant_q5_1(const uint8_t *block, float *out);

/* One super-block, 256 values. */
void dequant_q4_k(const uint8_t *block, float *out);
void dequant_q5_k(const uint8_t *block, float *out);
void dequant_q6_k(const uint8_t *block, float *out);

#endif /* MODEL_DEQUANT_H */
