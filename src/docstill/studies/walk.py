"""Walks a study: trains each teacher once, runs the cells one after the other, writes the table after each.

Several processes may walk the same study: each takes the next cell that no other is in. Teachers are trained by the first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docstill
from docstill.compression import compress, train_teacher
from docstill.deploy.hardware import hardware
from docstill.doubts import warn
from docstill.errors import DocstillError, InUse, UserError, out_of_memory, way_out
from docstill.files import read_json, write_json
from docstill.progress import counter, say
from docstill.recipe import Recipe, Teacher
from docstill.recipe_text import read_yaml
from docstill.rehearsal import rehearse
from docstill.reporting.figures import duration
from docstill.reporting.study import write_study
from docstill.run import DONE, RECIPE, has_begun, in_use, locked, open_run, seconds_spent
from docstill.sources import read_splits
from docstill.stages import Bench
from docstill.studies.figures import line
from docstill.studies.grid import Cell, Study, cells, dump_study
from docstill.tasks import task_named

STUDY = "study.yaml"


def run_study(study: Study, run: Path, command: str = "") -> dict[str, Any]:
    """Runs all cells, or goes on where an earlier call was stopped; finished cells are not run again.

    A cell that fails is named in the table and does not keep the others from running; if it was to train the no-KD twin of
    others, the next of them trains it. A cell that another process is in is left to it.

    Args:
        study: what to do.
        run: the study's folder; each cell is an ordinary run folder below ``cells``.
        command: what reproduces it.

    Returns:
        The content of ``results.json``, as `docs/studies.md` describes it.

    Raises:
        RecipeError: the folder was begun with another study.
        UserError: cells failed for reasons the user can mend; all others are done and written.
        DocstillError: cells failed through a fault of docstill's, or memory ran out.
    """
    open_run(run, dump_study(study), STUDY)
    if in_use(run):
        say("another process makes the teachers ready; waiting for it")
    with locked(run, wait=True):
        grid = cells(study, _teachers(study, run))
    failed: dict[str, DocstillError] = {}
    elsewhere: list[str] = []
    began, ran = time.monotonic(), 0
    for index, cell in enumerate(grid, 1):
        folder = run / "cells" / cell.name
        if (folder / "results.json").is_file():
            continue
        left = ""
        if ran:
            left = f", about {duration((time.monotonic() - began) / ran * (len(grid) - index + 1))} left"
        say(f"cell {index} of {len(grid)}{left}: {cell.name}")
        try:
            recipe = _recipe(cell, grid, run)
            command_of_cell = f"docstill compress {folder}/recipe.yaml --run {folder}"
            compress(recipe, folder, command_of_cell, cell.name, known=_same_teacher(cell, grid, run))
        except InUse:
            elsewhere.append(cell.name)
            say(f"cell {cell.name} is being run by another process")
            continue
        except DocstillError as error:
            failed[cell.name] = error
        except (MemoryError, OSError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            ways = f"{way_out(error)}; its teachers can be taken along: teachers.NAME=FOLDER/teachers/NAME/model"
            failed[cell.name] = DocstillError(ways)  # not the error itself, which holds on to what fills the memory
        if cell.name in failed:
            say(f"cell {cell.name} failed: {failed[cell.name]}")
        ran += 1
        _write(study, run, grid, failed, command)
    results = _write(study, run, grid, failed, command)
    if elsewhere:
        say(f"{', '.join(elsewhere)}: still with other processes; the last to end writes the whole table")
    if failed:
        kind = UserError if all(isinstance(error, UserError) for error in failed.values()) else DocstillError
        shown = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise kind(f"{len(failed)} of {len(grid)} cells failed, the others are done and in {run}/study.html ({shown})")
    return results


def _teachers(study: Study, run: Path) -> dict[str, str]:
    """The model folder or hub id of each teacher; those to be trained are trained first, once."""
    task, bench = task_named(study.task), None
    sources = {}
    for name, teacher in study.teachers.items():
        if isinstance(teacher, Teacher):
            if bench is None:
                bench = Bench(task, *read_splits(task, study.data))
                if not (run / "teachers").exists():
                    _rehearse(study, bench)
            say(f"teacher {name}")
            sources[name] = str(train_teacher(teacher, bench, run / "teachers" / name, study.seed))
        else:
            sources[name] = teacher
    return sources


def _rehearse(study: Study, bench: Bench) -> None:
    """Tries the cells whose teachers are still to be trained, and says which will fail; what keeps others from running is raised."""
    coming = [
        (cell, teacher)
        for cell in cells(study, {name: name for name in study.teachers})
        if isinstance(teacher := study.teachers[cell.teacher], Teacher)
    ]
    with counter("trying what the cells ask for", len(coming)) as advance:
        wrong = {}
        for cell, teacher in coming:
            wrong[cell.name] = rehearse(cell.recipe, bench, teacher)
            advance(1)
    warn([f"cell {name} will fail: {lines[0]}" for name, lines in wrong.items() if lines])


def _recipe(cell: Cell, grid: Sequence[Cell], run: Path) -> Recipe:
    """The cell's recipe, with the no-KD twin if no finished cell has it; what was begun keeps the controls it was begun with."""
    begun = run / "cells" / cell.name / RECIPE
    if begun.is_file() and has_begun(begun.parent):
        controls = read_yaml(begun).get("controls", cell.recipe.controls)
    elif cell.twin is not None and _twin(cell, grid, _finished(grid, run)) is None and not _coming(cell, grid, run):
        controls = ["teacher", "no-kd"]
    else:
        controls = cell.recipe.controls
    return cell.recipe.model_copy(update={"controls": controls})


def _same_teacher(cell: Cell, grid: Sequence[Cell], run: Path) -> Path | None:
    """The first finished cell with the same teacher; cells of a study have the same data."""
    folders = (run / "cells" / other.name for other in grid if other.teacher == cell.teacher)
    return next((folder for folder in folders if (folder / "results.json").is_file()), None)


def _finished(grid: Sequence[Cell], run: Path) -> dict[str, dict[str, Any]]:
    """The results of each cell that is done."""
    return {
        cell.name: read_json(path) for cell in grid if (path := run / "cells" / cell.name / "results.json").is_file()
    }


def _twin(cell: Cell, grid: Sequence[Cell], finished: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The results of the first finished cell that holds this cell's no-KD twin; None if there is none."""
    same = (
        finished[other.name]
        for other in grid
        if cell.twin is not None and other.twin == cell.twin and other.name in finished
    )
    return next((results for results in same if any(row["role"] == "control" for row in results["rows"])), None)


def _coming(cell: Cell, grid: Sequence[Cell], run: Path) -> bool:
    """Whether another process trains this cell's no-KD twin in a cell of its own."""
    folders = [run / "cells" / other.name for other in grid if other.twin == cell.twin]
    begun = [folder for folder in folders if (folder / RECIPE).is_file() and in_use(folder)]
    return any("no-kd" in read_yaml(folder / RECIPE).get("controls", ()) for folder in begun)


def _write(
    study: Study, run: Path, grid: Sequence[Cell], failed: dict[str, DocstillError], command: str
) -> dict[str, Any]:
    (run / "cells").mkdir(exist_ok=True)
    with locked(run / "cells", wait=True):  # other processes that walk the same study write the same files
        return _written(study, run, grid, failed, command)


def _written(
    study: Study, run: Path, grid: Sequence[Cell], failed: dict[str, DocstillError], command: str
) -> dict[str, Any]:
    metric = task_named(study.task).primary_metric
    finished = _finished(grid, run)
    rows = []
    for cell in grid:
        row: dict[str, Any] = {
            "teacher": cell.teacher,
            "student": cell.student,
            "method": cell.method,
            "run": cell.name,
        }
        if cell.name in finished:
            row |= {"state": "done", **line(finished[cell.name], _twin(cell, grid, finished), metric)}
            row["seconds"] = (
                sum(
                    float(read_json(done).get("seconds", 0))
                    for seed in range(study.seed, study.seed + study.repeats)
                    for done in (run / "cells" / cell.name / f"seed-{seed}" / "student").glob(
                        f"[0-9]*/{DONE}"
                    )  # stages
                )
                / study.repeats
            )
        else:
            error = failed.get(cell.name)
            row |= {"state": "waiting"} if error is None else {"state": "failed", "error": " ".join(str(error).split())}
        rows.append(row)
    results = {
        "docstill": docstill.__version__,
        "name": run.resolve().name,
        "task": study.task,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "primary_metric": metric,
        "repeats": study.repeats,
        "data": {split: str(getattr(study.data, split)) for split in ("train", "validation")},
        "cells": rows,
        "seconds": round(seconds_spent(run), 1),
    }
    write_json(run / "results.json", results)
    write_study(results, run)
    return results
