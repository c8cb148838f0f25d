/*
 * verify.h - proves that a plan may run, whatever the lanes' speeds. The core and sluice-tune call
 * it for every plan that came from a search or a file; a plan that passes gives the same bits in
 * every order its edges allow. Pure, at most some hundred microseconds.
 */
#ifndef PLAN_VERIFY_H
#define PLAN_VERIFY_H

#include <stdint.h>

#include "base/must.h"
#include "plan/graph.h"
#include "plan/plan.h"

enum { VERIFY_ERROR_BYTES_MAX = 256 };

/*
 * 0, or -EINVAL with one line in error:
 * - Numbers are in bounds, units at most the device's.
 * - Each operation of the graph takes each token once (a token takes one form of O), and experts
 *   are cut alike.
 * - Edges alone, without the lanes' orders, order every two nano-operations that conflict, within
 *   a layer and from one to the next. An edge after a start orders nothing.
 * - Lanes' orders, lags and edges do not wait for each other in a circle.
 * - What meets the other ranks is on one lane, so that they all do it in one order.
 * The hash is the reader's to check.
 */
int verify_plan(const struct plan *plan, const struct graph *graph, uint32_t units,
                char error[VERIFY_ERROR_BYTES_MAX]) MUST_CHECK;

#endif /* PLAN_VERIFY_H */
