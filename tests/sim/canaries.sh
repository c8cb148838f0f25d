#!/usr/bin/env bash
# canaries.sh PROGRAMS PATCHES - runs each program with a planted bug, and says which seed found it
# and by which check. Fails when one lives through all of its seeds: the patch may fit no longer.
set -uo pipefail
programs=${1:?usage: canaries.sh PROGRAMS PATCHES}
patches=${2:?usage: canaries.sh PROGRAMS PATCHES}
seeds=1000
count=0
missed=0
for patch in "$patches"/*.patch; do
  name=$(basename "$patch" .patch)
  count=$((count + 1))
  if said=$("$programs/canary_$name" --seeds "$seeds" --failures 1 2>&1); then
    echo "$name: NOT FOUND in $seeds seeds"
    missed=$((missed + 1))
    continue
  fi
  seed=$(sed -n 's/^\(seed [0-9]*\) fails.*/\1/p' <<<"$said")
  check=$(grep -m 1 -o -E '[a-z_]+\.c:[0-9]+: .*|Sanitizer: .*' <<<"$said")
  echo "$name: $seed, ${check:-killed}"
  if [ -z "$seed" ]; then
    missed=$((missed + 1))
  fi
done
echo "$count planted bugs, $missed not found"
[ "$count" -ge 10 ] && [ "$missed" -eq 0 ]
