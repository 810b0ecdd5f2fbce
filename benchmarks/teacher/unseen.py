"""Does the teacher that ships read names and streets, or know them? What it scores where neither was in its training labels.

python benchmarks/teacher/unseen.py

The labels of another seed hold some names and streets that training labels held, too: both are made from lists. The truths of all
training labels (seeds and numbers as in run.sh) are made once more, without their pictures. Leaves unseen.json here; two minutes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import docstill
from docstill.deploy.hardware import hardware
from docstill.files import write_json
from docstill.metrics.fields import field_scores
from docstill.shipped import find_teacher
from docstill.synthesis.generator import Generator
from docstill.tasks.base import Judged
from docstill.tasks.kie import Kie

KIND: Literal["small-labels"] = "small-labels"
SEEDS, EACH = (0, 3), 60_000
UNSEEN_SEED, UNSEEN = 2, 500
PARTS = ("name", "street")


def main() -> None:
    known: dict[str, set[str]] = {part: set() for part in PARTS}
    for seed in SEEDS:
        drawn = Generator(KIND, seed)
        for number in range(EACH):
            recipient = drawn.truth(number)["recipient"]
            for part in PARTS:
                known[part].add(recipient[part])
    task = Kie()
    with tempfile.TemporaryDirectory() as scratch:
        labels = Path(scratch) / "labels"
        docstill.synth(KIND, labels, UNSEEN, seed=UNSEEN_SEED)
        judged = task.evaluate(task.load_model(str(find_teacher(KIND))), task.read(labels)).documents
    new = [all(one.expected["recipient"][part] not in known[part] for part in PARTS) for one in judged]
    found: dict[str, Any] = {
        "training": {part: len(values) for part, values in known.items()},
        "all": scored(judged),
        "new": scored([one for one, is_new in zip(judged, new, strict=True) if is_new]),
        "hardware": hardware(),
    }
    write_json(Path(__file__).with_name("unseen.json"), found)
    print(found)


def scored(judged: Sequence[Judged]) -> dict[str, Any]:
    """Field F1 over all fields, and of the parts that might have been learnt by heart."""
    scores = field_scores([one.predicted for one in judged], [one.expected for one in judged])
    parts = {part: scores.per_field[f"recipient.{part}"]["f1"] for part in PARTS}
    return {"n": len(judged), "field_f1": float(scores.f1), **parts}


if __name__ == "__main__":
    main()
