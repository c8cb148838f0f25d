/* record_check.h - what a cell that came from the other side must fulfil before it is used. */
#ifndef IPC_RECORD_CHECK_H
#define IPC_RECORD_CHECK_H

#include "base/must.h"
#include "ipc/record.h"

/* Bounds that records are checked against; filled by each side from the config and the model. */
struct record_bounds {
    uint32_t epoch, group;
    uint32_t slots, pages, vocab;
    uint32_t positions;    /* Served context. */
    uint32_t rows, tokens; /* Of one step. */
};

/* Checks one private copy of a cell that came from the other side: kind, epoch, group, every index
 * and count. 0; -ESTALE for another epoch (the cell is dropped); -EBADMSG for anything else.
 * Relations between cells (row counts, id ranges) are the reader's. */
int record_check_request(const union record *record, const struct record_bounds *bounds) MUST_CHECK;
int record_check_reply(const union record *record, const struct record_bounds *bounds) MUST_CHECK;

#endif /* IPC_RECORD_CHECK_H */
