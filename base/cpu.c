/*
 * cpu.c - see cpu.h. Reads /proc/cpuinfo, whose first "model name" speaks for all cores; no state.
 */
#include "base/cpu.h"

#include <stdio.h>
#include <string.h>

void cpu_name(char *name, size_t bytes)
{
    static const char key[] = "model name";
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    (void)snprintf(name, bytes, "cpu");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, key, sizeof key - 1) == 0 && colon && colon[1] == ' ') {
            line[strcspn(line, "\n")] = '\0';
            (void)snprintf(name, bytes, "%s", colon + 2);
            break;
        }
    }
    if (file) {
        (void)fclose(file);
    }
}
