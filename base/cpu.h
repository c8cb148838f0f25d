/* cpu.h - which processor this is. */
#ifndef BASE_CPU_H
#define BASE_CPU_H

enum { CPU_NAME_BYTES_MAX = 96 };

/* As its maker names it, "unknown processor" where the kernel does not tell. Reads a file. */
void cpu_name(char name[CPU_NAME_BYTES_MAX]);

#endif /* BASE_CPU_H */
