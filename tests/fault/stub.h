/*
 * stub.h - what the stand-ins for core and worker share: a log and a mode, both files in the folder
 * $SLUICE_STUB. A test writes the mode of the next start and reads who did what in which order.
 */
#ifndef TESTS_FAULT_STUB_H
#define TESTS_FAULT_STUB_H

#include <stdbool.h>

#define STUB_PRINTF __attribute__((format(printf, 1, 2)))

/* Appends "PID WHAT" as one write. */
void stub_log(const char *format, ...) STUB_PRINTF;

/* The file NAME.mode holds this word. */
bool stub_mode(const char *name, const char *word);

/* Descriptors that are open beyond 0 to 4. */
int stub_extra_fds(void);

#endif /* TESTS_FAULT_STUB_H */
