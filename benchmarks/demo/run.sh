#!/usr/bin/env bash
# What `docstill demo` gives, in results.json; how long the whole command takes, in whole.json.
set -euo pipefail
here=$(dirname "$0") run=$(mktemp -d)/demo
began=$(date +%s)
docstill demo --run "$run"
echo "{\"seconds\": $(($(date +%s) - began))}" > "$here/whole.json"
python "$here/../keep.py" "$run/run" "$here/results.json"
python "$here/more.py" "$run"
