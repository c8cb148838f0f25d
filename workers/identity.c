/*
 * identity.c - see identity.h. Called at start by a worker and its measuring modes; owns nothing.
 * Invariant: the same device, options and libraries give the same key in any process.
 */
#include "workers/identity.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static_assert((int)HPARAMS_TEXT_BYTES_MAX <= (int)PLANKEY_MODEL_BYTES_MAX, "a model's text fits");

void identity_fill(struct plankey *key, const struct engine *engine,
                   const struct engine_options *options)
{
    const char *const dtype = options->dtype == KERN_BF16 ? "bf16" : "f32";
    const char *const weights = options->weights == MATMUL_WEIGHTS_INT8  ? "int8"
                                : options->weights == MATMUL_WEIGHTS_FP8 ? "fp8"
                                                                         : dtype;
    memset(key, 0, sizeof *key);
    hparams_text(engine_hparams(engine), key->model);
    (void)snprintf(key->dtype, sizeof key->dtype, "%s", dtype);
    (void)snprintf(key->weights, sizeof key->weights, "%s", weights);
    (void)snprintf(key->kv, sizeof key->kv, "%s",
                   options->kv == ENGINE_KV_E4M3 ? "fp8_e4m3" : dtype);
    key->tp = engine_ranks(options);
    engine_device(engine, key);
}
