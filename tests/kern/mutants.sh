#!/usr/bin/env bash
# mutants.sh PROGRAMS PATCHES - runs the checks of the CUDA kernels with a bug planted in one of
# them, one program a patch, and fails when the checks let a bug pass. A patch opens with the name
# of the checks that must see it. Not caught means: a check has lost its teeth, or the patch may fit
# no longer.
set -uo pipefail
programs=${1:?usage: mutants.sh PROGRAMS PATCHES}
patches=${2:?usage: mutants.sh PROGRAMS PATCHES}
count=0
missed=0
for patch in "$patches"/*.patch; do
  name=$(basename "$patch" .patch)
  check=$(sed -n 's/^check: //p' "$patch")
  count=$((count + 1))
  if said=$(timeout 120 "$programs/mutant_$name" "$check" 2>&1); then
    echo "$name: NOT CAUGHT by $check"
    missed=$((missed + 1))
    continue
  fi
  reason=$(grep -m 1 -o -E 'emu: .*|element .*|round [0-9]+: .*|[a-z_]+\.c:[0-9]+: .*' <<<"$said")
  echo "$name: ${reason:-killed}"
done
echo "$count planted bugs, $missed not caught"
[ "$count" -ge 60 ] && [ "$missed" -eq 0 ]
