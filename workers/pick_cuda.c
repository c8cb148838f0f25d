/*
 * pick_cuda.c - see pick_cuda.h. Called by the engine on a worker's main thread; owns nothing
 * but its places in the arenas. What a call asks is packed, so that the copy is short:
 *
 *   | count | rows | slots | of rows that adjust: block tables, biases, allowed ids |
 *
 * Invariant: everything asked fits, because each row's part does.
 */
#include "workers/pick_cuda.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(struct cuda_sample_bias) == sizeof(struct record_bias), "copied as they are");
static_assert((int)CUDA_SAMPLE_STOP_IDS_MAX == (int)SAMPLE_STOP_IDS_MAX, "likewise");

enum { PACK_ALIGNMENT = 16 };

/* The host's packed block on its way to the device. */
struct pack {
    const struct pick_cuda *pick;
    const struct pick_cuda_call *call;
    size_t bytes;
    struct cuda_sample_args args; /* Device addresses of its parts. */
};

static size_t row_bytes(const struct engine_options *options)
{
    const size_t pages = (options->context_max - 1) / options->page_tokens + 1;
    return sizeof(struct cuda_sample_row) + sizeof(struct cuda_sample_slot) +
           pages * sizeof(uint32_t) + RECORD_BIASES_MAX * sizeof(struct cuda_sample_bias) +
           LIMIT_ALLOWED_IDS_MAX * sizeof(uint32_t);
}

void pick_cuda_lay_out(struct pick_cuda *pick, const struct cuda_model *model,
                       const struct engine_options *options, struct carve *device,
                       struct carve *host)
{
    const size_t rows = options->rows_max;
    const size_t tops = rows * LIMIT_TOP_LOGPROBS_MAX;
    const size_t packed = rows * row_bytes(options) + (size_t)6 * PACK_ALIGNMENT;
    pick->ctas = options->rows_max < model->units ? options->rows_max : model->units;
    pick->work_bytes = pick->ctas * cuda_sample_work_bytes(model->hparams.vocab);
    for (uint32_t i = 0; i < ENGINE_AHEAD_MAX; i++) {
        struct pick_cuda_call *call = &pick->calls[i];
        call->asked = carve(host, packed, 1);
        call->results = carve(host, rows, sizeof *call->results);
        call->tops = carve(host, tops, sizeof *call->tops);
        call->wants_tops = carve(host, rows, sizeof *call->wants_tops);
    }
    pick->device = carve(device, packed, 1);
    pick->device_results = carve(device, rows, sizeof *pick->device_results);
    pick->device_tops = carve(device, tops, sizeof *pick->device_tops);
    pick->work = carve(device, pick->work_bytes, 1);
}

int pick_cuda_start(const struct pick_cuda *pick, const struct cuda_model *model, uint32_t lane)
{
    return accel_clear(model->accel, lane, pick->work, pick->work_bytes);
}

/* Room for the next part; *at: where it begins. */
static void *take(struct pack *pack, size_t bytes, size_t *at)
{
    *at = (pack->bytes + PACK_ALIGNMENT - 1) / PACK_ALIGNMENT * PACK_ALIGNMENT;
    pack->bytes = *at + bytes;
    return pack->call->asked + *at;
}

static struct cuda_sample_slot slot_of(const struct sample_params *params)
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
                                    .stop_id_count = params->stop_id_count};
    memcpy(slot.stop_ids, params->stop_ids, sizeof slot.stop_ids);
    if (params->adjust.active) {
        slot.adjusts = 1;
        slot.prompt_tokens = params->adjust.prompt_tokens;
        slot.repetition = params->adjust.repetition;
        slot.presence = params->adjust.presence;
        slot.frequency = params->adjust.frequency;
        slot.bias_count = params->adjust.bias_count;
        slot.allowed_count = params->adjust.allowed_count;
    }
    return slot;
}

static void pack_rows(struct pack *pack, const struct engine_choice *choices)
{
    const uint32_t count = pack->call->count;
    size_t at[3];
    uint32_t *row_count = take(pack, sizeof *row_count, &at[0]);
    struct cuda_sample_row *rows = take(pack, count * sizeof *rows, &at[1]);
    struct cuda_sample_slot *slots = take(pack, count * sizeof *slots, &at[2]);
    uint32_t pages = 0;
    uint32_t biases = 0;
    uint32_t allowed = 0;
    *row_count = count;
    for (uint32_t i = 0; i < count; i++) {
        const struct engine_choice *choice = &choices[i];
        rows[i] = (struct cuda_sample_row){.slot = i,
                                           .last = choice->slot,
                                           .position = choice->position,
                                           .pages_first = pages,
                                           .judges = choice->judged,
                                           .id = choice->id};
        slots[i] = slot_of(choice->params);
        slots[i].bias_first = biases;
        slots[i].allowed_first = allowed;
        pages += slots[i].adjusts ? (choice->position - 1) / pack->args.page_tokens + 1 : 0;
        biases += slots[i].bias_count;
        allowed += slots[i].allowed_count;
    }
    pack->args.row_count = (const void *)(pack->pick->device + at[0]);
    pack->args.rows = (const void *)(pack->pick->device + at[1]);
    pack->args.slots = (const void *)(pack->pick->device + at[2]);
}

/* What only rows that adjust have, in the order of rows. */
static void pack_adjusts(struct pack *pack, const struct engine_choice *choices)
{
    const uint32_t count = pack->call->count;
    const uint32_t page_tokens = pack->args.page_tokens;
    size_t at[3];
    size_t here;
    (void)take(pack, 0, &at[0]);
    for (uint32_t i = 0; i < count; i++) {
        const size_t pages = (choices[i].position - 1) / page_tokens + 1;
        if (choices[i].params->adjust.active) {
            memcpy(pack->call->asked + pack->bytes, choices[i].pages, pages * sizeof(uint32_t));
            pack->bytes += pages * sizeof(uint32_t);
        }
    }
    (void)take(pack, 0, &at[1]);
    for (uint32_t i = 0; i < count; i++) {
        const struct adjust *adjust = &choices[i].params->adjust;
        here = adjust->active ? adjust->bias_count * sizeof *adjust->biases : 0;
        if (here > 0) {
            memcpy(pack->call->asked + pack->bytes, adjust->biases, here);
            pack->bytes += here;
        }
    }
    (void)take(pack, 0, &at[2]);
    for (uint32_t i = 0; i < count; i++) {
        const struct adjust *adjust = &choices[i].params->adjust;
        here = adjust->active ? adjust->allowed_count * sizeof *adjust->allowed : 0;
        if (here > 0) {
            memcpy(pack->call->asked + pack->bytes, adjust->allowed, here);
            pack->bytes += here;
        }
    }
    pack->args.pages = (const void *)(pack->pick->device + at[0]);
    pack->args.biases = (const void *)(pack->pick->device + at[1]);
    pack->args.allowed = (const void *)(pack->pick->device + at[2]);
}

static int launch_sample(const void *args, struct CUstream_st *stream)
{
    return cuda_sample(args, stream);
}

int pick_cuda_put(const struct pick_cuda *pick, const struct cuda_model *model, uint32_t lane,
                  struct pick_cuda_call *call, const struct engine_choice *choices)
{
    const uint32_t count = call->count;
    struct pack pack = {.pick = pick,
                        .call = call,
                        .args = {.logits = model->logits,
                                 .history = model->history,
                                 .last_ids = model->last_ids,
                                 .results = pick->device_results,
                                 .tops = pick->device_tops,
                                 .work = pick->work,
                                 .vocab = model->hparams.vocab,
                                 .stride = model->hparams.vocab,
                                 .page_tokens = model->page_tokens,
                                 .rows_max = count,
                                 .ctas = pick->ctas}};
    bool tops = false;
    if (count == 0) {
        return 0;
    }
    pack_rows(&pack, choices);
    pack_adjusts(&pack, choices);
    for (uint32_t i = 0; i < count; i++) {
        call->wants_tops[i] = choices[i].judged || choices[i].params->logprobs;
        tops = tops || call->wants_tops[i];
    }
    const struct accel_copy asked = {pick->device, call->asked, pack.bytes};
    const struct accel_copy answers[] = {
        {call->results, pick->device_results, count * sizeof *call->results},
        {call->tops, pick->device_tops, count * sizeof *call->tops * LIMIT_TOP_LOGPROBS_MAX}};
    int error = accel_copy(model->accel, lane, &asked, 1);
    error = error ? error
                  : accel_launch(model->accel, lane, launch_sample, &pack.args, sizeof pack.args);
    return error ? error : accel_copy(model->accel, lane, answers, tops ? 2 : 1);
}

void pick_cuda_take(const struct pick_cuda_call *call)
{
    for (uint32_t i = 0; i < call->count; i++) {
        const struct cuda_sample_result *from = &call->results[i];
        const struct cuda_sample_top *tops = call->tops + (size_t)i * LIMIT_TOP_LOGPROBS_MAX;
        struct sample_result *to = &call->out[i];
        to->id = from->id;
        to->invalid = from->invalid != 0;
        to->logprob_count = 0;
        if (to->invalid || !call->wants_tops[i]) {
            continue;
        }
        must(from->top_count <= LIMIT_TOP_LOGPROBS_MAX);
        to->logprobs[0] = (struct record_logprob){from->id, from->logprob};
        for (uint32_t j = 0; j < from->top_count; j++) {
            to->logprobs[1 + j] = (struct record_logprob){tops[j].id, tops[j].logprob};
        }
        to->logprob_count = 1 + from->top_count;
    }
}
