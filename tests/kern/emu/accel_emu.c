/*
 * accel_emu.c - a slow accelerator without a GPU, for tests: memory is the host's, kernels run
 * under the emulator, products are a plain loop. Called on the main thread of sluice-worker-emu and
 * of test programs, which link it where sluice-worker-cuda has accel_cuda.c.
 *
 * Work is a list of entries. Normally an entry runs as soon as it is put on a lane. With
 * SLUICE_EMU_SEED in the environment nothing runs before the host waits for it; then lanes and the
 * lanes within a graph go on in a random order that the events allow, so that a missing event or a
 * host that reuses memory too early becomes a wrong number. SLUICE_EMU_MEMORY_MB is all it has,
 * SLUICE_EMU_DEVICES how many there are; emu_fault.h tells of SLUICE_EMU_FAULT. Ranks gather
 * through their hosts' comm. Invariant: fresh memory is NaN, so what was never written is seen too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/prng.h"
#include "kernels/bf16.h"
#include "kernels/e4m3.h"
#include "tests/kern/emu/emu_fault.h"
#include "tests/kern/emu/emu_launch.h"
#include "workers/accel.h"
#include "workers/comm.h"

enum {
    DEVICES = 8,
    ARENAS_MAX = 16,
    ALIGNMENT = 256,
    MEMORY_MB = 4096,
    UNITS = 8,
    UNIT_STEP = 2,
    ROWS_STEP = 2,
    PRODUCT_ROWS = 8
};

enum emu_kind {
    EMU_CALL,
    EMU_CLEAR,
    EMU_COPY,
    EMU_GATHER,
    EMU_PRODUCT,
    EMU_RECORD,
    EMU_WAIT,
    EMU_REPLAY,
};

struct emu_call {
    int (*launch)(const void *args, struct CUstream_st *stream);
    _Alignas(16) uint8_t args[ACCEL_ARGS_BYTES_MAX];
};

struct emu_mark {
    uint32_t event;
    uint64_t nth; /* Of the event's records. */
};

struct emu_entry {
    enum emu_kind kind;
    uint32_t lane; /* In a graph. */
    union {
        struct emu_call call;
        struct accel_copy copy;
        struct accel_gather gather;
        struct accel_product product;
        struct emu_mark mark;
        struct accel_graph *graph;
    } as;
};

struct emu_list {
    struct emu_entry *entries;
    size_t count;
    size_t room;
    size_t at; /* The next to run. */
};

struct emu_event {
    uint64_t recorded; /* Put on lanes, and */
    uint64_t passed;   /* run. */
    uint64_t time_ns;
    bool captured;                    /* Recorded last in the graph that is being captured, with */
    uint64_t behind[ACCEL_LANES_MAX]; /* so many entries of each lane before it. */
};

struct accel_graph {
    struct emu_list lanes[ACCEL_LANES_MAX];
    struct accel_graph *next;
};

struct accel {
    void *arenas[ARENAS_MAX];
    uint32_t arena_count;
    struct accel_share shares[ACCEL_LANES_MAX];
    struct emu_list lanes[ACCEL_LANES_MAX];
    uint32_t lane_count;
    struct emu_event *events;
    uint32_t event_count;
    struct accel_graph *graphs;
    struct accel_graph *capture;                       /* NULL: nothing is being captured. */
    bool joined[ACCEL_LANES_MAX];                      /* To the capture. */
    uint64_t behind[ACCEL_LANES_MAX][ACCEL_LANES_MAX]; /* Entries of the capture, lane by lane, that
                                                        * a lane comes after. */
    struct accel_group group;
    struct CUstream_st stream; /* Kernels that are called run at once. */
    uint64_t seed;             /* 0: no delay. */
    uint64_t draws;
    uint64_t memory_bytes;
    struct emu_fault fault;
    uint32_t index;
    uint32_t tunings;
    bool failed;
};

int accel_open(struct accel **out, uint32_t index, struct model_error *error)
{
    const char *text = getenv("SLUICE_EMU_DEVICES");
    const uint32_t devices = text ? (uint32_t)strtoul(text, NULL, 10) : DEVICES;
    if (index >= devices) {
        return model_error_set(error, -ENODEV,
                               "device %u is wanted and there are %u: lower workers.count", index,
                               devices);
    }
    struct accel *accel = calloc(1, sizeof *accel);
    if (!accel) {
        return -ENOMEM;
    }
    const char *seed = getenv("SLUICE_EMU_SEED");
    const char *memory = getenv("SLUICE_EMU_MEMORY_MB");
    accel->index = index;
    accel->seed = seed ? strtoull(seed, NULL, 10) : 0;
    accel->memory_bytes = (memory ? strtoull(memory, NULL, 10) : MEMORY_MB) << 20;
    accel->fault = emu_fault_from_environment();
    const struct emu_schedule schedule = {.order = accel->seed > 0 ? EMU_RANDOM : EMU_FORWARD,
                                          .seed = accel->seed};
    accel->stream.block = emu_block_new(&schedule);
    *out = accel;
    return 0;
}

static void free_list(struct emu_list *list)
{
    free(list->entries);
    *list = (struct emu_list){0};
}

static void close_graph(struct accel_graph *graph)
{
    for (uint32_t lane = 0; lane < ACCEL_LANES_MAX; lane++) {
        free_list(&graph->lanes[lane]);
    }
    free(graph);
}

static void close_graphs(struct accel *accel)
{
    while (accel->graphs) {
        struct accel_graph *graph = accel->graphs;
        accel->graphs = graph->next;
        close_graph(graph);
    }
}

void accel_close(struct accel *accel)
{
    if (!accel) {
        return;
    }
    close_graphs(accel);
    for (uint32_t lane = 0; lane < accel->lane_count; lane++) {
        free_list(&accel->lanes[lane]);
    }
    for (uint32_t i = 0; i < accel->arena_count; i++) {
        free(accel->arenas[i]);
    }
    emu_block_free(accel->stream.block);
    free(accel->events);
    free(accel);
}

void accel_info(struct accel *accel, struct accel_info *out)
{
    *out = (struct accel_info){
        .name = "emulated",
        .libraries = "none",
        .memory_bytes = accel->memory_bytes,
        .memory_free_bytes = accel->memory_bytes,
        .units = UNITS,
        .unit_step = UNIT_STEP,
        .rows_step = ROWS_STEP,
        .bytes = !getenv("SLUICE_EMU_OLD"), /* For a test of the refusal. */
        .sharing = ACCEL_SHARING_HINTS,
    };
}

const char *accel_failure(const struct accel *accel)
{
    return accel->failed ? "emulated: told to fail" : "";
}

/* There is one way, and nothing to time; but the first time counts as too short for all of it, so
 * that engines meet that too, and on devices of a higher number more of them, so that ranks differ.
 */
void accel_tune(struct accel *accel)
{
    accel->tunings++;
}

bool accel_tuned(struct accel *accel)
{
    return accel->tunings > 1 + 4 * accel->index;
}

int accel_arena(struct accel *accel, enum accel_memory kind, size_t bytes, void **out)
{
    (void)kind;
    must(accel->arena_count < ARENAS_MAX && bytes > 0);
    const size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const bool refused = rounded < bytes || emu_fault_comes(&accel->fault, "arena");
    void *memory = refused ? NULL : aligned_alloc(ALIGNMENT, rounded);
    if (!memory) {
        return -ENOMEM;
    }
    memset(memory, 0xff, rounded);
    accel->arenas[accel->arena_count++] = memory;
    *out = memory;
    return 0;
}

int accel_lanes(struct accel *accel, const struct accel_share *shares, uint32_t count)
{
    must(accel->lane_count == 0 && count >= 1 && count <= ACCEL_LANES_MAX);
    memcpy(accel->shares, shares, count * sizeof *shares);
    accel->lane_count = count;
    return 0;
}

uint32_t accel_lane_units(const struct accel *accel, uint32_t lane)
{
    must(lane < accel->lane_count);
    return accel->shares[lane].units > 0 ? accel->shares[lane].units : UNITS;
}

int accel_events(struct accel *accel, uint32_t count)
{
    must(!accel->events);
    accel->events = calloc(count, sizeof *accel->events);
    accel->event_count = count;
    return accel->events ? 0 : -ENOMEM;
}

static void store_sum(const struct accel_product *product, size_t at, float sum)
{
    if (product->float_y) {
        float *y = product->y;
        y[at] = product->accumulate ? y[at] + sum : sum;
    } else {
        act_store(product->y, at, sum, product->dtype);
    }
}

static float load(const struct accel_product *product, const void *array, size_t i)
{
    return product->x_scale ? e4m3_to_float(((const uint8_t *)array)[i])
                            : act_load(array, i, product->dtype);
}

/* Some rows side by side, which vectors of the host's do at once. Each sum goes from 0 to k. */
static void multiply_rows(const struct accel_product *product, size_t first, float *x)
{
    const size_t k = product->k;
    const size_t rows = product->rows - first < PRODUCT_ROWS ? product->rows - first : PRODUCT_ROWS;
    memset(x, 0, k * PRODUCT_ROWS * sizeof *x);
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < k; i++) {
            x[i * PRODUCT_ROWS + r] = load(product, product->x, (first + r) * k + i);
        }
    }
    for (size_t c = 0; c < product->n; c++) {
        float sum[PRODUCT_ROWS] = {0};
        for (size_t i = 0; i < k; i++) {
            const float w = load(product, product->w, c * k + i);
            for (size_t r = 0; r < PRODUCT_ROWS; r++) {
                sum[r] += x[i * PRODUCT_ROWS + r] * w;
            }
        }
        for (size_t r = 0; r < rows; r++) {
            const float scale =
                product->x_scale ? product->x_scale[first + r] * product->w_scale[c] : 1;
            store_sum(product, (first + r) * product->n + c, sum[r] * scale);
        }
    }
}

static void multiply(const struct accel_product *product)
{
    float *x = calloc((size_t)product->k * PRODUCT_ROWS, sizeof *x);
    must(x);
    for (size_t first = 0; first < product->rows; first += PRODUCT_ROWS) {
        multiply_rows(product, first, x);
    }
    free(x);
}

/* Through the hosts' comm: the memory is theirs. */
static int meet(const struct accel *accel, const struct accel_gather *gather)
{
    const uint32_t bytes = (uint32_t)(gather->count * kern_dtype_bytes(gather->dtype));
    const struct comm_gather_args args = {.own = gather->own,
                                          .full = gather->all,
                                          .rows = 1,
                                          .columns = accel->group.ranks,
                                          .item_bytes = bytes};
    return comm_gather(accel->group.comm, &args) ? -ECANCELED : 0;
}

static uint32_t draw(struct accel *accel, uint32_t below)
{
    return (uint32_t)(prng_bits(accel->seed, accel->draws++, 0) % below);
}

/* A wait whose event has not come does not run. */
static bool may_run(const struct accel *accel, const struct emu_entry *entry)
{
    return entry->kind != EMU_WAIT ||
           accel->events[entry->as.mark.event].passed >= entry->as.mark.nth;
}

/* What is not itself a list. */
static int run_entry(struct accel *accel, const struct emu_entry *entry)
{
    switch (entry->kind) {
    case EMU_CALL:
        return entry->as.call.launch(entry->as.call.args, &accel->stream);
    case EMU_CLEAR:
        memset(entry->as.copy.to, 0, entry->as.copy.bytes);
        break;
    case EMU_COPY:
        memmove(entry->as.copy.to, entry->as.copy.from, entry->as.copy.bytes);
        break;
    case EMU_GATHER:
        return meet(accel, &entry->as.gather);
    case EMU_PRODUCT:
        multiply(&entry->as.product);
        break;
    case EMU_RECORD:
        accel->events[entry->as.mark.event].passed = entry->as.mark.nth;
        accel->events[entry->as.mark.event].time_ns = clock_now_ns();
        break;
    case EMU_WAIT:
        must(may_run(accel, entry)); /* Nothing to wait for: it came before. */
        break;
    case EMU_REPLAY:
        must(false);
    }
    return 0;
}

/* One of the lists whose next entry may run, or NULL. */
static struct emu_list *pick(struct accel *accel, struct emu_list *lists)
{
    struct emu_list *may[ACCEL_LANES_MAX];
    uint32_t count = 0;
    for (uint32_t lane = 0; lane < accel->lane_count; lane++) {
        struct emu_list *list = &lists[lane];
        if (list->at < list->count && may_run(accel, &list->entries[list->at])) {
            may[count++] = list;
        }
    }
    return count > 0 ? may[accel->seed > 0 ? draw(accel, count) : 0] : NULL;
}

/* A graph's events stand for themselves in each of its runs. */
static int run_graph(struct accel *accel, struct accel_graph *graph)
{
    struct emu_list *list;
    int error = 0;
    for (uint32_t lane = 0; lane < accel->lane_count; lane++) {
        graph->lanes[lane].at = 0;
        for (size_t i = 0; i < graph->lanes[lane].count; i++) {
            const struct emu_entry *entry = &graph->lanes[lane].entries[i];
            if (entry->kind == EMU_RECORD) {
                accel->events[entry->as.mark.event].passed = 0;
            }
        }
    }
    while (!error && (list = pick(accel, graph->lanes))) {
        error = run_entry(accel, &list->entries[list->at++]);
    }
    for (uint32_t lane = 0; lane < accel->lane_count && !error; lane++) {
        must(graph->lanes[lane].at == graph->lanes[lane].count);
    }
    return error;
}

static int run_any(struct accel *accel, const struct emu_entry *entry)
{
    return entry->kind == EMU_REPLAY ? run_graph(accel, entry->as.graph) : run_entry(accel, entry);
}

static int append(struct emu_list *list, const struct emu_entry *entry)
{
    if (list->count == list->room) {
        const size_t room = list->room > 0 ? 2 * list->room : 64;
        struct emu_entry *entries = reallocarray(list->entries, room, sizeof *entries);
        if (!entries) {
            return -ENOMEM;
        }
        list->entries = entries;
        list->room = room;
    }
    list->entries[list->count++] = *entry;
    return 0;
}

static int put(struct accel *accel, uint32_t lane, struct emu_entry *entry)
{
    must(lane < accel->lane_count);
    if (accel->capture && accel->joined[lane]) {
        accel->behind[lane][lane]++;
        return append(&accel->capture->lanes[lane], entry);
    }
    return accel->seed > 0 ? append(&accel->lanes[lane], entry) : run_any(accel, entry);
}

int accel_record(struct accel *accel, uint32_t event, uint32_t lane)
{
    must(event < accel->event_count && lane < accel->lane_count);
    struct emu_event *at = &accel->events[event];
    at->captured = accel->capture && accel->joined[lane];
    struct emu_entry entry = {.kind = EMU_RECORD, .as.mark = {event, ++at->recorded}};
    const int error = put(accel, lane, &entry);
    if (at->captured) {
        memcpy(at->behind, accel->behind[lane], sizeof at->behind);
    }
    return error;
}

int accel_wait(struct accel *accel, uint32_t event, uint32_t lane)
{
    must(event < accel->event_count && lane < accel->lane_count);
    const struct emu_event *at = &accel->events[event];
    struct emu_entry entry = {.kind = EMU_WAIT, .as.mark = {event, at->recorded}};
    if (accel->capture && at->captured) {
        accel->joined[lane] = true;
        for (uint32_t i = 0; i < ACCEL_LANES_MAX; i++) {
            const uint64_t more = at->behind[i];
            accel->behind[lane][i] = more > accel->behind[lane][i] ? more : accel->behind[lane][i];
        }
    } else {
        must(!(accel->capture && accel->joined[lane])); /* A graph waits for nothing outside. */
    }
    return at->recorded > 0 ? put(accel, lane, &entry) : 0;
}

int accel_fence(struct accel *accel, uint32_t event, uint64_t timeout_us)
{
    must(event < accel->event_count && !accel->capture);
    const struct emu_event *at = &accel->events[event];
    const uint64_t start_us = clock_now_us();
    if (timeout_us > 0 && emu_fault_comes(&accel->fault, "hang")) {
        (void)usleep((useconds_t)timeout_us);
        return -ETIMEDOUT;
    }
    accel->failed = accel->failed || (timeout_us > 0 && emu_fault_comes(&accel->fault, "fence"));
    int error = accel->failed ? -EIO : 0;
    while (!error && at->passed < at->recorded) {
        struct emu_list *list = pick(accel, accel->lanes);
        must(list); /* Else it waits for an event that nothing brings. */
        error = run_any(accel, &list->entries[list->at++]);
        if (list->at == list->count) {
            list->at = list->count = 0;
        }
        if (clock_now_us() - start_us > timeout_us) {
            return -ETIMEDOUT;
        }
    }
    return error;
}

int accel_elapsed_us(struct accel *accel, uint32_t from, uint32_t to, float *us)
{
    must(from < accel->event_count && to < accel->event_count);
    *us = (float)(accel->events[to].time_ns - accel->events[from].time_ns) / 1e3f;
    return 0;
}

int accel_copy(struct accel *accel, uint32_t lane, const struct accel_copy *copies, uint32_t count)
{
    int error = 0;
    must(count <= ACCEL_COPIES_MAX);
    for (uint32_t i = 0; i < count && !error; i++) {
        struct emu_entry entry = {.kind = EMU_COPY, .as.copy = copies[i]};
        error = put(accel, lane, &entry);
    }
    return error;
}

int accel_clear(struct accel *accel, uint32_t lane, void *bytes, size_t count)
{
    struct emu_entry entry = {.kind = EMU_CLEAR, .as.copy = {.to = bytes, .bytes = count}};
    return put(accel, lane, &entry);
}

int accel_launch(struct accel *accel, uint32_t lane,
                 int (*launch)(const void *args, struct CUstream_st *stream), const void *args,
                 size_t bytes)
{
    struct emu_entry entry = {.kind = EMU_CALL, .as.call.launch = launch};
    must(bytes <= sizeof entry.as.call.args);
    accel->failed = accel->failed || emu_fault_comes(&accel->fault, "launch");
    if (accel->failed) {
        return -EIO;
    }
    memcpy(entry.as.call.args, args, bytes);
    return put(accel, lane, &entry);
}

int accel_multiply(struct accel *accel, uint32_t lane, const struct accel_product *product)
{
    must(!product->accumulate || product->float_y);
    must(!product->w_scale == !product->x_scale);
    must(!product->w_scale || (product->n | product->k) % ACCEL_BYTES_STEP == 0);
    struct emu_entry entry = {.kind = EMU_PRODUCT, .as.product = *product};
    return product->rows > 0 ? put(accel, lane, &entry) : 0;
}

/* What lies on lanes is of an epoch that is over. */
int accel_join(struct accel *accel, const struct accel_group *group)
{
    must(!accel->capture && group->comm);
    close_graphs(accel);
    for (uint32_t lane = 0; lane < accel->lane_count; lane++) {
        accel->lanes[lane].at = accel->lanes[lane].count = 0;
    }
    memset(accel->events, 0, accel->event_count * sizeof *accel->events);
    accel->group = *group;
    return comm_poll(group->comm) ? -ECANCELED : 0;
}

int accel_gather(struct accel *accel, uint32_t lane, const struct accel_gather *gather)
{
    must(accel->group.comm);
    struct emu_entry entry = {.kind = EMU_GATHER, .as.gather = *gather};
    return put(accel, lane, &entry);
}

int accel_capture(struct accel *accel, uint32_t lane)
{
    must(!accel->capture && lane < accel->lane_count);
    accel->capture = calloc(1, sizeof *accel->capture);
    memset(accel->joined, 0, sizeof accel->joined);
    memset(accel->behind, 0, sizeof accel->behind);
    for (uint32_t i = 0; i < accel->event_count; i++) {
        accel->events[i].captured = false;
    }
    accel->joined[lane] = true;
    return accel->capture ? 0 : -ENOMEM;
}

int accel_captured(struct accel *accel, uint32_t lane, struct accel_graph **out)
{
    must(accel->capture && accel->joined[lane]);
    for (uint32_t i = 0; i < accel->lane_count; i++) {
        must(accel->behind[lane][i] == accel->behind[i][i]); /* The lane has waited for all. */
    }
    *out = accel->capture;
    accel->capture->next = accel->graphs;
    accel->graphs = accel->capture;
    accel->capture = NULL;
    return 0;
}

int accel_replay(struct accel *accel, struct accel_graph *graph, uint32_t lane)
{
    must(!accel->capture);
    struct emu_entry entry = {.kind = EMU_REPLAY, .as.graph = graph};
    return put(accel, lane, &entry);
}
