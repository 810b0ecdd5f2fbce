"""Every objective on four pairs of page classifiers, two of them across families, on few generated pages, 3 seeds; small enough for 2 cores.

python benchmarks/classification/kinds.py RUN [PAIR …]

The case is that of somebody who has a good model and few pages: the two teachers learn from 4,200 pages, the students and
their controls from 60 others, 10 of a kind, and all are scored on 1,200 more, which no network and no setting was chosen
by: the last weights count, and size, pages and epochs were chosen with pages of other seeds. Two things were added when the rest
was known: the best methods on outputs and on features together, on one pair, and two methods with more steps. Stopped, it goes on
with the same command; the pairs of each teacher can run side by side once pages and teachers are there, each with its own
command. Leaves a table and the figures of each pair in kinds/.
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

PAGES = {"many": (4200, 11), "held": (1200, 13), "few": (60, 22), "validation": (1200, 23)}
"""How many of each split, and the seed that they are drawn with; the teachers' curves are drawn on `held`."""
SIDE = [96, 96]
FLOOR = 0.9
TEACHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resnet": ({"new": "resnet-18-half", "image_size": SIDE}, {"epochs": 8, "learning_rate": 0.001, "augment": 0.5}),
    "swin": (
        {
            "new": "swin-tiny",
            "image_size": SIDE,
            "config": {
                "embed_dim": 32,
                "depths": [2, 2, 2],
                "num_heads": [2, 4, 8],
                "window_size": 6,
                "drop_path_rate": 0.0,
            },
        },
        {"epochs": 30, "batch_size": 32, "learning_rate": 0.0005, "augment": 0.3, "warmup_ratio": 0.03},
    ),
}
QUARTER = {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 128]}
STUDENTS: dict[str, dict[str, Any]] = {
    "resnet-10": {"new": "resnet-10-quarter", "image_size": SIDE},
    "resnet-18": {"new": "resnet-18", "image_size": SIDE, "config": QUARTER},
}
RESNET = [f"resnet.encoder.stages.{stage}" for stage in (1, 2, 3)]
STAGES = {"resnet": RESNET, "swin": [f"swin.encoder.layers.{stage}.blocks.1" for stage in (0, 1, 2)]}
"""Modules that are compared, from shallow to deep."""
TOGETHER = "resnet-resnet-10"
"""The pair on which two methods, one on outputs and one on features, are tried together."""
TRAINING = {
    "epochs": 120,
    "batch_size": 16,
    "learning_rate": 0.002,
    "augment": 0.5,
    "augment_fade": 0.2,
    "evaluate_every": 120,
    "keep": "last",
}

LONGER = {"resnet-resnet-10-longer": ({"epochs": 300, "evaluate_every": 300}, ["dkd", "simkd"])}
"""More steps, and what is given them."""


def methods(pair: str) -> dict[str, list[dict[str, Any]]]:
    """The methods for a pair: objectives on outputs as in the study `distildoc`, those on features with their documented weights."""
    ours, theirs = RESNET, STAGES[pair.partition("-")[0]]
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
        "simkd": [{"kind": "simkd"}],
    }
    if pair == TOGETHER:
        objectives["dkd-and-review"] = [
            soft,
            {"kind": "dkd", "beta": 2.0, "temperature": 4.0, "weight": 0.3},
            {"kind": "review", "student_stages": ours, "teacher_stages": theirs, "weight": 0.3},
        ]
    return {name: [{"distill": {"objectives": entry}}] for name, entry in objectives.items()}


def main(run: Path, wanted: list[str]) -> None:
    for split, (count, seed) in PAGES.items():
        if not (run / "pages" / split).exists():
            docstill.synth("page-kinds", run / "pages" / split, count, seed=seed)
    for pair in wanted or [f"{teacher}-{student}" for teacher in TEACHERS for student in STUDENTS] + list(LONGER):
        settings, chosen = LONGER.get(pair, ({}, None))
        learn(run, pair, {**TRAINING, **settings}, chosen)


def learn(run: Path, pair: str, training: dict[str, Any], chosen: list[str] | None) -> None:
    """Trains the pair's teacher if that is not done, and runs its study."""
    pages, (teacher, student) = run / "pages", pair.removesuffix("-longer").split("-", 1)
    size, settings = TEACHERS[teacher]
    learnt = docstill.train(
        "classification",
        docstill.NewModel.model_validate(size),
        {"train": str(pages / "many"), "validation": str(pages / "held")},
        run / "teachers" / teacher,
        **{**TRAINING, "evaluate_every": 2, **settings},
    )
    study = parse_study(
        {
            "task": "classification",
            "data": {"train": str(pages / "few"), "validation": str(pages / "validation")},
            "teachers": {teacher: learnt["model"]},
            "students": {student: STUDENTS[student]},
            "methods": {name: stages for name, stages in methods(pair).items() if chosen is None or name in chosen},
            "training": training,
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
