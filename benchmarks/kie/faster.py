"""Ways to make a Donut three times as fast, from the teacher that ships: what each costs after an epoch of 6,000 labels, without it, one seed.

python benchmarks/kie/faster.py RUN [speed]

All students have two of six decoder layers. The labels are those of `ways.py`, whose RUN may be given. Stopped, it goes on with the same
command; the same command in two processes shares the students. Leaves faster.json here; with ``speed`` it only times the students beside their teacher, with nothing else on the machine, please.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ways import LABELS, scores

import docstill
from docstill.data.donut_folder import read_donut_folder
from docstill.data.json_tokens import json_to_tokens
from docstill.deploy.hardware import hardware
from docstill.errors import InUse
from docstill.files import read_json, write_json
from docstill.models.donut_tokens import encode
from docstill.run import DONE
from docstill.shipped import find_teacher

SHALLOW: dict[str, Any] = {"method": "depth", "of": "decoder", "keep": 2}
NARROW: dict[str, Any] = {"method": "ffn", "keep": 0.75, "of": "decoder"}
HALF: dict[str, Any] = {"method": "depth", "of": "encoder", "keep": [1, 3, 1]}
COMMON: dict[str, Any] = {"method": "merges", "count": 200, "common": 0.02}
TRAINING: dict[str, Any] = {
    "objectives": [{"kind": "labels"}],
    "epochs": 1,
    "batch_size": 8,
    "learning_rate": 0.0002,
    "weight_decay": 0.01,
    "evaluate_every": 1,
}


WAYS: dict[str, list[dict[str, Any]]] = {
    "nothing else": [],
    "three quarters of the decoder's width": [NARROW],
    "merges within common values": [COMMON],
    "100 merges": [{"method": "merges", "count": 100}],
    "half of all widths": [{"method": "ffn", "keep": 0.5}],
    "half of the encoder's blocks": [HALF],
}
"""What is cut off besides decoder layers; widths are those of feed-forward layers."""
OUTPUT = Path(__file__).with_suffix(".json")


def main(run: Path) -> None:
    for split, (count, seed) in LABELS.items():
        if not (run / "labels" / split).exists():
            docstill.synth("small-labels", run / "labels" / split, count, seed=seed, workers=2)
    teacher = find_teacher("small-labels")
    for name, cuts in WAYS.items():
        begun = str(teacher)
        try:
            for number, cut in enumerate([SHALLOW, *cuts], 1):
                begun = docstill.prune(begun, run / f"{name}, cut {number}", data=run / "labels", **cut)["model"]
            docstill.distill(teacher, begun, run / "labels", run / name, **TRAINING)
        except InUse:
            continue
        keep(run, teacher)


def keep(run: Path, teacher: Path) -> None:
    """Writes what is done so far; what was timed stays."""
    texts = [json_to_tokens(document.target) for document in read_donut_folder(run / "labels" / "validation")]
    found = {"teacher": {"metrics": scores(teacher, run, run / "teacher"), "tokens": tokens(teacher, texts)}}
    for name in WAYS:
        if (run / name / DONE).is_file():
            model = run / name / "model"
            metrics = scores(model, run, run / name / "evaluation")
            found[name] = {"metrics": metrics, "tokens": tokens(model, texts)}
    known = read_json(OUTPUT) if OUTPUT.is_file() else {}
    about = {"training": TRAINING, "models": found, "hardware": hardware()}
    write_json(OUTPUT, about | {key: value for key, value in known.items() if key == "speed"})


def tokens(model: Path, texts: list[str]) -> float:
    """How many tokens a right answer takes, in the mean, with its end."""
    tokenizer = docstill.load(model).model.processor.tokenizer
    return sum(len(encode(tokenizer, text)) + 1 for text in texts) / len(texts)


def speed(run: Path) -> None:
    """How fast each is beside the teacher, in interleaved rounds."""
    found = read_json(OUTPUT)
    models = {
        name: str(find_teacher("small-labels") if name == "teacher" else run / name / "model")
        for name in found["models"]
    }
    timed = docstill.benchmark(list(models.values()), run / "labels" / "validation", threads=1)["models"]
    write_json(OUTPUT, found | {"speed": {name: timed[folder]["latency_ms"] for name, folder in models.items()}})


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["speed"]):
        sys.exit(__doc__)
    (speed if sys.argv[2:] else main)(Path(sys.argv[1]))
