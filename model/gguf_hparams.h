/* gguf_hparams.h - a model's numbers from a GGUF's metadata (architecture llama). */
#ifndef MODEL_GGUF_HPARAMS_H
#define MODEL_GGUF_HPARAMS_H

#include "base/must.h"
#include "model/gguf.h"
#include "model/hparams.h"

/* -EINVAL, -ENOTSUP with *error; a vocabulary-only file lacks the numbers and is refused. */
int hparams_from_gguf(struct hparams *hparams, const struct gguf *gguf,
                      struct model_error *error) MUST_CHECK;

#endif /* MODEL_GGUF_HPARAMS_H */
