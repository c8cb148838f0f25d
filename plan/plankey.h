/*
 * plankey.h - what plans are made for and looked up by on this machine. sluice-tune writes it into
 * plan files, the core compares; both ask here.
 */
#ifndef PLAN_PLANKEY_H
#define PLAN_PLANKEY_H

#include "base/config.h"
#include "plan/planfile.h"

/* Of the CPU that runs this, and of the model as the config wants it served; model: its shapes, by
 * hparams_text(). */
void plankey_here(struct planfile_key *key, const char *model, const struct config *config);

#endif /* PLAN_PLANKEY_H */
