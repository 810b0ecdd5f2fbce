"""One stage by itself, as `docstill train`, `prune` and `distill` run it; with its folder, its warnings and its teacher's score."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from docstill.chains import MODEL
from docstill.compression import score_teacher
from docstill.data.splits import resolve_split
from docstill.data.validator import same_files
from docstill.doubts import (
    classes_without_regions,
    extra_pages,
    lossy_answers,
    nothing_to_teach,
    shared_pictures,
    unmeasured_classes,
    warn,
)
from docstill.engine import BEST, METRICS
from docstill.errors import RecipeError, UserError
from docstill.files import write_text
from docstill.fingerprints import check_unchanged
from docstill.fitting import not_drawn_for, unfit_for_stream
from docstill.gradients import unbalanced
from docstill.optimiser import seed_everything
from docstill.recipe import Data, Generated, parse_data, parse_stage
from docstill.recipe_text import differences
from docstill.reporting.verdict import localisation_warning
from docstill.run import CHECKPOINT, EVALUATION, forget_looks, has_begun, locked, read_metrics, refuse_file, step
from docstill.settings import DistillStage, NewModel, Source, Stage
from docstill.shipped import located
from docstill.sources import read_splits
from docstill.stages import Bench, begin, run_stage
from docstill.tasks import task_named
from docstill.tasks.base import Pages, Task
from docstill.teacher_cache import FOLDER

GENTLE = 1e-4
"""The learning rate of a model that has learnt already, unless another is given: the usual one is for networks from scratch, and undoes it."""


def one_stage(
    kind: str,
    settings: dict[str, Any],
    task_name: str,
    source: Source,
    out: str | Path,
    data: str | Path | Mapping[str, Any] | None = None,
    seed: int = 0,
    teacher_source: str | None = None,
) -> dict[str, Any]:
    """Runs a stage, or goes on with one that was stopped; the result lies in ``out/model``.

    Args:
        kind: ``train``, ``prune`` or ``distill``.
        settings: those of the stage.
        task_name: of the task.
        source: the model that is worked on: a folder, a hub id, ``shipped:NAME``, or one of the other classes of `Source`.
        out: a new folder, or one in which the same stage was stopped.
        data: the folder that holds the splits, or where each is, as a recipe says it; None for pruning that looks at no pages.
        seed: of everything random.
        teacher_source: of distillation: a folder or hub id.

    Returns:
        What was done, with ``task``, ``model`` and ``warnings``, and ``teacher`` where there is one.

    Raises:
        RecipeError: the settings, or the data, do not hold.
        UserError: the folder holds something else.
        DataError: documents are bad; all of them are named.
        ModelError: a model cannot be used as asked.
    """
    if kind != "prune" and not isinstance(source, NewModel):
        settings = {"learning_rate": GENTLE, **settings}
    stage, task, folder = parse_stage(kind, settings), task_named(task_name), Path(out)
    places = parse_data(data) if isinstance(data, Mapping) else None
    if places is not None and isinstance(places.train, Generated):
        _check_drawn(stage, task_name)
    said = str(data) if places is None else places.model_dump(mode="json")
    asked = {"task": task_name, "model": str(source), "data": said, "seed": seed, "teacher": teacher_source}
    text = yaml.safe_dump({**asked, kind: stage.settings.model_dump(mode="json")}, sort_keys=False)
    # what ships is written down by its name, for its folder is another in every environment
    source = located(source) if isinstance(source, str) else source
    teacher_source = located(teacher_source) if teacher_source else None
    written = folder / "stage.yaml"
    refuse_file(folder)
    changed = differences(written.read_text(encoding="utf-8"), text) if written.is_file() else []
    if changed and has_begun(folder):
        raise RecipeError(
            f"{out} holds another stage's work; give another --out folder, or undo these changes", changed
        )
    if changed:
        forget_looks(folder)
    if not written.is_file() and folder.exists() and any(folder.iterdir()):
        raise UserError(f"{out} is not empty; give a new or empty --out folder")
    write_text(written, text)

    def work() -> dict[str, Any]:
        teacher = task.load_model(teacher_source) if teacher_source else None
        if data is None:
            pages = validation = None
        else:
            pages, validation = read_splits(task, places or _split_folders(data))
        if pages is not None and validation is not None:
            check_unchanged(folder, pages, validation, teacher_source)
        warnings = [] if pages is None or validation is None else warn(_doubts(task, pages, validation))
        seed_everything(seed)
        bench = Bench(task, pages, validation, teacher)  # type: ignore[arg-type]  # pruning looks at no pages
        student = begin(source, bench, teacher)
        if kind != "prune" and pages is not None and not isinstance(source, NewModel):
            task.adapt(student, pages)
        taught: dict[str, Any] = {}
        if teacher is not None:
            metrics = score_teacher(bench, teacher, folder / "teacher" / EVALUATION)
            warnings += warn(nothing_to_teach(task, metrics))
            taught["teacher"] = {"model": teacher_source, "metrics": metrics}
        done = run_stage(bench, student, stage, folder, seed, kind)
        if isinstance(stage.settings, DistillStage):
            lines = read_metrics(folder / METRICS)
            warnings += unbalanced(lines, kind)
            loose = localisation_warning(taught["teacher"]["metrics"], _kept_figures(lines, done, stage.settings.keep))
            warnings += [] if loose is None else [loose]
        student.save(folder / MODEL)
        for name in (CHECKPOINT, BEST):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        warnings += done.get("warnings", [])  # of stages that learn
        return {**done, "warnings": warnings, "task": task_name, "model": str(folder / MODEL), **taught}

    with locked(folder):
        return step(folder, work)


def _doubts(task: Task, training: Pages, validation: Pages) -> list[str]:
    """What is said of the data before a stage begins."""
    folders = training.folder, validation.folder
    pairs = [] if training.stream else same_files(training.documents, validation.documents)  # drawn ones are no files
    return [
        *shared_pictures(pairs, *folders, len(validation.documents)),
        *([] if training.stream else extra_pages(training)),
        *extra_pages(validation),
        *classes_without_regions(task, training),
        *unmeasured_classes(task, training, validation),
        *lossy_answers(task, training),
        *lossy_answers(task, validation),
    ]


def _kept_figures(lines: list[dict[str, Any]], done: dict[str, Any], keep: str) -> dict[str, float]:
    """What the weights that a stage kept score on the validation split, from its log."""
    kept = done["best_step"] if keep == "best" and done["best_step"] else done["steps"]
    figures: dict[str, float] = next(line["validation"] for line in lines if line["step"] == kept)
    return figures


def _check_drawn(stage: Stage, task_name: str) -> None:
    """Refuses a stage that cannot learn from documents which are drawn while it learns."""
    problems = [] if task_name == "kie" else [f"data.train: {not_drawn_for(task_name)}"]
    problems += [f"{stage.kind}{line}" for line in unfit_for_stream(stage.settings)]
    if problems:
        raise RecipeError("this cannot be learnt from documents that are drawn", problems)


def _split_folders(data: Any) -> Data:
    """The splits below a folder."""
    train, validation = (resolve_split(Path(data), split) for split in ("train", "validation"))
    return Data(train=train, validation=validation)
