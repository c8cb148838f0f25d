/*
 * accel_cuda.c - see accel.h, on an NVIDIA GPU: memory, events, copies, launches and graphs. Called
 * by the engine on the main thread of sluice-worker-cuda; owns all that it hands out.
 *
 * Invariant: the first failure of the device is kept in words and every later call fails: CUDA's
 * own errors stick to the context too, so that nothing computed after one is ever answered.
 */
#include "workers/accel_cuda.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

enum {
    FENCE_SPIN_US = 100, /* Then sleeps: a step is milliseconds, a wake-up some 60 us. */
    FENCE_SLEEP_NS = 20000,
    CLOSE_TIMEOUT_US = 2000000, /* For what still runs: a hung device must not hang the end. */
    MAPPING_ALIGN = 256,
    KEPT_BYTES = 1 << 30, /* For what the driver loads and makes later, kernels and graphs: how much
                           * that takes was not measured. */
};

int accel_cuda_fail(struct accel *accel, const char *what, const char *why)
{
    if (accel->failure[0] == '\0') {
        (void)snprintf(accel->failure, sizeof accel->failure, "%s: %s: %s", accel->info.name, what,
                       why);
        log_error("%s", accel->failure);
    }
    return -EIO;
}

int accel_cuda_check(struct accel *accel, cudaError_t error, const char *what)
{
    if (!error && accel->failure[0] == '\0') {
        return 0;
    }
    char why[ACCEL_FAILURE_BYTES_MAX];
    (void)snprintf(why, sizeof why, "%s (%s)", cudaGetErrorString(error), cudaGetErrorName(error));
    return accel_cuda_fail(accel, what, why);
}

const char *accel_failure(const struct accel *accel)
{
    return accel->failure;
}

static int describe(struct accel *accel, struct model_error *error)
{
    struct cudaDeviceProp device = {.major = 0};
    int driver = 0;
    int runtime = 0;
    if (cudaGetDeviceProperties(&device, accel->device) || cudaDriverGetVersion(&driver) ||
        cudaRuntimeGetVersion(&runtime)) {
        return model_error_set(error, -EIO, "GPU %d does not say what it is: %s", accel->device,
                               cudaGetErrorString(cudaGetLastError()));
    }
    (void)snprintf(accel->info.name, sizeof accel->info.name, "%.63s", device.name);
    accel->info.memory_bytes = device.totalGlobalMem;
    accel->info.units = (uint32_t)device.multiProcessorCount;
    accel->info.rows_step = 128;
    accel->info.bytes = device.major == 9 && device.minor == 0;
    accel->batches = driver >= 12080 && runtime >= 13000;
    return 0;
}

int accel_open(struct accel **out, uint32_t index, struct model_error *error)
{
    int count = 0;
    const cudaError_t found = cudaGetDeviceCount(&count);
    if (found) {
        return model_error_set(error, -ENODEV, "no CUDA device: %s", cudaGetErrorString(found));
    }
    if (index >= (uint32_t)count) {
        return model_error_set(error, -ENODEV,
                               "CUDA device %u is wanted and there are %d: lower workers.count",
                               index, count);
    }
    struct accel *accel = calloc(1, sizeof *accel);
    if (!accel) {
        return model_error_set(error, -ENOMEM, "no host memory for the device's tables");
    }
    accel->device = (int)index;
    int status = describe(accel, error);
    if (!status && (cudaSetDevice(accel->device) || cudaFree(NULL))) { /* Makes its context. */
        status = model_error_set(error, -EIO, "%s does not start: %s", accel->info.name,
                                 cudaGetErrorString(cudaGetLastError()));
    }
    if (!status) {
        accel_cuda_lanes_describe(accel);
        status = accel_cuda_products_open(accel, error);
    }
    if (status) {
        accel_close(accel);
        return status;
    }
    *out = accel;
    return 0;
}

void accel_info(struct accel *accel, struct accel_info *out)
{
    size_t left = 0;
    size_t all = 0;
    if (accel_cuda_check(accel, cudaMemGetInfo(&left, &all), "memory left") == 0) {
        accel->info.memory_free_bytes = left > KEPT_BYTES ? left - KEPT_BYTES : 0;
    }
    *out = accel->info;
}

bool accel_cuda_idle(const struct accel *accel, uint64_t timeout_us)
{
    const uint64_t end_us = clock_now_us() + timeout_us;
    for (uint32_t i = 0; i < accel->lane_count; i++) {
        cudaError_t state = cudaErrorNotReady;
        while (state == cudaErrorNotReady && clock_now_us() < end_us) {
            state = cudaStreamQuery(accel->lane[i].stream);
        }
        if (state == cudaErrorNotReady) {
            return false;
        }
    }
    return true;
}

void accel_cuda_graphs_close(struct accel *accel)
{
    while (accel->graphs) {
        struct accel_graph *graph = accel->graphs;
        accel->graphs = graph->next;
        (void)cudaGraphExecDestroy(graph->exec); /* One that runs, when it has ended. */
        free(graph);
    }
}

void accel_close(struct accel *accel)
{
    if (!accel) {
        return;
    }
    accel_cuda_group_close(accel);
    if (!accel_cuda_idle(accel, CLOSE_TIMEOUT_US)) {
        log_warning("%s: still runs; the end of the process frees it", accel->info.name);
        return; /* Every call that frees would wait for it. */
    }
    accel_cuda_graphs_close(accel);
    for (uint32_t i = 0; i < accel->event_count; i++) {
        (void)cudaEventDestroy(accel->event[i]);
    }
    free(accel->event);
    accel_cuda_products_close(accel->products);
    accel_cuda_lanes_close(accel);
    for (uint32_t i = 0; i < accel->arena_count; i++) {
        const struct accel_arena_block *block = &accel->arena[i];
        (void)(block->kind == ACCEL_HOST ? cudaFreeHost(block->bytes) : cudaFree(block->bytes));
    }
    free(accel);
}

int accel_arena(struct accel *accel, enum accel_memory kind, size_t bytes, void **out)
{
    if (accel->arena_count == ACCEL_ARENAS_MAX) {
        return -ENOMEM;
    }
    void *block = NULL;
    const size_t least = bytes > 0 ? bytes : MAPPING_ALIGN;
    const cudaError_t error = kind == ACCEL_HOST
                                  ? cudaHostAlloc(&block, least, cudaHostAllocDefault)
                                  : cudaMalloc(&block, least);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); /* This one does not stick. */
        return -ENOMEM;
    }
    const int status = accel_cuda_check(accel, error, "memory");
    if (status) {
        return status;
    }
    accel->arena[accel->arena_count++] = (struct accel_arena_block){block, kind};
    *out = block;
    return 0;
}

int accel_pin(struct accel *accel, void *bytes, size_t count, bool writable)
{
    const unsigned flags = writable ? cudaHostRegisterDefault : cudaHostRegisterReadOnly;
    return accel_cuda_check(accel, cudaHostRegister(bytes, count, flags), "pinning shared memory");
}

int accel_events(struct accel *accel, uint32_t count)
{
    must(accel->event_count == 0);
    accel->event = calloc(count, sizeof(cudaEvent_t));
    if (!accel->event) {
        return -ENOMEM;
    }
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i++) {
        status = accel_cuda_check(accel, cudaEventCreate(&accel->event[i]), "an event");
        accel->event_count += status == 0;
    }
    return status;
}

static struct CUstream_st *stream_of(const struct accel *accel, uint32_t lane)
{
    must(lane < accel->lane_count);
    return accel->lane[lane].stream;
}

int accel_record(struct accel *accel, uint32_t event, uint32_t lane)
{
    must(event < accel->event_count);
    return accel_cuda_check(accel, cudaEventRecord(accel->event[event], stream_of(accel, lane)),
                            "recording an event");
}

int accel_wait(struct accel *accel, uint32_t event, uint32_t lane)
{
    must(event < accel->event_count);
    return accel_cuda_check(accel,
                            cudaStreamWaitEvent(stream_of(accel, lane), accel->event[event], 0),
                            "waiting for an event");
}

int accel_fence(struct accel *accel, uint32_t event, uint64_t timeout_us)
{
    must(event < accel->event_count);
    const uint64_t start_us = clock_now_us();
    for (;;) {
        const cudaError_t state = cudaEventQuery(accel->event[event]);
        if (state != cudaErrorNotReady) {
            return accel_cuda_check(accel, state, "a step");
        }
        const int left = accel_cuda_group_check(accel);
        const uint64_t spent_us = clock_now_us() - start_us;
        if (left || spent_us >= timeout_us) {
            return left ? left : -ETIMEDOUT;
        }
        if (spent_us >= FENCE_SPIN_US) {
            const struct timespec pause = {.tv_nsec = FENCE_SLEEP_NS};
            (void)nanosleep(&pause, NULL);
        }
    }
}

int accel_elapsed_us(struct accel *accel, uint32_t from, uint32_t to, float *us)
{
    must(from < accel->event_count && to < accel->event_count);
    float ms = 0;
    const cudaError_t error = cudaEventElapsedTime(&ms, accel->event[from], accel->event[to]);
    *us = ms * 1000;
    return accel_cuda_check(accel, error, "the time between two events");
}

/* In one call, which costs the host as much as two or three copies. */
static cudaError_t copy_batch(const struct accel_copy *copies, uint32_t count,
                              struct CUstream_st *stream)
{
    void *to[ACCEL_COPIES_MAX];
    const void *from[ACCEL_COPIES_MAX];
    size_t bytes[ACCEL_COPIES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        to[i] = copies[i].to;
        from[i] = copies[i].from;
        bytes[i] = copies[i].bytes;
    }
    struct cudaMemcpyAttributes attributes = {.srcAccessOrder = cudaMemcpySrcAccessOrderStream,
                                              .flags = cudaMemcpyFlagPreferOverlapWithCompute};
    size_t first = 0;
    return cudaMemcpyBatchAsync(to, from, bytes, count, &attributes, &first, 1, stream);
}

static cudaError_t copy_each(const struct accel_copy *copies, uint32_t count,
                             struct CUstream_st *stream)
{
    cudaError_t error = cudaSuccess;
    for (uint32_t i = 0; i < count && !error; i++) {
        error = cudaMemcpyAsync(copies[i].to, copies[i].from, copies[i].bytes, cudaMemcpyDefault,
                                stream);
    }
    return error;
}

int accel_copy(struct accel *accel, uint32_t lane, const struct accel_copy *copies, uint32_t count)
{
    must(count <= ACCEL_COPIES_MAX);
    struct CUstream_st *stream = stream_of(accel, lane);
    cudaError_t error = cudaErrorNotSupported;
    if (accel->batches && count > 1 && !accel->capturing) {
        error = copy_batch(copies, count, stream);
        accel->batches =
            error != cudaErrorNotSupported && error != cudaErrorCallRequiresNewerDriver;
    }
    if (error == cudaErrorNotSupported || error == cudaErrorCallRequiresNewerDriver) {
        (void)cudaGetLastError(); /* Nothing was put on the lane. */
        error = copy_each(copies, count, stream);
    }
    return accel_cuda_check(accel, error, "a copy");
}

int accel_clear(struct accel *accel, uint32_t lane, void *bytes, size_t count)
{
    return accel_cuda_check(accel, cudaMemsetAsync(bytes, 0, count, stream_of(accel, lane)),
                            "clearing memory");
}

int accel_launch(struct accel *accel, uint32_t lane,
                 int (*launch)(const void *args, struct CUstream_st *stream), const void *args,
                 size_t bytes)
{
    must(bytes <= ACCEL_ARGS_BYTES_MAX);
    const int status = launch(args, stream_of(accel, lane));
    return status == -EIO
               ? accel_cuda_fail(accel, "a launch", cudaGetErrorString(cudaGetLastError()))
               : status;
}

int accel_capture(struct accel *accel, uint32_t lane)
{
    must(!accel->capturing);
    const int status = accel_cuda_check(
        accel, cudaStreamBeginCapture(stream_of(accel, lane), cudaStreamCaptureModeThreadLocal),
        "beginning a graph");
    accel->capturing = status == 0;
    accel->capture_lane = lane;
    return status;
}

int accel_captured(struct accel *accel, uint32_t lane, struct accel_graph **out)
{
    must(accel->capturing);
    accel->capturing = false;
    struct accel_graph *graph = calloc(1, sizeof *graph);
    cudaGraph_t recorded = NULL;
    int status =
        accel_cuda_check(accel, cudaStreamEndCapture(stream_of(accel, lane), &recorded), "a graph");
    if (!status && !graph) {
        status = -ENOMEM;
    }
    if (!status) { /* Nodes keep the priorities of their lanes. */
        status =
            accel_cuda_check(accel,
                             cudaGraphInstantiateWithFlags(&graph->exec, recorded,
                                                           cudaGraphInstantiateFlagUseNodePriority),
                             "making a graph");
    }
    if (recorded) {
        (void)cudaGraphDestroy(recorded);
    }
    if (status) {
        free(graph);
        return status;
    }
    graph->next = accel->graphs;
    accel->graphs = graph;
    *out = graph;
    return 0;
}

int accel_replay(struct accel *accel, struct accel_graph *graph, uint32_t lane)
{
    return accel_cuda_check(accel, cudaGraphLaunch(graph->exec, stream_of(accel, lane)),
                            "launching a graph");
}
