#!/usr/bin/env bash
# coverage.sh BUILD [PERCENT] - line coverage of a coverage build after its tests ran, folder by
# folder. Fails when one of agent, wire, ipc, kv, model is below PERCENT (85) or was never built.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?usage: tests/coverage.sh BUILD [PERCENT]}
summary=$build/coverage.json
gcovr --root . --object-directory "$build" --json-summary "$summary" \
  --filter '(agent|wire|ipc|kv|plan|model|base|workers|kernels|tools)/' -j 2 >/dev/null
python3 - "$summary" "${2:-85}" <<'EOF_PYTHON'
import collections, json, sys

summary, wanted = json.load(open(sys.argv[1])), float(sys.argv[2])
folders = collections.defaultdict(lambda: [0, 0])
for file in summary["files"]:
    for key in (file["filename"].split("/")[0], file["filename"]):
        folders[key][0] += file["line_covered"]
        folders[key][1] += file["line_total"]
judged = ("agent", "wire", "ipc", "kv", "model")
low = [folder for folder in judged if 100 * folders[folder][0] < wanted * folders[folder][1]
       or not folders[folder][1]]
for name, (covered, total) in sorted(folders.items()):
    if "/" not in name or name.split("/")[0] in low:
        share = f"{100 * covered / total:5.1f} %" if total else "never built"
        print(f"{name:32} {share:>12} {covered:6} of {total:6} lines")
if low:
    print(f"coverage: below {wanted:g} %: {' '.join(low)}")
sys.exit(1 if low else 0)
EOF_PYTHON
