/*
 * plankey.c - see plankey.h. Called at start by the core and by sluice-tune; reads /proc/cpuinfo,
 * owns nothing. Invariant: the same machine, config and version give the same key in any process.
 */
#include "plan/plankey.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cpu {
    char name[PLANFILE_TEXT_BYTES_MAX];
    bool has_bf16;
};

/* What follows "name : " on a line, or NULL. */
static const char *value_of(const char *line, const char *name)
{
    const char *colon = strchr(line, ':');
    return colon && strncmp(line, name, strlen(name)) == 0 ? colon + 1 + strspn(colon + 1, " ")
                                                           : NULL;
}

/* The first CPU's. Unknown stays empty: no plan file is of such a device. */
static void read_cpu(struct cpu *cpu)
{
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen("/proc/cpuinfo", "re");
    memset(cpu, 0, sizeof *cpu);
    while (file && getline(&line, &room, file) > 0) {
        const char *name = value_of(line, "model name");
        const char *flags = value_of(line, "flags");
        if (name && !cpu->name[0]) {
            (void)snprintf(cpu->name, sizeof cpu->name, "%.*s", (int)strcspn(name, "\n"), name);
        }
        cpu->has_bf16 =
            cpu->has_bf16 || (flags && (strstr(flags, "avx512_bf16") || strstr(flags, "amx_bf16")));
    }
    free(line);
    if (file) {
        (void)fclose(file);
    }
}

/* As workers/main.c counts them. */
static uint32_t threads_of(const struct config *config)
{
    cpu_set_t mask;
    CPU_ZERO(&mask);
    if (config->workers.threads > 0 || sched_getaffinity(0, sizeof mask, &mask)) {
        return config->workers.threads;
    }
    const uint32_t cores = (uint32_t)CPU_COUNT(&mask) / config->workers.count;
    return cores > 0 ? cores : 1;
}

void plankey_here(struct planfile_key *key, const char *model, const struct config *config)
{
    struct cpu cpu;
    read_cpu(&cpu);
    const bool bf16 = config->model.dtype == CONFIG_DTYPE_BF16 ||
                      (config->model.dtype == CONFIG_DTYPE_AUTO && cpu.has_bf16);
    *key = (struct planfile_key){.tp = config->workers.tp, .units = threads_of(config)};
    (void)snprintf(key->model, sizeof key->model, "%s", model);
    (void)snprintf(key->dtype, sizeof key->dtype, "%s%s", bf16 ? "bf16" : "f32",
                   config->model.weights == CONFIG_WEIGHTS_INT8 ? " int8" : "");
    (void)snprintf(key->device, sizeof key->device, "%s", cpu.name);
    (void)snprintf(key->versions, sizeof key->versions, "sluice %s", SLUICE_VERSION);
}
