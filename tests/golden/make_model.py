#!/usr/bin/env python3
"""make_model.py PATH - writes a tiny model of a family from a seed: a Hugging Face directory or,
with --gguf TYPE, one GGUF file. Its weights are noise, its vocabulary is all bytes, a few merges
and three special tokens; the row of the end token in the output matrix is zero, so that greedy
answers end by length. One seed and one set of options give the same bytes everywhere.
"""
import argparse
import itertools
import json
import pathlib
import struct

import numpy

SPECIALS = ["<unk>", "<s>", "</s>"]
BOS, EOS = 1, 2
WORDS = ["the", "and", "once", "upon", "time", "there", "was", "little", "girl", "named", "big",
         "red"]
GGUF_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8,
              "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "BF16": 30}
# What config.json and GGUF call a family, and its base of rotary angles.
FAMILIES = {
    "llama": ("LlamaForCausalLM", "llama", 1e4), "mistral": ("MistralForCausalLM", "llama", 1e4),
    "mixtral": ("MixtralForCausalLM", "llama", 1e6), "qwen2": ("Qwen2ForCausalLM", "qwen2", 1e6),
    "qwen3": ("Qwen3ForCausalLM", "qwen3", 1e6),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "qwen3moe", 1e6),
}
MIXTURES = ("mixtral", "qwen3_moe")
EXPERT_PARTS = {
    "mixtral": ("block_sparse_moe", "w1", "w3", "w2"),
    "qwen3_moe": ("mlp", "gate_proj", "up_proj", "down_proj"),
}
ALIGNMENT = 32
BLOCK = 32
SUPER_BLOCK = 256


def byte_alphabet():
    """The printable character that stands for each byte: itself, or one from U+0100 on."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {**{byte: chr(byte) for byte in kept},
            **{byte: chr(256 + i) for i, byte in enumerate(moved)}}


def vocabulary(count):
    """Tokens in the order of their ids, and the merges that make those behind the bytes."""
    alphabet = byte_alphabet()
    tokens = SPECIALS + [alphabet[byte] for byte in range(256)]
    merges = []
    for word in WORDS:
        left = alphabet[ord(" ")]
        for letter in word:
            if left + letter not in tokens and len(tokens) < count:
                merges.append((left, letter))
                tokens.append(left + letter)
            if left + letter in tokens:
                left += letter
    for left, right in itertools.product("etaoinshrdlucmfwypvbgk", repeat=2):
        if left + right not in tokens and len(tokens) < count:
            merges.append((left, right))
            tokens.append(left + right)
    if len(tokens) != count:
        raise SystemExit(f"--vocab: from {len(SPECIALS) + 256} to {len(tokens)} here")
    return tokens, merges


def family_config(args):
    """The keys that a family has beside a Llama's."""
    if args.family == "mistral":
        return {"sliding_window": args.window or None}
    if args.family == "mixtral":
        return {"sliding_window": args.window or None, "num_local_experts": args.experts,
                "num_experts_per_tok": args.experts_used}
    if args.family == "llama":
        return {}
    # A window that is switched off must leave no trace.
    off = {"use_sliding_window": False, "sliding_window": 3, "max_window_layers": 1}
    if args.family == "qwen3_moe":
        return {**off, "num_experts": args.experts, "num_experts_per_tok": args.experts_used,
                "moe_intermediate_size": args.ffn, "intermediate_size": 3 * args.ffn,
                "norm_topk_prob": not args.raw_weights, "decoder_sparse_step": 1,
                "mlp_only_layers": []}
    return off


def config(args):
    return {
        "architectures": [FAMILIES[args.family][0]], "model_type": args.family,
        "hidden_act": "silu",
        "hidden_size": args.hidden, "intermediate_size": args.ffn,
        "num_hidden_layers": args.layers, "num_attention_heads": args.heads,
        "num_key_value_heads": args.kv_heads, "head_dim": args.head_dim,
        "vocab_size": args.vocab, "max_position_embeddings": args.positions,
        "rms_norm_eps": 1e-5, "rope_theta": FAMILIES[args.family][2], "rope_scaling": None,
        "tie_word_embeddings": args.tied, "bos_token_id": BOS, "eos_token_id": EOS,
        "torch_dtype": {"f32": "float32", "bf16": "bfloat16"}[args.dtype],
        **family_config(args),
    }


def weights(args):
    """Tensors by their Hugging Face names, float32. Each product keeps its input's magnitude."""
    random = numpy.random.Generator(numpy.random.PCG64(args.seed))

    def matrix(rows, columns):
        values = random.standard_normal((rows, columns)) / numpy.sqrt(columns)
        return values.astype(numpy.float32)

    def vector(count):
        return (1 + 0.1 * random.standard_normal(count)).astype(numpy.float32)
    queries, keys = args.heads * args.head_dim, args.kv_heads * args.head_dim
    tensors = {"model.embed_tokens.weight": matrix(args.vocab, args.hidden)}
    tensors["model.embed_tokens.weight"][EOS] = 0
    for i in range(args.layers):
        layer = f"model.layers.{i}."
        tensors.update({
            layer + "input_layernorm.weight": vector(args.hidden),
            layer + "self_attn.q_proj.weight": matrix(queries, args.hidden),
            layer + "self_attn.k_proj.weight": matrix(keys, args.hidden),
            layer + "self_attn.v_proj.weight": matrix(keys, args.hidden),
            layer + "self_attn.o_proj.weight": matrix(args.hidden, queries),
            layer + "post_attention_layernorm.weight": vector(args.hidden),
        })
        if args.family == "qwen2":
            tensors.update({layer + f"self_attn.{part}_proj.bias": vector(rows) - numpy.float32(0.9)
                            for part, rows in (("q", queries), ("k", keys), ("v", keys))})
        if args.family in ("qwen3", "qwen3_moe"):
            tensors.update({layer + "self_attn.q_norm.weight": vector(args.head_dim),
                            layer + "self_attn.k_norm.weight": vector(args.head_dim)})
        ffns = {"mlp.": ("gate_proj", "up_proj", "down_proj")}
        if args.family in MIXTURES:
            block, *parts = EXPERT_PARTS[args.family]
            tensors[layer + block + ".gate.weight"] = matrix(args.experts, args.hidden)
            ffns = {f"{block}.experts.{number}.": parts for number in range(args.experts)}
        for place, (gate, up, down) in ffns.items():
            tensors.update({
                f"{layer}{place}{gate}.weight": matrix(args.ffn, args.hidden),
                f"{layer}{place}{up}.weight": matrix(args.ffn, args.hidden),
                f"{layer}{place}{down}.weight": matrix(args.hidden, args.ffn),
            })
    tensors["model.norm.weight"] = vector(args.hidden)
    if not args.tied:
        tensors["lm_head.weight"] = matrix(args.vocab, args.hidden) * numpy.float32(3)
        tensors["lm_head.weight"][EOS] = 0
    return tensors


def bf16_bytes(values):
    """Rounded to the nearest, ties to even."""
    bits = values.astype("<f4").view("<u4").astype(numpy.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()


def write_safetensors(path, tensors, dtype):
    header, pieces, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, values in tensors.items():
        piece = bf16_bytes(values) if dtype == "bf16" else values.astype("<f4").tobytes()
        header[name] = {"dtype": dtype.upper(), "shape": list(values.shape),
                        "data_offsets": [at, at + len(piece)]}
        pieces.append(piece)
        at += len(piece)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(pieces))


def tokenizer(args):
    tokens, merges = vocabulary(args.vocab)
    added = [{"id": i, "content": text, "special": True, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False} for i, text in enumerate(SPECIALS)]
    bytelevel = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                 "use_regex": True}
    before = [{"SpecialToken": {"id": "<s>", "type_id": 0}},
              {"Sequence": {"id": "A", "type_id": 0}}]
    around = {"type": "TemplateProcessing", "single": before, "pair": before,
              "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None, "pre_tokenizer": bytelevel, "post_processor": around,
        "decoder": bytelevel,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False,
                  "vocab": {text: i for i, text in enumerate(tokens)},
                  "merges": [" ".join(pair) for pair in merges]},
    }


def write_folder(args, tensors):
    args.path.mkdir(parents=True, exist_ok=True)

    def write(name, content):
        (args.path / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write("config.json", config(args))
    write("generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS})
    write("tokenizer.json", tokenizer(args))
    if args.shards == 1:
        write_safetensors(args.path / "model.safetensors", tensors, args.dtype)
        return
    where = {}
    for i in range(args.shards):
        name = f"model-{i + 1:05}-of-{args.shards:05}.safetensors"
        part = dict(list(tensors.items())[i::args.shards])
        write_safetensors(args.path / name, part, args.dtype)
        where.update({tensor: name for tensor in part})
    write("model.safetensors.index.json", {"metadata": {}, "weight_map": where})


def quantise(values, kind):
    """Blocks of 32 values; scales are stored, and rounded against, as halves."""
    x = values.reshape(-1, BLOCK).astype(numpy.float64)
    bits = int(kind[1])
    low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
    levels = 2 ** bits - 1
    if kind.endswith("_1"):
        offset, scale = low.astype("<f2"), ((high - low) / levels).astype("<f2")
    else:
        centre = 0 if bits == 8 else 2 ** (bits - 1)
        reach = 127 if bits == 8 else centre - 1
        scale = (numpy.maximum(high, -low) / reach).astype("<f2")
        offset = -centre * scale.astype(numpy.float64)
    divisor = numpy.where(scale == 0, 1, scale).astype(numpy.float64)
    q = numpy.rint((x - offset) / divisor)
    fields = [scale.view(numpy.uint8)]
    if bits == 8:
        return numpy.hstack([*fields, q.astype(numpy.int8).view(numpy.uint8)]).tobytes()
    q = numpy.clip(q, 0, levels).astype(numpy.uint8)
    if kind.endswith("_1"):
        fields.append(offset.view(numpy.uint8))
    if bits == 5:
        fields.append(numpy.packbits(q >> 4, axis=1, bitorder="little"))
    half = BLOCK // 2
    fields.append((q[:, :half] & 15) | (q[:, half:] & 15) << 4)
    return numpy.hstack(fields).tobytes()


def divided(values, scales):
    """Rounded quotients; a scale of zero divides nothing."""
    return numpy.rint(values / numpy.where(scales == 0, 1, scales))


def pack_pieces(scales, minima):
    """[blocks][8] six-bit pairs in 12 bytes: what exceeds four bits of the last four goes up."""
    first = scales[:, :4] | scales[:, 4:] >> 4 << 6
    second = minima[:, :4] | minima[:, 4:] >> 4 << 6
    return [first, second, (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4]


def quantise_4_5(values, bits):
    """Q4_K and Q5_K: 8 pieces of 32 values with a scale and a minimum of six bits each."""
    x = values.reshape(-1, 8, 32).astype(numpy.float64)
    below = numpy.maximum(0, -x.min(axis=2))
    reach = (x.max(axis=2) + below) / (2 ** bits - 1)
    d = (reach.max(axis=1, keepdims=True) / 63).astype("<f2")
    m = (below.max(axis=1, keepdims=True) / 63).astype("<f2")
    scales = numpy.clip(divided(reach, d.astype(numpy.float64)), 0, 63)
    minima = numpy.clip(divided(below, m.astype(numpy.float64)), 0, 63)
    shifted = x + (m * minima)[:, :, None]
    q = numpy.clip(divided(shifted, (d * scales)[:, :, None]), 0, 2 ** bits - 1)
    q = q.astype(numpy.uint8)
    fields = [d.view(numpy.uint8), m.view(numpy.uint8),
              *pack_pieces(scales.astype(numpy.uint8), minima.astype(numpy.uint8))]
    if bits == 5:
        fields.append(numpy.packbits(q >> 4, axis=1, bitorder="little").reshape(-1, 32))
    fields.append(((q[:, 0::2] & 15) | (q[:, 1::2] & 15) << 4).reshape(-1, 128))
    return numpy.hstack(fields).tobytes()


def quantise_6(values):
    """Q6_K: 16 pieces of 16 values with a signed scale of eight bits each."""
    x = values.reshape(-1, 16, 16).astype(numpy.float64)
    far = numpy.take_along_axis(x, numpy.abs(x).argmax(axis=2)[:, :, None], 2)[:, :, 0]
    reach = far / -32  # The value that is furthest out becomes -32: scales have both signs.
    d = (numpy.abs(reach).max(axis=1, keepdims=True) / 127).astype("<f2")
    scales = numpy.clip(divided(reach, d.astype(numpy.float64)), -128, 127)
    q = numpy.clip(divided(x, (d * scales)[:, :, None]), -32, 31) + 32
    runs = q.astype(numpy.uint8).reshape(-1, 2, 4, 32)  # [block][half][run][value]
    nibbles = (runs[:, :, :2] & 15) | (runs[:, :, 2:] & 15) << 4
    upper = sum(runs[:, :, run] >> 4 << 2 * run for run in range(4))
    fields = [nibbles.reshape(-1, 128), upper.reshape(-1, 64),
              scales.astype(numpy.int8).view(numpy.uint8), d.view(numpy.uint8)]
    return numpy.hstack(fields).tobytes()


def gguf_bytes(values, kind):
    if kind == "F32":
        return values.astype("<f4").tobytes()
    if kind == "F16":
        return values.astype("<f2").tobytes()
    if kind.endswith("_K"):
        return quantise_6(values) if kind == "Q6_K" else quantise_4_5(values, int(kind[1]))
    return bf16_bytes(values) if kind == "BF16" else quantise(values, kind)


def gguf_value(value):
    """Type number and bytes of a metadata value."""
    if isinstance(value, str):
        text = value.encode()
        return 8, struct.pack("<Q", len(text)) + text
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if value and isinstance(value[0], int):
        return 9, struct.pack(f"<IQ{len(value)}i", 5, len(value), *value)
    items = [gguf_value(item) for item in value]
    return 9, struct.pack("<IQ", 8, len(items)) + b"".join(item[1] for item in items)


def gguf_numbers(args):
    """Keys behind the family's prefix."""
    numbers = {
        "embedding_length": args.hidden, "feed_forward_length": args.ffn,
        "block_count": args.layers, "attention.head_count": args.heads,
        "attention.head_count_kv": args.kv_heads, "attention.key_length": args.head_dim,
        "attention.value_length": args.head_dim, "rope.dimension_count": args.head_dim,
        "rope.freq_base": FAMILIES[args.family][2], "context_length": args.positions,
        "vocab_size": args.vocab, "attention.layer_norm_rms_epsilon": 1e-5,
    }
    if args.window and args.family in ("mistral", "mixtral"):
        numbers["attention.sliding_window"] = args.window
    if args.family in MIXTURES:
        numbers.update({"expert_count": args.experts, "expert_used_count": args.experts_used})
    if args.family == "qwen3_moe":
        numbers.update({"feed_forward_length": 3 * args.ffn,
                        "expert_feed_forward_length": args.ffn,
                        "expert_weights_norm": not args.raw_weights})
    return numbers


def gguf_pairs(args):
    tokens, merges = vocabulary(args.vocab)
    prefix = FAMILIES[args.family][1]
    return {
        "general.architecture": prefix, "general.alignment": ALIGNMENT,
        **{f"{prefix}.{key}": value for key, value in gguf_numbers(args).items()},
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if i < len(SPECIALS) else 1 for i in range(args.vocab)],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": BOS, "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.add_bos_token": True,
    }


def gguf_tensors(args, tensors):
    """The same tensors by their GGUF names; a Llama's rows of q and k in interleaved order."""
    plain = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
             "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
    if args.family in MIXTURES:
        block, *names = EXPERT_PARTS[args.family]
        parts[block + ".gate"] = "ffn_gate_inp"
        parts.update(dict(zip(names, ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"],
                              strict=True)))
    out = {}
    for name, values in tensors.items():
        stem, ending = name.rsplit(".", 1)
        if stem in plain:
            out[plain[stem] + ".weight"] = values
            continue
        layer, part = stem[len("model.layers."):].split(".", 1)
        if part in ("self_attn.q_proj", "self_attn.k_proj") and FAMILIES[args.family][1] == "llama":
            halves = values.reshape(-1, 2, args.head_dim // 2, args.hidden)
            values = halves.swapaxes(1, 2).reshape(values.shape)
        if ".experts." in part:
            out.setdefault(f"blk.{layer}.{parts[part.rsplit('.', 1)[1]]}.weight", []).append(values)
        else:
            out[f"blk.{layer}.{parts[part]}.{ending}"] = values
    return {name: numpy.array(values) for name, values in out.items()}


def write_gguf(args, tensors):
    def string(text):
        return gguf_value(text)[1]
    named, table, data = gguf_tensors(args, tensors), b"", b""
    for name, values in named.items():
        kind = args.gguf if values.ndim > 1 and "ffn_gate_inp" not in name else "F32"
        piece = gguf_bytes(values, kind)
        table += string(name) + struct.pack("<I", values.ndim)
        table += struct.pack(f"<{values.ndim}Q", *reversed(values.shape))
        table += struct.pack("<IQ", GGUF_TYPES[kind], len(data))
        data += piece + b"\0" * (-len(piece) % ALIGNMENT)
    pairs = gguf_pairs(args)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(named), len(pairs))
    for key, value in pairs.items():
        kind, content = gguf_value(value)
        head += string(key) + struct.pack("<I", kind) + content
    head += table
    args.path.write_bytes(head + b"\0" * (-len(head) % ALIGNMENT) + data)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("path", type=pathlib.Path)
    parser.add_argument("--gguf", choices=sorted(GGUF_TYPES), metavar="TYPE")
    for name, value in {"seed": 1, "hidden": 64, "layers": 2, "heads": 4, "kv-heads": 2,
                        "head-dim": 16, "ffn": 160, "vocab": 512, "positions": 2048,
                        "shards": 1, "window": 0, "experts": 5, "experts-used": 2}.items():
        parser.add_argument("--" + name, type=int, default=value, metavar="N")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="llama")
    parser.add_argument("--raw-weights", action="store_true",
                        help="qwen3_moe: the weights of a token's experts need not sum to 1")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--tied", action="store_true")
    args = parser.parse_args()
    blocks = args.gguf is not None and args.gguf.startswith("Q")
    block = SUPER_BLOCK if blocks and args.gguf.endswith("_K") else BLOCK
    if blocks and any(width % block for width in
                      (args.hidden, args.ffn, args.heads * args.head_dim)):
        parser.error(f"{args.gguf} wants --hidden, --ffn and heads x head-dim in "
                     f"multiples of {block}")
    if args.gguf:
        write_gguf(args, weights(args))
    else:
        write_folder(args, weights(args))


if __name__ == "__main__":
    main()
