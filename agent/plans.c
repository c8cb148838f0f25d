/*
 * plans.c - see plans.h. Used by the core's loop thread, read from disk before the core is ready;
 * the core owns it. Invariant: every plan in the table passed plan/verify.h for this model and
 * device, and the table never changes once it was read: workers keep copies.
 */
#include "agent/plans.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pace.h"
#include "base/log.h"
#include "plan/graph.h"

static int is_plan_file(const struct dirent *entry)
{
    const size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

/* Names and reasons quote files: what is told is ASCII, cut where it is too long. */
static void copy_plain(char *to, size_t bytes, const char *from)
{
    size_t count = 0;
    for (; from[count] && count + 1 < bytes; count++) {
        to[count] = from[count];
        if (from[count] < ' ' || from[count] > '~') {
            to[count] = '?';
        }
    }
    to[count] = 0;
}

/* Whether the file's plan serves in this mode, or its regime is served sequentially. */
static bool wanted(const struct planfile *file, uint32_t mode)
{
    const bool slower = file->measured_us > 0 && file->sequential_us > 0 &&
                        file->measured_us >= file->sequential_us;
    return mode != CONFIG_PLAN_AUTO || !slower;
}

static void take(struct plans *plans, const struct planfile *file, const char *name, uint32_t mode)
{
    const uint32_t index = plans->row_count++;
    struct plans_row *row = &plans->row[index];
    plans->regime[index - 1] = file->regime;
    row->plan = &plans->sequential;
    copy_plain(row->file, sizeof row->file, name);
    if (wanted(file, mode)) {
        struct plan *plan = &plans->table.plan[plans->table.count++];
        *plan = file->plan;
        plan->id = plans->table.count;
        plan->hash = plan_hash(plan);
        if (mode == CONFIG_PLAN_NANO) {
            plan_flatten(plan);
        }
        row->plan = plan;
    }
}

static void refuse(struct plans *plans, const char *name, const char *reason)
{
    log_warning("plan %s is refused: %s", name, reason);
    if (plans->refused_count < TABLE_PLANS_MAX) {
        struct plans_refusal *refusal = &plans->refused[plans->refused_count++];
        copy_plain(refusal->file, sizeof refusal->file, name);
        copy_plain(refusal->reason, sizeof refusal->reason, reason);
    }
}

static void take_file(struct plans *plans, const struct config *config, const char *name,
                      const struct graph *graph, struct planfile *file)
{
    char path[LIMIT_PATH_BYTES_MAX + NAME_MAX + 2];
    char error[PLANFILE_ERROR_BYTES_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", config->plan.dir, name);
    if (plans->row_count == PLANS_ROWS_MAX) {
        refuse(plans, name, "there are as many already as the table holds");
    } else if (planfile_load(file, path, &plans->key, graph, error)) {
        refuse(plans, name, error);
    } else {
        take(plans, file, name, config->plan.mode);
    }
}

void plans_open(struct plans *plans, bool experts)
{
    memset(plans, 0, sizeof *plans);
    plan_sequential(&plans->sequential, experts);
    plans->experts = experts;
    plans->row[0].plan = &plans->sequential;
    plans->row_count = 1;
}

void plans_read(struct plans *plans, const struct config *config, const struct plankey *here)
{
    struct dirent **names = NULL;
    struct graph graph;
    plans->key = *here;
    if (config->plan.mode == CONFIG_PLAN_SEQUENTIAL || !config->plan.dir[0]) {
        return;
    }
    struct planfile *file = malloc(sizeof *file);
    const int count = scandir(config->plan.dir, &names, is_plan_file, alphasort);
    if (count < 0 || !file) {
        log_warning("plan.dir %s cannot be read (error %d)", config->plan.dir, errno);
    }
    graph_build(&graph, plans->experts, here->tp, GRAPH_INSIDE);
    for (int i = 0; i < count; i++) {
        if (file) {
            take_file(plans, config, names[i]->d_name, &graph, file);
        }
        free(names[i]);
    }
    free(names);
    free(file);
    log_info("plans: %u of %d files serve, %u of them not sequentially", plans->row_count - 1,
             count < 0 ? 0 : count, plans->table.count);
}

bool plans_fit(const struct plans *plans, const struct plankey *worker,
               char error[PLANKEY_ERROR_BYTES_MAX])
{
    struct plankey known = *worker;
    if (known.units > plans->key.units) {
        known.units = plans->key.units;
    }
    return plankey_check(&plans->key, &known, error) == 0;
}

uint32_t plans_choose(const struct plans *plans, const struct sched_step *step)
{
    const uint32_t regime_count = plans->row_count - 1;
    struct regime regime = {.tokens = step->token_count};
    uint64_t context = 0; /* Sum over tokens. */
    if (regime_count == 0 || step->token_count == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < step->row_count; i++) {
        const struct sched_row *row = &step->rows[i];
        regime.decode += row->tokens == 1;
        context += pace_context(row->position, row->tokens);
    }
    regime.context = (uint32_t)(context / step->token_count);
    const uint32_t nearest = regime_nearest(plans->regime, regime_count, &regime);
    return nearest == REGIME_NONE ? 0 : nearest + 1;
}

void plans_count(struct plans *plans, uint32_t row, uint64_t compute_us)
{
    must(row < plans->row_count);
    plans->row[row].steps++;
    plans->row[row].compute_us += compute_us;
}

static struct wire_text text_of(const char *text)
{
    return (struct wire_text){text, strlen(text)};
}

void plans_tell(const struct plans *plans, struct plans_told *told)
{
    told->message = (struct wire_plans){.plans = told->row,
                                        .plan_count = plans->row_count,
                                        .refused = told->refused,
                                        .refused_count = plans->refused_count};
    for (uint32_t i = 0; i < plans->row_count; i++) {
        static const struct regime none = {0};
        const struct plans_row *row = &plans->row[i];
        const struct regime *regime = i > 0 ? &plans->regime[i - 1] : &none;
        told->row[i] = (struct wire_plan){.file = text_of(row->file),
                                          .plan = row->plan->id,
                                          .tokens = regime->tokens,
                                          .decode = regime->decode,
                                          .context = regime->context,
                                          .steps = row->steps,
                                          .compute_us = row->compute_us};
    }
    for (uint32_t i = 0; i < plans->refused_count; i++) {
        told->refused[i] = (struct wire_refusal){text_of(plans->refused[i].file),
                                                 text_of(plans->refused[i].reason)};
    }
}
