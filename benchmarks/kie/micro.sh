#!/usr/bin/env bash
# DONUT-hole's study from the teacher that ships, on generated labels of small packets, 3 seeds; 2 cores. Stopped, it goes on with the
# same command. Leaves results.json and table.md in micro/.
set -euo pipefail
run=${1:-runs/donut-hole-micro}
here=$(dirname "$0")
data=$run-labels
[ -d "$data/train" ] || docstill synth small-labels "$data/train" -n 6000 --seed 2001 --workers "$(nproc)" --glyphs
[ -d "$data/validation" ] || docstill synth small-labels "$data/validation" -n 300 --seed 2002
docstill study donut-hole-micro data.train="$data/train" data.validation="$data/validation" --run "$run"
mkdir -p "$here/micro"
python "$here/../keep_study.py" "$run" "$here/micro"
