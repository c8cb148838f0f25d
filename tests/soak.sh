#!/usr/bin/env bash
# soak.sh - the long counts, after a release build: kills of the worker (SLUICE_KILLS, 100 of each
# kind), seeds of the simulation (SLUICE_SEEDS, 100,000) and, where a fuzz build exists,
# FUZZ_SECONDS (300) of every target. Each run is a line of
# tests/ledger.csv.
set -uo pipefail
cd "$(dirname "$0")/.."
ledger=tests/ledger.csv
machine="$(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
failed=0
[ -f "$ledger" ] || echo "date,commit,machine,what,count,result,seconds" >"$ledger"

soak() { # WHAT COUNT COMMAND...
  local what=$1 count=$2 start=$SECONDS result=passed
  shift 2
  "$@" || { result=failed; failed=1; }
  echo "$(date -u +%F),$(git describe --always --dirty),$machine,$what,$count,$result,$((SECONDS -
    start))" | tee -a "$ledger"
}

kills=${SLUICE_KILLS:-100}
export SLUICE_KILLS=$kills
export SLUICE_BIN=$PWD/build/release/bin
soak kills "$kills" timeout 7200 /usr/bin/python3 -B -m pytest -s tests/fault/test_kill.py
half=$((kills / 2))
soak "group kills" "$half" env SLUICE_KILLS="$half" timeout 7200 \
  /usr/bin/python3 -B -m pytest -s tests/fault/test_kill_group.py
seeds=${SLUICE_SEEDS:-100000}
soak "sim seeds" "$seeds" timeout 7200 build/release/tests/sluice_sim --seeds "$seeds" \
  --jobs "$(nproc)"
if [ -d build/fuzz/fuzz ]; then
  seconds=${FUZZ_SECONDS:-300}
  soak "fuzz seconds a target" "$seconds" tests/fuzz/smoke.sh build/fuzz "$seconds"
fi
exit "$failed"
