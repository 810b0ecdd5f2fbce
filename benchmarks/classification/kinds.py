"""Every objective on four pairs of page classifiers, on few generated pages, 3 seeds; small enough for 2 cores.

python benchmarks/classification/kinds.py RUN [PAIR …]

The case is that of somebody who has a good model and few pages: the two teachers learn from 4,200 pages, the students and
their controls from 60 others, 10 of a kind, and all are scored on 1,200 more. Nothing is chosen by those: the last weights
count, and size, pages and epochs were chosen with pages of other seeds. Stopped, it goes on with the same command; pairs of two
teachers can run side by side once the pages are drawn, each with its own command. Leaves a table and the figures of each pair
in kinds/.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.studies.grid import parse_study

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from keep_study import main as keep  # noqa: E402

PAGES = {"many": (4200, 11), "few": (60, 12), "validation": (1200, 13)}
"""How many of each split, and the seed that they are drawn with."""
SIDE = [96, 96]
FLOOR = 0.9
TEACHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resnet": ({"new": "resnet-18-half", "image_size": SIDE}, {"epochs": 8, "learning_rate": 0.001}),
    "vit": (
        {"new": "vit-tiny", "image_size": SIDE, "config": {"num_hidden_layers": 6}},
        {"epochs": 24, "learning_rate": 0.0005},
    ),
}
STUDENTS: dict[str, dict[str, Any]] = {
    "resnet": {"new": "resnet-10-quarter", "image_size": SIDE},
    "mobilenet": {"new": "mobilenet-v2", "image_size": SIDE, "config": {"depth_multiplier": 0.35}},
}
STAGES = {
    "resnet": [f"resnet.encoder.stages.{stage}" for stage in (1, 2, 3)],
    "mobilenet": [f"mobilenet_v2.layer.{layer}" for layer in (4, 11, 15)],
    "vit": [f"vit.layers.{layer}" for layer in (1, 3, 4)],
}
"""Modules that are compared, from shallow to deep; a ViT's last patches are taught by nothing, so the layer before."""
TRAINING = {
    "epochs": 200,
    "batch_size": 16,
    "learning_rate": 0.002,
    "augment": 0.5,
    "augment_fade": 0.2,
    "evaluate_every": 200,
    "keep": "last",
}


def methods(student: str, teacher: str) -> dict[str, list[dict[str, Any]]]:
    """The methods for a pair: objectives on outputs as in the study `distildoc`, those on features with their documented weights."""
    ours, theirs = STAGES[student], STAGES[teacher]
    deepest = {"student_module": ours[-1], "teacher_module": theirs[-1]}
    middle = {"student_module": ours[1], "teacher_module": theirs[1]}
    soft, whole = {"kind": "labels", "weight": 0.3}, {"kind": "labels"}
    objectives: dict[str, list[dict[str, Any]]] = {
        "kd": [soft, {"kind": "kd", "temperature": 4.0, "weight": 0.7}],
        "kd-standardised": [whole, {"kind": "kd", "temperature": 2.0, "standardise": True, "weight": 4.0}],
        "mse": [soft, {"kind": "mse", "weight": 0.1}],
        "nkd": [soft, {"kind": "nkd", "temperature": 2.0, "weight": 0.7}],
        "dkd": [soft, {"kind": "dkd", "beta": 2.0, "temperature": 4.0, "weight": 0.3}],
        "dist": [soft, {"kind": "dist", "temperature": 2.0, "weight": 0.7}],
        "hint": [whole, {"kind": "hint", **middle, "weight": 0.5}],
        "vkd": [whole, {"kind": "vkd", **deepest}],
        "attention": [whole, {"kind": "attention", **middle, "weight": 10.0}],
        "review": [whole, {"kind": "review", "student_stages": ours, "teacher_stages": theirs}],
        "rkd": [whole, {"kind": "rkd", **deepest}],
        "cka": [whole, {"kind": "cka", **deepest}],
        "kd-and-hint": [
            whole,
            {"kind": "kd", "temperature": 2.0, "standardise": True, "weight": 4.0},
            {"kind": "hint", **middle, "weight": 0.5},
        ],
        "simkd": [{"kind": "simkd"}],
        "simkd-mlp": [{"kind": "simkd", "projector": "mlp"}],
        "simkd-cnn": [{"kind": "simkd", "projector": "cnn"}],
    }
    return {name: [{"distill": {"objectives": entry}}] for name, entry in objectives.items()}


def main(run: Path, wanted: list[str]) -> None:
    for split, (count, seed) in PAGES.items():
        if not (run / "pages" / split).exists():
            docstill.synth("page-kinds", run / "pages" / split, count, seed=seed)
    pages = run / "pages"
    for teacher, (size, settings) in TEACHERS.items():
        for student, new in STUDENTS.items():
            pair = f"{teacher}-{student}"
            if wanted and pair not in wanted:
                continue
            learnt = docstill.train(
                "classification",
                docstill.NewModel.model_validate(size),
                {"train": str(pages / "many"), "validation": str(pages / "validation")},
                run / "teachers" / teacher,
                **{**TRAINING, "evaluate_every": settings["epochs"], **settings},
            )
            study = parse_study(
                {
                    "task": "classification",
                    "data": {"train": str(pages / "few"), "validation": str(pages / "validation")},
                    "teachers": {teacher: learnt["model"]},
                    "students": {student: new},
                    "methods": methods(student, teacher),
                    "training": TRAINING,
                    "calibrate": True,
                    "teacher_floor": FLOOR,
                }
            )
            docstill.study(study, run / pair)
            (HERE / "kinds" / pair).mkdir(parents=True, exist_ok=True)
            keep(run / pair, HERE / "kinds" / pair)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
