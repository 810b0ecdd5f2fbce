#!/usr/bin/env bash
# GraphKD's five pairs on real pages, 3 seeds: PAGES/{train,validation} and their COCO files. Each network is trained on generated
# pages first. For a GPU; stopped, it goes on with the same command. Leaves results.json, table.md and pretraining.json here.
set -euo pipefail
pages=${1:?give the folder that holds train/ and validation/}
run=${2:-runs/layout-study}
count=${3:-4000}
here=$(dirname "$0")
generated=$run-generated
[ -d "$generated/train" ] || docstill synth layout "$generated/train" -n "$count" --workers "$(nproc)"
[ -d "$generated/validation" ] || docstill synth layout "$generated/validation" -n 200 --seed 1 --workers "$(nproc)"
python "$here/pretrain.py" "$generated" "$run-pretrained" "$here/pretraining.json"
from=$run-pretrained
docstill study layout data.train="$pages/train" data.validation="$pages/validation" --run "$run" \
  teachers.r50.model="$from/r50/model" teachers.r101.model="$from/r101/model" teachers.r152.model="$from/r152/model" \
  students.r18="$from/r18/model" students.r50="$from/r50/model" students.r101="$from/r101/model" \
  students.efficientnet-b0="$from/efficientnet-b0/model" students.mobilenet-v2="$from/mobilenet-v2/model"
python "$here/../keep_study.py" "$run" "$here"
