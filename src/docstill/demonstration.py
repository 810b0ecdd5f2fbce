"""`docstill demo`: the main job on generated labels, from the teacher that ships, so that a new user sees all of it in minutes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docstill.compression import compress
from docstill.files import full_disk_said
from docstill.loaded import load
from docstill.progress import say
from docstill.recipe import load_recipe
from docstill.run import refuse_file, step
from docstill.shipped import find_recipe, find_teacher
from docstill.synthesis.generator import synth
from docstill.tasks.kie import Kie

KIND = "small-labels"
TRAIN, VALIDATION = 2400, 150
SEEDS = (1001, 1002)
"""Of training and validation labels; the teacher has learnt from others."""
SHOWN = 3


def demo(folder: str | Path = "runs/demo", *, workers: int = 1) -> dict[str, Any]:
    """Reads a few labels, then makes a student of the shipped teacher, measures both, and writes the report.

    Args:
        folder: holds the labels in ``labels/``, the teacher in ``teacher/`` and the run in ``run/``; a second call goes on where
            it stopped.
        workers: processes that draw; with more than one, a script that calls this needs ``if __name__ == "__main__"``.

    Raises:
        MissingExtra: the extra ``synth`` is not installed.
        UserError: the folder is a file, or may not be written.
    """
    folder = Path(folder)
    refuse_file(folder)
    labels, teacher = folder / "labels", folder / "teacher"

    def draw() -> dict[str, Any]:
        for split, count, seed in zip(("train", "validation"), (TRAIN, VALIDATION), SEEDS, strict=True):
            if not (labels / split).exists():
                synth(KIND, labels / split, count, seed=seed, workers=workers)
        return {}

    def unpack() -> dict[str, Any]:
        # it ships in half precision, students are kept in full: beside them its size would say nothing
        Kie().load_model(str(find_teacher(KIND))).save(teacher)
        return {}

    with full_disk_said(folder):
        step(folder / "drawing", draw)
        step(folder / "unpacking", unpack)
    say("what the teacher reads on labels that it has never seen:")
    for file in sorted((labels / "validation").glob("*.jpg"))[:SHOWN]:
        (answer,) = load(teacher).predict([file])
        say(f"  {file.name}: {json.dumps(answer['fields'], ensure_ascii=False)}")
    overrides = [f"teacher={teacher}", f"data.train={labels / 'train'}", f"data.validation={labels / 'validation'}"]
    return compress(
        load_recipe(find_recipe("demo"), overrides),
        folder / "run",
        command=f"docstill demo --run {folder}",
        name="demo",
    )
