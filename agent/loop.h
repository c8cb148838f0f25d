/* loop.h - the core's loop: one ordered table of stages, run turn after turn until told to stop. */
#ifndef AGENT_LOOP_H
#define AGENT_LOOP_H

#include "agent/core.h"

void loop_run(struct core *core);

#endif /* AGENT_LOOP_H */
