/*
 * seam_host.c - the machine under the simulation: a clock that moves when the world says so, a log
 * that is part of the trace, and the numbers of a model whose weights are nowhere. Called by the
 * core; owns nothing. Invariant: nothing of the real machine gets through.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "model/weights.h"
#include "tests/sim/oracle.h"
#include "tests/sim/world.h"

enum { LINE_BYTES_MAX = 512 };

uint64_t clock_now_us(void)
{
    return world_current()->now_us;
}

uint64_t clock_now_ns(void)
{
    return world_current()->now_us * 1000;
}

static void note(const char *format, va_list args) __attribute__((format(printf, 1, 0)));

static void note(const char *format, va_list args)
{
    char line[LINE_BYTES_MAX];
    (void)vsnprintf(line, sizeof line, format, args);
    world_note(world_current(), "core: %s", line);
}

void log_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(format, args);
    va_end(args);
}

void log_warning(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(format, args);
    va_end(args);
}

void log_info(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(format, args);
    va_end(args);
}

int weights_peek(struct hparams *hparams, const char *path, struct model_error *error)
{
    (void)path;
    (void)error;
    *hparams = (struct hparams){
        .hidden = 16,
        .layers = 1,
        .heads = 2,
        .kv_heads = 2,
        .head_dim = 8,
        .ffn = 16,
        .vocab = ORACLE_VOCAB,
        .positions_max = WORLD_CONTEXT_MAX,
        .bos_id = UINT32_MAX,
        .eos_ids = {ORACLE_EOS},
        .eos_count = 1,
        .temperature = NAN,
        .top_p = NAN,
        .min_p = NAN,
        .repetition_penalty = NAN,
        .top_k = UINT32_MAX,
    };
    return 0;
}
