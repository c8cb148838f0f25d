/*
 * gauge.c - see gauge.h, and the main() of gpu_measure: `gpu_measure WHAT...`. Run by
 * tests/gpu/check.sh, once for each WHAT, so that what fails takes nothing else with it. Exit
 * status 3: no GPU.
 */
#include "tests/gpu/gauge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "base/prng.h"
#include "kernels/bf16.h"
#include "kernels/kern.h"
#include "model/weights.h"
#include "plan/plankey.h"
#include "tests/gpu/shapes.h"

enum {
    REPEATS = 11,
    PAIR_ROUNDS = 20, /* Of the slower of two. */
    PAIR_ROUNDS_MAX = 400,
    EVENT_START = 0,
    EVENT_END = 1, /* And one more: of each lane of a pair. */
    EVENT_GO = 3,
    EVENTS = 4,
    NOISE_TILE_BYTES = 16 << 20,
    EXIT_NO_GPU = 3,
};

void gauge_check(int error, const char *what)
{
    if (error) {
        (void)fprintf(stderr, "%s: %s\n", what, strerror(-error));
        exit(EXIT_FAILURE);
    }
}

void *gauge_memory(struct gauge *gauge, enum accel_memory kind, size_t bytes)
{
    void *block = NULL;
    gauge_check(accel_arena(gauge->accel, kind, bytes, &block), "memory");
    return block;
}

void gauge_finish(struct gauge *gauge, uint32_t lane)
{
    gauge_check(accel_record(gauge->accel, EVENT_GO, lane), "an event");
    gauge_check(accel_fence(gauge->accel, EVENT_GO, GAUGE_DEADLINE_US), "the device");
}

void gauge_send(struct gauge *gauge, void *to, const void *from, size_t bytes)
{
    const struct accel_copy copy = {to, from, bytes};
    gauge_check(accel_copy(gauge->accel, 0, &copy, 1), "a copy");
    gauge_finish(gauge, 0);
}

static void make_noise(struct gauge *gauge)
{
    uint16_t *tile = gauge_memory(gauge, ACCEL_HOST, NOISE_TILE_BYTES);
    for (size_t i = 0; i < NOISE_TILE_BYTES / sizeof *tile; i++) {
        tile[i] = bf16_from_float(2 * prng_uniform(1, i, 0) - 1);
    }
    gauge->noise = gauge_memory(gauge, ACCEL_DEVICE, gauge->noise_bytes);
    for (size_t at = 0; at < gauge->noise_bytes; at += NOISE_TILE_BYTES) {
        const size_t left = gauge->noise_bytes - at;
        gauge_send(gauge, gauge->noise + at, tile,
                   left < NOISE_TILE_BYTES ? left : NOISE_TILE_BYTES);
    }
}

void gauge_open(struct gauge *gauge, size_t noise_bytes)
{
    struct accel_share shares[GAUGE_LANES] = {{0}};
    struct model_error error = {""};
    if (accel_open(&gauge->accel, 0, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        exit(EXIT_FAILURE);
    }
    accel_info(gauge->accel, &gauge->info);
    for (uint32_t level = 0; level < GAUGE_LEVELS; level++) {
        const uint32_t units = 16 + 8 * level;
        shares[gauge_small(level)] = (struct accel_share){1 + level, units};
        shares[gauge_large(level)] = (struct accel_share){1 + level, gauge->info.units - units};
    }
    const uint64_t free_bytes = gauge->info.memory_free_bytes;
    gauge_check(accel_lanes(gauge->accel, shares, GAUGE_LANES), "lanes");
    gauge_check(accel_events(gauge->accel, EVENTS), "events");
    accel_info(gauge->accel, &gauge->info);
    gauge->lanes_bytes = free_bytes - gauge->info.memory_free_bytes;
    gauge->noise_bytes = noise_bytes;
    make_noise(gauge);
}

void gauge_close(struct gauge *gauge)
{
    accel_close(gauge->accel);
}

static int by_value(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;
    return (a > b) - (a < b);
}

double gauge_time_us(struct gauge *gauge, uint32_t lane, gauge_put *put, const void *what)
{
    double us[REPEATS];
    gauge_check(put(gauge, lane, what), "what is measured");
    gauge_finish(gauge, lane);
    for (int i = 0; i < REPEATS; i++) {
        float spent = 0;
        gauge_check(accel_record(gauge->accel, EVENT_START, lane), "an event");
        gauge_check(put(gauge, lane, what), "what is measured");
        gauge_check(accel_record(gauge->accel, EVENT_END, lane), "an event");
        gauge_check(accel_fence(gauge->accel, EVENT_END, GAUGE_DEADLINE_US), "the device");
        gauge_check(accel_elapsed_us(gauge->accel, EVENT_START, EVENT_END, &spent), "a time");
        us[i] = (double)spent;
    }
    qsort(us, REPEATS, sizeof *us, by_value);
    return us[REPEATS / 2];
}

static int put_copy(struct gauge *gauge, uint32_t lane, const void *what)
{
    (void)what;
    const size_t half = gauge->noise_bytes / 2;
    const struct accel_copy copy = {gauge->noise, gauge->noise + half, half};
    return accel_copy(gauge->accel, lane, &copy, 1);
}

double gauge_copy_bytes_per_us(struct gauge *gauge)
{
    return (double)gauge->noise_bytes / gauge_time_us(gauge, 0, put_copy, NULL);
}

void gauge_time_pair(struct gauge *gauge, struct gauge_pair *pair)
{
    const double longer =
        pair->alone_us[0] > pair->alone_us[1] ? pair->alone_us[0] : pair->alone_us[1];
    uint32_t rounds[2];
    gauge_check(accel_record(gauge->accel, EVENT_START, 0), "an event");
    for (int i = 0; i < 2; i++) {
        const double wanted = PAIR_ROUNDS * longer / pair->alone_us[i];
        rounds[i] = wanted < PAIR_ROUNDS_MAX ? (uint32_t)wanted : PAIR_ROUNDS_MAX;
        gauge_check(accel_wait(gauge->accel, EVENT_START, pair->lane[i]), "an event");
    }
    for (uint32_t done = 0; done < rounds[0] || done < rounds[1]; done++) {
        for (int i = 0; i < 2; i++) {
            if (done < rounds[i]) {
                gauge_check(pair->put[i](gauge, pair->lane[i], pair->what[i]), "what is measured");
            }
        }
    }
    for (uint32_t i = 0; i < 2; i++) {
        float spent = 0;
        gauge_check(accel_record(gauge->accel, EVENT_END + i, pair->lane[i]), "an event");
        gauge_check(accel_fence(gauge->accel, EVENT_END + i, GAUGE_DEADLINE_US), "the device");
        gauge_check(accel_elapsed_us(gauge->accel, EVENT_START, EVENT_END + i, &spent), "a time");
        pair->beside_us[i] = (double)spent / rounds[i];
    }
}

/* What plan files for the model of a folder, in bf16 and alone on this device, are made for. */
static void print_key(const char *folder)
{
    struct accel *accel = NULL;
    struct accel_info info;
    struct hparams hparams;
    struct model_error error = {""};
    struct plankey key = {.dtype = "bf16", .weights = "bf16", .kv = "bf16", .tp = 1};
    if (weights_peek(&hparams, folder, &error) || accel_open(&accel, 0, &error)) {
        (void)fprintf(stderr, "%s\n", error.text);
        exit(EXIT_FAILURE);
    }
    accel_info(accel, &info);
    accel_close(accel);
    hparams_text(&hparams, key.model);
    (void)snprintf(key.device, sizeof key.device, "%s", info.name);
    (void)snprintf(key.library, sizeof key.library, "%s", info.libraries);
    (void)snprintf(key.kernels, sizeof key.kernels, "%s", kern_cuda_version());
    key.units = info.units;
    struct json *json = plankey_json(&key);
    char *text = json_dump(json);
    (void)puts(text);
    free(text);
    json_free(json);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*measure)(struct gauge *gauge);
        size_t noise_mb;
    } measures[] = {
        {"device", measure_device, 4096},
        {"lanes", measure_lanes, 16},
        {"graphs", measure_graphs, 16},
        {"attention", measure_attention, 1024},
        {"products", measure_products, SHAPES_NOISE_MB},
        {"layers", measure_layers, SHAPES_NOISE_MB},
        {"confined", measure_confined, SHAPES_NOISE_MB},
        {"pairs", measure_pairs, SHAPES_NOISE_MB},
        {"load-products", measure_load_products, SHAPES_NOISE_MB},
        {"load-turns", measure_load_turns, SHAPES_NOISE_MB},
        {"load-overlap", measure_load_overlap, SHAPES_NOISE_MB},
    };
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error || count == 0) {
        (void)fprintf(stderr, "no CUDA device: %s\n", cudaGetErrorString(error));
        return EXIT_NO_GPU;
    }
    if (argc == 3 && strcmp(argv[1], "key") == 0) {
        print_key(argv[2]);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
        if (argc == 2 && strcmp(argv[1], measures[i].name) == 0) {
            struct gauge gauge = {.accel = NULL};
            gauge_open(&gauge, measures[i].noise_mb << 20);
            measures[i].measure(&gauge);
            gauge_close(&gauge);
            return EXIT_SUCCESS;
        }
    }
    (void)fputs("usage: gpu_measure key FOLDER\n       gpu_measure WHAT, which is one of", stderr);
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
        (void)fprintf(stderr, " %s", measures[i].name);
    }
    (void)fputc('\n', stderr);
    return 2;
}
