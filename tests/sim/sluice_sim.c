/*
 * sluice_sim.c - runs seeds of the simulation. Not shipped.
 *
 *   sluice_sim --seeds COUNT [--first SEED] [--jobs N] [--failures N]   many, in own processes
 *   sluice_sim --seed SEED [--trace]                                    one, here: for a debugger
 *
 * A seed that fails ends its process; the next one goes on behind it, and the command that runs the
 * failed one alone is printed. Exit status 1 when one failed. Invariant: what is printed for a
 * range of seeds does not depend on the number of jobs.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/world.h"

enum { SEED_SECONDS_MAX = 20, JOBS_MAX = 16, FAILURES_MAX = 10, SURE_SEEDS = 500, REPEATED = 61 };

struct job {       /* Shared with the process that runs it. */
    uint64_t next; /* The seed that runs, or is to run next. */
    struct world_totals totals;
};

struct options {
    uint64_t first;
    uint64_t count;
    uint64_t jobs;
    uint64_t failures; /* Then it gives up. */
    bool alone;
    bool trace;
};

/* Every jobs-th seed from where the last process of this job has failed. */
static pid_t start_job(struct job *job, uint64_t end, uint64_t jobs)
{
    (void)fflush(NULL);
    const pid_t child = fork();
    must(child >= 0);
    if (child > 0) {
        return child;
    }
    while (job->next < end) {
        (void)alarm(SEED_SECONDS_MAX);
        const uint64_t path = world_run(job->next, false, &job->totals);
        if (job->next % REPEATED == 0) { /* One seed is one run. */
            struct world_totals again = {0};
            must(world_run(job->next, false, &again) == path);
        }
        job->next += jobs;
    }
    _exit(0);
}

static void tell_failure(const char *program, uint64_t seed)
{
    (void)printf("seed %llu fails: %s --seed %llu --trace\n", (unsigned long long)seed, program,
                 (unsigned long long)seed);
    (void)fflush(stdout);
}

static void add_totals(struct world_totals *sum, const struct world_totals *part)
{
    uint64_t to[sizeof *sum / sizeof(uint64_t)];
    uint64_t from[sizeof *sum / sizeof(uint64_t)];
    memcpy(to, sum, sizeof to);
    memcpy(from, part, sizeof from);
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
        to[i] += from[i];
    }
    memcpy(sum, to, sizeof to);
}

/* The trouble that this is about did happen. */
static bool seen_enough(const struct world_totals *totals)
{
    return totals->answers > totals->seeds && totals->cancelled > 0 && totals->refused > 0 &&
           totals->late > 0 && totals->deaths > 0 && totals->deaths_in_step > 0 &&
           totals->slow_steps > 0 && totals->long_steps > 0 && totals->wrong_records > 0 &&
           totals->stalls > 0 && totals->overlaps > totals->seeds && totals->preemptions > 0 &&
           totals->shared_tokens > 0 && totals->copies > 0 && totals->moves > 0 &&
           totals->drains > 0 && totals->paced > totals->seeds / 2;
}

/* Targets hold: of the steps that could, few take longer than promised. */
static bool keeps_pace(const struct world_totals *totals)
{
    return totals->over_target < totals->paced / 25;
}

static void print_totals(const struct world_totals *totals)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"seeds", totals->seeds},
        {"turns", totals->turns},
        {"steps", totals->steps},
        {"answers", totals->answers},
        {"cancelled", totals->cancelled},
        {"refused", totals->refused},
        {"late or too long", totals->late},
        {"deaths", totals->deaths},
        {"deaths in a step", totals->deaths_in_step},
        {"slow steps", totals->slow_steps},
        {"of them with signs of life", totals->long_steps},
        {"wrong records", totals->wrong_records},
        {"stalls", totals->stalls},
        {"turns with a second step in flight", totals->overlaps},
        {"preemptions", totals->preemptions},
        {"shared tokens", totals->shared_tokens},
        {"copies", totals->copies},
        {"moves", totals->moves},
        {"drains", totals->drains},
        {"steps with a target", totals->paced},
        {"beyond it", totals->over_target},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        (void)printf("%s%s %llu", i > 0 ? ", " : "", rows[i].name,
                     (unsigned long long)rows[i].value);
    }
    (void)putchar('\n');
}

static int run_many(const char *program, const struct options *options)
{
    const size_t bytes = JOBS_MAX * sizeof(struct job);
    struct job *job = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(job != MAP_FAILED);
    const uint64_t end = options->first + options->count;
    pid_t child[JOBS_MAX];
    uint64_t running = options->jobs;
    uint32_t failed = 0;
    for (uint32_t i = 0; i < options->jobs; i++) {
        job[i].next = options->first + i;
        child[i] = start_job(&job[i], end, options->jobs);
    }
    while (running > 0) {
        int status = 0;
        const pid_t ended = wait(&status);
        uint32_t i = 0;
        while (child[i] != ended) {
            must(++i < options->jobs);
        }
        running--;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            continue;
        }
        tell_failure(program, job[i].next);
        job[i].next += options->jobs;
        if (++failed < options->failures) {
            child[i] = start_job(&job[i], end, options->jobs);
            running++;
        }
    }
    struct world_totals sum = {0};
    for (uint32_t i = 0; i < options->jobs; i++) {
        add_totals(&sum, &job[i].totals);
    }
    print_totals(&sum);
    must(munmap(job, bytes) == 0);
    if (failed == 0 && sum.seeds >= SURE_SEEDS && !seen_enough(&sum)) {
        (void)puts("some kind of trouble never happened");
        failed++;
    }
    if (failed == 0 && sum.seeds >= SURE_SEEDS && !keeps_pace(&sum)) {
        (void)puts("targets of steps are missed");
        failed++;
    }
    return failed > 0;
}

static int run_one(const struct options *options)
{
    struct world_totals totals = {0};
    (void)world_run(options->first, options->trace, &totals);
    print_totals(&totals);
    return 0;
}

static bool read_number(const char *text, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

static bool read_options(struct options *options, int count, char **words)
{
    options->jobs = 1;
    options->failures = FAILURES_MAX;
    for (int i = 1; i < count; i++) {
        const bool more = i + 1 < count;
        bool good = true;
        if (strcmp(words[i], "--trace") == 0) {
            options->trace = true;
        } else if (strcmp(words[i], "--seed") == 0 && more) {
            options->alone = true;
            good = read_number(words[++i], &options->first);
        } else if (strcmp(words[i], "--seeds") == 0 && more) {
            good = read_number(words[++i], &options->count);
        } else if (strcmp(words[i], "--first") == 0 && more) {
            good = read_number(words[++i], &options->first);
        } else if (strcmp(words[i], "--jobs") == 0 && more) {
            good = read_number(words[++i], &options->jobs);
        } else if (strcmp(words[i], "--failures") == 0 && more) {
            good = read_number(words[++i], &options->failures);
        } else {
            good = false;
        }
        if (!good) {
            return false;
        }
    }
    return (options->alone || options->count > 0) && options->jobs >= 1 &&
           options->jobs <= JOBS_MAX;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    if (!read_options(&options, argc, argv)) {
        (void)fprintf(stderr,
                      "usage: %s --seeds COUNT [--first SEED] [--jobs N] [--failures N]\n"
                      "       %s --seed SEED [--trace]\n",
                      argv[0], argv[0]);
        return 2;
    }
    return options.alone ? run_one(&options) : run_many(argv[0], &options);
}
