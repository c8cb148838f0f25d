#!/usr/bin/env bash
# first_run.sh - what `make run` does once everything is built: starts the agent, asks it one
# question, streams the answer and stops everything, also on Ctrl-C. MODEL=PATH takes another model,
# PROMPT=TEXT another question. Needs no terminal.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=build/release/bin
model=${MODEL:-$(tools/fetch_model.sh)}
prompt=${PROMPT:-"Why is the sky blue? Answer in three sentences."}
folder=$(mktemp -d "${TMPDIR:-/tmp}/sluice-run.XXXXXX")
endpoint=ipc://$folder/api.sock
agent=

stop() {
  trap - EXIT INT TERM
  if [ -n "$agent" ]; then
    kill -TERM "$agent" 2>/dev/null || true
    wait "$agent" 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap stop EXIT
trap 'stop; exit 130' INT TERM

mkfifo "$folder/ready"
"$bin/sluice-agent" --config configs/cpu.yaml --set "model.path=$model" \
  --set "zmq.bind=$endpoint" >"$folder/ready" </dev/null &
agent=$!
read -r -t 120 word <"$folder/ready" || word=
if [ "$word" != ready ]; then
  echo "run: the agent did not become ready" >&2
  exit 1
fi
echo "> $prompt"
"$bin/sluicectl" chat --endpoint "$endpoint" --prompt "$prompt" --temperature 0 \
  </dev/null
