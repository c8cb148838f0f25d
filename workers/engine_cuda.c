/*
 * engine_cuda.c - engine.h on an accelerator (accel.h). Opened, run and closed on a worker's main
 * thread; owns the device's memory through the accelerator, the model, two host copies of the
 * iteration block, and a crew for what follows a run on the host: sampling. Invariant: the host
 * writes a block only when the device has read what was in it.
 *
 * The layers of a plan over a bucket of tokens are captured once and replayed from then on; when
 * the table of graphs is full, others are put on the lanes anew each time.
 */
#include "workers/engine.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/cuda/attend_cuda.h"
#include "kernels/cuda/kv_pages_cuda.h"
#include "plan/plankey.h"
#include "workers/batch_cuda.h"
#include "workers/crew.h"
#include "workers/lanes_cuda.h"
#include "workers/load_cuda.h"
#include "workers/pick_cuda.h"
#include "workers/share_cuda.h"

enum {
    GRAPHS_MAX = 256,
    EVENT_BLOCK = LOAD_CUDA_EVENTS, /* Two: the block's copy to the device has ended. */
    EVENT_DONE = EVENT_BLOCK + 2,
    EVENT_BEGUN, /* Before the batch of each call that engine_take() owes, */
    EVENT_CHOSEN = EVENT_BEGUN + ENGINE_AHEAD_MAX, /* and behind its choices: the last one's too. */
    EVENT_PLANS = EVENT_CHOSEN + ENGINE_AHEAD_MAX + 1, /* Those of lanes_cuda.h. */
    UNIT_SLOTS = 4, /* Of attention's sums, for each of the device's units. */
    TIMEOUT_DEFAULT_MS = 60000,
    CUT_COLUMNS = 8,         /* bf16 of 16 bytes, the least that kernels copy. */
    GROUP_BYTES = 512 << 20, /* Left for what joins ranks; how much that is was not measured. */
};

struct graph_entry {
    uint64_t plan_hash;
    uint32_t bucket;
    struct accel_graph *graph;
};

struct engine {
    struct engine_options options;
    struct accel *accel;
    struct crew *crew;
    struct lanes_cuda lanes;
    struct cuda_model model;
    struct cuda_batch batch;
    struct cuda_block blocks[2]; /* host, pinned */
    struct pick_cuda pick;
    uint32_t turn;
    uint32_t chosen;   /* Calls of engine_choose(), */
    uint32_t taken;    /* and of engine_take(). */
    uint64_t since_us; /* When the first of those not taken had the device for itself, at last. */
    float *logits;     /* host, pinned: [rows][vocab], for who asks, */
    bool logits_in;    /* and then they are here. */
    struct graph_entry graphs[GRAPHS_MAX];
    uint32_t graph_count;
    uint64_t weight_bytes;
    uint64_t kv_bytes;
    int error; /* The first one of the device: nothing counts any more; -ECANCELED: of the group,
                * and nothing counts until it is joined again. */
};

/* Whether all products of a rank are such as the device has in e4m3. */
static bool cuts_to_bytes(const struct engine_options *options, const struct hparams *hparams)
{
    const uint32_t step = ACCEL_BYTES_STEP * engine_ranks(options);
    return hparams->hidden % step == 0 && hparams->ffn % step == 0 &&
           hparams->heads * hparams->head_dim % step == 0 &&
           hparams->kv_heads * hparams->head_dim % step == 0;
}

static int check_options(const struct engine_options *options, const struct hparams *hparams,
                         struct model_error *error)
{
    const uint32_t whole = CUT_COLUMNS * engine_ranks(options);
    const char *text = NULL;
    if (options->weights == MATMUL_WEIGHTS_INT8) {
        text = "model.weights int8 is for CPUs: set model.weights to fp8 or auto";
    } else if (options->weights == MATMUL_WEIGHTS_FP8 && hparams->experts > 0) {
        text = "model.weights fp8 is for models without experts: set model.weights to auto";
    } else if (options->weights == MATMUL_WEIGHTS_FP8 && !cuts_to_bytes(options, hparams)) {
        text = "model.weights fp8 wants sizes of heads, rows and feed-forward parts that are "
               "multiples of 16: set model.weights to auto";
    } else if (options->dtype == KERN_BF16 && hparams->experts > 0 &&
               hparams->ffn % CUT_COLUMNS > 0) {
        text = "the experts' feed-forward size is no multiple of 8, which GPU kernels want in "
               "bf16: set model.dtype to f32";
    } else if (hparams->head_dim > CUDA_ATTEND_DIM_MAX || hparams->hidden % CUT_COLUMNS > 0) {
        text = "the model's heads or rows have a size that no GPU kernel is for: "
               "set workers.device to cpu";
    }
    if (text) {
        return model_error_set(error, -ENOTSUP, "%s", text);
    }
    if (options->ranks > 1 && (hparams->hidden % whole > 0 || hparams->ffn % whole > 0)) {
        return model_error_set(error, -ENOTSUP,
                               "workers.tp %u does not cut a hidden size of %u and a feed-forward "
                               "size of %u into multiples of %d, which GPU kernels want",
                               options->ranks, hparams->hidden, hparams->ffn, CUT_COLUMNS);
    }
    return hparams_check_context(hparams, options->context_max, error);
}

enum kern_dtype engine_dtype_auto(unsigned isa)
{
    (void)isa;
    return KERN_BF16;
}

static void lay_out_moe(struct engine *engine, struct carve *from)
{
    struct cuda_moe *moe = &engine->model.moe;
    const struct hparams *hparams = &engine->model.hparams;
    const size_t tokens = hparams->experts > 0 ? engine->options.tokens_max : 0;
    const size_t slots = tokens * hparams->experts_used;
    const size_t shares = tokens > 0 ? PLAN_NANO_MAX * (hparams->experts + (size_t)1) : 0;
    moe->logits = carve(from, tokens, hparams->experts * sizeof *moe->logits);
    moe->expert = carve(from, slots, sizeof *moe->expert);
    moe->weight = carve(from, slots, sizeof *moe->weight);
    moe->slot = carve(from, slots, sizeof *moe->slot);
    moe->row = carve(from, slots, sizeof *moe->row);
    moe->first = carve(from, shares, sizeof *moe->first);
    moe->tile = carve(from, shares, sizeof *moe->tile);
    moe->down = carve(from, slots, hparams->hidden * kern_dtype_bytes(engine->model.dtype));
}

/* What a run works in. */
static void lay_out_buffers(struct engine *engine, struct carve *from)
{
    struct cuda_model *model = &engine->model;
    const struct hparams *hparams = &model->hparams;
    const struct attend_shape shape = cuda_attend_shape(model, LANES_CUDA_HEAD);
    const size_t act = kern_dtype_bytes(model->dtype);
    const size_t tokens = engine->options.tokens_max;
    const size_t rows = engine->options.rows_max;
    const size_t hidden = hparams->hidden;
    const size_t slots = tokens * (hparams->experts > 0 ? hparams->experts_used : 1);
    const size_t bytes = model->weights == MATMUL_WEIGHTS_FP8 ? tokens : 0;
    const size_t own_q = cuda_own_q_columns(model);
    const size_t own_ffn = model->shard.ffn.count;
    batch_cuda_lay_out(&model->block, model, &engine->options, from);
    model->x = carve(from, tokens, hidden * sizeof(float));
    model->normed = carve(from, tokens, hidden * act);
    model->qkv = carve(from, tokens, cuda_own_qkv_columns(model) * act);
    model->q = carve(from, tokens, own_q * act);
    model->own_attended = carve(from, tokens, own_q * act);
    model->attended = model->shard.ranks == 1 ? model->own_attended
                                              : carve(from, tokens, cuda_q_columns(hparams) * act);
    model->gate_up = carve(from, slots, 2 * own_ffn * act);
    model->gated = carve(from, slots, hparams->ffn * act);
    lay_out_moe(engine, from);
    model->cells = carve(from, bytes, cuda_widest(hparams));
    model->cell_scale = carve(from, bytes, sizeof *model->cell_scale);
    model->sums = carve(from, attend_slot_floats(&shape, model->slots), sizeof(float));
    model->head_x = carve(from, rows, hidden * sizeof(float));
    model->head_in = carve(from, rows, hidden * act);
    model->logits = carve(from, rows, hparams->vocab * sizeof(float));
    model->parts = carve(
        from, cuda_share_bytes(model, engine->options.tokens_max, engine->options.rows_max), 1);
}

/* The choice of tokens has its parts on both sides. */
static void lay_out(struct engine *engine, struct carve *device, struct carve *host)
{
    const struct engine_options *options = &engine->options;
    struct cuda_model *model = &engine->model;
    lay_out_buffers(engine, device);
    pick_cuda_lay_out(&engine->pick, model, options, device, host);
    model->history =
        carve(device, options->device_pages, options->page_tokens * sizeof *model->history);
    model->last_ids = carve(device, options->slots_max, sizeof *model->last_ids);
    for (uint32_t i = 0; i < 2; i++) {
        batch_cuda_lay_out(&engine->blocks[i], model, options, host);
    }
    engine->logits = carve(host, options->rows_max, model->hparams.vocab * sizeof(float));
}

/* Says what does not fit beside what comes before it, and what would make it fit. */
static int check_memory(struct engine *engine, uint64_t buffer_bytes, struct model_error *error)
{
    const struct engine_options *options = &engine->options;
    struct accel_info info;
    accel_info(engine->accel, &info);
    const uint64_t kept = engine->model.shard.ranks > 1 ? GROUP_BYTES : 0;
    const uint64_t left = info.memory_free_bytes;
    const uint64_t room = left > kept ? left - kept : 0;
    const uint64_t weights = engine->weight_bytes;
    const uint64_t page = engine->model.page_bytes * engine->model.hparams.layers;
    uint64_t pool;
    const bool counted = checked_mul(page, options->device_pages, &pool);
    if (weights > room) {
        return model_error_set(error, -ENOMEM,
                               "the weights need %llu MB and the GPU has %llu MB free: "
                               "a smaller model%s would fit",
                               (unsigned long long)(weights >> 20),
                               (unsigned long long)(room >> 20),
                               options->dtype == KERN_F32 ? " or model.dtype bf16" : "");
    }
    if (buffer_bytes > room - weights) {
        return model_error_set(
            error, -ENOMEM,
            "buffers of %llu MB do not fit beside %llu MB of weights in the GPU's %llu "
            "MB: lower batch.tokens_max or batch.slots_max",
            (unsigned long long)(buffer_bytes >> 20), (unsigned long long)(weights >> 20),
            (unsigned long long)(room >> 20));
    }
    if (!counted || pool > room - weights - buffer_bytes) {
        return model_error_set(
            error, -ENOMEM,
            "the KV pool of %u pages does not fit beside %llu MB of weights and %llu MB "
            "of buffers in the GPU's %llu MB: set kv.device_pages to %llu or less",
            options->device_pages, (unsigned long long)(weights >> 20),
            (unsigned long long)(buffer_bytes >> 20), (unsigned long long)(room >> 20),
            (unsigned long long)((room - weights - buffer_bytes) / page));
    }
    engine->kv_bytes = pool;
    return 0;
}

/* What the device, or the host for pinned memory, did not give although it was counted as free. */
static int explain(int status, struct model_error *error, const char *what, const char *remedy)
{
    return status == -ENOMEM
               ? model_error_set(error, status, "no memory is left for %s: %s", what, remedy)
               : status;
}

/* Everything but the weights. */
static int open_memory(struct engine *engine, struct model_error *error)
{
    struct carve buffers = {0};
    struct carve host = {0};
    lay_out(engine, &buffers, &host);
    int status = check_memory(engine, buffers.bytes, error);
    if (status) {
        return status;
    }
    status = accel_arena(engine->accel, ACCEL_DEVICE, buffers.bytes, (void **)&buffers.base);
    if (status) {
        return explain(status, error, "a step's buffers on the GPU",
                       "lower batch.tokens_max or batch.slots_max");
    }
    status = accel_arena(engine->accel, ACCEL_HOST, host.bytes, (void **)&host.base);
    if (status) {
        return explain(status, error, "a step's pinned buffers on the host",
                       "lower batch.slots_max, or raise what may be locked (LimitMEMLOCK)");
    }
    status =
        accel_arena(engine->accel, ACCEL_DEVICE, engine->kv_bytes, (void **)&engine->model.pool);
    if (status) {
        return explain(status, error, "the KV pool on the GPU", "lower kv.device_pages");
    }
    buffers.bytes = host.bytes = 0;
    lay_out(engine, &buffers, &host);
    return pick_cuda_start(&engine->pick, &engine->model, LANES_CUDA_HEAD);
}

static int open_device(struct engine *engine, struct model_error *error)
{
    struct accel_info info;
    const uint32_t layers = engine->model.hparams.layers;
    int status = accel_open(&engine->accel, engine->options.device, error);
    if (status) {
        return status;
    }
    engine->model.accel = engine->accel;
    status = lanes_cuda_open(&engine->lanes, engine->accel, layers, EVENT_PLANS);
    status = explain(status, error, "the GPU's lanes", "another process has it");
    engine->lanes.timed = engine->options.timed;
    status = status ? status : accel_events(engine->accel, EVENT_PLANS + lanes_cuda_events(layers));
    accel_info(engine->accel, &info);
    engine->model.units = info.units;
    engine->model.rows_step = info.rows_step;
    engine->model.slots = info.units * UNIT_SLOTS;
    if (!status && engine->options.weights == MATMUL_WEIGHTS_FP8 && !info.bytes) {
        status = model_error_set(error, -ENOTSUP,
                                 "model.weights fp8 needs compute capability 9.0 (H100, H200), "
                                 "which %s has not: set model.weights to auto",
                                 info.name);
    }
    return status;
}

static int open_parts(struct engine *engine, const struct weights *weights,
                      struct model_error *error)
{
    const struct engine_options *options = &engine->options;
    struct cuda_model *model = &engine->model;
    const struct hparams *hparams = &model->hparams;
    model->layers = calloc(hparams->layers, sizeof *model->layers);
    int status = model->layers ? crew_open(&engine->crew, options->threads) : -ENOMEM;
    status = status ? status : open_device(engine, error);
    if (status) {
        return status;
    }
    const size_t cell_bytes = model->kv == ENGINE_KV_E4M3 ? 1 : kern_dtype_bytes(options->dtype);
    model->page_bytes = (size_t)2 * model->shard.kv_heads.count * options->page_tokens *
                        hparams->head_dim * cell_bytes;
    engine->weight_bytes = load_cuda_bytes(model, options->context_max);
    status = open_memory(engine, error);
    if (status) {
        return status;
    }
    status = load_cuda(model, weights, engine->crew, options->context_max);
    return explain(status, error, "the weights", "lower kv.device_pages");
}

int engine_open(struct engine **out, const struct weights *weights,
                const struct engine_options *options, struct model_error *error)
{
    const struct hparams *hparams = weights_hparams(weights);
    int status = check_options(options, hparams, error);
    if (status) {
        return status;
    }
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        return -ENOMEM;
    }
    engine->options = *options;
    engine->options.slots_max = options->slots_max > 0 ? options->slots_max : options->rows_max;
    engine->model.hparams = *hparams;
    engine->model.shard = shard_of(hparams, options->rank, engine_ranks(options));
    engine->model.dtype = options->dtype;
    engine->model.kv = options->kv;
    engine->model.weights = options->weights;
    engine->model.page_tokens = options->page_tokens;
    engine->model.device_pages = options->device_pages;
    error->text[0] = '\0';
    status = open_parts(engine, weights, error);
    if (status) {
        if (error->text[0] == '\0') {
            status = model_error_set(error, status, "the model cannot be made ready on the GPU: %s",
                                     strerror(-status));
        }
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
    accel_close(engine->accel);
    crew_close(engine->crew);
    free(engine->model.layers);
    free(engine);
}

static uint64_t timeout_us(const struct engine *engine)
{
    const uint32_t ms = engine->options.timeout_ms;
    return (ms > 0 ? ms : TIMEOUT_DEFAULT_MS) * 1000ULL;
}

int engine_join(struct engine *engine, struct comm *comm)
{
    const struct shard *shard = &engine->model.shard;
    const struct accel_group group = {
        .comm = comm, .rank = shard->rank, .ranks = shard->ranks, .timeout_us = timeout_us(engine)};
    must((comm != NULL) == (shard->ranks > 1));
    if (!comm || engine_failure(engine)) {
        return comm ? -EIO : 0;
    }
    memset(engine->graphs, 0, sizeof engine->graphs); /* They hold collectives of the old epoch. */
    engine->graph_count = 0;
    engine->error = accel_join(engine->accel, &group);
    return engine->error == 0 || engine->error == -ECANCELED ? engine->error : -EIO;
}

void engine_watch(struct engine *engine, _Atomic uint32_t *progress)
{
    (void)engine;
    (void)progress;
}

/* From the block that take_block() gave, which is read when its event has passed. */
static int send_block(struct engine *engine, const struct accel_copy *copies, uint32_t count)
{
    const uint32_t half = engine->turn++ % 2;
    const int error = accel_copy(engine->accel, LANES_CUDA_HEAD, copies, count);
    return error ? error : accel_record(engine->accel, EVENT_BLOCK + half, LANES_CUDA_HEAD);
}

/* The block to write next: its last copy has ended. */
static struct cuda_block *take_block(struct engine *engine)
{
    const uint32_t half = engine->turn % 2;
    if (!engine->error && engine->turn >= 2) {
        engine->error = accel_fence(engine->accel, EVENT_BLOCK + half, timeout_us(engine));
    }
    return &engine->blocks[half];
}

/* The logits of the rows that want them. */
static int run_head(struct engine *engine)
{
    engine->logits_in = false;
    if (engine->batch.logit_rows == 0) {
        return 0;
    }
    accel_tune(engine->accel); /* Of a shape seen before, it costs a look-up. */
    const int error = cuda_put_head(&engine->model, &engine->batch, LANES_CUDA_HEAD);
    (void)accel_tuned(engine->accel);
    return error;
}

/* Until all that was put on the lanes has ended. */
static int fence(struct engine *engine)
{
    const int error = accel_record(engine->accel, EVENT_DONE, LANES_CUDA_HEAD);
    return error ? error : accel_fence(engine->accel, EVENT_DONE, timeout_us(engine));
}

/* Embedding and layers, one call after the other. */
static int put_layers(struct engine *engine)
{
    const int error = cuda_put_embed(&engine->model, &engine->batch, LANES_CUDA_HEAD);
    return error ? error : lanes_cuda_put(&engine->lanes, &engine->model, &engine->batch);
}

/* Puts the layers on the lanes once for the times of products that are new to them, and in every
 * type because a kernel is loaded when it is first launched: not within a capture. x is garbage
 * then, and the keys and values that this appends are written again. *all: none is left. Ranks do
 * not meet meanwhile: one may have times to take where another knows all. */
static int time_products(struct engine *engine, bool *all)
{
    engine->batch.apart = true;
    accel_tune(engine->accel);
    const int error = put_layers(engine);
    engine->batch.apart = false;
    *all = accel_tuned(engine->accel);
    return error;
}

static struct graph_entry *find_graph(struct engine *engine)
{
    struct graph_entry *entry = engine->graphs;
    const struct cuda_batch *batch = &engine->batch;
    while (entry < engine->graphs + engine->graph_count &&
           (entry->plan_hash != batch->plan->hash || entry->bucket != batch->bucket)) {
        entry++;
    }
    return entry;
}

static int capture_layers(struct engine *engine, struct graph_entry *entry)
{
    int error = accel_capture(engine->accel, LANES_CUDA_HEAD);
    error = error ? error : put_layers(engine);
    error = error ? error : accel_captured(engine->accel, LANES_CUDA_HEAD, &entry->graph);
    if (!error) {
        entry->plan_hash = engine->batch.plan->hash;
        entry->bucket = engine->batch.bucket;
        engine->graph_count++;
    }
    return error;
}

/* A graph is not made before all of its products were timed: it would keep what they had. */
static int run_layers(struct engine *engine)
{
    struct graph_entry *entry = find_graph(engine);
    const bool full = entry == engine->graphs + GRAPHS_MAX;
    bool timed = true;
    int error = 0;
    if (full || !entry->graph) {
        error = full ? 0 : time_products(engine, &timed);
        if (error || full || engine->lanes.timed || !timed) {
            return error ? error : put_layers(engine);
        }
        error = capture_layers(engine, entry);
    }
    return error ? error : accel_replay(engine->accel, entry->graph, LANES_CUDA_HEAD);
}

/* Of the nth call of engine_choose(), from 0. */
static uint32_t event_begun(uint32_t nth)
{
    return EVENT_BEGUN + nth % ENGINE_AHEAD_MAX;
}

static uint32_t event_chosen(uint32_t nth)
{
    return EVENT_CHOSEN + nth % (ENGINE_AHEAD_MAX + 1);
}

void engine_run(struct engine *engine, const struct engine_batch *batch)
{
    struct cuda_batch *shape = &engine->batch;
    const struct cuda_block *block = take_block(engine);
    shape->plan = batch->plan;
    lanes_cuda_assign(&engine->lanes, batch->plan, shape->lane);
    batch_cuda_fill(shape, block, &engine->model, batch, &engine->options);
    const struct accel_copy copy = {engine->model.block.valid, block->valid, shape->block_bytes};
    int error = engine->error;
    error =
        error ? error : accel_record(engine->accel, event_begun(engine->chosen), LANES_CUDA_HEAD);
    error = error ? error : send_block(engine, &copy, 1);
    error = error ? error : run_layers(engine);
    engine->error = error ? error : run_head(engine);
}

const char *engine_failure(const struct engine *engine)
{
    if (!engine->error || engine->error == -ECANCELED) {
        return NULL;
    }
    const char *why = accel_failure(engine->accel);
    if (!why[0] && engine->error == -ETIMEDOUT) {
        why = "a step did not end within workers.step_timeout_ms";
    }
    return why[0] ? why : strerror(-engine->error);
}

void engine_wait(struct engine *engine)
{
    engine->error = engine->error ? engine->error : fence(engine);
}

const float *engine_logits(struct engine *engine, uint32_t index)
{
    const size_t vocab = engine->model.hparams.vocab;
    const struct accel_copy copy = {engine->logits, engine->model.logits,
                                    engine->batch.logit_rows * vocab * sizeof(float)};
    must(index < engine->batch.logit_rows);
    if (!engine->logits_in && !engine->error) {
        engine->error = accel_copy(engine->accel, LANES_CUDA_HEAD, &copy, 1);
        engine_wait(engine);
        engine->logits_in = true;
    }
    return engine->logits + index * vocab;
}

void engine_choose(struct engine *engine, const struct engine_choice *choices, uint32_t count,
                   struct sample_result *results)
{
    const uint32_t nth = engine->chosen++;
    struct pick_cuda_call *call = &engine->pick.calls[nth % ENGINE_AHEAD_MAX];
    must(count <= engine->batch.logit_rows && nth - engine->taken < ENGINE_AHEAD_MAX);
    call->count = count;
    call->out = results;
    int error = engine->error;
    error = error ? error
                  : pick_cuda_put(&engine->pick, &engine->model, LANES_CUDA_HEAD, call, choices);
    engine->error = error ? error : accel_record(engine->accel, event_chosen(nth), LANES_CUDA_HEAD);
    if (nth == engine->taken) {
        engine->since_us = clock_now_us();
    }
}

/* What is left of a step's time to the first that was not taken. */
static uint64_t left_us(const struct engine *engine)
{
    const uint64_t spent_us = clock_now_us() - engine->since_us;
    return spent_us < timeout_us(engine) ? timeout_us(engine) - spent_us : 0;
}

void engine_take(struct engine *engine)
{
    const uint32_t nth = engine->taken++;
    must(nth != engine->chosen);
    if (!engine->error) {
        engine->error = accel_fence(engine->accel, event_chosen(nth), left_us(engine));
    }
    if (!engine->error) {
        pick_cuda_take(&engine->pick.calls[nth % ENGINE_AHEAD_MAX]);
    }
    engine->since_us = clock_now_us();
}

bool engine_busy(struct engine *engine)
{
    if (engine->error || engine->taken == engine->chosen || left_us(engine) == 0) {
        return false;
    }
    const int error = accel_fence(engine->accel, event_chosen(engine->taken), 0);
    engine->error = error == -ETIMEDOUT ? 0 : error;
    return error == -ETIMEDOUT;
}

uint64_t engine_idle_us(struct engine *engine)
{
    float us = 0;
    must(engine->chosen - engine->taken < ENGINE_AHEAD_MAX);
    if (!engine->error && engine->taken >= 2) {
        engine->error = accel_elapsed_us(engine->accel, event_chosen(engine->taken - 2),
                                         event_begun(engine->taken - 1), &us);
    }
    return us > 0 ? (uint64_t)us : 0;
}

/* The list of wanted tokens is all that the head reads of the block. */
void engine_head(struct engine *engine, const uint32_t *tokens, uint32_t count)
{
    const struct cuda_block *block = take_block(engine);
    const struct cuda_block *to = &engine->model.block;
    batch_cuda_head(&engine->batch, block, tokens, count, engine->options.rows_max);
    const struct accel_copy copies[] = {
        {to->logit_rows, block->logit_rows, sizeof *block->logit_rows},
        {to->logit_token, block->logit_token, count * sizeof *block->logit_token}};
    const int error = engine->error ? engine->error : send_block(engine, copies, 2);
    engine->error = error ? error : run_head(engine);
}

static int launch_copy(const void *args, struct CUstream_st *stream)
{
    return cuda_kv_pages_copy(args, stream);
}

/* Some pairs at a time: of all layers' pages, then of which tokens they hold. */
void engine_copy_pages(struct engine *engine, const uint32_t *sources, const uint32_t *targets,
                       uint32_t count)
{
    const struct cuda_model *model = &engine->model;
    for (uint32_t done = 0; done < count && !engine->error;) {
        struct cuda_kv_pages_copy_args args = {.pool = model->pool,
                                               .layers = model->hparams.layers,
                                               .layer_bytes =
                                                   model->device_pages * model->page_bytes,
                                               .page_bytes = model->page_bytes};
        while (done < count && args.count < CUDA_KV_PAGES_PAIRS_MAX) {
            must(sources[done] < model->device_pages && targets[done] < model->device_pages);
            args.source[args.count] = sources[done];
            args.target[args.count++] = targets[done++];
        }
        engine->error =
            accel_launch(engine->accel, LANES_CUDA_HEAD, launch_copy, &args, sizeof args);
        args.pool = model->history;
        args.layers = 1;
        args.page_bytes = model->page_tokens * sizeof *model->history;
        if (!engine->error) {
            engine->error =
                accel_launch(engine->accel, LANES_CUDA_HEAD, launch_copy, &args, sizeof args);
        }
    }
}

static_assert(sizeof(struct cuda_kv_pages_copy_args) <= ACCEL_ARGS_BYTES_MAX, "it is launched");

const struct hparams *engine_hparams(const struct engine *engine)
{
    return &engine->model.hparams;
}

uint64_t engine_weight_bytes(const struct engine *engine)
{
    return engine->weight_bytes;
}

uint64_t engine_kv_bytes(const struct engine *engine)
{
    return engine->kv_bytes;
}

static_assert(ACCEL_SHARING_CUT == 0 && ACCEL_SHARING_HINTS == 1 && ACCEL_SHARING_ONE == 2,
              "the numbers of record_ready");

uint32_t engine_sharing(const struct engine *engine)
{
    struct accel_info info;
    accel_info(engine->accel, &info);
    return info.sharing;
}

void engine_device(const struct engine *engine, struct plankey *key)
{
    struct accel_info info;
    accel_info(engine->accel, &info);
    (void)snprintf(key->device, sizeof key->device, "%s", info.name);
    (void)snprintf(key->library, sizeof key->library, "%s", info.libraries);
    (void)snprintf(key->kernels, sizeof key->kernels, "%s", kern_cuda_version());
    key->units = info.units;
}

void engine_take_profile(struct engine *engine, struct engine_profile *out)
{
    *out = (struct engine_profile){0};
    if (engine->lanes.timed && !engine->error) {
        engine->error = lanes_cuda_spent(&engine->lanes, engine->batch.plan, out->operation_ns);
    }
}
