/*
 * tune.c - sluice-tune: finds how one device should overlap its work. A process of its own, one
 * thread, no agent needed. It searches given problems and reports bounds; exits with 0 done, 1
 * failed, 2 wrong usage.
 */
#include <stdio.h>
#include <string.h>

#include "tools/options.h"
#include "tools/tune_report.h"
#include "tools/tune_search.h"

static const char usage[] = "usage: sluice-tune COMMAND [options]\n\n"
                            "  report        what a model asks of a device, and its bounds\n"
                            "  search        find a pipeline for a planning problem\n\n"
                            "sluice-tune COMMAND --help tells the options of a command.\n";

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "report") == 0) {
        return tune_report_main(argc - 1, argv + 1);
    }
    if (argc >= 2 && strcmp(argv[1], "search") == 0) {
        return tune_search_main(argc - 1, argv + 1);
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
