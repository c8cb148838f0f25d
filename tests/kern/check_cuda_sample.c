/*
 * check_cuda_sample.c - the sampler on the device against the CPU's (workers/sample.c): from the
 * same logits the same ids, bit for bit, whatever the parameters; logprobs within rounding. Then
 * Pearson's chi-square on its draws, with samplers that are wrong by a little. Runs in the process
 * of check_cuda.c. Invariant: every round has rows of all kinds in one launch.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cuda/sample_cuda.h"
#include "kernels/ref/ref.h"
#include "tests/kern/check_cuda.h"
#include "workers/sample.h"

enum { ROUNDS = 40, ROWS_MAX = 12, PAGE_TOKENS = 16, PAGES = 40, BIASES = 24, ALLOWED = 9 };

/* A batch in both spellings: params and rows of the CPU, slots and rows of the device. */
struct batch {
    uint32_t vocab;
    uint32_t stride;
    uint32_t rows;
    float *logits;
    uint32_t *history;
    uint32_t *pages; /* [rows][PAGES] */
    struct sample_params params[ROWS_MAX];
    uint32_t position[ROWS_MAX];
    uint32_t judged[ROWS_MAX]; /* An id, or UINT32_MAX. */
    struct record_bias biases[ROWS_MAX][BIASES];
    uint32_t allowed[ROWS_MAX][ALLOWED];
};

static float between(struct check_random *random, float least, float most)
{
    return least + (most - least) * (float)check_between(random, 0, 1000) / 1000;
}

static void fill_logits(struct check_random *random, struct batch *batch)
{
    const uint32_t kind = check_between(random, 0, 4);
    batch->logits = check_floats(random, CHECK_FILL_UNIT, (size_t)batch->rows * batch->stride);
    for (size_t i = 0; i < (size_t)batch->rows * batch->stride; i++) {
        const float unit = batch->logits[i];
        const float by_kind[] = {12 * unit, roundf(5 * unit), 1e-3f * unit, 300 * unit, -0.5f};
        batch->logits[i] = by_kind[kind];
    }
}

static void fill_adjust(struct check_random *random, struct batch *batch, uint32_t row)
{
    struct sample_params *params = &batch->params[row];
    const uint32_t last = batch->vocab - 1;
    params->adjust = (struct adjust){
        .active = true,
        .prompt_tokens = check_between(random, 0, batch->position[row]),
        .repetition = check_between(random, 0, 1) ? 1 : between(random, 0.5f, 2),
        .presence = check_between(random, 0, 1) ? 0 : between(random, -2, 2),
        .frequency = check_between(random, 0, 1) ? 0 : between(random, -2, 2),
        .biases = batch->biases[row],
        .allowed = batch->allowed[row],
        .allowed_count = check_between(random, 0, 2) ? 0 : check_between(random, 1, ALLOWED),
    };
    const uint32_t finite = check_between(random, 0, last < BIASES / 2 ? last : BIASES / 2);
    for (uint32_t i = 0; i < finite; i++) { /* Distinct ids, then ones that are out. */
        batch->biases[row][i] = (struct record_bias){last - i, between(random, -9, 9)};
    }
    params->adjust.bias_count = finite + check_between(random, 0, last < 3 ? 0 : BIASES / 4);
    for (uint32_t i = finite; i < params->adjust.bias_count; i++) {
        batch->biases[row][i] = (struct record_bias){check_between(random, 0, last), -INFINITY};
    }
    for (uint32_t i = 0; i < ALLOWED; i++) {
        batch->allowed[row][i] = check_between(random, 0, last);
    }
}

static void fill_params(struct check_random *random, struct batch *batch, uint32_t row)
{
    static const float tops[] = {1, 1, 0.9f, 0.5f, 1e-6f, 0, 0.99999994f};
    struct sample_params *params = &batch->params[row];
    const uint32_t top_ks[] = {
        0, 0, 1, 2, check_between(random, 1, batch->vocab), batch->vocab, batch->vocab + 7};
    *params = (struct sample_params){
        .seed = random->seed * 0x9e3779b97f4a7c15u + row,
        .temperature = check_between(random, 0, 4) == 0 ? 0 : between(random, 0.1f, 3),
        .top_p = tops[check_between(random, 0, 6)],
        .min_p = check_between(random, 0, 2) ? 0 : between(random, 0, 1),
        .top_k = top_ks[check_between(random, 0, 6)],
        .logprobs = check_between(random, 0, 1) == 1,
        .top_logprobs = check_between(random, 0, LIMIT_TOP_LOGPROBS_MAX),
        .score_top = check_between(random, 0, 3),
        .min_position = check_between(random, 0, 1) ? 0 : UINT32_MAX,
        .stop_id_count = check_between(random, 0, SAMPLE_STOP_IDS_MAX),
    };
    if (check_between(random, 0, 9) == 0) {
        params->temperature = 1e-40f;
    }
    for (uint32_t i = 0; i < params->stop_id_count; i++) {
        params->stop_ids[i] = check_between(random, 0, batch->vocab - 1);
    }
    if (check_between(random, 0, 1)) {
        fill_adjust(random, batch, row);
    }
}

static void fill_batch(struct check_random *random, struct batch *batch, uint32_t vocab)
{
    batch->vocab = vocab;
    batch->stride = vocab + check_between(random, 0, 3);
    batch->rows = check_between(random, 1, vocab > 5000 ? 3 : ROWS_MAX);
    fill_logits(random, batch);
    batch->history = check_alloc(PAGES * PAGE_TOKENS * sizeof *batch->history);
    batch->pages = check_alloc((size_t)batch->rows * PAGES * sizeof *batch->pages);
    for (uint32_t i = 0; i < PAGES * PAGE_TOKENS; i++) {
        const uint32_t few = vocab < 20 ? vocab - 1 : 19;
        batch->history[i] = check_between(random, 0, i % 3 ? few : vocab - 1);
    }
    for (uint32_t row = 0; row < batch->rows; row++) {
        for (uint32_t i = 0; i < PAGES; i++) {
            batch->pages[row * PAGES + i] = check_between(random, 0, PAGES - 1);
        }
        batch->position[row] = check_between(random, 1, PAGES * PAGE_TOKENS);
        batch->judged[row] =
            check_between(random, 0, 5) ? UINT32_MAX : check_between(random, 0, vocab - 1);
        fill_params(random, batch, row);
        if (check_between(random, 0, 7) == 0) {
            static const float odd[] = {NAN, INFINITY, -INFINITY};
            batch->logits[(size_t)row * batch->stride + check_between(random, 0, vocab - 1)] =
                odd[check_between(random, 0, 2)];
        }
    }
}

/* kern_ops.logits with a sum in double: that of ref/ is 1e-4 off in a large vocabulary. */
static void exact_logits(const struct kern_logits_args *args)
{
    struct kern_softmax_stats stats = {.max = args->logits[0], .finite = true};
    double sum = 0;
    for (uint32_t i = 0; i < args->vocab; i++) {
        stats.finite = stats.finite && isfinite(args->logits[i]);
        if (args->logits[i] > stats.max) {
            stats.max = args->logits[i];
            stats.argmax = i;
        }
    }
    for (uint32_t i = 0; i < args->vocab && stats.finite; i++) {
        sum += exp((double)args->logits[i] - (double)stats.max);
    }
    stats.sum = (float)sum;
    *args->stats = stats;
}

static struct sample_result run_cpu(const struct batch *batch, uint32_t row)
{
    const struct kern_ops ops = {.logits = exact_logits, .odds = ref_odds};
    void *work = calloc(1, sample_work_bytes(batch->vocab));
    assert_non_null(work);
    const struct history history = {batch->history, PAGE_TOKENS};
    const struct sample_row sample = {
        .logits = batch->logits + (size_t)row * batch->stride,
        .vocab = batch->vocab,
        .position = batch->position[row],
        .params = &batch->params[row],
        .past = {&history, batch->pages + row * (size_t)PAGES, batch->position[row]},
        .ops = &ops,
        .work = work};
    struct sample_result result;
    if (batch->judged[row] != UINT32_MAX) {
        sample_score(&sample, batch->judged[row], &result);
    } else {
        sample_run(&sample, &result);
    }
    free(work);
    return result;
}

static struct cuda_sample_slot slot_of(const struct sample_params *params, uint32_t row)
{
    struct cuda_sample_slot slot = {.seed = params->seed,
                                    .temperature = params->temperature,
                                    .reach = sample_reach(params),
                                    .top_p = params->top_p,
                                    .top_k = params->top_k,
                                    .logprobs = params->logprobs,
                                    .top_logprobs = params->top_logprobs,
                                    .score_top = params->score_top,
                                    .min_position = params->min_position,
                                    .stop_id_count = params->stop_id_count,
                                    .adjusts = params->adjust.active,
                                    .prompt_tokens = params->adjust.prompt_tokens,
                                    .repetition = params->adjust.repetition,
                                    .presence = params->adjust.presence,
                                    .frequency = params->adjust.frequency,
                                    .bias_first = row * BIASES,
                                    .bias_count = params->adjust.bias_count,
                                    .allowed_first = row * ALLOWED,
                                    .allowed_count = params->adjust.allowed_count};
    memcpy(slot.stop_ids, params->stop_ids, sizeof slot.stop_ids);
    return slot;
}

/* What the device is given and what it gives. Slot i has row i, the other way round. */
struct device {
    struct cuda_sample_slot slots[ROWS_MAX];
    struct cuda_sample_row rows[ROWS_MAX];
    struct cuda_sample_result results[ROWS_MAX];
    struct cuda_sample_top tops[ROWS_MAX][LIMIT_TOP_LOGPROBS_MAX];
    uint32_t last[ROWS_MAX];
    uint32_t *work;
    size_t work_bytes;
};

static void run_device(struct check_cuda *check, const struct batch *batch, struct device *device)
{
    const uint32_t ctas = check->ctas ? check->ctas : 2;
    memset(device, 0xff, sizeof *device);
    device->work_bytes = ctas * cuda_sample_work_bytes(batch->vocab);
    device->work = calloc(1, device->work_bytes);
    assert_non_null(device->work);
    for (uint32_t row = 0; row < batch->rows; row++) {
        const uint32_t slot = batch->rows - 1 - row;
        const bool judges = batch->judged[row] != UINT32_MAX;
        device->slots[slot] = slot_of(&batch->params[row], row);
        device->rows[row] = (struct cuda_sample_row){
            slot, row, batch->position[row], row * PAGES, judges, judges ? batch->judged[row] : 0};
    }
    const struct cuda_sample_args args = {
        .logits = batch->logits,
        .rows = device->rows,
        .row_count = &batch->rows,
        .slots = device->slots,
        .biases = (const struct cuda_sample_bias *)(const void *)batch->biases,
        .allowed = &batch->allowed[0][0],
        .history = batch->history,
        .pages = batch->pages,
        .last_ids = device->last,
        .results = device->results,
        .tops = device->tops[0],
        .work = device->work,
        .vocab = batch->vocab,
        .stride = batch->stride,
        .page_tokens = PAGE_TOKENS,
        .rows_max = ROWS_MAX,
        .ctas = ctas};
    assert_int_equal(cuda_sample(&args, check->stream), 0);
}

static void expect_logprob(float got, float want)
{
    if (!(fabsf(got - want) <= 2e-6f * (1 + fabsf(want)))) {
        fail_msg("logprob %.9g, want %.9g", (double)got, (double)want);
    }
}

static void expect_row(const struct batch *batch, const struct device *device, uint32_t row)
{
    const struct sample_result want = run_cpu(batch, row);
    const struct cuda_sample_result *got = &device->results[row];
    const bool judges = batch->judged[row] != UINT32_MAX;
    assert_int_equal(got->invalid, want.invalid);
    assert_int_equal(got->id, want.invalid ? 0 : want.id);
    assert_int_equal(device->last[row], judges ? UINT32_MAX : got->id);
    assert_int_equal(got->top_count, want.logprob_count > 0 ? want.logprob_count - 1 : 0);
    if (want.logprob_count > 0) {
        expect_logprob(got->logprob, want.logprobs[0].logprob);
    }
    for (uint32_t i = 0; i < got->top_count; i++) {
        assert_int_equal(device->tops[row][i].id, want.logprobs[1 + i].id);
        expect_logprob(device->tops[row][i].logprob, want.logprobs[1 + i].logprob);
    }
}

static void sample_round(struct check_cuda *check)
{
    static const uint32_t vocabs[] = {2, 3, 33, 300, 2047, 2049, 5000};
    const uint32_t odd = check->random.seed < 2 ? 151936 : 32003;
    const uint32_t vocab = check->random.seed % 8 < 2 ? odd : vocabs[check->random.seed % 7];
    struct batch batch = {0};
    struct device *device = check_alloc(sizeof *device);
    fill_batch(&check->random, &batch, vocab);
    run_device(check, &batch, device);
    check_cuda_result(check, device->results, sizeof device->results);
    check_cuda_result(check, device->tops, sizeof device->tops);
    for (uint32_t row = 0; row < batch.rows; row++) {
        expect_row(&batch, device, row);
    }
    for (size_t i = 0; i < device->work_bytes / 4; i += 2 * (size_t)vocab) {
        for (size_t id = 0; id < vocab; id++) { /* The counts are left as they were. */
            assert_int_equal(device->work[i + vocab + id], 0);
        }
    }
    free(device->work);
    free(device);
    free(batch.logits);
    free(batch.history);
    free(batch.pages);
}

void check_cuda_sample(void **state)
{
    (void)state;
    check_cuda_schedules(sample_round, ROUNDS);
}
