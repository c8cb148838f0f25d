/*
 * fleet.c - see fleet.h. Called by world.c once a turn and by seam_ipc.c in between; owns the
 * workers and what the supervisor has to say. Invariant: a worker has rings exactly while the core
 * holds its link, and what it did not publish before its death never happened.
 */
#include "tests/sim/fleet.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pace.h"
#include "tests/sim/fake_device.h"

enum {
    MESSAGES_MAX = 64, /* To the core, not read yet. */
    START_US_MAX = 20000,
    LINK_US_MAX = 3000,
    LOAD_US_MAX = 10000,
    STEP_US = 200, /* What a step takes, each of its tokens, */
    TOKEN_US = 20,
    READ_US = 4, /* and what these look back at: single tokens, */
    LOOK_US = 1, /* and those of prompts. */
    JITTER_US_MAX = 600,
    HANG_US = 1000000000,
    STEP_DEATH_PERMILLE = 15,
    IDLE_DEATH_PERMILLE = 1,
    SLOW_PERMILLE = 10,
    WRONG_PERMILLE = 8,
    PACED_FROM = 40,       /* Steps. */
    FAKE_PAGE_TOKENS = 16, /* READY tells it, and only sizes of real devices pass its check. */
};

enum fleet_state {
    FLEET_DOWN,    /* Starts at due_us. */
    FLEET_UP,      /* Waits for a link. */
    FLEET_LINKED,  /* Its segment is there at due_us. */
    FLEET_JOINED,  /* Of several ranks: its offer is there at due_us. */
    FLEET_LOADING, /* Ready at due_us. */
    FLEET_SERVING,
};

struct fleet_memory { /* What the two segments hold. */
    struct ring_words out_tail, out_head, in_tail, in_head;
    _Atomic uint32_t life;
    union record out[RING_CELLS];
    union record in[RING_CELLS];
    uint8_t board[LINK_BOARD_BYTES];
};

struct fleet_worker {
    enum fleet_state state;
    uint32_t index;
    uint32_t group;
    uint32_t rank;
    uint32_t epoch;
    uint64_t due_us;
    struct fleet_memory *memory; /* NULL: no link. */
    struct ring_reader in;
    struct ring_writer out;
    bool offered;
    uint32_t offers; /* Of its siblings, that have come. */
    struct fake_device device;
    bool busy;                            /* With a step, */
    uint64_t work_us;                     /* that takes so long, */
    bool shows_life;                      /* and of which it shows that it gets on. */
    bool waits;                           /* For its siblings, to leave it together. */
    uint64_t done_us;                     /* When it looks whether it is done. */
    uint64_t stall_us;                    /* It gives a sibling up. */
    uint64_t die_us;                      /* UINT64_MAX: it lives. */
    uint64_t lied_step;                   /* Whose answer was nonsense; 0: none. */
    uint32_t generation[WORLD_PAGES_MAX]; /* Of the pages when the step began. */
    bool dies_after;                      /* Once the step is published. */
};

struct fleet {
    struct fleet_worker worker[LIMIT_WORKERS_MAX];
    uint32_t count;
    uint32_t tp;
    uint32_t epoch;
    struct control_message message[MESSAGES_MAX];
    uint32_t message_count;
    bool stops;
    uint32_t step_timeout_us;
};

struct fleet *fleet_open(struct world *world)
{
    const struct config *config = &world->config;
    struct fleet *fleet = calloc(1, sizeof *fleet);
    must(fleet);
    fleet->count = config->workers.count;
    fleet->tp = config->workers.tp;
    fleet->step_timeout_us = config->workers.step_timeout_ms * 1000;
    const uint32_t pool = config->kv.device_pages * config->kv.page_tokens;
    const uint32_t context = config->model.context_tokens_max;
    for (uint32_t i = 0; i < fleet->count; i++) {
        struct fleet_worker *worker = &fleet->worker[i];
        worker->index = i;
        worker->group = i / fleet->tp;
        worker->rank = i % fleet->tp;
        worker->due_us = world->now_us + world_draw(world, START_US_MAX);
        worker->die_us = UINT64_MAX;
        fake_device_open(&worker->device, config, pool < context ? pool : context);
    }
    return fleet;
}

void fleet_close(struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->count; i++) {
        must(!fleet->worker[i].memory); /* The core closes its links. */
        fake_device_close(&fleet->worker[i].device);
    }
    free(fleet);
}

static struct fleet_worker *worker_of(struct world *world, int socket)
{
    must(socket >= FLEET_SOCKET && (uint32_t)(socket - FLEET_SOCKET) < world->fleet->count);
    return &world->fleet->worker[socket - FLEET_SOCKET];
}

static void push_message(struct fleet *fleet, const struct control_message *message)
{
    must(fleet->message_count < MESSAGES_MAX);
    fleet->message[fleet->message_count++] = *message;
}

/* As the supervisor does it: a group is linked anew, all of it, once all of it runs. */
static void link_group(struct world *world, uint32_t group)
{
    struct fleet *fleet = world->fleet;
    struct fleet_worker *ranks = &fleet->worker[(size_t)group * fleet->tp];
    for (uint32_t i = 0; i < fleet->tp; i++) {
        if (ranks[i].state == FLEET_DOWN) {
            return;
        }
    }
    fleet->epoch++;
    world_note(world, "group %u: links of epoch %u", group, fleet->epoch);
    for (uint32_t i = 0; i < fleet->tp; i++) {
        ranks[i].epoch = fleet->epoch;
        ranks[i].state = FLEET_UP;
        ranks[i].busy = false;
        push_message(fleet, &(struct control_message){.kind = CONTROL_LINK,
                                                      .index = ranks[i].index,
                                                      .epoch = fleet->epoch,
                                                      .group = (uint16_t)group,
                                                      .rank = (uint16_t)i});
    }
}

static void kill_worker(struct world *world, struct fleet_worker *worker)
{
    world_note(world, "worker %u dies%s", worker->index, worker->busy ? " in a step" : "");
    world->totals->deaths++;
    world->totals->deaths_in_step += worker->busy;
    if (worker->memory) { /* Relaxed: one thread. */
        atomic_store_explicit(&worker->memory->life, FUTEX_OWNER_DIED, memory_order_relaxed);
    }
    worker->state = FLEET_DOWN;
    worker->busy = false;
    worker->die_us = UINT64_MAX;
    worker->dies_after = false;
    worker->due_us = world->now_us + world_draw(world, START_US_MAX);
}

int fleet_control(struct world *world, struct control_message *message, int *fd)
{
    struct fleet *fleet = world->fleet;
    *fd = -1;
    if (fleet->stops) {
        fleet->stops = false;
        *message = (struct control_message){.kind = CONTROL_STOP};
        return 0;
    }
    if (fleet->message_count == 0) {
        return -EAGAIN;
    }
    *message = fleet->message[0];
    fleet->message_count--;
    memmove(fleet->message, fleet->message + 1, fleet->message_count * sizeof *fleet->message);
    *fd = FLEET_SOCKET + (int)message->index;
    return 0;
}

bool fleet_gets_on(const struct fleet *fleet, uint32_t group)
{
    const struct fleet_worker *worker = &fleet->worker[(size_t)group * fleet->tp];
    return worker->busy && worker->shows_life;
}

uint32_t fleet_progress(struct world *world, const struct link *link)
{
    const struct fleet_worker *worker = worker_of(world, link->socket);
    const uint64_t tick_us = world->fleet->step_timeout_us / 4;
    return worker->busy && worker->shows_life ? (uint32_t)(world->now_us / tick_us) : 0;
}

void fleet_hear(struct world *world, const struct control_message *message)
{
    must(message->kind != CONTROL_FAILED);
    if (message->kind != CONTROL_SUSPECT) {
        return;
    }
    must(message->index < world->fleet->count);
    struct fleet_worker *worker = &world->fleet->worker[message->index];
    world_note(world, "core suspects worker %u of epoch %u: %s", message->index, message->epoch,
               message->text);
    if (worker->state != FLEET_DOWN && worker->epoch == message->epoch) {
        must(!fleet_gets_on(world->fleet, worker->group) || !strstr(message->text, "no further"));
        kill_worker(world, worker);
    }
}

void fleet_stop(struct fleet *fleet, uint64_t now_us)
{
    (void)now_us;
    fleet->stops = true;
}

static void drop_link(struct fleet_worker *worker)
{
    free(worker->memory);
    worker->memory = NULL;
    worker->busy = false;
}

int fleet_begin(struct world *world, struct link *link, uint32_t epoch)
{
    struct fleet_worker *worker = worker_of(world, link->socket);
    if (worker->state == FLEET_DOWN || worker->epoch != epoch) {
        return -EPIPE; /* Its next start brings a new link. */
    }
    must(!worker->memory);
    worker->memory = calloc(1, sizeof *worker->memory);
    must(worker->memory);
    struct fleet_memory *memory = worker->memory;
    worker->lied_step = 0;
    worker->in = (struct ring_reader){
        .cells = memory->out, .tail = &memory->out_tail, .head = &memory->out_head};
    worker->out = (struct ring_writer){
        .cells = memory->in, .tail = &memory->in_tail, .head = &memory->in_head};
    worker->state = FLEET_LINKED;
    worker->offered = false;
    worker->offers = 0;
    worker->due_us = world->now_us + world_draw(world, LINK_US_MAX);
    fake_device_attach(&worker->device, epoch, worker->group, worker->rank);
    link->out = (struct ring_writer){
        .cells = memory->out, .tail = &memory->out_tail, .head = &memory->out_head};
    return 0;
}

void *fleet_board(struct world *world, const struct link *link)
{
    return worker_of(world, link->socket)->memory->board;
}

int fleet_finish(struct world *world, struct link *link)
{
    struct fleet_worker *worker = worker_of(world, link->socket);
    if (worker->state == FLEET_DOWN || worker->epoch != link->epoch) {
        return -ECONNRESET;
    }
    if (worker->due_us > world->now_us) {
        return -EAGAIN;
    }
    struct fleet_memory *memory = worker->memory;
    link->in = (struct ring_reader){
        .cells = memory->in, .tail = &memory->in_tail, .head = &memory->in_head};
    link->life = &memory->life;
    const bool alone = world->fleet->tp == 1;
    worker->state = alone ? FLEET_LOADING : FLEET_JOINED;
    worker->due_us = world->now_us + world_draw(world, alone ? LOAD_US_MAX : LINK_US_MAX);
    return 0;
}

/* The core has ended the link. The worker itself is the supervisor's. */
void fleet_end(struct world *world, int socket)
{
    struct fleet_worker *worker = worker_of(world, socket);
    drop_link(worker);
    worker->state = worker->state == FLEET_DOWN ? FLEET_DOWN : FLEET_UP;
}

int fleet_take_offer(struct world *world, int socket, struct sibling_offer *offer, int *fd)
{
    struct fleet_worker *worker = worker_of(world, socket);
    if (worker->state == FLEET_DOWN) {
        return -ECONNRESET;
    }
    if (worker->due_us > world->now_us || worker->offered) {
        return -EAGAIN;
    }
    worker->offered = true;
    *offer = (struct sibling_offer){.epoch = worker->epoch, .rank = (uint16_t)worker->rank};
    *fd = FLEET_SOCKET + LIMIT_WORKERS_MAX + (int)worker->index;
    return 0;
}

int fleet_give_offer(struct world *world, int socket)
{
    struct fleet_worker *worker = worker_of(world, socket);
    if (worker->state == FLEET_DOWN) {
        return -EPIPE;
    }
    if (++worker->offers == world->fleet->tp - 1) {
        worker->state = FLEET_LOADING;
        worker->due_us = world->now_us + world_draw(world, LOAD_US_MAX);
    }
    return 0;
}

static void say_ready(struct world *world, struct fleet_worker *worker)
{
    const union record ready = {.ready = {.head = {.kind = RECORD_READY,
                                                   .group = (uint16_t)worker->group,
                                                   .epoch = worker->epoch},
                                          .vocab = worker->device.bounds.vocab,
                                          .device_pages = worker->device.bounds.pages,
                                          .page_tokens = FAKE_PAGE_TOKENS,
                                          .dtype = CONFIG_DTYPE_F32}};
    must(ring_push(&worker->out, &ready) == 0);
    ring_publish(&worker->out);
    worker->state = FLEET_SERVING;
    world_note(world, "worker %u is ready", worker->index);
}

static bool strikes(struct world *world, bool enabled, uint32_t permille)
{
    return enabled && world->phase == WORLD_WILD && world_draw(world, 1000) < permille;
}

static uint64_t step_us(const struct fake_device *device)
{
    uint64_t us = STEP_US + (uint64_t)TOKEN_US * device->token_count;
    for (uint32_t i = 0; i < device->row_count; i++) {
        const struct record_row *row = &device->rows[i];
        us += (row->tokens == 1 ? READ_US : LOOK_US) * pace_context(row->position, row->tokens);
    }
    return us;
}

/* A step that holds more than it must, once its group knows what steps take, and with a target for
 * nothing else: whether it keeps to the target, chance aside. */
static void judge_pace(struct world *world, const struct fleet_worker *worker, uint64_t us)
{
    const struct fake_device *device = &worker->device;
    uint32_t answers = 0;
    for (uint32_t i = 0; i < device->row_count; i++) {
        answers += device->rows[i].tokens == 1;
    }
    if (world->config.slo.tpot_ms > 0 && world->config.slo.ttft_ms == 0 &&
        world->core->groups[worker->group].answered > PACED_FROM &&
        device->token_count > answers + PACE_CHUNK_MIN) {
        world->totals->paced++;
        world->totals->over_target += us > (uint64_t)world->config.slo.tpot_ms * 1000;
    }
}

/* Just in time, too late, never, or long and with signs of life. Ranks wait for each other at the
 * end of a step alone, so one of several may not be long. */
static uint64_t slow_step_us(struct world *world, struct fleet_worker *worker)
{
    const uint32_t timeout_us = world->fleet->step_timeout_us;
    worker->shows_life = world->fleet->tp == 1 && world_chance(world, 30);
    if (worker->shows_life) {
        world->totals->long_steps++;
        return timeout_us + world_draw(world, 4 * timeout_us);
    }
    return world_chance(world, 30) ? HANG_US : timeout_us - 1000 + world_draw(world, 3000);
}

/* How long the step takes, and what goes wrong in it. */
static void begin_step(struct world *world, struct fleet_worker *worker)
{
    struct fake_device *device = &worker->device;
    /* Nobody who does is given another step, but what was on its way. */
    must(worker->lied_step == 0 || device->step < worker->lied_step + FLIGHT_STEPS_MAX);
    const struct pages *pages = &world->core->placement.sched[worker->group].pages;
    for (uint32_t i = 0; i < pages->count; i++) {
        worker->generation[i] = pages->page[i].generation;
    }
    uint64_t work_us = step_us(device);
    if (worker->rank == 0) {
        judge_pace(world, worker, work_us);
    }
    work_us += world_draw(world, JITTER_US_MAX);
    worker->shows_life = false;
    if (strikes(world, world->faults.slow_steps, SLOW_PERMILLE)) {
        work_us = slow_step_us(world, worker);
        world->totals->slow_steps++;
    }
    worker->busy = true;
    worker->waits = false;
    worker->work_us = work_us;
    worker->done_us = world->now_us + work_us;
    worker->stall_us = worker->done_us + world->fleet->step_timeout_us / 2;
    if (strikes(world, world->faults.deaths, STEP_DEATH_PERMILLE)) {
        worker->dies_after = world_chance(world, 30);
        worker->die_us = worker->dies_after ? UINT64_MAX : world->now_us + work_us / 2;
    }
    if (worker->rank == 0) {
        world->totals->steps++;
        world->totals->copies += device->copy_count;
    }
    world_note(world, "worker %u begins step %llu: %u rows, %u tokens, %u copies", worker->index,
               (unsigned long long)device->step, device->row_count, device->token_count,
               device->copy_count);
}

/* A rank that has not come to the end of the step that this one is in; the number of ranks: all
 * have. */
static uint32_t missing_rank(const struct fleet *fleet, const struct fleet_worker *worker)
{
    const struct fleet_worker *ranks = worker - worker->rank;
    for (uint32_t i = 0; i < fleet->tp; i++) {
        const uint64_t step = ranks[i].device.step;
        const bool there = step > worker->device.step ||
                           (step == worker->device.step && (!ranks[i].busy || ranks[i].waits));
        if (ranks[i].state != FLEET_SERVING || ranks[i].epoch != worker->epoch || !there) {
            return i;
        }
    }
    return fleet->tp;
}

static void end_step(struct world *world, struct fleet_worker *worker)
{
    worker->waits = true;
    const uint32_t late = missing_rank(world->fleet, worker);
    if (late < world->fleet->tp) {
        if (world->now_us < worker->stall_us) {
            worker->done_us = world->now_us + STEP_US; /* Looks again. */
            return;
        }
        world_note(world, "worker %u waits for rank %u in vain", worker->index, late);
        world->totals->stalls++;
        fake_device_stall(&worker->device, late, &worker->out);
        worker->busy = false;
        worker->state = FLEET_UP; /* It waits for its next link. */
        return;
    }
    if (strikes(world, world->faults.wrong_records && worker->rank == 0, WRONG_PERMILLE)) {
        world_note(world, "worker %u answers nonsense", worker->index);
        worker->lied_step = worker->lied_step ? worker->lied_step : worker->device.step;
        world->totals->wrong_records++;
        fake_device_spoil(&worker->device, world_bits(world));
    }
    fake_device_answer(&worker->device, worker->work_us, &worker->out);
    worker->busy = false;
    if (worker->dies_after) {
        kill_worker(world, worker);
    }
}

static void turn_worker(struct world *world, struct fleet_worker *worker)
{
    const bool due = worker->due_us <= world->now_us;
    if (worker->die_us <= world->now_us) {
        kill_worker(world, worker);
    } else if (worker->state == FLEET_DOWN && due && world->phase != WORLD_ENDING) {
        world_note(world, "worker %u starts", worker->index);
        worker->state = FLEET_UP;
        link_group(world, worker->group);
    } else if (worker->state == FLEET_LOADING && due) {
        say_ready(world, worker);
    } else if (worker->state == FLEET_SERVING && worker->busy && worker->done_us <= world->now_us) {
        end_step(world, worker);
    }
    if (worker->state != FLEET_DOWN && strikes(world, world->faults.deaths, IDLE_DEATH_PERMILLE)) {
        kill_worker(world, worker);
    }
    if (worker->state == FLEET_SERVING && !worker->busy &&
        fake_device_take(&worker->device, &worker->in) == 0) {
        begin_step(world, worker);
    }
}

void fleet_turn(struct world *world)
{
    for (uint32_t i = 0; i < world->fleet->count; i++) {
        turn_worker(world, &world->fleet->worker[i]);
    }
}

/* Relaxed: one thread. */
static bool has_step(const struct fleet_worker *worker)
{
    return atomic_load_explicit(&worker->in.tail->position, memory_order_relaxed) !=
           worker->in.taken;
}

static uint64_t worker_next_us(const struct fleet_worker *worker)
{
    uint64_t next_us = worker->die_us;
    if (worker->state == FLEET_SERVING) {
        const uint64_t done_us = worker->busy ? worker->done_us : has_step(worker) ? 0 : UINT64_MAX;
        next_us = done_us < next_us ? done_us : next_us;
    } else if (worker->state != FLEET_UP && !(worker->state == FLEET_JOINED && worker->offered)) {
        next_us = worker->due_us < next_us ? worker->due_us : next_us;
    }
    return next_us;
}

uint64_t fleet_next_us(const struct fleet *fleet)
{
    uint64_t next_us = fleet->message_count > 0 || fleet->stops ? 0 : UINT64_MAX;
    for (uint32_t i = 0; i < fleet->count; i++) {
        const uint64_t own_us = worker_next_us(&fleet->worker[i]);
        next_us = own_us < next_us ? own_us : next_us;
    }
    return next_us;
}

void fleet_calm(struct world *world)
{
    for (uint32_t i = 0; i < world->fleet->count; i++) {
        world->fleet->worker[i].die_us = UINT64_MAX;
        world->fleet->worker[i].dies_after = false;
    }
}

bool fleet_idle(const struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->count; i++) {
        const struct fleet_worker *worker = &fleet->worker[i];
        if (worker->state != FLEET_SERVING || worker->busy || has_step(worker)) {
            return false;
        }
    }
    return fleet->message_count == 0;
}

void fleet_verify_pages(const struct fleet *fleet, uint32_t group, const struct pages *pages)
{
    for (uint32_t i = 0; i < fleet->tp; i++) {
        const struct fleet_worker *worker = &fleet->worker[group * fleet->tp + i];
        for (uint32_t p = 0; p < pages->count && worker->memory && worker->busy; p++) {
            const struct page *page = &pages->page[p];
            must(!worker->device.used[p] || page->generation == worker->generation[p]);
            must(!worker->device.used[p] || page->owners > 0 || page->in_flight > 0);
        }
    }
}
