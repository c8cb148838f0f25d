/*
 * accel_cuda_lanes.c - lanes of a GPU: streams with a share of its SMs. Called at start by
 * accel_lanes(), on the worker's main thread; owns the streams, the green contexts behind them and
 * the lanes' workspaces.
 *
 * Three rungs, and info.sharing names the one in use. Cut: green contexts, whose SMs no other lane
 * of the cut has; all parts of a cut come from ONE split, since two splits overlap. Hints: streams
 * of the whole device where the smaller share starts first; products and kernels are told how many
 * SMs to fill, and nothing makes them. One: every lane is the same stream, so nothing overlaps.
 * SLUICE_CUDA_SHARING=cut|hints|one names the rung to begin with, for comparisons.
 *
 * A green context is never made current: it may be current to one thread only, and a stream of it
 * is enough. The entry points come from the driver that is there, by name: a program linked with
 * libcuda would not start without one.
 */
#include "workers/accel_cuda.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum {
    LANES_DRIVER_VERSION = 12050, /* CUDA 12.5: the first with streams of green contexts. */
    LANES_PARTS_MAX = 64,         /* Of a split: 264 SMs in eights are 33. */
};

struct driver {
    CUresult (*device)(CUdevice *, int);
    CUresult (*resource)(CUdevice, CUdevResource *, CUdevResourceType);
    CUresult (*split)(CUdevResource *, unsigned *, const CUdevResource *, CUdevResource *, unsigned,
                      unsigned);
    CUresult (*describe)(CUdevResourceDesc *, CUdevResource *, unsigned);
    CUresult (*create)(CUgreenCtx *, CUdevResourceDesc, CUdevice, unsigned);
    CUresult (*destroy)(CUgreenCtx);
    CUresult (*stream)(CUstream *, CUgreenCtx, unsigned, int);
};

static bool driver_find(struct driver *driver)
{
    const struct {
        const char *name;
        void **slot;
    } wanted[] = {
        {"cuDeviceGet", (void **)&driver->device},
        {"cuDeviceGetDevResource", (void **)&driver->resource},
        {"cuDevSmResourceSplitByCount", (void **)&driver->split},
        {"cuDevResourceGenerateDesc", (void **)&driver->describe},
        {"cuGreenCtxCreate", (void **)&driver->create},
        {"cuGreenCtxDestroy", (void **)&driver->destroy},
        {"cuGreenCtxStreamCreate", (void **)&driver->stream},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
        const cudaError_t error = cudaGetDriverEntryPointByVersion(
            wanted[i].name, wanted[i].slot, LANES_DRIVER_VERSION, cudaEnableDefault, &found);
        if (error || found != cudaDriverEntryPointSuccess) {
            (void)cudaGetLastError();
            log_info("the driver has no %s", wanted[i].name);
            return false;
        }
    }
    return true;
}

/* One split of the device, dealt out to the lanes of a group. */
struct cut {
    const struct driver *driver;
    CUdevice device;
    CUdevResource part[LANES_PARTS_MAX]; /* Parts of `step` SMs each, then what is left over. */
    uint32_t parts;
    uint32_t next; /* Part to deal. */
    uint32_t step;
};

static bool split(struct cut *cut, uint32_t step)
{
    CUdevResource all;
    CUdevResource left = {.type = CU_DEV_RESOURCE_TYPE_INVALID};
    unsigned groups = LANES_PARTS_MAX - 1;
    if (cut->driver->resource(cut->device, &all, CU_DEV_RESOURCE_TYPE_SM) ||
        cut->driver->split(cut->part, &groups, &all, &left, 0, step) || groups == 0) {
        return false;
    }
    cut->step = cut->part[0].sm.smCount;
    cut->parts = groups;
    if (left.type == CU_DEV_RESOURCE_TYPE_SM && left.sm.smCount > 0) {
        cut->part[cut->parts++] = left;
    }
    cut->next = 0;
    return true;
}

/* Gives a lane the next `parts` parts. */
static bool deal(struct cut *cut, struct accel_lane *lane, uint32_t parts)
{
    CUdevResourceDesc desc;
    if (parts == 0 || cut->next + parts > cut->parts ||
        cut->driver->describe(&desc, &cut->part[cut->next], parts) ||
        cut->driver->create(&lane->cut, desc, cut->device, CU_GREEN_CTX_DEFAULT_STREAM)) {
        return false;
    }
    lane->units = 0;
    for (uint32_t i = 0; i < parts; i++) {
        lane->units += cut->part[cut->next + i].sm.smCount;
    }
    cut->next += parts;
    return cut->driver->stream(&lane->stream, lane->cut, CU_STREAM_NON_BLOCKING, 0) == CUDA_SUCCESS;
}

/* The lane of the group whose share is the largest: it takes what the others leave when the group
 * wants the whole device, and is dealt last. */
static uint32_t largest_of(const struct accel_share *shares, uint32_t count, uint32_t group)
{
    uint32_t largest = count;
    for (uint32_t i = 0; i < count; i++) {
        if (shares[i].group == group && shares[i].units > 0 &&
            (largest == count || shares[i].units > shares[largest].units)) {
            largest = i;
        }
    }
    return largest;
}

static bool cut_group(struct accel *accel, struct cut *cut, const struct accel_share *shares,
                      uint32_t count, uint32_t group)
{
    const uint32_t largest = largest_of(shares, count, group);
    uint32_t wanted = 0;
    if (!split(cut, accel->info.unit_step)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (shares[i].group != group || shares[i].units == 0) {
            continue;
        }
        wanted += shares[i].units;
        if (i != largest && !deal(cut, &accel->lane[i], shares[i].units / cut->step)) {
            return false;
        }
    }
    const bool all = wanted + cut->step > accel->info.units;
    const uint32_t parts = all ? cut->parts - cut->next : shares[largest].units / cut->step;
    return wanted <= accel->info.units && deal(cut, &accel->lane[largest], parts);
}

/* Lanes with a share, cut from the device. */
static bool cut_lanes(struct accel *accel, const struct accel_share *shares, uint32_t count)
{
    struct driver driver;
    struct cut *cut = calloc(1, sizeof *cut); /* A description of a part is 144 bytes. */
    bool whole = cut && driver_find(&driver);
    if (whole) {
        cut->driver = &driver;
        whole = driver.device(&cut->device, accel->device) == CUDA_SUCCESS;
    }
    for (uint32_t i = 0; i < count && whole; i++) {
        if (shares[i].units > 0 && !accel->lane[i].stream) {
            whole = shares[i].group > 0 && cut_group(accel, cut, shares, count, shares[i].group);
        }
    }
    free(cut);
    return whole;
}

/* A stream of the whole device; the smaller the share, the earlier its work starts. */
static int plain_lane(struct accel *accel, struct accel_lane *lane, uint32_t units)
{
    int lowest = 0;
    int highest = 0;
    int status = accel_cuda_check(accel, cudaDeviceGetStreamPriorityRange(&lowest, &highest),
                                  "the range of priorities");
    const bool small = units > 0 && units * 2 <= accel->info.units;
    lane->units = units > 0 ? units : accel->info.units;
    if (!status) {
        status = accel_cuda_check(accel,
                                  cudaStreamCreateWithPriority(&lane->stream, cudaStreamNonBlocking,
                                                               small ? highest : lowest),
                                  "a lane");
    }
    return status;
}

static enum accel_sharing first_rung(void)
{
    const char *wanted = getenv("SLUICE_CUDA_SHARING");
    if (wanted && strcmp(wanted, "one") == 0) {
        return ACCEL_SHARING_ONE;
    }
    return wanted && strcmp(wanted, "hints") == 0 ? ACCEL_SHARING_HINTS : ACCEL_SHARING_CUT;
}

void accel_cuda_lanes_describe(struct accel *accel)
{
    struct driver driver;
    CUdevice device;
    CUdevResource all;
    accel->info.sharing = first_rung();
    accel->info.unit_step = 1;
    if (accel->info.sharing != ACCEL_SHARING_CUT) {
        return;
    }
    if (!driver_find(&driver) || driver.device(&device, accel->device) ||
        driver.resource(device, &all, CU_DEV_RESOURCE_TYPE_SM)) {
        accel->info.sharing = ACCEL_SHARING_HINTS;
        return;
    }
    const uint32_t least = all.sm.minSmPartitionSize;
    const uint32_t align = all.sm.smCoscheduledAlignment;
    accel->info.unit_step = least > align ? least : align;
}

void accel_cuda_lanes_close(struct accel *accel)
{
    struct driver driver;
    const bool found = accel->info.sharing == ACCEL_SHARING_CUT && driver_find(&driver);
    for (uint32_t i = 0; i < ACCEL_LANES_MAX; i++) {
        struct accel_lane *lane = &accel->lane[i];
        const bool owner = i == 0 || accel->info.sharing != ACCEL_SHARING_ONE;
        if (lane->stream && owner) {
            (void)cudaStreamDestroy(lane->stream);
        }
        if (lane->cut && found) {
            (void)driver.destroy(lane->cut);
        }
        if (lane->workspace && owner) {
            (void)cudaFree(lane->workspace);
        }
        *lane = (struct accel_lane){.units = 0};
    }
    accel->lane_count = 0;
}

/* The streams that cut_lanes() did not make, and the workspaces. */
static int complete_lanes(struct accel *accel, const struct accel_share *shares, uint32_t count)
{
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i++) {
        struct accel_lane *lane = &accel->lane[i];
        if (i > 0 && accel->info.sharing == ACCEL_SHARING_ONE) {
            *lane = accel->lane[0];
            continue;
        }
        if (!lane->stream) {
            status = plain_lane(accel, lane,
                                accel->info.sharing == ACCEL_SHARING_ONE ? 0 : shares[i].units);
        }
        if (!status && cudaMalloc(&lane->workspace, ACCEL_WORKSPACE_BYTES)) {
            (void)cudaGetLastError();
            status = -ENOMEM;
        }
    }
    accel->lane_count = count;
    return status;
}

int accel_lanes(struct accel *accel, const struct accel_share *shares, uint32_t count)
{
    must(accel->lane_count == 0 && count > 0 && count <= ACCEL_LANES_MAX);
    if (accel->info.sharing == ACCEL_SHARING_CUT && !cut_lanes(accel, shares, count)) {
        accel_cuda_lanes_close(accel);
        accel->info.sharing = ACCEL_SHARING_HINTS;
        accel->info.unit_step = 1;
    }
    const int status = complete_lanes(accel, shares, count);
    static const char *const rungs[] = {"cut by green contexts", "shared by hints and priorities",
                                        "one stream for all"};
    log_info("%s: %u lanes, %s", accel->info.name, count, rungs[accel->info.sharing]);
    return status;
}

uint32_t accel_lane_units(const struct accel *accel, uint32_t lane)
{
    must(lane < accel->lane_count);
    return accel->lane[lane].units;
}
