/*
 * library.c - see library.h. Called at start or with an epoch, on the worker's main thread; owns
 * nothing. Invariant: where it succeeds, no slot is left empty.
 */
#include "workers/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int library_open(const struct library *library, struct model_error *error)
{
    void *const handle = dlopen(library->file, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        return model_error_set(error, -ENOENT, "%s: %s", library->need, dlerror());
    }
    for (size_t i = 0; i < library->function_count; i++) {
        const struct library_function *function = &library->functions[i];
        void *const found = dlsym(handle, function->name);
        if (!found) {
            return model_error_set(error, -ENOENT, "%s has no %s", library->file, function->name);
        }
        memcpy(function->slot, &found, sizeof found);
    }
    return 0;
}
