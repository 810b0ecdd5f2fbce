"""Scores any system's answers without a model: JSON lines of predictions against JSON lines of answers, or COCO's files."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from docstill.answer_lines import Line, is_read, is_unread, numbered, read_all, read_pairs
from docstill.data.coco import read_coco, read_results
from docstill.data.donut_folder import DEEPEST, too_deep
from docstill.data.json_tokens import AsWritten, canonical
from docstill.errors import DataError, UserError
from docstill.metrics import bootstrap
from docstill.metrics.bootstrap import Figures
from docstill.metrics.classification import classification_metrics, figures_without_floor, softmax
from docstill.metrics.detection import Detection, detection_metrics
from docstill.metrics.detection_draws import figures_over_pages
from docstill.metrics.fields import document_f1, field_scores, nearest_truth, pairs
from docstill.metrics.ood import detection, energy
from docstill.metrics.tree import ted_accuracy
from docstill.progress import counter

MOST = 1e300


@dataclass(frozen=True)
class Scored:
    """What one system's answers score, and the same figures over any of the documents, for intervals."""

    result: dict[str, Any]
    figures: Figures


def score(
    task: str,
    predictions: str | Path,
    answers: str | Path,
    intervals: bool = False,
    against: str | Path | None = None,
    ood: str | Path | None = None,
) -> dict[str, Any]:
    """The metrics of a task over two files: of JSON lines, or, for layout, COCO's.

    Lines are paired by ``file`` or ``file_name`` where every line of both files has one beside its answer, and by place
    otherwise. In place of lines a file may hold what `docstill predict --json` prints, one list of answers.

    Args:
        task: ``layout`` (predictions are COCO results, answers COCO annotations), ``kie`` (a line is the JSON of a document, plain, under ``gt_parse``, or a line of `metadata.jsonl`; of
            ``gt_parses`` the one that the prediction is nearest to counts) or ``classification`` (predictions ``{"probabilities": […]}`` or
            ``{"logits": […]}``, answers ``{"label": i}``). Predictions may also be what `predict` answers.
        predictions: what a system said.
        answers: what is right.
        intervals: add ``intervals``, ``[low, high]`` of each metric: 95 % over resampled documents.
        against: another system's predictions of the same documents; adds ``difference``, ``{"value", "interval"}`` of
            each metric, the first system's less the other's. Of layout's metrics both have ``ap``, ``ap50`` and ``ap75``.
        ood: classification only: the same system's predictions of pages of no known class; adds ``ood``, how well its
            largest probability, and its energy where all lines hold logits, tell them from the known.

    Returns:
        ``{"n", "metrics"}``, for kie with ``documents``, the scores of each, in the order of the answers.

    Raises:
        DataError: all lines, or entries, that cannot be used, or that nothing in the other file has the name of.
        MissingExtra: for layout, if the extra ``layout`` is not installed.
        UserError: no such task, files of different length, an option that is not for this task, or intervals of pages without
            regions.
    """
    if task == "layout":
        if ood is not None:
            raise UserError(
                "unknown pages (ood) are told apart by a classifier's probabilities; score --task layout without them"
            )
        return _layout(Path(predictions), Path(answers), intervals, None if against is None else Path(against))
    if task not in SCORERS:
        raise UserError(f"there is no task {task!r} to score; choose one of {', '.join((*SCORERS, 'layout'))}")
    if ood is not None and task != "classification":
        raise UserError(
            "unknown pages (ood) are told apart by a classifier's probabilities; score --task classification"
        )
    files = (Path(predictions), Path(answers))
    given, right = read_pairs(*files, task=task)
    scored = SCORERS[task](given, right)
    result = dict(scored.result)
    if intervals:
        result["intervals"] = intervals_of(scored.figures, len(given))
    if against is not None:
        other = SCORERS[task](*read_pairs(Path(against), files[1], task=task))
        result["difference"] = _difference(scored.figures, other.figures, len(given))
    if ood is not None:
        unknown_file = Path(ood)
        (unknown,) = read_all(unknown_file, task=task)
        result["ood"] = _told_apart(given, unknown, files[0], unknown_file)
    return result


def figures_of(task: str, given: list[Any], right: list[Any], source: Path, answers: Path) -> Figures:
    """The figures over any of the documents, for lines that are not in files.

    Args:
        task: ``kie`` or ``classification``.
        given: what a system said, a line a document.
        right: what is right, in the same order.
        source: what messages call the system.
        answers: what messages call the answers.

    Raises:
        DataError: all lines that cannot be used.
    """
    return SCORERS[task](numbered(given, source), numbered(right, answers)).figures


def intervals_of(figures: Figures, n: int) -> dict[str, list[float]]:
    """What `score` adds under ``intervals``, of figures over ``n`` documents; for many it takes minutes."""
    return _spans(figures, None, n)


def _difference(figures: Figures, other: Figures, n: int) -> dict[str, Any]:
    """What `score` adds under ``difference``."""
    spans, every = _spans(figures, other, n), np.arange(n)
    one, two = figures(every), other(every)
    return {name: {"value": one[name] - two[name], "interval": span} for name, span in spans.items()}


def _spans(figures: Figures, other: Figures | None, n: int) -> dict[str, list[float]]:
    with counter("resampling documents", bootstrap.DRAWS) as advance:

        def counted(chosen: NDArray[np.int64]) -> Mapping[str, float]:
            found = figures(chosen)
            advance(1)
            return found

        if other is None:
            return bootstrap.intervals(counted, n)
        return bootstrap.difference_intervals(counted, other, n)


def _layout(results: Path, annotations: Path, intervals: bool, against: Path | None) -> dict[str, Any]:
    with _uncollected():
        truth = read_coco(annotations)
        pages, classes = len(truth.names), len(truth.labels)

        def over_pages(seen: list[Detection]) -> Figures:
            return figures_over_pages(truth.truths, seen, classes, pages)

        seen = read_results(results, truth)
        other = None if against is None else read_results(against, truth)
        result: dict[str, Any] = {"n": pages, "metrics": detection_metrics(truth.truths, seen, truth.labels, pages)}
        if intervals or other is not None:
            figures = over_pages(seen)
            if intervals:
                result["intervals"] = intervals_of(figures, pages)
            if other is not None:
                result["difference"] = _difference(figures, over_pages(other), pages)
        return result


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without looks for cycles: among millions of small objects, none of them in one, they take half of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _kie(given: list[Line], right: list[Line]) -> Scored:
    problems: list[str] = []
    said = [[{}] if is_unread(line.value) else _unwrap(line, problems) for line in given]
    variants = [_unwrap(line, problems) for line in right]
    problems += [
        f"{line.where}: holds an error in place of the right answer; give the answer, or leave the page out everywhere"
        for line in right
        if is_unread(line.value)
    ]
    if problems:
        raise DataError("these lines cannot be scored", problems)
    predictions = [{} if answers[0] is None else canonical(answers[0]) for answers in said]  # null: nothing was read
    truths = [
        nearest_truth(prediction, [canonical(answer) for answer in these])
        for prediction, these in zip(predictions, variants, strict=True)
    ]
    fields = field_scores(predictions, truths)
    documents = [
        {"ted_accuracy": ted_accuracy(prediction, truth), "field_f1": document_f1(prediction, truth)}
        for prediction, truth in zip(predictions, truths, strict=True)
    ]
    metrics = {
        "ted_accuracy": float(np.mean([document["ted_accuracy"] for document in documents])),
        "field_f1": fields.f1,
        "precision": fields.precision,
        "recall": fields.recall,
        "per_field": fields.per_field,
    }
    counts = np.array([_counts(*both) for both in zip(predictions, truths, strict=True)], dtype=np.float64)
    trees = np.array([document["ted_accuracy"] for document in documents])

    def figures(chosen: NDArray[np.int64]) -> dict[str, float]:
        hits, found, wanted = counts[chosen].sum(axis=0)
        return {
            "ted_accuracy": float(trees[chosen].mean()),
            "field_f1": _share(2 * hits, found + wanted),
            "precision": _share(hits, found),
            "recall": _share(hits, wanted),
        }

    return Scored({"n": len(documents), "metrics": metrics, "documents": documents}, figures)


def _counts(prediction: Any, truth: Any) -> tuple[int, int, int]:
    """Pairs found rightly, found, and wanted, of one document."""
    found, wanted = pairs(prediction), pairs(truth)
    return (found & wanted).total(), found.total(), wanted.total()


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 1.0


def _unwrap(line: Line, problems: list[str]) -> list[Any]:
    """The answers inside a line of `metadata.jsonl` or of `predict`, or the line itself; what is wrong is added to ``problems``."""
    found = _inside(*line, problems)
    if any(too_deep(answer) for answer in found):
        problems.append(f"{line.where}: nested more than {DEEPEST} deep; flatten it")
    return found


def _inside(value: Any, where: str, problems: list[str]) -> list[Any]:
    if isinstance(value, dict) and isinstance(value.get("ground_truth"), str | dict):
        value = value["ground_truth"]
        if isinstance(value, str):
            try:
                value = json.loads(value, parse_float=AsWritten)
            except (ValueError, RecursionError) as error:
                problems.append(f"{where}: ground_truth is not JSON ({error})")
                return [None]
        if not isinstance(value, dict) or not ("gt_parse" in value or "gt_parses" in value):
            problems.append(f"{where}: ground_truth holds neither gt_parse nor gt_parses")
            return [None]
    if isinstance(value, dict) and "gt_parse" in value:
        return [value["gt_parse"]]
    if isinstance(value, dict) and isinstance(value.get("gt_parses"), list) and value["gt_parses"]:
        return list(value["gt_parses"])
    if isinstance(value, dict) and is_read(value):
        return [value["fields"]]
    return [value]


def _classification(given: list[Line], right: list[Line]) -> Scored:
    problems: list[str] = []
    rows = _rows(given, problems)
    width = _width(rows)
    allowed = f"from 0 to {width - 1}" if width else "not negative"
    for value, where in right:
        label = value.get("label") if isinstance(value, dict) else None
        if not isinstance(label, int) or isinstance(label, bool) or label < 0 or (width and label >= width):
            problems.append(f'{where}: expected {{"label": i}} with i {allowed}, got {json.dumps(value)[:80]}')
    if problems:
        raise DataError("these lines cannot be scored", problems)
    labels, probabilities = np.array([line.value["label"] for line in right]), np.array(rows, dtype=np.float64)
    return Scored(
        {"n": len(labels), "metrics": classification_metrics(probabilities, labels)},
        lambda chosen: figures_without_floor(probabilities[chosen], labels[chosen]),
    )


def unknown_told_apart(given: list[Any], unknown: list[Any], given_file: Path, unknown_file: Path) -> dict[str, Any]:
    """What `score` adds under ``ood``: how well the scores of known and unknown pages can be told apart.

    Args:
        given: a classifier's lines for known pages, which have been scored.
        unknown: its lines for pages of no known class.
        given_file: what messages call the first.
        unknown_file: what messages call the second.

    Raises:
        DataError: all lines of ``unknown`` that cannot be used.
    """
    return _told_apart(numbered(given, given_file), numbered(unknown, unknown_file), given_file, unknown_file)


def _told_apart(given: list[Line], unknown: list[Line], given_file: Path, unknown_file: Path) -> dict[str, Any]:
    problems: list[str] = []
    rows = _rows(given, []), _rows(unknown, problems)
    if rows[1] and _width(rows[1]) != _width(rows[0]):
        problems.append(f"{unknown_file}: {_width(rows[1])} classes, {given_file} has {_width(rows[0])}")
    if problems:
        raise DataError("these lines cannot be scored", problems)
    known, other = (np.array(part, dtype=np.float64).max(axis=1) for part in (rows[0], rows[1]))
    found: dict[str, Any] = {"n": len(unknown), "max_probability": detection(known, other)}
    if all("logits" in line.value for line in (*given, *unknown)):
        found["energy"] = detection(
            *(energy(np.array([line.value["logits"] for line in part])) for part in (given, unknown))
        )
    return found


def _rows(given: list[Line], problems: list[str]) -> list[Sequence[float] | None]:
    """The probabilities of each line, all of one width; what is wrong is added to ``problems``."""
    rows = [_row(*line, problems) for line in given]
    width = _width(rows)
    for line, row in zip(given, rows, strict=True):
        if row is not None and len(row) != width:
            problems.append(f"{line.where}: {len(row)} classes, where most lines have {width}")
    return rows


def _width(rows: Sequence[Sequence[float] | None]) -> int:
    """The number of classes that most lines have."""
    widths = [len(row) for row in rows if row is not None]
    return max(set(widths), key=widths.count, default=0)


def _row(value: Any, where: str, problems: list[str]) -> Sequence[float] | None:
    """Probabilities of one line; what is wrong with it is added to ``problems``."""
    if is_unread(value):  # kie has an empty answer for it, a classifier none
        problems.append(f"{where}: the page could not be read ({value['error']}); mend it, or leave it out everywhere")
        return None
    if isinstance(value, dict) and isinstance(value.get("label"), str) and isinstance(value.get("probabilities"), dict):
        value = {"probabilities": [value["probabilities"][label] for label in sorted(value["probabilities"])]}
    keys = {"probabilities", "logits"} & set(value) if isinstance(value, dict) else set()
    if len(keys) != 1 or not isinstance(value[next(iter(keys))], list):
        problems.append(f'{where}: expected {{"probabilities": […]}} or {{"logits": […]}}')
        return None
    key = next(iter(keys))
    numbers = value[key]
    if len(numbers) < 2 or not all(type(number) in {int, float} and abs(number) < MOST for number in numbers):
        problems.append(f"{where}: {key} must be at least two finite numbers")
        return None
    row = np.array(numbers, dtype=np.float64)
    if key == "logits":
        return list(softmax(row[None])[0])
    if (row < 0).any() or abs(row.sum() - 1) > 1e-3:
        problems.append(f"{where}: probabilities must not be negative and must sum to 1, these sum to {row.sum():.4f}")
        return None
    return list(row)  # as given: to scale it would tell equal confidences apart


SCORERS: dict[str, Callable[[list[Line], list[Line]], Scored]] = {
    "kie": _kie,
    "classification": _classification,
}
"""Tasks whose outputs are lines, one a document: what scores them."""
