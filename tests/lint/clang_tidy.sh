#!/usr/bin/env bash
# clang_tidy.sh BUILD - runs clang-tidy with .clang-tidy over every shipped source, two at a time.
# BUILD must be configured with clang (preset fuzz), so that the compile commands suit it.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:?usage: tests/lint/clang_tidy.sh BUILD}
git ls-files 'agent/*.c' 'workers/*.c' 'kernels/*.c' 'kernels/*.cu' 'ipc/*.c' 'wire/*.c' \
  'kv/*.c' 'plan/*.c' 'model/*.c' 'base/*.c' 'tools/*.c' |
  xargs -P 2 -n 1 clang-tidy -p "$build" --quiet 2>/dev/null
