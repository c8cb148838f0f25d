/*
 * core.h - the core process: everything between a client's frame and a worker's ring. One struct,
 * filled at start, passed to every stage; all of its memory comes from one arena, sealed before the
 * first client is heard.
 */
#ifndef AGENT_CORE_H
#define AGENT_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/front.h"
#include "agent/group.h"
#include "agent/placement.h"
#include "agent/plans.h"
#include "agent/request.h"
#include "agent/scribe.h"
#include "agent/stats.h"
#include "base/arena.h"
#include "base/config.h"
#include "base/must.h"
#include "model/chat.h"
#include "model/hparams.h"
#include "wire/codec.h"

struct core_counters {
    uint64_t steps;
    uint64_t prompt_tokens;
    uint64_t generated_tokens;
    uint64_t replayed_tokens;
    uint64_t worker_losses;
    uint64_t requests;
    uint64_t finished;
    uint64_t cancelled;
    uint64_t failed;
    uint64_t refused;
    uint64_t malformed_frames;
    uint64_t replies_dropped;
    uint64_t last_step_us;
    uint64_t compute_us; /* Of all steps, as the ranks that sample tell. */
    uint64_t wait_us;    /* That they waited for steps although there was something to run. */
};

enum { CORE_REFUSALS_MAX = 512, CORE_MESSAGE_BYTES = 128 }; /* All our messages are shorter. */

struct core_refusal { /* An error that waits for room in its peer's queue. */
    struct request_address address;
    struct wire_error error; /* Its message, where it has one, is this: */
    char message[CORE_MESSAGE_BYTES];
    uint64_t until_us;
};

struct core {
    const struct config *config;
    int control_fd;
    uint64_t instance; /* Random per start: a client that sees it change has lost its streams. */
    uint64_t now_us;   /* Of this turn of the loop. */
    struct hparams hparams;
    uint32_t context_max;
    struct tokenizer *tokenizer; /* NULL: ids only. */
    enum chat_template chat;
    struct arena arena;
    struct front front;
    struct codec *codec;
    struct wire_generate *generate; /* Where GENERATE is decoded: too large for a stack. */
    struct requests requests;
    struct scribe *scribe;
    struct placement placement;
    struct group groups[LIMIT_WORKERS_MAX]; /* Replicas; as many as placement has. */
    struct plans plans;
    struct device devices[LIMIT_WORKERS_MAX];
    uint32_t device_count;
    struct death_watch *watch;
    struct stats stats;
    struct core_refusal refusals[CORE_REFUSALS_MAX]; /* In order of arrival. */
    uint32_t refusal_count;
    struct core_counters counters;
    bool ready; /* CONTROL_READY was sent. */
    bool draining;
    bool again; /* Sending let a sequence go on, or made room: no sleep before the next turn. */
    uint32_t sleep_ms; /* At most, before the next turn. */
    bool heard;        /* What clients had sent by this turn was read to its end. */
    uint64_t drain_until_us;
    uint64_t told_us; /* Last PROGRESS and STATUS. */
    bool stopped;     /* The loop ends. */
    int exit_status;
};

/* Runs the core until it is told to stop; the exit status of the process. Called in the re-executed
 * child with the sealed config and its end of the control socket. */
int core_main(const struct config *config, int control_fd) MUST_CHECK;

#endif /* AGENT_CORE_H */
