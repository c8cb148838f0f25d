/*
 * main.c - sluice-agent: reads the command line and the config, then is the supervisor, or with
 * the hidden argument --core the core. Owns the config for the life of the process. Exit status:
 * 0 after a stop or a valid --check, 1 for a fault with one line on stderr, 2 for wrong usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/core.h"
#include "agent/supervisor.h"
#include "base/config.h"
#include "base/log.h"
#include "ipc/control.h"

enum { MAIN_USAGE = 2 };

struct options {
    const char *config;
    const char **overrides; /* argc entries are enough. */
    uint32_t override_count;
    bool check;
    bool core;
    bool help;
    bool version;
};

static const char usage[] = "usage: sluice-agent --config FILE [--set key=value]... [--check]\n"
                            "\n"
                            "Serves a language model over ZeroMQ. Prints \"ready\" once it does; "
                            "SIGTERM or Ctrl-C stops it.\n"
                            "\n"
                            "  --config FILE     the settings, in YAML\n"
                            "  --set key=value   wins over the file; again for more keys\n"
                            "  --check           only say whether the settings are valid\n"
                            "  --help, --version\n"
                            "\n";

/* False for wrong usage, which is said. */
static bool parse_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'},
        {"set", required_argument, NULL, 's'},
        {"check", no_argument, NULL, 'k'},
        {"core", no_argument, NULL, 'C'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case 'c':
            options->config = optarg;
            break;
        case 's':
            options->overrides[options->override_count++] = optarg;
            break;
        case 'k':
            options->check = true;
            break;
        case 'C':
            options->core = true;
            break;
        case 'h':
            options->help = true;
            break;
        case 'v':
            options->version = true;
            break;
        default: /* getopt_long has named it. */
            return false;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "sluice-agent: what is \"%s\"? try --help\n", argv[optind]);
        return false;
    }
    if (!options->config && !options->core && !options->help && !options->version) {
        (void)fprintf(stderr, "sluice-agent: --config FILE is missing; try --help\n");
        return false;
    }
    return true;
}

/* Descriptors 0 to 2 exist from here on, so that nothing else is ever opened as one of them. */
static void open_standard_descriptors(void)
{
    for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR)) {
        if (fd > STDERR_FILENO) {
            (void)close(fd);
            return;
        }
    }
}

static int run_core(struct config *config)
{
    const int error = control_config_fetch(CONTROL_CONFIG_FD, config);
    if (error) {
        log_error("--core is for the agent's own use: %s", strerror(-error));
        return EXIT_FAILURE;
    }
    (void)close(CONTROL_CONFIG_FD);
    return core_main(config, CONTROL_FD);
}

/* Looks before anything starts, so that the most common mistake gets the shortest answer. */
static bool model_is_there(const struct config *config)
{
    struct stat status;
    const char *path = config->model.path;
    if (stat(path, &status) == 0 &&
        access(path, S_ISDIR(status.st_mode) ? R_OK | X_OK : R_OK) == 0) {
        return true;
    }
    log_error("model.path: %s: %s; give a GGUF file or a Hugging Face directory", path,
              strerror(errno));
    return false;
}

static int run_agent(const struct options *options, struct config *config)
{
    char error[CONFIG_ERROR_BYTES_MAX];
    supervisor_block_signals();
    if (config_load(config, options->config, options->overrides, options->override_count, error) !=
        0) {
        log_error("%s", error);
        return EXIT_FAILURE;
    }
    if (!model_is_there(config)) {
        return EXIT_FAILURE;
    }
    if (options->check) {
        (void)printf("%s: valid\n", options->config);
        return EXIT_SUCCESS;
    }
    return supervisor_run(config);
}

static int run(int argc, char **argv, struct options *options, struct config *config)
{
    if (!parse_options(argc, argv, options)) {
        return MAIN_USAGE;
    }
    if (options->help) {
        (void)fputs(usage, stdout);
        config_print_keys(stdout);
        return EXIT_SUCCESS;
    }
    if (options->version) {
        (void)puts("sluice-agent " SLUICE_VERSION);
        return EXIT_SUCCESS;
    }
    return options->core ? run_core(config) : run_agent(options, config);
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    struct options options = {.overrides = calloc((size_t)argc + 1, sizeof *options.overrides)};
    struct config *config = calloc(1, sizeof *config);
    must(options.overrides && config);
    const int status = run(argc, argv, &options, config);
    free(options.overrides);
    free(config);
    return status;
}
