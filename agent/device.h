/*
 * device.h - the core's view of a worker: the link of its present epoch and the steps in flight. A
 * group's steps go out as records, the same to each of its ranks; results come back from rank 0,
 * checked. Anything that does not fit the step that was sent fences the epoch.
 */
#ifndef AGENT_DEVICE_H
#define AGENT_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/plans.h"
#include "agent/request.h"
#include "agent/sched.h"
#include "base/must.h"
#include "ipc/control.h"
#include "ipc/death.h"
#include "ipc/link.h"
#include "ipc/record_check.h"
#include "ipc/sibling.h"

enum device_state {
    DEVICE_ABSENT,  /* No link: the worker is being started, or is lost. */
    DEVICE_JOINING, /* Our segment is sent, the worker's has not come. */
    DEVICE_PAIRING, /* Linked; the ranks of its group do not have each other's segments yet. */
    DEVICE_LOADING, /* Its READY record has not come. */
    DEVICE_READY,
};

struct device {
    enum device_state state;
    uint32_t index; /* Of the worker: group * ranks + rank. */
    struct link link;
    struct death_watch *watch; /* The core's. */
    struct record_bounds bounds;
    const struct plans *plans;
    struct plankey key;            /* What the worker says it is. */
    bool planned;                  /* The plans were made for such a one. */
    uint32_t sharing;              /* As in record_ready. */
    uint64_t reading;              /* Number of the step whose answer is being read, or was last. */
    uint64_t answered;             /* Number of the step that it answered last. */
    struct record_result *results; /* [slots_max] of the step that is being read */
    struct record_result *scores;  /* [LIMIT_STEP_SCORES_MAX] likewise */
    struct record_logprob *pairs;  /* [pairs_max] likewise */
    uint32_t result_count;
    uint32_t score_count;
    uint32_t pair_count;
    uint32_t pairs_max;
    struct sibling_offer offer; /* For the other ranks, while PAIRING. */
    int offer_fd;               /* -1: has not come. */
    uint32_t late;              /* Rank that this one waited for in vain, after -ETIMEDOUT. */
    uint64_t compute_us;        /* Of the step that finished last, */
    uint64_t wait_us;           /* and how long the worker had waited for it. */
};

struct device_options {
    uint32_t slots_max;
    const struct plans *plans; /* Borrowed. */
    struct death_watch *watch; /* Borrowed. */
};

int device_open(struct device *device, struct arena *arena, const struct record_bounds *bounds,
                const struct device_options *options) MUST_CHECK;
size_t device_bytes(uint32_t slots_max);
void device_close(struct device *device);

/* A link from the supervisor: what was there before is fenced. Takes over the socket. */
int device_link(struct device *device, int socket,
                const struct control_message *message) MUST_CHECK;

/* Ends the present link, if any. The worker itself is the supervisor's. */
void device_fence(struct device *device);

/* Takes the worker's half of the link when it has come, alone or with siblings to be paired. 0, or
 * -errno: fence it. */
int device_join(struct device *device, bool alone) MUST_CHECK;

/* Records that tell a worker of the request's slot, its pages aside. */
uint32_t device_open_cells(const struct request *request);

/* Takes what the worker offers to its siblings, when it has come. 0, or -errno: fence it. */
int device_take_offer(struct device *device) MUST_CHECK;

/* Puts the plans where the worker finds them. Before a step names one. */
void device_offer_plans(struct device *device);

struct device_order { /* A step to send: */
    const struct sched *sched;
    const struct sched_step *step; /* the one that was formed last. */
    const struct requests *requests;
    const struct plan *plan;
};

/* 0, or -errno: fence it. */
int device_send(struct device *device, const struct device_order *order) MUST_CHECK;

/* Reads what has come for the oldest step in flight, NULL when there is none, and nothing beyond
 * it. 0: `answered` says whether it is whole, results then hold it on rank 0; -ETIMEDOUT: rank
 * `late` hangs; another -errno: fence it. A READY record moves LOADING to READY. */
int device_collect(struct device *device, const struct sched_step *step) MUST_CHECK;

/* A number that changes while the worker gets on with a step. */
uint32_t device_progress(const struct device *device);

/* True when the worker's life word says that it died. */
bool device_died(const struct device *device);

#endif /* AGENT_DEVICE_H */
