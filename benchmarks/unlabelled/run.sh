#!/usr/bin/env bash
# A tenth of the labels and a teacher that is there already: PAGES/{train,validation}/LABEL/*.jpg, TEACHER the model folder of the run
# `doctype` (runs/doctype/teacher/model), whose students with all labels are what to compare with. Leaves results.json here.
set -euo pipefail
pages=${1:?give the folder that holds train/ and validation/}
teacher=${2:?give the model folder of the teacher}
run=${3:-runs/unlabelled}
here=$(dirname "$0")
[ -d "$run-pages/labelled" ] || python "$here/split.py" "$pages" "$run-pages" 0.1
docstill compress doctype teacher="$teacher" data.train="$run-pages/labelled" data.unlabelled="$run-pages/others" \
  data.validation="$pages/validation" --run "$run"
python "$here/../keep.py" "$run" "$here/results.json"
