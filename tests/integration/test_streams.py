"""test_streams.py - many clients at once: cancel, credit, slow readers, overload, leaving."""
import time

import pytest

from sluice_client import (CANCEL, CREDIT, ERROR, GENERATE, PING, PONG, STATS, TOKENS, Client,
                           assert_error, pack_ids, pump_all)
from test_generate import PROMPT, prompt_of

LONG = {"temperature": 0, "ignore_eos": True, "max_tokens": 400}


def hold(client, **body):
    """Starts a long request whose reader grants one token more than its window, and waits until
    it stands still."""
    answer = client.start(**{"ids": PROMPT, **LONG, **body})
    client.send(CREDIT, {"tokens": 1}, answer.id)
    assert client.pump(lambda: answer.ids or answer.ended)
    settle(client, answer)
    assert answer.ids and not answer.ended
    return answer


def settle(client, answer, quiet_s=0.4):
    count = -1
    while count != len(answer.ids):
        count = len(answer.ids)
        client.pump(lambda: answer.ended, quiet_s)


@pytest.fixture
def tight(own_agent):
    """An agent with one slot and a queue of two."""
    return own_agent({"batch.slots_max": 1, "queue.requests_max": 2, "stream.credit_tokens": 8})


@pytest.fixture(scope="module")
def narrow(make_agent):
    """An agent whose window is 8 tokens."""
    started = make_agent({"stream.credit_tokens": 8}).start()
    yield started
    started.stop()


def test_cancel_in_mid_stream(narrow):
    with Client(narrow.endpoint) as client:
        answer = hold(client)
        client.send(CANCEL, {}, answer.id)
        client.finish(answer)
        assert answer.finish == "cancelled" and 0 < len(answer.ids) < 400
        assert answer.usage["prompt_tokens"] == len(PROMPT)
        again = client.start(request_id=answer.id, ids=PROMPT, max_tokens=3, temperature=0)
        assert client.finish(again).finish in ("length", "stop"), "an ended id is free again"


def test_cancel_before_the_start(tight):
    with Client(tight.endpoint) as client:
        held = hold(client)
        waiting = client.start(ids=PROMPT, max_tokens=5)
        client.send(CANCEL, {}, waiting.id)
        client.finish(waiting)
        assert waiting.finish == "cancelled" and waiting.ids == []
        client.send(CANCEL, {}, held.id)
        client.finish(held)


def test_a_second_cancel_never_overtakes_the_end(narrow):
    """Until its DONE has left a request is live; behind it nobody knows the id."""
    with Client(narrow.endpoint) as client:
        for _ in range(30):
            request_id = client.send(GENERATE, {"ids": pack_ids(PROMPT), **LONG})
            for _ in range(2):
                client.send(CANCEL, {}, request_id)
            first = client.receive(20)
            while first.command == TOKENS:
                first = client.receive(20)
            assert first.body.get("finish_reason") == "cancelled", first
            client.ask(PING)
            assert all(message.body["code"] == "not_found" for message in client.others)
            client.others.clear()


def test_cancel_of_an_unknown_id(client):
    assert_error(client.ask(CANCEL, request_id=b"nobody").body, "not_found", b"nobody")


def test_cancel_reaches_only_ones_own_requests(narrow):
    with Client(narrow.endpoint) as one, Client(narrow.endpoint) as other:
        held = hold(one)
        assert_error(other.ask(CANCEL, request_id=held.id).body, "not_found")
        one.send(CREDIT, {"tokens": 1000}, held.id)
        assert one.finish(held).finish == "length"


def test_the_operator_cancels_for_all_clients(narrow):
    with Client(narrow.endpoint) as one, Client(narrow.endpoint) as other, \
            Client(narrow.endpoint + ".admin") as operator:
        held = [hold(client, request_id=b"runaway") for client in (one, other)]
        kept = hold(one, request_id=b"kept")
        assert operator.ask(CANCEL, request_id=b"runaway").body == {"cancelled": 2}
        one.finish(held[0])
        other.finish(held[1])
        assert [answer.finish for answer in held] == ["cancelled"] * 2 and not kept.ended
        assert_error(operator.ask(CANCEL, request_id=b"runaway").body, "not_found", b"runaway")
        refusal = operator.ask(GENERATE, {"ids": pack_ids(PROMPT)})
        assert_error(refusal.body, "permission_denied")
        assert operator.ask(PING).command == PONG and operator.ask(STATS).body
        one.send(CANCEL, {}, kept.id)
        one.finish(kept)


def test_credit_counts_tokens(narrow):
    with Client(narrow.endpoint) as client:
        wanted = client.generate(ids=PROMPT, **LONG)
        answer = hold(client)
        for grant in (1, 5, 30):
            before = len(answer.ids)
            client.send(CREDIT, {"tokens": grant}, answer.id)
            settle(client, answer)
            assert len(answer.ids) == before + grant
        client.send(CREDIT, {"tokens": 1000}, answer.id)
        assert client.finish(answer).ids == wanted.ids
        client.send(CREDIT, {"tokens": 5}, answer.id)  # Too late: an error or nothing.
        assert client.ask(PING).command == PONG


def test_a_deadline_ends_a_held_request(narrow):
    with Client(narrow.endpoint) as client:
        answer = hold(client, timeout_ms=2500)
        client.finish(answer, timeout_s=20)
        assert_error(answer.error, "deadline_exceeded", answer.id)
        assert client.generate(ids=PROMPT, max_tokens=3).finish


def hold_computed(client, **body):
    """A request whose answer is all computed, with a reader that has not granted its last tokens:
    one that still lives, as its client sees it. On a busy machine all of so short an answer may
    leave before its CREDIT is read: then once more."""
    for _ in range(20):
        answer = client.start(**{"ids": PROMPT, **LONG, "max_tokens": 12, **body})
        client.send(CREDIT, {"tokens": 1}, answer.id)
        settle(client, answer)
        if answer.finish is None:
            return answer
    raise AssertionError("twenty answers left before their CREDIT was read")


def test_a_computed_answer_can_be_cancelled(narrow):
    with Client(narrow.endpoint) as client:
        answer = hold_computed(client)
        client.send(CANCEL, {}, answer.id)
        client.finish(answer, timeout_s=5)
        assert answer.finish == "cancelled" and len(answer.ids) < 12


def test_a_computed_answer_has_its_deadline(narrow):
    with Client(narrow.endpoint) as client:
        answer = hold_computed(client, timeout_ms=2500)
        client.finish(answer, timeout_s=20)
        assert_error(answer.error, "deadline_exceeded", answer.id)


def test_a_held_stream_does_not_hold_others(narrow):
    with Client(narrow.endpoint) as client, Client(narrow.endpoint) as other:
        held = hold(client)
        assert len(other.generate(ids=PROMPT, **LONG).ids) == 400
        client.send(CREDIT, {"tokens": 1000}, held.id)
        assert len(client.finish(held).ids) == 400


def test_a_duplicate_live_id_is_refused(narrow):
    with Client(narrow.endpoint) as client, Client(narrow.endpoint) as other:
        wanted = client.generate(ids=PROMPT, **LONG)
        held = hold(client, request_id=b"twin")
        assert other.generate(request_id=b"twin", ids=PROMPT, max_tokens=2).ids, "ids are one's own"
        client.send(GENERATE, {"ids": pack_ids(PROMPT), "max_tokens": 2}, held.id)
        refusal = client.receive(10)
        assert refusal.command == ERROR
        assert_error(refusal.body, "duplicate_id", b"twin")
        client.send(CREDIT, {"tokens": 1000}, held.id)
        assert client.finish(held).ids == wanted.ids, "the first of the two goes on"


def test_overload_is_refused_with_a_time(tight):
    with Client(tight.endpoint) as client:
        held = hold(client)
        waiting = [client.start(ids=PROMPT, max_tokens=4, temperature=0) for _ in range(8)]
        refused = waiting[2:]
        client.finish(*refused)
        for answer in refused:
            assert_error(answer.error, "overloaded", answer.id)
        client.send(CREDIT, {"tokens": 1000}, held.id)
        client.finish(held, *waiting[:2])
        assert all(answer.finish for answer in waiting[:2])
        assert client.generate(ids=PROMPT, max_tokens=4).finish, "it serves again"


def test_64_clients_get_what_each_gets_alone(agent):
    prompts = [prompt_of(seed, tokens=4 + seed % 40) for seed in range(64)]
    options = {"temperature": 0, "ignore_eos": True}
    with Client(agent.endpoint) as client:
        alone = [client.generate(ids=prompt, max_tokens=24 + seed % 40, **options).ids
                 for seed, prompt in enumerate(prompts)]
    clients = [Client(agent.endpoint) for _ in prompts]
    answers = [one.start(ids=prompt, max_tokens=24 + seed % 40, **options)
               for seed, (one, prompt) in enumerate(zip(clients, prompts))]
    pump_all(clients, answers)
    assert [answer.ids for answer in answers] == alone
    for one in clients:
        one.close()


def test_a_common_beginning_is_computed_once(agent):
    """16 prompts: alike in full, up to a fork inside a page, and up to the end of one."""
    start = prompt_of(1, tokens=64)
    prompts = [start] * 6 + [start[:44] + prompt_of(seed, tokens=20)[1:] for seed in range(5)] \
        + [start[:48] + prompt_of(seed, tokens=30)[1:] for seed in range(5)]
    options = {"temperature": 0, "ignore_eos": True, "max_tokens": 40}
    with Client(agent.endpoint) as client:
        alone = [client.generate(ids=prompt, **options) for prompt in prompts]
        assert all(answer.usage["cached_tokens"] == 0 for answer in alone)
        before = client.ask(STATS).body["shared_tokens_total"]
        together = [client.start(ids=prompt, **options) for prompt in prompts]
        client.finish(*together)
        assert [answer.ids for answer in together] == [answer.ids for answer in alone]
        cached = [answer.usage["cached_tokens"] for answer in together]
        assert cached.count(63) >= 4 and sum(cached) >= 4 * 63 + 8 * 32, cached
        assert client.ask(STATS).body["shared_tokens_total"] - before >= sum(cached)


def test_several_answers_to_one_prompt(client):
    """Each is the answer that its seed gives alone; the prompt is computed once."""
    prompt = prompt_of(3, tokens=40)
    options = {"temperature": 1.0, "ignore_eos": True, "max_tokens": 24}
    alone = [client.generate(ids=prompt, seed=70 + i, **options).ids for i in range(5)]
    for stream in (True, False):
        choices = client.start_choices(5, ids=prompt, seed=70, stream=stream, **options)
        client.finish(choices)
        assert [answer.ids for answer in choices.answers] == alone
        assert sum(answer.usage["cached_tokens"] for answer in choices.answers) == 4 * 39
    text = client.start_choices(3, prompt="Once upon a time", temperature=0, max_tokens=8)
    client.finish(text)
    assert len({tuple(answer.ids) for answer in text.answers}) == 1


def test_several_answers_end_together(client):
    cancelled = client.start_choices(4, ids=PROMPT, **LONG)
    client.pump(lambda: all(answer.ids for answer in cancelled.answers))
    client.send(CANCEL, {}, cancelled.id)
    client.finish(cancelled)
    assert all(answer.finish == "cancelled" for answer in cancelled.answers)
    late = client.start_choices(4, ids=PROMPT, timeout_ms=1, **LONG)
    client.finish(late)
    assert_error(late.error, "deadline_exceeded", late.id)
    again = client.start_choices(2, ids=PROMPT, temperature=0, max_tokens=2)
    client.finish(again)
    assert all(answer.finish for answer in again.answers) and not client.others


def test_preemption_loses_nothing(own_agent, client):
    """24 sequences of up to 160 tokens in 60 pages of 16: most of them are preempted."""
    prompts = [prompt_of(seed, tokens=40) for seed in range(24)]
    options = {"temperature": 0, "ignore_eos": True, "max_tokens": 120}
    alone = [client.start(ids=prompt, **options) for prompt in prompts]
    client.finish(*alone)
    small = own_agent({"kv.device_pages": 60})
    with Client(small.endpoint) as crowd:
        answers = [crowd.start(ids=prompt, events=True, **options) for prompt in prompts]
        crowd.finish(*answers, timeout_s=180)
        assert [a.ids for a in answers] == [a.ids for a in alone]
        told = [a.events for a in answers]
        for events in told:
            assert 0 < events["queued_us"] <= events["scheduled_us"] < events["first_token_us"] \
                < events["finished_us"]
            times = events["preempted_us"]
            assert len(times) == min(16, events["preempted_count"])
            assert times == sorted(times)
            # Two steps formed in one turn of the core's loop have one time.
            assert all(events["scheduled_us"] <= t < events["finished_us"] for t in times)
        assert sum(events["preempted_count"] for events in told) \
            == crowd.ask(STATS).body["preemptions_total"] > 0
        assert crowd.generate(ids=PROMPT, max_tokens=1).events is None


def test_a_slow_reader_slows_only_itself(own_agent):
    agent = own_agent({"zmq.send_messages_max": 16})
    with Client(agent.endpoint, recv_messages_max=1) as slow, Client(agent.endpoint) as quick:
        wanted = quick.generate(ids=PROMPT, **LONG)
        answers = [slow.start(ids=PROMPT, **LONG) for _ in range(60)]
        time.sleep(1)
        assert quick.generate(ids=PROMPT, **LONG).ids == wanted.ids
        assert quick.ask(PING).command == PONG
        slow.finish(*answers, timeout_s=180)
        assert all(answer.ids == wanted.ids for answer in answers)


def test_a_slow_reader_is_told_of_every_refusal(own_agent):
    agent = own_agent({"zmq.send_messages_max": 16})
    with Client(agent.endpoint, recv_messages_max=1) as slow:
        streams = [slow.start(ids=PROMPT, **LONG) for _ in range(30)]
        time.sleep(1)  # The queue towards it is full of tokens.
        refused = [slow.start(ids=PROMPT, **{f"colour-{n}": 1, "strict": True}) for n in range(50)]
        time.sleep(0.5)
        slow.finish(*streams, *refused, timeout_s=180)
        for n, answer in enumerate(refused):
            assert_error(answer.error, "invalid_argument", answer.id)
            assert f"colour-{n} " in answer.error["message"]
        assert all(answer.finish == "length" for answer in streams)


def test_a_reader_that_never_takes_is_cut(own_agent):
    agent = own_agent({"stream.stall_timeout_ms": 2500, "stream.credit_tokens": 8,
                       "batch.slots_max": 1})
    with Client(agent.endpoint) as stuck, Client(agent.endpoint) as quick:
        held = hold(stuck)
        assert quick.generate(ids=PROMPT, max_tokens=5, timeout_s=20).finish, "the slot is free"
        stuck.finish(held, timeout_s=20)
        assert_error(held.error, "deadline_exceeded", held.id)
        computed = hold_computed(stuck)
        stuck.finish(computed, timeout_s=20)
        assert_error(computed.error, "deadline_exceeded", computed.id)


def test_a_client_that_leaves_frees_its_slots(own_agent):
    agent = own_agent({"batch.slots_max": 4})
    leaver = Client(agent.endpoint)
    answers = [leaver.start(ids=PROMPT, **LONG) for _ in range(40)]
    assert leaver.pump(lambda: any(answer.ids for answer in answers))
    leaver.close()
    with Client(agent.endpoint) as client:
        assert client.generate(ids=PROMPT, max_tokens=8, temperature=0, timeout_s=30).finish
        before = client.ask(STATS).body["tokens_generated_total"]
        time.sleep(0.5)
        after = client.ask(STATS).body
        assert after["tokens_generated_total"] == before < 40 * 400 // 2, "nobody reads these"
        assert after["requests_running"] == 0
