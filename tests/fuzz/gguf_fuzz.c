/*
 * gguf_fuzz.c - files of any bytes: tables and strings lie within the file, numbers in range.
 * The corpus runs as a normal test in every build.
 */
#include "model/gguf_hparams.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct model_error error = {{0}};
    struct gguf *gguf = NULL;
    if (gguf_open_bytes(&gguf, bytes, count, &error)) {
        must(error.text[0]);
        return 0;
    }
    const struct tensor_table *table = gguf_tensors(gguf);
    for (uint32_t i = 0; i < table->count; i++) {
        must(table->tensor[i].bytes + table->tensor[i].byte_count <= bytes + count);
    }
    struct gguf_strings walk;
    if (gguf_array_strings(gguf, "tokenizer.ggml.tokens", &walk)) {
        const char *text;
        size_t text_bytes;
        while (gguf_strings_next(&walk, &text, &text_bytes)) {
            must((const uint8_t *)text + text_bytes <= bytes + count);
        }
    }
    struct hparams hparams;
    if (hparams_from_gguf(&hparams, gguf, &error) == 0) {
        must(hparams.heads % hparams.kv_heads == 0 && hparams.rope_dim <= hparams.head_dim);
        must(hparams.vocab <= LIMIT_VOCAB_MAX && hparams.layers <= LIMIT_LAYERS_MAX);
    }
    gguf_close(gguf);
    return 0;
}
