"""What a system makes of the regions of a page: which it finds, misses, invents, or takes for another class.

AP (`docstill.metrics.detection`) says how good a system is, not what goes wrong. Here boxes above one threshold of
sureness are laid against the true ones, whatever their classes, so that a table that was called a figure is one mistake
and not two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SURE = 0.5
"""Predictions below this score do not count: they are in a system's answer for AP's sake, which looks at all of them."""
OVERLAP = 0.5
"""The least intersection over union at which a box lies on a region."""

Region = Mapping[str, Any]
"""``{"label", "box"}``, box as left, top, width, height in pixels; a predicted one has a ``score`` too."""


class Match(NamedTuple):
    """A prediction that lies on a true region: both by index, and their intersection over union."""

    truth: int
    prediction: int
    iou: float


class Compared(NamedTuple):
    """The regions of a page by what became of them.

    Attributes:
        matches: surest first.
        missed: indices of truths on which no prediction lies.
        invented: indices of predictions, among those that count, which lie on no truth that was still free.
    """

    matches: list[Match]
    missed: list[int]
    invented: list[int]


def compared(truths: Sequence[Region], predictions: Sequence[Region], sure: float = SURE) -> Compared:
    """Predictions laid against truths: greedily, surest first, each on one truth that is still free.

    Where several truths are overlapped enough, one of the prediction's own class goes first, then the one that is
    overlapped most: a list may lie on the same place as the text that it is made of.

    Args:
        truths: regions that are there.
        predictions: regions that a system sees.
        sure: predictions with a lower score do not count.
    """
    counted = [index for index, region in enumerate(predictions) if region["score"] >= sure]
    counted.sort(key=lambda index: -predictions[index]["score"])
    shared = overlaps([predictions[index]["box"] for index in counted], [region["box"] for region in truths])
    matches: list[Match] = []
    invented: list[int] = []
    free = set(range(len(truths)))
    for row, index in zip(shared, counted, strict=True):
        label = predictions[index]["label"]
        # The box itself comes last, so that the order of the truths does not matter.
        ranked = [
            (truths[place]["label"] == label, row[place], tuple(truths[place]["box"]), place)
            for place in np.flatnonzero(row >= OVERLAP).tolist()
            if place in free
        ]
        if not ranked:
            invented.append(index)
            continue
        place = max(ranked)[-1]
        free.remove(place)
        matches.append(Match(place, index, float(row[place])))
    return Compared(matches, sorted(free), invented)


def page_f1(expected: Mapping[str, Any], predicted: Mapping[str, Any] | None, sure: float = SURE) -> float:
    """F1 of a page's regions, in [0, 1]: one is right if it is matched and its class is right. Nothing wanted, nothing seen: 1.

    Args:
        expected: ``{"regions": [{"label", "box"}, …]}``.
        predicted: ``{"regions": [{"label", "box", "score"}, …]}``; None is a page that could not be answered.
        sure: predictions with a lower score do not count.
    """
    truths, predictions = regions_of(expected), regions_of(predicted)
    matches, missed, invented = compared(truths, predictions, sure)
    total = 2 * len(matches) + len(missed) + len(invented)
    return 2 * sum(_right(match, truths, predictions) for match in matches) / total if total else 1.0


def tally(documents: Sequence[Mapping[str, Any]], labels: Sequence[str], sure: float = SURE) -> dict[str, Any]:
    """What became of the regions of all pages.

    Args:
        documents: with ``expected`` and ``predicted``, as in an evaluation's `documents.json`.
        labels: class names in the order of their indices; any others that occur are added behind them.
        sure: predictions with a lower score do not count.

    Returns:
        ``labels``; ``counts``, a row a true class and a column a predicted one, with a last column for what was missed and
        a last row for what was invented; and the totals ``regions``, ``right``, ``wrong`` (class), ``missed``, ``invented``.
    """
    places = {label: place for place, label in enumerate(labels)}
    found: list[tuple[str | None, str | None]] = []
    for document in documents:
        truths, predictions = regions_of(document["expected"]), regions_of(document["predicted"])
        matches, missed, invented = compared(truths, predictions, sure)
        found += [(truths[match.truth]["label"], predictions[match.prediction]["label"]) for match in matches]
        found += [(truths[index]["label"], None) for index in missed]
        found += [(None, predictions[index]["label"]) for index in invented]
    for label in (label for pair in found for label in pair if label is not None):
        places.setdefault(label, len(places))
    counts = np.zeros((len(places) + 1, len(places) + 1), dtype=np.int64)
    for there, seen in found:
        counts[-1 if there is None else places[there], -1 if seen is None else places[seen]] += 1
    matched, right = int(counts[:-1, :-1].sum()), int(np.trace(counts))
    return {
        "labels": list(places),
        "counts": counts.tolist(),
        "regions": int(counts[:-1].sum()),
        "right": right,
        "wrong": matched - right,
        "missed": int(counts[:-1, -1].sum()),
        "invented": int(counts[-1].sum()),
    }


def overlaps(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Intersection over union of each pair of boxes, ``(len(first), len(second))``; 0 where neither has an area."""
    one, other = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (first, second))
    start = np.maximum(one[:, None, :2], other[None, :, :2])
    end = np.minimum((one[:, :2] + one[:, 2:])[:, None], (other[:, :2] + other[:, 2:])[None])
    shared = np.clip(end - start, 0, None).prod(-1)
    union = one[:, 2:].prod(-1)[:, None] + other[:, 2:].prod(-1)[None] - shared
    found: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def regions_of(answer: Mapping[str, Any] | None) -> Sequence[Region]:
    """The regions of an answer; none if there is no answer."""
    return (answer or {}).get("regions") or []


def _right(match: Match, truths: Sequence[Region], predictions: Sequence[Region]) -> bool:
    return bool(truths[match.truth]["label"] == predictions[match.prediction]["label"])
