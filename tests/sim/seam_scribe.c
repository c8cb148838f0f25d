/*
 * seam_scribe.c - the tokenizer's thread as the core sees it: a job is done some time after it was
 * handed over, in any order, and a prompt's letters are its ids. Called by the core; owns the jobs.
 * Invariant: a job is free, being filled, at work until due_us, or taken back by the core.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/scribe.h"
#include "tests/sim/oracle.h"
#include "tests/sim/world.h"
#include "wire/codec.h"

enum { JOB_US_MAX = 3000, JOBS = 4 };

enum scribe_state { SCRIBE_FREE, SCRIBE_TAKEN, SCRIBE_AT_WORK };

struct scribe {
    struct scribe_job job[JOBS];
    enum scribe_state state[JOBS];
    uint64_t due_us[JOBS];
    bool drained[JOBS];
    struct codec *codec;
    struct wire_generate *generate;
};

size_t scribe_bytes(const struct scribe_options *options)
{
    return JOBS * ((size_t)options->message_bytes_max + 64);
}

int scribe_open(struct scribe **out, struct arena *arena, const struct scribe_options *options)
{
    struct scribe *scribe = calloc(1, sizeof *scribe);
    must(scribe && codec_open(&scribe->codec) == 0);
    scribe->generate = calloc(1, sizeof *scribe->generate);
    must(scribe->generate);
    for (uint32_t i = 0; i < JOBS; i++) {
        scribe->job[i].body = arena_alloc(arena, options->message_bytes_max, 1);
        must(scribe->job[i].body);
    }
    *out = scribe;
    return 0;
}

void scribe_close(struct scribe *scribe)
{
    codec_close(scribe->codec);
    free(scribe->generate);
    free(scribe);
}

struct scribe_job *scribe_take(struct scribe *scribe)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        if (scribe->state[i] == SCRIBE_FREE) {
            uint8_t *body = scribe->job[i].body;
            scribe->state[i] = SCRIBE_TAKEN;
            scribe->drained[i] = false;
            scribe->job[i] = (struct scribe_job){.body = body};
            return &scribe->job[i];
        }
    }
    return NULL;
}

bool scribe_has_room(const struct scribe *scribe)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        if (scribe->state[i] == SCRIBE_FREE) {
            return true;
        }
    }
    return false;
}

static void tell_next(const struct scribe *scribe)
{
    uint64_t next_us = UINT64_MAX;
    for (uint32_t i = 0; i < JOBS; i++) {
        if (scribe->state[i] == SCRIBE_AT_WORK && scribe->due_us[i] < next_us) {
            next_us = scribe->due_us[i];
        }
    }
    world_current()->text_us = next_us;
}

void scribe_submit(struct scribe *scribe, struct scribe_job *job)
{
    struct world *world = world_current();
    const size_t i = (size_t)(job - scribe->job);
    scribe->state[i] = SCRIBE_AT_WORK;
    scribe->due_us[i] = world->now_us + world_draw(world, JOB_US_MAX);
    tell_next(scribe);
}

void scribe_drain(struct scribe *scribe)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        scribe->drained[i] = scribe->state[i] == SCRIBE_AT_WORK;
    }
}

int scribe_fd(const struct scribe *scribe)
{
    (void)scribe;
    return -1;
}

static void encode(struct scribe *scribe, struct scribe_job *job)
{
    const struct wire_bytes body = {job->body, job->body_bytes};
    struct wire_error error;
    must(codec_decode_generate(scribe->codec, body, scribe->generate, &error) == 0);
    const struct wire_text text = scribe->generate->prompt;
    for (size_t i = 0; i < text.count && i < job->ids_max; i++) {
        job->ids[i] = (uint32_t)(text.bytes[i] - 'a');
    }
    job->id_count = text.count;
}

struct scribe_job *scribe_done(struct scribe *scribe)
{
    for (uint32_t i = 0; i < JOBS; i++) {
        struct scribe_job *job = &scribe->job[i];
        if (scribe->state[i] != SCRIBE_AT_WORK || scribe->due_us[i] > world_current()->now_us) {
            continue;
        }
        scribe->state[i] = SCRIBE_TAKEN;
        tell_next(scribe);
        if (scribe->drained[i]) {
            job->error.code = WIRE_DRAINING;
        } else {
            encode(scribe, job);
        }
        return job;
    }
    return NULL;
}

void scribe_release(struct scribe *scribe, struct scribe_job *job)
{
    scribe->state[job - scribe->job] = SCRIBE_FREE;
}
