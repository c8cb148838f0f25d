"""test_sampling.py - what a request changes about its tokens: penalties, biases, lists, seeds,
stops that stay, and the logprobs of its own prompt. In f32, so that everything is exact."""
import json
import os
import random
import shutil

import pytest

from agent_fixtures import DATA
from sluice_client import (DETOKENIZE, DONE, GENERATE, HELLO, TOKENS, Client, pack_ids,
                           unpack_ids)

PROMPT = [1, 290, 264, 277, 265]
GREEDY = {"temperature": 0, "ignore_eos": True}


def prompt_of(seed, tokens=12):
    source = random.Random(seed)
    return [1] + [source.randrange(3, 300) for _ in range(tokens - 1)]


@pytest.mark.parametrize("presence,frequency", [(0.7, 0), (0, 0.4), (0.5, 0.3), (-0.5, 0.9)])
def test_penalties_follow_their_formula(client, presence, frequency):
    """Greedy: of the 20 likeliest by raw logprob, the best after penalties is taken."""
    answer = client.generate(ids=PROMPT, max_tokens=60, presence_penalty=presence,
                             frequency_penalty=frequency, top_logprobs=20, **GREEDY)
    counts, moved = {}, 0
    for token, entry in zip(answer.ids, answer.logprobs):
        def adjusted(pair):
            times = counts.get(pair[0], 0)
            return pair[1] - frequency * times - presence * (times > 0)
        best = max(adjusted(pair) for pair in entry["top"])
        own = adjusted((token, entry["logprob"]))
        assert own >= best - 1e-4
        moved += token != entry["top"][0][0]
        counts[token] = counts.get(token, 0) + 1
    assert moved > 0, "no penalty ever changed a choice"


def test_a_repetition_penalty_looks_at_the_prompt_too(client):
    """Where the likeliest token stands in the prompt, it alone sees to it that another is taken."""
    base = client.generate(ids=PROMPT, max_tokens=200, **GREEDY)
    found = 0
    for end in range(20, 200, 6):
        prompt = PROMPT + base.ids[:end]
        likeliest = base.ids[end]
        if likeliest not in prompt:
            continue
        found += 1
        for body, same in (({"repetition_penalty": 1.0}, True), ({"presence_penalty": 2}, True),
                           ({"frequency_penalty": 2}, True), ({"repetition_penalty": 100}, False)):
            answer = client.generate(ids=prompt, max_tokens=1, **GREEDY, **body)
            assert (answer.ids[0] == likeliest) is same, (end, body)
    assert found > 3


def test_the_model_has_a_penalty_of_its_own(own_agent, client, model, tmp_path):
    """generation_config.json is the default, a request's own value wins."""
    home = tmp_path / "model"
    shutil.copytree(model, home)
    with open(os.path.join(home, "generation_config.json"), "w", encoding="utf-8") as file:
        json.dump({"repetition_penalty": 1.3}, file)
    wanted = client.generate(ids=PROMPT, max_tokens=40, repetition_penalty=1.3, **GREEDY)
    base = client.generate(ids=PROMPT, max_tokens=40, **GREEDY)
    assert wanted.ids != base.ids
    with Client(own_agent({"model.path": str(home)}).endpoint) as other:
        assert other.generate(ids=PROMPT, max_tokens=40, **GREEDY).ids == wanted.ids
        assert other.generate(ids=PROMPT, max_tokens=40, repetition_penalty=1,
                              **GREEDY).ids == base.ids


def test_biases_and_lists_decide(client):
    base = client.generate(ids=PROMPT, max_tokens=12, **GREEDY)
    forced = client.generate(ids=PROMPT, max_tokens=5, logit_bias={"77": 100}, **GREEDY)
    assert forced.ids == [77] * 5
    for body in ({"logit_bias": {str(base.ids[0]): -100}}, {"bad_ids": [base.ids[0]]},
                 {"bad_token_ids": pack_ids([base.ids[0]])}):
        answer = client.generate(ids=PROMPT, max_tokens=12, **GREEDY, **body)
        assert base.ids[0] not in answer.ids and len(answer.ids) == 12
    allowed = [40, 77, 210]
    answer = client.generate(ids=PROMPT, max_tokens=40, temperature=5, seed=3, ignore_eos=True,
                             allowed_ids=allowed)
    assert set(answer.ids) == set(allowed)
    answer = client.generate(ids=PROMPT, max_tokens=10, allowed_ids=allowed, bad_ids=[40, 77],
                             **GREEDY)
    assert answer.ids == [210] * 10
    assert client.generate(ids=PROMPT, max_tokens=12, logit_bias={}, bad_ids=[],
                           **GREEDY).ids == base.ids


def test_the_longest_lists_are_served(client):
    """All slots with all of them at once: what opens them does not fit one step."""
    vocab = client.ask(HELLO).body["vocab"]
    usual = [i for i in range(vocab) if i % 7][:1024]
    body = {"logit_bias": {str(i): 0.5 for i in range(min(vocab, 512))},
            "bad_ids": [i for i in range(vocab) if i % 7 == 0][:512],
            "allowed_ids": (usual * 20)[:1024], "max_tokens": 3, **GREEDY}
    answers = [client.start(ids=prompt_of(seed), **body) for seed in range(100)]
    client.finish(*answers)
    assert all(len(answer.ids) == 3 and not answer.error for answer in answers)
    assert all(token % 7 for answer in answers for token in answer.ids)


def test_seeds_repeat_alone_and_in_a_batch(client):
    """64 requests, no two alike: each gives together what it gave alone."""
    def body(n):
        return {"ids": prompt_of(n, 4 + n % 30), "max_tokens": 24, "seed": n * 7919,
                "temperature": 0.5 + n % 5 * 0.4, "top_p": (1.0, 0.9, 0.6)[n % 3],
                "top_k": (0, 40, 0, 12)[n % 4], "min_p": (0, 0.02)[n % 2], "ignore_eos": True,
                "repetition_penalty": (1.0, 1.2)[n % 2], "frequency_penalty": (0, 0.5)[n % 3 == 1],
                "logit_bias": {str(n % 250): 3}}
    alone = [client.generate(**body(n)).ids for n in range(64)]
    together = [client.start(**body(n)) for n in range(64)]
    client.finish(*together)
    assert [answer.ids for answer in together] == alone
    assert len({tuple(ids) for ids in alone}) > 60
    other = client.generate(**{**body(5), "seed": 1})
    assert other.ids != alone[5]


def test_a_stop_text_stays_when_asked(client):
    base = client.generate(ids=PROMPT, max_tokens=60, **GREEDY)
    tried = 0
    for begin in range(5, len(base.text) - 12, 7):
        stop = base.text[begin:begin + 6]
        first = base.text.index(stop)
        for stream in (True, False):
            answer = client.generate(ids=PROMPT, max_tokens=60, stop=stop, include_stop=True,
                                     stream=stream, **GREEDY)
            assert answer.finish == "stop" and answer.text == base.text[:first] + stop
        tried += 1
    assert tried >= 5


@pytest.mark.skipif(not DATA, reason="needs SLUICE_TEST_DATA: a trained model ends by itself")
def test_special_tokens_leave_text_when_asked(client):
    eos = unpack_ids(client.ask(HELLO).body["eos_ids"])
    base = client.generate(ids=[1], max_tokens=500, temperature=0)
    assert base.ids[-1] in eos
    mark = client.ask(DETOKENIZE, {"ids": pack_ids(base.ids[-1:])}).body["text"]
    shown = client.generate(ids=[1], max_tokens=500, temperature=0, skip_special=False,
                            include_stop=True)
    assert mark.strip() and shown.text == base.text + mark
    hidden = client.generate(ids=[1], max_tokens=500, temperature=0, include_stop=True)
    assert hidden.text == base.text


def test_prompt_logprobs_are_those_of_the_tokens_when_generated(client):
    """An answer sent back as a prompt is judged as it was when it came."""
    answer = client.generate(ids=PROMPT, max_tokens=200, temperature=1, seed=4, ignore_eos=True,
                             top_logprobs=5)
    whole = client.generate(ids=PROMPT + answer.ids, max_tokens=2, prompt_logprobs=5, stream=False,
                            **GREEDY)
    streamed = client.generate(ids=PROMPT + answer.ids, max_tokens=2, prompt_logprobs=5, **GREEDY)
    entries = streamed.prompt_logprobs
    assert [entry["id"] for entry in entries] == (PROMPT + answer.ids)[1:]
    assert whole.prompt_logprobs == entries and whole.ids == streamed.ids
    assert streamed.usage["cached_tokens"] == 0
    for judged, said in zip(entries[len(PROMPT) - 1:], answer.logprobs):
        assert abs(judged["logprob"] - said["logprob"]) < 1e-4
        assert [pair[0] for pair in judged["top"]] == [pair[0] for pair in said["top"]]
    alone = client.generate(ids=PROMPT + answer.ids, max_tokens=2, prompt_logprobs=0, **GREEDY)
    assert [entry["top"] for entry in alone.prompt_logprobs] == [[]] * len(entries)
    assert [e["logprob"] for e in alone.prompt_logprobs] == [e["logprob"] for e in entries]
    assert client.generate(ids=[1], max_tokens=1, prompt_logprobs=3, **GREEDY).prompt_logprobs == []
    raw = {"ids": pack_ids(PROMPT), "max_tokens": 2, "prompt_logprobs": 0, "n": 3, **GREEDY}
    request_id, said, ended = client.send(GENERATE, raw), [], 0
    while ended < 3:  # Several answers: the prompt is judged once, with the first.
        message = client.receive(20)
        assert message.id == request_id and message.command in (TOKENS, DONE), message
        ended += message.command == DONE
        said += message.body.get("prompt_logprobs", [])
    assert [entry["id"] for entry in said] == PROMPT[1:]


def test_prompt_logprobs_do_not_depend_on_the_chunks(own_agent, client):
    prompt = prompt_of(8, tokens=300)
    wanted = client.generate(ids=prompt, max_tokens=4, prompt_logprobs=3, **GREEDY)
    small = own_agent({"batch.tokens_max": 32, "batch.slots_max": 8})
    with Client(small.endpoint) as other:
        answers = [other.start(ids=prompt, max_tokens=4, prompt_logprobs=3, **GREEDY)
                   for _ in range(4)]
        other.finish(*answers)
    for answer in answers:
        assert answer.prompt_logprobs == wanted.prompt_logprobs and answer.ids == wanted.ids
