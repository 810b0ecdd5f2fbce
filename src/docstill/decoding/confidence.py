"""Confidences made right: a logistic curve fitted to which fields, and which documents, were right on the validation split.

    p = 1 / (1 + exp(−(slope · logit(c) + intercept))),  slope ≥ 0

with c the model's own probability (`docstill.decoding.reading`); Platt 1999, by the Newton steps of Lin, Lin & Weng 2007
(https://doi.org/10.1007/s10994-007-5018-6). The order of confidences stays, so what can be accepted at an error rate does
too; what changes is that of the fields at 90 % nine in ten are right. The curves stand on the model's card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from docstill.decoding.reading import Reading
from docstill.errors import ModelError
from docstill.metrics.classification import Floats, accepted, auroc, ece, ece_floor
from docstill.metrics.fields import Pairs, pairs
from docstill.metrics.tree import same_answer

CONFIDENCE = "confidence"
"""The key of the model card under which the curves stand."""
CERTAIN = 1e-7
"""Probabilities are kept this far from 0 and 1; a model's own come no more exact than that."""
ERROR_RATES = (0.01, 0.02, 0.05)
BARS = 10


def calibrated(confidence: Any, curve: dict[str, Any] | None) -> Any:
    """A probability, or a JSON value of probabilities, through a curve; as it is if there is none."""
    if isinstance(confidence, dict):
        return {key: calibrated(value, curve) for key, value in confidence.items()}
    if isinstance(confidence, list):
        return [calibrated(value, curve) for value in confidence]
    return float(confidence) if curve is None else float(_through(np.array([confidence]), curve)[0])


def curve_of(card: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The curve for ``fields`` or ``documents`` on a model's card, if there is one.

    Raises:
        ModelError: what stands there is no curve.
    """
    curve = (card.get(CONFIDENCE) or {}).get(kind)
    numbers = (
        [] if curve is None else [curve.get("slope"), curve.get("intercept")] if isinstance(curve, dict) else [None]
    )
    if not all(isinstance(number, int | float) for number in numbers):
        raise ModelError(
            f"the card's {CONFIDENCE} for {kind} holds no slope and intercept ({str(curve)[:60]!r}); restore docstill.json, or "
            f"take {CONFIDENCE} out of it"
        )
    return curve


def curves(readings: Sequence[Reading], truths: Sequence[Any]) -> dict[str, Any]:
    """What a model's card keeps of the validation split: a curve for ``fields`` and one for ``documents``, where there are any."""
    fitted = {kind: fit_curve(*zip(*rows, strict=True)) for kind, rows in _all_marks(readings, truths).items() if rows}
    return {kind: curve for kind, curve in fitted.items() if curve is not None}


def sure_and_right(
    readings: Sequence[Reading], truths: Sequence[Any], card: dict[str, Any]
) -> dict[str, list[tuple[float, bool]]]:
    """Of all ``fields`` that were read and all ``documents``: the confidence, through the card's curve, and whether it is right."""
    found = {}
    for kind, rows in _all_marks(readings, truths).items():
        sure = calibrated([confidence for confidence, _, _ in rows], curve_of(card, kind))
        found[kind] = [(confidence, right) for confidence, (_, right, _) in zip(sure, rows, strict=True)]
    return found


def worth(sure: Mapping[str, Sequence[tuple[float, bool]]], card: dict[str, Any]) -> dict[str, Any]:
    """`confidence_metrics` of ``fields`` and ``documents``; ``calibrated`` says if the card has curves."""
    found: dict[str, Any] = {"calibrated": bool(card.get(CONFIDENCE))}
    return found | {
        kind: confidence_metrics([confidence for confidence, _ in rows], [right for _, right in rows])
        for kind, rows in sure.items()
    }


def _all_marks(readings: Sequence[Reading], truths: Sequence[Any]) -> dict[str, list[tuple[float, bool, int]]]:
    """Of each field that was read, and of each document: the model's own confidence, whether it is right, which document."""
    found: dict[str, list[tuple[float, bool, int]]] = {"fields": [], "documents": []}
    for number, (read, truth) in enumerate(zip(readings, truths, strict=True)):
        found["fields"] += [(*mark, number) for mark in marks(read.fields, read.confidence, truth)]
        found["documents"].append((read.whole, same_answer(read.fields, truth), number))
    return found


def marks(fields: Any, confidence: Any, truth: Any) -> list[tuple[float, bool]]:
    """Each value that was read: its confidence, and whether the truth has it under the same key path.

    Counted as `docstill.metrics.fields` counts: rows of a list are not told apart, empty values are left out.
    """
    wanted, found = pairs(truth), list[tuple[float, bool]]()
    _mark(fields, confidence, "", Counter(wanted), found)
    return found


def _mark(fields: Any, confidence: Any, path: str, wanted: Pairs, found: list[tuple[float, bool]]) -> None:
    if isinstance(fields, dict):
        for key, child in fields.items():
            _mark(child, confidence[key], f"{path}.{key}" if path else key, wanted, found)
    elif isinstance(fields, list):
        for child, sure in zip(fields, confidence, strict=True):
            _mark(child, sure, path, wanted, found)
    elif value := str(fields).strip():
        right = wanted[path, value] > 0
        wanted[path, value] -= right
        found.append((confidence, right))


def fit_curve(confidence: Sequence[float], right: Sequence[bool], groups: Sequence[int]) -> dict[str, Any] | None:
    """The curve of least loss, or None where there is nothing to fit it to.

    Args:
        confidence: the model's own probabilities.
        right: whether what they stand for was right.
        groups: numbers of the documents that they come from.

    Returns:
        ``slope, intercept``; ``n`` and ``right`` (how many); ``ece_before`` and ``ece_after``, the second cross-fitted:
        the documents of each half through the curve of the other half.
    """
    given, hits, half = np.array(confidence, dtype=np.float64), np.array(right, dtype=bool), np.array(groups) % 2
    if not len(given):
        return None
    after = np.empty_like(given)
    for side in (0, 1):
        there, other = half == side, half != side
        after[there] = _through(given[there], _fit(given[other], hits[other])) if other.any() else given[there]
    return {
        **_fit(given, hits),
        "n": len(given),
        "right": int(hits.sum()),
        "ece_before": ece(given, hits),
        "ece_after": ece(after, hits),
    }


def _fit(confidence: Floats, right: NDArray[np.bool_]) -> dict[str, float]:
    """Newton steps with step halving; the loss is convex. Platt's targets keep a perfect model from infinite slopes."""
    x, n = _logit(confidence), len(right)
    hits = int(right.sum())
    targets = np.where(right, (hits + 1) / (hits + 2), 1 / (n - hits + 2))
    columns = np.stack([x, np.ones(n)], axis=1)

    def loss(line: Floats) -> float:
        z = columns @ line
        return float((np.logaddexp(0, z) - targets * z).sum())

    line = np.array([0.0, np.log((hits + 1) / (n - hits + 1))])
    for _ in range(100):
        p = 1 / (1 + np.exp(-(columns @ line)))
        gradient = columns.T @ (p - targets)
        bend = columns.T @ (columns * (p * (1 - p))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(bend, gradient)
        size, now = 1.0, loss(line)
        while size > 1e-8 and loss(line - size * step) > now:
            size /= 2
        line = line - size * step
        if float(np.abs(size * step).max()) < 1e-9:
            break
    if (
        line[0] < 0
    ):  # surer where it is wrong: then the confidence says nothing, and the share of right ones is all there is
        line = np.array([0.0, np.log((hits + 1) / (n - hits + 1))])
    return {"slope": float(line[0]), "intercept": float(line[1])}


def _through(confidence: Floats, curve: dict[str, Any]) -> Floats:
    found: Floats = 1 / (1 + np.exp(-(curve["slope"] * _logit(confidence) + curve["intercept"])))
    return found


def _logit(confidence: Floats) -> Floats:
    clipped = np.clip(confidence, CERTAIN, 1 - CERTAIN)
    found: Floats = np.log(clipped) - np.log1p(-clipped)
    return found


def confidence_metrics(confidence: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """What confidences are worth.

    Returns:
        ``n``; ``right``, the share; ``ece``, ``ece_floor``, ``auroc_failure`` as in `docstill.metrics.classification`;
        ``accepted``: for each of `ERROR_RATES` the ``share`` that can be accepted unseen, surest first, with no more than that
        share of errors among the accepted, and the confidence ``above`` which that is (None: nothing can be);
        ``reliability``: ``[mean confidence, share that is right, how many]`` in ten groups of equally many. All but ``n``
        are left out where there is nothing.
    """
    sure, hits = np.array(confidence, dtype=np.float64), np.array(right, dtype=bool)
    if not len(sure):
        return {"n": 0}
    return {
        "n": len(sure),
        "right": float(hits.mean()),
        "ece": ece(sure, hits),
        "ece_floor": ece_floor(sure),
        "auroc_failure": auroc(sure, hits),
        "accepted": {f"{rate:g}": accepted(sure, hits, rate) for rate in ERROR_RATES},
        "reliability": reliability(sure, hits),
    }


def reliability(confidence: Floats, right: NDArray[np.bool_]) -> list[list[float]]:
    """``[mean confidence, share that is right, how many]`` of at most ten groups of equally many, least sure first."""
    order = np.argsort(confidence, kind="stable")
    return [
        [float(confidence[part].mean()), float(right[part].mean()), len(part)]
        for part in np.array_split(order, min(BARS, len(order)))
    ]
