/*
 * emu_block.h - one block of CUDA threads on one host thread, a fiber each. A thread runs until it
 * waits for others; then the first that can go on does, in the order of the schedule, so that some
 * warps run as far ahead of others as barriers let them. What no kernel may do ends the process
 * with the block, the thread and the reason: barriers that not all reach, lanes that do different
 * things, misaligned copies.
 *
 * A block is used by one host thread at a time and owns its stacks and shared memory.
 */
#ifndef TESTS_KERN_EMU_EMU_BLOCK_H
#define TESTS_KERN_EMU_EMU_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/kern/emu/fiber.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EMU_THREADS_MAX = 1024,
    EMU_WARP = 32,
    EMU_SHARED_BYTES_MAX = 227 << 10, /* Of a block on sm_90; 163 KiB on sm_80. */
    EMU_ARRAYS_MAX = 16,
    EMU_COPY_GROUPS_MAX = 16,
};

/* In which order threads, and blocks of a grid, run where they are free to. */
enum emu_order { EMU_FORWARD, EMU_REVERSE, EMU_RANDOM };

struct emu_schedule {
    enum emu_order order;
    bool eager_copies; /* An asynchronous copy lands at once instead of when it is waited for. */
    uint64_t seed;
};

struct emu_dim {
    uint32_t x, y, z;
};

struct emu_block;

/* A kernel on its way to a block; body runs one thread of it. */
struct emu_launch {
    struct emu_dim grid;
    struct emu_dim block;
    size_t shared_bytes;
    void (*body)(struct emu_block *block, const void *closure);
    void (*release)(void *closure);
    void *closure;
};

struct emu_copy {
    void *shared;
    const void *global; /* NULL: zeros. */
};

/* Asynchronous copies of one thread, oldest first. */
struct emu_copies {
    struct emu_copy *list;
    uint32_t count;
    uint32_t room;
    uint32_t groups[EMU_COPY_GROUPS_MAX]; /* Copies up to the end of each group. */
    uint32_t group_count;
};

enum emu_state { EMU_RUNS, EMU_AT_BARRIER, EMU_AT_WARP, EMU_DONE };

struct emu_thread {
    struct emu_dim index;
    enum emu_state state;
    int line; /* Of the barrier where it waits. */
    struct emu_copies copies;
};

enum emu_operation { EMU_SYNC, EMU_SHUFFLE, EMU_BALLOT, EMU_MMA, EMU_LDMATRIX, EMU_LDMATRIX_TRANS };

/* What a lane brings to an operation of its warp, and what it takes away. */
struct emu_lane {
    enum emu_operation operation;
    uint32_t mask;
    uint32_t source; /* Lane that a shuffle reads. */
    uint64_t value;
    uint32_t a[4];
    uint32_t b[2];
    const void *row;
    uint64_t result;
    float tile[4];
    uint32_t words[4];
};

struct emu_warp {
    uint32_t live;    /* Lanes that have not ended. */
    uint32_t waiting; /* Lanes that wait for others. */
    struct emu_lane lanes[EMU_WARP];
};

struct emu_array {
    const void *key;
    void *bytes;
};

struct emu_block {
    struct fiber fibers[EMU_THREADS_MAX];
    struct emu_thread threads[EMU_THREADS_MAX];
    struct emu_warp warps[EMU_THREADS_MAX / EMU_WARP];
    uint16_t order[EMU_THREADS_MAX];        /* Threads as they take turns. */
    uint16_t place[EMU_THREADS_MAX];        /* Of a thread in order. */
    uint64_t running[EMU_THREADS_MAX / 64]; /* A bit a place, of threads in EMU_RUNS. */
    uint32_t count;
    uint32_t current;
    uint32_t done;
    uint32_t arrived; /* At the barrier. */
    uint32_t votes;
    uint32_t votes_counted; /* Of the last barrier. */
    struct emu_dim index;
    const struct emu_launch *launch;
    struct emu_schedule schedule;
    struct fiber host;
    void *shared;
    struct emu_array arrays[EMU_ARRAYS_MAX];
    uint32_t array_count;
};

struct emu_block *emu_block_new(const struct emu_schedule *schedule);
void emu_block_free(struct emu_block *block);

/* Runs block `index` of a launch to its end. */
void emu_block_run(struct emu_block *block, const struct emu_launch *launch, struct emu_dim index);

/* Barrier of all threads of the block; returns how many came with `vote`. */
uint32_t emu_block_sync(struct emu_block *block, int line, bool vote);

/* The current thread stops in another state than EMU_RUNS until it is woken. */
void emu_block_wait(struct emu_block *block, enum emu_state state);
void emu_block_wake(struct emu_block *block, uint32_t thread);

/* Lets other threads run, for those who poll memory. */
void emu_block_yield(struct emu_block *block);

void emu_block_fail(const struct emu_block *block, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

#ifdef __cplusplus
}
#endif

#endif /* TESTS_KERN_EMU_EMU_BLOCK_H */
