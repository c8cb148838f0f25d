/*
 * emu_fault.h - what goes wrong on the emulated device, for tests of those who live through it.
 *
 * SLUICE_EMU_FAULT=NAME:COUNT in the environment makes the COUNT-th call of its kind fail, and what
 * a real device would not survive fails from then on:
 *
 *   arena   no memory                          fence   the device, while the host waits for it
 *   launch  the device, at a kernel's launch   hang    nothing ends any more that a host waits for
 */
#ifndef TESTS_KERN_EMU_EMU_FAULT_H
#define TESTS_KERN_EMU_EMU_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum { EMU_FAULT_NAME_BYTES_MAX = 16 };

struct emu_fault {
    char name[EMU_FAULT_NAME_BYTES_MAX]; /* Empty: none. */
    uint64_t calls_left;
};

struct emu_fault emu_fault_from_environment(void);

/* Counts a call; whether it is to fail, as the COUNT-th and all later ones are. */
bool emu_fault_comes(struct emu_fault *fault, const char *name);

#endif /* TESTS_KERN_EMU_EMU_FAULT_H */
