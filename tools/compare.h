/* compare.h - sluice-bench compare: two results of sluice-bench, or of vllm bench serve, side by
 * side with the ratio of each figure.
 */
#ifndef TOOLS_COMPARE_H
#define TOOLS_COMPARE_H

#include "base/must.h"

/* argv[0] is "compare". The exit status. */
int compare_main(int argc, char **argv) MUST_CHECK;

#endif /* TOOLS_COMPARE_H */
