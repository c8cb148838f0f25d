/*
 * identity.c - see identity.h. Called at start by a worker and its measuring modes; owns nothing.
 * Invariant: the same machine, options and libraries give the same key in any process.
 */
#include "workers/identity.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "kernels/kern.h"
#include "kernels/matmul.h"

static_assert((int)HPARAMS_TEXT_BYTES_MAX <= (int)PLANKEY_MODEL_BYTES_MAX, "a model's text fits");
static_assert((int)CPU_NAME_BYTES_MAX <= (int)PLANKEY_DEVICE_BYTES_MAX, "a CPU's name fits");
static_assert((int)MATMUL_LIBRARY_BYTES_MAX <= (int)PLANKEY_VERSION_BYTES_MAX, "a library's fits");

void identity_fill(struct plankey *key, const struct hparams *hparams,
                   const struct engine_options *options)
{
    const char *const dtype = options->dtype == KERN_BF16 ? "bf16" : "f32";
    const bool int8 = options->weights == MATMUL_WEIGHTS_INT8;
    memset(key, 0, sizeof *key);
    hparams_text(hparams, key->model);
    (void)snprintf(key->dtype, sizeof key->dtype, "%s", dtype);
    (void)snprintf(key->weights, sizeof key->weights, "%s", int8 ? "int8" : dtype);
    cpu_name(key->device);
    matmul_library(key->library);
    (void)snprintf(key->kernels, sizeof key->kernels, "%s", kern_version());
    key->tp = options->ranks > 0 ? options->ranks : 1;
    key->units = options->threads;
}
