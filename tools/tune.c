/*
 * tune.c - sluice-tune: finds how one device should overlap its work. A process of its own, one
 * thread, no agent needed. Exits with 0 done, 1 failed, 2 wrong usage.
 */
#include <stdio.h>
#include <string.h>

#include "tools/options.h"
#include "tools/tune_plan.h"
#include "tools/tune_profile.h"
#include "tools/tune_report.h"
#include "tools/tune_search.h"

static const char usage[] = "usage: sluice-tune COMMAND [options]\n\n"
                            "  profile       measure a model's operations on this machine\n"
                            "  plan          choose plans for a profiled device\n"
                            "  report        what a model asks of a device, and its bounds\n"
                            "  search        find a pipeline for a planning problem\n\n"
                            "sluice-tune COMMAND --help tells the options of a command.\n";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"profile", tune_profile_main},
    {"plan", tune_plan_main},
    {"report", tune_report_main},
    {"search", tune_search_main},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc >= 2 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        (void)fputs(usage, stdout);
        return EXIT_STATUS_DONE;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        (void)printf("sluice-tune %s\n", SLUICE_VERSION);
        return EXIT_STATUS_DONE;
    }
    (void)fputs(usage, stderr);
    return EXIT_STATUS_USAGE;
}
