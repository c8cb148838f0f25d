/* intake.h - what clients ask: commands are decoded, judged and answered or turned into requests.
 */
#ifndef AGENT_INTAKE_H
#define AGENT_INTAKE_H

#include "agent/core.h"

/* Takes up to max messages off the sockets. True when it left none there. */
bool intake_messages(struct core *core, uint32_t max);

/* Sends refusals that found their peers' queues full. True while some still wait. */
bool intake_resend(struct core *core);

/* Takes what the tokenizer has finished. */
void intake_texts(struct core *core, uint32_t max);

/* Answers with ERROR. Dropped and counted when the peer does not take it. */
void intake_refuse(struct core *core, const struct request_address *address,
                   const struct wire_error *error);

#endif /* AGENT_INTAKE_H */
