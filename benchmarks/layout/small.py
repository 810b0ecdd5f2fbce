"""The pairs of the study on real book pages, small enough for 2 cores: one pair at a time, 3 seeds.

python benchmarks/layout/small.py PAGES RUN PAIR …

PAGES holds {train,validation}, COCO's files beside them. Pages are 320 × 224 pixels, pyramids and heads of the detectors narrow. Each
network learns from 1,200 generated pages first, then teacher, students and controls from the real ones; the last weights count, so that
nothing is chosen by the validation pages. Rates and batches were chosen by the no-KD twin, on books held out of the training pages.
Stopped, it goes on with the same command; the same command in two processes shares the work once the teacher has learnt. In the place
of a pair, `longer` and `without` say what R18 gives alone in twice the epochs, with and without the generated pages. Leaves a table and
the figures of each pair in small/, and what the first learning gave in small/pretraining.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.measure import hardware
from docstill.studies.grid import parse_study

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from keep_study import main as keep  # noqa: E402

GENERATED = {"train": (1200, 41), "validation": (100, 42)}
"""How many of each split, and the seed that they are drawn with."""
SIDE = (320, 224)
NARROW = {
    "pyramid_channels": 64,
    "head_channels": 256,
    "anchor_sizes": [6, 14, 32, 76, 180],
    "anchor_ratios": [0.06, 0.15, 0.4, 1.0],
    "proposals": 300,
    "regions": 64,
}
"""Anchors by the regions of the training pages: page numbers are 4 pixels high here, running heads 15 times as wide as high."""
PAIRS = {
    "r50-r18": ("r50", "r18", ["together", "smaller", "heads", "roi", "pkd", "graphkd", "dsig"]),
    "r50-mobilenet-v2": ("r50", "mobilenet-v2", ["together"]),
    "r101-r50": ("r101", "r50", ["together"]),
    "r101-efficientnet-b0": ("r101", "efficientnet-b0", ["together"]),
    "r152-r101": ("r152", "r101", ["together"]),
}
"""Teacher, student and the methods."""
ALONE = ("longer", "without")
FIRST: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 8,
    "learning_rate": 0.0005,
    "augment": 0.3,
    "evaluate_every": 6,
    "keep": "last",
}
STUDENT: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 4,
    "learning_rate": 0.0006,
    "augment": 0.5,
    "evaluate_every": 6,
    "keep": "last",
}
TEACHER = {**STUDENT, "epochs": 36, "evaluate_every": 12}
LABELS = {"kind": "labels"}
PKD = [{"kind": "pkd", "student_module": f"backbone.fpn.layer_blocks.{level}"} for level in (0, 1, 2, 3)]
ROI = {"kind": "roi", "temperature": 1.0}
GRAPH = {"kind": "graphkd", "weight": 0.5}
METHODS: dict[str, list[dict[str, Any]]] = {
    "heads": [LABELS, {"kind": "heads", "frozen": False}],
    "pkd": [LABELS, *PKD],
    "roi": [LABELS, ROI],
    "graphkd": [LABELS, GRAPH],
    "dsig": [LABELS, {"kind": "dsig"}],
    "together": [LABELS, {"kind": "heads", "frozen": False}, ROI, GRAPH],
}
SMALLER = {"method": "resolution", "keep": 0.7}
"""Pages of 224 × 160 for the student, half the pixels; then as `together`."""


def main(pages: Path, run: Path, wanted: list[str]) -> None:
    generated = run / "generated"
    for split, (count, seed) in GENERATED.items():
        if not (generated / split).exists():
            docstill.synth("layout", generated / split, count, seed=seed, workers=2)
    for pair in wanted:
        teacher, student, methods = PAIRS[pair]
        begun = {network: learnt_first(network, generated, run) for network in (teacher, student)}
        taught = docstill.train("layout", begun[teacher], pages, run / "teachers" / teacher, **TEACHER)
        study = parse_study(
            {
                "task": "layout",
                "data": {"train": str(pages / "train"), "validation": str(pages / "validation")},
                "teachers": {teacher: str(taught["model"])},
                "students": {student: begun[student]},
                "methods": {name: stages_of(name) for name in methods},
                "training": STUDENT,
            }
        )
        docstill.study(study, run / pair)
        (HERE / "small" / pair).mkdir(parents=True, exist_ok=True)
        keep(run / pair, HERE / "small" / pair)


def stages_of(method: str) -> list[dict[str, Any]]:
    """The stages of a method, as a study has them."""
    if method == "smaller":
        return [{"prune": SMALLER}, {"distill": {"objectives": METHODS["together"]}}]
    return [{"distill": {"objectives": METHODS[method]}}]


def learnt_first(network: str, generated: Path, run: Path) -> str:
    """The folder of a detector that has learnt from generated pages; what it scores on others of them is noted."""
    new = docstill.NewModel(new=f"faster-rcnn-{network}", image_size=SIDE, config=NARROW)
    done = docstill.train("layout", new, generated, run / "first" / network, **FIRST)
    target = HERE / "small" / "pretraining.json"
    known = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
    known[network] = {"ap": done["best"], "seconds": done["seconds"], "hardware": hardware()}
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return str(done["model"])


def alone(name: str, pages: Path, run: Path) -> None:
    """What R18 scores without a teacher when it learns for twice as long as the students: once more, or without generated pages."""
    begun: Any = docstill.NewModel(new="faster-rcnn-r18", image_size=SIDE, config=NARROW)
    if name == "longer":
        begun = learnt_first("r18", run / "generated", run)
    settings = {**STUDENT, "epochs": 2 * STUDENT["epochs"], "evaluate_every": 2 * STUDENT["epochs"]}
    done = [
        docstill.train("layout", begun, pages, run / name / f"seed-{seed}", seed=seed, **settings) for seed in range(3)
    ]
    found = {
        "network": "r18",
        "epochs": settings["epochs"],
        "ap": [each["best"] for each in done],
        "hardware": hardware(),
    }
    (HERE / "small").mkdir(exist_ok=True)
    (HERE / "small" / f"{name}.json").write_text(
        json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    places, wanted = [Path(place) for place in sys.argv[1:3]], sys.argv[3:]
    if not wanted or any(pair not in (*PAIRS, *ALONE) for pair in wanted):
        sys.exit(f"{__doc__}\nPAIR is one of {', '.join((*PAIRS, *ALONE))}")
    for name in ALONE:
        if name in wanted:
            alone(name, *places)
    main(*places, [pair for pair in wanted if pair in PAIRS])
