/*
 * emu_check.c - the emulator's own tests: layouts of tensor cores against a plain product, copies
 * that land when they are waited for, schedules, and that each thing which no kernel may do ends
 * the process with its reason. Run by ctest as emu_check. Invariant: a fault is shown in a child.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prng.h"
#include "kernels/bf16.h"
#include "tests/kern/emu/emu_launch.h"
#include "tests/kern/emu/emu_probe_cuda.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { WATCHED = 1 };
#else
enum { WATCHED = 0 };
#endif

enum { LANES = 32, M = 16, N = 8, K = 16, BLOCK = 64 };

static struct CUstream_st open_stream(enum emu_order order, bool eager)
{
    const struct emu_schedule schedule = {order, eager, 7};
    return (struct CUstream_st){.block = emu_block_new(&schedule)};
}

static void check_product(void **state)
{
    struct CUstream_st stream = open_stream(EMU_RANDOM, false);
    uint16_t a[M * K];
    uint16_t b[K * N];
    float d[M * N];
    (void)state;
    for (uint32_t i = 0; i < M * K; i++) { /* Small integers: all sums are exact. */
        a[i] = bf16_from_float((float)(prng_bits(1, i, 0) % 15) - 7);
        b[i % (K * N)] = bf16_from_float((float)(prng_bits(2, i, 0) % 15) - 7);
    }
    assert_int_equal(cuda_emu_probe_product(a, b, d, &stream), 0);
    for (uint32_t r = 0; r < M; r++) {
        for (uint32_t c = 0; c < N; c++) {
            float sum = 0;
            for (uint32_t k = 0; k < K; k++) {
                sum += bf16_to_float(a[r * K + k]) * bf16_to_float(b[k * N + c]);
            }
            assert_true(d[r * N + c] == sum);
        }
    }
    emu_block_free(stream.block);
}

static void check_copies(void **state)
{
    _Alignas(16) uint32_t from[LANES * 4];
    (void)state;
    for (uint32_t i = 0; i < LANES * 4; i++) {
        from[i] = i + 1;
    }
    for (int eager = 0; eager < 2; eager++) {
        struct CUstream_st stream = open_stream(EMU_FORWARD, eager);
        uint32_t seen[LANES * 4];
        assert_int_equal(cuda_emu_probe_copies(from, seen, &stream), 0);
        for (uint32_t lane = 0; lane < LANES; lane++) {
            assert_int_equal(seen[lane * 4], eager ? from[lane * 4] : UINT32_MAX);
            assert_int_equal(seen[lane * 4 + 1], from[lane * 4]);
            assert_int_equal(seen[lane * 4 + 2], eager ? 0 : UINT32_MAX);
            assert_int_equal(seen[lane * 4 + 3], 0);
        }
        emu_block_free(stream.block);
    }
}

static void check_shuffles(void **state)
{
    struct CUstream_st stream = open_stream(EMU_RANDOM, false);
    uint32_t seen[LANES * 4];
    (void)state;
    assert_int_equal(cuda_emu_probe_shuffles(seen, &stream), 0);
    for (uint32_t lane = 0; lane < LANES; lane++) {
        assert_int_equal(seen[lane * 4], lane ^ 3);
        assert_int_equal(seen[lane * 4 + 1], 7);
        assert_int_equal(seen[lane * 4 + 2], lane + 2 < LANES ? lane + 2 : lane);
        assert_int_equal(seen[lane * 4 + 3], 0xaaaaaaaa);
    }
    emu_block_free(stream.block);
}

static void check_order(void **state)
{
    (void)state;
    for (enum emu_order order = EMU_FORWARD; order <= EMU_RANDOM; order++) {
        struct CUstream_st stream = open_stream(order, false);
        uint32_t came[2 * BLOCK];
        uint32_t fresh[2 * BLOCK];
        uint32_t next = 0;
        uint32_t in_place = 0;
        uint64_t seen[2] = {0};
        assert_int_equal(cuda_emu_probe_order(came, &next, fresh, &stream), 0);
        assert_int_equal(next, 2 * BLOCK);
        for (uint32_t i = 0; i < 2 * BLOCK; i++) {
            const uint32_t reverse = 2 * BLOCK - 1 - i;
            in_place += came[i] == (order == EMU_REVERSE ? reverse : i);
            seen[came[i] / BLOCK] |= UINT64_C(1) << came[i] % BLOCK;
            assert_int_equal(fresh[i], 1);
        }
        assert_true(seen[0] == UINT64_MAX && seen[1] == UINT64_MAX);
        assert_true(order == EMU_RANDOM ? in_place < BLOCK : in_place == 2 * BLOCK);
        emu_block_free(stream.block);
    }
}

static void check_shapes(void **state)
{
    struct CUstream_st stream = open_stream(EMU_FORWARD, false);
    (void)state;
    assert_int_equal(cuda_emu_probe_shape(1, 1024, EMU_SHARED_BYTES_MAX, &stream), 0);
    assert_int_equal(cuda_emu_probe_shape(1, 1025, 0, &stream), -EIO);
    assert_int_equal(cuda_emu_probe_shape(1, 0, 0, &stream), -EIO);
    assert_int_equal(cuda_emu_probe_shape(0, 1, 0, &stream), -EIO);
    assert_int_equal(cuda_emu_probe_shape(65536, 1, 0, &stream), -EIO);
    assert_int_equal(cuda_emu_probe_shape(1, 1, EMU_SHARED_BYTES_MAX + 1, &stream), -EIO);
    emu_block_free(stream.block);
}

/* A stream that keeps one launch. */
struct keeper {
    struct CUstream_st stream; /* First: take() gets its address. */
    struct emu_launch kept;
};

static int keep(struct CUstream_st *stream, const struct emu_launch *launch)
{
    ((struct keeper *)stream)->kept = *launch;
    return 0;
}

static void check_taken(void **state)
{
    struct keeper keeper = {.stream = open_stream(EMU_FORWARD, false)};
    uint32_t seen[LANES * 4] = {0};
    (void)state;
    keeper.stream.take = keep;
    assert_int_equal(cuda_emu_probe_shuffles(seen, &keeper.stream), 0);
    assert_int_equal(seen[0], 0);
    for (int i = 0; i < 2; i++) { /* As often as its owner likes. */
        seen[0] = 0;
        emu_launch_run(keeper.stream.block, &keeper.kept);
        assert_int_equal(seen[0], 3);
    }
    emu_launch_release(&keeper.kept);
    emu_block_free(keeper.stream.block);
}

/* What a child that commits the fault says on its way out. */
static void expect_fault(enum emu_probe_fault fault, const char *reason)
{
    char said[4096];
    size_t bytes = 0;
    ssize_t got = 1;
    int ends[2];
    int status = 0;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct CUstream_st stream = open_stream(EMU_FORWARD, false);
        _Alignas(16) static const uint8_t from[64];
        (void)dup2(ends[1], STDERR_FILENO);
        (void)signal(SIGABRT, SIG_DFL);
        (void)cuda_emu_probe_fault(fault, from, &stream);
        _exit(0);
    }
    (void)close(ends[1]);
    while (got > 0 && bytes < sizeof said - 1) {
        got = read(ends[0], said + bytes, sizeof said - 1 - bytes);
        bytes += got > 0 ? (size_t)got : 0;
    }
    said[bytes] = 0;
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status == 0 || !strstr(said, reason)) {
        fail_msg("fault %d: status %d, said: %s", (int)fault, status, said);
    }
}

static void check_faults(void **state)
{
    (void)state;
    expect_fault(EMU_PROBE_TWO_BARRIERS, "while thread 5 is at that of line");
    expect_fault(EMU_PROBE_EARLY_END, "ends while others wait at a barrier");
    expect_fault(EMU_PROBE_LATE_BARRIER, "after another thread has ended");
    expect_fault(EMU_PROBE_LANE_LEFT_OUT, "which leaves out lane 5");
    expect_fault(EMU_PROBE_LANES_DISAGREE, "while lane 5 is at ballot");
    expect_fault(EMU_PROBE_LANES_MISSING, "waits for lanes of its warp that never come");
    expect_fault(EMU_PROBE_MISALIGNED_COPY, "asynchronous copy that is not aligned");
    expect_fault(EMU_PROBE_MISALIGNED_ROW, "ldmatrix of a row that is not aligned");
    expect_fault(EMU_PROBE_HALF_A_WARP, "ldmatrix without a full warp");
    if (WATCHED) {
        expect_fault(EMU_PROBE_PAST_AN_ARRAY, "heap-buffer-overflow");
        expect_fault(EMU_PROBE_PAST_SHARED, "heap-buffer-overflow");
    } else {
        print_message("2 faults skipped: only AddressSanitizer sees them\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_product),  cmocka_unit_test(check_copies),
        cmocka_unit_test(check_shuffles), cmocka_unit_test(check_order),
        cmocka_unit_test(check_shapes),   cmocka_unit_test(check_taken),
        cmocka_unit_test(check_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
