/*
 * comm_nccl_library.c - see comm_nccl_library.h. Called once an epoch at most, on the worker's main
 * thread; owns nothing. Invariant: all functions are there, or none is used.
 */
#include "workers/comm_nccl_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int comm_nccl_library_open(struct comm_nccl_library *nccl, struct model_error *error)
{
    char name[64];
    (void)snprintf(name, sizeof name, "libnccl.so.%d", NCCL_MAJOR);
    void *const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        return model_error_set(error, -ENOENT, "workers.tp above 1 needs NCCL %d on GPUs: %s",
                               NCCL_MAJOR, dlerror());
    }
    const struct {
        const char *name;
        void *slot;
    } wanted[] = {
        {"ncclGetUniqueId", &nccl->unique_id},
        {"ncclCommInitRankConfig", &nccl->init},
        {"ncclCommGetAsyncError", &nccl->state},
        {"ncclCommAbort", &nccl->abort},
        {"ncclCommDestroy", &nccl->destroy},
        {"ncclCommFinalize", &nccl->finalize},
        {"ncclGetErrorString", &nccl->error_string},
        {"ncclAllGather", &nccl->gather},
        {"ncclAllReduce", &nccl->reduce},
        {"ncclReduceScatter", &nccl->scatter},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *const found = dlsym(library, wanted[i].name);
        if (!found) {
            return model_error_set(error, -ENOENT, "%s has no %s", name, wanted[i].name);
        }
        memcpy(wanted[i].slot, &found, sizeof found);
    }
    return 0;
}
