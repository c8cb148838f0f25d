/*
 * ring_test.c - the ring alone, then its two ends as two threads (for TSan) and as two processes.
 * Seeded: a failure prints the seed; SLUICE_SEED sets it.
 */
#include "ipc/ring.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/prng.h"

struct memory { /* Both segments of one direction, writable by both ends of the test. */
    struct ring_words tail;
    struct ring_words head;
    union record cells[RING_CELLS];
};

static struct memory *memory_open(void)
{
    struct memory *memory =
        mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

static void memory_close(struct memory *memory)
{
    assert_int_equal(munmap(memory, sizeof *memory), 0);
}

static struct ring_writer writer_of(struct memory *memory)
{
    return (struct ring_writer){
        .cells = memory->cells, .tail = &memory->tail, .head = &memory->head};
}

static struct ring_reader reader_of(struct memory *memory)
{
    return (struct ring_reader){
        .cells = memory->cells, .tail = &memory->tail, .head = &memory->head};
}

/* A cell that says which number it is, in its first and its last word. */
static union record numbered(uint64_t number)
{
    union record record = {.step = {.step = number}};
    record.step.reserved[5] = (uint32_t)number;
    return record;
}

static void hands_over_in_order(void **state)
{
    (void)state;
    struct memory *memory = memory_open();
    struct ring_writer writer = writer_of(memory);
    struct ring_reader reader = reader_of(memory);
    union record record = {0};
    assert_int_equal(ring_take(&reader, &record), -EAGAIN);
    for (uint64_t i = 0; i < 3; i++) {
        const union record out = numbered(i);
        assert_int_equal(ring_push(&writer, &out), 0);
    }
    assert_int_equal(ring_take(&reader, &record), -EAGAIN); /* Written is not published. */
    ring_publish(&writer);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(ring_take(&reader, &record), 0);
        assert_int_equal(record.step.step, i);
    }
    assert_int_equal(ring_take(&reader, &record), -EAGAIN);
    memory_close(memory);
}

static void full_ring_waits_for_release(void **state)
{
    (void)state;
    struct memory *memory = memory_open();
    struct ring_writer writer = writer_of(memory);
    struct ring_reader reader = reader_of(memory);
    union record record = numbered(1);
    assert_int_equal(ring_room(&writer), RING_CELLS);
    for (uint32_t i = 0; i < RING_CELLS; i++) {
        assert_int_equal(ring_push(&writer, &record), 0);
    }
    assert_int_equal(ring_room(&writer), 0);
    assert_int_equal(ring_push(&writer, &record), -EAGAIN);
    ring_publish(&writer);
    assert_int_equal(ring_take(&reader, &record), 0);
    assert_int_equal(ring_push(&writer, &record), -EAGAIN); /* Taken is not released. */
    ring_release(&reader);
    assert_int_equal(ring_push(&writer, &record), 0);
    assert_int_equal(ring_push(&writer, &record), -EAGAIN);
    memory_close(memory);
}

static void impossible_positions_are_refused(void **state)
{
    (void)state;
    struct memory *memory = memory_open();
    struct ring_writer writer = writer_of(memory);
    struct ring_reader reader = reader_of(memory);
    union record record = numbered(1);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ring_push(&writer, &record), 0);
    }
    atomic_store(&memory->head.position, 1); /* Nothing is published yet. */
    assert_int_equal(ring_room(&writer), -EBADMSG);
    assert_int_equal(ring_push(&writer, &record), -EBADMSG);
    ring_publish(&writer);
    assert_int_equal(ring_room(&writer), RING_CELLS - 3);
    atomic_store(&memory->head.position, 5);
    assert_int_equal(ring_room(&writer), -EBADMSG);

    assert_int_equal(ring_take(&reader, &record), 0);
    assert_int_equal(ring_take(&reader, &record), 0);
    atomic_store(&memory->tail.position, 1); /* Back. */
    assert_int_equal(ring_take(&reader, &record), -EBADMSG);
    assert_int_equal(ring_wait(&reader, 0, 1000), 0); /* So that the reader comes to see it. */
    atomic_store(&memory->tail.position, 2 + RING_CELLS + 1);
    assert_int_equal(ring_take(&reader, &record), -EBADMSG);
    atomic_store(&memory->tail.position, 2 + RING_CELLS);
    assert_int_equal(ring_take(&reader, &record), 0);
    memory_close(memory);
}

static void wait_ends_at_its_deadline(void **state)
{
    (void)state;
    struct memory *memory = memory_open();
    const struct ring_reader reader = reader_of(memory);
    const uint64_t start_us = clock_now_us();
    assert_int_equal(ring_wait(&reader, 100, 20000), -ETIMEDOUT);
    assert_true(clock_now_us() - start_us >= 20000);
    memory_close(memory);
}

static void positions_wrap_many_times(void **state)
{
    (void)state;
    struct memory *memory = memory_open();
    struct ring_writer writer = writer_of(memory);
    struct ring_reader reader = reader_of(memory);
    const char *given = getenv("SLUICE_SEED");
    const uint64_t seed = given ? strtoull(given, NULL, 10) : 1;
    print_message("seed %llu\n", (unsigned long long)seed);
    uint64_t pushed = 0;
    uint64_t taken = 0;
    for (uint64_t round = 0; round < 200; round++) {
        const uint64_t batch = 1 + prng_bits(seed, round, 0) % RING_CELLS;
        const uint64_t room = (uint64_t)ring_room(&writer);
        assert_int_equal(room, RING_CELLS - (pushed - taken));
        for (uint64_t i = 0; i < batch && i < room; i++) {
            const union record out = numbered(pushed++);
            assert_int_equal(ring_push(&writer, &out), 0);
        }
        ring_publish(&writer);
        const uint64_t wanted = 1 + prng_bits(seed, round, 1) % RING_CELLS;
        union record in = {0};
        for (uint64_t i = 0; i < wanted && taken < pushed; i++) {
            assert_int_equal(ring_take(&reader, &in), 0);
            assert_int_equal(in.step.step, taken);
            assert_int_equal(in.step.reserved[5], (uint32_t)taken);
            taken++;
        }
        ring_release(&reader);
    }
    assert_true(taken > 10u * RING_CELLS);
    memory_close(memory);
}

enum { STREAM_CELLS = 400000 };

/* Writes STREAM_CELLS numbered cells in batches of random size. 0, or the error met. */
static int produce(struct memory *memory)
{
    struct ring_writer writer = writer_of(memory);
    const uint64_t deadline_us = clock_now_us() + 120u * 1000000u;
    uint64_t batch_number = 0;
    for (uint64_t next = 0; next < STREAM_CELLS;) {
        const uint64_t batch = 1 + prng_bits(2, batch_number++, 0) % 700;
        for (uint64_t i = 0; i < batch && next < STREAM_CELLS; i++) {
            const union record out = numbered(next);
            const int error = ring_push(&writer, &out);
            if (error == -EAGAIN) {
                break;
            }
            if (error) {
                return error;
            }
            next++;
        }
        ring_publish(&writer);
        if (clock_now_us() > deadline_us) {
            return -ETIMEDOUT;
        }
    }
    return 0;
}

/* Reads them all, sometimes spinning and sometimes sleeping. 0, or the error met. */
static int consume(struct memory *memory)
{
    struct ring_reader reader = reader_of(memory);
    for (uint64_t next = 0; next < STREAM_CELLS;) {
        const uint32_t spin_us = prng_bits(3, next, 0) % 2 ? 20 : 0;
        int error = ring_wait(&reader, spin_us, 120u * 1000000u);
        for (union record in = {0}; error == 0; next++) {
            error = ring_take(&reader, &in);
            if (error == 0 && (in.step.step != next || in.step.reserved[5] != (uint32_t)next)) {
                return -EILSEQ;
            }
            if (error) {
                break;
            }
        }
        if (error != -EAGAIN) {
            return error;
        }
        ring_release(&reader);
    }
    return 0;
}

static void *produce_thread(void *argument)
{
    return (void *)(intptr_t)produce(argument);
}

static void two_threads_lose_nothing(void **state)
{
    (void)state;
    struct memory *memory = memory_open();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, produce_thread, memory), 0);
    assert_int_equal(consume(memory), 0);
    void *result = (void *)1;
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, 0);
    memory_close(memory);
}

static void two_processes_lose_nothing(void **state)
{
    (void)state;
    struct memory *memory = memory_open();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(produce(memory) == 0 ? 0 : 1);
    }
    assert_int_equal(consume(memory), 0);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    memory_close(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hands_over_in_order),
        cmocka_unit_test(full_ring_waits_for_release),
        cmocka_unit_test(impossible_positions_are_refused),
        cmocka_unit_test(wait_ends_at_its_deadline),
        cmocka_unit_test(positions_wrap_many_times),
        cmocka_unit_test(two_threads_lose_nothing),
        cmocka_unit_test(two_processes_lose_nothing),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
