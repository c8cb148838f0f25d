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

enum { VALUES = 32, BLOCK_BYTES_MAX = 34 };

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
        cmocka_unit_test(halves_at_their_edges),
        cmocka_unit_test(tables_are_sorted_and_unique),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
