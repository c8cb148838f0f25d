/*
 * fiber.c - switches stacks in a dozen instructions: swapcontext would ask the kernel for the
 * signal mask each time, 20 times the price. Called by emu_block.c. Invariant: what a function
 * call preserves is all that a switch preserves.
 */
#include "tests/kern/emu/fiber.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
enum { STACKS_ARE_WATCHED = 1 };
#else /* Nobody needs to hear of another stack. */
#define __asan_unpoison_memory_region(start, bytes)         ((void)(start))
#define __sanitizer_start_switch_fiber(save, bottom, bytes) ((void)(save), (void)(bottom))
#define __sanitizer_finish_switch_fiber(fake, bottom, size) ((void)(fake))
enum { STACKS_ARE_WATCHED = 0 };
#endif

#include "base/must.h"

#ifndef __x86_64__
#error "fiber_jump is written for x86-64"
#endif

/* Saves the registers that a call preserves and the stack in *save, then takes up `to`. */
void fiber_jump(void **save, void *to);
__asm__(".text\n"
        ".globl fiber_jump\n"
        ".type fiber_jump, @function\n"
        "fiber_jump:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size fiber_jump, .-fiber_jump\n");

/* Where a fiber starts: calls r13(r12), as fiber_reset() laid them out. */
void fiber_begin(void);
__asm__(".text\n"
        ".globl fiber_begin\n"
        ".type fiber_begin, @function\n"
        "fiber_begin:\n"
        "    movq %r12, %rdi\n"
        "    jmp *%r13\n"
        ".size fiber_begin, .-fiber_begin\n");

static size_t guard_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void fiber_map(struct fiber *fibers, size_t count)
{
    const size_t stride = FIBER_STACK_BYTES + guard_bytes();
    uint8_t *stacks =
        mmap(NULL, count * stride, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(stacks != MAP_FAILED);
    for (size_t i = 0; i < count; i++) {
        uint8_t *stack = stacks + i * stride + guard_bytes();
        must(mprotect(stack, FIBER_STACK_BYTES, PROT_READ | PROT_WRITE) == 0);
        fibers[i] = (struct fiber){.stack = stack, .stack_bytes = FIBER_STACK_BYTES};
    }
}

void fiber_unmap(struct fiber *fibers, size_t count)
{
    uint8_t *stacks = (uint8_t *)fibers[0].stack - guard_bytes();
    for (size_t i = 0; i < count; i++) {
        __asan_unpoison_memory_region(fibers[i].stack, FIBER_STACK_BYTES);
    }
    must(munmap(stacks, count * (FIBER_STACK_BYTES + guard_bytes())) == 0);
}

void fiber_adopt(struct fiber *host)
{
    pthread_attr_t attributes;
    *host = (struct fiber){0};
    if (STACKS_ARE_WATCHED) {
        must(pthread_getattr_np(pthread_self(), &attributes) == 0);
        must(pthread_attr_getstack(&attributes, &host->stack, &host->stack_bytes) == 0);
        must(pthread_attr_destroy(&attributes) == 0);
    }
}

void fiber_reset(struct fiber *fiber, void (*entry)(void *argument), void *argument)
{
    /* As fiber_jump() pops them: r15, r14, r13, r12, rbx, rbp, the return address; then a zero
     * where a backtrace ends, which also aligns entry's frame as a call would. */
    const uintptr_t frame[] = {0, 0, (uintptr_t)entry,       (uintptr_t)argument,
                               0, 0, (uintptr_t)fiber_begin, 0};
    uint8_t *top = (uint8_t *)fiber->stack + fiber->stack_bytes - sizeof frame;
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
    memcpy(top, frame, sizeof frame);
    fiber->stack_pointer = top;
    fiber->fake_stack = NULL;
}

void fiber_switch(struct fiber *from, struct fiber *to, bool last)
{
    __sanitizer_start_switch_fiber(last ? NULL : &from->fake_stack, to->stack, to->stack_bytes);
    fiber_jump(&from->stack_pointer, to->stack_pointer);
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
}

void fiber_entered(void)
{
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
}
