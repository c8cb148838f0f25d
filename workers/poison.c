/*
 * poison.c - see poison.h. Called by the pipe in chaos mode, on a worker's main thread while no job
 * runs; owns nothing. Invariant: numbers are poisoned, indices are not, so that a wrong plan gives
 * wrong numbers and nothing worse.
 */
#include "workers/poison.h"

#include <string.h>

#include "workers/model_llama.h"

/* Rows [first, end) of a buffer; all bits set are NaN in either type. */
static void poison(void *buffer, size_t row_bytes, const struct pipe_task *task, size_t per_row)
{
    if (buffer) { /* Experts' buffers are there only where experts are. */
        memset((uint8_t *)buffer + task->first * per_row * row_bytes, 0xff,
               (task->end - task->first) * per_row * row_bytes);
    }
}

static void poison_normed(const struct pipe_task *task)
{
    const struct llama *llama = task->model;
    poison(llama->normed, llama->hparams.hidden * kern_dtype_bytes(llama->dtype), task, 1);
}

static void poison_qkv(const struct pipe_task *task)
{
    const struct llama *llama = task->model;
    poison(llama->qkv, llama_matrix_rows(llama, LLAMA_QKV) * sizeof *llama->qkv, task, 1);
}

static void poison_attended(const struct pipe_task *task)
{
    const struct llama *llama = task->model;
    const size_t cols = llama_matrix_cols(&llama->hparams, LLAMA_OUTPUT);
    poison(llama->attended, cols * kern_dtype_bytes(llama->dtype), task, 1);
}

/* Feed-forward rows: those of tokens, or with experts their slots. */
static size_t ffn_rows(const struct llama *llama)
{
    return llama->hparams.experts > 0 ? llama->hparams.experts_used : 1;
}

static void poison_gate_up(const struct pipe_task *task)
{
    const struct llama *llama = task->model;
    poison(llama->gate_up, llama_matrix_rows(llama, LLAMA_GATE_UP) * sizeof *llama->gate_up, task,
           ffn_rows(llama));
}

static void poison_gated(const struct pipe_task *task)
{
    const struct llama *llama = task->model;
    poison(llama->gated, llama->hparams.ffn * kern_dtype_bytes(llama->dtype), task,
           ffn_rows(llama));
}

static void poison_gathered(const struct pipe_task *task)
{
    const struct llama *llama = task->model;
    poison(llama->moe.gathered, llama->hparams.hidden * kern_dtype_bytes(llama->dtype), task,
           ffn_rows(llama));
}

static void poison_expert_down(const struct pipe_task *task)
{
    const struct llama *llama = task->model;
    poison(llama->moe.down, llama->hparams.hidden * sizeof *llama->moe.down, task, ffn_rows(llama));
}

/* Keys and values made of NaN, by the operation that appends them, and q with them. */
static void poison_pages(struct llama *llama, struct pipe_task *task)
{
    poison_qkv(task);
    for (uint32_t layer = 0; layer < llama->hparams.layers; layer++) {
        task->layer = layer;
        llama_operations[PLAN_ROPE_APPEND].stage[0](task);
        task->job.run(task, 0, task->job.units, 0);
    }
}

void poison_all(void *model)
{
    struct llama *llama = model;
    struct pipe_task task = {.model = llama, .end = llama->batch.tokens};
    poison_normed(&task);
    poison_attended(&task);
    poison_gate_up(&task);
    poison_gated(&task);
    poison_gathered(&task);
    poison_expert_down(&task);
    poison_pages(llama, &task);
}

void poison_used(const struct pipe_task *task, uint32_t operation)
{
    static void (*const used[PLAN_OPERATION_COUNT])(const struct pipe_task *) = {
        [PLAN_KQV] = poison_normed,
        [PLAN_ROPE_APPEND] = poison_qkv,
        [PLAN_OUTPUT] = poison_attended,
        [PLAN_UP_GATE] = poison_normed,
        [PLAN_SILU_MUL] = poison_gate_up,
        [PLAN_DOWN] = poison_gated,
        [PLAN_ROUTE] = poison_normed,
        [PLAN_EXPERT_UP_GATE] = poison_gathered,
        [PLAN_EXPERT_SILU_MUL] = poison_gate_up,
        [PLAN_EXPERT_DOWN] = poison_gated,
        [PLAN_COMBINE] = poison_expert_down,
    };
    if (used[operation]) {
        used[operation](task);
    }
}
