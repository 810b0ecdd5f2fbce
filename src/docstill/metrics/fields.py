"""Field F1: which (path, value) pairs of the JSON were found, as Donut's published evaluator counts them.

Paths are keys joined by dots; rows of a list are not told apart; a value counts only if it is the same to the letter
(after the normalisation of `docstill.metrics.tree`). F1 is micro-averaged: over the pairs of all documents together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from docstill.metrics.tree import normalise, ted_accuracy

Pairs = Counter[tuple[str, str]]


@dataclass(frozen=True)
class FieldScores:
    """Micro-averaged scores, and the same for each path: ``f1, precision, recall, support``."""

    f1: float
    precision: float
    recall: float
    per_field: dict[str, dict[str, float]]


def pairs(value: Any) -> Pairs:
    """The multiset of (dotted path, value) of a JSON value."""
    found: Pairs = Counter()
    _collect(normalise(value), "", found)
    return found


def _collect(value: Any, path: str, found: Pairs) -> None:
    if isinstance(value, dict):
        for key, child in value.items():
            _collect(child, f"{path}.{key}" if path else key, found)
    elif isinstance(value, list):
        for child in value:
            _collect(child, path, found)
    else:
        found[path, value] += 1


def field_scores(predictions: Sequence[Any], truths: Sequence[Any]) -> FieldScores:
    """Scores over documents; with no field anywhere, in truth or prediction, all is right: 1."""
    hits: Counter[str] = Counter()
    given: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for prediction, truth in zip(predictions, truths, strict=True):
        predicted, right = pairs(prediction), pairs(truth)
        for counter, source in ((hits, predicted & right), (given, predicted), (wanted, right)):
            for (path, _), count in source.items():
                counter[path] += count
    per_field = {
        path: {**_scores(hits[path], given[path], wanted[path]), "support": float(wanted[path])}
        for path in sorted(given | wanted)
    }
    total = _scores(hits.total(), given.total(), wanted.total())
    return FieldScores(total["f1"], total["precision"], total["recall"], per_field)


def document_f1(prediction: Any, truth: Any) -> float:
    """Field F1 of one document."""
    return field_scores([prediction], [truth]).f1


def nearest_truth(prediction: Any, truths: Sequence[Any]) -> Any:
    """Of several answers that count as right the one that a prediction is nearest to: by F1, then TED accuracy, then the first."""
    if len(truths) == 1:
        return truths[0]
    return max(truths, key=lambda truth: (document_f1(prediction, truth), ted_accuracy(prediction, truth)))


def _scores(hits: int, given: int, wanted: int) -> dict[str, float]:
    if not given and not wanted:
        return {"f1": 1.0, "precision": 1.0, "recall": 1.0}
    return {
        "f1": 2 * hits / (given + wanted),
        "precision": hits / given if given else 0.0,
        "recall": hits / wanted if wanted else 0.0,
    }
