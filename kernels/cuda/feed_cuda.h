/* feed_cuda.h - the tokens that go into a step, on the device: those sampled last are still there.
 */
#ifndef KERNELS_CUDA_FEED_CUDA_H
#define KERNELS_CUDA_FEED_CUDA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* For rows r < *rows: ids[r] = last_ids[source[r] - 1] where source[r] is not 0; then the id is
 * noted in the history of its page. Two rows never name the same (page, token). */
struct cuda_feed_args {
    uint32_t *ids;            /* [rows] */
    const uint32_t *source;   /* [rows] 1 + index in last_ids, or 0 */
    const uint32_t *last_ids; /* See cuda_sample_args. */
    const uint32_t *page;     /* [rows] page of the token */
    const uint32_t *position; /* [rows] in the sequence; the token in the page is % page_tokens */
    uint32_t *history;        /* [pages][page_tokens] */
    const uint32_t *rows;     /* On the device. */
    uint32_t rows_max;        /* Of the bucket: *rows is at most this. */
    uint32_t page_tokens;
    uint32_t ctas; /* 0: as many as the shape wants. */
};

int cuda_feed(const struct cuda_feed_args *args, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif

#endif /* KERNELS_CUDA_FEED_CUDA_H */
