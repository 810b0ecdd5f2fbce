#!/usr/bin/env bash
# Two teachers, two students, every objective on outputs, 3 seeds; PAGES/{train,validation}/LABEL/*.jpg. About a day on
# 2 cores, minutes a cell on a GPU; stopped, it goes on with the same command. Leaves results.json and table.md here.
set -euo pipefail
pages=${1:?give the folder that holds train/ and validation/}
run=${2:-runs/study}
docstill study distildoc data.train="$pages/train" data.validation="$pages/validation" --run "$run"
python "$(dirname "$0")/../keep_study.py" "$run" "$(dirname "$0")"
