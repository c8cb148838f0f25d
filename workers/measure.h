/*
 * measure.h - a worker's measuring mode, `--measure`: times each operation of a
 * model on this machine over token counts, contexts and unit shares, and how compute and
 * attention slow each other. sluice-tune profile starts it as a child and reads its lines; no agent
 * is there, nothing is served.
 */
#ifndef WORKERS_MEASURE_H
#define WORKERS_MEASURE_H

/*
 * Lines of JSON on stdout: {"done","total","what"} before each measurement, then either the profile
 * (plan/profile.h) or {"error"}, which names the operation that could not be measured. Returns the
 * exit status.
 */
int measure_main(int argc, char **argv);

#endif /* WORKERS_MEASURE_H */
