"""test_heap.py - no request makes our code ask for heap, in the core or in a worker.

heap_count.c counts the calls to malloc, calloc and realloc that come from the program's own code,
msgpack-c's inline functions included. What libraries allocate inside is not counted: libzmq's
queues and messages, oneDNN's primitives while they run, and the four memory objects that each
product has oneDNN make (kernels/x86/matmul_onednn.c). That no object of ours has other ways to the
heap is what tests/lint/heap.py proves.
"""
import os
import struct

import pytest

from sluice_client import (CANCEL, DETOKENIZE, ERROR, GENERATE, HELLO, PING, RESULT, STATS,
                           TOKENIZE, Client, pack_ids)
from test_generate import PROMPT

LIBRARY = os.environ.get("SLUICE_HEAP_COUNT")
CLIENTS = 24


def count_of(folder, pid):
    return struct.unpack("<Q", (folder / str(pid)).read_bytes())[0]


def ask_everything(agent):
    """Every command and every way that an answer takes, also those that end early."""
    with Client(agent.endpoint) as client:
        for command in (HELLO, PING, STATS):
            assert client.ask(command).command != ERROR
        text = {"text": "Once upon a time"}
        assert client.ask(TOKENIZE, text).command == RESULT
        assert client.ask(DETOKENIZE, {"ids": pack_ids(PROMPT)}).command == RESULT
        for bad in ({"ids": b"123"}, {"ids": pack_ids([1 << 30])}, {"ids": 5}, {}):
            assert client.ask(GENERATE, bad).command == ERROR
        client.send_raw([b"not a message"])
        client.generate(prompt="Once upon a time", max_tokens=20, stop=["zq", "e th"])
        client.generate(ids=PROMPT, max_tokens=40, temperature=1.2, top_k=40, top_p=0.9, seed=3,
                        min_tokens=9, stop_ids=[5], top_logprobs=20, ignore_eos=True)
        client.generate(ids=PROMPT, max_tokens=40, temperature=0, stream=False, ignore_eos=True)
        whole = client.generate(ids=PROMPT, max_tokens=400, temperature=0, stream=False,
                                top_logprobs=20, ignore_eos=True)
        assert len(whole.logprobs) == 400
        client.generate(ids=PROMPT, max_tokens=30, temperature=1, repetition_penalty=1.2,
                        presence_penalty=0.5, frequency_penalty=0.5, logit_bias={"5": -2.0},
                        bad_ids=[7], prompt_logprobs=5, include_stop=True, stop=["zq"], seed=1)
        client.finish(client.start_choices(3, ids=PROMPT, max_tokens=20, ignore_eos=True))
        # More than the pool holds at one time: they wait, are preempted and computed again.
        many = [client.start(ids=PROMPT + [3 + i], max_tokens=100, ignore_eos=True, temperature=0)
                for i in range(CLIENTS)]
        client.finish(*many)
        assert all(len(answer.ids) == 100 for answer in many)
        long = client.start(request_id=b"long", ids=PROMPT, max_tokens=400, ignore_eos=True)
        client.pump(lambda: len(long.ids) > 2)
        client.send(CANCEL, request_id=b"long")
        assert client.finish(long).finish == "cancelled"


@pytest.mark.skipif(not LIBRARY, reason="needs SLUICE_HEAP_COUNT: a release build, through ctest")
def test_requests_take_no_heap(own_agent, tmp_path):
    agent = own_agent({"kv.device_pages": 64, "batch.slots_max": 16},
                      {"LD_PRELOAD": LIBRARY, "SLUICE_HEAP_FOLDER": str(tmp_path)})
    processes = {"core": agent.core(), "worker": agent.worker()}
    before = {name: count_of(tmp_path, pid) for name, pid in processes.items()}
    assert all(count > 0 for count in before.values()), "the start takes some: nothing counts"
    for _ in range(2):
        ask_everything(agent)
    with Client(agent.endpoint) as client:
        stats = client.ask(STATS).body
    assert stats["preemptions_total"] > 0, stats
    assert {name: count_of(tmp_path, pid) for name, pid in processes.items()} == before
