#!/usr/bin/env bash
# soak.sh - the long counts that CI runs a bounded share of: worker kills, scheduler seeds, fuzzing.
# Appends one line an item to tests/ledger.csv: date, commit, item, count, result.
#   KILLS=1000 SEEDS=100000 FUZZ_SECONDS=3600 tests/soak.sh
set -uo pipefail
cd "$(dirname "$0")/.."
kills=${KILLS:-1000} seeds=${SEEDS:-100000} fuzz_seconds=${FUZZ_SECONDS:-600}
commit=$(git rev-parse --short HEAD)
result=0

item() { # NAME COUNT COMMAND...
  local name=$1 count=$2 verdict=ok
  shift 2
  echo "=== $name $count"
  "$@" || { verdict=failed; result=1; }
  echo "$(date -u +%F),$commit,$name,$count,$verdict" >>tests/ledger.csv
}

item worker-kills "$kills" env SLUICE_KILLS="$kills" \
  /usr/bin/python3 -m pytest -q -s tests/fault/test_kill.py
item scheduler-seeds "$seeds" env SLUICE_SEEDS="$seeds" build/release/tests/sched_property
cmake --preset fuzz >/dev/null && cmake --build --preset fuzz
item fuzz-seconds-a-target "$fuzz_seconds" tests/fuzz/smoke.sh build/fuzz "$fuzz_seconds"
exit $result
