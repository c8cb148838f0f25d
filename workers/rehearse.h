/*
 * rehearse.h - the worker's mode that times plans, `--rehearse MODEL SEED THREADS
 * SECONDS PLAN...`: runs the plan files, all of one regime, in turn on batches of that regime.
 * sluice-tune plan --measure starts it as a child.
 */
#ifndef WORKERS_REHEARSE_H
#define WORKERS_REHEARSE_H

/* A line on stdout: {"step_us": [of each plan]}, or {"error"}. Returns the exit status. */
int rehearse_main(int argc, char **argv);

#endif /* WORKERS_REHEARSE_H */
