/* peak.h - what this machine's processors reach at best, by a short run: products as the worker
 * computes them, and reading memory. */
#ifndef TOOLS_PEAK_H
#define TOOLS_PEAK_H

#include <stdint.h>

#include "base/must.h"
#include "kernels/kern.h"
#include "plan/cost.h"

/* Fills flops, memory_bytes_s, memory_bytes (all of the machine's) and the name; nothing is
 * measured between ranks. About two seconds. -ENOTSUP: no such product here; -ENOMEM; -EAGAIN: no
 * thread. */
int peak_measure(struct cost_device *device, enum kern_dtype dtype, uint32_t threads) MUST_CHECK;

#endif /* TOOLS_PEAK_H */
