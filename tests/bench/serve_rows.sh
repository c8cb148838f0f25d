#!/usr/bin/env bash
# serve_rows.sh MODEL [REPEATS [KEY=VALUE...]] - the served rows of docs/benchmarks.md on this
# machine: starts the release agent, with these settings, on an ipc socket of its own, loads it,
# prints one line a repeat, stops it.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=$1
repeats=${2:-3}
settings=()
for setting in "${@:3}"; do
  settings+=(--set "$setting")
done
bin=build/release/bin
work=$(mktemp -d)
endpoint=ipc://$work/api.sock
start_ns=$(date +%s%N)
"$bin/sluice-agent" --config configs/cpu.yaml --set "model.path=$model" \
  --set "zmq.bind=$endpoint" "${settings[@]}" >"$work/out" 2>"$work/err" &
agent=$!
trap 'kill -TERM $agent 2>/dev/null || true; wait $agent || true; rm -rf "$work"' EXIT
until grep -q ready "$work/out"; do
  kill -0 $agent || { cat "$work/err"; exit 1; }
  sleep 0.02
done
echo "ready after $((($(date +%s%N) - start_ns) / 1000000)) ms"

load() { # NAME DATASET PROMPTS CONCURRENCY SEED
  timeout 300 "$bin/sluice-bench" --endpoint "$endpoint" --dataset "$2" --num-prompts "$3" \
    --max-concurrency "$4" --request-rate inf --ignore-eos --seed "$5" --json "$work/$1.json" \
    >/dev/null 2>&1
}
status() { # NAME
  "$bin/sluicectl" status --endpoint "$endpoint" --json >"$work/$1.json"
}
for repeat in $(seq "$repeats"); do
  status before
  load batch fixed:128:128 128 64 "$repeat"
  status after
  load prefill fixed:512:1 20 1 "1$repeat"
  load decode fixed:16:256 3 1 "2$repeat"
  /usr/bin/python3 - "$work" <<'PY'
import json, sys
batch, prefill, decode, before, after = (
    json.load(open(f"{sys.argv[1]}/{name}.json"))
    for name in ("batch", "prefill", "decode", "before", "after"))
computed, waited = (after["stats"][name] - before["stats"][name]
                    for name in ("compute_us_total", "wait_us_total"))
print(f"fixed:128:128 at 64: {batch['total_token_throughput']:.0f} tokens/s in + out, "
      f"TTFT {batch['median_ttft_ms']:.0f} ms, TPOT {batch['median_tpot_ms']:.1f} ms, "
      f"the worker waits {100 * waited / (computed + waited):.2f} % of the time; "
      f"prefill of 512: {512e3 / prefill['median_ttft_ms']:.0f} tokens/s; "
      f"decode of one stream: {1e3 / decode['median_tpot_ms']:.1f} tokens/s")
PY
done
for worker in $(pgrep -P "$agent" -f worker || true); do
  awk -v worker="$worker" '/^Private/ { sum += $2 } END {
    printf "private memory of worker %s: %.0f MB\n", worker, sum / 1024 }' \
    "/proc/$worker/smaps_rollup"
done
