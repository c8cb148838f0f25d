/*
 * matmul_onednn.c - products through oneDNN 2.6; the only file that includes dnnl.h. A worker opens
 * shapes and packs weights at start; its threads then call matmul_run() on different slices at one
 * time. A shape owns primitives, a weight its packed memory.
 *
 * A call is cut along m into blocks that have a primitive: always 8 rows in float; in bf16 64, and
 * for the rest the smallest of the others that holds it, so that weights stream once for it: its
 * last rows are whatever stands there. With one primitive for every row, a float row goes through
 * the same instructions whatever m is: that is the invariant behind "the same tokens". The
 * library's fast path wants a dense result, so a block lands in scratch, and the copy out of it
 * does the addition of `accumulate`. With eight-bit weights a block of x is brought to eight bits
 * in scratch first, by each slice anew: that costs a few percent of a slice's product and saves a
 * barrier of all threads; the library shifts it to unsigned and compensates where VNNI wants it.
 *
 * Zen 5, one thread, K = 576, N = 1536, weights hot in cache, unlike a model's: 517 GFLOP/s in bf16
 * from 64 rows on, 235 in float, 100 GB/s for one row (2026-11-21; others: docs/benchmarks.md).
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include "kernels/matmul.h"

enum {
    MATMUL_BLOCK_ROWS_MAX = 64,
    MATMUL_BLOCKS = 9,
    MATMUL_F32_ROWS = 8,     /* 90 % of the rate of large blocks, 1.8 times the time of one row. */
    MATMUL_ROWS_STEP = 16,   /* A tile of AMX. */
    MATMUL_COLUMN_STEP = 16, /* A vector: slices begin on its multiples. */
    MATMUL_SLICES_MAX = 256,
    MATMUL_ALIGN = 64,
};

static const uint32_t block_rows[MATMUL_BLOCKS] = {
    1, 2, 4, MATMUL_F32_ROWS, 16, 24, 32, 48, MATMUL_BLOCK_ROWS_MAX,
};

struct product { /* One primitive, and the layouts it wants. */
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t x;
    dnnl_memory_desc_t y;
    dnnl_memory_desc_t scratch;
};

/* Products of one slice width: all slices but the last have the same. */
struct width {
    uint32_t columns; /* 0: not there. */
    dnnl_memory_desc_t weight;
    struct product products[MATMUL_BLOCKS];
};

struct matmul_shape {
    struct matmul_options options;
    struct kern_ops ops; /* For eight bits. */
    dnnl_engine_t engine;
    dnnl_stream_t stream; /* Without state on the CPU: shared by all threads. */
    uint32_t slices;
    uint32_t columns; /* Of every slice but the last. */
    struct width widths[2];
    size_t scratchpad_bytes; /* Largest that a primitive wants. */
};

struct matmul_weight {
    const struct matmul_shape *shape;
    uint8_t *base; /* Slices one after the other, each aligned. */
    size_t bytes;
    size_t slice_bytes; /* Of every slice but the last. */
    float *scales;      /* [n] behind the slices, of eight-bit weights. */
};

static size_t aligned(size_t bytes)
{
    return (bytes + MATMUL_ALIGN - 1) & ~(size_t)(MATMUL_ALIGN - 1);
}

static bool is_int8(const struct matmul_shape *shape)
{
    return shape->options.weights == MATMUL_WEIGHTS_INT8;
}

/* A float row's bits depend on the number of rows of its primitive. */
static bool is_float(const struct matmul_shape *shape)
{
    return !is_int8(shape) && shape->options.dtype == KERN_F32;
}

/* Of x and W as the library sees them. */
static dnnl_data_type_t factor_type(const struct matmul_shape *shape)
{
    return is_int8(shape) ? dnnl_s8 : is_float(shape) ? dnnl_f32 : dnnl_bf16;
}

static int code_of(dnnl_status_t status)
{
    return status == dnnl_success ? 0 : status == dnnl_out_of_memory ? -ENOMEM : -ENOTSUP;
}

/* The library's layout for weights is the first product's; later ones must agree with it. */
static int open_product(struct matmul_shape *shape, struct width *width, uint32_t rows,
                        struct product *product)
{
    const dnnl_data_type_t type = factor_type(shape);
    const dnnl_data_type_t sum_type = is_int8(shape) ? dnnl_s32 : dnnl_f32;
    const dnnl_dims_t x_dims = {rows, shape->options.k};
    const dnnl_dims_t w_dims = {shape->options.k, width->columns};
    const dnnl_dims_t y_dims = {rows, width->columns};
    const bool first = width->weight.ndims == 0;
    dnnl_memory_desc_t weight = width->weight;
    dnnl_matmul_desc_t operation;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&product->x, 2, x_dims, type, dnnl_ab);
    status =
        status ? status : dnnl_memory_desc_init_by_tag(&product->y, 2, y_dims, sum_type, dnnl_ab);
    if (!status && first) {
        status = dnnl_memory_desc_init_by_tag(&weight, 2, w_dims, type, dnnl_format_tag_any);
    }
    status = status ? status
                    : dnnl_matmul_desc_init(&operation, &product->x, &weight, NULL, &product->y);
    status = status ? status : dnnl_primitive_attr_create(&attributes);
    status = status
                 ? status
                 : dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    status = status ? status
                    : dnnl_primitive_desc_create(&description, &operation, attributes,
                                                 shape->engine, NULL);
    status = status ? status : dnnl_primitive_create(&product->primitive, description);
    if (!status) {
        width->weight = *dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0);
        product->scratch = *dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
        const size_t bytes = dnnl_memory_desc_get_size(&product->scratch);
        shape->scratchpad_bytes = bytes > shape->scratchpad_bytes ? bytes : shape->scratchpad_bytes;
    }
    (void)dnnl_primitive_desc_destroy(description);
    (void)dnnl_primitive_attr_destroy(attributes);
    return code_of(status);
}

/* Largest rows first: their layout is the one that matters. */
static int open_width(struct matmul_shape *shape, struct width *width, uint32_t columns)
{
    width->columns = columns;
    for (uint32_t i = MATMUL_BLOCKS; i-- > 0;) {
        const uint32_t rows = block_rows[i];
        if (is_float(shape) && rows != MATMUL_F32_ROWS) {
            continue;
        }
        const int code = open_product(shape, width, rows, &width->products[i]);
        if (code) {
            return code;
        }
    }
    return 0;
}

static void cut_columns(struct matmul_shape *shape)
{
    const uint32_t n = shape->options.n;
    uint32_t wanted = shape->options.slices ? shape->options.slices : 1;
    wanted = wanted < MATMUL_SLICES_MAX ? wanted : MATMUL_SLICES_MAX;
    const uint32_t each = (n + wanted - 1) / wanted;
    shape->columns = (each + MATMUL_COLUMN_STEP - 1) / MATMUL_COLUMN_STEP * MATMUL_COLUMN_STEP;
    shape->slices = (n + shape->columns - 1) / shape->columns;
}

void matmul_library(char name[MATMUL_LIBRARY_BYTES_MAX])
{
    const dnnl_version_t *version = dnnl_version();
    (void)snprintf(name, MATMUL_LIBRARY_BYTES_MAX, "oneDNN %d.%d.%d", version->major,
                   version->minor, version->patch);
}

int matmul_shape_open(struct matmul_shape **out, const struct matmul_options *options)
{
    must(options->n > 0 && options->k > 0 && options->rows_max > 0);
    const unsigned isa = kern_isa_detect();
    const bool narrow = (isa & KERN_ISA_AVX512_VNNI) && options->k <= MATMUL_INT8_K_MAX;
    if (options->weights == MATMUL_WEIGHTS_FP8 ||
        (options->weights == MATMUL_WEIGHTS_INT8 && !narrow)) {
        return -ENOTSUP;
    }
    struct matmul_shape *shape = calloc(1, sizeof *shape);
    if (!shape) {
        return -ENOMEM;
    }
    omp_set_num_threads(1);
    shape->options = *options;
    kern_ops_init(&shape->ops, isa);
    cut_columns(shape);
    int code = code_of(dnnl_engine_create(&shape->engine, dnnl_cpu, 0));
    code =
        code
            ? code
            : code_of(dnnl_stream_create(&shape->stream, shape->engine, dnnl_stream_default_flags));
    const uint32_t last = matmul_slice_count(shape, shape->slices - 1);
    code = code ? code : open_width(shape, &shape->widths[0], matmul_slice_count(shape, 0));
    if (!code && last != shape->widths[0].columns) {
        code = open_width(shape, &shape->widths[1], last);
    }
    if (code) {
        matmul_shape_close(shape);
        return code;
    }
    *out = shape;
    return 0;
}

void matmul_shape_close(struct matmul_shape *shape)
{
    if (!shape) {
        return;
    }
    for (uint32_t i = 0; i < 2 * MATMUL_BLOCKS; i++) {
        dnnl_primitive_t primitive =
            shape->widths[i / MATMUL_BLOCKS].products[i % MATMUL_BLOCKS].primitive;
        if (primitive) {
            (void)dnnl_primitive_destroy(primitive);
        }
    }
    (void)dnnl_stream_destroy(shape->stream);
    (void)dnnl_engine_destroy(shape->engine);
    free(shape);
}

uint32_t matmul_shape_slices(const struct matmul_shape *shape)
{
    return shape->slices;
}

/* Index of the block for the next rows of m: the smallest that holds them, else the largest. */
static uint32_t block_of(const struct matmul_shape *shape, uint32_t m)
{
    const uint32_t wanted = is_float(shape) ? MATMUL_F32_ROWS : m;
    uint32_t block = 0;
    while (block + 1 < MATMUL_BLOCKS && block_rows[block] < wanted) {
        block++;
    }
    return block;
}

uint32_t matmul_rows_padded(const struct matmul_shape *shape, uint32_t m)
{
    uint32_t padded = 0;
    while (padded < m) {
        padded += block_rows[block_of(shape, m - padded)];
    }
    return padded;
}

uint32_t matmul_rows_step(const struct matmul_shape *shape)
{
    return is_float(shape) ? MATMUL_F32_ROWS : MATMUL_ROWS_STEP;
}

uint32_t matmul_slice_first(const struct matmul_shape *shape, uint32_t slice)
{
    return slice * shape->columns;
}

uint32_t matmul_slice_count(const struct matmul_shape *shape, uint32_t slice)
{
    const uint32_t left = shape->options.n - slice * shape->columns;
    return left < shape->columns ? left : shape->columns;
}

/* One block of results, float or integer. */
static size_t result_bytes(const struct matmul_shape *shape)
{
    static_assert(sizeof(float) == sizeof(int32_t), "either fits");
    return aligned(MATMUL_BLOCK_ROWS_MAX * (size_t)shape->columns * sizeof(float));
}

/* [the library's scratchpad][results][eight bits: one block of x][its scales] */
size_t matmul_scratch_bytes(const struct matmul_shape *shape)
{
    const size_t common = aligned(shape->scratchpad_bytes) + result_bytes(shape);
    const size_t block = MATMUL_BLOCK_ROWS_MAX * (size_t)shape->options.k;
    return is_int8(shape) ? common + aligned(block) + aligned(MATMUL_BLOCK_ROWS_MAX * sizeof(float))
                          : common;
}

static const struct width *width_of(const struct matmul_shape *shape, uint32_t slice)
{
    return &shape->widths[matmul_slice_count(shape, slice) != shape->widths[0].columns];
}

int matmul_weight_open(struct matmul_weight **out, const struct matmul_shape *shape)
{
    struct matmul_weight *weight = calloc(1, sizeof *weight);
    if (!weight) {
        return -ENOMEM;
    }
    weight->shape = shape;
    weight->slice_bytes = aligned(dnnl_memory_desc_get_size(&shape->widths[0].weight));
    const size_t slices_bytes = weight->slice_bytes * shape->slices;
    weight->bytes = slices_bytes + (is_int8(shape) ? shape->options.n * sizeof(float) : 0);
    void *base =
        mmap(NULL, weight->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        free(weight);
        return -ENOMEM;
    }
    (void)madvise(base, weight->bytes, MADV_HUGEPAGE); /* An advice: 4 KiB pages work too. */
    weight->base = base;
    weight->scales = is_int8(shape) ? (float *)(weight->base + slices_bytes) : NULL;
    *out = weight;
    return 0;
}

void matmul_weight_close(struct matmul_weight *weight)
{
    if (weight) {
        must(munmap(weight->base, weight->bytes) == 0);
        free(weight);
    }
}

size_t matmul_weight_bytes(const struct matmul_weight *weight)
{
    return weight->bytes;
}

/* Rows of a slice, [columns][k] of type, into the library's layout. */
static int reorder_slice(struct matmul_weight *weight, uint32_t slice, dnnl_data_type_t type,
                         const void *rows)
{
    const struct matmul_shape *shape = weight->shape;
    const struct width *width = width_of(shape, slice);
    const dnnl_dims_t dims = {shape->options.k, width->columns};
    dnnl_memory_desc_t plain;
    dnnl_memory_t from = NULL;
    dnnl_memory_t to = NULL;
    dnnl_primitive_desc_t description = NULL;
    dnnl_primitive_t reorder = NULL;
    omp_set_num_threads(1);
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&plain, 2, dims, type, dnnl_ba);
    status =
        status ? status : dnnl_memory_create(&from, &plain, shape->engine, (void *)(uintptr_t)rows);
    status = status ? status
                    : dnnl_memory_create(&to, &width->weight, shape->engine,
                                         weight->base + slice * weight->slice_bytes);
    status = status ? status
                    : dnnl_reorder_primitive_desc_create(&description, &plain, shape->engine,
                                                         &width->weight, shape->engine, NULL);
    status = status ? status : dnnl_primitive_create(&reorder, description);
    if (!status) {
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
        status = dnnl_primitive_execute(reorder, shape->stream, 2, args);
    }
    (void)dnnl_primitive_destroy(reorder);
    (void)dnnl_primitive_desc_destroy(description);
    (void)dnnl_memory_destroy(from);
    (void)dnnl_memory_destroy(to);
    return code_of(status);
}

int matmul_weight_pack(struct matmul_weight *weight, uint32_t slice, const float *rows)
{
    const struct matmul_shape *shape = weight->shape;
    const uint32_t columns = matmul_slice_count(shape, slice);
    if (!is_int8(shape)) {
        return reorder_slice(weight, slice, dnnl_f32, rows);
    }
    int8_t *q = malloc((size_t)columns * shape->options.k);
    if (!q) {
        return -ENOMEM;
    }
    const struct kern_quantise_args args = {.x = rows,
                                            .q = q,
                                            .scale =
                                                weight->scales + matmul_slice_first(shape, slice),
                                            .cols = shape->options.k,
                                            .dtype = KERN_F32};
    shape->ops.quantise(&args, 0, columns);
    const int code = reorder_slice(weight, slice, dnnl_s8, q);
    free(q);
    return code;
}

/* One block of rows into result [rows][columns]. The four memory objects cost 0.5 us a call,
 * against 15 ns for pointing kept ones elsewhere: those would have to be each thread's own. */
static void run_block(const struct matmul_shape *shape, const struct product *product,
                      const struct width *width, const void *const handles[4])
{
    const dnnl_memory_desc_t *const layouts[4] = {&product->x, &width->weight, &product->y,
                                                  &product->scratch};
    static const int names[4] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
    dnnl_exec_arg_t args[4];
    for (int i = 0; i < 4; i++) {
        args[i].arg = names[i];
        must(dnnl_memory_create(&args[i].memory, layouts[i], shape->engine,
                                (void *)(uintptr_t)handles[i]) == dnnl_success);
    }
    must(dnnl_primitive_execute(product->primitive, shape->stream, 4, args) == dnnl_success);
    for (int i = 0; i < 4; i++) {
        must(dnnl_memory_destroy(args[i].memory) == dnnl_success);
    }
}

/* What matmul_scratch_bytes() is made of. */
struct scratch {
    void *library;
    void *result;
    int8_t *rows;
    float *scales;
};

static struct scratch scratch_of(const struct matmul_shape *shape, void *base)
{
    uint8_t *result = (uint8_t *)base + aligned(shape->scratchpad_bytes);
    uint8_t *rows = result + result_bytes(shape);
    uint8_t *scales = rows + aligned(MATMUL_BLOCK_ROWS_MAX * (size_t)shape->options.k);
    return is_int8(shape) ? (struct scratch){base, result, (int8_t *)rows, (float *)scales}
                          : (struct scratch){.library = base, .result = result};
}

/* Rows of x as the library takes them. */
static const void *rows_in(const struct matmul_args *args, const struct scratch *scratch,
                           uint32_t row, uint32_t rows)
{
    const struct matmul_shape *shape = args->weight->shape;
    const size_t row_bytes = shape->options.k * kern_dtype_bytes(shape->options.dtype);
    const uint8_t *x = (const uint8_t *)args->x + row * row_bytes;
    if (!is_int8(shape)) {
        return x;
    }
    const struct kern_quantise_args quantise = {.x = x,
                                                .q = scratch->rows,
                                                .scale = scratch->scales,
                                                .cols = shape->options.k,
                                                .dtype = shape->options.dtype};
    shape->ops.quantise(&quantise, 0, rows);
    return scratch->rows;
}

/* A block [rows][columns] of float to its place in y. */
static void copy_out(const struct matmul_args *args, float *y, uint32_t rows, uint32_t columns,
                     const float *result)
{
    const size_t n = args->weight->shape->options.n;
    for (size_t r = 0; r < rows; r++, y += n) {
        const float *from = result + r * columns;
        if (args->accumulate) {
            for (size_t c = 0; c < columns; c++) {
                y[c] += from[c];
            }
        } else {
            memcpy(y, from, columns * sizeof *y);
        }
    }
}

static void rows_out(const struct matmul_args *args, const struct scratch *scratch, uint32_t row,
                     uint32_t rows, uint32_t slice)
{
    const struct matmul_shape *shape = args->weight->shape;
    const uint32_t column = matmul_slice_first(shape, slice);
    const uint32_t columns = matmul_slice_count(shape, slice);
    float *y = args->y + (size_t)row * shape->options.n + column;
    if (!is_int8(shape)) {
        copy_out(args, y, rows, columns, scratch->result);
        return;
    }
    const struct kern_rescale_args rescale = {.sum = scratch->result,
                                              .row_scale = scratch->scales,
                                              .column_scale = args->weight->scales + column,
                                              .y = y,
                                              .y_stride = shape->options.n,
                                              .cols = columns,
                                              .accumulate = args->accumulate};
    shape->ops.rescale(&rescale, 0, rows);
}

void matmul_run(const struct matmul_args *args, uint32_t slice)
{
    const struct matmul_weight *weight = args->weight;
    const struct matmul_shape *shape = weight->shape;
    const struct width *width = width_of(shape, slice);
    const struct scratch scratch = scratch_of(shape, args->scratch);
    must(args->m > 0 && args->m <= shape->options.rows_max);
    omp_set_num_threads(1); /* Of the calling thread: a product never starts a team of its own. */
    for (uint32_t row = 0; row < args->m;) {
        const uint32_t left = args->m - row;
        const uint32_t block = block_of(shape, left);
        const uint32_t rows = left < block_rows[block] ? left : block_rows[block];
        const void *const handles[4] = {rows_in(args, &scratch, row, rows),
                                        weight->base + slice * weight->slice_bytes, scratch.result,
                                        scratch.library};
        run_block(shape, &width->products[block], width, handles);
        rows_out(args, &scratch, row, rows, slice);
        row += rows;
    }
}
