/*
 * record.h - what the core and a worker say to each other through their rings.
 *
 * Every record is one 64-byte little-endian cell with no pointers: indices and handles only, each
 * with the epoch and the group. The reader copies a cell to private memory, then validates it
 * (record_check.h), then uses it. Core and workers share one build id: layouts may change.
 *
 *   core -> worker   OPEN STOP_IDS* [ADJUST BIASES* ALLOWED*] PAGES* ... COPY* STEP ROW* IDS* CLOSE
 *   worker -> core   READY     (RESULT LOGPROBS*)* (SCORE LOGPROBS*)* DONE
 *
 * A step is one STEP cell, row_count ROW cells, then the IDS cells that list ids_count token ids;
 * all of them are published at once. Its answer is one RESULT for each row that samples, LOGPROBS
 * cells for those that asked, then one SCORE for each token that a row wants judged, and one DONE,
 * published at once: a step happened or it did not. Of the ranks of a group, 0 gives the results
 * and scores, the others only DONE.
 */
#ifndef IPC_RECORD_H
#define IPC_RECORD_H

#include <stdint.h>

#include "ipc/record_slot.h"

enum record_kind {
    RECORD_OPEN = 1,     /* A request takes a slot: its sampling parameters. */
    RECORD_STOP_IDS = 2, /* Further ids that min_tokens masks in that slot. */
    RECORD_PAGES = 3,    /* Pages appended to a slot's block table. */
    RECORD_CLOSE = 4,    /* The slot's pages are no longer its own. */
    RECORD_STEP = 5,
    RECORD_ROW = 6,
    RECORD_IDS = 7,
    RECORD_COPY = 8,     /* Pages to copy, all layers, before what follows. */
    RECORD_ADJUST = 9,   /* After OPEN: what changes the slot's logits before it samples. */
    RECORD_BIASES = 10,  /* Ids of that slot with what is added to their logits. */
    RECORD_ALLOWED = 11, /* Ids of that slot that alone may be sampled. */
    RECORD_READY = 16,
    RECORD_RESULT = 17,
    RECORD_LOGPROBS = 18,
    RECORD_DONE = 19,
    RECORD_SCORE = 20, /* As RESULT, of a listed token: how likely was it? */
};

enum record_source {
    RECORD_SOURCE_LISTED = 0, /* ids_first .. ids_first + tokens of the step's ids. */
    RECORD_SOURCE_LAST = 1,   /* The token this slot sampled last: it never left the worker. */
};

enum {
    RECORD_ROW_SAMPLE = 1,     /* ROW flag: the row's last token gives a RESULT. */
    RECORD_ROW_SKIPS = 2,      /* ROW flag: the pages hold what lies before it, shared or copied. */
    RECORD_DONE_STALLED = 1,   /* DONE flag: the step did not happen, for want of rank `late`. */
    RECORD_RESULT_INVALID = 1, /* RESULT flag: logits were NaN or infinite; id is meaningless. */
    RECORD_LOGPROBS_PER_CELL = 6,
    RECORD_COPIES_PER_CELL = 6,
};

struct record_copy {
    struct record_head head;
    uint32_t count;
    uint32_t reserved;
    uint32_t sources[RECORD_COPIES_PER_CELL];
    uint32_t targets[RECORD_COPIES_PER_CELL];
};

struct record_step {
    struct record_head head;
    uint64_t step;
    uint64_t plan_hash;
    uint32_t plan_id;
    uint32_t row_count;
    uint32_t token_count; /* Sum over the rows. */
    uint32_t ids_count;   /* Listed token ids, in ceil(ids_count / 12) IDS cells. */
    uint32_t reserved[6];
};

struct record_row {
    struct record_head head;
    uint32_t slot;
    uint32_t generation;
    uint32_t position;    /* Of the first token. */
    uint32_t tokens;      /* 1 when source is LAST. */
    uint32_t source;      /* enum record_source */
    uint32_t ids_first;   /* Index into the step's ids when LISTED. */
    uint32_t score_first; /* Of its tokens, those whose successor is judged by their logits. */
    uint32_t score_count;
    uint32_t next_id; /* The successor of its last token, when that is one of them. */
    uint32_t reserved[5];
};

struct record_ids {
    struct record_head head;
    uint32_t count;
    uint32_t reserved;
    uint32_t ids[RECORD_IDS_PER_CELL];
};

struct record_ready {
    struct record_head head;
    uint32_t vocab;
    uint32_t device_pages;
    uint32_t page_tokens;
    uint32_t dtype; /* enum config_dtype, never AUTO. */
    uint64_t weight_bytes;
    uint64_t kv_bytes;
    uint64_t load_us;
    uint32_t sharing; /* How lanes get their shares: 0 units of their own, 1 hints, 2 none do. */
    uint32_t reserved;
    uint64_t reserved_2;
};

struct record_result { /* And SCORE: position and id are those of the token judged. */
    struct record_head head;
    uint64_t step;
    uint32_t slot;
    uint32_t generation;
    uint32_t position; /* Of the sampled token. */
    uint32_t id;
    uint32_t logprob_first; /* Range of the step's (id, logprob) pairs: the chosen one, then the */
    uint32_t logprob_count; /* top ones in falling order. 0: none asked. */
    uint32_t reserved[6];
};

struct record_logprob {
    uint32_t id;
    float logprob; /* Natural log, of the raw logits. */
};

struct record_logprobs {
    struct record_head head;
    uint32_t count;
    uint32_t reserved;
    struct record_logprob pairs[RECORD_LOGPROBS_PER_CELL];
};

struct record_done {
    struct record_head head;
    uint64_t step;
    uint64_t compute_us; /* From the end of wait_us to publishing this. */
    uint32_t result_count;
    uint32_t logprob_count;
    uint32_t score_count;
    uint32_t late;    /* STALLED: the rank that did not come. */
    uint64_t wait_us; /* From publishing the one before to taking this step, or, where that is more,
                         what a device stood still before it; 0 when none was before. */
    uint32_t reserved[4];
};

union record {
    struct record_head head;
    struct record_open open;
    struct record_stop_ids stop_ids;
    struct record_adjust adjust;
    struct record_biases biases;
    struct record_pages pages;
    struct record_close close;
    struct record_copy copy;
    struct record_step step;
    struct record_row row;
    struct record_ids ids;
    struct record_ready ready;
    struct record_result result;
    struct record_logprobs logprobs;
    struct record_done done;
};

#endif /* IPC_RECORD_H */
