/*
 * identity.h - what this worker is, as far as plans depend on it: sluice-tune writes it into
 * profiles and plan files, the core compares them with what its workers say.
 */
#ifndef WORKERS_IDENTITY_H
#define WORKERS_IDENTITY_H

#include "model/hparams.h"
#include "plan/plankey.h"
#include "workers/engine.h"

/* Of a worker on this CPU that runs such a model with these options. Units are threads. */
void identity_fill(struct plankey *key, const struct hparams *hparams,
                   const struct engine_options *options);

#endif /* WORKERS_IDENTITY_H */
