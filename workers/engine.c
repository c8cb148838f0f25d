/*
 * engine.c - see engine.h. Opened, run and closed on a worker's main thread (or a test's); owns the
 * model, the KV pool, one arena for all buffers, and the crew. Invariant: between open and close
 * nothing is allocated; a run writes only the buffers and the pages that its rows name.
 */
#include "workers/engine.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "plan/plankey.h"
#include "workers/batch.h"
#include "workers/load_llama.h"
#include "workers/pick.h"
#include "workers/pipe.h"
#include "workers/poison.h"

struct engine {
    struct engine_options options;
    struct arena arena;
    struct llama llama;
    struct pipe pipe;
    struct pick pick;
    struct engine_profile profile;
};

/* A buffer of the arena: where its address goes, and its size. */
struct buffer {
    void **out;
    size_t count;
    size_t item_bytes;
};

enum { BUFFERS_MAX = 40, EXPERT_BUFFERS = 8, SHARD_BUFFERS = 6 };

static uint32_t rows_padded(const struct llama *llama, uint32_t tokens_max)
{
    uint32_t most = tokens_max;
    for (enum llama_matrix i = 0; i < LLAMA_LAYER_MATRICES; i++) {
        const uint32_t padded =
            llama->shape[i] ? matmul_rows_padded(llama->shape[i], tokens_max) : 0;
        most = padded > most ? padded : most;
    }
    return most;
}

/* Scratch of one thread: one operation runs at a time, so the largest need is the need. */
static size_t scratch_bytes(const struct llama *llama)
{
    const struct hparams *hparams = &llama->hparams;
    size_t most = kern_attend_scratch_floats(llama->shard.heads.count, llama->shard.kv_heads.count,
                                             hparams->head_dim) *
                  sizeof(float);
    most = moe_scratch_bytes(llama) > most ? moe_scratch_bytes(llama) : most;
    for (enum llama_matrix i = 0; i < LLAMA_MATRICES; i++) {
        const size_t bytes = llama->shape[i] ? matmul_scratch_bytes(llama->shape[i]) : 0;
        most = bytes > most ? bytes : most;
    }
    return (most + 63) / 64 * 64;
}

/* Attention items of the worst batch: every row cut into full blocks and one rest, and again by the
 * plan. */
static size_t items_max(const struct engine *engine)
{
    const struct engine_options *options = &engine->options;
    return ((size_t)options->tokens_max / KERN_ATTEND_ROWS_MAX + options->rows_max + CUTS_MAX) *
           engine->llama.shard.kv_heads.count;
}

/* What a mixture of experts needs beside the rest. */
static uint32_t list_expert_buffers(struct engine *engine, struct buffer *list)
{
    struct llama *llama = &engine->llama;
    struct moe *moe = &llama->moe;
    const struct hparams *hparams = &llama->hparams;
    const size_t tokens = rows_padded(llama, engine->options.tokens_max);
    const size_t choices = tokens * hparams->experts_used;
    const size_t hidden = hparams->hidden;
    const struct buffer buffers[EXPERT_BUFFERS] = {
        {(void **)&moe->logits, tokens, hparams->experts * sizeof *moe->logits},
        {(void **)&moe->expert, choices, sizeof *moe->expert},
        {(void **)&moe->weight, choices, sizeof *moe->weight},
        {(void **)&moe->slot, choices, sizeof *moe->slot},
        {(void **)&moe->share, choices, sizeof *moe->share},
        {(void **)&moe->shares, tokens, sizeof *moe->shares},
        {&moe->gathered, choices, hidden * kern_dtype_bytes(llama->dtype)},
        {(void **)&moe->down, choices, hidden * sizeof *moe->down},
    };
    memcpy(list, buffers, sizeof buffers);
    return EXPERT_BUFFERS;
}

/* What a rank computes before it is gathered. Alone, it computes in place. */
static uint32_t list_shard_buffers(struct engine *engine, size_t slots, struct buffer *list)
{
    struct llama *llama = &engine->llama;
    const struct shard *shard = &llama->shard;
    const size_t act = kern_dtype_bytes(llama->dtype);
    const size_t tokens = rows_padded(llama, engine->options.tokens_max);
    const size_t rows = matmul_rows_padded(llama->shape[LLAMA_HEAD], engine->options.rows_max);
    const size_t experts = llama->hparams.experts > 0;
    const size_t own_q = (size_t)shard->heads.count * llama->hparams.head_dim;
    const size_t own_hidden = shard->hidden.count;
    const struct buffer buffers[SHARD_BUFFERS] = {
        {&llama->own.attended, tokens, own_q * act},
        {&llama->own.gated, slots, shard->ffn.count * act},
        {(void **)&llama->own.delta, tokens, own_hidden * sizeof(float)},
        {(void **)&llama->own.logits, rows, shard->vocab.count * sizeof(float)},
        {(void **)&llama->delta, tokens, llama->hparams.hidden * sizeof(float)},
        {(void **)&llama->moe.own_down, experts * slots, own_hidden * sizeof(float)},
    };
    memcpy(list, buffers, sizeof buffers);
    return SHARD_BUFFERS - !experts;
}

static uint32_t list_buffers(struct engine *engine, struct buffer list[BUFFERS_MAX])
{
    struct llama *llama = &engine->llama;
    struct llama_batch *batch = &llama->batch;
    const struct hparams *hparams = &llama->hparams;
    const struct engine_options *options = &engine->options;
    const size_t act = kern_dtype_bytes(llama->dtype);
    const size_t tokens = rows_padded(llama, options->tokens_max);
    const size_t rows = matmul_rows_padded(llama->shape[LLAMA_HEAD], options->rows_max);
    const size_t hidden = hparams->hidden;
    const struct shard *shard = &llama->shard;
    const size_t q_cols = (size_t)hparams->heads * hparams->head_dim;
    const size_t own_q_cols = (size_t)shard->heads.count * hparams->head_dim;
    const size_t qkv_cols = llama_matrix_rows(llama, LLAMA_QKV);
    const size_t rope_cols = hparams->rope_dim / 2;
    const size_t slots = tokens * (hparams->experts ? hparams->experts_used : 1);
    const size_t weights = (size_t)hparams->layers * llama_layer_weights(hparams);
    const struct buffer buffers[] = {
        {(void **)&llama->layers, hparams->layers, sizeof *llama->layers},
        {(void **)&llama->weights, weights, sizeof(void *)},
        {&llama->embed, hparams->vocab, hidden * act},
        {(void **)&llama->vectors, llama_vector_floats(llama), sizeof(float)},
        {(void **)&llama->cosine, options->context_max, rope_cols * sizeof(float)},
        {(void **)&llama->sine, options->context_max, rope_cols * sizeof(float)},
        {(void **)&batch->page, tokens, sizeof *batch->page},
        {(void **)&batch->position, tokens, sizeof *batch->position},
        {(void **)&batch->sequence, options->rows_max, sizeof *batch->sequence},
        {(void **)&batch->item, items_max(engine), sizeof *batch->item},
        {(void **)&batch->logit_token, options->rows_max, sizeof *batch->logit_token},
        {(void **)&llama->x, tokens, hidden * sizeof(float)},
        {&llama->normed, tokens, hidden * act},
        {(void **)&llama->qkv, tokens, qkv_cols * sizeof(float)},
        {&llama->q, tokens, own_q_cols * act},
        {&llama->attended, tokens, q_cols * act},
        {(void **)&llama->gate_up, slots, 2 * (size_t)shard->ffn.count * sizeof(float)},
        {&llama->gated, slots, hparams->ffn * act},
        {&llama->head_in, rows, hidden * act},
        {(void **)&llama->logits, rows, hparams->vocab * sizeof(float)},
        {(void **)&llama->scratch, crew_threads(llama->crew), llama->scratch_bytes},
    };
    uint32_t count = sizeof buffers / sizeof buffers[0];
    static_assert(sizeof buffers / sizeof buffers[0] + EXPERT_BUFFERS + SHARD_BUFFERS <=
                      BUFFERS_MAX,
                  "room for all");
    memcpy(list, buffers, sizeof buffers);
    count += hparams->experts > 0 ? list_expert_buffers(engine, list + count) : 0;
    return count + (shard->ranks > 1 ? list_shard_buffers(engine, slots, list + count) : 0);
}

static int allocate_buffers(struct engine *engine)
{
    struct buffer list[BUFFERS_MAX];
    const uint32_t count = list_buffers(engine, list);
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bytes;
        if (!checked_mul(list[i].count, list[i].item_bytes, &bytes) ||
            !checked_add(total, bytes, &total) || !checked_add(total, 64, &total)) {
            return -ENOMEM;
        }
    }
    const uint32_t threads = crew_threads(engine->llama.crew);
    const uint32_t vocab = engine->llama.hparams.vocab;
    total += pick_bytes(&engine->options, threads, vocab);
    int error = arena_open(&engine->arena, total);
    if (error) {
        return error;
    }
    for (uint32_t i = 0; i < count; i++) {
        *list[i].out = arena_alloc(&engine->arena, list[i].count, list[i].item_bytes);
        must(*list[i].out);
    }
    error = pick_open(&engine->pick, &engine->arena, &engine->options, vocab);
    must(!error);
    arena_seal(&engine->arena);
    struct llama *llama = &engine->llama;
    if (llama->shard.ranks == 1) {
        llama->own.attended = llama->attended;
        llama->own.gated = llama->gated;
        llama->own.logits = llama->logits;
        llama->moe.own_down = llama->moe.down;
    }
    return 0;
}

/* What cannot run at all, before anything is allocated. */
static int check_options(const struct engine_options *options, const struct hparams *hparams,
                         struct model_error *error)
{
    const unsigned bf16 = KERN_ISA_AVX512_BF16 | KERN_ISA_AMX_BF16;
    if (options->dtype == KERN_BF16 && (options->isa & bf16) == 0) {
        return model_error_set(error, -ENOTSUP,
                               "model.dtype bf16 needs AVX512_BF16 or AMX, which this CPU lacks: "
                               "set model.dtype to f32 or auto");
    }
    if (options->weights == MATMUL_WEIGHTS_INT8 && (options->isa & KERN_ISA_AVX512_VNNI) == 0) {
        return model_error_set(error, -ENOTSUP,
                               "model.weights int8 needs AVX512_VNNI, which this CPU lacks: "
                               "set model.weights to auto");
    }
    if (options->weights == MATMUL_WEIGHTS_FP8) {
        return model_error_set(error, -ENOTSUP,
                               "model.weights fp8 is for GPUs: set model.weights to auto");
    }
    if (options->kv == ENGINE_KV_E4M3) {
        return model_error_set(error, -ENOTSUP,
                               "kv.dtype fp8_e4m3 is for GPUs: set kv.dtype to auto");
    }
    return hparams_check_context(hparams, options->context_max, error);
}

enum kern_dtype engine_dtype_auto(unsigned isa)
{
    return isa & (KERN_ISA_AVX512_BF16 | KERN_ISA_AMX_BF16) ? KERN_BF16 : KERN_F32;
}

/* Of one rank. The embedding and the head, tied or not, are two tables; every rank has all of the
 * first. */
static uint64_t weight_bytes(const struct engine_options *options, const struct hparams *hparams,
                             uint32_t ranks)
{
    const uint64_t table = (uint64_t)hparams->vocab * hparams->hidden;
    const uint64_t layers =
        hparams_parameters(hparams) - (hparams->tied_embeddings ? 1 : 2) * table;
    const size_t dtype_bytes = kern_dtype_bytes(options->dtype);
    return (table + table / ranks) * dtype_bytes +
           layers / ranks * (options->weights == MATMUL_WEIGHTS_INT8 ? 1 : dtype_bytes);
}

/* The mappings are lazy, so that too much would only fail in the middle of a request. */
static int check_memory(const struct engine_options *options, const struct hparams *hparams,
                        const struct shard *shard, struct model_error *error)
{
    const size_t page_bytes = kern_kv_page_bytes(options->dtype, options->page_tokens,
                                                 shard->kv_heads.count, hparams->head_dim);
    const uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t weights = weight_bytes(options, hparams, shard->ranks);
    uint64_t pool = 0;
    uint64_t page_all = 0;
    const bool fits = checked_mul(page_bytes, hparams->layers, &page_all) &&
                      checked_mul(page_all, options->device_pages, &pool);
    if (weights >= machine) {
        return model_error_set(error, -ENOMEM,
                               "the weights need %llu MB and the machine has %llu MB: "
                               "a smaller model%s would fit",
                               (unsigned long long)(weights >> 20),
                               (unsigned long long)(machine >> 20),
                               options->weights == MATMUL_WEIGHTS_INT8 ? ""
                               : options->dtype == KERN_F32            ? " or model.dtype bf16"
                                                                       : " or model.weights int8");
    }
    if (!fits || pool > machine - weights) {
        return model_error_set(
            error, -ENOMEM,
            "the KV pool of %u pages does not fit beside %llu MB of weights in %llu MB: "
            "set kv.device_pages to %llu or less",
            options->device_pages, (unsigned long long)(weights >> 20),
            (unsigned long long)(machine >> 20),
            (unsigned long long)(page_all > 0 ? (machine - weights) / page_all : 0));
    }
    return 0;
}

static int open_parts(struct engine *engine, const struct weights *weights)
{
    const struct engine_options *options = &engine->options;
    struct llama *llama = &engine->llama;
    const struct hparams *hparams = &llama->hparams;
    kern_ops_init(&llama->ops, options->isa);
    int error = crew_open(&llama->crew, options->threads);
    if (error) {
        return error;
    }
    engine->pipe.crew = llama->crew;
    engine->pick.crew = llama->crew;
    engine->pick.ops = &llama->ops;
    error = llama_shapes_open(llama, options->tokens_max, options->rows_max);
    if (error) {
        return error;
    }
    llama->scratch_bytes = scratch_bytes(llama);
    error = allocate_buffers(engine);
    if (error) {
        return error;
    }
    error = kvpool_open(&llama->kv, hparams->layers, options->device_pages,
                        kern_kv_page_bytes(llama->dtype, options->page_tokens,
                                           llama->shard.kv_heads.count, hparams->head_dim));
    if (error) {
        return error;
    }
    hparams_rope_table(hparams, 0, options->context_max, llama->cosine, llama->sine);
    return llama_load(llama, weights);
}

int engine_open(struct engine **out, const struct weights *weights,
                const struct engine_options *options, struct model_error *error)
{
    const struct hparams *hparams = weights_hparams(weights);
    const uint32_t ranks = engine_ranks(options);
    int status = check_options(options, hparams, error);
    status = status ? status : hparams_check_ranks(hparams, ranks, error);
    if (status) {
        return status;
    }
    const struct shard shard = shard_of(hparams, options->rank, ranks);
    status = check_memory(options, hparams, &shard, error);
    if (status) {
        return status;
    }
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        return -ENOMEM;
    }
    engine->options = *options;
    engine->llama.hparams = *hparams;
    engine->llama.shard = shard;
    engine->llama.dtype = options->dtype;
    engine->llama.packing = options->weights;
    engine->llama.page_tokens = options->page_tokens;
    engine->pipe.model = &engine->llama;
    engine->pipe.layers = hparams->layers;
    engine->pipe.poison_all = poison_all;
    engine->pipe.poison = poison_used;
    for (uint32_t i = 0; i < PLAN_OPERATION_COUNT; i++) {
        const bool here = moe_operations[i].stage[0] != NULL;
        engine->pipe.operation[i] = here ? &moe_operations[i] : &llama_operations[i];
    }
    status = open_parts(engine, weights);
    if (status) {
        status = model_error_set(error, status,
                                 "the model cannot be made ready with batch.tokens_max %u and "
                                 "workers.threads %u: %s",
                                 options->tokens_max, options->threads,
                                 status == -ENOMEM ? "not enough memory, lower batch.tokens_max"
                                                   : "this machine does not support it");
        engine_close(engine);
        return status;
    }
    *out = engine;
    return 0;
}

void engine_close(struct engine *engine)
{
    if (!engine) {
        return;
    }
    llama_unload(&engine->llama);
    kvpool_close(&engine->llama.kv);
    arena_close(&engine->arena);
    crew_close(engine->llama.crew);
    free(engine);
}

int engine_join(struct engine *engine, struct comm *comm)
{
    engine->llama.comm = comm;
    return 0;
}

void engine_watch(struct engine *engine, _Atomic uint32_t *progress)
{
    engine->pipe.progress = progress;
}

/* Of the tokens whose logits are wanted. */
static void run_head(struct engine *engine)
{
    const uint32_t rows = engine->llama.batch.logit_rows;
    if (rows > 0) {
        pipe_run_stage(&engine->pipe, llama_final_norm, 0, rows);
        pipe_run_stage(&engine->pipe, llama_head, 0, rows);
        pipe_run_stage(&engine->pipe, llama_gather_logits, 0, rows);
    }
}

void engine_run(struct engine *engine, const struct engine_batch *batch)
{
    const uint64_t start_ns = clock_now_ns();
    must(engine->llama.shard.ranks == 1 || engine->llama.comm);
    struct llama *llama = &engine->llama;
    batch_fill(llama, batch, &engine->options);
    pick_learn(&engine->pick, batch);
    pipe_run_stage(&engine->pipe, llama_embed, 0, llama->batch.tokens);
    const uint64_t embed_ns = clock_now_ns();
    if (batch->chaos_seed != 0) {
        pipe_run_chaos(&engine->pipe, batch->plan, &llama->batch.cuts, batch->chaos_seed);
    } else {
        pipe_run(&engine->pipe, batch->plan, &llama->batch.cuts);
    }
    const uint64_t head_ns = clock_now_ns();
    run_head(engine);
    engine->profile.embed_ns += embed_ns - start_ns;
    engine->profile.head_ns += clock_now_ns() - head_ns;
}

void engine_wait(struct engine *engine)
{
    (void)engine; /* It has ended. */
}

const char *engine_failure(const struct engine *engine)
{
    (void)engine; /* The CPU fails with the process. */
    return NULL;
}

const float *engine_logits(struct engine *engine, uint32_t index)
{
    must(index < engine->llama.batch.logit_rows);
    return engine->llama.logits + (size_t)index * engine->llama.hparams.vocab;
}

void engine_choose(struct engine *engine, const struct engine_choice *choices, uint32_t count,
                   struct sample_result *results)
{
    must(count <= engine->llama.batch.logit_rows);
    pick_run(&engine->pick, engine->llama.logits, choices, count, results);
}

void engine_take(struct engine *engine)
{
    (void)engine; /* They are there. */
}

uint64_t engine_idle_us(struct engine *engine)
{
    (void)engine;
    return 0;
}

bool engine_busy(struct engine *engine)
{
    (void)engine;
    return false;
}

void engine_head(struct engine *engine, const uint32_t *tokens, uint32_t count)
{
    struct llama_batch *batch = &engine->llama.batch;
    const uint64_t start_ns = clock_now_ns();
    must(count <= engine->options.rows_max);
    for (uint32_t i = 0; i < count; i++) {
        must(tokens[i] < batch->tokens);
        batch->logit_token[i] = tokens[i];
    }
    batch->logit_rows = count;
    run_head(engine);
    engine->profile.head_ns += clock_now_ns() - start_ns;
}

void engine_copy_pages(struct engine *engine, const uint32_t *sources, const uint32_t *targets,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        must(sources[i] < engine->options.device_pages &&
             targets[i] < engine->options.device_pages);
        kvpool_copy(&engine->llama.kv, sources[i], targets[i]);
    }
    history_copy(&engine->pick.history, sources, targets, count);
}

const struct hparams *engine_hparams(const struct engine *engine)
{
    return &engine->llama.hparams;
}

uint64_t engine_weight_bytes(const struct engine *engine)
{
    return llama_weight_bytes(&engine->llama);
}

uint64_t engine_kv_bytes(const struct engine *engine)
{
    return engine->llama.kv.bytes;
}

static_assert((int)CPU_NAME_BYTES_MAX <= (int)PLANKEY_DEVICE_BYTES_MAX, "a CPU's name fits");
static_assert((int)MATMUL_LIBRARY_BYTES_MAX <= (int)PLANKEY_VERSION_BYTES_MAX, "a library's fits");

uint32_t engine_sharing(const struct engine *engine)
{
    must(engine);
    return 1; /* Threads serve their own lane first, and then the others. */
}

void engine_device(const struct engine *engine, struct plankey *key)
{
    cpu_name(key->device);
    matmul_library(key->library);
    (void)snprintf(key->kernels, sizeof key->kernels, "%s", kern_version());
    key->units = engine->options.threads;
}

void engine_take_profile(struct engine *engine, struct engine_profile *out)
{
    pipe_take_spent(&engine->pipe, engine->profile.operation_ns);
    *out = engine->profile;
    engine->profile = (struct engine_profile){0};
}
