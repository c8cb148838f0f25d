/*
 * identity.h - what this worker is, as far as plans depend on it: sluice-tune writes it into
 * profiles and plan files, the core compares them with what its workers say.
 */
#ifndef WORKERS_IDENTITY_H
#define WORKERS_IDENTITY_H

#include "plan/plankey.h"
#include "workers/engine.h"

/* Of a worker that opened its engine with these options. */
void identity_fill(struct plankey *key, const struct engine *engine,
                   const struct engine_options *options);

#endif /* WORKERS_IDENTITY_H */
