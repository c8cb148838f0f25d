/*
 * hparams_fuzz.c - config.json of any bytes: accepted numbers are in range, rope tables finite.
 * The corpus runs as a normal test in every build.
 */
#include <math.h>

#include "model/hparams.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct json_error reason;
    struct json *root = NULL;
    struct hparams hparams;
    struct model_error error = {{0}};
    if (json_parse((const char *)bytes, count, &root, &reason)) {
        return 0;
    }
    if (hparams_from_config(&hparams, root, root, &error) == 0) {
        float cosine[ROPE_PAIRS_MAX];
        float sine[ROPE_PAIRS_MAX];
        must(hparams.heads % hparams.kv_heads == 0 && hparams.rope_dim / 2 <= ROPE_PAIRS_MAX);
        must(hparams.eos_count <= LIMIT_EOS_IDS_MAX && hparams.vocab <= LIMIT_VOCAB_MAX);
        hparams_rope_table(&hparams, hparams.positions_max, 1, cosine, sine);
        for (uint32_t i = 0; i < hparams.rope_dim / 2; i++) {
            must(isfinite(cosine[i]) && isfinite(sine[i]));
        }
    } else {
        must(error.text[0]);
    }
    json_free(root);
    return 0;
}
