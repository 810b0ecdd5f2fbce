#!/usr/bin/env bash
# The teacher that ships: a donut-micro that reads generated labels of small packets, from scratch, on 2 cores. First with four decoder
# layers; then with six, on labels it has not seen, a quarter of them left out at random, later half; at last with two to six of them at
# each step (elastic.py), in the end mostly two, so that it bears to lose them. Stopped, it goes on with the same command. Leaves
# results.json here and the model, in half precision, in src/docstill/teachers/small-labels.
set -euo pipefail
run=${1:-runs/teacher}
labels=${2:-60000}
here=$(dirname "$0")
data=$run-labels more=$run-more
draw() { [ -d "$1" ] || docstill synth small-labels "$1" -n "$2" --seed "$3" --workers "$(nproc)" "${@:4}"; }
draw "$data/train" "$labels" 0 --glyphs
draw "$data/validation" 500 1
draw "$data-unseen" 500 2
draw "$more/train" "$labels" 3 --glyphs
[ -d "$more/validation" ] || cp -r "$data/validation" "$more/validation"
docstill train --task kie --new donut-micro --data "$data" --out "$run/four" \
  --epochs 4 --batch-size 16 --learning-rate 0.0007 weight_decay=0.01 reading=20 evaluate_every=0.25
[ -d "$run/grown" ] || python "$here/grow.py" "$run/four/model" "$run/grown" 6 0.25
docstill train --task kie --model "$run/grown" --data "$more" --out "$run/six" \
  --epochs 5 --batch-size 16 --learning-rate 0.0005 weight_decay=0.01 reading=20 evaluate_every=0.25
[ -d "$run/thinned" ] || python "$here/grow.py" "$run/six/model" "$run/thinned" 6 0.5
docstill train --task kie --model "$run/thinned" --data "$data" --out "$run/half" \
  --epochs 1.5 --batch-size 16 --learning-rate 0.0005 weight_decay=0.01 reading=20 evaluate_every=0.25
[ -f "$run/elastic/model/config.json" ] || python "$here/elastic.py" "$run/half/model" "$more" "$run/elastic" 0.4 0.4 \
  epochs=1.2 batch_size=16 learning_rate=0.0004 weight_decay=0.01 reading=20 evaluate_every=0.2
[ -f "$run/shallow/model/config.json" ] || python "$here/elastic.py" "$run/elastic/model" "$data" "$run/shallow" 0.25 0.65 \
  epochs=0.7 batch_size=16 learning_rate=0.0003 weight_decay=0.01 reading=20 evaluate_every=0.35
python "$here/ship.py" "$run" "$data-unseen" "$here/../../src/docstill/teachers/small-labels"
