#!/usr/bin/env python3
"""pad_ffn.py MODEL OUT COLUMNS - the Hugging Face model with COLUMNS more in its feed-forward
parts, all zero: it computes the same, and its size may suit products that want multiples of
something. For accuracy rows of docs/benchmarks.md; one file of safetensors in F32.
"""
import json
import os
import shutil
import struct
import sys

import numpy

PADS = {"gate_proj": (1, 0), "up_proj": (1, 0), "down_proj": (0, 1)}


def read(path):
    with open(path, "rb") as file:
        raw = file.read()
    count = struct.unpack("<Q", raw[:8])[0]
    for name, entry in json.loads(raw[8:8 + count]).items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32", name
            begin, end = (8 + count + offset for offset in entry["data_offsets"])
            yield name, numpy.frombuffer(raw[begin:end], "<f4").reshape(entry["shape"])


def write(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        end = offset + values.nbytes
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    model, out, columns = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.makedirs(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(os.path.join(model, name), os.path.join(out, name))
    with open(os.path.join(model, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    config["intermediate_size"] += columns
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    tensors = {}
    for name, values in read(os.path.join(model, "model.safetensors")):
        sides = next((pads for part, pads in PADS.items() if part in name), (0,) * values.ndim)
        tensors[name] = numpy.pad(values, [(0, side * columns) for side in sides])
    write(os.path.join(out, "model.safetensors"), tensors)


if __name__ == "__main__":
    main()
