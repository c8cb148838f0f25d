/*
 * poison.h - NaN in place of numbers that nobody should read any more, or yet, so that who does is
 * found out. For the pipe's chaos mode.
 */
#ifndef WORKERS_POISON_H
#define WORKERS_POISON_H

#include <stdint.h>

#include "workers/pipe.h"

/* All that operations hand to each other, and the keys and values of the batch's own tokens. */
void poison_all(void *model); /* A struct llama. */

/* What the operation has read of the task's rows, where nobody else reads it. */
void poison_used(const struct pipe_task *task, uint32_t operation);

#endif /* WORKERS_POISON_H */
