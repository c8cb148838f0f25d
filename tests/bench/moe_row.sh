#!/usr/bin/env bash
# moe_row.sh [REPEATS] - the rows of experts in docs/benchmarks.md: writes a seeded toy of Mixtral's
# shape (8 experts, 2 of them a token) and a dense one of the same work a token, runs engine_bench
# on the two in turn, and prints medians of milliseconds a step and their ratio.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
shape=(--hidden 1024 --heads 16 --kv-heads 4 --head-dim 64 --layers 2 --dtype bf16)
make_model() {
  /usr/bin/python3 -B tests/golden/make_model.py "$work/$1" "${shape[@]}" "${@:2}"
}
make_model experts --family mixtral --experts 8 --experts-used 2 --ffn 3584
make_model dense --family mistral --ffn 7168
for repeat in $(seq "${1:-7}"); do
  for model in experts dense; do
    build/release/tests/engine_bench "$work/$model" 2 bf16 >"$work/$model.$repeat"
  done
done
/usr/bin/python3 - "$work" <<'PY'
import collections, pathlib, re, statistics, sys

steps = collections.defaultdict(list)
for path in pathlib.Path(sys.argv[1]).glob("*.*"):
    for name, ms in re.findall(r"^(\S.*?)  +.*, +([\d.]+) ms a step", path.read_text(), re.M):
        steps[name, path.stem].append(float(ms))
for name in dict.fromkeys(key[0] for key in steps):
    experts, dense = (statistics.median(steps[name, model]) for model in ("experts", "dense"))
    print(f"{name}: experts {experts:.2f} ms, dense {dense:.2f} ms, ratio {experts / dense:.2f}")
PY
