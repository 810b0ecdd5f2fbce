#!/usr/bin/env bash
# DONUT-hole's study at the mini scale: six configurations and their controls on generated parcel labels, 3 seeds. For a GPU:
# some 20 minutes for the teacher with 30,000 labels is a guess, not a measurement. Stopped, it goes on with the same command.
# Leaves results.json and table.md here.
set -euo pipefail
run=${1:-runs/donut-hole-mini}
labels=${2:-30000}
workers=$(nproc)
data=$run-labels
[ -d "$data/train" ] || docstill synth labels "$data/train" -n "$labels" --workers "$workers" --glyphs
[ -d "$data/validation" ] || docstill synth labels "$data/validation" -n 500 --seed 1 --workers "$workers"
docstill study donut-hole-mini data.train="$data/train" data.validation="$data/validation" --run "$run"
python "$(dirname "$0")/../keep_study.py" "$run" "$(dirname "$0")"
