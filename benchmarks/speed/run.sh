#!/usr/bin/env bash
# PAGES/{train,validation}/LABEL/*.jpg; leaves results.json (without pictures) beside this script. Stopped, it goes on.
set -euo pipefail
pages=${1:?give the folder that holds train/ and validation/}
run=${2:-runs/doctype-resnet-50}
docstill compress doctype-resnet-50 data.train="$pages/train" data.validation="$pages/validation" --run "$run"
python "$(dirname "$0")/../keep.py" "$run" "$(dirname "$0")/results.json"
