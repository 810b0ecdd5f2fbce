"""docstill evaluate: a model's figures on labelled documents, on worse ones, and beside other models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from docstill.data.coco_folder import results_of
from docstill.data.splits import find_splits, resolve_split
from docstill.data.unlabelled import problems_of, read_unlabelled
from docstill.doubts import kept_from_model, unwritable_answers, warn
from docstill.errors import DataError, UserError
from docstill.files import check_writable, write_text
from docstill.loaded import load
from docstill.metrics.bootstrap import Figures
from docstill.metrics.classification import accepted
from docstill.models.io import DocumentModel, fastest_device
from docstill.progress import counter
from docstill.reporting.shift import write_shift
from docstill.robustness import known_to_all, looks, missing_labels, on_other_pages, under_corruptions
from docstill.scoring import figures_of, intervals_of, unknown_told_apart
from docstill.tasks.base import Evaluation, Pages, Task, drawn
from docstill.tasks.classification import Classification
from docstill.tasks.layout import Layout, any_regions


def evaluate(
    model: str | Path,
    data: str | Path,
    task: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    shift: str | Path | None = None,
    against: Sequence[str | Path] = (),
    outputs: str | Path | None = None,
    page: str | Path | None = None,
    intervals: bool = False,
    ood: str | Path | None = None,
    error_rates: Sequence[float] = (),
) -> dict[str, Any]:
    """Scores a model on labelled documents: ``{"task", "model", "data", "n", "metrics"}``, and what else is asked for.

    Args:
        model: a model folder or hub id.
        data: a split's folder, or the folder that holds the splits.
        task: default: what the model is.
        split: default: ``validation``.
        limit: score so many documents only, drawn at random, always the same ones.
        shift: ``corruptions`` (see `docs/robustness.md`), or a folder with labelled pages from elsewhere, or with their splits.
        against: models to be shifted beside it, such as its teacher and its no-KD twin.
        outputs: file for what the model answers, as `docstill.score` reads it: JSON lines, for layout COCO's results. Layout pages of
            which none is labelled are answered, too; ``metrics`` is empty then.
        page: HTML file for the plots of a shift.
        intervals: add ``intervals``, as `docstill.score` does.
        ood: classification: a folder with pages of no known class; adds ``ood``, as `docstill.score` does.
        error_rates: kie and classification: adds ``accepted``, for ``documents`` and, of kie, ``fields``: for each rate the
            largest ``share``, surest first, that holds no larger share of errors, and the confidence ``above`` which it is (None:
            nothing can be accepted).

    Raises:
        UserError: an option that is not for this task, or without another that it needs; a file that cannot be written.
        ModelError: the model does not fit the data.
        DataError: documents are bad; all of them are named.
    """
    loaded = load(model, task)
    if loaded.task.name != "classification" and ood is not None:
        raise UserError(
            f"unknown pages (ood) are told apart by a classifier's probabilities, {model} is for {loaded.task.name}; leave them out"
        )
    if loaded.task.name == "layout" and error_rates:
        raise UserError("error rates are for kie and classification; evaluate a layout detector without them")
    if wrong := [rate for rate in error_rates if not 0 <= rate < 1]:
        raise UserError(f"an error rate is a share from 0 to less than 1, {wrong[0]:g} was given; 2 % are 0.02")
    if outputs is not None and Path(outputs).is_dir():
        raise UserError(f"{outputs} is a folder; give a file for the outputs")
    if against and shift is None:
        raise UserError("models to be set against need a shift; add shift=corruptions, or a folder with other pages")
    if page is not None and shift is None:
        raise UserError("the page shows a shift; add shift=corruptions, or a folder with other pages, or leave it out")
    if page is not None and Path(page).is_dir():
        raise UserError(f"{page} is a folder; give an HTML file for the page")
    for target in (outputs, page):
        if target is not None:
            check_writable(Path(target))
    models = {str(model): loaded.model, **{str(source): load(source, loaded.task.name).model for source in against}}
    others = None if shift is None else _elsewhere(loaded.task, models, shift, split, limit)
    folder = resolve_split(Path(data), split)
    pages = loaded.task.read(folder)
    unknown = None if ood is None else _unknown(Path(ood))
    if limit is not None:
        pages = drawn(pages, limit, in_order=True)
        unknown = None if unknown is None else drawn(unknown, limit, in_order=True)
    if loaded.task.name == "kie":  # other models that do not fit the data are refused
        warn(unwritable_answers(loaded.task, loaded.model, pages))
    loaded.model.network.to(fastest_device())
    with counter("scoring", len(pages.documents)) as advance:
        if (
            isinstance(loaded.task, Layout)
            and outputs is not None
            and shift is None
            and not intervals
            and not any_regions(pages)
        ):
            evaluation = Evaluation({}, [], loaded.task.regions(loaded.model, pages, advance))
        else:
            evaluation = loaded.task.evaluate(loaded.model, pages, advance)
    if loaded.task.name == "kie":
        warn(kept_from_model(evaluation.metrics["blank"]))
    if outputs is not None:
        write_text(Path(outputs), _outputs(loaded.task, pages, evaluation))
    result: dict[str, Any] = {
        "task": loaded.task.name,
        "model": str(model),
        "data": str(folder),
        "n": len(pages.documents),
        "metrics": evaluation.metrics,
    }
    if intervals:
        figures = _figures(loaded.task, pages, evaluation, Path(model))
        result["intervals"] = intervals_of(figures, len(pages.documents))
    if error_rates:
        result["accepted"] = {kind: _accepted(marks, error_rates) for kind, marks in evaluation.sure.items()}
    if unknown is not None:
        assert isinstance(loaded.task, Classification)
        with counter("unknown pages", len(unknown.documents)) as advance:
            rows = loaded.task.logits(loaded.model, unknown, advance).tolist()
        said = [{"logits": row} for row in rows]
        result["ood"] = unknown_told_apart(evaluation.answers, said, Path(model), unknown.folder)
    if shift is not None:
        for other in models.values():
            other.network.to(fastest_device())
        result["shift"] = _shifted(loaded.task, models, pages, others)
        if page is not None:
            write_shift(result, Path(page))
    return result


def _figures(task: Task, pages: Pages, evaluation: Evaluation, model: Path) -> Figures:
    """The metrics over any of the pages that a model was scored on."""
    if isinstance(task, Layout):
        return task.figures(pages, evaluation.answers)
    right = evaluation.answers  # a classifier's lines hold the right classes, too
    if task.name == "kie":
        right = [{"gt_parse": document.expected} for document in evaluation.documents]
    return figures_of(task.name, evaluation.answers, right, model, pages.folder)


def _accepted(marks: Sequence[tuple[float, bool]], error_rates: Sequence[float]) -> dict[str, dict[str, float | None]]:
    """What can be accepted unseen, by error rate."""
    sure, right = np.array([one for one, _ in marks]), np.array([one for _, one in marks], dtype=bool)
    return {f"{rate:g}": accepted(sure, right, rate) for rate in error_rates}


def _unknown(folder: Path) -> Pages:
    """Pages of no known class, all of which can be read."""
    documents = read_unlabelled(folder)
    if problems := problems_of(folder):
        raise DataError(f"the unknown pages in {folder} cannot be used; mend or remove these files", problems)
    return Pages(folder, documents)


def _outputs(task: Task, pages: Pages, evaluation: Evaluation) -> str:
    """What a model answered, as `docstill.scoring.score` reads it."""
    if task.name == "layout":
        return json.dumps(results_of(pages.folder, pages.documents, evaluation.answers)) + "\n"
    return "".join(json.dumps(answer) + "\n" for answer in evaluation.answers)


def _elsewhere(
    task: Task, models: dict[str, DocumentModel], shift: str | Path, split: str | None, limit: int | None
) -> Pages | None:
    """The pages from elsewhere that models are to be scored on; None for corruptions of the usual ones."""
    if str(shift) == "corruptions":
        if task.name == "layout":
            raise UserError(
                "corruptions turn and warp pages, and the labelled boxes would not move with them; for layouts give a folder with "
                "labelled pages from elsewhere"
            )
        return None
    folder = resolve_split(Path(shift), split if find_splits(Path(shift)) else None)
    others = task.read(folder, Pages(folder, [], known_to_all(models)))
    return others if limit is None else drawn(others, limit, in_order=True)


def _shifted(task: Task, models: dict[str, DocumentModel], pages: Pages, others: Pages | None) -> dict[str, Any]:
    """What `evaluate` adds under ``shift``."""
    if others is None:
        with counter("under corruptions", looks(len(models), len(pages.documents))) as advance:
            return {"kind": "corruptions", "models": under_corruptions(task, models, pages, advance)}
    with counter("on other pages", len(models) * (len(pages.documents) + len(others.documents))) as advance:
        found = on_other_pages(task, models, pages, others, advance)
    about = {"kind": "pages", "data": str(others.folder), "n": len(others.documents)}
    return {**about, "missing_labels": missing_labels(pages, others), "models": found}
