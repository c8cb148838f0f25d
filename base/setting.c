/*
 * setting.c - see setting.h. Called by config.c on the main thread at start; owns nothing. The one
 * invariant: a value is checked completely before the field is written.
 */
#include "base/setting.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endpoint.h"

#define AT(field) .offset = offsetof(struct config, field)

/* One row a key, in the order of struct config. The keys of a section stand together. */
static const struct setting setting_table[] = {
    {"model.path", "A GGUF file or a Hugging Face directory.", NULL, NULL, SETTING_TEXT, 1,
     LIMIT_PATH_BYTES_MAX, AT(model.path)},
    {"model.name", "Name told to clients; empty: the last part of the path.", "", NULL,
     SETTING_TEXT, 0, LIMIT_NAME_BYTES_MAX, AT(model.name)},
    {"model.dtype",
     "Of weights, and of KV where kv.dtype is auto; auto: bf16 where the device has it, else f32.",
     "auto", "auto bf16 f32", SETTING_CHOICE, 0, 0, AT(model.dtype)},
    {"model.weights",
     "Of the layers' products; auto: as model.dtype. int8 is for CPUs, fp8 for GPUs.", "auto",
     "auto int8 fp8", SETTING_CHOICE, 0, 0, AT(model.weights)},
    {"model.context_tokens_max", "Longest sequence served; 0: the model's own.", "0", NULL,
     SETTING_NUMBER, 0, LIMIT_CONTEXT_MAX, AT(model.context_tokens_max)},
    {"model.random_weights",
     "For measurements: a seed for weights of the shapes in config.json; 0: the model's own.", "0",
     NULL, SETTING_NUMBER, 0, UINT32_MAX, AT(model.random_weights)},
    {"chat.template", "How messages become a prompt; none refuses them.", "chatml", "chatml none",
     SETTING_TEXT, 1, LIMIT_NAME_BYTES_MAX, AT(chat.template)},
    {"zmq.bind", "Endpoints for clients, ipc:// and loopback tcp://; a list or one.",
     "ipc:///tmp/sluice-agent/api.sock", NULL, SETTING_ENDPOINTS, 1, LIMIT_PATH_BYTES_MAX,
     AT(zmq.bind)},
    {"zmq.message_bytes_max", "Longest frame of a client.", "4194304", NULL, SETTING_NUMBER, 1024,
     LIMIT_FRAME_BYTES_MAX, AT(zmq.message_bytes_max)},
    {"zmq.send_messages_max", "Messages queued towards one client.", "1000", NULL, SETTING_NUMBER,
     1, 1000000, AT(zmq.send_messages_max)},
    {"zmq.recv_messages_max", "Messages queued from one client.", "1000", NULL, SETTING_NUMBER, 1,
     1000000, AT(zmq.recv_messages_max)},
    {"admin.bind", "ipc:// endpoint of the operator; empty: the first ipc bind + .admin.", "", NULL,
     SETTING_ENDPOINT, 0, LIMIT_PATH_BYTES_MAX, AT(admin.bind)},
    {"workers.count", "Worker processes, one a device.", "1", NULL, SETTING_NUMBER, 1,
     LIMIT_WORKERS_MAX, AT(workers.count)},
    {"workers.tp", "Workers that share one model (tensor parallel); divides workers.count.", "1",
     NULL, SETTING_NUMBER, 1, LIMIT_WORKERS_MAX, AT(workers.tp)},
    {"workers.threads", "Threads of a worker; 0: the cores at hand / workers.count.", "0", NULL,
     SETTING_NUMBER, 0, LIMIT_WORKER_THREADS_MAX, AT(workers.threads)},
    {"workers.device", "auto: a GPU where sluice-worker-cuda finds one, else the CPU.", "auto",
     "auto cpu cuda", SETTING_CHOICE, 0, 0, AT(workers.device)},
    {"workers.start_timeout_ms", "A worker not ready by then is killed.", "120000", NULL,
     SETTING_NUMBER, 100, 3600000, AT(workers.start_timeout_ms)},
    {"workers.step_timeout_ms",
     "A worker that gets no further with a step for so long hangs, and is killed. On a GPU, which "
     "tells nothing in between, all of the step counts.",
     "5000", NULL, SETTING_NUMBER, 10, 600000, AT(workers.step_timeout_ms)},
    {"batch.tokens_max", "Tokens of one step, prompts and answers together.", "512", NULL,
     SETTING_NUMBER, 1, LIMIT_STEP_TOKENS_MAX, AT(batch.tokens_max)},
    {"batch.slots_max", "Requests that run at one time; at most batch.tokens_max.", "64", NULL,
     SETTING_NUMBER, 1, LIMIT_SLOTS_MAX, AT(batch.slots_max)},
    {"batch.forecast_percent",
     "A request enters when the pages last for all that run, were answers as long as this "
     "percentage of those before; 0: when there are pages for its known tokens.",
     "80", NULL, SETTING_NUMBER, 0, 99, AT(batch.forecast_percent)},
    {"batch.steps_in_flight",
     "2: a step is formed while the one before runs, so that a worker never waits; 1: after it, so "
     "that a new request may wait a step less.",
     "2", NULL, SETTING_NUMBER, 1, LIMIT_STEPS_IN_FLIGHT_MAX, AT(batch.steps_in_flight)},
    {"kv.page_tokens", "Tokens of one KV page.", "16", "16 32 64", SETTING_NUMBER, 16,
     LIMIT_PAGE_TOKENS_MAX, AT(kv.page_tokens)},
    {"kv.device_pages", "KV pages of one worker.", "4160", NULL, SETTING_NUMBER, 1, LIMIT_PAGES_MAX,
     AT(kv.device_pages)},
    {"kv.dtype",
     "Of keys and values; auto: as model.dtype. fp8_e4m3 takes a byte each, on GPUs alone, and is "
     "less exact.",
     "auto", "auto fp8_e4m3", SETTING_CHOICE, 0, 0, AT(kv.dtype)},
    {"plan.mode",
     "How steps run: auto takes the plan that was measured fastest for the like, sequential one "
     "operation after the other, nano a plan's nano-batches on one lane, overlap its lanes side by "
     "side.",
     "auto", "auto sequential nano overlap", SETTING_CHOICE, 0, 0, AT(plan.mode)},
    {"plan.dir", "Directory of plan files (*.json) of sluice-tune; empty: none.", "", NULL,
     SETTING_TEXT, 0, LIMIT_PATH_BYTES_MAX, AT(plan.dir)},
    {"queue.requests_max", "Requests that wait; above it: overloaded.", "1024", NULL,
     SETTING_NUMBER, 1, LIMIT_QUEUE_MAX, AT(queue.requests_max)},
    {"queue.tokens_max", "Prompt tokens that wait; above it: overloaded.", "1048576", NULL,
     SETTING_NUMBER, 1, UINT32_MAX, AT(queue.tokens_max)},
    {"queue.retry_after_ms", "Told to a client that is refused as overloaded.", "1000", NULL,
     SETTING_NUMBER, 1, 3600000, AT(queue.retry_after_ms)},
    {"queue.timeout_ms", "Default and upper bound of a request's life.", "600000", NULL,
     SETTING_NUMBER, 1, 86400000, AT(queue.timeout_ms)},
    {"slo.ttft_ms",
     "Time to the first token that steps are kept small for while the queue is short; 0: none.",
     "0", NULL, SETTING_NUMBER, 0, 3600000, AT(slo.ttft_ms)},
    {"slo.tpot_ms", "Time per further token that steps are kept small for; 0: none.", "0", NULL,
     SETTING_NUMBER, 0, 3600000, AT(slo.tpot_ms)},
    {"stream.credit_tokens", "Window of a client that never sends CREDIT.", "1024", NULL,
     SETTING_NUMBER, 1, LIMIT_CONTEXT_MAX, AT(stream.credit_tokens)},
    {"stream.stall_timeout_ms", "A stream whose reader takes nothing for so long is cut.", "30000",
     NULL, SETTING_NUMBER, 1, 86400000, AT(stream.stall_timeout_ms)},
};

#undef AT

enum { SETTING_COUNT = sizeof setting_table / sizeof setting_table[0] };
static_assert((int)SETTING_COUNT <= (int)SETTINGS_MAX, "arrays beside the table");

const struct setting *setting_at(uint32_t index)
{
    return index < SETTING_COUNT ? &setting_table[index] : NULL;
}

static int setting_find_ended(const char *name, size_t bytes, char end)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        const char *known = setting_table[i].name;
        if (strncmp(known, name, bytes) == 0 && known[bytes] == end) {
            return i;
        }
    }
    return -1;
}

int setting_find(const char *name, size_t bytes)
{
    return setting_find_ended(name, bytes, '\0');
}

int setting_find_section(const char *name, size_t bytes)
{
    return memchr(name, '.', bytes) ? -1 : setting_find_ended(name, bytes, '.');
}

void setting_clear(struct config *config, const struct setting *setting)
{
    if (setting->kind == SETTING_ENDPOINTS) {
        memset(config->zmq.bind, 0, sizeof config->zmq.bind);
        config->zmq.bind_count = 0;
    }
}

/* The place of text among the words, or -1. */
static int setting_word(const char *words, const char *text)
{
    const size_t bytes = strlen(text);
    int place = 0;
    for (const char *word = words; *word; place++) {
        const size_t word_bytes = strcspn(word, " ");
        if (word_bytes == bytes && memcmp(word, text, bytes) == 0) {
            return place;
        }
        word += word_bytes + (word[word_bytes] == ' ');
    }
    return -1;
}

/* "a b c" becomes "must be a, b or c". */
static void setting_name_choices(const char *choices, char fault[SETTING_FAULT_BYTES_MAX])
{
    size_t used = 0;
    for (const char *word = choices; *word;) {
        const size_t bytes = strcspn(word, " ");
        const char *next = word + bytes + (word[bytes] == ' ');
        const char *join = used == 0 ? "must be " : *next ? ", " : " or ";
        const int added = snprintf(fault + used, SETTING_FAULT_BYTES_MAX - used, "%s%.*s", join,
                                   (int)bytes, word);
        must(added > 0 && used + (size_t)added < SETTING_FAULT_BYTES_MAX);
        used += (size_t)added;
        word = next;
    }
}

/* Decimal digits only: no sign, blank, underscore or base. */
static bool setting_number(const char *text, const struct setting *setting, uint32_t *out)
{
    uint64_t value = 0;
    for (const char *digit = text; *digit; digit++) {
        if (*digit < '0' || *digit > '9' || value > UINT32_MAX) {
            return false;
        }
        value = value * 10 + (uint64_t)(*digit - '0');
    }
    if (!*text || value < setting->min || value > setting->max) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

static int setting_store_number(unsigned char *field, const struct setting *setting,
                                const char *text, char fault[SETTING_FAULT_BYTES_MAX])
{
    uint32_t number;
    if (!setting_number(text, setting, &number)) {
        (void)snprintf(fault, SETTING_FAULT_BYTES_MAX, "must be a whole number from %u to %u",
                       setting->min, setting->max);
        return -EINVAL;
    }
    memcpy(field, &number, sizeof number);
    return 0;
}

static int setting_store_text(char *field, const struct setting *setting, const char *text,
                              char fault[SETTING_FAULT_BYTES_MAX])
{
    const size_t bytes = strlen(text);
    if (bytes < setting->min) {
        (void)snprintf(fault, SETTING_FAULT_BYTES_MAX, "must not be empty");
        return -EINVAL;
    }
    if (bytes >= setting->max) {
        (void)snprintf(fault, SETTING_FAULT_BYTES_MAX, "must be shorter than %u bytes",
                       setting->max);
        return -EINVAL;
    }
    memset(field, 0, setting->max); /* The whole field: the struct travels as bytes. */
    memcpy(field, text, bytes + 1);
    return 0;
}

static int setting_store_endpoint(struct config *config, const struct setting *setting,
                                  const char *text, char fault[SETTING_FAULT_BYTES_MAX])
{
    const bool list = setting->kind == SETTING_ENDPOINTS;
    const char *wrong = NULL;
    if (*text || list) {
        wrong = list ? endpoint_fault(text) : endpoint_ipc_fault(text);
    }
    if (!wrong && list && config->zmq.bind_count == LIMIT_BINDS_MAX) {
        wrong = "has too many entries";
    }
    if (wrong) {
        (void)snprintf(fault, SETTING_FAULT_BYTES_MAX, "%s", wrong);
        return -EINVAL;
    }
    char *field = list ? config->zmq.bind[config->zmq.bind_count] : config->admin.bind;
    const int error = setting_store_text(field, setting, text, fault);
    config->zmq.bind_count += list && !error ? 1 : 0;
    return error;
}

int setting_store(struct config *config, const struct setting *setting, const char *text,
                  char fault[SETTING_FAULT_BYTES_MAX])
{
    unsigned char *field = (unsigned char *)config + setting->offset;
    const int place = setting->choices ? setting_word(setting->choices, text) : 0;
    if (place < 0) {
        setting_name_choices(setting->choices, fault);
        return -EINVAL;
    }
    switch (setting->kind) {
    case SETTING_NUMBER:
        return setting_store_number(field, setting, text, fault);
    case SETTING_CHOICE:
        memcpy(field, &(uint32_t){(uint32_t)place}, sizeof(uint32_t));
        return 0;
    case SETTING_TEXT:
        return setting_store_text((char *)field, setting, text, fault);
    case SETTING_ENDPOINT:
    case SETTING_ENDPOINTS:
        break;
    }
    return setting_store_endpoint(config, setting, text, fault);
}
