#!/usr/bin/env python3
"""make_vectors.py FOLDER - writes one file of hexadecimal for each message of protocol v1.

Written from docs/protocol.md with Python's msgpack, so that the C codec meets a stranger. A file
holds the four frames, one a line. codec_golden_test.c builds the same messages.
"""
import os
import struct
import sys

import msgpack


def ids(*values):
    return struct.pack(f"<{len(values)}I", *values)


def single(value):
    """A 32-bit float as packed bytes; the packer below writes them as they are."""
    return msgpack.ExtType(0, b"\xca" + struct.pack(">f", value))


def pack(value):
    """msgpack.packb, but logprobs are 32-bit floats."""
    if isinstance(value, msgpack.ExtType):
        return value.data
    packer = msgpack.Packer()
    if isinstance(value, dict):
        return packer.pack_map_header(len(value)) + b"".join(
            pack(key) + pack(item) for key, item in value.items())
    if isinstance(value, list):
        return packer.pack_array_header(len(value)) + b"".join(map(pack, value))
    return packer.pack(value)


INSTANCE = 0x0123456789abcdef
LOGPROBS = [
    {"id": 7, "logprob": single(-0.5), "top": [[7, single(-0.5)], [300, single(-1.25)]]},
    {"id": 70000, "logprob": single(-2.0), "top": []},
]
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 0}
MESSAGES = {
    "hello": (1, {"minor_max": 0}),
    "generate_prompt": (2, {"prompt": "Once upon a time"}),
    "generate_ids": (2, {
        "ids": ids(1, 403, 70000), "max_tokens": 64, "temperature": 0.0, "top_k": 40,
        "top_p": 0.95, "min_p": 0.05, "seed": 0xfedcba9876543210, "min_tokens": 2,
        "top_logprobs": 2, "timeout_ms": 30000, "ignore_eos": True, "stream": False,
        "add_special": False, "parse_special": True, "skip_special": False, "strict": True,
        "stop": ["\n\n", "END"], "stop_ids": ids(2, 9)}),
    "generate_adjust": (2, {
        "prompt": "Once", "repetition_penalty": 1.1, "presence_penalty": 0.5,
        "frequency_penalty": -0.25, "logit_bias": {"7": single(-100), "70000": single(2.5)},
        "bad_ids": ids(11, 12), "allowed_ids": ids(7, 13, 70000), "prompt_logprobs": 0,
        "include_stop": True, "events": True, "stop": ["END"]}),
    "generate_messages": (2, {
        "messages": [{"role": "system", "content": "Be brief."},
                     {"role": "user", "content": "Grüße, 世界"}],
        "max_tokens": 300}),
    "generate_n": (2, {"prompt": "Once", "n": 4}),
    "generate_terms": (2, {"prompt": "Once", "priority": -5, "tenant": "search"}),
    "cancel": (3, {}),
    "credit": (4, {"tokens": 256}),
    "ping": (5, {}),
    "tokenize": (6, {"text": "Hello", "add_special": True, "parse_special": False}),
    "detokenize": (7, {"ids": ids(1, 2, 3), "skip_special": True}),
    "stats": (8, {}),
    "plans": (9, {}),
    "welcome": (129, {
        "instance": INSTANCE, "minor": 0, "version": "0.1.0", "model": "SmolLM2-135M",
        "context_tokens_max": 8192, "vocab": 49152, "page_tokens": 16, "credit_tokens": 1024,
        "message_bytes_max": 1 << 20, "max_tokens_default": 256, "eos_ids": ids(2, 0),
        "tokenizer": True, "chat": True}),
    "tokens": (130, {"instance": INSTANCE, "offset": 3, "ids": ids(7, 70000), "text": " sky"}),
    "tokens_logprobs": (130, {
        "instance": INSTANCE, "offset": 0, "ids": ids(7, 70000), "text": "é",
        "logprobs": LOGPROBS}),
    "tokens_prompt": (130, {
        "instance": INSTANCE, "offset": 0, "ids": ids(), "text": "", "prompt_offset": 65,
        "prompt_logprobs": LOGPROBS}),
    "tokens_index": (130, {
        "instance": INSTANCE, "index": 2, "offset": 3, "ids": ids(7, 70000), "text": " sky"}),
    "done_index": (131, {
        "instance": INSTANCE, "index": 2, "finish_reason": "stop", "usage": USAGE}),
    "done": (131, {"instance": INSTANCE, "finish_reason": "stop", "usage": USAGE}),
    "done_events": (131, {
        "instance": INSTANCE, "finish_reason": "stop", "usage": USAGE,
        "events": {"queued_us": 1000, "scheduled_us": 2000, "first_token_us": 1 << 40,
                   "finished_us": (1 << 40) + 1, "preempted_count": 2,
                   "preempted_us": [3000, 4000]}}),
    "done_cancelled": (131, {"instance": INSTANCE, "finish_reason": "cancelled", "usage": USAGE}),
    "done_whole": (131, {
        "instance": INSTANCE, "finish_reason": "length", "usage": USAGE, "ids": ids(7, 70000),
        "text": " sky", "logprobs": LOGPROBS}),
    "done_prompt": (131, {
        "instance": INSTANCE, "finish_reason": "length", "usage": USAGE, "ids": ids(7, 70000),
        "text": " sky", "prompt_offset": 1, "prompt_logprobs": LOGPROBS}),
    "error": (132, {
        "code": "overloaded", "status": 429, "message": "the queue is full; try again later",
        "retryable": True, "retry_after_ms": 250, "request_id": b"r-1"}),
    "error_field": (132, {
        "code": "invalid_argument", "status": 400,
        "message": "temperature must be a number from 0 to 100", "retryable": False,
        "retry_after_ms": 0, "request_id": b"r-1"}),
    "error_unread_id": (132, {
        "code": "invalid_argument", "status": 400, "message": "the request is malformed",
        "retryable": False, "retry_after_ms": 0, "request_id": b"?"}),
    "pong": (133, {"instance": INSTANCE, "steps": 123456}),
    "result_ids": (134, {"ids": ids(1, 2, 3)}),
    "result_text": (134, {"text": "Hello"}),
    "result_stats": (134, {"requests_running": 3, "steps_total": 1 << 40}),
    "result_plans": (134, {
        "plans": [
            {"file": "", "plan": 0, "tokens": 0, "decode": 0, "context": 0, "steps_total": 7,
             "compute_us_total": 900},
            {"file": "512-0-64.json", "plan": 1, "tokens": 512, "decode": 0, "context": 64,
             "steps_total": 1 << 33, "compute_us_total": 1 << 40}],
        "refused": [{"file": "old.json", "reason": "it was made for tp 1, this is 2"}]}),
}


def main(folder):
    for name, (command, body) in MESSAGES.items():
        request_id = b"?" if name == "error_unread_id" else b"r-1"
        frames = [b"SLCE\x01\x00", bytes([command]), request_id, pack(body)]
        with open(os.path.join(folder, name + ".hex"), "w", encoding="ascii") as file:
            file.writelines(frame.hex() + "\n" for frame in frames)
    print(f"{len(MESSAGES)} messages")


if __name__ == "__main__":
    main(sys.argv[1])
