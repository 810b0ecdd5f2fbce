"""Scores any system's answers without a model: JSON lines of predictions against JSON lines of answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from docstill.errors import DataError, UserError
from docstill.metrics.classification import classification_metrics, softmax
from docstill.metrics.fields import document_f1, field_scores
from docstill.metrics.tree import ted_accuracy

MOST = 1e300


def score(task: str, predictions: str | Path, answers: str | Path) -> dict[str, Any]:
    """The metrics of a task over two files of JSON lines, in the same order.

    Args:
        task: ``kie`` (a line is the JSON of a document, plain, under ``gt_parse``, or a line of `metadata.jsonl`; of
            ``gt_parses`` the first counts) or ``classification`` (predictions ``{"probabilities": […]}`` or
            ``{"logits": […]}``, answers ``{"label": i}``).
        predictions: what a system said.
        answers: what is right.

    Returns:
        ``{"n", "metrics"}``, for kie with ``documents``, the scores of each.

    Raises:
        DataError: all lines that cannot be used, with file and line number.
        UserError: no such task, or files of different length.
    """
    scorers: dict[str, Callable[[list[Any], list[Any], Path, Path], dict[str, Any]]] = {
        "kie": _kie,
        "classification": _classification,
    }
    if task not in scorers:
        raise UserError(f"there is no task {task!r} to score; choose one of {', '.join(scorers)}")
    files = (Path(predictions), Path(answers))
    problems: list[str] = []
    given, right = (_lines(file, problems) for file in files)
    if problems:
        raise DataError("these lines are not JSON", problems)
    if len(given) != len(right):
        raise UserError(
            f"{files[0]} has {len(given)} lines and {files[1]} has {len(right)}; both need one line a document, in the same order"
        )
    return scorers[task](given, right, *files)


def _lines(path: Path, problems: list[str]) -> list[Any]:
    """The value of each line; those that are not JSON are added to ``problems``."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); give a file of JSON lines in UTF-8") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise UserError(f"{path} is empty; expected one JSON object a line")
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError as error:
            problems.append(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})")
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{number}: cannot be read ({error})")
    return values


def _kie(given: list[Any], right: list[Any], given_file: Path, right_file: Path) -> dict[str, Any]:
    problems: list[str] = []
    predictions, truths = (
        [_unwrap(value, f"{file}:{number}", problems) for number, value in enumerate(values, 1)]
        for file, values in ((given_file, given), (right_file, right))
    )
    if problems:
        raise DataError("these lines cannot be scored", problems)
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
    return {"n": len(documents), "metrics": metrics, "documents": documents}


def _unwrap(value: Any, where: str, problems: list[str]) -> Any:
    """The document inside a line of `metadata.jsonl`, or the line itself; what is wrong is added to ``problems``."""
    if isinstance(value, dict) and isinstance(value.get("ground_truth"), str | dict):
        value = value["ground_truth"]
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                problems.append(f"{where}: ground_truth is not JSON ({error})")
                return None
        if not isinstance(value, dict) or not ("gt_parse" in value or "gt_parses" in value):
            problems.append(f"{where}: ground_truth holds neither gt_parse nor gt_parses")
            return None
    if isinstance(value, dict) and "gt_parse" in value:
        return value["gt_parse"]
    if isinstance(value, dict) and isinstance(value.get("gt_parses"), list) and value["gt_parses"]:
        return value["gt_parses"][0]
    return value


def _classification(given: list[Any], right: list[Any], given_file: Path, right_file: Path) -> dict[str, Any]:
    problems: list[str] = []
    rows = [_row(value, f"{given_file}:{number}", problems) for number, value in enumerate(given, 1)]
    widths = [len(row) for row in rows if row is not None]
    width = max(set(widths), key=widths.count, default=0)
    for number, row in enumerate(rows, 1):
        if row is not None and len(row) != width:
            problems.append(f"{given_file}:{number}: {len(row)} classes, where most lines have {width}")
    allowed = f"from 0 to {width - 1}" if width else "not negative"
    for number, value in enumerate(right, 1):
        label = value.get("label") if isinstance(value, dict) else None
        if not isinstance(label, int) or isinstance(label, bool) or label < 0 or (width and label >= width):
            problems.append(
                f'{right_file}:{number}: expected {{"label": i}} with i {allowed}, got {json.dumps(value)[:80]}'
            )
    if problems:
        raise DataError("these lines cannot be scored", problems)
    labels = np.array([value["label"] for value in right])
    return {"n": len(labels), "metrics": classification_metrics(np.array(rows, dtype=np.float64), labels)}


def _row(value: Any, where: str, problems: list[str]) -> Sequence[float] | None:
    """Probabilities of one line; what is wrong with it is added to ``problems``."""
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
