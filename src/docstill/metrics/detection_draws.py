"""COCO's average precision over any of the pages again and again, as resampling asks for it (`docstill.metrics.bootstrap`).

What lies on what is settled page by page, and does not change when another set of pages is drawn. So detections are matched and
sorted once, and a draw only counts each of them as often as its page was drawn. The figures are those that `detection_metrics` gives
of the same pages (tested).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from docstill.errors import UserError
from docstill.metrics.bootstrap import Figures
from docstill.metrics.detection import MOST, Detection, Truth

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
_ALL = 1 - 1e-10
"""The evaluator's: an overlap of all but nothing is one of all."""


@dataclass(frozen=True)
class _Sorted:
    """The detections of one class, surest first.

    Attributes:
        pages: of each detection, the page's index, ``(D,)``.
        right: whether it lies on a region, by threshold, ``(10, D)``.
        wrong: whether it lies on none, ``(10, D)``; on a crowd it is neither.
        wanted: regions on each page, ``(pages,)``.
    """

    pages: NDArray[np.int64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    wanted: NDArray[np.int64]

    def precision(self, times: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Precision by threshold and recall ``(10, 101)``, each page counted so often; None: there is nothing to be found."""
        wanted = int(times @ self.wanted)
        if not wanted:
            return None
        found = np.zeros((len(THRESHOLDS), len(RECALLS)))
        if not len(self.pages):
            return found
        often = times[self.pages]
        right, wrong = (np.cumsum(part * often, axis=1) for part in (self.right, self.wrong))
        precision = right / (right + wrong + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for threshold, reached in enumerate(right / wanted):
            place = np.searchsorted(reached, RECALLS)
            there = place < len(reached)
            found[threshold, there] = best[threshold, place[there]]
        return found


def figures_over_pages(truths: Sequence[Truth], detections: Sequence[Detection], labels: int, pages: int) -> Figures:
    """``ap``, ``ap50`` and ``ap75`` over the pages of given indices, at most 100 boxes a page and class.

    Classes without regions on the pages drawn are left out of a mean, as in `detection_metrics`.

    Args:
        truths: regions that are there.
        detections: what a system sees.
        labels: number of classes.
        pages: how many there are, those without regions too.

    Raises:
        UserError: there is no region.
    """
    if not any(not truth.crowd for truth in truths):
        raise UserError("no page has a region, so that there is no average precision to resample; give labelled pages")
    classes = _sorted(truths, detections, labels, pages)

    def figures(chosen: NDArray[np.int64]) -> dict[str, float]:
        times = np.bincount(chosen, minlength=pages)
        known = [found for one in classes if (found := one.precision(times)) is not None]
        if not known:  # so few pages have regions that a draw may miss them all
            return dict.fromkeys(("ap", "ap50", "ap75"), 0.0)
        each = np.stack(known)
        return {"ap": float(each.mean()), "ap50": float(each[:, 0].mean()), "ap75": float(each[:, 5].mean())}

    return figures


def _sorted(truths: Sequence[Truth], detections: Sequence[Detection], labels: int, pages: int) -> list[_Sorted]:
    there: dict[tuple[int, int], list[Truth]] = defaultdict(list)
    seen: dict[tuple[int, int], list[Detection]] = defaultdict(list)
    wanted = np.zeros((labels, pages), dtype=np.int64)
    for truth in truths:
        there[truth.label, truth.page].append(truth)
        wanted[truth.label, truth.page] += not truth.crowd
    for detection in detections:
        seen[detection.label, detection.page].append(detection)
    parts: dict[int, list[tuple[int, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]]] = defaultdict(list)
    for (label, page), found in sorted(seen.items()):
        surest = sorted(found, key=lambda one: -one.score)[: MOST[0]]
        scores = np.array([one.score for one in surest])
        parts[label].append((page, scores, *_matched(there[label, page], surest)))
    return [_joined(parts[label], wanted[label]) for label in range(labels)]


def _joined(
    parts: Sequence[tuple[int, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]], wanted: NDArray[np.int64]
) -> _Sorted:
    """The detections of all pages of one class, surest first; of two that are equally sure, the earlier page's."""
    if not parts:
        none = np.zeros((len(THRESHOLDS), 0), dtype=bool)
        return _Sorted(np.zeros(0, dtype=np.int64), none, none, wanted)
    order = np.argsort(-np.concatenate([scores for _, scores, _, _ in parts]), kind="stable")
    pages = np.concatenate([np.full(len(scores), page) for page, scores, _, _ in parts])
    right, wrong = (np.concatenate([part[place] for part in parts], axis=1) for place in (2, 3))
    return _Sorted(pages[order], right[:, order], wrong[:, order], wanted)


def _matched(truths: Sequence[Truth], detections: Sequence[Detection]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections of a page and class, surest first, are right and which wrong, by threshold ``(10, D)``.

    Each takes the region that it overlaps most of those that are free; one that fits none may lie on a crowd.
    """
    right = np.zeros((len(THRESHOLDS), len(detections)), dtype=bool)
    if not truths:
        return right, ~right
    crowd = np.array([truth.crowd for truth in truths])
    shared = _overlaps(detections, truths, crowd)
    enough = shared[None] >= np.minimum(THRESHOLDS, _ALL)[:, None, None]
    on_crowd = (enough & crowd).any(axis=2)
    free = np.broadcast_to(~crowd, (len(THRESHOLDS), len(truths))).copy()
    last = len(truths) - 1
    for place, row in enumerate(shared):
        fits = free & enough[:, place]
        # Of regions that are overlapped alike the evaluator takes the last.
        chosen = last - np.argmax(np.where(fits, row, -1.0)[:, ::-1], axis=1)
        right[:, place] = fits.any(axis=1)
        free[np.flatnonzero(right[:, place]), chosen[right[:, place]]] = False
    return right, ~(right | on_crowd)


def _overlaps(
    detections: Sequence[Detection], truths: Sequence[Truth], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Intersection over union ``(D, T)``; with a crowd, over the detection's own area."""
    one = np.array([detection.box for detection in detections], dtype=np.float64)[:, None]
    other = np.array([truth.box for truth in truths], dtype=np.float64)[None]
    sides = np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:]) - np.maximum(
        one[..., :2], other[..., :2]
    )
    shared = sides.clip(0).prod(axis=-1)
    own, theirs = one[..., 2:].prod(axis=-1), other[..., 2:].prod(axis=-1)
    whole = np.where(crowd, own, own + theirs - shared)
    found: NDArray[np.float64] = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return found
