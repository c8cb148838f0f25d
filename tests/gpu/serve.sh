# serve.sh - sourced by check.sh and carry.sh: an agent on a socket of its own, and the greedy
# answers of a model through it. Wants $bin (programs), $work (a folder for sockets and logs) and,
# where they are not the system's, $libraries.

# ours COMMAND...: a program of this tree, or one that runs such a program, with the libraries it
# needs: nothing else gets to see them.
ours() {
  LD_LIBRARY_PATH=${libraries:-${LD_LIBRARY_PATH:-}} "$@"
}

export families='llama qwen2 qwen3 mistral'

# serve_start NAME KEY=VALUE...: starts an agent and waits until it is ready. Its log is
# $work/NAME.log. Status 1: it was not within 120 s, and the log says why.
serve_start() {
  local name=$1 settings=() setting
  shift
  for setting in "$@"; do
    settings+=(--set "$setting")
  done
  mkdir -p -m 750 "$work/socket"
  endpoint=ipc://$work/socket/$name.sock
  LD_LIBRARY_PATH=${libraries:-${LD_LIBRARY_PATH:-}} "$bin/sluice-agent" \
    --config configs/cpu.yaml --set "zmq.bind=$endpoint" "${settings[@]}" \
    >"$work/$name.log" 2>&1 & # Not by ours(): $! is to be the agent.
  agent=$!
  for _ in $(seq 1200); do
    grep -q '^ready' "$work/$name.log" && return 0
    kill -0 "$agent" 2>/dev/null || break
    sleep 0.1
  done
  tail -5 "$work/$name.log" >&2
  serve_stop
  return 1
}

serve_stop() {
  [ -n "${agent:-}" ] || return 0
  kill -TERM "$agent" 2>/dev/null
  wait "$agent" 2>/dev/null
  agent=
}

# serve_answers NAME MODEL DEVICE DTYPE: a line of ids a prompt, of one page and of several, longer
# than a step.
serve_answers() {
  local prompt ids
  serve_start "$1" "model.path=$2" "workers.device=$3" "model.dtype=$4" kv.device_pages=256 \
    batch.tokens_max=64 batch.slots_max=16 workers.step_timeout_ms=60000 || return 1
  for prompt in 5 22 39 56 73 90; do
    ids=$(seq 1 "$prompt" | awk '{ printf "%s%d", (NR > 1 ? "," : ""), 3 + ($1 * 37 + 11) % 250 }')
    ours "$bin/sluicectl" generate --endpoint "$endpoint" --ids "$ids" --max-tokens 24 \
      --temperature 0 --ignore-eos --json | grep -o '"ids":\[[0-9,]*\]' || break
  done
  serve_stop
}
