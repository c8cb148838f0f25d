/* tune_plan.h - sluice-tune plan: from a device's profile to plan files, one for each regime. */
#ifndef TOOLS_TUNE_PLAN_H
#define TOOLS_TUNE_PLAN_H

/* Returns the exit status. argv[0] is the word "plan". */
int tune_plan_main(int argc, char **argv);

#endif /* TOOLS_TUNE_PLAN_H */
