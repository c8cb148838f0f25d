#!/usr/bin/env python3
"""reference.py MODEL ID,ID,... - a model's logits behind the last id as a JSON list, in float64.

Independent of the engine and of make_model.py: readers of its own for GGUF files and for Hugging
Face directories, dequantisers of its own, plain NumPy matrices. MODEL is a .gguf file or such a
directory. What a layer has beside a Llama's is told by its tensors. Slow by design;
test_reference.py compares the engine with it.
"""
import json
import pathlib
import struct
import sys

import numpy

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
           12: "d"}
STRING, ARRAY = 8, 9

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


def blocks(data, at, count, block_bytes, weights=32):
    """Blocks of so many weights as rows of bytes."""
    total = count // weights * block_bytes
    return numpy.frombuffer(data, numpy.uint8, total, at).reshape(-1, block_bytes)


def half(rows, first):
    """The half-precision number at column `first` of each block."""
    return rows[:, first:first + 2].copy().view("<f2").astype(numpy.float64)


def nibbles(rows, first):
    """16 bytes: low halves are weights 0..15, high halves are 16..31."""
    packed = rows[:, first:first + 16]
    return numpy.concatenate([packed & 15, packed >> 4], axis=1).astype(numpy.float64)


def fifth_bits(rows, first):
    """Bit i of a 32-bit word is worth 16 in weight i."""
    word = rows[:, first:first + 4].copy().view("<u4").astype(numpy.uint64)
    return (word >> numpy.arange(32, dtype=numpy.uint64) & 1).astype(numpy.float64) * 16


def widen_bf16(data, at, count):
    """bf16 is the upper half of an f32."""
    halves = numpy.zeros((count, 2), "<u2")
    halves[:, 1] = numpy.frombuffer(data, "<u2", count, at)
    return halves.view("<f4").reshape(-1).astype(numpy.float64)


def bits_of(rows, first, count):
    """The bits of `count` bytes from column `first` on, lowest first: [block][count][8]."""
    return numpy.unpackbits(rows[:, first:first + count, None], axis=2, bitorder="little")


def scales_and_minima(rows):
    """The 96 bits of 8 six-bit scales and 8 six-bit minima, put together bit by bit."""
    bits = bits_of(rows, 4, 12).astype(numpy.float64)
    low = 2.0 ** numpy.arange(4)
    plain = bits[:, :8, :6] @ 2.0 ** numpy.arange(6)
    above = bits[:, :8, 6:] @ numpy.array([16.0, 32.0])
    last = numpy.concatenate([bits[:, 8:, :4] @ low, bits[:, 8:, 4:] @ low], axis=1) + above
    return (numpy.concatenate([plain[:, :4], last[:, :4]], axis=1),
            numpy.concatenate([plain[:, 4:], last[:, 4:]], axis=1))


def widen_q4_q5(rows, first, fifth):
    """Q4_K and Q5_K: nibbles from column `first`, fifth bits from column `fifth` (0: none)."""
    scales, minima = scales_and_minima(rows)
    packed = rows[:, first:first + 128].reshape(-1, 4, 1, 32)
    q = numpy.concatenate([packed % 16, packed // 16], axis=2).reshape(-1, 8, 32)
    q = q.astype(numpy.float64)
    if fifth:
        q += 16 * bits_of(rows, fifth, 32).swapaxes(1, 2)
    return half(rows, 0)[:, :, None] * scales[:, :, None] * q - (half(rows, 2) * minima)[:, :, None]


def widen_q6(rows):
    """Q6_K: in each half 64 bytes of nibbles and 32 of upper pairs, for four runs of 32 weights."""
    low = rows[:, :128].reshape(-1, 2, 64)
    nibble = numpy.concatenate([low % 16, low // 16], axis=2).reshape(-1, 2, 4, 32)
    pairs = bits_of(rows, 128, 64).reshape(-1, 2, 32, 4, 2) @ numpy.array([16, 32])
    q = nibble.astype(numpy.float64) + pairs.swapaxes(2, 3) - 32
    scales = rows[:, 192:208].copy().view(numpy.int8).astype(numpy.float64)
    return (half(rows, 208) * scales)[:, :, None] * q.reshape(-1, 16, 16)


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
    if kind == 6:  # Q5_0
        rows = blocks(data, at, count, 22)
        return (nibbles(rows, 6) + fifth_bits(rows, 2) - 16) * half(rows, 0)
    if kind == 7:  # Q5_1
        rows = blocks(data, at, count, 24)
        return (nibbles(rows, 8) + fifth_bits(rows, 4)) * half(rows, 0) + half(rows, 2)
    if kind == 8:  # Q8_0
        rows = blocks(data, at, count, 34)
        return rows[:, 2:].copy().view(numpy.int8) * half(rows, 0)
    if kind == 12:  # Q4_K
        return widen_q4_q5(blocks(data, at, count, 144, 256), 16, 0)
    if kind == 13:  # Q5_K
        return widen_q4_q5(blocks(data, at, count, 176, 256), 48, 16)
    if kind == 14:  # Q6_K
        return widen_q6(blocks(data, at, count, 210, 256))
    if kind == 30:
        return widen_bf16(data, at, count)
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


def model_of_gguf(path):
    """Numbers and tensors by GGUF names; rotary pairs of a Llama's head are 2i and 2i + 1."""
    pairs, tensors = read_gguf(path)
    name = pairs["general.architecture"]

    def number(key, default=None):
        return pairs.get(f"{name}.{key}", default)
    heads = number("attention.head_count")
    numbers = {
        "layers": number("block_count"), "heads": heads,
        "kv_heads": number("attention.head_count_kv", heads),
        "eps": number("attention.layer_norm_rms_epsilon"),
        "theta": number("rope.freq_base", 10000.0), "turned": number("rope.dimension_count"),
        "interleaved": name == "llama", "window": number("attention.sliding_window", 0),
        "experts_used": number("expert_used_count"),
        "normed": number("expert_weights_norm", True),
    }
    return numbers, tensors


HF_NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
HF_EXPERTS = {
    "MixtralForCausalLM": ("block_sparse_moe", {"gate": "w1", "up": "w3", "down": "w2"}),
    "Qwen3MoeForCausalLM": ("mlp", {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}),
}


def read_safetensors(path):
    data = path.read_bytes()
    base = 8 + struct.unpack_from("<Q", data)[0]
    tensors = {}
    for name, entry in json.loads(data[8:base]).items():
        if name == "__metadata__":
            continue
        at, count = base + entry["data_offsets"][0], int(numpy.prod(entry["shape"]))
        if entry["dtype"] == "BF16":
            values = widen_bf16(data, at, count)
        else:
            kind = {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]
            values = numpy.frombuffer(data, kind, count, at).astype(numpy.float64)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


class Renamed:
    """Tensors of a Hugging Face directory under their GGUF names."""

    def __init__(self, tensors, architecture, experts):
        self.tensors = tensors
        self.block, self.parts = HF_EXPERTS.get(architecture, ("", {}))
        self.experts = experts

    def old_name(self, name):
        parts = name.split(".")
        if parts[0] != "blk":
            return f"{HF_NAMES[parts[0]]}.weight"
        if parts[2] == "ffn_gate_inp":
            return f"model.layers.{parts[1]}.{self.block}.gate.weight"
        return f"model.layers.{parts[1]}.{HF_NAMES[parts[2]]}.{parts[3]}"

    def __getitem__(self, name):
        if "_exps" not in name:
            return self.tensors[self.old_name(name)]
        layer, part = name.split(".")[1:3]
        part = self.parts[part.split("_")[1]]
        return [self.tensors[f"model.layers.{layer}.{self.block}.experts.{i}.{part}.weight"]
                for i in range(self.experts)]

    def __contains__(self, name):
        return self.old_name(name) in self.tensors


def model_of_folder(path):
    """Numbers and tensors by GGUF names; rotary pairs of a head are i and i + half."""
    config = json.loads((path / "config.json").read_text())
    if config.get("rope_scaling"):
        raise ValueError("rope_scaling is not known here")
    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        tensors.update(read_safetensors(file))
    if config.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    heads = config["num_attention_heads"]
    numbers = {
        "layers": config["num_hidden_layers"], "heads": heads,
        "kv_heads": config.get("num_key_value_heads", heads), "eps": config["rms_norm_eps"],
        "theta": config.get("rope_theta", 10000.0), "turned": None, "interleaved": False,
        "window": config.get("use_sliding_window", True) and config.get("sliding_window") or 0,
        "experts_used": config.get("num_experts_per_tok"),
        "normed": config.get("norm_topk_prob", True),
    }
    experts = config.get("num_local_experts") or config.get("num_experts")
    return numbers, Renamed(tensors, config["architectures"][0], experts)


def norm(x, weight, eps):
    return x / numpy.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def rotate(x, angle, interleaved):
    """x [tokens][heads][dims]: pair i of each head turns by the token's angle i."""
    pairs = angle.shape[-1]
    left, right = slice(0, pairs), slice(pairs, 2 * pairs)
    if interleaved:
        left, right = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    out = x.copy()
    out[..., left] = x[..., left] * numpy.cos(angle) - x[..., right] * numpy.sin(angle)
    out[..., right] = x[..., left] * numpy.sin(angle) + x[..., right] * numpy.cos(angle)
    return out


def attend(q, k, v, window):
    """[tokens][heads][dims] each; k and v have fewer heads. Every token sees its past, or the last
    `window` tokens of it, itself included."""
    tokens, heads, dims = q.shape
    group = heads // k.shape[1]
    age = numpy.arange(tokens)[:, None] - numpy.arange(tokens)
    unseen = (age < 0) | (age >= (window or tokens))
    future = numpy.where(unseen, -numpy.inf, 0.0)
    out = numpy.zeros_like(q)
    for head in range(heads):
        scores = q[:, head] @ k[:, head // group].T / numpy.sqrt(dims) + future
        weights = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out[:, head] = weights @ v[:, head // group]
    return out.reshape(tokens, heads * dims)


def swiglu(h, gate, up, down):
    left = h @ gate.T
    return (left / (1 + numpy.exp(-left)) * (h @ up.T)) @ down.T


def mixture(h, weight, used, normed):
    """Each token goes to the `used` experts that the router likes best."""
    scores = h @ weight("ffn_gate_inp").T
    likes = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
    likes /= likes.sum(axis=-1, keepdims=True)
    experts = list(zip(weight("ffn_gate_exps"), weight("ffn_up_exps"), weight("ffn_down_exps"),
                       strict=True))
    out = numpy.zeros_like(h)
    for token, like in enumerate(likes):
        chosen = numpy.argsort(-like, kind="stable")[:used]
        total = like[chosen].sum() if normed else 1
        for expert in chosen:
            out[token] += like[expert] / total * swiglu(h[token], *experts[expert])
    return out


def forward(numbers, tensors, ids):
    """Logits [tokens][vocabulary]."""
    heads, kv_heads, eps = numbers["heads"], numbers["kv_heads"], numbers["eps"]
    dims = tensors["blk.0.attn_q.weight"].shape[0] // heads
    turned = numbers["turned"] or dims
    frequency = numbers["theta"] ** (-numpy.arange(0, turned, 2) / turned)
    angle = numpy.arange(len(ids))[:, None, None] * frequency
    interleaved = numbers["interleaved"]
    x = tensors["token_embd.weight"][ids]
    for layer in range(numbers["layers"]):
        def weight(part, number=layer):
            return tensors[f"blk.{number}.{part}.weight"]
        h = norm(x, weight("attn_norm"), eps)
        q, k, v = (h @ weight(part).T for part in ("attn_q", "attn_k", "attn_v"))
        if "blk.0.attn_q.bias" in tensors:
            q, k, v = (values + tensors[f"blk.{layer}.attn_{part}.bias"]
                       for values, part in ((q, "q"), (k, "k"), (v, "v")))
        q, k, v = (values.reshape(-1, count, dims)
                   for values, count in ((q, heads), (k, kv_heads), (v, kv_heads)))
        if "blk.0.attn_q_norm.weight" in tensors:
            q, k = norm(q, weight("attn_q_norm"), eps), norm(k, weight("attn_k_norm"), eps)
        q, k = rotate(q, angle, interleaved), rotate(k, angle, interleaved)
        x = x + attend(q, k, v, numbers["window"]) @ weight("attn_output").T
        h = norm(x, weight("ffn_norm"), eps)
        if "blk.0.ffn_gate_inp.weight" in tensors:
            x = x + mixture(h, weight, numbers["experts_used"], numbers["normed"])
        else:
            x = x + swiglu(h, weight("ffn_gate"), weight("ffn_up"), weight("ffn_down"))
    head = tensors["output.weight" if "output.weight" in tensors else "token_embd.weight"]
    return norm(x, tensors["output_norm.weight"], eps) @ head.T


def load(path):
    path = pathlib.Path(path)
    return model_of_folder(path) if path.is_dir() else model_of_gguf(path)


def main():
    path, ids = sys.argv[1:]
    numbers, tensors = load(path)
    logits = forward(numbers, tensors, [int(i) for i in ids.split(",")])
    print(json.dumps(logits[-1].tolist()))


if __name__ == "__main__":
    main()
