#!/usr/bin/env bash
# DONUT-hole's study at the mini scale: six configurations and their controls on generated parcel labels, 3 seeds. For a GPU:
# some 20 minutes for the teacher with 30,000 labels is a guess, not a measurement. The row "0.5M" begins with a network that has read
# generated pages, as many as there are labels in each of four epochs. Stopped, it goes on with the same command. Leaves
# results.json and table.md here.
set -euo pipefail
run=${1:-runs/donut-hole-mini}
labels=${2:-30000}
workers=$(nproc)
data=$run-labels
[ -d "$data/train" ] || docstill synth labels "$data/train" -n "$labels" --workers "$workers" --glyphs
[ -d "$data/validation" ] || docstill synth labels "$data/validation" -n 500 --seed 1 --workers "$workers"
[ -d "$data/pages/validation" ] || docstill synth pages "$data/pages/validation" -n 200 --seed 1 --workers "$workers"
docstill train --task kie --new donut-base-mini --data "$data/pages" data.train.synth=pages data.train.n="$labels" --epochs 4 \
  --batch-size 32 weight_decay=0.01 reading=20 workers="$workers" --out "$run-read"
docstill study donut-hole-mini data.train="$data/train" data.validation="$data/validation" students.base="$run-read/model" --run "$run"
python "$(dirname "$0")/../keep_study.py" "$run" "$(dirname "$0")"
