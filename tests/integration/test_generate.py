"""test_generate.py - what one client gets: tokens, text, sampling, stops, logprobs, deadlines."""
import json
import math
import os
import random

import pytest
import zmq

from agent_fixtures import DATA
from sluice_client import (DETOKENIZE, ERROR, GENERATE, HELLO, PING, PONG, RESULT, STATS,
                           TOKENIZE, WELCOME, Client, pack_ids, unpack_ids)

PROMPT = [1, 290, 264, 277, 265]  # In the vocabulary of either model, as all prompts here.


def prompt_of(seed, tokens=12):
    source = random.Random(seed)
    return [1] + [source.randrange(3, 300) for _ in range(tokens - 1)]


def goldens():
    if not DATA:
        return []
    with open(os.path.join(DATA, "models/stories260K-hf/golden.json"), encoding="utf-8") as file:
        return json.load(file)["cases"]


def test_hello_tells_what_a_client_needs(client):
    body = client.ask(HELLO, {"minor_max": 3}).body
    assert body["minor"] == 0 and body["version"] and body["model"]
    assert body["context_tokens_max"] >= 512 and body["vocab"] >= 259
    assert body["credit_tokens"] > 0 and body["message_bytes_max"] > 0
    assert body["page_tokens"] == 16 and body["max_tokens_default"] == 256
    assert body["instance"] == client.ask(HELLO).body["instance"] != 0


def test_ping_is_answered_from_the_loop(client):
    first = client.ask(PING)
    assert first.command == PONG
    client.generate(ids=PROMPT, max_tokens=4, ignore_eos=True)
    assert client.ask(PING).body["steps"] > first.body["steps"]


def test_stats_are_named_numbers(client):
    reply = client.ask(STATS)
    assert reply.command == RESULT and reply.body
    assert all(isinstance(value, int) and value >= 0 for value in reply.body.values())


def test_hello_is_optional_and_minor_versions_are_accepted(agent):
    with Client(agent.endpoint) as client:
        client.send_raw([b"SLCE\x01\x07", bytes([PING]), b"later-minor", b"\x80"])
        assert client.receive(10).command == PONG


@pytest.mark.skipif(not DATA, reason="needs SLUICE_TEST_DATA")
def test_greedy_tokens_equal_the_goldens(client):
    cases = goldens()
    assert len(cases) >= 5
    for case in cases:
        assert case["greedy_min_top2_gap"] >= 1e-3, "this set has no close call"
        answer = client.generate(ids=case["prompt_ids"], max_tokens=len(case["greedy_ids"]),
                                 temperature=0)
        assert answer.ids == case["greedy_ids"], case["name"]
        assert answer.usage["prompt_tokens"] == len(case["prompt_ids"])


@pytest.mark.skipif(not DATA, reason="needs SLUICE_TEST_DATA")
def test_greedy_text_equals_the_goldens(client):
    for case in goldens():
        whole = client.ask(DETOKENIZE, {"ids": pack_ids(case["prompt_ids"] + case["greedy_ids"]),
                                        "skip_special": True}).body["text"]
        assert whole.strip() == case["greedy_text"].strip(), case["name"]


def test_the_text_is_that_of_the_ids(client):
    for seed in range(6):
        answer = client.generate(ids=prompt_of(seed), max_tokens=60, temperature=1.2, seed=seed,
                                 ignore_eos=True)
        alone = client.ask(DETOKENIZE, {"ids": pack_ids(answer.ids), "skip_special": True})
        assert answer.text.strip() == alone.body["text"].strip()
        assert len(answer.ids) == 60 and answer.finish == "length"


def test_a_text_prompt_equals_its_ids(client):
    text = "Once upon a time"
    ids = unpack_ids(client.ask(TOKENIZE, {"text": text}).body["ids"])
    by_text = client.generate(prompt=text, max_tokens=24, temperature=0)
    by_ids = client.generate(ids=ids, max_tokens=24, temperature=0)
    assert by_text.ids == by_ids.ids and by_text.text == by_ids.text
    assert by_text.usage["prompt_tokens"] == len(ids)
    plain = unpack_ids(client.ask(TOKENIZE, {"text": text, "add_special": False}).body["ids"])
    assert ids == [1] + plain, "the tokenizer asks for BOS"
    without = client.generate(prompt=text, add_special=False, max_tokens=1)
    assert without.usage["prompt_tokens"] == len(plain)


def test_special_text_is_plain_unless_asked(client):
    plain = unpack_ids(client.ask(TOKENIZE, {"text": "</s>", "add_special": False}).body["ids"])
    parsed = unpack_ids(client.ask(TOKENIZE, {"text": "</s>", "add_special": False,
                                              "parse_special": True}).body["ids"])
    assert 2 not in plain and parsed[-1] == 2 and len(plain) > len(parsed)
    assert "</s>" in client.ask(DETOKENIZE, {"ids": pack_ids([290, 2])}).body["text"]
    assert "</s>" not in client.ask(
        DETOKENIZE, {"ids": pack_ids([290, 2]), "skip_special": True}).body["text"]


def test_without_streaming_one_message_holds_all(client):
    streamed = client.generate(ids=PROMPT, max_tokens=32, temperature=0, top_logprobs=2)
    whole = client.generate(ids=PROMPT, max_tokens=32, temperature=0, top_logprobs=2, stream=False)
    assert whole.messages == 0 and streamed.messages > 0
    assert whole.ids == streamed.ids and whole.text == streamed.text
    assert whole.logprobs == streamed.logprobs and len(whole.logprobs) == 32


def test_a_req_client_gets_one_reply(agent):
    with Client(agent.endpoint, zmq.REQ) as client, Client(agent.endpoint) as other:
        assert client.ask(HELLO).command == WELCOME
        answer = client.generate(ids=PROMPT, max_tokens=20, temperature=0)
        assert answer.ids == other.generate(ids=PROMPT, max_tokens=20, temperature=0).ids
        bad = client.ask(GENERATE, {"ids": b""})
        assert bad.command == ERROR
        assert client.ask(PING).command == PONG


def test_the_same_seed_gives_the_same_tokens(client):
    options = {"ids": PROMPT, "max_tokens": 40, "temperature": 1.5, "ignore_eos": True}
    alone = client.generate(seed=7, **options)
    others = [client.start(seed=100 + n, **options) for n in range(15)]
    again = client.generate(seed=7, **options)
    client.finish(*others)
    assert alone.ids == again.ids
    assert all(other.ids != alone.ids for other in others)
    assert len({tuple(other.ids) for other in others}) == 15


def test_without_a_seed_answers_differ(client):
    answers = [client.generate(ids=PROMPT, max_tokens=40, temperature=1.5, ignore_eos=True)
               for _ in range(4)]
    assert len({tuple(answer.ids) for answer in answers}) == 4


def test_a_narrow_choice_is_greedy(client):
    greedy = client.generate(ids=PROMPT, max_tokens=40, temperature=0, ignore_eos=True)
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        answer = client.generate(ids=PROMPT, max_tokens=40, temperature=2.0, seed=3,
                                 ignore_eos=True, **narrow)
        assert answer.ids == greedy.ids, narrow


def test_a_stop_string_across_tokens_ends_the_text_before_it(client):
    base = client.generate(ids=PROMPT, max_tokens=60, temperature=0, ignore_eos=True)
    tried = 0
    for begin in range(5, len(base.text) - 12, 7):
        stop = base.text[begin:begin + 8]
        first = base.text.index(stop)
        answer = client.generate(ids=PROMPT, max_tokens=60, temperature=0, ignore_eos=True,
                                 stop=[stop, "\x00 never \x00"])
        assert answer.finish == "stop" and answer.text == base.text[:first], stop
        assert answer.ids == base.ids[:len(answer.ids)] and len(answer.ids) < 60
        tried += 1
    assert tried >= 5


def test_a_stop_that_never_comes_loses_no_text(client):
    base = client.generate(ids=PROMPT, max_tokens=50, temperature=0, ignore_eos=True)
    tail = base.text[-3:] + "\x01"
    answer = client.generate(ids=PROMPT, max_tokens=50, temperature=0, ignore_eos=True, stop=tail)
    assert answer.finish == "length" and answer.text == base.text


def test_stop_ids_end_the_answer(client):
    base = client.generate(ids=PROMPT, max_tokens=50, temperature=0, ignore_eos=True)
    stop_id = base.ids[20]
    first = base.ids.index(stop_id)
    for stop_ids in ([stop_id, 5], pack_ids([5, stop_id])):
        answer = client.generate(ids=PROMPT, max_tokens=50, temperature=0, ignore_eos=True,
                                 stop_ids=stop_ids)
        assert answer.finish == "stop" and answer.ids == base.ids[:first + 1]


def test_min_tokens_holds_stops_back(client):
    base = client.generate(ids=PROMPT, max_tokens=50, temperature=0, ignore_eos=True)
    stop_id = base.ids[3]
    answer = client.generate(ids=PROMPT, max_tokens=50, temperature=0, ignore_eos=True,
                             stop_ids=[stop_id], min_tokens=12)
    assert len(answer.ids) >= 12 and stop_id not in answer.ids[:11]


@pytest.mark.skipif(not DATA, reason="needs SLUICE_TEST_DATA: a trained model ends by itself")
def test_the_end_of_text_ends_unless_ignored(client):
    eos = client.ask(HELLO).body["eos_ids"]
    eos = unpack_ids(eos) if isinstance(eos, bytes) else eos
    assert set(eos) == {1, 2}
    ended = client.generate(ids=[1], max_tokens=500, temperature=0)
    assert ended.finish == "stop" and ended.ids[-1] in eos and len(ended.ids) < 500
    ignored = client.generate(ids=[1], max_tokens=500, temperature=0, ignore_eos=True)
    assert ignored.finish == "length" and len(ignored.ids) == 500
    assert ignored.ids[:len(ended.ids)] == ended.ids
    held = client.generate(ids=[1], max_tokens=500, temperature=0, min_tokens=len(ended.ids) + 5)
    assert len(held.ids) >= len(ended.ids) + 5
    assert not set(held.ids[:len(ended.ids) + 4]) & set(eos), "masked, not only overlooked"


def test_logprobs_are_ranked_and_normal(client):
    plain = client.generate(ids=PROMPT, max_tokens=16, temperature=0, ignore_eos=True)
    assert plain.logprobs == []
    answer = client.generate(ids=PROMPT, max_tokens=16, temperature=0, ignore_eos=True,
                             top_logprobs=20)
    assert answer.ids == plain.ids and len(answer.logprobs) == 16
    for token_id, entry in zip(answer.ids, answer.logprobs):
        top = entry["top"]
        assert entry["id"] == token_id == top[0][0] and entry["logprob"] == top[0][1]
        assert len(top) == 20 == len({pair[0] for pair in top})
        values = [pair[1] for pair in top]
        assert values == sorted(values, reverse=True) and values[0] <= 0
        assert sum(map(math.exp, values)) <= 1 + 1e-5
    chosen = client.generate(ids=PROMPT, max_tokens=8, temperature=0, ignore_eos=True,
                             top_logprobs=0)
    assert [entry["id"] for entry in chosen.logprobs] == chosen.ids
    assert all(entry["top"] == [] for entry in chosen.logprobs)


@pytest.mark.skipif(not DATA, reason="needs SLUICE_TEST_DATA")
def test_logprobs_equal_the_goldens(client):
    for case in goldens():
        logits = case["last_logits"]
        peak = max(logits)
        norm = peak + math.log(sum(math.exp(value - peak) for value in logits))
        top = client.generate(ids=case["prompt_ids"], max_tokens=1, temperature=0,
                              top_logprobs=20).logprobs[0]["top"]
        best = sorted(range(len(logits)), key=lambda i: -logits[i])
        assert top[0][0] == best[0]
        for token_id, logprob in top:
            assert abs(logprob - (logits[token_id] - norm)) <= 2e-4 * max(map(abs, logits))


def test_long_prompts_are_prefilled_in_chunks(own_agent, client):
    prompt = prompt_of(5, tokens=300)
    wanted = client.generate(ids=prompt, max_tokens=20, temperature=0, ignore_eos=True)
    small = own_agent({"batch.tokens_max": 32, "batch.slots_max": 8})
    with Client(small.endpoint) as other:
        got = other.generate(ids=prompt, max_tokens=20, temperature=0, ignore_eos=True)
    assert got.ids == wanted.ids
