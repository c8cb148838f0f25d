/*
 * comm_nccl_library.c - see comm_nccl_library.h. Called once an epoch at most, on the worker's main
 * thread; owns nothing. Invariant: all functions are there, or none is used.
 */
#include "workers/comm_nccl_library.h"

#include "workers/library.h"

int comm_nccl_library_open(struct comm_nccl_library *nccl, struct model_error *error)
{
    const struct library_function functions[] = {
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
    const struct library library = {
        .file = "libnccl.so." LIBRARY_TEXT(NCCL_MAJOR),
        .need = "workers.tp above 1 needs NCCL " LIBRARY_TEXT(NCCL_MAJOR) " on GPUs",
        .functions = functions,
        .function_count = sizeof functions / sizeof *functions};
    return library_open(&library, error);
}
