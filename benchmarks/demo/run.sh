#!/usr/bin/env bash
# What `docstill demo` gives; its seconds are in results.json.
set -euo pipefail
run=$(mktemp -d)/demo
docstill demo --run "$run"
python "$(dirname "$0")/../keep.py" "$run/run" "$(dirname "$0")/results.json"
