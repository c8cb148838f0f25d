#!/usr/bin/env python3
"""make_plans.py KEY.json FOLDER [UNITS] - plan files of two nano-batches, one a size of step.

Lane 0 has the products of both nano-batches, lane 1 their attention with UNITS (default 40) of the
device's units. While one nano-batch is attended, the products of the other run: those of its own
layer, or, for the second one, the tail of the layer before. sluice-tune searches for plans; these
are only the pipeline that the search should find or beat.
"""
import json
import os
import sys

HEAD = ["attention-norm", "kqv", "rope-append"]
ATTEND = ["prefill-attention", "decode-attention"]
TAIL = ["output", "ffn-norm", "up-gate", "silu-mul", "down"]
WHOLE, HALF = 65536, 32768
SIZES = (256, 512, 1024, 1536, 2048)


def operations(units):
    """(nano-batch, operation, lane, lag, units) in the order of the lanes."""
    total, few = units
    products, attention = (0, total - few, 0), (1, few, 0)
    rows = []

    def put(batch, names, lane, lag):
        rows.extend((batch, name, lane[0], lag, lane[1]) for name in names)
    put(0, HEAD, products, 0)
    put(0, ATTEND, attention, 0)
    put(1, TAIL, products, 1)
    put(1, HEAD, products, 0)
    put(1, ATTEND, attention, 0)
    put(0, TAIL, products, 0)
    return rows


def edges_of(rows):
    """Each operation after the one before it of its nano-batch; and the prompts of the second,
    which may begin in the first, after the first has appended its keys and values."""
    at = {(batch, name): index for index, (batch, name, *_) in enumerate(rows)}
    order = HEAD + ATTEND + TAIL
    edges = []
    for batch in range(2):
        for before, after in zip([order[-1]] + order, order):
            edges.append({"after": at[batch, after], "before": at[batch, before],
                          "offset": int(after == order[0]), "kind": "end"})
    edges.append({"after": at[1, ATTEND[0]], "before": at[0, HEAD[-1]], "offset": 0, "kind": "end"})
    return edges


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        key = json.load(file)
    few = int(sys.argv[3]) if len(sys.argv) > 3 else 40
    rows = operations((key["units"], min(few, key["units"] // 2)))
    nano = [{"op": name, "first": batch * HALF, "end": WHOLE if batch else HALF, "lane": lane,
             "lag": lag, "units": units} for batch, name, lane, lag, units in rows]
    for tokens in SIZES:
        plan = {"plan": 1, "key": key, "nano": nano, "edges": edges_of(rows),
                "regime": {"tokens": tokens, "decode": tokens // 3, "context": 1280},
                "predicted_us": 0, "measured_us": 0, "sequential_us": 0}
        with open(os.path.join(sys.argv[2], f"{tokens:05}.json"), "w", encoding="utf-8") as file:
            json.dump(plan, file)


if __name__ == "__main__":
    main()
