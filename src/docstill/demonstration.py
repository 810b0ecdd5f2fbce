"""`docstill demo`: the main job on generated pages, so that a new user sees all of it in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docstill.compression import compress
from docstill.recipe import load_recipe
from docstill.run import step
from docstill.shipped import find_recipe
from docstill.synthesis.page_kinds import write_page_kinds

TRAIN, VALIDATION = 420, 240
"""Pages of six kinds; few, so that there is a gap between teacher and student to close."""


def demo(folder: str | Path = "runs/demo") -> dict[str, Any]:
    """Generates pages, trains a teacher, distils and prunes a student, measures, and writes the report.

    Args:
        folder: holds the pages in ``pages/`` and the run in ``run/``; a second call goes on where it stopped.
    """
    folder = Path(folder)
    pages = folder / "pages"

    def draw() -> dict[str, Any]:
        for seed, (split, count) in enumerate({"train": TRAIN, "validation": VALIDATION}.items()):
            if not (pages / split).exists():
                write_page_kinds(pages / split, count, seed)
        return {}

    step(folder / "drawing", draw)
    overrides = [f"data.train={pages / 'train'}", f"data.validation={pages / 'validation'}"]
    return compress(
        load_recipe(find_recipe("demo"), overrides),
        folder / "run",
        command=f"docstill demo --run {folder}",
        name="demo",
    )
