"""What the demo's models score on more labels than the demo itself has time for, and what the student scored before it learnt.

python benchmarks/demo/more.py RUN

RUN is where the demo ran. Leaves more.json here; some minutes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import docstill
from docstill.demonstration import KIND
from docstill.deploy.hardware import hardware
from docstill.files import write_json

LABELS, SEED = 500, 3002
MODELS = {
    "teacher": "teacher",
    "cut": "run/seed-0/student/1-prune/model",
    "student": "run/seed-0/student/2-distill/model",
    "no-kd": "run/seed-0/no-kd/2-distill/model",
}


def main(run: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        labels = Path(scratch) / "labels"
        docstill.synth(KIND, labels, LABELS, seed=SEED)
        scores = {name: docstill.evaluate(run / path, labels)["metrics"]["field_f1"] for name, path in MODELS.items()}
    found = {"labels": LABELS, "field_f1": scores, "hardware": hardware()}
    write_json(Path(__file__).with_name("more.json"), found)
    print(found)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder in which the demo ran")
    main(Path(sys.argv[1]))
