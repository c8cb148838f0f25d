/*
 * fill.c - finds out what this CPU and kernel allow and overrides the kernel table with it. Called
 * by kern.c at start on the main thread; owns nothing. Invariant: a spelling is installed only when
 * its bit is set, so that tests can ask for less than the machine has.
 */
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/ref/ref.h"
#include "kernels/x86/x86.h"

/* Register state that the operating system saves: XCR0 (Intel SDM volume 1, 13.3). */
static uint64_t enabled_state(void)
{
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool tile_state_granted(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_TILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILEDATA) == 0;
}

unsigned x86_detect(void)
{
    enum { STATE_AVX = 0x6, STATE_AVX512 = 0xe6, STATE_AMX = 0x60000 };
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) {
        return KERN_ISA_REF;
    }
    const bool fma = c & bit_FMA && c & bit_F16C;
    const uint64_t state = enabled_state();
    unsigned isa = KERN_ISA_REF;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return isa;
    }
    const uint32_t leaves = a;
    const uint32_t wanted = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if (fma && b & bit_AVX2 && (state & STATE_AVX) == STATE_AVX) {
        isa |= KERN_ISA_AVX2;
    }
    if (isa && (b & wanted) == wanted && (state & STATE_AVX512) == STATE_AVX512) {
        isa |= KERN_ISA_AVX512;
    }
    if (isa & KERN_ISA_AVX512 && c & bit_AVX512VNNI) {
        isa |= KERN_ISA_AVX512_VNNI;
    }
    const bool amx = d & (1u << 22) && d & (1u << 24); /* AMX-BF16, AMX-TILE. */
    if (leaves >= 1 && isa & KERN_ISA_AVX512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
        a & (1u << 5)) {
        isa |= KERN_ISA_AVX512_BF16;
    }
    if (amx && (state & STATE_AMX) == STATE_AMX && tile_state_granted()) {
        isa |= KERN_ISA_AMX_BF16;
    }
    return isa;
}

/* bf16 goes to dpbf16 where the CPU has it, float to plain AVX-512. */
static void attend_by_dtype(const struct kern_attend_args *args, uint32_t first, uint32_t count)
{
    (args->dtype == KERN_BF16 ? avx512_bf16_attend : avx512_attend)(args, first, count);
}

/* Without dpbf16 the specification does bf16, which no default asks for on such a CPU. */
static void attend_f32_only(const struct kern_attend_args *args, uint32_t first, uint32_t count)
{
    (args->dtype == KERN_BF16 ? ref_attend : avx512_attend)(args, first, count);
}

void x86_fill(struct kern_ops *ops, unsigned isa)
{
    if (isa & KERN_ISA_AVX2) {
        ops->rmsnorm = avx2_rmsnorm;
        ops->silu_mul = avx2_silu_mul;
        ops->attend = avx2_attend;
    }
    if (isa & KERN_ISA_AVX512) {
        ops->rmsnorm = avx512_rmsnorm;
        ops->silu_mul = avx512_silu_mul;
        ops->rope_append = avx512_rope_append;
        ops->attend = attend_f32_only;
        ops->combine = avx512_combine;
        ops->quantise = avx512_quantise;
        ops->rescale = avx512_rescale;
        ops->logits = avx512_logits;
        ops->odds = avx512_odds;
    }
    if (isa & KERN_ISA_AVX512_BF16) {
        ops->attend = attend_by_dtype;
    }
}
