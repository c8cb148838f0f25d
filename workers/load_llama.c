/*
 * load_llama.c - see load_llama.h. Runs on a worker's main thread and, for the packing, on the
 * crew; owns the row buffers while it runs.
 *
 * The work is a flat list of units: each layer's matrices slice by slice, then the head's slices,
 * then, unless it is tied to the head, the embedding in blocks of rows. A unit reads its rows from
 * the file as float, then packs or narrows them. Invariant: no two units write the same bytes.
 */
#include "workers/load_llama.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/bf16.h"

enum {
    SLICE_BYTES = 512 << 10, /* Aim: large against a call, small against a thread's cache. */
    BLOCK_COLUMNS = 64,      /* The products' own block: packed weights are padded to it. */
    FEW_SLICES = 4,          /* A thread. */
    EMBED_BLOCK_ROWS = 256,
};

/* The tensors that a matrix stacks, in the order of its rows; of each its expert's part. */
static const struct {
    enum weight_role role[3];
    uint32_t count;
} stacks[LLAMA_MATRICES] = {
    [LLAMA_QKV] = {{WEIGHT_Q, WEIGHT_K, WEIGHT_V}, 3},
    [LLAMA_OUTPUT] = {{WEIGHT_O}, 1},
    [LLAMA_GATE_UP] = {{WEIGHT_GATE, WEIGHT_UP}, 2},
    [LLAMA_DOWN] = {{WEIGHT_DOWN}, 1},
    [LLAMA_ROUTER] = {{WEIGHT_ROUTER}, 1},
    [LLAMA_HEAD] = {{WEIGHT_HEAD}, 1},
};

/* The choice of experts and of the next token are left as exact as the dtype is. */
static enum matmul_weights packing_of(const struct llama *llama, enum llama_matrix matrix)
{
    return matrix == LLAMA_ROUTER || matrix == LLAMA_HEAD ? MATMUL_WEIGHTS_DTYPE : llama->packing;
}

/*
 * Slices of a matrix: equal shares for the threads when they are few; when they are many, claims
 * balance them, and whole blocks of columns save the padding of packed weights.
 */
static uint32_t slices_wanted(const struct llama *llama, enum llama_matrix matrix)
{
    const uint32_t rows = llama_matrix_rows(llama, matrix);
    const uint32_t cols = llama_matrix_cols(&llama->hparams, matrix);
    const uint64_t threads = crew_threads(llama->crew);
    const uint64_t bytes = (uint64_t)rows * cols * kern_dtype_bytes(llama->dtype);
    const uint64_t each = bytes / (SLICE_BYTES * threads);
    const uint64_t most = (rows - 1) / BLOCK_COLUMNS + 1;
    uint64_t slices = threads * (each > 0 ? each : 1);
    if (slices > FEW_SLICES * threads) {
        const uint64_t columns = (rows / slices / BLOCK_COLUMNS + 1) * BLOCK_COLUMNS;
        slices = (rows - 1) / columns + 1;
    }
    return (uint32_t)(slices < most ? slices : most);
}

int llama_shapes_open(struct llama *llama, uint32_t tokens_max, uint32_t rows_max)
{
    for (enum llama_matrix matrix = 0; matrix < LLAMA_MATRICES; matrix++) {
        const struct matmul_options options = {
            .n = llama_matrix_rows(llama, matrix),
            .k = llama_matrix_cols(&llama->hparams, matrix),
            .slices = slices_wanted(llama, matrix),
            .rows_max = matrix == LLAMA_HEAD ? rows_max : tokens_max,
            .dtype = llama->dtype,
            .weights = packing_of(llama, matrix),
        };
        if (llama_matrix_count(&llama->hparams, matrix) == 0) {
            continue;
        }
        const int error = matmul_shape_open(&llama->shape[matrix], &options);
        if (error) {
            return error;
        }
    }
    return 0;
}

struct load {
    struct llama *llama;
    const struct weights *weights;
    uint32_t layer_units; /* Slices of one layer's matrices. */
    size_t rows_floats;   /* Of one thread's row buffer. */
    float *rows;          /* [threads][rows_floats] */
    _Atomic int error;    /* The last one; any ends the load. */
};

/* A slice of one matrix. */
struct place {
    enum llama_matrix matrix;
    uint32_t layer; /* 0 for the head. */
    uint32_t nth;   /* Of the layer's matrices of that kind: the expert. */
    uint32_t slice;
};

/* Rows [first, first + count) of the rank's part of a stacked matrix. */
static void read_stack(const struct load *load, const struct place *place, uint32_t first,
                       uint32_t count, float *out)
{
    const struct hparams *hparams = &load->llama->hparams;
    const enum llama_matrix matrix = place->matrix;
    const size_t cols = llama_matrix_cols(hparams, matrix);
    for (uint32_t i = 0; i < stacks[matrix].count && count > 0; i++) {
        const enum weight_role role = stacks[matrix].role[i];
        const uint32_t all =
            weights_rows(load->weights, role) / llama_matrix_count(hparams, matrix);
        const struct span part = shard_rows(&load->llama->shard, hparams, role);
        if (first >= part.count) {
            first -= part.count;
            continue;
        }
        const uint32_t here = count < part.count - first ? count : part.count - first;
        weights_read(load->weights, role, place->layer, place->nth * all + part.first + first, here,
                     out);
        out += here * cols;
        count -= here;
        first = 0;
    }
    must(count == 0);
}

/* The head's rows are the embedding's, and this rank has all of them. */
static bool head_is_embed(const struct llama *llama)
{
    return llama->hparams.tied_embeddings && llama->shard.ranks == 1;
}

static void store_embed(struct llama *llama, uint32_t first, uint32_t count, const float *rows)
{
    const size_t hidden = llama->hparams.hidden;
    if (llama->dtype == KERN_F32) {
        memcpy((float *)llama->embed + first * hidden, rows, count * hidden * sizeof *rows);
        return;
    }
    uint16_t *out = (uint16_t *)llama->embed + first * hidden;
    for (size_t i = 0; i < count * hidden; i++) {
        out[i] = bf16_from_float(rows[i]);
    }
}

static void load_slice(struct load *load, const struct place *place, float *rows)
{
    struct llama *llama = load->llama;
    const enum llama_matrix matrix = place->matrix;
    const struct matmul_shape *shape = llama->shape[matrix];
    const uint32_t first = matmul_slice_first(shape, place->slice);
    const uint32_t count = matmul_slice_count(shape, place->slice);
    read_stack(load, place, first, count, rows);
    struct matmul_weight *weight =
        matrix == LLAMA_HEAD ? llama->head : llama->layers[place->layer].matrix[matrix][place->nth];
    const int error = matmul_weight_pack(weight, place->slice, rows);
    if (error) {
        atomic_store_explicit(&load->error, error, memory_order_relaxed); /* Read after the job. */
    }
    if (matrix == LLAMA_HEAD && head_is_embed(llama)) {
        store_embed(llama, first, count, rows);
    }
}

static void load_embed_block(struct load *load, uint32_t block, float *rows)
{
    const uint32_t vocab = load->llama->hparams.vocab;
    const uint32_t first = block * EMBED_BLOCK_ROWS;
    const uint32_t rest = vocab - first;
    const uint32_t count = rest < EMBED_BLOCK_ROWS ? rest : EMBED_BLOCK_ROWS;
    weights_read(load->weights, WEIGHT_EMBED, 0, first, count, rows);
    store_embed(load->llama, first, count, rows);
}

/* Slices of all matrices of a kind that one layer has. */
static uint32_t matrix_units(const struct llama *llama, enum llama_matrix matrix)
{
    const uint32_t count = llama_matrix_count(&llama->hparams, matrix);
    return count > 0 ? count * matmul_shape_slices(llama->shape[matrix]) : 0;
}

static void load_unit(struct load *load, uint32_t unit, float *rows)
{
    const struct llama *llama = load->llama;
    const uint32_t layer = unit / load->layer_units;
    if (layer < llama->hparams.layers) {
        struct place place = {.layer = layer, .slice = unit % load->layer_units};
        uint32_t all;
        while (place.slice >= (all = matrix_units(llama, place.matrix))) {
            place.slice -= all;
            place.matrix++;
        }
        const uint32_t slices = matmul_shape_slices(llama->shape[place.matrix]);
        place.nth = place.slice / slices;
        place.slice %= slices;
        load_slice(load, &place, rows);
        return;
    }
    const uint32_t rest = unit - llama->hparams.layers * load->layer_units;
    const uint32_t head_slices = matmul_shape_slices(llama->shape[LLAMA_HEAD]);
    if (rest < head_slices) {
        const struct place place = {.matrix = LLAMA_HEAD, .slice = rest};
        load_slice(load, &place, rows);
    } else {
        load_embed_block(load, rest - head_slices, rows);
    }
}

static void run_load(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    struct load *load = context;
    for (uint32_t unit = first; unit < first + count; unit++) {
        load_unit(load, unit, load->rows + thread * load->rows_floats);
    }
}

/* Reads a norm or a bias to *next, which moves on; NULL where the family has none. */
static float *load_vector(const struct weights *weights, enum weight_role role, uint32_t layer,
                          float **next)
{
    float *vector = *next;
    if (!weights_has(weights, role)) {
        return NULL;
    }
    weights_read(weights, role, layer, 0, 1, vector);
    *next += weights_cols(weights, role);
    return vector;
}

/* The rank's entries of a bias, likewise; `whole` has room for all of them. */
static float *load_bias(const struct load *load, enum weight_role role, uint32_t layer,
                        float *whole, float **next)
{
    float *vector = *next;
    if (!weights_has(load->weights, role)) {
        return NULL;
    }
    const struct span part = shard_rows(&load->llama->shard, &load->llama->hparams, role);
    weights_read(load->weights, role, layer, 0, 1, whole);
    memcpy(vector, whole + part.first, part.count * sizeof *vector);
    *next += part.count;
    return vector;
}

static int load_vectors(const struct load *load)
{
    struct llama *llama = load->llama;
    const struct weights *weights = load->weights;
    float *next = llama->vectors;
    float *whole = calloc((size_t)llama->hparams.heads * llama->hparams.head_dim, sizeof *whole);
    if (!whole) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < llama->hparams.layers; i++) {
        struct llama_layer *layer = &llama->layers[i];
        layer->attention_norm = load_vector(weights, WEIGHT_ATTN_NORM, i, &next);
        layer->ffn_norm = load_vector(weights, WEIGHT_FFN_NORM, i, &next);
        layer->bias = load_bias(load, WEIGHT_Q_BIAS, i, whole, &next); /* The others follow it. */
        (void)load_bias(load, WEIGHT_K_BIAS, i, whole, &next);
        (void)load_bias(load, WEIGHT_V_BIAS, i, whole, &next);
        layer->q_norm = load_vector(weights, WEIGHT_Q_NORM, i, &next);
        layer->k_norm = load_vector(weights, WEIGHT_K_NORM, i, &next);
    }
    llama->final_norm = load_vector(weights, WEIGHT_OUTPUT_NORM, 0, &next);
    must(next == llama->vectors + llama_vector_floats(llama));
    free(whole);
    return 0;
}

uint32_t llama_layer_weights(const struct hparams *hparams)
{
    uint32_t count = 0;
    for (enum llama_matrix i = 0; i < LLAMA_LAYER_MATRICES; i++) {
        count += llama_matrix_count(hparams, i);
    }
    return count;
}

static int open_matrices(struct llama *llama)
{
    struct matmul_weight **next = llama->weights;
    int error = matmul_weight_open(&llama->head, llama->shape[LLAMA_HEAD]);
    for (uint32_t layer = 0; layer < llama->hparams.layers; layer++) {
        for (enum llama_matrix i = 0; i < LLAMA_LAYER_MATRICES; i++) {
            llama->layers[layer].matrix[i] = next;
            next += llama_matrix_count(&llama->hparams, i);
            for (struct matmul_weight **at = llama->layers[layer].matrix[i]; at < next; at++) {
                error = error ? error : matmul_weight_open(at, llama->shape[i]);
            }
        }
    }
    return error;
}

/* Largest unit of all kinds. */
static size_t row_buffer_floats(const struct llama *llama)
{
    size_t most = (size_t)EMBED_BLOCK_ROWS * llama->hparams.hidden;
    for (enum llama_matrix matrix = 0; matrix < LLAMA_MATRICES; matrix++) {
        const struct matmul_shape *shape = llama->shape[matrix];
        for (uint32_t slice = 0; shape && slice < matmul_shape_slices(shape); slice++) {
            const size_t floats = (size_t)matmul_slice_count(shape, slice) *
                                  llama_matrix_cols(&llama->hparams, matrix);
            most = floats > most ? floats : most;
        }
    }
    return most;
}

int llama_load(struct llama *llama, const struct weights *weights)
{
    struct load load = {
        .llama = llama, .weights = weights, .rows_floats = row_buffer_floats(llama)};
    int error = open_matrices(llama);
    error = error ? error : load_vectors(&load);
    if (error) {
        return error;
    }
    load.rows = calloc(crew_threads(llama->crew), load.rows_floats * sizeof *load.rows);
    if (!load.rows) {
        return -ENOMEM;
    }
    for (enum llama_matrix i = 0; i < LLAMA_LAYER_MATRICES; i++) {
        load.layer_units += matrix_units(llama, i);
    }
    const uint32_t embed_blocks = (llama->hparams.vocab - 1) / EMBED_BLOCK_ROWS + 1;
    const struct crew_job job = {
        .run = run_load,
        .context = &load,
        .units = llama->hparams.layers * load.layer_units +
                 matmul_shape_slices(llama->shape[LLAMA_HEAD]) +
                 (head_is_embed(llama) ? 0 : embed_blocks),
        .grain = 1,
    };
    crew_run(llama->crew, &job);
    free(load.rows);
    return atomic_load_explicit(&load.error, memory_order_relaxed);
}

void llama_unload(struct llama *llama)
{
    const size_t weights = (size_t)llama->hparams.layers * llama_layer_weights(&llama->hparams);
    for (size_t i = 0; llama->weights && i < weights; i++) {
        matmul_weight_close(llama->weights[i]);
    }
    matmul_weight_close(llama->head);
    for (enum llama_matrix i = 0; i < LLAMA_MATRICES; i++) {
        matmul_shape_close(llama->shape[i]);
    }
}

uint64_t llama_weight_bytes(const struct llama *llama)
{
    const struct hparams *hparams = &llama->hparams;
    uint64_t bytes = matmul_weight_bytes(llama->head) +
                     (uint64_t)hparams->vocab * hparams->hidden * kern_dtype_bytes(llama->dtype) +
                     llama_vector_floats(llama) * sizeof(float);
    for (size_t i = 0; i < (size_t)hparams->layers * llama_layer_weights(hparams); i++) {
        bytes += matmul_weight_bytes(llama->weights[i]);
    }
    return bytes;
}
