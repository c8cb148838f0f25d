/*
 * plankey.h - what a profile or a plan was made for: it serves only where all of this is the same.
 * A worker says what it is (a block of its segment, ipc/link.h), files say what they were made for.
 */
#ifndef PLAN_PLANKEY_H
#define PLAN_PLANKEY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/must.h"

enum { /* With the final zero. */
       PLANKEY_MODEL_BYTES_MAX = 128,
       PLANKEY_TYPE_BYTES_MAX = 16,
       PLANKEY_DEVICE_BYTES_MAX = 96,
       PLANKEY_VERSION_BYTES_MAX = 64,
       PLANKEY_ERROR_BYTES_MAX = 320,
};

struct plankey {
    char model[PLANKEY_MODEL_BYTES_MAX]; /* Its shapes: hparams_text(). */
    char dtype[PLANKEY_TYPE_BYTES_MAX];
    char weights[PLANKEY_TYPE_BYTES_MAX]; /* Of the layers: dtype, "int8" or "fp8". */
    char kv[PLANKEY_TYPE_BYTES_MAX];      /* Of keys and values: dtype, or "fp8_e4m3". */
    char device[PLANKEY_DEVICE_BYTES_MAX];
    char library[PLANKEY_VERSION_BYTES_MAX]; /* Of matrix products, with its version. */
    char kernels[PLANKEY_VERSION_BYTES_MAX]; /* The version of our own. */
    uint32_t tp;
    uint32_t units; /* Threads of a worker, or other units of its device. */
};

/* {"model": "...", "dtype": "bf16", "weights": "bf16", "kv": "bf16", "tp": 1, "device": "...",
 *  "units": 2, "library": "...", "kernels": "..."} */
struct json *plankey_json(const struct plankey *key);

/* Every text and number fits its field. -EINVAL with one line in error, and *key is garbage. */
int plankey_read(struct plankey *key, const struct json *object,
                 char error[PLANKEY_ERROR_BYTES_MAX]) MUST_CHECK;

/* 0, or -ESTALE with the first difference in words. */
int plankey_check(const struct plankey *theirs, const struct plankey *ours,
                  char error[PLANKEY_ERROR_BYTES_MAX]) MUST_CHECK;

/* Whether one that came through shared memory is whole: every text ends. */
bool plankey_sound(const struct plankey *key);

#endif /* PLAN_PLANKEY_H */
