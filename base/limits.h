/*
 * limits.h - every bound of the system with its reason. A queue, loop, wait, string or batch whose
 * bound is not here has its bound in the config (config.h), which is itself bounded from here.
 */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

enum {
    /* Processes. */
    LIMIT_WORKERS_MAX = 16,         /* Devices of the largest node in view. */
    LIMIT_WORKER_THREADS_MAX = 256, /* Cores a CPU worker may pin. */
    LIMIT_BINDS_MAX = 8,            /* zmq.bind entries. */
    LIMIT_PATH_BYTES_MAX = 1024,    /* A path in the config, NUL included. */
    LIMIT_NAME_BYTES_MAX = 128,     /* model.name, chat.template. */

    /* Scheduling. */
    LIMIT_SLOTS_MAX = 4096,        /* Requests that hold pages at one time. */
    LIMIT_QUEUE_MAX = 65536,       /* Requests waiting for admission. */
    LIMIT_STEP_TOKENS_MAX = 65536, /* Dense batch; also bounds worker activations. */
    LIMIT_STEP_ROWS_MAX = 4096,    /* One row a slot. */
    LIMIT_STEPS_IN_FLIGHT_MAX = 2, /* One runs, one waits: a third would only add latency. */
    LIMIT_STEP_SCORES_MAX = 1024,  /* Prompt tokens judged in a step: their answer fits the ring. */
    LIMIT_CONTEXT_MAX = 1 << 20,   /* Tokens of one sequence. */
    LIMIT_PAGE_TOKENS_MIN = 16,
    LIMIT_PAGE_TOKENS_MAX = 64,  /* 16, 32 or 64. */
    LIMIT_PAGES_MAX = 1 << 24,   /* Pages of one device. */
    LIMIT_TENANTS_MAX = 64,      /* With live requests; all are looked at for each that enters. */
    LIMIT_PRIORITY_MAX = 100,    /* And down to minus this. */
    LIMIT_TENANT_BYTES_MAX = 64, /* A tenant's name. */

    /* One request. */
    LIMIT_REQUEST_ID_BYTES_MAX = 64,  /* Protocol: 1 to 64. */
    LIMIT_ROUTING_ID_BYTES_MAX = 255, /* ZMTP: a routing id is at most 255 bytes. */
    LIMIT_STOP_IDS_MAX = 16,          /* Of a request; the model's own eos ids come on top. */
    LIMIT_EOS_IDS_MAX = 8,            /* generation_config.json lists a few. */
    LIMIT_STOP_STRINGS_MAX = 8,
    LIMIT_STOP_STRING_BYTES_MAX = 128, /* Also the text held back while one may be forming. */
    LIMIT_TOP_LOGPROBS_MAX = 20,
    LIMIT_LOGIT_BIASES_MAX = 512,    /* Each is looked at for each token; services send a few. */
    LIMIT_BAD_IDS_MAX = 512,         /* Likewise; they travel as biases. */
    LIMIT_ALLOWED_IDS_MAX = 1024,    /* Choices to pick one of. */
    LIMIT_PREEMPTIONS_TOLD_MAX = 16, /* In the events of a DONE; the count goes on. */
    LIMIT_CHOICES_MAX = 16,          /* Answers of one request: each takes a place in the queue. */
    LIMIT_MESSAGES_MAX = 1024,       /* Chat turns of one request. */

    /* Wire. */
    LIMIT_FRAME_BYTES_MAX = 16 << 20, /* Hard cap on ZMQ_MAXMSGSIZE. */
    LIMIT_MSGPACK_DEPTH_MAX = 8,
    LIMIT_MSGPACK_ELEMENTS_MAX = 8192, /* One budget over all levels; bounds the decoder's zone. */
    LIMIT_MSGPACK_KEYS_MAX = 128,      /* Of a root map: each is compared with all before it. */

    /* Model files. */
    LIMIT_VOCAB_MAX = 1 << 20,
    LIMIT_LAYERS_MAX = 512,
    LIMIT_EXPERTS_MAX = 512,     /* Of a layer; the largest open mixtures have 512. */
    LIMIT_EXPERTS_USED_MAX = 32, /* Of a token: its choice is kept on the stack. */
    LIMIT_TENSORS_MAX = 65536,
    LIMIT_TENSOR_DIMS_MAX = 8, /* safetensors allows more; no model needs them. */
    LIMIT_SHARDS_MAX = 1024,
    LIMIT_JSON_BYTES_MAX = 100 << 20, /* As the safetensors header; tokenizer.json reaches 30 MB. */
    LIMIT_JSON_DEPTH_MAX = 64,
    LIMIT_TOKEN_BYTES_MAX = 4096, /* Text of one vocabulary entry. */
};

#endif /* BASE_LIMITS_H */
