/*
 * cpu.h - the name of this machine's processor: part of what a plan was made for. Whoever makes or
 * loads plans calls it once.
 */
#ifndef BASE_CPU_H
#define BASE_CPU_H

#include <stddef.h>

/* As the kernel tells it, cut to bytes - 1; "cpu" where it tells none. */
void cpu_name(char *name, size_t bytes);

#endif /* BASE_CPU_H */
