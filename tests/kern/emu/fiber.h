/*
 * fiber.h - a stack that runs until it hands over to another one of the same host thread.
 * Each CUDA thread of a block is one. A stack has a page behind its end that faults.
 */
#ifndef TESTS_KERN_EMU_FIBER_H
#define TESTS_KERN_EMU_FIBER_H

#include <stdbool.h>
#include <stddef.h>

enum { FIBER_STACK_BYTES = 128 << 10 };

struct fiber {
    void *stack_pointer; /* While it does not run. */
    void *stack;         /* Lowest byte. */
    size_t stack_bytes;
    void *fake_stack; /* AddressSanitizer's. */
};

/* The stacks of `count` fibers in one mapping, touched only as they are used. */
void fiber_map(struct fiber *fibers, size_t count);
void fiber_unmap(struct fiber *fibers, size_t count);

/* The calling host thread's own stack as a fiber, to switch from and back to. */
void fiber_adopt(struct fiber *host);

/* Prepares a fiber to call entry(argument) on an empty stack when it is first switched to; entry
 * calls fiber_entered() first and never returns. */
void fiber_reset(struct fiber *fiber, void (*entry)(void *argument), void *argument);
void fiber_entered(void);

/* Runs `to`; returns when somebody switches back. `last`: nobody will. */
void fiber_switch(struct fiber *from, struct fiber *to, bool last);

#endif /* TESTS_KERN_EMU_FIBER_H */
