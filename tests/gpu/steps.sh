# steps.sh - sourced by check.sh: its steps that are more than one program. Each runs in a shell of
# its own under a time limit, so they are exported functions. They end with 77 to be counted as
# skipped, their last line saying why.
. tests/gpu/serve.sh

machine() {
  uname -a
  nvidia-smi || echo "no nvidia-smi"
  nvcc --version || echo "no nvcc"
  ours ldd "$bin/sluice-worker-cuda"
  tr ':' '\n' <<<"$libraries"
}

# Every check of the kernels in a process of its own: a fault on the device ends only one of them.
# A timeout within a step is in the foreground, else what it runs outlives the step's end.
kernels() {
  local name bad=0
  for name in $(grep -o 'unit_test(check_cuda_[a-z_]*' tests/kern/check_cuda.c | cut -d'(' -f2); do
    if ours timeout --foreground 25 "$tests/kern_gpu_check" "$name"; then
      echo "$name: ok"
    else
      echo "$name: FAILED"
      bad=$((bad + 1))
    fi
  done
  echo "$bad checks of kernels failed"
  [ "$bad" -eq 0 ]
}

# In f32 the tokens are the CPU worker's; in bf16 a near tie may go the other way, and is counted.
answers() {
  local family folder bad=0
  for family in $families; do
    folder=$models/$family
    if [ -z "$golden" ]; then
      /usr/bin/python3 -B tests/golden/make_model.py "$folder" --family "$family" ||
        { echo "skipped: this Python has no numpy, and there is no .gpu"; return 77; }
      serve_answers "$family-cpu" "$folder" cpu f32 >"$work/$family.golden"
    else
      cp "$golden/$family" "$work/$family.golden"
    fi
    serve_answers "$family-f32" "$folder" cuda f32 >"$work/$family.f32"
    serve_answers "$family-bf16" "$folder" cuda bf16 >"$work/$family.bf16"
    printf '{"row": "answers", "family": "%s", "prompts": %d, ' \
      "$family" "$(wc -l <"$work/$family.golden")"
    printf '"f32_equal": %d, "bf16_equal": %d}\n' \
      "$(comm -12 <(sort "$work/$family.golden") <(sort "$work/$family.f32") | wc -l)" \
      "$(comm -12 <(sort "$work/$family.golden") <(sort "$work/$family.bf16") | wc -l)"
    cmp "$work/$family.golden" "$work/$family.f32" || bad=$((bad + 1))
  done
  echo "$bad families answered otherwise in f32"
  [ "$bad" -eq 0 ]
}

measure() {
  ours "$tests/gpu_measure" "$1"
}

# clocked NAME COMMAND...: the command, and a row of clocks, power and use of the device meanwhile.
clocked() {
  local name=$1 watch status=0
  shift
  nvidia-smi -i 0 --query-gpu=power.draw,clocks.sm,clocks.mem,utilization.gpu,power.limit \
    --format=csv,noheader,nounits -lms 200 >"$work/$name.clocks" 2>/dev/null &
  watch=$!
  "$@" || status=$?
  kill "$watch" 2>/dev/null
  wait "$watch" 2>/dev/null
  python3 -B tests/gpu/clocks.py "$name" "$work/$name.clocks"
  return "$status"
}

# What products alone sustain for seconds, products and attention in turns, and side by side.
load() {
  local kind bad=0
  for kind in products turns overlap; do
    clocked "load-$kind" measure "load-$kind" || bad=1
  done
  return "$bad"
}

# The same products without the hint of how many SMs a lane has.
unhinted() {
  SLUICE_CUDA_SM_TARGET=off measure products
}

sanitizer() {
  local tool bad=0
  command -v compute-sanitizer >/dev/null ||
    { echo "compute-sanitizer is not installed"; return 77; }
  ours compute-sanitizer --error-exitcode 9 "$tests/kern_gpu_check" check_cuda_embed ||
    { echo "compute-sanitizer does not run here: see above"; return 77; }
  for tool in memcheck racecheck synccheck; do
    ours timeout 11 compute-sanitizer --tool "$tool" --error-exitcode 9 "$tests/kern_gpu_check"
    case $? in
      0) echo "$tool: clean" ;;
      124) echo "$tool: clean as far as 11 s went" ;;
      *) echo "$tool: FAILED" && bad=1 ;;
    esac
  done
  return "$bad"
}

# Llama-3-8B's shapes, random weights, 1024 in / 512 out, all at once: one operation after the
# other, then nano-batches on one lane, then the lanes side by side.
triple() {
  local mode folder=$work/llama-3-8b plans=$work/plans
  mkdir -p "$folder" "$plans"
  cp tests/gpu/llama-3-8b.json "$folder/config.json"
  ours "$tests/gpu_measure" key "$folder" >"$work/key.json" || return 1
  python3 -B tests/gpu/make_plans.py "$work/key.json" "$plans" || return 1
  for mode in sequential nano overlap; do
    serve_start "$mode" "model.path=$folder" model.random_weights=1 workers.device=cuda \
      model.dtype=bf16 model.context_tokens_max=2048 batch.tokens_max=2048 batch.slots_max=512 \
      kv.device_pages=49152 "plan.dir=$plans" "plan.mode=$mode" workers.step_timeout_ms=60000 \
      workers.start_timeout_ms=120000 queue.requests_max=4096 queue.tokens_max=4194304 || continue
    grep -E 'plans|refused|cut by|shared by' "$work/$mode.log"
    # Warms up: graphs are captured, products timed.
    ours timeout --foreground 20 "$bin/sluice-bench" --endpoint "$endpoint" \
      --dataset fixed:1024:64 --num-prompts 64 --ignore-eos >/dev/null
    clocked "triple-$mode" ours timeout --foreground 60 "$bin/sluice-bench" --endpoint "$endpoint" \
      --dataset fixed:1024:512 --num-prompts 512 --ignore-eos --json "$out/bench-$mode.json"
    ours "$bin/sluicectl" status --endpoint "$endpoint" --json >"$out/status-$mode.json"
    serve_stop
    python3 - "$mode" "$out/bench-$mode.json" "$out/status-$mode.json" <<'PY'
import json, sys
mode, bench, status = sys.argv[1:]
told = json.load(open(bench, encoding="utf-8"))
stats = json.load(open(status, encoding="utf-8"))["stats"]
waited, computed = stats["wait_us_total"], stats["compute_us_total"]
print(json.dumps({"row": "triple", "mode": mode, "lane_sharing": stats["lane_sharing"],
      "waited_share": waited / (waited + computed), **{name: told[name] for name in
      ("total_token_throughput", "output_throughput", "median_ttft_ms", "median_tpot_ms")
      if name in told}}))
PY
  done
  [ "$(grep -c . <(ls "$out"/bench-*.json 2>/dev/null))" -eq 3 ]
}
export -f machine kernels answers measure clocked load unhinted sanitizer triple
export -f ours serve_start serve_stop serve_answers
