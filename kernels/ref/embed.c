/* embed.c - gathers rows of the embedding table as float. Runs on any worker thread over its rows;
 * owns nothing. Moves cols values a row, no arithmetic.
 * Invariant: ids were checked against the vocabulary before. */
#include "kernels/bf16.h"
#include "kernels/ref/ref.h"

void ref_embed(const struct kern_embed_args *args, uint32_t first, uint32_t count)
{
    for (size_t r = first; r < (size_t)first + count; r++) {
        const size_t row = (size_t)args->ids[r] * args->cols;
        for (size_t c = 0; c < args->cols; c++) {
            args->x[r * args->cols + c] = act_load(args->table, row + c, args->dtype);
        }
    }
}
