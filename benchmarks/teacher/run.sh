#!/usr/bin/env bash
# The teacher that ships: a donut-micro that reads generated labels of small packets, from scratch, on 2 cores. Stopped, it goes on with the same
# command. Leaves results.json here and the model, in half precision, in src/docstill/teachers/small-labels.
set -euo pipefail
run=${1:-runs/teacher}
labels=${2:-60000}
here=$(dirname "$0")
data=$run-labels
[ -d "$data/train" ] || docstill synth small-labels "$data/train" -n "$labels" --workers "$(nproc)" --glyphs
[ -d "$data/validation" ] || docstill synth small-labels "$data/validation" -n 500 --seed 1
[ -d "$data-unseen" ] || docstill synth small-labels "$data-unseen" -n 500 --seed 2
docstill train --task kie --new donut-micro --data "$data" --out "$run" \
  --epochs 4 --batch-size 16 --learning-rate 0.0007 weight_decay=0.01 reading=20 evaluate_every=0.25
python "$here/ship.py" "$run" "$data-unseen" "$here/../../src/docstill/teachers/small-labels"
