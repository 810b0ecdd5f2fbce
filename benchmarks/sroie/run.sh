#!/usr/bin/env bash
# RECEIPTS/{train,validation}/metadata.jsonl; leaves results.json (without pictures) beside this script.
set -euo pipefail
receipts=${1:?give the folder that holds train/ and validation/}
run=${2:-runs/sroie}
docstill compress sroie data.train="$receipts/train" data.validation="$receipts/validation" --run "$run"
python "$(dirname "$0")/../keep.py" "$run" "$(dirname "$0")/results.json"
