"""sluice_client.py - a client of protocol v1, written from docs/protocol.md alone.

It shares nothing with wire/: what the tests see is what a stranger's service would see. Every
answer is checked as it arrives: offsets without a gap, one instance, nothing after the end.
"""
import itertools
import struct
import time

import msgpack
import zmq

MAGIC = b"SLCE\x01\x00"
HELLO, GENERATE, CANCEL, CREDIT, PING, TOKENIZE, DETOKENIZE, STATS, PLANS = range(1, 10)
WELCOME, TOKENS, DONE, ERROR, PONG, RESULT = range(129, 135)
ERROR_KEYS = {"code", "status", "message", "retryable", "retry_after_ms", "request_id"}


def pack_ids(ids):
    return struct.pack(f"<{len(ids)}I", *ids)


def unpack_ids(packed):
    assert isinstance(packed, bytes) and len(packed) % 4 == 0
    return list(struct.unpack(f"<{len(packed) // 4}I", packed))


class Message:
    """One message of the server, its frames checked."""

    def __init__(self, frames):
        if frames[0] == b"":  # What began with an empty frame, as a REQ's does, is answered so.
            frames = frames[1:]
        assert len(frames) == 4, f"{len(frames)} frames"
        assert frames[0] == MAGIC and len(frames[1]) == 1
        self.command, self.id = frames[1][0], frames[2]
        self.body = msgpack.unpackb(frames[3], strict_map_key=True)
        assert isinstance(self.body, dict) and all(isinstance(key, str) for key in self.body)
        assert self.command in (WELCOME, TOKENS, DONE, ERROR, PONG, RESULT), self.command

    def __repr__(self):
        return f"Message({self.command}, {self.id!r}, {self.body!r})"


class Answer:
    """What has arrived of one generation."""

    def __init__(self, request_id, streamed=True):
        self.id, self.streamed = request_id, streamed
        self.ids, self.text, self.logprobs, self.messages = [], "", [], 0
        self.prompt_logprobs = []  # Of prompt tokens from 1 on.
        self.events = self.finish = self.usage = self.error = self.instance = self.first_at = None

    @property
    def ended(self):
        return self.finish is not None or self.error is not None

    def take(self, message):
        assert message.id == self.id and not self.ended, f"{message} after the end"
        body = message.body
        if message.command == ERROR:
            self.error = body
            return
        assert self.instance in (None, body["instance"])
        self.instance = body["instance"]
        if message.command == TOKENS:
            assert self.streamed, "TOKENS for a request without streaming"
            assert body["offset"] == len(self.ids), f"gap: {body['offset']} after {len(self.ids)}"
            self.messages += 1
            self.first_at = self.first_at or time.monotonic()
            self._append(body)
            return
        assert message.command == DONE, message
        self.finish, self.usage = body["finish_reason"], body["usage"]
        self.events = body.get("events")
        if not self.streamed:
            self._append(body)
        assert self.usage["completion_tokens"] == len(self.ids)

    def _append(self, body):
        ids = unpack_ids(body["ids"])
        assert ("prompt_offset" in body) is ("prompt_logprobs" in body)
        if "prompt_offset" in body:
            assert body["prompt_offset"] == len(self.prompt_logprobs) + 1 and not self.ids
            self.prompt_logprobs += body["prompt_logprobs"]
        self.ids += ids
        self.text += body["text"]
        logprobs = body.get("logprobs") or []
        assert len(logprobs) in (0, len(ids))
        self.logprobs += logprobs


class Choices:
    """What has arrived of a generation with several answers."""

    def __init__(self, request_id, count, streamed=True):
        self.id, self.ids, self.error = request_id, [], None
        self.answers = [Answer(request_id, streamed) for _ in range(count)]

    @property
    def ended(self):
        return self.error is not None or all(answer.ended for answer in self.answers)

    def take(self, message):
        assert not self.ended, f"{message} after the end"
        if message.command == ERROR:
            self.error = message.body
        elif message.command == DONE and "index" not in message.body:
            for answer in self.answers:
                answer.take(message)
        else:
            self.answers[message.body["index"]].take(message)


class Client:
    """One ZeroMQ socket. answers holds every generation that was asked for through it."""

    numbers = itertools.count(1)

    def __init__(self, endpoint, kind=zmq.DEALER, recv_messages_max=None):
        self.socket = zmq.Context.instance().socket(kind)
        self.socket.linger = 0
        if recv_messages_max is not None:
            self.socket.rcvhwm = recv_messages_max
        self.socket.connect(endpoint)
        self.answers = {}
        self.others = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, command, body=None, request_id=None):
        """Returns the request id."""
        request_id = request_id or b"r%d" % next(self.numbers)
        self.send_raw([MAGIC, bytes([command]), request_id, msgpack.packb(body or {})])
        return request_id

    def send_raw(self, frames):
        self.socket.send_multipart(frames)

    def receive(self, timeout_s):
        """The next message, or None."""
        if not self.socket.poll(int(timeout_s * 1000)):
            return None
        return Message(self.socket.recv_multipart())

    def start(self, request_id=None, **body):
        """Sends GENERATE; ids may be a list. Returns its Answer, which pump() fills."""
        if isinstance(body.get("ids"), list):
            body["ids"] = pack_ids(body["ids"])
        request_id = request_id or b"g%d" % next(self.numbers)
        streamed = body.get("stream", self.socket.type != zmq.REQ)
        self.answers[request_id] = Answer(request_id, streamed)
        self.send(GENERATE, body, request_id)
        return self.answers[request_id]

    def start_choices(self, count, **body):
        """Sends one GENERATE with n; its answers arrive through pump() or finish()."""
        if isinstance(body.get("ids"), list):
            body["ids"] = pack_ids(body["ids"])
        request_id = b"g%d" % next(self.numbers)
        self.answers[request_id] = Choices(request_id, count, body.get("stream", True))
        self.send(GENERATE, {**body, "n": count}, request_id)
        return self.answers[request_id]

    def dispatch(self, message):
        answer = self.answers.get(message.id)
        if answer:
            answer.take(message)
        else:
            self.others.append(message)

    def pump(self, until, timeout_s=60):
        """Takes messages until until() is true; False when the time is up."""
        deadline = time.monotonic() + timeout_s
        while not until():
            left = deadline - time.monotonic()
            message = self.receive(left) if left > 0 else None
            if message is None:
                return False
            self.dispatch(message)
        return True

    def finish(self, *answers, timeout_s=60):
        """Takes messages until these answers have ended."""
        assert self.pump(lambda: all(a.ended for a in answers), timeout_s), \
            f"no end in {timeout_s} s: {[(a.id, len(a.ids)) for a in answers if not a.ended][:8]}"
        return answers[0]

    def generate(self, timeout_s=60, **body):
        return self.finish(self.start(**body), timeout_s=timeout_s)

    def ask(self, command, body=None, timeout_s=20, request_id=None):
        """Sends one command and takes its reply; messages of generations are kept."""
        request_id = self.send(command, body, request_id)
        found = []

        def arrived():
            found.extend(m for m in self.others if m.id == request_id)
            self.others = [m for m in self.others if m.id != request_id]
            return found
        assert self.pump(arrived, timeout_s), f"no reply to command {command}"
        return found[0]


def pump_all(clients, answers, timeout_s=120):
    """Takes messages for many clients until all answers have ended."""
    poller = zmq.Poller()
    by_socket = {client.socket: client for client in clients}
    for socket in by_socket:
        poller.register(socket, zmq.POLLIN)
    deadline = time.monotonic() + timeout_s
    while not all(answer.ended for answer in answers):
        assert time.monotonic() < deadline, \
            f"{sum(not a.ended for a in answers)} of {len(answers)} answers did not end"
        for socket, _ in poller.poll(1000):
            by_socket[socket].dispatch(Message(socket.recv_multipart()))


def assert_error(body, code, request_id=None):
    """Checks one error body against the table of the protocol."""
    statuses = {
        "invalid_argument": 400, "context_exceeded": 400, "unsupported": 400, "not_found": 404,
        "unauthenticated": 401, "permission_denied": 403, "duplicate_id": 409, "too_large": 413,
        "overloaded": 429, "cancelled": 499, "internal": 500, "worker_lost": 502,
        "draining": 503, "deadline_exceeded": 504,
    }
    assert body["code"] == code, body
    assert body["status"] == statuses[code]
    assert body["retryable"] is (code in ("overloaded", "draining", "worker_lost"))
    assert isinstance(body["message"], str) and body["message"]
    assert "/" not in body["message"] and "0x" not in body["message"]
    assert set(body) <= ERROR_KEYS
    if code == "overloaded":
        assert body["retry_after_ms"] > 0
    if request_id is not None:
        assert body["request_id"] == request_id
