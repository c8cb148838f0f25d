/*
 * emu_tensor.c - multiplies and loads tiles as tensor cores do, in the order of k and in float.
 * Called by kernels through emu_language.h. Invariant: lane and register of an element are those
 * of the PTX manual: A[r][k] lane r%8*4 + k%8/2, register r/8 + 2*(k/8), half k%2; B[k][n] lane
 * n*4 + k%8/2, register k/8; D[r][c] lane r%8*4 + c/2, register 2*(r/8) + c%2.
 */
#include "tests/kern/emu/emu_tensor.h"

#include <string.h>

#include "kernels/bf16.h"
#include "tests/kern/emu/emu_warp.h"

enum { M = 16, N = 8, K = 16, TILE = 8, TILES = 4 };

static float half_of(uint32_t word, uint32_t half)
{
    return bf16_to_float((uint16_t)(word >> 16 * half));
}

void emu_tensor_multiply(struct emu_warp *warp)
{
    float a[M][K];
    float b[K][N];
    float d[M][N] = {{0}};
    for (uint32_t i = 0; i < EMU_WARP; i++) {
        const struct emu_lane *lane = &warp->lanes[i];
        const uint32_t row = i / 4;
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t k = i % 4 * 2 + half;
            for (uint32_t j = 0; j < 4; j++) {
                a[row + j % 2 * 8][k + j / 2 * 8] = half_of(lane->a[j], half);
            }
            b[k][row] = half_of(lane->b[0], half);
            b[k + 8][row] = half_of(lane->b[1], half);
        }
    }
    for (uint32_t r = 0; r < M; r++) {
        for (uint32_t k = 0; k < K; k++) {
            for (uint32_t c = 0; c < N; c++) {
                d[r][c] += a[r][k] * b[k][c];
            }
        }
    }
    for (uint32_t i = 0; i < EMU_WARP; i++) {
        for (uint32_t j = 0; j < 4; j++) {
            warp->lanes[i].tile[j] = d[i / 4 + j / 2 * 8][i % 4 * 2 + j % 2];
        }
    }
}

void emu_tensor_load(struct emu_warp *warp, bool transposed)
{
    for (uint32_t i = 0; i < EMU_WARP; i++) {
        for (uint32_t tile = 0; tile < TILES; tile++) {
            uint32_t word = 0;
            for (uint32_t half = 0; half < 2; half++) {
                const uint32_t first = i / 4;
                const uint32_t second = i % 4 * 2 + half;
                const uint32_t row = transposed ? second : first;
                const uint16_t *values = warp->lanes[tile * TILE + row].row;
                word |= (uint32_t)values[transposed ? first : second] << 16 * half;
            }
            warp->lanes[i].words[tile] = word;
        }
    }
}

void emu_tensor_mma(struct emu_block *block, float d[4], const uint32_t a[4], const uint32_t b[2])
{
    struct emu_lane *lane = emu_warp_lane(block);
    memcpy(lane->a, a, sizeof lane->a);
    memcpy(lane->b, b, sizeof lane->b);
    emu_warp_meet(block, EMU_MMA, UINT32_MAX);
    for (uint32_t i = 0; i < 4; i++) {
        d[i] += lane->tile[i];
    }
}

void emu_tensor_ldmatrix(struct emu_block *block, uint32_t r[4], const void *row, bool transposed)
{
    struct emu_lane *lane = emu_warp_lane(block);
    if ((uintptr_t)row % 16 != 0) {
        emu_block_fail(block, "ldmatrix of a row that is not aligned to 16 bytes");
    }
    lane->row = row;
    emu_warp_meet(block, transposed ? EMU_LDMATRIX_TRANS : EMU_LDMATRIX, UINT32_MAX);
    memcpy(r, lane->words, sizeof lane->words);
}
