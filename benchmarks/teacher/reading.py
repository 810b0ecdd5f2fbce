"""What the objective `reading` is worth to a Donut that starts from scratch: the same network with it and without, one seed.

python benchmarks/teacher/reading.py RUN [with|without]

The first stage of `run.sh`, shorter: a donut-micro of four decoder layers sees each of 48,000 generated labels once, 3,000 steps.
All that differs is the objective. Stopped, it goes on with the same command; two processes may take one of the two each. Leaves
reading.json here once both are done.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ship import looks

import docstill
from docstill.deploy.hardware import hardware
from docstill.files import read_json, write_json
from docstill.run import DONE

LABELS = {"train": (48_000, 0), "validation": (500, 1)}
"""How many of each split, and the seed that they are drawn with."""
TRAINING: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.0007,
    "weight_decay": 0.01,
    "evaluate_every": 0.125,
}
ARMS = {"with": 20.0, "without": 0.0}
"""Weight of the objective."""


def main(run: Path, arms: list[str]) -> None:
    for split, (count, seed) in LABELS.items():
        if not (run / "labels" / split).exists():
            docstill.synth("small-labels", run / "labels" / split, count, seed=seed, workers=2, glyphs=split == "train")
    new = docstill.NewModel(new="donut-micro")
    for arm in arms or ARMS:
        docstill.train("kie", new, run / "labels", run / arm, reading=ARMS[arm], **TRAINING)
    if all((run / arm / DONE).is_file() for arm in ARMS):
        found = {arm: {"looks": looks(run / arm), "seconds": read_json(run / arm / DONE)["seconds"]} for arm in ARMS}
        write_json(Path(__file__).with_suffix(".json"), {"training": TRAINING, "hardware": hardware(), "arms": found})


if __name__ == "__main__":
    if len(sys.argv) < 2 or any(arm not in ARMS for arm in sys.argv[2:]):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
