"""DONUT-hole with 26 % of the weights, taught four times as long as in the study (`micro.sh`) and on four times the labels; 3 seeds.

python benchmarks/kie/longer.py RUN

The teacher is the one that ships; scored on the study's validation labels. Stopped, it goes on with the same command; the same command
in two processes shares the students. Leaves longer.json here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.errors import InUse
from docstill.measure import hardware
from docstill.models.size import count_parameters
from docstill.run import DONE, read_json, step, write_json
from docstill.shipped import find_teacher

sys.path.insert(0, str(Path(__file__).parent))
from ways import scores

LABELS = {"train": (24000, 2101), "validation": (300, 2002)}
"""How many of each split, and the seed that they are drawn with."""
SHALLOW: dict[str, Any] = {"method": "depth", "of": "decoder", "keep": 2}
TRAINING: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.0007,
    "weight_decay": 0.01,
    "evaluate_every": 3,
    "prune": {"sparsity": 0.62, "scope": "lamp", "of": "non-embedding", "end": 0.4},
    "objectives": [{"kind": "labels", "weight": 0.5}, {"kind": "kd", "temperature": 2.0, "weight": 0.5}],
    "cache_logits": 20,
}
SEEDS = range(3)


def main(run: Path) -> None:
    for split, (count, seed) in LABELS.items():
        if not (run / "labels" / split).exists():
            docstill.synth("small-labels", run / "labels" / split, count, seed=seed, workers=2)
    teacher = find_teacher("small-labels")
    begun = docstill.prune(teacher, run / "begun", **SHALLOW)["model"]
    for seed in SEEDS:
        try:
            docstill.distill(teacher, begun, run / "labels", run / f"seed-{seed}", seed=seed, **TRAINING)
        except InUse:
            continue
        keep(run, teacher)


def keep(run: Path, teacher: Path) -> None:
    """Writes what is done so far."""
    whole, found = count_parameters(docstill.load(teacher).model.network).nonzero_non_embedding, []
    for folder in sorted(run.glob("seed-*")):
        if (folder / DONE).is_file():
            kept = count_parameters(docstill.load(folder / "model").model.network).nonzero_non_embedding
            likeness = step(
                folder / "comparison",
                lambda folder=folder: docstill.compare(teacher, folder / "model", run / "labels" / "validation"),
            )
            found.append(
                {
                    "metrics": scores(folder / "model", run, folder / "evaluation"),
                    "of_teacher": kept / whole,
                    "global_cka": likeness["similarity"]["global"],
                    "seconds": read_json(folder / DONE)["seconds"],
                }
            )
    about = {"labels": LABELS, "student": SHALLOW, "training": TRAINING, "hardware": hardware()}
    taught = scores(teacher, run, run / "teacher")
    write_json(Path(__file__).with_suffix(".json"), {**about, "teacher": taught, "seeds": found})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
