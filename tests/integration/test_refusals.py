"""test_refusals.py - bad input gets a clear error by id, or nothing, and nothing else changes."""
import json
import os
import random
import shutil

import msgpack
import pytest

from sluice_client import (CREDIT, DETOKENIZE, ERROR, GENERATE, HELLO, MAGIC, PING, PONG, TOKENIZE,
                           Client, assert_error, pack_ids)
from test_generate import PROMPT

GOOD = msgpack.packb({"ids": pack_ids(PROMPT), "max_tokens": 2})
EMPTY = b"\x80"


def assert_serves(agent):
    with Client(agent.endpoint) as client:
        assert client.generate(ids=PROMPT, max_tokens=2, ignore_eos=True).finish == "length"


def frames(body=GOOD, command=bytes([GENERATE]), request_id=b"bad", magic=MAGIC):
    return [magic, command, request_id, body]


BAD_FRAMES = {
    "one frame": [b"x"],
    "no frame but an empty one": [b""],
    "three frames": frames()[:3],
    "five frames": frames() + [b""],
    "forty frames": frames() * 10,
    "empty magic": frames(magic=b""),
    "wrong magic": frames(magic=b"HTTP\x01\x00"),
    "short magic": frames(magic=b"SLCE\x01"),
    "long magic": frames(magic=b"SLCE\x01\x00\x00"),
    "major 0": frames(magic=b"SLCE\x00\x00"),
    "major 2": frames(magic=b"SLCE\x02\x00"),
    "empty command": frames(command=b""),
    "two commands": frames(command=b"\x02\x02"),
    "command 0": frames(command=b"\x00"),
    "command 10": frames(command=b"\x0a"),
    "a reply's command": frames(command=b"\x82"),
    "command 255": frames(command=b"\xff"),
    "empty id": frames(request_id=b""),
    "id of 65 bytes": frames(request_id=b"x" * 65),
    "id of 60,000 bytes": frames(request_id=b"x" * 60000),
    "empty delimiter of a REQ, then nothing": [b"", MAGIC],
    "two delimiters": [b"", b""] + frames(),
}
BAD_BODIES = {
    "empty": b"",
    "nil": b"\xc0",
    "an array": b"\x90",
    "a string": b"\xa2hi",
    "truncated": GOOD[:-1],
    "trailing byte": GOOD + b"\xc0",
    "two maps": GOOD + GOOD,
    "reserved byte": b"\x81\xa1a\xc1",
    "ext": b"\x81\xa1a\xd4\x01\x00",
    "timestamp": b"\x81\xa1a" + msgpack.packb(msgpack.Timestamp(1, 0)),
    "integer key": b"\x81\x01\x02",
    "nested integer key": b"\x81\xa1a\x81\x01\x02",
    "duplicate key": b"\x82\xaamax_tokens\x01\xaamax_tokens\x02",
    "map of 4,294,967,295": b"\xdf\xff\xff\xff\xff",
    "array of 4,294,967,295": b"\x81\xa3ids\xdd\xff\xff\xff\xff",
    "bin of 4,294,967,295": b"\x81\xa3ids\xc6\xff\xff\xff\xff",
    "str of 65,535 in 1 byte": b"\x81\xa6prompt\xda\xff\xffx",
    "depth 9": b"\x81\xa1a" + b"\x91" * 9 + b"\xc0",
    "depth 60,000": b"\x81\xa1a" + b"\x91" * 60000 + b"\xc0",
    "20,000 elements": b"\x81\xa1a\xdc\x4e\x20" + b"\xc0" * 20000,
    "invalid UTF-8 in a value": b"\x81\xa6prompt\xa2\xc3\x28",
    "invalid UTF-8 in a key": b"\x81\xa2\xc3\x28\x01",
    "surrogate": b"\x81\xa6prompt\xa3\xed\xa0\x80",
    "overlong": b"\x81\xa6prompt\xa2\xc0\xaf",
}
BAD_FIELDS = [
    ("temperature", -0.1), ("temperature", 100.5), ("temperature", float("nan")),
    ("temperature", float("inf")), ("temperature", "hot"), ("temperature", None),
    ("top_p", 0), ("top_p", 1.5), ("top_p", float("nan")), ("top_p", []),
    ("min_p", -1), ("min_p", 1.01), ("top_k", -1), ("top_k", 1 << 40), ("top_k", 1.5),
    ("n", 0), ("n", 17), ("n", "2"),
    ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 1 << 33), ("max_tokens", "5"),
    ("max_tokens", True), ("min_tokens", -1), ("min_tokens", "a"),
    ("seed", -1), ("seed", 1.5), ("seed", "x"),
    ("top_logprobs", 21), ("top_logprobs", -1), ("top_logprobs", "all"),
    ("logprobs", 21), ("logprobs", "all"), ("prompt_logprobs", 21), ("prompt_logprobs", True),
    ("presence_penalty", 2.1), ("presence_penalty", "x"), ("frequency_penalty", -2.1),
    ("repetition_penalty", 0), ("repetition_penalty", 101), ("repetition_penalty", float("nan")),
    ("logit_bias", []), ("logit_bias", {"x": 1}), ("logit_bias", {"5": 101}),
    ("logit_bias", {"5": None}), ("logit_bias", {str(i): 1 for i in range(513)}),
    ("bad_ids", [[1, 2]]), ("bad_ids", list(range(513))), ("bad_ids", "x"),
    ("allowed_ids", []), ("allowed_ids", [-1]), ("allowed_ids", [1] * 1025), ("include_stop", 1),
    ("priority", 101), ("priority", -101), ("priority", 0.5), ("priority", "high"),
    ("tenant", ""), ("tenant", "x" * 65), ("tenant", 7),
    ("stream", 1), ("ignore_eos", "yes"), ("strict", 0), ("timeout_ms", -1),
    ("stop", 5), ("stop", [5]), ("stop", [""]), ("stop", ["x"] * 9), ("stop", "x" * 129),
    ("stop_ids", b"\x01\x00\x00"), ("stop_ids", ["a"]), ("stop_ids", [-1]),
    ("stop_ids", list(range(17))), ("stop_ids", "x"),
    ("ids", b""), ("ids", b"\x01\x00\x00"), ("ids", b"\x01\x00\x00\x00\x01"), ("ids", "text"),
    ("ids", [1, 2]), ("ids", pack_ids([1, 1 << 31])), ("ids", pack_ids([1, 1 << 20])),
]
BAD_PROMPTS = [
    {}, {"prompt": "a", "ids": pack_ids([1])}, {"prompt": 5}, {"prompt": b"bytes"},
    {"messages": []}, {"messages": "hi"}, {"messages": [5]}, {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": 5}]}, {"messages": [{"content": "x"}]},
    {"messages": [{"role": "user", "content": "x"}], "prompt": "a"},
]


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_bad_frames(agent, kind):
    with Client(agent.endpoint) as client:
        sent = BAD_FRAMES[kind]
        client.send_raw(sent)
        reply = client.receive(0.3)
        assert reply is None or reply.command == ERROR
        if len(sent) == 4 and sent[0] and sent[2] == b"bad":
            assert reply and reply.id == b"bad" and reply.body["request_id"] == b"bad"
            assert reply.body["code"] in ("invalid_argument", "unsupported")
        assert client.ask(PING).command == PONG, "the same client goes on"
    assert_serves(agent)


@pytest.mark.parametrize("kind", BAD_BODIES)
def test_bad_bodies(agent, kind):
    with Client(agent.endpoint) as client:
        for command in (GENERATE, HELLO, TOKENIZE, PING):
            client.send_raw(frames(BAD_BODIES[kind], bytes([command])))
            reply = client.receive(10)
            assert reply.command == ERROR and reply.id == b"bad", reply
            assert_error(reply.body, reply.body["code"], b"bad")
            assert reply.body["code"] in ("invalid_argument", "too_large")
    assert_serves(agent)


@pytest.mark.parametrize("field, value", BAD_FIELDS, ids=lambda value: repr(value)[:24])
def test_bad_fields_are_named(client, field, value):
    reply = client.ask(GENERATE, {"ids": pack_ids(PROMPT), "max_tokens": 2, field: value},
                       request_id=b"bad")
    assert reply.command == ERROR
    assert_error(reply.body, "invalid_argument", b"bad")
    assert field in reply.body["message"]


@pytest.mark.parametrize("body", BAD_PROMPTS, ids=lambda body: repr(body)[:40])
def test_bad_prompts(client, body):
    reply = client.ask(GENERATE, body)
    assert reply.command == ERROR
    assert_error(reply.body, "invalid_argument")


def test_random_bodies_never_hurt(agent):
    source = random.Random(4)
    with Client(agent.endpoint) as client:
        for _ in range(400):
            body = bytearray(GOOD if source.random() < 0.7 else source.randbytes(40))
            for _ in range(source.randrange(1, 6)):
                body[source.randrange(len(body))] = source.randrange(256)
            client.send_raw(frames(bytes(body), bytes([source.randrange(1, 10)]),
                                   source.randbytes(source.randrange(1, 64))))
        assert client.ask(PING).command == PONG
    assert_serves(agent)


def test_unknown_keys_are_ignored_unless_strict(client):
    body = {"ids": pack_ids(PROMPT), "max_tokens": 2, "colour": "blue"}
    assert client.finish(client.start(**body)).finish
    reply = client.ask(GENERATE, {**body, "strict": True})
    assert reply.command == ERROR
    assert_error(reply.body, "invalid_argument")


UNSUPPORTED = {
    "best_of": 2, "use_beam_search": True, "guided_json": {}, "guided_regex": "a+",
    "guided_choice": ["a"], "guided_grammar": "", "response_format": {"type": "json_object"},
    "tools": [], "tool_choice": "auto", "lora_request": {}, "bad_words": ["a"], "echo": True,
    "suffix": "x", "logits_processors": [], "truncate_prompt_tokens": 5, "typical_p": 0.5,
    "structured_outputs": {}, "prompt_embeds": b"x",
}


@pytest.mark.parametrize("key", UNSUPPORTED)
def test_what_changes_the_answer_is_never_ignored(client, key):
    reply = client.ask(GENERATE, {"ids": pack_ids(PROMPT), "max_tokens": 1, key: UNSUPPORTED[key]})
    assert reply.command == ERROR
    assert_error(reply.body, "unsupported")
    assert reply.body["message"].startswith(key)


def test_strict_names_the_key(client):
    reply = client.ask(GENERATE, {"ids": pack_ids(PROMPT), "strict": True, "colour": 1})
    assert reply.command == ERROR and "colour" in reply.body["message"]


def test_lists_of_tokens_fit_the_vocabulary(client):
    vocab = client.ask(HELLO).body["vocab"]
    for body in ({"bad_ids": [vocab]}, {"allowed_ids": [vocab]}, {"logit_bias": {str(vocab): 1}},
                 {"allowed_ids": [5, 6], "bad_ids": [6, 7, 5]}):
        reply = client.ask(GENERATE, {"ids": pack_ids(PROMPT), "max_tokens": 1, **body})
        assert reply.command == ERROR, body
        assert_error(reply.body, "invalid_argument")


def test_ids_out_of_the_vocabulary(client):
    vocab = client.ask(HELLO).body["vocab"]
    assert client.generate(ids=[1, vocab - 1], max_tokens=1).finish
    for command, code in ((GENERATE, "invalid_argument"), (DETOKENIZE, "invalid_argument")):
        reply = client.ask(command, {"ids": pack_ids([1, vocab])})
        assert reply.command == ERROR
        assert_error(reply.body, code)
    reply = client.ask(GENERATE, {"ids": pack_ids([1]), "stop_ids": [vocab]})
    assert reply.command == ERROR


def test_a_token_that_the_model_does_not_know(own_agent, model, tmp_path):
    """The tokenizer has one more than the embedding: text that needs it is refused, no other."""
    path = tmp_path / "larger"
    shutil.copytree(model, path, ignore=shutil.ignore_patterns("variants"))
    path.chmod(0o755)
    vocab = json.loads((path / "config.json").read_text())["vocab_size"]
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": vocab, "content": "<extra>", "special": True})
    (path / "tokenizer.json").unlink()
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    agent = own_agent({"model.path": str(path)})
    with Client(agent.endpoint) as client:
        body = {"text": "a<extra>", "parse_special": True, "add_special": False}
        assert pack_ids([vocab]) in client.ask(TOKENIZE, body).body["ids"]
        reply = client.ask(GENERATE, {"prompt": "a<extra>", "parse_special": True})
        assert reply.command == ERROR
        assert_error(reply.body, "invalid_argument")
        assert client.generate(prompt="a", max_tokens=2, ignore_eos=True).finish == "length"
    assert_serves(agent)


def test_what_can_never_fit_is_refused_at_once(client):
    context = client.ask(HELLO).body["context_tokens_max"]
    for tokens in (context, context + 1, 3 * context):
        reply = client.ask(GENERATE, {"ids": pack_ids([5] * tokens), "max_tokens": 1})
        assert reply.command == ERROR
        assert_error(reply.body, "context_exceeded")
    reply = client.ask(GENERATE, {"prompt": "one two three " * context, "max_tokens": 1})
    assert_error(reply.body, "context_exceeded")
    fits = client.generate(ids=[5] * (context - 2), max_tokens=2, ignore_eos=True)
    assert len(fits.ids) == 2


def test_a_request_larger_than_the_pool_is_refused(own_agent):
    agent = own_agent({"kv.device_pages": 4})
    with Client(agent.endpoint) as client:
        reply = client.ask(GENERATE, {"ids": pack_ids([5] * 100), "max_tokens": 1})
        assert reply.command == ERROR
        assert_error(reply.body, "context_exceeded")
        assert client.generate(ids=PROMPT, max_tokens=4, ignore_eos=True).finish == "length"


def test_oversized_frames_cost_only_their_sender(own_agent):
    agent = own_agent({"zmq.message_bytes_max": 65536})
    with Client(agent.endpoint) as other:
        for bytes_sent in (65537, 1 << 20, 20 << 20):
            with Client(agent.endpoint) as client:
                client.send_raw(frames(b"\x81\xa6prompt" + b"\xc6" + b"x" * bytes_sent))
                reply = client.receive(0.5)
                assert reply is None or reply.body["code"] == "too_large"
            assert other.ask(PING).command == PONG
    assert_serves(agent)


def test_bad_bodies_of_the_smaller_commands(client):
    for command, body in (
            (HELLO, {"minor_max": "x"}), (HELLO, {"minor_max": -1}), (TOKENIZE, {}),
            (TOKENIZE, {"text": 5}), (TOKENIZE, {"text": "a", "add_special": 1}),
            (DETOKENIZE, {}), (DETOKENIZE, {"ids": b"123"}), (DETOKENIZE, {"ids": "a"}),
            (CREDIT, {}), (CREDIT, {"tokens": 0}), (CREDIT, {"tokens": -1}),
            (CREDIT, {"tokens": "x"})):
        reply = client.ask(command, body)
        assert reply.command == ERROR, (command, body)
        assert_error(reply.body, "invalid_argument")


def test_without_a_tokenizer_ids_still_work(own_agent, model, tmp_path):
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(os.path.join(model, name), tmp_path)
    agent = own_agent({"model.path": str(tmp_path), "chat.template": "none"})
    with Client(agent.endpoint) as client:
        assert client.ask(HELLO).body["tokenizer"] is False
        answer = client.generate(ids=PROMPT, max_tokens=5, temperature=0, ignore_eos=True)
        assert len(answer.ids) == 5 and answer.text == ""
        for command, body in ((GENERATE, {"prompt": "a"}), (TOKENIZE, {"text": "a"}),
                              (DETOKENIZE, {"ids": pack_ids([5])}),
                              (GENERATE, {"ids": pack_ids(PROMPT), "stop": "a"})):
            reply = client.ask(command, body)
            assert reply.command == ERROR
            assert_error(reply.body, "unsupported")


def test_each_refusal_names_its_own_field(client):
    asked = {client.send(TOKENIZE, {"text": "a", f"colour-{n}": 1, "strict": True}): n
             for n in range(500)}
    for request_id, n in asked.items():
        reply = client.receive(20)
        assert reply.id == request_id and f"colour-{n} " in reply.body["message"], reply
