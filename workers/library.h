/*
 * library.h - a library that is loaded when it turns out to be needed, and the functions wanted of
 * it (docs/adr/0010). It stays loaded until the process ends.
 */
#ifndef WORKERS_LIBRARY_H
#define WORKERS_LIBRARY_H

#include <stddef.h>

#include "base/must.h"
#include "model/model_error.h"

/* A macro's number as text, for the version in a library's name. */
#define LIBRARY_TEXT(number)    LIBRARY_TEXT_OF(number)
#define LIBRARY_TEXT_OF(number) #number

struct library {
    const char *file; /* Looked for where the loader looks: LD_LIBRARY_PATH, its cache, rpath. */
    const char *need; /* What is said of it where it is missing. */
    const struct library_function {
        const char *name;
        void *slot; /* Of a pointer to the function. */
    } * functions;
    size_t function_count;
};

/* Fills all slots, or some of them and fails: -ENOENT with what is missing in *error. */
int library_open(const struct library *library, struct model_error *error) MUST_CHECK;

#endif /* WORKERS_LIBRARY_H */
