#!/usr/bin/env python3
"""reference.py ENGINE_DUMP CASE - compares the engine's f32 logits with a forward pass in float64.

The pass here is independent of the engine: its own GGUF reader, its own dequantisers, rotary pairs
as the file stores them (interleaved), plain NumPy matrices. CASE is q8_0 (a tiny model of the test
data) or smollm2 (SLUICE_SMOLLM2, or build/models/ where make run puts it). Exit 77: not here.
"""
import json
import os
import pathlib
import struct
import subprocess
import sys

import numpy

TOLERANCE = 1e-3  # Largest |difference| of two logits.
SKIPPED = 77
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
           12: "d"}
STRING, ARRAY = 8, 9

CASES = {
    "q8_0": ([1, 2, 3, 4, 5, 6, 7], "SLUICE_TEST_DATA",
             "models/neural-api-tiny/tiny_llama_q8.gguf"),
    "smollm2": ([1, 9690, 198, 2683, 359, 260, 5575, 282, 4649, 30, 504, 1234, 22, 99, 17, 49151],
                "SLUICE_SMOLLM2", ""),
}


class Reader:
    """A cursor over the bytes of a GGUF file."""

    def __init__(self, data):
        self.data = data
        self.at = 4  # After the magic.

    def number(self, code):
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        count = self.number("Q")
        self.at += count
        return self.data[self.at - count:self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            item = self.number("I")
            return [self.value(item) for _ in range(self.number("Q"))]
        return self.number(SCALARS[kind])


def blocks(data, at, count, block_bytes):
    """Blocks of 32 weights as rows of bytes."""
    total = count // 32 * block_bytes
    return numpy.frombuffer(data, numpy.uint8, total, at).reshape(-1, block_bytes)


def half(rows, first):
    """The half-precision number at column `first` of each block."""
    return rows[:, first:first + 2].copy().view("<f2").astype(numpy.float64)


def nibbles(rows, first):
    """16 bytes: low halves are weights 0..15, high halves are 16..31."""
    packed = rows[:, first:first + 16]
    return numpy.concatenate([packed & 15, packed >> 4], axis=1).astype(numpy.float64)


def dequantise(data, at, count, kind):
    if kind == 0:
        return numpy.frombuffer(data, "<f4", count, at).astype(numpy.float64)
    if kind == 1:
        return numpy.frombuffer(data, "<f2", count, at).astype(numpy.float64)
    if kind == 2:  # Q4_0
        rows = blocks(data, at, count, 18)
        return (nibbles(rows, 2) - 8) * half(rows, 0)
    if kind == 3:  # Q4_1
        rows = blocks(data, at, count, 20)
        return nibbles(rows, 4) * half(rows, 0) + half(rows, 2)
    if kind == 8:  # Q8_0
        rows = blocks(data, at, count, 34)
        return rows[:, 2:].copy().view(numpy.int8) * half(rows, 0)
    raise ValueError(f"tensor type {kind} is not known here")


def read_gguf(path):
    data = pathlib.Path(path).read_bytes()
    reader = Reader(data)
    reader.number("I")
    tensor_count, pair_count = reader.number("Q"), reader.number("Q")
    pairs = {}
    for _ in range(pair_count):
        key = reader.string()
        pairs[key] = reader.value(reader.number("I"))
    listed = []
    for _ in range(tensor_count):
        name = reader.string()
        shape = [reader.number("Q") for _ in range(reader.number("I"))]
        listed.append((name, shape[::-1], reader.number("I"), reader.number("Q")))
    align = pairs.get("general.alignment", 32)
    base = (reader.at + align - 1) // align * align
    tensors = {}
    for name, shape, kind, offset in listed:
        count = int(numpy.prod(shape))
        tensors[name] = dequantise(data, base + offset, count, kind).reshape(shape)
    return pairs, tensors


def norm(x, weight, eps):
    return x / numpy.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def rotate(x, cosine, sine):
    """x [tokens][heads][dims]: pairs (2i, 2i + 1) turn by the token's angle i."""
    out = x.copy()
    even, odd = x[..., 0:2 * cosine.shape[-1]:2], x[..., 1:2 * cosine.shape[-1]:2]
    out[..., 0:2 * cosine.shape[-1]:2] = even * cosine - odd * sine
    out[..., 1:2 * cosine.shape[-1]:2] = even * sine + odd * cosine
    return out


def attend(q, k, v):
    """[tokens][heads][dims] each; k and v have fewer heads. Every token sees its past."""
    tokens, heads, dims = q.shape
    group = heads // k.shape[1]
    future = numpy.triu(numpy.full((tokens, tokens), -numpy.inf), 1)
    out = numpy.zeros_like(q)
    for head in range(heads):
        scores = q[:, head] @ k[:, head // group].T / numpy.sqrt(dims) + future
        weights = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out[:, head] = weights @ v[:, head // group]
    return out.reshape(tokens, heads * dims)


def forward(pairs, tensors, ids):
    """Logits [tokens][vocabulary] of a Llama."""
    heads = pairs["llama.attention.head_count"]
    kv_heads = pairs.get("llama.attention.head_count_kv", heads)
    eps = pairs["llama.attention.layer_norm_rms_epsilon"]
    dims = tensors["blk.0.attn_q.weight"].shape[0] // heads
    turned = pairs.get("llama.rope.dimension_count", dims)
    frequency = pairs.get("llama.rope.freq_base", 10000.0) ** (-numpy.arange(0, turned, 2) / turned)
    angle = numpy.arange(len(ids))[:, None, None] * frequency
    cosine, sine = numpy.cos(angle), numpy.sin(angle)
    x = tensors["token_embd.weight"][ids]
    for layer in range(pairs["llama.block_count"]):
        def weight(part, number=layer):
            return tensors[f"blk.{number}.{part}.weight"]
        h = norm(x, weight("attn_norm"), eps)
        q = rotate((h @ weight("attn_q").T).reshape(-1, heads, dims), cosine, sine)
        k = rotate((h @ weight("attn_k").T).reshape(-1, kv_heads, dims), cosine, sine)
        v = (h @ weight("attn_v").T).reshape(-1, kv_heads, dims)
        x = x + attend(q, k, v) @ weight("attn_output").T
        h = norm(x, weight("ffn_norm"), eps)
        gate = h @ weight("ffn_gate").T
        x = x + (gate / (1 + numpy.exp(-gate)) * (h @ weight("ffn_up").T)) @ weight("ffn_down").T
    head = tensors.get("output.weight", tensors["token_embd.weight"])
    return norm(x, tensors["output_norm.weight"], eps) @ head.T


def model_path(variable, inside):
    given = os.environ.get(variable)
    if given:
        return pathlib.Path(given, inside)
    fetched = pathlib.Path("build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    return fetched if not inside and fetched.exists() else None


def main():
    dump, case = sys.argv[1:]
    ids, variable, inside = CASES[case]
    path = model_path(variable, inside)
    if path is None:
        print(f"1 skipped: {variable} is not set")
        return SKIPPED
    pairs, tensors = read_gguf(path)
    ids = [i % tensors["token_embd.weight"].shape[0] for i in ids]
    expected = forward(pairs, tensors, ids)
    command = [dump, str(path)] + [str(i) for i in ids]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600).stdout
    logits = numpy.array(json.loads(printed)["logits"])
    if logits.shape != expected.shape or not numpy.isfinite(logits).all():
        print(f"shape {logits.shape}, expected {expected.shape}, or a logit is not finite")
        return 1
    difference = numpy.abs(logits - expected).max()
    print(f"{path.name}: largest difference {difference:.2e} of {numpy.abs(expected).max():.1f}")
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
