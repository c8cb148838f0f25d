/* tensor_test.c - one block of every type, written by hand, and halves at their edges. Halves used
 * below: 0x3800 is 0.5, 0x3c00 is 1, 0xc000 is -2.
 */
#include "model/tensor.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VALUES = 32, BLOCK_BYTES_MAX = 34, SUPER_VALUES = 256, SUPER_BYTES_MAX = 210 };

static void read_block(enum tensor_dtype dtype, const uint8_t *bytes, float *out)
{
    const struct tensor tensor = {
        .name = "t", .dtype = dtype, .dims = 2, .shape = {1, VALUES}, .bytes = bytes};
    assert_int_equal(tensor_block_values(dtype), VALUES);
    assert_in_range(tensor_block_bytes(dtype), 1, BLOCK_BYTES_MAX);
    tensor_read_row(&tensor, 0, 0, VALUES, out);
}

static void eight_bits_are_signed(void **state)
{
    (void)state;
    uint8_t block[BLOCK_BYTES_MAX] = {0x00, 0x38, 0x80, 0x7f};
    float out[VALUES];
    read_block(TENSOR_Q8_0, block, out);
    assert_true(out[0] == -64.0f && out[1] == 63.5f && out[2] == 0.0f);
}

/* The low half of nibble byte 0 is value 0, its high half value 16. */
static void nibbles_are_halves_of_a_block(void **state)
{
    (void)state;
    uint8_t without[BLOCK_BYTES_MAX] = {0x00, 0x38, 0x1f, 0x80};
    uint8_t with[BLOCK_BYTES_MAX] = {0x00, 0x38, 0x00, 0xc0, 0x1f, 0x80};
    float out[VALUES];
    read_block(TENSOR_Q4_0, without, out);
    assert_true(out[0] == 3.5f && out[16] == -3.5f && out[1] == -4.0f && out[17] == 0.0f);
    read_block(TENSOR_Q4_1, with, out);
    assert_true(out[0] == 5.5f && out[16] == -1.5f && out[1] == -2.0f && out[17] == 2.0f);
}

/* Bits 0 and 17 of the word are set: 16 more in values 0 and 17. */
static void fifth_bits_come_from_a_word(void **state)
{
    (void)state;
    uint8_t without[BLOCK_BYTES_MAX] = {0x00, 0x38, 1, 0, 2, 0, 0x1f, 0x80};
    uint8_t with[BLOCK_BYTES_MAX] = {0x00, 0x38, 0x00, 0xc0, 1, 0, 2, 0, 0x1f, 0x80};
    float out[VALUES];
    read_block(TENSOR_Q5_0, without, out);
    assert_true(out[0] == 7.5f && out[16] == -7.5f && out[1] == -8.0f && out[17] == 4.0f);
    read_block(TENSOR_Q5_1, with, out);
    assert_true(out[0] == 13.5f && out[16] == -1.5f && out[1] == -2.0f && out[17] == 10.0f);
}

static void read_super(enum tensor_dtype dtype, const uint8_t *bytes, float *out)
{
    const struct tensor tensor = {
        .name = "t", .dtype = dtype, .dims = 2, .shape = {1, SUPER_VALUES}, .bytes = bytes};
    assert_int_equal(tensor_block_values(dtype), SUPER_VALUES);
    assert_in_range(tensor_block_bytes(dtype), 1, SUPER_BYTES_MAX);
    tensor_read_row(&tensor, 0, 0, SUPER_VALUES, out);
}

/*
 * d = 0.5, m = 1. Piece 1: scale 5, minimum 63, both in six bits with the upper two of others above
 * them. Piece 5: scale 0x2b = low nibble 0xb and, over byte 1, upper bits 2; minimum 0x1c = high
 * nibble 0xc and, over byte 5, upper bits 1.
 */
static void set_pieces(uint8_t *block)
{
    static const uint8_t head[] = {0x00, 0x38, 0x00, 0x3c};
    memcpy(block, head, sizeof head);
    block[4 + 1] = 5 | 2 << 6;
    block[4 + 5] = 63 | 1 << 6;
    block[4 + 9] = 0xcb;
}

static void q4_k_has_pieces_of_32(void **state)
{
    (void)state;
    uint8_t block[SUPER_BYTES_MAX] = {0};
    float out[SUPER_VALUES];
    set_pieces(block);
    block[16 + 7] = 0xd4;           /* Run 0: piece 0 and 1. */
    block[16 + 2 * 32 + 31] = 0x9e; /* Run 2: piece 4 and 5. */
    read_super(TENSOR_Q4_K, block, out);
    assert_true(out[7] == 0.0f); /* Piece 0 has no scale. */
    assert_true(out[32 + 7] == 0.5f * 5 * 13 - 63 && out[32 + 8] == -63.0f);
    assert_true(out[5 * 32 + 31] == 0.5f * 43 * 9 - 28 && out[5 * 32] == -28.0f);
    assert_true(out[4 * 32 + 31] == 0.0f && out[255] == 0.0f);
}

static void q5_k_adds_a_fifth_bit(void **state)
{
    (void)state;
    uint8_t block[SUPER_BYTES_MAX] = {0};
    float out[SUPER_VALUES];
    set_pieces(block);
    block[16 + 7] = 1 << 1;
    block[16 + 31] = 1 << 5;
    block[48 + 7] = 0xd4;
    block[48 + 2 * 32 + 31] = 0x9e;
    read_super(TENSOR_Q5_K, block, out);
    assert_true(out[7] == 0.0f);
    assert_true(out[32 + 7] == 0.5f * 5 * 29 - 63 && out[32 + 31] == -63.0f);
    assert_true(out[5 * 32 + 31] == 0.5f * 43 * 25 - 28 && out[5 * 32 + 7] == -28.0f);
}

/* d = 0.5; the scales of 16 values are 3 for values 32 to 47 and -2 for 240 to 255, else 0. */
static void q6_k_has_signed_scales(void **state)
{
    (void)state;
    uint8_t block[SUPER_BYTES_MAX] = {0};
    float out[SUPER_VALUES];
    block[192 + 2] = 3;
    block[192 + 15] = (uint8_t)-2;
    block[208] = 0x00;
    block[209] = 0x38;
    block[32 + 4] = 0x5a;          /* Low half: run 1, value 4. */
    block[128 + 4] = 3 << 2;       /* Its upper bits. */
    block[64 + 32 + 20] = 0x70;    /* Second half of the block, high half: run 3, value 20. */
    block[128 + 32 + 20] = 1 << 6; /* Its upper bits. */
    read_super(TENSOR_Q6_K, block, out);
    assert_true(out[32 + 4] == 0.5f * 3 * (0x3a - 32) && out[32 + 5] == 0.5f * 3 * -32);
    assert_true(out[128 + 96 + 20] == 0.5f * -2 * (0x17 - 32));
    assert_true(out[255] == 32.0f && out[0] == 0.0f && out[239] == 0.0f);
}

static void halves_at_their_edges(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x01, 0x00, 0xff, 0x7b, 0x00, 0x7c, 0x00, 0x80, 0x00, 0x04};
    const struct tensor half = {
        .name = "t", .dtype = TENSOR_F16, .dims = 1, .shape = {5}, .bytes = bytes};
    float out[5];
    tensor_read_row(&half, 0, 0, 5, out);
    assert_true(out[0] == 0x1p-24f && out[1] == 65504.0f && isinf(out[2]) && out[2] > 0);
    assert_true(out[3] == 0.0f && signbit(out[3]) && out[4] == 0x1p-14f);
    static const uint8_t wide[] = {0x80, 0x3f, 0x40, 0xc0};
    const struct tensor bf16 = {
        .name = "t", .dtype = TENSOR_BF16, .dims = 1, .shape = {2}, .bytes = wide};
    tensor_read_row(&bf16, 0, 1, 1, out);
    assert_true(out[0] == -3.0f);
}

static void tables_are_sorted_and_unique(void **state)
{
    (void)state;
    struct tensor tensors[] = {{.name = "b"}, {.name = "a"}, {.name = "c"}};
    struct tensor_table table = {tensors, 3};
    struct model_error error = {{0}};
    assert_int_equal(tensor_table_sort(&table, &error), 0);
    assert_ptr_equal(tensor_find(&table, "a"), &tensors[0]);
    assert_ptr_equal(tensor_find(&table, "c"), &tensors[2]);
    assert_null(tensor_find(&table, "d"));
    tensors[2].name = "b";
    assert_int_equal(tensor_table_sort(&table, &error), -EINVAL);
    assert_non_null(strstr(error.text, "b is there twice"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_bits_are_signed),
        cmocka_unit_test(nibbles_are_halves_of_a_block),
        cmocka_unit_test(fifth_bits_come_from_a_word),
        cmocka_unit_test(q4_k_has_pieces_of_32),
        cmocka_unit_test(q5_k_adds_a_fifth_bit),
        cmocka_unit_test(q6_k_has_signed_scales),
        cmocka_unit_test(halves_at_their_edges),
        cmocka_unit_test(tables_are_sorted_and_unique),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
