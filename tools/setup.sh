#!/usr/bin/env bash
# setup.sh - installs the Debian 12 packages that building, testing and running need. Run by
# `make run`, `make test` and CI. With everything in place it costs one dpkg query.
#   tools/setup.sh [build|test|all]   (default all; build is what `make run` needs)
set -euo pipefail

build=(
  binutils cmake gcc libc6-dev make ninja-build pkg-config
  libdnnl-dev libjansson-dev libmsgpack-dev libpcre2-dev libsodium-dev libsystemd-dev
  libutf8proc-dev libyaml-dev libzmq3-dev
  ca-certificates python3 python3-pip
)
test=(
  g++ libcmocka-dev python3-msgpack python3-numpy python3-pytest python3-zmq
  clang clang-format clang-tidy gcovr libclang-rt-14-dev llvm patch systemd systemd-container
)

case "${1:-all}" in
  build) packages=("${build[@]}") ;;
  test | all) packages=("${build[@]}" "${test[@]}") ;;
  *) echo "usage: tools/setup.sh [build|test|all]" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "setup: installing ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null ||
    { echo "setup: run as root, or install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
