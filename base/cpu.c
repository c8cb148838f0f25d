/*
 * cpu.c - see cpu.h. Called at start by workers, and by sluice-tune; owns nothing. Invariant: the
 * same machine gives the same name in any process.
 */
#include "base/cpu.h"

#include <stdio.h>
#include <string.h>

enum {
    LINE_BYTES = 256
}; /* Of which the rest of a longer line, its flags, counts as further ones. */

void cpu_name(char name[CPU_NAME_BYTES_MAX])
{
    static const char field[] = "model name";
    char line[LINE_BYTES];
    FILE *file = fopen("/proc/cpuinfo", "re");
    (void)snprintf(name, CPU_NAME_BYTES_MAX, "unknown processor");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (colon && strncmp(line, field, sizeof field - 1) == 0) {
            const char *value = colon + 1 + strspn(colon + 1, " ");
            (void)snprintf(name, CPU_NAME_BYTES_MAX, "%.*s", (int)strcspn(value, "\n"), value);
            break;
        }
    }
    if (file) {
        (void)fclose(file);
    }
}
