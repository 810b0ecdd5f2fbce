"""The pairs of the study on real book pages, small enough for 2 cores: one pair at a time, 3 seeds.

python benchmarks/layout/small.py PAGES RUN PAIR …

PAGES holds {train,validation}, COCO's files beside them. Pages are 320 × 224 pixels, pyramids and heads of the detectors narrow. Each
network learns from 1,200 generated pages first, then teacher, students and controls from the real ones; the last weights count, so that
nothing is chosen by the validation pages. Stopped, it goes on with the same command; two pairs can run side by side once the
networks that they share have learnt from generated pages. Leaves a table and the figures of each pair in small/, and what the first
learning gave in small/pretraining.json.
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
    "r50-r18": ("r50", "r18", ["roi", "pkd", "dsig", "graphkd", "together"]),
    "r50-mobilenet-v2": ("r50", "mobilenet-v2", ["together"]),
    "r101-r50": ("r101", "r50", ["together"]),
    "r101-efficientnet-b0": ("r101", "efficientnet-b0", ["together"]),
    "r152-r101": ("r152", "r101", ["together"]),
}
"""Teacher, student and the methods."""
FIRST = {"epochs": 6, "batch_size": 8, "learning_rate": 0.0005, "augment": 0.3, "evaluate_every": 6, "keep": "last"}
TRAINING = {
    "epochs": 20,
    "batch_size": 4,
    "learning_rate": 0.0003,
    "augment": 0.5,
    "evaluate_every": 20,
    "keep": "last",
}
PKD = [{"kind": "pkd", "student_module": f"backbone.fpn.layer_blocks.{level}"} for level in (1, 2)]
METHODS: dict[str, list[dict[str, Any]]] = {
    "roi": [{"kind": "labels"}, {"kind": "roi", "temperature": 1.0}],
    "pkd": [{"kind": "labels"}, *PKD],
    "dsig": [{"kind": "labels"}, {"kind": "dsig"}],
    "graphkd": [{"kind": "labels"}, {"kind": "graphkd", "weight": 0.5}],
    "together": [{"kind": "labels"}, {"kind": "roi", "temperature": 1.0}, *PKD, {"kind": "graphkd", "weight": 0.5}],
}


def main(pages: Path, run: Path, wanted: list[str]) -> None:
    generated = run / "generated"
    for split, (count, seed) in GENERATED.items():
        if not (generated / split).exists():
            docstill.synth("layout", generated / split, count, seed=seed, workers=2)
    for pair in wanted:
        teacher, student, methods = PAIRS[pair]
        begun = {network: learnt_first(network, generated, run) for network in (teacher, student)}
        study = parse_study(
            {
                "task": "layout",
                "data": {"train": str(pages / "train"), "validation": str(pages / "validation")},
                "teachers": {teacher: {"model": begun[teacher], "train": TRAINING}},
                "students": {student: begun[student]},
                "methods": {name: [{"distill": {"objectives": METHODS[name]}}] for name in methods},
                "training": TRAINING,
            }
        )
        docstill.study(study, run / pair)
        (HERE / "small" / pair).mkdir(parents=True, exist_ok=True)
        keep(run / pair, HERE / "small" / pair)


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


if __name__ == "__main__":
    if len(sys.argv) < 4 or any(pair not in PAIRS for pair in sys.argv[3:]):
        sys.exit(f"{__doc__}\nPAIR is one of {', '.join(PAIRS)}")
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
