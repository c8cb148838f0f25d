/*
 * check_spellings.c - every spelling of every kernel for the CPU against ref/, on seeded random
 * inputs of odd shapes. Run by ctest as kern_check; `kern_check bench` prints rates instead and
 * asserts nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kern/check.h"

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_norm),        cmocka_unit_test(check_silu),
        cmocka_unit_test(check_logits),      cmocka_unit_test(check_route),
        cmocka_unit_test(check_odds),        cmocka_unit_test(check_combine),
        cmocka_unit_test(check_embed),       cmocka_unit_test(check_rope),
        cmocka_unit_test(check_attend),      cmocka_unit_test(check_attend_alone),
        cmocka_unit_test(check_matmul),      cmocka_unit_test(check_matmul_alone),
        cmocka_unit_test(check_quantise),    cmocka_unit_test(check_rescale),
        cmocka_unit_test(check_matmul_int8),
    };
    if (argc == 2 && strcmp(argv[1], "bench") == 0) {
        bench_all();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
