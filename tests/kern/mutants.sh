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

caught() { # NAME: by what $said tells
  local reason
  reason=$(grep -m 1 -o -E 'emu: .*|element .*|round [0-9]+: .*|[a-z_]+\.c:[0-9]+: .*' <<<"$said")
  echo "$1: ${reason:-killed}"
}

for patch in "$patches"/*.patch; do
  name=$(basename "$patch" .patch)
  check=$(sed -n 's/^check: //p' "$patch")
  count=$((count + 1))
  said=$(timeout 120 "$programs/mutant_$name" "$check" 2>&1)
  status=$?
  case $status in
    0) said="NOT CAUGHT by $check" ;;
    124 | 126 | 127) said="NOT RUN to its end (status $status)" ;;
    *)
      caught "$name"
      continue
      ;;
  esac
  echo "$name: $said"
  missed=$((missed + 1))
done
echo "$count planted bugs, $missed not caught"
[ "$count" -ge 60 ] && [ "$missed" -eq 0 ]
