/* tune_report.h - sluice-tune report: what a model asks of a device, and the bounds on its speed.
 */
#ifndef TOOLS_TUNE_REPORT_H
#define TOOLS_TUNE_REPORT_H

/* The command; argv[0] is its name. An exit status. */
int tune_report_main(int argc, char **argv);

#endif /* TOOLS_TUNE_REPORT_H */
