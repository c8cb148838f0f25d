/*
 * presence_cuda.c - see presence.h, in sluice-worker-cuda. Called by main.c on the main thread,
 * with the CUDA runtime alone: cuBLASLt costs half a second from a cold disk. Owns nothing; leaves
 * no context on the device.
 */
#include <errno.h>
#include <stdio.h>

#include <cuda_runtime_api.h>

#include "workers/presence.h"

enum { PRESENCE_COMPUTE_MIN = 80 }; /* sm_80: kernels/cuda has no code for older devices. */

int presence_check(char text[PRESENCE_TEXT_BYTES])
{
    struct cudaDeviceProp device = {.major = 0};
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (!error && count > 0) {
        error = cudaGetDeviceProperties(&device, 0);
    }
    if (error || count == 0) {
        (void)snprintf(text, PRESENCE_TEXT_BYTES, "no CUDA device: %s",
                       error ? cudaGetErrorString(error) : "the driver names none");
        return -ENODEV;
    }
    const int found = snprintf(
        text, PRESENCE_TEXT_BYTES, "%.100s, compute capability %d.%d, %d SMs, %zu MiB", device.name,
        device.major, device.minor, device.multiProcessorCount, device.totalGlobalMem >> 20);
    if (10 * device.major + device.minor < PRESENCE_COMPUTE_MIN) {
        (void)snprintf(text + found, (size_t)(PRESENCE_TEXT_BYTES - found),
                       ": too old, 8.0 is the least");
        return -ENOTSUP;
    }
    return 0;
}
