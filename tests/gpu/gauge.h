/*
 * gauge.h - what the measurements of tests/gpu share: a device with its lanes, memory full of
 * random numbers, and times of what is put on lanes. A row is a line of JSON on stdout;
 * docs/benchmarks.md quotes them. Whatever fails ends the program with a line that says what.
 */
#ifndef TESTS_GPU_GAUGE_H
#define TESTS_GPU_GAUGE_H

#include <stddef.h>
#include <stdint.h>

#include "workers/accel.h"

enum {
    GAUGE_LEVELS = 7, /* Shares of the small lane of a pair: 16, 24, ... 64 units. */
    GAUGE_LANES = 1 + 2 * GAUGE_LEVELS,
    GAUGE_DEADLINE_US = 30000000,
};

struct gauge {
    struct accel *accel;
    struct accel_info info;
    size_t lanes_bytes; /* Of device memory that went with the lanes. */
    uint8_t *noise;     /* On the device: bf16 numbers in [-1, 1). */
    size_t noise_bytes;
    void *y; /* Of all products; made by shapes.c. */
};

/* Puts something on a lane. 0 or -errno. */
typedef int gauge_put(struct gauge *gauge, uint32_t lane, const void *what);

void gauge_open(struct gauge *gauge, size_t noise_bytes);
void gauge_close(struct gauge *gauge);

void *gauge_memory(struct gauge *gauge, enum accel_memory kind, size_t bytes);
void gauge_send(struct gauge *gauge, void *to, const void *from, size_t bytes);

/* Until the lane has done all that was put on it. */
void gauge_finish(struct gauge *gauge, uint32_t lane);

/* Of a copy within the device's memory, of half the noise: bytes read and bytes written. */
double gauge_copy_bytes_per_us(struct gauge *gauge);

static inline uint32_t gauge_small(uint32_t level)
{
    return 1 + 2 * level; /* Lane 0 has the whole device. */
}

static inline uint32_t gauge_large(uint32_t level)
{
    return 2 + 2 * level;
}

/* Median time of one, of 11 after one to warm up. */
double gauge_time_us(struct gauge *gauge, uint32_t lane, gauge_put *put, const void *what);

/* The time of one on each of two lanes while both run: what[i] on lane[i], about as long on each by
 * the times alone. */
struct gauge_pair {
    uint32_t lane[2];
    gauge_put *put[2];
    const void *what[2];
    double alone_us[2]; /* In. */
    double beside_us[2];
};
void gauge_time_pair(struct gauge *gauge, struct gauge_pair *pair);

void gauge_check(int error, const char *what);

void measure_device(struct gauge *gauge);
void measure_lanes(struct gauge *gauge);
void measure_graphs(struct gauge *gauge);
void measure_products(struct gauge *gauge);
void measure_layers(struct gauge *gauge);
void measure_attention(struct gauge *gauge);
void measure_pairs(struct gauge *gauge);
void measure_confined(struct gauge *gauge);
void measure_load_products(struct gauge *gauge);
void measure_load_turns(struct gauge *gauge);
void measure_load_overlap(struct gauge *gauge);

#endif /* TESTS_GPU_GAUGE_H */
