#!/usr/bin/env bash
# carry.sh [FOLDER] - fills FOLDER (default .gpu, which git ignores) with what tests/gpu/check.sh
# needs on a machine that is offline and lacks Debian's libraries: the programs of the cuda preset,
# the libraries they were linked with but for those of C and C++, small models, and the CPU worker's
# answers about them. NVIDIA's libraries are not in it: the machine has its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-.gpu}
build=build/cuda
bin=$build/bin
work=$(mktemp -d)
. tests/gpu/serve.sh
trap 'serve_stop; rm -rf "$work"' EXIT

cmake --preset cuda >/dev/null
cmake --build --preset cuda
rm -rf "$out"
mkdir -p "$out/bin" "$out/tests" "$out/lib" "$out/models" "$out/golden"
for program in sluice-agent sluice-bench sluicectl sluice-worker-cuda; do
  strip -o "$out/bin/$program" "$bin/$program"
done
for program in kern_gpu_check accel_check comm_nccl_test gpu_measure; do
  strip -o "$out/tests/$program" "$build/tests/$program"
done
ldd "$out"/bin/* "$out"/tests/* | awk '/=> \// { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libpthread|libdl|librt|libstdc\+\+|libgcc_s)\.so' | xargs cp -Lt "$out/lib"
for family in $families; do
  window=()
  [ "$family" = mistral ] && window=(--window 20)
  /usr/bin/python3 -B tests/golden/make_model.py "$out/models/$family" --family "$family" \
    "${window[@]}"
  serve_answers "$family" "$out/models/$family" cpu f32 >"$out/golden/$family"
  [ "$(wc -l <"$out/golden/$family")" -eq 6 ]
done
echo "$out: $(du -sm "$out" | cut -f1) MiB"
