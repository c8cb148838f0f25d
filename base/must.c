/*
 * must.c - the end of a process that found itself wrong. Called by must() on any thread of any
 * process; owns nothing. Writes one line to stderr and aborts, so that the supervisor reaps a
 * signal, never an exit status that could be read as a clean end.
 */
#include "base/must.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void must_fail(const char *file, int line, const char *expression)
{
    fprintf(stderr, "<2>must failed: %s:%d: %s\n", file, line, expression);
    abort();
}
