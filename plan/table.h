/*
 * table.h - the plans that a core offers its workers: a block of the core's segment (ipc/link.h).
 * Step records name a plan by its id and hash.
 */
#ifndef PLAN_TABLE_H
#define PLAN_TABLE_H

#include <stdint.h>

#include "plan/plan.h"

enum { TABLE_PLANS_MAX = 32 };

struct plan_table { /* Plan with id n is plan[n - 1]; id 0, the sequential one, needs no place. */
    uint32_t count;
    uint32_t reserved[15];
    struct plan plan[TABLE_PLANS_MAX];
};

#endif /* PLAN_TABLE_H */
