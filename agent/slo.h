/* slo.h - slo.ttft_ms and slo.tpot_ms: tells a group's scheduler the size of its next step. */
#ifndef AGENT_SLO_H
#define AGENT_SLO_H

#include "agent/core.h"

/* Before a step is formed. */
void slo_set_dense(struct core *core, const struct group *group);

#endif /* AGENT_SLO_H */
