"""Ways to bring a Donut to about 26 % of its weights, from the teacher that ships: an epoch of 6,000 labels each, one seed.

python benchmarks/kie/ways.py RUN

How many weights go follows from what is left: fewer decoder layers leave fewer to take. Scored on 200 labels that the study
(`micro.sh`) does not know. Stopped, it goes on with the same command. Leaves ways.json here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.deploy.hardware import hardware
from docstill.files import read_json, write_json
from docstill.models.size import count_parameters
from docstill.run import DONE, step
from docstill.shipped import find_teacher

LABELS = {"train": (6000, 2001), "validation": (200, 2003)}
"""How many of each split, and the seed that they are drawn with."""
TRAINING: dict[str, Any] = {
    "objectives": [{"kind": "labels", "weight": 0.5}, {"kind": "kd", "temperature": 2.0, "weight": 0.5}],
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.0005,
    "weight_decay": 0.01,
    "evaluate_every": 1,
}
SMALL_BATCHES = {"batch_size": 8, "learning_rate": 0.0007}
SPARSITY = {6: 0.74, 2: 0.615, 1: 0.57}
"""Share of the weights that go, by how many of six decoder layers are kept."""


def little_by_little(layers: int, scope: str = "global", end: float = 0.5) -> dict[str, Any]:
    return {"prune": {"sparsity": SPARSITY[layers], "scope": scope, "of": "non-embedding", "end": end}}


WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "at once": (6, {}),
    "little by little": (6, little_by_little(6)),
    "two layers, little by little": (2, little_by_little(2)),
    "two layers, LAMP": (2, little_by_little(2, "lamp")),
    "two layers, LAMP, small batches": (2, little_by_little(2, "lamp", 0.4) | SMALL_BATCHES),
    "one layer, LAMP, small batches": (1, little_by_little(1, "lamp", 0.4) | SMALL_BATCHES),
    "one layer, all its weights": (1, SMALL_BATCHES | {"learning_rate": 0.0004}),
}
"""Decoder layers that are kept, and what differs."""


def main(run: Path) -> None:
    teacher = find_teacher("small-labels")
    for split, (count, seed) in LABELS.items():
        if not (run / "labels" / split).exists():
            docstill.synth("small-labels", run / "labels" / split, count, seed=seed, workers=2)
    for name, (_, changes) in WAYS.items():
        docstill.distill(teacher, begins(name, teacher, run), run / "labels", run / name, **{**TRAINING, **changes})
        keep(run)


def begins(name: str, teacher: Path, run: Path) -> str:
    """What a student begins as."""
    layers = WAYS[name][0]
    cut: dict[str, Any]
    if name == "at once":
        cut = {"method": "magnitude", "sparsity": SPARSITY[layers], "scope": "global", "of": "non-embedding"}
    elif layers == 6:
        return str(teacher)
    else:
        cut = {"method": "depth", "of": "decoder", "keep": layers}
    return str(docstill.prune(teacher, run / f"{name}, begun", **cut)["model"])


def keep(run: Path) -> None:
    """Writes what is done so far."""
    found, teacher = {}, find_teacher("small-labels")
    whole = count_parameters(docstill.load(teacher).model.network).nonzero_non_embedding
    for name, (layers, changes) in WAYS.items():
        if (run / name / DONE).is_file():
            done = read_json(run / name / DONE)
            metrics = scores(run / name / "model", run, run / name / "evaluation")
            kept = count_parameters(docstill.load(run / name / "model").model.network).nonzero_non_embedding
            found[name] = {"decoder_layers": layers, "settings": changes, "metrics": metrics, "weights": kept}
            found[name] |= {"of_teacher": kept / whole, "seconds": done["seconds"]}
    write_json(
        Path(__file__).with_suffix(".json"),
        {"training": TRAINING, "teacher": scores(teacher, run, run / "teacher"), "ways": found, "hardware": hardware()},
    )


def scores(model: Path, run: Path, kept: Path) -> dict[str, float]:
    """What a model scores on the labels that nothing learns from; found once, and kept in a folder."""
    metrics = step(kept, lambda: docstill.evaluate(model, run / "labels" / "validation"))["metrics"]
    return {key: metrics[key] for key in ("field_f1", "ted_accuracy", "reading")}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
