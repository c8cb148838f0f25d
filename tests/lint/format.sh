#!/usr/bin/env bash
# format.sh CLANG_FORMAT - fails when a C source is not laid out as .clang-format says; ctest runs
# it in the root of the tree. `make format` mends.
set -euo pipefail
clang_format=${1:?usage: tests/lint/format.sh CLANG_FORMAT}
find . -path ./build -prune -o -regex '.*\.\(c\|h\|cu\|cuh\)' -print0 |
  xargs -0 "$clang_format" --dry-run --Werror
