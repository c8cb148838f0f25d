/*
 * match.h - requests that are in flight together and begin with the same tokens compute them once.
 * Part of the scheduler and as pure: called by sched.c alone.
 *
 * On entry a request borrows the full pages that hold its beginning, computed or not. Where the
 * next page holds at least half a page of its tokens, or all but the last, it copies those once
 * they are there. It waits for whoever writes a borrowed page; when that one leaves, it writes the
 * page itself. At least one token is left to compute, for its logits.
 */
#ifndef AGENT_MATCH_H
#define AGENT_MATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/sched.h"

struct match { /* What a request could borrow now. */
    struct hash_key parent;
    uint32_t pages;     /* Full ones, in the entry's block table from 0 on. */
    uint32_t tail_page; /* To copy from; PREFIX_NONE. */
    uint32_t tail_tokens;
    bool tail_listed; /* All of the request's known ids of that page are listed there. */
};

/* Looks the entry's ids up; writes the borrowed pages into its block table, owns nothing yet. */
struct match match_find(const struct sched *sched, struct sched_entry *entry);

/* Owns what was found, and lists the entry's own pages, which follow in its block table. */
void match_take(struct sched *sched, uint32_t request, const struct match *match);

/* Moves `computed` over what others have written since, and tells the step of a copy. False: the
 * request waits for a writer. */
bool match_settle(struct sched *sched, struct sched_step *step, uint32_t request);

/* Claims what comes next. Position up to which the request may compute in this step. */
uint32_t match_claim(struct sched *sched, uint32_t request);

/* Positions [first, first + count) of a running request are in its pages, for all later steps. */
void match_written(struct sched *sched, uint32_t request, uint32_t first, uint32_t count);

/* The request is about to give its pages back. */
void match_leave(struct sched *sched, uint32_t request);

/* One owner less; the last one takes the page out of the index. Its page is free once the step in
 * flight has ended. */
void match_drop_page(struct sched *sched, uint32_t page);

#endif /* AGENT_MATCH_H */
