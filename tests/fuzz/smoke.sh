#!/usr/bin/env bash
# smoke.sh BUILD [SECONDS] - runs every libFuzzer target of a fuzz build for SECONDS (10) on a copy
# of its corpus, two at a time. Prints one line a target with its executions; fails on a finding, on
# a target that ran nothing and when there is no target. Findings are left in BUILD/fuzz/found.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${1:?usage: tests/fuzz/smoke.sh BUILD [SECONDS]}
export SMOKE_SECONDS=${2:-10}
export SMOKE_CORPUS=$PWD/tests/fuzz/corpus
SMOKE_FOUND=$(realpath "$build")/fuzz/found
export SMOKE_FOUND
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1
export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0
mkdir -p "$SMOKE_FOUND"

smoke_one() { # TARGET
  local target name work log status executions
  target=$1
  name=$(basename "$target")
  work=$(mktemp -d)
  log=$work/log
  mkdir "$work/corpus"
  timeout --kill-after=10 $((SMOKE_SECONDS + 60)) "$target" -max_total_time="$SMOKE_SECONDS" \
    -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$SMOKE_FOUND/$name-" \
    "$work/corpus" "$SMOKE_CORPUS/${name#fuzz_}" >"$log" 2>&1
  status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%-28s %10s execs  exit %d\n' "$name" "${executions:-0}" "$status"
  if [ "$status" -ne 0 ] || [ "${executions:-0}" -eq 0 ]; then
    tail -n 40 "$log"
    status=1
  fi
  rm -rf "$work"
  return "$status"
}
export -f smoke_one

mapfile -t targets < <(find "$build/fuzz" -maxdepth 1 -type f -name 'fuzz_*' -executable | sort)
if [ ${#targets[@]} -eq 0 ]; then
  echo "smoke: no fuzz_* in $build/fuzz; build the fuzz preset first" >&2
  exit 1
fi
printf '%s\0' "${targets[@]}" | xargs -0 -P 2 -I{} bash -c 'smoke_one "$1" || exit 1' _ {}
status=$?
echo "smoke: ${#targets[@]} targets, $SMOKE_SECONDS s each"
exit "$status"
