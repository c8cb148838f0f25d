/*
 * load_cuda.c - see load_cuda.h. Runs on a worker's main thread and, for reading and narrowing, on
 * the crew; owns the row buffers while it runs.
 *
 * A tensor goes to the device in blocks of rows through two halves of pinned memory: while one is
 * being copied the crew fills the other. Invariant: a half is written only after the fence of its
 * last copy.
 */
#include "workers/load_cuda.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/bf16.h"
#include "kernels/e4m3.h"
#include "workers/carve.h"

enum {
    HALF_BYTES = 16 << 20,      /* Of pinned memory: a copy long enough for full speed. */
    CHUNK_FLOATS = 16 << 10,    /* Of a thread: fits its cache. */
    COPY_TIMEOUT_US = 10000000, /* Of one half: far beyond any bus. */
};

struct load {
    struct cuda_model *model;
    const struct weights *weights;
    struct crew *crew;
    float *rows; /* [threads][chunk_floats] */
    size_t chunk_floats;
    uint8_t *halves; /* host, pinned: two of half_bytes */
    size_t half_bytes;
    uint32_t turn;
};

/* Rows of one tensor, and where they go: as `dtype` [rows][kept columns], or, with scales, as e4m3
 * whose greatest of a row is 448. */
struct piece {
    enum weight_role role;
    uint32_t layer;
    uint32_t first;
    uint32_t rows;
    struct span kept; /* Columns: all of a matrix, the rank's of a vector. */
    enum kern_dtype dtype;
    uint8_t *to;
    float *scale; /* [rows] or NULL */
};

/* A block of a piece on its way: the job's context. */
struct block {
    const struct load *load;
    const struct piece *piece;
    uint32_t first; /* Row of the piece. */
    uint32_t chunk; /* Rows of a unit. */
    uint32_t rows;
    uint8_t *half; /* The rows; behind them their scales. */
};

static size_t row_bytes(const struct piece *piece)
{
    return piece->kept.count * (piece->scale ? 1 : kern_dtype_bytes(piece->dtype));
}

static float *scales_of(const struct block *block)
{
    return (float *)(block->half + block->rows * row_bytes(block->piece));
}

/* A row of the block in bytes. */
static void store_bytes(const struct block *block, size_t row, const float *values)
{
    const size_t count = block->piece->kept.count;
    uint8_t *to = block->half + row * count;
    float largest = 0;
    for (size_t i = 0; i < count; i++) {
        largest = fmaxf(largest, fabsf(values[i]));
    }
    const float inverse = e4m3_inverse(largest);
    for (size_t i = 0; i < count; i++) {
        to[i] = e4m3_from_float(values[i] * inverse);
    }
    scales_of(block)[row] = e4m3_scale(largest);
}

/* Rows [begin, begin + count) of the block, as read. */
static void store_rows(const struct block *block, size_t begin, size_t count, const float *rows)
{
    const struct piece *piece = block->piece;
    const size_t cols = weights_cols(block->load->weights, piece->role);
    const size_t kept = piece->kept.count;
    for (size_t row = 0; row < count; row++) {
        const float *values = rows + row * cols + piece->kept.first;
        if (piece->scale) {
            store_bytes(block, begin + row, values);
            continue;
        }
        for (size_t i = 0; i < kept; i++) {
            act_store(block->half, (begin + row) * kept + i, values[i], piece->dtype);
        }
    }
}

static void run_block(void *context, uint32_t first, uint32_t count, uint32_t thread)
{
    const struct block *block = context;
    const struct piece *piece = block->piece;
    const struct weights *weights = block->load->weights;
    float *rows = block->load->rows + thread * block->load->chunk_floats;
    for (uint32_t unit = first; unit < first + count; unit++) {
        const uint32_t begin = unit * block->chunk;
        const uint32_t rest = block->rows - begin;
        const uint32_t here = rest < block->chunk ? rest : block->chunk;
        weights_read(weights, piece->role, piece->layer, piece->first + block->first + begin, here,
                     rows);
        store_rows(block, begin, here, rows);
    }
}

/* What is in the half of this turn goes to the device. */
static int send_half(struct load *load, void *to, size_t bytes)
{
    struct accel *accel = load->model->accel;
    const uint32_t half = load->turn++ % 2;
    const struct accel_copy copy = {to, load->halves + half * load->half_bytes, bytes};
    const int error = accel_copy(accel, 0, &copy, 1);
    return error ? error : accel_record(accel, half, 0);
}

/* The half of this turn, free to be written. */
static int take_half(struct load *load, uint8_t **out)
{
    const uint32_t half = load->turn % 2;
    *out = load->halves + half * load->half_bytes;
    return load->turn < 2 ? 0 : accel_fence(load->model->accel, half, COPY_TIMEOUT_US);
}

/* Before the half is sent: then its fence stands for them, too. */
static int send_scales(struct load *load, const struct block *block)
{
    float *to = block->piece->scale;
    if (!to) {
        return 0;
    }
    const struct accel_copy copy = {to + block->first, scales_of(block), block->rows * sizeof *to};
    return accel_copy(load->model->accel, 0, &copy, 1);
}

static int load_piece(struct load *load, const struct piece *piece)
{
    const size_t cols = weights_cols(load->weights, piece->role);
    const size_t bytes = row_bytes(piece);
    const uint32_t most = (uint32_t)(load->half_bytes / (bytes + sizeof *piece->scale));
    int error = 0;
    for (uint32_t first = 0; first < piece->rows && !error; first += most) {
        const uint32_t rest = piece->rows - first;
        struct block block = {.load = load,
                              .piece = piece,
                              .first = first,
                              .chunk = (uint32_t)(load->chunk_floats / cols),
                              .rows = rest < most ? rest : most};
        const struct crew_job job = {.run = run_block,
                                     .context = &block,
                                     .units = (block.rows - 1) / block.chunk + 1,
                                     .grain = 1};
        error = take_half(load, &block.half);
        if (!error) {
            crew_run(load->crew, &job);
            error = send_scales(load, &block);
            error = error ? error : send_half(load, piece->to + first * bytes, block.rows * bytes);
        }
    }
    return error;
}

/* The rank's rows of a role, or of one of its experts, to the next place of a stack. */
static int load_part(struct load *load, enum weight_role role, uint32_t layer, uint32_t expert,
                     struct cuda_matrix *to)
{
    const struct hparams *hparams = &load->model->hparams;
    const bool shared = role != WEIGHT_GATE && role != WEIGHT_UP && role != WEIGHT_DOWN;
    const uint32_t parts = hparams->experts > 0 && !shared ? hparams->experts : 1;
    const uint32_t rows = weights_rows(load->weights, role) / parts;
    const uint32_t cols = weights_cols(load->weights, role);
    const struct span own = role == WEIGHT_EMBED ? (struct span){0, rows}
                                                 : shard_rows(&load->model->shard, hparams, role);
    const struct piece piece = {.role = role,
                                .layer = layer,
                                .first = expert * rows + own.first,
                                .rows = own.count,
                                .kept = {0, cols},
                                .dtype = load->model->dtype,
                                .to = to->w,
                                .scale = to->scale};
    to->w = piece.to + own.count * row_bytes(&piece);
    to->scale = to->scale ? to->scale + own.count : NULL;
    return load_piece(load, &piece);
}

/* A norm or a bias, to *to if it is there: 0 floats where the family has none. */
static int load_vector(struct load *load, enum weight_role role, uint32_t layer, float *to)
{
    const struct piece piece = {.role = role,
                                .layer = layer,
                                .rows = 1,
                                .kept = {0, weights_cols(load->weights, role)},
                                .dtype = KERN_F32,
                                .to = (uint8_t *)to};
    return to ? load_piece(load, &piece) : 0;
}

/* The rank's entries of a bias. */
static int load_bias(struct load *load, enum weight_role role, uint32_t layer, float **to)
{
    const struct span own = shard_rows(&load->model->shard, &load->model->hparams, role);
    const struct piece piece = {.role = role,
                                .layer = layer,
                                .rows = 1,
                                .kept = own,
                                .dtype = KERN_F32,
                                .to = (uint8_t *)*to};
    *to += own.count;
    return load_piece(load, &piece);
}

static int load_vectors(struct load *load, uint32_t layer)
{
    const struct cuda_layer *at = &load->model->layers[layer];
    float *bias = at->bias;
    int error = load_vector(load, WEIGHT_ATTN_NORM, layer, at->attention_norm);
    error = error ? error : load_vector(load, WEIGHT_FFN_NORM, layer, at->ffn_norm);
    error = error ? error : load_vector(load, WEIGHT_Q_NORM, layer, at->q_norm);
    error = error ? error : load_vector(load, WEIGHT_K_NORM, layer, at->k_norm);
    if (bias) {
        error = error ? error : load_bias(load, WEIGHT_Q_BIAS, layer, &bias);
        error = error ? error : load_bias(load, WEIGHT_K_BIAS, layer, &bias);
        error = error ? error : load_bias(load, WEIGHT_V_BIAS, layer, &bias);
    }
    return error;
}

static int load_layer(struct load *load, uint32_t layer)
{
    const struct cuda_layer *at = &load->model->layers[layer];
    const uint32_t experts = load->model->hparams.experts;
    struct cuda_matrix qkv = at->qkv;
    struct cuda_matrix output = at->output;
    struct cuda_matrix gate_up = at->gate_up;
    struct cuda_matrix down = at->down;
    struct cuda_matrix router = {.w = at->router};
    int error = load_vectors(load, layer);
    error = error ? error : load_part(load, WEIGHT_Q, layer, 0, &qkv);
    error = error ? error : load_part(load, WEIGHT_K, layer, 0, &qkv);
    error = error ? error : load_part(load, WEIGHT_V, layer, 0, &qkv);
    error = error ? error : load_part(load, WEIGHT_O, layer, 0, &output);
    if (at->router) {
        error = error ? error : load_part(load, WEIGHT_ROUTER, layer, 0, &router);
    }
    for (uint32_t expert = 0; expert < (experts > 0 ? experts : 1) && !error; expert++) {
        error = load_part(load, WEIGHT_GATE, layer, expert, &gate_up);
        error = error ? error : load_part(load, WEIGHT_UP, layer, expert, &gate_up);
        error = error ? error : load_part(load, WEIGHT_DOWN, layer, expert, &down);
    }
    return error;
}

static int load_rope(struct load *load, uint32_t positions)
{
    const struct cuda_model *model = load->model;
    const size_t row_bytes = model->hparams.rope_dim / 2 * sizeof(float);
    const uint32_t most = (uint32_t)(load->half_bytes / (2 * row_bytes));
    int error = 0;
    for (uint32_t first = 0; first < positions && !error; first += most) {
        const uint32_t rest = positions - first;
        const uint32_t count = rest < most ? rest : most;
        uint8_t *half;
        error = take_half(load, &half);
        if (error) {
            break;
        }
        uint8_t *sine = half + count * row_bytes;
        hparams_rope_table(&model->hparams, first, count, (float *)half, (float *)sine);
        const struct accel_copy copy = {(uint8_t *)model->sine + first * row_bytes, sine,
                                        count * row_bytes};
        error = accel_copy(model->accel, 0, &copy, 1);
        error = error ? error
                      : send_half(load, (uint8_t *)model->cosine + first * row_bytes,
                                  count * row_bytes);
    }
    return error;
}

/* Keys and values in e4m3 count for what they are: it holds 2^-9 to 448, and models' numbers lie in
 * between. */
static int load_kv_scale(struct load *load)
{
    const struct cuda_model *model = load->model;
    const uint32_t count = 2 * model->shard.kv_heads.count;
    uint8_t *half;
    const int error = take_half(load, &half);
    if (error) {
        return error;
    }
    for (uint32_t i = 0; i < count; i++) {
        ((float *)half)[i] = 1;
    }
    return send_half(load, model->kv_scale, count * sizeof *model->kv_scale);
}

static int load_all(struct load *load, uint32_t positions)
{
    struct cuda_model *model = load->model;
    struct cuda_matrix embed = {.w = model->embed};
    struct cuda_matrix head = {.w = model->head};
    int error = load_rope(load, positions);
    if (model->kv_scale) {
        error = error ? error : load_kv_scale(load);
    }
    error = error ? error : load_vector(load, WEIGHT_OUTPUT_NORM, 0, model->final_norm);
    error = error ? error : load_part(load, WEIGHT_EMBED, 0, 0, &embed);
    if (!model->hparams.tied_embeddings) {
        error = error ? error : load_part(load, WEIGHT_HEAD, 0, 0, &head);
    }
    for (uint32_t layer = 0; layer < model->hparams.layers && !error; layer++) {
        error = load_layer(load, layer);
    }
    for (uint32_t half = 0; half < 2 && !error; half++) {
        error = accel_fence(model->accel, half, COPY_TIMEOUT_US);
    }
    return error;
}

static struct cuda_matrix lay_out_matrix(const struct cuda_model *model, uint64_t rows,
                                         uint32_t columns, struct carve *from)
{
    const bool bytes = model->weights == MATMUL_WEIGHTS_FP8;
    const size_t cell_bytes = bytes ? 1 : kern_dtype_bytes(model->dtype);
    return (struct cuda_matrix){.w = carve(from, rows, columns * cell_bytes),
                                .scale = carve(from, bytes ? rows : 0, sizeof(float))};
}

static void lay_out_layer(const struct cuda_model *model, struct cuda_layer *layer,
                          struct carve *from)
{
    const struct hparams *hparams = &model->hparams;
    const size_t act = kern_dtype_bytes(model->dtype);
    const size_t hidden = hparams->hidden;
    const size_t qkv = cuda_own_qkv_columns(model);
    const uint64_t own_hidden = model->shard.hidden.count;
    const uint64_t experts = hparams->experts > 0 ? hparams->experts : 1;
    const size_t norms = hparams->family->qk_norm ? hparams->head_dim : 0;
    *layer = (struct cuda_layer){
        .attention_norm = carve(from, hidden, sizeof(float)),
        .ffn_norm = carve(from, hidden, sizeof(float)),
        .bias = carve(from, hparams->family->qkv_bias ? qkv : 0, sizeof(float)),
        .q_norm = carve(from, norms, sizeof(float)),
        .k_norm = carve(from, norms, sizeof(float)),
        .qkv = lay_out_matrix(model, qkv, hparams->hidden, from),
        .output = lay_out_matrix(model, own_hidden, cuda_q_columns(hparams), from),
        .gate_up =
            lay_out_matrix(model, 2 * experts * model->shard.ffn.count, hparams->hidden, from),
        .down = lay_out_matrix(model, experts * own_hidden, hparams->ffn, from),
        .router = carve(from, hparams->experts, hidden * act),
    };
}

static void lay_out(struct cuda_model *model, uint32_t positions, struct carve *from)
{
    const struct hparams *hparams = &model->hparams;
    const size_t row_bytes = hparams->hidden * kern_dtype_bytes(model->dtype);
    const size_t half_rope = hparams->rope_dim / 2;
    const size_t heads = model->shard.kv_heads.count;
    for (uint32_t layer = 0; layer < hparams->layers; layer++) {
        lay_out_layer(model, &model->layers[layer], from);
    }
    model->final_norm = carve(from, hparams->hidden, sizeof(float));
    model->cosine = carve(from, positions, half_rope * sizeof(float));
    model->sine = carve(from, positions, half_rope * sizeof(float));
    model->kv_scale = carve(from, model->kv == ENGINE_KV_E4M3 ? 2 * heads : 0, sizeof(float));
    model->embed = carve(from, hparams->vocab, row_bytes);
    if (!hparams->tied_embeddings) {
        model->head = carve(from, model->shard.vocab.count, row_bytes);
    } else if (model->embed) {
        model->head = (uint8_t *)model->embed + model->shard.vocab.first * row_bytes;
    }
}

uint64_t load_cuda_bytes(struct cuda_model *model, uint32_t positions)
{
    struct carve count = {0};
    lay_out(model, positions, &count);
    return count.bytes;
}

/* At least a row of the widest matrix in each buffer. */
static int open_buffers(struct load *load)
{
    const struct hparams *hparams = &load->model->hparams;
    size_t widest = hparams->hidden > hparams->ffn ? hparams->hidden : hparams->ffn;
    const size_t q = cuda_q_columns(hparams);
    widest = q > widest ? q : widest;
    load->chunk_floats = widest > CHUNK_FLOATS ? widest : CHUNK_FLOATS;
    load->half_bytes = HALF_BYTES;
    must(widest * sizeof(float) <= HALF_BYTES);
    load->rows = calloc(crew_threads(load->crew), load->chunk_floats * sizeof *load->rows);
    return load->rows ? accel_arena(load->model->accel, ACCEL_HOST, 2 * load->half_bytes,
                                    (void **)&load->halves)
                      : -ENOMEM;
}

int load_cuda(struct cuda_model *model, const struct weights *weights, struct crew *crew,
              uint32_t positions)
{
    struct load load = {.model = model, .weights = weights, .crew = crew};
    struct carve place = {0};
    int error = accel_arena(model->accel, ACCEL_DEVICE, load_cuda_bytes(model, positions),
                            (void **)&place.base);
    if (error) {
        return error;
    }
    lay_out(model, positions, &place);
    error = open_buffers(&load);
    error = error ? error : load_all(&load, positions);
    free(load.rows);
    return error;
}
