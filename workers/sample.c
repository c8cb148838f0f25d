/*
 * sample.c - see sample.h. Called by the step on any thread of the crew, one row a call; owns
 * nothing and allocates nothing.
 *
 * Candidates stay in id order all the way: a filter finds the smallest value it keeps (and how many
 * of the equal ones), then drops the rest in place. No sort: the drawn token then depends on the
 * order of ids alone, and a bf16 replay whose logits differ in a last bit still draws the same one
 * nearly always. The cut is found by a radix walk over the bits of the values: three passes,
 * whatever the values are. Odds are integers (choice.h), so that a GPU draws the same token from
 * the same logits.
 */
#include "workers/sample.h"

#include <math.h>
#include <string.h>

#include "base/prng.h"
#include "kernels/choice.h"

enum { RADIX_BITS = 11, RADIX_BINS = 1 << RADIX_BITS, BLOCK = 16 };

struct work {
    uint64_t mass[RADIX_BINS];
    uint32_t count; /* Candidates, in rising id order. */
    uint32_t vocab;
    uint64_t
        arrays[]; /* odds[vocab], then value[vocab], id[vocab], adjusted[vocab], times[vocab] */
};

static uint64_t *odds(struct work *work) /* Of exp((value - max) / temperature), or 1 to count. */
{
    return work->arrays;
}

static float *values(struct work *work)
{
    return (float *)(void *)(work->arrays + work->vocab);
}

static uint32_t *ids(struct work *work)
{
    return (uint32_t *)(void *)(values(work) + work->vocab);
}

static float *adjusted(struct work *work) /* A row's own logits. */
{
    return values(work) + 2 * (size_t)work->vocab;
}

static uint32_t *times(struct work *work) /* Zero between rows. */
{
    return (uint32_t *)(void *)(values(work) + 3 * (size_t)work->vocab);
}

size_t sample_work_bytes(uint32_t vocab)
{
    return sizeof(struct work) + (sizeof(uint64_t) + 4 * sizeof(float)) * vocab;
}

struct cut {
    uint32_t key;   /* Keep what has a smaller key, */
    uint32_t equal; /* and of this key the first so many ids. */
};

/* Adds the odds of the candidates whose key has the bits of prefix above `known`, into bins of
 * the bits [shift, known). */
static void fill_bins(struct work *work, uint32_t prefix, uint32_t known, uint32_t shift)
{
    const uint32_t bins = 1u << (known - shift);
    memset(work->mass, 0, bins * sizeof work->mass[0]);
    for (uint32_t i = 0; i < work->count; i++) {
        const uint32_t key = choice_key(values(work)[i]);
        if ((uint64_t)key >> known == (uint64_t)prefix >> known) {
            work->mass[key >> shift & (bins - 1)] += odds(work)[i];
        }
    }
}

/*
 * The shortest prefix of the candidates in falling order whose odds add up to `want`, which is not
 * more than all of theirs: bins of the key's upper bits, then of the next ones within the bin where
 * the sum is reached.
 */
static struct cut find_cut(struct work *work, uint64_t want)
{
    struct cut cut = {0, 0};
    uint64_t above = 0;  /* Sum over the bins before the chosen one. */
    uint64_t inside = 0; /* Sum within it. */
    uint64_t equal = 0;
    for (uint32_t known = 32, shift; known > 0; known = shift) {
        uint32_t bin = 0;
        shift = known > RADIX_BITS ? known - RADIX_BITS : 0;
        fill_bins(work, cut.key, known, shift);
        while (above + work->mass[bin] < want) {
            above += work->mass[bin++];
        }
        inside = work->mass[bin];
        cut.key |= bin << shift;
    }
    for (uint32_t i = 0; i < work->count; i++) {
        equal += choice_key(values(work)[i]) == cut.key;
    }
    must(equal > 0);
    const uint64_t each = inside / equal; /* Equal values have equal odds. */
    cut.equal = (uint32_t)((want - above + each - 1) / each);
    return cut;
}

static void keep(struct work *work, struct cut cut)
{
    uint32_t kept = 0;
    uint32_t equal = 0;
    for (uint32_t i = 0; i < work->count; i++) {
        const uint32_t key = choice_key(values(work)[i]);
        if (key > cut.key || (key == cut.key && equal++ >= cut.equal)) {
            continue;
        }
        values(work)[kept] = values(work)[i];
        odds(work)[kept] = odds(work)[i];
        ids(work)[kept] = ids(work)[i];
        kept++;
    }
    work->count = kept;
}

/* False when all logits of the block from `first` are below floor: most blocks are skipped so. */
static bool block_reaches(const struct sample_row *row, uint32_t first, float floor)
{
    if (row->vocab - first < BLOCK) {
        return true;
    }
    int reach = 0;
    for (uint32_t i = 0; i < BLOCK; i++) { /* One vector instruction or a few. */
        reach |= row->logits[first + i] >= floor;
    }
    return reach != 0;
}

static uint32_t block_end(const struct sample_row *row, uint32_t first)
{
    return row->vocab - first < BLOCK ? row->vocab : first + BLOCK;
}

/* Fills the candidates with all ids whose logit is at least `floor`. */
static void gather(const struct sample_row *row, float floor, struct work *work)
{
    uint32_t count = 0;
    for (uint32_t first = 0; first < row->vocab; first += BLOCK) {
        const uint32_t end = block_reaches(row, first, floor) ? block_end(row, first) : first;
        for (uint32_t id = first; id < end; id++) {
            if (row->logits[id] >= floor) {
                values(work)[count] = row->logits[id];
                ids(work)[count] = id;
                count++;
            }
        }
    }
    work->count = count;
}

/* The smallest id of the largest logit. */
static uint32_t find_best(const struct sample_row *row)
{
    uint32_t best = 0;
    for (uint32_t first = 0; first < row->vocab; first += BLOCK) {
        const uint32_t end =
            block_reaches(row, first, row->logits[best]) ? block_end(row, first) : first;
        for (uint32_t id = first; id < end; id++) {
            best = row->logits[id] > row->logits[best] ? id : best;
        }
    }
    return best;
}

static uint64_t sum_odds(struct work *work)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < work->count; i++) {
        sum += odds(work)[i];
    }
    return sum;
}

float sample_reach(const struct sample_params *params)
{
    const float depth =
        params->min_p > 0 ? fminf(-logf(params->min_p), CHOICE_NEGLIGIBLE) : CHOICE_NEGLIGIBLE;
    return params->temperature * depth;
}

static void keep_top_k(struct work *work, uint32_t top_k)
{
    for (uint32_t i = 0; i < work->count; i++) {
        odds(work)[i] = 1;
    }
    keep(work, find_cut(work, top_k));
}

static void keep_top_p(struct work *work, float top_p)
{
    const uint64_t want = choice_share(sum_odds(work), (uint32_t)(top_p * 0x1p32f));
    keep(work, find_cut(work, want > 0 ? want : 1)); /* Never none. */
}

/* A value that at least top_k ids reach: as many blocks have their best at or above it. What is
 * below need not be looked at one by one. */
static float top_k_floor(const struct sample_row *row, uint32_t top_k)
{
    struct work *work = row->work;
    float floor = INFINITY;
    work->count = row->vocab / BLOCK;
    if (work->count < top_k) {
        return -INFINITY;
    }
    for (uint32_t i = 0; i < work->count; i++) {
        float best = -INFINITY;
        for (uint32_t id = i * BLOCK; id < (i + 1) * BLOCK; id++) {
            best = row->logits[id] > best ? row->logits[id] : best;
        }
        values(work)[i] = best;
    }
    keep_top_k(work, top_k);
    for (uint32_t i = 0; i < work->count; i++) {
        floor = fminf(floor, values(work)[i]);
    }
    return floor;
}

static uint32_t draw(const struct sample_row *row, float max)
{
    const struct sample_params *params = row->params;
    struct work *work = row->work;
    float floor = max - sample_reach(params);
    if (params->top_k > 0) {
        floor = fmaxf(floor, top_k_floor(row, params->top_k));
    }
    gather(row, floor, work);
    if (params->top_k > 0 && params->top_k < work->count) {
        keep_top_k(work, params->top_k);
    }
    const struct kern_odds_args args = {.values = values(work),
                                        .odds = odds(work),
                                        .max = max,
                                        .coldness = choice_coldness(params->temperature),
                                        .count = work->count};
    row->ops->odds(&args);
    if (params->top_p < 1.0f) {
        keep_top_p(work, params->top_p);
    }
    const uint32_t random = (uint32_t)(prng_bits(params->seed, row->position, 0) >> 32);
    const uint64_t want = choice_share(sum_odds(work), random);
    uint64_t reached = odds(work)[0];
    uint32_t chosen = 0;
    while (reached <= want) {
        reached += odds(work)[++chosen];
    }
    return ids(work)[chosen];
}

/* Puts an id into a falling list that has room for `count`; returns how many it holds then. */
static uint32_t insert(struct record_logprob *top, uint32_t filled, uint32_t count,
                       struct record_logprob entry)
{
    if (filled == count && entry.logprob <= top[count - 1].logprob) {
        return filled;
    }
    uint32_t at = filled < count ? filled : count - 1;
    for (; at > 0 && top[at - 1].logprob < entry.logprob; at--) {
        top[at] = top[at - 1];
    }
    top[at] = entry;
    return filled < count ? filled + 1 : count;
}

/* The `count` largest logits in falling order, smallest id first among equals. */
static void list_top(const struct sample_row *row, uint32_t count, struct record_logprob *top)
{
    uint32_t filled = 0;
    for (uint32_t first = 0; first < row->vocab; first += BLOCK) {
        if (filled == count && !block_reaches(row, first, top[count - 1].logprob)) {
            continue;
        }
        for (uint32_t id = first; id < block_end(row, first); id++) {
            const struct record_logprob entry = {.id = id, .logprob = row->logits[id]};
            filled = insert(top, filled, count, entry);
        }
    }
}

static void add_logprobs(const struct sample_row *row, const struct kern_softmax_stats *stats,
                         uint32_t wanted, struct sample_result *result)
{
    const uint32_t top = wanted < row->vocab ? wanted : row->vocab;
    result->logprobs[0] =
        (struct record_logprob){.id = result->id, .logprob = row->logits[result->id]};
    if (top > 0) {
        list_top(row, top, result->logprobs + 1);
    }
    result->logprob_count = 1 + top;
    const float log_sum = logf(stats->sum);
    for (uint32_t i = 0; i < result->logprob_count; i++) {
        result->logprobs[i].logprob = result->logprobs[i].logprob - stats->max - log_sum;
    }
}

/* Takes the stop ids out; a mask that leaves nothing is none: some token has to come. */
static void mask_stops(const struct sample_row *row, float *logits)
{
    const struct sample_params *params = row->params;
    float kept[SAMPLE_STOP_IDS_MAX];
    for (uint32_t i = 0; i < params->stop_id_count; i++) {
        kept[i] = logits[params->stop_ids[i]];
        logits[params->stop_ids[i]] = -INFINITY;
    }
    if (logits[find_best(row)] > -INFINITY) {
        return;
    }
    for (uint32_t i = params->stop_id_count; i > 0; i--) { /* Backwards: an id may stand twice. */
        logits[params->stop_ids[i - 1]] = kept[i - 1];
    }
}

/* The row as its request wants it, in work memory. Its ids are those of the model when every one
 * has been taken out, which the core does not let happen. */
static struct sample_row adjust_row(const struct sample_row *raw, bool stops_masked)
{
    struct work *work = raw->work;
    struct sample_row row = *raw;
    float *logits = adjusted(work);
    memcpy(logits, raw->logits, raw->vocab * sizeof *logits);
    row.logits = logits;
    if (raw->params->adjust.active) {
        adjust_apply(&raw->params->adjust, &raw->past, times(work), logits, raw->vocab);
    }
    if (stops_masked) {
        mask_stops(&row, logits);
    }
    return logits[find_best(&row)] > -INFINITY ? row : *raw;
}

/* An empty result, with what its row's logits add up to. */
static struct kern_softmax_stats begin(const struct sample_row *row, struct sample_result *result)
{
    struct kern_softmax_stats stats;
    const struct kern_logits_args args = {
        .logits = row->logits, .vocab = row->vocab, .stats = &stats};
    row->ops->logits(&args);
    result->invalid = !stats.finite;
    result->logprob_count = 0;
    result->id = 0;
    return stats;
}

void sample_score(const struct sample_row *row, uint32_t id, struct sample_result *result)
{
    const struct kern_softmax_stats stats = begin(row, result);
    result->id = id;
    if (!result->invalid) {
        add_logprobs(row, &stats, row->params->score_top, result);
    }
}

void sample_run(const struct sample_row *row, struct sample_result *result)
{
    const struct sample_params *params = row->params;
    struct work *work = row->work;
    const struct kern_softmax_stats stats = begin(row, result);
    work->vocab = row->vocab;
    if (result->invalid) {
        return;
    }
    const bool stops_masked = params->stop_id_count > 0 && row->position < params->min_position;
    if (params->adjust.active || stops_masked) {
        const struct sample_row own = adjust_row(row, stops_masked);
        const uint32_t best = find_best(&own);
        result->id = params->temperature > 0 ? draw(&own, own.logits[best]) : best;
    } else {
        result->id = params->temperature > 0 ? draw(row, stats.max) : stats.argmax;
    }
    if (params->logprobs) {
        add_logprobs(row, &stats, params->top_logprobs, result);
    }
}
