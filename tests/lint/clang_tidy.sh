#!/usr/bin/env bash
# clang_tidy.sh BUILD - runs clang-tidy with .clang-tidy over every shipped source, two at a time.
# BUILD must be configured with clang (preset fuzz), so that the compile commands suit it. Sources
# that need the CUDA toolkit are read where it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:?usage: tests/lint/clang_tidy.sh BUILD}
cuda=${CUDA_HOME:-/usr/local/cuda}/include
needs_cuda='#include (<(cuda|cublas|nccl)|"workers/(accel_cuda|comm_nccl))'
readable() { # Of the paths on stdin, those whose headers are here.
  if [ -e "$cuda/cuda.h" ]; then
    cat
  else
    echo "skipped: no CUDA headers here for sources that include them" >&2
    xargs grep -LE "$needs_cuda"
  fi
}
judge() { # The paths on stdin.
  readable | xargs -P 2 -n 1 clang-tidy -p "$build" --extra-arg="-isystem$cuda" --quiet "$@" \
    2>/dev/null
}
git ls-files 'agent/*.c' 'workers/*.c' 'kernels/*.c' 'ipc/*.c' 'wire/*.c' 'kv/*.c' 'plan/*.c' \
  'model/*.c' 'base/*.c' 'tools/*.c' | judge
# Offsets in a block's memory are small, and wider ones cost registers; tidy.py judges the size.
git ls-files 'kernels/*.cu' |
  judge --checks=-bugprone-implicit-widening-of-multiplication-result,-readability-function-size
