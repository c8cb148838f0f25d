"""test_steps.py - a step is formed while the one before runs: nobody can tell by the answers. In
f32, so that they are exact: the same requests with one step in flight and with two."""
import random

from sluice_client import STATS, Client

POOL = {"kv.device_pages": 30, "batch.slots_max": 12, "batch.tokens_max": 48,
        "batch.forecast_percent": 0}  # Some must yield.


def requests():
    """Ends of every kind, at once: known ahead, stop ids, stop strings, several answers."""
    source = random.Random(11)
    shared = [1] + [source.randrange(3, 300) for _ in range(40)]
    found = []
    for n in range(40):
        prompt = [1] + [source.randrange(3, 300) for _ in range(source.randrange(1, 60))]
        body = {"ids": shared[:source.randrange(20, 41)] + prompt[1:9] if n % 3 == 0 else prompt,
                "max_tokens": source.choice([1, 2, 17, 48, 90]), "ignore_eos": n % 2 == 0,
                "temperature": source.choice([0, 1.2]), "seed": n}
        if n % 4 == 1:
            body["stop"] = ["e", "t"]
        if n % 4 == 2:
            body["stop_ids"] = [source.randrange(3, 300) for _ in range(16)]
        if n % 8 == 3:
            body["prompt_logprobs"] = 2
        if n % 8 == 5:
            body["presence_penalty"] = 0.7
        found.append(body)
    return found


def answers_with(agent):
    with Client(agent.endpoint) as client:
        answers = [client.start(**body) for body in requests()]
        client.finish(*answers, timeout_s=120)
        stats = client.ask(STATS).body
    for answer in answers:
        assert answer.error is None and answer.usage["completion_tokens"] == len(answer.ids)
    assert stats["tokens_generated_total"] == sum(len(answer.ids) for answer in answers)
    assert stats["pages_free"] == stats["pages_total"] and stats["worker_losses_total"] == 0
    return answers, stats


def test_answers_are_those_of_one_step_at_a_time(own_agent):
    one, _ = answers_with(own_agent({**POOL, "batch.steps_in_flight": 1}))
    two, stats = answers_with(own_agent({**POOL, "batch.steps_in_flight": 2}))
    assert stats["preemptions_total"] > 0 and stats["shared_tokens_total"] > 0, stats
    for left, right in zip(one, two):
        assert (left.ids, left.text, left.finish) == (right.ids, right.text, right.finish)
        assert left.prompt_logprobs == right.prompt_logprobs
    finishes = [answer.finish for answer in two]
    assert finishes.count("stop") >= 4 and finishes.count("length") >= 4, finishes


def test_a_known_end_computes_nothing_behind_it(own_agent):
    """A lone request of n tokens takes n steps: none for a token that nobody wants."""
    agent = own_agent({"batch.steps_in_flight": 2})
    with Client(agent.endpoint) as client:
        for count in (1, 2, 33):
            before = client.ask(STATS).body["steps_total"]
            client.generate(ids=[1, 290, 264], max_tokens=count, temperature=0, ignore_eos=True)
            assert client.ask(STATS).body["steps_total"] == before + count
