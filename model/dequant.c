/*
 * dequant.c - see dequant.h. Called through tensor.c while a worker starts, on any thread; pure,
 * owns nothing. Invariant: a function reads exactly the bytes of its block.
 *
 * Layouts are those of GGUF's block formats. Small blocks: 32 values behind one fp16 scale, and one
 * fp16 minimum in the _1 forms. Super-blocks: 256 values behind fp16 scales of scales; the pieces
 * of 32 (Q4_K, Q5_K) or 16 (Q6_K) values have integer scales of their own.
 */
#include "model/dequant.h"

#include <stddef.h>
#include <string.h>

static uint16_t load_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static uint32_t load_u32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16 to binary32. */
static float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t exponent = (half >> 10) & 0x1f;
    const uint32_t mantissa = half & 0x3ff;
    if (exponent == 0) { /* Zero and subnormals: mantissa * 2^-24. */
        const float value = (float)mantissa * 0x1p-24f;
        return sign ? -value : value;
    }
    const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
    return float_of_bits(sign | wide << 23 | mantissa << 13);
}

void dequant_f32(const uint8_t *bytes, uint64_t count, float *out)
{
    memcpy(out, bytes, count * sizeof *out);
}

void dequant_f16(const uint8_t *bytes, uint64_t count, float *out)
{
    for (uint64_t i = 0; i < count; i++) {
        out[i] = half_to_float(load_u16(bytes + 2 * i));
    }
}

void dequant_bf16(const uint8_t *bytes, uint64_t count, float *out)
{
    for (uint64_t i = 0; i < count; i++) {
        out[i] = float_of_bits((uint32_t)load_u16(bytes + 2 * i) << 16);
    }
}

/* {fp16 d, i8 q[32]}: d * q. */
void dequant_q8_0(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    for (int i = 0; i < DEQUANT_BLOCK; i++) {
        out[i] = d * (float)(int8_t)block[2 + i];
    }
}

/* {fp16 d, u8 q[16]}: d * (nibble - 8); low nibbles are values 0 to 15, high ones 16 to 31. */
void dequant_q4_0(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    for (int i = 0; i < DEQUANT_BLOCK / 2; i++) {
        out[i] = d * (float)((block[2 + i] & 15) - 8);
        out[i + 16] = d * (float)((block[2 + i] >> 4) - 8);
    }
}

/* {fp16 d, fp16 m, u8 q[16]}: d * nibble + m. */
void dequant_q4_1(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    const float m = half_to_float(load_u16(block + 2));
    for (int i = 0; i < DEQUANT_BLOCK / 2; i++) {
        out[i] = d * (float)(block[4 + i] & 15) + m;
        out[i + 16] = d * (float)(block[4 + i] >> 4) + m;
    }
}

/* Value i of a five-bit block: nibble i with bit i of high above it. */
static int five_bits(const uint8_t *nibbles, uint32_t high, int i)
{
    const int nibble = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
    return nibble | (int)((high >> i) & 1) << 4;
}

/* {fp16 d, u32 high, u8 q[16]}: d * (q - 16). */
void dequant_q5_0(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    const uint32_t high = load_u32(block + 2);
    for (int i = 0; i < DEQUANT_BLOCK; i++) {
        out[i] = d * (float)(five_bits(block + 6, high, i) - 16);
    }
}

/* {fp16 d, fp16 m, u32 high, u8 q[16]}: d * q + m. */
void dequant_q5_1(const uint8_t *block, float *out)
{
    const float d = half_to_float(load_u16(block));
    const float m = half_to_float(load_u16(block + 2));
    const uint32_t high = load_u32(block + 4);
    for (int i = 0; i < DEQUANT_BLOCK; i++) {
        out[i] = d * (float)five_bits(block + 8, high, i) + m;
    }
}

/* Six-bit scale and minimum of a piece of 32 values. */
struct piece {
    float scale;
    float minimum;
};

/*
 * Piece i of 8, packed into 12 bytes: the low six bits of bytes 0 to 3 are scales 0 to 3, of bytes
 * 4 to 7 minima 0 to 3; bytes 8 to 11 hold the low nibbles of scales (low) and minima (high) 4 to
 * 7, whose upper two bits are those that the first eight bytes leave free.
 */
static struct piece piece_of(const uint8_t packed[12], int i)
{
    if (i < 4) {
        return (struct piece){(float)(packed[i] & 63), (float)(packed[i + 4] & 63)};
    }
    const int scale = (packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4;
    const int minimum = packed[i + 4] >> 4 | (packed[i] >> 6) << 4;
    return (struct piece){(float)scale, (float)minimum};
}

/*
 * d * scale * q - m * minimum. Nibbles come in four runs of 32 bytes: low halves are piece 2 i,
 * high ones piece 2 i + 1. Bit i of fifth byte l (NULL: none) is worth 16 in value l of piece i.
 */
static void read_pieces(const uint8_t *block, const uint8_t *fifth, const uint8_t *nibbles,
                        float *out)
{
    const float d = half_to_float(load_u16(block));
    const float m = half_to_float(load_u16(block + 2));
    for (int i = 0; i < DEQUANT_SUPER / DEQUANT_BLOCK; i++) {
        const struct piece piece = piece_of(block + 4, i);
        const uint8_t *run = nibbles + (ptrdiff_t)(i / 2) * DEQUANT_BLOCK;
        for (int l = 0; l < DEQUANT_BLOCK; l++) {
            const int high = fifth ? (fifth[l] >> i & 1) << 4 : 0;
            const int q = (run[l] >> (i % 2 * 4) & 15) | high;
            *out++ = d * piece.scale * (float)q - m * piece.minimum;
        }
    }
}

/* {fp16 d, fp16 m, u8 pieces[12], u8 nibbles[128]}. */
void dequant_q4_k(const uint8_t *block, float *out)
{
    read_pieces(block, NULL, block + 16, out);
}

/* {fp16 d, fp16 m, u8 pieces[12], u8 fifth[32], u8 nibbles[128]}. */
void dequant_q5_k(const uint8_t *block, float *out)
{
    read_pieces(block, block + 16, block + 48, out);
}

/*
 * {u8 nibbles[128], u8 upper[64], i8 scales[16], fp16 d}: d * scale * (q - 32), a scale for 16
 * values. Each half of the block holds four runs of 32 values: nibbles of runs 0 and 1 are the low
 * halves of its 64 bytes, of runs 2 and 3 the high ones; bits 2 r of upper byte l go to run r.
 */
void dequant_q6_k(const uint8_t *block, float *out)
{
    const int8_t *scales = (const int8_t *)block + 192;
    const float d = half_to_float(load_u16(block + 208));
    for (int i = 0; i < DEQUANT_SUPER; i++) {
        const int half = i / 128;
        const int run = i % 128 / 32;
        const int l = i % 32;
        const int nibble = block[half * 64 + run % 2 * 32 + l] >> (run / 2 * 4) & 15;
        const int upper = block[128 + half * 32 + l] >> (2 * run) & 3;
        const int8_t scale = scales[i / 16];
        out[i] = d * (float)scale * (float)((nibble | upper << 4) - 32);
    }
}
