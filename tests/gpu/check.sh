#!/usr/bin/env bash
# check.sh [OUT] - everything that a machine with one NVIDIA GPU can say about this tree, in 9
# minutes at most; `make gpu-check` runs it. Programs come from .gpu (tests/gpu/carry.sh), else from
# build/cuda, else they are built. Steps do not hang on each other: each has its own time, its log
# OUT/STEP.log and a line of the summary; figures are rows of JSON in OUT/rows.jsonl. OUT is
# build/gpu-check unless given.
#
# Exit status: 0 all that ran passed, 1 something failed, 3 there is no GPU.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:-build/gpu-check}
mkdir -p "$out"
out=$(cd "$out" && pwd)
export TOTAL_S=540 work=$out/work out
rm -rf "$work" && mkdir -p "$work"
: >"$out/rows.jsonl"
: >"$out/summary"

if [ -x .gpu/bin/sluice-worker-cuda ]; then
  export bin=$PWD/.gpu/bin tests=$PWD/.gpu/tests golden=$PWD/.gpu/golden models=$PWD/.gpu/models
  carried=$PWD/.gpu/lib
else
  export bin=$PWD/build/cuda/bin tests=$PWD/build/cuda/tests golden='' models=$work/models
  carried=''
fi

# NVIDIA's libraries: the toolkit's, or those of Python's nvidia packages.
nvidia_folders() {
  local folder
  for folder in "${CUDA_HOME:-/usr/local/cuda}"/lib64 /usr/local/cuda*/lib64; do
    [ -n "$(ls "$folder"/libcublasLt.so.* "$folder"/libnccl.so.* 2>/dev/null)" ] && echo "$folder"
  done
  python3 - <<'PY' 2>/dev/null
import glob, os, site, sys
places = set(site.getsitepackages() + [site.getusersitepackages()] + sys.path)
for place in sorted(filter(os.path.isdir, places)):
    for folder in sorted(glob.glob(os.path.join(place, "nvidia", "*", "lib"))):
        if glob.glob(os.path.join(folder, "lib*.so*")):
            print(folder)
PY
}
libraries=$(printf '%s:' $carried $(nvidia_folders))${LD_LIBRARY_PATH:-}
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
export PATH libraries CACHE_DIRECTORY=$work/cache
mkdir -p "$CACHE_DIRECTORY"

failed=0
say() { # STEP RESULT TEXT
  printf '%-14s %-7s %s\n' "$1" "$2" "$3" | tee -a "$out/summary"
}
# step NAME SECONDS COMMAND...: bounded by its own time with what steps before it have left of
# theirs, and by what is left of the whole. A command that ends with 77 was skipped, and its last
# line says why.
due=0
step() {
  local name=$1 start=$SECONDS status=0 budget
  due=$((due + $2))
  shift 2
  budget=$(((due < TOTAL_S ? due : TOTAL_S) - SECONDS))
  if [ "$budget" -lt 5 ]; then
    say "$name" skipped "no time left of $TOTAL_S s"
    return
  fi
  timeout --kill-after=5 "$budget" bash -c '"$@"' "$name" "$@" >"$out/$name.log" 2>&1 || status=$?
  grep -h '^{"row"' "$out/$name.log" >>"$out/rows.jsonl"
  case $status in
    0) say "$name" ok "$((SECONDS - start)) s" ;;
    77) say "$name" skipped "$(tail -1 "$out/$name.log")" ;;
    124 | 137) say "$name" FAILED "past its $budget s: $(tail -1 "$out/$name.log" | cut -c1-200)" ;;
    *) say "$name" FAILED "status $status: $(tail -1 "$out/$name.log" | cut -c1-200)" ;;
  esac
  case $status in 0 | 77) ;; *) failed=1 ;; esac
}

build() {
  command -v cmake >/dev/null ||
    { echo "no cmake here, and no .gpu: run tests/gpu/carry.sh where there is one"; return 1; }
  cmake --preset cuda && cmake --build --preset cuda
}
export -f build
if [ ! -x "$bin/sluice-worker-cuda" ]; then
  step build 400 build
fi
. tests/gpu/steps.sh
found=$(ours "$bin/sluice-worker-cuda" --probe 2>&1)
status=$?
if [ "$status" -eq 3 ]; then
  say gpu none "$found"
  exit 3
elif [ "$status" -ne 0 ]; then
  say gpu FAILED "status $status: $found"
  exit 1
fi
say gpu ok "$found"

# In the order of what is to be settled first. The times add up to TOTAL_S.
step machine 10 machine
step device 25 ours "$tests/accel_check"
step kernels 50 kernels
step nccl 15 ours "$tests/comm_nccl_test"
step answers 40 answers
step sanitizer 40 sanitizer
step device-rows 10 measure device
step lanes-rows 10 measure lanes
step confined-rows 10 measure confined
step attention-rows 15 measure attention
step products-rows 25 measure products
step unhinted-rows 25 unhinted
step layers-rows 10 measure layers
step pairs-rows 20 measure pairs
step load-rows 25 load
step graphs-rows 10 measure graphs
step triple 200 triple
[ "$failed" -eq 0 ] && say all ok "$SECONDS s" || say all FAILED "$SECONDS s"
exit "$failed"
