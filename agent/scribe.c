/*
 * scribe.c - the tokenizer's thread and its jobs. The loop calls the public functions; the thread
 * runs scribe_run(). Jobs live in the core's arena. Invariant: a job is in one place at a time:
 * with the loop, in the inbox, with the thread, or in the outbox.
 */
#include "agent/scribe.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "wire/codec.h"

enum { SCRIBE_WAIT_MS = 1000 };

struct job_queue { /* Holds every job at most once: SCRIBE_JOBS places are enough. */
    struct scribe_job *job[SCRIBE_JOBS];
    uint32_t first;
    uint32_t count;
};

struct scribe {
    struct scribe_options options;
    struct scribe_job job[SCRIBE_JOBS];
    struct job_queue idle; /* The loop's own. */
    pthread_mutex_t mutex; /* Of inbox and outbox. */
    struct job_queue inbox;
    struct job_queue outbox;
    int inbox_fd;
    int outbox_fd;
    _Atomic bool stop;     /* Written by the loop (release), read by the thread (acquire). */
    _Atomic bool draining; /* Likewise. */
    pthread_t thread;
    struct codec *codec; /* The thread's. */
    struct tokenizer_scratch *scratch;
    struct wire_generate *generate;
    struct chat_message *messages;
    char piece[DETOK_OUT_BYTES_MAX]; /* Text of one token. */
};

static void put(struct job_queue *queue, struct scribe_job *job)
{
    must(queue->count < SCRIBE_JOBS);
    queue->job[(queue->first + queue->count++) % SCRIBE_JOBS] = job;
}

static struct scribe_job *get(struct job_queue *queue)
{
    if (queue->count == 0) {
        return NULL;
    }
    struct scribe_job *job = queue->job[queue->first];
    queue->first = (queue->first + 1) % SCRIBE_JOBS;
    queue->count--;
    return job;
}

static void ring(int fd)
{
    const uint64_t one = 1;
    must(write(fd, &one, sizeof one) == (ssize_t)sizeof one);
}

static void quiet(int fd)
{
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof count);
    (void)got; /* EAGAIN: nobody rang. */
}

static void fail(struct scribe_job *job, enum wire_error_code code, const char *message)
{
    job->error = (struct wire_error){.code = code, .message = message};
}

static void judge(struct scribe_job *job, int code)
{
    if (code == -E2BIG) {
        fail(job, WIRE_CONTEXT_EXCEEDED, "the text has more tokens than the context holds");
    } else if (code == -EINVAL) {
        fail(job, WIRE_INVALID_ARGUMENT, "the text is not UTF-8, or a message has an unknown role");
    } else if (code == -ENOTSUP) {
        fail(job, WIRE_UNSUPPORTED, "this model has no chat template: send prompt or ids");
    } else if (code) {
        fail(job, WIRE_INTERNAL, NULL);
    }
}

/* A tokenizer may know more tokens than the model has embeddings. */
static void check_ids(const struct scribe *scribe, struct scribe_job *job)
{
    for (size_t i = 0; i < job->id_count && job->error.code == WIRE_OK; i++) {
        if (job->ids[i] >= scribe->options.vocab) {
            fail(job, WIRE_INVALID_ARGUMENT, "the text holds a token that the model does not know");
        }
    }
}

static void encode_text(struct scribe *scribe, struct scribe_job *job, struct wire_text text,
                        unsigned flags)
{
    struct ids ids = {job->ids, job->ids_max, 0};
    judge(job, tokenizer_encode(scribe->options.tokenizer, scribe->scratch, text.bytes, text.count,
                                flags, &ids));
    job->id_count = ids.count;
}

static void encode_messages(struct scribe *scribe, struct scribe_job *job)
{
    const struct wire_generate *generate = scribe->generate;
    struct ids ids = {job->ids, job->ids_max, 0};
    for (uint32_t i = 0; i < generate->message_count; i++) {
        const struct wire_chat_message *from = &generate->messages[i];
        scribe->messages[i] = (struct chat_message){
            .role = from->role.bytes,
            .role_bytes = from->role.count,
            .content = from->content.bytes,
            .content_bytes = from->content.count,
        };
    }
    judge(job, chat_encode(scribe->options.chat, scribe->options.tokenizer, scribe->scratch,
                           scribe->messages, generate->message_count, &ids));
    job->id_count = ids.count;
}

static unsigned encode_flags(bool add_special, bool parse_special)
{
    return (add_special ? TOKENIZER_ADD_SPECIAL : 0u) |
           (parse_special ? TOKENIZER_PARSE_SPECIAL : 0u);
}

static void run_generate(struct scribe *scribe, struct scribe_job *job)
{
    const struct wire_bytes body = {job->body, job->body_bytes};
    struct wire_generate *generate = scribe->generate;
    if (codec_decode_generate(scribe->codec, body, generate, &job->error)) {
        return;
    }
    if (generate->message_count > 0) {
        encode_messages(scribe, job);
    } else {
        encode_text(scribe, job, generate->prompt,
                    encode_flags(generate->add_special, generate->parse_special));
    }
    check_ids(scribe, job);
}

/* What the codec says lasts until the next job, the job until its answer is sent. */
static void keep_message(struct scribe_job *job)
{
    if (job->error.message) {
        (void)snprintf(job->message, sizeof job->message, "%s", job->error.message);
        job->error.message = job->message;
    }
}

static void run_tokenize(struct scribe *scribe, struct scribe_job *job)
{
    const struct wire_bytes body = {job->body, job->body_bytes};
    struct wire_tokenize request;
    if (codec_decode_tokenize(scribe->codec, body, &request, &job->error)) {
        keep_message(job);
        return;
    }
    encode_text(scribe, job, request.text,
                encode_flags(request.add_special, request.parse_special));
}

static void run_detokenize(struct scribe *scribe, struct scribe_job *job)
{
    const struct wire_bytes body = {job->body, job->body_bytes};
    struct wire_detokenize request;
    struct detok detok = {0};
    if (codec_decode_detokenize(scribe->codec, body, &request, &job->error)) {
        keep_message(job);
        return;
    }
    const size_t count = request.ids.count / sizeof(uint32_t);
    for (size_t i = 0; i <= count; i++) {
        size_t bytes = 0;
        uint32_t id = 0;
        if (i == count) {
            tokenizer_decode_end(&detok, scribe->piece, &bytes);
        } else {
            memcpy(&id, request.ids.bytes + i * sizeof id, sizeof id);
            tokenizer_decode(scribe->options.tokenizer, &detok, id,
                             request.skip_special ? TOKENIZER_SKIP_SPECIAL : 0, scribe->piece,
                             &bytes);
        }
        if (id >= scribe->options.vocab) {
            fail(job, WIRE_INVALID_ARGUMENT, "ids holds an id outside the vocabulary");
            return;
        }
        if (bytes > scribe->options.message_bytes_max - job->text_bytes) {
            fail(job, WIRE_TOO_LARGE, "the text is longer than a message may be");
            return;
        }
        memcpy(job->text + job->text_bytes, scribe->piece, bytes);
        job->text_bytes += bytes;
    }
}

static void run_job(struct scribe *scribe, struct scribe_job *job)
{
    if (atomic_load_explicit(&scribe->draining, memory_order_acquire)) {
        fail(job, WIRE_DRAINING, NULL);
    } else if (!scribe->options.tokenizer) {
        fail(job, WIRE_UNSUPPORTED, "this model has no tokenizer: send ids");
    } else if (job->command == WIRE_GENERATE) {
        run_generate(scribe, job);
    } else if (job->command == WIRE_TOKENIZE) {
        run_tokenize(scribe, job);
    } else {
        run_detokenize(scribe, job);
    }
}

static struct scribe_job *get_locked(struct scribe *scribe, struct job_queue *queue)
{
    must(pthread_mutex_lock(&scribe->mutex) == 0);
    struct scribe_job *job = get(queue);
    must(pthread_mutex_unlock(&scribe->mutex) == 0);
    return job;
}

static void put_locked(struct scribe *scribe, struct job_queue *queue, struct scribe_job *job,
                       int fd)
{
    must(pthread_mutex_lock(&scribe->mutex) == 0);
    put(queue, job);
    must(pthread_mutex_unlock(&scribe->mutex) == 0);
    ring(fd);
}

static void *scribe_run(void *argument)
{
    struct scribe *scribe = argument;
    while (!atomic_load_explicit(&scribe->stop, memory_order_acquire)) {
        struct pollfd wait = {.fd = scribe->inbox_fd, .events = POLLIN};
        (void)poll(&wait, 1, SCRIBE_WAIT_MS);
        quiet(scribe->inbox_fd);
        for (struct scribe_job *job = get_locked(scribe, &scribe->inbox); job;
             job = get_locked(scribe, &scribe->inbox)) {
            run_job(scribe, job);
            put_locked(scribe, &scribe->outbox, job, scribe->outbox_fd);
        }
    }
    return NULL;
}

size_t scribe_bytes(const struct scribe_options *options)
{
    const size_t message = options->message_bytes_max;
    return SCRIBE_JOBS * (3 * message + 3 * (size_t)64) + (size_t)LIMIT_MESSAGES_MAX * 64 +
           sizeof(struct scribe) + sizeof(struct wire_generate) + 1024;
}

static int open_jobs(struct scribe *scribe, struct arena *arena)
{
    const size_t message = scribe->options.message_bytes_max;
    for (uint32_t i = 0; i < SCRIBE_JOBS; i++) {
        struct scribe_job *job = &scribe->job[i];
        job->body = arena_alloc(arena, message, 1);
        job->own_ids = arena_alloc(arena, message / sizeof(uint32_t), sizeof(uint32_t));
        job->text = arena_alloc(arena, message, 1);
        if (!job->body || !job->own_ids || !job->text) {
            return -ENOMEM;
        }
        put(&scribe->idle, job);
    }
    return 0;
}

int scribe_open(struct scribe **out, struct arena *arena, const struct scribe_options *options)
{
    struct scribe *scribe = arena_alloc(arena, 1, sizeof *scribe);
    if (!scribe) {
        return -ENOMEM;
    }
    scribe->options = *options;
    scribe->generate = arena_alloc(arena, 1, sizeof *scribe->generate);
    scribe->messages = arena_alloc(arena, LIMIT_MESSAGES_MAX, sizeof *scribe->messages);
    int code = scribe->generate && scribe->messages ? open_jobs(scribe, arena) : -ENOMEM;
    code = code ? code : codec_open(&scribe->codec);
    if (!code && options->tokenizer) {
        code = tokenizer_scratch_open(&scribe->scratch, options->tokenizer,
                                      options->message_bytes_max);
    }
    if (code) {
        return code;
    }
    scribe->inbox_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    scribe->outbox_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    must(scribe->inbox_fd >= 0 && scribe->outbox_fd >= 0);
    must(pthread_mutex_init(&scribe->mutex, NULL) == 0);
    code = -pthread_create(&scribe->thread, NULL, scribe_run, scribe);
    if (!code) {
        *out = scribe;
    }
    return code;
}

void scribe_close(struct scribe *scribe)
{
    if (!scribe) {
        return;
    }
    atomic_store_explicit(&scribe->stop, true, memory_order_release);
    ring(scribe->inbox_fd);
    must(pthread_join(scribe->thread, NULL) == 0);
    (void)close(scribe->inbox_fd);
    (void)close(scribe->outbox_fd);
    must(pthread_mutex_destroy(&scribe->mutex) == 0);
    codec_close(scribe->codec);
    tokenizer_scratch_close(scribe->scratch);
}

bool scribe_has_room(const struct scribe *scribe)
{
    return scribe->idle.count > 0;
}

struct scribe_job *scribe_take(struct scribe *scribe)
{
    struct scribe_job *job = get(&scribe->idle);
    if (job) {
        *job = (struct scribe_job){
            .body = job->body,
            .text = job->text,
            .ids = job->own_ids,
            .ids_max = scribe->options.message_bytes_max / sizeof(uint32_t),
            .own_ids = job->own_ids,
        };
    }
    return job;
}

void scribe_submit(struct scribe *scribe, struct scribe_job *job)
{
    put_locked(scribe, &scribe->inbox, job, scribe->inbox_fd);
}

void scribe_drain(struct scribe *scribe)
{
    atomic_store_explicit(&scribe->draining, true, memory_order_release);
}

int scribe_fd(const struct scribe *scribe)
{
    return scribe->outbox_fd;
}

struct scribe_job *scribe_done(struct scribe *scribe)
{
    quiet(scribe->outbox_fd);
    return get_locked(scribe, &scribe->outbox);
}

void scribe_release(struct scribe *scribe, struct scribe_job *job)
{
    put(&scribe->idle, job);
}
