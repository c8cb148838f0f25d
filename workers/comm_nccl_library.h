/*
 * comm_nccl_library.h - the functions of NCCL, loaded for a group of ranks only (docs/adr/0010) and
 * never unloaded: it has threads of its own.
 */
#ifndef WORKERS_COMM_NCCL_LIBRARY_H
#define WORKERS_COMM_NCCL_LIBRARY_H

#include <nccl.h>

#include "base/must.h"
#include "model/model_error.h"

struct comm_nccl_library {
    __typeof__(&ncclGetUniqueId) unique_id;
    __typeof__(&ncclCommInitRankConfig) init;
    __typeof__(&ncclCommGetAsyncError) state;
    __typeof__(&ncclCommAbort) abort;
    __typeof__(&ncclCommDestroy) destroy;
    __typeof__(&ncclCommFinalize) finalize;
    __typeof__(&ncclGetErrorString) error_string;
    __typeof__(&ncclAllGather) gather;
    __typeof__(&ncclAllReduce) reduce;
    __typeof__(&ncclReduceScatter) scatter;
};

/* From where the loader looks (LD_LIBRARY_PATH, its cache) or the toolkit of the build. 0; -ENOENT
 * with what is missing in *error. */
int comm_nccl_library_open(struct comm_nccl_library *nccl, struct model_error *error) MUST_CHECK;

#endif /* WORKERS_COMM_NCCL_LIBRARY_H */
