/*
 * sched_worker.h - a worker for the scheduler's property test: it believes only what steps tell it
 * and must()s that they make sense. Its KV holds the ids themselves, so that a page that was given
 * to two requests, or lost, shows when a token is sampled.
 */
#ifndef TESTS_PROPERTY_SCHED_WORKER_H
#define TESTS_PROPERTY_SCHED_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/sched.h"

enum { SLOTS_MAX = 6, CONTEXT_MAX = 48, POOL_MAX = 40, TOKENS_MAX = 24 };

struct worker_slot {
    bool open;
    uint32_t generation;
    uint64_t prompt; /* What the pure function needs to know of its request. */
    uint32_t pages[CONTEXT_MAX];
    uint32_t page_count;
    uint32_t computed;
    bool has_last; /* A token was sampled in this residency. */
    uint32_t last;
};

struct worker {
    struct sched_options options;
    struct worker_slot slot[SLOTS_MAX];
    uint32_t kv[POOL_MAX][CONTEXT_MAX]; /* Id at each place of each page. */
    uint64_t computed_tokens;
};

struct worker_step { /* A step as the worker sees it, copied when it was sent. */
    struct sched_slot closes[SLOTS_MAX];
    uint32_t close_count;
    struct sched_slot opens[SLOTS_MAX];
    uint64_t prompts[SLOTS_MAX]; /* Of the opens. */
    uint32_t open_count;
    struct sched_row rows[SLOTS_MAX];
    uint32_t row_count;
    uint32_t new_pages[SLOTS_MAX][CONTEXT_MAX]; /* Of each row. */
    uint32_t new_page_count[SLOTS_MAX];
    struct sched_copy copies[SLOTS_MAX];
    uint32_t copy_count;
    uint32_t ids[SLOTS_MAX][CONTEXT_MAX]; /* Of each row that is listed. */
    uint32_t results[SLOTS_MAX];          /* Output, of each row that samples. */
};

/* The token at a position of the sequence that this prompt begins. Prompts come in a few families;
 * those of one begin alike, for a length of their own each. */
uint32_t worker_token(uint64_t prompt, uint32_t position);

/* A new process: nothing is open. */
void worker_start(struct worker *worker, const struct sched_options *options);

/* Runs a step. */
void worker_run(struct worker *worker, struct worker_step *step);

#endif /* TESTS_PROPERTY_SCHED_WORKER_H */
